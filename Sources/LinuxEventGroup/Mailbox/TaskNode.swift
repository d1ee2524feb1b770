internal import LinuxEvent

/// What a shard runs: a closure that gets the shard it runs on.
public typealias ShardTask = (_ shard: Shard) -> Void

/// What travels to a shard, in raw memory: a closure, or a value of a channel. One owner at a time, handed from thread
/// to thread by a mailbox's word.
///
/// One cache line: the next node, what runs this one, and 48 bytes for the value. Which pool it belongs to stands at
/// the head of its slab, which the node's address leads to.
@safe struct TaskNode: Sendable {
    /// The pointer's bits; a multiple of 64, and never 0, so that small numbers can mean something else in a word.
    let bits: UInt

    private struct Storage {
        var next: UInt = 0
        /// The address of the `ChannelHandler`, 0 for a closure; the lowest bits are `Marks`.
        var handler: UInt = 0
        let payload = InlineArray<6, UInt64>(repeating: 0)
    }

    /// A struct, because a bare closure in generic storage is boxed anew on every store.
    private struct Task { let run: ShardTask }

    /// What else there is to know of a node on its way.
    struct Marks: OptionSet {
        let rawValue: UInt
        /// It took a place in a bounded mailbox, to be given back when it has run.
        static var credit: Marks { Marks(rawValue: 1) }
        /// Its sender has written down when it was posted.
        static var timed: Marks { Marks(rawValue: 2) }
        /// It has a place among those that wait for room.
        static var spilled: Marks { Marks(rawValue: 4) }
        // A handler is an object, whose address is a multiple of 16.
        fileprivate static var all: Marks { [.credit, .timed, .spilled] }
    }

    private var pointer: UnsafeMutablePointer<Storage> {
        unsafe UnsafeMutablePointer(bitPattern: bits).unsafelyUnwrapped
    }

    @inline(__always)
    init(bits: UInt) { self.bits = bits }

    /// The next node of a chain, by its bits; 0 ends it.
    var next: UInt {
        @inline(__always) get { unsafe pointer.pointee.next }
        @inline(__always) nonmutating set { unsafe pointer.pointee.next = newValue }
    }

    /// The number of the pool that the node belongs to.
    var home: Int { Slab.home(of: bits) }

    /// Then they have the same home.
    @inline(__always)
    static func areOfOneSlab(_ one: TaskNode, _ other: TaskNode) -> Bool { (one.bits ^ other.bits) < UInt(Slab.size) }

    @inline(__always)
    var marks: Marks { unsafe Marks(rawValue: pointer.pointee.handler).intersection(.all) }

    /// Where the value lies, by its bits; good for any type of at most 48 bytes whose alignment is at most 16.
    var payload: UInt { bits &+ 16 }

    // MARK: Contents

    /// Says what is in the node, before it is published.
    @inline(__always)
    func mark(handler: UInt, _ marks: Marks) { unsafe pointer.pointee.handler = handler | marks.rawValue }

    /// Moves a task into an empty node. From here on the node is the task's only owner, so what the task captured dies
    /// where the node is emptied: on the shard, and not on the poster's thread.
    @inline(__always)
    func fill(_ task: consuming @escaping ShardTask, _ marks: Marks) {
        mark(handler: 0, marks)
        unsafe taskPlace.initialize(to: Task(run: task))
    }

    /// Moves a value of at most three words in.
    @inline(__always)
    func fill(_ first: UInt64, _ second: UInt64, _ third: UInt64) {
        let place = unsafe UnsafeMutablePointer<UInt64>(bitPattern: payload).unsafelyUnwrapped
        unsafe place[0] = first
        unsafe place[1] = second
        unsafe place[2] = third
    }

    /// Moves the closure out of a node that was filled with one.
    @inline(__always)
    func moveTask() -> ShardTask { unsafe taskPlace.move().run }

    /// How many nodes go together from here on: values of one channel, marked alike and of one home, in a row. A timed
    /// one stands alone.
    @inline(__always)
    func rowLength(atMost limit: Int) -> Int {
        let kind = unsafe pointer.pointee.handler
        guard kind & Marks.timed.rawValue == 0 else { return 1 }
        var last = self
        var count = 1
        while count < limit {
            let next = last.next
            guard next != 0 else { break }
            let node = TaskNode(bits: next)
            guard unsafe node.pointer.pointee.handler == kind,
                TaskNode.areOfOneSlab(node, last) || node.home == last.home
            else { break }
            last = node
            count &+= 1
        }
        return count
    }

    /// What runs the value; nil where the node holds a closure.
    @inline(__always)
    var handler: Unmanaged<ChannelHandler>? {
        let bits = unsafe pointer.pointee.handler & ~Marks.all.rawValue
        guard let opaque = unsafe UnsafeMutableRawPointer(bitPattern: bits) else { return nil }
        return unsafe Unmanaged.fromOpaque(opaque)
    }

    /// Destroys what is in the node, and does not run it. On the shard's thread.
    func destroyContents() {
        if let handler = unsafe handler {
            unsafe handler._withUnsafeGuaranteedRef { $0.destroy(payload) }
        } else {
            _ = moveTask()
        }
    }

    private var taskPlace: UnsafeMutablePointer<Task> {
        unsafe UnsafeMutablePointer(bitPattern: payload).unsafelyUnwrapped
    }

    // MARK: Slabs

    /// Linked nodes in one piece of memory. Its address is a multiple of its size, and in the first node's place it
    /// says whose nodes these are.
    struct Slab: Sendable {
        private let address: UInt
        let first: TaskNode
        let last: TaskNode

        static var size: Int { 1 << 14 }
        static var capacity: Int { size / MemoryLayout<Storage>.stride - 1 }

        init(home: Int) {
            let memory = UnsafeMutableRawPointer.allocate(byteCount: Self.size, alignment: Self.size)
            address = UInt(bitPattern: memory)
            unsafe memory.initializeMemory(as: Int.self, to: home)
            let stride = UInt(MemoryLayout<Storage>.stride)
            first = TaskNode(bits: address + stride)
            last = TaskNode(bits: address + stride * UInt(Self.capacity))
            for index in 1...Self.capacity {
                let place = unsafe memory + index * MemoryLayout<Storage>.stride
                let next = index < Self.capacity ? UInt(bitPattern: place) + stride : 0
                unsafe place.initializeMemory(as: Storage.self, to: Storage(next: next))
            }
        }

        /// Where the nodes lie.
        var memory: MemoryRange { MemoryRange(start: address, byteCount: Self.size) }

        func free() { unsafe UnsafeMutableRawPointer(bitPattern: address)?.deallocate() }

        @inline(__always)
        fileprivate static func home(of node: UInt) -> Int {
            let head = unsafe UnsafePointer<Int>(bitPattern: node & ~UInt(size - 1))
            return unsafe head.unsafelyUnwrapped.pointee
        }
    }
}
