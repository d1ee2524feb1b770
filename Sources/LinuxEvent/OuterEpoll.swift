internal import CLinux

/// The descriptor that a foreign loop polls in our stead: an epoll set which holds the loop's own set and a counter.
///
/// A set within a set, because the loop's own may be made anew (Contract W9) and the number given away must not
/// change. The counter stands for work that the kernel does not know of. Contract L6.
final class OuterEpoll {
    private let epoll: EpollBackend
    private let attention: EventFD
    private var isTold = false

    var descriptor: CInt { epoll.descriptor }

    func owns(_ descriptor: CInt) -> Bool { descriptor == epoll.descriptor || descriptor == attention.descriptor }

    init(_ inner: borrowing EpollBackend) throws(LoopError) {
        epoll = try EpollBackend()
        attention = try EventFD()
        try add(inner)
        try check("epoll_ctl ADD", epoll.add(attention.descriptor, Readiness.input, Token(rawValue: 0)))
    }

    /// A set that is, or will be, the loop's own. The entry goes with the set, whatever number the set has by then.
    func add(_ inner: borrowing EpollBackend) throws(LoopError) {
        try check("epoll_ctl ADD", epoll.add(inner.descriptor, Readiness.input, Token(rawValue: 0)))
    }

    func tell(hasWork: Bool) {
        guard hasWork != isTold else { return }
        if hasWork { attention.ring() }
        // What could not be read is still told, and the end of the next turn tries again.
        isTold = hasWork || attention.drain() == nil
    }
}
