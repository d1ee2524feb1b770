/// A typed way to the shards of a group: values go in on any thread, and come out on the shard that they were sent to,
/// one at a time, in the channel's handler.
///
///     let orders = group.channel(of: Order.self) { shard, order in … }
///     orders.send(order, to: 3)
///     orders.send(contentsOf: batch, to: 3)
///
/// A value of at most 48 bytes travels inside the mailbox's node: no allocation, and no reference counted. A larger one
/// costs one allocation. Contract M5.
///
/// - Threads: any.
/// - Order: one with posts, watches and cancels of the same thread to the same shard. Contract M2.
/// - Lifetime: the group keeps the handler, and what it captured, until its last shard has ended, also when the channel
///   is dropped with values on their way. So make a channel once and keep it; do not make one per message. A channel
///   may outlive its group: it refuses values then.
public struct Channel<Value: ~Copyable>: Sendable {
    @usableFromInline let sender: ChannelSender

    @inlinable
    init(group: LoopGroup, handler: @escaping @Sendable (Shard, consuming sending Value) -> Void) {
        sender = ChannelSender(
            group,
            run: { shard, first, count, progress in
                ValueRow.run(from: first, atMost: count, progress) { handler(shard, Payload<Value>.take(at: $0)) }
            },
            destroy: { payload in _ = Payload<Value>.take(at: payload) })
    }

    /// Sends a value to the shard with this number; lock-free, and published when this returns. Contract M1, M5.
    ///
    /// - Returns: `.sent`, or why not, with the value.
    @inlinable
    @discardableResult
    public func send(_ value: consuming sending Value, to index: Int) -> SendResult<Value> {
        guard Payload<Value>.isSmall else { return finish(value, sender.admit(to: index), index) }
        let words = Payload<Value>.words(value)
        let outcome = sender.send(words.first, words.second, words.third, to: index)
        if outcome == ChannelSender.sent { return .sent }
        return outcome == ChannelSender.full ? .full(Payload.value(words)) : .closed(Payload.value(words))
    }

    /// The second half of a send, once a node is there, or the reason why there is none.
    @inlinable @inline(__always)
    func finish(_ value: consuming sending Value, _ node: UInt, _ index: Int) -> SendResult<Value> {
        if node == ChannelSender.full { return .full(value) }
        if node == ChannelSender.closed { return .closed(value) }
        let payload = ChannelSender.payload(of: node)
        Payload<Value>.store(value, at: payload)
        if sender.publish(node, to: index) { return .sent }
        let refused = Payload<Value>.take(at: payload)
        sender.takeBack(node, from: index)
        return .closed(refused)
    }

    /// Sends a value to a shard of the channel's group. Contract M1, M5.
    ///
    /// - Returns: `.sent`, or why not, with the value.
    @inlinable
    @discardableResult
    public func send(_ value: consuming sending Value, to shard: ShardReference) -> SendResult<Value> {
        send(value, to: sender.index(of: shard))
    }
}

extension Channel where Value: Copyable {
    /// Sends a batch: all of it arrives, in its order and with nothing in between, or none of it. It is published in
    /// one step, and costs the shard at most one wake. Contract M5.
    ///
    /// A batch that is larger than a bounded mailbox never fits.
    /// - Returns: `.sent`, or why not, with the batch.
    @inlinable
    @discardableResult
    public func send(contentsOf batch: consuming sending [Value], to index: Int) -> SendResult<[Value]> {
        if batch.isEmpty { return .sent }
        let (newest, oldest) = sender.admit(batch: batch.count, to: index)
        if newest == ChannelSender.full { return .full(batch) }
        if newest == ChannelSender.closed { return .closed(batch) }
        var node = newest
        for position in batch.indices.reversed() {
            Payload<Value>.store(batch[position], at: ChannelSender.payload(of: node))
            node = ChannelSender.linked(from: node)
        }
        if sender.publish(newest: newest, oldest: oldest, to: index) { return .sent }
        node = newest
        while node != 0 {
            // The copies go; the batch that comes back has the values.
            _ = Payload<Value>.take(at: ChannelSender.payload(of: node))
            let before = ChannelSender.linked(from: node)
            sender.takeBack(node, from: index)
            node = before
        }
        return .closed(batch)
    }

    /// As the one with a number, to a shard of the channel's group. Contract M5.
    ///
    /// - Returns: `.sent`, or why not, with the batch.
    @inlinable
    @discardableResult
    public func send(contentsOf batch: consuming sending [Value], to shard: ShardReference) -> SendResult<[Value]> {
        send(contentsOf: batch, to: sender.index(of: shard))
    }
}

extension LoopGroup {
    /// A channel whose values the handler gets, on the shard that each was sent to. Contract M5.
    ///
    /// The handler, and what it captured, is the group's until its last shard has ended.
    /// - Parameters:
    ///   - type: of the values; also a noncopyable one.
    ///   - handler: runs on the shards, so on several threads at once; the value is its own.
    @inlinable
    public func channel<Value: ~Copyable>(
        of type: Value.Type = Value.self,
        handler: @escaping @Sendable (_ shard: Shard, _ value: consuming sending Value) -> Void
    ) -> Channel<Value> {
        Channel(group: self, handler: handler)
    }
}
