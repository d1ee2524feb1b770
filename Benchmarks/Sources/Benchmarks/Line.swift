/// One subject of one case, measured.
struct Line {
    let suite: String
    let testCase: String
    let subject: String
    let unit: String
    let rates: Statistics
    /// To the raw subject of the same round.
    let ratios: Statistics
    let notes: [(name: String, value: Double)]

    var json: String {
        var fields = [
            #""suite":"\#(suite)""#,
            #""case":"\#(testCase)""#,
            #""subject":"\#(subject)""#,
            #""value":\#(Int(rates.median))"#,
            #""unit":"\#(unit)""#,
            #""ratio_to_raw":\#(ratios.median.digits(3))"#,
            #""runs":\#(rates.count)"#,
            #""min":\#(Int(rates.min))"#,
            #""max":\#(Int(rates.max))"#,
            #""ratio_q1":\#(ratios.lowerQuartile.digits(3))"#,
            #""ratio_q3":\#(ratios.upperQuartile.digits(3))"#,
        ]
        fields += notes.map { #""\#($0.name)":\#(Int($0.value))"# }
        return "{" + fields.joined(separator: ",") + "}"
    }

    static func table(_ lines: [Line]) -> String {
        let head = ["\(lines[0].suite).\(lines[0].testCase)", lines[0].unit, "min", "max", "ratio", "quartiles"]
        let notes = lines[0].notes.map(\.name)
        var rows = [head + notes]
        for line in lines {
            rows.append(
                [
                    line.subject, line.rates.median.scaled, line.rates.min.scaled, line.rates.max.scaled,
                    line.ratios.median.digits(3),
                    "\(line.ratios.lowerQuartile.digits(3))-\(line.ratios.upperQuartile.digits(3))",
                ] + line.notes.map { $0.value.scaled })
        }
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            row.indices.map { column in
                let padding = String(repeating: " ", count: widths[column] - row[column].count)
                return column == 0 ? row[column] + padding : padding + row[column]
            }.joined(separator: "  ")
        }.joined(separator: "\n") + "\n"
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
