internal import CLinux

/// The kernel's interest set and the batch of events last fetched from it: epoll(7).
///
/// - Owns: the epoll descriptor (close-on-exec) and the batch; `deinit` lets go of both.
/// - Calls no user code: it fills the batch once per turn, and the loop walks it.
/// - Errors: `LoopError.system` with the kernel's errno.
@safe struct EpollBackend: ~Copyable {
    let descriptor: CInt
    private var events: UnsafeMutablePointer<epoll_event>
    private var capacity: Int
    /// How many events the last `wait` fetched and `next` has not handed out.
    private(set) var count = 0

    /// A batch that comes back full doubles, up to the larger of the two. The kernel rotates its ready list, so a
    /// small batch is fair; a larger one saves calls.
    private static let capacities = 256...4096

    init() throws(LoopError) {
        descriptor = try check("epoll_create1", clinux_epoll_create())
        capacity = Self.capacities.lowerBound
        unsafe events = .allocate(capacity: capacity)
    }

    deinit {
        unsafe events.deallocate()
        _ = clinux_close(descriptor)
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

    /// Fetches a batch: without a limit, or only what is ready now. EINTR fetches nothing: a signal, a stop and
    /// continue, a debugger. The caller knows how long to go on: Contract L7.
    mutating func wait(blocking: Bool) throws(LoopError) {
        if count == capacity, capacity < Self.capacities.upperBound {
            unsafe events.deallocate()
            capacity *= 2
            unsafe events = .allocate(capacity: capacity)
        }
        let result = unsafe clinux_epoll_wait(descriptor, events, CInt(capacity), blocking ? -1 : 0)
        count = 0
        if result == -EINTR { return }
        count = Int(try check("epoll_wait", result))
    }

    /// The event at `index` of the batch.
    @inline(__always)
    func event(_ index: Int) -> (events: UInt32, token: Token) {
        let event = unsafe events[index]
        return unsafe (event.events, Token(rawValue: event.data.u64))
    }
}
