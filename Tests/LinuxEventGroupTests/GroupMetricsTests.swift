import Glibc
import LinuxEvent
import LinuxEventGroup
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("G10 Metrics")
    struct GroupMetricsTests {
        @Test("G10 tasks, events, turns and watchers are counted exactly, and stay readable after the stop")
        func exact() throws {
            let pipe = Pipe()
            var last: ShardMetrics?
            try expectNothingLeft {
                let group = try LoopGroup(threads: 2, name: Tested.name)
                let home = group.shard(for: pipe.reader).index
                let reads = Tally()
                #expect(group.metrics[home].watchers == 0)
                let watcher = group.watch(
                    pipe.reader, data: (),
                    read: { _, descriptor, _, _ in
                        IO.drain(descriptor)
                        reads.add()
                    }
                ).watcher
                #expect(eventually { group.metrics[home].watchers == 1 })
                #expect(group.metrics[home].tasks == 1)
                for round in 1...10 {
                    pipe.write()
                    #expect(eventually { reads.value == round })
                }
                #expect(eventually { group.metrics[home].events == 10 })
                for _ in 0..<100 { group.post(to: home) { shard in shard.post { _ in } } }
                #expect(eventually { group.metrics[home].tasks == 201 })
                watcher?.cancel()
                #expect(eventually { group.metrics[home].watchers == 0 })
                usleep(2_000)
                let metrics = group.metrics[home]
                #expect(metrics.shard == home)
                #expect(metrics.tasks == 202)
                #expect(metrics.events == 10)
                #expect(metrics.turns >= 13)
                #expect(metrics.wakesSuppressed == 202 - metrics.wakesSent)
                let other = group.metrics[1 - home]
                #expect((other.tasks, other.events, other.watchers) == (0, 0, 0))
                #expect(try group.stop(deadline: .seconds(10)).isComplete)
                last = group.metrics[home]
            }
            #expect(last?.tasks == 202)
            #expect(last?.events == 10)
        }

        @Test("G10 depth is what the last look into the mailbox found, and depthMax the most ever")
        func depth() throws {
            try withGroup { group in
                let first = Hold()
                group.post(to: 0) { _ in first.hold() }
                #expect(first.waitUntilHeld())
                for _ in 0..<500 { group.post(to: 0) { _ in } }
                first.letGo()
                #expect(eventually { group.metrics[0].tasks == 501 })
                #expect(group.metrics[0].depth == 500)
                #expect(group.metrics[0].depthMax == 500)
                group.post(to: 0) { _ in }
                #expect(eventually { group.metrics[0].tasks == 502 })
                #expect(group.metrics[0].depth == 1)
                #expect(group.metrics[0].depthMax == 500)
            }
        }

        @Test("G10 a wake that brings no work counts as spurious, and one that does, does not")
        func spurious() throws {
            try withGroup { group in
                let waker = Log<Waker>()
                group.post(to: 0) { shard in waker.add(shard.loop.waker) }
                #expect(eventually { waker.count == 1 })
                for round in 1...20 {
                    group.post(to: 0) { shard in shard.loop.after(.zero) { _, _ in } }
                    #expect(group.settle(0))
                    // It shall be asleep.
                    usleep(1_000)
                    #expect(group.metrics[0].wakesSpurious == UInt64(round - 1))
                    waker.all[0].signal()
                    #expect(eventually { group.metrics[0].wakesSpurious == UInt64(round) })
                }
            }
        }

        @Test("G10 all counters only grow, whoever reads them while the shards run, and reading wakes nobody")
        func monotone() throws {
            let wrong = Tally()
            let reads = Tally()
            let isOver = Flag()
            try withGroup(threads: 2) { group in
                let readers = (0..<2).map { _ in
                    Threads.spawn {
                        var before = group.metrics
                        while !isOver.isSet {
                            let now = group.metrics
                            for (before, now) in zip(before, now) where !Self.isLater(now, than: before) { wrong.add() }
                            before = now
                            reads.add()
                        }
                    }
                }
                for number in 0..<Rounds.usually(20_000, long: 1_000_000) {
                    group.post(to: number % 2) { shard in if number % 50 == 0 { shard.loop.after(.zero) { _, _ in } } }
                    if number % 100 == 0 { usleep(50) }
                }
                for shard in 0..<2 { #expect(group.settle(shard)) }
                isOver.set()
                for reader in readers { reader.join() }
                usleep(5_000)
                let before = group.metrics
                for _ in 0..<1_000 { _ = group.metrics }
                #expect(group.metrics.map(\.turns) == before.map(\.turns))
                #expect(group.metrics.map(\.wakesSent) == before.map(\.wakesSent))
            }
            #expect(wrong.value == 0)
            #expect(reads.value > 100)
        }

        private static func isLater(_ now: ShardMetrics, than before: ShardMetrics) -> Bool {
            now.turns >= before.turns && now.wakesSpurious >= before.wakesSpurious && now.events >= before.events
                && now.tasks >= before.tasks
                && now.sleeps >= before.sleeps && now.wakesSent >= before.wakesSent
                && now.selfDisarms >= before.selfDisarms && now.depthMax >= before.depthMax
                && now.busyNanoseconds >= before.busyNanoseconds
        }

        @Test("G10 busy time is the CPU time of the shard's thread: neither its sleep, nor other threads'")
        func busyTime() throws {
            var busyAtEnd: UInt64 = 0
            let own = Log<UInt64>()
            try expectNothingLeft {
                let group = try LoopGroup(threads: 2, name: Tested.name)
                group.post(to: 0) { _ in
                    let begin = Clock.threadCPU()
                    while Clock.threadCPU() - begin < 30_000_000 {}
                    own.add(Clock.threadCPU())
                }
                #expect(eventually { own.count == 1 })
                usleep(20_000)
                let busy = group.metrics.map(\.busyNanoseconds)
                #expect(busy[0] >= own.all[0])
                #expect(busy[0] < own.all[0] + 10_000_000)
                #expect(busy[1] < 10_000_000)
                #expect(try group.stop(deadline: .seconds(10)).isComplete)
                busyAtEnd = group.metrics[0].busyNanoseconds
                #expect(busyAtEnd >= busy[0])
                #expect(busyAtEnd < busy[0] + 20_000_000)
                // The kernel may give the thread's number to another now.
                Threads.runElsewhere {
                    let begin = Clock.threadCPU()
                    while Clock.threadCPU() - begin < 20_000_000 {}
                }
                #expect(group.metrics[0].busyNanoseconds == busyAtEnd)
            }
        }

        @Test("G10 a shard that is stuck does not hold up the reader")
        func readableWhileStuck() throws {
            try withGroup(threads: 2) { group in
                let hold = Hold()
                group.post(to: 0) { _ in hold.hold(spinning: true) }
                #expect(hold.waitUntilHeld())
                let before = group.metrics[0].busyNanoseconds
                usleep(30_000)
                #expect(group.metrics[0].busyNanoseconds > before)
                hold.letGo()
            }
        }
    }
}
