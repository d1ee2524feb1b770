internal import LinuxEvent
internal import Synchronization

/// What a listener's connections are given to: on the shard that each was handed to. Contract G11.
public typealias AcceptHandler = @Sendable (_ shard: Shard, _ connection: consuming Accepted) -> Void

/// Takes connections from listening descriptors of yours and distributes them over the shards of a group. Made by
/// `LoopGroup.listen`. Contract G11.
///
/// - Owns: no listening descriptor. Connections, until they are with the handler.
/// - Threads: any.
/// - Lifetime: one that is let go of goes on until the group stops. One that is kept longer keeps the shards' wakers, a
///   descriptor each, as a `ShardReference` does.
public final class Listener: Sendable {
    let distribution: Distribution
    let options: ListenerOptions
    let connections: Connections
    let notice: (@Sendable (Shard, ListenerNotice) -> Void)?
    /// One for each shard of the group.
    let counters: [ListenerCounters]
    private let handler: AcceptHandler
    private let state = Locked(State())

    private struct State {
        var seats: [Seat] = []
        /// Of these, those that still accept.
        var accepting = 0
        /// What the end will be, by those who have ended.
        var merged = ListenerEnd.drained
        /// Set when all of it is over.
        var end: ListenerEnd?
        var completions: [@Sendable (ListenerEnd) -> Void] = []
    }

    init(
        _ distribution: Distribution, _ options: ListenerOptions, _ connections: Connections,
        _ notice: (@Sendable (Shard, ListenerNotice) -> Void)?, _ handler: @escaping AcceptHandler
    ) {
        self.distribution = distribution
        self.options = options
        self.connections = connections
        self.notice = notice
        self.handler = handler
        counters = connections.cores.map { _ in ListenerCounters() }
    }

    func start(_ places: [(shard: Int, descriptor: CInt)]) {
        let seats = places.map { Seat(connections.cores[$0.shard]) }
        state.withLock { $0 = State(seats: seats, accepting: seats.count) }
        for (seat, place) in zip(seats, places) {
            let descriptor = place.descriptor
            // It is not run where the shard has ended, or missed a stop's deadline.
            let errand = Errand { [self] in acceptorEnded(.stopped) }
            _ = seat.core.submit { [self, errand] shard in
                errand.begin()
                let acceptor = Acceptor(self, descriptor, at: seat)
                seat.acceptor.value = acceptor
                acceptor.start(on: shard)
            }
        }
    }

    func deliver(_ connection: consuming Accepted, on shard: Shard) {
        counters[shard.index].noteDelivered()
        handler(shard, connection)
    }

    // MARK: Ending

    /// Accepts what is in the kernel's queue, and then no more. Contract G11.
    ///
    /// When `completed` runs with `.drained`, each shard has found the queue of its descriptor empty, the handler has
    /// returned for all connections that were in it, and no shard touches the descriptors any more: close them then.
    /// What keeps coming meanwhile is accepted too, so where it comes faster than it can be taken there is no end;
    /// `cancel()` makes one. Shards that pause go on draining after the pause.
    ///
    /// A client that connects between the last look at the queue and your close(2) is reset by the kernel. Among
    /// SO_REUSEPORT sockets the kernel binds a connection to one of them with its first packet: to close that socket
    /// resets what is in its queue and what is still in its handshake, though the others live on. With
    /// net.ipv4.tcp_migrate_req=1 (from Linux 5.14) the kernel gives these to another socket of the same address;
    /// `kernelMigratesRequests` says whether it is on. A socket that another process holds too, because it was passed
    /// or inherited, is not closed for the kernel by your close(2), and nothing is reset.
    ///
    /// - Parameter completed: runs once, on a shard of the group; at once, on the calling thread, if the listener has
    ///   ended already. The end that it gets is another than `.drained` where something else came first.
    public func drain(completed: (@Sendable (_ end: ListenerEnd) -> Void)? = nil) {
        ask(completed) { acceptor, shard in acceptor.drain(on: shard) }
    }

    /// Accepts no more, and leaves in the kernel's queue what is there. Contract G11.
    ///
    /// When `completed` runs, the handler has returned for every connection that was accepted, and no shard touches the
    /// descriptors any more. It needs no room in a bounded mailbox. Idempotent; each call is answered.
    ///
    /// - Parameter completed: as with `drain`.
    public func cancel(completed: (@Sendable (_ end: ListenerEnd) -> Void)? = nil) {
        ask(completed) { acceptor, shard in acceptor.end(.cancelled, on: shard) }
    }

    private func ask(
        _ completed: (@Sendable (ListenerEnd) -> Void)?, _ body: @escaping @Sendable (Acceptor, Shard) -> Void
    ) {
        let (end, seats) = state.withLock { state in
            if state.end == nil, let completed { state.completions.append(completed) }
            return (state.end, state.seats)
        }
        if let end {
            completed?(end)
            return
        }
        for seat in seats {
            _ = seat.core.submit { shard in if let acceptor = seat.acceptor.value { body(acceptor, shard) } }
        }
    }

    /// One shard accepts no more. When the last of them says so, there may be connections on their way.
    func acceptorEnded(_ end: ListenerEnd) {
        let isLast = state.withLock { state in
            state.accepting -= 1
            state.merged = state.merged.merged(with: end)
            return state.accepting == 0
        }
        guard isLast else { return }
        // Behind all that this thread has handed over, in each mailbox. Contract M2.
        let shards = connections.cores.count
        let missing = Countdown(shards) { [self] in finish() }
        for core in connections.cores {
            // Not run: that shard has ended, or it will run nothing any more.
            let errand = Errand { missing.countDown() }
            _ = core.submit { [errand] _ in
                errand.begin()
                missing.countDown()
            }
        }
    }

    private func finish() {
        let (end, completions) = state.withLock { state in
            let end = state.merged
            state.end = end
            state.seats = []
            defer { state.completions = [] }
            return (end, state.completions)
        }
        for completed in completions { completed(end) }
    }

    // MARK: Insight

    /// What each shard of the group has done for this listener, from any thread at any time. Contract G11.
    public var metrics: [ListenerMetrics] {
        counters.enumerated().map { $0.element.metrics(shard: $0.offset) }
    }

    /// Whether the kernel gives connections of a closed SO_REUSEPORT socket to another one of the same address
    /// (net.ipv4.tcp_migrate_req); nil where it does not say. See `drain`.
    public static var kernelMigratesRequests: Bool? {
        var files = SystemFiles(root: "/")
        return files.number("/proc/sys/net/ipv4/tcp_migrate_req").map { $0 != 0 }
    }
}
