internal import Glibc

/// A value behind a lock: pthread_mutex_lock(3). For what threads do as they start and end, never on the way of a post.
///
/// Not `Synchronization.Mutex`: that one is a lock of the kernel's which the race detector cannot see, so it would
/// report every use, and it ends the process in a child of fork.
@safe final class Locked<Value>: @unchecked Sendable {
    // Unchecked: `value` is reached under the lock only.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    @exclusivity(unchecked) private var value: Value  // one thread at a time, by the lock

    init(_ value: sending Value) {
        unsafe mutex = .allocate(capacity: 1)
        unsafe mutex.initialize(to: pthread_mutex_t())
        unsafe pthread_mutex_init(mutex, nil)
        unsafe self.value = value
    }

    deinit {
        unsafe pthread_mutex_destroy(mutex)
        unsafe mutex.deallocate()
    }

    /// The body must not come back here.
    func withLock<Result>(_ body: (inout Value) -> Result) -> Result {
        unsafe pthread_mutex_lock(mutex)
        defer { unsafe pthread_mutex_unlock(mutex) }
        return unsafe body(&value)
    }
}
