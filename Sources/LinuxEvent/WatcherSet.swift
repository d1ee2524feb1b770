internal import CLinux

/// The watchers of one loop: the table, and how it is kept in step with the kernel's set.
///
/// A class of its own, so that a `Watcher` which the user keeps holds this and not the loop: a connection that keeps
/// its watcher makes no cycle through the loop. The loop empties it when it goes. Contract W12.
///
/// - Threads: the loop's only. Handles check that at their door.
/// - Bound: a slot per watcher; records of ended watchers until the end of the turn.
final class WatcherSet {
    // Constants over raw memory, both: a variable would be checked for exclusive access on every event.
    let table = WatcherTable()
    let batch = EventBatch()
    let backend: EpollBackend
    let owner: LoopOwner
    /// Between the fetching of a batch and the end of its dispatch: changes of interest are collected.
    var isInTurn = false
    var isClosed = false
    /// Counts turns; wraps. Compared with `WatcherSlot.removalTurn` only.
    var turn: UInt32 = 1

    private(set) var count = 0
    private(set) var parked = 0
    /// Of `count`, the loop's own.
    private(set) var internalCount = 0
    private(set) var staleEvents: UInt64 = 0
    private(set) var vanished: UInt64 = 0
    private(set) var rebuilds: UInt64 = 0
    private var lastGeneration: UInt64 = 0
    /// Watchers whose kernel mask the end of the turn may have to change.
    private let changes = Cell<[Token]>([])
    /// Handlers of ended watchers, still owned because one of them may be running. Contract W12.
    private let retired = Cell<[WatcherRecord]>([])
    /// What the end of the turn has to see to. One word, because most turns have nothing.
    private var pending: Pending = []

    private struct Pending: OptionSet {
        let rawValue: UInt8
        static let changes = Pending(rawValue: 1)
        static let releases = Pending(rawValue: 2)
        /// An event came for a watcher that ended in an earlier turn, so the kernel's set holds what nothing names.
        static let leftovers = Pending(rawValue: 4)
        static let emptyLeaf = Pending(rawValue: 8)
    }
    /// What the parked watchers' descriptors meant when the kernel's set still knew them, by number.
    private let parkedFiles = Cell<[CInt: FileIdentity]>([:])
    private var isReleasing = false
    private var lastRebuild = Instant(nanoseconds: 0)
    /// Turns until the next look at the clock, to see whether an audit is due.
    var turnsToAudit: UInt32 = 1
    private var lastLook = Instant(nanoseconds: 0)
    private var lastAudit = Instant(nanoseconds: 0)
    private var auditCursor = 0
    /// What a foreign loop polls, once one has asked. Contract L6.
    var outer: OuterEpoll?

    init(_ owner: LoopOwner) throws(LoopError) {
        self.owner = owner
        backend = try EpollBackend()
    }

    deinit { close() }

    // MARK: Beginning and ending

    /// Contract W1, W2, W8. The kernel is asked first: if it refuses, nothing has changed.
    func watch(
        _ descriptor: CInt, _ record: consuming WatcherRecord, _ traits: WatcherTraits, _ interest: Interest,
        isArmed: Bool = true
    ) throws(LoopError) -> Watcher {
        guard !isClosed else { throw .closed }
        guard !owner.isForeign else { throw .forked }
        guard descriptor >= 0 else { throw .system(SystemError(call: "epoll_ctl ADD", code: EBADF)) }
        var traits = traits
        if record.read != nil { traits.insert(.hasRead) }
        if record.write != nil { traits.insert(.hasWrite) }
        if record.error != nil { traits.insert(.hasError) }

        var new = WatcherSlot()
        new.generation = nextGeneration()
        new.traits = traits
        new.setInterest(interest)
        if !isArmed { new.state.insert(.disarmed) }
        new.kernelMask = new.wantedMask
        let token = Token(descriptor, new.generation)

        // Room in the table is made when the kernel has agreed: a number that is nobody's must not cost memory.
        let old = table.slot(descriptor)?.value ?? WatcherSlot()
        let isReplacement = old.generation != 0
        guard !old.traits.contains(.internal), !isOwn(descriptor) else { throw .internalDescriptor(descriptor) }
        // EPOLLEXCLUSIVE cannot be given to, or taken from, what is in the set already.
        let isModifiable = !old.traits.union(traits).contains(.exclusive) && !old.state.contains(.parked)
        var result: CInt
        if isReplacement, isModifiable {
            result = backend.modify(descriptor, new.kernelMask, token)
            // The old watcher's file was closed and its number is another file's now: Contract W9.
            if result == -ENOENT { result = backend.add(descriptor, new.kernelMask, token) }
        } else {
            // Only what was there is put back if the new one is refused: the number may be another file's by now.
            let isRemoved = isReplacement && backend.remove(descriptor) == 0
            result = backend.add(descriptor, new.kernelMask, token)
            // A copy of the file was given the number of a descriptor that was closed unwatched (dup2): the kernel's
            // entry is still there. It may be exclusive, and then it cannot be modified.
            if result == -EEXIST {
                _ = backend.remove(descriptor)
                result = backend.add(descriptor, new.kernelMask, token)
            }
            if result < 0, isRemoved, let slot = table.slot(descriptor) {
                putBack(descriptor, slot, old.presentMask)
            }
        }
        try check("epoll_ctl", result)

        let slot = table.makeSlot(descriptor)
        if isReplacement { end(descriptor, slot) }
        unsafe new.record = Unmanaged.passRetained(record)
        new.removalTurn = slot.value.removalTurn
        slot.value = new
        table.populate(descriptor)
        count += 1
        if traits.contains(.internal) { internalCount += 1 }
        if !isInTurn {
            releaseRetired()
            tellReleases()
        }
        return Watcher(set: self, descriptor: descriptor, generation: new.generation)
    }

    /// Never used twice. A low half of zero is left out: in a token it would mean every vacant slot.
    private func nextGeneration() -> UInt64 {
        lastGeneration += 1
        if UInt32(truncatingIfNeeded: lastGeneration) == 0 { lastGeneration += 1 }
        return lastGeneration
    }

    /// Ends a watcher and hands out what it consisted of, for another loop. Nothing of it is left here, so nothing of
    /// it can be released on this thread any more. Nil if its descriptor was closed under it: Contract W9.
    ///
    /// Between turns only: a record that may be running must not leave.
    func detach(_ descriptor: CInt, _ slot: WatcherReference) -> DetachedWatch? {
        if isInTurn { contractViolation("a watch is moved between turns only (Contract G5)") }
        guard slot.value.state.contains(.parked) || backend.remove(descriptor) == 0 else {
            vanish(descriptor, slot)
            finishTurn()
            return nil
        }
        guard let record = unsafe slot.value.record else { return nil }
        let detached = unsafe DetachedWatch(
            descriptor, record.takeRetainedValue(), slot.value.traits, slot.value.interest,
            isArmed: !slot.value.state.contains(.disarmed))
        unsafe slot.value.record = nil
        end(descriptor, slot)
        finishTurn()
        return detached
    }

    /// Contract W3. The kernel forgets the descriptor at once, since the user may close it next.
    func unwatch(_ descriptor: CInt, _ slot: WatcherReference) {
        if !slot.value.state.contains(.parked) {
            // EBADF or ENOENT: closed already, and the kernel forgot it then. Nothing is left to undo.
            _ = backend.remove(descriptor)
        }
        end(descriptor, slot)
        if !isInTurn {
            finishTurn()
            tellReleases()
        }
    }

    /// Forgets a watcher. Its record lives on until the callback that may be running has returned.
    private func end(_ descriptor: CInt, _ slot: WatcherReference) {
        if slot.value.state.contains(.parked) { noteNotParked(descriptor) }
        if slot.value.traits.contains(.internal) { internalCount -= 1 }
        if let record = unsafe slot.value.record {
            retired.value.append(unsafe record.takeRetainedValue())
            pending.insert(.releases)
        }
        var vacant = WatcherSlot()
        vacant.removalTurn = turn
        slot.value = vacant
        if table.vacate(descriptor) { pending.insert(.emptyLeaf) }
        count -= 1
    }

    /// The watcher's descriptor was closed behind our back: it ends without a word. Contract W9.
    private func vanish(_ descriptor: CInt, _ slot: WatcherReference) {
        vanished += 1
        end(descriptor, slot)
    }

    /// Releases the records of ended watchers, within a budget: a release may run user code. Contract W12, L13.
    private func releaseRetired() {
        guard pending.contains(.releases), !isReleasing else { return }
        isReleasing = true
        for _ in 0..<Budget.releases {
            guard let record = retired.value.popLast() else { break }
            _ = consume record  // the user's `deinit`s run here, and may call the loop
        }
        if retired.value.isEmpty { pending.remove(.releases) }
        isReleasing = false
    }

    /// Outside of a turn: what is over the budget is work of the next one. Contract L6.
    private func tellReleases() {
        if hasReleases { outer?.tell(hasWork: true) }
    }

    /// One of the descriptors that the set itself consists of. Contract E3.
    func isOwn(_ descriptor: CInt) -> Bool {
        descriptor == backend.descriptor || outer?.owns(descriptor) == true
    }

    // MARK: Interest

    /// Contract W5: at once outside a turn, once at its end inside. A change that fails changes nothing.
    func setInterest(_ interest: Interest, _ descriptor: CInt, _ slot: WatcherReference) throws(LoopError) {
        let before = slot.value
        guard before.interest != interest else { return }
        slot.value.setInterest(interest)
        do throws(LoopError) { try apply(descriptor, slot) } catch {
            let outside = slot.value.state.intersection(.parked)
            slot.value = before
            slot.value.state.formUnion(outside)
            throw error
        }
    }

    /// Contract W7.
    func rearm(_ descriptor: CInt, _ slot: WatcherReference) throws(LoopError) {
        guard slot.value.state.contains(.disarmed) else { return }
        let before = slot.value
        slot.value.state.remove(.disarmed)
        // Re-armed in the turn that delivered it: this watcher is better off without EPOLLONESHOT, because then
        // nothing need be said to the kernel next time.
        if before.state.contains(.deliveredNow) { slot.value.state.remove(.carriesOneshot) }
        do throws(LoopError) { try apply(descriptor, slot) } catch {
            slot.value = before
            throw error
        }
    }

    /// Brings the kernel's mask in step: now, or with the other changes of the turn.
    private func apply(_ descriptor: CInt, _ slot: WatcherReference) throws(LoopError) {
        if slot.value.state.contains(.parked) {
            guard !slot.value.steps.isDisjoint(with: [.read, .write]) else { return }
            return try unpark(descriptor, slot)
        }
        // The kernel would refuse it, and only when the old entry is gone already.
        if slot.value.traits.contains(.exclusive),
            !slot.value.interest.isDisjoint(with: [.priority, .readHangup])
        {
            throw .system(SystemError(call: "epoll_ctl ADD", code: EINVAL))
        }
        if isInTurn { return noteChange(descriptor, slot) }
        try check("epoll_ctl MOD", modify(descriptor, slot))
    }

    private func noteChange(_ descriptor: CInt, _ slot: WatcherReference) {
        guard !slot.value.state.contains(.changed) else { return }
        slot.value.state.insert(.changed)
        changes.value.append(Token(descriptor, slot.value.generation))
        pending.insert(.changes)
    }

    /// One MOD, or none where the kernel's mask is what it should be and it has nothing to repeat.
    private func modify(_ descriptor: CInt, _ slot: WatcherReference) -> CInt {
        // A spent oneshot is what a disarmed one should be. Armed anew it needs a MOD, even if the mask is the same.
        let wanted = slot.value.wantedMask
        if slot.value.state.contains(.disarmed), slot.value.kernelMask == WatcherSlot.spent { return 0 }
        let repeats = slot.value.state.contains(.dropped) && slot.value.steps != .error && !slot.value.steps.isEmpty
        guard wanted != slot.value.kernelMask || repeats else { return 0 }
        let result =
            slot.value.traits.contains(.exclusive)
            ? replaceExclusive(descriptor, wanted, slot)
            : backend.modify(descriptor, wanted, Token(descriptor, slot.value.generation))
        if result == 0 {
            slot.value.kernelMask = slot.value.state.contains(.disarmed) ? WatcherSlot.spent : wanted
            if repeats { slot.value.state.remove(.dropped) }
        }
        return result
    }

    /// The present entry went out of the set for another, which was refused. If the kernel refuses this one as well,
    /// the watcher is outside of its set, and shows it. Contract W8, W10.
    private func putBack(_ descriptor: CInt, _ slot: WatcherReference, _ mask: UInt32) {
        let token = Token(descriptor, slot.value.generation)
        if backend.add(descriptor, mask, token) < 0 { notePark(descriptor, slot, FileIdentity(descriptor)) }
    }

    /// The kernel refuses a MOD of an exclusive entry: out and in again. Out of the set it can miss nothing, since
    /// adding what is ready reports it.
    private func replaceExclusive(_ descriptor: CInt, _ mask: UInt32, _ slot: WatcherReference) -> CInt {
        let token = Token(descriptor, slot.value.generation)
        // Where it is not in the set, the number is another file's by now, or nobody's: to add that would be to watch
        // a stranger. Contract W9.
        let removed = backend.remove(descriptor)
        if removed < 0 { return removed }
        let result = backend.add(descriptor, mask, token)
        if result < 0 { putBack(descriptor, slot, slot.value.kernelMask) }
        return result
    }

    // MARK: Parking

    /// An event that nobody can take. HUP and ERR cannot be masked, and would be reported for ever: out of the
    /// kernel's set with it, until the interest changes. Contract W10.
    private func park(_ descriptor: CInt, _ slot: WatcherReference) {
        let file = FileIdentity(descriptor)
        // Refused: the number was closed, or is another file's now, and a copy of the file that was watched keeps its
        // entry reporting. Parked it would spin; as nobody's it is a leftover, which a rebuild sheds. Contract W9.
        guard backend.remove(descriptor) == 0 else { return vanish(descriptor, slot) }
        notePark(descriptor, slot, file)
    }

    private func notePark(_ descriptor: CInt, _ slot: WatcherReference, _ file: FileIdentity?) {
        parkedFiles.value[descriptor] = file
        slot.value.state.insert(.parked)
        slot.value.state.remove(.dropped)
        slot.value.kernelMask = 0
        parked += 1
    }

    private func unpark(_ descriptor: CInt, _ slot: WatcherReference) throws(LoopError) {
        let token = Token(descriptor, slot.value.generation)
        let mask = slot.value.wantedMask
        // Out of the set, the kernel does not tell us when the number becomes another file's, and adding that would be
        // to watch a stranger. Contract W9.
        if let file = FileIdentity(descriptor), file != parkedFiles.value[descriptor] {
            throw .system(SystemError(call: "epoll_ctl ADD", code: ENOENT))
        }
        try check("epoll_ctl ADD", backend.add(descriptor, mask, token))
        slot.value.state.remove(.parked)
        slot.value.kernelMask = mask
        noteNotParked(descriptor)
    }

    private func noteNotParked(_ descriptor: CInt) {
        parked -= 1
        if parked == 0 { parkedFiles.value = [:] } else { parkedFiles.value[descriptor] = nil }
    }

    // MARK: The rare cases of dispatch

    /// A oneshot is about to deliver its event. Contract W7.
    func disarm(_ descriptor: CInt, _ slot: WatcherReference) {
        slot.value.state.formUnion([.disarmed, .deliveredNow])
        slot.value.noteSpent()
        noteChange(descriptor, slot)
    }

    /// An event of a live watcher for which no step is enabled at this moment.
    func unclaimed(_ events: UInt32, _ descriptor: CInt, _ slot: WatcherReference) {
        slot.value.noteSpent()
        if events & Readiness.unasked != 0 { return park(descriptor, slot) }
        // Disabled after the batch was fetched. The kernel repeats what is level-triggered by itself.
        dropped(events, descriptor, slot)
    }

    /// Of an edge or a oneshot something may have been skipped because it was disabled after the batch was fetched:
    /// enabling it must report it anew.
    ///
    /// What was reported had been asked for, but for errors and hang-ups; so what is not asked for now was disabled
    /// since.
    @inline(never)
    func dropped(_ events: UInt32, _ descriptor: CInt, _ slot: WatcherReference) {
        guard !slot.value.traits.isDisjoint(with: [.edgeTriggered, .oneshot]),
            events & ~(slot.value.interest.mask | Readiness.unasked) != 0
        else { return }
        slot.value.state.insert(.dropped)
        noteChange(descriptor, slot)
    }

    /// An event whose watcher is gone. It is expected in the turn in which the watcher ended; later it means that
    /// a copy of a closed descriptor is still in the kernel's set. Contract W9.
    @inline(never)
    func stale(_ token: Token) {
        staleEvents += 1
        if let slot = table.slot(token.descriptor), slot.value.removalTurn == turn { return }
        pending.insert(.leftovers)
    }

    // MARK: The end of a turn

    /// Hands the turn's changes to the kernel, once each, and lets go of what ended. Contract W5, W12.
    @inline(__always)
    func finishTurn() {
        if !pending.isEmpty { handlePending() }
        isInTurn = false
    }

    /// Records wait for their release, over the budget of the last turn. Not while a release is running: it will go on
    /// when the user code that it runs returns, and a turn that this code makes could do nothing for it.
    @inline(__always)
    var hasReleases: Bool { pending.contains(.releases) && !isReleasing }

    @inline(never)
    private func handlePending() {
        flushChanges()
        if pending.contains(.leftovers) { rebuild() }
        // From here on changes go to the kernel at once: what a release runs below must not wait for another turn.
        isInTurn = false
        releaseRetired()
        guard pending.contains(.emptyLeaf), !isReleasing else { return }
        pending.remove(.emptyLeaf)
        table.prune()
    }

    private func flushChanges() {
        guard pending.contains(.changes) else { return }
        pending.remove(.changes)
        for index in changes.value.indices {
            let token = changes.value[index]
            guard let slot = table.live(token) else { continue }
            slot.value.state.remove([.changed, .deliveredNow])
            if slot.value.state.contains(.parked) { continue }
            if slot.value.state.contains(.disarmed), !slot.value.traits.contains(.edgeTriggered) {
                slot.value.state.insert(.carriesOneshot)
            }
            // However it fails, the descriptor is not the one that we were given; or an exclusive one could not be
            // added anew for lack of memory. Nothing else is added: the number may be a stranger's by now.
            if modify(token.descriptor, slot) < 0 { vanish(token.descriptor, slot) }
        }
        changes.value.removeAll(keepingCapacity: true)
    }

    /// Asks the kernel whether some of the batch's descriptors are still the ones that it was given. One that was
    /// closed unwatched while a copy of it lives goes on reporting under its old name, and only the kernel can tell.
    /// Contract W9.
    ///
    /// 50 ms after the last audit there is one: a system call for each of up to 32 events, from another place of the
    /// batch each time. Where turns are far apart each looks at the clock, so the first event of a descriptor that was
    /// closed is its last; where they follow closely every eighth does, since the look costs as much as an event.
    @inline(never)
    func audit(_ events: Int) {
        let now = Instant.now
        turnsToAudit = lastLook.advanced(by: .milliseconds(10)) <= now ? 1 : 8
        lastLook = now
        guard events > 0, lastAudit.advanced(by: .milliseconds(50)) <= now else { return }
        lastAudit = now
        for _ in 0..<min(events, 32) {
            auditCursor = (auditCursor &+ 1) % events
            let token = batch.event(auditCursor).token
            guard let slot = table.live(token), !slot.value.state.contains(.parked) else { continue }
            if holds(token, slot) == false { vanish(token.descriptor, slot) }
        }
    }

    /// Whether the number still means the file that was watched; nil where the kernel cannot say.
    ///
    /// To add what is there already is refused and changes nothing; so if it is accepted, it is another file, and goes
    /// at once.
    private func holds(_ token: Token, _ slot: WatcherReference) -> Bool? {
        // Nobody closes what is the loop's own. Contract L5.
        if slot.value.traits.contains(.internal) { return true }
        switch backend.add(token.descriptor, 0, token) {
        case -EEXIST: return true
        // No memory, or no room below the user's limit: no answer. A watcher would be lost by a wrong one.
        case -ENOMEM, -ENOSPC: return nil
        case 0: _ = backend.remove(token.descriptor)
        default: break
        }
        return false
    }

    /// Makes the kernel's set anew from the table, which is the only cure for entries that no number names any more.
    /// At most once a second, so that a peer who holds copies cannot buy work by the packet. Contract W9.
    private func rebuild() {
        let now = Instant.now
        guard lastRebuild.nanoseconds == 0 || lastRebuild.advanced(by: .seconds(1)) <= now else { return }
        lastRebuild = now
        guard let fresh = try? EpollBackend() else { return }  // no descriptor to be had: the old set serves on
        var isComplete = true
        var gone: [Token] = []
        table.forEach { descriptor, slot in
            guard isComplete, !slot.value.state.contains(.parked) else { return }
            let token = Token(descriptor, slot.value.generation)
            switch holds(token, slot) {
            case true?: isComplete = fresh.add(descriptor, slot.value.presentMask, token) == 0
            case false?: gone.append(token)
            case nil: isComplete = false
            }
        }
        // Whatever fails, the old set serves on, and a foreign loop that polls it goes on to do so.
        guard isComplete else { return }
        do throws(LoopError) {
            try outer?.add(fresh)
            try backend.become(fresh)
        } catch { return }
        pending.remove(.leftovers)
        rebuilds += 1
        for token in gone {
            if let slot = table.live(token) { vanish(token.descriptor, slot) }
        }
    }

    /// Everything that is left goes: the user's handlers first, then the descriptor of the set.
    func close() {
        guard !isClosed else { return }
        isClosed = true
        var live: [Token] = []
        table.forEach { descriptor, slot in live.append(Token(descriptor, slot.value.generation)) }
        for token in live {
            guard let slot = table.live(token) else { continue }
            end(token.descriptor, slot)
        }
        while let record = retired.value.popLast() { _ = consume record }
        outer = nil
        backend.close()
    }
}

extension WatcherSlot {
    static let kernelOneshot = UInt32(CLINUX_EPOLLONESHOT)
    /// A disarmed oneshot. Not mask 0, which would still report HUP and ERR; this reports them once at most, and the
    /// loop passes over that.
    static let silentMask = kernelOneshot
    /// Of `kernelMask`: the entry is there and reports nothing. No mask of the kernel's has all bits.
    static let spent = UInt32.max
    static let kernelEdge: UInt32 = 1 << 31
    static let kernelExclusive = UInt32(CLINUX_EPOLLEXCLUSIVE)

    mutating func setInterest(_ new: Interest) {
        interest = new
        steps = []
        if traits.contains(.hasRead), !new.isDisjoint(with: [.read, .priority, .readHangup]) { steps.insert(.read) }
        if traits.contains(.hasWrite), new.contains(.write) { steps.insert(.write) }
        if traits.contains(.hasError) { steps.insert(.error) }

        plain = 0
        // A oneshot changes its state by being told, and a read handler may have several reasons to run: with care.
        guard !traits.contains(.oneshot), new.isDisjoint(with: [.priority, .readHangup]) else { return }
        if steps.contains(.read) { plain |= Readiness.input | Readiness.hangup }
        if steps.contains(.write) { plain |= Readiness.output }
    }

    /// The kernel has reported an entry that carries EPOLLONESHOT, and so disarmed it.
    mutating func noteSpent() {
        if kernelMask & Self.kernelOneshot != 0 { kernelMask = Self.spent }
    }

    /// To be given to another set, as this one holds it.
    var presentMask: UInt32 { kernelMask == Self.spent ? Self.silentMask : kernelMask }

    /// What the kernel's set should hold. Never anything for which there is no handler: it would only spin.
    var wantedMask: UInt32 {
        if state.contains(.disarmed) { return Self.silentMask }
        var asked = interest
        if !traits.contains(.hasRead) { asked.subtract([.read, .priority, .readHangup]) }
        if !traits.contains(.hasWrite) { asked.remove(.write) }
        var mask = asked.mask
        if traits.contains(.edgeTriggered) { mask |= Self.kernelEdge }
        if traits.contains(.exclusive) { mask |= Self.kernelExclusive }
        // A level-triggered oneshot starts without EPOLLONESHOT: the loop disarms it in its own table, and tells the
        // kernel only if it is still disarmed at the end of the turn. Contract W7.
        let carries = traits.contains(.edgeTriggered) || state.contains(.carriesOneshot)
        if traits.contains(.oneshot), carries { mask |= Self.kernelOneshot }
        return mask
    }
}

/// How much of one kind a turn does before everything else has had its share. Contract L13.
enum Budget {
    static let releases = 4096
    static let timers = 4096
    static let deferred = 4096
}

/// Which file a descriptor means, as far as its inode tells. Those of eventfd(2) and its like look alike; but what is
/// parked has reported a hang-up or an error, which they do not.
private struct FileIdentity: Equatable {
    let device: UInt64
    let inode: UInt64

    /// Nil for a descriptor that is not open.
    init?(_ descriptor: CInt) {
        var identity = clinux_file_identity()
        guard unsafe clinux_file_identity(descriptor, &identity) == 0 else { return nil }
        (device, inode) = (identity.device, identity.inode)
    }
}
