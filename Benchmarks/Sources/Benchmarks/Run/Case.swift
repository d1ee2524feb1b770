/// What one run of one subject measured, by its own clock, over the work alone.
struct Sample {
    var operations: UInt64
    /// Or what else the case is about: bytes.
    var nanoseconds: UInt64
    /// Whatever helps to read the reading: turns, wakes, percentiles.
    var notes: [(name: String, value: UInt64)] = []

    var rate: Double { Double(operations) * 1e9 / Double(max(nanoseconds, 1)) }
    var cost: Double { Double(nanoseconds) / Double(max(operations, 1)) }
}

/// What is read from a sample. A case may have several.
struct Reading: Sendable {
    enum Kind: Sendable {
        /// Operations a second.
        case rate
        /// Nanoseconds, or bytes, an operation.
        case cost
        case note(String)
    }

    /// Follows the case's name: "", ".cpu".
    let suffix: String
    let unit: String
    let kind: Kind

    static func rate(_ unit: String) -> Reading { Reading(suffix: "", unit: unit, kind: .rate) }
    static func cost(_ unit: String) -> Reading { Reading(suffix: "", unit: unit, kind: .cost) }
    static func note(_ name: String, _ unit: String, suffix: String = "") -> Reading {
        Reading(suffix: suffix, unit: unit, kind: .note(name))
    }

    var lowerIsBetter: Bool { if case .rate = kind { false } else { true } }

    /// nil: this subject does not say.
    func value(of sample: Sample) -> Double? {
        switch kind {
        case .rate: sample.rate
        case .cost: sample.cost
        case .note(let name): sample.notes.first { $0.name == name }.map { Double($0.value) }
        }
    }
}

struct Subject: Sendable {
    let name: String
    let run: @Sendable (_ operations: Int) throws -> Sample
}

struct Case: Sendable {
    let name: String
    let operations: Int
    var readings: [Reading]
    /// At least so many rounds, where single runs say little.
    var leastRuns = 1
    /// The calling thread goes to the first CPU. Otherwise the subjects choose CPUs for their own threads.
    var isPinned = true
    /// No run before the measured one in the same process: where growth is what counts.
    var isCold = false
    /// How much less work a quick run does.
    var quickShare = 10
    /// The first one is the yardstick of the ratios.
    let subjects: [Subject]
}

protocol Suite: SendableMetatype {
    static var name: String { get }
    /// The question that it answers, and what the cases are.
    static var abstract: String { get }
    static var cases: [Case] { get }
}
