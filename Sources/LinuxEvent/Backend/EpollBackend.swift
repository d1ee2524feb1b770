internal import CLinux

/// The kernel's interest set: epoll(7).
///
/// - Owns: the epoll descriptor (close-on-exec); closed with it, or before.
/// - Calls no user code: it fills a batch once per turn, and the loop walks it.
/// - Errors: `LoopError.system` with the kernel's errno; results of changes as they are, >= 0 or -errno.
struct EpollBackend: ~Copyable {
    private let owned: OwnedDescriptor

    var descriptor: CInt { owned.number }

    init() throws(LoopError) { owned = OwnedDescriptor(try check("epoll_create1", clinux_epoll_create())) }

    func close() { owned.close() }

    /// Becomes another set, under the number that it has. Whoever polls it has to add the other one, before or after.
    func become(_ other: consuming EpollBackend) throws(LoopError) {
        try check("dup3", uninterrupted(clinux_dup3(other.descriptor, descriptor, O_CLOEXEC)))
    }

    func add(_ descriptor: CInt, _ mask: UInt32, _ token: Token) -> CInt {
        clinux_epoll_ctl(self.descriptor, EPOLL_CTL_ADD, descriptor, mask, token.rawValue)
    }

    func modify(_ descriptor: CInt, _ mask: UInt32, _ token: Token) -> CInt {
        clinux_epoll_ctl(self.descriptor, EPOLL_CTL_MOD, descriptor, mask, token.rawValue)
    }

    func remove(_ descriptor: CInt) -> CInt {
        clinux_epoll_ctl(self.descriptor, EPOLL_CTL_DEL, descriptor, 0, 0)
    }

    /// Fetches a batch: without a limit, or only what is ready now; returns how many events.
    ///
    /// Interruptions are passed over, whether by a signal, a stop and continue, or a debugger: the limit of a wait is
    /// in the timerfd, which goes on counting. Contract L7.
    func wait(into batch: borrowing EventBatch, blocking: Bool) throws(LoopError) -> Int {
        while true {
            let result = batch.fill(from: descriptor, timeout: blocking ? -1 : 0)
            if result >= 0 { return Int(result) }
            if result != -EINTR { try check("epoll_wait", result) }
        }
    }
}

/// The events last fetched, in raw memory.
@safe struct EventBatch: ~Copyable {
    @safe private struct Header {
        var events: UnsafeMutablePointer<epoll_event>
        var capacity: Int
    }

    private let header: UnsafeMutablePointer<Header>

    /// A batch that comes back full doubles, up to the larger of the two. The kernel rotates its ready list, so a
    /// small batch is fair; a larger one saves calls.
    private static var smallest: Int { 256 }
    private static var largest: Int { 4096 }

    init() {
        let capacity = Self.smallest
        unsafe header = .allocate(capacity: 1)
        unsafe header.initialize(to: Header(events: .allocate(capacity: capacity), capacity: capacity))
    }

    deinit {
        unsafe header.pointee.events.deallocate()
        unsafe header.deallocate()
    }

    var memory: [MemoryRange] {
        let byteCount = unsafe header.pointee.capacity * MemoryLayout<epoll_event>.stride
        return unsafe [MemoryRange(start: UInt(bitPattern: header.pointee.events), byteCount: byteCount)]
    }

    /// The event at `index` of the batch.
    @inline(__always)
    func event(_ index: Int) -> (events: UInt32, token: Token) {
        let event = unsafe header.pointee.events[index]
        return unsafe (event.events, Token(rawValue: event.data.u64))
    }

    @inline(__always)
    fileprivate func fill(from epoll: CInt, timeout: CInt) -> CInt {
        let capacity = unsafe header.pointee.capacity
        let result = unsafe clinux_epoll_wait(epoll, header.pointee.events, CInt(truncatingIfNeeded: capacity), timeout)
        if Int(result) == capacity, capacity < Self.largest { grow() }
        return result
    }

    /// Keeps the events that are there.
    private func grow() {
        let capacity = unsafe header.pointee.capacity
        let larger = UnsafeMutablePointer<epoll_event>.allocate(capacity: capacity * 2)
        unsafe larger.update(from: header.pointee.events, count: capacity)
        unsafe header.pointee.events.deallocate()
        unsafe header.pointee.events = larger
        unsafe header.pointee.capacity = capacity * 2
    }
}
