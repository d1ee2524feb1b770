internal import CLinux
internal import LinuxEvent
internal import Synchronization

/// What all threads may touch of one shard. Its thread-bound side is `Shard`.
///
/// - Threads: any, except where a member says otherwise.
final class ShardCore: Sendable {
    let index: Int
    let place: Plan.Place
    let mailbox = Mailbox<Atomic<UInt>, TaskNode>()
    let credits: Credits
    let pool: NodePool
    /// The nodes of all threads that are no shard of the group; the same for all of its shards.
    let outside: NodePool
    let counters = Isolated(ShardCounters())
    /// How many tasks and values have come from each shard, and from elsewhere. Contract G10.
    let traffic: CounterRow
    let hopLatency = CounterRow(LatencyHistogram.steps)
    let calls: CallCounts
    let isWatched: Bool
    let stalls = Atomic<UInt64>(0)
    let wakesLost = Atomic<UInt64>(0)
    let spilled = Atomic<UInt64>(0)

    /// Set once on the shard's thread, before anyone else can have a reason to ring.
    private let waker = AtomicLazyReference<Waker>()
    /// Looked at by every post, and 0 as a rule: `refusing`, `asksForTime`.
    private let attention = Atomic<UInt8>(0)
    /// When the timed node that is on its way was posted. Contract G10.
    let postedAt = Atomic<UInt64>(0)
    private let stage = Atomic<UInt8>(StopStage.running.rawValue)
    /// Before each task. Contract G9.
    let progress = TaskProgress()
    private let ending: Ending<TaskProgress, TaskNode, Locked<Orphans>>
    let tasksAbandoned = Atomic<UInt64>(0)
    /// Tasks run after the shard had noticed that it shall stop; and what it still watched then.
    let tasksDrained = Atomic<UInt64>(0)
    let watchersAtEnd = Atomic<Int>(0)
    /// Values that had to die here and could not: the shard had ended.
    let valuesLeaked = Atomic<Int>(0)

    init(_ place: Plan.Place, _ launch: Launch) {
        index = place.shard
        self.place = place
        credits = Credits(limit: launch.mailbox.capacity, spillLimit: launch.mailbox.spillLimit)
        pool = NodePool(home: index)
        outside = launch.outside
        let count = launch.plan.shards.count
        traffic = CounterRow(count + 1)
        calls = CallCounts(count)
        isWatched = launch.watchdog != nil
        ending = Ending(progress)
    }

    deinit { progress.free() }

    // MARK: Posting

    /// Contract M1. Whatever is refused is handed back.
    func post(_ task: consuming @escaping ShardTask) -> PostResult {
        if let node = nodeAtHand() { return submit(task, in: node, []) }
        switch reserve() {
        case .node(let node, let marks): return submit(task, in: node, marks)
        case .full: return .full(task)
        case .closed: return .closed(task)
        }
    }

    enum Admission {
        case admitted, full, closed
        /// There is no room, but a place to wait for it.
        case spilled
    }

    /// Whether so many more tasks or values may come, all or none: their places are taken then.
    @inline(__always)
    func admit(_ count: Int) -> Admission {
        if isRefusing { return .closed }
        if credits.take(count) { return .admitted }
        return credits.spillLimit > 0 && credits.claimSpill(count) ? .spilled : .full
    }

    /// Past the limit and past the refusal, for what must arrive: only a closed word turns it back.
    func submit(_ task: consuming @escaping ShardTask, _ marks: TaskNode.Marks = []) -> PostResult {
        submit(task, in: takeNode(), marks)
    }

    @inline(__always)
    private func submit(_ task: consuming @escaping ShardTask, in node: TaskNode, _ marks: TaskNode.Marks) -> PostResult
    {
        node.fill(task, marks)
        if publish(node) { return .posted }
        let task = node.moveTask()
        takeBack(node)
        return .closed(task)
    }

    /// A node for one task or value of the calling thread's; or why there is none. Contract M1.
    enum Reservation { case node(TaskNode, TaskNode.Marks), full, closed }

    /// What most posts need, and no more: an unbounded mailbox, and a node at hand. Nil where it takes more than that.
    ///
    /// - Parameter pushing: nil too on this shard itself, whose own posts take another way than the mailbox's word.
    @inline(__always)
    func nodeAtHand(pushing: Bool = false) -> TaskNode? {
        if attention.load(ordering: .relaxed) != 0 || credits.isBounded { return nil }
        guard let sender = unsafe Shard.currentUnmanaged else { return ThreadCache.takeAtHand(from: outside) }
        return unsafe sender._withUnsafeGuaranteedRef { sender in
            if sender.core.outside !== outside || pushing && sender.core === self { return nil }
            return sender.nodes.takeAtHand()
        }
    }

    /// As `nodeAtHand`, in all cases.
    @inline(never)
    func reserve() -> Reservation {
        switch admit(1) {
        case .admitted: .node(takeNode(), marks())
        case .spilled: .node(takeNode(), Self.spilledMarks)
        case .full: .full
        case .closed: .closed
        }
    }

    /// A node for one value, marked with what runs it; or why there is none.
    enum Admitted { case node(TaskNode), full, closed }

    @inline(__always)
    func admit(for handler: UInt) -> Admitted {
        guard let node = nodeAtHand() else { return reserve(for: handler) }
        node.mark(handler: handler, [])
        return .node(node)
    }

    /// As `admit`, without a look at what is at hand.
    @inline(never)
    func reserve(for handler: UInt) -> Admitted {
        switch reserve() {
        case .full: return .full
        case .closed: return .closed
        case .node(let node, let marks):
            node.mark(handler: handler, marks)
            return .node(node)
        }
    }

    /// What a node that was admitted has to be marked with.
    func marks() -> TaskNode.Marks {
        var marks: TaskNode.Marks = credits.isBounded ? [.credit] : []
        if noteTime() { marks.insert(.timed) }
        return marks
    }

    /// What a node has to be marked with that waits for room. It is not timed: what it waits for is not the shard.
    static var spilledMarks: TaskNode.Marks { [.credit, .spilled] }

    /// A node for the calling thread to post with. Nodes come home through the target's group: a shard of another group
    /// is a thread like any other here.
    func takeNode() -> TaskNode {
        guard let sender = unsafe Shard.currentUnmanaged else { return ThreadCache.take(from: outside) }
        return unsafe sender._withUnsafeGuaranteedRef {
            $0.core.outside === outside ? $0.nodes.take() : ThreadCache.take(from: outside)
        }
    }

    /// Publishes a node that is filled; false if the word is closed, and then it is still the caller's.
    @inline(__always)
    func publish(_ node: TaskNode) -> Bool { publish(newest: node, oldest: node) }

    /// Publishes a chain of nodes, linked from the newest to the oldest, in one step. Contract M5.
    ///
    /// Contract M4: whoever finds the shard asleep rings, and does nothing after it.
    @inline(__always)
    func publish(newest: TaskNode, oldest: TaskNode) -> Bool {
        if credits.spillLimit > 0, newest.marks.contains(.spilled) { return spill(newest: newest, oldest: oldest) }
        if let sender = unsafe Shard.currentUnmanaged, unsafe sender._withUnsafeGuaranteedRef({ $0.core === self }) {
            // A shard's own posts stand in line behind its present work, without any atomic. Contract M7.
            return unsafe sender._withUnsafeGuaranteedRef { $0.enqueue(newest: newest, oldest: oldest) }
        }
        switch mailbox.push(newest: newest, oldest: oldest) {
        case .pushed: return true
        case .mustRing: return wake()
        case .closed: return false
        }
    }

    /// Contract M4: for the one who found the shard asleep, as the last thing it does.
    @inline(never)
    func wake() -> Bool {
        // The caller's reference to this object keeps the waker alive until its write has returned.
        counters.value.wakesSent.wrappingAdd(1, ordering: .relaxed)
        ring()
        return true
    }

    /// A node that was refused, and whose contents have been moved out.
    func takeBack(_ node: TaskNode) {
        if node.marks.contains(.spilled) {
            credits.returnSpill(1)
        } else if node.marks.contains(.credit) {
            giveBackCredits(1)
        }
        if let sender = Shard.current, sender.core.outside === outside {
            sender.nodes.putBack(node)
        } else {
            ThreadCache.putBack(node, to: outside)
        }
    }

    /// Ends the shard's wait, whatever it waits for.
    func ring() { waker.load()?.signal() }

    func setWaker(_ waker: Waker) { _ = self.waker.storeIfNil(waker) }

    // MARK: Timing posts, now and then. Contract G10.

    // So a post costs nothing more: it looks at `attention` anyway. One node at a time is timed. All is relaxed: the
    // mailbox's word hands the time over with the node.

    /// Asks for the time of the next post. The shard's own thread, and not again before that node has come.
    func askForTime() { attention.bitwiseOr(Self.asksForTime, ordering: .relaxed) }

    /// Whether the calling thread is the one to note when it posts, and has done so.
    private func noteTime() -> Bool {
        guard attention.load(ordering: .relaxed) & Self.asksForTime != 0,
            attention.bitwiseAnd(~Self.asksForTime, ordering: .relaxed).oldValue & Self.asksForTime != 0
        else { return false }
        postedAt.store(clinux_monotonic_ns(), ordering: .relaxed)
        return true
    }

    // MARK: Stopping

    var stopStage: StopStage {
        // Acquiring, with `reach`: what the shard did before it reached the stage is visible.
        StopStage(rawValue: stage.load(ordering: .acquiring)) ?? .running
    }

    func reach(_ stage: StopStage) { self.stage.store(stage.rawValue, ordering: .releasing) }

    private static let refusing: UInt8 = 1
    private static let asksForTime: UInt8 = 2

    /// New tasks are refused; those on their way are still run. Contract G9.
    var isRefusing: Bool { attention.load(ordering: .relaxed) & Self.refusing != 0 }

    /// Contract G9, phase one. The ring is not a post's: the shard may be awake, and then it is one wake too many.
    func requestStop() {
        attention.bitwiseOr(Self.refusing, ordering: .relaxed)
        closeCredits()
        ring()
    }

    /// Tasks are not run any more, only destroyed.
    var isAbandoned: Bool { progress.isAbandoned }

    func abandonTasks() { progress.abandon() }

    /// Closes the box of a shard that missed the deadline. Contract G9.
    func abandon() {
        ending.abandon(mailbox) { count in
            tasksAbandoned.store(UInt64(count + progress.waiting), ordering: .relaxed)
        }
    }

    /// The shard's part, once it has closed its box itself. From here on the number of abandoned tasks is exact.
    func settle(_ backlog: borrowing Backlog) {
        backlog.append(ending.settle())
        if isAbandoned { tasksAbandoned.store(UInt64(backlog.count), ordering: .relaxed) }
    }

    /// What the shard watched when it came to its end, or watches while it does not.
    var watchersOpen: Int {
        stopStage.rawValue < StopStage.closing.rawValue
            ? counters.value.watchers.load(ordering: .relaxed) : watchersAtEnd.load(ordering: .relaxed)
    }
}

/// How far a shard has come on its way out. Contract G9.
public enum StopStage: UInt8, Hashable, Sendable {
    /// It has not noticed that it shall stop: a callback or a task has not returned.
    case running
    /// It runs what it had taken.
    case draining
    /// It releases handlers and closes its loop: a `deinit` has not returned.
    case closing
    case stopped
}
