/// The results of one case, for a terminal.
enum TextTable {
    static func text(_ measurements: [Measurement]) -> String {
        names(measurements).map { name in
            Columns.text(rows(measurements.filter { $0.name == name }), endsInWords: false)
        }.joined(separator: "\n")
    }

    private static func names(_ measurements: [Measurement]) -> [String] {
        var seen = Set<String>()
        return measurements.map(\.name).filter { seen.insert($0).inserted }
    }

    private static func rows(_ measurements: [Measurement]) -> [[String]] {
        let notes = Set(measurements.flatMap(\.notes.keys)).sorted()
        let head = [measurements[0].name, measurements[0].unit, "min", "max", "ratio", "quartiles"]
        return [head + notes]
            + measurements.map { measurement in
                [
                    measurement.subject, measurement.value.scaled, measurement.min.scaled, measurement.max.scaled,
                    Figure.fixed(measurement.ratio, 3),
                    measurement.ratio.isFinite
                        ? "\(measurement.ratioLow.digits(3))-\(measurement.ratioHigh.digits(3))" : Figure.none,
                ] + notes.map { measurement.notes[$0].map(\.scaled) ?? Figure.none }
            }
    }
}

extension Double {
    /// `count` digits after the point.
    func digits(_ count: Int) -> String {
        var scale = 1
        for _ in 0..<count { scale *= 10 }
        let whole = Int((self * Double(scale)).rounded())
        if count == 0 { return "\(whole)" }
        let fraction = String(whole % scale)
        return "\(whole / scale).\(String(repeating: "0", count: count - fraction.count))\(fraction)"
    }

    /// 1234567 is 1.23M.
    var scaled: String {
        switch self {
        case 1e8...: (self / 1e6).digits(0) + "M"
        case 1e7...: (self / 1e6).digits(1) + "M"
        case 1e6...: (self / 1e6).digits(2) + "M"
        case 1e4...: (self / 1e3).digits(0) + "k"
        default: digits(0)
        }
    }
}
