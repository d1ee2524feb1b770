import CLinux
import Glibc
import LinuxEvent

private func isBlocked(_ number: CInt) -> Bool {
    var set = sigset_t()
    pthread_sigmask(SIG_BLOCK, nil, &set)
    return sigismember(&set, number) == 1
}

func blockedSignals() -> Set<CInt> { Set((1...64).filter { isBlocked(CInt($0)) }.map { CInt($0) }) }

/// The SIGRTMIN macro of glibc is a call.
private let realTimeSignal = CInt(40)

/// S1: all subscriptions, in the order made.
func fanOut(_ report: Report) throws {
    try blockSignals([SIGUSR1, SIGUSR2])
    let loop = try Loop()
    var ran: [String] = []
    try loop.signal(SIGUSR1) { _, signal in ran.append("a\(signal.number)") }
    let second = try loop.signal(SIGUSR1) { _, signal in ran.append("b\(signal.number)") }
    try loop.signal(SIGUSR2) { _, signal in ran.append("other\(signal.number)") }
    try loop.signal(SIGUSR1) { _, signal in ran.append("c\(signal.number)") }
    kill(getpid(), SIGUSR1)
    report.equal(ran, [], "before the turn")
    try pump(loop)
    report.equal(ran, ["a10", "b10", "c10"], "three subscriptions")
    ran = []
    report.expect(second.cancel(), "the first cancel is true")
    report.expect(!second.cancel(), "the second cancel is false")
    kill(getpid(), SIGUSR1)
    kill(getpid(), SIGUSR2)
    try pump(loop, 2)
    report.equal(ran.filter { $0 != "other12" }, ["a10", "c10"], "two subscriptions")
    report.equal(ran.filter { $0 == "other12" }.count, 1, "the other signal")
    try pump(loop, 3)
    report.equal(ran.count, 3, "nothing comes twice")
}

/// S1: equal signals pending become one record.
func coalesce(_ report: Report) throws {
    let loop = try Loop()
    var counts: [Int] = []
    try loop.signal(SIGUSR1) { _, signal in counts.append(signal.count) }
    for _ in 0..<5 { kill(getpid(), SIGUSR1) }
    try pump(loop)
    report.equal(counts, [1], "five of one kind")
    try pump(loop, 3)
    report.equal(counts, [1], "nothing comes twice")
    for _ in 0..<3 {
        kill(getpid(), SIGUSR1)
        try pump(loop)
    }
    report.equal(counts, [1, 1, 1, 1], "one each")
}

/// S1: queued signals are counted.
func realTime(_ report: Report) throws {
    let loop = try Loop()
    var total = 0
    var calls = 0
    try loop.signal(realTimeSignal) { _, signal in
        total += signal.count
        calls += 1
        report.equal(signal.number, realTimeSignal, "number")
    }
    for _ in 0..<5 { kill(getpid(), realTimeSignal) }
    try pump(loop, 3)
    report.equal(total, 5, "records")
    report.expect(calls >= 1 && calls <= 5, "\(calls) calls")
}

/// S1: who sent it, and how.
func values(_ report: Report) throws {
    let loop = try Loop()
    var seen: [Signal] = []
    try loop.signal(SIGUSR1) { _, signal in seen.append(signal) }
    kill(getpid(), SIGUSR1)
    try pump(loop)
    report.equal(seen.count, 1, "calls")
    guard let first = seen.first else { return }
    report.equal(first.number, SIGUSR1, "number")
    report.equal(first.count, 1, "count")
    report.equal(first.pid, getpid(), "pid")
    report.equal(first.uid, getuid(), "uid")
    report.equal(first.code, 0, "code, SI_USER")
    sigqueue(getpid(), SIGUSR1, sigval())
    try pump(loop)
    report.equal(seen.last?.code, -1, "code, SI_QUEUE")
    // Sent to this thread alone: the loop's own thread reads it as well.
    pthread_kill(pthread_self(), SIGUSR1)
    try pump(loop)
    report.equal(seen.last?.code, -6, "code, SI_TKILL")
    report.equal(seen.count, 3, "calls")
}

/// S4: pending while the last subscription goes.
func cancelPending(_ report: Report) throws {
    let loop = try Loop()
    var ran = 0
    for number in [SIGUSR1, SIGUSR2, SIGTERM, SIGINT, realTimeSignal] {
        let subscription = try loop.signal(number) { _, _ in ran += 1 }
        for _ in 0..<3 { kill(getpid(), number) }
        report.expect(subscription.cancel(), "cancel")
        report.expect(!isBlocked(number), "signal \(number) stays blocked")
    }
    // Here the process would be dead.
    try pump(loop, 3)
    report.equal(ran, 0, "callbacks of cancelled subscriptions")
    report.expect(blockedSignals().isEmpty, "\(blockedSignals())")
    // The signal can be taken again, and comes.
    try loop.signal(SIGUSR1) { _, _ in ran += 1 }
    kill(getpid(), SIGUSR1)
    try pump(loop)
    report.equal(ran, 1, "taken again")
}

/// S4: the last one counts, not the first.
func cancelSome(_ report: Report) throws {
    let loop = try Loop()
    var ran: [String] = []
    let first = try loop.signal(SIGUSR1) { _, _ in ran.append("first") }
    let second = try loop.signal(SIGUSR1) { _, _ in ran.append("second") }
    kill(getpid(), SIGUSR1)
    first.cancel()
    report.expect(isBlocked(SIGUSR1), "unblocked too early")
    try pump(loop)
    report.equal(ran, ["second"], "what was pending goes to who is left")
    kill(getpid(), SIGUSR1)
    second.cancel()
    report.expect(!isBlocked(SIGUSR1), "stays blocked")
    try pump(loop)
    report.equal(ran, ["second"], "after the last cancel")
}

/// S1, S4: cancelling from a handler.
func cancelInside(_ report: Report) throws {
    let loop = try Loop()
    var ran: [String] = []
    var second: SignalSubscription?
    var first: SignalSubscription?
    first = try loop.signal(SIGUSR1) { _, _ in
        ran.append("first")
        report.expect(second?.cancel() == true, "cancel of a later one")
        report.expect(first?.cancel() == true, "cancel of itself")
        kill(getpid(), SIGUSR2)
    }
    second = try loop.signal(SIGUSR1) { _, _ in ran.append("second") }
    try loop.signal(SIGUSR1) { loop, _ in
        ran.append("third")
        _ = try? loop.signal(SIGUSR1) { _, _ in ran.append("new") }
    }
    try loop.signal(SIGUSR2) { _, _ in ran.append("other") }
    kill(getpid(), SIGUSR1)
    try pump(loop, 3)
    report.equal(ran, ["first", "third", "other"], "one round")
    kill(getpid(), SIGUSR1)
    try pump(loop)
    report.equal(ran, ["first", "third", "other", "third", "new"], "the next round")
}

/// S4: the mask after the last cancel is the mask before the first claim.
func mask(_ report: Report) throws {
    report.equal(blockedSignals(), [], "at the start")
    let before = openDescriptors()
    do {
        let loop = try Loop()
        let a = try loop.signal(SIGUSR1) { _, _ in }
        let b = try loop.signal(SIGTERM) { _, _ in }
        report.equal(blockedSignals(), [SIGUSR1, SIGTERM], "while taken")
        a.cancel()
        report.equal(blockedSignals(), [SIGTERM], "one left")
        let c = try loop.signal(SIGUSR1) { _, _ in }
        b.cancel()
        c.cancel()
        report.equal(blockedSignals(), [], "none left")
        // A loop that ends with subscriptions restores the mask too, and what was pending kills nobody.
        try loop.signal(SIGUSR2) { _, _ in }
        kill(getpid(), SIGUSR2)
        try loop.close()
        report.equal(blockedSignals(), [], "after close()")
    }
    report.equal(openDescriptors(), before, "descriptors")
}

/// S4: what the user had blocked stays blocked.
func maskOfUser(_ report: Report) throws {
    try blockSignals([SIGUSR1, SIGUSR2])
    report.equal(blockedSignals(), [SIGUSR1, SIGUSR2], "after blockSignals")
    let loop = try Loop()
    let a = try loop.signal(SIGUSR1) { _, _ in }
    let b = try loop.signal(SIGTERM) { _, _ in }
    kill(getpid(), SIGUSR1)
    a.cancel()
    b.cancel()
    report.equal(blockedSignals(), [SIGUSR1, SIGUSR2], "after the last cancel")
    var pending = sigset_t()
    sigpending(&pending)
    report.equal(sigismember(&pending, SIGUSR1), 0, "the pending record was to be drained")
}

/// S3: what no descriptor can take.
func refused(_ report: Report) throws {
    let loop = try Loop()
    let before = openDescriptors()
    let faults = [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS]
    for number in [SIGKILL, SIGSTOP] + faults + [32, 33, 0, -1, 65, 1_000, CInt.min, CInt.max] {
        report.throwing(.signalRefused(number), "signal \(number)") { () throws(LoopError) in
            try loop.signal(number) { _, _ in }
        }
    }
    report.equal(blockedSignals(), [], "refusals change no mask")
    report.equal(openDescriptors(), before, "descriptors")
    var ran = 0
    try loop.signal(SIGUSR1) { _, _ in ran += 1 }
    kill(getpid(), SIGUSR1)
    try pump(loop)
    report.equal(ran, 1, "the loop goes on")
}

/// S3: one owner in the process.
func owned(_ report: Report) throws {
    let first = try Loop()
    let second = try Loop()
    var ran: [String] = []
    let subscription = try first.signal(SIGUSR1) { _, _ in ran.append("first") }
    report.throwing(.signalOwned(SIGUSR1), "a second owner") { () throws(LoopError) in
        try second.signal(SIGUSR1) { _, _ in ran.append("second") }
    }
    try second.signal(SIGUSR2) { _, _ in ran.append("second USR2") }
    kill(getpid(), SIGUSR1)
    kill(getpid(), SIGUSR2)
    try pump(second)
    try pump(first)
    report.equal(ran, ["second USR2", "first"], "each its own")
    subscription.cancel()
    try second.signal(SIGUSR1) { _, _ in ran.append("second") }
    kill(getpid(), SIGUSR1)
    try pump(first)
    try pump(second)
    report.equal(ran, ["second USR2", "first", "second"], "after the first owner let go")
    try second.close()
    try first.signal(SIGUSR2) { _, _ in ran.append("first USR2") }
    kill(getpid(), SIGUSR2)
    try pump(first)
    report.equal(ran.last, "first USR2", "after the second owner's end")
}

/// S3, S4: a loop that is dropped with subscriptions lets go of them.
func endOfLoop(_ report: Report) throws {
    let before = openDescriptors()
    do {
        let loop = try Loop()
        try loop.signal(SIGUSR1) { _, _ in report.expect(false, "a callback after the end") }
        kill(getpid(), SIGUSR1)
    }
    report.equal(blockedSignals(), [], "the mask")
    report.equal(openDescriptors(), before, "descriptors")
    let loop = try Loop()
    var ran = 0
    try loop.signal(SIGUSR1) { _, _ in ran += 1 }
    try pump(loop)
    report.equal(ran, 0, "nothing was left pending")
    kill(getpid(), SIGUSR1)
    try pump(loop)
    report.equal(ran, 1, "the new owner")
}

/// S1: of several records the last one's sender.
func senders(_ report: Report) throws {
    let loop = try Loop()
    var seen: [Signal] = []
    try loop.signal(realTimeSignal) { _, signal in seen.append(signal) }
    kill(getpid(), realTimeSignal)
    sigqueue(getpid(), realTimeSignal, sigval())
    try pump(loop)
    report.equal(seen.map(\.count), [2], "records")
    report.equal(seen.first?.code, -1, "code, SI_QUEUE")
    sigqueue(getpid(), realTimeSignal, sigval())
    kill(getpid(), realTimeSignal)
    try pump(loop)
    report.equal(seen.last?.code, 0, "code, SI_USER")
}

/// L14, S4: what close() does to subscriptions whose handles are kept, and what a handler's end may not do any more.
func releaseAtEnd(_ report: Report) throws {
    final class Tracker {
        let ended: () -> Void
        init(_ ended: @escaping () -> Void) { self.ended = ended }
        deinit { ended() }
    }
    let before = openDescriptors()
    let loop = try Loop()
    var released = 0
    let kept: SignalSubscription
    do {
        let tracker = Tracker { [unowned loop] in
            released += 1
            report.throwing(.closed, "signal in a deinit") { () throws(LoopError) in
                try loop.signal(SIGUSR2) { _, _ in }
            }
            report.throwing(.closed, "watch in a deinit") { () throws(LoopError) in
                try loop.eventfd { _, _ in }
            }
        }
        kept = try loop.signal(SIGUSR1) { _, _ in withExtendedLifetime(tracker) {} }
    }
    try loop.close()
    report.equal(released, 1, "released by close()")
    report.expect(!kept.isActive && !kept.cancel(), "a handle of the past")
    report.equal(blockedSignals(), [], "the mask")
    report.equal(openDescriptors(), before, "descriptors, with the handle kept")
}

/// L13: thousands of queued signals do not hold up a descriptor.
func signalBudget(_ report: Report) throws {
    try blockSignals([realTimeSignal])
    let loop = try Loop()
    let ends = makePipe()
    _ = write(ends.writer, "x", 1)
    var total = 0
    var seen: [Int] = []
    try loop.signal(realTimeSignal) { _, signal in total += signal.count }
    try loop.watch(ends.reader, read: { _, _, _ in seen.append(total) })
    var sent = 0
    while sent < 3_000, sigqueue(getpid(), realTimeSignal, sigval()) == 0 { sent += 1 }
    report.expect(sent > 1_000, "only \(sent) could be queued")
    for _ in 0..<1_000 where total < sent { try pump(loop) }
    report.equal(total, sent, "records")
    report.expect(seen.contains { $0 > 0 && $0 < sent }, "all signals came in one go")
}

/// S1: an ordinary service, ended from outside.
func runUntil(_ report: Report) throws {
    try blockSignals([SIGINT, SIGTERM])
    let before = openDescriptors()
    do {
        let loop = try Loop()
        for number in [SIGINT, SIGTERM] {
            try loop.signal(number) { loop, signal in
                say("signal \(signal.number)")
                loop.stop()
            }
        }
        loop.defer { _ in say("ready") }
        try loop.run()
    }
    report.equal(openDescriptors(), before, "descriptors")
    say("clean end")
}

/// Starts a thread that does nothing for a while, and returns when it runs. (A thread is born with everything
/// blocked, and takes on its maker's mask only then.)
private func startSleeper() {
    let ends = makePipe()
    var thread = pthread_t()
    let started = UnsafeMutablePointer<CInt>.allocate(capacity: 1)
    started.pointee = ends.writer
    pthread_create(
        &thread, nil,
        { argument in
            if let number = argument?.assumingMemoryBound(to: CInt.self).pointee { _ = write(number, "x", 1) }
            usleep(20_000_000)
            return nil
        }, started)
    var byte: UInt8 = 0
    while read(ends.reader, &byte, 1) != 1 { usleep(100) }
}

/// S2: a thread that does not block the signal would take its default action.
func openThread(_ report: Report) throws {
    let loop = try Loop()
    // One that is taken already, and blocked by the sleeper as well, which is started after it.
    let taken = try loop.signal(SIGTERM) { _, _ in }
    startSleeper()
    do throws(LoopError) {
        try loop.signal(SIGUSR1) { _, _ in }
        report.expect(false, "a signal was claimed that another thread would take")
    } catch {
        guard case .signalNotBlocked(let number, let threads) = error else {
            return report.expect(false, "not .signalNotBlocked: \(error)")
        }
        report.equal(number, SIGUSR1, "number")
        report.equal(threads.count, 1, "threads")
    }
    report.equal(blockedSignals(), [SIGTERM], "a refused claim leaves the mask")
    let other = try Loop()
    do throws(LoopError) {
        try other.signal(SIGUSR1) { _, _ in }
    } catch {
        if case .signalOwned = error { report.expect(false, "a refused claim is kept") }
    }
    report.expect(taken.cancel(), "the subscription of before")

    // Blocked first, the threads that are started later are no obstacle; but the first one still is.
    try blockSignals([SIGUSR2])
    startSleeper()
    report.expect((try? loop.signal(SIGUSR2) { _, _ in }) == nil, "a thread that blocks nothing was overlooked")
    report.equal(blockedSignals(), [SIGUSR2], "what the user blocked stays blocked")
}

/// S2 W8: a refused claim takes nothing away, not even what was pending.
func refusedClaim(_ report: Report) throws {
    startSleeper()
    try blockSignals([SIGUSR1])
    // To this thread alone: the other one would die of it.
    pthread_kill(pthread_self(), SIGUSR1)
    let loop = try Loop()
    let before = openDescriptors()
    report.expect((try? loop.signal(SIGUSR1) { _, _ in }) == nil, "claimed though a thread blocks nothing")
    var pending = sigset_t()
    sigpending(&pending)
    report.equal(sigismember(&pending, SIGUSR1), 1, "still pending")
    report.equal(blockedSignals(), [SIGUSR1], "the mask")
    report.equal(openDescriptors(), before, "descriptors")
}

/// S2: threads started after `blockSignals` are no obstacle.
func blockedThread(_ report: Report) throws {
    try blockSignals([SIGUSR1])
    startSleeper()
    let loop = try Loop()
    var ran = 0
    try loop.signal(SIGUSR1) { _, signal in ran += signal.count }
    for _ in 0..<100 {
        kill(getpid(), SIGUSR1)
        try pump(loop)
    }
    report.equal(ran, 100, "signals")
}
