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
    let backlog: Backlog
    let nodes: NodeStock
    /// In a cell, and reached from there: a variable would be checked for exclusive access in each turn.
    private let counted = Cell(ShardCounts())
    private var counts: ShardCounts {
        @inline(__always) _read { yield counted.value }
        @inline(__always) _modify { yield &counted.value }
    }
    /// Calls of this shard's that have no reply yet. Contract M6.
    let openCalls: OpenCalls
    /// Watches that belong here by the hash of their descriptor, and are elsewhere or on their way. Contract G5.
    var moved: [CInt: Registration] = [:]
    /// What ends values of this shard's, in the order they were made. Contract G6.
    var services: [Service] = []
    private let upkeep: Cell<Upkeep>
    /// Whether it may look for work where there is none, instead of sleeping. Contract G12.
    private let mayLook: Bool
    private let spinning: Cell<Spinning>
    /// Who is to be told that the shard has woken up; nil where there is no watchdog. Contract G7.
    private let watchdog: Watchdog?

    /// How many tasks run in one turn before descriptors and timers have their share. Contract M7, L13.
    static let taskBudget = 1024

    /// How many looks into the mailbox make up one look for work, before descriptors and timers have their turn; and
    /// how often tasks may be found and run in it.
    private static let looks = 64, finds = 16

    init(core: ShardCore, loop: Loop, group: LoopGroup, launch: Launch) {
        index = core.index
        self.core = core
        backlog = Backlog(core.progress)
        self.loop = loop
        self.group = group
        nodes = NodeStock(core.pool, returningTo: group.cores.map(\.pool) + [core.outside], counting: core.traffic)
        openCalls = OpenCalls(core.calls)
        upkeep = Cell(Upkeep(core, loop, cores: group.cores, topology: group.plan.topology))
        mayLook = launch.idle.kind != .sleep && group.plan.allowsSpinning && core.place.cpu != nil
        spinning = Cell(Spinning(launch.idle, launch.spinBudget))
        watchdog = launch.watchdog
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
    static func setCurrent(_ shard: Shard?) {
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

    /// Turns until the group stops. Contract L15, M7.
    private func run() throws(LoopError) {
        while !core.isRefusing {
            let hasSlept = try wait()
            try dispatch(afterSleep: hasSlept)
            runTasks(atMost: Self.taskBudget, afterSleep: hasSlept)
            endTurn()
        }
        if mayLook { spinning.value.end() }
    }

    /// Events, timers and deferred blocks.
    func dispatch(afterSleep hasSlept: Bool) throws(LoopError) {
        if watchdog != nil { counts.turnBegan = clinux_monotonic_ns() }
        enter(.callbacks)
        let turn = try loop.dispatch()
        let isIdle = backlog.isEmpty && turn.events + turn.timers + turn.deferred == 0
        if hasSlept, isIdle { counts.wakesSpurious += 1 }
        if mayLook, !isIdle { spinning.value.didWork() }
        if turn.stopped { group.requestStop() }
        counts.turns += 1
        counts.events += UInt64(turn.events)
        if hasSlept || counts.turns & 15 == 0 { lookAround() }
    }

    func endTurn() {
        counts.watchers = loop.statistics.watchers
        publish()
    }

    /// What is done in turns that cost a sleep anyway, and now and then in others.
    private func lookAround() {
        upkeep.value.look()
        if mayLook { spinning.value.look() }
        if !counts.isTiming, counts.turns & 3 == 0 {
            counts.isTiming = true
            core.askForTime()
        }
    }

    /// Waits for events and posts alike, and takes what was posted. Returns whether it had said that it sleeps.
    private func wait() throws(LoopError) -> Bool {
        if backlog.isEmpty, !(mayLook && look()), sleep() {
            enter(.waiting)
            try loop.wait()
            if mayLook { spinning.value.woke() }
            watchdog?.shardWoke(core, turn: counts.turns)
            take()
            return true
        }
        try loop.wait(timeout: .zero)
        take()
        return false
    }

    /// Says that the shard sleeps, unless something was posted.
    func sleep() -> Bool {
        guard core.mailbox.sleep() else { return false }
        // Nodes must not sleep here while their owners allocate new ones.
        nodes.sendAll()
        counts.sleeps += 1
        // Now, so that the ledger is right while the shard sleeps. Contract M4.
        core.counters.value.sleeps.store(counts.sleeps, ordering: .relaxed)
        return true
    }

    /// Looks for posts for about a microsecond, without asking the kernel, and runs what it finds at once. Returns
    /// whether to go on: then descriptors and timers have their turn next, and then comes another look. Contract G12.
    private func look() -> Bool {
        guard spinning.value.begin() else { return false }
        var found = 0
        while found < Self.finds, backlog.isEmpty {
            var looks = 0
            while core.mailbox.isEmpty, looks < Self.looks {
                looks += 1
                clinux_pause()
            }
            if looks == Self.looks { break }
            found += 1
            take()
            runTasks(atMost: Self.taskBudget, afterSleep: false)
        }
        if found == 0 { nodes.sendAll() }
        return spinning.value.goOn(found: found > 0)
    }

    /// Not while tasks that were taken before wait to be run: new ones would only stand in line behind them, and each
    /// node would be fetched from the cache of a sender who is just writing to it, which costs several times as much as
    /// fetching it later.
    func take() {
        guard counts.untilNextTake <= 0 else { return }
        let taken = core.mailbox.take()
        if taken.wasSleeping { counts.selfDisarms += 1 }
        counts.depth = UInt64(taken.tasks.count)
        counts.depthMax = max(counts.depthMax, counts.depth)
        backlog.append(taken.tasks)
        counts.untilNextTake = backlog.count
    }

    /// Runs what waits now, and no more: what a task posts has to wait for the next turn. Contract M7.
    func runTasks(atMost budget: Int, afterSleep: Bool) {
        let due = min(backlog.count, budget)
        guard due > 0 else { return }
        enter(.tasks)
        var credits = 0
        var ran = 0
        var node = backlog.first
        var emptied = NodeStock.Run()
        while ran < due, !core.isAbandoned {
            let marks = node.marks
            if marks.contains(.timed) { noteLatency(afterSleep) }
            let begun: Int
            if let handler = unsafe node.handler {
                begun = unsafe handler._withUnsafeGuaranteedRef { runValues($0, &node, atMost: due &- ran) }
            } else {
                // A hint: a long chain does not fit into the processor's caches.
                clinux_prefetch_read(node.next)
                core.progress.countDown()
                begun = 1
                node.moveTask()(self)
                // Only now: what the task posted to its own shard may hang on this node.
                let next = node.next
                nodes.recycle(node, &emptied)
                node = TaskNode(bits: next)
            }
            ran &+= begun
            if marks.contains(.credit) { credits &+= begun }
        }
        nodes.recycle(emptied)
        backlog.advance(to: node)
        counts.untilNextTake &-= ran
        counts.tasks &+= UInt64(truncatingIfNeeded: ran)
        core.giveBackCredits(credits)
    }

    /// How many values are run in one go. What is looked at before must still be in the nearest cache when it is run.
    private static let rowLimit = 128

    /// Runs a row of values of one channel, and goes on to the node behind them. Returns how many it ran.
    @inline(__always)
    private func runValues(_ handler: ChannelHandler, _ node: inout TaskNode, atMost limit: Int) -> Int {
        let first = node
        let row = handler.run(self, first.bits, first.rowLength(atMost: min(limit, Self.rowLimit)), core.progress)
        guard row.ran > 0 else { return 0 }
        node = TaskNode(bits: row.next)
        nodes.recycle(NodeStock.Run(first: TaskNode(bits: row.newest), last: first, count: row.ran))
        return row.ran
    }

    /// A task comes that was timed when it was posted. Contract G10.
    private func noteLatency(_ afterSleep: Bool) {
        counts.isTiming = false
        let posted = core.postedAt.load(ordering: .relaxed)
        let latency = clinux_monotonic_ns() &- posted
        core.hopLatency.add(1, at: LatencyHistogram.step(of: latency))
        if mayLook, afterSleep { spinning.value.learn(wakeCost: latency) }
    }

    // MARK: What others may see

    /// For the watchdog. Relaxed: it looks again, and what it reads hangs on nothing. Contract G7.
    @inline(__always)
    private func enter(_ phase: ShardPhase) {
        if watchdog != nil { core.counters.value.activity.store(phase, turn: counts.turns) }
    }

    /// Copies the plain counters to where others may read them. Relaxed: each stands for itself. Contract G10.
    private func publish() {
        counts.spinning = mayLook ? spinning.value.nanoseconds : 0
        if watchdog != nil { counts.measureTurn() }
        core.counters.value.publish(counts)
    }

    // MARK: The end

    /// Closes the word, runs what it held, and lets go of everything on its own thread. Contract G9.
    func end() {
        core.reach(.draining)
        enter(.ending)
        let before = counts.tasks
        // Before the word is closed, so that a reply that is on its way finds nothing any more. Contract G9.
        openCalls.failAll(on: self)
        core.closeCredits()
        backlog.append(core.mailbox.close())
        while !backlog.isEmpty, !core.isAbandoned {
            runTasks(atMost: Self.taskBudget, afterSleep: false)
            enter(.ending)
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
        watchdog?.shardEnded(core)
    }
}
