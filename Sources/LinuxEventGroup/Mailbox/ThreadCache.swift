internal import CLinux

/// The nodes that a thread outside a group has at hand: a post of its takes one without any atomic step.
///
/// A thread has one cache with a place for each of four groups; a fifth takes the place of another. Each place holds a
/// reference to its pool, counted once as it is taken and not per post, so that the nodes outlive the group where they
/// must. What a thread has left is given back when it ends, or when its place is needed.
///
/// A shard of one group that posts to another group is outside of that one.
@safe struct ThreadCache {
    private struct Place {
        /// The pool's address, retained; 0 for none. An address is not used again while the place holds it.
        var pool: UInt = 0
        /// A list of empty nodes.
        var free: UInt = 0
    }

    private struct Places {
        var places = InlineArray<4, Place>(repeating: Place())
        var next = 0
    }

    /// A node of the pool, if the calling thread has one at hand.
    @inline(__always)
    static func takeAtHand(from pool: NodePool) -> TaskNode? {
        guard let cache = unsafe clinux_thread_cache_get() else { return nil }
        // The first place alone: the others change places with it.
        let place = unsafe cache.assumingMemoryBound(to: Place.self)
        let bits = unsafe place.pointee.free
        guard unsafe place.pointee.pool == address(of: pool), bits != 0 else { return nil }
        let next = TaskNode(bits: bits).next
        unsafe place.pointee.free = next
        clinux_prefetch_write(next)
        return TaskNode(bits: bits)
    }

    /// Puts back a node that was not used.
    static func putBack(_ node: TaskNode, to pool: NodePool) {
        let address = address(of: pool)
        if let cache = unsafe clinux_thread_cache_get() {
            let place = unsafe cache.assumingMemoryBound(to: Place.self)
            if unsafe place.pointee.pool == address {
                node.next = unsafe place.pointee.free
                unsafe place.pointee.free = node.bits
                return
            }
        }
        pool.giveBack(first: node.bits, last: node.bits)
    }

    private static func address(of pool: NodePool) -> UInt {
        unsafe UInt(bitPattern: Unmanaged.passUnretained(pool).toOpaque())
    }

    /// A node of the pool, for the calling thread.
    @inline(never)
    static func take(from pool: NodePool) -> TaskNode {
        guard let places = unsafe own() else { return single(from: pool) }
        let address = address(of: pool)
        let found = unsafe find(address, in: places)
        let first = unsafe places.pointee.places[found]
        unsafe places.pointee.places[found] = places.pointee.places[0]
        unsafe places.pointee.places[0] = first
        if first.free == 0 { unsafe places.pointee.places[0].free = pool.take(atMost: 64) }
        let node = unsafe TaskNode(bits: places.pointee.places[0].free)
        unsafe places.pointee.places[0].free = node.next
        return node
    }

    /// The place of a pool, or one that is made free for it.
    private static func find(_ address: UInt, in places: UnsafeMutablePointer<Places>) -> Int {
        let indices = unsafe places.pointee.places.indices
        for index in indices where unsafe places.pointee.places[index].pool == address { return index }
        // A new group, now and then: a good moment to let go of those that are gone.
        for index in indices where unsafe pool(of: places.pointee.places[index])?.isRetired == true {
            unsafe clear(index, in: places)
        }
        var chosen = indices.first { unsafe places.pointee.places[$0].pool == 0 }
        if chosen == nil {
            let victim = unsafe 1 + places.pointee.next % (indices.count - 1)
            unsafe places.pointee.next = victim
            unsafe clear(victim, in: places)
            chosen = victim
        }
        let index = chosen ?? 0
        unsafe places.pointee.places[index].pool = address
        if let opaque = unsafe UnsafeMutableRawPointer(bitPattern: address) {
            _ = unsafe Unmanaged<NodePool>.fromOpaque(opaque).retain()
        }
        return index
    }

    /// The calling thread's cache, made when it is first needed.
    private static func own() -> UnsafeMutablePointer<Places>? {
        if let cache = unsafe clinux_thread_cache_get() { return unsafe cache.assumingMemoryBound(to: Places.self) }
        let places = UnsafeMutablePointer<Places>.allocate(capacity: 1)
        unsafe places.initialize(to: Places())
        guard unsafe clinux_thread_cache_set(places, { cache in unsafe ThreadCache.end(cache) }) == 0 else {
            unsafe places.deallocate()
            return nil
        }
        return unsafe places
    }

    /// For a thread that can have no cache, because the process has no pthread key left: dear, and right.
    private static func single(from pool: NodePool) -> TaskNode {
        TaskNode(bits: pool.take(atMost: 1))
    }

    /// The thread ends.
    private static func end(_ cache: UnsafeMutableRawPointer?) {
        guard let places = unsafe cache?.assumingMemoryBound(to: Places.self) else { return }
        for index in unsafe places.pointee.places.indices { unsafe clear(index, in: places) }
        unsafe places.deallocate()
    }

    /// Gives the nodes of a place back, and then the reference.
    private static func clear(_ index: Int, in places: UnsafeMutablePointer<Places>) {
        let place = unsafe places.pointee.places[index]
        unsafe places.pointee.places[index] = Place()
        guard let opaque = unsafe UnsafeMutableRawPointer(bitPattern: place.pool) else { return }
        let pool = unsafe Unmanaged<NodePool>.fromOpaque(opaque)
        if place.free != 0 {
            unsafe pool._withUnsafeGuaranteedRef { $0.giveBack(first: place.free, last: last(of: place.free)) }
        }
        unsafe pool.release()
    }

    private static func pool(of place: Place) -> NodePool? {
        guard let opaque = unsafe UnsafeMutableRawPointer(bitPattern: place.pool) else { return nil }
        return unsafe Unmanaged<NodePool>.fromOpaque(opaque).takeUnretainedValue()
    }

    private static func last(of first: UInt) -> UInt {
        var last = first
        while TaskNode(bits: last).next != 0 { last = TaskNode(bits: last).next }
        return last
    }
}
