internal import CLinux

/// A point in time on CLOCK_MONOTONIC, in nanoseconds. Contract T2.
///
/// Not `ContinuousClock.Instant`: that clock counts the time a machine is suspended, and timerfd's does not.
/// Arithmetic saturates: an instant centuries ahead is legal and never comes. Contract T7.
public struct Instant: Comparable, Hashable, Sendable {
    /// Since the clock's own beginning, which is the machine's start as a rule.
    public var nanoseconds: UInt64

    /// An instant of a clock reading, or of none at all: a deadline of zero is a legal one. Contract T8.
    public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    /// A fresh reading of the clock, from any thread.
    public static var now: Instant { Instant(nanoseconds: clinux_monotonic_ns()) }

    /// The far end of time: a deadline that never comes.
    public static var distantFuture: Instant { Instant(nanoseconds: .max) }

    /// The instant that much later, or earlier; never beyond the ends of the clock. Contract T7.
    public func advanced(by duration: Duration) -> Instant {
        let sum = Int128(nanoseconds) + duration.nanoseconds
        return Instant(nanoseconds: UInt64(clamping: sum))
    }

    /// From `self` to `other`; negative where `other` is earlier.
    public func duration(to other: Instant) -> Duration {
        let distance = other >= self ? other.nanoseconds - nanoseconds : nanoseconds - other.nanoseconds
        let seconds = Int64(distance / 1_000_000_000), rest = Int64(distance % 1_000_000_000)
        let length = Duration.seconds(seconds) + .nanoseconds(rest)
        return other >= self ? length : .zero - length
    }

    public static func < (left: Instant, right: Instant) -> Bool { left.nanoseconds < right.nanoseconds }
}

extension Duration {
    /// Whole nanoseconds, rounded up: a wait must never be early.
    package var nanoseconds: Int128 {
        // Up to nine seconds, as most are, one word is enough; a division of two costs ten times as much.
        if let small = Int64(exactly: attoseconds) {
            return Int128(small / 1_000_000_000 + (small % 1_000_000_000 > 0 ? 1 : 0))
        }
        return attoseconds / 1_000_000_000 + (attoseconds % 1_000_000_000 > 0 ? 1 : 0)
    }
}
