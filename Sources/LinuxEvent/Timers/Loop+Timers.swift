/// A scheduled timer: a handle, to be copied and kept at will. A handle of the past does nothing. Contract T4.
///
/// - Threads: the loop's only. Contract L1.
public struct Timer: Hashable {
    let queue: TimerQueue
    let index: TimerIndex
    let generation: UInt64

    private var node: TimerReference? { queue.owner.isForeign ? nil : queue.node(index, generation) }

    /// It will run, or run again.
    public var isScheduled: Bool { node != nil }

    /// When it runs next; nil when it will not.
    public var deadline: Instant? { node.map { Instant(nanoseconds: $0.value.deadline) } }

    /// In the handler of a repeating timer: how many periods went by unserved and are part of this call; 0 if it is on
    /// time. Contract T6.
    public var missedPeriods: Int { node.map { Int($0.value.missed) } ?? 0 }

    /// It will not run again. Exact also among timers that are due in the same turn. Contract T4.
    ///
    /// - Returns: whether that prevented a run.
    @discardableResult
    public func cancel() -> Bool {
        if queue.owner.isForeign { return false }
        return queue.cancel(index, generation)
    }

    public static func == (left: Timer, right: Timer) -> Bool {
        left.generation == right.generation && left.queue === right.queue
    }

    public func hash(into hasher: inout Hasher) { hasher.combine(generation) }
}

@available(*, unavailable)
extension Timer: Sendable {}

extension Loop {
    /// Runs a handler once, no earlier than `delay` from now; from this moment, not from the turn's cached time.
    ///
    /// Zero and less run it in the next turn, never at once. A delay too long for the clock never comes. Contract T2,
    /// T5, T7.
    @discardableResult
    public func after(_ delay: Duration, _ handler: @escaping (_ loop: Loop, _ timer: Timer) -> Void) -> Timer {
        schedule(time.advanced(by: delay), handler)
    }

    /// Runs a handler once, no earlier than `deadline`. One that has passed runs in the next turn. Contract T2, T8.
    @discardableResult
    public func at(_ deadline: Instant, _ handler: @escaping (_ loop: Loop, _ timer: Timer) -> Void) -> Timer {
        schedule(deadline, handler)
    }

    /// Runs a handler again and again, `interval` from now and then on the grid that this makes: no drift. A period
    /// that could not be served is part of the next call, which can read how many there were. Contract T6.
    ///
    /// - Throws: `.invalidInterval` for zero and less. Contract T2.
    @discardableResult
    public func every(
        _ interval: Duration, _ handler: @escaping (_ loop: Loop, _ timer: Timer) -> Void
    ) throws(LoopError) -> Timer {
        if isForeign { throw .forked }
        let nanoseconds = interval.nanoseconds
        guard nanoseconds > 0 else { throw .invalidInterval(interval) }
        return schedule(time.advanced(by: interval), interval: UInt64(clamping: nanoseconds), handler)
    }

    /// Gives a timer that is scheduled another time: as if it were cancelled and scheduled anew with the same handler,
    /// but the handle stays good, and it costs half as much. One that repeats goes on from there. Contract T9.
    ///
    /// - Returns: whether it was scheduled; if not, nothing happens. A timer that runs once is not, in its own handler.
    @discardableResult
    public func reschedule(_ timer: Timer, at deadline: Instant) -> Bool {
        guard !isForeign, timer.queue === timers,
            timers.reschedule(timer.index, timer.generation, at: deadline.nanoseconds)
        else { return false }
        noteWork()
        return true
    }

    /// As the one with a deadline, for `delay` from now. Contract T9.
    @discardableResult
    public func reschedule(_ timer: Timer, after delay: Duration) -> Bool {
        reschedule(timer, at: time.advanced(by: delay))
    }

    private func schedule(
        _ deadline: Instant, interval: UInt64 = 0, _ handler: @escaping TimerHandler
    ) -> Timer {
        guard !isForeign, !timers.isClosed else { return Timer(queue: timers, index: .none, generation: 0) }
        let timer = timers.schedule(deadline.nanoseconds, interval: interval, handler)
        noteWork()
        return timer
    }

    /// Runs what was due when this turn began, and no more than the budget. Contract L13, L15, T5.
    func runDueTimers() -> Int {
        let now = cachedNow.nanoseconds
        var ran = 0
        while ran < Budget.timers, let call = timers.takeDue(now) {
            call.handler.run(self, Timer(queue: timers, index: call.index, generation: call.generation))
            timers.takeBack(call)
            ran += 1
        }
        counters.timersFired += UInt64(ran)
        return ran
    }
}
