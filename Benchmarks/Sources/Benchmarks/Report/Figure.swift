/// Numbers as readers like them.
enum Figure {
    /// What stands where there is no figure.
    static let none = "-"

    static func fixed(_ value: Double, _ digits: Int) -> String {
        guard value.isFinite, abs(value) < 1e12 else { return value.isFinite ? "\(value)" : none }
        return value < 0 ? "-" + (-value).digits(digits) : value.digits(digits)
    }

    static func ratio(_ value: Double) -> String {
        switch value {
        case 100...: fixed(value, 0)
        case 10...: fixed(value, 1)
        case 0.1...: fixed(value, 2)
        case 0.01...: fixed(value, 3)
        default: fixed(value, 4)
        }
    }

    static func quartiles(_ measurement: Measurement) -> String {
        guard measurement.ratioLow.isFinite, measurement.ratioHigh.isFinite else { return none }
        return "\(ratio(measurement.ratioLow))–\(ratio(measurement.ratioHigh))"
    }

    /// 1234567 msg/s is 1.23 M/s; 840 ns stays 840 ns.
    static func value(_ value: Double, unit: String) -> String {
        guard value.isFinite else { return none }
        if isTime(unit) { return grouped(value) + " ns" }
        if isSize(unit) { return scaled(value, "B") }
        return scaled(value, unit.hasSuffix("/s") ? "/s" : unit)
    }

    /// The same where the whole unit stands near by.
    static func short(_ value: Double, unit: String) -> String {
        guard value.isFinite, !isTime(unit), !isSize(unit), !unit.hasSuffix("/s") else {
            return Figure.value(value, unit: unit)
        }
        return grouped(value)
    }

    static func isTime(_ unit: String) -> Bool { unit == "ns" || unit.hasPrefix("ns/") || unit.hasPrefix("ns ") }

    static func isSize(_ unit: String) -> Bool { unit == "B" || unit.hasPrefix("B/") || unit.hasPrefix("byte") }

    /// Three digits, where there are as many.
    static func scaled(_ value: Double, _ unit: String) -> String {
        let steps: [(Double, String)] = [(1e9, "G"), (1e6, "M"), (1e3, "k")]
        // What rounds up to the next step is written in it.
        for (size, letter) in steps where abs(value) >= size * 0.9995 {
            return "\(three(value / size)) \(letter)\(unit)"
        }
        return "\(value == value.rounded() ? fixed(value, 0) : three(value)) \(unit)"
    }

    private static func three(_ value: Double) -> String {
        fixed(value, abs(value) >= 99.95 ? 0 : abs(value) >= 9.995 ? 1 : 2)
    }

    /// Nanoseconds in the unit that suits them: 850 ns, 12.3 µs, 1.20 ms.
    static func time(_ nanoseconds: Double) -> String {
        switch nanoseconds {
        case 999.5e6...: "\(three(nanoseconds / 1e9)) s"
        case 999.5e3...: "\(three(nanoseconds / 1e6)) ms"
        case 999.5...: "\(three(nanoseconds / 1e3)) µs"
        default: "\(fixed(nanoseconds, 0)) ns"
        }
    }

    /// 1234567 is 1,234,567.
    static func grouped(_ value: Double) -> String {
        if abs(value) < 10, value != value.rounded() { return abs(value) < 1 ? ratio(value) : fixed(value, 1) }
        let digits = Array(fixed(value, 0))
        var result = ""
        for (index, digit) in digits.enumerated() {
            let left = digits.count - index
            if index > 0, left % 3 == 0, digits[index - 1] != "-" { result.append(",") }
            result.append(digit)
        }
        return result
    }

    /// The tick of an axis: 0.5, 1, 20.
    static func tick(_ value: Double) -> String {
        value == value.rounded() ? fixed(value, 0) : trimmed(fixed(value, 6))
    }

    private static func trimmed(_ text: String) -> String {
        String(text.reversed().drop { $0 == "0" }.reversed())
    }
}
