internal import CLinux
internal import Synchronization

/// What a signal's callback gets: how often it came since the last drain, and who sent it last. Contract S1.
public struct Signal: Hashable, Sendable {
    /// Which signal, as signal(7) numbers them.
    public let number: CInt
    /// Records that this drain coalesced. The kernel keeps one record of a standard signal, however often it is sent.
    public let count: Int
    /// The last sender's process.
    public let pid: CInt
    /// The last sender's real user.
    public let uid: UInt32
    /// How the last one was sent: the si_code of sigaction(2).
    public let code: CInt
}

/// A handle of one `Loop.signal` call. Contract S4.
public struct SignalSubscription {
    let owner: SignalSubscriptions
    let subscriber: SignalSubscriptions.Subscriber

    /// It has not been cancelled, and its loop has not ended.
    public var isActive: Bool { owner.isActive(subscriber) }

    /// No callback of it will ever run again. With the last one of a signal the signal is given back: what is pending
    /// is taken off first, so it never takes its default action, and only what the loop itself blocked on its thread
    /// is unblocked. Idempotent. Contract S4.
    @discardableResult
    public func cancel() -> Bool { owner.cancel(subscriber) }
}

@available(*, unavailable)
extension SignalSubscription: Sendable {}

/// Blocks signals on the calling thread, and so on all threads that it starts from here on.
///
/// The first line of a synchronous `main`: a signal is read from a descriptor only if every thread of the process
/// blocks it, and threads inherit what their maker blocks. After an async `main` has suspended it is too late: the
/// runtime lets the first thread wait with an empty mask. Contract S2.
///
/// - Throws: `.signalRefused` for what cannot be taken through a descriptor.
public func blockSignals(_ numbers: [CInt]) throws(LoopError) {
    var set: SignalSet = []
    for number in numbers { set.insert(try SignalSubscriptions.checked(number)) }
    var previous: UInt64 = 0
    try check("pthread_sigmask", unsafe clinux_sigmask_block(set.rawValue, &previous))
}

/// The signals of one loop, on one signalfd. Contract S1, S3, S4.
///
/// - Threads: the loop's only; that one process-wide word says which signals some loop owns.
final class SignalSubscriptions {
    final class Subscriber {
        let number: CInt
        /// Let go of when it is cancelled: a handle that outlives its subscription must not keep it.
        var handler: ((Loop, Signal) -> Void)?
        init(number: CInt, handler: @escaping (Loop, Signal) -> Void) {
            self.number = number
            self.handler = handler
        }
    }

    /// One record is read by one reader, and which one is chance: so one loop owns a signal. Relaxed suffices, as
    /// nothing but the claim itself is decided by it. Contract S3.
    private static let owned = Atomic<UInt64>(0)

    let signals: SignalFD
    private let owner: LoopOwner
    private var subscribers: [Subscriber] = []
    private var taken: SignalSet = []
    /// What the descriptor takes: `taken`, unless the kernel refused to hear of a signal that was given back.
    private var told: SignalSet = []
    /// Of `taken`, what this loop blocked and its user had not.
    private var blockedByUs: SignalSet = []

    init(_ owner: LoopOwner) throws(LoopError) {
        self.owner = owner
        signals = try SignalFD()
    }

    deinit { close() }

    static func checked(_ number: CInt) throws(LoopError) -> SignalSet {
        let faults = [SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS]
        // Between the standard and the real-time ones the C library keeps two for itself.
        let isReserved = number > 31 && number < clinux_sigrtmin()
        guard number >= 1, number <= clinux_sigrtmax(), !isReserved, !faults.contains(number) else {
            throw .signalRefused(number)
        }
        return SignalSet(number)
    }

    func add(_ number: CInt, _ handler: @escaping (Loop, Signal) -> Void) throws(LoopError) -> SignalSubscription {
        let signal = try Self.checked(number)
        if !taken.contains(signal) { try claim(number, signal) }
        let subscriber = Subscriber(number: number, handler: handler)
        subscribers.append(subscriber)
        return SignalSubscription(owner: self, subscriber: subscriber)
    }

    private func claim(_ number: CInt, _ signal: SignalSet) throws(LoopError) {
        let (before, _) = Self.owned.bitwiseOr(signal.rawValue, ordering: .relaxed)
        guard before & signal.rawValue == 0 else { throw .signalOwned(number) }
        taken.insert(signal)
        do throws(LoopError) {
            var mask: UInt64 = 0
            try check("pthread_sigmask", unsafe clinux_sigmask_block(signal.rawValue, &mask))
            if mask & signal.rawValue == 0 { blockedByUs.insert(signal) }
            let open = try threadsNotBlocking(signal)
            if !open.isEmpty { throw .signalNotBlocked(number, threads: open) }
            try tell()
        } catch {
            // What is pending was so before, or takes the course that it would have taken: it is not ours.
            taken.remove(signal)
            disown(signal)
            throw error
        }
    }

    /// Threads that would take the signal before the descriptor does. Contract S2.
    private func threadsNotBlocking(_ signal: SignalSet) throws(LoopError) -> [LoopError.ThreadName] {
        var capacity = 64
        while true {
            var threads: CInt = 0
            let masks = unsafe [clinux_thread_mask](unsafeUninitializedCapacity: capacity) { buffer, count in
                threads = unsafe clinux_thread_masks(buffer.baseAddress, CInt(capacity))
                count = min(max(Int(threads), 0), buffer.count)
            }
            if [-EMFILE, -ENFILE, -ENOMEM].contains(threads) { try check("open /proc/self/task", threads) }
            // Without /proc nobody can tell; the claim is made in good faith.
            capacity = max(Int(threads), 0)
            guard masks.count == capacity else { continue }  // more threads than room: again with as much
            return masks.filter { $0.blocked & signal.rawValue == 0 }.map { mask in
                LoopError.ThreadName(
                    thread: mask.thread, name: mask.text, isFirst: mask.thread == CInt(clinux_process()))
            }
        }
    }

    /// Has the descriptor take what this loop has taken, and nothing else.
    private func tell() throws(LoopError) {
        guard told != taken else { return }
        try signals.setSignals(taken)
        told = taken
    }

    /// While the signal is still blocked nothing can be delivered, so first take off what is pending. Contract S4.
    private func giveBack(_ signal: SignalSet) {
        guard taken.remove(signal) != nil else { return }
        try? tell()
        var result: CInt
        // An interruption is not the end of it: what is left over would take its default action.
        repeat { result = clinux_sigtake(signal.rawValue) } while result > 0 || result == -EINTR
        disown(signal)
    }

    private func disown(_ signal: SignalSet) {
        if blockedByUs.remove(signal) != nil { _ = clinux_sigmask_unblock(signal.rawValue) }
        _ = Self.owned.bitwiseAnd(~signal.rawValue, ordering: .relaxed)
    }

    func isActive(_ subscriber: Subscriber) -> Bool {
        return !owner.isForeign && subscribers.contains { $0 === subscriber }
    }

    func cancel(_ subscriber: Subscriber) -> Bool {
        guard !owner.isForeign, let index = subscribers.firstIndex(where: { $0 === subscriber }) else { return false }
        subscribers.remove(at: index)
        // The handler goes last: its release may run user code, which may come back here.
        let handler = subscriber.handler
        subscriber.handler = nil
        defer { withExtendedLifetime(handler) {} }
        if !subscribers.contains(where: { $0.number == subscriber.number }) { giveBack(SignalSet(subscriber.number)) }
        return true
    }

    /// Reads what is pending, within a budget, and tells each signal's subscribers in the order made. The descriptor
    /// is level-triggered: what is left comes in the next turn. Contract S1, L13.
    func drain(_ loop: Loop) {
        // A signal that was given back may be another loop's by now, whose records are not ours to read.
        try? tell()
        var seen: [Signal] = []
        for _ in 0..<4 {
            let records = signals.read()
            for record in records {
                let number = CInt(record.ssi_signo)
                let index = seen.firstIndex { $0.number == number }
                let signal = Signal(
                    number: number, count: (index.map { seen[$0].count } ?? 0) + 1,
                    pid: CInt(bitPattern: record.ssi_pid), uid: record.ssi_uid, code: record.ssi_code)
                if let index { seen[index] = signal } else { seen.append(signal) }
            }
            if records.count < 16 { break }
        }
        for signal in seen {
            for subscriber in subscribers where subscriber.number == signal.number {
                subscriber.handler?(loop, signal)  // none, if an earlier one has cancelled it
            }
        }
    }

    func close() {
        let last = subscribers
        subscribers = []
        // A forked child shares the signalfd with its parent: to change its set would change the parent's.
        if !owner.isForeign {
            for number in CInt(1)...64 where taken.contains(SignalSet(number)) { giveBack(SignalSet(number)) }
        }
        signals.close()
        for subscriber in last {
            let handler = subscriber.handler
            subscriber.handler = nil
            withExtendedLifetime(handler) {}
        }
    }
}

extension clinux_thread_mask {
    fileprivate var text: String {
        var name = name
        return unsafe withUnsafeBytes(of: &name) { unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
}

extension Loop {
    /// Runs a handler when the process, or this thread, is sent a signal: signalfd(2), no handler function. Block the
    /// signal first on every thread, with `blockSignals` in the first line of `main`. Contract S1, S2.
    ///
    /// - Throws: `.signalRefused` for KILL, STOP and synchronous faults; `.signalOwned` if another loop of the process
    ///   has it. Contract S3. `.signalNotBlocked` with the threads that do not block it. Contract S2.
    @discardableResult
    public func signal(
        _ number: CInt, _ handler: @escaping (_ loop: Loop, _ signal: Signal) -> Void
    ) throws(LoopError) -> SignalSubscription {
        if isForeign { throw .forked }
        if watchers.isClosed { throw .closed }
        if let signals { return try signals.add(number, handler) }
        let made = try SignalSubscriptions(watchers.owner)
        let watcher = try watchInternal(made.signals.descriptor, level: true) { loop, _, _ in
            loop.counters.internalEvents -= 1  // it is the user's event, after all
            loop.signals?.drain(loop)
        }
        do throws(LoopError) {
            let subscription = try made.add(number, handler)
            signals = made
            return subscription
        } catch {
            watcher.cancel()
            throw error
        }
    }
}
