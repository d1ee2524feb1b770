extension Script {
    /// A script by chance. It keeps to a few slots, so that its acts have to do with each other.
    public init(random: inout some RandomNumberGenerator) {
        setup = Setup(byte: UInt8.random(in: 0..<128, using: &random))
        acts = []
        // A few kinds are slow, so only some scripts have them.
        let children = Int.random(in: 0..<32, using: &random) == 0
        let settles = Int.random(in: 0..<100, using: &random) == 0
        let isTroubled = Int.random(in: 0..<3, using: &random) == 0
        let slots = (0..<Int.random(in: 2...5, using: &random)).map { _ in UInt8.random(in: 0..<8, using: &random) }
        let weights = Act.Kind.allCases.map { kind in
            switch kind {
            case .spawn, .observe, .kill, .steal, .cancelObserver: children ? 16 : 0
            case .settle: settles ? 10 : 0
            case .copy, .place: isTroubled ? kind.weight * 3 : kind.weight / 2
            default: kind.weight
            }
        }
        let total = weights.reduce(0, +)
        for _ in 0..<Int.random(in: 10...60, using: &random) {
            var left = Int.random(in: 0..<total, using: &random)
            let index = weights.firstIndex { weight in
                left -= weight
                return left < 0
            }
            let kind = Act.Kind.allCases[index ?? 0]
            var operand = UInt8.random(in: 0...255, using: &random)
            // Closing without unwatch is an exception, or little else would be seen.
            if kind == .close, !isTroubled || Bool.random(using: &random) { operand = 0 }
            // Most watchers read or write.
            if kind == .watch, Int.random(in: 0..<8, using: &random) > 0 {
                operand |= Bool.random(using: &random) ? 4 : 12
            }
            let subject =
                kind.hasSlot ? slots.randomElement(using: &random) ?? 0 : UInt8.random(in: 0..<8, using: &random)
            acts.append(Act(kind, subject, operand, Script.place(kind, slots, &random)))
        }
        if settles || Int.random(in: 0..<3, using: &random) == 0 { insertPhrase(&random) }
        if !settles { acts.removeAll { $0.kind == .settle && $0.place == .now } }
    }

    /// Something that chance alone rarely comes to, with a gap here and there. A and B are the ends of a pair.
    private static let phrases = [
        // Nobody takes a hang-up.
        "watch A read; turn A readOff; close B unwatched; pump runOnce; turn A readOn; pump runOnce",
        "watch A edge+read+write; interest A nothing; shut B both; shut A both; pump halves; "
            + "interest A read+write; pump runOnce",
        "watch A oneshot+write; turn A writeOff; close B unwatched; pump runOnce; rearm A; "
            + "pump runOnce; turn A writeOn",
        "watch A read; interest A nothing; close B unwatched; pump runOnce; close A watched; "
            + "open A unix; turn A readOn",
        // What comes while nobody asks, and what is dropped in the batch.
        "watch A edge+read; turn A readOff; write B 1; pump runOnce; turn A readOn; pump runOnce",
        "watch A edge+read; watch B edge+write+read; write B 1; callback B 0: turn A readOff; "
            + "pump runOnce; turn A readOn; pump runOnce",
        "watch A edge+read+write; write B 1; callback A 0: turn A writeOff; pump runOnce; "
            + "deferred: turn A writeOn; pump runOnce; pump runOnce",
        "write A 1; write B 1; watch A oneshot+read; watch B read; callback B 0: turn A readOff; "
            + "callback A 0: unwatch B; pump runOnce; turn A readOn; pump runOnce",
        // Out-of-band data needs TCP.
        "close A unwatched; close B unwatched; open A tcp; watchWith A edge+priority+given; "
            + "urgent B; pump runOnce; urgent B; pump runOnce",
        // Copies that stay.
        "watch A read; copy A 7; write B 1; close A watched; pump runOnce; pump runOnce; unwatch A; settle",
        "watch A read; copy A 7; write B 1; close A watched; pump runOnce; settle",
        "watch A read; copy A 7; write B 1; close A watched; cancel A; settle",
        "watch A edge+read; copy A 6; callback A 0: close A watched; write B 2; pump runOnce; write B 1; settle",
        "watch A read; write B 1; pump runOnce; spawn A holding; close A watched; pump runOnce; settle; kill 0 direct",
        "watch A read; copy A 7; close A watched; unwatch A; copy 7 A; watchWith A exclusive; pump runOnce",
        "watchWith A exclusive; copy A 7; close A watched; unwatch A; copy 7 A; watch A read; pump runOnce",
        // Children.
        "spawn 0 plain; observe 0 reap; observe 0 keep; kill 0 observer; pump runOnce; observe 0 keep",
        "spawn 0 plain; observe 0 keep; kill 0 direct; pump halves; observe 0 reap; "
            + "child: cancelObserver 0; pump runOnce",
        "spawn 0 plain; observe 0 reap; observe 0 reap; kill 0 direct; steal 0; child: cancelObserver 1; pump runOnce",
        // Timers and counters within a batch.
        "every tiny; pause; tick: cancelTimer 0; pump runOnce; at zero; at zero; pump runOnce",
        "counter; counter; signal 0 1; signal 1 2; counter: cancelCounter 1; counter: cancelCounter 0; pump runOnce",
        "onWake set; wake; wake; pump runOnce; wake: onWake remove; wake; wake: wake; pump runOnce",
        "watch A write; callback A 0: settle; callback A 0: run deferredStop; pump runOnce",
    ]

    private mutating func insertPhrase(_ random: inout some RandomNumberGenerator) {
        let near = UInt8.random(in: 0..<6, using: &random)
        let text = (Script.phrases.randomElement(using: &random) ?? "")
            .replacing(" A", with: " \(near)").replacing(" B", with: " \(near ^ 1)")
        guard let phrase = Script(text) else { fatalError("no script: \(text)") }
        var place = Int.random(in: 0...acts.count, using: &random)
        for act in phrase.acts where Int.random(in: 0..<16, using: &random) > 0 {
            acts.insert(act, at: place)
            place = min(place + Int.random(in: 0..<6, using: &random) / 4 + 1, acts.count)
        }
    }

    private static func place(
        _ kind: Act.Kind, _ slots: [UInt8], _ random: inout some RandomNumberGenerator
    ) -> Act.Place {
        switch kind {
        case .pump, .wait, .run, .linger, .settle, .spawn:
            // Inside a turn they are refused, which is soon seen.
            if Int.random(in: 0..<24, using: &random) > 0 { return .now }
        default: break
        }
        switch Int.random(in: 0..<20, using: &random) {
        case 0..<11: return .now
        case 11..<16:
            let slot = slots.randomElement(using: &random) ?? 0
            return .callback(slot: slot, nth: UInt8(Int.random(in: 0..<9, using: &random) / 3))
        case 16, 17: return .deferred
        case 18: return .timer
        default: return [.release, .tick, .wake, .counter, .child].randomElement(using: &random) ?? .now
        }
    }
}

extension Act.Kind {
    /// Whether the subject is a slot of descriptors.
    var hasSlot: Bool {
        switch self {
        case .write, .read, .fill, .close, .shut, .reset, .urgent, .open, .copy, .place, .takeError, .watch, .watchWith,
            .interest, .turn, .unwatch, .cancel, .rearm, .look, .spawn:
            true
        default: false
        }
    }

    /// How often, beside the others.
    var weight: Int {
        switch self {
        case .pump: 90
        case .watch: 60
        case .write: 50
        case .turn: 36
        case .interest, .rearm: 24
        case .read: 20
        case .wait, .close, .open, .fill: 14
        case .watchWith, .unwatch, .cancel, .old: 12
        case .after, .place, .copy, .shut, .reset, .signal, .wake: 8
        case .at, .every, .cancelTimer, .defer, .stop, .counter, .onWake, .run: 6
        case .linger, .pause, .look, .statistics, .descriptor: 3
        case .urgent, .takeError, .cancelCounter, .internals, .updateNow: 2
        case .settle, .spawn, .observe, .kill, .steal, .cancelObserver: 1
        }
    }
}
