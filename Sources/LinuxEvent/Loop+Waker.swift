internal import CLinux
internal import Synchronization

/// Wakes one loop from any thread, also from a child made by fork: eventfd(2). Contract E2.
///
/// - Owns: the descriptor, for as long as anyone can signal. So a signal after the loop's end writes to a counter that
///   nobody reads, never into a stranger's file that got the number.
/// - Threads: any.
public final class Waker: Sendable {
    private let event: EventFD
    private let signals = Atomic<UInt>(0)

    /// For whoever asks a closed loop.
    static let ofNobody = Waker(.none)

    var descriptor: CInt { event.descriptor }

    init(_ event: consuming EventFD) { self.event = event }

    /// Ends a wait of the loop, or its next one; then `onWake` runs once, however many signals came. What the caller
    /// wrote before is visible there.
    ///
    /// Every call writes to the descriptor. To skip the write when a signal seems to be on its way already would
    /// lose wake-ups: the loop may have just looked.
    public func signal() {
        // Releasing: what this thread wrote happens before the loop's acquiring load in `acquire`. The edge alone
        // orders nothing, since the loop never reads the counter.
        signals.wrappingAdd(1, ordering: .releasing)
        event.ring()
    }

    func acquire() { _ = signals.load(ordering: .acquiring) }
}

extension Loop {
    /// What runs when the waker ended a wait: one handler, replaced by the next call, removed by nil. Contract E2.
    public func onWake(_ handler: ((_ loop: Loop) -> Void)?) {
        guard !isForeign, !watchers.isClosed else { return }
        // Released after the exchange: that may run user code, which may come back here.
        let old = wakeHandler
        wakeHandler = handler
        withExtendedLifetime(old) {}
    }

    /// The counter is watched edge-triggered and never read: each write is an edge of its own.
    func wake(_ waker: Waker) {
        waker.acquire()
        wasWoken = true
        wakeHandler?(self)
    }
}
