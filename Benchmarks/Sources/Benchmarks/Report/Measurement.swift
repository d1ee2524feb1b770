import Foundation

/// One subject of one case, measured: what is kept in a file of results, one JSON object a line.
struct Measurement: Sendable {
    var suite: String
    var testCase: String
    var subject: String
    var unit: String
    /// The median of all rounds.
    var value: Double
    var min: Double
    var max: Double
    /// To raw C of the same round, median; not a number where there is no yardstick.
    var ratio: Double
    /// The ratio's quartiles.
    var ratioLow: Double
    var ratioHigh: Double
    var runs: Int
    var lowerIsBetter: Bool
    var notes: [String: Double] = [:]

    var name: String { "\(suite).\(testCase)" }

    /// What a unit says of itself: rates are better when they are high; times and sizes when they are low.
    static func lowerIsBetter(unit: String) -> Bool { !unit.hasSuffix("/s") }
}

extension Measurement {
    private enum Field: Decodable {
        case text(String)
        case flag(Bool)
        case number(Double)
        case other

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let text = try? container.decode(String.self) {
                self = .text(text)
            } else if let flag = try? container.decode(Bool.self) {
                self = .flag(flag)
            } else if let number = try? container.decode(Double.self) {
                self = .number(number)
            } else {
                self = .other
            }
        }
    }

    private static let known: Set = [
        "suite", "case", "subject", "value", "unit", "ratio_to_raw", "runs", "min", "max", "ratio_q1", "ratio_q3",
    ]

    /// nil: not a measurement.
    init?(json line: String) {
        guard let fields = try? JSONDecoder().decode([String: Field].self, from: Data(line.utf8)) else { return nil }
        func text(_ name: String) -> String? {
            if case .text(let text) = fields[name] { text } else { nil }
        }
        func number(_ name: String) -> Double? {
            if case .number(let number) = fields[name] { number } else { nil }
        }
        guard let suite = text("suite"), let testCase = text("case"), let subject = text("subject"),
            let unit = text("unit"), let value = number("value")
        else { return nil }
        let ratio = number("ratio_to_raw") ?? .nan
        var lowerIsBetter = Self.lowerIsBetter(unit: unit)
        if case .flag(let flag) = fields["lower_is_better"] { lowerIsBetter = flag }
        var notes: [String: Double] = [:]
        for case (let name, .number(let number)) in fields where !Self.known.contains(name) { notes[name] = number }
        self.init(
            suite: suite, testCase: testCase, subject: subject, unit: unit, value: value,
            min: number("min") ?? value, max: number("max") ?? value, ratio: ratio,
            ratioLow: number("ratio_q1") ?? ratio, ratioHigh: number("ratio_q3") ?? ratio,
            runs: number("runs").flatMap { Int(exactly: $0) } ?? 1, lowerIsBetter: lowerIsBetter, notes: notes)
    }

    /// All measurements in a text of one JSON object a line; other lines are left out.
    static func all(in text: String) -> [Measurement] {
        text.split(whereSeparator: \.isNewline).compactMap { Measurement(json: String($0)) }
    }

    var json: String {
        var fields: [(String, String?)] = [
            ("suite", Self.quoted(suite)), ("case", Self.quoted(testCase)), ("subject", Self.quoted(subject)),
            ("value", Self.number(value)), ("unit", Self.quoted(unit)), ("ratio_to_raw", Self.number(ratio)),
            ("runs", "\(runs)"), ("min", Self.number(min)), ("max", Self.number(max)),
            ("ratio_q1", Self.number(ratioLow)), ("ratio_q3", Self.number(ratioHigh)),
        ]
        if lowerIsBetter != Self.lowerIsBetter(unit: unit) { fields.append(("lower_is_better", "\(lowerIsBetter)")) }
        fields += notes.sorted { $0.key < $1.key }.map { ($0.key, Self.number($0.value)) }
        let written = fields.compactMap { name, value in value.map { "\(Self.quoted(name)):\($0)" } }
        return "{" + written.joined(separator: ",") + "}"
    }

    /// Whole from 1,000 on, six digits below; nil for what JSON has no word for.
    private static func number(_ value: Double) -> String? {
        guard value.isFinite else { return nil }
        let rounded = abs(value) >= 1000 ? value.rounded() : significant(value)
        return Int(exactly: rounded).map(String.init) ?? "\(rounded)"
    }

    private static func significant(_ value: Double) -> Double {
        guard value != 0 else { return 0 }
        let scale = pow(10, 5 - floor(log10(abs(value))))
        return scale.isFinite ? (value * scale).rounded() / scale : value
    }

    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case _ where scalar.value < 32:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
