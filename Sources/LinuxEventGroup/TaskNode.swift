internal import LinuxEvent

/// What a shard runs: a closure that gets the shard it runs on.
public typealias ShardTask = (_ shard: Shard) -> Void

/// A posted task, in raw memory: one owner at a time, handed from thread to thread by a mailbox's word.
@safe struct TaskNode: Sendable {
    /// The pointer's bits; never 0, and never odd, so that small numbers can mean something else in a word.
    let bits: UInt

    /// A node that belongs to no shard's pool: whoever empties it frees it.
    static let foreign = UInt32.max

    private struct Storage {
        var next: UInt = 0
        var origin: UInt32
        /// It took a place in a bounded mailbox, to be given back when it has run.
        var hasCredit = false
        /// Without a value while the node is empty.
        var task = Task(run: { _ in })
    }

    /// A struct, because a bare closure in generic storage is boxed anew on every store.
    private struct Task { let run: ShardTask }

    private var pointer: UnsafeMutablePointer<Storage> {
        unsafe UnsafeMutablePointer(bitPattern: bits).unsafelyUnwrapped
    }

    init(bits: UInt) { self.bits = bits }

    /// A node of its own, for a thread that is no shard of the group.
    static func allocateForeign() -> TaskNode {
        let pointer = UnsafeMutablePointer<Storage>.allocate(capacity: 1)
        unsafe pointer.initialize(to: Storage(origin: foreign))
        return TaskNode(bits: UInt(bitPattern: pointer))
    }

    func freeForeign() { unsafe pointer.deallocate() }

    /// Linked nodes in one piece of memory, for a shard's pool.
    struct Slab: Sendable {
        let first: TaskNode
        let memory: MemoryRange

        init(_ count: Int, origin: UInt32) {
            let memory = UnsafeMutablePointer<Storage>.allocate(capacity: count)
            for index in 0..<count {
                let next = unsafe index + 1 < count ? UInt(bitPattern: memory + index + 1) : 0
                unsafe (memory + index).initialize(to: Storage(next: next, origin: origin))
            }
            first = TaskNode(bits: UInt(bitPattern: memory))
            self.memory = MemoryRange(start: first.bits, byteCount: count * MemoryLayout<Storage>.stride)
        }

        func free() { unsafe first.pointer.deallocate() }
    }

    /// The next node of a chain, by its bits; 0 ends it.
    var next: UInt {
        get { unsafe pointer.pointee.next }
        nonmutating set { unsafe pointer.pointee.next = newValue }
    }

    var origin: UInt32 { unsafe pointer.pointee.origin }

    var hasCredit: Bool { unsafe pointer.pointee.hasCredit }

    /// Moves a task into an empty node. From here on the node is the task's only owner, so what the task captured dies
    /// where the node is emptied: on the shard, and not on the poster's thread.
    @inline(__always)
    func fill(_ task: consuming @escaping ShardTask, hasCredit: Bool) {
        unsafe pointer.pointee.hasCredit = hasCredit
        unsafe taskPlace.initialize(to: Task(run: task))
    }

    /// Moves the task out of a node that was filled.
    @inline(__always)
    func empty() -> ShardTask { unsafe taskPlace.move().run }

    private var taskPlace: UnsafeMutablePointer<Task> { unsafe pointer.pointer(to: \.task).unsafelyUnwrapped }
}

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
