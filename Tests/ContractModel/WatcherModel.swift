import LinuxEvent
import TestSupport

/// The handlers that one event may run, in this order. Contract D6.
struct Steps: OptionSet, Hashable {
    let rawValue: UInt8

    static let error = Steps(rawValue: 1)
    static let read = Steps(rawValue: 2)
    static let write = Steps(rawValue: 4)
    static let inOrder: [Steps] = [.error, .read, .write]
}

/// An event that the kernel reported, or may have reported, in the present batch.
struct FetchedEvent {
    let mask: Readiness
    /// The contract says that it came; otherwise it may have.
    let isCertain: Bool
    var ran: Steps = []
    /// Steps that at some moment since the fetch would not have been run.
    var lapsed: Steps
    /// Steps that at some moment since the fetch would have been run.
    var possible: Steps
    /// Nobody can be asked what it was: only a child holds the file.
    var isVague = false
    /// Its turn is over, as is known from what ran after it.
    var isOver = false
    /// Another interest was asked for since the fetch: if the event had its turn before, and nobody took it, the change
    /// has brought the watcher back. Contract W10.
    var mayHaveComeBack = false
}

/// What the contract says of one watcher. It knows nothing of the loop; see `Comparison` for who asks it.
final class WatcherModel {
    struct Traits {
        var isEdge = false
        var isOneshot = false
        var isExclusive = false
        var hasRead = false
        var hasWrite = false
        var hasError = false
        /// The read handler reads all there is.
        var drains = false
    }

    let slot: Int
    let number: CInt
    let file: OpenFile
    let traits: Traits
    /// The loop's answer to `watch`.
    var handle: Watcher?
    let ended = Tracker.Count()

    var isLive = true
    var interest: Interest
    var isArmed = true
    var isParked = false
    /// Closed without unwatch: much is allowed and little promised. Contract W9.
    var isDoubtful = false

    /// Edge-triggered: what has changed since it was last reported, so must be reported where it is asked for.
    private(set) var pending: Readiness = .everything
    /// Edge-triggered: what has been reported may be reported again.
    private(set) var mayRepeat = false
    /// Its interest was changed in this turn.
    private(set) var wasChanged = false
    /// Data came that was not asked for, and has not been reported since.
    var hasUnasked = false
    /// An event of it was dropped since it last had a callback.
    var hadDropped = false
    /// It has no handler, so its end releases nothing.
    var holdsNothing = false
    /// Steps of an event that were dropped. Contract W5.
    private(set) var dropped: Steps = []
    /// What the kernel was last told to look for.
    private(set) var told: Readiness = []

    var event: FetchedEvent?

    init(slot: Int, number: CInt, file: OpenFile, traits: Traits, interest: Interest) {
        (self.slot, self.number, self.file, self.traits, self.interest) = (slot, number, file, traits, interest)
        told = asked
    }

    // MARK: What it asks for

    /// What the kernel is to look for. What no handler takes is not asked for; errors and hang-ups come unasked.
    var asked: Readiness {
        var asked: Readiness = [.error, .hangup]
        if traits.hasRead {
            if interest.contains(.read) { asked.insert(.readable) }
            if interest.contains(.priority) { asked.insert(.priority) }
            if interest.contains(.readHangup) { asked.insert(.peerShutdown) }
        }
        if traits.hasWrite, interest.contains(.write) { asked.insert(.writable) }
        return asked
    }

    var asksForNothing: Bool { asked == [.error, .hangup] }

    /// The steps that would run now for an event. Contract D6: what the event is for must still be asked for.
    func enabled(_ mask: Readiness) -> Steps {
        var steps: Steps = traits.hasError ? .error : []
        if traits.hasRead {
            let reads: [(Readiness, Interest)] = [
                (.readable, .read), (.priority, .priority), (.peerShutdown, .readHangup),
                ([.hangup, .error], [.read, .priority, .readHangup]),
            ]
            if reads.contains(where: { !mask.isDisjoint(with: $0.0) && !interest.isDisjoint(with: $0.1) }) {
                steps.insert(.read)
            }
        }
        if traits.hasWrite, interest.contains(.write) { steps.insert(.write) }
        return steps.intersection(self.steps(mask))
    }

    /// The steps that an event is for, interest aside. Contract D1 to D5.
    func steps(_ mask: Readiness) -> Steps {
        let failed = mask.contains(.error)
        if failed, traits.hasError { return .error }
        var steps: Steps = []
        if traits.hasRead, failed || !mask.isDisjoint(with: [.readable, .hangup, .peerShutdown, .priority]) {
            steps.insert(.read)
        }
        if traits.hasWrite, failed || mask.contains(.writable) { steps.insert(.write) }
        return steps
    }

    // MARK: What happens to its file

    /// Something has become so. Contract W6.
    func arrived(_ bits: Readiness) { pending.formUnion(bits) }

    /// Somebody was woken for the file, for reasons that are the kernel's.
    func touched(_ bits: Readiness) {
        if !bits.isDisjoint(with: told) { mayRepeat = true }
    }

    /// The kernel's set was made anew, or asked anew for this one. Contract W9.
    func mayBeRepeated() { mayRepeat = true }

    // MARK: A turn

    /// The kernel is told of the interest, now or at the end of a turn. Contract W5.
    ///
    /// - Returns: whether there was something to tell.
    @discardableResult
    func tell() -> Bool {
        defer { (told, wasChanged) = (asked, false) }
        if told != asked { mayRepeat = true }
        return told != asked
    }

    /// Readiness that is there counts as new: after `watch`, and when it comes back from disarmed or parked.
    func startAfresh() {
        pending = .everything
        dropped = []
        told = asked
    }

    /// What the fetch brings for it, where poll(2) says that its file is ready like this; nil: nothing.
    func fetch(_ readiness: Readiness, isCertain: Bool) {
        event = nil
        guard isLive, !isParked else { return }
        if !isArmed {
            // The kernel may be disarming it by such an event. Nobody hears of it, unless it is armed
            // again before the event's turn.
            let unasked = readiness.intersection([.error, .hangup])
            if !unasked.isEmpty {
                event = FetchedEvent(
                    mask: unasked, isCertain: false, lapsed: steps(unasked), possible: enabled(unasked))
            }
            return
        }
        revive()
        let mask = readiness.intersection(asked)
        let news = pending.intersection(mask)
        // What was new and is gone again by now may have an event all the same, for whatever else is so.
        let mayCome = mayRepeat || !pending.isDisjoint(with: asked)
        if traits.isEdge {
            pending.subtract(asked)
            mayRepeat = false
            if news.isEmpty, !mayCome { return }
        }
        if mask.isEmpty { return }
        event = FetchedEvent(
            mask: mask, isCertain: isCertain && (!traits.isEdge || !news.isEmpty),
            lapsed: steps(mask).subtracting(enabled(mask)),
            possible: enabled(mask))
    }

    /// Whether a fetch at this moment would bring an event; nil: it may.
    func wouldCome(_ readiness: Readiness) -> Bool? {
        guard isLive, isArmed, !isParked else { return false }
        let mask = readiness.intersection(asked)
        if mask.isEmpty { return false }
        if !traits.isEdge { return true }
        revive()
        if !pending.isDisjoint(with: mask) { return true }
        return mayRepeat || !pending.isDisjoint(with: asked) ? nil : false
    }

    /// Interest has been asked for, another one or the same, while its event may wait for its turn.
    func noteInterest(isOther: Bool) {
        wasChanged = true
        guard let mask = event?.mask, event?.isOver == false else { return }
        if isOther { event?.mayHaveComeBack = true }
        event?.lapsed.formUnion(steps(mask).subtracting(enabled(mask)))
        event?.possible.formUnion(enabled(mask))
    }

    /// The next step that has to run, with everything as it is now.
    var nextStep: Steps? { stepsAhead.first { event?.lapsed.contains($0) == false } }

    /// Whether a step may run now: what was not asked for all the time since the fetch may be left out.
    func mayRun(_ step: Steps) -> Bool {
        if let event, event.isVague, isLive, !event.isOver {
            return step.rawValue > event.ran.rawValue && (step != .error || traits.hasError)
        }
        guard let index = stepsAhead.firstIndex(of: step) else { return false }
        return stepsAhead[..<index].allSatisfy { event?.lapsed.contains($0) == true }
    }

    /// What would run of the event from here on. Steps are taken in order, so what stands before the last one that ran
    /// has had its turn.
    private var stepsAhead: [Steps] {
        guard isLive, let event, !event.isOver, isArmed || !event.ran.isEmpty else { return [] }
        let due = enabled(event.mask)
        return Steps.inOrder.filter { due.contains($0) && $0.rawValue > event.ran.rawValue }
    }

    /// A step begins.
    func run(_ step: Steps) {
        // Re-armed between its steps, it stays so.
        if traits.isOneshot, event?.ran.isEmpty != false { isArmed = false }
        event?.ran.formUnion(step)
    }

    /// The event's turn is over; what has not run was dropped.
    func close() {
        guard let event, !event.isOver else { return }
        self.event?.isOver = true
        let rest = steps(event.mask).subtracting(event.ran)
        guard isLive, traits.isEdge, !rest.isEmpty, !event.ran.contains(.error) else { return }
        if event.isCertain {
            dropped.formUnion(rest)
            hadDropped = true
        } else {
            mayRepeat = true
        }
    }

    /// What was dropped is new again once it is asked for. Contract W5.
    private func revive() {
        let back = dropped.intersection(enabled(.everything.subtracting(traits.hasError ? .error : [])))
        if back.contains(.read) { pending.formUnion([.readable, .hangup, .peerShutdown, .priority, .error]) }
        if back.contains(.write) { pending.formUnion([.writable, .error]) }
        dropped.subtract(back)
    }
}
