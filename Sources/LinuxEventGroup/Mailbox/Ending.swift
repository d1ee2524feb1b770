/// Who has the tasks that were accepted and not run, once a mailbox is closed: the shard, which closes it as it ends,
/// or, if it missed the deadline, a stop, which closes it from outside. Contract G9.
///
/// - Threads: any, except where a member says otherwise.
struct Ending<Flag: AbandonFlag, Node: LinkedNode, Lock: ValueLock<Orphans>>: ~Copyable, Sendable {
    private let flag: Flag
    private let orphans = Lock(Orphans())

    init(_ flag: Flag) { self.flag = flag }

    /// Closes the box of a shard that missed the deadline. What it held is not run any more. It is not destroyed here
    /// either, since it may hold what must die on its own thread: the shard does that if it ever comes back.
    ///
    /// - Parameter counted: gets the number of tasks that the box held, before the shard can settle.
    func abandon<Word: AtomicWord & ~Copyable>(_ mailbox: borrowing Mailbox<Word, Node>, counted: (Int) -> Void) {
        orphans.withLock { orphans in
            // A second stop that misses its deadline too finds nothing new; a shard that came back needs no help.
            guard !orphans.isSettled, !flag.isAbandoned else { return }
            flag.abandon()
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

/// Whether tasks are not run any more, only destroyed. Relaxed: it is looked at until it is seen, and orders nothing.
protocol AbandonFlag: Sendable {
    var isAbandoned: Bool { get }
    func abandon()
}

extension TaskProgress: AbandonFlag {}

/// What a stop took out of a mailbox, and the shard has not taken over.
struct Orphans {
    /// A chain, by the bits of its first node.
    var first: UInt = 0
    var isSettled = false
}
