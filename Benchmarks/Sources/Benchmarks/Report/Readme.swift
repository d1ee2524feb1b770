/// The tables of the README, in Markdown.
enum Readme {
    /// For every suite a heading, its table, and a table of latencies where there are any.
    static func tables(_ measurements: [Measurement], descriptions: [String: String] = [:]) -> String {
        Results(measurements).suites.map { suite in
            let latencies = latencies(suite.measurements, descriptions: descriptions)
            return "### \(suite.name)\n\n" + table(suite.measurements, descriptions: descriptions)
                + (latencies.isEmpty ? "" : "\n" + latencies)
        }.joined(separator: "\n")
    }

    /// A row for every case: raw C, ours, our ratio, and the ratios of the peers that are there.
    static func table(_ measurements: [Measurement], descriptions: [String: String] = [:]) -> String {
        let results = Results(measurements)
        let peers = peers(results)
        let columns = ["raw C", Subjects.ours, "ratio (quartiles)"] + peers
        let rows = results.suites.flatMap(\.cases).map { testCase in
            let ours = testCase[Subjects.ours]
            let figures =
                [testCase[Subjects.yardstick], ours].map { found in
                    found.map(value) ?? Figure.none
                } + [ours.map(ratio) ?? Figure.none]
            let others = peers.map { name in testCase[name].map { Figure.ratio($0.ratio) } ?? Figure.none }
            let sense = testCase.lowerIsBetter ? ", \(testCase.unit), lower is better" : ""
            return [title(testCase, descriptions) + sense] + figures + others
        }
        return rows.isEmpty ? "" : markdown(["case"] + columns, rows)
    }

    /// A row for every case with latencies: p50 / p99 / p99.9 of each subject. Empty: there is none.
    static func latencies(_ measurements: [Measurement], descriptions: [String: String] = [:]) -> String {
        let notes = ["p50", "p99", "p999"]
        let results = Results(measurements.filter { $0.notes["p50"] != nil })
        let known = [Subjects.yardstick, Subjects.ours].filter(results.subjects.contains)
        let subjects = known + peers(results)
        let rows = results.suites.flatMap(\.cases).map { testCase in
            [title(testCase, descriptions)]
                + subjects.map { name in
                    guard let found = testCase[name] else { return Figure.none }
                    return notes.map { note in found.notes[note].map(Figure.grouped) ?? Figure.none }
                        .joined(separator: " / ")
                }
        }
        return rows.isEmpty
            ? "" : markdown(["latency in ns: p50 / p99 / p99.9"] + subjects.map(Subjects.title), rows)
    }

    private static func peers(_ results: Results) -> [String] {
        // Other yardsticks are in the page; a column for each would be empty but for a row.
        results.subjects.filter { !$0.hasPrefix(Subjects.yardstick) && $0 != Subjects.ours }
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

    private static func title(_ testCase: Results.Case, _ descriptions: [String: String]) -> String {
        descriptions["\(testCase.suite).\(testCase.name)"] ?? "`\(testCase.suite).\(testCase.name)`"
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
