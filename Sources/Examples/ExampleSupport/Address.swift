internal import Glibc
internal import LinuxEvent

/// An IPv4 or IPv6 address with a port.
@safe public struct Address: Sendable, CustomStringConvertible {
    private var storage = sockaddr_storage()
    private var length: socklen_t

    /// The first address of a host; nil where it has none. Asks getaddrinfo(3), which may block: for the start
    /// of a program only.
    public init?(host: String, port: Int) {
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
        unsafe hints.ai_flags = CInt(AI_NUMERICSERV)
        var list: UnsafeMutablePointer<addrinfo>?
        guard unsafe getaddrinfo(host, "\(port)", &hints, &list) == 0, let first = unsafe list else { return nil }
        length = unsafe first.pointee.ai_addrlen
        let source = unsafe UnsafeRawBufferPointer(start: first.pointee.ai_addr, count: Int(length))
        unsafe withUnsafeMutableBytes(of: &storage) { unsafe $0.copyMemory(from: source) }
        unsafe freeaddrinfo(first)
    }

    /// The address that a socket is bound to.
    init(boundTo descriptor: CInt) throws(SystemError) {
        var name = sockaddr_storage()
        var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = unsafe withUnsafeMutablePointer(to: &name) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe getsockname(descriptor, $0, &size) < 0 ? -errno : 0
            }
        }
        try check("getsockname", result)
        storage = name
        length = size
    }

    var family: CInt { CInt(storage.ss_family) }

    /// For calls that take a `sockaddr *` and its length.
    func with(_ call: (UnsafePointer<sockaddr>, socklen_t) -> CInt) -> CInt {
        unsafe withUnsafePointer(to: storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe call($0, length) }
        }
    }

    /// "127.0.0.1:7000", "[::1]:7000".
    public var description: String {
        var host = [CChar](repeating: 0, count: Int(NI_MAXHOST)), port = [CChar](repeating: 0, count: 32)
        let result = unsafe with { address, length in
            unsafe getnameinfo(
                address, length, &host, socklen_t(host.count), &port, socklen_t(port.count),
                CInt(NI_NUMERICHOST | NI_NUMERICSERV))
        }
        guard result == 0 else { return "an address of family \(family)" }
        let name = text(host)
        return (family == AF_INET6 ? "[\(name)]" : name) + ":" + text(port)
    }

    private func text(_ characters: [CChar]) -> String {
        String(decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
