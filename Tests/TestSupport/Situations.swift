import CLinux
import Glibc
public import Testing

/// A descriptor in a known state; what it needs lives as long.
public struct Held {
    public let descriptor: CInt
    /// Objects and descriptors that go with it.
    private let owner: AnyObject

    /// Closes a descriptor with itself.
    public final class Closer {
        public let descriptor: CInt
        private let others: [AnyObject]

        public init(_ descriptor: CInt, _ others: [AnyObject] = []) {
            self.descriptor = descriptor
            self.others = others
            Lifetimes.keep(self)
        }
        deinit { close(descriptor) }
    }

    init(_ descriptor: CInt, _ owner: AnyObject) {
        self.descriptor = descriptor
        self.owner = owner
    }

    /// Closes the descriptor with itself, and then lets go of the others.
    public init(owning descriptor: CInt, _ others: AnyObject...) {
        self.descriptor = prepared(descriptor, "a descriptor")
        owner = Closer(descriptor, others)
    }
}

/// A state that a real descriptor can be in, and what poll(2) says of it, asked for everything.
///
/// One for each row of the KernelReadiness guide that stays as it is; what comes once, or cannot be watched, is with
/// the kernel facts.
public struct Situation: Sendable, CustomTestStringConvertible {
    public let name: String
    public let readiness: Readiness
    public let make: @Sendable () -> Held
    public var testDescription: String { "\(name): \(readiness)" }

    init(_ name: String, _ readiness: Readiness, _ make: @escaping @Sendable () -> Held) {
        self.name = name
        self.readiness = readiness
        self.make = make
    }

    public static let all = pipes + streams + datagrams + others

    // MARK: Pipes and FIFOs

    private static func pipe(_ reads: Bool, _ prepare: (Pipe) -> Void = { _ in }) -> Held {
        let pipe = Pipe()
        prepare(pipe)
        return Held(reads ? pipe.reader : pipe.writer, pipe)
    }

    private static let pipes: [Situation] = [
        Situation("pipe, empty", []) { pipe(true) },
        Situation("pipe, data", .readable) { pipe(true) { $0.write() } },
        Situation("pipe, data, writer gone", [.readable, .hangup]) {
            pipe(true) {
                $0.write()
                $0.closeWriter()
            }
        },
        Situation("pipe, empty, writer gone", .hangup) { pipe(true) { $0.closeWriter() } },
        Situation("pipe's writer, room", .writable) { pipe(false) },
        Situation("pipe's writer, full", []) { pipe(false) { IO.fill($0.writer) } },
        Situation("pipe's writer, room, reader gone", [.writable, .error]) { pipe(false) { $0.closeReader() } },
        Situation("pipe's writer, full, reader gone", .error) {
            pipe(false) {
                IO.fill($0.writer)
                $0.closeReader()
            }
        },
        Situation("fifo, no writer yet", []) { Held(owning: FIFO.reader(writerCame: false)) },
        Situation("fifo, a writer came and went", .hangup) { Held(owning: FIFO.reader(writerCame: true)) },
    ]

    // MARK: Stream sockets

    private static func pair(_ ends: Ends, _ prepare: (Ends) -> Void) -> Held {
        prepare(ends)
        return Held(ends.near, ends)
    }

    private static let streams: [Situation] = [
        Situation("unix, connected", .writable) { pair(Sockets.unixPair()) { _ in } },
        Situation("unix, peer shut down", [.readable, .writable, .peerShutdown]) {
            pair(Sockets.unixPair()) { shutdown($0.far, CInt(SHUT_WR)) }
        },
        Situation("unix, peer closed", [.readable, .writable, .hangup, .peerShutdown]) {
            pair(Sockets.unixPair()) { $0.closeFar() }
        },
        Situation("unix, peer closed with our data unread", [.readable, .writable, .error, .hangup, .peerShutdown]) {
            pair(Sockets.unixPair()) {
                IO.write($0.near)
                $0.closeFar()
            }
        },
        Situation("unix, never connected", [.writable, .hangup]) { Held(owning: Sockets.unixUnconnected()) },
        Situation("tcp, data", [.readable, .writable]) { pair(Sockets.tcpPair()) { IO.write($0.far) } },
        Situation("tcp, peer's end", [.readable, .writable, .peerShutdown]) {
            pair(Sockets.tcpPair()) { $0.closeFar() }
        },
        Situation("tcp, both ends", [.readable, .writable, .hangup, .peerShutdown]) {
            pair(Sockets.tcpPair()) {
                shutdown($0.far, CInt(SHUT_WR))
                // The peer's end must be here first: two ends that cross are another state for a moment.
                _ = Readiness.settle($0.near, at: [.readable, .writable, .peerShutdown])
                Sockets.shutDown($0.near, SHUT_WR, until: .closed)
            }
        },
        Situation("tcp, our sending side shut down", .writable) {
            pair(Sockets.tcpPair()) { Sockets.shutDown($0.near, SHUT_WR, until: .finWait2) }
        },
        Situation("tcp, both our sides shut down", [.readable, .writable, .hangup, .peerShutdown]) {
            pair(Sockets.tcpPair()) { Sockets.shutDown($0.near, SHUT_RDWR, until: .finWait2) }
        },
        Situation("tcp, reset", [.readable, .writable, .error, .hangup, .peerShutdown]) {
            pair(Sockets.tcpPair()) { $0.resetFar() }
        },
        Situation("tcp, reset for what we wrote", [.readable, .writable, .error, .hangup, .peerShutdown]) {
            pair(Sockets.tcpPair()) {
                $0.closeFar()
                _ = Readiness.settle($0.near, at: [.readable, .writable, .peerShutdown])
                IO.write($0.near)
            }
        },
        Situation("tcp, refused", [.readable, .writable, .error, .hangup, .peerShutdown]) {
            Held(owning: Sockets.tcpRefused())
        },
        Situation("tcp, never connected", [.writable, .hangup]) { Held(owning: Sockets.tcpUnconnected()) },
    ]

    private static let datagrams: [Situation] = [
        Situation("udp, port unreachable", [.writable, .error]) { Held(owning: Sockets.udpRefused()) }
    ]

    // MARK: Other descriptors

    private static func counter(_ value: UInt64) -> Held {
        let descriptor = clinux_eventfd(0, CInt(EFD_NONBLOCK | EFD_CLOEXEC))
        if value > 0 { IO.writeCounter(descriptor, value) }
        return Held(owning: descriptor)
    }

    private static func timer(_ deadline: UInt64) -> Held {
        let descriptor = clinux_timerfd_create()
        _ = prepared(clinux_timerfd_set(descriptor, deadline), "timerfd_settime")
        return Held(owning: descriptor)
    }

    private static func process(_ program: String, _ arguments: String..., prepare: (HelperProcess) -> Void) -> Held {
        let process = HelperProcess(program, arguments)
        let descriptor = clinux_pidfd_open(process.pid)
        prepare(process)
        return Held(owning: descriptor, process)
    }

    /// Before 6.9 the kernel does not tell the wait from the end.
    private static let reaped: Readiness = KernelVersion.current < .init(6, 9) ? .readable : [.readable, .hangup]

    private static let others: [Situation] = [
        Situation("eventfd, zero", .writable) { counter(0) },
        Situation("eventfd, one", [.readable, .writable]) { counter(1) },
        Situation("eventfd, full", .readable) { counter(.max - 1) },
        Situation("timerfd, running", []) { timer(UInt64(Int64.max)) },
        Situation("timerfd, expired", .readable) { timer(1) },
        Situation("signalfd, a signal pending", .readable) { Held(owning: PendingSignal.descriptor()) },
        Situation("epoll, no member ready", []) {
            let pipe = Pipe()
            let set = EpollSet()
            set.add(pipe.reader, .readable)
            return Held(owning: IO.copy(set.descriptor), set, pipe)
        },
        Situation("epoll, a member ready", .readable) {
            let pipe = Pipe.readable()
            let set = EpollSet()
            set.add(pipe.reader, .readable)
            return Held(owning: IO.copy(set.descriptor), set, pipe)
        },
        Situation("pidfd, process runs", []) { process("sleep", "1000") { _ in } },
        Situation("pidfd, process has ended", .readable) {
            process("true") {
                var info = siginfo_t()
                waitid(P_PID, id_t($0.pid), &info, WEXITED | WNOWAIT)
            }
        },
        Situation("pidfd, process was reaped", reaped) { process("true") { _ = $0.end() } },
        Situation("pty, terminal closed", [.writable, .hangup]) { pair(PseudoTerminal.open()) { $0.closeFar() } },
        Situation("/proc/self/mounts, as usual", .readable) {
            Held(owning: open("/proc/self/mounts", O_RDONLY | O_CLOEXEC))
        },
    ]
}

/// A signal that waits to be read: sent to the calling thread alone, and one whose default is to do nothing.
private enum PendingSignal {
    /// It stays pending on this thread when the descriptor is closed; nothing can come of it.
    static func descriptor() -> CInt {
        var previous: UInt64 = 0
        let set = UInt64(1) << UInt64(SIGWINCH - 1)
        _ = prepared(clinux_sigmask_block(set, &previous), "pthread_sigmask")
        pthread_kill(pthread_self(), SIGWINCH)
        return clinux_signalfd(-1, set)
    }
}

/// The version of the running kernel, for facts that differ.
public struct KernelVersion: Comparable, Sendable, CustomStringConvertible {
    public let major: Int
    public let minor: Int

    public init(_ major: Int, _ minor: Int) {
        self.major = major
        self.minor = minor
    }

    public static let current: KernelVersion = {
        let numbers = Files.text("/proc/sys/kernel/osrelease").split { !$0.isNumber }.compactMap { Int($0) }
        return numbers.count > 1 ? KernelVersion(numbers[0], numbers[1]) : KernelVersion(0, 0)
    }()

    public static func < (left: KernelVersion, right: KernelVersion) -> Bool {
        (left.major, left.minor) < (right.major, right.minor)
    }

    public var description: String { "\(major).\(minor)" }
}
