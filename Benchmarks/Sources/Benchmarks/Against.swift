/// What is different from an earlier run. Compared are ratios to raw C, so the runs may be of different machines.
enum Against {
    enum Verdict: String, Sendable {
        case better, worse
        /// Not in the earlier results.
        case new
        /// Not in the results of now.
        case gone
    }

    struct Change: Sendable {
        let suite: String
        let testCase: String
        let subject: String
        let verdict: Verdict
        let then: Measurement?
        let now: Measurement?

        var name: String { "\(suite).\(testCase)" }
        var isWorse: Bool { verdict == .worse }
    }

    /// Medians that are closer than this are the same.
    static let threshold = 0.05

    /// In the order of the results of now, then what is gone. Cases that did not change are left out.
    static func compare(
        earlier: [Measurement], now: [Measurement], subject: String = Subjects.ours
    ) -> [Change] {
        let before = byName(earlier, subject)
        let after = byName(now, subject)
        var changes: [Change] = []
        for measurement in after.order {
            guard let then = before.found[measurement.name] else {
                changes.append(change(.new, nil, measurement))
                continue
            }
            if let verdict = verdict(then, measurement) { changes.append(change(verdict, then, measurement)) }
        }
        for then in before.order where after.found[then.name] == nil { changes.append(change(.gone, then, nil)) }
        return changes
    }

    /// nil: the quartiles overlap, the medians are close, or a ratio is missing.
    private static func verdict(_ then: Measurement, _ now: Measurement) -> Verdict? {
        guard then.ratio.isFinite, now.ratio.isFinite, then.ratio > 0 else { return nil }
        let apart = now.ratioLow > then.ratioHigh || now.ratioHigh < then.ratioLow
        guard apart, abs(now.ratio / then.ratio - 1) > threshold else { return nil }
        return (now.ratio > then.ratio) != now.lowerIsBetter ? .better : .worse
    }

    /// What changed, how much, and what is too noisy to say.
    static func text(
        _ changes: [Change], earlier: [Measurement] = [], now: [Measurement], subject: String = Subjects.ours
    ) -> String {
        func count(_ verdict: Verdict) -> Int { changes.filter { $0.verdict == verdict }.count }
        let cases = byName(now, subject).order.count
        let summary =
            "\(subject): \(cases) cases, \(count(.better)) better, \(count(.worse)) worse, \(count(.new)) new, "
            + "\(count(.gone)) gone\n"
        let noise = [("then", earlier), ("now", now)].map { when, measurements in
            Noise.text(measurements.filter { $0.subject == subject }, when: when)
        }
        return ([summary, table(changes)] + noise).filter { !$0.isEmpty }.joined(separator: "\n")
    }

    /// Empty: nothing changed.
    static func table(_ changes: [Change]) -> String {
        guard !changes.isEmpty else { return "" }
        let rows = changes.map { change in
            [
                change.name, cell(change.then), cell(change.now), difference(change), change.verdict.rawValue,
            ]
        }
        return Columns.text([["case", "ratio then", "ratio now", "change", ""]] + rows)
    }

    private static func cell(_ measurement: Measurement?) -> String {
        guard let measurement else { return Figure.none }
        let noisy = Noise.isNoisy(measurement) ? " ~" : ""
        return "\(Figure.ratio(measurement.ratio)) (\(Figure.quartiles(measurement)))\(noisy)"
    }

    private static func difference(_ change: Change) -> String {
        guard let then = change.then, let now = change.now else { return "" }
        let percent = (now.ratio / then.ratio - 1) * 100
        return (percent > 0 ? "+" : "") + Figure.fixed(percent, 0) + " %"
    }

    private static func change(_ verdict: Verdict, _ then: Measurement?, _ now: Measurement?) -> Change {
        let any = now ?? then
        return Change(
            suite: any?.suite ?? "", testCase: any?.testCase ?? "", subject: any?.subject ?? "", verdict: verdict,
            then: then, now: now)
    }

    private static func byName(
        _ measurements: [Measurement], _ subject: String
    ) -> (order: [Measurement], found: [String: Measurement]) {
        let order = Results(measurements.filter { $0.subject == subject }).measurements
        return (order, Dictionary(order.map { ($0.name, $0) }) { _, last in last })
    }
}

/// Figures that scatter too much to be trusted.
enum Noise {
    /// How far a quartile of the ratio may be from its median.
    static let limit = 0.1

    static func isNoisy(_ measurement: Measurement) -> Bool {
        measurement.ratioLow < measurement.ratio * (1 - limit)
            || measurement.ratioHigh > measurement.ratio * (1 + limit)
    }

    /// A line for each noisy figure. Empty: there is none.
    static func text(_ measurements: [Measurement], when: String = "") -> String {
        measurements.filter(isNoisy).map { measurement in
            let subject = Subjects.title(measurement.subject)
            return "\(measurement.name), \(subject)\(when.isEmpty ? "" : ", \(when)") is noisy: "
                + "ratio \(Figure.ratio(measurement.ratio)), quartiles \(Figure.quartiles(measurement))\n"
        }.joined()
    }
}

/// A table for a terminal: the first column to the left, the others to the right.
enum Columns {
    /// - endsInWords: the last column stands to the left, too.
    static func text(_ rows: [[String]], endsInWords: Bool = true) -> String {
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            let cells = row.indices.map { column in
                let padding = String(repeating: " ", count: widths[column] - row[column].count)
                if endsInWords, column == row.count - 1 { return row[column] }
                return column == 0 ? row[column] + padding : padding + row[column]
            }
            return String(cells.joined(separator: "  ").reversed().drop { $0 == " " }.reversed())
        }.joined(separator: "\n") + "\n"
    }
}
