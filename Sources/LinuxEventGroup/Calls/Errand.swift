/// Tells somebody when it is let go of without having been used: the task that held it was destroyed and did not run.
final class Errand: @unchecked Sendable {
    // Unchecked: one owner at a time, as the task that holds it goes from thread to thread.
    private var dropped: (() -> Void)?

    init(dropped: sending @escaping () -> Void) { self.dropped = dropped }

    /// The task runs.
    func begin() { dropped = nil }

    deinit { dropped?() }
}
