internal import CLinux
internal import LinuxEvent
internal import Synchronization

/// Where the nodes that a shard posts with come home to, so that a post costs no allocation for its node. All threads
/// that are no shard of the group share one more.
///
/// - Threads: any.
/// - Bound: as many nodes as were ever on their way at once. A pool that threads share has 64 more for each of them.
/// - Lifetime: the nodes live as long as the pool, which the group holds, and each cache that has nodes of it.
final class NodePool: Sendable {
    /// The number of a shard, or the number of shards for the pool of the others.
    private let home: Int
    /// Nodes that came home.
    private let returned = ReturnStack<Atomic<UInt>, TaskNode>()
    private let slabs = Locked<[TaskNode.Slab]>([])
    /// What came home and is to be shared out: the first node of a list.
    private let stock = Locked<UInt>(0)
    /// Its group is gone. Relaxed: a hint to let go of it.
    private let retired = Atomic<Bool>(false)

    init(home: Int) { self.home = home }

    /// Where the nodes lie.
    var memory: [MemoryRange] { slabs.withLock { $0.map(\.memory) } }

    deinit { slabs.withLock { slabs in for slab in slabs { slab.free() } } }

    var isRetired: Bool { retired.load(ordering: .relaxed) }

    func retire() { retired.store(true, ordering: .relaxed) }

    /// How many nodes there are, wherever they are.
    var nodeCount: Int { slabs.withLock { $0.count } * TaskNode.Slab.capacity }

    /// All that came home, or a new slab: a linked list that is not empty.
    func takeAll() -> UInt {
        let nodes = returned.takeAll()
        if nodes != 0 { return nodes }
        let slab = TaskNode.Slab(home: home)
        slabs.withLock { $0.append(slab) }
        return slab.first.bits
    }

    /// A list of at most so many nodes, for one of several threads. If one took all that there is, the next would find
    /// nothing and make more, and so each in its turn. The lock is held for a moment, and once for 64 posts, where
    /// otherwise memory would have to be allocated.
    func take(atMost limit: Int) -> UInt {
        stock.withLock { stock in
            if stock == 0 { stock = takeAll() }
            let first = stock
            var last = TaskNode(bits: first)
            for _ in 1..<limit where last.next != 0 { last = TaskNode(bits: last.next) }
            stock = last.next
            last.next = 0
            return first
        }
    }

    /// Brings a list of empty nodes home.
    func giveBack(first: UInt, last: UInt) { returned.giveBack(first: first, last: last) }
}

/// The nodes that a shard has at hand, and the empty ones that it brings home: one exchange for up to 64.
///
/// - Threads: the shard's own.
/// - Raw memory behind constants, so that no step is checked for exclusive access.
@safe struct NodeStock: ~Copyable {
    private struct List {
        var first: UInt = 0
        var last: UInt = 0
        var count = 0
    }

    private static var listLimit: Int { 64 }

    private let pool: NodePool
    private let pools: [NodePool]
    /// The nodes to post with.
    private let free: UnsafeMutablePointer<UInt>
    /// By the node's home.
    private let lists: UnsafeMutablePointer<List>
    /// How many came from each. Contract G10.
    private let traffic: CounterRow

    init(_ pool: NodePool, returningTo pools: [NodePool], counting traffic: CounterRow) {
        self.pool = pool
        self.traffic = traffic
        self.pools = pools
        unsafe free = .allocate(capacity: 1)
        unsafe free.initialize(to: 0)
        unsafe lists = .allocate(capacity: pools.count)
        unsafe lists.initialize(repeating: List(), count: pools.count)
    }

    deinit {
        unsafe free.deallocate()
        unsafe lists.deallocate()
    }

    func take() -> TaskNode {
        if unsafe free.pointee == 0 { unsafe free.pointee = pool.takeAll() }
        let node = unsafe TaskNode(bits: free.pointee)
        unsafe free.pointee = node.next
        return node
    }

    /// A node, if there is one at hand.
    @inline(__always)
    func takeAtHand() -> TaskNode? {
        let bits = unsafe free.pointee
        if bits == 0 { return nil }
        let next = TaskNode(bits: bits).next
        unsafe free.pointee = next
        // The next post's node was written by another processor last: what it costs to get it is spent meanwhile.
        clinux_prefetch_write(next)
        return TaskNode(bits: bits)
    }

    /// Puts back a node that was not used.
    func putBack(_ node: TaskNode) {
        node.next = unsafe free.pointee
        unsafe free.pointee = node.bits
    }

    /// Empty nodes of one home. They keep one order in memory, or turn it around as a whole: a processor sees through
    /// that, and fetches them ahead.
    struct Run {
        fileprivate var first: UInt = 0
        fileprivate var last: UInt = 0
        fileprivate var home = 0
        fileprivate var count = 0

        init() {}

        fileprivate init(only node: TaskNode) { self.init(first: node, last: node, count: 1) }

        /// Nodes that are linked already.
        init(first: TaskNode, last: TaskNode, count: Int) {
            self.first = first.bits
            self.last = last.bits
            home = first.home
            self.count = count
        }
    }

    /// Takes care of a node that was emptied.
    @inline(__always)
    func recycle(_ node: TaskNode, _ run: inout Run) {
        // Most lie in the slab of the one before, so the slab need not be asked whose it is.
        if run.count != 0, run.count < Self.listLimit,
            TaskNode.areOfOneSlab(node, TaskNode(bits: run.first)) || run.home == node.home
        {
            node.next = run.first
            run.first = node.bits
            run.count &+= 1
        } else {
            recycle(run)
            run = Run(only: node)
        }
    }

    /// Takes care of a run.
    func recycle(_ run: Run) {
        if run.count == 0 { return }
        traffic.add(run.count, at: run.home)
        let list = unsafe lists + run.home
        if unsafe list.pointee.count == 0 { unsafe list.pointee.last = run.last }
        TaskNode(bits: run.last).next = unsafe list.pointee.first
        unsafe list.pointee.first = run.first
        unsafe list.pointee.count &+= run.count
        if unsafe list.pointee.count >= Self.listLimit { send(run.home) }
    }

    /// Takes care of one node.
    func recycle(_ node: TaskNode) {
        recycle(Run(only: node))
    }

    /// Before the shard sleeps: nobody else can bring them home.
    func sendAll() {
        for home in pools.indices where unsafe lists[home].count > 0 { send(home) }
    }

    @inline(never)
    private func send(_ home: Int) {
        unsafe pools[home].giveBack(first: lists[home].first, last: lists[home].last)
        unsafe lists[home] = List()
    }
}
