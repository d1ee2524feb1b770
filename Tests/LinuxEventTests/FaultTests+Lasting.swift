#if DEBUG
import CLinux
import Glibc
import LinuxEvent
import TestSupport
import Testing

// More than one failing call, and what a caller sees of it.
extension LinuxEventSuite.FaultTests {
    /// Runs the body while calls of a kind fail, from the present one on.
    private func failing<Result>(
        _ kind: clinux_call, _ code: CInt, first: UInt32 = 1, times: UInt32 = .max, _ body: () throws -> Result
    ) rethrows -> Result {
        clinux_faults_reset()
        clinux_faults_order(kind, first, times, code)
        defer { clinux_faults_reset() }
        return try body()
    }

    @Test("L2 L14 a wait that fails is thrown, each time, and the loop can be closed")
    func waitFails() throws {
        try expectNoLeak {
            let loop = try Loop()
            let pipe = Pipe.readable()
            let calls = Calls()
            try loop.watch(pipe.reader, read: calls.draining("read"))
            failing(CLINUX_CALL_EPOLL_WAIT, EBADF) {
                let expected = LoopError.system(SystemError(call: "epoll_wait", code: EBADF))
                for _ in 0..<3 { #expect(failure { () throws(LoopError) in try loop.run() } == expected) }
                #expect(failure { () throws(LoopError) in try loop.runOnce() } == expected)
                #expect(failure { () throws(LoopError) in try loop.wait(timeout: .zero) } == expected)
            }
            #expect(calls.names.isEmpty)
            try pump(loop)
            #expect(calls.names == ["read"], "nothing was lost")
            try failing(CLINUX_CALL_EPOLL_WAIT, EBADF) { try loop.close() }
        }
    }

    @Test("L7 a thousand interruptions in a row are one wait")
    func interrupted() throws {
        let loop = try Loop()
        let start = Clock.monotonic()
        let turn = try failing(CLINUX_CALL_EPOLL_WAIT, EINTR, times: 1_000) {
            try loop.runOnce(timeout: .milliseconds(5))
        }
        #expect(Clock.monotonic() - start >= .milliseconds(5))
        #expect(turn.isEmpty)
    }

    @Test("L2 T1 an alarm that cannot be set is thrown from the wait; its timer stays, and runs once it can be set")
    func alarmFails() throws {
        let loop = try Loop()
        let calls = Calls()
        let timer = loop.after(.milliseconds(200)) { _, _ in calls.add("timer") }
        failing(CLINUX_CALL_TIMERFD_SETTIME, EINVAL) {
            #expect(failure { () throws(LoopError) in try loop.run() }?.code == EINVAL)
            #expect(failure { () throws(LoopError) in try loop.runOnce() }?.code == EINVAL)
            #expect(timer.isScheduled)
        }
        let deadline = try #require(timer.deadline)
        let done = try pump(loop, milliseconds: 2_000) { !calls.names.isEmpty }
        #expect(done)
        #expect(Instant.now >= deadline)
    }

    @Test("W8 W10 an exclusive watcher that the kernel takes neither as asked nor as it was is parked, and comes back")
    func exclusiveIsRefusedTwice() throws {
        let probe = try Probe()
        let loop = probe.loop
        let calls = Calls()
        let pipe = Pipe.readable()
        let watcher = try loop.watch(pipe.reader, read: calls.draining("read"), exclusive: true)
        failing(CLINUX_CALL_EPOLL_ADD, ENOSPC, times: 2) {
            #expect(failure { () throws(LoopError) in try watcher.setInterest([]) }?.code == ENOSPC)
        }
        #expect(watcher.isActive && watcher.isParked)
        #expect(watcher.interest == .read, "a refused change has changed nothing")
        #expect(loop.statistics.parked == 1)
        #expect(probe.mask(pipe.reader) == nil)
        // The same when it is replaced.
        failing(CLINUX_CALL_EPOLL_ADD, ENOSPC) {
            #expect(
                failure { () throws(LoopError) in try loop.watch(pipe.reader, read: calls.handler("new")) }?.code
                    == ENOSPC)
        }
        #expect(watcher.isParked && loop.statistics.parked == 1 && loop.statistics.watchers == 1)
        try watcher.setInterest([])
        try watcher.enableRead()
        #expect(!watcher.isParked && loop.statistics.parked == 0)
        try pump(loop)
        #expect(calls.names == ["read"])
        try failing(CLINUX_CALL_EPOLL_ADD, ENOMEM) {
            #expect(
                failure { () throws(LoopError) in try loop.watch(pipe.reader, read: calls.handler("new")) }?.code
                    == ENOMEM)
            #expect(watcher.isParked, "put back in vain")
            #expect(loop.watcher(of: pipe.reader) == watcher)
            try loop.unwatch(pipe.reader)
        }
        #expect(loop.statistics.parked == 0 && loop.statistics.watchers == 0)
        try expectQuiet(loop)
    }

    /// The steps of a rebuild with two watchers: whether each is still the file it was, and its place in the new
    /// set; those of the loop's own need only the second; then the foreign loop's set, and the number.
    @Test(
        "W9 a rebuild that fails at any step leaves everything as it was, and is made up for a second later",
        arguments: [
            (CLINUX_CALL_EPOLL_CREATE, 1, EMFILE), (CLINUX_CALL_EPOLL_ADD, 1, ENOMEM),
            (CLINUX_CALL_EPOLL_ADD, 3, ENOSPC), (CLINUX_CALL_EPOLL_ADD, 5, ENOMEM),
            (CLINUX_CALL_DUP3, 1, EMFILE),
        ] as [(clinux_call, UInt32, CInt)])
    func rebuildFails(step: (kind: clinux_call, first: UInt32, code: CInt)) throws {
        try expectNoLeak {
            let loop = try Loop()
            let calls = Calls()
            let descriptor = try loop.descriptor
            let ghost = Pipe.readable()
            let other = Pipe()
            try loop.watch(other.reader, read: calls.draining("other"))
            let copy = IO.copy(ghost.reader)
            try loop.watch(copy, read: calls.handler("ghost"))
            close(copy)
            try loop.unwatch(copy)
            let before = OpenDescriptors.all()
            try failing(step.kind, step.code, first: step.first, times: 1) {
                try pump(loop, 2)
                #expect(clinux_faults_strikes(step.kind) == 1, "there is no such step")
            }
            #expect(loop.statistics.rebuilds == 0)
            #expect(OpenDescriptors.all() == before)
            other.write()
            #expect(Readiness.of(descriptor).contains(.readable))
            try pump(loop, 2)
            #expect(calls.names == ["other"])

            let done = try pump(loop, milliseconds: 3_000) { loop.statistics.rebuilds == 1 }
            #expect(done, "not made up for")
            // The alarm of the last wait, which ended early, may be still to come.
            usleep(2_000)
            try pump(loop)
            #expect(!Readiness.of(descriptor).contains(.readable))
            other.write()
            #expect(Readiness.of(descriptor).contains(.readable), "a foreign loop hears nothing any more")
            try pump(loop)
            #expect(calls.names == ["other", "other"])
            #expect(loop.statistics.watchers == 1 && loop.statistics.vanished == 0)
            try expectQuiet(loop)
            try loop.close()
        }
    }
}
#endif
