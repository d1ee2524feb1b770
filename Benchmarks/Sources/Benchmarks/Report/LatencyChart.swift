/// How long it took, and how long in the worst of 10, 100 and 1,000 times. All cases of a suite share one axis.
struct LatencyChart {
    static let percentiles: [(note: String, title: String, mark: SVG.Mark)] = [
        ("p50", "p50", .disc), ("p90", "p90", .ring), ("p99", "p99", .diamond), ("p999", "p99.9", .cross),
    ]

    private static let left = 80.0
    private static let right = SVG.width - 128
    private static let row = 19.0

    private let scale: Scale

    /// nil: no case of the suite has latencies.
    init?(_ suite: Results.Suite) {
        let all = suite.measurements.flatMap(Self.values).map(\.value)
        guard let low = all.min(), let high = all.max() else { return nil }
        scale = Scale(low: low / 1.12, high: high * 1.12, logarithmic: true, from: Self.left + 4, to: Self.right)
    }

    static func has(_ testCase: Results.Case) -> Bool { testCase.measurements.contains { !values($0).isEmpty } }

    private static func values(_ measurement: Measurement) -> [(title: String, value: Double, mark: SVG.Mark)] {
        percentiles.compactMap { percentile in
            guard let value = measurement.notes[percentile.note], value.isFinite, value > 0 else { return nil }
            return (percentile.title, value, percentile.mark)
        }
    }

    func panel(_ testCase: Results.Case) -> String {
        let shown = testCase.measurements.filter { !Self.values($0).isEmpty }
        let head = 15.0
        let bottom = head + Double(shown.count) * Self.row + 2
        var svg = SVG(
            height: bottom + 17,
            label: "\(testCase.suite).\(testCase.name): latency percentiles of each subject, lower is better")
        svg.text("p50", SVG.width - 60, 10, .end, "tick")
        svg.text("p99", SVG.width, 10, .end, "tick")
        for tick in scale.ticks(apart: 42) {
            svg.line(scale.place(tick), head, scale.place(tick), bottom, "grid")
            svg.text(Self.tick(tick), scale.place(tick), bottom + 13, .middle, "tick")
        }
        for (index, measurement) in shown.enumerated() {
            let values = Self.values(measurement)
            let words = values.map { "\($0.title) \(Figure.time($0.value))" }.joined(separator: ", ")
            svg.group("\(Subjects.title(measurement.subject)): \(words)") { svg in
                draw(measurement, values, y: head + (Double(index) + 0.5) * Self.row, in: &svg)
            }
        }
        return svg.markup
    }

    private func draw(
        _ measurement: Measurement, _ values: [(title: String, value: Double, mark: SVG.Mark)], y: Double,
        in svg: inout SVG
    ) {
        let style = Subjects.style(measurement.subject)
        let weight = style == "s-ours" ? "own" : ""
        svg.text(Subjects.title(measurement.subject), Self.left - 7, y + 4, .end, weight)
        for (note, x) in [("p50", SVG.width - 60), ("p99", SVG.width)] {
            svg.text(measurement.notes[note].map(Figure.time) ?? Figure.none, x, y + 4, .end, weight)
        }
        let places = values.map { scale.place($0.value) }
        svg.line(places.min() ?? 0, y, places.max() ?? 0, y, "l thin \(style)")
        // The median last, so that it lies on top.
        for (value, place) in zip(values, places).reversed() {
            let kind = value.mark == .cross ? "l" : "f"
            svg.mark(value.mark, place, y, value.mark == .disc ? 4.2 : 3.2, "\(kind) \(style)")
        }
    }

    private static func tick(_ nanoseconds: Double) -> String {
        let units = [(1e9, "s"), (1e6, "ms"), (1e3, "µs")]
        for (size, unit) in units where nanoseconds >= size * 0.999 {
            return "\(Figure.tick(nanoseconds / size)) \(unit)"
        }
        return "\(Figure.tick(nanoseconds)) ns"
    }
}
