internal import LinuxEvent
internal import Synchronization

/// Where an async caller waits for the answers of one shard or of all. Settled once, by whoever comes first: the last
/// answer, a cancellation, a deadline.
///
/// - Threads: any.
private final class Gathering<Value>: Sendable {
    private struct State {
        var continuation: CheckedContinuation<[Parcel<Value>], any Error>?
        /// What came before the caller waited.
        var early: Result<Void, any Error>?
        var answers: [Result<Parcel<Value>, any Error>?]
        var missing: Int
        var deadline: Task<Void, Never>?
    }

    private let state: Locked<State>
    /// Nobody waits any more: a block that has not begun does not begin. Relaxed; it only saves work.
    private let isSettled = Atomic<Bool>(false)

    init(_ count: Int) {
        state = Locked(State(answers: Array(repeating: nil, count: count), missing: count))
    }

    var isWanted: Bool { !isSettled.load(ordering: .relaxed) }

    func begin(_ continuation: CheckedContinuation<[Parcel<Value>], any Error>) {
        let early = state.withLock { state in
            if state.early == nil { state.continuation = continuation }
            return state.early
        }
        if case .failure(let error) = early { continuation.resume(throwing: error) }
    }

    func limit(to deadline: Duration) {
        let task = Task { [weak self] in
            guard (try? await Task.sleep(for: deadline, tolerance: .zero)) != nil else { return }
            self?.fail(CallError.deadlineExceeded)
        }
        let isOver = state.withLock { state in
            let isOver = state.missing == 0 || state.early != nil
            if !isOver { state.deadline = task }
            return isOver
        }
        if isOver { task.cancel() }
    }

    func fail(_ error: any Error) {
        isSettled.store(true, ordering: .relaxed)
        let (continuation, deadline) = state.withLock { state in
            if state.continuation == nil, state.early == nil { state.early = .failure(error) }
            return (state.continuation.take(), state.deadline.take())
        }
        deadline?.cancel()
        continuation?.resume(throwing: error)
    }

    /// The answer of one shard. With the last the caller goes on: with the values in the order of the shards, or with
    /// the error of the first shard that had one.
    func answer(_ index: Int, _ answer: Result<Parcel<Value>, any Error>) {
        let done = state.withLock { state -> Done? in
            state.answers[index] = answer
            state.missing -= 1
            guard state.missing == 0, let continuation = state.continuation.take() else { return nil }
            let answers = state.answers
            state.answers = []
            return Done(continuation: continuation, answers: answers, deadline: state.deadline.take())
        }
        guard let done else { return }
        isSettled.store(true, ordering: .relaxed)
        done.deadline?.cancel()
        done.continuation.resume(with: Result { try done.answers.compactMap { try $0?.get() } })
    }

    private struct Done {
        let continuation: CheckedContinuation<[Parcel<Value>], any Error>
        let answers: [Result<Parcel<Value>, any Error>?]
        let deadline: Task<Void, Never>?
    }
}

/// Runs a block on shards and waits for all of them, without blocking a thread.
private func gather<Value>(
    _ shards: [ShardReference], deadline: Duration?, _ body: @escaping @Sendable (Shard) throws -> sending Value
) async throws -> [Parcel<Value>] {
    let gathering = Gathering<Value>(shards.count)
    return try await withTaskCancellationHandler {
        try await withCheckedThrowingContinuation { continuation in
            gathering.begin(continuation)
            if let deadline { gathering.limit(to: deadline) }
            for (index, shard) in shards.enumerated() {
                let errand = Errand { gathering.answer(index, .failure(CallError.closed)) }
                let result = shard.post { [errand] shard in
                    errand.begin()
                    guard gathering.isWanted else { return }
                    gathering.answer(index, Result { Parcel(try body(shard)) })
                }
                switch result {
                case .posted: break
                case .full:
                    errand.begin()
                    gathering.answer(index, .failure(CallError.full))
                case .closed:
                    errand.begin()
                    gathering.answer(index, .failure(CallError.closed))
                }
            }
        }
    } onCancel: {
        gathering.fail(CancellationError())
    }
}

extension ShardReference {
    /// Runs a block on the shard and returns what it returns; suspends and blocks no thread. Contract M6.
    ///
    /// A caller that is cancelled goes on at once with `CancellationError`. A block that has not begun then never does;
    /// if it has, its result is dropped.
    ///
    /// - Parameters:
    ///   - deadline: from now on, for the wait in the mailbox and the work together; nil for none.
    ///   - body: runs on the shard's thread.
    /// - Throws: what the block throws, `CallError`, or `CancellationError`.
    public func call<Value>(
        deadline: Duration? = nil, _ body: @escaping @Sendable (_ shard: Shard) throws -> sending Value
    ) async throws -> sending Value {
        try await gather([self], deadline: deadline, body)[0].open()
    }
}

extension LoopGroup {
    /// Runs a block on every shard and returns when it has run on all of them. Contract M6.
    ///
    /// - Parameters:
    ///   - deadline: from now on, for all of them together; nil for none.
    ///   - body: runs once on each shard's thread, on all of them side by side.
    /// - Throws: once all have answered, the error of the first shard that had one; `CallError` and `CancellationError`
    ///   as `ShardReference.call`.
    public func broadcast(
        deadline: Duration? = nil, _ body: @escaping @Sendable (_ shard: Shard) throws -> Void
    ) async throws {
        _ = try await gather(shards, deadline: deadline) { shard in try body(shard) }
    }

    /// Runs a block on every shard and combines what they return, in the order of the shards. Contract M6.
    ///
    /// - Parameters:
    ///   - initial: what the first shard's value is combined with.
    ///   - deadline: from now on, for all of them together; nil for none.
    ///   - map: runs once on each shard's thread, on all of them side by side.
    ///   - combine: runs where the caller does.
    /// - Throws: as `broadcast`.
    public func mapReduce<Value, Result>(
        _ initial: Result, deadline: Duration? = nil,
        _ map: @escaping @Sendable (_ shard: Shard) throws -> sending Value, _ combine: (Result, Value) throws -> Result
    ) async throws -> Result {
        try await gather(shards, deadline: deadline, map).reduce(initial) { try combine($0, $1.open()) }
    }
}
