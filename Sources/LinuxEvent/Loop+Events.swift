internal import CLinux

/// A counter of the loop's that other threads and processes add to: eventfd(2). Contract E1.
public struct Event {
    /// What had been added when it was drained for this callback; 0 outside the callback.
    public let count: UInt64
    /// The side to give away.
    public let signaller: EventSignaller
    let watcher: Watcher

    /// The counter's descriptor, to be inherited or passed on. It is closed when the event is cancelled and no
    /// signaller is left.
    public var descriptor: CInt { signaller.descriptor }

    /// It has not been cancelled, and its loop has not ended.
    public var isActive: Bool { watcher.isActive }

    /// No callback of it will ever run again. Idempotent.
    @discardableResult
    public func cancel() -> Bool { watcher.cancel() }
}

@available(*, unavailable)
extension Event: Sendable {}

/// Adds to an `Event`'s counter. It owns the descriptor together with the event, so a late signal never reaches a
/// stranger's file. Contract E1.
///
/// - Threads: any.
public final class EventSignaller: Sendable {
    fileprivate let event: EventFD

    fileprivate init() throws(LoopError) { event = try EventFD() }

    /// The counter's descriptor, to be inherited or passed on; closed when nobody holds it any more.
    public var descriptor: CInt { event.descriptor }

    /// Adds to what the next callback reads, up to 2^64 - 2. Adding nothing does nothing.
    public func signal(_ increment: UInt64 = 1) {
        guard increment > 0 else { return }
        event.add(increment)
    }
}

extension Loop {
    /// Makes a counter and watches it. It is drained before each callback, which reads the sum. Contract E1.
    ///
    /// - Throws: EMFILE, ENFILE, ENOMEM and what `watch` throws.
    @discardableResult
    public func eventfd(_ handler: @escaping (_ loop: Loop, _ event: Event) -> Void) throws(LoopError) -> Event {
        if isForeign { throw .forked }
        let signaller = try EventSignaller()
        let watcher = try watchInternal(signaller.descriptor, level: true) { loop, _, watcher in
            // Another holder may have been faster, or may have cleared O_NONBLOCK: the drain does not block.
            guard let count = signaller.event.drain() else { return }
            loop.counters.internalEvents -= 1  // it is the user's event, after all
            handler(loop, Event(count: count, signaller: signaller, watcher: watcher))
        }
        return Event(count: 0, signaller: signaller, watcher: watcher)
    }
}
