internal import Synchronization

/// How much of a bounded mailbox is in use, and who waits for room. Contract M3.
///
/// The word counts the places taken, and has one bit more that says that somebody waits. So "is there room?" and "I
/// wait" are one step: either the waiter sees the place that was given back, or who gives it back sees the waiter. The
/// word has no data behind it, so all its changes are relaxed: what counts is their one order.
struct Credits: ~Copyable, Sendable {
    private let word = Isolated(Atomic<Int>(0))
    private let waiters = Locked(Waiters())
    let limit: Int?

    /// Larger than any limit, so that nobody takes a place past those who wait.
    private static let waiting = 1 << 62

    private struct Waiters {
        var queue: [Waiter] = []
        var isClosed = false
    }

    init(limit: Int?) { self.limit = limit }

    var isBounded: Bool { limit != nil }

    /// Takes that many places, all or none.
    @inline(__always)
    func take(_ count: Int = 1) -> Bool {
        guard let limit else { return true }
        return take(count, of: limit)
    }

    @inline(never)
    private func take(_ count: Int, of limit: Int) -> Bool {
        var used = word.value.load(ordering: .relaxed)
        while used <= limit &- count {
            let (exchanged, original) = word.value.weakCompareExchange(
                expected: used, desired: used &+ count, ordering: .relaxed)
            if exchanged { return true }
            used = original
        }
        return false
    }

    func giveBack(_ count: Int) {
        guard limit != nil, count > 0 else { return }
        let before = word.value.wrappingSubtract(count, ordering: .relaxed).oldValue
        if before >= Self.waiting { serve() }
    }

    // MARK: Waiting

    /// Whether a wait ended with a place in hand.
    enum Grant { case granted, cancelled, closed }

    /// One who waits for a place; told once, on whichever thread it comes about.
    final class Waiter: Sendable {
        private let tell: @Sendable (Grant) -> Void
        init(_ tell: @escaping @Sendable (Grant) -> Void) { self.tell = tell }
        fileprivate func end(_ grant: Grant) { tell(grant) }
    }

    /// Takes a place for the waiter, now or when its turn comes.
    func wait(_ waiter: Waiter) {
        let grant: Grant? = waiters.withLock { waiters in
            if waiters.isClosed { return .closed }
            guard let limit else { return .granted }
            var used = word.value.load(ordering: .relaxed)
            while true {
                // Who waits already comes first.
                let hasRoom = used < limit
                let (exchanged, original) = word.value.weakCompareExchange(
                    expected: used, desired: hasRoom ? used + 1 : used | Self.waiting, ordering: .relaxed)
                if exchanged, hasRoom { return .granted }
                if exchanged { break }
                used = original
            }
            waiters.queue.append(waiter)
            return nil
        }
        if let grant { waiter.end(grant) }
    }

    /// Ends a wait that has not ended.
    func cancel(_ waiter: Waiter) {
        let isFound = waiters.withLock { waiters in
            guard let index = waiters.queue.firstIndex(where: { $0 === waiter }) else { return false }
            waiters.queue.remove(at: index)
            if waiters.queue.isEmpty { word.value.bitwiseAnd(~Self.waiting, ordering: .relaxed) }
            return true
        }
        if isFound { waiter.end(.cancelled) }
    }

    /// The shard stops: nobody gets a place any more.
    func close() {
        let queue = waiters.withLock { waiters in
            waiters.isClosed = true
            word.value.bitwiseAnd(~Self.waiting, ordering: .relaxed)
            defer { waiters.queue = [] }
            return waiters.queue
        }
        for waiter in queue { waiter.end(.closed) }
    }

    /// Hands out what was given back. On a shard's thread usually: nobody holds the lock for longer than such a step.
    private func serve() {
        let served = waiters.withLock { waiters in
            guard let limit, !waiters.queue.isEmpty else { return ArraySlice<Waiter>() }
            var count = 0
            // Nobody else takes places while the bit is set, so they can only become more.
            var used = word.value.load(ordering: .relaxed) - Self.waiting
            while used < limit, count < waiters.queue.count {
                word.value.wrappingAdd(1, ordering: .relaxed)
                used += 1
                count += 1
            }
            let served = waiters.queue.prefix(count)
            waiters.queue.removeFirst(count)
            if waiters.queue.isEmpty { word.value.bitwiseAnd(~Self.waiting, ordering: .relaxed) }
            return served
        }
        for waiter in served { waiter.end(.granted) }
    }
}
