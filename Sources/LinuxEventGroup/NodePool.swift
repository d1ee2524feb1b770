internal import Synchronization

/// Where the nodes that a shard posts with come home to, so that a post costs no allocation for its node. All threads
/// that are no shard of the group share one more.
///
/// - Threads: any.
/// - Bound: as many nodes as were ever on their way at once. A pool that threads share also holds what is in their
///   caches: one that takes, takes all that came home.
/// - Lifetime: the nodes live as long as the pool, which the group holds, and each cache that has nodes of it.
final class NodePool: Sendable {
    /// The number of a shard, or the number of shards for the pool of the others.
    private let home: Int
    /// Nodes that came home: a stack that is only ever taken whole, so no address can be mistaken for another life of
    /// itself. It rings nobody.
    private let returned = Isolated(Atomic<UInt>(0))
    private let slabs = Locked<[TaskNode.Slab]>([])
    /// Its group is gone. Relaxed: a hint to let go of it.
    private let retired = Atomic<Bool>(false)

    init(home: Int) { self.home = home }

    deinit { slabs.withLock { slabs in for slab in slabs { slab.free() } } }

    var isRetired: Bool { retired.load(ordering: .relaxed) }

    func retire() { retired.store(true, ordering: .relaxed) }

    /// How many nodes there are, wherever they are.
    var nodeCount: Int { slabs.withLock { $0.count } * TaskNode.Slab.capacity }

    /// All that came home, or a new slab: a linked list that is not empty. Acquiring: what the users of the nodes did
    /// to them is over.
    func takeAll() -> UInt {
        let nodes = returned.value.exchange(0, ordering: .acquiring)
        if nodes != 0 { return nodes }
        let slab = TaskNode.Slab(home: home)
        slabs.withLock { $0.append(slab) }
        return slab.first.bits
    }

    /// Brings a list of empty nodes home. Releasing, for `takeAll`; a push on top continues the release sequence.
    func giveBack(first: UInt, last: UInt) {
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

/// The nodes that a shard has at hand, and the empty ones that it brings home: one exchange for up to 64.
///
/// - Threads: the shard's own.
/// - Raw memory behind constants, so that no step is checked for exclusive access.
@safe struct NodeStock: ~Copyable {
    private struct Header {
        var free: UInt = 0
        /// Nodes of others that have not been sent home yet.
        var waiting = 0
    }

    private struct List {
        var first: UInt = 0
        var last: UInt = 0
        var count = 0
    }

    private static var listLimit: Int { 64 }

    private let pool: NodePool
    private let pools: [NodePool]
    private let header: UnsafeMutablePointer<Header>
    /// By the node's home.
    private let lists: UnsafeMutablePointer<List>

    init(_ pool: NodePool, returningTo pools: [NodePool]) {
        self.pool = pool
        self.pools = pools
        unsafe header = .allocate(capacity: 1)
        unsafe header.initialize(to: Header())
        unsafe lists = .allocate(capacity: pools.count)
        unsafe lists.initialize(repeating: List(), count: pools.count)
    }

    deinit {
        unsafe header.deallocate()
        unsafe lists.deallocate()
    }

    @inline(__always)
    func take() -> TaskNode {
        if unsafe header.pointee.free == 0 { unsafe header.pointee.free = pool.takeAll() }
        let node = unsafe TaskNode(bits: header.pointee.free)
        unsafe header.pointee.free = node.next
        return node
    }

    /// Puts back a node that was not used.
    func putBack(_ node: TaskNode) {
        node.next = unsafe header.pointee.free
        unsafe header.pointee.free = node.bits
    }

    /// Takes care of a node that was emptied.
    @inline(__always)
    func recycle(_ node: TaskNode) {
        let home = node.home
        let list = unsafe lists + home
        if unsafe list.pointee.count == 0 { unsafe list.pointee.last = node.bits }
        node.next = unsafe list.pointee.first
        unsafe list.pointee.first = node.bits
        unsafe list.pointee.count &+= 1
        unsafe header.pointee.waiting &+= 1
        if unsafe list.pointee.count == Self.listLimit { send(home) }
    }

    /// Before the shard sleeps: nobody else can bring them home.
    func sendAll() {
        guard unsafe header.pointee.waiting > 0 else { return }
        for home in pools.indices where unsafe lists[home].count > 0 { send(home) }
    }

    @inline(never)
    private func send(_ home: Int) {
        unsafe pools[home].giveBack(first: lists[home].first, last: lists[home].last)
        unsafe header.pointee.waiting -= lists[home].count
        unsafe lists[home] = List()
    }
}
