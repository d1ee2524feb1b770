import Glibc
import LinuxEventGroup
import Synchronization
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    /// Exactly once, or back to the sender. The names of these suites begin with Mailbox, because that is what runs
    /// under ThreadSanitizer.
    @Suite("M1 Posting")
    struct MailboxDeliveryTests {
        // MARK: Exactly once

        @Test("M1 what eight threads post to shards that fall asleep in between runs exactly once", arguments: [1, 3])
        func exactlyOnce(shards: Int) throws {
            let producers = 8
            let count = Rounds.usually(100_000, long: 1_000_000)
            let runs = PlainMemory<UInt8>(producers * count, 0)
            defer { runs.free() }
            let refused = Tally()
            let phases = 10
            try withGroup(threads: shards) { group in
                for phase in 0..<phases {
                    let threads = (0..<producers).map { producer in
                        Threads.spawn {
                            for number in (phase * count / phases)..<((phase + 1) * count / phases) {
                                let slot = producer * count + number
                                let result = group.post(to: number % shards) { _ in runs[slot] += 1 }
                                if !result.isPosted { refused.add() }
                            }
                        }
                    }
                    for thread in threads { thread.join() }
                    for shard in 0..<shards { try #require(group.settle(shard)) }
                    // Long enough for all to fall asleep.
                    usleep(1_000)
                }
                for shard in group.metrics { #expect(shard.sleeps >= UInt64(phases - 1)) }
                #expect(group.metrics.reduce(0) { $0 + $1.tasks } == UInt64(producers * count + phases * shards))
            }
            #expect(refused.value == 0)
            #expect(runs.count { $0 != 1 } == 0)
        }

        @Test("M1 what shards post to each other and to themselves runs exactly once")
        func exactlyOnceAmongShards() throws {
            let shards = 4
            let count = Rounds.usually(20_000, long: 1_000_000)
            let runs = PlainMemory<UInt8>(shards * shards * count, 0)
            defer { runs.free() }
            let refused = Tally()
            try withGroup(threads: shards) { group in
                for from in 0..<shards {
                    group.post(to: from) { shard in
                        for number in 0..<count {
                            for to in 0..<shards {
                                let slot = (from * shards + to) * count + number
                                let result = shard.group.post(to: to) { _ in runs[slot] += 1 }
                                if !result.isPosted { refused.add() }
                            }
                        }
                    }
                }
                let all = UInt64(shards * shards * count + shards)
                #expect(eventually(seconds: Rounds.patience) { group.metrics.reduce(0) { $0 + $1.tasks } >= all })
                #expect(group.metrics.reduce(0) { $0 + $1.tasks } == all)
            }
            #expect(refused.value == 0)
            #expect(runs.count { $0 != 1 } == 0)
        }

        @Test(
            "M1 a shard may post to a shard of another group, whichever of the two ends first",
            arguments: [false, true])
        func otherGroup(ownEndsFirst: Bool) throws {
            let count = 1_000
            let there = Tally()
            let back = Tally()
            let late = Tally()
            try expectNothingLeft {
                // More shards here than there: nothing of these shards may be sorted by their numbers there.
                let own = try LoopGroup(threads: 3, name: Tested.name)
                let other = try LoopGroup(threads: 1, name: Tested.name)
                own.post(to: 2) { shard in
                    let home = shard.reference
                    for _ in 0..<count {
                        other.post(to: 0) { _ in
                            there.add()
                            home.post { _ in back.add() }
                        }
                    }
                }
                #expect(eventually { back.value == count })
                let (first, second) = ownEndsFirst ? (own, other) : (other, own)
                #expect(try first.stop(deadline: .seconds(10)).isComplete)
                second.post(to: 0) { _ in if first.post(to: 0, { _ in }).isClosed { late.add() } }
                #expect(second.settle(0))
                #expect(try second.stop(deadline: .seconds(10)).isComplete)
            }
            #expect(there.value == count)
            #expect(back.value == count)
            #expect(late.value == 1)
        }

        @Test("M1 a task posted from the start block of one shard to another runs")
        func fromStartBlocks() throws {
            let ran = Tally()
            try withGroup(
                threads: 3,
                start: { shard in
                    for other in 0..<3 { shard.group.post(to: other) { _ in ran.add() } }
                }
            ) { group in
                #expect(eventually { ran.value == 9 })
            }
            #expect(ran.value == 9)
        }

        // MARK: Refused

        @Test("M1 a refused task comes back to the poster, who can run it")
        func refusedComesBack() throws {
            let ran = Log<String>()
            try withGroup { group in
                let ended = try LoopGroup(threads: 1, mailboxCapacity: 1, name: Tested.name)
                #expect(try ended.stop(deadline: .seconds(10)).isComplete)
                group.post(to: 0) { shard in
                    guard case .closed(let task) = ended.post(to: 0, { shard in ran.add("closed on \(shard.index)") })
                    else { return ran.add("not refused") }
                    task(shard)
                }
                #expect(group.settle(0))
                #expect(ran.all == ["closed on 0"])
            }
            try withGroup(
                threads: 2, capacity: 1,
                start: { shard in
                    guard shard.index == 0 else { return }
                    shard.group.post(to: 1) { _ in ran.add("posted") }
                    // Shard 1 runs nothing before all start blocks have returned.
                    guard case .full(let task) = shard.group.post(to: 1, { shard in ran.add("full on \(shard.index)") })
                    else { return ran.add("not refused") }
                    task(shard)
                }
            ) { group in
                #expect(eventually { ran.count == 3 })
                #expect(ran.all == ["closed on 0", "full on 0", "posted"])
            }
        }

        @Test("M1 a refused task was not touched: what it captured ends with the poster, when he lets go")
        func refusedCaptures() throws {
            let deaths = Deaths()
            try withGroup { group in
                let ended = try LoopGroup(threads: 1, name: Tested.name)
                #expect(try ended.stop(deadline: .seconds(10)).isComplete)
                let mortal = Mortal(deaths)
                let result = refusal(by: ended, of: mortal)
                #expect(result.isClosed)
                #expect(deaths.count == 0)
                withExtendedLifetime(result) {}
            }
            #expect(deaths.count == 1)
            #expect(deaths.elsewhere(than: thisThread()) == 0)
        }

        private func refusal(by group: LoopGroup, of mortal: consuming Mortal) -> PostResult {
            group.post(to: 0) { [mortal] _ in mortal.touch() }
        }

        // MARK: What a task captured

        @Test("M1 what a task captured ends on the shard's thread, exactly once", arguments: ["outside", "a shard"])
        func captures(from poster: String) throws {
            let count = Rounds.usually(50_000, long: 1_000_000)
            let deaths = Deaths()
            var home: UInt = 0
            try withGroup(threads: 2) { group in
                home = group.thread(of: 0)
                if poster == "outside" {
                    for number in 0..<count {
                        group.post(to: 0, ownerTask(of: Mortal(deaths)))
                        if number % 16 == 0 { spin(nanoseconds: number % 3_000) }
                    }
                } else {
                    group.post(to: 1) { shard in
                        for number in 0..<count {
                            shard.group.post(to: 0, ownerTask(of: Mortal(deaths)))
                            if number % 16 == 0 { spin(nanoseconds: number % 3_000) }
                        }
                    }
                    #expect(eventually(seconds: Rounds.patience) { deaths.count == count })
                }
            }
            #expect(deaths.count == count)
            #expect(deaths.elsewhere(than: home) == 0)
        }

        @Test("M1 what a shard captures in a task to itself ends on its thread, after the task")
        func selfCaptures() throws {
            let deaths = Deaths()
            var home: UInt = 0
            let seen = Log<Int>()
            try withGroup { group in
                home = group.thread(of: 0)
                group.post(to: 0) { shard in
                    for _ in 0..<1_000 { shard.post(ownerTask(of: Mortal(deaths))) }
                    seen.add(deaths.count)
                    shard.post { _ in seen.add(deaths.count) }
                }
                #expect(eventually { seen.count == 2 })
            }
            #expect(seen.all == [0, 1_000])
            #expect(deaths.elsewhere(than: home) == 0)
        }
    }
}
