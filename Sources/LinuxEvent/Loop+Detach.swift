/// A watch on its way from one loop to another: handlers, data, modes, interest, and whether it is armed. Contract G5.
///
/// - Threads: one owner at a time. Whoever adopts it takes the handlers out, so what keeps this object longer keeps
///   nothing of the user's.
package final class DetachedWatch: @unchecked Sendable {
    // Unchecked: see above; it is handed from thread to thread by a mailbox.
    package let descriptor: CInt
    private let traits: WatcherTraits
    private let interest: Interest
    private let isArmed: Bool
    private var record: WatcherRecord?

    init(
        _ descriptor: CInt, _ record: WatcherRecord, _ traits: WatcherTraits, _ interest: Interest, isArmed: Bool
    ) {
        self.descriptor = descriptor
        self.record = record
        self.traits = traits
        self.interest = interest
        self.isArmed = isArmed
    }

    fileprivate func adopt(into set: WatcherSet) throws(LoopError) -> Watcher {
        guard let record else { throw .closed }
        let watcher = try set.watch(
            descriptor, record, traits.subtracting([.hasRead, .hasWrite, .hasError]), interest, isArmed: isArmed)
        self.record = nil
        return watcher
    }
}

extension Loop {
    /// Takes a watch off this loop, between turns; nil if it had ended. What was fetched of it is not told any more:
    /// the next loop's set reports anew what is ready. Contract G5.
    package func detach(_ watcher: Watcher) -> DetachedWatch? {
        guard !isForeign, watcher.set === watchers,
            let slot = watchers.table.live(watcher.descriptor, watcher.generation)
        else { return nil }
        return watchers.detach(watcher.descriptor, slot)
    }

    /// Puts a watch on this loop, as it was on the other. A failure leaves it as it is, for a third. Contract G5.
    package func adopt(_ watch: DetachedWatch) throws(LoopError) -> Watcher {
        if isForeign { throw .forked }
        return try watch.adopt(into: watchers)
    }
}
