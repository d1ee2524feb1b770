import Glibc
import LinuxEvent
import LinuxEventGroup
import TestSupport
import Testing

/// A listening socket of a test's own, non-blocking, and the way for clients to reach it. Closes with the object.
final class ListeningSocket {
    private(set) var descriptor: CInt
    /// For clients on any thread.
    let door: Door

    enum Kind: CaseIterable { case tcp, unix }

    init(_ kind: Kind = .tcp, backlog: CInt = 512, reusingPortOf other: ListeningSocket? = nil) {
        let family = kind == .tcp ? AF_INET : AF_UNIX
        let type = SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue
        let made = Self.checked(socket(family, CInt(type), 0), "socket")
        if kind == .tcp {
            var one: CInt = 1
            let size = socklen_t(MemoryLayout<CInt>.size)
            _ = Self.checked(setsockopt(made, SOL_SOCKET, SO_REUSEPORT, &one, size), "setsockopt")
        }
        let wanted = other?.door.address ?? (kind == .tcp ? Self.loopback() : Self.abstractName())
        Door(family: family, address: wanted).with { _ = Self.checked(bind(made, $0, $1), "bind") }
        _ = Self.checked(listen(made, backlog), "listen")
        door = Door(family: family, address: kind == .tcp ? Self.name(of: made) : wanted)
        descriptor = made
    }

    deinit { close() }

    /// Of a TCP socket.
    var port: Int { Int(door.address[2]) << 8 | Int(door.address[3]) }

    func close() {
        if descriptor >= 0 { Glibc.close(descriptor) }
        descriptor = -1
    }

    func connect() -> Client { door.connect() }

    /// Takes a connection as a program without a group would: whether one was waiting.
    func takeOne() -> Bool {
        let found = accept(descriptor, nil, nil)
        if found >= 0 { Glibc.close(found) }
        return found >= 0
    }

    private static func checked(_ result: CInt, _ call: String) -> CInt {
        if result < 0 { fatalError("test preparation: \(call): \(String(cString: strerror(errno)))") }
        return result
    }

    private static func loopback() -> [UInt8] {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        return withUnsafeBytes(of: &address) { Array($0) }
    }

    /// A name that is in no file system, and goes with the socket.
    private static func abstractName() -> [UInt8] {
        names.add()
        let family = sa_family_t(AF_UNIX)
        let name = "linux-event-\(getpid())-\(names.value)"
        return withUnsafeBytes(of: family) { Array($0) } + [0] + Array(name.utf8)
    }

    private static let names = Tally()

    private static func name(of descriptor: CInt) -> [UInt8] {
        var address = sockaddr_in()
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &size) }
        }
        _ = checked(result, "getsockname")
        return withUnsafeBytes(of: &address) { Array($0) }
    }
}

/// Where clients knock.
struct Door: Sendable {
    let family: CInt
    let address: [UInt8]

    /// A connection, complete as far as the client can see.
    func connect() -> Client {
        guard let client = tryConnect() else {
            fatalError("test preparation: connect: \(String(cString: strerror(errno)))")
        }
        return client
    }

    /// As `connect`; nil where nobody listens.
    func tryConnect() -> Client? {
        let client = socket(family, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        if client < 0 { fatalError("test preparation: socket: \(String(cString: strerror(errno)))") }
        let result = with { Glibc.connect(client, $0, $1) }
        if result == 0 { return Client(client) }
        let code = errno
        close(client)
        errno = code
        return nil
    }

    func with<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        address.withUnsafeBytes {
            body($0.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t(address.count))
        }
    }
}

/// The client's end of a connection. Closes with the object.
final class Client: Sendable {
    let descriptor: CInt

    enum Answer: Equatable {
        case byte(UInt8)
        case end
        case reset
        case nothing
    }

    init(_ descriptor: CInt) { self.descriptor = descriptor }

    deinit { close(descriptor) }

    /// What comes within the time.
    func answer(seconds: Double = 10) -> Answer {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&entry, 1, CInt(seconds * 1_000)) > 0 ? receive() : .nothing
    }

    private func receive() -> Answer {
        var byte: UInt8 = 0
        let count = recv(descriptor, &byte, 1, 0)
        return count == 1 ? .byte(byte) : count == 0 ? .end : .reset
    }
}

/// A connection as a service keeps it: its descriptor is closed, and then its `Accepted` ends.
final class Served: Sendable {
    let accepted: Accepted
    let shard: Int

    init(_ accepted: consuming Accepted, on shard: Shard) {
        self.accepted = accepted
        self.shard = shard.index
    }

    var descriptor: CInt { accepted.descriptor }

    deinit { close(accepted.descriptor) }
}

/// The connections of a service, kept until they are let go of.
final class Service: Sendable {
    private let connections = Locked<[Served]>([])
    /// Connections that came to a thread that was not their shard's.
    let strays = Tally()
    let delivered = Tally()

    /// Keeps a connection, and tells its client the shard's number.
    func serve(_ accepted: consuming Accepted, on shard: Shard) {
        let served = Served(accepted, on: shard)
        if Shard.current !== shard { strays.add() }
        connections.withLock { $0.append(served) }
        delivered.add()
        var answer = UInt8(shard.index)
        send(served.descriptor, &answer, 1, CInt(MSG_NOSIGNAL))
    }

    var all: [Served] { connections.withLock { $0 } }
    var count: Int { connections.withLock { $0.count } }

    func count(on shard: Int) -> Int { connections.withLock { $0.count { $0.shard == shard } } }

    /// Ends the connections that are to end.
    func end(where isChosen: (Served) -> Bool = { _ in true }) {
        let ended = connections.withLock { connections in
            let ended = connections.filter(isChosen)
            connections.removeAll(where: isChosen)
            return ended
        }
        withExtendedLifetime(ended) {}
    }

    func endOne(at index: Int) {
        let ended = connections.withLock { $0.remove(at: index) }
        withExtendedLifetime(ended) {}
    }
}

extension LoopGroup {
    func listen(
        _ distribution: Distribution, options: ListenerOptions = ListenerOptions(), to service: Service,
        notices: Log<ListenerNotice>? = nil
    ) throws(ListenerError) -> Listener {
        try listen(distribution, options: options, notice: { _, notice in notices?.add(notice) }) { shard, accepted in
            service.serve(accepted, on: shard)
        }
    }

    var loads: [Int] { (0..<count).map { load(of: $0) } }

    /// Holds a shard in a task.
    func hold(_ index: Int) -> Hold {
        let hold = Hold()
        post(to: index) { _ in hold.hold() }
        if !hold.waitUntilHeld() { Issue.record("shard \(index) cannot be held") }
        return hold
    }
}

extension Listener {
    /// The sum over all shards.
    func total(_ figure: KeyPath<ListenerMetrics, UInt64>) -> UInt64 { metrics.reduce(0) { $0 + $1[keyPath: figure] } }

    /// Asks for the end, and waits for it.
    func ended(by ask: (Listener, @escaping @Sendable (ListenerEnd) -> Void) -> Void) -> [ListenerEnd] {
        let ends = Log<ListenerEnd>()
        ask(self) { ends.add($0) }
        _ = eventually { ends.count > 0 }
        return ends.all
    }

    func drained() -> [ListenerEnd] { ended { $0.drain(completed: $1) } }
    func cancelled() -> [ListenerEnd] { ended { $0.cancel(completed: $1) } }
}

extension ListenerOptions {
    init(_ change: (inout ListenerOptions) -> Void) {
        self.init()
        change(&self)
    }
}
