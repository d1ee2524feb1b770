internal import CLinux
internal import Glibc
public import LinuxEvent

// Sockets and pipes as an event loop wants them: non-blocking and close-on-exec from birth. The engine makes none
// of its own accord, and closes none: whoever made a descriptor here closes it.

/// Turns 0 or more into itself and -errno into an error.
@discardableResult
func check(_ call: String, _ result: CInt) throws(SystemError) -> CInt {
    guard result < 0 else { return result }
    throw SystemError(call: call, code: -result)
}

private func makeSocket(for address: Address) throws(SystemError) -> CInt {
    let kind = SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue
    let descriptor = socket(address.family, CInt(kind), 0)
    return try check("socket", descriptor < 0 ? -errno : descriptor)
}

private func enable(_ option: CInt, level: CInt, of descriptor: CInt) throws(SystemError) {
    var one: CInt = 1
    let result = unsafe setsockopt(descriptor, level, option, &one, socklen_t(MemoryLayout<CInt>.size))
    try check("setsockopt", result < 0 ? -errno : 0)
}

/// A socket bound to an address, and the address with the port that the kernel chose where `port` was 0.
///
/// Bound without SO_REUSEPORT, so that it fails with EADDRINUSE while any other process serves the port; with it,
/// two services started by mistake on one port would share the connections in silence. The option is switched on
/// afterwards: from then on the listeners of our own shards may bind beside it.
public func reserve(_ address: Address) throws(SystemError) -> (descriptor: CInt, address: Address) {
    let descriptor = try makeSocket(for: address)
    do throws(SystemError) {
        try enable(SO_REUSEADDR, level: SOL_SOCKET, of: descriptor)
        try unsafe check("bind", address.with { unsafe bind(descriptor, $0, $1) < 0 ? -errno : 0 })
        try enable(SO_REUSEPORT, level: SOL_SOCKET, of: descriptor)
        return (descriptor, try Address(boundTo: descriptor))
    } catch {
        close(descriptor)
        throw error
    }
}

/// Another listening socket on an address that is reserved. Accepted sockets inherit TCP_NODELAY.
public func listen(beside address: Address) throws(SystemError) -> CInt {
    let descriptor = try makeSocket(for: address)
    do throws(SystemError) {
        try enable(SO_REUSEADDR, level: SOL_SOCKET, of: descriptor)
        try enable(SO_REUSEPORT, level: SOL_SOCKET, of: descriptor)
        try unsafe check("bind", address.with { unsafe bind(descriptor, $0, $1) < 0 ? -errno : 0 })
        try startListening(descriptor)
        return descriptor
    } catch {
        close(descriptor)
        throw error
    }
}

/// Turns a bound socket into a listening one. The kernel cuts the backlog to net.core.somaxconn.
public func startListening(_ descriptor: CInt) throws(SystemError) {
    try enable(TCP_NODELAY, level: CInt(IPPROTO_TCP), of: descriptor)
    try check("listen", Glibc.listen(descriptor, 4_096) < 0 ? -errno : 0)
}

/// Begins a connection. `socketError` tells how it went, once the descriptor is writable.
public func startConnecting(to address: Address) throws(SystemError) -> CInt {
    let descriptor = try makeSocket(for: address)
    do throws(SystemError) {
        try enable(TCP_NODELAY, level: CInt(IPPROTO_TCP), of: descriptor)
        let result = unsafe address.with { unsafe connect(descriptor, $0, $1) < 0 ? -errno : 0 }
        // Interrupted, it goes on in the background as well.
        if result != -EINPROGRESS && result != -EINTR { try check("connect", result) }
        return descriptor
    } catch {
        close(descriptor)
        throw error
    }
}

/// Takes the socket's pending error: 0, or a positive errno.
public func socketError(_ descriptor: CInt) -> CInt {
    var code: CInt = 0
    var length = socklen_t(MemoryLayout<CInt>.size)
    let result = unsafe getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &length)
    return result < 0 ? errno : code
}

/// Says that nothing more will be sent; what the peer sends still arrives.
public func endOutput(of descriptor: CInt) { _ = shutdown(descriptor, CInt(SHUT_WR)) }

public func closeDescriptor(_ descriptor: CInt) { _ = close(descriptor) }

public func makePipe() throws(SystemError) -> (read: CInt, write: CInt) {
    var ends: [CInt] = [-1, -1]
    try check("pipe2", unsafe clinux_pipe2(&ends, O_NONBLOCK | O_CLOEXEC))
    return (ends[0], ends[1])
}

/// Raises the soft limit of descriptors to the hard one; returns the limit now in force.
@discardableResult
public func raiseDescriptorLimit() -> Int {
    let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    var limit = rlimit()
    guard unsafe getrlimit(resource, &limit) == 0 else { return 0 }
    if limit.rlim_cur < limit.rlim_max {
        var raised = limit
        raised.rlim_cur = limit.rlim_max
        if unsafe setrlimit(resource, &raised) == 0 { limit = raised }
    }
    return Int(clamping: limit.rlim_cur)
}

/// Whether a result says "not now": a level-triggered loop will ask again by itself.
public func isTransient(_ result: Int) -> Bool { result == -Int(EAGAIN) || result == -Int(EINTR) }
