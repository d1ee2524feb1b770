import Glibc
import LinuxEventGroup
import Synchronization

enum PostCases {
    private static let burst = 100

    static let all = [
        Case(name: "post from a thread outside, closure that captures", budget: nodeAndClosure) { counter, operations in
            try fromOutside(counter, operations, capturing: true)
        },
        Case(name: "post from a thread outside, closure without captures", budget: nodeOnly) { counter, operations in
            try fromOutside(counter, operations, capturing: false)
        },
        Case(name: "post from shard to shard, closure that captures", budget: onlyTheClosure) { counter, operations in
            let finished = Pipe()
            defer { finished.closeBoth() }
            let group = try LoopGroup(threads: 2)
            let total = Total()
            let result = Result()
            group.post(to: 0) { _ in
                for _ in 0..<(Probe.warmUp / burst) { exchangeBurst(group, total) }
                let start = counter.now
                for _ in 0..<(operations / burst) { exchangeBurst(group, total) }
                result.counts = counter.now - start
                finished.put()
            }
            finished.take()
            _ = try group.stop(deadline: .seconds(5))
            return result.counts
        },
        Case(name: "post to oneself, closure that captures", budget: onlyTheClosure) { counter, operations in
            let finished = Pipe()
            defer { finished.closeBoth() }
            let group = try LoopGroup(threads: 1)
            let probe = Probe(counter, operations: operations)
            group.post(to: 0) { shard in repost(shard, probe, finished) }
            finished.take()
            _ = try group.stop(deadline: .seconds(5))
            return probe.finish()
        },
    ]

    /// The context of the user's closure, made by the caller, and nothing of ours. The closure moves to the shard and
    /// is not copied: what is retained is what it captures, and a little per turn.
    private static let onlyTheClosure = Budget(allocations: 1, retains: 1.25, releases: nil)
    /// A thread that is no shard has no nodes that would come home to it, so it brings a new one with each post. The
    /// last of a burst captures, to tell that the burst is through.
    private static let nodeAndClosure = Budget(allocations: 2, retains: 1.25, releases: nil)
    private static let nodeOnly = Budget(allocations: 1 + 1 / Double(burst), retains: 0.25, releases: nil)

    private static func repost(_ shard: Shard, _ probe: Probe, _ finished: Pipe) {
        if probe.call() {
            finished.put()
        } else {
            shard.post { shard in repost(shard, probe, finished) }
        }
    }

    /// Posts a burst and waits until all of it has run.
    private static func exchangeBurst(_ group: LoopGroup, _ total: Total) {
        let expected = total.count + burst
        for number in 0..<burst { group.post(to: 1) { _ in total.add(number) } }
        while total.count < expected { sched_yield() }
    }

    /// What has run, and a sum so that the closures have something to capture.
    private final class Total: Sendable {
        private let tasks = Atomic<Int>(0)
        private let sum = Atomic<Int>(0)
        var count: Int { tasks.load(ordering: .acquiring) }

        func add(_ number: Int) {
            sum.wrappingAdd(number, ordering: .relaxed)
            tasks.wrappingAdd(1, ordering: .releasing)
        }
    }

    /// Written by a shard before it tells the main thread to read it.
    private final class Result: @unchecked Sendable {
        var counts = Counts()
    }

    private static func fromOutside(_ counter: Counter, _ operations: Int, capturing: Bool) throws -> Counts {
        let arrived = Pipe()
        defer { arrived.closeBoth() }
        let group = try LoopGroup(threads: 1)
        let total = Total()
        func round() {
            for number in 0..<burst - 1 {
                if capturing { group.post(to: 0) { _ in total.add(number) } } else { group.post(to: 0) { _ in } }
            }
            group.post(to: 0) { _ in arrived.put() }
            arrived.take()
        }
        for _ in 0..<(Probe.warmUp / burst) { round() }
        let start = counter.now
        for _ in 0..<(operations / burst) { round() }
        let counts = counter.now - start
        _ = try group.stop(deadline: .seconds(5))
        return counts
    }
}
