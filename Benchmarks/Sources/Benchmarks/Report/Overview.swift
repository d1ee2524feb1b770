/// All cases at a glance: a row for every suite, a dot for every case.
enum Overview {
    private static let left = 78.0
    private static let right = SVG.width - 46
    private static let row = 26.0

    /// Above 1 is better than raw C, whatever the unit.
    static func gain(_ measurement: Measurement) -> Double {
        measurement.lowerIsBetter ? 1 / measurement.ratio : measurement.ratio
    }

    private static func gains(_ suite: Results.Suite, _ wanted: (String) -> Bool) -> [(name: String, gain: Double)] {
        suite.measurements.filter { wanted($0.subject) }.map { ($0, gain($0)) }
            .filter { $0.1.isFinite && $0.1 > 0 }
            .map { ("\($0.0.name), \(Subjects.title($0.0.subject)): \(Figure.ratio($0.1))", $0.1) }
    }

    static func chart(_ results: Results) -> String {
        let rows = results.suites.map { suite in
            (name: suite.name, ours: gains(suite) { $0 == Subjects.ours }, others: gains(suite, Subjects.isPeer))
        }.filter { !$0.ours.isEmpty || !$0.others.isEmpty }
        let all: [Double] = rows.flatMap { line in (line.ours + line.others).map { $0.gain } } + [1]
        guard !rows.isEmpty, let low = all.min(), let high = all.max() else { return "" }
        let scale = Scale(
            low: min(low, 0.8) / 1.1, high: max(high, 1.25) * 1.1, logarithmic: true, from: left, to: right)
        let head = 16.0
        let bottom = head + Double(rows.count) * row
        var svg = SVG(
            height: bottom + 32, label: "Every case as a dot: performance as a multiple of raw C, by suite")
        svg.text("median", SVG.width, 10, .end, "tick")
        for tick in scale.ticks(apart: 26) {
            svg.line(scale.place(tick), head, scale.place(tick), bottom, "grid")
            svg.text(Figure.tick(tick), scale.place(tick), bottom + 13, .middle, tick == 1 ? "tick one" : "tick")
        }
        svg.line(scale.place(1), head, scale.place(1), bottom, "unity")
        let one = scale.place(1)
        if one - left > 90 { svg.text("← worse than raw C", one - 12, bottom + 28, .end, "tick") }
        if right - one > 60 { svg.text("better →", one + 12, bottom + 28, .start, "tick") }
        for (index, entry) in rows.enumerated() {
            let y = head + (Double(index) + 0.5) * row
            svg.text(entry.name, left - 8, y + 4, .end)
            for other in entry.others {
                svg.group(other.name) { $0.mark(.disc, scale.place(other.gain), y + 6, 3, "dim") }
            }
            for own in entry.ours {
                svg.group(own.name) { $0.mark(.disc, scale.place(own.gain), y - 5, 4.2, "f s-ours dot") }
            }
            if !entry.ours.isEmpty {
                svg.text(Figure.ratio(Statistics(entry.ours.map(\.gain)).median) + "×", SVG.width, y + 4, .end, "own")
            }
        }
        return svg.markup
    }

    /// What the dots say, in figures.
    static func sentences(_ results: Results) -> [String] {
        let cases = results.suites.flatMap(\.cases)
        let own = cases.compactMap { $0[Subjects.ours] }.map(gain).filter(\.isFinite)
        guard !own.isEmpty else { return [] }
        let near = own.filter { $0 >= 0.95 }.count
        var result = [
            "\(Subjects.ours) in \(own.count) cases beside raw C: median ratio "
                + "\(Figure.ratio(Statistics(own).median)); \(near) at 0.95 or above."
        ]
        var met = 0
        var first = 0
        for testCase in cases {
            guard let ours = testCase[Subjects.ours].map(gain), ours.isFinite else { continue }
            let others = testCase.measurements.filter { Subjects.isPeer($0.subject) }.map(gain).filter(\.isFinite)
            guard let best = others.max() else { continue }
            met += 1
            if ours >= best { first += 1 }
        }
        if met > 0 {
            result.append("Of \(met) cases that other loops have too, it is at or above the best of them in \(first).")
        }
        return result
    }
}
