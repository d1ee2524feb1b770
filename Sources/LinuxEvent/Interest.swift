internal import CLinux

/// What a watcher asks to be told. Contract W1.
///
/// What the kernel *reports* is another thing: errors and hang-ups come unasked.
public struct Interest: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Something can be read, or a connection accepted, or the end of the stream has come.
    public static let read = Interest(rawValue: 1)
    /// Something can be written.
    public static let write = Interest(rawValue: 2)
    /// Exceptional data (EPOLLPRI): out-of-band bytes, a change of a sysfs attribute. Runs the read handler.
    public static let priority = Interest(rawValue: 4)
    /// The peer will send no more (EPOLLRDHUP). Runs the read handler.
    public static let readHangup = Interest(rawValue: 8)

    /// As epoll_ctl(2) wants it.
    var mask: UInt32 {
        var mask: UInt32 = 0
        if contains(.read) { mask |= Readiness.input }
        if contains(.write) { mask |= Readiness.output }
        if contains(.priority) { mask |= Readiness.priority }
        if contains(.readHangup) { mask |= Readiness.readHangup }
        return mask
    }
}

/// What the kernel reported of one descriptor: the bits of epoll_event.events.
///
/// Constants rather than an OptionSet: they are tested on every event, also in debug builds.
enum Readiness {
    static let input = UInt32(CLINUX_EPOLLIN)
    static let output = UInt32(CLINUX_EPOLLOUT)
    static let priority = UInt32(CLINUX_EPOLLPRI)
    static let readHangup = UInt32(CLINUX_EPOLLRDHUP)
    static let error = UInt32(CLINUX_EPOLLERR)
    static let hangup = UInt32(CLINUX_EPOLLHUP)

    /// What makes the read handler run. HUP is among them, so that user code meets its end of file: Contract D3.
    static let reading = input | priority | hangup | readHangup
    /// What the kernel reports whether asked for or not.
    static let unasked = error | hangup
}

/// The callbacks that one watcher can run at this moment: what it asks for and has a handler for.
struct Steps: OptionSet {
    var rawValue: UInt8
    static let read = Steps(rawValue: 1)
    static let write = Steps(rawValue: 2)
    static let error = Steps(rawValue: 4)

    /// Contract D3-D5: the steps that a report without an error asks for.
    @inline(__always)
    static func due(_ events: UInt32) -> Steps {
        var steps: Steps = events & Readiness.reading != 0 ? .read : []
        if events & Readiness.output != 0 { steps.insert(.write) }
        return steps
    }
}
