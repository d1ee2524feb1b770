import CLinux
import Glibc
import LinuxEvent
import TestSupport
import Testing

extension LinuxEventSuite {
    @Suite("L A loop's life")
    struct LoopLifeTests {
        // MARK: L2, L3 run and stop

        @Test("L2 stop() ends run() after the whole turn: events, due timers and deferred blocks still run")
        func stopEndsAfterTheTurn() throws {
            let loop = try Loop()
            let calls = Calls()
            let first = Pipe.readable()
            let second = Pipe.readable()
            for pipe in [first, second] {
                try loop.watch(
                    pipe.reader,
                    read: { loop, descriptor, _ in
                        calls.add("event")
                        IO.drain(descriptor)
                        loop.stop()
                        loop.defer { _ in calls.add("deferred") }
                    })
            }
            loop.after(.zero) { _, _ in calls.add("timer") }
            try loop.run()
            #expect(calls.names == ["event", "event", "timer", "deferred", "deferred"])
            try expectQuiet(loop)
        }

        @Test("L2 stop() in the first callback loses no edge and no oneshot of its batch", arguments: [16, 2_000])
        func stopLosesNoEdge(count: Int) throws {
            let loop = try Loop()
            let source = Pipe.readable()
            let copies = (0..<count).map { _ in IO.copy(source.reader) }
            defer { for copy in copies { close(copy) } }
            var calls = [CInt: Int]()
            for (index, copy) in copies.enumerated() {
                try loop.watch(
                    copy,
                    read: { loop, descriptor, _ in
                        calls[descriptor, default: 0] += 1
                        loop.stop()
                    },
                    edgeTriggered: index % 3 != 1, oneshot: index % 3 != 0)
            }
            // A batch has a limit; what was beyond it is for later runs, and there is always something left to fetch.
            for _ in 0..<count where calls.count < count { try loop.run() }
            #expect(calls.count == count)
            #expect(calls.values.allSatisfy { $0 == 1 })
            try expectQuiet(loop)
            #expect(calls.values.allSatisfy { $0 == 1 })
        }

        @Test("L2 after a stop in a timer the loop does not wait again")
        func stopInTimer() throws {
            let loop = try Loop()
            let turnsBefore = loop.statistics.turns
            loop.after(.milliseconds(1)) { loop, _ in loop.stop() }
            let spent = try Spent.measure { try loop.run() }
            #expect(spent.wallMilliseconds < Effort.atMost(1_000))
            #expect(loop.statistics.turns - turnsBefore <= 2)
        }

        @Test("L2 stop() from a deferred block and from a wake ends run()")
        func stopElsewhere() throws {
            let loop = try Loop()
            loop.defer { $0.stop() }
            try loop.run()
            loop.onWake { $0.stop() }
            loop.waker.signal()
            try loop.run()
            try expectQuiet(loop)
        }

        @Test("L2 run() waits when there is nothing to watch")
        func runWaitsForNothing() throws {
            let loop = try Loop()
            let waker = loop.waker
            loop.onWake { $0.stop() }
            let thread = Threads.spawn {
                usleep(60_000)
                waker.signal()
            }
            let turns = loop.statistics.turns
            let spent = try Spent.measure { try loop.run() }
            thread.join()
            #expect(spent.wallMilliseconds >= 55)
            #expect(spent.cpuMilliseconds < Effort.atMost(10))
            #expect(loop.statistics.turns - turns < 5)
        }

        @Test("L2 runOnce does one turn and says what it did")
        func runOnceReports() throws {
            let loop = try Loop()
            let pipes = (0..<3).map { _ in Pipe.readable() }
            for pipe in pipes { try loop.watch(pipe.reader, read: { _, fd, _ in IO.drain(fd) }) }
            let events = try loop.runOnce(timeout: .zero)
            #expect(events.events == 3)
            #expect(events.timers == 0)
            #expect(events.deferred == 0)
            #expect(!events.stopped)

            loop.after(.zero) { _, _ in }
            loop.after(.nanoseconds(-5)) { _, _ in }
            loop.defer { _ in }
            loop.defer { _ in }
            loop.defer { _ in }
            let rest = try loop.runOnce(timeout: .seconds(1))
            #expect(rest.timers == 2)
            #expect(rest.deferred == 3)

            #expect(try loop.runOnce(timeout: .zero).isEmpty)

            // The loop's own events are not told: a wake, and the alarm of a timer. A counter's is the user's.
            loop.waker.signal()
            #expect(try loop.runOnce(timeout: .seconds(5)).isEmpty)
            loop.after(.milliseconds(5)) { _, _ in }
            let alarm = try loop.runOnce(timeout: .seconds(5))
            #expect(alarm.timers == 1 && alarm.events == 0)
            let event = try loop.eventfd { _, _ in }
            event.signaller.signal(3)
            #expect(try loop.runOnce(timeout: .seconds(5)).events == 1)
            // An event whose watcher has ended by then is told, too.
            pipes[0].write()
            try loop.wait(timeout: .zero)
            try loop.unwatch(pipes[0].reader)
            #expect(try loop.dispatch().events == 1)
        }

        @Test("L2 statistics count turns, events and fired timers")
        func statisticsCount() throws {
            let loop = try Loop()
            let pipe = Pipe.readable()
            try loop.watch(pipe.reader, read: { _, _, _ in })
            let before = loop.statistics
            #expect(before.watchers == 1)
            loop.after(.zero) { _, _ in }
            let far = loop.after(.seconds(3_600)) { _, _ in }
            #expect(loop.statistics.timersLive == 2)
            try pump(loop, 5)
            let after = loop.statistics
            #expect(after.turns == before.turns + 5)
            // The timer sets off the alarm at most once.
            #expect(after.events == before.events + 5 || after.events == before.events + 6)
            #expect(after.timersFired == before.timersFired + 1)
            #expect(after.timersLive == 1)
            far.cancel()
            #expect(loop.statistics.timersLive == 0)
            let more = (0..<3).map { _ in Pipe.readable() }
            for pipe in more { try loop.watch(pipe.reader, read: { _, _, _ in }) }
            try pump(loop)
            #expect(loop.statistics.events == after.events + 4)
        }

        @Test("L2 a failed wait throws")
        func failedWaitThrows() throws {
            let probe = try Probe()
            let epoll = try #require(probe.internals.first { $0.value == "anon_inode:[eventpoll]" }?.key)
            let spare = open("/dev/null", O_RDONLY | O_CLOEXEC)
            // The loop's own descriptor is taken away behind its back; what stands there is no epoll set.
            IO.place(spare, at: epoll)
            let error = failure { () throws(LoopError) in try probe.loop.runOnce(timeout: .zero) }
            #expect(error?.code == EINVAL)
            let again = failure { () throws(LoopError) in try probe.loop.run() }
            #expect(again?.code == EINVAL)
            close(spare)
        }

        @Test("L3 stop() before run() is honoured, and a later run() works")
        func stopBeforeRun() throws {
            let loop = try Loop()
            var ran = 0
            loop.stop()
            #expect(loop.isStopRequested)
            let turns = loop.statistics.turns
            let spent = try Spent.measure { try loop.run() }
            #expect(loop.statistics.turns == turns, "a turn was made")
            #expect(spent.wallMilliseconds < Effort.atMost(1_000))
            #expect(!loop.isStopRequested)
            loop.after(.milliseconds(20)) { loop, _ in
                ran += 1
                loop.stop()
            }
            let later = try Spent.measure { try loop.run() }
            #expect(later.wallMilliseconds >= 20)
            #expect(ran == 1)
        }

        @Test("L3 stop() before runOnce() lets it not wait and is spent by it")
        func stopBeforeRunOnce() throws {
            let loop = try Loop()
            loop.stop()
            loop.stop()
            let first = try Spent.measure {
                let turn = try loop.runOnce(timeout: .seconds(8))
                #expect(turn.stopped)
            }
            #expect(first.wallMilliseconds < 4_000)
            #expect(!loop.isStopRequested)
            let spent = try Spent.measure {
                let next = try loop.runOnce(timeout: .milliseconds(20))
                #expect(!next.stopped)
            }
            #expect(spent.wallMilliseconds >= 20)
        }

        @Test("L3 a stop() in a callback is told by runOnce and does not end a later run()")
        func stopInsideRunOnce() throws {
            let loop = try Loop()
            let pipe = Pipe.readable()
            try loop.watch(
                pipe.reader,
                read: { loop, fd, _ in
                    IO.drain(fd)
                    loop.stop()
                })
            #expect(try loop.runOnce(timeout: .seconds(5)).stopped)
            var late = false
            loop.after(.milliseconds(20)) { loop, _ in
                late = true
                loop.stop()
            }
            try loop.run()
            #expect(late)
        }

        // MARK: L4 nesting

        @Test("L4 a nested turn is refused with an error, wherever the callback stands")
        func nestedTurnRefused() throws {
            let loop = try Loop()
            var errors: [LoopError?] = []
            func nest(_ loop: Loop) {
                errors.append(failure { () throws(LoopError) in try loop.run() })
                errors.append(failure { () throws(LoopError) in try loop.runOnce(timeout: .zero) })
                errors.append(failure { () throws(LoopError) in try loop.wait(timeout: .zero) })
                errors.append(failure { () throws(LoopError) in try loop.dispatch() })
            }
            let pipe = Pipe.readable()
            let other = Pipe.readable()
            var otherRan = 0
            try loop.watch(
                pipe.reader,
                read: { loop, fd, _ in
                    IO.drain(fd)
                    nest(loop)
                })
            try loop.watch(
                other.reader,
                read: { _, fd, _ in
                    IO.drain(fd)
                    otherRan += 1
                })
            loop.after(.zero) { loop, _ in nest(loop) }
            loop.defer { loop in nest(loop) }
            loop.onWake { loop in nest(loop) }
            loop.waker.signal()
            try pump(loop, 3)
            #expect(errors.count == 16)
            #expect(errors.allSatisfy { $0 == .nestedTurn })
            #expect(otherRan == 1)
            try expectQuiet(loop)
        }

        @Test("L4 driving another loop from a callback is allowed")
        func otherLoopFromCallback() throws {
            let outer = try Loop()
            let inner = try Loop()
            let calls = Calls()
            let pipe = Pipe.readable()
            try inner.watch(pipe.reader, read: calls.draining("inner"))
            try outer.watch(
                inner.descriptor,
                read: { _, _, _ in
                    calls.add("outer")
                    #expect(throws: Never.self) { try inner.runOnce(timeout: .zero) }
                    // A loop made, used and dropped inside a callback is no trouble either.
                    #expect(throws: Never.self) {
                        let passing = try Loop()
                        passing.after(.zero) { loop, _ in
                            calls.add("passing")
                            loop.stop()
                        }
                        try passing.run()
                    }
                })
            try pump(outer, 3)
            #expect(calls.names == ["outer", "inner", "passing"])
            try expectQuiet(outer)
        }

        // MARK: L5 descriptors

        @Test("L5 a loop opens and closes its own descriptors only, and starts no thread")
        func ownsItsDescriptors() throws {
            let threads = Threads.count()
            let pipe = Pipe()
            try expectNoLeak {
                let before = OpenDescriptors.count()
                let loop = try Loop()
                let made = OpenDescriptors.count() - before
                #expect(made > 0)
                try loop.watch(pipe.reader, read: { _, _, _ in })
                try loop.watch(pipe.writer, write: { _, _, _ in })
                try pump(loop, 3)
                #expect(OpenDescriptors.count() - before == made, "watching must not duplicate")
                _ = try loop.descriptor
                loop.after(.milliseconds(1)) { _, _ in }
                try loop.eventfd { _, _ in }
                _ = loop.waker
                try loop.unwatch(pipe.reader)
                try pump(loop, 3)
                #expect(Threads.count() == threads)
            }
            #expect(IO.isOpen(pipe.reader))
            #expect(IO.isOpen(pipe.writer))
        }

        @Test("L5 every internal descriptor is close-on-exec and non-blocking")
        func internalFlags() throws {
            let before = OpenDescriptors.all()
            let loop = try Loop()
            _ = loop.waker
            _ = try loop.descriptor
            let event = try loop.eventfd { _, _ in }
            loop.after(.seconds(100)) { _, _ in }
            try pump(loop)
            let internals = OpenDescriptors.all().filter { before[$0.key] == nil }
            #expect(internals.count >= 4)
            #expect(internals[event.descriptor] == "anon_inode:[eventfd]")
            for (number, target) in internals {
                #expect(IO.isCloseOnExec(number), "\(target)")
                // An epoll descriptor is never read or written; the flag has no meaning there.
                if target != "anon_inode:[eventpoll]" { #expect(IO.isNonBlocking(number), "\(target)") }
            }
            #expect(internals.values.filter { $0 == "anon_inode:[timerfd]" }.count == 1)
        }

        @Test("L5 neither unwatch, nor close, nor the loop's end closes a user's descriptor")
        func usersDescriptorStaysOpen() throws {
            let pipes = (0..<3).map { _ in Pipe.readable() }
            do {
                let loop = try Loop()
                for pipe in pipes { try loop.watch(pipe.reader, read: { _, _, _ in }) }
                try loop.unwatch(pipes[0].reader)
                try pump(loop)
            }
            do {
                let loop = try Loop()
                try loop.watch(pipes[1].reader, read: { _, _, _ in })
                try loop.close()
            }
            for pipe in pipes { #expect(IO.read(pipe.reader) == 1) }
        }

        // MARK: L14 the end

        @Test("L14 close() releases watchers and timers, closes descriptors, and is idempotent")
        func closeEnds() throws {
            let pipe = Pipe.readable()
            let ended = Tracker.Count()
            try expectNoLeak {
                let loop = try Loop()
                try loop.watch(pipe.reader, read: { _, _, _ in })
                try loop.close()
                try loop.close()
            }
            try expectNoLeak {
                let loop = try Loop()
                try fill(loop, pipe, ended)
                _ = try loop.descriptor
                #expect(ended.ended == 0)
                try loop.close()
                #expect(ended.ended == 6)
            }
            #expect(ended.ended == 6)
        }

        /// One of everything that keeps a handler: six trackers.
        private func fill(_ loop: Loop, _ pipe: Pipe, _ ended: Tracker.Count) throws {
            let tracker = (0..<6).map { _ in Tracker(ended) }
            let (a, b, c, d, e, f) = (tracker[0], tracker[1], tracker[2], tracker[3], tracker[4], tracker[5])
            try loop.watch(pipe.reader, read: { _, _, _ in a.touch() })
            try loop.watch(pipe.writer, write: { _, _, _, data in data.touch() }, data: b)
            loop.after(.seconds(3_600)) { _, _ in c.touch() }
            loop.defer { _ in d.touch() }
            loop.onWake { _ in e.touch() }
            try loop.eventfd { _, _ in f.touch() }
        }

        @Test("L14 the loop's end without close() does the same")
        func dropEnds() throws {
            let pipe = Pipe.readable()
            let ended = Tracker.Count()
            var kept: Watcher?
            var timer: Timer?
            try expectNoLeak {
                let loop = try Loop()
                try fill(loop, pipe, ended)
                kept = loop.watcher(of: pipe.reader)
                timer = loop.after(.seconds(10)) { _, _ in }
                #expect(kept?.isActive == true)
            }
            #expect(ended.ended == 6)
            // Handles that outlive their loop are of the past, no more.
            let watcher = try #require(kept)
            #expect(!watcher.isActive)
            #expect(!watcher.cancel())
            #expect(try !watcher.rearm())
            #expect(try !watcher.enableRead())
            let old = try #require(timer)
            #expect(!old.isScheduled)
            #expect(!old.cancel())
        }

        @Test("L14 the last reference to a loop may go in a callback of it")
        func lastReferenceInCallback() throws {
            let ended = Tracker.Count()
            let pipe = Pipe.readable()
            try expectNoLeak {
                var loop: Loop? = try Loop()
                do {
                    let tracker = Tracker(ended)
                    try loop?.watch(
                        pipe.reader,
                        read: { inner, _, _ in
                            tracker.touch()
                            loop = nil
                            inner.stop()
                        })
                }
                try loop?.run()
                #expect(loop == nil)
            }
            #expect(ended.ended == 1)
            #expect(IO.isOpen(pipe.reader))
        }

        @Test("L14 after close() throwing calls throw .closed and the others do nothing")
        func afterClose() throws {
            let loop = try Loop()
            let pipe = Pipe.readable()
            let watcher = try loop.watch(pipe.reader, read: { _, _, _ in Issue.record("a callback after close()") })
            let timer = loop.after(.zero) { _, _ in Issue.record("a timer after close()") }
            try loop.close()
            #expect(failure { () throws(LoopError) in try loop.run() } == .closed)
            #expect(failure { () throws(LoopError) in try loop.runOnce(timeout: .zero) } == .closed)
            #expect(failure { () throws(LoopError) in try loop.wait(timeout: .zero) } == .closed)
            #expect(failure { () throws(LoopError) in try loop.dispatch() } == .closed)
            #expect(failure { () throws(LoopError) in try loop.watch(pipe.reader, read: { _, _, _ in }) } == .closed)
            #expect(failure { () throws(LoopError) in try loop.eventfd { _, _ in } } == .closed)
            #expect(failure { () throws(LoopError) in _ = try loop.descriptor } == .closed)
            #expect(try !loop.unwatch(pipe.reader))
            #expect(loop.watcher(of: pipe.reader) == nil)
            #expect(!watcher.isActive)
            #expect(!watcher.cancel())
            #expect(!timer.isScheduled)
            #expect(!timer.cancel())
            let late = loop.after(.zero) { _, _ in Issue.record("a timer after close()") }
            #expect(!late.isScheduled)
            if let timer = try? loop.every(.seconds(1), { _, _ in }) { #expect(!timer.isScheduled) }
            let ended = Tracker.Count()
            do {
                let tracker = Tracker(ended)
                loop.defer { _ in tracker.touch() }
            }
            loop.onWake(nil)
            loop.waker.signal()
            loop.stop()
            #expect(loop.statistics.watchers == 0)
            #expect(loop.statistics.timersLive == 0)
            #expect(ended.ended == 1, "a closed loop keeps a block")
        }

        @Test("L14 close() is refused inside a callback of its own, allowed inside another loop's")
        func closeInsideCallback() throws {
            let loop = try Loop()
            let other = try Loop()
            var errors: [LoopError?] = []
            let pipe = Pipe.readable()
            func attempt(_ loop: Loop) { errors.append(failure { () throws(LoopError) in try loop.close() }) }
            try loop.watch(
                pipe.reader,
                read: { loop, fd, _ in
                    IO.drain(fd)
                    attempt(loop)
                    #expect(throws: Never.self) { try other.close() }
                })
            loop.after(.zero) { loop, _ in attempt(loop) }
            loop.defer { loop in attempt(loop) }
            try pump(loop, 2)
            #expect(errors == [.insideCallback, .insideCallback, .insideCallback])
            #expect(failure { () throws(LoopError) in try other.run() } == .closed)
            try expectQuiet(loop)
        }

        // MARK: L15 a turn in two steps

        @Test("L15 a turn is events in the kernel's order, then timers, then deferred blocks")
        func orderOfATurn() throws {
            let loop = try Loop()
            let calls = Calls()
            let pipes = (0..<4).map { _ in Pipe() }
            for (index, pipe) in pipes.enumerated() { try loop.watch(pipe.reader, read: calls.draining("\(index)")) }
            try pump(loop)
            loop.defer { _ in calls.add("deferred") }
            loop.after(.zero) { _, _ in calls.add("timer") }
            for index in [2, 0, 3, 1] { pipes[index].write() }
            try pump(loop)
            #expect(calls.names == ["2", "0", "3", "1", "timer", "deferred"])
        }

        @Test("L15 wait() fetches and runs nothing, dispatch() runs what was fetched")
        func twoSteps() throws {
            let loop = try Loop()
            let calls = Calls()
            let pipes = (0..<3).map { _ in Pipe.readable() }
            for (index, pipe) in pipes.enumerated() { try loop.watch(pipe.reader, read: calls.draining("\(index)")) }
            loop.defer { _ in calls.add("deferred") }
            #expect(try loop.wait(timeout: .zero) == 3)
            #expect(calls.names.isEmpty)
            // What is built above may act in between.
            try loop.unwatch(pipes[1].reader)
            let turn = try loop.dispatch()
            #expect(calls.names == ["0", "2", "deferred"])
            #expect(turn.deferred == 1)
            try expectQuiet(loop)
            #expect(calls.names.count == 3)
        }

        @Test("L15 a fetched batch is dispatched once, whatever follows the fetching")
        func fetchedBatch() throws {
            let loop = try Loop()
            let calls = Calls()
            let pipe = Pipe.readable()
            try loop.watch(pipe.reader, read: calls.handler("read"), edgeTriggered: true)
            try loop.wait(timeout: .zero)
            var again = 0
            let second = try Spent.measure { again = try loop.wait(timeout: .seconds(30)) }
            #expect(again == 1)
            #expect(second.wallMilliseconds < Effort.atMost(10_000))
            #expect(calls.names.isEmpty)
            loop.after(.milliseconds(1)) { loop, _ in loop.stop() }
            try loop.run()
            #expect(calls.names == ["read"])
            pipe.write()
            try loop.wait(timeout: .zero)
            #expect(try loop.runOnce(timeout: .zero).events == 1)
            #expect(calls.names == ["read", "read"])
            pipe.write()
            try loop.wait(timeout: .zero)
            try loop.close()
            #expect(failure { () throws(LoopError) in try loop.dispatch() } == .closed)
            #expect(calls.names == ["read", "read"])
        }

        @Test("L15 what happens between wait() and dispatch() is as if in the turn")
        func betweenTheSteps() throws {
            let loop = try Loop()
            let calls = Calls()
            let first = Pipe.readable()
            let second = Pipe.readable()
            let third = Pipe.readable()
            let oneshot = try loop.watch(first.reader, read: calls.handler("oneshot"), oneshot: true)
            let paused = try loop.watch(second.reader, read: calls.handler("paused"))
            try loop.wait(timeout: .zero)
            try paused.disableRead()
            try loop.watch(third.reader, read: calls.draining("third"))
            loop.defer { _ in calls.add("deferred") }
            loop.after(.zero) { _, _ in calls.add("timer") }
            try loop.dispatch()
            #expect(calls.names == ["oneshot", "timer", "deferred"] || calls.names == ["oneshot", "deferred"])
            #expect(!oneshot.isArmed)
            _ = try pump(loop, milliseconds: 1_000) { calls.names.count == 4 }
            #expect(calls.names.sorted() == ["deferred", "oneshot", "third", "timer"])
            try expectQuiet(loop)
        }

        @Test("L15 wait() keeps its limit, and an empty batch is dispatched without harm")
        func waitTimes() throws {
            let loop = try Loop()
            let pipe = Pipe()
            let calls = Calls()
            try loop.watch(pipe.reader, read: calls.handler("read"))
            let spent = try Spent.measure { try loop.wait(timeout: .milliseconds(20)) }
            #expect(spent.wallMilliseconds >= 20)
            #expect(try loop.dispatch().isEmpty)
            loop.after(.zero) { _, _ in calls.add("timer") }
            try loop.wait(timeout: .seconds(30))
            let turn = try loop.dispatch()
            #expect(turn.timers == 1)
            #expect(calls.names == ["timer"])
        }
    }
}
