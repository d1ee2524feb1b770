import Glibc

/// A value behind a lock that ThreadSanitizer knows: it is blind to Synchronization's.
public final class Locked<Value: Sendable>: @unchecked Sendable {
    // Unchecked: `value` is reached under the lock only.
    private let lock: UnsafeMutablePointer<pthread_mutex_t>
    private var value: Value

    public init(_ value: Value) {
        self.value = value
        lock = .allocate(capacity: 1)
        pthread_mutex_init(lock, nil)
    }

    public func withLock<Result>(_ body: (inout Value) -> Result) -> Result {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        return body(&value)
    }

    deinit {
        pthread_mutex_destroy(lock)
        lock.deallocate()
    }
}
