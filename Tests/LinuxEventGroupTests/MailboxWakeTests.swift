import CLinux
import Glibc
import LinuxEvent
import LinuxEventGroup
import Synchronization
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("M4 Wakes")
    struct MailboxWakeTests {
        /// Where the poster of a double tap is, as seen from the shard.
        enum Poster: String, CaseIterable, CustomTestStringConvertible {
            case onAnotherCPU, onItsCPU, anotherShard
            var testDescription: String { rawValue }
        }

        @Test("M4 a post that arrives while the shard falls asleep is never lost", arguments: Poster.allCases)
        func doubleTap(poster: Poster) throws {
            let rounds = Rounds.usually(poster == .onAnotherCPU ? 100_000 : 30_000, long: 10_000_000)
            let seed = SeededGenerator().seed
            print("double tap \(poster): LINUX_EVENT_SEED=\(seed)")
            let tap = DoubleTap(rounds: rounds, seed: seed)
            try withGroup(threads: 2) { group in
                switch poster {
                case .onAnotherCPU, .onItsCPU:
                    let shardCPU = try #require(group.plan.shards[0].cpu)
                    let others = group.plan.usableCPUs.filter { $0 != shardCPU }
                    let cpu = poster == .onItsCPU ? shardCPU : others.first ?? shardCPU
                    Threads.spawn {
                        _ = clinux_affinity_pin(CInt(cpu))
                        tap.run(group[0])
                    }.join()
                case .anotherShard:
                    let hasBegun = Flag()
                    let isThrough = Flag()
                    group.post(to: 1) { shard in
                        hasBegun.set()
                        tap.run(shard.group[0])
                        isThrough.set()
                    }
                    try #require(eventually { hasBegun.isSet })
                    #expect(eventually(seconds: Double(Rounds.secondsPerTest)) { isThrough.isSet })
                }
                #expect(tap.lostInRound == nil, "lost wake; seed \(seed)")
                expectLedgerAtRest(group)
                #expect(group.metrics[0].sleeps > UInt64(rounds / 100), "the shard hardly ever slept")
                #expect(group.metrics[0].tasks == UInt64(2 * rounds))
            }
        }

        // MARK: The ledger

        /// At rest, a shard's sleeps are accounted for one by one.
        private func expectLedgerAtRest(
            _ group: LoopGroup, sourceLocation: SourceLocation = #_sourceLocation
        ) {
            // Rest cannot be seen from outside, but a ledger that is wrong at rest stays wrong.
            _ = eventually(seconds: 2) {
                let before = group.metrics
                usleep(2_000)
                let after = group.metrics
                return zip(before, after).allSatisfy { $0.turns == $1.turns && $0.wakesSent == $1.wakesSent }
                    && after.allSatisfy { $0.sleeps == $0.wakesSent + $0.selfDisarms + 1 }
            }
            for shard in group.metrics {
                #expect(
                    shard.sleeps == shard.wakesSent + shard.selfDisarms + 1,
                    "shard \(shard.shard) at rest: \(shard.wakesSent) wakes, \(shard.selfDisarms) self-disarms",
                    sourceLocation: sourceLocation)
            }
        }

        @Test("M4 the ledger balances at rest, whatever woke the shards: posts, timers, descriptors, and the end")
        func ledger() throws {
            let pipe = Pipe()
            let rounds = Rounds.usually(300, long: 20_000)
            var last: [ShardMetrics] = []
            try expectNothingLeft {
                let group = try LoopGroup(threads: 3, name: Tested.name)
                expectLedgerAtRest(group)
                let home = group.shard(for: pipe.reader).index
                let calls = Tally()
                _ = group.watch(
                    pipe.reader, data: (),
                    read: { _, descriptor, _, _ in
                        IO.drain(descriptor)
                        calls.add()
                    })
                for shard in 0..<3 {
                    group.post(to: shard) { shard in
                        for number in 1...20 { shard.loop.after(.microseconds(number * 700)) { _, _ in } }
                    }
                }
                for round in 0..<rounds {
                    if round % 3 == 0 { group.post(to: round % 2) { _ in } }
                    if round % 5 == 0 { pipe.write() }
                    if round % 7 == 0 { group.post(to: 2) { shard in shard.group.post(to: 0) { _ in } } }
                    usleep(UInt32(round % 11) * 10)
                }
                #expect(eventually { calls.value > 0 })
                expectLedgerAtRest(group)
                for shard in group.metrics { #expect(shard.wakesSent > 0) }
                #expect(group.metrics[home].selfDisarms > 0)
                #expect(try group.stop(deadline: .seconds(10)).isComplete)
                last = group.metrics
            }
            for shard in last {
                #expect(shard.sleeps == shard.wakesSent + shard.selfDisarms, "shard \(shard.shard), ended")
            }
        }

        // MARK: No more wakes than needed

        @Test("M4 a shard that runs is sent no wake, by another shard or a thread, not even one in 100,000 posts")
        func noWakeWhileRunning() throws {
            let burst = Rounds.usually(100_000, long: 1_000_000)
            let ran = Tally()
            try withGroup(threads: 2) { group in
                for isShard in [true, false] {
                    let hold = Hold()
                    group.post(to: 0) { _ in hold.hold(spinning: true) }
                    #expect(hold.waitUntilHeld())
                    let before = group.metrics[0].wakesSent
                    let isThrough = Flag()
                    let post: @Sendable (Shard?) -> Void = { _ in
                        for _ in 0..<burst { group.post(to: 0) { _ in ran.add() } }
                        isThrough.set()
                    }
                    if isShard {
                        group.post(to: 1) { shard in post(shard) }
                    } else {
                        Threads.spawn { post(nil) }.join()
                    }
                    #expect(eventually(seconds: Rounds.patience) { isThrough.isSet })
                    #expect(group.metrics[0].wakesSent == before)
                    hold.letGo()
                    #expect(eventually(seconds: Rounds.patience) { ran.value == (isShard ? 1 : 2) * burst })
                }
                expectLedgerAtRest(group)
            }
        }

        @Test("M4 a sleep is ended by one wake at most, however many threads post at once")
        func oneWakePerSleep() throws {
            let rounds = Rounds.usually(300, long: 20_000)
            let posters = 4
            let ran = Tally()
            let go = Shared(Atomic<Int>(0))
            try withGroup { group in
                let threads = (0..<posters).map { _ in
                    Threads.spawn {
                        for round in 1...rounds {
                            while go.value.load(ordering: .acquiring) < round { sched_yield() }
                            group.post(to: 0) { _ in ran.add() }
                        }
                    }
                }
                for round in 1...rounds {
                    usleep(100)
                    go.value.store(round, ordering: .releasing)
                    #expect(soon { ran.value == round * posters })
                }
                for thread in threads { thread.join() }
                let metrics = group.metrics[0]
                #expect(metrics.wakesSent <= metrics.sleeps)
                expectLedgerAtRest(group)
            }
        }

        @Test("M4 of the posts in a burst of 1,000, at least 99 % need no wake of their own")
        func burstsNeedFewWakes() throws {
            let burst = 1_000
            let ran = Tally()
            var fewest = UInt64.max
            try withGroup(threads: 2) { group in
                for round in 1...50 {
                    usleep(1_000)
                    let before = group.metrics[0].wakesSent
                    // The shard's own CPU does the posting, where there is but one: so it cannot run in between.
                    group.post(to: 1) { shard in
                        for _ in 0..<burst { shard.group.post(to: 0) { _ in ran.add() } }
                    }
                    #expect(eventually { ran.value == round * burst })
                    fewest = min(fewest, group.metrics[0].wakesSent - before)
                }
                #expect(group.metrics[0].wakesSuppressed == group.metrics[0].tasks - group.metrics[0].wakesSent)
            }
            #expect(fewest <= UInt64(burst / 100))
        }

        // MARK: Sleep is sleep

        @Test("M4 a shard sleeps again after whatever woke it, and does not spin", arguments: [1, 6])
        func doesNotSpin(threads: Int) throws {
            let pipe = Pipe()
            try withGroup(threads: threads) { group in
                let calls = Tally()
                _ = group.watch(
                    pipe.reader, data: (),
                    read: { _, descriptor, _, _ in
                        IO.drain(descriptor)
                        calls.add()
                    })
                for cause in ["the start", "a post", "a descriptor", "a timer"] {
                    switch cause {
                    case "a post": for shard in group.shards { shard.post { _ in } }
                    case "a descriptor": pipe.write()
                    case "a timer":
                        for shard in group.shards {
                            shard.post { shard in shard.loop.after(.milliseconds(1)) { _, _ in calls.add() } }
                        }
                        #expect(eventually { calls.value == 1 + threads })
                    default: break
                    }
                    usleep(5_000)
                    let before = group.metrics
                    usleep(100_000)
                    for (before, after) in zip(before, group.metrics) {
                        #expect(after.turns - before.turns <= 2, "after \(cause), shard \(after.shard)")
                        let busy = after.busyNanoseconds - before.busyNanoseconds
                        #expect(busy < 20_000_000, "after \(cause), shard \(after.shard)")
                    }
                }
                #expect(calls.value == 1 + threads)
            }
        }
    }
}

/// Posts, and posts again after a gap of about the time that a shard takes to fall asleep. Then it waits until both
/// have run, for the next post would bring along what an earlier wake had lost; and then for the shard to rest.
private final class DoubleTap: Sendable {
    private let rounds: Int
    private let seed: UInt64
    private let ran = Shared(Atomic<Int>(0))
    private let lost = Atomic<Int>(-1)

    init(rounds: Int, seed: UInt64) {
        self.rounds = rounds
        self.seed = seed
    }

    /// The round in which a task did not run within two seconds.
    var lostInRound: Int? {
        let round = lost.load(ordering: .acquiring)
        return round < 0 ? nil : round
    }

    func run(_ shard: ShardReference) {
        var random = SeededGenerator(seed: seed)
        for round in 0..<rounds {
            tap(shard)
            spin(nanoseconds: random.gap())
            tap(shard)
            guard soon(seconds: 2, { ran.value.load(ordering: .acquiring) == 2 * (round + 1) }) else {
                return lost.store(round, ordering: .releasing)
            }
            spin(nanoseconds: random.gap())
        }
    }

    private func tap(_ shard: ShardReference) {
        let ran = self.ran
        shard.post { _ in ran.value.add(1, ordering: .releasing) }
    }
}

extension SeededGenerator {
    /// Most gaps are as short as the steps of a shard that falls asleep, some as long as its way into the kernel
    /// and back.
    fileprivate mutating func gap() -> Int {
        let limit = [500, 5_000, 40_000][Int(next() % 3)]
        return Int(next() % UInt64(limit))
    }
}
