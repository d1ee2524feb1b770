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

    /// What the kernel's counter can hold.
    static var limit: UInt64 { .max - 1 }

    /// Makes a poller wake that waits for edges and never reads. A full counter takes no write and gives no edge, so it
    /// is read and written again.
    func ring() {
        while isFull(adding: 1) { _ = drain() }
    }

    /// Adds to what the next drain reads, and stays at the limit once it is reached.
    func add(_ increment: UInt64) {
        var increment = min(increment, Self.limit)
        while isFull(adding: increment) {
            increment = min(increment.addingSaturated(drain() ?? 0), Self.limit)
        }
    }

    private func isFull(adding increment: UInt64) -> Bool {
        // A write waits, and can be interrupted, where another holder has cleared O_NONBLOCK.
        uninterrupted(clinux_eventfd_write(descriptor, increment)) == -EAGAIN
    }

    /// Reads and clears the counter; nil if it was zero.
    func drain() -> UInt64? {
        var count: UInt64 = 0
        return uninterrupted(unsafe clinux_eventfd_drain(descriptor, &count)) == 8 ? count : nil
    }
}
