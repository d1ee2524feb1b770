import CRaw
import Glibc
import LinuxEvent
import LinuxEventGroup

enum ScaleSuite: Suite {
    static let name = "scale"
    static let abstract = """
        Do shards hold each other up? A token ring of 100 pipes and 10 tokens on each of 1, 2, … shards, up to one \
        per CPU; raw runs a loop in C on each of as many threads.
        """

    static let cases: [Case] = sizes.map { threads in
        Case(
            name: "ring.\(threads)", operations: 400_000 * threads, readings: [.rate("event/s")], isPinned: false,
            subjects: [
                Subject(name: "raw") { events in
                    let cpus = try Harness.allowedCPUs()
                    return try rawSample { craw_scale_ring(CInt(threads), UInt64(events), cpus, $0) }
                },
                Subject(name: "linuxevent") { try run(shards: threads, events: $0) },
            ])
    }

    /// Powers of two and the number of CPUs.
    private static var sizes: [Int] {
        let cpus = (try? Harness.allowedCPUs().count) ?? 1
        return Array(Set([1, 2, 4, 8, 16, 32, 64].filter { $0 < cpus } + [cpus])).sorted()
    }

    private static func run(shards: Int, events: Int) throws -> Sample {
        let group = try LoopGroup(
            threads: shards, placement: .listed(Harness.allowedCPUs().prefix(shards).map(Int.init)))
        let finish = try Finish()
        defer { finish.close() }
        let rings = try (0..<shards).map { _ in try Ring(pipes: 100, limit: events / shards, finish: finish) }
        defer { for ring in rings { ring.free() } }
        for (index, ring) in rings.enumerated() { group.post(to: index) { shard in ring.begin(on: shard.loop) } }
        finish.wait(times: shards)
        try group.finish()
        let states = rings.map { $0.state.pointee }
        guard states.allSatisfy({ !$0.hasFailed }) else { throw Failure.watch }
        return Sample(
            operations: UInt64(states.reduce(0) { $0 + $1.callbacks }),
            nanoseconds: states.reduce(0) { max($0, $1.end - $1.start) })
    }

    private enum Failure: Error { case watch }

    /// One shard's; the thread that made it reads it once the shard has ended. A pointer, which closures capture
    /// without counting a reference.
    private struct Ring: @unchecked Sendable {
        struct State {
            let pipes: [(read: CInt, write: CInt)]
            let limit: Int
            let finish: Finish
            var callbacks = 0
            var start: UInt64 = 0
            var end: UInt64 = 0
            var hasFailed = false
        }

        let state: UnsafeMutablePointer<State>

        init(pipes count: Int, limit: Int, finish: Finish) throws {
            let pipes = try (0..<count).map { _ in
                var ends: [CInt] = [0, 0]
                try check("pipe2", craw_pipe(&ends))
                return (read: ends[0], write: ends[1])
            }
            state = Apart.allocate(1)
            state.initialize(to: State(pipes: pipes, limit: limit, finish: finish))
        }

        func free() {
            for pipe in state.pointee.pipes {
                close(pipe.read)
                close(pipe.write)
            }
            state.deinitialize(count: 1)
            state.deallocate()
        }

        func begin(on loop: Loop) {
            let pipes = state.pointee.pipes
            for (index, pipe) in pipes.enumerated() {
                guard (try? watch(loop, pipe.read, next: pipes[(index + 1) % pipes.count].write)) != nil else {
                    state.pointee.hasFailed = true
                    return state.pointee.finish.signal()
                }
            }
            for token in 0..<10 {
                var byte: UInt8 = 0x74
                _ = write(pipes[token * (pipes.count / 10)].write, &byte, 1)
            }
            state.pointee.start = craw_now()
        }

        private func watch(_ loop: Loop, _ descriptor: CInt, next: CInt) throws {
            try loop.watch(
                descriptor,
                read: { _, descriptor, watcher in
                    var byte: UInt8 = 0
                    guard state.pointee.callbacks < state.pointee.limit else { return _ = watcher.cancel() }
                    guard read(descriptor, &byte, 1) == 1, write(next, &byte, 1) == 1 else { return }
                    state.pointee.callbacks += 1
                    guard state.pointee.callbacks == state.pointee.limit else { return }
                    state.pointee.end = craw_now()
                    state.pointee.finish.signal()
                })
        }
    }
}
