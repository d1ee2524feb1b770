internal import CLinux
internal import Synchronization

/// A descriptor of the loop's own: closed once, by `close` or with its owner.
struct OwnedDescriptor: ~Copyable, Sendable {
    let number: CInt
    /// An atomic for its `let`, not for threads: whoever owns this closes it on one thread.
    private let isOpen: Atomic<Bool>

    init(_ number: CInt) {
        self.number = number
        isOpen = Atomic(number >= 0)
    }

    deinit { close() }

    func close() {
        if isOpen.exchange(false, ordering: .relaxed) { _ = clinux_close(number) }
    }
}
