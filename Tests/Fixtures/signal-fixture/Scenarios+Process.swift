import CLinux
import Glibc
import LinuxEvent

extension Scenario {
    /// S: claims, deliveries, and signals that are pending when they are given back. What goes wrong here ends the
    /// process.
    static func signals(_ trial: Trial) throws {
        let report = trial.report
        let loop = try trial.makeLoop()
        let token = trial.token()
        var ran: [String] = []
        func note(_ name: String) -> (Loop, Signal) -> Void {
            { _, signal in
                token.touch()
                ran.append("\(name) \(signal.number)")
            }
        }
        func isBlocked(_ number: CInt) -> Bool { State.blockedSignals() & 1 << UInt64(number - 1) != 0 }

        // Blocked by the user, and pending before it is claimed: a refused claim leaves it pending.
        var hangup = sigset_t()
        sigemptyset(&hangup)
        sigaddset(&hangup, SIGHUP)
        pthread_sigmask(SIG_BLOCK, &hangup, nil)
        defer { pthread_sigmask(SIG_UNBLOCK, &hangup, nil) }
        kill(getpid(), SIGHUP)
        let own = try trial.attempt("claim what is pending", loop) { try loop.signal(SIGHUP, note("own")) }
        try trial.turns(loop, "what was pending") { ran == ["own 1"] }
        kill(getpid(), SIGHUP)
        report.expect(own.cancel() && isBlocked(SIGHUP), "the user's mask")
        ran = []

        let first = try trial.attempt("claim", loop) { try loop.signal(SIGUSR1, note("first")) }
        let second = try trial.attempt("subscribe", loop) { try loop.signal(SIGUSR1, note("second")) }
        let other = try trial.attempt("claim another", loop) { try loop.signal(SIGUSR2, note("other")) }
        kill(getpid(), SIGUSR1)
        try trial.turns(loop, "a signal") { ran.count == 2 }
        report.equal(ran, ["first 10", "second 10"], "subscribers")

        // The last one is cancelled with the signal pending: nobody is told, and the default action is not taken.
        report.expect(second.cancel(), "cancel")
        kill(getpid(), SIGUSR1)
        report.expect(isBlocked(SIGUSR1), "unblocked too early")
        report.expect(first.cancel(), "cancel the last")
        report.expect(!isBlocked(SIGUSR1) && isBlocked(SIGUSR2), "the mask")
        try trial.turn(loop)
        report.equal(ran.count, 2, "told after the last cancel")

        // The signal is another loop's now, and this one's descriptor must not take it any more.
        let next = try trial.makeLoop()
        let third = try trial.attempt("claim by another loop", next) { try next.signal(SIGUSR1, note("third")) }
        report.throwing(.signalOwned(SIGUSR1), "two owners") { () throws(LoopError) in
            try loop.signal(SIGUSR1, note("never"))
        }
        kill(getpid(), SIGUSR1)
        kill(getpid(), SIGUSR2)
        try trial.turns(loop, "the first loop's signal") { ran.contains("other 12") }
        try trial.turns(next, "the other loop's signal") { ran.contains("third 10") }
        report.equal(ran.count, 4, "each once: \(ran)")

        // One loop is closed and the other dropped, each with a signal pending.
        kill(getpid(), SIGUSR1)
        kill(getpid(), SIGUSR2)
        try trial.attempt("close") { try next.close() }
        report.expect(!third.isActive && other.isActive, "after the end of one loop")
        try trial.expectUsable(loop)
        try trial.turns(loop, "what was pending for the one that goes on") { ran.count == 5 }
        report.equal(ran.last, "other 12", "what was pending for the one that goes on")
        kill(getpid(), SIGUSR2)
    }

    /// C: how children end: before they are watched, by `kill`, behind our back, kept for someone else, unheard.
    static func children(_ trial: Trial) throws {
        let report = trial.report
        let loop = try trial.makeLoop()
        let token = trial.token()
        var told: [CInt: ExitStatus] = [:]
        func note(_ exit: ChildExit) {
            token.touch()
            report.expect(told[exit.pid] == nil, "told twice")
            told[exit.pid] = exit.status
        }
        func observe(_ pid: CInt, reap: Bool = true) throws -> ChildObserver {
            try trial.attempt("childExit", loop) { try loop.childExit(pid, reap: reap) { _, exit in note(exit) } }
        }
        /// As it ended; or unknown, where the kernel said that it is not ours, and then it is ours to wait for.
        func expectEnd(_ pid: CInt, _ status: ExitStatus, line: Int = #line) throws {
            try trial.turns(loop, "the end of a child", line: line) { told[pid] != nil }
            let isLost = told[pid] == .unknown && trial.mayFail(.pidfdWaitid, code: ECHILD)
            report.expect(told[pid] == status || isLost, "a child's end: \(String(describing: told[pid]))", line: line)
            report.equal(waitpid(pid, nil, WNOHANG), isLost ? pid : -1, "a child's status", line: line)
        }

        let zombie = startChild("exit 5")
        Child.awaitEnd(zombie)
        _ = try observe(zombie)
        try expectEnd(zombie, .exited(5))

        // Two observers of one process, and its end by a signal.
        let running = startChild("exec sleep 30")
        let observer = try observe(running)
        var seconds = 0
        let second = try trial.attempt("childExit again", loop) {
            try loop.childExit(running) { _, _ in seconds += 1 }
        }
        try trial.attempt("kill", loop) { try observer.kill(SIGTERM) }
        try expectEnd(running, .killed(SIGTERM))
        try trial.turns(loop, "the second observer") { seconds == 1 }
        report.expect(!observer.cancel() && !second.isActive, "told, and over")

        // The status goes elsewhere: the kernel remembers it, or not.
        let stolen = startChild("exit 6")
        _ = try observe(stolen)
        Child.awaitEnd(stolen)
        waitpid(stolen, nil, 0)
        try trial.turns(loop, "the end of a stolen child") { told[stolen] != nil }
        report.expect([.exited(6), .unknown].contains(told[stolen]), "stolen: \(String(describing: told[stolen]))")

        // Left for someone else's wait.
        let kept = startChild("exit 7")
        _ = try observe(kept, reap: false)
        try trial.turns(loop, "the end of a kept child") { told[kept] != nil }
        let isLost = trial.mayFail(.pidfdWaitid, code: ECHILD) && told[kept] == .unknown
        report.expect(told[kept] == .exited(7) || isLost, "kept: \(String(describing: told[kept]))")
        report.equal(waitpid(kept, nil, 0), kept, "kept for waitpid")

        // Cancelled, and one that the loop's end leaves alone.
        let spared = startChild("exit 8"), orphan = startChild("exec sleep 30")
        let cancelled = try observe(spared)
        report.expect(cancelled.cancel() && !cancelled.cancel(), "cancel")
        let last = [try observe(orphan), try observe(orphan)]
        try trial.expectUsable(loop)
        try trial.attempt("close") { try loop.close() }
        report.expect(!last.contains { $0.isActive }, "active after the end")
        let pidfds = State.openDescriptors().filter { State.link("/proc/self/fd/\($0)").contains("pidfd") }
        report.equal(pidfds, [], "pidfds after the end")
        kill(orphan, SIGKILL)
        for pid in [spared, orphan] { report.equal(waitpid(pid, nil, 0), pid, "left alone") }
    }
}

/// Processes to be watched.
enum Child {
    /// Until it is a zombie. Not by waitid(2), which a fault put in from outside may be waiting for.
    static func awaitEnd(_ pid: pid_t) {
        while !isZombie(pid) { usleep(200) }
    }

    private static func isZombie(_ pid: pid_t) -> Bool {
        let descriptor = open("/proc/\(pid)/stat", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return true }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = Glibc.read(descriptor, &bytes, bytes.count)
        let text = String(decoding: bytes.prefix(max(count, 0)), as: UTF8.self)
        return text.contains(") Z ")
    }
}
