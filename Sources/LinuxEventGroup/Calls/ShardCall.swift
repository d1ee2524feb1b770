/// What runs on the calling shard when a call has come to its end: with the result, with what the block threw, or
/// with a `CallError`.
public typealias CallReply<Value> = (_ shard: Shard, _ result: Result<Value, any Error>) -> Void

/// A handle of one `Shard.call`.
///
/// - Threads: the calling shard's only.
public struct ShardCall {
    let call: OpenCall

    /// Its reply has not run, and it was not cancelled.
    public var isOpen: Bool { call.isOpen }

    /// The reply will never run. If the block has not begun, it never does; if it has, its result is dropped.
    /// Idempotent.
    ///
    /// - Returns: whether that prevented a reply.
    @discardableResult
    public func cancel() -> Bool { call.cancel() }
}

@available(*, unavailable)
extension ShardCall: Sendable {}

extension Shard {
    /// Runs a block on another shard, or on this one in a later turn, and then `reply` on this one with its result. The
    /// reply comes exactly once unless cancelled, and never before this returns. Contract M6.
    ///
    /// - Parameters:
    ///   - target: the shard to run the block on, of any group.
    ///   - deadline: from now on, for the wait in the mailbox and the work together; nil for none. Past it the reply
    ///     gets `CallError.deadlineExceeded`.
    ///   - body: runs on the target's thread. What it returns is handed over to this shard.
    ///   - reply: gets the result, what the block threw, or `CallError`: full, closed, or past the deadline.
    ///
    /// It costs one allocation beside those of the closures, and at most one more for a result of more than 39 bytes.
    @inlinable
    @discardableResult
    public func call<Value>(
        _ target: ShardReference, deadline: Duration? = nil,
        _ body: @escaping @Sendable (_ shard: Shard) throws -> sending Value, reply: @escaping CallReply<Value>
    ) -> ShardCall {
        start(TypedCall(self, target, body, reply), target, deadline)
    }

    @usableFromInline func start(
        _ call: consuming OpenCall, _ target: ShardReference, _ deadline: Duration?
    ) -> ShardCall {
        call.start(target.core, deadline, on: self)
        return ShardCall(call: call)
    }
}
