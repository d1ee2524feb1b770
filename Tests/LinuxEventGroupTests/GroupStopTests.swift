import Glibc
import LinuxEvent
import LinuxEventGroup
import Synchronization
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("G9 Stop")
    struct GroupStopTests {
        // MARK: Who may ask

        enum Asker: CaseIterable, CustomTestStringConvertible {
            case outside, task, timer, event, loop, loopInTask, otherGroup
            var testDescription: String { "\(self)" }
        }

        @Test("G9 a stop may be asked for anywhere, and all shards end", arguments: Asker.allCases)
        func askers(asker: Asker) throws {
            try expectNothingLeft {
                let pipe = Pipe()
                let group = try LoopGroup(threads: 3, name: Tested.name)
                var other: LoopGroup?
                switch asker {
                case .outside: Threads.runElsewhere { group.requestStop() }
                case .task: group.post(to: 1) { shard in shard.group.requestStop() }
                case .timer:
                    group.post(to: 1) { shard in
                        shard.loop.after(.milliseconds(1)) { _, _ in Shard.current?.group.requestStop() }
                    }
                case .event:
                    _ = group.watch(pipe.reader, data: (), read: { shard, _, _, _ in shard.group.requestStop() })
                    pipe.write()
                case .loop:
                    group.post(to: 2) { shard in shard.loop.after(.milliseconds(1)) { loop, _ in loop.stop() } }
                case .loopInTask: group.post(to: 2) { shard in shard.loop.stop() }
                case .otherGroup:
                    other = try LoopGroup(threads: 1, name: Tested.name)
                    other?.post(to: 0) { _ in group.requestStop() }
                }
                let report = try group.wait()
                #expect(report.isComplete, "\(report)")
                #expect(report.shards.map(\.shard) == [0, 1, 2])
                #expect(report.shards.allSatisfy { $0.stage == .stopped && $0.failure == nil })
                _ = try other?.stop(deadline: .seconds(10))
            }
        }

        @Test("G9 a start block may ask for the stop: the group starts, and ends", arguments: [false, true])
        func startBlockAsks(byLoop: Bool) throws {
            try expectNothingLeft {
                let group = try LoopGroup(threads: 3, name: Tested.name) { shard in
                    guard shard.index == 1 else { return }
                    if byLoop { shard.loop.stop() } else { shard.group.requestStop() }
                }
                #expect(try group.wait().isComplete)
            }
        }

        @Test("G9 a stop may be asked for any number of times, and waited for by several threads at once")
        func again() throws {
            try expectNothingLeft {
                let group = try LoopGroup(threads: 2, name: Tested.name)
                let complete = Tally()
                let waiters = (0..<3).map { number in
                    Threads.spawn {
                        let report = number == 0 ? try? group.stop(deadline: .seconds(10)) : try? group.wait()
                        if report?.isComplete == true { complete.add() }
                    }
                }
                for _ in 0..<10 { group.requestStop() }
                for waiter in waiters { waiter.join() }
                #expect(complete.value == 3)
                for _ in 0..<3 {
                    group.requestStop()
                    #expect(try group.stop(deadline: .zero).isComplete)
                    #expect(try group.wait().isComplete)
                }
            }
        }

        @Test("G9 wait() blocks until somebody else has stopped the group")
        func waitBlocks() throws {
            try expectNothingLeft {
                let group = try LoopGroup(threads: 2, name: Tested.name)
                let isWaiting = Flag()
                let isOver = Flag()
                let waiter = Threads.spawn {
                    isWaiting.set()
                    _ = try? group.wait()
                    isOver.set()
                }
                #expect(eventually { isWaiting.isSet })
                usleep(20_000)
                #expect(!isOver.isSet)
                group.requestStop()
                waiter.join()
                #expect(isOver.isSet)
            }
        }

        @Test("G9 a shard cannot wait for the group that it belongs to, only for others")
        func onAShard() throws {
            let answers = Log<String>()
            try withGroup(threads: 2) { group in
                let other = try LoopGroup(threads: 1, name: Tested.name)
                let ask: @Sendable (Shard, LoopGroup) -> Void = { shard, group in
                    do throws(LoopGroupError) {
                        let report = try group.stop(deadline: .seconds(10))
                        answers.add(report.isComplete ? "stopped" : "missed")
                    } catch {
                        if case .calledOnShard = error { answers.add("refused") } else { answers.add("\(error)") }
                    }
                    do throws(LoopGroupError) {
                        try group.wait()
                        answers.add("waited")
                    } catch {
                        if case .calledOnShard = error { answers.add("refused") } else { answers.add("\(error)") }
                    }
                }
                group.post(to: 0) { shard in
                    ask(shard, shard.group)
                    ask(shard, other)
                }
                #expect(eventually { answers.count == 4 })
                // It has asked for nothing: the group goes on.
                #expect(group.settle(1))
            }
            #expect(answers.all == ["refused", "refused", "stopped", "waited"])
        }

        // MARK: What becomes of tasks

        @Test("G9 every task that was accepted before a stop runs, while threads never cease to post")
        func acceptedTasksRun() throws {
            let cycles = Rounds.usually(100, long: 500)
            var random = SeededGenerator()
            let seed = random.seed
            for cycle in 0..<cycles {
                let accepted = Tally()
                let ran = Tally()
                let refused = Tally()
                let isRunning = Shared(Atomic<Int>(0))
                let shards = 1 + cycle % 3
                let fuse = Int(random.next() % 300_000)
                try expectNothingLeft {
                    let group = try LoopGroup(threads: shards, name: Tested.name)
                    let threads = (0..<4).map { number in
                        Threads.spawn {
                            isRunning.value.add(1, ordering: .releasing)
                            for post in 0... {
                                let result = group.post(to: (post + number) % shards) { shard in
                                    ran.add()
                                    guard post % 64 == 0 else { return }
                                    // What a task posts is accepted or refused like anybody's.
                                    if shard.post({ _ in ran.add() }).isPosted { accepted.add() }
                                    let next = (shard.index + 1) % shards
                                    if shard.group.post(to: next, { _ in ran.add() }).isPosted { accepted.add() }
                                }
                                if result.isPosted { accepted.add() } else { refused.add() }
                                if refused.value > 40 { return }
                            }
                        }
                    }
                    while isRunning.value.load(ordering: .acquiring) < 4 { sched_yield() }
                    spin(nanoseconds: fuse)
                    let report: StopReport
                    if cycle % 2 == 0 {
                        report = try group.stop(deadline: .seconds(20))
                    } else {
                        group.requestStop()
                        report = try group.wait()
                    }
                    #expect(report.isComplete, "cycle \(cycle): \(report)")
                    for thread in threads { thread.join() }
                }
                #expect(ran.value == accepted.value, "cycle \(cycle), seed \(seed)")
                if ran.value != accepted.value { break }
            }
        }

        @Test("G9 from the request on posts are refused, and what waited still runs, and is counted")
        func drained() throws {
            let ran = Tally()
            let results = Log<Bool>()
            var report: StopReport?
            report = try withGroup(threads: 2) { group in
                let hold = Hold()
                group.post(to: 0) { _ in hold.hold() }
                #expect(hold.waitUntilHeld())
                for number in 0..<3_000 {
                    group.post(to: 0) { shard in
                        ran.add()
                        if number == 7 {
                            results.add(shard.post { _ in results.add(true) }.isPosted)
                            results.add(shard.group.post(to: 1) { _ in results.add(true) }.isPosted)
                        }
                    }
                }
                group.requestStop()
                #expect(group.post(to: 0) { _ in results.add(true) }.isClosed)
                #expect(group.post(to: 1) { _ in results.add(true) }.isClosed)
                hold.letGo()
            }
            #expect(ran.value == 3_000)
            #expect(results.all == [false, false])
            #expect(report?.shards[0].tasksDrained == 3_000)
            #expect(report?.shards[1].tasksDrained == 0)
        }

        @Test("G9 what the last tasks put off to the end of the turn still runs")
        func deferredByTheLastTasks() throws {
            let ran = Tally()
            try withGroup { group in
                let hold = Hold()
                group.post(to: 0) { _ in hold.hold() }
                #expect(hold.waitUntilHeld())
                for _ in 0..<10 { group.post(to: 0) { shard in shard.loop.defer { _ in ran.add() } } }
                group.requestStop()
                hold.letGo()
            }
            #expect(ran.value == 10)
        }

        @Test("G9 after the end a reference refuses, and gives the task back")
        func afterTheEnd() throws {
            try expectNothingLeft {
                let group = try LoopGroup(threads: 2, name: Tested.name)
                let reference = group[1]
                #expect(try group.stop(deadline: .seconds(10)).isComplete)
                let deaths = Deaths()
                do {
                    let mortal = Mortal(deaths)
                    #expect(reference.post { _ in mortal.touch() }.isClosed)
                    #expect(deaths.count == 0)
                }
                #expect(deaths.count == 1)
                #expect(group.metrics.count == 2)
            }
        }

        // MARK: What was still open

        @Test("G9 the report counts watchers, whose descriptors stay open and the user's")
        func watchersOpen() throws {
            let pipes = (0..<5).map { _ in Pipe() }
            let report = try withGroup { group in
                let answers = Tally()
                for pipe in pipes {
                    _ = group.watch(
                        pipe.reader, data: (), read: { _, _, _, _ in }, completed: { _, _ in answers.add() })
                }
                #expect(eventually { answers.value == 5 })
            }
            #expect(report.shards[0].watchersOpen == 5)
            #expect("\(report)".contains("5 watchers open"))
            #expect(pipes.allSatisfy { IO.isOpen($0.reader) })
        }

        @Test("G9 a group that is dropped without a stop runs on, and can be stopped from inside")
        func dropped() throws {
            try expectNothingLeft {
                let ran = Tally()
                let reference = try runOn()
                for _ in 0..<10 { #expect(reference.post { _ in ran.add() }.isPosted) }
                #expect(eventually { ran.value == 10 })
                #expect(Tested.threads.count == 2)
                reference.post { shard in shard.group.requestStop() }
                #expect(eventually { Tested.threads.isEmpty })
                #expect(reference.post { _ in }.isClosed)
            }
        }

        private func runOn() throws -> ShardReference { try LoopGroup(threads: 2, name: Tested.name)[0] }

        @Test("G9 groups that nobody waits for leave no memory of their threads behind")
        func droppedAndEnded() throws {
            func cycle() throws {
                let reference = try runOn()
                reference.post { shard in shard.loop.stop() }
                #expect(eventually { Tested.threads.isEmpty })
            }
            try expectNothingLeft {
                for _ in 0..<3 { try cycle() }
                let before = addressSpace()
                // A stack takes 8 MB of addresses; the C library keeps some for the next threads.
                for _ in 0..<30 { try cycle() }
                #expect(addressSpace() - before < 100 << 20)
            }
        }

        /// Bytes of the process's addresses that are in use.
        private func addressSpace() -> Int {
            Int(Files.text("/proc/self/statm").split(separator: " ").first ?? "").map { $0 * Int(getpagesize()) } ?? 0
        }

        // MARK: The deadline

        @Test("G9 a shard that is stuck is named, with its stage and what it held, and all others have stopped")
        func stuckInATask() throws {
            let ran = Tally()
            let deaths = Deaths()
            let hold = Hold()
            var home: UInt = 0
            try expectNothingLeft {
                let group = try LoopGroup(threads: 3, name: Tested.name)
                home = group.thread(of: 1)
                let pipe = group.pipes(home: 1)[0]
                let watcher = group.watch(pipe.reader, data: (), read: { _, _, _, _ in }).watcher
                #expect(group.settle(1))
                // A turn later, the metrics know of the watcher.
                #expect(group.settle(1))
                group.post(to: 1) { _ in hold.hold() }
                #expect(hold.waitUntilHeld())
                for shard in 0..<3 {
                    for _ in 0..<7 {
                        let mortal = Mortal(deaths)
                        group.post(to: shard) { _ in
                            mortal.touch()
                            ran.add()
                        }
                    }
                }
                let spent = try Spent.measure {
                    let report = try group.stop(deadline: .milliseconds(150))
                    #expect(!report.isComplete)
                    #expect(report.shards.map(\.stage) == [.stopped, .running, .stopped])
                    #expect(report.shards.map(\.tasksAbandoned) == [0, 7, 0])
                    #expect(report.shards.map(\.watchersOpen) == [0, 1, 0])
                    #expect(report.duration >= .milliseconds(150))
                    #expect("\(report)".contains("shard 1: running"))
                    #expect("\(report)".contains("7 tasks"))
                }
                #expect(spent.wallMilliseconds >= 150)
                #expect(spent.wallMilliseconds < 10_000)
                #expect(ran.value == 14)
                #expect(deaths.count == 14)
                #expect(group.post(to: 1) { _ in }.isClosed)
                #expect(watcher?.cancel() == .abandoned)

                let isOver = Flag()
                let waiter = Threads.spawn {
                    _ = try? group.wait()
                    isOver.set()
                }
                usleep(10_000)
                #expect(!isOver.isSet)
                hold.letGo()
                waiter.join()
                let report = try group.wait()
                #expect(report.shards.map(\.stage) == [.stopped, .stopped, .stopped])
                // They did not run, and that stays in the books.
                #expect(report.shards.map(\.tasksAbandoned) == [0, 7, 0])
                #expect(!report.isComplete)
            }
            #expect(ran.value == 14)
            #expect(deaths.count == 21)
            #expect(deaths.elsewhere(than: home) == 14)
        }

        @Test("G9 of a batch in which a task is stuck, what comes after it counts as held and does not run")
        func stuckInABatch() throws {
            try stuckMidway { group, work in
                { mortal in group.post(to: 0) { _ in work(mortal) } }
            }
        }

        @Test("G9 M5 of a row of values in which one is stuck, what comes after it counts as held and does not run")
        func stuckInARow() throws {
            try stuckMidway { group, work in
                let channel = group.channel(of: Mortal.self) { _, mortal in work(mortal) }
                return { mortal in channel.send(mortal, to: 0) }
            }
        }

        /// Ten are taken at once, and the fifth of them does not return before the stop's deadline. `sender` makes what
        /// sends one that does the work it is given.
        private func stuckMidway(
            _ sender: (_ group: LoopGroup, _ work: @escaping @Sendable (Mortal) -> Void) -> (Mortal) -> Void
        ) throws {
            let ran = Tally()
            let deaths = Deaths()
            var home: UInt = 0
            try expectNothingLeft {
                let group = try LoopGroup(threads: 1, name: Tested.name)
                home = group.thread(of: 0)
                let first = Hold()
                let second = Hold()
                let send = sender(group) { mortal in
                    mortal.touch()
                    ran.add()
                    if ran.value == 5 { second.hold() }
                }
                group.post(to: 0) { _ in first.hold() }
                #expect(first.waitUntilHeld())
                // All of these are taken at once when the first is through.
                for _ in 0..<10 { send(Mortal(deaths)) }
                first.letGo()
                #expect(second.waitUntilHeld())
                for _ in 0..<3 { send(Mortal(deaths)) }
                let report = try group.stop(deadline: .milliseconds(50))
                #expect(report.shards[0].stage == .running)
                #expect(report.shards[0].tasksAbandoned == 8)
                second.letGo()
                _ = try group.wait()
            }
            #expect(ran.value == 5)
            #expect(deaths.count == 13)
            #expect(deaths.elsewhere(than: home) == 0)
        }

        @Test("G9 a shard that is stuck while it runs its last tasks is named with that stage")
        func stuckWhileDraining() throws {
            let ran = Tally()
            let deaths = Deaths()
            try expectNothingLeft {
                let group = try LoopGroup(threads: 1, name: Tested.name)
                let first = Hold()
                let second = Hold()
                group.post(to: 0) { _ in first.hold() }
                #expect(first.waitUntilHeld())
                for number in 0..<10 {
                    let mortal = Mortal(deaths)
                    group.post(to: 0) { _ in
                        mortal.touch()
                        ran.add()
                        if number == 2 { second.hold() }
                    }
                }
                group.requestStop()
                first.letGo()
                #expect(second.waitUntilHeld())
                let report = try group.stop(deadline: .milliseconds(50))
                #expect(report.shards[0].stage == .draining)
                #expect(report.shards[0].tasksAbandoned == 7)
                second.letGo()
                _ = try group.wait()
            }
            #expect(ran.value == 3)
            #expect(deaths.count == 10)
        }

        @Test("G9 a shard that is stuck in a release is named with that stage")
        func stuckWhileClosing() throws {
            try expectNothingLeft {
                let hold = Hold()
                let deaths = Deaths()
                let group = try LoopGroup(threads: 2, name: Tested.name) { shard in
                    guard shard.index == 1 else { return }
                    let mortal = Mortal(deaths) { hold.hold() }
                    shard.loop.after(.seconds(60)) { _, _ in mortal.touch() }
                }
                let report = try group.stop(deadline: .milliseconds(50))
                #expect(report.shards.map(\.stage) == [.stopped, .closing])
                #expect(report.shards.map(\.tasksAbandoned) == [0, 0])
                #expect(!report.isComplete)
                hold.letGo()
                #expect(try group.wait().isComplete)
            }
        }

        @Test("G9 a second stop of a stuck group counts what it held once, and loses none of it")
        func stopAgainWhileStuck() throws {
            let ran = Tally()
            let deaths = Deaths()
            var home: UInt = 0
            try expectNothingLeft {
                let hold = Hold()
                let group = try LoopGroup(threads: 2, name: Tested.name)
                home = group.thread(of: 0)
                group.post(to: 0) { shard in shard.loop.after(.zero) { _, _ in hold.hold() } }
                #expect(hold.waitUntilHeld())
                for _ in 0..<6 {
                    let mortal = Mortal(deaths)
                    group.post(to: 0) { _ in
                        mortal.touch()
                        ran.add()
                    }
                }
                for _ in 0..<3 {
                    let report = try group.stop(deadline: .milliseconds(30))
                    #expect(report.shards[0].stage == .running)
                    #expect(report.shards[0].tasksAbandoned == 6)
                }
                #expect(deaths.count == 0)
                hold.letGo()
                #expect(try group.wait().shards[0].tasksAbandoned == 6)
            }
            #expect(ran.value == 0)
            #expect(deaths.count == 6)
            #expect(deaths.elsewhere(than: home) == 0)
        }

        @Test("G9 a deadline that passes while shards work: what ran and what was abandoned add up, and all of it ends")
        func deadlineInFullSwing() throws {
            let cycles = Rounds.usually(100, long: 5_000)
            var random = SeededGenerator()
            let seed = random.seed
            var missed = 0
            for cycle in 0..<cycles {
                let shards = 1 + cycle % 2
                let accepted = Tally()
                let ran = Tally()
                let deaths = Deaths()
                var homes: [UInt] = []
                var abandoned: UInt64 = 0
                try expectNothingLeft {
                    let group = try LoopGroup(threads: shards, name: Tested.name)
                    homes = (0..<shards).map { group.thread(of: $0) }
                    let post: @Sendable () -> Bool = {
                        var isPosted = true
                        for shard in 0..<shards {
                            let run: @Sendable () -> Void = {
                                ran.add()
                                spin(nanoseconds: 1_500)
                            }
                            isPosted = group.post(to: shard, ownerTask(of: Mortal(deaths), run)).isPosted
                            if isPosted { accepted.add() }
                        }
                        return isPosted
                    }
                    for _ in 0..<500 { _ = post() }
                    let threads = (0..<2).map { _ in Threads.spawn { while post() { spin(nanoseconds: 500) } } }
                    let report = try group.stop(deadline: .microseconds(Int(random.next() % 600)))
                    if !report.isComplete { missed += 1 }
                    for thread in threads { thread.join() }
                    let last = try group.wait()
                    abandoned = last.shards.reduce(0) { $0 + $1.tasksAbandoned }
                }
                #expect(ran.value + Int(abandoned) == accepted.value, "cycle \(cycle), seed \(seed)")
                // What was refused ended with its poster.
                let atHome = deaths.count - deaths.outside(homes)
                #expect(atHome == accepted.value, "cycle \(cycle), seed \(seed)")
                if atHome != accepted.value || ran.value + Int(abandoned) != accepted.value { return }
            }
            #expect(missed > cycles / 20, "hardly any deadline was missed: \(missed) of \(cycles)")
        }

        @Test("G9 a stop with a deadline in the past asks and reports, and the group ends all the same")
        func noTime() throws {
            for deadline in [Duration.zero, .seconds(-5)] {
                try expectNothingLeft {
                    let group = try LoopGroup(threads: 3, name: Tested.name)
                    let report = try group.stop(deadline: deadline)
                    #expect(report.shards.count == 3)
                    let last = try group.wait()
                    #expect(last.shards.allSatisfy { $0.stage == .stopped && $0.tasksAbandoned == 0 })
                }
            }
        }

        @Test("G9 a deadline centuries away is no deadline")
        func allTheTime() throws {
            try expectNothingLeft {
                let group = try LoopGroup(threads: 2, name: Tested.name)
                #expect(try group.stop(deadline: .seconds(Int64.max)).isComplete)
            }
        }
    }
}
