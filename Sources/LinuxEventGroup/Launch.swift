internal import CLinux
internal import LinuxEvent
internal import Synchronization

/// How a group's threads start together: all shards are made before any start block runs, and no shard runs before all
/// blocks have returned. Contract G1.
///
/// Each shard is made by its own thread, so that what it consists of lies on its own memory node. Contract G3.
final class Launch: Sendable {
    let plan: Plan
    let mailbox: MailboxLimit
    let idle: IdlePolicy
    let spinBudget: SpinBudget
    let watchdog: Watchdog?
    let start: @Sendable (Shard) throws -> Void
    let making: Rendezvous
    let blocks: Rendezvous
    /// Open once all threads have come to their end.
    let running: Latch
    /// The nodes of all threads that are no shard of the group.
    let outside: NodePool
    let handlers: ChannelHandlers
    private let state: Locked<State>

    private struct State {
        var cores: [ShardCore?]
        var threads: [UInt] = []
        var group: LoopGroup?
    }

    init(
        plan: Plan, mailbox: MailboxLimit, idle: IdlePolicy, watchdog: WatchdogOptions?,
        start: @escaping @Sendable (Shard) throws -> Void
    ) {
        self.plan = plan
        self.mailbox = mailbox
        self.idle = idle
        spinBudget = SpinBudget(shards: idle.shards)
        self.watchdog = watchdog.map { Watchdog($0) }
        self.start = start
        let count = plan.shards.count
        making = Rendezvous(count)
        blocks = Rendezvous(count)
        running = Latch(count)
        outside = NodePool(home: count)
        handlers = ChannelHandlers(threads: count)
        state = Locked(State(cores: [ShardCore?](repeating: nil, count: count)))
    }

    /// To be joined.
    var threads: [UInt] { state.withLock { $0.threads } }

    /// The group, for those who have come through `making`.
    var group: LoopGroup? { state.withLock { $0.group } }

    func add(_ core: ShardCore) { state.withLock { $0.cores[core.index] = core } }

    /// Starts the threads, and returns what they have made; they wait for `runBlocks`. Or undoes all, and throws.
    func makeShards(name: String) throws(LoopGroupError) -> [ShardCore] {
        Memory.forgetUnused()
        for place in plan.shards {
            do throws(SystemError) {
                let thread = try KernelThread.start("\(name)-\(place.shard)") { [self] in
                    ShardThread(place: place, launch: self).run()
                    handlers.threadEnded()
                    running.countDown()
                }
                state.withLock { $0.threads.append(thread) }
            } catch {
                making.fail(.thread(shard: place.shard, error))
                running.countDown()
            }
        }
        guard let failure = making.outcome() else { return state.withLock { $0.cores.compactMap { $0 } } }
        making.letGo()
        running.wait()
        for thread in threads { _ = clinux_thread_join(thread) }
        throw failure
    }

    /// Starts the watchdog, if there shall be one; it ends after the last shard. Returns its thread.
    func startWatchdog(of cores: Cores) throws(LoopGroupError) -> UInt? {
        guard let watchdog else { return nil }
        do throws(SystemError) { return try KernelThread.start("watchdog") { watchdog.run(cores) } } catch {
            throw .watchdog(error)
        }
    }

    /// Lets all threads run their start blocks. If one throws, all are on their way to their end.
    func runBlocks(of group: LoopGroup) -> LoopGroupError? {
        state.withLock { $0.group = group }
        making.letGo()
        let failure = blocks.outcome()
        // The threads have taken their references by now.
        state.withLock { $0.group = nil }
        blocks.letGo()
        return failure
    }
}

/// One step that every thread takes, and none goes on from unless all could take it.
final class Rendezvous: Sendable {
    private let arrived: Latch
    private let decided = Latch(1)
    private let failure = Locked<LoopGroupError?>(nil)

    init(_ count: Int) { arrived = Latch(count) }

    /// Takes the step, and waits for the others. Returns whether all could take it.
    func rendezvous(on shard: Int, _ step: () throws(LoopGroupError) -> Void) -> Bool {
        do throws(LoopGroupError) {
            try step()
            arrived.countDown()
        } catch { fail(error) }
        decided.wait()
        return failure.withLock { $0 == nil }
    }

    /// Arrives without having taken the step.
    func fail(_ error: LoopGroupError) {
        failure.withLock { if $0 == nil { $0 = error } }
        arrived.countDown()
    }

    /// The first failure, if any, once all have arrived. They wait for `letGo`.
    func outcome() -> LoopGroupError? {
        arrived.wait()
        return failure.withLock { $0 }
    }

    func letGo() { decided.countDown() }
}

/// What a shard's thread does.
private struct ShardThread {
    let place: Plan.Place
    let launch: Launch

    /// Everything of the shard's is gone when it returns.
    func run() {
        var made: (core: ShardCore, loop: Loop)?
        let areAllMade = launch.making.rendezvous(on: place.shard) { () throws(LoopGroupError) in made = try make() }
        guard areAllMade, let (core, loop) = made, let group = launch.group else { return }
        made = nil
        core.counters.value.cpuTime.start()
        defer { core.counters.value.cpuTime.end() }
        Shard(core: core, loop: loop, group: group, launch: launch).live(launch)
    }

    /// First the CPU, then memory of its node, then everything that allocates. Contract G3.
    private func make() throws(LoopGroupError) -> (core: ShardCore, loop: Loop) {
        if let cpu = place.cpu {
            do throws(SystemError) { try Affinity.pin(to: cpu) } catch { throw .thread(shard: place.shard, error) }
            Memory.preferLocal()
        }
        let core = ShardCore(place, launch)
        core.counters.value.cpu.store(place.cpu ?? -1, ordering: .relaxed)
        let loop: Loop
        do throws(LoopError) { loop = try Loop() } catch { throw .loop(shard: place.shard, error) }
        core.setWaker(loop.waker)
        launch.add(core)
        if let node = place.node {
            Memory.bringHome(core.memory + loop.memory, to: launch.plan.topology.memoryNodes(of: node))
        }
        return (core, loop)
    }
}
