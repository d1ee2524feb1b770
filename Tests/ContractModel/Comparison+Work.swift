import Glibc
import LinuxEvent
import TestSupport

/// A block given to `defer`.
final class DeferredModel {
    let act: Act?
    let ended = Tracker.Count()

    init(_ act: Act?) { self.act = act }
}

/// What the contract says of the loop's waker. Contract E2.
struct WakerModel {
    enum Pending { case no, maybe, yes }

    /// A signal for the next fetch.
    var pending = Pending.no
    /// In the present batch.
    var fetched = Pending.no
    var hasHandler = false
    /// It ran in this turn.
    var ran = false
    /// At some moment since the fetch there was no handler.
    var lapsed = false
    var signals = 0
    var ended = Tracker.Count()
}

/// What the contract says of one counter. Contract E1.
final class CounterModel {
    var handle: Event?
    var value: UInt64 = 0
    var isLive = true
    var isFetched = false
    var signals = 0
    /// More was added than it can hold, so it may hold more than `value`.
    var isOverfull = false
    let ended = Tracker.Count()
}

extension Comparison {
    func performOnLoop(_ act: Act) -> Bool {
        switch act.kind {
        case .defer: addDeferred(nil)
        case .stop:
            loop.stop()
            isStopRequested = true
            check(loop.isStopRequested, "L3 isStopRequested is false after stop()")
            situations.note(phase == .outside ? .stopBefore : .stopInTurn)
        case .wake: wake()
        case .onWake: setWakeHandler(act.operand == 0)
        case .counter: return addCounter()
        case .signal, .cancelCounter, .internals:
            guard !counters.isEmpty else { return false }
            let counter = counters[Int(act.subject) % counters.count]
            switch act.kind {
            case .signal: signal(counter, act.operand)
            case .cancelCounter: cancel(counter)
            default: return touchInternal(counter, act.operand)
            }
        case .updateNow: updateNow()
        default: return checkDescriptor()
        }
        return true
    }

    // MARK: Deferred blocks, L10

    func addDeferred(_ act: Act?) {
        if phase == .deferred, depth > 0 { situations.note(.deferredByDeferred) }
        let block = DeferredModel(act)
        let tracker = Tracker(block.ended)
        deferred.append(block)
        driven.defer { [unowned self] loop in
            tracker.touch()
            self.ran(block, loop)
        }
    }

    private func ran(_ block: DeferredModel, _ loop: Loop) {
        guard divergence == nil else { return }
        note { "  deferred block" }
        situations.callbacks += 1
        guard phase != .outside, depth == 0, run.isDispatching else {
            return fail("L10 a deferred block ran outside the end of a turn: \(phase), \(depth)")
        }
        closeTimers()
        guard let left = run.blocks, left > 0 else {
            return fail("L10 a block deferred by a block ran in the same turn")
        }
        check(deferred.first === block, "L10 deferred blocks ran out of order, or one of them twice")
        check(loop === self.loop, "L10 a deferred block got another loop")
        if !deferred.isEmpty { deferred.removeFirst() }
        run.blocks = left - 1
        run.deferred += 1
        depth += 1
        if let act = block.act { perform(act) }
        depth -= 1
        check(block.ended.ended == 0, "L10 a deferred block was released while it ran")
        run.finished.append(block)
    }

    // MARK: The waker, E2

    private func wake() {
        loop.waker.signal()
        waker.signals += 1
        // One that comes before the handler of this turn may be seen with it.
        let isSeen = phase == .events && waker.fetched == .yes && !waker.ran
        if waker.pending != .yes { waker.pending = isSeen ? .maybe : .yes }
    }

    private func setWakeHandler(_ isSet: Bool) {
        let old = waker.hasHandler ? waker.ended : nil
        waker.ended = Tracker.Count()
        waker.hasHandler = isSet
        if isSet {
            let ended = waker.ended
            let tracker = Tracker(ended)
            loop.onWake { [unowned self] loop in
                tracker.touch()
                self.woke(ended, loop)
            }
        } else {
            loop.onWake(nil)
            waker.lapsed = true
            if old != nil { situations.note(.handlerRemoved) }
        }
        if let old, depth == 0 { check(old.ended == 1, "E2 a handler that was replaced was not released") }
    }

    private func woke(_ handler: Tracker.Count, _ loop: Loop) {
        guard divergence == nil else { return }
        note { "  wake" }
        situations.callbacks += 1
        guard phase == .events, depth == 0, run.isDispatching else {
            return fail("L15 a wake outside the events: \(phase)")
        }
        closeCurrent()
        noteRebuild()
        check(handler === waker.ended, "E2 a handler ran that had been replaced or removed")
        check(waker.fetched != .no, "E2 the wake handler ran without a signal")
        check(!waker.ran, "E2 the wake handler ran twice in a turn")
        waker.ran = true
        situations.note(waker.signals > 1 ? .wokeOnce : .woke)
        waker.signals = 0
        depth += 1
        performPlanned(.wake)
        depth -= 1
    }

    // MARK: Counters, E1

    private func addCounter() -> Bool {
        guard counters.count < 3 else { return false }
        let counter = CounterModel()
        let tracker = Tracker(counter.ended)
        let result = outcome { () throws(LoopError) in
            try loop.eventfd { [unowned self] loop, event in
                tracker.touch()
                self.counted(counter, loop, event)
            }
        }
        guard let handle = result.value else {
            fail("E1 eventfd threw \(result)")
            return false
        }
        counter.handle = handle
        counters.append(counter)
        check(handle.isActive, "E1 a new counter is not active")
        // A number that a watched descriptor had been closed under is the loop's own now.
        if let closed = present(handle.descriptor) {
            check(closed.isDoubtful, "L5 the loop's counter has the number of an open descriptor")
            end(closed)
        }
        return true
    }

    private func signal(_ counter: CounterModel, _ operand: UInt8) {
        guard let handle = counter.handle else { return }
        let most = UInt64.max - 1
        let increment = operand == 3 ? most : UInt64(operand)
        handle.signaller.signal(increment)
        let (sum, overflow) = counter.value.addingReportingOverflow(increment)
        // What does not fit is not added, in part or as a whole.
        if overflow || sum > most { counter.isOverfull = true } else { counter.value = sum }
        if increment > 0 { counter.signals += 1 }
        if counter.value == most { situations.note(.counterFull) }
    }

    private func counted(_ counter: CounterModel, _ loop: Loop, _ event: Event) {
        guard divergence == nil else { return }
        note { "  counter \(event.count)" }
        situations.callbacks += 1
        guard phase == .events, depth == 0, run.isDispatching else {
            return fail("L15 a counter outside the events: \(phase)")
        }
        closeCurrent()
        check(counter.isLive, "E1 a counter's handler ran after its end")
        check(counter.isFetched, "E1 a counter's handler ran without an event")
        let isRight = event.count == counter.value || counter.isOverfull && event.count > counter.value
        check(isRight, "E1 a counter of \(counter.value) was read as \(event.count)")
        situations.note(.counted)
        if counter.signals > 1 { situations.note(.countedSum) }
        counter.isFetched = false
        counter.value = 0
        counter.signals = 0
        counter.isOverfull = false
        depth += 1
        performPlanned(.counter)
        depth -= 1
    }

    private func cancel(_ counter: CounterModel) {
        guard let handle = counter.handle else { return }
        if depth > 0, counter.isFetched { situations.note(.counterCancelledInBatch) }
        check(handle.cancel() == counter.isLive, "E1 cancel() of a counter did not return \(counter.isLive)")
        check(!handle.isActive, "E1 a cancelled counter is active")
        counter.isLive = false
    }

    /// Contract E3.
    private func touchInternal(_ counter: CounterModel, _ operand: UInt8) -> Bool {
        guard let handle = counter.handle, counter.isLive else { return false }
        let number = handle.descriptor
        let result: Result<Bool, LoopError> =
            operand == 0
            ? outcome { () throws(LoopError) in try loop.watch(number, read: { _, _, _ in }).isActive }
            : outcome { () throws(LoopError) in try loop.unwatch(number) }
        check(result.error == .internalDescriptor(number), "E3 the loop's own \(number) was given away: \(result)")
        check(handle.isActive, "E3 a call that was refused has ended a counter")
        situations.note(.refusedInternal)
        return true
    }

    // MARK: Events that are no user's descriptor's

    func fetchOthers() {
        waker.fetched = waker.pending
        waker.pending = .no
        waker.ran = false
        waker.lapsed = !waker.hasHandler
        for counter in counters {
            counter.isFetched = counter.isLive && counter.value > 0
            if counter.isFetched { run.asked += 1 }
        }
        fetchChildren()
        run.others = run.asked + (waker.fetched != .no ? 1 : 0)
    }

    func closeOthers() {
        if waker.fetched == .yes, !waker.ran, !waker.lapsed { fail("E2 the wake handler did not run after a signal") }
        for counter in counters where counter.isLive && counter.isFetched {
            fail("E1 the handler of a counter of \(counter.value) did not run")
        }
        closeChildren()
    }

    // MARK: Time and the loop's descriptor

    /// Contract T8.
    private func updateNow() {
        let before = Clock.monotonic()
        loop.updateNow()
        let now = loop.now.nanoseconds
        check(now >= before && now <= Clock.monotonic(), "T8 now is \(now) after updateNow() at \(before)")
    }

    /// Contract L6.
    private func checkDescriptor() -> Bool {
        let result = outcome { () throws(LoopError) in try loop.descriptor }
        guard let number = result.value else {
            fail("L6 descriptor threw \(result)")
            return false
        }
        check(descriptor == nil || descriptor == number, "L6 the descriptor's number has changed")
        descriptor = number
        guard phase == .outside else { return true }
        for watcher in watchers { notice(watcher) }
        let began = Clock.monotonic()
        let isReady = Readiness.of(number).contains(.readable)
        let now = Clock.monotonic()
        let ready = files.readiness()
        var must = !deferred.isEmpty || isStopRequested || waker.pending == .yes
        var may = waker.pending != .no || hadResidue || !oldAlarms.isEmpty
        for watcher in watchers where !watcher.isDoubtful {
            // The kernel may have yet to disarm it, and does so by an event of which nobody hears. Contract W7.
            if !watcher.isArmed, !ready[watcher.slot].isDisjoint(with: [.error, .hangup]) { may = true }
            switch watcher.wouldCome(ready[watcher.slot]) {
            case true: must = true
            case nil: may = true
            default: break
            }
        }
        for timer in timers where timer.isLive {
            if timer.deadline <= began { must = true }
            if timer.deadline <= now { may = true }
        }
        if counters.contains(where: { $0.isLive && $0.value > 0 }) || isAnyEndUntold { must = true }
        // Where the machine is emulated, the interrupt of an alarm that is set to the past takes a while.
        let isReadyAtOnce = isReady || must && Readiness.of(number, waiting: Effort.atOnce).contains(.readable)
        if must { check(isReadyAtOnce, "L6 a turn has work, and the loop's descriptor is not readable") }
        if !must, !may { check(!isReady, "L6 a turn has no work, and the loop's descriptor is readable") }
        situations.note(isReady ? .readyDescriptor : .restingDescriptor)
        return true
    }
}
