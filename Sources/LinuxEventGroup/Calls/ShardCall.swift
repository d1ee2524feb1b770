internal import LinuxEvent
internal import Synchronization

/// What runs on the calling shard when a call has come to its end: with the result, with what the block threw, or
/// with a `CallError`.
public typealias CallReply<Value> = (_ shard: Shard, _ result: Result<Value, any Error>) -> Void

/// A handle of one `Shard.call`.
///
/// - Threads: the calling shard's only.
public struct ShardCall {
    let call: OpenCall

    /// Its reply has not run, and it was not cancelled.
    public var isOpen: Bool { call.isOpen }

    /// The reply will never run. If the block has not begun, it never does; if it has, its result is dropped.
    /// Idempotent.
    ///
    /// - Returns: whether that prevented a reply.
    @discardableResult
    public func cancel() -> Bool { call.cancel() }
}

@available(*, unavailable)
extension ShardCall: Sendable {}

/// One call that a shard has made and not heard of yet.
///
/// The links and all else that is `var` belong to the calling shard; other threads look at `isWanted` only.
class OpenCall: @unchecked Sendable {
    // Unchecked: see above. The target's thread may be the last to let go of it, when all of that is empty.
    fileprivate let isWanted = Atomic<Bool>(true)
    fileprivate var isOpen = true
    fileprivate var timer: Timer?
    fileprivate var next: OpenCall?
    fileprivate unowned var previous: OpenCall?
    fileprivate unowned let list: OpenCalls
    /// The target's number, if it is of the same group.
    fileprivate let target: Int?

    fileprivate init(_ list: OpenCalls, _ target: Int?) {
        self.list = list
        self.target = target
    }

    /// Ends it without a result: see `TypedCall`.
    fileprivate func fail(_ error: CallError, on shard: Shard) {}
    fileprivate func dropReply() {}

    /// Off the list, its timer cancelled, and of no interest to the target.
    fileprivate func close() {
        isOpen = false
        // Relaxed: the target looks at it to save work; nothing else hangs on it.
        isWanted.store(false, ordering: .relaxed)
        timer?.cancel()
        timer = nil
        list.remove(self)
    }

    fileprivate func cancel() -> Bool {
        guard isOpen else { return false }
        close()
        dropReply()
        return true
    }
}

// Unchecked: as `OpenCall`; `reply` is the calling shard's.
private final class TypedCall<Value>: OpenCall, @unchecked Sendable {
    private var reply: CallReply<Value>?

    init(_ list: OpenCalls, _ target: Int?, reply: @escaping CallReply<Value>) {
        self.reply = reply
        super.init(list, target)
    }

    /// On the calling shard.
    func finish(_ result: Result<Value, any Error>, on shard: Shard) {
        guard isOpen else { return }
        let reply = self.reply
        close()
        self.reply = nil
        reply?(shard, result)
    }

    override func fail(_ error: CallError, on shard: Shard) { finish(.failure(error), on: shard) }

    override func dropReply() {
        // Released after the exchange: that may run user code, which may come back here.
        let last = reply
        reply = nil
        withExtendedLifetime(last) {}
    }
}

/// The calls that one shard waits for: a list, so that a stop can fail them. Contract G9.
final class OpenCalls {
    private var first: OpenCall?
    private let counts: CallCounts

    init(_ counts: CallCounts) { self.counts = counts }

    fileprivate func add(_ call: OpenCall) {
        if let target = call.target { counts.add(1, to: target) }
        call.next = first
        first?.previous = call
        first = call
    }

    fileprivate func remove(_ call: OpenCall) {
        if let target = call.target { counts.add(-1, to: target) }
        let next = call.next
        next?.previous = call.previous
        if let previous = call.previous { previous.next = next } else { first = next }
        call.next = nil
        call.previous = nil
    }

    /// Nobody will answer any more, or nobody here will listen.
    func failAll(on shard: Shard) {
        while let call = first { call.fail(.closed, on: shard) }
    }
}

extension Shard {
    /// Runs a block on another shard, or on this one in a later turn, and then `reply` on this one with its result. The
    /// reply comes exactly once unless cancelled, and never before this returns. Contract M6.
    ///
    /// - Parameters:
    ///   - target: the shard to run the block on, of any group.
    ///   - deadline: from now on, for the wait in the mailbox and the work together; nil for none. Past it the reply
    ///     gets `CallError.deadlineExceeded`.
    ///   - body: runs on the target's thread. What it returns is handed over to this shard.
    ///   - reply: gets the result, what the block threw, or `CallError`: full, closed, or past the deadline.
    @discardableResult
    public func call<Value>(
        _ target: ShardReference, deadline: Duration? = nil,
        _ body: @escaping @Sendable (_ shard: Shard) throws -> sending Value, reply: @escaping CallReply<Value>
    ) -> ShardCall {
        let call = TypedCall(openCalls, group.owns(target.core) ? target.index : nil, reply: reply)
        openCalls.add(call)
        let home = core
        let errand = Errand { answer(home, call, Parcel(.failure(CallError.closed))) }
        let result = target.post { [errand, call] target in
            errand.begin()
            guard call.isWanted.load(ordering: .relaxed) else { return }
            let result: Result<Value, any Error>
            do { result = .success(try body(target)) } catch { result = .failure(error) }
            answer(home, call, Parcel(result))
        }
        let refusal: CallError? =
            switch result {
            case .posted: nil
            case .full: .full
            case .closed: .closed
            }
        if let refusal {
            errand.begin()  // it is told below, and not a second time
            loop.defer { [unowned self] _ in call.fail(refusal, on: self) }
        } else if let deadline {
            call.timer = loop.after(deadline) { [unowned self] _, _ in call.fail(.deadlineExceeded, on: self) }
        }
        return ShardCall(call: call)
    }
}

/// Brings a result home. Replies are let through where a post would be refused; only a shard that has ended takes none,
/// and that one has failed its calls itself. Contract G9.
private func answer<Value>(_ home: ShardCore, _ call: TypedCall<Value>, _ result: Parcel<Result<Value, any Error>>) {
    _ = home.submit { shard in call.finish(result.open(), on: shard) }
}
