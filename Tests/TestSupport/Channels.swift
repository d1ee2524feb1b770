import Glibc

/// A non-blocking pipe whose ends close with it, unless they were closed or given away before.
public final class Pipe {
    public private(set) var reader: CInt
    public private(set) var writer: CInt

    public init() {
        var ends: [CInt] = [-1, -1]
        _ = prepared(pipe(&ends), "pipe")
        reader = ends[0]
        writer = ends[1]
        for end in ends {
            IO.setNonBlocking(end)
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
        }
        Lifetimes.keep(self)
    }

    public static func readable() -> Pipe {
        let pipe = Pipe()
        pipe.write()
        return pipe
    }

    public func write(_ count: Int = 1) { IO.write(writer, count: count) }

    public func closeReader() {
        if reader >= 0 { close(reader) }
        reader = -1
    }

    public func closeWriter() {
        if writer >= 0 { close(writer) }
        writer = -1
    }

    /// The reader's number is somebody else's from now on.
    public func forgetReader() { reader = -1 }

    /// Both ends are the caller's from now on, to be closed by it.
    public func release() -> (reader: CInt, writer: CInt) {
        defer { (reader, writer) = (-1, -1) }
        return (reader, writer)
    }

    deinit {
        closeReader()
        closeWriter()
    }
}

/// Two ends that close with the object.
public final class Ends {
    public private(set) var near: CInt
    public private(set) var far: CInt

    init(near: CInt, far: CInt) {
        self.near = near
        self.far = far
        for end in [near, far] where end >= 0 { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        Lifetimes.keep(self)
    }

    public func closeNear() {
        if near >= 0 { close(near) }
        near = -1
    }

    public func closeFar() {
        if far >= 0 { close(far) }
        far = -1
    }

    public func forgetNear() { near = -1 }

    /// Both ends are the caller's from now on, to be closed by it.
    public func release() -> (near: CInt, far: CInt) {
        defer { (near, far) = (-1, -1) }
        return (near, far)
    }

    /// Closes the far end so that the near one gets a reset instead of an end.
    public func resetFar() {
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(far, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
        closeFar()
    }

    deinit {
        closeNear()
        closeFar()
    }
}

public enum Sockets {
    /// A connected pair of non-blocking unix stream sockets.
    public static func unixPair() -> Ends {
        var ends: [CInt] = [-1, -1]
        _ = prepared(socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0, &ends), "socketpair")
        for end in ends { IO.setNonBlocking(end) }
        return Ends(near: ends[0], far: ends[1])
    }

    /// A TCP connection over loopback: near connected, far accepted. Both non-blocking.
    public static func tcpPair() -> Ends {
        let (listener, port) = listening()
        defer { close(listener) }
        let near = stream()
        withLoopback(port) { _ = prepared(connect(near, $0, $1), "connect") }
        let far = prepared(accept(listener, nil, nil), "accept")
        IO.setNonBlocking(near)
        IO.setNonBlocking(far)
        return Ends(near: near, far: far)
    }

    /// A non-blocking TCP socket whose connection was refused, with SO_ERROR still pending.
    public static func tcpRefused() -> CInt {
        let (listener, port) = listening()
        close(listener)
        let near = stream()
        IO.setNonBlocking(near)
        withLoopback(port) { address, size in
            if connect(near, address, size) == 0 || errno != EINPROGRESS {
                // Loopback may refuse at once; then SO_ERROR is spent, and the test's own check of poll(2) says so.
            }
        }
        return near
    }

    /// A TCP connection's state, as in /proc/net/tcp.
    public enum State: UInt8 { case finWait2 = 5, closed = 7 }

    /// Ends a direction of a TCP connection, and waits for the peer's acknowledgement: that wakes pollers, too.
    public static func shutDown(_ descriptor: CInt, _ how: Int, until state: State) {
        shutdown(descriptor, CInt(how))
        let deadline = Clock.monotonic() &+ Effort.atMost(2_000_000_000)
        while Clock.monotonic() < deadline {
            // The first byte of TCP_INFO is the state.
            var found: UInt8 = 0
            var size = socklen_t(1)
            _ = prepared(getsockopt(descriptor, CInt(IPPROTO_TCP), 11, &found, &size), "getsockopt")
            if found == state.rawValue { return }
            usleep(100)
        }
    }

    /// A TCP socket on which nothing has been done.
    public static func tcpUnconnected() -> CInt {
        let near = stream()
        IO.setNonBlocking(near)
        return near
    }

    /// A unix stream socket on which nothing has been done.
    public static func unixUnconnected() -> CInt {
        let near = prepared(socket(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0), "socket")
        _ = fcntl(near, F_SETFD, FD_CLOEXEC)
        IO.setNonBlocking(near)
        return near
    }

    /// A connected UDP socket whose last datagram was answered by "port unreachable".
    public static func udpRefused() -> CInt {
        let probe = prepared(socket(AF_INET, CInt(SOCK_DGRAM.rawValue), 0), "socket")
        let port = bound(probe)
        close(probe)
        let near = prepared(socket(AF_INET, CInt(SOCK_DGRAM.rawValue), 0), "socket")
        _ = fcntl(near, F_SETFD, FD_CLOEXEC)
        IO.setNonBlocking(near)
        withLoopback(port) { _ = prepared(connect(near, $0, $1), "connect") }
        IO.write(near)
        return near
    }

    /// A listening TCP socket on loopback and its port.
    public static func listening() -> (descriptor: CInt, port: UInt16) {
        let listener = stream()
        let port = bound(listener)
        _ = prepared(listen(listener, 64), "listen")
        return (listener, port)
    }

    /// A new connection to a listener on loopback.
    public static func connected(to port: UInt16) -> CInt {
        let near = stream()
        withLoopback(port) { _ = prepared(connect(near, $0, $1), "connect") }
        return near
    }

    private static func stream() -> CInt {
        let descriptor = prepared(socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0), "socket")
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        return descriptor
    }

    private static func bound(_ descriptor: CInt) -> UInt16 {
        withLoopback(0) { _ = prepared(bind(descriptor, $0, $1), "bind") }
        var address = sockaddr_in()
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        _ = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                prepared(getsockname(descriptor, $0, &size), "getsockname")
            }
        }
        return UInt16(bigEndian: address.sin_port)
    }

    private static func withLoopback(_ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Void) {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}

/// A named pipe under /tmp, unlinked at once.
public enum FIFO {
    /// The reading end; a writer has not come yet, or has come and gone.
    public static func reader(writerCame: Bool) -> CInt {
        let name = "/tmp/linux-event-fifo-\(getpid())"
        _ = prepared(mkfifo(name, 0o600), "mkfifo")
        defer { unlink(name) }
        let reader = prepared(open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC), "open")
        if writerCame { close(prepared(open(name, O_WRONLY | O_NONBLOCK | O_CLOEXEC), "open")) }
        return reader
    }
}

/// A pseudo-terminal: near is the master, far the terminal.
public enum PseudoTerminal {
    public static func open() -> Ends {
        let master = prepared(Glibc.open("/dev/ptmx", O_RDWR | O_NOCTTY), "open")
        var unlocked: CInt = 0
        var number: CInt = 0
        _ = prepared(ioctl(master, 0x4004_5431, &unlocked), "TIOCSPTLCK")
        _ = prepared(ioctl(master, 0x8004_5430, &number), "TIOCGPTN")
        let terminal = prepared(Glibc.open("/dev/pts/\(number)", O_RDWR | O_NOCTTY), "open")
        IO.setNonBlocking(master)
        return Ends(near: master, far: terminal)
    }
}

/// A file of its own under /tmp, unlinked at once.
public enum ScratchFile {
    public static func open() -> CInt {
        var name = Array("/tmp/linux-event-test-XXXXXX".utf8CString)
        let descriptor = prepared(mkstemp(&name), "mkstemp")
        unlink(name)
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        return descriptor
    }

    public static func size(_ descriptor: CInt) -> Int {
        var status = stat()
        _ = prepared(fstat(descriptor, &status), "fstat")
        return Int(status.st_size)
    }
}
