/// One small act of a script: what, to whom, how, and where.
public struct Act: Hashable, Sendable {
    public var kind: Kind
    /// A slot of descriptors, or the number of a timer, a counter and the like.
    public var subject: UInt8
    public var operand: UInt8
    public var place: Place

    /// Values out of range are brought into it, so that equal acts are equal values.
    public init(_ kind: Kind, _ subject: UInt8 = 0, _ operand: UInt8 = 0, _ place: Place = .now) {
        self.kind = kind
        self.subject = kind.hasSubject ? subject % UInt8(Act.slots) : 0
        self.operand = kind.operand.reduce(operand)
        self.place = place
    }

    /// How many descriptors a script has to do with.
    public static let slots = 8

    /// Where an act is done.
    public enum Place: Hashable, Sendable {
        /// Where the script stands: outside a turn, or between its two halves.
        case now
        /// In the nth callback, from then on, of whoever watches a slot.
        case callback(slot: UInt8, nth: UInt8)
        case deferred
        case timer
        /// When the handlers of a watcher are released at the end of a turn.
        case release
        /// In the next callback of a repeating timer.
        case tick
        case wake
        case counter
        case child
    }

    public enum Kind: UInt8, CaseIterable, Sendable {
        // Files.
        case write, read, fill, close, shut, reset, urgent, open, copy, place, takeError
        // Watchers.
        case watch, watchWith, interest, turn, unwatch, cancel, old, rearm, look
        // Timers.
        case after, at, every, cancelTimer, pause
        // The loop's other work.
        case `defer`, stop, wake, onWake, counter, signal, cancelCounter, internals
        case spawn, observe, kill, steal, cancelObserver
        case updateNow, statistics, descriptor
        // Turns. Inside a turn each of them must be refused.
        case pump, wait, run, linger, settle
    }
}

/// What the operand of an act means.
public enum Operand: Sendable {
    case none
    case number(UInt8)
    case choice([String])
    case flags([String])

    /// The value that means the same and is in range.
    func reduce(_ value: UInt8) -> UInt8 {
        switch self {
        case .none: 0
        case .number(let limit): value % limit
        case .choice(let names): value % UInt8(names.count)
        case .flags(let names): value & UInt8((1 << names.count) - 1)
        }
    }
}

extension Act.Kind {
    public var name: String { "\(self)" }

    init?(name: some StringProtocol) {
        guard let kind = Act.Kind.allCases.first(where: { $0.name == name }) else { return nil }
        self = kind
    }

    var hasSubject: Bool {
        switch self {
        case .onWake, .defer, .stop, .wake, .after, .at, .every, .counter, .pause, .updateNow, .statistics,
            .descriptor, .pump, .wait, .run, .linger, .settle:
            false
        default: true
        }
    }

    var operand: Operand {
        switch self {
        case .write: .number(16)
        case .read: .choice(["all", "one"])
        case .close: .choice(["unwatched", "watched"])
        case .shut: .choice(["writing", "reading", "both"])
        case .open: .choice(["unix", "pipe", "tcp", "null"])
        case .copy, .place: .number(UInt8(Act.slots))
        case .watch: .flags(["edge", "oneshot", "read", "write", "error", "drain", "data"])
        case .watchWith:
            .flags(["edge", "oneshot", "exclusive", "priority", "hangup", "given", "startRead", "startWrite"])
        case .interest: .flags(["read", "write", "priority", "hangup"])
        case .turn: .choice(["readOn", "readOff", "writeOn", "writeOff"])
        case .old: .choice(["cancel", "interest", "rearm"])
        case .after: .choice(["zero", "negative", "tiny", "short", "far", "endless"])
        case .at: .choice(["zero", "past", "tiny", "short", "far", "never"])
        case .every: .choice(["zero", "negative", "tiny", "short", "far"])
        case .onWake: .choice(["set", "remove"])
        case .signal: .number(4)
        case .internals: .choice(["watch", "unwatch"])
        case .spawn: .choice(["plain", "holding"])
        case .observe: .choice(["reap", "keep"])
        case .kill: .choice(["direct", "observer"])
        case .pump: .choice(["runOnce", "halves"])
        case .run: .choice(["deferredStop", "timerStop", "stopFirst"])
        default: .none
        }
    }
}
