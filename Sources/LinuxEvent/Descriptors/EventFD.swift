internal import CLinux

/// A 64-bit kernel counter that makes whoever polls it wake: eventfd(2).
///
/// - Owns: its descriptor (non-blocking, close-on-exec); closed with it.
/// - Threads: any; the kernel's counter is atomic.
/// - Errors: `LoopError.system` on creation. No call blocks.
struct EventFD: ~Copyable, Sendable {
    private let owned: OwnedDescriptor

    var descriptor: CInt { owned.number }

    init() throws(LoopError) {
        owned = OwnedDescriptor(try check("eventfd", clinux_eventfd(0, CInt(EFD_CLOEXEC | EFD_NONBLOCK))))
    }

    /// Stands for a counter that is gone: signals go nowhere.
    static var none: EventFD { EventFD(owned: OwnedDescriptor(-1)) }

    private init(owned: consuming OwnedDescriptor) { self.owned = owned }

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
