internal import CLinux
internal import Synchronization

/// Where any thread leaves tasks for one shard: a stack of nodes whose head word also says how the shard stands.
///
/// The word is one of
/// - `empty`: nothing is there, and the shard is awake or about to look;
/// - `sleeping`: nothing is there, and the shard waits in the kernel, or is just going to;
/// - `closed`: no task is taken any more;
/// - otherwise the newest node, which links to the older ones.
///
/// Every party changes the word by a read-modify-write, so all changes have one order and no fence is needed. Either a
/// push comes before the shard's compare-exchange to `sleeping`, which then fails; or it comes after, and then it is
/// the push that finds `sleeping` and must ring. No wake-up can be lost, and no second one is sent. Contract M1, M4.
///
/// Nothing is dereferenced by a push, and whatever is taken is taken whole: that an address comes back is harmless.
struct Mailbox<Word: AtomicWord & ~Copyable, Node: LinkedNode>: ~Copyable, Sendable {
    private let word = Isolated(Word(Self.empty))

    private static var empty: UInt { 0 }
    private static var sleeping: UInt { 1 }
    private static var closed: UInt { 2 }

    /// A hint, without a read-modify-write, so of no use to one who is going to sleep: a `take` would find nothing.
    var isEmpty: Bool { word.value.load(ordering: .relaxed) == Self.empty }

    /// A hint: whether there is a node.
    var hasTasks: Bool { word.value.load(ordering: .relaxed) > Self.closed }

    enum Push { case pushed, mustRing, closed }

    /// Publishes a node. The one who finds the shard asleep must ring, once, and as the last thing it does.
    ///
    /// To skip this step when the shard seems to be awake, or to look first whether somebody has pushed already, loses
    /// wake-ups: the shard may be on its way to sleep.
    @inline(__always)
    func push(_ node: Node) -> Push { push(newest: node, oldest: node) }

    /// Publishes nodes that are linked from the newest to the oldest, all in one step. Contract M5.
    @inline(__always)
    func push(newest: Node, oldest: Node) -> Push {
        var head = word.value.load(ordering: .relaxed)
        while true {
            if head == Self.closed { return .closed }
            oldest.next = head == Self.sleeping ? Self.empty : head
            // Releasing: the nodes' contents, and all that this thread wrote before, are visible to the shard whose
            // exchange acquires this word, also through the pushes of others on top, which continue the release
            // sequence. Nothing is acquired: a push reads nothing behind the word.
            let (exchanged, original) = word.value.weakCompareExchange(
                expected: head, desired: newest.bits, successOrdering: .releasing, failureOrdering: .relaxed)
            if exchanged { return head == Self.sleeping ? .mustRing : .pushed }
            head = original
        }
    }

    struct Taken {
        var tasks = NodeChain<Node>()
        /// It was the shard itself that ended its sleep.
        var wasSleeping = false
        var isClosed = false
    }

    /// Takes all that is there, oldest first, and leaves the shard awake. The shard's own thread only.
    func take() -> Taken {
        let head = word.value.load(ordering: .relaxed)
        if head == Self.empty { return Taken() }  // polling writes to no shared line
        if head == Self.closed { return Taken(isClosed: true) }
        // The newest node comes from its sender's cache while the word does.
        clinux_prefetch_read(head)
        return taken(word.value.exchange(Self.empty, ordering: .acquiring))
    }

    /// Says that the shard is going to sleep. False if something came: then it must look again. Contract M4.
    func sleep() -> Bool {
        // A look first: a compare-exchange that fails would take the line away from those who are posting.
        guard word.value.load(ordering: .relaxed) == Self.empty else { return false }
        // No data goes with this step; what matters is its place in the order of the word's changes.
        return word.value.compareExchange(expected: Self.empty, desired: Self.sleeping, ordering: .relaxed).exchanged
    }

    /// Closes the box, from any thread; the shard, if asleep, is not told. What was in it is the caller's.
    func close() -> NodeChain<Node> {
        // Acquiring: what the posters wrote. Releasing too: whoever exchanges the closed word sees what the closer
        // wrote before. Nothing depends on that by now.
        let head = word.value.exchange(Self.closed, ordering: .acquiringAndReleasing)
        return head > Self.closed ? NodeChain(reversing: head) : NodeChain()
    }

    private func taken(_ head: UInt) -> Taken {
        switch head {
        case Self.empty: return Taken()
        case Self.sleeping: return Taken(wasSleeping: true)
        case Self.closed:
            // Closed from outside between the look and the exchange, which opened it again: close it once more.
            // What was pushed in between was accepted, so it is taken.
            return Taken(tasks: close(), isClosed: true)
        default: return Taken(tasks: NodeChain(reversing: head))
        }
    }
}
