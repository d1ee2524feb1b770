/// The bars of a suite: how each subject does beside raw C. All cases of a suite share one axis.
struct RatioChart {
    private let scale: Scale
    let logarithmic: Bool

    private static let left = 80.0
    private static let right = SVG.width - 130
    private static let row = 17.0

    init(_ suite: Results.Suite) {
        let measurements = suite.measurements.filter { $0.ratio.isFinite && $0.ratio > 0 }
        let medians = measurements.map(\.ratio)
        let low = min(medians.min() ?? 1, 1)
        let high = max(medians.max() ?? 1, 1)
        logarithmic = high / low > 10
        // A whisker that leaves the drawing ends at its edge: one wild quartile does not make all bars small.
        let top = min(max(measurements.map(\.ratioHigh).filter(\.isFinite).max() ?? high, high), high * 1.25)
        scale =
            logarithmic
            ? Scale(low: low / 1.15, high: top * 1.1, logarithmic: true, from: Self.left, to: Self.right)
            : Scale(low: 0, high: top * 1.03, logarithmic: false, from: Self.left, to: Self.right)
    }

    func panel(_ testCase: Results.Case) -> String {
        let rows = Double(testCase.measurements.count)
        let bottom = rows * Self.row + 4
        let compared = testCase.measurements.contains { $0.ratio.isFinite }
        let sense = testCase.lowerIsBetter ? "lower is better" : "higher is better"
        var svg = SVG(
            height: compared ? bottom + 17 : bottom,
            label: "\(testCase.suite).\(testCase.name): ratio to raw C of each subject, \(sense)")
        for tick in scale.ticks(apart: 24) where compared {
            svg.line(scale.place(tick), 0, scale.place(tick), bottom, "grid")
            svg.text(Figure.tick(tick), scale.place(tick), bottom + 13, .middle, tick == 1 ? "tick one" : "tick")
        }
        for (index, measurement) in testCase.measurements.enumerated() {
            svg.group(Self.sentence(measurement)) { svg in
                bar(measurement, y: Double(index) * Self.row + 2, in: &svg)
            }
        }
        if compared { svg.line(scale.place(1), 0, scale.place(1), bottom, "unity") }
        return svg.markup
    }

    private func bar(_ measurement: Measurement, y: Double, in svg: inout SVG) {
        let style = Subjects.style(measurement.subject)
        let middle = y + Self.row / 2
        let weight = style == "s-ours" ? "own" : ""
        svg.text(Subjects.title(measurement.subject), Self.left - 7, middle + 4, .end, weight)
        svg.text(Figure.short(measurement.value, unit: measurement.unit), SVG.width - 54, middle + 4, .end, weight)
        svg.text(
            measurement.ratio.isFinite ? Figure.ratio(measurement.ratio) + "×" : Figure.none,
            SVG.width, middle + 4, .end, weight.isEmpty ? "soft" : weight)
        guard measurement.ratio.isFinite else {
            return svg.text("no raw C beside it", Self.left + 4, middle + 4, .start, "tick")
        }
        guard measurement.ratio > 0 else { return }
        let end = scale.place(measurement.ratio)
        // A logarithm has no zero to begin at: there the bars begin at raw C.
        let start = scale.place(logarithmic ? 1 : 0)
        svg.rectangle(min(start, end), y + 2.5, abs(end - start), Self.row - 5, "f \(style)")
        if logarithmic, abs(end - start) < 3 { svg.mark(.disc, end, middle, 3.5, "f \(style)") }
        whisker(measurement, middle, in: &svg)
    }

    private func whisker(_ measurement: Measurement, _ y: Double, in svg: inout SVG) {
        guard measurement.ratioLow.isFinite, measurement.ratioHigh.isFinite, measurement.ratioLow > 0 else { return }
        let low = scale.place(measurement.ratioLow)
        let high = scale.place(measurement.ratioHigh)
        guard high - low > 0.5 else { return }
        for style in ["halo", "whisker"] {
            svg.line(low, y, high, y, style)
            svg.line(low, y - 3, low, y + 3, style)
            svg.line(high, y - 3, high, y + 3, style)
        }
    }

    private static func sentence(_ measurement: Measurement) -> String {
        "\(Subjects.title(measurement.subject)): \(Figure.short(measurement.value, unit: measurement.unit)), "
            + "ratio \(Figure.ratio(measurement.ratio)), quartiles \(Figure.quartiles(measurement))"
    }
}
