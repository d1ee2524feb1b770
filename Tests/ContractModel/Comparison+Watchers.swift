import Glibc
import LinuxEvent
import TestSupport

extension Comparison {
    func performOnWatchers(_ act: Act) -> Bool {
        let slot = Int(act.subject)
        if act.kind == .old { return performOld(slot, act.operand) }
        let number = files.number(slot)
        switch act.kind {
        case .watch: watch(slot, plain: act.operand)
        case .watchWith: watch(slot, withOptions: act.operand)
        case .unwatch: unwatch(number)
        case .look: look(number)
        default:
            guard let watcher = present(number) else { return false }
            switch act.kind {
            case .interest: setInterest(watcher, Interest(rawValue: act.operand))
            case .turn: turnInterest(watcher, act.operand)
            case .cancel: cancel(watcher)
            case .rearm: rearm(watcher)
            default: return false
            }
        }
        return true
    }

    /// The watcher that the model holds for a number.
    func present(_ number: CInt) -> WatcherModel? { watchers.first { $0.number == number } }

    // MARK: watch

    private func watch(_ slot: Int, plain bits: UInt8) {
        var traits = WatcherModel.Traits()
        func has(_ bit: Int) -> Bool { bits >> bit & 1 == 1 }
        traits.isEdge = has(0)
        traits.isOneshot = has(1)
        traits.hasRead = has(2)
        traits.hasWrite = has(3)
        traits.hasError = has(4)
        traits.drains = has(5)
        watch(slot, traits, DrivenLoop.Request(descriptor: watchable(slot)), withData: has(6))
    }

    private func watch(_ slot: Int, withOptions bits: UInt8) {
        var traits = WatcherModel.Traits()
        func has(_ bit: Int) -> Bool { bits >> bit & 1 == 1 }
        traits.isEdge = has(0)
        traits.isOneshot = has(1)
        traits.isExclusive = has(2)
        traits.hasRead = true
        traits.hasWrite = true
        var request = DrivenLoop.Request(descriptor: watchable(slot))
        request.exclusive = has(2)
        request.priority = has(3)
        request.readHangup = has(4)
        if has(5) {
            var interest: Interest = has(6) ? .read : []
            if has(7) { interest.insert(.write) }
            request.interest = interest
        }
        watch(slot, traits, request, withData: false)
    }

    /// The number of a slot, or one that nobody has.
    private func watchable(_ slot: Int) -> CInt {
        let number = files.number(slot)
        return files.isOpen(slot) || !IO.isOpen(number) ? number : -1
    }

    private func watch(_ slot: Int, _ traits: WatcherModel.Traits, _ plain: DrivenLoop.Request, withData: Bool) {
        let number = plain.descriptor
        var request = plain
        request.edgeTriggered = traits.isEdge
        request.oneshot = traits.isOneshot
        // Contract W1: what there is a handler for, if it was not said otherwise, and what the options ask for.
        var interest: Interest = []
        if traits.hasRead { interest.insert(.read) }
        if traits.hasWrite { interest.insert(.write) }
        if let given = request.interest { interest.formIntersection(given) }
        if request.priority { interest.insert(.priority) }
        if request.readHangup { interest.insert(.readHangup) }

        let before = present(number)
        let wasActive = before?.handle?.isActive
        let watcher = WatcherModel(
            slot: slot, number: number, file: files.files[slot] ?? nobody, traits: traits, interest: interest)
        equip(&request, watcher, withData: withData)
        let result = outcome { () throws(LoopError) in try driven.watch(request) }

        var refusals: [CInt] = []
        if !files.isOpen(slot) { refusals.append(EBADF) }
        if watcher.file.kind == .null { refusals.append(EPERM) }
        if traits.isExclusive, traits.isOneshot || request.readHangup || request.priority { refusals.append(EINVAL) }
        switch result {
        case .failure(let error):
            guard let code = error.code, refusals.contains(code) else {
                return fail("W8 watch of \(number) threw \(error), allowed are \(refusals)")
            }
            if code == EBADF { situations.note(.refusedEBADF) }
            if code == EPERM { situations.note(.refusedEPERM) }
            if code == EINVAL { situations.note(.refusedEINVAL) }
            // A call that failed has changed nothing.
            check(before?.handle?.isActive == wasActive, "W8 a watch of \(number) that failed changed the watcher")
            return
        case .success(let handle):
            guard refusals.isEmpty else { return fail("W8 watch of \(number) did not throw one of \(refusals)") }
            watcher.handle = handle
            check(handle.isActive && handle.isArmed && !handle.isParked, "W1 a new watcher of \(number) is not so")
            check(handle.interest == interest, "W1 interest is \(handle.interest), not \(interest)")
            check(handle.descriptor == number, "W1 the watcher's descriptor is \(handle.descriptor), not \(number)")
        }
        if let before {
            situations.note(.replaced)
            if depth > 0 { situations.note(.replacedInCallback) }
            if before.event?.isOver == false { situations.note(.replacedInBatch) }
            if before.isParked { situations.note(.parkedReplaced) }
            end(before)
        }
        watchers.append(watcher)
    }

    /// Gives the request handlers that tell the model of their calls, and hold what shows that they were released.
    private func equip(_ request: inout DrivenLoop.Request, _ watcher: WatcherModel, withData: Bool) {
        let tracker = Tracker(watcher.ended) { [weak self] in self?.released() }
        // With data, it is the data that must be let go of.
        func handler(_ step: Steps) -> Handler {
            if withData {
                return { [unowned self] loop, descriptor, handle in self.ran(watcher, step, loop, descriptor, handle) }
            }
            return { [unowned self] loop, descriptor, handle in
                tracker.touch()
                self.ran(watcher, step, loop, descriptor, handle)
            }
        }
        if watcher.traits.hasRead { request.read = handler(.read) }
        if watcher.traits.hasWrite { request.write = handler(.write) }
        if watcher.traits.hasError { request.error = handler(.error) }
        // Without a handler nothing holds data either.
        let hasAny = watcher.traits.hasRead || watcher.traits.hasWrite || watcher.traits.hasError
        if withData, hasAny { request.data = tracker }
        watcher.holdsNothing = !hasAny
    }

    /// Handlers of a watcher were let go of. What the script does then is done at the end of a turn only: elsewhere
    /// the call that released them is still at work. Contract W12.
    private func released() {
        guard divergence == nil, phase != .outside, depth == 0, run.isDispatching,
            plannedElsewhere[.release] != nil
        else { return }
        note { "  release" }
        closeTimers()
        situations.note(.actedInRelease)
        depth += 1
        performPlanned(.release)
        depth -= 1
        // Whether the kernel is told at once or not is left open.
        for watcher in watchers where watcher.wasChanged { watcher.mayBeRepeated() }
    }

    /// Stands for what an empty slot means.
    private var nobody: OpenFile { OpenFile(.unix, -1) }

    // MARK: The end of a watcher

    /// Contract W3. The number may also be one that nobody watches, or that is not open.
    func unwatch(_ number: CInt) {
        let watcher = present(number)
        let isActive = watcher?.handle?.isActive ?? false
        let result = outcome { () throws(LoopError) in try driven.unwatch(number) }
        if result.error == .internalDescriptor(number), !files.numbers.contains(number) {
            // Closed, and a descriptor of the loop's own has the number: Contract E3.
            return situations.note(.refusedInternal)
        }
        guard let removed = result.value else { return fail("W3 unwatch(\(number)) threw \(result)") }
        // One that was closed under the loop may have been found out meanwhile.
        let expected = watcher.map { $0.isDoubtful ? isActive : true } ?? false
        check(removed == expected, "W3 unwatch(\(number)) returned \(removed)")
        if let watcher { endByCall(watcher) }
    }

    private func cancel(_ watcher: WatcherModel) {
        guard let handle = watcher.handle else { return }
        let expected = watcher.isDoubtful ? handle.isActive : true
        check(driven.cancel(handle) == expected, "W3 cancel() of \(watcher.number) did not return \(expected)")
        endByCall(watcher)
    }

    private func endByCall(_ watcher: WatcherModel) {
        if watcher.isParked { situations.note(.parkedUnwatched) }
        if depth > 0 {
            if watcher === current {
                situations.note(.unwatchedItself)
            } else if watcher.event?.isOver == false {
                situations.note(.unwatchedInBatch)
            }
        }
        end(watcher)
    }

    /// From now on no callback of it may start. Contract W2, W3.
    func end(_ watcher: WatcherModel) {
        watcher.isLive = false
        if let handle = watcher.handle {
            check(!handle.isActive, "W3 the watcher of \(watcher.number) is active after its end")
            check(handle.interest == [], "W4 a handle of the past has interest")
            check(loop.watcher(of: watcher.number) != handle, "W3 an ended watcher is found by its number")
        }
        if watcher.isDoubtful, files.isAlive(watcher.file) {
            residues.append(watcher.file)
            hadResidue = true
            situations.note(.residue)
        }
        watchers.removeAll { $0 === watcher }
        past.append(watcher)
        if past.count > 8 { past.removeFirst() }
        if !watcher.holdsNothing { dying.append(watcher) }
    }

    /// A handle of the past does nothing for ever. Contract W4.
    private func performOld(_ index: Int, _ operand: UInt8) -> Bool {
        guard !past.isEmpty, let handle = past[index % past.count].handle else { return false }
        situations.note(.oldHandle)
        let answer: Result<Bool, LoopError> =
            switch operand {
            case 0: .success(handle.cancel())
            case 1: outcome { () throws(LoopError) in try driven.setInterest(handle, [.read, .write]) }
            default: outcome { () throws(LoopError) in try handle.rearm() }
            }
        check(answer.value == false, "W4 a handle of the past answered \(answer)")
        check(!handle.isActive && !handle.isArmed && !handle.isParked, "W4 a handle of the past lives")
        return true
    }

    private func look(_ number: CInt) {
        let found = loop.watcher(of: number)
        guard let watcher = present(number), let handle = watcher.handle else {
            return check(found == nil, "W3 there is a watcher of \(number)")
        }
        check(found == (handle.isActive ? handle : nil), "W3 the watcher of \(number) is not the one that was made")
    }

    // MARK: Interest

    private func turnInterest(_ watcher: WatcherModel, _ operand: UInt8) {
        guard let handle = watcher.handle else { return }
        let change: () throws(LoopError) -> Bool
        let wanted: Interest
        switch operand {
        case 0: (change, wanted) = (handle.enableRead, watcher.interest.union(.read))
        case 1: (change, wanted) = (handle.disableRead, watcher.interest.subtracting(.read))
        case 2: (change, wanted) = (handle.enableWrite, watcher.interest.union(.write))
        default: (change, wanted) = (handle.disableWrite, watcher.interest.subtracting(.write))
        }
        apply(watcher, wanted, outcome(change))
    }

    private func setInterest(_ watcher: WatcherModel, _ asked: Interest) {
        guard let handle = watcher.handle else { return }
        // EPOLLEXCLUSIVE does not go with the rest.
        let wanted = watcher.traits.isExclusive ? asked.intersection([.read, .write]) : asked
        apply(watcher, wanted, outcome { () throws(LoopError) in try driven.setInterest(handle, wanted) })
    }

    /// Contract W5.
    private func apply(_ watcher: WatcherModel, _ wanted: Interest, _ result: Result<Bool, LoopError>) {
        guard let handle = watcher.handle else { return }
        if watcher.isDoubtful { return applyDoubtful(watcher, wanted, result) }
        guard result.value == true else {
            return fail("W5 a change of interest of \(watcher.number) came to \(result)")
        }
        check(handle.interest == wanted, "W5 interest of \(watcher.number) is \(handle.interest), not \(wanted)")
        let old = watcher.interest
        let hadRead = old.contains(.read)
        watcher.interest = wanted
        if watcher.isParked, wanted != old {
            // A change brings it back, at once. To one that asks for nothing it need not.
            if !watcher.asksForNothing {
                watcher.isParked = false
                situations.note(.unparked)
            } else {
                watcher.isParked = handle.isParked
            }
            if !watcher.isParked { watcher.startAfresh() }
        }
        if phase == .outside {
            check(handle.isParked == watcher.isParked, "W10 the watcher of \(watcher.number) is parked or not")
            watcher.tell()
        } else {
            watcher.noteInterest(isOther: wanted != old)
            if wanted != old { situations.note(depth > 0 ? .changedInTurn : .changedBetween) }
        }
        if !hadRead, wanted.contains(.read), watcher.hasUnasked {
            watcher.hasUnasked = false
            situations.note(.enabledAfterArrival)
        }
    }

    /// The kernel may find out that the descriptor is another one, or none. Contract W9.
    private func applyDoubtful(_ watcher: WatcherModel, _ wanted: Interest, _ result: Result<Bool, LoopError>) {
        situations.note(.changeOfClosed)
        switch result {
        case .success(true):
            watcher.interest = wanted
            check(watcher.handle?.interest == wanted, "W5 interest of \(watcher.number) is not what was set")
        case .success(false): check(watcher.handle?.isActive == false, "W5 a change of a live watcher returned false")
        case .failure(let error):
            check([EBADF, ENOENT, EPERM].contains(error.code), "W9 a change after close threw \(error)")
            if let handle = watcher.handle, handle.isActive {
                check(handle.interest == watcher.interest, "W5 a change that failed has changed something")
            }
        }
        notice(watcher)
    }

    /// Contract W7.
    private func rearm(_ watcher: WatcherModel) {
        guard let handle = watcher.handle else { return }
        let result = outcome { () throws(LoopError) in try handle.rearm() }
        if watcher.isDoubtful {
            if case .failure(let error) = result {
                check([EBADF, ENOENT, EPERM].contains(error.code), "W9 rearm after close threw \(error)")
            }
            return notice(watcher)
        }
        guard result.value == true else { return fail("W7 rearm of \(watcher.number) came to \(result)") }
        check(handle.isArmed, "W7 the watcher of \(watcher.number) is not armed after rearm()")
        if !watcher.isArmed {
            watcher.isArmed = true
            watcher.startAfresh()
            if watcher.traits.isEdge { situations.note(.edgeRearmed) }
            if watcher === current, depth > 0 {
                situations.note(.rearmedInside)
            } else {
                situations.note(phase == .outside ? .rearmedLater : .rearmedInTurn)
            }
        }
    }

    /// Takes over what the loop says of a watcher that was closed under it.
    func notice(_ watcher: WatcherModel) {
        guard watcher.isDoubtful, let handle = watcher.handle else { return }
        if !handle.isActive {
            situations.note(.vanished)
            vanished += 1
            return end(watcher)
        }
        watcher.isArmed = handle.isArmed
        watcher.isParked = handle.isParked
    }

    // MARK: A callback

    private func ran(_ watcher: WatcherModel, _ step: Steps, _ loop: Loop, _ descriptor: CInt, _ handle: Watcher) {
        guard divergence == nil else { return }
        note { "  \(step.name) of \(watcher.number) (slot \(watcher.slot))" }
        situations.callbacks += 1
        guard watcher.isLive else { return fail("W3 \(step.name) of \(descriptor) ran after its watcher's end") }
        check(loop === self.loop && descriptor == watcher.number, "W1 a handler got another loop or descriptor")
        check(handle == watcher.handle, "W1 a handler got another watcher than watch() returned")
        guard phase == .events, depth == 0, run.isDispatching else {
            return fail("L15 \(step.name) of \(descriptor) ran outside the events of a turn: \(phase), \(depth)")
        }
        if current !== watcher {
            closeCurrent()
            current = watcher
        }
        noteRebuild()
        allowRepetition(watcher)
        guard let event = watcher.event else { return fail("W D \(step.name) of \(descriptor) ran without an event") }
        guard !event.isOver else { return fail("D6 the event of \(descriptor) came in two pieces") }
        guard watcher.mayRun(step) else {
            return fail(
                "D6 \(step.name) of \(descriptor) ran; by the model it is \(watcher.nextStep?.name ?? "nothing")")
        }
        noteSituations(watcher, step, event)
        watcher.run(step)
        if !watcher.isDoubtful {
            check(handle.isActive && handle.interest == watcher.interest, "W1 the watcher in its handler is another")
            check(handle.isArmed == watcher.isArmed, "W7 isArmed in the handler is \(handle.isArmed)")
        }
        depth += 1
        if step == .read, watcher.traits.drains { perform(Act(.read, UInt8(watcher.slot), 0)) }
        for act in due(watcher.slot) { perform(act) }
        depth -= 1
        check(watcher.ended.ended == 0, "W12 the handlers of \(descriptor) were released while one of them ran")
    }

    /// The acts whose time has come in a callback of the slot.
    private func due(_ slot: Int) -> [Act] {
        var acts: [Act] = []
        var index = 0
        while index < planned.count {
            guard planned[index].slot == slot else { index += 1; continue }
            if planned[index].left == 0 {
                acts.append(planned.remove(at: index).act)
            } else {
                planned[index].left -= 1
                index += 1
            }
        }
        return acts
    }

    /// A rebuild that took place since the fetch may have reported an edge again.
    private func allowRepetition(_ watcher: WatcherModel) {
        guard watcher.event == nil, watcher.traits.isEdge, run.wasRebuilt, let readiness = run.readiness[watcher.number]
        else { return }
        watcher.mayBeRepeated()
        watcher.fetch(readiness, isCertain: false)
    }

    /// The event being dispatched is over once something else runs.
    func closeCurrent() {
        guard let watcher = current else { return }
        current = nil
        if !watcher.isDoubtful, let step = watcher.nextStep {
            fail("D6 \(step.name) of \(watcher.number) did not run after what ran of its event")
        }
        if watcher.isLive, let event = watcher.event,
            watcher.steps(event.mask).contains([.read, .write]), event.ran == .read
        {
            situations.note(.dropOfWriteStep)
        }
        watcher.close()
    }

    private func noteSituations(_ watcher: WatcherModel, _ step: Steps, _ event: FetchedEvent) {
        if step == .error { situations.note(.errorAlone) }
        if event.mask.contains(.error), step == .write, event.ran == .read { situations.note(.errorAsReadAndWrite) }
        if step == .write, event.ran == .read { situations.note(.readThenWrite) }
        if step == .read {
            if event.mask.contains(.hangup) { situations.note(.hangupAsRead) }
            if event.mask.contains(.peerShutdown) { situations.note(.readHangup) }
            if event.mask.contains(.priority) { situations.note(.priority) }
        }
        if watcher.traits.isEdge { situations.note(event.isCertain ? .edge : .edgeRepeated) }
        if watcher.traits.isOneshot { situations.note(.oneshot) }
        if watcher.hadDropped { situations.note(.edgeAfterDrop) }
        if watcher.isDoubtful { situations.note(.closedCopyTold) }
        watcher.hadDropped = false
    }
}

extension Steps {
    var name: String {
        switch self {
        case .error: "error"
        case .read: "read"
        default: "write"
        }
    }
}
