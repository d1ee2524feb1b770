/// A list of acts, and what there is when it begins. Every string of bytes is a script.
public struct Script: Hashable, Sendable {
    public var setup: Setup
    public var acts: [Act]

    /// What the script begins with, and how its loop ends.
    public struct Setup: Hashable, Sendable {
        /// Of the slots 2k and 2k + 1.
        public var pairs: [Pair]
        public var end: End

        public enum Pair: String, CaseIterable, Sendable { case unix, pipe, tcp, null, none }
        /// Closed or let go of, at rest or just as it is.
        public enum End: String, CaseIterable, Sendable { case close, release, closeAtOnce, releaseAtOnce }

        /// One byte says it all; slots 0 and 1 are always a pair of unix sockets.
        public init(byte: UInt8) {
            let second: [Pair] = [.pipe, .unix]
            let third: [Pair] = [.tcp, .pipe, .unix, .none]
            let fourth: [Pair] = [.none, .pipe, .none, .null]
            pairs = [
                .unix, second[Int(byte & 1)], third[Int(byte >> 1 & 3)], fourth[Int(byte >> 3 & 3)],
            ]
            end = End.allCases[Int(byte >> 5 & 3)]
        }

        /// The byte for it; nil where there is none.
        var byte: UInt8? { (0..<128).first { Setup(byte: $0) == self } }
    }

    public init(setup: Setup, acts: [Act]) {
        self.setup = setup
        self.acts = acts
    }

    // MARK: Bytes: one for the setup, and four an act. What lacks at the end counts as zero.

    /// An act more than this is left out: long scripts find no more and are slow.
    public static let longest = 200

    public init(bytes: some Sequence<UInt8>) {
        var rest = bytes.makeIterator()
        setup = Setup(byte: rest.next() ?? 0)
        acts = []
        while acts.count < Script.longest, let kind = rest.next() {
            acts.append(
                Act(
                    Act.Kind.allCases[Int(kind) % Act.Kind.allCases.count], rest.next() ?? 0, rest.next() ?? 0,
                    Act.Place(byte: rest.next() ?? 0)))
        }
    }

    public var bytes: [UInt8] {
        [setup.byte ?? 0]
            + acts.flatMap { act in
                [act.kind.rawValue, act.subject, act.operand, act.place.byte]
            }
    }
}

extension Act.Place {
    /// Half of all bytes mean "now".
    init(byte: UInt8) {
        switch byte {
        case 0..<128: self = .now
        case 128..<192: self = .callback(slot: byte & 7, nth: byte >> 3 & 7)
        default:
            let places: [Act.Place] = [.deferred, .deferred, .tick, .timer, .release, .wake, .counter, .child]
            self = places[Int(byte & 7)]
        }
    }

    var byte: UInt8 {
        switch self {
        case .now: 0
        case .callback(let slot, let nth): 128 | slot | nth << 3
        case .deferred: 192
        case .tick: 194
        case .timer: 195
        case .release: 196
        case .wake: 197
        case .counter: 198
        case .child: 199
        }
    }
}
