internal import CLinux
internal import LinuxEvent
internal import Synchronization

/// Counts down to zero, and lets threads wait for that: futex(2).
///
/// Not on any hot path: it is for threads that start and end.
@safe final class Latch: Sendable {
    /// Of an `Atomic<UInt32>` in raw memory: the kernel wants an address, and a word has one for life.
    private let address: UInt

    private var word: UnsafeMutablePointer<Atomic<UInt32>> {
        unsafe UnsafeMutablePointer(bitPattern: address).unsafelyUnwrapped
    }

    init(_ count: Int) {
        let word = UnsafeMutablePointer<Atomic<UInt32>>.allocate(capacity: 1)
        unsafe word.initialize(to: Atomic(UInt32(count)))
        address = UInt(bitPattern: word)
    }

    deinit { unsafe word.deallocate() }

    var isOpen: Bool { unsafe word.pointee.load(ordering: .acquiring) == 0 }

    /// Releasing: what was done before is visible to those who waited.
    func countDown() {
        let word = unsafe self.word
        guard unsafe word.pointee.wrappingSubtract(1, ordering: .releasing).newValue == 0 else { return }
        unsafe word.withMemoryRebound(to: UInt32.self, capacity: 1) { _ = unsafe clinux_futex_wake_all($0) }
    }

    /// - Returns: whether the count reached zero before the deadline; nil waits without a limit.
    @discardableResult
    func wait(until deadline: Instant? = nil) -> Bool {
        let word = unsafe self.word
        while true {
            let count = unsafe word.pointee.load(ordering: .acquiring)
            if count == 0 { return true }
            if let deadline, Instant.now >= deadline { return false }
            // Returns at once if the word has changed; any reason to return is a reason to look again.
            unsafe word.withMemoryRebound(to: UInt32.self, capacity: 1) {
                _ = unsafe clinux_futex_wait($0, count, deadline?.nanoseconds ?? 0)
            }
        }
    }
}

/// What one thread waits at, and others ring: futex(2). A ring is never lost: it is counted.
@safe final class Bell: Sendable {
    private let address: UInt

    private var word: UnsafeMutablePointer<Atomic<UInt32>> {
        unsafe UnsafeMutablePointer(bitPattern: address).unsafelyUnwrapped
    }

    init() {
        let word = UnsafeMutablePointer<Atomic<UInt32>>.allocate(capacity: 1)
        unsafe word.initialize(to: Atomic(0))
        address = UInt(bitPattern: word)
    }

    deinit { unsafe word.deallocate() }

    /// How often it has rung. Acquiring: what was done before a ring is visible.
    var count: UInt32 { unsafe word.pointee.load(ordering: .acquiring) }

    func ring() {
        let word = unsafe self.word
        unsafe word.pointee.wrappingAdd(1, ordering: .releasing)
        unsafe word.withMemoryRebound(to: UInt32.self, capacity: 1) { _ = unsafe clinux_futex_wake_all($0) }
    }

    /// Waits until it has rung more often than that.
    func wait(after count: UInt32) { while self.count == count { wait(count, nil) } }

    /// Waits for a ring, or until then.
    func wait(until deadline: Instant) { wait(count, deadline) }

    private func wait(_ count: UInt32, _ deadline: Instant?) {
        unsafe word.withMemoryRebound(to: UInt32.self, capacity: 1) {
            _ = unsafe clinux_futex_wait($0, count, deadline?.nanoseconds ?? 0)
        }
    }
}
