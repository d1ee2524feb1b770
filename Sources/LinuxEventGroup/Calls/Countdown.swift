internal import Synchronization

/// Runs a block when all of several things have happened, on the thread of the last.
final class Countdown: Sendable {
    private let missing: Atomic<Int>
    private let done: @Sendable () -> Void

    init(_ count: Int, _ done: @escaping @Sendable () -> Void) {
        missing = Atomic(count)
        self.done = done
    }

    /// Acquiring and releasing: the last one sees what all others did before.
    func countDown() {
        if missing.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 { done() }
    }
}
