import CRaw
import Glibc
import LinuxEventGroup

enum CallSuite: Suite {
    static let name = "call"
    static let abstract = """
        What does a request with an answer cost between two shards? 1,024 calls are under way at a time, and each \
        answer asks for the next. raw sends one node to and fro; linuxevent's call has a block, a result, and a \
        reply closure.
        """

    static let cases = [
        Case(
            name: "1to1", operations: 1_000_000, readings: [.rate("call/s")], isPinned: false,
            subjects: [
                Subject(name: "raw") { calls in
                    let cpus = try Harness.twoCPUs()
                    return try rawSample { craw_call(UInt64(calls), UInt64(window), cpus, $0) }
                },
                Subject(name: "linuxevent", run: run),
            ])
    ]

    private static let window = 1024

    private static func run(_ calls: Int) throws -> Sample {
        let group = try LoopGroup(placement: .listed(Harness.twoCPUs().map(Int.init)))
        let finish = try Finish()
        let caller = Caller(calls: calls, target: group[1], finish: finish)
        defer {
            finish.close()
            caller.free()
        }
        group.post(to: 0) { shard in caller.begin(shard) }
        finish.wait()
        let notes = group.notes
        try group.finish()
        let state = caller.state.pointee
        // Each answer came once: their sum says so.
        guard state.sum == calls * (calls + 1) / 2 else { throw Failure.sum }
        return Sample(
            operations: UInt64(calls), nanoseconds: state.end - state.start, notes: notes)
    }

    private enum Failure: Error { case sum }

    /// Shard 0's; read by others only once that has ended. A pointer, which closures capture without counting a
    /// reference: what is measured is the call and not how this file keeps its count.
    private struct Caller: @unchecked Sendable {
        struct State {
            let calls: Int
            let target: ShardReference
            let finish: Finish
            var sent = 0
            var answered = 0
            var sum = 0
            var start: UInt64 = 0
            var end: UInt64 = 0
        }

        let state: UnsafeMutablePointer<State>

        init(calls: Int, target: ShardReference, finish: Finish) {
            state = Apart.allocate(1)
            state.initialize(to: State(calls: calls, target: target, finish: finish))
        }

        func free() {
            state.deinitialize(count: 1)
            state.deallocate()
        }

        func begin(_ shard: Shard) {
            state.pointee.start = craw_now()
            for _ in 0..<min(window, state.pointee.calls) { ask(shard) }
        }

        private func ask(_ shard: Shard) {
            let value = state.pointee.sent
            state.pointee.sent += 1
            shard.call(state.pointee.target) { _ in
                value + 1
            } reply: { shard, answer in
                take(answer, shard)
            }
        }

        private func take(_ answer: Result<Int, any Error>, _ shard: Shard) {
            if case .success(let value) = answer { state.pointee.sum += value }
            state.pointee.answered += 1
            if state.pointee.sent < state.pointee.calls {
                ask(shard)
            } else if state.pointee.answered == state.pointee.calls {
                state.pointee.end = craw_now()
                state.pointee.finish.signal()
            }
        }
    }
}
