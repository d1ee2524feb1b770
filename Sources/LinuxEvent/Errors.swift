internal import CLinux

/// The kernel refused a call: which one, and with which errno.
public struct SystemError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The system call, with its operation where it has several ("epoll_ctl ADD").
    public let call: String
    /// The kernel's errno, positive, unchanged.
    public let code: CInt

    /// An error of one call, with a positive errno.
    public init(call: String, code: CInt) {
        self.call = call
        self.code = code
    }

    public var description: String { "\(call): \(unsafe String(cString: clinux_error_text(code)))" }
}

/// Everything that a loop can refuse.
public enum LoopError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The kernel refused, with its errno. Contract W8, L11.
    case system(SystemError)
    /// A turn was asked for inside a turn of the same loop. Contract L4.
    case nestedTurn
    /// The loop was closed. Contract L14.
    case closed
    /// `close()` was called by a callback of the loop itself. Contract L14.
    case insideCallback
    /// The descriptor belongs to the loop. Contract E3.
    case internalDescriptor(CInt)
    /// A repeating timer needs an interval above zero. Contract T2.
    case invalidInterval(Duration)
    /// The kernel lacks something that the loop is built on. Contract L16.
    case unsupported(String)
    /// The loop was made by this process's parent, before a fork without exec. Contract L9.
    case forked
    /// No descriptor can take this signal: KILL, STOP, a synchronous fault, or no signal at all. Contract S3.
    case signalRefused(CInt)
    /// Another loop of this process owns the signal. Contract S3.
    case signalOwned(CInt)
    /// These threads do not block the signal, so one of them would take it, and most signals end the process then.
    /// Contract S2.
    case signalNotBlocked(CInt, threads: [ThreadName])

    /// A thread of this process, as the kernel knows it.
    public struct ThreadName: Hashable, Sendable, CustomStringConvertible {
        /// Its number, as gettid(2) gives it.
        public let thread: CInt
        /// What it is called, at most 15 bytes.
        public let name: String
        /// The process's first thread, on which `main` began.
        public let isFirst: Bool
        public var description: String { "\(name) (\(thread))" }
    }

    /// The kernel's errno, where it was the kernel that refused.
    public var code: CInt? {
        if case .system(let error) = self { error.code } else { nil }
    }

    public var description: String {
        switch self {
        case .system(let error): error.description
        case .nestedTurn: "a turn of this loop is already running: a callback may not run its own loop"
        case .closed: "the loop is closed"
        case .forked: "the loop belongs to the parent of this process; make one of your own after fork"
        case .insideCallback: "a callback may not close its own loop; stop it, and close it after the turn"
        case .internalDescriptor(let descriptor): "descriptor \(descriptor) belongs to the loop itself"
        case .invalidInterval(let interval): "a timer cannot repeat every \(interval)"
        case .unsupported(let feature): "this kernel lacks \(feature); Linux 6.1 or later is needed"
        case .signalRefused(let number): "signal \(number) cannot be taken through a descriptor"
        case .signalNotBlocked(let number, let threads):
            "signal \(number) is not blocked by \(threads.map(\.description).joined(separator: ", ")): "
                + "call blockSignals in the first line of a synchronous main"
                + (threads.contains(where: \.isFirst)
                    ? " (the first thread is among them: once an async main has suspended, the runtime lets it wait "
                        + "with an empty mask, whatever was blocked)" : "")
        case .signalOwned(let number): "signal \(number) is already taken by another loop of this process"
        }
    }
}

/// Turns a shim's result, >= 0 or -errno, into a value or an error. The only place that reads an errno.
@inline(__always)
@discardableResult
func check(_ call: @autoclosure () -> String, _ result: CInt) throws(LoopError) -> CInt {
    guard result < 0 else { return result }
    if result == -ENOSYS { throw .unsupported(call()) }
    throw .system(SystemError(call: call(), code: -result))
}

/// A shim's result, of a call that is made again for as long as a signal's handler interrupts it.
@inline(__always)
func uninterrupted(_ call: @autoclosure () -> CInt) -> CInt {
    while true {
        let result = call()
        if result != -EINTR { return result }
    }
}

/// Ends the process: the caller broke a rule that the compiler could not see. At -O a failing `precondition`
/// loses its message, and the message is the rule.
@inline(never)
func contractViolation(_ rule: StaticString) -> Never {
    fatalError("LinuxEvent: \(rule)")
}
