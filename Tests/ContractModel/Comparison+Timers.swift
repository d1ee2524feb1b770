import LinuxEvent
import TestSupport

/// What the contract says of one timer.
final class TimerModel {
    var handle: Timer?
    var deadline: UInt64
    /// Of a repeating one.
    let interval: UInt64?
    /// The turn that it was made in; nil: outside one.
    let madeIn: Int?
    /// It was due when it was made, so it is the next turn's.
    let isDueAtOnce: Bool
    /// Made after `wait` and before `dispatch`.
    var isFromBetween = false
    /// What it does; nil: nothing.
    let act: Act?
    /// No act may cancel it: a run() ends by it.
    let isProtected: Bool
    let ended = Tracker.Count()
    /// Of equal deadlines the lower number comes first. Contract T3.
    let sequence: Int
    var isLive = true
    var lastRan = 0
    /// Its handler runs now.
    var isRunning = false

    init(
        sequence: Int, deadline: UInt64, interval: UInt64?, madeIn: Int?, isDueAtOnce: Bool, act: Act?,
        isProtected: Bool
    ) {
        (self.deadline, self.interval, self.madeIn, self.act) = (deadline, interval, madeIn, act)
        (self.sequence, self.isDueAtOnce, self.isProtected) = (sequence, isDueAtOnce, isProtected)
    }

    /// Whether a turn that began at that time has to run it.
    func mustRun(_ turn: Int, _ began: UInt64) -> Bool {
        isLive && lastRan != turn && madeIn != turn && deadline <= began
    }

    func checkHandle(_ comparison: Comparison) {
        guard let handle else { return }
        comparison.check(handle.isScheduled == isLive, "T4 isScheduled is \(handle.isScheduled)")
        comparison.check(handle.deadline?.nanoseconds == (isLive ? deadline : nil), "T4 a timer's deadline has changed")
    }

    func checkRelease(_ comparison: Comparison) {
        comparison.check(ended.ended == (isLive ? 0 : 1), "T4 a timer's handler was released \(ended.ended) times")
    }
}

extension Comparison {
    func performOnTimers(_ act: Act) -> Bool {
        switch act.kind {
        case .after: after(act.operand)
        case .at: at(act.operand)
        case .every: every(act.operand)
        case .cancelTimer:
            let candidates = timers.filter { !$0.isProtected }
            guard !candidates.isEmpty else { return false }
            cancel(candidates[Int(act.subject) % candidates.count])
        default: Pause.microseconds(100)
        }
        return true
    }

    // MARK: Making

    private static let hour: UInt64 = 3_600_000_000_000

    private func after(_ operand: UInt8) {
        let delays: [Duration] = [
            .zero, .seconds(-3), .microseconds(30), .microseconds(200), .seconds(3_600), .seconds(Int64.max),
        ]
        let delay = delays[Int(operand)]
        let nanoseconds: UInt64 = [0, 0, 30_000, 200_000, Comparison.hour, .max][Int(operand)]
        schedule(nanoseconds == 0, saturating: nanoseconds) { handler in driven.loop.after(delay, handler) }
    }

    private func at(_ operand: UInt8) {
        let now = Clock.monotonic()
        let deadline: UInt64 = [
            0, now - 1_000_000, now + 30_000, now + 200_000, now + Comparison.hour, .max,
        ][Int(operand)]
        let timer = add(deadline, nil, isDueAtOnce: deadline <= now, nil)
        hand(timer, driven.at(Instant(nanoseconds: deadline), handler(timer)))
    }

    private func every(_ operand: UInt8) {
        let interval: UInt64 = [0, 0, 30_000, 200_000, Comparison.hour][Int(operand)]
        let asked: Duration = operand == 1 ? .seconds(-1) : .nanoseconds(Int64(interval))
        if interval == 0 {
            let result = outcome { () throws(LoopError) in _ = try loop.every(asked) { _, _ in } }
            check(result.error == .invalidInterval(asked), "T2 every(\(asked)) came to \(result)")
            situations.note(.invalidInterval)
            return
        }
        schedule(false, saturating: interval, interval: interval) { handler in
            (try? loop.every(asked, handler)) ?? loop.after(asked, handler)
        }
    }

    /// A timer of delay zero that does one act.
    func addTimer(_ act: Act, isProtected: Bool = false) {
        schedule(true, saturating: 0, act: act, isProtected: isProtected) { handler in loop.after(.zero, handler) }
    }

    /// Contract T2: the delay counts from the call.
    private func schedule(
        _ isDueAtOnce: Bool, saturating delay: UInt64, interval: UInt64? = nil, act: Act? = nil,
        isProtected: Bool = false, _ body: (@escaping (Loop, Timer) -> Void) -> Timer
    ) {
        func sum(_ time: UInt64) -> UInt64 {
            let (sum, overflow) = time.addingReportingOverflow(delay)
            return overflow ? .max : sum
        }
        let timer = add(0, interval, isDueAtOnce: isDueAtOnce, act, isProtected: isProtected)
        let before = Clock.monotonic()
        let handle = body(handler(timer))
        let after = Clock.monotonic()
        guard let deadline = handle.deadline?.nanoseconds else { return fail("T2 a new timer has no deadline") }
        check(
            deadline >= sum(before) && deadline <= sum(after) || isDueAtOnce && deadline <= after,
            "T2 the deadline of a delay of \(delay) at \(before) is \(deadline)")
        timer.deadline = deadline
        hand(timer, handle)
    }

    private func add(
        _ deadline: UInt64, _ interval: UInt64?, isDueAtOnce: Bool, _ act: Act?, isProtected: Bool = false
    ) -> TimerModel {
        timersMade += 1
        let timer = TimerModel(
            sequence: timersMade, deadline: deadline, interval: interval, madeIn: phase == .outside ? nil : turn,
            isDueAtOnce: isDueAtOnce, act: act, isProtected: isProtected)
        timer.isFromBetween = phase != .outside && depth == 0
        if isDueAtOnce, depth > 0 { situations.note(.zeroInCallback) }
        if phase == .timers, depth > 0 { situations.note(.timerByTimer) }
        return timer
    }

    private func hand(_ timer: TimerModel, _ handle: Timer) {
        timer.handle = handle
        timers.append(timer)
        timer.checkHandle(self)
    }

    private func handler(_ timer: TimerModel) -> (Loop, Timer) -> Void {
        let tracker = Tracker(timer.ended)
        return { [unowned self, unowned timer] loop, handle in
            tracker.touch()
            self.ran(timer, loop, handle)
        }
    }

    // MARK: Running and cancelling

    private func ran(_ timer: TimerModel, _ loop: Loop, _ handle: Timer) {
        guard divergence == nil else { return }
        note { "  timer \(timer.deadline)" }
        let now = Clock.monotonic()
        situations.callbacks += 1
        situations.note(.timerRan)
        guard timer.isLive else { return fail("T4 a timer ran after its end") }
        guard phase != .outside, phase != .deferred, depth == 0, run.isDispatching else {
            return fail("L15 a timer ran outside the timers of a turn: \(phase), \(depth)")
        }
        closeEvents()
        check(loop === self.loop && handle == timer.handle, "T2 a timer's handler got another loop or timer")
        check(now >= timer.deadline, "T3 a timer ran \(timer.deadline &- now) ns early")
        check(loop.now.nanoseconds >= timer.deadline, "T8 a timer ran before the loop's own time")
        check(timer.lastRan != turn, "T5 a timer ran twice in a turn")
        // One that was made between the halves of a turn may be of that turn: the contract leaves it open.
        check(
            timer.madeIn != turn || !timer.isDueAtOnce || timer.isFromBetween,
            "T2 a timer that was due when it was made ran in the same turn")
        for other in timers where other.isLive && other !== timer && other.lastRan != turn && other.madeIn != turn {
            if other.deadline < timer.deadline { fail("T3 a timer of \(other.deadline) waits while a later one runs") }
            if other.deadline == timer.deadline, other.interval == nil, timer.interval == nil {
                situations.note(.equalDeadlines)
                check(other.sequence > timer.sequence, "T3 of equal deadlines the later scheduled one ran first")
            }
        }
        timer.lastRan = turn
        oldAlarms.append((timer.deadline, turn))
        run.timers += 1
        fired += 1
        if let interval = timer.interval {
            repeated(timer, handle, interval, now)
        } else {
            timer.isLive = false
        }
        timer.checkHandle(self)
        timer.isRunning = true
        depth += 1
        if let act = timer.act { perform(act) }
        if timer.interval != nil { performPlanned(.tick) }
        depth -= 1
        timer.isRunning = false
        check(timer.ended.ended == 0, "T4 a timer's handler was released while it ran")
    }

    /// Contract T6: on the grid, and what was missed is counted.
    private func repeated(_ timer: TimerModel, _ handle: Timer, _ interval: UInt64, _ now: UInt64) {
        situations.note(.repeated)
        let missed = handle.missedPeriods
        if missed > 0 { situations.note(.missed) }
        // The loop's idea of the time lies between the turn's beginning and now.
        let least = run.began > timer.deadline ? (run.began - timer.deadline) / interval : 0
        let most = (now - timer.deadline) / interval
        check(
            missed >= Int(least) && missed <= Int(most), "T6 \(missed) periods missed, by the model \(least) to \(most)"
        )
        timer.deadline += (UInt64(max(missed, 0)) + 1) * interval
    }

    /// Contract T4.
    private func cancel(_ timer: TimerModel) {
        guard let handle = timer.handle else { return }
        if timer.isLive, timer.isRunning {
            situations.note(.cancelledItself)
        } else if phase == .timers || phase == .events, timer.mustRun(turn, run.began) {
            situations.note(.cancelledInBatch)
        }
        check(handle.cancel() == timer.isLive, "T4 cancel() of a timer did not return \(timer.isLive)")
        timer.isLive = false
        oldAlarms.append((timer.deadline, turn))
        timer.checkHandle(self)
        if !timer.isRunning { timer.checkRelease(self) }
    }
}
