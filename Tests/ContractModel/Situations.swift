/// What scripts came to, counted: a comparison that never sees a situation proves nothing of it.
public struct Situations: Sendable {
    public enum Situation: Int, CaseIterable, Sendable {
        // D
        case errorAlone, errorAsReadAndWrite, hangupAsRead, readThenWrite, readHangup, priority
        case dropByDisable, dropOfWriteStep
        // W2, W3, W4
        case replaced, replacedInCallback, replacedInBatch, unwatchedItself, unwatchedInBatch, stale, oldHandle
        // W5, W6
        case undoneInTurn, changedInTurn, changedBetween, edge, edgeOverUnread, edgeAfterDrop, edgeRepeated
        case enabledAfterArrival
        // W7
        case oneshot, rearmedInside, rearmedInTurn, rearmedLater, edgeRearmed, silentWhileDisarmed
        // W8, E3
        case refusedEBADF, refusedEPERM, refusedEINVAL, refusedInternal
        // W9
        case closedWatched, closedInBatch, numberReused, closedCopyTold, vanished, residue, rebuilt, placedOver
        case changeOfClosed, heldByChild
        // W10
        case parked, parkedEdge, parkedDisarmsNot, unparked, parkedReplaced, parkedUnwatched
        // W12
        case actedInRelease
        // L
        case nested, closeInCallback, stopInTurn, stopBefore, ranUntilStop, between, deferredByDeferred
        case waited, readyDescriptor, restingDescriptor
        // T
        case timerRan, timerByTimer, cancelledInBatch, cancelledItself, repeated, missed, equalDeadlines,
            invalidInterval
        case zeroInCallback
        // E
        case woke, wokeOnce, handlerRemoved, counted, countedSum, counterFull, counterCancelledInBatch
        // C
        case told, toldToSeveral, kept, stolen, refusedESRCH, killedByObserver, cancelledObserver
    }

    /// Acts that were really done, by kind.
    public private(set) var acts: [Int]
    /// The same, of those done inside a turn.
    public private(set) var actsInside: [Int]
    private var counts: [Int]
    public var scripts = 0
    public var callbacks = 0
    public var turns = 0

    public init() {
        acts = Array(repeating: 0, count: Act.Kind.allCases.count)
        actsInside = acts
        counts = Array(repeating: 0, count: Situation.allCases.count)
    }

    public subscript(_ situation: Situation) -> Int { counts[situation.rawValue] }
    public subscript(_ kind: Act.Kind) -> Int { acts[Int(kind.rawValue)] }

    mutating func note(_ situation: Situation) { counts[situation.rawValue] += 1 }
    mutating func note(_ kind: Act.Kind, isInside: Bool) {
        acts[Int(kind.rawValue)] += 1
        if isInside { actsInside[Int(kind.rawValue)] += 1 }
    }

    /// What never took place.
    public var missing: [String] {
        Act.Kind.allCases.filter { self[$0] == 0 }.map { "act \($0.name)" }
            + Situation.allCases.filter { self[$0] == 0 }.map { "\($0)" }
    }

    /// How often each situation took place, rare ones first.
    public var summary: String {
        let situations = Situation.allCases.map { ("\($0)", self[$0]) }.sorted { $0.1 < $1.1 }
        let kinds = Act.Kind.allCases.map { ($0.name, self[$0]) }.sorted { $0.1 < $1.1 }
        func line(_ pairs: [(String, Int)]) -> String { pairs.map { "\($0.0) \($0.1)" }.joined(separator: ", ") }
        return """
            \(scripts) scripts, \(acts.reduce(0, +)) acts (\(actsInside.reduce(0, +)) inside a turn), \
            \(turns) turns, \(callbacks) callbacks
            acts: \(line(kinds))
            situations: \(line(situations))
            """
    }
}
