import CLinux
import Glibc
import LinuxEvent

/// Pieces of a loop's life, each to be gone through with a fault anywhere.
enum Scenario {
    /// L: turns in every form, an end by `close` and one without.
    static func life(_ trial: Trial) throws {
        let loop = try trial.makeLoop()
        let token = trial.token()
        var ran: [String] = []
        loop.after(.milliseconds(1)) { _, _ in
            token.touch()
            ran.append("timer")
        }
        try trial.turns(loop, "a timer") { ran == ["timer"] }

        loop.defer { _ in
            token.touch()
            ran.append("deferred")
        }
        try trial.attempt("wait", loop) { try loop.wait(timeout: .zero) }
        try trial.attempt("dispatch", loop) { try loop.dispatch() }
        trial.report.equal(ran, ["timer", "deferred"], "the second half of a turn")

        loop.after(.zero) { loop, _ in loop.stop() }
        try trial.attempt("run", loop) { try loop.run() }
        loop.onWake { loop in
            token.touch()
            ran.append("woken")
            loop.stop()
        }
        loop.waker.signal()
        try trial.attempt("run", loop) { try loop.run() }
        trial.report.equal(ran.last, "woken", "run")
        trial.report.equal(try trial.turn(loop).stopped, false, "a stop is used up once")

        // A loop within a callback of another's, and one that is only dropped.
        let other = try trial.makeLoop()
        loop.defer { _ in
            do { try trial.expectUsable(other) } catch { trial.report.expect(false, "in a callback: \(error)") }
        }
        try trial.turn(loop)
        try trial.expectUsable(loop)
        try trial.attempt("close") { try loop.close() }
        trial.report.throwing(.closed, "closed") { () throws(LoopError) in try loop.runOnce() }
        other.defer { _ in token.touch() }
    }

    /// T: the alarm is set for the earliest, and nothing is lost when it cannot be.
    static func timers(_ trial: Trial) throws {
        let loop = try trial.makeLoop()
        let token = trial.token()
        var fired: [String] = []
        func note(_ name: String) -> (Loop, LinuxEvent.Timer) -> Void {
            { _, _ in
                token.touch()
                fired.append(name)
            }
        }
        loop.after(.seconds(1_000), note("far"))
        let second = loop.after(.milliseconds(2), note("second"))
        loop.after(.milliseconds(1), note("first"))
        loop.after(.milliseconds(1), note("cancelled")).cancel()
        loop.at(Instant(nanoseconds: 0), note("past"))
        let deadline = second.deadline
        try trial.turns(loop, "three timers") { fired.count == 3 }
        trial.report.equal(fired, ["past", "first", "second"], "the order of timers")
        trial.report.expect(deadline.map { $0 <= .now } ?? false, "a timer came early")

        var rounds = 0
        try loop.every(.milliseconds(1)) { _, timer in
            token.touch()
            rounds += 1
            if rounds == 3 { timer.cancel() }
        }
        try trial.turns(loop, "three rounds") { rounds == 3 }

        // The limit of a wait is in the alarm too.
        let start = monotonic()
        let turn = try trial.turn(loop, .milliseconds(1))
        trial.report.expect(monotonic() - start >= 1_000_000, "a wait was cut short")
        trial.report.equal(turn.timers, 0, "nothing was due")
        try trial.expectUsable(loop)
    }

    /// E: wakes, and counters up to the brim.
    static func counters(_ trial: Trial) throws {
        let before = State.openDescriptors()
        let loop = try trial.makeLoop()
        let token = trial.token()
        let own = State.openDescriptors().filter { number in
            !before.contains(number) && State.link("/proc/self/fd/\(number)") == "anon_inode:[eventfd]"
        }
        var wakes = 0
        loop.onWake { _ in
            token.touch()
            wakes += 1
        }
        loop.waker.signal()
        loop.waker.signal()
        try trial.turns(loop, "a wake") { wakes == 1 }
        // Full: a signal takes no effect but by reading it.
        for descriptor in own { Self.fill(descriptor) }
        try trial.turn(loop)
        wakes = 0
        loop.waker.signal()
        try trial.turns(loop, "a wake by a full counter") { wakes == 1 }

        var sum: UInt64 = 0
        let event = try trial.attempt("eventfd", loop) {
            try loop.eventfd { _, event in
                token.touch()
                sum &+= event.count
            }
        }
        event.signaller.signal(3)
        event.signaller.signal()
        try trial.turns(loop, "a count") { sum == 4 }
        sum = 0
        event.signaller.signal(.max - 1)
        event.signaller.signal(7)
        try trial.turns(loop, "a full count") { sum != 0 }
        trial.report.equal(sum, .max - 1, "a full count")
        trial.report.expect(event.cancel(), "cancel")
        event.signaller.signal()
        let kept = event.signaller
        try trial.expectUsable(loop)
        let waker = loop.waker
        try trial.attempt("close") { try loop.close() }
        waker.signal()
        kept.signal()
    }

    private static func fill(_ descriptor: CInt) {
        var value = UInt64.max - 1
        var old: UInt64 = 0
        withUnsafeMutablePointer(to: &old) { old in
            var vector = iovec(iov_base: old, iov_len: 8)
            _ = readv(descriptor, &vector, 1)
        }
        withUnsafeMutablePointer(to: &value) { value in
            var vector = iovec(iov_base: value, iov_len: 8)
            _ = writev(descriptor, &vector, 1)
        }
    }

    /// L6: a foreign loop polls, and turns ours when there is something to do.
    static func embedded(_ trial: Trial) throws {
        let loop = try trial.makeLoop()
        let token = trial.token()
        loop.after(.seconds(1_000)) { _, _ in token.touch() }
        let before = State.openDescriptors()
        let descriptor = try trial.attempt("descriptor", loop) { try loop.descriptor }
        trial.note(State.sets(since: before))
        trial.report.equal(try loop.descriptor, descriptor, "one number for life")

        /// What a foreign loop does: it never turns unasked.
        func drive(_ what: String, line: Int = #line, until holds: () -> Bool) throws {
            while !holds() {
                var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                guard poll(&entry, 1, 500) == 1 else {
                    return trial.report.expect(false, "a foreign loop never hears of \(what)", line: line)
                }
                try trial.turn(loop, .zero, line: line)
            }
        }

        var ran: [String] = []
        loop.after(.milliseconds(1)) { loop, _ in
            token.touch()
            ran.append("timer")
            loop.after(.milliseconds(1)) { _, _ in ran.append("second") }
        }
        try drive("a timer") { ran == ["timer"] }
        try drive("a timer made in a turn") { ran == ["timer", "second"] }
        loop.defer { loop in
            token.touch()
            ran.append("deferred")
            loop.defer { _ in ran.append("deferred again") }
        }
        try drive("a deferred block") { ran.last == "deferred again" }
        loop.stop()
        try drive("a stop") { !loop.isStopRequested }
        let ends = trial.ends()
        _ = try trial.watch("watch", loop) {
            try loop.watch(
                ends.reader,
                read: { _, descriptor, _ in
                    token.touch()
                    Ends.drain(descriptor)
                    ran.append("event")
                })
        }
        ends.put()
        try drive("an event") { ran.last == "event" }
        loop.onWake { _ in ran.append("wake") }
        loop.waker.signal()
        try drive("a wake") { ran.last == "wake" }

        try trial.turn(loop)
        try trial.turn(loop)
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        trial.report.equal(poll(&entry, 1, 0), 0, "nothing to do, and a foreign loop is told to turn")

        // The same by another loop of ours.
        let host = try trial.makeLoop()
        let guest = try trial.watch("watch a loop", host) {
            try host.watch(
                descriptor,
                read: { _, _, _ in
                    do { try trial.turn(loop) } catch { trial.report.expect(false, "a turn in a turn: \(error)") }
                })
        }
        loop.after(.milliseconds(1)) { _, _ in ran.append("hosted timer") }
        try trial.turns(host, "a timer of the other loop") { ran.last == "hosted timer" }
        ends.put()
        try trial.turns(host, "an event of the other loop") { ran.last == "event" }
        try trial.unwatch(guest)
        try trial.expectUsable(loop)
        try trial.attempt("close") { try loop.close() }
        try trial.expectUsable(host)
    }
}
