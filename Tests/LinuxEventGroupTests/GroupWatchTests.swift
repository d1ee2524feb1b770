import Glibc
import LinuxEvent
import LinuxEventGroup
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("G4 Routing and watches")
    struct GroupWatchTests {
        // MARK: Routing

        @Test("G4 the home of a descriptor depends on its number alone")
        func pureRouting() throws {
            for threads in [1, 3, 7] {
                var homes: [Int] = []
                for _ in 0..<2 {
                    try withGroup(threads: threads) { group in
                        let now = (CInt(-5)..<2_000).map { group.shard(for: $0).index }
                        #expect(now == (CInt(-5)..<2_000).map { group.shard(for: $0).index })
                        #expect(now.allSatisfy { (0..<threads).contains($0) })
                        #expect(homes.isEmpty || homes == now)
                        homes = now
                        #expect(
                            (CInt(0)..<2_000).allSatisfy { group.shard(for: $0) == group.shard(forKey: UInt64($0)) })
                        #expect(group.shard(for: 5) == group[group.shard(for: 5).index])
                    }
                }
            }
        }

        @Test("G4 dense and strided numbers are spread evenly over the shards", arguments: [2, 3, 4, 8, 16, 48, 64])
        func balance(threads: Int) throws {
            try withGroup(threads: threads) { group in
                var worst = (ratio: 0.0, numbers: "")
                for (stride, first) in [1, 2, 3, 4, 8].flatMap({ stride in [0, 5, 1_000].map { (stride, $0) } }) {
                    for count in [1_000, 1_024, 4_000, 20_000] {
                        var loads = [Int](repeating: 0, count: threads)
                        for number in 0..<count { loads[group.shard(for: CInt(first + number * stride)).index] += 1 }
                        let ratio = Double(loads.max()!) * Double(threads) / Double(count)
                        if ratio > worst.ratio { worst = (ratio, "\(count) numbers from \(first) by \(stride)") }
                    }
                }
                // 1,000 over 48 cannot be divided better than 1.01.
                #expect(worst.ratio <= 1.1, "\(worst.numbers)")
            }
        }

        @Test("G4 random numbers are spread as evenly as chance allows, or better", arguments: [2, 3, 8, 64])
        func balanceOfRandomNumbers(threads: Int) throws {
            try withGroup(threads: threads) { group in
                var random = SeededGenerator()
                var loads = [Int](repeating: 0, count: threads)
                let count = 1_500 * threads
                for _ in 0..<count {
                    loads[group.shard(for: CInt.random(in: 0...1_000_000, using: &random)).index] += 1
                }
                let ratio = Double(loads.max()!) * Double(threads) / Double(count)
                // Where each number falls is chance: of 1,500 a shard, 1.1 of the mean is four deviations away.
                #expect(ratio <= 1.12, "\(ratio), seed \(random.seed)")
            }
        }

        // MARK: Watching

        @Test("G4 a watch made by any thread runs its handlers on the home shard, with its data")
        func watchFromOutside() throws {
            let seen = Log<String>()
            let homes = Log<UInt>()
            try withGroup(threads: 3) { group in
                for home in 0..<3 {
                    let pipe = group.pipes(home: home)[0]
                    let before = seen.count
                    let result = group.watch(
                        pipe.reader, data: "data \(home)",
                        read: { shard, descriptor, watcher, data in
                            IO.drain(descriptor)
                            homes.add(thisThread())
                            let isSame = watcher.descriptor == descriptor && Shard.current === shard
                            seen.add("read \(shard.index) \(data) \(isSame)")
                        },
                        completed: { shard, result in
                            if case .success(let watcher) = result, watcher.isActive {
                                seen.add("answer \(shard.index)")
                            }
                        })
                    let watcher = try #require(result.watcher)
                    #expect(watcher.home == group[home])
                    pipe.write()
                    #expect(eventually { seen.count == before + 2 })
                    #expect(Array(seen.all.suffix(2)) == ["answer \(home)", "read \(home) data \(home) true"])
                    #expect(homes.all.last == group.thread(of: home))
                    let isEnded = Flag()
                    #expect(watcher.cancel { shard in if shard.index == home { isEnded.set() } } == .accepted)
                    #expect(eventually { isEnded.isSet })
                    pipe.write()
                    usleep(2_000)
                    #expect(seen.count == before + 2)
                }
            }
        }

        @Test("G4 read, write and error handlers and all modes go along")
        func modesGoAlong() throws {
            let calls = Log<String>()
            try withGroup(threads: 2) { group in
                let pair = Sockets.unixPair()
                _ = group.watch(
                    pair.near, data: (), read: { _, _, _, _ in calls.add("read") },
                    write: { _, _, _, _ in calls.add("write") }, oneshot: true)
                #expect(eventually { calls.count == 1 })
                usleep(2_000)
                #expect(calls.all == ["write"])

                let edge = Pipe.readable()
                _ = group.watch(edge.reader, data: (), read: { _, _, _, _ in calls.add("edge") }, edgeTriggered: true)
                #expect(eventually { calls.count == 2 })
                usleep(2_000)
                #expect(calls.count == 2)
                edge.write()
                #expect(eventually { calls.count == 3 })
                #expect(calls.all == ["write", "edge", "edge"])

                let broken = Pipe()
                broken.closeReader()
                _ = group.watch(
                    broken.writer, data: (), write: { _, _, _, _ in calls.add("never") },
                    error: { _, _, watcher, _ in
                        calls.add("error")
                        watcher.cancel()
                    })
                #expect(eventually { calls.count == 4 })
                #expect(calls.all.last == "error")

                let quiet = Pipe.readable()
                let isWatched = Flag()
                _ = group.watch(
                    quiet.reader, data: (), read: { _, _, _, _ in calls.add("never") }, interest: [],
                    completed: { _, _ in isWatched.set() })
                #expect(eventually { isWatched.isSet })
                usleep(2_000)
                #expect(calls.count == 4)
                withExtendedLifetime(pair) {}
            }
        }

        @Test("G4 the kernel's refusal comes to completed on the home shard, and no handler ever runs")
        func refusals() throws {
            let file = ScratchFile.open()
            defer { close(file) }
            // A number that nobody gets while this test runs.
            let closed: CInt = 900
            #expect(!IO.isOpen(closed))
            for (descriptor, code) in [(file, EPERM), (closed, EBADF), (CInt(-1), EBADF)] {
                let answers = Log<CInt?>()
                let wrong = Tally()
                try withGroup(threads: 3) { group in
                    let home = group.shard(for: descriptor)
                    let result = group.watch(
                        descriptor, data: (), read: { _, _, _, _ in wrong.add() }, write: { _, _, _, _ in wrong.add() },
                        completed: { shard, result in
                            if Shard.current !== shard || shard.reference != home { wrong.add() }
                            if case .failure(let error) = result { answers.add(error.code) } else { wrong.add() }
                        })
                    #expect(eventually { answers.count == 1 })
                    #expect(answers.all == [code])
                    // A refused watch can be cancelled like any other, any number of times.
                    let ended = Tally()
                    for _ in 0..<3 { result.watcher?.cancel { _ in ended.add() } }
                    #expect(eventually { ended.value == 3 })
                }
                #expect(wrong.value == 0)
            }
        }

        @Test("G4 on the home shard the answer comes before watch returns, and the end before cancel returns")
        func synchronousAtHome() throws {
            let steps = Log<String>()
            let file = ScratchFile.open()
            defer { close(file) }
            try withGroup(threads: 2) { group in
                let pipe = group.pipes(home: 1)[0]
                let reader = pipe.reader
                pipe.write()
                group.post(to: 1) { shard in
                    let result = shard.group.watch(
                        reader, data: (), read: { _, _, _, _ in steps.add("read") },
                        completed: { _, result in if case .success = result { steps.add("watched") } })
                    steps.add("returned")
                    result.watcher?.cancel { _ in steps.add("cancelled") }
                    steps.add("returned")
                    result.watcher?.cancel { _ in steps.add("cancelled again") }
                }
                group.shard(for: file).post { shard in
                    _ = shard.group.watch(
                        file, data: (), read: { _, _, _, _ in },
                        completed: { _, result in if case .failure = result { steps.add("refused") } })
                    steps.add("returned")
                }
                #expect(eventually { steps.count == 7 })
                usleep(2_000)
                withExtendedLifetime(pipe) {}
            }
            // The two tasks may run on two shards; in each, the order is fixed.
            let ofFile = ["refused", "returned"]
            let ofPipe = ["watched", "returned", "cancelled", "returned", "cancelled again"]
            #expect(steps.all.sorted() == (ofFile + ofPipe).sorted())
            #expect(
                steps.all.filter { $0 != "returned" && $0 != "refused" } == ["watched", "cancelled", "cancelled again"])
        }

        @Test("G4 a shard may watch for another shard, which answers it")
        func watchFromAnotherShard() throws {
            let steps = Log<String>()
            try withGroup(threads: 2) { group in
                let pipe = group.pipes(home: 1)[0]
                pipe.write()
                let reader = pipe.reader
                group.post(to: 0) { shard in
                    let origin = shard.reference
                    let isReturned = Flag()
                    let result = shard.group.watch(
                        reader, data: origin,
                        read: { shard, descriptor, _, origin in
                            IO.drain(descriptor)
                            steps.add("read on \(shard.index)")
                            origin.post { shard in steps.add("told \(shard.index)") }
                        },
                        completed: { _, _ in _ = eventually { isReturned.isSet } })
                    isReturned.set()
                    if result.watcher == nil { steps.add("refused") }
                }
                #expect(eventually { steps.count == 2 })
                withExtendedLifetime(pipe) {}
            }
            #expect(steps.all == ["read on 1", "told 0"])
        }

        @Test("G4 the data of a watch ends on the home shard: after a cancel, a refusal, and a replacement")
        func dataEndsAtHome() throws {
            let deaths = Deaths()
            var home: UInt = 0
            try withGroup(threads: 2) { group in
                home = group.thread(of: 0)
                let pair = group.pipes(home: 0, count: 2)
                defer { withExtendedLifetime(pair) {} }
                let result = group.watch(pair[0].reader, data: Mortal(deaths), read: { _, _, _, _ in })
                #expect(group.settle(0))
                #expect(deaths.count == 0)
                result.watcher?.cancel()
                #expect(eventually { deaths.count == 1 })
                // Once more, replaced by the next.
                for _ in 0..<2 {
                    _ = group.watch(pair[1].reader, data: Mortal(deaths), read: { _, _, _, _ in })
                }
                #expect(eventually { deaths.count == 2 })
                let file = ScratchFile.open()
                defer { close(file) }
                let there = group.thread(of: group.shard(for: file).index)
                let last = Deaths()
                _ = group.watch(file, data: Mortal(last), read: { _, _, _, _ in })
                #expect(eventually { last.count == 1 })
                #expect(last.elsewhere(than: there) == 0)
            }
            #expect(deaths.count == 3)
            #expect(deaths.elsewhere(than: home) == 0)
        }

        @Test("G4 a second watch of a descriptor replaces the first, whose cancel then disturbs nobody")
        func replacement() throws {
            let calls = Log<Int>()
            let pipe = Pipe()
            try withGroup(threads: 2) { group in
                let first = group.watch(pipe.reader, data: (), read: { _, _, _, _ in calls.add(1) }).watcher
                let second = group.watch(
                    pipe.reader, data: (),
                    read: { _, descriptor, _, _ in
                        IO.drain(descriptor)
                        calls.add(2)
                    }
                ).watcher
                let isAnswered = Flag()
                first?.cancel { _ in isAnswered.set() }
                #expect(eventually { isAnswered.isSet })
                pipe.write()
                #expect(eventually { calls.count == 1 })
                second?.cancel()
            }
            #expect(calls.all == [2])
        }

        @Test("G4 a watch goes on without its handle, and a handle may outlive the group and end anywhere")
        func handles() throws {
            let calls = Tally()
            let pipe = Pipe()
            try expectNothingLeft {
                let group = try LoopGroup(threads: 2, name: Tested.name)
                _ = group.watch(
                    pipe.reader, data: (),
                    read: { _, descriptor, _, _ in
                        IO.drain(descriptor)
                        calls.add()
                    })
                pipe.write()
                #expect(eventually { calls.value == 1 })
                var kept = group.watch(pipe.writer, data: (), write: { _, _, _, _ in }, oneshot: true).watcher
                var dropped = group.watch(pipe.reader, data: (), read: { _, _, _, _ in }).watcher
                for shard in 0..<2 { #expect(group.settle(shard)) }
                Threads.runElsewhere { dropped = nil }
                #expect(dropped?.home == nil)
                #expect(try group.stop(deadline: .seconds(10)).isComplete)
                let answers = Tally()
                for _ in 0..<2 { #expect(kept?.cancel { _ in answers.add() } == .closed) }
                #expect(answers.value == 0)
                kept = nil
            }
        }

        @Test("G4 after a stop a watch and a cancel are told that the group is closed")
        func closed() throws {
            let pipe = Pipe()
            let deaths = Deaths()
            try expectNothingLeft {
                let group = try LoopGroup(threads: 2, name: Tested.name)
                let watcher = group.watch(pipe.reader, data: (), read: { _, _, _, _ in }).watcher
                #expect(try group.stop(deadline: .seconds(10)).isComplete)
                #expect(group.watch(pipe.reader, data: Mortal(deaths), read: { _, _, _, _ in }).isClosed)
                #expect(deaths.count == 1)
                #expect(watcher?.cancel() == .closed)
            }
        }

        // MARK: The end of a watch

        /// A watch that must be silent from its end on.
        private final class Silence: Sendable {
            let isOver = Flag()
            let calls = Tally()
            let broken = Tally()

            func heard() {
                calls.add()
                if isOver.isSet { broken.add() }
            }
        }

        @Test("G4 once cancel has answered no callback runs, although the descriptors are ready all the time")
        func nothingAfterTheAnswer() throws {
            let rounds = Rounds.usually(600, long: 100_000)
            let workers = 3
            let broken = Tally()
            let calls = Tally()
            let unanswered = Tally()
            try withGroup(threads: 3) { group in
                let threads = (0..<workers).map { worker in
                    Threads.spawn {
                        for round in 0..<rounds {
                            // Always ready, since nobody reads; and a new descriptor each time, with an old number.
                            let pipe = Pipe.readable()
                            let silence = Silence()
                            let result = group.watch(
                                pipe.reader, data: silence, read: { _, _, _, silence in silence.heard() },
                                edgeTriggered: round % 4 == 3)
                            guard let watcher = result.watcher else { return unanswered.add() }
                            if round % 2 == 0 { spin(nanoseconds: (round * 37) % 20_000) }
                            pipe.write()
                            let end: @Sendable (Shard) -> Void = { _ in silence.isOver.set() }
                            switch round % 3 {
                            case 0: watcher.cancel(completed: end)
                            case 1: watcher.home.post { _ in watcher.cancel(completed: end) }
                            default: group.post(to: (round + worker) % 3) { _ in watcher.cancel(completed: end) }
                            }
                            pipe.write()
                            if !soon(seconds: 10, { silence.isOver.isSet }) { unanswered.add() }
                            calls.add(silence.calls.value)
                            if round % 16 == 0 { usleep(50) }
                            broken.add(silence.broken.value)
                            if broken.value + unanswered.value > 0 { return }
                        }
                    }
                }
                for thread in threads { thread.join() }
            }
            #expect(broken.value == 0)
            #expect(unanswered.value == 0)
            #expect(calls.value > rounds, "the descriptors were not ready")
        }

        @Test("G4 a cancel in the watch's own callback ends it at once")
        func cancelInCallback() throws {
            let rounds = Rounds.usually(300, long: 20_000)
            let calls = Tally()
            let answers = Tally()
            try withGroup(threads: 2) { group in
                for round in 1...rounds {
                    let pipe = Pipe.readable()
                    let handle = Locked<GroupWatcher?>(nil)
                    let watcher = group.watch(
                        pipe.reader, data: (),
                        read: { _, _, _, _ in
                            guard let watcher = handle.withLock({ $0 }) else { return }
                            calls.add()
                            watcher.cancel { _ in answers.add() }
                        }
                    ).watcher
                    handle.withLock { $0 = watcher }
                    try #require(eventually { answers.value == round })
                    try #require(calls.value == round)
                }
            }
        }

        @Test("G4 every cancel of a watch is answered, from wherever it comes")
        func everyCancelIsAnswered() throws {
            let cancels = Rounds.usually(200, long: 5_000)
            let answers = Tally()
            let accepted = Tally()
            try withGroup(threads: 2) { group in
                let pipe = Pipe.readable()
                let watcher = try #require(group.watch(pipe.reader, data: (), read: { _, _, _, _ in }).watcher)
                let threads = (0..<4).map { _ in
                    Threads.spawn {
                        for _ in 0..<cancels {
                            if watcher.cancel(completed: { _ in answers.add() }) == .accepted { accepted.add() }
                        }
                    }
                }
                for thread in threads { thread.join() }
                #expect(eventually { answers.value == 4 * cancels })
                withExtendedLifetime(pipe) {}
            }
            #expect(accepted.value == 4 * cancels)
            #expect(answers.value == 4 * cancels)
        }
    }
}
