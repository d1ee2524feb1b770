internal import LinuxEvent

/// A value for each shard of a group: made, used and destroyed on its shard, so it needs no lock and need not be
/// Sendable. Made by `LoopGroup.local`. Contract G6.
///
///     let cache = try group.local { shard in Cache() }
///     group.post(to: 0) { shard in cache[shard].insert(…) }
///
/// - Lifetime: the values live until their shards stop, whether this is kept or not.
public final class ShardLocal<Value>: Sendable {
    private let group: LoopGroup
    private let slots: [HomeBound<Value?>]

    fileprivate init(_ group: LoopGroup) {
        self.group = group
        slots = group.cores.map { HomeBound($0, nil) }
    }

    /// The shard's own value. The process ends with the rule's text if the shard is not of this group, or has ended the
    /// value: in a block that its stop runs after that.
    public subscript(shard: Shard) -> Value {
        get {
            guard let value = slot(shard).value else { Self.violation() }
            return value
        }
        set { slot(shard).value = newValue }
    }

    private func slot(_ shard: Shard) -> HomeBound<Value?> {
        guard shard.group === group else { Self.violation() }
        return slots[shard.index]
    }

    private static func violation() -> Never {
        fatalError("LinuxEventGroup: this shard has no such value, or it has ended (Contract G6)")
    }

    fileprivate func start(
        on shard: Shard, _ make: (Shard) throws -> Value, stop: (@Sendable (Shard, Value) -> Void)?
    ) throws {
        let value = try make(shard)
        slots[shard.index].value = value
        shard.addService(ObjectIdentifier(self)) { [self] shard in
            guard let value = slots[shard.index].value else { return }
            stop?(shard, value)
            slots[shard.index].value = nil
        }
    }
}

extension LoopGroup {
    /// Makes a value on each shard, on all of them or on none, and returns when it has. Contract G6.
    ///
    /// If it fails on one shard, the values of the others are stopped and destroyed, in reverse order of the
    /// shards, and the error is thrown. When the group stops, each shard stops and destroys its values in reverse
    /// order of making, after its last task.
    ///
    /// - Parameters:
    ///   - make: runs on each shard's thread, on all of them side by side.
    ///   - stop: runs on each shard's thread before the value is destroyed.
    /// - Throws: `.start` with the shard and what `make` threw; `.closed` if the group stops; `.calledOnShard` on a
    ///   thread of this group, which would wait for itself.
    @available(*, noasync, message: "blocks the thread; use the async form")
    public func local<Value>(
        _ make: @escaping @Sendable (_ shard: Shard) throws -> Value,
        stop: (@Sendable (_ shard: Shard, _ value: Value) -> Void)? = nil
    ) throws(LoopGroupError) -> ShardLocal<Value> {
        if let shard = Shard.current, shard.group === self { throw .calledOnShard }
        let start = LocalStart(self, make, stop)
        let started = Latch(1)
        start.run { started.countDown() }
        started.wait()
        guard let error = start.failure else { return start.local }
        let undone = Latch(1)
        start.undo { undone.countDown() }
        undone.wait()
        throw error
    }

    /// As the blocking form, for async callers; suspends and blocks no thread. It is not cut short by a cancellation.
    public func local<Value>(
        _ make: @escaping @Sendable (_ shard: Shard) throws -> Value,
        stop: (@Sendable (_ shard: Shard, _ value: Value) -> Void)? = nil
    ) async throws(LoopGroupError) -> ShardLocal<Value> {
        let start = LocalStart(self, make, stop)
        await withCheckedContinuation { continuation in start.run { continuation.resume() } }
        guard let error = start.failure else { return start.local }
        await withCheckedContinuation { continuation in start.undo { continuation.resume() } }
        throw error
    }
}

/// How the values of one `ShardLocal` are made, all or none.
private final class LocalStart<Value>: Sendable {
    let local: ShardLocal<Value>
    private let shards: [ShardReference]
    private let make: @Sendable (Shard) throws -> Value
    private let stop: (@Sendable (Shard, Value) -> Void)?
    private let failures = Locked<[Int: LoopGroupError]>([:])

    init(
        _ group: LoopGroup, _ make: @escaping @Sendable (Shard) throws -> Value,
        _ stop: (@Sendable (Shard, Value) -> Void)?
    ) {
        local = ShardLocal(group)
        shards = group.shards
        self.make = make
        self.stop = stop
    }

    /// The failure of the first shard that had one.
    var failure: LoopGroupError? { failures.withLock { $0.min { $0.key < $1.key }?.value } }

    func run(done: @escaping @Sendable () -> Void) {
        let missing = Countdown(shards.count, done)
        for shard in shards {
            let errand = Errand { [self] in
                failures.withLock { $0[shard.index] = .closed }
                missing.countDown()
            }
            _ = shard.core.submit { [self, errand] shard in
                errand.begin()
                do { try local.start(on: shard, make, stop: stop) } catch {
                    failures.withLock { $0[shard.index] = .start(shard: shard.index, error) }
                }
                missing.countDown()
            }
        }
    }

    /// Ends what was made, one shard after the other.
    func undo(done: @escaping @Sendable () -> Void) {
        let failed = failures.withLock { Set($0.keys) }
        undo(shards.filter { !failed.contains($0.index) }, done)
    }

    private func undo(_ made: [ShardReference], _ done: @escaping @Sendable () -> Void) {
        guard let last = made.last else { return done() }
        let step = Countdown(1) { [self] in undo(made.dropLast(), done) }
        // A shard that stops meanwhile has ended its values itself.
        let errand = Errand { step.countDown() }
        _ = last.core.submit { [errand, local] shard in
            errand.begin()
            shard.endService(ObjectIdentifier(local))
            step.countDown()
        }
    }
}
