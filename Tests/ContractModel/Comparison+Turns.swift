import LinuxEvent
import TestSupport

/// What the contract says of the turn in progress.
struct TurnModel {
    /// When it began, or a little before.
    var began: UInt64 = 0
    /// The second half has begun.
    var isDispatching = false
    /// What poll(2) said before the fetch, by number.
    var readiness: [CInt: Readiness] = [:]
    /// Watchers with an event in the batch, or perhaps.
    var fetched: [WatcherModel] = []
    var wasRebuilt = false
    /// There was nothing that the turn could do.
    var wasIdle = false
    var timers = 0
    var deferred = 0
    /// Of the deferred blocks, how many are this turn's. Known once the blocks begin.
    var blocks: Int?
    /// Blocks that ran.
    var finished: [DeferredModel] = []
    /// Events of counters and children.
    var asked = 0
    /// The same, and the waker's.
    var others = 0
}

extension Comparison {
    func performTurn(_ act: Act) -> Bool {
        if depth > 0 {
            refuse(act)
            return true
        }
        if phase == .events {
            performBetween(act)
            return true
        }
        switch act.kind {
        case .pump where act.operand == 0: turnOnce(timeout: .zero)
        case .pump:
            wait()
            dispatch()
        case .wait:
            wait()
            situations.note(.between)
        case .run: runUntilStop(act.operand)
        case .linger: linger()
        default: settle()
        }
        return true
    }

    /// A batch waits. Whatever is to begin, it begins with dispatching that, and fetches nothing.
    private func performBetween(_ act: Act) {
        run.isDispatching = true
        switch act.kind {
        case .pump where act.operand == 0:
            let result = outcome { () throws(LoopError) in try loop.runOnce(timeout: .zero) }
            guard let turn = result.value else { return fail("L2 runOnce threw \(result)") }
            endTurn(turn, mustStop: true)
        case .wait:
            run.isDispatching = false
            fetch()
        case .run where !isStopRequested && act.operand != 2:
            addDeferred(Act(.stop))
            runToItsEnd()
        default: dispatch()
        }
    }

    /// Contract L4, L14.
    private func refuse(_ act: Act) {
        let kind = act.kind
        let isClose = kind == .settle || kind == .run && act.operand > 0
        let result: Result<Void, LoopError> =
            switch kind {
            case .pump: outcome { () throws(LoopError) in _ = try loop.runOnce(timeout: .zero) }
            case .wait: outcome { () throws(LoopError) in _ = try loop.wait(timeout: .zero) }
            case .run where !isClose: outcome { () throws(LoopError) in try loop.run() }
            case .linger: outcome { () throws(LoopError) in _ = try loop.dispatch() }
            default: outcome { () throws(LoopError) in try loop.close() }
            }
        check(
            result.error == (isClose ? .insideCallback : .nestedTurn), "L4 L14 \(kind) in a callback came to \(result)")
        situations.note(isClose ? .closeInCallback : .nested)
    }

    // MARK: Ways to turn

    private func turnOnce(timeout: Duration) {
        beginTurn()
        run.isDispatching = true
        run.wasIdle = isIdle
        let result = outcome { () throws(LoopError) in try loop.runOnce(timeout: timeout) }
        guard let turn = result.value else { return fail("L2 runOnce threw \(result)") }
        if run.wasIdle, turn.events + turn.timers + turn.deferred == 0, !turn.stopped {
            let waited = Clock.monotonic() &- run.began
            check(
                waited >= UInt64(timeout.components.attoseconds / 1_000_000_000), "L8 runOnce ended after \(waited) ns")
            if timeout > .zero { situations.note(.waited) }
        }
        endTurn(turn, mustStop: true)
    }

    private func wait() {
        beginTurn()
        fetch()
    }

    private func fetch() {
        let result = outcome { () throws(LoopError) in try loop.wait(timeout: .zero) }
        guard let count = result.value else { return fail("L15 wait threw \(result)") }
        let certain = run.fetched.count { $0.event?.isCertain == true }
        check(count >= certain, "L15 wait fetched \(count) events, there are \(certain)")
    }

    private func dispatch() {
        run.isDispatching = true
        let result = outcome { () throws(LoopError) in try loop.dispatch() }
        guard let turn = result.value else { return fail("L15 dispatch threw \(result)") }
        endTurn(turn, mustStop: false)
    }

    /// Each way makes exactly one turn, or none.
    private func runUntilStop(_ operand: UInt8) {
        situations.note(.ranUntilStop)
        if operand == 2 || isStopRequested {
            // Contract L3: it returns at once, whatever there is to do.
            loop.stop()
            let turns = loop.statistics.turns
            let result = outcome { () throws(LoopError) in try loop.run() }
            check(result.error == nil, "L3 run() threw \(result)")
            check(loop.statistics.turns == turns, "L3 run() after stop() made a turn")
            check(!loop.isStopRequested, "L3 run() did not use the stop up")
            isStopRequested = false
            return
        }
        if operand == 0 { addDeferred(Act(.stop)) } else { addTimer(Act(.stop), isProtected: true) }
        beginTurn()
        runToItsEnd()
    }

    private func runToItsEnd() {
        run.isDispatching = true
        let result = outcome { () throws(LoopError) in try loop.run() }
        check(result.error == nil, "L2 run() threw \(result)")
        endTurn(nil, mustStop: true)
    }

    private func linger() {
        turnOnce(timeout: .microseconds(300))
        // The limit of a wait that ended sooner is an alarm that is still set.
        oldAlarms.append((run.began &+ 400_000, turn))
    }

    /// Contract W9: what was closed under the loop is noticed within 100 ms of activity.
    private func settle() {
        let watched = watchers.contains { $0.isDoubtful && files.isAlive($0.file) }
        guard !hasSettled, watched || !residues.isEmpty else { return turnOnce(timeout: .zero) }
        hasSettled = true
        let mayRebuild = rebuilds == 0
        let start = Clock.monotonic()
        let first = turn
        while divergence == nil, Clock.monotonic() &- start < 130_000_000 || turn < first + 50 {
            turnOnce(timeout: .zero)
            Pause.microseconds(1_000)
        }
        noteRebuild()
        // What was never active may still be there; what was, is gone.
        let ready = files.readiness()
        for watcher in watchers where watcher.isDoubtful && !watcher.traits.isEdge {
            guard let slot = files.files.firstIndex(where: { $0 === watcher.file }) else { continue }
            if files.files[watcher.slot] === watcher.file, files.numbers[watcher.slot] == watcher.number { continue }
            check(
                watcher.wouldCome(ready[slot]) != true, "W9 the watcher of \(watcher.number) was not noticed as closed")
        }
        // And the kernel reports it no more, unless the set had been rebuilt not long before.
        guard mayRebuild, divergence == nil else { return }
        beginTurn()
        run.isDispatching = true
        let result = outcome { () throws(LoopError) in try loop.runOnce(timeout: .zero) }
        guard let turn = result.value else { return fail("L2 runOnce threw \(result)") }
        check(
            turn.events <= run.fetched.count + run.asked,
            "W9 a turn has \(turn.events) events, of which \(run.fetched.count + run.asked) can be explained")
        endTurn(turn, mustStop: true)
    }

    // MARK: The phases of a turn

    /// Just before the kernel is asked. Contract L15.
    private func beginTurn() {
        turn += 1
        situations.turns += 1
        phase = .events
        run = TurnModel()
        for watcher in watchers { notice(watcher) }
        let ready = files.readiness()
        for watcher in watchers {
            var readiness = ready[watcher.slot]
            if watcher.isDoubtful {
                guard files.isAlive(watcher.file) else { continue }
                hadResidue = true
                watcher.mayBeRepeated()
                let slot = files.files.firstIndex { $0 === watcher.file }
                readiness = slot.map { ready[$0] } ?? .everything
            }
            if watcher.file.isRestless { watcher.mayBeRepeated() }
            run.readiness[watcher.number] = readiness
            watcher.fetch(readiness, isCertain: !watcher.isDoubtful)
            if readiness == .everything { watcher.event?.isVague = true }
            if watcher.event != nil { run.fetched.append(watcher) }
        }
        fetchOthers()
        run.began = Clock.monotonic()
    }

    /// Nothing that this turn could do is known of, so it has to wait.
    private var isIdle: Bool {
        run.fetched.isEmpty && run.others == 0 && deferred.isEmpty && residues.isEmpty && !isStopRequested
            && !timers.contains { $0.isLive }
    }

    /// The events are over: a timer or a block runs, or the turn ends.
    func closeEvents() {
        guard phase == .events else { return }
        closeCurrent()
        phase = .timers
        for watcher in run.fetched {
            guard let event = watcher.event, !event.isOver else { continue }
            if watcher.isLive, !watcher.isDoubtful {
                if event.isCertain {
                    let must = watcher.steps(event.mask).subtracting(event.lapsed)
                    if let step = Steps.inOrder.first(where: { must.contains($0) }) {
                        fail("W D \(step.name) of \(watcher.number) did not run; its event was \(event.mask)")
                    }
                    if !watcher.steps(event.mask).isDisjoint(with: event.possible) { situations.note(.dropByDisable) }
                }
                park(watcher, event)
            }
            watcher.close()
        }
        closeOthers()
    }

    /// Contract W10: an event that nobody could take, and that would come again and again.
    private func park(_ watcher: WatcherModel, _ event: FetchedEvent) {
        guard !event.mask.isDisjoint(with: [.error, .hangup]), let handle = watcher.handle else { return }
        if event.isCertain, event.possible.isEmpty, !event.mayHaveComeBack {
            check(handle.isParked, "W10 nobody takes \(event.mask) of \(watcher.number), and it is not parked")
            watcher.isParked = true
        } else {
            // Some of the time somebody could: it may have come then or not. Or it came, and a change brought it back.
            watcher.isParked = handle.isParked
            if event.mayHaveComeBack, !watcher.isParked { watcher.mayBeRepeated() }
        }
        if watcher.isParked {
            situations.note(watcher.traits.isEdge ? .parkedEdge : .parked)
            if watcher.traits.isOneshot { situations.note(.parkedDisarmsNot) }
        }
    }

    func closeTimers() {
        closeEvents()
        guard phase == .timers else { return }
        for timer in timers where timer.isLive && timer.mustRun(turn, run.began) {
            fail("T3 a timer that was due at \(timer.deadline) did not run in a turn that began at \(run.began)")
        }
        phase = .deferred
        run.blocks = deferred.count
    }

    private func endTurn(_ result: Turn?, mustStop: Bool) {
        closeTimers()
        check(run.blocks == 0, "L10 \(run.blocks ?? 0) deferred blocks did not run in their turn")
        if let result { check(result) }
        checkStale()
        checkStop(result, mustStop: mustStop)
        for watcher in watchers where !watcher.isDoubtful {
            let wasChanged = watcher.wasChanged
            if !watcher.tell(), wasChanged { situations.note(.undoneInTurn) }
        }
        phase = .outside
        noteRebuild()
        for watcher in watchers { notice(watcher) }
        checkStates()
        checkStatistics()
        checkReleases()
    }

    private func check(_ result: Turn) {
        check(result.timers == run.timers, "L2 Turn.timers is \(result.timers), \(run.timers) ran")
        check(result.deferred == run.deferred, "L2 Turn.deferred is \(result.deferred), \(run.deferred) ran")
        // Counters and children are what the user asked for; the waker and the alarm are not.
        let certain = run.fetched.count { $0.event?.isCertain == true } + run.asked
        let possible = run.fetched.count + run.asked
        check(
            result.events >= certain && (result.events <= possible || hadResidue),
            "L2 Turn.events is \(result.events), by the model from \(certain) to \(possible)")
    }

    /// Events whose watcher had ended when their turn came.
    private func checkStale() {
        let total = loop.statistics.staleEvents
        let count = total - staleEvents
        staleEvents = total
        if count > 0 { situations.note(.stale) }
        if hadResidue { return }
        let ended = run.fetched.filter { !$0.isLive }
        // What ended before its turn, and would have run in it.
        let certain = ended.count { watcher in
            guard let event = watcher.event, event.isCertain, event.ran.isEmpty else { return false }
            return !watcher.steps(event.mask).subtracting(event.lapsed).isEmpty
        }
        check(count >= certain, "Statistics.staleEvents grew by \(count), by the model by \(certain) at least")
        // One that was closed under the loop may have ended unseen.
        let possible = run.fetched.count { !$0.isLive || $0.isDoubtful } + run.others
        check(count <= possible, "Statistics.staleEvents grew by \(count), by the model by \(possible) at most")
    }

    private func checkStop(_ result: Turn?, mustStop: Bool) {
        if mustStop {
            if let result { check(result.stopped == isStopRequested, "L2 Turn.stopped is \(result.stopped)") }
            isStopRequested = false
        } else if let result, result.stopped {
            check(isStopRequested, "L2 Turn.stopped is true without a stop")
            isStopRequested = false
        }
        check(loop.isStopRequested == isStopRequested, "L3 isStopRequested is not \(isStopRequested)")
    }

    /// Contract W9: that there was one is counted; it may repeat an edge.
    func noteRebuild() {
        let count = loop.statistics.rebuilds
        guard count > rebuilds else { return }
        check(hadResidue, "W9 the set was rebuilt, and nothing was wrong with it")
        rebuilds = count
        run.wasRebuilt = true
        situations.note(.rebuilt)
        residues.removeAll()
        for watcher in watchers { watcher.mayBeRepeated() }
        // The waker's edge is one of those that may be repeated.
        if waker.fetched == .no { waker.fetched = .maybe }
        if waker.pending == .no { waker.pending = .maybe }
    }

    // MARK: At rest

    private func checkStates() {
        for watcher in watchers where !watcher.isDoubtful {
            guard let handle = watcher.handle else { continue }
            check(handle.isActive, "L5 the watcher of \(watcher.number) ended unasked")
            check(handle.interest == watcher.interest, "W5 interest of \(watcher.number) is \(handle.interest)")
            check(handle.isArmed == watcher.isArmed, "W7 isArmed of \(watcher.number) is \(handle.isArmed)")
            check(handle.isParked == watcher.isParked, "W10 isParked of \(watcher.number) is \(handle.isParked)")
        }
        for timer in timers { timer.checkHandle(self) }
    }

    func checkStatistics() {
        let statistics = loop.statistics
        let parked = watchers.count { $0.isParked }
        let live = timers.count { $0.isLive }
        check(
            statistics.watchers == watchers.count,
            "Statistics.watchers is \(statistics.watchers), not \(watchers.count)")
        check(statistics.parked == parked, "Statistics.parked is \(statistics.parked), not \(parked)")
        check(statistics.timersLive == live, "Statistics.timersLive is \(statistics.timersLive), not \(live)")
        check(statistics.timersFired == fired, "Statistics.timersFired is \(statistics.timersFired), not \(fired)")
        // Where the loop's own descriptors take such numbers, it need not count them.
        let isCounted = counters.isEmpty && children.isEmpty && descriptor == nil
        check(
            !isCounted || statistics.vanished >= vanished,
            "Statistics.vanished is \(statistics.vanished), \(vanished) were seen")
        if !hadResidue { check(statistics.rebuilds == 0, "Statistics.rebuilds is \(statistics.rebuilds)") }
    }

    func performStatistics() -> Bool {
        if phase == .outside {
            for watcher in watchers { notice(watcher) }
            checkStatistics()
        }
        check(loop.statistics.turns <= UInt64(turn) + 1, "Statistics.turns is \(loop.statistics.turns), not \(turn)")
        return true
    }

    /// Contract W12: what ended before or in this turn has been let go of.
    private func checkReleases() {
        for watcher in dying {
            check(watcher.ended.ended == 1, "W12 the handlers of \(watcher.number) were not released with the turn")
        }
        dying.removeAll()
        for watcher in watchers where !watcher.holdsNothing {
            check(watcher.ended.ended == 0, "W12 the handlers of \(watcher.number), which lives, were released")
        }
        for timer in timers { timer.checkRelease(self) }
        check(run.finished.allSatisfy { $0.ended.ended == 1 }, "L10 a deferred block was not released once it had run")
        timers.removeAll { !$0.isLive }
        oldAlarms.removeAll { $0.deadline <= run.began && $0.turn < turn }
    }
}
