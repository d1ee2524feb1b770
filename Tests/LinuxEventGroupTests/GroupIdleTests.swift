import Glibc
import LinuxEvent
import LinuxEventGroup
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("G12 Idle")
    struct GroupIdleTests {
        private static let spareCPU = try? LoopGroup.plan(threads: 1).allowsSpinning
        private static let mayLook: Bool = spareCPU ?? false
        private static let whyNot: Comment = "no shard may look for work here: see LoopGroup.plan()"

        @Test(
            "G12 an idle group uses no CPU time and makes no turn, whatever it does when it is not",
            arguments: [IdlePolicy.sleep, .adaptive])
        func idleCostsNothing(policy: IdlePolicy) throws {
            let seconds = Effort.isLong ? 10 : 1
            let all = try LoopGroup.plan().shards.count
            try withGroup(threads: all, idle: policy, watchdog: WatchdogOptions { _ in }) { group in
                for index in 0..<all { #expect(group.settle(index)) }
                usleep(50_000)
                let before = group.metrics
                usleep(UInt32(seconds) * 1_000_000)
                let after = group.metrics
                let used = zip(before, after).map {
                    $1.busyNanoseconds - $0.busyNanoseconds + $1.spinningNanoseconds - $0.spinningNanoseconds
                }.reduce(0, +)
                print("idle, \(policy): \(used) ns of CPU time in \(seconds) s, \(all) shards")
                // 0.1 % of one CPU.
                #expect(used <= UInt64(seconds) * 1_000_000)
                #expect(after.map(\.turns) == before.map(\.turns))
            }
        }

        @Test("G12 where work comes in quick succession a shard finds it by looking", .enabled(if: mayLook, whyNot))
        func looks() throws {
            let rounds = Rounds.usually(4_000, long: 1_000_000)
            let shards = try LoopGroup.plan().shards.count
            try #require(shards > 1, "it takes two CPUs")
            // Others may want the CPUs for a while, and then no shard looks.
            for attempt in 1...20 {
                var sleeps: UInt64 = 0
                var spinning: UInt64 = 0
                try withGroup(threads: 2, idle: .adaptive) { group in
                    let done = Flag()
                    bounce(group, rounds, done)
                    #expect(eventually(seconds: Rounds.patience) { done.isSet })
                    sleeps = group.metrics.map(\.sleeps).reduce(0, +)
                    #expect(eventually { group.metrics.allSatisfy { $0.tasks >= rounds / 2 } })
                    spinning = group.metrics.map(\.spinningNanoseconds).reduce(0, +)
                    // It has learned to look, and still comes to rest.
                    #expect(
                        eventually {
                            let turns = group.metrics.map(\.turns)
                            usleep(50_000)
                            return group.metrics.map(\.turns) == turns
                        })
                }
                print("adaptive: \(sleeps) sleeps in \(rounds) hops, \(spinning) ns of looks in vain")
                if sleeps < rounds / 10 { return }
                if attempt == 20 { Issue.record("\(sleeps) sleeps in \(rounds) hops") }
                usleep(300_000)
            }
        }

        /// A task that is posted to and fro.
        private func bounce(_ group: LoopGroup, _ rounds: Int, _ done: Flag) {
            @Sendable func hop(_ left: Int) {
                group.post(to: left & 1) { _ in if left == 0 { done.set() } else { hop(left - 1) } }
            }
            hop(rounds)
        }

        @Test("G12 looks that are in vain come to an end", .enabled(if: mayLook, whyNot))
        func vainLooks() throws {
            try withGroup(idle: .adaptive) { group in
                for _ in 0..<200 {
                    group.post(to: 0) { _ in }
                    usleep(2_000)
                }
                #expect(group.settle(0))
                let metrics = group.metrics[0]
                print("adaptive, work every 2 ms: \(metrics.spinningNanoseconds) ns of looks in 200 pauses")
                #expect(metrics.tasks == 201)
                // A look in each pause would be 10 ms at least.
                #expect(metrics.spinningNanoseconds < 3_000_000)
                #expect(metrics.sleeps >= 150)
            }
        }

        @Test(
            "G12 a shard that polls never sleeps, and serves descriptors and timers as ever",
            .enabled(if: mayLook, whyNot))
        func polls() throws {
            try withGroup(idle: .poll) { group in
                let pipe = Pipe()
                let reads = Tally()
                let fires = Tally()
                group.post(to: 0) { [reader = pipe.reader] shard in
                    _ = try? shard.loop.watch(reader) { _, descriptor, _ in
                        IO.drain(descriptor)
                        reads.add()
                    }
                    _ = try? shard.loop.every(.milliseconds(1)) { _, _ in fires.add() }
                }
                for round in 1...20 {
                    pipe.write()
                    #expect(eventually { reads.value == round })
                }
                #expect(eventually { fires.value >= 20 })
                #expect(group.settle(0))
                #expect(group.metrics[0].sleeps == 0)
                #expect(eventually { group.metrics[0].spinningNanoseconds > 1_000_000 })
                group.post(to: 0) { [reader = pipe.reader] shard in _ = try? shard.loop.unwatch(reader) }
                #expect(group.settle(0))
            }
        }

        @Test("G12 shards that share CPUs sleep, whatever the policy", arguments: [IdlePolicy.adaptive, .poll])
        func sharedCPUs(policy: IdlePolicy) throws {
            let count = try LoopGroup.plan().shards.count + 1
            try withGroup(threads: count, idle: policy) { group in
                for index in 0..<count { #expect(group.settle(index)) }
                usleep(20_000)
                for metrics in group.metrics {
                    #expect(metrics.sleeps > 0)
                    #expect(metrics.spinningNanoseconds == 0)
                }
            }
        }

        @Test("G12 no more shards look at a time than are allowed", .enabled(if: mayLook, whyNot))
        func budget() throws {
            let rounds = 5_000
            let shards = try LoopGroup.plan().shards.count
            try #require(shards > 1, "it takes two CPUs")
            try withGroup(threads: 2, idle: .adaptive(shards: 0)) { group in
                let done = Flag()
                bounce(group, rounds, done)
                #expect(eventually(seconds: Rounds.patience) { done.isSet })
                #expect(eventually { group.metrics.map(\.tasks).reduce(0, +) == rounds + 1 })
                #expect(group.metrics.allSatisfy { $0.spinningNanoseconds == 0 })
                #expect(group.metrics.map(\.sleeps).reduce(0, +) > 100)
            }
        }

        @Test("G12 a shard that posts to itself while it looks starves nobody", .enabled(if: mayLook, whyNot))
        func selfPosts() throws {
            try withGroup(idle: .poll) { group in
                let stop = Flag()
                let fires = Tally()
                @Sendable func again(_ shard: Shard) { if !stop.isSet { shard.post(again) } }
                group.post(to: 0) { shard in
                    _ = try? shard.loop.every(.milliseconds(1)) { _, _ in fires.add() }
                    again(shard)
                }
                #expect(eventually { fires.value >= 20 })
                stop.set()
            }
        }
    }
}
