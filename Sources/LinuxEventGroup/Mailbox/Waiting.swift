/// Waiting for room in a bounded mailbox: the one place of this module that suspends. Contract M3.
///
/// A wait holds up a task of Swift concurrency and no thread. What does not wait pays nothing for it.
extension Credits {
    /// Ends with a place taken, or says why not.
    func waitForPlace() async -> Grant {
        if Task.isCancelled { return .cancelled }
        let ticket = Ticket()
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let waiter = Waiter { continuation.resume(returning: $0) }
                wait(waiter)
                // Before or after the cancellation: one of the two sees the other.
                if ticket.set(waiter) { cancel(waiter) }
            }
        } onCancel: {
            if let waiter = ticket.cancel() { cancel(waiter) }
        }
    }

    /// Brings a waiter and a cancellation together, whichever comes first.
    private final class Ticket: Sendable {
        private let state = Locked<(waiter: Waiter?, isCancelled: Bool)>((nil, false))

        func set(_ waiter: Waiter) -> Bool {
            state.withLock { state in
                state.waiter = waiter
                return state.isCancelled
            }
        }

        func cancel() -> Waiter? {
            state.withLock { state in
                state.isCancelled = true
                return state.waiter
            }
        }
    }
}

extension ShardCore {
    /// As `post`, but a full mailbox is waited for. A wait that was cancelled gives the task back as full.
    func postWhenRoom(_ task: consuming @escaping ShardTask) async -> PostResult {
        guard !isRefusing else { return .closed(task) }
        switch await waitForPlace() {
        case .granted: return submit(task, marks())
        case .cancelled: return .full(task)
        case .closed: return .closed(task)
        }
    }

    fileprivate func waitForPlace() async -> Credits.Grant {
        // Without a wait where there is room, so without the cost of one.
        credits.take() ? .granted : await credits.waitForPlace()
    }
}

extension ShardReference {
    /// As `post`, but where a bounded mailbox is full, it waits until there is room, and blocks no thread. Those who
    /// wait are served in the order in which they came, and before any post that does not wait. Contract M3.
    ///
    /// - Returns: `.posted`; `.closed`, with the task; or `.full`, with the task, if the calling task was cancelled
    ///   while it waited.
    @discardableResult
    public func postWhenRoom(_ task: consuming sending @escaping ShardTask) async -> PostResult {
        await core.postWhenRoom(task)
    }
}

extension ChannelSender {
    /// Waits for a place with a shard; `full` says that the wait was cancelled.
    @usableFromInline func placeWhenRoom(to index: Int) async -> UInt {
        let core = cores[index]
        guard !core.isRefusing else { return Self.closed }
        switch await core.waitForPlace() {
        case .granted: return Self.granted
        case .cancelled: return Self.full
        case .closed: return Self.closed
        }
    }

    @usableFromInline static var granted: UInt { 2 }

    /// A node for a place that was waited for. A node does not live across a wait: it belongs to a thread until it is
    /// published.
    @usableFromInline func node(for place: UInt, to index: Int) -> UInt {
        place == Self.granted ? cores.withCore(index) { fresh(on: $0) } : place
    }
}

extension Channel where Value: ~Copyable {
    /// As `send`, but where a bounded mailbox is full, it waits until there is room, and blocks no thread. Those who
    /// wait are served in the order in which they came, and before any send that does not wait. Contract M3.
    ///
    /// - Returns: `.sent`; `.closed`, with the value; or `.full`, with the value, if the calling task was cancelled
    ///   while it waited.
    @inlinable
    @discardableResult
    public func sendWhenRoom(_ value: consuming sending Value, to index: Int) async -> SendResult<Value> {
        let place = await sender.placeWhenRoom(to: index)
        return finish(value, sender.node(for: place, to: index), index)
    }

    /// Sends to a shard of the channel's group, and waits for room. Contract M3.
    @inlinable
    @discardableResult
    public func sendWhenRoom(_ value: consuming sending Value, to shard: ShardReference) async -> SendResult<Value> {
        await sendWhenRoom(value, to: sender.index(of: shard))
    }
}
