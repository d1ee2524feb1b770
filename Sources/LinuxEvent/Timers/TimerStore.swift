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
    var handler: TimerHandler
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
        /// Nodes that were used once are linked through `next`; the others were never touched.
        var freeHead = TimerIndex.none
        var untouched = 0
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
    func live(_ index: TimerIndex, _ generation: UInt64) -> TimerReference? {
        let chunk = Int(index.rawValue >> Self.chunkBits)
        guard chunk < chunkCount, unsafe chunks[chunk].nodes != nil else { return nil }
        let used = unsafe Self.chunkCapacity - chunks[chunk].untouched
        guard Int(index.rawValue & 63) < used else { return nil }
        let node = self[index]
        return node.value.generation == generation ? node : nil
    }

    /// Takes a node and fills it.
    func insert(_ node: consuming TimerNode) -> TimerIndex {
        if withRoom < 0 { addChunk() }
        let chunk = withRoom
        let index: TimerIndex
        if unsafe chunks[chunk].freeHead != .none {
            index = unsafe chunks[chunk].freeHead
            unsafe chunks[chunk].freeHead = self[index].value.next
        } else {
            let place = unsafe Self.chunkCapacity - chunks[chunk].untouched
            unsafe chunks[chunk].untouched -= 1
            index = TimerIndex(rawValue: UInt32(chunk) << Self.chunkBits | UInt32(place))
        }
        if unsafe chunks[chunk].live == 0 { unsafe header.pointee.emptyChunks -= 1 }
        unsafe chunks[chunk].live += 1
        if unsafe chunks[chunk].live == Self.chunkCapacity { unlinkChunk(chunk) }
        self[index].initialize(node)
        unsafe header.pointee.live += 1
        return index
    }

    /// Frees a node; its handler is the caller's now.
    func remove(_ index: TimerIndex) -> TimerHandler {
        let handler = self[index].takeHandler()
        let chunk = Int(index.rawValue >> Self.chunkBits)
        self[index].value.next = unsafe chunks[chunk].freeHead
        unsafe chunks[chunk].freeHead = index
        if unsafe chunks[chunk].live == Self.chunkCapacity { linkChunk(chunk) }
        unsafe chunks[chunk].live -= 1
        unsafe header.pointee.live -= 1
        if unsafe chunks[chunk].live == 0 {
            unsafe header.pointee.emptyChunks += 1
            // One empty chunk is kept back, so that a timer alone does not allocate each time.
            if unsafe header.pointee.emptyChunks > 1 { dropChunk(chunk) }
        }
        return handler
    }

    /// Every index that is allocated.
    func forEach(_ body: (TimerIndex) -> Void) {
        for chunk in 0..<chunkCount where unsafe chunks[chunk].live > 0 {
            for place in 0..<(unsafe Self.chunkCapacity - chunks[chunk].untouched) {
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
        unsafe (chunks + chunk).initialize(
            to: Chunk(nodes: .allocate(capacity: Self.chunkCapacity), untouched: Self.chunkCapacity))
        unsafe header.pointee.emptyChunks += 1
        linkChunk(chunk)
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
    func lendHandler() -> TimerHandler {
        var handler: TimerHandler = { _, _ in }
        swap(&handler, &value.handler)
        return handler
    }

    fileprivate func initialize(_ node: consuming TimerNode) { unsafe pointer.initialize(to: node) }

    /// Moves the closure out; the rest of the node stays readable, as a dead one.
    fileprivate func takeHandler() -> TimerHandler {
        let handler = unsafe pointer.move().handler
        unsafe pointer.initialize(
            to: TimerNode(
                deadline: 0, order: 0, generation: 0, interval: 0, next: .none, previous: .none, missed: 0, bucket: 0,
                handler: { _, _ in }))
        return handler
    }
}
