internal import CLinux

/// One alarm on CLOCK_MONOTONIC, absolute and in nanoseconds: timerfd_create(2).
///
/// - Owns: its descriptor (non-blocking, close-on-exec); closed with it, or before.
/// - Never read: it is watched edge-triggered, and setting it anew clears what it had counted.
struct TimerFD: ~Copyable {
    private let owned: OwnedDescriptor

    var descriptor: CInt { owned.number }

    init() throws(LoopError) {
        owned = OwnedDescriptor(try check("timerfd_create", clinux_timerfd_create()))
    }

    func close() { owned.close() }

    /// A deadline that has passed fires at once. Zero would disarm instead, so it becomes 1 ns: Contract T8.
    func arm(_ deadline: Instant) throws(LoopError) {
        // Seconds are signed in the kernel; beyond INT64_MAX nanoseconds nothing ever fires anyway.
        let nanoseconds = min(max(deadline.nanoseconds, 1), UInt64(Int64.max))
        try check("timerfd_settime", clinux_timerfd_set(descriptor, nanoseconds))
    }
}
