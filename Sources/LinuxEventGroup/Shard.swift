internal import CLinux
public import LinuxEvent
internal import Synchronization

/// One shard, on its own thread: what start blocks, tasks and callbacks get.
///
/// All state that hangs on a shard needs no lock: its callbacks run on its thread, one at a time. Contract G6.
///
/// - Threads: its own only. To others give its `reference`.
public final class Shard {
    /// Its number in the group, from 0.
    public let index: Int
    /// The shard's loop; made on this thread, and closed by it at the end. `loop.stop()` stops the whole group.
    public let loop: Loop
    /// The group that it belongs to.
    public let group: LoopGroup
    let core: ShardCore
    /// Tasks that were taken from the mailbox or posted by this shard itself, in order, and have not run.
    private let backlog = Backlog()
    /// Tasks to run before the next look into the mailbox.
    private var untilNextTake = 0
    let nodes: NodeStock
    private var counts = Counts()
    /// Calls of this shard's that have no reply yet. Contract M6.
    let openCalls = OpenCalls()
    /// Watches that belong here by the hash of their descriptor, and are elsewhere or on their way. Contract G5.
    var moved: [CInt: Registration] = [:]
    /// What ends values of this shard's, in the order they were made. Contract G6.
    private var services: [Service] = []
    private let upkeep: Cell<Upkeep>

    /// How many tasks run in one turn before descriptors and timers have their share. Contract M7, L13.
    private static let taskBudget = 1024

    init(core: ShardCore, loop: Loop, group: LoopGroup) {
        index = core.index
        self.core = core
        self.loop = loop
        self.group = group
        nodes = NodeStock(core.pool, returningTo: group.cores.map(\.pool) + [core.outside])
        upkeep = Cell(Upkeep(core, loop, cores: group.cores, topology: group.plan.topology))
    }

    /// The shard that the calling thread is; nil on other threads. Contract G6.
    public static var current: Shard? { unsafe currentUnmanaged?.takeUnretainedValue() }

    /// As `current`, without counting a reference: good while the thread is that shard.
    @inline(__always)
    static var currentUnmanaged: Unmanaged<Shard>? {
        guard let slot = unsafe clinux_thread_slot_get() else { return nil }
        return unsafe Unmanaged<Shard>.fromOpaque(slot)
    }

    /// Lends the shard that the calling thread is, without counting a reference. On shards only.
    @inline(__always)
    static func withCurrent(_ body: (Shard) -> Void) {
        guard let shard = unsafe currentUnmanaged else { return }
        unsafe shard._withUnsafeGuaranteedRef { body($0) }
    }

    /// Whether the calling thread is the shard of this core.
    static func isCurrent(_ core: ShardCore) -> Bool {
        guard let shard = unsafe currentUnmanaged else { return false }
        return unsafe shard._withUnsafeGuaranteedRef { $0.core === core }
    }

    /// Makes the calling thread this shard, or no shard.
    private static func setCurrent(_ shard: Shard?) {
        unsafe clinux_thread_slot_set(shard.map { unsafe Unmanaged.passUnretained($0).toOpaque() })
    }

    /// This shard, for other threads.
    public var reference: ShardReference { ShardReference(core: core) }

    // MARK: Posting from this shard

    /// Posts to this shard itself: runs after what waits already, in a later turn's share. Contract M7.
    @discardableResult
    public func post(_ task: consuming sending @escaping ShardTask) -> PostResult { core.post(task) }

    /// What it sends to itself, linked from the newest to the oldest. Contract M7.
    func enqueue(newest: TaskNode, oldest: TaskNode) -> Bool {
        guard core.stopStage.rawValue < StopStage.closing.rawValue else { return false }
        if newest.bits == oldest.bits {
            backlog.append(newest)
        } else {
            oldest.next = 0
            backlog.append(TaskChain(reversing: newest.bits))
        }
        publishBacklog()
        return true
    }

    // MARK: Turns

    /// Runs on the shard's thread from its start to its end. Contract G9.
    func live(_ launch: Launch) {
        Self.setCurrent(self)
        if launch.blocks.rendezvous(
            on: index,
            { () throws(LoopGroupError) in
                do { try launch.start(self) } catch { throw .start(shard: index, error) }
            })
        {
            do throws(LoopError) { try run() } catch {
                group.note(error, onShard: index)
                group.requestStop()
            }
        } else {
            core.abandonTasks()  // a shard could not start, so the group never was
        }
        end()
        Self.setCurrent(nil)
    }

    /// Turns until the group stops: the loop's two steps, and the mailbox after them. Contract L15, M7.
    private func run() throws(LoopError) {
        while !core.isRefusing {
            let hasSlept = try wait()
            let turn = try loop.dispatch()
            let isIdle = backlog.isEmpty && turn.events + turn.timers + turn.deferred == 0
            if hasSlept, isIdle { counts.wakesSpurious += 1 }
            if turn.stopped { group.requestStop() }
            counts.turns += 1
            // The clock is read in turns that cost a sleep anyway, and now and then in others. Contract G1.
            if hasSlept || counts.turns & 15 == 0 { upkeep.value.look() }
            counts.events += UInt64(turn.events)
            runTasks(atMost: Self.taskBudget)
            counts.watchers = loop.statistics.watchers
            publish()
        }
    }

    /// Waits for events and posts alike, and takes what was posted. Returns whether it had said that it sleeps.
    private func wait() throws(LoopError) -> Bool {
        if backlog.isEmpty {
            if core.mailbox.sleep() {
                // Nodes must not sleep here while their owners allocate new ones.
                nodes.sendAll()
                counts.sleeps += 1
                // Now, so that the ledger is right while the shard sleeps. Contract M4.
                core.counters.value.sleeps.store(counts.sleeps, ordering: .relaxed)
                try loop.wait()
                take()
                return true
            }
        }
        try loop.wait(timeout: .zero)
        take()
        return false
    }

    /// Not while tasks that were taken before wait to be run: new ones would only stand in line behind them, and each
    /// node would be fetched from the cache of a sender who is just writing to it, which costs several times as much as
    /// fetching it later.
    private func take() {
        guard untilNextTake <= 0 else { return }
        let taken = core.mailbox.take()
        if taken.wasSleeping { counts.selfDisarms += 1 }
        counts.depth = UInt64(taken.tasks.count)
        counts.depthMax = max(counts.depthMax, counts.depth)
        backlog.append(taken.tasks)
        untilNextTake = backlog.count
        publishBacklog()
    }

    /// What is left, should a callback or a task not return: a stop counts it. Contract G9.
    private func publishBacklog() {
        core.counters.value.backlog.store(UInt64(truncatingIfNeeded: backlog.count), ordering: .relaxed)
    }

    /// Runs what waits now, and no more: what a task posts has to wait for the next turn. Contract M7.
    private func runTasks(atMost budget: Int) {
        let due = min(backlog.count, budget)
        guard due > 0 else { return }
        var credits = 0
        var ran = 0
        var node = backlog.first
        var emptied = NodeStock.Run()
        while ran < due, !core.isAbandoned {
            // A hint: a long chain does not fit into the processor's caches.
            clinux_prefetch_read(node.next)
            ran &+= 1
            if node.hasCredit { credits &+= 1 }
            backlog.countDown()
            publishBacklog()
            if let handler = unsafe node.handler {
                unsafe handler._withUnsafeGuaranteedRef { $0.run(self, node.payload) }
            } else {
                node.moveTask()(self)
            }
            // Only now: what the task posted to its own shard may hang on this node.
            let next = node.next
            nodes.recycle(node, &emptied)
            node = TaskNode(bits: next)
        }
        nodes.recycle(emptied)
        backlog.advance(to: node)
        untilNextTake &-= ran
        counts.tasks &+= UInt64(truncatingIfNeeded: ran)
        core.credits.giveBack(credits)
    }

    // MARK: Services

    /// A value that hangs on this shard, and what ends it.
    private struct Service {
        let owner: ObjectIdentifier
        let end: (Shard) -> Void
    }

    func addService(_ owner: ObjectIdentifier, end: @escaping (Shard) -> Void) {
        services.append(Service(owner: owner, end: end))
    }

    func endService(_ owner: ObjectIdentifier) {
        guard let index = services.firstIndex(where: { $0.owner == owner }) else { return }
        services.remove(at: index).end(self)
    }

    /// The last made goes first. Contract G6.
    private func endServices() {
        while let service = services.popLast() { service.end(self) }
    }

    // MARK: The end

    /// Closes the word, runs what it held, and lets go of everything on its own thread. Contract G9.
    private func end() {
        core.reach(.draining)
        let before = counts.tasks
        // Before the word is closed, so that a reply that is on its way finds nothing any more. Contract G9.
        openCalls.failAll(on: self)
        backlog.append(core.mailbox.close())
        while !backlog.isEmpty, !core.isAbandoned {
            runTasks(atMost: Self.taskBudget)
        }
        // No events any more, but the blocks that the last tasks deferred.
        if !core.isAbandoned { _ = try? loop.dispatch() }
        core.tasksDrained.store(counts.tasks - before, ordering: .relaxed)
        core.watchersAtEnd.store(loop.statistics.watchers, ordering: .relaxed)
        core.reach(.closing)
        core.settle(backlog)
        while let node = backlog.popFirst() {
            node.destroyContents()  // here, where it may be
            nodes.recycle(node)
        }
        openCalls.failAll(on: self)  // what the last tasks called
        for registration in moved.values { registration.abandon() }
        moved = [:]
        endServices()
        try? loop.close()
        nodes.sendAll()
        counts.watchers = 0
        publish()
        core.reach(.stopped)
    }

    // MARK: Metrics

    private struct Counts {
        var turns: UInt64 = 0
        var events: UInt64 = 0
        var tasks: UInt64 = 0
        var sleeps: UInt64 = 0
        var selfDisarms: UInt64 = 0
        var wakesSpurious: UInt64 = 0
        var depth: UInt64 = 0
        var depthMax: UInt64 = 0
        var watchers = 0
    }

    /// Copies the plain counters to where others may read them. Relaxed: each stands for itself. Contract G10.
    private func publish() {
        core.counters.value.turns.store(counts.turns, ordering: .relaxed)
        core.counters.value.events.store(counts.events, ordering: .relaxed)
        core.counters.value.tasks.store(counts.tasks, ordering: .relaxed)
        core.counters.value.sleeps.store(counts.sleeps, ordering: .relaxed)
        core.counters.value.selfDisarms.store(counts.selfDisarms, ordering: .relaxed)
        core.counters.value.wakesSpurious.store(counts.wakesSpurious, ordering: .relaxed)
        core.counters.value.depth.store(counts.depth, ordering: .relaxed)
        core.counters.value.depthMax.store(counts.depthMax, ordering: .relaxed)
        publishBacklog()
        core.counters.value.watchers.store(counts.watchers, ordering: .relaxed)
    }
}
