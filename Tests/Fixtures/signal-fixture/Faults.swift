import CLinux
import Glibc
import LinuxEvent

/// W9: while the set is made anew, one epoll_ctl fails from outside. The old set serves on, whole.
func rebuildInPart(_ report: Report) throws {
    let loop = try Loop()
    let pipes = (0..<3).map { _ in makePipe() }
    var calls = [0, 0, 0]
    for (index, pipe) in pipes.enumerated() {
        try loop.watch(
            pipe.reader,
            read: { _, descriptor, _ in
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
