import Glibc
import LinuxEvent
import LinuxEventGroup
import Synchronization
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("M2 Order and visibility")
    struct MailboxOrderTests {
        // MARK: One producer's order

        @Test("M2 each thread's posts run in the order posted", arguments: [1, 2])
        func orderOfThreads(shards: Int) throws {
            let producers = 6
            let count = Rounds.usually(50_000, long: 1_000_000)
            // By producer and shard: what ran last. Plain, because one shard writes each.
            let last = PlainMemory<Int>(producers * shards, -1)
            defer { last.free() }
            let wrong = Tally()
            try withGroup(threads: shards) { group in
                let threads = (0..<producers).map { producer in
                    Threads.spawn {
                        for number in 0..<count {
                            let target = (number >> 4) % shards
                            group.post(to: target) { _ in
                                if number <= last[producer * shards + target] { wrong.add() }
                                last[producer * shards + target] = number
                            }
                            if number & 1_023 == 0 { spin(nanoseconds: 5_000) }
                        }
                    }
                }
                for thread in threads { thread.join() }
            }
            #expect(wrong.value == 0)
            for slot in 0..<(producers * shards) { #expect(last[slot] >= count - 16 * shards) }
        }

        @Test("M2 a shard's posts to another shard run in the order posted, also across bursts and sleeps")
        func orderOfShards() throws {
            let count = Rounds.usually(50_000, long: 1_000_000)
            let last = PlainMemory<Int>(2, -1)
            defer { last.free() }
            let wrong = Tally()
            try withGroup(threads: 3) { group in
                for from in 1...2 {
                    group.post(to: from) { shard in
                        Self.stream(from: shard, number: 0, count: count, slot: from - 1, last, wrong)
                    }
                }
                #expect(eventually(seconds: Rounds.patience) { group.metrics[0].tasks >= UInt64(2 * count) })
            }
            #expect(wrong.value == 0)
            #expect(last[0] == count - 1)
            #expect(last[1] == count - 1)
        }

        /// Posts a burst to shard 0, and the next burst in a later turn.
        private static func stream(
            from shard: Shard, number: Int, count: Int, slot: Int, _ last: PlainMemory<Int>, _ wrong: Tally
        ) {
            let end = min(number + 1 + number % 300, count)
            for number in number..<end {
                shard.group.post(to: 0) { _ in
                    if number != last[slot] + 1 { wrong.add() }
                    last[slot] = number
                }
            }
            guard end < count else { return }
            shard.post { shard in stream(from: shard, number: end, count: count, slot: slot, last, wrong) }
        }

        @Test("M2 a shard's posts to itself run in the order posted, by whichever name it calls itself")
        func orderOfSelf() throws {
            let count = Rounds.usually(10_000, long: 1_000_000)
            let ran = Log<Int>()
            try withGroup(threads: 2) { group in
                group.post(to: 1) { shard in
                    for number in 0..<count {
                        switch number % 3 {
                        case 0: shard.post { _ in ran.add(number) }
                        case 1: shard.reference.post { _ in ran.add(number) }
                        default: shard.group.post(to: shard.index) { _ in ran.add(number) }
                        }
                    }
                }
                #expect(eventually { ran.count == count })
            }
            #expect(ran.all.elementsEqual(0..<count))
        }

        @Test("M2 what a shard posts to itself runs behind what it took from others before")
        func selfBehindOthers() throws {
            let ran = Log<String>()
            try withGroup { group in
                let hold = Hold()
                group.post(to: 0) { _ in hold.hold() }
                #expect(hold.waitUntilHeld())
                group.post(to: 0) { shard in
                    ran.add("a")
                    shard.post { _ in ran.add("posted by a") }
                }
                group.post(to: 0) { _ in ran.add("b") }
                hold.letGo()
                #expect(eventually { ran.count == 3 })
            }
            #expect(ran.all == ["a", "b", "posted by a"])
        }

        @Test("M2 posts, watches and cancels of one thread keep one order")
        func orderOfAllForms() throws {
            let rounds = Rounds.usually(1_000, long: 20_000)
            let pipes = (0..<8).map { _ in Pipe.readable() }
            let wrong = Tally()
            try withGroup(threads: 3) { group in
                let producers = pipes.map { pipe in
                    let descriptor = pipe.reader
                    return Threads.spawn {
                        let home = group.shard(for: descriptor)
                        let steps = Log<Int>()
                        var step = 0
                        func next() -> @Sendable () -> Void {
                            let expected = step
                            step += 1
                            return { if steps.count == expected { steps.add(expected) } else { wrong.add() } }
                        }
                        for round in 0..<rounds {
                            let before = next()
                            home.post { _ in before() }
                            let watched = next()
                            let result = group.watch(
                                descriptor, data: (), read: { _, _, _, _ in }, oneshot: true,
                                completed: { _, result in
                                    if case .failure = result { wrong.add() }
                                    watched()
                                })
                            if round % 3 == 0 {
                                let between = next()
                                home.post { _ in between() }
                            }
                            guard let watcher = result.watcher else { return wrong.add() }
                            let cancelled = next()
                            watcher.cancel { _ in cancelled() }
                            let after = next()
                            home.post { _ in after() }
                        }
                        if !eventually(seconds: Rounds.patience, { steps.count == step }) { wrong.add() }
                    }
                }
                for producer in producers { producer.join() }
            }
            #expect(wrong.value == 0)
        }

        // MARK: Visibility. A violation here is for ThreadSanitizer to see; the values are checked all the same.

        @Test("M2 what a thread wrote before it posted is visible to the task, and what tasks wrote to whoever waits")
        func writesAreVisible() throws {
            let producers = 4
            let count = Rounds.usually(20_000, long: 500_000)
            let letters = PlainMemory<Int>(producers * count, 0)
            let copies = PlainMemory<Int>(producers * count, 0)
            defer { letters.free(); copies.free() }
            let wrong = Tally()
            try withGroup(threads: 2) { group in
                let threads = (0..<producers).map { producer in
                    Threads.spawn {
                        for number in 0..<count {
                            let slot = producer * count + number
                            letters[slot] = number + 1
                            group.post(to: number & 1) { _ in
                                if letters[slot] != number + 1 { wrong.add() }
                                copies[slot] = letters[slot]
                            }
                        }
                    }
                }
                for thread in threads { thread.join() }
            }
            #expect(wrong.value == 0)
            #expect((0..<(producers * count)).allSatisfy { copies[$0] == letters[$0] })
        }

        @Test("M2 plain memory that goes from shard to shard with the tasks is never seen half done")
        func memoryTravels() throws {
            let shards = 3
            let travellers = 8
            let hops = Rounds.usually(3_000, long: 200_000)
            let parcels = PlainMemory<Int>(travellers * 16, 0)
            defer { parcels.free() }
            let wrong = Tally()
            let arrived = Tally()
            try withGroup(threads: shards) { group in
                for traveller in 0..<travellers {
                    group.post(to: traveller % shards) { shard in
                        Self.hop(shard, traveller, 0, hops, parcels, wrong, arrived)
                    }
                }
                #expect(eventually(seconds: Rounds.patience) { arrived.value == travellers })
            }
            #expect(wrong.value == 0)
            #expect((0..<parcels.count).allSatisfy { parcels[$0] == hops })
        }

        private static func hop(
            _ shard: Shard, _ traveller: Int, _ hop: Int, _ hops: Int, _ parcels: PlainMemory<Int>, _ wrong: Tally,
            _ arrived: Tally
        ) {
            guard hop < hops else { return arrived.add() }
            for word in (traveller * 16)..<(traveller * 16 + 16) {
                if parcels[word] != hop { wrong.add() }
                parcels[word] = hop + 1
            }
            let next = (shard.index + 1 + (hop + traveller) % (shard.group.count)) % shard.group.count
            shard.group.post(to: next) { shard in Self.hop(shard, traveller, hop + 1, hops, parcels, wrong, arrived) }
        }

        @Test("M2 the data of a watch, and what was written before it, are visible to its handlers")
        func dataIsVisible() throws {
            let rounds = Rounds.usually(500, long: 20_000)
            let note = PlainMemory<Int>(1, 0)
            defer { note.free() }
            let pipe = Pipe.readable()
            let wrong = Tally()
            try withGroup(threads: 2) { group in
                for round in 1...rounds {
                    note[0] = round
                    let calls = Tally()
                    let answered = Flag()
                    let result = group.watch(
                        pipe.reader, data: [round, round + 1],
                        read: { _, _, watcher, data in
                            if data != [round, round + 1] || note[0] != round { wrong.add() }
                            calls.add()
                            watcher.cancel()
                        })
                    #expect(soon { calls.value == 1 })
                    result.watcher?.cancel { _ in answered.set() }
                    #expect(soon { answered.isSet })
                }
            }
            #expect(wrong.value == 0)
        }
    }
}
