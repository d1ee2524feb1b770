internal import Synchronization

/// What a bounded mailbox has no room for, and takes all the same, up to a limit: it waits in line with those who wait,
/// and is published in its turn. Contract M3.
///
/// The line is behind a lock that nobody holds for longer than a step. While anything waits nobody gets past it, so
/// what one producer sends stays in order. Contract M2.
extension ShardCore {
    /// Puts nodes in line that are marked as spilled, linked from the newest to the oldest. False if the shard stops,
    /// and then they are still the caller's, linked as they were.
    @inline(never)
    func spill(newest: TaskNode, oldest: TaskNode) -> Bool {
        oldest.next = 0
        let chain = TaskChain(reversing: newest.bits)
        let first = chain.firstBits
        let count = UInt64(chain.count)
        guard credits.spill(chain, publish: publishWaiting) else {
            _ = TaskChain(reversing: first)
            return false
        }
        spilled.wrappingAdd(count, ordering: .relaxed)
        return true
    }

    /// Places in a bounded mailbox that are free again.
    func giveBackCredits(_ count: Int) {
        if credits.giveBack(count) { credits.serve(publish: publishWaiting) }
    }

    /// The shard stops: what waits for room is published now, before its word is closed. Idempotent.
    func closeCredits() { credits.close(publish: publishWaiting) }

    /// Under the lock of the line.
    private func publishWaiting(_ node: TaskNode) {
        // A shard's own posts go into its backlog; one that had to wait must not be overtaken by the next. Contract M2.
        let isPublished: Bool
        if let shard = Shard.current, shard.core === self, node.home == index {
            isPublished = shard.enqueue(newest: node, oldest: node)
        } else {
            switch mailbox.push(node) {
            case .pushed: isPublished = true
            case .mustRing: isPublished = wake()
            case .closed: isPublished = false
            }
        }
        if !isPublished { fatalError("LinuxEventGroup: a mailbox was closed before those who wait (Contract M3)") }
    }
}
