internal import CLinux
internal import LinuxEvent
internal import Synchronization

/// What all threads may touch of one shard. Its thread-bound side is `Shard`.
///
/// - Threads: any, except where a member says otherwise.
final class ShardCore: Sendable {
    let index: Int
    let place: Plan.Place
    let mailbox = Mailbox()
    let credits: Credits
    let pool: NodePool
    let counters = Isolated(ShardCounters())

    /// Set once on the shard's thread, before anyone else can have a reason to ring.
    private let waker = AtomicLazyReference<Waker>()
    /// New tasks are refused from here on; those on their way are still run. Contract G9.
    private let refuses = Atomic<Bool>(false)
    private let stage = Atomic<UInt8>(StopStage.running.rawValue)
    /// Looked at before each task, so alone on its line.
    private let abandoned = Isolated(Atomic<Bool>(false))
    private let ending = Locked(Ending())
    let tasksAbandoned = Atomic<UInt64>(0)
    /// Tasks run after the shard had noticed that it shall stop; and what it still watched then.
    let tasksDrained = Atomic<UInt64>(0)
    let watchersAtEnd = Atomic<Int>(0)
    /// Values that had to die here and could not: the shard had ended.
    let valuesLeaked = Atomic<Int>(0)

    init(_ place: Plan.Place, capacity: Int?) {
        index = place.shard
        self.place = place
        credits = Credits(limit: capacity)
        pool = NodePool(origin: index)
    }

    // MARK: Posting

    /// Contract M1. Whatever is refused is handed back.
    func post(_ task: consuming @escaping ShardTask) -> PostResult {
        if refuses.load(ordering: .relaxed) { return .closed(task) }
        guard credits.take() else { return .full(task) }
        return submit(task, hasCredit: credits.limit != nil)
    }

    /// Past the limit and past the refusal, for what must arrive: only a closed word turns it back.
    func submit(_ task: consuming @escaping ShardTask, hasCredit: Bool = false) -> PostResult {
        guard let sender = unsafe Shard.currentUnmanaged else {
            let node = TaskNode.allocateForeign()
            node.fill(task, hasCredit: hasCredit)
            return push(node) ? .posted : .closed(takeBack(node))
        }
        let node = unsafe sender._withUnsafeGuaranteedRef { $0.takeNode(for: self) }
        node.fill(task, hasCredit: hasCredit)
        // A shard's own posts stand in line behind its present work, without any atomic. Contract M7.
        let isTaken = unsafe sender._withUnsafeGuaranteedRef { $0.core === self ? $0.enqueue(node) : push(node) }
        return isTaken ? .posted : .closed(takeBack(node))
    }

    /// Contract M4: whoever finds the shard asleep rings, and does nothing after it.
    @inline(__always)
    private func push(_ node: TaskNode) -> Bool {
        switch mailbox.push(node) {
        case .pushed: return true
        case .mustRing:
            // The caller's reference to this object keeps the waker alive until its write has returned.
            counters.value.wakesSent.wrappingAdd(1, ordering: .relaxed)
            ring()
            return true
        case .closed: return false
        }
    }

    /// The task of a node that was refused.
    private func takeBack(_ node: TaskNode) -> ShardTask {
        if node.hasCredit { credits.giveBack(1) }
        let task = node.empty()
        if node.origin == TaskNode.foreign { node.freeForeign() } else { Shard.current?.putBack(node) }
        return task
    }

    /// Ends the shard's wait, whatever it waits for.
    func ring() { waker.load()?.signal() }

    func setWaker(_ waker: Waker) { _ = self.waker.storeIfNil(waker) }

    // MARK: Stopping

    var stopStage: StopStage {
        // Acquiring, with `reach`: what the shard did before it reached the stage is visible.
        StopStage(rawValue: stage.load(ordering: .acquiring)) ?? .running
    }

    func reach(_ stage: StopStage) { self.stage.store(stage.rawValue, ordering: .releasing) }

    var isRefusing: Bool { refuses.load(ordering: .relaxed) }

    /// Contract G9, phase one. The ring is not a post's: the shard may be awake, and then it is one wake too many.
    func requestStop() {
        refuses.store(true, ordering: .relaxed)
        ring()
    }

    /// Tasks are not run any more, only destroyed. Relaxed: it is looked at until it is seen, and orders nothing.
    var isAbandoned: Bool { abandoned.value.load(ordering: .relaxed) }

    func abandonTasks() { abandoned.value.store(true, ordering: .relaxed) }

    /// Closes the box of a shard that missed the deadline. What it held is not run any more. It is not destroyed here
    /// either, since it may hold what must die on its own thread: the shard does that if it ever comes back.
    /// Contract G9.
    func abandon() {
        ending.withLock { ending in
            // A second stop that misses its deadline too finds nothing new; a shard that came back needs no help.
            guard !ending.isSettled, !isAbandoned else { return }
            abandonTasks()
            let chain = mailbox.close()
            ending.orphans = chain.firstBits
            let held = UInt64(chain.count) + counters.value.backlog.load(ordering: .relaxed)
            tasksAbandoned.store(held, ordering: .relaxed)
        }
    }

    /// The shard's part, once it has closed its box itself: takes over what `abandon` took out of it. From here on the
    /// number of abandoned tasks is exact.
    func settle(_ backlog: inout TaskChain) {
        let orphans = ending.withLock { ending in
            defer { ending = Ending(isSettled: true) }
            return ending.orphans
        }
        backlog.append(TaskChain(first: orphans))
        if isAbandoned { tasksAbandoned.store(UInt64(backlog.count), ordering: .relaxed) }
    }

    /// What the shard watched when it came to its end, or watches while it does not.
    var watchersOpen: Int {
        stopStage.rawValue < StopStage.closing.rawValue
            ? counters.value.watchers.load(ordering: .relaxed) : watchersAtEnd.load(ordering: .relaxed)
    }

    private struct Ending {
        /// A chain, by the bits of its first node.
        var orphans: UInt = 0
        var isSettled = false
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
