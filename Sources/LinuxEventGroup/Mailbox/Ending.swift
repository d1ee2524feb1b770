internal import Synchronization

/// Who has the tasks that were accepted and not run, once a mailbox is closed: the shard, which closes it as it ends,
/// or, if it missed the deadline, a stop, which closes it from outside. Contract G9.
///
/// - Threads: any, except where a member says otherwise.
struct Ending<Word: AtomicWord & ~Copyable, Node: LinkedNode, Lock: ValueLock<Orphans>>: ~Copyable, Sendable {
    /// Looked at before each task, so alone on its line.
    private let abandoned = Isolated(Word(0))
    private let orphans = Lock(Orphans())

    /// Tasks are not run any more, only destroyed. Relaxed: it is looked at until it is seen, and orders nothing.
    var isAbandoned: Bool { abandoned.value.load(ordering: .relaxed) != 0 }

    func abandonTasks() { abandoned.value.store(1, ordering: .relaxed) }

    /// Closes the box of a shard that missed the deadline. What it held is not run any more. It is not destroyed here
    /// either, since it may hold what must die on its own thread: the shard does that if it ever comes back.
    ///
    /// - Parameter counted: gets the number of tasks that the box held, before the shard can settle.
    func abandon(_ mailbox: borrowing Mailbox<Word, Node>, counted: (Int) -> Void) {
        orphans.withLock { orphans in
            // A second stop that misses its deadline too finds nothing new; a shard that came back needs no help.
            guard !orphans.isSettled, !isAbandoned else { return }
            abandonTasks()
            let chain = mailbox.close()
            orphans.first = chain.firstBits
            counted(chain.count)
        }
    }

    /// The shard's part, once it has closed its box itself: takes over what `abandon` took out of it.
    func settle() -> NodeChain<Node> {
        let first = orphans.withLock { orphans in
            defer { orphans = Orphans(isSettled: true) }
            return orphans.first
        }
        return NodeChain(first: first)
    }
}

/// What a stop took out of a mailbox, and the shard has not taken over.
struct Orphans {
    /// A chain, by the bits of its first node.
    var first: UInt = 0
    var isSettled = false
}
