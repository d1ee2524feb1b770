import Glibc
import LinuxEvent
import LinuxEventGroup
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("M3 Bounded mailboxes")
    struct MailboxBoundTests {
        /// Posts until it is refused; how many were taken.
        private func fill(_ group: LoopGroup, atMost limit: Int, _ ran: Tally) -> Int {
            for accepted in 0..<limit where !group.post(to: 0, { _ in ran.add() }).isPosted { return accepted }
            return limit
        }

        @Test(
            "M3 exactly as many tasks as the bound says fit, and all fit again when they have run",
            arguments: [1, 10, 5_000])
        func exactlyTheBound(bound: Int) throws {
            let ran = Tally()
            try withGroup(capacity: bound) { group in
                for round in 1...20 {
                    let hold = try group.holdOutsideTasks()
                    let fitted = fill(group, atMost: bound + 50, ran)
                    let isFull = group.post(to: 0) { _ in }.isFull
                    hold.letGo()
                    try #require(fitted == bound)
                    try #require(isFull)
                    try #require(eventually { ran.value == round * bound })
                }
            }
        }

        @Test("M3 a bound below one is refused", arguments: [0, -1, Int.min])
        func invalidBound(bound: Int) throws {
            expectNothingLeft {
                let error = #expect(throws: LoopGroupError.self) {
                    try LoopGroup(threads: 1, mailboxCapacity: bound, name: Tested.name)
                }
                guard case .invalidCapacity(bound) = error else {
                    Issue.record("\(String(describing: error))")
                    return
                }
            }
        }

        @Test("M3 eight threads that hammer a bound of ten never get an eleventh task in")
        func hammered() throws {
            let bound = 10
            let rounds = Rounds.usually(100, long: 5_000)
            let ran = Tally()
            let accepted = Tally()
            try withGroup(capacity: bound) { group in
                for round in 1...rounds {
                    let hold = try group.holdOutsideTasks()
                    let threads = (0..<8).map { _ in
                        Threads.spawn {
                            var refusals = 0
                            while refusals < 50 {
                                if group.post(to: 0, { _ in ran.add() }).isPosted {
                                    accepted.add()
                                } else {
                                    refusals += 1
                                }
                            }
                        }
                    }
                    for thread in threads { thread.join() }
                    hold.letGo()
                    try #require(accepted.value == round * bound)
                    try #require(eventually { ran.value == round * bound })
                }
                #expect(group.metrics[0].depthMax <= UInt64(bound))
            }
        }

        @Test("M3 threads that try again get everything through a small bound, once each and in order")
        func throughASmallBound() throws {
            let producers = 4
            let count = Rounds.usually(5_000, long: 200_000)
            let last = PlainMemory<Int>(producers, -1)
            defer { last.free() }
            let wrong = Tally()
            let refused = Tally()
            try withGroup(capacity: 3) { group in
                let deadline = Clock.monotonic() &+ Rounds.secondsPerTest / 4 &* 1_000_000_000
                let threads = (0..<producers).map { producer in
                    Threads.spawn {
                        for number in 0..<count {
                            while Clock.monotonic() < deadline {
                                let result = group.post(to: 0) { _ in
                                    if last[producer] != number - 1 { wrong.add() }
                                    last[producer] = number
                                }
                                if result.isPosted { break }
                                refused.add()
                                sched_yield()
                            }
                        }
                    }
                }
                for thread in threads { thread.join() }
                #expect(eventually { group.metrics[0].tasks == UInt64(producers * count) })
                #expect(group.metrics[0].depthMax <= 3)
            }
            #expect(wrong.value == 0)
            #expect(refused.value > 0, "the bound was never met")
            for producer in 0..<producers { #expect(last[producer] == count - 1) }
        }

        @Test("M3 what a shard posts to itself and to others counts as well")
        func shardsCountToo() throws {
            let results = Log<Int>()
            try withGroup(threads: 2, capacity: 7) { group in
                group.post(to: 1) { shard in
                    // Whether the task that is running takes a place itself is not promised.
                    results.add((0..<20).count { _ in shard.post { _ in }.isPosted })
                }
                #expect(eventually { results.count == 1 })
                #expect(results.all[0] == 7 || results.all[0] == 6)
                let hold = try group.holdOutsideTasks()
                #expect(
                    eventually {
                        group.post(to: 1) { shard in
                            results.add((0..<20).count { _ in shard.group.post(to: 0) { _ in }.isPosted })
                        }.isPosted
                    })
                #expect(eventually { results.count == 2 })
                #expect(results.all[1] == 7)
                hold.letGo()
            }
        }

        @Test("M3 a cancel gets through a full mailbox, and a stop too")
        func cancelAndStopNeedNoRoom() throws {
            let ran = Tally()
            let pipe = Pipe()
            let report = try withGroup(capacity: 5) { group in
                let isWatched = Flag()
                let result = group.watch(
                    pipe.reader, data: (), read: { _, _, _, _ in }, completed: { _, _ in isWatched.set() })
                #expect(eventually { isWatched.isSet })
                let hold = try group.holdOutsideTasks()
                #expect(fill(group, atMost: 10, ran) == 5)
                #expect(group.watch(pipe.writer, data: (), write: { _, _, _, _ in }).isFull)
                let isCancelled = Flag()
                #expect(result.watcher?.cancel { _ in isCancelled.set() } == .accepted)
                group.requestStop()
                hold.letGo()
                #expect(eventually { isCancelled.isSet })
                #expect(eventually { ran.value == 5 })
            }
            #expect(report.isComplete)
        }

        @Test("M3 cancels, which need no room, leave none behind either")
        func cancelsDoNotWidenTheBound() throws {
            let bound = 10
            let ran = Tally()
            let pipe = Pipe()
            var accepted = 0
            try withGroup(capacity: bound) { group in
                for round in 1...5 {
                    let answers = Tally()
                    #expect(
                        eventually {
                            guard let watcher = group.watch(pipe.reader, data: (), read: { _, _, _, _ in }).watcher
                            else {
                                return false
                            }
                            for _ in 0..<4 { watcher.cancel { _ in answers.add() } }
                            return true
                        })
                    #expect(eventually { answers.value == 4 })
                    let hold = try group.holdOutsideTasks()
                    let fitted = fill(group, atMost: bound + 50, ran)
                    accepted += fitted
                    hold.letGo()
                    try #require(fitted == bound, "after \(4 * round) cancels")
                    try #require(eventually { ran.value == accepted })
                }
            }
        }
    }
}
