/// What a channel's values are given to, in the two steps that a node needs: to be run, and to be destroyed unrun.
///
/// Both are specialised for the type of the values in the user's module, and work on the bare memory of a node.
///
/// A node refers to its handler without counting the reference, which would be an atomic step per message on a line
/// that all senders share. So the group keeps each handler until the last of its shards has ended.
///
/// `run` takes a row of nodes at a time, so that the user's handler is called in a loop of its own module.
final class ChannelHandler: Sendable {
    // All shards read this per value, so nothing that somebody writes may lie on the same line.
    private let before = InlineArray<15, UInt64>(repeating: 0)
    let run: ValueRun
    let destroy: @Sendable (_ payload: UInt) -> Void
    private let after = InlineArray<15, UInt64>(repeating: 0)

    init(run: @escaping ValueRun, destroy: @escaping @Sendable (UInt) -> Void) {
        self.run = run
        self.destroy = destroy
    }

    /// For what is no value of a channel, and goes one by one.
    convenience init(
        each run: @escaping @Sendable (Shard, _ payload: UInt) -> Void, destroy: @escaping @Sendable (UInt) -> Void
    ) {
        self.init(
            run: { shard, first, count, progress in
                ValueRow.run(from: first, atMost: count, progress) { run(shard, $0) }
            }, destroy: destroy)
    }
}

/// Runs the values of so many nodes in a row.
@usableFromInline typealias ValueRun =
    @Sendable (_ shard: Shard, _ first: UInt, _ count: Int, _ progress: TaskProgress) -> ValueRow

/// Nodes in a row, on the way from the first to the last: those that were run are linked the other way round. So a
/// sender gets its nodes back in the exact reverse of the order in which it used them, however they are portioned, and
/// they keep their order in memory: a processor sees through that, and fetches them ahead.
@usableFromInline struct ValueRow {
    /// How many were run; in the end all, unless tasks are not to be run any more.
    @usableFromInline var ran = 0
    /// The one that was run last, 0 for none.
    @usableFromInline var newest: UInt = 0
    /// The one to be run next, or what comes after the row.
    @usableFromInline var next: UInt

    @inlinable @inline(__always)
    init(first: UInt) { next = first }

    /// Runs what lies in the nodes, one by one.
    @inlinable @inline(__always)
    static func run(
        from first: UInt, atMost count: Int, _ progress: TaskProgress, _ body: (_ payload: UInt) -> Void
    ) -> ValueRow {
        var row = ValueRow(first: first)
        while row.ran < count, progress.begin() {
            let node = row.next
            body(ChannelSender.payload(of: node))
            // Only now its link is looked at: what it posted to its own shard may hang on it.
            row.next = ChannelSender.linked(from: node)
            ChannelSender.link(node, to: row.newest)
            row.newest = node
            row.ran &+= 1
        }
        return row
    }
}

/// Keeps a group's channel handlers until none of its threads can run one any more.
///
/// A handler may well refer to the group, or to its own channel, which would then keep itself alive: so they are let go
/// of when the last thread ends, and not when the group does.
final class ChannelHandlers: Sendable {
    private struct State {
        var threads: Int
        var kept: [ChannelHandler] = []
    }

    private let state: Locked<State>

    init(threads: Int) { state = Locked(State(threads: threads)) }

    /// Keeps a handler, if anything can run any more. If not, nodes that refer to it are never accepted.
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
