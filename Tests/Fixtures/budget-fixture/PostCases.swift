import Glibc
import LinuxEventGroup
import Synchronization

enum PostCases {
    private static let burst = 100

    static let all = [
        Case(name: "post from a thread outside, closure that captures", budget: onlyTheClosure) { counter, operations in
            try fromOutside(counter, operations, capturing: true)
        },
        Case(name: "post from a thread outside, closure without captures", budget: signalOnly) { counter, operations in
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
        Case(name: "call from shard to shard, block and reply that capture", budget: perCall) { counter, operations in
            let finished = Pipe()
            defer { finished.closeBoth() }
            let group = try LoopGroup(threads: 2)
            let probe = Probe(counter, operations: operations)
            let caller = Caller(group[1], probe, finished)
            group.post(to: 0) { shard in
                for _ in 0..<burst { caller.ask(shard) }
            }
            finished.take()
            _ = try group.stop(deadline: .seconds(5))
            return probe.finish()
        },
        Case(name: "send from shard to shard, 24 bytes", budget: nothingPerValue) { counter, operations in
            try fromShard(counter, operations) { channel, total in
                for number in 0..<burst { channel.send(Parcel(total, number), to: 1) }
            }
        },
        Case(name: "send from shard to shard, 24 bytes, in batches of 100", budget: perBatch) { counter, operations in
            try fromShard(counter, operations) { channel, total in
                var batch: [Parcel] = []
                batch.reserveCapacity(burst)
                for number in 0..<burst { batch.append(Parcel(total, number)) }
                channel.send(contentsOf: batch, to: 1)
            }
        },
        Case(name: "send from a thread outside, 24 bytes", budget: nothingPerValue) { counter, operations in
            try fromThread(counter, operations) { group, total in
                let parcels = group.channel(of: Parcel.self) { _, parcel in parcel.arrive() }
                return { for number in 0..<burst { parcels.send(Parcel(total, number), to: 0) } }
            }
        },
        Case(name: "send from a thread outside, 200 bytes", budget: oneBox) { counter, operations in
            try fromThread(counter, operations) { group, total in
                let crates = group.channel(of: Crate.self) { _, crate in crate.parcel.arrive() }
                return { for number in 0..<burst { crates.send(Crate(parcel: Parcel(total, number)), to: 0) } }
            }
        },
    ]

    /// The context of the user's closure, made by the caller, and nothing of ours. The closure moves to the shard and
    /// is not copied: what is retained is what it captures, and a little per turn.
    private static let onlyTheClosure = Budget(allocations: 1, retains: 1.25, releases: nil)
    /// A closure without captures costs nothing, from a thread outside neither; the last of a burst captures, to tell
    /// that the burst is through.
    private static let signalOnly = Budget(allocations: 1 / Double(burst), retains: 0.25, releases: nil)
    /// The contexts of the block and of the reply, which are the user's, and the call. It is retained once, for its
    /// handle; three are this file's, for the target and for what the reply captures; the rest is for turns.
    private static let perCall = Budget(allocations: 3.01, retains: 4.25, releases: nil, accesses: 0.005)
    /// The value is in the node. The allowance is for the closure that holds the receiver, once in a burst, and for a
    /// turn.
    private static let nothingPerValue = Budget(
        allocations: 1 / Double(burst), retains: 0.25, releases: 0.25, accesses: 0.005)
    /// The user's array is one allocation for the whole batch.
    private static let perBatch = Budget(
        allocations: 2 / Double(burst), retains: 0.25, releases: 0.25, accesses: 0.005)
    private static let oneBox = Budget(
        allocations: 1 + 1 / Double(burst), retains: 0.25, releases: 0.25, accesses: 0.005)

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

    /// Each answer asks for the next. Lives on the calling shard.
    private final class Caller: @unchecked Sendable {
        private let target: ShardReference
        private let probe: Probe
        private let finished: Pipe
        private var sum = 0
        private var isThrough = false

        init(_ target: ShardReference, _ probe: Probe, _ finished: Pipe) {
            self.target = target
            self.probe = probe
            self.finished = finished
        }

        func ask(_ shard: Shard) {
            let number = sum
            shard.call(target) { _ in
                number &+ 1
            } reply: { [self] shard, answer in
                // A closure that captures one object and nothing else would need no memory of its own.
                guard !isThrough, case .success(let next) = answer else { return }
                sum &+= next &- number
                isThrough = probe.call()
                if isThrough { finished.put() } else { ask(shard) }
            }
        }
    }

    /// What has run, and a sum so that the closures have something to capture.
    private final class Total: Sendable {
        private let tasks = Atomic<Int>(0)
        private let sum = Atomic<Int>(0)
        private let held = Atomic<Int>(0)
        var count: Int { tasks.load(ordering: .acquiring) }

        /// Holds the receiver until the burst is through, so that it takes it in one turn: a turn costs a few retains,
        /// and on a busy machine there may be one for each value.
        private func hold(_ group: LoopGroup, _ shard: Int) {
            held.store(1, ordering: .releasing)
            group.post(to: shard) { [self] _ in
                held.store(2, ordering: .releasing)
                while held.load(ordering: .acquiring) != 0 { sched_yield() }
            }
            while held.load(ordering: .acquiring) != 2 { sched_yield() }
        }

        private func letGo() { held.store(0, ordering: .releasing) }

        /// Lets a burst be sent to a shard that is held meanwhile, and waits until all of it has arrived.
        func receive(_ group: LoopGroup, _ shard: Int, _ sendBurst: () -> Void) {
            let expected = count + burst
            hold(group, shard)
            sendBurst()
            letGo()
            while count < expected { sched_yield() }
        }

        func add(_ number: Int) {
            sum.wrappingAdd(number, ordering: .relaxed)
            tasks.wrappingAdd(1, ordering: .releasing)
        }
    }

    /// 24 bytes, and no reference to count.
    private struct Parcel: @unchecked Sendable {
        private let total: Unmanaged<Total>
        private let number: Int
        private let more = 0

        init(_ total: Total, _ number: Int) {
            self.total = .passUnretained(total)
            self.number = number
        }

        func arrive() { total._withUnsafeGuaranteedRef { $0.add(number) } }
    }

    /// More than a node has room for.
    private struct Crate {
        let parcel: Parcel
        let padding = InlineArray<22, UInt64>(repeating: 0)
    }

    /// Rounds of a thread outside that sends to a shard and waits until all has arrived.
    private static func fromThread(
        _ counter: Counter, _ operations: Int, _ burstOf: (LoopGroup, Total) -> () -> Void
    ) throws -> Counts {
        let group = try LoopGroup(threads: 1)
        let total = Total()
        let sendBurst = burstOf(group, total)
        for _ in 0..<(Probe.warmUp / burst) { total.receive(group, 0, sendBurst) }
        let start = counter.now
        for _ in 0..<(operations / burst) { total.receive(group, 0, sendBurst) }
        let counts = counter.now - start
        _ = try group.stop(deadline: .seconds(5))
        return counts
    }

    /// Rounds of a shard that sends to another and waits until all has arrived.
    private static func fromShard(
        _ counter: Counter, _ operations: Int, _ burstOf: @escaping @Sendable (Channel<Parcel>, Total) -> Void
    ) throws -> Counts {
        let finished = Pipe()
        defer { finished.closeBoth() }
        let group = try LoopGroup(threads: 2)
        let total = Total()
        let result = Result()
        let parcels = group.channel(of: Parcel.self) { _, parcel in parcel.arrive() }
        func round() { total.receive(group, 1) { burstOf(parcels, total) } }
        group.post(to: 0) { _ in
            for _ in 0..<(Probe.warmUp / burst) { round() }
            let start = counter.now
            for _ in 0..<(operations / burst) { round() }
            result.counts = counter.now - start
            finished.put()
        }
        finished.take()
        _ = try group.stop(deadline: .seconds(5))
        return result.counts
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
