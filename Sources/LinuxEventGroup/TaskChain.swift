/// Nodes in order, on one thread: first in, first out.
struct TaskChain {
    private var first: UInt = 0
    private var last: UInt = 0
    private(set) var count = 0

    var isEmpty: Bool { first == 0 }

    mutating func append(_ node: TaskNode) {
        node.next = 0
        if first == 0 { first = node.bits } else { TaskNode(bits: last).next = node.bits }
        last = node.bits
        count += 1
    }

    mutating func append(_ chain: consuming TaskChain) {
        guard !chain.isEmpty else { return }
        if first == 0 { first = chain.first } else { TaskNode(bits: last).next = chain.first }
        last = chain.last
        count += chain.count
    }

    mutating func popFirst() -> TaskNode? {
        guard first != 0 else { return nil }
        let node = TaskNode(bits: first)
        first = node.next
        count -= 1
        return node
    }

    /// Turns a stack, newest first, into a chain, oldest first.
    init(reversing newest: UInt) {
        last = newest
        var bits = newest
        while bits != 0 {
            let node = TaskNode(bits: bits)
            bits = node.next
            node.next = first
            first = node.bits
            count += 1
        }
    }

    init() {}

    /// A chain that is linked already.
    init(first: UInt) {
        self.first = first
        var bits = first
        while bits != 0 {
            last = bits
            bits = TaskNode(bits: bits).next
            count += 1
        }
    }

    var firstBits: UInt { first }
}
