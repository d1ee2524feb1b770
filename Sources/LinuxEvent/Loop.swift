internal import CLinux

/// One thread's event loop on epoll(7).
///
/// Descriptors, timers, signals and wake-ups are all told to callbacks on the thread that made the loop, one at a
/// time. A loop never owns, closes or duplicates a descriptor of the user's.
///
///     let loop = try Loop()
///     try loop.watch(descriptor, read: { loop, descriptor, watcher in … })
///     loop.after(.milliseconds(50)) { loop, timer in loop.stop() }
///     try loop.run()
///
/// - Owns: an epoll, a timerfd and an eventfd descriptor, all close-on-exec. Contract L5.
/// - Threads: the maker's only; the `waker` and what is documented as Sendable excepted. Contract L1.
/// - Errors: `LoopError`; a failed call changes nothing.
public final class Loop {
    let watchers: WatcherSet
    let timers: TimerQueue
    /// Nil but for a simulation.
    let clock: VirtualClock?
    private var ownWaker: Waker?
    let deferred = Cell(DeferredBlocks())
    /// Beside the blocks, so that a turn without any looks at a word only.
    var hasDeferred = false
    var wakeHandler: ((Loop) -> Void)?
    var wasWoken = false
    var signals: SignalSubscriptions?
    let children: ObservedProcesses
    /// Events of the batch that the last `wait` fetched; dispatched by the next `dispatch`.
    private var batch = 0
    private var isDispatching = false
    /// A stop that no `run` or `runOnce` has ended for yet. Contract L2, L3.
    public var isStopRequested: Bool {
        checkThread()
        return stopRequested
    }
    private var stopRequested = false
    var cachedNow = Instant(nanoseconds: 0)
    var isNowStale = true
    var counters = Counters()

    /// - Throws: EMFILE, ENFILE, ENOMEM and the like at any step; nothing is leaked. Contract L11.
    @available(*, noasync, message: "a loop belongs to a thread, and an async function has none (Contract L1)")
    public convenience init() throws(LoopError) { try self.init(clock: nil) }

    /// - Parameter clock: what timers go by instead of the kernel's clock. Such a loop must not wait: no alarm can be
    ///   set to that time.
    @available(*, noasync, message: "a loop belongs to a thread, and an async function has none (Contract L1)")
    package init(clock: VirtualClock?) throws(LoopError) {
        self.clock = clock
        let owner = try LoopOwner()
        watchers = try WatcherSet(owner)
        timers = try TimerQueue(owner, startingAt: clock?.now ?? .now)
        children = ObservedProcesses(owner)
        let waker = try Waker(EventFD())
        ownWaker = waker
        try watchInternal(timers.descriptor) { loop, _, _ in loop.timers.alarmFired() }
        try watchInternal(waker.descriptor) { [unowned waker] loop, _, _ in loop.wake(waker) }
    }

    // In a forked child too: memory and descriptors are the child's own copies, and nothing else is touched.
    deinit { tearDown() }

    /// Wakes this loop from any thread. After `close()` a waker that wakes nobody. Contract E2.
    public var waker: Waker {
        checkThread()
        return ownWaker ?? .ofNobody
    }

    // MARK: Running

    /// Turns until `stop()`; waits also when there is nothing to watch. Contract L2, L3.
    @available(*, noasync, message: "a loop belongs to a thread, and an async function has none (Contract L1)")
    public func run() throws(LoopError) {
        try enter()
        while !consumeStop() { try turn() }
    }

    /// One turn that did something, or none within the timeout. Contract L2, L7, L8.
    ///
    /// - Parameter timeout: nil waits without a limit; zero or less does not wait. Nanoseconds count.
    @available(*, noasync, message: "a loop belongs to a thread, and an async function has none (Contract L1)")
    @discardableResult
    public func runOnce(timeout: Duration? = nil) throws(LoopError) -> Turn {
        let limit = try self.limit(timeout)
        while true {
            try wait(until: limit)
            let turn = try dispatch()
            // A wait may end for the loop's own sake: the alarm of a timer that was cancelled, for one.
            if turn.didSomething || wasWoken || limit.hasPassed { return turn }
        }
    }

    /// The first half of a turn: fetches events, waiting for the first if need be. Contract L15.
    ///
    /// It does not wait when there is other work than events, such as a due timer or a deferred block.
    /// - Returns: how many events wait for `dispatch()`, the loop's own among them.
    @available(*, noasync, message: "a loop belongs to a thread, and an async function has none (Contract L1)")
    @discardableResult
    public func wait(timeout: Duration? = nil) throws(LoopError) -> Int {
        try wait(until: limit(timeout))
        return batch
    }

    /// The second half of a turn: events in the kernel's order, due timers, deferred blocks, and the changes of
    /// interest that they made. Contract L15.
    @available(*, noasync, message: "a loop belongs to a thread, and an async function has none (Contract L1)")
    @discardableResult
    public func dispatch() throws(LoopError) -> Turn {
        try enter()
        let turn = dispatchBatch()
        return Turn(events: turn.events, timers: turn.timers, deferred: turn.deferred, stopped: consumeStop())
    }

    /// Ends `run()` after the turn in progress, whole. Before a `run()`, that one ends at once. Contract L2, L3.
    public func stop() {
        if isForeign { return }
        stopRequested = true
        noteWork()
    }

    /// One turn of `run`.
    private func turn() throws(LoopError) {
        try wait(until: .none)
        _ = dispatchBatch()
    }

    private func consumeStop() -> Bool {
        guard stopRequested else { return false }
        stopRequested = false
        tellOuter()
        return true
    }

    /// Walks the batch in the kernel's order. Contract L15.
    private func dispatchBatch() -> Turn {
        isDispatching = true
        wasWoken = false
        // What is due now runs after the events; what they schedule, were it due at once, in the next turn. Contract
        // T2.
        let hasTimers = timers.hasAny
        if hasTimers { timers.collect(now.nanoseconds) }
        let internalEvents = counters.internalEvents
        let fetched = batch
        for index in 0..<fetched {
            let event = watchers.batch.event(index)
            deliver(event.events, to: event.token)
        }
        let turn = Turn(
            events: fetched - Int(counters.internalEvents - internalEvents),
            timers: hasTimers ? runDueTimers() : 0, deferred: hasDeferred ? runDeferred() : 0, stopped: false)
        counters.turns += 1
        counters.events += UInt64(fetched)
        watchers.turnsToAudit &-= 1
        if watchers.turnsToAudit == 0 { watchers.audit(fetched) }
        batch = 0
        watchers.finishTurn()
        isDispatching = false
        if watchers.outer != nil { tellOuter() }
        return turn
    }

    // MARK: Waiting

    private func limit(_ timeout: Duration?) throws(LoopError) -> WaitLimit {
        guard let timeout else { return .none }
        return timeout <= .zero ? .now : .until(time.advanced(by: timeout))
    }

    /// Work that the kernel does not know of: the next wait must not block. Contract L6, L13.
    @inline(__always)
    var hasWork: Bool {
        stopRequested || hasDeferred || timers.hasLeftovers || watchers.hasReleases
    }

    private func wait(until limit: WaitLimit) throws(LoopError) {
        try enter()
        guard !watchers.isInTurn else { return }  // a batch is waiting for dispatch()
        let blocks = limit.blocks && !hasWork
        let isAlarmed = blocks ? try timers.arm(limit) : false
        batch = try watchers.backend.wait(into: watchers.batch, blocking: blocks && !isAlarmed)
        watchers.isInTurn = true
        watchers.turn &+= 1
        isNowStale = true
    }

    /// Contract L1, L4, L14, at the door of every step.
    private func enter() throws(LoopError) {
        if isForeign { throw .forked }
        if isDispatching { throw .nestedTurn }
        if watchers.isClosed { throw .closed }
    }

    @inline(__always)
    var isForeign: Bool { watchers.owner.isForeign }

    /// For what touches nothing that a forked child shares with its parent.
    @inline(__always)
    func checkThread() { _ = isForeign }

    // MARK: Time

    /// The time at which this turn began, or of the last `updateNow()`. Contract T8.
    public var now: Instant {
        checkThread()
        if isNowStale { refreshNow() }
        return cachedNow
    }

    /// Reads the clock for the rest of this turn. Contract T8.
    public func updateNow() {
        checkThread()
        refreshNow()
    }

    func refreshNow() {
        cachedNow = time
        isNowStale = false
    }

    // MARK: Insight

    /// A descriptor for another loop's set: readable when a turn has work. That loop then calls
    /// `runOnce(timeout: .zero)`. It keeps its number for life and stays the loop's. Contract L6.
    public var descriptor: CInt {
        get throws(LoopError) {
            if isForeign { throw .forked }
            if watchers.isClosed { throw .closed }
            if let outer = watchers.outer { return outer.descriptor }
            let made = try OuterEpoll(watchers.backend)
            try timers.armForOthers()
            watchers.outer = made
            made.tell(hasWork: hasWork)
            return made.descriptor
        }
    }

    /// Tells a foreign loop of work that arose outside a turn. Contract L6.
    @inline(__always)
    func noteWork() {
        if watchers.outer != nil, !watchers.isInTurn { tellOuter() }
    }

    @inline(never)
    private func tellOuter() {
        guard let outer = watchers.outer else { return }
        // Without an alarm nothing would end the other's wait in time: so it is told to turn us, and we try again then.
        let isArmed = (try? timers.armForOthers()) != nil
        outer.tell(hasWork: hasWork || !isArmed)
    }

    // MARK: The end

    /// Ends every watcher and timer, releases their handlers, closes the loop's own descriptors. Idempotent.
    ///
    /// - Throws: `.insideCallback` from a callback of this loop. Contract L14.
    public func close() throws(LoopError) {
        if isForeign { throw .forked }
        if isDispatching { throw .insideCallback }
        tearDown()
    }

    private func tearDown() {
        guard !watchers.isClosed else { return }
        // Each is taken out first and released after: a release may run user code, which may call this loop.
        let ending = (signals, deferred.value, wakeHandler)
        watchers.close()  // the first, for it makes every later call refuse
        signals?.close()
        children.close()
        timers.close()
        (signals, deferred.value, wakeHandler, ownWaker) = (nil, DeferredBlocks(), nil, nil)
        withExtendedLifetime(ending) {}
    }
}

@available(*, unavailable)
extension Loop: Sendable {}

/// Until when a wait may last.
enum WaitLimit {
    case none, now
    case until(Instant)

    var blocks: Bool { if case .now = self { false } else { true } }

    var hasPassed: Bool {
        switch self {
        case .none: false
        case .now: true
        case .until(let deadline): Instant.now >= deadline
        }
    }
}

/// What one turn did. Contract L2.
public struct Turn: Hashable, Sendable {
    /// Events of the user's descriptors, also those whose watcher was gone by then.
    public let events: Int
    /// Timers run.
    public let timers: Int
    /// Deferred blocks run.
    public let deferred: Int
    /// A `stop()` was pending, and this turn ended because of it.
    public let stopped: Bool

    var didSomething: Bool { stopped || events + timers + deferred > 0 }
}
