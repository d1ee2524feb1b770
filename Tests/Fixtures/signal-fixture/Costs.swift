import CLinux
import Glibc
import LinuxEvent

// Seen from outside: the calls between two marks are counted in an strace.

private func once(_ loop: Loop, _ descriptor: CInt, _ body: @escaping (Loop) -> Void) throws {
    loop.defer(body)
    try pump(loop)
}

/// W5, W8: what changes of interest cost.
func interestCost(_ report: Report) throws {
    let loop = try Loop()
    let pair = makePair()
    _ = write(pair.far, "x", 1)
    var calls = 0
    let watcher = try loop.watch(pair.near, read: { _, _, _ in calls += 1 }, write: { _, _, _ in })
    try watcher.disableWrite()
    try pump(loop)

    mark("dispatch")
    try pump(loop, 100)
    report.equal(calls, 101, "callbacks")

    mark("undone inside")
    try once(loop, pair.near) { _ in
        for _ in 0..<10 {
            _ = try? watcher.disableRead()
            _ = try? watcher.enableRead()
            _ = try? watcher.enableWrite()
            _ = try? watcher.setInterest([])
            _ = try? watcher.setInterest([.read])
        }
    }
    mark("nothing changed")
    try watcher.enableRead()
    try watcher.disableWrite()
    try watcher.setInterest([.read])
    mark("changed inside")
    try once(loop, pair.near) { _ in
        _ = try? watcher.enableWrite()
        _ = try? watcher.disableRead()
        _ = try? watcher.enableRead()
    }
    mark("changed outside")
    try watcher.disableWrite()
    mark("pause and resume")
    for _ in 0..<50 {
        try once(loop, pair.near) { _ in _ = try? watcher.disableRead() }
        try once(loop, pair.near) { _ in _ = try? watcher.enableRead() }
    }
    mark("end")
}

/// W7: what re-arming costs.
func oneshotCost(_ report: Report) throws {
    let loop = try Loop()
    let level = makePipe()
    _ = write(level.writer, "x", 1)
    var calls = 0
    let levelWatcher = try loop.watch(
        level.reader,
        read: { _, _, watcher in
            calls += 1
            _ = try? watcher.rearm()
        }, oneshot: true)
    try pump(loop)
    mark("level")
    try pump(loop, 100)
    report.equal(calls, 101, "level callbacks")
    mark("between")
    levelWatcher.cancel()

    let edge = makePipe()
    _ = write(edge.writer, "x", 1)
    calls = 0
    let edgeWatcher = try loop.watch(
        edge.reader,
        read: { _, _, watcher in
            calls += 1
            _ = try? watcher.rearm()
        }, edgeTriggered: true, oneshot: true)
    try pump(loop)
    mark("edge")
    try pump(loop, 100)
    report.equal(calls, 101, "edge callbacks")
    mark("between")
    edgeWatcher.cancel()

    let late = makePipe()
    _ = write(late.writer, "x", 1)
    calls = 0
    var rearms = false
    let lateWatcher = try loop.watch(
        late.reader,
        read: { _, _, watcher in
            calls += 1
            if rearms { _ = try? watcher.rearm() }
        }, oneshot: true)
    try pump(loop)
    try lateWatcher.rearm()
    mark("re-armed later")
    for _ in 0..<50 {
        try pump(loop)
        try lateWatcher.rearm()
    }
    // From now on the kernel does it by itself.
    try pump(loop)
    mark("kernel disarms")
    for _ in 0..<50 {
        try lateWatcher.rearm()
        try pump(loop)
    }
    mark("in the callback again")
    rearms = true
    try lateWatcher.rearm()
    try pump(loop)
    mark("as at first")
    try pump(loop, 100)
    mark("end")
    report.equal(calls, 203, "late callbacks")
}

/// T1: how often the timerfd is set.
func timerCost(_ report: Report) throws {
    let loop = try Loop()
    // A wait that may last, but has something to fetch already.
    func wait() throws {
        loop.waker.signal()
        try loop.runOnce()
    }
    loop.after(.seconds(1_000)) { _, _ in }
    try wait()
    mark("later deadlines")
    for second in 1_001..<1_051 {
        loop.after(.seconds(second)) { _, _ in }
        try wait()
    }
    mark("scheduled and cancelled in one turn")
    loop.defer { loop in
        for _ in 0..<100 {
            let timer = loop.after(.seconds(10)) { _, _ in }
            timer.cancel()
        }
    }
    try wait()
    mark("earlier deadline")
    loop.after(.seconds(500)) { _, _ in }
    for _ in 0..<50 { try wait() }
    mark("end")
}

/// E2: the waker's counter is written, and not read.
func wakerCost(_ report: Report) throws {
    let loop = try Loop()
    var wakes = 0
    loop.onWake { _ in wakes += 1 }
    try pump(loop)
    mark("wakes")
    for _ in 0..<50 {
        loop.waker.signal()
        try pump(loop)
    }
    mark("end")
    report.equal(wakes, 50, "wakes")
}
