import Glibc

/// Ends the process with a text where a test's own preparation failed: no result after that would mean anything.
func prepared(_ result: CInt, _ call: String) -> CInt {
    if result < 0 { fatalError("test preparation: \(call): \(String(cString: strerror(errno)))") }
    return result
}

/// What poll(2) says of a descriptor: the oracle that knows nothing of the engine.
public struct Readiness: OptionSet, Sendable, Hashable, CustomStringConvertible {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    // The numbers are those of poll(2) and of epoll(7) alike.
    public static let readable = Readiness(rawValue: 0x1)
    public static let priority = Readiness(rawValue: 0x2)
    public static let writable = Readiness(rawValue: 0x4)
    public static let error = Readiness(rawValue: 0x8)
    public static let hangup = Readiness(rawValue: 0x10)
    public static let peerShutdown = Readiness(rawValue: 0x2000)

    /// Everything that poll(2) may report.
    public static let everything: Readiness = [.readable, .priority, .writable, .error, .hangup, .peerShutdown]

    public var description: String {
        let names: [(Readiness, String)] = [
            (.readable, "IN"), (.priority, "PRI"), (.writable, "OUT"), (.error, "ERR"), (.hangup, "HUP"),
            (.peerShutdown, "RDHUP"),
        ]
        let present = names.filter { contains($0.0) }.map(\.1)
        return present.isEmpty ? "nothing" : present.joined(separator: ",")
    }

    /// The present readiness of a descriptor; waits up to the limit for the first of it.
    public static func of(_ descriptor: CInt, waiting milliseconds: CInt = 0) -> Readiness {
        var entry = pollfd(fd: descriptor, events: Int16(bitPattern: 0x2007), revents: 0)
        _ = prepared(poll(&entry, 1, milliseconds), "poll")
        return Readiness(rawValue: UInt32(UInt16(bitPattern: entry.revents)))
    }

    /// Waits (at most two seconds; more on a slow machine) until poll(2) reports exactly this; false if it never did.
    public static func settle(_ descriptor: CInt, at expected: Readiness) -> Bool {
        let deadline = Clock.monotonic() &+ Effort.atMost(2_000_000_000)
        while Clock.monotonic() < deadline {
            if of(descriptor) == expected { return true }
            usleep(200)
        }
        return of(descriptor) == expected
    }
}

/// Plain reads and writes on descriptors, for tests.
public enum IO {
    /// A write to what nobody reads is an errno here, not the end of the process.
    private static let ignoresBrokenPipes: Void = { _ = signal(SIGPIPE, SIG_IGN) }()

    /// Writes that many bytes; how many the kernel took.
    @discardableResult
    public static func write(_ descriptor: CInt, count: Int = 1) -> Int {
        ignoresBrokenPipes
        let bytes = [UInt8](repeating: 0x78, count: count)
        return Glibc.write(descriptor, bytes, count)
    }

    /// Writes until the kernel takes no more. The descriptor must be non-blocking.
    public static func fill(_ descriptor: CInt) {
        ignoresBrokenPipes
        let page = [UInt8](repeating: 0x66, count: 4096)
        while Glibc.write(descriptor, page, page.count) > 0 {}
        // A pipe may still have room for less than a page, and poll(2) goes by whole free slots.
        while Glibc.write(descriptor, page, 1) > 0 {}
    }

    /// Reads until there is no more; the bytes read, and whether the end was met.
    @discardableResult
    public static func drain(_ descriptor: CInt) -> (bytes: Int, ended: Bool) {
        var buffer = [UInt8](repeating: 0, count: 65536)
        var total = 0
        while true {
            let n = Glibc.read(descriptor, &buffer, buffer.count)
            if n > 0 { total += n; continue }
            return (total, n == 0)
        }
    }

    /// One read of at most that many bytes: what read(2) returned.
    @discardableResult
    public static func read(_ descriptor: CInt, count: Int = 1) -> Int {
        var buffer = [UInt8](repeating: 0, count: count)
        return Glibc.read(descriptor, &buffer, count)
    }

    /// An eventfd's counter, or nil where there is none to read.
    public static func readCounter(_ descriptor: CInt) -> UInt64? {
        var value: UInt64 = 0
        return Glibc.read(descriptor, &value, 8) == 8 ? value : nil
    }

    /// Adds to an eventfd; whether the kernel took it.
    @discardableResult
    public static func writeCounter(_ descriptor: CInt, _ value: UInt64) -> Bool {
        var value = value
        return Glibc.write(descriptor, &value, 8) == 8
    }

    /// Makes a descriptor non-blocking, or blocking.
    public static func setNonBlocking(_ descriptor: CInt, _ on: Bool = true) {
        let flags = prepared(fcntl(descriptor, F_GETFL), "fcntl")
        _ = prepared(fcntl(descriptor, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK), "fcntl")
    }

    public static func isNonBlocking(_ descriptor: CInt) -> Bool {
        prepared(fcntl(descriptor, F_GETFL), "fcntl") & O_NONBLOCK != 0
    }

    public static func isCloseOnExec(_ descriptor: CInt) -> Bool {
        prepared(fcntl(descriptor, F_GETFD), "fcntl") & FD_CLOEXEC != 0
    }

    public static func isOpen(_ descriptor: CInt) -> Bool { fcntl(descriptor, F_GETFD) >= 0 }

    /// A copy of the descriptor, closed on exec.
    public static func copy(_ descriptor: CInt) -> CInt {
        prepared(fcntl(descriptor, F_DUPFD_CLOEXEC, 3), "fcntl")
    }

    /// Makes `number` mean the same file as `descriptor`, whatever it meant before.
    public static func place(_ descriptor: CInt, at number: CInt) { _ = prepared(dup2(descriptor, number), "dup2") }

    /// The pending SO_ERROR, which this call takes away.
    public static func takeSocketError(_ descriptor: CInt) -> CInt {
        var value: CInt = 0
        var size = socklen_t(MemoryLayout<CInt>.size)
        _ = prepared(getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &value, &size), "getsockopt")
        return value
    }
}
