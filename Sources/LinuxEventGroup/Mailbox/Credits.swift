internal import Synchronization

/// How much of a bounded mailbox is in use, and who and what waits for room. Contract M3.
///
/// The word counts the places taken, and has one bit more that says that somebody waits. So "is there room?" and "I
/// wait" are one step: either the waiter sees the place that was given back, or who gives it back sees the waiter. The
/// word has no data behind it, so all its changes are relaxed: what counts is their one order.
struct Credits: ~Copyable, Sendable {
    private let word = Isolated(Atomic<Int>(0))
    private let waiters = Locked(Waiters())
    let limit: Int?
    /// How many nodes may wait here for room.
    let spillLimit: Int

    /// Larger than any limit, so that nobody takes a place past those who wait.
    private static let waiting = 1 << 62

    private struct Waiters {
        var queue = WaitingLine()
        /// Places for nodes that wait here, or are about to.
        var spilled = 0
        var isClosed = false
    }

    init(limit: Int?, spillLimit: Int) {
        self.limit = limit
        self.spillLimit = limit == nil ? 0 : spillLimit
    }

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

    /// Returns whether somebody waits for what came back, and is to be served.
    func giveBack(_ count: Int) -> Bool {
        guard limit != nil, count > 0 else { return false }
        return word.value.wrappingSubtract(count, ordering: .relaxed).oldValue >= Self.waiting
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
            if takeOrWait() { return .granted }
            waiters.queue.append(.waiter(waiter))
            return nil
        }
        if let grant { waiter.end(grant) }
    }

    /// Ends a wait that has not ended.
    func cancel(_ waiter: Waiter) {
        let isFound = waiters.withLock { waiters in
            guard waiters.queue.remove(waiter) else { return false }
            if waiters.queue.isEmpty { word.value.bitwiseAnd(~Self.waiting, ordering: .relaxed) }
            return true
        }
        if isFound { waiter.end(.cancelled) }
    }

    /// The shard stops: nobody gets a place any more, and what was spilled is published as it is.
    func close(publish: (TaskNode) -> Void) {
        let refused = waiters.withLock { waiters in
            waiters.isClosed = true
            word.value.bitwiseAnd(~Self.waiting, ordering: .relaxed)
            var refused: [Waiter] = []
            while let next = waiters.queue.popFirst() {
                switch next {
                case .waiter(let waiter): refused.append(waiter)
                // Within the lock: who comes next finds it closed, and all published.
                case .spilled(let node): publish(node)
                }
            }
            waiters.spilled = 0
            return refused
        }
        for waiter in refused { waiter.end(.closed) }
    }

    /// Hands out what was given back, first come, first served. On a shard's thread usually: nobody holds the lock for
    /// longer than such a step.
    func serve(publish: (TaskNode) -> Void) {
        let served = waiters.withLock { waiters in
            var served: [Waiter] = []
            guard let limit, !waiters.queue.isEmpty else { return served }
            // Nobody else takes places while the bit is set, so they can only become more.
            var used = word.value.load(ordering: .relaxed) - Self.waiting
            while used < limit, let next = waiters.queue.popFirst() {
                word.value.wrappingAdd(1, ordering: .relaxed)
                used += 1
                switch next {
                case .waiter(let waiter): served.append(waiter)
                // Within the lock: of one producer's posts, none may overtake another.
                case .spilled(let node):
                    waiters.spilled -= 1
                    publish(node)
                }
            }
            if waiters.queue.isEmpty { word.value.bitwiseAnd(~Self.waiting, ordering: .relaxed) }
            return served
        }
        for waiter in served { waiter.end(.granted) }
    }

    // MARK: Spilling

    /// Takes places for nodes that shall wait for room, all or none.
    func claimSpill(_ count: Int) -> Bool {
        waiters.withLock { waiters in
            guard !waiters.isClosed, waiters.spilled + count <= spillLimit else { return false }
            waiters.spilled += count
            return true
        }
    }

    func returnSpill(_ count: Int) {
        waiters.withLock { if !$0.isClosed { $0.spilled -= count } }
    }

    /// Lets nodes wait that have their places, oldest first; or publishes them, if there is room by now and nobody
    /// waits. False if the shard stops, and then they are still the caller's.
    func spill(_ chain: consuming TaskChain, publish: (TaskNode) -> Void) -> Bool {
        var chain = chain
        return waiters.withLock { waiters in
            guard !waiters.isClosed else { return false }
            while let node = chain.popFirst() {
                if takeOrWait() {
                    waiters.spilled -= 1
                    publish(node)
                } else {
                    waiters.queue.append(.spilled(node))
                }
            }
            return true
        }
    }

    /// Takes a place if nobody waits and there is one; if not, says that somebody waits. Under the lock.
    private func takeOrWait() -> Bool {
        guard let limit else { return true }
        var used = word.value.load(ordering: .relaxed)
        while true {
            // Who waits already comes first: with the bit the word is larger than any limit.
            let hasRoom = used < limit
            let (exchanged, original) = word.value.weakCompareExchange(
                expected: used, desired: hasRoom ? used + 1 : used | Self.waiting, ordering: .relaxed)
            if exchanged { return hasRoom }
            used = original
        }
    }
}

/// Who and what waits for room, in order. What has been served goes when it is half of all.
private struct WaitingLine {
    enum Place {
        case waiter(Credits.Waiter)
        case spilled(TaskNode)
    }

    private var places: [Place?] = []
    private var first = 0

    var isEmpty: Bool { first == places.count }

    mutating func append(_ place: Place) { places.append(place) }

    mutating func popFirst() -> Place? {
        while first < places.count {
            let place = places[first]
            places[first] = nil
            first += 1
            if first * 2 > places.count {
                places.removeFirst(first)
                first = 0
            }
            if let place { return place }
        }
        return nil
    }

    /// Returns whether it was there.
    mutating func remove(_ waiter: Credits.Waiter) -> Bool {
        for index in first..<places.count {
            if case .waiter(let other) = places[index], other === waiter {
                places.remove(at: index)
                return true
            }
        }
        return false
    }
}

/// How much a mailbox holds. Contract M3.
struct MailboxLimit {
    /// Nil for no bound.
    let capacity: Int?
    /// How many more may wait for room.
    let spillLimit: Int
}
