/// A clock that stands still until it is told to go on: for loops that are driven through simulated time.
///
/// - Threads: those of its loops, which are one.
package final class VirtualClock {
    package private(set) var now: Instant

    package init(startingAt start: Instant) { now = start }

    /// Never back.
    package func advance(to time: Instant) { now = max(now, time) }
}

extension Loop {
    /// The time that timers go by: the kernel's, but for a loop with a clock of its own.
    var time: Instant { clock?.now ?? .now }

    /// When something is due that no descriptor tells of; nil for never. It may be early, as an alarm may be; see
    /// Contract T1.
    package var nextDue: Instant? {
        if hasWork { return time }
        return timers.earliest.map { Instant(nanoseconds: $0) }
    }
}
