/// What a channel's values are given to, in the two steps that a node needs: to be run, and to be destroyed unrun.
///
/// Both are specialised for the type of the values in the user's module, and work on the bare memory of a node.
///
/// A node refers to its handler without counting the reference, which would be an atomic step per message on a line that
/// all senders share. So the group keeps each handler until the last of its shards has ended.
@usableFromInline final class ChannelHandler: Sendable {
    // All senders read this per value, so nothing that somebody writes may lie on the same line.
    private let before = InlineArray<15, UInt64>(repeating: 0)
    let cores: Cores
    let run: @Sendable (_ shard: Shard, _ payload: UInt) -> Void
    let destroy: @Sendable (_ payload: UInt) -> Void
    private let after = InlineArray<15, UInt64>(repeating: 0)

    @usableFromInline init(
        _ group: LoopGroup, run: @escaping @Sendable (Shard, UInt) -> Void, destroy: @escaping @Sendable (UInt) -> Void
    ) {
        cores = group.cores
        self.run = run
        self.destroy = destroy
        group.handlers.keep(self)
    }

    // MARK: Sending, in two steps between which the user's module fills the node

    /// A node to fill, by its bits; or why there is none.
    @usableFromInline func admit(to index: Int) -> UInt {
        cores.withCore(index) { core in
            guard let node = core.nodeAtHand() else { return reserve(on: core) }
            node.mark(handler: address, hasCredit: false)
            return node.bits
        }
    }

    @inline(never)
    private func reserve(on core: ShardCore) -> UInt {
        switch core.reserve() {
        case .full: return Self.full
        case .closed: return Self.closed
        case .node(let node):
            node.mark(handler: address, hasCredit: core.credits.isBounded)
            return node.bits
        }
    }

    /// A node for one value that was admitted, by its bits.
    func fresh(on core: ShardCore) -> UInt {
        let node = core.takeNode()
        node.mark(handler: address, hasCredit: core.credits.isBounded)
        return node.bits
    }

    @usableFromInline static var full: UInt { 0 }
    @usableFromInline static var closed: UInt { 1 }

    @inlinable @inline(__always)
    static func payload(of node: UInt) -> UInt { node &+ 16 }

    /// Publishes the node; false if the shard has ended, and then the node is still the caller's.
    @usableFromInline func publish(_ node: UInt, to index: Int) -> Bool {
        cores.withCore(index) { $0.publish(TaskNode(bits: node)) }
    }

    /// Takes care of a node that was not published, and whose value has been moved out.
    @usableFromInline func takeBack(_ node: UInt, from index: Int) {
        cores.withCore(index) { $0.takeBack(TaskNode(bits: node)) }
    }

    /// The number of a shard of this channel's group.
    @usableFromInline func index(of shard: ShardReference) -> Int {
        precondition(cores.owns(shard.core), "a channel leads to the shards of its own group only")
        return shard.index
    }

    // MARK: Batches

    /// Nodes to fill for a whole batch, linked from the newest to the oldest; or why there are none, in `newest`.
    @usableFromInline func admit(batch count: Int, to index: Int) -> (newest: UInt, oldest: UInt) {
        cores.withCore(index) { core in
            switch core.admit(count) {
            case .full: return (Self.full, 0)
            case .closed: return (Self.closed, 0)
            case .admitted: break
            }
            var newest: UInt = 0
            var oldest: UInt = 0
            for _ in 0..<count {
                let node = TaskNode(bits: fresh(on: core))
                node.next = newest
                newest = node.bits
                if oldest == 0 { oldest = newest }
            }
            return (newest, oldest)
        }
    }

    /// The node that a batch has before this one.
    @inlinable @inline(__always)
    static func before(_ node: UInt) -> UInt {
        unsafe UnsafePointer<UInt>(bitPattern: node).unsafelyUnwrapped.pointee
    }

    /// Publishes a batch in one step; false if the shard has ended, and then the batch's copies are destroyed.
    @usableFromInline func publish(newest: UInt, oldest: UInt, to index: Int) -> Bool {
        cores.withCore(index) { core in
            let first = TaskNode(bits: oldest)
            if core.publish(newest: TaskNode(bits: newest), oldest: first) { return true }
            first.next = 0  // a push that is refused may have written there
            var bits = newest
            while bits != 0 {
                let node = TaskNode(bits: bits)
                bits = node.next
                node.destroyContents()
                core.takeBack(node)
            }
            return false
        }
    }

    private var address: UInt { unsafe UInt(bitPattern: Unmanaged.passUnretained(self).toOpaque()) }
}

/// Keeps a group's channel handlers until none of its threads can run one any more.
///
/// A handler may well refer to the group, which would then keep itself alive: so they are let go of when the last thread
/// ends, and not when the group does.
final class ChannelHandlers: Sendable {
    private struct State {
        var threads: Int
        var kept: [ChannelHandler] = []
    }

    private let state: Locked<State>

    init(threads: Int) { state = Locked(State(threads: threads)) }

    func keep(_ handler: ChannelHandler) {
        state.withLock { if $0.threads > 0 { $0.kept.append(handler) } }
    }

    /// One thread has ended, and runs nothing any more.
    func threadEnded() {
        let ended = state.withLock { state -> [ChannelHandler] in
            state.threads -= 1
            guard state.threads == 0 else { return [] }
            defer { state.kept = [] }
            return state.kept
        }
        // Outside of the lock: a handler's captures may have a `deinit` that comes back here.
        withExtendedLifetime(ended) {}
    }
}
