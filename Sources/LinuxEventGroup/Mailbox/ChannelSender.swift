/// The sending side of a channel, without the type of its values.
///
/// It knows its handler by address only: the group owns the handler, so that a handler which refers to its own channel
/// goes when the group ends. No node with that address is accepted after that.
@usableFromInline struct ChannelSender: Sendable {
    let cores: Cores
    private let handler: UInt

    @usableFromInline init(
        _ group: LoopGroup, run: @escaping ValueRun, destroy: @escaping @Sendable (UInt) -> Void
    ) {
        cores = group.cores
        let handler = ChannelHandler(run: run, destroy: destroy)
        self.handler = unsafe UInt(bitPattern: Unmanaged.passUnretained(handler).toOpaque())
        group.handlers.keep(handler)
    }

    // MARK: Sending, in two steps between which the user's module fills the node

    /// A node to fill, by its bits; or why there is none.
    @usableFromInline func admit(to index: Int) -> UInt {
        cores.withCore(index) { core in
            switch core.admit(for: handler) {
            case .node(let node): node.bits
            case .full: Self.full
            case .closed: Self.closed
            }
        }
    }

    /// A node for one value that was admitted, by its bits.
    func fresh(on core: ShardCore, isSpilled: Bool = false) -> UInt {
        let node = core.takeNode()
        node.mark(handler: handler, isSpilled ? ShardCore.spilledMarks : core.marks())
        return node.bits
    }

    @usableFromInline static var full: UInt { 0 }
    @usableFromInline static var closed: UInt { 1 }
    @usableFromInline static var sent: UInt { 2 }

    /// All of a send in one step, for a value of three words. They are the node's if this returns `sent`, and else
    /// still the caller's.
    @usableFromInline func send(_ first: UInt64, _ second: UInt64, _ third: UInt64, to index: Int) -> UInt {
        cores.withCore(index) { core in
            guard let node = core.nodeAtHand(pushing: true) else { return sendSlowly(first, second, third, on: core) }
            node.mark(handler: handler, [])
            node.fill(first, second, third)
            switch core.mailbox.push(node) {
            case .pushed: return Self.sent
            case .mustRing: return ring(core)
            case .closed: return refused(node, by: core)
            }
        }
    }

    @inline(never)
    private func ring(_ core: ShardCore) -> UInt {
        _ = core.wake()
        return Self.sent
    }

    @inline(never)
    private func sendSlowly(_ first: UInt64, _ second: UInt64, _ third: UInt64, on core: ShardCore) -> UInt {
        switch core.reserve(for: handler) {
        case .full: return Self.full
        case .closed: return Self.closed
        case .node(let node):
            node.fill(first, second, third)
            return core.publish(node) ? Self.sent : refused(node, by: core)
        }
    }

    @inline(never)
    private func refused(_ node: TaskNode, by core: ShardCore) -> UInt {
        core.takeBack(node)
        return Self.closed
    }

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
            let isSpilled: Bool
            switch core.admit(count) {
            case .full: return (Self.full, 0)
            case .closed: return (Self.closed, 0)
            case .admitted: isSpilled = false
            case .spilled: isSpilled = true
            }
            var newest: UInt = 0
            var oldest: UInt = 0
            for _ in 0..<count {
                let node = TaskNode(bits: fresh(on: core, isSpilled: isSpilled))
                node.next = newest
                newest = node.bits
                if oldest == 0 { oldest = newest }
            }
            return (newest, oldest)
        }
    }

    /// The node that this one links to: in a batch that is sent the one before it, among those that run the one after.
    @inlinable @inline(__always)
    static func linked(from node: UInt) -> UInt {
        unsafe UnsafePointer<UInt>(bitPattern: node).unsafelyUnwrapped.pointee
    }

    @inlinable @inline(__always)
    static func link(_ node: UInt, to other: UInt) {
        unsafe UnsafeMutablePointer<UInt>(bitPattern: node).unsafelyUnwrapped.pointee = other
    }

    /// Publishes a batch in one step; false if the shard has ended, and then the nodes are still the caller's, linked
    /// as they were.
    @usableFromInline func publish(newest: UInt, oldest: UInt, to index: Int) -> Bool {
        cores.withCore(index) { core in
            let first = TaskNode(bits: oldest)
            if core.publish(newest: TaskNode(bits: newest), oldest: first) { return true }
            first.next = 0  // a push that is refused may have written there
            return false
        }
    }
}
