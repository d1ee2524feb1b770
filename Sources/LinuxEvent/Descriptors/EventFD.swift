internal import CLinux

/// A 64-bit kernel counter that makes whoever polls it wake: eventfd(2).
///
/// - Owns: its descriptor (non-blocking, close-on-exec); `deinit` closes it.
/// - Threads: any; the kernel's counter is atomic.
/// - Errors: `LoopError.system` on creation. No call blocks.
struct EventFD: ~Copyable, Sendable {
    let descriptor: CInt

    init() throws(LoopError) {
        descriptor = try check("eventfd", clinux_eventfd(0, CInt(EFD_CLOEXEC | EFD_NONBLOCK)))
    }

    deinit { _ = clinux_close(descriptor) }

    /// Adds to the counter. At saturation the kernel answers EAGAIN, and reports no edge: the counter is read
    /// and written again, so that a poller which never reads is woken all the same.
    func signal(_ increment: UInt64 = 1) {
        while clinux_eventfd_write(descriptor, increment) == -EAGAIN {
            guard drain() != nil else { continue }
        }
    }

    /// Reads and clears the counter; nil if it was zero.
    func drain() -> UInt64? {
        var count: UInt64 = 0
        return unsafe clinux_eventfd_drain(descriptor, &count) == 8 ? count : nil
    }
}
