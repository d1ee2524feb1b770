internal import Synchronization

/// Where the nodes that one shard posts with come home to, so that a post costs no allocation for its node.
///
/// - Threads: any.
/// - Bound: as many nodes as were ever on their way at once; freed with the group.
final class NodePool: Sendable {
    private let origin: UInt32
    /// Nodes that came home: a stack that is only ever taken whole, so no address can be mistaken for another life of
    /// itself. It rings nobody.
    private let returned = Isolated(Atomic<UInt>(0))
    private let slabs = Mutex<[TaskNode.Slab]>([])

    private static let slabCapacity = 256

    init(origin: Int) { self.origin = UInt32(origin) }

    deinit { slabs.withLock { slabs in for slab in slabs { slab.free() } } }

    /// All that came home, or a new slab: a linked list that is not empty. Acquiring: what the users of the nodes did
    /// to them is over.
    fileprivate func takeAll() -> UInt {
        let nodes = returned.value.exchange(0, ordering: .acquiring)
        if nodes != 0 { return nodes }
        let slab = TaskNode.Slab(Self.slabCapacity, origin: origin)
        slabs.withLock { $0.append(slab) }
        return slab.first.bits
    }

    /// Brings a list of empty nodes home. Releasing, for `takeAll`.
    fileprivate func giveBack(first: UInt, last: UInt) {
        var head = returned.value.load(ordering: .relaxed)
        while true {
            TaskNode(bits: last).next = head
            let (exchanged, original) = returned.value.weakCompareExchange(
                expected: head, desired: first, successOrdering: .releasing, failureOrdering: .relaxed)
            if exchanged { return }
            head = original
        }
    }
}

/// The nodes that a shard has at hand; its own thread's.
struct FreeNodes {
    private let pool: NodePool
    private var first: UInt = 0

    init(_ pool: NodePool) { self.pool = pool }

    mutating func take() -> TaskNode {
        if first == 0 { first = pool.takeAll() }
        let node = TaskNode(bits: first)
        first = node.next
        return node
    }

    /// Puts back a node that was not used.
    mutating func putBack(_ node: TaskNode) {
        node.next = first
        first = node.bits
    }
}

/// Empty nodes on their way home, sorted by home: one exchange brings back up to 64.
struct ReturningNodes {
    private struct List {
        var first: UInt = 0
        var last: UInt = 0
        var count = 0
    }

    private let pools: [NodePool]
    private var lists: [List]
    private var waiting = 0

    private static let listLimit = 64

    init(_ pools: [NodePool]) {
        self.pools = pools
        lists = [List](repeating: List(), count: pools.count)
    }

    mutating func add(_ node: TaskNode) {
        let origin = node.origin
        if origin == TaskNode.foreign { return node.freeForeign() }
        let home = Int(origin)
        if lists[home].count == 0 { lists[home].last = node.bits }
        node.next = lists[home].first
        lists[home].first = node.bits
        lists[home].count += 1
        waiting += 1
        if lists[home].count == Self.listLimit { send(home) }
    }

    /// Before the shard sleeps: nobody else can bring them home.
    mutating func sendAll() {
        guard waiting > 0 else { return }
        for home in lists.indices where lists[home].count > 0 { send(home) }
    }

    private mutating func send(_ home: Int) {
        pools[home].giveBack(first: lists[home].first, last: lists[home].last)
        waiting -= lists[home].count
        lists[home] = List()
    }
}
