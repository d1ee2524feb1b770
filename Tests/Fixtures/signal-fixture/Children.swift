import CLinux
import Glibc
import LinuxEvent

/// Children in a process of their own: waiting for them, and ignoring SIGCHLD, concern the whole process.
extension Fixture {
    /// C1: what a child came to is told as it was.
    static func childEnds(_ report: Report) throws {
        let loop = try Loop()
        for (script, expected) in [
            ("exit 0", [ExitStatus.exited(0)]), ("exit 3", [.exited(3)]), ("exit 255", [.exited(255)]),
            ("kill -9 $$", [.killed(SIGKILL)]), ("kill -15 $$", [.killed(SIGTERM)]),
            // With or without a core file: that is the machine's setting.
            ("kill -6 $$", [.killed(SIGABRT), .dumpedCore(SIGABRT)]),
        ] {
            let pid = startChild(script)
            var told: [ChildExit] = []
            try loop.childExit(pid) { _, exit in told.append(exit) }
            turn(loop) { !told.isEmpty }
            report.equal(told.map(\.pid), [pid], script)
            report.expect(told.first.map { expected.contains($0.status) } ?? false, "\(script): \(told)")
            report.equal(waitpid(pid, nil, WNOHANG), -1, "\(script): it was reaped")
        }
        // Stopping is no end.
        let pid = startChild("kill -19 $$; exit 4")
        var told: [ExitStatus] = []
        try loop.childExit(pid) { _, exit in told.append(exit.status) }
        // Continued before it stops, it would stay stopped.
        report.equal(waitpid(pid, nil, WUNTRACED), pid, "stops")
        for _ in 0..<5 { try loop.runOnce(timeout: .milliseconds(10)) }
        report.equal(told, [], "stopped")
        Glibc.kill(pid, SIGCONT)
        turn(loop) { !told.isEmpty }
        report.equal(told, [.exited(4)], "continued")
    }

    /// C2: a zombie is told; one that was waited for, and nobody, are refused.
    static func childBefore(_ report: Report) throws {
        let loop = try Loop()
        let zombie = startChild("exit 5")
        var info = siginfo_t()
        waitid(P_PID, id_t(zombie), &info, WEXITED | WNOWAIT)
        var told: [ExitStatus] = []
        try loop.childExit(zombie) { _, exit in told.append(exit.status) }
        report.equal(told, [], "not inside the call")
        turn(loop) { !told.isEmpty }
        report.equal(told, [.exited(5)], "zombie")
        let gone = LoopError.system(SystemError(call: "pidfd_open", code: ESRCH))
        report.throwing(gone, "waited for") { () throws(LoopError) in try loop.childExit(zombie) { _, _ in } }
        report.throwing(gone, "nobody") { () throws(LoopError) in try loop.childExit(CInt.max) { _, _ in } }
        let bad = LoopError.system(SystemError(call: "pidfd_open", code: EINVAL))
        report.throwing(bad, "no number") { () throws(LoopError) in try loop.childExit(-1) { _, _ in } }
    }

    /// C3: the status is taken once, of this child only; where it went elsewhere the end is told all the same.
    static func childStatus(_ report: Report) throws {
        let loop = try Loop()
        let lost = remembers ? ExitStatus.exited(6) : .unknown
        // Left for someone else.
        let kept = startChild("exit 7")
        var told: [ExitStatus] = []
        try loop.childExit(kept, reap: false) { _, exit in told.append(exit.status) }
        turn(loop) { !told.isEmpty }
        var status: CInt = 0
        report.equal(told, [.exited(7)], "kept")
        report.equal(waitpid(kept, &status, 0), kept, "kept for waitpid")
        report.equal(status >> 8, 7, "kept: status")
        // Another child's status is nobody's but its own.
        let other = startChild("exit 8")
        // Stolen.
        let stolen = startChild("exit 6")
        told = []
        try loop.childExit(stolen) { _, exit in told.append(exit.status) }
        report.equal(waitpid(stolen, nil, 0), stolen, "stolen")
        turn(loop) { !told.isEmpty }
        report.equal(told, [lost], "stolen")
        report.equal(waitpid(other, &status, 0), other, "the other child is still there")
        report.equal(status >> 8, 8, "the other child's status")
        // Ignored.
        signal(SIGCHLD, SIG_IGN)
        let ignored = startChild("sleep 0.05; exit 6")
        told = []
        try loop.childExit(ignored) { _, exit in told.append(exit.status) }
        turn(loop) { !told.isEmpty }
        report.equal(told, [lost], "ignored")
        signal(SIGCHLD, SIG_DFL)
        // Not our child: the child of a child.
        var ends: [CInt] = [0, 0]
        pipe(&ends)
        // As its descriptor 0, which has one digit in any case: a shell knows no others.
        let parent = startChild("sleep 0.1 >/dev/null & echo $! >&0; wait", input: ends[1])
        var text = [UInt8](repeating: 0, count: 32)
        let count = read(ends[0], &text, 32)
        let grandchild = CInt(String(decoding: text.prefix(max(count - 1, 0)), as: UTF8.self)) ?? 0
        told = []
        try loop.childExit(grandchild) { _, exit in told.append(exit.status) }
        turn(loop) { !told.isEmpty }
        // What the kernel remembers it knows once the shell has waited for its child, which may be a moment later.
        let possible: [ExitStatus] = remembers ? [.exited(0), .unknown] : [.unknown]
        report.expect(told.count == 1 && possible.contains(told[0]), "grandchild: \(told)")
        waitpid(parent, nil, 0)
    }

    /// C4: the pidfd is gone before the callback; cancel leaves the child alone; kill reaches it or nobody.
    static func childHandle(_ report: Report) throws {
        let loop = try Loop()
        let before = pidfds()
        var order: [String] = []
        let pid = startChild("sleep 5")
        var second: ChildObserver?
        let first = try loop.childExit(pid) { _, exit in
            order.append("first \(exit.status)")
            report.equal(pidfds(), before, "pidfds in the callback")
            report.equal(second?.cancel(), true, "one observer cancels a later one")
        }
        second = try loop.childExit(pid) { _, _ in order.append("second") }
        try loop.childExit(pid) { _, _ in order.append("third") }
        report.equal(pidfds(), before + 1, "one pidfd for all observers")
        for descriptor in pidfdNumbers() {  // L5
            report.expect(fcntl(descriptor, F_GETFL) & O_NONBLOCK != 0, "a pidfd that blocks")
            report.expect(fcntl(descriptor, F_GETFD) & FD_CLOEXEC != 0, "a pidfd that is inherited")
        }
        report.expect(first.isActive, "active")
        report.throwing(.system(SystemError(call: "pidfd_send_signal", code: EINVAL)), "no signal") {
            () throws(LoopError) in try first.kill(999)
        }
        try first.kill(SIGTERM)
        turn(loop) { order.count >= 2 }
        try loop.runOnce(timeout: .zero)
        report.equal(order, ["first killed(\(SIGTERM))", "third"], "in the order made")
        report.expect(!first.isActive && !first.cancel(), "told once, and over")
        report.throwing(.system(SystemError(call: "pidfd_send_signal", code: ESRCH)), "kill after the end") {
            () throws(LoopError) in try first.kill(SIGTERM)
        }
        // Cancelled: the child lives on, and is its parent's to wait for.
        let spared = startChild("sleep 0.1; exit 9")
        let cancelled = try loop.childExit(spared) { _, _ in order.append("cancelled") }
        report.equal(cancelled.cancel(), true, "cancel")
        report.equal(cancelled.cancel(), false, "cancel again")
        report.equal(pidfds(), before, "pidfds after cancel")
        var status: CInt = 0
        report.equal(waitpid(spared, &status, 0), spared, "spared")
        report.equal(status >> 8, 9, "spared: status")
        // The loop's end leaves children alone, too.
        let orphan = startChild("exit 10")
        try loop.childExit(orphan) { _, _ in order.append("after close") }
        try loop.close()
        report.equal(pidfds(), before, "pidfds after close")
        report.equal(waitpid(orphan, &status, 0), orphan, "after close")
        report.equal(order.count, 2, "nothing more was told: \(order)")
    }

    /// C1: a core file is told, where this machine leaves one.
    static func childCore(_ report: Report) throws {
        let script = "cd /tmp && ulimit -c unlimited && kill -6 $$"
        var status: CInt = 0
        let control = startChild(script)
        waitpid(control, &status, 0)
        unlink("/tmp/core")
        unlink("/tmp/core.\(control)")
        guard status & 0x80 != 0 else { return say("no core files here") }
        let loop = try Loop()
        let pid = startChild(script)
        var told: [ExitStatus] = []
        try loop.childExit(pid) { _, exit in told.append(exit.status) }
        turn(loop) { !told.isEmpty }
        unlink("/tmp/core")
        unlink("/tmp/core.\(pid)")
        report.equal(told, [.dumpedCore(SIGABRT)], "dumped")
    }

    /// C2: a process that vanishes while it is opened, as some kernels tell it; run with EINVAL put into the first
    /// call.
    static func childVanishing(_ report: Report) throws {
        let loop = try Loop()
        let pid = startChild("exit 0")
        report.throwing(.system(SystemError(call: "pidfd_open", code: ESRCH)), "vanishing") { () throws(LoopError) in
            try loop.childExit(pid) { _, _ in }
        }
        waitpid(pid, nil, 0)
    }

    /// C2 C3 C4: several observers of one process, and a process whose number means nobody any more.
    static func childSharing(_ report: Report) throws {
        final class Tracker {
            let ended: () -> Void
            init(_ ended: @escaping () -> Void) { self.ended = ended }
            deinit { ended() }
        }
        let loop = try Loop()
        let before = pidfds()
        // One that reaps is enough, wherever it stands, and the cancel of one leaves the others.
        for order in [[true, false, false], [false, true, false], [false, false, true]] {
            let pid = startChild("sleep 0.05; exit 11")
            var told: [Int] = []
            let observers = try order.enumerated().map { index, reaps in
                try loop.childExit(pid, reap: reaps) { _, exit in
                    report.equal(exit.status, .exited(11), "status")
                    told.append(index)
                }
            }
            let cancelled = order[0] ? 1 : 0
            report.expect(observers[cancelled].cancel(), "cancel of one")
            report.expect(observers[2].isActive, "the others are active")
            turn(loop) { told.count >= 2 }
            report.equal(told, [0, 1, 2].filter { $0 != cancelled }, "the others are told")
            report.equal(waitpid(pid, nil, WNOHANG), -1, "one that reaps is enough: \(order)")
        }
        // The one that would reap has gone: the status is left.
        let left = startChild("exit 12")
        var told = 0
        try loop.childExit(left) { _, _ in told += 1 }.cancel()
        try loop.childExit(left, reap: false) { _, _ in told += 1 }
        turn(loop) { told > 0 }
        report.equal(told, 1, "the one that is left")
        report.equal(waitpid(left, nil, 0), left, "left for somebody else")

        // Somebody else waits for a process that is observed: from then on the number means nobody.
        let stolen = startChild("exit 13")
        try loop.childExit(stolen) { _, _ in }
        report.equal(waitpid(stolen, nil, 0), stolen, "stolen")
        report.throwing(.system(SystemError(call: "pidfd_open", code: ESRCH)), "a number of the past") {
            () throws(LoopError) in try loop.childExit(stolen) { _, _ in }
        }
        try pump(loop)

        // A handler goes when it has run or was cancelled, also while its handle is kept.
        var released: [String] = []
        let child = startChild("exit 14")
        var kept: [ChildObserver] = []
        for name in ["cancelled", "told"] {
            let tracker = Tracker { released.append(name) }
            kept.append(try loop.childExit(child) { _, _ in withExtendedLifetime(tracker) {} })
        }
        kept[0].cancel()
        report.equal(released, ["cancelled"], "released at once")
        turn(loop) { !kept[1].isActive }
        report.equal(released, ["cancelled", "told"], "released when it has run")
        report.equal(pidfds(), before, "pidfds")
    }

    /// C3 C4: somebody else has waited for a child, and its number is another child's before the loop has turned.
    static func childNumber(_ report: Report) throws {
        let before = openDescriptors()
        let loop = try Loop()
        var told: [String] = []
        let first = startChild("exit 6")
        var kept = [try loop.childExit(first) { _, exit in told.append("first \(exit.status)") }]
        report.equal(waitpid(first, nil, 0), first, "stolen")
        guard let second = start("exit 8", as: first) else { return say("numbers cannot be chosen here") }
        // Not reaped yet: it is there until somebody waits for it.
        report.throwing(.system(SystemError(call: "pidfd_send_signal", code: ESRCH)), "kill") { () throws(LoopError) in
            try kept[0].kill(SIGKILL)
        }
        turn(loop) { told.count >= 1 }
        report.equal(told, ["first \(remembers ? ExitStatus.exited(6) : .unknown)"], "the first child's end")
        var status: CInt = 0
        report.equal(waitpid(second, &status, 0), second, "the second child is still there")
        report.equal(status >> 8, 8, "the second child's status")

        // Both observed at a time.
        told = []
        let third = startChild("exit 6")
        kept.append(try loop.childExit(third) { _, exit in told.append("third \(exit.status)") })
        report.equal(waitpid(third, nil, 0), third, "stolen again")
        guard let fourth = start("exit 9", as: third) else { return say("numbers cannot be chosen here") }
        kept.append(try loop.childExit(fourth) { _, exit in told.append("fourth \(exit.status)") })
        turn(loop) { told.count >= 2 }
        report.equal(
            told.sorted(), ["fourth exited(9)", "third \(remembers ? ExitStatus.exited(6) : .unknown)"], "each its own")

        // And both left at the loop's end, whose handles are kept.
        final class Tracker {
            let ended: () -> Void
            init(_ ended: @escaping () -> Void) { self.ended = ended }
            deinit { ended() }
        }
        var released = 0
        var number = startChild("exit 6")
        for isLast in [false, true] {
            let tracker = Tracker { released += 1 }
            kept.append(try loop.childExit(number) { _, _ in withExtendedLifetime(tracker) {} })
            report.equal(waitpid(number, nil, 0), number, "stolen once more")
            if isLast { break }
            guard let next = start("exit 6", as: number) else { return say("numbers cannot be chosen here") }
            number = next
        }
        try loop.close()
        report.equal(released, 2, "handlers released by close()")
        report.expect(kept.allSatisfy { !$0.isActive && !$0.cancel() }, "handles of the past")
        report.equal(openDescriptors(), before, "descriptors, with the handles kept")
        say("numbers were chosen")
    }

    /// A child with a number of one's choice, which must be free; nil where the kernel does not allow it.
    private static func start(_ script: String, as number: pid_t) -> pid_t? {
        for _ in 0..<50 {
            let file = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC)
            guard file >= 0 else { return nil }
            let text = String(number - 1)
            let written = write(file, text, text.utf8.count)
            close(file)
            guard written > 0 else { return nil }
            // Somebody else may start a process just now.
            let pid = startChild(script)
            if pid == number { return pid }
            waitpid(pid, nil, 0)
        }
        return nil
    }

    /// C1 C3: many at once, each told once, none left.
    static func childCrowd(_ report: Report) throws {
        let loop = try Loop()
        let before = pidfds()
        var told: [CInt: ExitStatus] = [:]
        var expected: [CInt: ExitStatus] = [:]
        for index in 0..<300 {
            let pid = startChild(index % 3 == 0 ? "kill -9 $$" : "exit \(index % 100)")
            expected[pid] = index % 3 == 0 ? .killed(SIGKILL) : .exited(CInt(index % 100))
            try loop.childExit(pid) { _, exit in
                report.expect(told[exit.pid] == nil, "told twice")
                told[exit.pid] = exit.status
            }
        }
        turn(loop) { told.count == expected.count }
        report.expect(told == expected, "as they ended")
        report.equal(waitpid(-1, nil, WNOHANG), -1, "no zombie")
        report.equal(errno, ECHILD, "no child")
        report.equal(pidfds(), before, "pidfds")
    }

    /// L14, C4: what close() does to observers whose handles are kept, and what a handler's end may not do any more.
    static func childEnd(_ report: Report) throws {
        final class Tracker {
            let ended: () -> Void
            init(_ ended: @escaping () -> Void) { self.ended = ended }
            deinit { ended() }
        }
        let before = openDescriptors()
        let loop = try Loop()
        var released = 0
        let first = startChild("sleep 1"), second = startChild("sleep 1")
        let kept: ChildObserver
        do {
            let tracker = Tracker { [unowned loop] in
                released += 1
                report.throwing(.closed, "childExit in a deinit") { () throws(LoopError) in
                    try loop.childExit(second) { _, _ in report.expect(false, "told after the end") }
                }
            }
            kept = try loop.childExit(first) { _, _ in withExtendedLifetime(tracker) {} }
        }
        try loop.close()
        report.equal(released, 1, "released by close(), although the handle is kept")
        report.expect(!kept.isActive && !kept.cancel(), "a handle of the past")
        report.equal(openDescriptors(), before, "descriptors, with the handle kept")
        for pid in [first, second] {
            Glibc.kill(pid, SIGKILL)
            report.equal(waitpid(pid, nil, 0), pid, "left alone")
        }
    }

    /// L9: a loop that ends in a child of fork takes nothing from its parent.
    static func forkedEnd(_ report: Report) throws {
        var ends: [CInt] = [0, 0]
        pipe(&ends)
        var reads = 0, signals = 0, fired = 0
        let before = openDescriptors()
        var loop: Loop? = try Loop()
        let descriptor = try loop?.descriptor ?? -1
        try loop?.watch(
            ends[0],
            read: { _, descriptor, _ in
                var byte: UInt8 = 0
                read(descriptor, &byte, 1)
                reads += 1
            })
        try loop?.signal(SIGUSR1) { _, _ in signals += 1 }
        try loop?.eventfd { _, _ in }
        loop?.after(.milliseconds(150)) { _, _ in fired += 1 }
        let parent = getpid()
        let child = fork()
        if child == 0 {
            loop = nil
            exit(openDescriptors() == before ? 0 : 1)
        }
        guard let loop else { return }
        var told: ExitStatus?
        try loop.childExit(child) { _, exit in told = exit.status }
        turn(loop) { told != nil }
        report.equal(told, .exited(0), "the child closed its copies")
        Glibc.kill(parent, SIGUSR1)
        var byte: UInt8 = 1
        write(ends[1], &byte, 1)
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        report.equal(poll(&entry, 1, 1_000), 1, "the parent's descriptor")
        turn(loop) { signals > 0 && reads > 0 && fired > 0 }
        report.equal([signals, reads, fired], [1, 1, 1], "signal, watcher and timer of the parent")
    }

    /// L9 E2: in a child of fork a loop of the parent's refuses, its waker works, and the parent goes on undisturbed.
    ///
    /// The one place where Swift runs between fork and the end of the child: this process has one thread.
    static func forked(_ report: Report) throws {
        let loop = try Loop()
        var ends: [CInt] = [0, 0]
        pipe(&ends)
        var reads = 0
        var wakes = 0
        let watcher = try loop.watch(
            ends[0],
            read: { _, descriptor, _ in
                var byte: UInt8 = 0
                read(descriptor, &byte, 1)
                reads += 1
            })
        loop.onWake { _ in wakes += 1 }
        let timer = loop.after(.milliseconds(50)) { _, _ in }
        let waker = loop.waker
        let child = fork()
        if child == 0 {
            let report = Report()
            report.throwing(.forked, "run") { () throws(LoopError) in try loop.run() }
            report.throwing(.forked, "runOnce") { () throws(LoopError) in try loop.runOnce(timeout: .zero) }
            report.throwing(.forked, "wait") { () throws(LoopError) in try loop.wait(timeout: .zero) }
            report.throwing(.forked, "watch") { () throws(LoopError) in try loop.watch(ends[1], write: { _, _, _ in }) }
            report.throwing(.forked, "unwatch") { () throws(LoopError) in try loop.unwatch(ends[0]) }
            report.throwing(.forked, "every") { () throws(LoopError) in try loop.every(.seconds(1)) { _, _ in } }
            report.throwing(.forked, "eventfd") { () throws(LoopError) in try loop.eventfd { _, _ in } }
            report.throwing(.forked, "signal") { () throws(LoopError) in try loop.signal(SIGUSR1) { _, _ in } }
            report.throwing(.forked, "childExit") { () throws(LoopError) in try loop.childExit(1) { _, _ in } }
            report.throwing(.forked, "descriptor") { () throws(LoopError) in _ = try loop.descriptor }
            report.throwing(.forked, "close") { () throws(LoopError) in try loop.close() }
            report.expect(!watcher.cancel() && !watcher.isActive, "a watcher of the parent's")
            report.expect(!timer.cancel() && !timer.isScheduled, "a timer of the parent's")
            report.expect(!loop.after(.zero) { _, _ in }.isScheduled, "a new timer")
            report.expect((try? watcher.disableRead()) == false, "interest")
            loop.stop()
            loop.defer { _ in }
            waker.signal()
            do {
                let own = try Loop()
                var ran = false
                own.after(.milliseconds(1)) { loop, _ in
                    ran = true
                    loop.stop()
                }
                try own.run()
                report.expect(ran, "a loop of its own")
            } catch { report.expect(false, "a loop of its own: \(error)") }
            for failure in report.failures { say("FAILED in the child: \(failure)") }
            exit(report.failures.isEmpty ? 0 : 1)
        }
        var told: ExitStatus?
        try loop.childExit(child) { _, exit in told = exit.status }
        turn(loop) { told != nil && wakes > 0 }
        report.equal(told, .exited(0), "the child")
        report.equal(wakes, 1, "the child's signal woke the parent")
        report.expect(!loop.isStopRequested, "the child's stop stopped nothing here")
        var byte: UInt8 = 1
        write(ends[1], &byte, 1)
        turn(loop) { reads > 0 }
        report.equal(reads, 1, "the parent's watcher is still in the kernel's set")
        report.expect(watcher.isActive, "and in its table")
    }

    /// Turns until a condition holds, ten seconds at most (more on a slow machine).
    private static func turn(_ loop: Loop, until holds: () -> Bool) {
        let end = Instant.now.advanced(by: .seconds(10 * slowness))
        while !holds(), Instant.now < end {
            do { try loop.runOnce(timeout: .milliseconds(100)) } catch { fatalError("runOnce: \(error)") }
        }
    }

    /// Linux 6.15 and later know how a process ended also when somebody else has waited for it.
    private static var remembers: Bool {
        var name = utsname()
        uname(&name)
        let release = withUnsafeBytes(of: &name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        let numbers = release.split(whereSeparator: { !$0.isNumber }).prefix(2).compactMap { Int($0) }
        return numbers.count == 2 && (numbers[0], numbers[1]) >= (6, 15)
    }

    private static func pidfds() -> Int { pidfdNumbers().count }

    private static func pidfdNumbers() -> [CInt] {
        (CInt(0)..<1024).filter { descriptor in
            var text = [CChar](repeating: 0, count: 64)
            guard readlink("/proc/self/fd/\(descriptor)", &text, 63) > 0 else { return false }
            let name = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            return name.contains("pidfd")
        }
    }
}

/// Starts a shell; its input is this one's, or another.
func startChild(_ script: String, input: CInt? = nil) -> pid_t {
    var pid: pid_t = 0
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    if let input { posix_spawn_file_actions_adddup2(&actions, input, 0) }
    let texts = ["sh", "-c", script]
    var words: [UnsafeMutablePointer<CChar>?] = texts.map { strdup($0) } + [nil]
    let result = posix_spawn(&pid, "/bin/sh", &actions, nil, &words, environ)
    for word in words { free(word) }
    posix_spawn_file_actions_destroy(&actions)
    if result != 0 { fatalError("test preparation: posix_spawn: \(result)") }
    return pid
}
