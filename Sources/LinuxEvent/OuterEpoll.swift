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
        try check("epoll_ctl ADD", epoll.add(inner.descriptor, Readiness.input, Token(rawValue: 0)))
        try check("epoll_ctl ADD", epoll.add(attention.descriptor, Readiness.input, Token(rawValue: 0)))
    }

    /// The loop's own set was made anew: the old one went, and with it the entry here.
    func add(_ inner: borrowing EpollBackend) {
        _ = epoll.add(inner.descriptor, Readiness.input, Token(rawValue: 0))
    }

    func tell(hasWork: Bool) {
        guard hasWork != isTold else { return }
        isTold = hasWork
        if hasWork { attention.ring() } else { _ = attention.drain() }
    }
}
