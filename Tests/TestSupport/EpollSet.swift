import CLinux
import Glibc

/// An epoll set without an engine: every call is the kernel's, every answer its result or -errno.
public final class EpollSet {
    public let descriptor: CInt

    public init() {
        descriptor = prepared(clinux_epoll_create(), "epoll_create1")
        Lifetimes.keep(self)
    }

    deinit { close(descriptor) }

    /// What the kernel reported of one entry.
    public struct Event: Hashable, Sendable {
        public let readiness: Readiness
        public let tag: UInt64

        public init(_ readiness: Readiness, _ tag: UInt64) {
            self.readiness = readiness
            self.tag = tag
        }
    }

    /// Asks for this, and by these flags (`EpollEntry.edgeTriggered` and the like).
    @discardableResult
    public func add(_ number: CInt, _ asked: Readiness, flags: UInt32 = 0, tag: UInt64 = 0) -> CInt {
        clinux_epoll_ctl(descriptor, EPOLL_CTL_ADD, number, asked.rawValue | flags, tag)
    }

    @discardableResult
    public func modify(_ number: CInt, _ asked: Readiness, flags: UInt32 = 0, tag: UInt64 = 0) -> CInt {
        clinux_epoll_ctl(descriptor, EPOLL_CTL_MOD, number, asked.rawValue | flags, tag)
    }

    @discardableResult
    public func remove(_ number: CInt) -> CInt { clinux_epoll_ctl(descriptor, EPOLL_CTL_DEL, number, 0, 0) }

    /// One wait: what is ready now, or the first of it within the limit.
    public func events(capacity: Int = 64, waiting milliseconds: CInt = 0) -> [Event] {
        var events = [epoll_event](repeating: epoll_event(), count: capacity)
        let count = prepared(clinux_epoll_wait(descriptor, &events, CInt(capacity), milliseconds), "epoll_wait")
        return events.prefix(Int(count)).map { Event(Readiness(rawValue: $0.events), $0.data.u64) }
    }

    /// As `events`, for a set with one entry: what it reported, or nothing.
    public func readiness(waiting milliseconds: CInt = 0) -> Readiness {
        events(waiting: milliseconds).first?.readiness ?? []
    }
}
