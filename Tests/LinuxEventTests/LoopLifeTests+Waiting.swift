import CLinux
import Glibc
import LinuxEvent
import TestSupport
import Testing

extension LinuxEventSuite.LoopLifeTests {
    // MARK: L6 a foreign loop

    func isReadable(_ descriptor: CInt) -> Bool { Readiness.of(descriptor).contains(.readable) }

    @Test("L6 loop.descriptor is readable exactly while a turn has work")
    func descriptorTellsWork() throws {
        let loop = try Loop()
        let descriptor = try loop.descriptor
        #expect(!isReadable(descriptor))

        let pipe = Pipe()
        try loop.watch(pipe.reader, read: { _, fd, _ in IO.drain(fd) })
        #expect(!isReadable(descriptor))
        pipe.write()
        #expect(isReadable(descriptor))
        try pump(loop)
        #expect(!isReadable(descriptor))

        loop.waker.signal()
        #expect(isReadable(descriptor))
        try pump(loop)
        #expect(!isReadable(descriptor))
        #expect(try loop.descriptor == descriptor)
    }

    @Test("L6 loop.descriptor becomes readable when a timer is due, not before")
    func descriptorTellsTimers() throws {
        let loop = try Loop()
        let descriptor = try loop.descriptor
        var fired = 0
        let timer = loop.after(.milliseconds(30)) { _, _ in fired += 1 }
        let deadline = try #require(timer.deadline)
        try pump(loop)
        let ready = Readiness.of(descriptor, waiting: 2_000)
        #expect(ready.contains(.readable))
        #expect(Clock.monotonic() >= deadline.nanoseconds)
        try pump(loop)
        #expect(fired == 1)
        #expect(!isReadable(descriptor))

        // Also where no turn comes between the call and the wait of the foreign loop.
        loop.after(.milliseconds(20)) { _, _ in fired += 1 }
        #expect(Readiness.of(descriptor, waiting: 2_000).contains(.readable))
        try pump(loop)
        #expect(fired == 2)
        loop.after(.zero) { _, _ in fired += 1 }
        #expect(Readiness.of(descriptor, waiting: Effort.atOnce).contains(.readable))
        try pump(loop)
        #expect(fired == 3)
        #expect(!isReadable(descriptor))
        // A deadline of zero must not disarm the alarm instead (T8).
        loop.at(Instant(nanoseconds: 0)) { _, _ in fired += 1 }
        #expect(Readiness.of(descriptor, waiting: Effort.atOnce).contains(.readable))
        try pump(loop)
        #expect(fired == 4)
        #expect(!isReadable(descriptor))
        // A new time that is earlier, likewise.
        let far = loop.after(.seconds(3600)) { _, _ in fired += 1 }
        #expect(!isReadable(descriptor))
        #expect(loop.reschedule(far, after: .milliseconds(10)))
        #expect(Readiness.of(descriptor, waiting: 2_000).contains(.readable))
        try pump(loop)
        #expect(fired == 5)
    }

    @Test(
        "L6 loop.descriptor becomes readable for timers that a turn has made",
        arguments: ["event", "timer", "deferred"])
    func descriptorTellsTimersOfTurns(place: String) throws {
        let loop = try Loop()
        let descriptor = try loop.descriptor
        let pipe = Pipe.readable()
        var deadlines: [UInt64] = []
        var fired = 0
        func schedule(_ loop: Loop) {
            // The later one comes first.
            for milliseconds in [30, 15] {
                let timer = loop.after(.milliseconds(milliseconds)) { _, _ in fired += 1 }
                deadlines.append(timer.deadline?.nanoseconds ?? 0)
            }
        }
        switch place {
        case "event":
            try loop.watch(
                pipe.reader,
                read: { loop, fd, _ in
                    IO.drain(fd)
                    schedule(loop)
                })
        case "timer": loop.after(.zero) { loop, _ in schedule(loop) }
        default: loop.defer { loop in schedule(loop) }
        }
        try pump(loop)
        #expect(!isReadable(descriptor))
        // Both may come due before this thread gets to look.
        for (count, deadline) in deadlines.sorted().enumerated() where fired <= count {
            var isEarly: Bool
            repeat {
                #expect(Readiness.of(descriptor, waiting: 2_000).contains(.readable))
                isEarly = Clock.monotonic() < deadline
                // In an emulated machine the alarm of the timer before may come after that timer. Contract T1.
                #expect(!isEarly || Effort.slowness > 1)
                try pump(loop)
            } while isEarly && fired <= count
            #expect(fired > count)
        }
        #expect(!isReadable(descriptor))
    }

    @Test("L6 loop.descriptor is readable for work that only user space knows of")
    func descriptorTellsDeferred() throws {
        let loop = try Loop()
        let descriptor = try loop.descriptor
        let calls = Calls()
        loop.defer { loop in
            calls.add("first")
            loop.defer { _ in calls.add("second") }
        }
        #expect(isReadable(descriptor))
        try pump(loop)
        #expect(calls.names == ["first"])
        #expect(isReadable(descriptor))
        try pump(loop)
        #expect(calls.names == ["first", "second"])
        #expect(!isReadable(descriptor))
    }

    @Test("L6 a pending stop() is work")
    func descriptorTellsStop() throws {
        let loop = try Loop()
        let descriptor = try loop.descriptor
        loop.stop()
        #expect(isReadable(descriptor))
        #expect(try loop.runOnce(timeout: .zero).stopped)
        #expect(!isReadable(descriptor))
    }

    @Test("L6 a foreign loop that turns while the descriptor is readable leaves nothing behind")
    func leftoversAreTold() throws {
        let loop = try Loop()
        let descriptor = try loop.descriptor
        let count = 20_000
        var timers = 0
        var deferred = 0
        let ended = Tracker.Count()
        for _ in 0..<count {
            loop.after(.zero) { _, _ in timers += 1 }
            loop.defer { _ in deferred += 1 }
        }
        let source = Pipe()
        // The kernel allows one file 500 paths to a nested set.
        let copies = (0..<400).map { _ in IO.copy(source.reader) }
        defer { for copy in copies { close(copy) } }
        for copy in copies {
            let tracker = Tracker(ended)
            try loop.watch(copy, read: { _, _, _ in tracker.touch() })
        }
        loop.defer { loop in
            for copy in copies { #expect(throws: Never.self) { try loop.unwatch(copy) } }
        }
        var turns = 0
        while Readiness.of(descriptor).contains(.readable), turns < 10 * count {
            try loop.runOnce(timeout: .zero)
            turns += 1
        }
        #expect(timers == count)
        #expect(deferred == count)
        #expect(ended.ended == copies.count)
        try expectQuiet(loop)
    }

    @Test("L6 handlers that wait for their release are work, also where they were ended outside of a turn")
    func releasesAreTold() throws {
        let loop = try Loop()
        let descriptor = try loop.descriptor
        let ended = Tracker.Count()
        let source = Pipe()
        let count = 6_000
        // The kernel allows one file 500 paths to a nested set.
        let pipes = (0..<16).map { _ in Pipe() }
        let copies = (0..<count).map { IO.copy(pipes[$0 % 16].reader) }
        defer { for copy in copies { close(copy) } }
        for copy in copies {
            let tracker = Tracker(ended)
            try loop.watch(copy, read: { _, _, _ in tracker.touch() })
        }
        do {
            let last = Tracker(ended) { for copy in copies { #expect((try? loop.unwatch(copy)) == true) } }
            try loop.watch(source.reader, read: { _, _, _ in last.touch() })
        }
        #expect(!isReadable(descriptor))
        #expect(try loop.unwatch(source.reader))
        #expect(ended.ended > 1 && ended.ended < count, "the release has a budget")
        #expect(isReadable(descriptor))
        for _ in 0..<10 where isReadable(descriptor) { try loop.runOnce(timeout: .zero) }
        #expect(ended.ended == count + 1)
        #expect(!isReadable(descriptor))
        try expectQuiet(loop)
    }

    @Test("L6 what there was to do before the descriptor was asked for is told")
    func descriptorTellsWhatWasThere() throws {
        for work in ["deferred", "stop", "timer", "event"] {
            let loop = try Loop()
            let pipe = Pipe.readable()
            let calls = Calls()
            switch work {
            case "deferred": loop.defer { _ in calls.add("ran") }
            case "stop": loop.stop()
            case "timer": loop.after(.milliseconds(5)) { _, _ in calls.add("ran") }
            default: try loop.watch(pipe.reader, read: calls.draining("ran"))
            }
            let descriptor = try loop.descriptor
            #expect(Readiness.of(descriptor, waiting: 1_000).contains(.readable), "\(work)")
            let turn = try loop.runOnce(timeout: .zero)
            #expect(turn.stopped == (work == "stop") && calls.names.count == (work == "stop" ? 0 : 1))
            #expect(!isReadable(descriptor))
        }
    }

    @Test("L6 interest changed inside a turn is in force when the turn has ended")
    func flushEndsTheTurn() throws {
        let loop = try Loop()
        let descriptor = try loop.descriptor
        let pair = Sockets.unixPair()
        let calls = Calls()
        IO.write(pair.far)
        let watcher = try loop.watch(
            pair.near,
            read: { _, fd, watcher in
                IO.drain(fd)
                calls.add("read")
                #expect(throws: Never.self) { try watcher.enableWrite() }
            },
            write: { _, _, watcher in
                calls.add("write")
                #expect(throws: Never.self) { try watcher.disableWrite() }
            })
        try watcher.disableWrite()
        try pump(loop)
        #expect(calls.names == ["read"])
        #expect(isReadable(descriptor))
        try pump(loop)
        #expect(calls.names == ["read", "write"])
        #expect(!isReadable(descriptor))
        try expectQuiet(loop)
    }

    @Test("L6 another loop drives this one through its descriptor")
    func drivenByAnotherLoop() throws {
        let outer = try Loop()
        let inner = try Loop()
        let calls = Calls()
        let pipe = Pipe()
        try inner.watch(pipe.reader, read: calls.draining("event"))
        try outer.watch(
            inner.descriptor,
            read: { _, _, _ in
                #expect(throws: Never.self) { try inner.runOnce(timeout: .zero) }
            })
        inner.after(.milliseconds(10)) { _, _ in calls.add("timer") }
        inner.defer { _ in calls.add("deferred") }
        pipe.write()
        let done = try pump(outer, milliseconds: 2_000) { calls.names.count == 3 }
        #expect(done)
        #expect(calls.names == ["event", "deferred", "timer"])
        try expectQuiet(outer)
    }

    // MARK: L7 interruptions

    @Test("L7 interruptions neither shorten nor prolong a wait")
    func interruptionsAreInvisible() throws {
        let loop = try Loop()
        let calls = Calls()
        let pipe = Pipe()
        try loop.watch(pipe.reader, read: calls.handler("read"))
        try pump(loop)
        let storm = SignalStorm(everyMicroseconds: 1_000)
        defer { storm.stop() }
        // The storm does reach this thread: a bare wait is cut short by it.
        var interrupted = false
        for _ in 0..<50 where !interrupted { interrupted = poll(nil, 0, 200) < 0 && errno == EINTR }
        #expect(interrupted)

        var best = UInt64.max
        for _ in 0..<4 {
            let spent = try Spent.measure {
                let turn = try loop.runOnce(timeout: .milliseconds(100))
                #expect(turn.isEmpty)
            }
            #expect(spent.wallNanoseconds >= .milliseconds(100))
            best = min(best, spent.wallNanoseconds)
        }
        #expect(best < Effort.atMost(.milliseconds(110)))

        let half = try Spent.measure { try loop.wait(timeout: .milliseconds(50)) }
        #expect(half.wallNanoseconds >= .milliseconds(50), "wait() was cut short")
        #expect(try loop.dispatch().isEmpty)

        let whole = try Spent.measure {
            loop.after(.milliseconds(100)) { loop, _ in loop.stop() }
            try loop.run()
        }
        #expect(whole.wallNanoseconds >= .milliseconds(100))
        #expect(calls.names.isEmpty)
    }

    @Test("L7 a stopped and continued process waits on with the time that is left")
    func stoppedProcess() throws {
        let helper = try Fixture.start("wait-300")
        #expect(helper.waitForLine("waiting"))
        usleep(50_000)
        helper.send(SIGSTOP)
        usleep(100_000)
        helper.send(SIGCONT)
        let outcome = helper.end()
        #expect(outcome.exitCode == 0, "\(outcome)")
    }

    @Test("L7 T6 a process that is stopped for a second gets the missed periods as one call, on the grid")
    func stoppedForASecond() throws {
        let helper = try Fixture.start("stopped-second")
        #expect(helper.waitForLine("running"))
        helper.send(SIGSTOP)
        usleep(1_000_000)
        helper.send(SIGCONT)
        let outcome = helper.end()
        #expect(outcome.exitCode == 0, "\(outcome)")
    }

    // MARK: L8 precision

    @Test("L8 a wait of 300 microseconds is neither cut nor rounded up to a millisecond")
    func shortWaits() throws {
        let loop = try Loop()
        try pump(loop)
        var best = UInt64.max
        let spent = try Spent.measure {
            for _ in 0..<50 {
                let one = try Spent.measure { try loop.runOnce(timeout: .microseconds(300)) }
                #expect(one.wallNanoseconds >= .microseconds(300))
                best = min(best, one.wallNanoseconds)
            }
        }
        #expect(best < Effort.atMost(.microseconds(300 + 90)))
        #expect(spent.cpuNanoseconds < spent.wallNanoseconds / 2, "it sleeps, it does not spin")
    }

    @Test("L8 a wait of 100 nanoseconds is no spin and no millisecond")
    func tinyWait() throws {
        let loop = try Loop()
        try pump(loop)
        let turns = loop.statistics.turns
        var best = UInt64.max
        for _ in 0..<50 {
            let one = try Spent.measure { try loop.runOnce(timeout: .nanoseconds(100)) }
            #expect(one.wallNanoseconds >= 100)
            best = min(best, one.wallNanoseconds)
        }
        #expect(best < Effort.atMost(.microseconds(150)))
        #expect(loop.statistics.turns - turns == 50)
    }

    @Test("L8 a wait that ends between two milliseconds, by its limit or by a timer, is one wait")
    func waitsInOneGo() throws {
        let loop = try Loop()
        try pump(loop)
        for byTimer in [false, true] {
            for _ in 0..<5 {
                let end = (Instant.now.nanoseconds / 1_000_000 + 4) * 1_000_000 - 50_000
                let turns = loop.statistics.turns
                if byTimer {
                    loop.at(Instant(nanoseconds: end)) { _, _ in }
                    #expect(try loop.runOnce().timers == 1)
                } else {
                    let now = Instant.now
                    #expect(try loop.runOnce(timeout: now.duration(to: Instant(nanoseconds: end))).isEmpty)
                }
                #expect(Clock.monotonic() >= end)
                // An alarm of before may end a wait in between.
                #expect(loop.statistics.turns - turns <= 3)
            }
        }
    }

    @Test("L8 the thread's timer slack does not widen a wait")
    func timerSlack() throws {
        let thread = try #require(Files.link("/proc/thread-self")?.split(separator: "/").last)
        let path = "/proc/\(thread)/timerslack_ns"
        let before = Files.text(path)
        try #require(Files.write(path, "40000000"))
        defer { Files.write(path, before) }
        #expect(Files.text(path) == "40000000\n")
        let loop = try Loop()
        var best = UInt64.max
        for _ in 0..<10 {
            let one = try Spent.measure { try loop.runOnce(timeout: .milliseconds(1)) }
            #expect(one.wallNanoseconds >= .milliseconds(1))
            best = min(best, one.wallNanoseconds)
        }
        #expect(best < Effort.atMost(.milliseconds(3)))
    }

    @Test("L8 timers of 300 microseconds keep nanosecond deadlines")
    func shortTimers() throws {
        let loop = try Loop()
        var best = UInt64.max
        for _ in 0..<50 {
            var late: UInt64 = 0
            let timer = loop.after(.microseconds(300)) { loop, _ in
                late = Clock.monotonic()
                loop.stop()
            }
            let deadline = try #require(timer.deadline).nanoseconds
            try loop.run()
            #expect(late >= deadline)
            best = min(best, late - deadline)
        }
        #expect(best < Effort.atMost(.microseconds(150)))
    }

    // MARK: L10 deferred blocks

    @Test("L10 deferred blocks run once, in order, after callbacks and timers, before the next wait")
    func deferredOrder() throws {
        let loop = try Loop()
        let calls = Calls()
        let pipe = Pipe.readable()
        loop.after(.zero) { loop, _ in
            calls.add("timer")
            loop.defer { _ in calls.add("from timer") }
        }
        try loop.watch(
            pipe.reader,
            read: { loop, fd, _ in
                IO.drain(fd)
                calls.add("event")
                loop.defer { _ in calls.add("from event 1") }
                loop.defer { _ in calls.add("from event 2") }
            })
        loop.defer { _ in calls.add("from outside") }
        let turn = try loop.runOnce(timeout: .seconds(5))
        #expect(calls.names == ["event", "timer", "from outside", "from event 1", "from event 2", "from timer"])
        #expect(turn.deferred == 4)
        try pump(loop, 3)
        #expect(calls.names.count == 6)
        try expectQuiet(loop)
    }

    @Test("L10 what a deferred block defers runs in the next turn, and that turn does not wait")
    func deferredByDeferred() throws {
        let loop = try Loop()
        let calls = Calls()
        loop.defer { loop in
            calls.add("1")
            loop.defer { loop in
                calls.add("2")
                loop.defer { _ in calls.add("3") }
            }
        }
        for expected in [["1"], ["1", "2"], ["1", "2", "3"]] {
            let turn = try loop.runOnce(timeout: .seconds(30))
            #expect(turn.deferred == 1)
            #expect(calls.names == expected)
        }
        try expectQuiet(loop)
    }

    @Test("L10 a deferred block is released once it has run")
    func deferredReleased() throws {
        let loop = try Loop()
        let ended = Tracker.Count()
        do {
            let tracker = Tracker(ended)
            loop.defer { _ in tracker.touch() }
        }
        #expect(ended.ended == 0)
        try pump(loop)
        #expect(ended.ended == 1)
        // The first of several goes before the last of them runs.
        do {
            let tracker = Tracker(ended)
            loop.defer { _ in tracker.touch() }
        }
        loop.defer { _ in #expect(ended.ended == 2) }
        loop.defer { _ in }
        try pump(loop)
        #expect(ended.ended == 2)
    }
}
