/// Blocks that run at the end of a turn, first come, first served. Contract L10.
struct DeferredBlocks {
    /// A struct, because a bare closure in generic storage is boxed anew on every store.
    struct Block { let run: (Loop) -> Void }

    private var blocks: [Block] = []
    /// Of `blocks`, those that have run already; they are let go of one by one.
    private var next = 0

    var count: Int { blocks.count - next }

    mutating func append(_ block: @escaping (Loop) -> Void) { blocks.append(Block(run: block)) }

    mutating func removeFirst() -> Block {
        let block = blocks[next]
        blocks[next] = Block(run: { _ in })  // released when it has run, not when the array is
        next += 1
        if next == blocks.count {
            blocks.removeAll(keepingCapacity: next <= Budget.deferred)
            next = 0
        } else if next >= 64, next * 2 >= blocks.count {
            // Blocks that defer themselves anew never leave the array empty.
            blocks.removeFirst(next)
            next = 0
        }
        return block
    }
}

extension Loop {
    /// Runs a block once: after the callbacks and timers of the present turn, before the next wait. What a deferred
    /// block defers runs in the next turn. Contract L10.
    public func `defer`(_ block: @escaping (Loop) -> Void) {
        guard !isForeign, !watchers.isClosed else { return }
        deferred.value.append(block)
        hasDeferred = true
        noteWork()
    }

    /// Only those that were there when this pass began, and no more than the budget. Contract L10, L13.
    func runDeferred() -> Int {
        let due = min(deferred.value.count, Budget.deferred)
        for _ in 0..<due { deferred.value.removeFirst().run(self) }
        hasDeferred = deferred.value.count > 0
        return due
    }
}
