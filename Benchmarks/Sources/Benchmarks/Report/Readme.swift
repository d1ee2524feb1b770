/// The table of the README, in Markdown.
enum Readme {
    /// A row for every case: raw C, ours, our ratio, and the ratios of the peers that are there.
    static func table(_ measurements: [Measurement]) -> String {
        let results = Results(measurements)
        // A column for each of the other yardsticks would be empty but for a row.
        let peers = results.subjects.filter(Subjects.isPeer)
        let columns = ["raw C", Subjects.ours, "ratio (quartiles)"] + peers
        let rows = results.suites.flatMap(\.cases).map { testCase in
            let ours = testCase[Subjects.ours]
            let figures =
                [testCase[Subjects.yardstick], ours].map { found in
                    found.map(value) ?? Figure.none
                } + [ours.map(ratio) ?? Figure.none]
            let others = peers.map { name in testCase[name].map { Figure.ratio($0.ratio) } ?? Figure.none }
            let sense = testCase.lowerIsBetter ? ", \(testCase.unit), lower is better" : ""
            return ["`\(testCase.suite).\(testCase.name)`" + sense] + figures + others
        }
        return rows.isEmpty ? "" : markdown(["case"] + columns, rows)
    }

    /// Where lower is better, the unit stands in the first column.
    private static func value(_ measurement: Measurement) -> String {
        measurement.lowerIsBetter
            ? Figure.short(measurement.value, unit: measurement.unit)
            : Figure.value(measurement.value, unit: measurement.unit)
    }

    private static func ratio(_ measurement: Measurement) -> String {
        guard measurement.ratio.isFinite else { return Figure.none }
        return "\(Figure.ratio(measurement.ratio)) (\(Figure.quartiles(measurement)))"
    }

    private static func markdown(_ head: [String], _ rows: [[String]]) -> String {
        let rule = "|---|" + String(repeating: "---:|", count: head.count - 1)
        func written(_ row: [String]) -> String {
            let cells = row.map { $0.split(separator: "|", omittingEmptySubsequences: false).joined(separator: "\\|") }
            return "| " + cells.joined(separator: " | ") + " |"
        }
        return ([written(head), rule] + rows.map(written)).joined(separator: "\n") + "\n"
    }
}
