internal import CLinux
internal import LinuxEvent
internal import Synchronization

/// Independent loops on pinned threads of their own, and the ways between them.
///
///     let group = try LoopGroup { shard in … }            // the block runs on every shard
///     group.shard(for: descriptor).post { shard in … }    // from any thread, lock-free
///     let report = try group.stop(deadline: .seconds(5))
///
/// Each shard is one thread with one `Loop`, bound to one CPU, with all signals blocked. Shards share nothing but their
/// mailboxes.
///
/// - Threads: any.
/// - Lifetime: a group that is dropped without a stop runs on.
public final class LoopGroup: Sendable {
    /// Which shard runs where.
    public let plan: Plan
    let cores: Cores
    let handlers: ChannelHandlers
    private let router: Router
    /// Its shards have no threads of their own: see `LoopGroupSimulation`.
    private let isSimulated: Bool
    /// Handlers of the group's watches note which descriptor they run for. Contract G7.
    let namesDescriptors: Bool
    private let running: Latch
    /// Threads that nobody has joined yet.
    private let threads: Locked<[UInt]>
    private let failures = Locked<[Int: LoopError]>([:])
    /// What its listeners share, once there is one.
    let listening = AtomicLazyReference<Connections>()

    /// Starts as many shards as the process can make use of, or `threads`, with CPUs by the placement: all, or none.
    ///
    /// As `LoopGroup(plan: LoopGroup.plan(threads:placement:))`, where the other parameters are described.
    /// - Throws: what `plan` throws, or what failed first, and on which shard. Contract G1.
    public convenience init(
        threads: Int? = nil, placement: Placement = .automatic, mailboxCapacity: Int? = nil, spillLimit: Int = 0,
        idle: IdlePolicy = .sleep, watchdog: WatchdogOptions? = nil, name: String = "shard",
        start: @escaping @Sendable (_ shard: Shard) throws -> Void = { _ in }
    ) throws(LoopGroupError) {
        try self.init(
            plan: Self.plan(threads: threads, placement: placement), mailboxCapacity: mailboxCapacity,
            spillLimit: spillLimit, idle: idle, watchdog: watchdog, name: name, start: start)
    }

    /// Starts the shards of a plan: all, or none. Returns when the start block has returned on every one. Contract G1.
    ///
    /// - Parameters:
    ///   - plan: how many shards, and where; made before, on a thread that may use the same CPUs.
    ///   - mailboxCapacity: tasks on their way to one shard, beyond which a post is refused; nil for no bound.
    ///   - spillLimit: how many more are taken all the same, and wait in line until there is room. Contract M3.
    ///   - idle: what a shard does while it has nothing to do. Contract G12.
    ///   - watchdog: reports shards that are stuck; nil for none. Contract G7.
    ///   - name: threads are called "name-0", "name-1", …, cut to 15 bytes.
    ///   - start: runs on each shard's thread before this returns. If it throws on one, all are undone.
    /// - Throws: what failed first, and on which shard.
    public convenience init(
        plan: Plan, mailboxCapacity: Int? = nil, spillLimit: Int = 0, idle: IdlePolicy = .sleep,
        watchdog: WatchdogOptions? = nil, name: String = "shard",
        start: @escaping @Sendable (_ shard: Shard) throws -> Void = { _ in }
    ) throws(LoopGroupError) {
        if let mailboxCapacity, mailboxCapacity < 1 { throw .invalidCapacity(mailboxCapacity) }
        if spillLimit < 0 || spillLimit > 0 && mailboxCapacity == nil { throw .invalidSpillLimit(spillLimit) }
        let launch = Launch(
            plan: plan, mailbox: MailboxLimit(capacity: mailboxCapacity, spillLimit: spillLimit), idle: idle,
            watchdog: watchdog, start: start)
        try self.init(launch, launch.makeShards(name: name), isSimulated: false)
        if let failure = launch.runBlocks(of: self) {
            running.wait()
            join()
            throw failure
        }
        do throws(LoopGroupError) {
            if let thread = try launch.startWatchdog(of: cores) { threads.withLock { $0.append(thread) } }
        } catch {
            requestStop()
            running.wait()
            join()
            throw error
        }
    }

    /// A group of shards that were made, and do not run yet.
    init(_ launch: Launch, _ cores: [ShardCore], isSimulated: Bool) {
        self.cores = Cores(cores, outside: launch.outside)
        threads = Locked(launch.threads)
        running = launch.running
        handlers = launch.handlers
        router = Router(shards: cores.count)
        plan = launch.plan
        namesDescriptors = launch.watchdog?.options.namesDescriptors ?? false
        self.isSimulated = isSimulated
    }

    /// A dropped group runs on, and this runs when the last of its threads has let go of it, on that thread maybe: so
    /// what nobody has joined is let go of, not waited for.
    deinit {
        for thread in threads.withLock({ $0 }) { _ = clinux_thread_detach(thread) }
        cores.outside.retire()
    }

    // MARK: Shards

    /// How many shards there are.
    public var count: Int { cores.count }

    /// All shards, in the order of their numbers.
    public var shards: [ShardReference] { cores.map(ShardReference.init) }

    /// The shard with this number, from 0.
    public subscript(index: Int) -> ShardReference { ShardReference(core: cores[index]) }

    /// The shard that a descriptor belongs to: a pure hash of its number. Contract G4.
    public func shard(for descriptor: CInt) -> ShardReference {
        shard(forKey: UInt64(UInt32(bitPattern: descriptor)))
    }

    /// The shard that any key belongs to, by the same hash. Contract G4.
    public func shard(forKey key: UInt64) -> ShardReference {
        ShardReference(core: cores[router.shard(of: key)])
    }

    /// As `self[index].post(task)`.
    @discardableResult
    public func post(to index: Int, _ task: consuming sending @escaping ShardTask) -> PostResult {
        cores.post(to: index, task)
    }

    func owns(_ core: ShardCore) -> Bool { cores.owns(core) }

    // MARK: Stopping

    /// Asks all shards to stop, from any thread and any callback; never waits. Idempotent. Contract G9.
    ///
    /// New posts are refused from now on. Each shard ends its turn, runs what was posted before, releases its handlers
    /// on its own thread, and closes its loop.
    public func requestStop() {
        for core in cores { core.requestStop() }
    }

    /// As `requestStop`, and waits until all shards have stopped, or the deadline has passed. Contract G9.
    ///
    /// A shard that has not ended by then is named in the report with the stage that it has reached; its mailbox is
    /// closed, and what it held is not run any more.
    /// - Throws: `.calledOnShard` on a thread of this group.
    @available(*, noasync, message: "blocks the thread; use requestStop()")
    @discardableResult
    public func stop(deadline: Duration) throws(LoopGroupError) -> StopReport {
        try refuseOnShard()
        let start = Instant.now
        requestStop()
        if running.wait(until: start.advanced(by: deadline)) {
            join()
        } else {
            for core in cores where core.stopStage != .stopped { core.abandon() }
        }
        return report(of: start.duration(to: .now))
    }

    /// Waits until the group has stopped, by whomever. Contract G9.
    ///
    /// - Throws: `.calledOnShard` on a thread of this group.
    @available(*, noasync, message: "blocks the thread; use requestStop()")
    @discardableResult
    public func wait() throws(LoopGroupError) -> StopReport {
        try refuseOnShard()
        let start = Instant.now
        running.wait()
        join()
        return report(of: start.duration(to: .now))
    }

    func refuseOnShard() throws(LoopGroupError) {
        if isSimulated { throw .simulated }
        if let shard = Shard.current, shard.group === self { throw .calledOnShard }
    }

    /// Whoever comes first joins the threads, which have all said that they end.
    private func join() {
        let ended = threads.withLock { threads in
            defer { threads = [] }
            return threads
        }
        for thread in ended { _ = clinux_thread_join(thread) }
    }

    /// A shard's loop failed; the report will say so.
    func note(_ error: LoopError, onShard index: Int) { failures.withLock { $0[index] = error } }

    func report(of duration: Duration) -> StopReport {
        let failures = self.failures.withLock { $0 }
        return StopReport(
            duration: duration,
            shards: cores.map { core in
                StopReport.ShardStop(
                    shard: core.index, stage: core.stopStage,
                    tasksDrained: core.tasksDrained.load(ordering: .relaxed),
                    tasksAbandoned: core.tasksAbandoned.load(ordering: .relaxed),
                    watchersOpen: core.watchersOpen, failure: failures[core.index])
            })
    }
}
