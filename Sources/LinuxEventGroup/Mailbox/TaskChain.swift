/// Nodes in order, on one thread: first in, first out.
struct NodeChain<Node: LinkedNode> {
    fileprivate var first: UInt = 0
    private var last: UInt = 0
    fileprivate(set) var count = 0

    var isEmpty: Bool { first == 0 }

    @inline(__always)
    mutating func append(_ node: Node) {
        node.next = 0
        if first == 0 { first = node.bits } else { Node(bits: last).next = node.bits }
        last = node.bits
        count &+= 1
    }

    mutating func append(_ chain: consuming NodeChain) {
        guard !chain.isEmpty else { return }
        if first == 0 { first = chain.first } else { Node(bits: last).next = chain.first }
        last = chain.last
        count &+= chain.count
    }

    @inline(__always)
    mutating func popFirst() -> Node? {
        guard first != 0 else { return nil }
        let node = Node(bits: first)
        first = node.next
        count &-= 1
        return node
    }

    /// Turns a stack, newest first, into a chain, oldest first.
    init(reversing newest: UInt) {
        last = newest
        var bits = newest
        while bits != 0 {
            let node = Node(bits: bits)
            bits = node.next
            node.next = first
            first = node.bits
            count &+= 1
        }
    }

    init() {}

    /// A chain that is linked already.
    init(first: UInt) {
        self.first = first
        var bits = first
        while bits != 0 {
            last = bits
            bits = Node(bits: bits).next
            count &+= 1
        }
    }

    var firstBits: UInt { first }
    var lastBits: UInt { last }
}

typealias TaskChain = NodeChain<TaskNode>

/// The chain of what a shard has taken and not run.
///
/// Raw memory behind a constant, so that no step is checked for exclusive access, and nobody's copy is touched while a
/// task that posts to its own shard adds to it.
@safe struct Backlog: ~Copyable {
    private struct Ends {
        var first: UInt = 0
        var last: UInt = 0
    }

    private let ends: UnsafeMutablePointer<Ends>
    /// Has the count, where others may see it.
    private let progress: TaskProgress

    init(_ progress: TaskProgress) {
        self.progress = progress
        unsafe ends = .allocate(capacity: 1)
        unsafe ends.initialize(to: Ends())
    }

    deinit { unsafe ends.deallocate() }

    var isEmpty: Bool { unsafe ends.pointee.first == 0 }
    var count: Int { progress.waiting }

    @inline(__always)
    func append(_ node: TaskNode) {
        node.next = 0
        link(first: node.bits, last: node.bits, count: 1)
    }

    func append(_ more: consuming TaskChain) {
        if more.isEmpty { return }
        link(first: more.firstBits, last: more.lastBits, count: more.count)
    }

    @inline(__always)
    private func link(first: UInt, last: UInt, count: Int) {
        if isEmpty { unsafe ends.pointee.first = first } else { unsafe TaskNode(bits: ends.pointee.last).next = first }
        unsafe ends.pointee.last = last
        progress.waiting = progress.waiting &+ count
    }

    func popFirst() -> TaskNode? {
        if isEmpty { return nil }
        let node = first
        advance(to: TaskNode(bits: node.next))
        progress.waiting = progress.waiting &- 1
        return node
    }

    // A pass over the chain leaves its nodes linked while it runs them, and takes them out at its end. They are counted
    // down one by one, in `progress`.

    var first: TaskNode { unsafe TaskNode(bits: ends.pointee.first) }

    /// All before this node are run; 0 says that all are.
    func advance(to node: TaskNode) { unsafe ends.pointee.first = node.bits }
}
