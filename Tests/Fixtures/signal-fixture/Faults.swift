import CLinux
import Glibc
import LinuxEvent

/// L11, W8: one system call somewhere in here is made to fail from outside, with the errno named by the argument.
func creation(_ report: Report) throws {
    let codes: [String: CInt] = ["EMFILE": EMFILE, "ENFILE": ENFILE, "ENOMEM": ENOMEM, "ENOSPC": ENOSPC]
    guard CommandLine.arguments.count > 2, let code = codes[CommandLine.arguments[2]] else {
        return report.expect(false, "which errno?")
    }
    let first = makePipe()
    let second = makePipe()
    let before = openDescriptors()
    var failures = 0
    func attempt(_ step: String, _ body: () throws(LoopError) -> Void) -> Bool {
        do throws(LoopError) {
            try body()
            return true
        } catch {
            failures += 1
            report.equal(error.code, code, "\(step): \(error)")
            return false
        }
    }

    var made: Loop?
    if !attempt("Loop()", { () throws(LoopError) in made = try Loop() }) {
        report.equal(openDescriptors(), before, "descriptors after a failed creation")
        // Only one call fails: the next attempt must find nothing in its way.
        made = try Loop()
    }
    guard let loop = made else { return report.expect(false, "no loop") }
    var calls: [String] = []
    func watch(_ descriptor: CInt, _ name: String) throws(LoopError) {
        try loop.watch(
            descriptor,
            read: { _, fd, _ in
                var byte: UInt8 = 0
                while read(fd, &byte, 1) > 0 {}
                calls.append(name)
            })
    }

    if !attempt("watch", { () throws(LoopError) in try watch(first.reader, "first") }) {
        report.equal(loop.statistics.watchers, 0, "watchers after a refused watch")
        report.expect(loop.watcher(of: first.reader) == nil, "a refused watcher is found")
        try watch(first.reader, "first")
    }
    if !attempt("second watch", { () throws(LoopError) in try watch(second.reader, "second") }) {
        report.equal(loop.statistics.watchers, 1, "watchers after a refused watch")
        try watch(second.reader, "second")
    }
    // A refused replacement leaves the present watcher in place.
    let held = loop.watcher(of: first.reader)
    if !attempt("replacement", { () throws(LoopError) in try watch(first.reader, "replaced") }) {
        report.expect(held?.isActive == true, "a refused replacement ended the old watcher")
        _ = write(first.writer, "x", 1)
        _ = try loop.runOnce(timeout: .milliseconds(50))
        report.equal(calls, ["first"], "the old watcher reports on")
        calls = []
        try watch(first.reader, "replaced")
    }
    var counted = 0
    if !attempt(
        "eventfd",
        { () throws(LoopError) in
            try loop.eventfd { _, event in counted += Int(event.count) }.signaller.signal(3)
        })
    {
        try loop.eventfd { _, event in counted += Int(event.count) }.signaller.signal(3)
    }
    var signals = 0
    if !attempt("signal", { () throws(LoopError) in try loop.signal(SIGUSR1) { _, _ in signals += 1 } }) {
        report.equal(blockedSignals(), [], "the mask after a refused claim")
        let other = try Loop()
        try other.signal(SIGUSR1) { _, _ in }.cancel()
        try loop.signal(SIGUSR1) { _, _ in signals += 1 }
    }
    kill(getpid(), SIGUSR1)
    var exits = 0
    let pid = startChild("exit 0")
    if !attempt("childExit", { () throws(LoopError) in try loop.childExit(pid) { _, _ in exits += 1 } }) {
        try loop.childExit(pid) { _, _ in exits += 1 }
    }
    if !attempt("descriptor", { () throws(LoopError) in _ = try loop.descriptor }) { _ = try loop.descriptor }
    _ = write(first.writer, "x", 1)
    _ = write(second.writer, "x", 1)
    var fired = false
    loop.after(.milliseconds(1)) { _, _ in fired = true }
    for _ in 0..<200 where !fired || exits == 0 { _ = try loop.runOnce(timeout: .milliseconds(50)) }
    report.equal(calls.sorted(), ["replaced", "second"], "callbacks")
    report.equal(counted, 3, "the counter")
    report.equal([signals, exits], [1, 1], "the signal and the child's end")
    report.expect(fired, "the timer did not fire")
    report.expect(failures <= 1, "one fault, \(failures) failures")
    try loop.close()
    report.equal(openDescriptors(), before, "descriptors after the end")
    say(failures == 0 ? "everything worked" : "one call was refused")
}

/// W9: while the set is made anew, one epoll_ctl fails from outside. The old set serves on, whole.
func rebuildInPart(_ report: Report) throws {
    let loop = try Loop()
    let pipes = (0..<3).map { _ in makePipe() }
    var calls = [0, 0, 0]
    for (index, pipe) in pipes.enumerated() {
        try loop.watch(pipe.reader, read: { _, descriptor, _ in
            var byte: UInt8 = 0
            while read(descriptor, &byte, 1) > 0 {}
            calls[index] += 1
        })
    }
    // Closed while a copy of it lives, and ended after that: nobody names it any more, and it goes on reporting.
    let gone = makePipe()
    let copy = fcntl(gone.reader, F_DUPFD_CLOEXEC, 0)
    try loop.watch(gone.reader, read: { _, _, _ in report.expect(false, "a callback of the past") })
    close(gone.reader)
    try loop.unwatch(gone.reader)
    _ = write(gone.writer, "x", 1)
    try pump(loop, 2)
    say("rebuilds \(loop.statistics.rebuilds)")
    // The question whether a number still means its file was hit: the kernel never answers it so.
    if loop.statistics.vanished > 0 { return say("not this one") }
    var woken = false
    loop.onWake { _ in woken = true }
    loop.waker.signal()
    var fired = false
    loop.after(.milliseconds(1)) { _, _ in fired = true }
    for pipe in pipes { _ = write(pipe.writer, "x", 1) }
    let end = monotonic() + 500_000_000
    while !fired || !woken || calls.contains(0), monotonic() < end { try loop.runOnce(timeout: .milliseconds(1)) }
    report.equal(calls, [1, 1, 1], "every watcher is still in the set")
    report.expect(woken && fired, "the waker and the timer are, too")
    close(copy)
}

/// L16: one system call does not exist. That is a typed error whose text names what is missing, or not needed at all.
func missingFeature(_ report: Report) throws {
    do throws(LoopError) {
        let loop = try Loop()
        loop.after(.milliseconds(1)) { loop, _ in loop.stop() }
        _ = try loop.runOnce(timeout: .milliseconds(5))
        say("not needed")
    } catch {
        say("refused: \(error)")
        switch error {
        case .unsupported(let feature): report.expect(!feature.isEmpty, "no name")
        default: report.expect(false, "not .unsupported: \(error)")
        }
    }
}
