import CLinux
import Glibc
import LinuxEvent

/// L7: a wait of 300 ms, during which the process is stopped and continued from outside.
func waitThreeHundred(_ report: Report) throws {
    let loop = try Loop()
    try pump(loop)
    var fired: UInt64 = 0
    let timer = loop.after(.milliseconds(600)) { loop, _ in
        fired = monotonic()
        loop.stop()
    }
    let start = monotonic()
    say("waiting")
    let turn = try loop.runOnce(timeout: .milliseconds(300))
    let passed = monotonic() - start
    report.expect(passed >= 300_000_000, "the wait was cut to \(passed) ns")
    report.expect(passed < 450_000_000 * slowness, "the wait was prolonged to \(passed) ns")
    report.equal(turn.events + turn.timers + turn.deferred, 0, "work that was none")
    let deadline = timer.deadline?.nanoseconds ?? .max
    try loop.run()
    report.expect(fired >= deadline, "a timer came early")
}

/// T6: a process that is stopped for a second misses ten periods of a timer: they come as one call, and the grid stays.
func stoppedSecond(_ report: Report) throws {
    let loop = try Loop()
    var missed: [Int] = []
    let first = Instant.now
    try loop.every(.milliseconds(100)) { loop, timer in
        let now = Instant.now.nanoseconds
        let next = timer.deadline?.nanoseconds ?? 0
        // The time of the call before the next one on the grid.
        report.expect(now >= next - 100_000_000, "early")
        report.expect((next - first.nanoseconds) % 100_000_000 < 20_000_000, "off the grid")
        if missed.isEmpty { say("running") }
        missed.append(timer.missedPeriods)
        if missed.count > 3, missed.contains(where: { $0 >= 8 }) { loop.stop() }
        if missed.count > 100 { loop.stop() }
    }
    try loop.run()
    report.equal(missed.filter { $0 >= 8 }.count, 1, "calls that stand for the stop: \(missed)")
    report.expect(missed.reduce(missed.count, +) < 100, "\(missed)")
}

/// L7: one thread, an interval timer of 1 kHz whose handler does nothing.
func storm(_ report: Report) throws {
    var action = sigaction()
    action.__sigaction_handler.sa_handler = { _ in }
    sigaction(SIGALRM, &action, nil)
    var every = itimerval()
    every.it_interval.tv_usec = 1_000
    every.it_value.tv_usec = 1_000
    setitimer(CInt(ITIMER_REAL.rawValue), &every, nil)
    report.expect(poll(nil, 0, 300) < 0 && errno == EINTR, "the storm does not interrupt")

    let loop = try Loop()
    let ends = makePipe()
    try loop.watch(ends.reader, read: { _, _, _ in report.expect(false, "a callback without an event") })
    var best = UInt64.max
    for _ in 0..<5 {
        let start = monotonic()
        let turn = try loop.runOnce(timeout: .milliseconds(50))
        let passed = monotonic() - start
        report.expect(passed >= 50_000_000, "the wait was cut to \(passed) ns")
        report.equal(turn.events + turn.timers + turn.deferred, 0, "work that was none")
        best = min(best, passed)
    }
    report.expect(best < 60_000_000 * slowness, "the shortest wait of 50 ms took \(best) ns")
    var fired: UInt64 = 0
    let timer = loop.after(.milliseconds(200)) { loop, _ in
        fired = monotonic()
        loop.stop()
    }
    let deadline = timer.deadline?.nanoseconds ?? .max
    try loop.run()
    report.expect(fired >= deadline, "a timer came early")
}

/// W9: keeps every inherited descriptor open for a while.
func holdDescriptors(_ report: Report) throws {
    say("holding")
    usleep(30_000_000)
}
