import Glibc
import LinuxEvent
import LinuxEventGroup
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("M3 Mailboxes that spill")
    struct MailboxSpillTests {
        @Test(
            "M3 a mailbox takes its bound and what it may spill, exactly, and runs all in order",
            arguments: [1, 7, 1_000])
        func exact(spill: Int) throws {
            let order = Log<Int>()
            try withGroup(capacity: 10, spill: spill) { group in
                for round in 1...3 {
                    let hold = try group.holdOutsideTasks()
                    var taken = 0
                    while taken < 5_000, group.post(to: 0, { [taken] _ in order.add(taken) }).isPosted { taken += 1 }
                    #expect(taken == 10 + spill)
                    #expect(group.post(to: 0) { _ in }.isFull)
                    hold.letGo()
                    #expect(eventually { order.count == round * (10 + spill) })
                    #expect(order.all.suffix(10 + spill) == Array(0..<(10 + spill))[...])
                    #expect(group.metrics[0].spilled == round * spill)
                }
            }
        }

        @Test("M2 M3 what each producer sends through a full mailbox stays in order, and arrives once")
        func producers() throws {
            let each = Rounds.usually(5_000, long: 200_000)
            let seen = Log<(producer: Int, number: Int)>()
            try withGroup(threads: 2, capacity: 5, spill: 50) { group in
                let threads = (0..<4).map { producer in
                    Threads.spawn {
                        for number in 0..<each {
                            while !group.post(to: 0, { _ in seen.add((producer, number)) }).isPosted { usleep(20) }
                        }
                    }
                }
                // A shard is a producer, too, and so is the target itself.
                for (producer, home) in [(4, 1), (5, 0)] {
                    @Sendable func send(_ shard: Shard, _ number: Int) {
                        var number = number
                        while number < each,
                            group.post(to: 0, { [number] _ in seen.add((producer, number)) }).isPosted
                        { number += 1 }
                        if number < each {
                            shard.loop.after(.microseconds(50)) { [number] _, _ in send(shard, number) }
                        }
                    }
                    while !group.post(to: home, { send($0, 0) }).isPosted { usleep(20) }
                }
                for thread in threads { thread.join() }
                #expect(eventually(seconds: Rounds.patience) { seen.count == 6 * each })
                var next = [Int](repeating: 0, count: 6)
                var disorder = 0
                for (producer, number) in seen.all {
                    if next[producer] != number { disorder += 1 }
                    next[producer] = number + 1
                }
                #expect(disorder == 0)
                #expect(next == [Int](repeating: each, count: 6))
                #expect(group.metrics[0].spilled > 0, "nothing was ever spilled")
            }
        }

        @Test("M3 M5 a batch that does not fit is spilled whole, or refused whole")
        func batches() throws {
            let order = Log<Int>()
            try withGroup(capacity: 4, spill: 6) { group in
                let channel = group.channel(of: Int.self) { _, value in order.add(value) }
                let hold = try group.holdOutsideTasks()
                #expect(channel.send(contentsOf: [0, 1, 2], to: 0).isSent)
                #expect(channel.send(contentsOf: [3, 4, 5, 6, 7], to: 0).isSent)
                #expect(!channel.send(contentsOf: [8, 9, 10], to: 0).isSent, "two places are left")
                #expect(channel.send(contentsOf: [8, 9], to: 0).isSent)
                #expect(!channel.send(10, to: 0).isSent)
                hold.letGo()
                #expect(eventually { order.count == 10 })
                #expect(order.all == Array(0..<10))
                #expect(channel.send(10, to: 0).isSent)
                #expect(eventually { order.count == 11 })
            }
        }

        @Test("M3 G10 posts are timed on after batches that were spilled")
        func timedAfterSpills() throws {
            let arrived = Tally()
            try withGroup(capacity: 4, spill: 100) { group in
                let channel = group.channel(of: Int.self) { _, _ in arrived.add() }
                for round in 1...50 {
                    let hold = try group.holdOutsideTasks()
                    #expect(channel.send(contentsOf: Array(0..<20), to: 0).isSent)
                    hold.letGo()
                    #expect(eventually { arrived.value == 20 * round })
                }
                let before = group.metrics[0].hopLatency.count
                for _ in 0..<1_000 { #expect(group.settle(0)) }
                #expect(group.metrics[0].hopLatency.count >= before + 50)
            }
        }

        @Test("M3 G9 a stop runs what was spilled, in order")
        func stop() throws {
            let order = Log<Int>()
            try expectNothingLeft {
                let group = try LoopGroup(threads: 1, mailboxCapacity: 3, spillLimit: 100, name: Tested.name)
                let hold = try group.holdOutsideTasks()
                for number in 0..<60 { #expect(group.post(to: 0) { _ in order.add(number) }.isPosted) }
                group.requestStop()
                #expect(!group.post(to: 0) { _ in }.isPosted)
                hold.letGo()
                let report = try group.stop(deadline: .seconds(20))
                #expect(report.isComplete)
                #expect(order.all == Array(0..<60))
            }
        }

        @Test("M3 G9 what was spilled to a shard that is stuck past the deadline is counted, and ends at home")
        func abandoned() throws {
            let deaths = Deaths()
            try expectNothingLeft {
                let group = try LoopGroup(threads: 1, mailboxCapacity: 3, spillLimit: 100, name: Tested.name)
                let home = group.thread(of: 0)
                let hold = try group.holdOutsideTasks()
                for _ in 0..<60 { #expect(group.post(to: 0, ownerTask(of: Mortal(deaths))).isPosted) }
                #expect(try group.stop(deadline: .milliseconds(20)).shards[0].tasksAbandoned == 60)
                #expect(deaths.count == 0)
                hold.letGo()
                #expect(try group.stop(deadline: .seconds(20)).shards[0].stage == .stopped)
                #expect(deaths.count == 60)
                #expect(deaths.elsewhere(than: home) == 0)
            }
        }

        @Test("M3 who waits and what was spilled get their room in the order in which they came")
        func waiters() async throws {
            let order = Log<Int>()
            let group = try LoopGroup(threads: 1, mailboxCapacity: 1, spillLimit: 10, name: Tested.name)
            let hold = try group.holdOutsideTasks()
            #expect(group.post(to: 0) { _ in order.add(0) }.isPosted)
            #expect(group.post(to: 0) { _ in order.add(1) }.isPosted)
            let waiter = Task { await group[0].postWhenRoom { _ in order.add(2) }.isPosted }
            // It stands in line when no more time passes without it.
            usleep(100_000)
            #expect(group.post(to: 0) { _ in order.add(3) }.isPosted)
            hold.letGo()
            #expect(await waiter.value)
            #expect(eventually { order.count == 4 })
            #expect(order.all.filter { $0 != 2 } == [0, 1, 3])
            group.requestStop()
            #expect(eventually { Tested.threads.isEmpty })
        }

        @Test(
            "M3 a mailbox without a bound spills nothing, and none spills fewer than no tasks",
            arguments: [(nil, 1), (1, -1)])
        func invalid(capacity: Int?, spill: Int) throws {
            expectNothingLeft {
                let error = #expect(throws: LoopGroupError.self) {
                    try LoopGroup(threads: 1, mailboxCapacity: capacity, spillLimit: spill, name: Tested.name)
                }
                guard case .invalidSpillLimit(spill) = error else { return unexpected(error) }
            }
        }
    }
}
