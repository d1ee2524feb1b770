internal import CLinux

/// How a process ended. Contract C1.
public enum ExitStatus: Hashable, Sendable {
    /// It returned from main or called exit, with this code.
    case exited(CInt)
    /// A signal ended it.
    case killed(CInt)
    /// A signal ended it, and it left a core file.
    case dumpedCore(CInt)
    /// It has ended, but its status went elsewhere: it is not this process's child, someone else waited for it, or
    /// SIGCHLD is ignored; and this kernel does not remember. Contract C3.
    case unknown
}

/// What a child's callback gets. Contract C1.
public struct ChildExit: Hashable, Sendable {
    public let pid: CInt
    public let status: ExitStatus
}

/// A handle of one `Loop.childExit` call.
public struct ChildObserver {
    let process: ObservedProcess
    let observer: ObservedProcess.Observer

    public var pid: CInt { process.pid }

    /// The child's end has not been told to this observer, and it was not cancelled.
    public var isActive: Bool { process.isActive(observer) }

    /// No callback of it will ever run. The child is left alone. Idempotent. Contract C4.
    @discardableResult
    public func cancel() -> Bool { process.cancel(observer) }

    /// Sends the process a signal. By pidfd: it reaches this process or nobody. Contract C4.
    ///
    /// - Throws: ESRCH once its end was told, or the last observer cancelled; EPERM, EINVAL from the kernel.
    public func kill(_ signal: CInt) throws(LoopError) { try process.kill(signal) }
}

@available(*, unavailable)
extension ChildObserver: Sendable {}

/// The processes that one loop observes.
///
/// - Threads: the loop's only.
final class ObservedProcesses {
    let loopOwner: LoopOwner
    private var processes: [ObjectIdentifier: ObservedProcess] = [:]
    /// By number the latest one: where somebody else waits for a child, its number may be given away before the loop has
    /// turned to hear of its end.
    private var latest: [CInt: ObservedProcess] = [:]

    init(_ loopOwner: LoopOwner) { self.loopOwner = loopOwner }

    /// The one with this number, if the number still means it: nobody has waited for it.
    func known(_ pid: CInt) -> ObservedProcess? {
        guard let process = latest[pid], process.exists else { return nil }
        return process
    }

    func add(_ process: ObservedProcess) {
        processes[ObjectIdentifier(process)] = process
        latest[process.pid] = process
    }

    func remove(_ process: ObservedProcess) {
        processes[ObjectIdentifier(process)] = nil
        if latest[process.pid] === process { latest[process.pid] = nil }
    }

    func close() {
        for process in processes.values { process.close() }
    }
}

/// One process that a loop observes, for however many observers. Contract C1-C4.
///
/// - Owns: the pidfd, until the end is told or the last observer has gone.
final class ObservedProcess {
    final class Observer {
        enum State { case waiting, told, cancelled }
        let reaps: Bool
        /// Let go of when it has run or was cancelled: a handle that outlives its use must not keep it.
        var handler: ((Loop, ChildExit) -> Void)?
        var state = State.waiting

        init(reaps: Bool, handler: @escaping (Loop, ChildExit) -> Void) {
            self.reaps = reaps
            self.handler = handler
        }

        func finish(_ state: State) -> ((Loop, ChildExit) -> Void)? {
            defer { handler = nil }
            self.state = state
            return handler
        }
    }

    let pid: CInt
    private let owner: ObservedProcesses
    private let process: ProcessFD
    private var observers: [Observer] = []
    private var watcher: Watcher?

    init(_ pid: CInt, _ owner: ObservedProcesses) throws(LoopError) {
        self.pid = pid
        self.owner = owner
        process = try ProcessFD(pid)
    }

    var exists: Bool { process.exists }

    func begin(on loop: Loop) throws(LoopError) {
        watcher = try loop.watchInternal(process.descriptor, level: true) { loop, _, _ in self.ended(loop) }
        owner.add(self)
    }

    func add(_ observer: Observer) { observers.append(observer) }

    private func ended(_ loop: Loop) {
        let status: ExitStatus
        switch process.wait(keeping: !observers.contains { $0.reaps }) {
        case .running: return  // a tracer has it first; it will be told again
        case .ended(let how): status = how
        case .notOurs: status = process.rememberedStatus ?? .unknown
        }
        loop.counters.internalEvents -= 1  // it is the user's event, after all
        let told = observers
        letGo()  // before any callback: a pidfd that was waited for is readable for ever
        for observer in told where observer.state == .waiting {  // one may cancel another
            let handler = observer.finish(.told)
            handler?(loop, ChildExit(pid: pid, status: status))
        }
    }

    func letGo() {
        watcher?.cancel()
        watcher = nil
        process.close()
        owner.remove(self)
        // Released after the exchange: that may run user code, which may come back here.
        let last = observers
        observers = []
        withExtendedLifetime(last) {}
    }

    /// The loop's end: nobody will be told, and handles that are kept must not keep the handlers. Contract L14.
    func close() {
        let last = observers
        letGo()
        for observer in last {
            let handler = observer.finish(.cancelled)
            withExtendedLifetime(handler) {}
        }
    }

    func isActive(_ observer: Observer) -> Bool {
        guard !owner.loopOwner.isForeign else { return false }
        return observer.state == .waiting && watcher?.isActive == true
    }

    func cancel(_ observer: Observer) -> Bool {
        guard !owner.loopOwner.isForeign, observer.state == .waiting else { return false }
        let handler = observer.finish(.cancelled)
        defer { withExtendedLifetime(handler) {} }
        observers.removeAll { $0 === observer }
        if observers.isEmpty { letGo() }
        return true
    }

    func kill(_ signal: CInt) throws(LoopError) {
        if owner.loopOwner.isForeign { throw .forked }
        guard watcher != nil else { throw .system(SystemError(call: "pidfd_send_signal", code: ESRCH)) }
        try process.signal(signal)
    }
}

extension Loop {
    /// Runs a handler when a process has ended: pidfd_open(2), no SIGCHLD and no polling. Also for a child that has
    /// ended already and was not waited for. Contract C1, C2.
    ///
    /// - Parameter reap: takes the child's status from the kernel, so no zombie is left; false leaves it for someone
    ///   else's wait. With several observers one that reaps is enough.
    /// - Throws: ESRCH for a number that is nobody's, or a child that was waited for; EMFILE and the like. Contract C2.
    @discardableResult
    public func childExit(
        _ pid: CInt, reap: Bool = true, _ handler: @escaping (_ loop: Loop, _ exit: ChildExit) -> Void
    ) throws(LoopError) -> ChildObserver {
        if isForeign { throw .forked }
        if watchers.isClosed { throw .closed }
        let observer = ObservedProcess.Observer(reaps: reap, handler: handler)
        let process: ObservedProcess
        if let known = children.known(pid) {
            process = known
        } else {
            process = try ObservedProcess(pid, children)
            try process.begin(on: self)
        }
        process.add(observer)
        return ChildObserver(process: process, observer: observer)
    }
}
