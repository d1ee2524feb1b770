/// One timer, in raw memory. A struct, so that storing the closure costs nothing beside the closure.
@safe struct TimerNode {
    var deadline: UInt64
    /// Timers with equal deadlines run in this order. Contract T3.
    var order: UInt64
    /// Never used twice: a handle of the past finds nobody.
    var generation: UInt64
    /// Nanoseconds, 0 for a timer that runs once.
    var interval: UInt64
    /// Neighbours in the bucket's list.
    var next: TimerIndex
    var previous: TimerIndex
    /// Periods that the running call stands for, beside its own. Contract T6.
    var missed: UInt32
    var bucket: UInt16
    var handler: Held

    /// A struct, because a bare closure behind a generic pointer is boxed anew on every move.
    struct Held { let run: TimerHandler }
}

typealias TimerHandler = (_ loop: Loop, _ timer: Timer) -> Void

/// Where a timer's node lies: chunk and place.
struct TimerIndex: Hashable {
    let rawValue: UInt32
    static let none = TimerIndex(rawValue: .max)
}

/// The nodes: chunks of raw memory that never move, so a timer costs no allocation beside its closure, and memory
/// follows what is live. Contract L12.
///
/// The unsafe memory is behind `TimerReference`, which is good until its node is freed.
@safe struct TimerStore: ~Copyable {
    private static var chunkBits: UInt32 { 6 }
    private static var chunkCapacity: Int { 1 << 6 }

    @safe private struct Chunk {
        var nodes: UnsafeMutablePointer<TimerNode>?
        var live = 0
        /// The free nodes, linked through `next`; their generation is 0.
        var freeHead = TimerIndex.none
        /// Neighbours among the chunks with room; -1 for none.
        var next = -1
        var previous = -1
    }

    @safe private struct Header {
        var chunks: UnsafeMutablePointer<Chunk>
        var chunkCount = 0
        var chunkLimit = 0
        /// The first chunk with room; -1 for none.
        var withRoom = -1
        /// Chunks without memory, linked through `next`; -1 for none.
        var vacant = -1
        var emptyChunks = 0
        var live = 0
    }

    private let header: UnsafeMutablePointer<Header>

    var live: Int { unsafe header.pointee.live }

    init() {
        unsafe header = .allocate(capacity: 1)
        unsafe header.initialize(to: Header(chunks: .allocate(capacity: 0)))
    }

    deinit {
        for index in 0..<chunkCount { unsafe chunks[index].nodes?.deallocate() }
        unsafe chunks.deallocate()
        unsafe header.deallocate()
    }

    @inline(__always) private var chunks: UnsafeMutablePointer<Chunk> { unsafe header.pointee.chunks }
    @inline(__always) private var chunkCount: Int { unsafe header.pointee.chunkCount }
    @inline(__always) private var withRoom: Int { unsafe header.pointee.withRoom }

    /// Where the chunks lie.
    var memory: [MemoryRange] {
        (0..<chunkCount).compactMap { index in
            guard let nodes = unsafe chunks[index].nodes else { return nil }
            return MemoryRange(
                start: UInt(bitPattern: nodes), byteCount: Self.chunkCapacity * MemoryLayout<TimerNode>.stride)
        }
    }

    /// The node at an index that is known to be allocated.
    @inline(__always)
    subscript(index: TimerIndex) -> TimerReference {
        let nodes = unsafe chunks[Int(index.rawValue >> Self.chunkBits)].nodes.unsafelyUnwrapped
        return unsafe TimerReference(nodes + Int(index.rawValue & 63))
    }

    /// The node that a handle means, if it still lives.
    @inline(__always)
    func live(_ index: TimerIndex, _ generation: UInt64) -> TimerReference? {
        let chunk = Int(index.rawValue >> Self.chunkBits)
        guard chunk < chunkCount, unsafe chunks[chunk].nodes != nil else { return nil }
        let node = self[index]
        return node.value.generation == generation ? node : nil
    }

    /// Takes a node and fills it.
    @inline(__always)
    func insert(_ node: consuming TimerNode) -> TimerIndex {
        if withRoom < 0 { addChunk() }
        let chunk = unsafe chunks + withRoom
        let index = unsafe chunk.pointee.freeHead
        let place = self[index]
        let next = place.value.next
        unsafe chunk.pointee.freeHead = next
        if unsafe chunk.pointee.live == 0 { unsafe header.pointee.emptyChunks -= 1 }
        unsafe chunk.pointee.live += 1
        if next == .none { unlinkChunk(withRoom) }
        place.initialize(node)
        unsafe header.pointee.live += 1
        return index
    }

    /// Frees a node; its handler is the caller's now.
    @inline(__always)
    func remove(_ index: TimerIndex) -> TimerNode.Held {
        let number = Int(index.rawValue >> Self.chunkBits)
        let chunk = unsafe chunks + number
        let node = self[index]
        let handler = node.takeHandler()
        let isFull = unsafe chunk.pointee.freeHead == .none
        node.beFree(unsafe chunk.pointee.freeHead)
        unsafe chunk.pointee.freeHead = index
        if isFull { linkChunk(number) }
        unsafe chunk.pointee.live -= 1
        unsafe header.pointee.live -= 1
        if unsafe chunk.pointee.live == 0 { noteEmpty(number) }
        return handler
    }

    private func noteEmpty(_ chunk: Int) {
        unsafe header.pointee.emptyChunks += 1
        // One empty chunk is kept back, so that a timer alone does not allocate each time.
        if unsafe header.pointee.emptyChunks > 1 { dropChunk(chunk) }
    }

    /// Every index that is allocated.
    func forEach(_ body: (TimerIndex) -> Void) {
        for chunk in 0..<chunkCount where unsafe chunks[chunk].live > 0 {
            for place in 0..<Self.chunkCapacity {
                let index = TimerIndex(rawValue: UInt32(chunk) << Self.chunkBits | UInt32(place))
                if self[index].value.generation != 0 { body(index) }
            }
        }
    }

    private func addChunk() {
        let chunk: Int
        if unsafe header.pointee.vacant >= 0 {
            chunk = unsafe header.pointee.vacant
            unsafe header.pointee.vacant = chunks[chunk].next
        } else {
            if unsafe chunkCount == header.pointee.chunkLimit { grow() }
            chunk = chunkCount
            unsafe header.pointee.chunkCount += 1
        }
        let nodes = unsafe Self.makeNodes(firstIndex: UInt32(chunk) << Self.chunkBits)
        unsafe (chunks + chunk).initialize(
            to: Chunk(nodes: nodes, freeHead: TimerIndex(rawValue: UInt32(chunk) << Self.chunkBits)))
        unsafe header.pointee.emptyChunks += 1
        linkChunk(chunk)
    }

    /// Free nodes, in a list. Each has a cache line to itself: what is far apart in time is far apart in memory, so a
    /// node on two lines would cost two misses.
    private static func makeNodes(firstIndex: UInt32) -> UnsafeMutablePointer<TimerNode> {
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: chunkCapacity * MemoryLayout<TimerNode>.stride, alignment: 64)
        let nodes = unsafe memory.bindMemory(to: TimerNode.self, capacity: chunkCapacity)
        for place in 0..<chunkCapacity {
            let isLast = place == chunkCapacity - 1
            let next = isLast ? TimerIndex.none : TimerIndex(rawValue: firstIndex + UInt32(place) + 1)
            unsafe TimerReference(nodes + place).beFree(next)
        }
        return unsafe nodes
    }

    private func grow() {
        let limit = unsafe max(4, header.pointee.chunkLimit * 2)
        let larger = UnsafeMutablePointer<Chunk>.allocate(capacity: limit)
        unsafe larger.moveInitialize(from: chunks, count: chunkCount)
        unsafe chunks.deallocate()
        unsafe header.pointee.chunks = larger
        unsafe header.pointee.chunkLimit = limit
    }

    private func dropChunk(_ chunk: Int) {
        unlinkChunk(chunk)
        unsafe chunks[chunk].nodes?.deallocate()
        unsafe chunks[chunk].nodes = nil
        unsafe chunks[chunk].next = header.pointee.vacant
        unsafe header.pointee.vacant = chunk
        unsafe header.pointee.emptyChunks -= 1
    }

    private func linkChunk(_ chunk: Int) {
        unsafe chunks[chunk].next = withRoom
        unsafe chunks[chunk].previous = -1
        if withRoom >= 0 { unsafe chunks[withRoom].previous = chunk }
        unsafe header.pointee.withRoom = chunk
    }

    private func unlinkChunk(_ chunk: Int) {
        let next = unsafe chunks[chunk].next, previous = unsafe chunks[chunk].previous
        if previous >= 0 { unsafe chunks[previous].next = next } else { unsafe header.pointee.withRoom = next }
        if next >= 0 { unsafe chunks[next].previous = previous }
    }
}

/// A node, by reference.
@safe struct TimerReference {
    private let pointer: UnsafeMutablePointer<TimerNode>

    @inline(__always) fileprivate init(_ pointer: UnsafeMutablePointer<TimerNode>) { unsafe self.pointer = pointer }

    var value: TimerNode {
        @inline(__always) _read { yield unsafe pointer.pointee }
        @inline(__always) nonmutating _modify { yield unsafe &pointer.pointee }
    }

    /// Moves the closure out and leaves one that does nothing.
    func lendHandler() -> TimerNode.Held {
        var handler = TimerNode.Held { _, _ in }
        swap(&handler, &value.handler)
        return handler
    }

    @inline(__always)
    fileprivate func initialize(_ node: consuming TimerNode) { unsafe pointer.initialize(to: node) }

    /// Memory without a handler; of its fields these two are good.
    fileprivate func beFree(_ next: TimerIndex) {
        value.generation = 0
        value.next = next
    }

    /// Moves the closure out. The plain fields stay; nothing may be done with the handler's place but to fill it.
    @inline(__always)
    fileprivate func takeHandler() -> TimerNode.Held {
        unsafe withUnsafeMutablePointer(to: &pointer.pointee.handler) { unsafe $0.move() }
    }
}
