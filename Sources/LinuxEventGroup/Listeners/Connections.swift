internal import Synchronization

/// What the listeners of one group share: how loaded its shards are, the way of a connection to its shard, and who
/// waits for a descriptor. Made with the group's first listener.
///
/// - Threads: any.
final class Connections: Sendable {
    let cores: Cores
    /// The way to the shards. A bounded mailbox that is full refuses a connection like all else.
    let channel: Channel<Accepted>
    private let loads: [LoadWord]
    private let isAnyPaused = Atomic<Bool>(false)
    private let paused = Locked<[ObjectIdentifier: Seat]>([:])

    /// Connections that were handed to one shard and live. Alone on its lines, since the acceptor adds to it, and the
    /// shard takes off.
    private final class LoadWord: Sendable {
        let count = Isolated(Atomic<Int>(0))
    }

    init(_ group: LoopGroup) {
        cores = group.cores
        channel = group.channel(of: Accepted.self) { shard, accepted in accepted.deliver(on: shard) }
        loads = group.cores.map { _ in LoadWord() }
    }

    // MARK: Loads

    /// Relaxed, as all changes of it: the number says something about other threads' work, and orders none of it.
    func load(of shard: Int) -> Int { loads[shard].count.value.load(ordering: .relaxed) }

    func begin(on shard: Int) { loads[shard].count.value.wrappingAdd(1, ordering: .relaxed) }

    func leave(_ shard: Int) { loads[shard].count.value.wrappingSubtract(1, ordering: .relaxed) }

    /// A connection has ended, so there may be a descriptor for another.
    func end(on shard: Int) {
        leave(shard)
        // Relaxed: who pauses at this moment may be missed here, and goes on when its pause is over.
        if isAnyPaused.load(ordering: .relaxed) { resume() }
    }

    // MARK: Pauses

    func notePause(of acceptor: Acceptor, at seat: Seat) {
        paused.withLock { $0[ObjectIdentifier(acceptor)] = seat }
        isAnyPaused.store(true, ordering: .relaxed)
    }

    func forgetPause(of acceptor: Acceptor) {
        paused.withLock { $0[ObjectIdentifier(acceptor)] = nil }
    }

    /// Lets all who pause try again, in a task: the descriptor may be closed only after its `Accepted` has ended.
    @inline(never)
    private func resume() {
        guard isAnyPaused.exchange(false, ordering: .relaxed) else { return }
        let seats = paused.withLock { paused in
            defer { paused = [:] }
            return paused.values.map { $0 }
        }
        for seat in seats { _ = seat.core.submit { shard in seat.acceptor.value?.resume(on: shard) } }
    }
}

/// Where one shard's part of a listener is: touched on that shard only.
struct Seat: Sendable {
    let core: ShardCore
    let acceptor: HomeBound<Acceptor?>

    init(_ core: ShardCore) {
        self.core = core
        acceptor = HomeBound(core, nil)
    }
}
