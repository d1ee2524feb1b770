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
}

typealias TaskChain = NodeChain<TaskNode>

/// The chain of what a shard has taken and not run.
///
/// Raw memory behind a constant, so that no step is checked for exclusive access, and nobody's copy is touched while a
/// task that posts to its own shard adds to it.
@safe struct Backlog: ~Copyable {
    private let chain: UnsafeMutablePointer<TaskChain>

    init() {
        unsafe chain = .allocate(capacity: 1)
        unsafe chain.initialize(to: TaskChain())
    }

    deinit { unsafe chain.deallocate() }

    var isEmpty: Bool { unsafe chain.pointee.isEmpty }
    var count: Int { unsafe chain.pointee.count }

    @inline(__always)
    func append(_ node: TaskNode) { unsafe chain.pointee.append(node) }

    func append(_ more: consuming TaskChain) { unsafe chain.pointee.append(more) }

    func popFirst() -> TaskNode? { unsafe chain.pointee.popFirst() }

    // A pass over the chain leaves its nodes linked while it runs them, and takes them out at its end.

    var first: TaskNode { unsafe TaskNode(bits: chain.pointee.first) }

    /// One more is run.
    @inline(__always)
    func countDown() { unsafe chain.pointee.count &-= 1 }

    /// All before this node are run; 0 says that all are.
    func advance(to node: TaskNode) { unsafe chain.pointee.first = node.bits }
}
