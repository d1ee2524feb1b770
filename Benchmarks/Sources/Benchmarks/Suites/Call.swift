import CRaw
import Glibc
import LinuxEventGroup

enum CallSuite: Suite {
    static let name = "call"
    static let abstract = """
        What does a request with an answer cost between two shards? 1,024 calls are under way at a time, and each answer \
        asks for the next. raw sends one node to and fro; linuxevent's call has a block, a result, and a reply closure.
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
        let finished = try check("eventfd", craw_semaphore())
        defer { close(finished) }
        let caller = Caller(calls: calls, finished: finished)
        group.post(to: 0) { shard in
            caller.start = craw_now()
            for _ in 0..<min(window, calls) { caller.ask(shard, group[1]) }
        }
        var count: UInt64 = 0
        while read(finished, &count, 8) != 8 {}
        let metrics = group.metrics
        guard try group.stop(deadline: .seconds(5)).isComplete else { throw Failure.stop }
        // Each answer came once: their sum says so.
        guard caller.sum == calls * (calls + 1) / 2 else { throw Failure.sum }
        return Sample(
            operations: UInt64(calls), nanoseconds: caller.end - caller.start,
            notes: [
                ("wakes", metrics.reduce(0) { $0 + $1.wakesSent }), ("turns", metrics.reduce(0) { $0 + $1.turns }),
            ])
    }

    private enum Failure: Error {
        case stop
        case sum
    }

    /// Lives on shard 0; read by others only once that has ended.
    private final class Caller: @unchecked Sendable {
        private let calls: Int
        private let finished: CInt
        private var sent = 0
        private var answered = 0
        private(set) var sum = 0
        var start: UInt64 = 0
        private(set) var end: UInt64 = 0

        init(calls: Int, finished: CInt) {
            self.calls = calls
            self.finished = finished
        }

        func ask(_ shard: Shard, _ target: ShardReference) {
            let value = sent
            sent += 1
            shard.call(target) { _ in
                value + 1
            } reply: { [unowned self] shard, answer in
                sum += (try? answer.get()) ?? 0
                answered += 1
                if sent < calls {
                    ask(shard, target)
                } else if answered == calls {
                    end = craw_now()
                    var one: UInt64 = 1
                    _ = write(finished, &one, 8)
                }
            }
        }
    }
}
