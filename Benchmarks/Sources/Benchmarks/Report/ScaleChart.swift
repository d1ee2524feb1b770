/// Speed-up over the number of threads, beside the ideal. A case is named WHAT.N, with N threads.
struct ScaleChart {
    struct Curve {
        let subject: String
        /// Threads, and how many times the rate of one thread.
        let points: [(threads: Double, speedUp: Double)]
    }

    let name: String
    let curves: [Curve]

    private static let left = 30.0
    private static let right = SVG.width - 122
    private static let top = 10.0
    private static let bottom = 220.0
    private static let marks: [SVG.Mark] = [.square, .disc, .triangle, .diamond, .ring]

    /// One chart for each WHAT that was measured with more than one number of threads.
    static func charts(_ suite: Results.Suite) -> [ScaleChart] {
        var names: [String] = []
        var found: [String: [(threads: Double, testCase: Results.Case)]] = [:]
        for testCase in suite.cases {
            guard let point = testCase.name.lastIndex(of: "."),
                let threads = Int(testCase.name[point...].dropFirst()), threads > 0
            else { continue }
            let name = String(testCase.name[..<point])
            if found[name] == nil { names.append(name) }
            found[name, default: []].append((Double(threads), testCase))
        }
        return names.compactMap { name in
            let steps = found[name, default: []].sorted { $0.threads < $1.threads }
            let subjects = Subjects.sorted(steps.flatMap { $0.testCase.measurements.map(\.subject) })
            let curves = subjects.compactMap { curve($0, steps) }
            return curves.isEmpty ? nil : ScaleChart(name: name, curves: curves)
        }
    }

    private static func curve(_ subject: String, _ steps: [(threads: Double, testCase: Results.Case)]) -> Curve? {
        let values = steps.compactMap { step in
            step.testCase[subject].map { (threads: step.threads, value: $0.lowerIsBetter ? 1 / $0.value : $0.value) }
        }.filter { $0.value.isFinite && $0.value > 0 }
        guard values.count > 1, let first = values.first else { return nil }
        // Without a run of one thread, the smallest number counts as ideal.
        return Curve(
            subject: subject, points: values.map { ($0.threads, $0.value / first.value * first.threads) })
    }

    func panel(suite: String) -> String {
        let points = curves.flatMap(\.points)
        let threads = Set(points.map(\.threads)).sorted()
        let most = threads.last ?? 1
        let high = max(points.map(\.speedUp).max() ?? 1, most) * 1.03
        let x = Scale(
            low: threads.first ?? 1, high: most, logarithmic: most > 8, from: Self.left + 6, to: Self.right - 6)
        let y = Scale(low: 0, high: high, logarithmic: false, from: Self.bottom, to: Self.top)
        var svg = SVG(height: Self.bottom + 34, label: "\(suite).\(name): speed-up over the number of threads")
        for tick in y.ticks(apart: 20) {
            svg.line(Self.left, y.place(tick), Self.right, y.place(tick), "grid")
            svg.text(Figure.tick(tick), Self.left - 6, y.place(tick) + 4, .end, "tick")
        }
        for count in threads { svg.text(Figure.tick(count), x.place(count), Self.bottom + 14, .middle, "tick") }
        svg.text("threads", (Self.left + Self.right) / 2, Self.bottom + 29, .middle, "tick")
        // On a logarithmic axis the ideal is no straight line.
        let ideal = stride(from: 0.0, through: 1.0, by: 1.0 / 32).map { share in
            (threads.first ?? 1) + (most - (threads.first ?? 1)) * share
        }
        svg.lines(ideal.map { (x.place($0), y.place($0)) }, "ideal")
        draw(x, y, ideal: most, in: &svg)
        return svg.markup
    }

    private func draw(_ x: Scale, _ y: Scale, ideal: Double, in svg: inout SVG) {
        var labels = [(text: "ideal", y: y.place(ideal), style: "soft")]
        // Ours last, so that it lies on top.
        let order = curves.enumerated().sorted { !isOurs($0.element) && isOurs($1.element) }
        for (index, curve) in order {
            let style = Subjects.style(curve.subject)
            let places = curve.points.map { (x: x.place($0.threads), y: y.place($0.speedUp)) }
            let words = curve.points.map { "\(Figure.tick($0.threads)): \(Figure.fixed($0.speedUp, 2))" }
            svg.group("\(Subjects.title(curve.subject)): \(words.joined(separator: ", "))") { svg in
                svg.lines(places, "l \(style)")
                for place in places {
                    svg.mark(Self.marks[index % Self.marks.count], place.x, place.y, 3.4, "f \(style)")
                }
            }
            let last = curve.points[curve.points.count - 1].speedUp
            let title = "\(Subjects.title(curve.subject)) \(Figure.fixed(last, 2))"
            labels.append((title, y.place(last), isOurs(curve) ? "own" : ""))
        }
        for label in Self.spread(labels) {
            svg.text(label.text, Self.right + 16, label.y + 4, .start, label.style)
            svg.line(Self.right - 1, label.point, Self.right + 13, label.y, "leader")
        }
    }

    private func isOurs(_ curve: Curve) -> Bool { Subjects.style(curve.subject) == "s-ours" }

    /// Moves labels apart, as little as it takes: those that touch become a block around their common middle.
    private static func spread(
        _ labels: [(text: String, y: Double, style: String)]
    ) -> [(text: String, y: Double, point: Double, style: String)] {
        let height = 14.0
        var blocks: [(labels: [(text: String, y: Double, style: String)], top: Double)] = []
        for label in labels.sorted(by: { $0.y < $1.y }) {
            blocks.append(([label], label.y))
            while blocks.count > 1 {
                let last = blocks[blocks.count - 1]
                let before = blocks[blocks.count - 2]
                guard before.top + Double(before.labels.count) * height > last.top else { break }
                let all = before.labels + last.labels
                let middle = all.map(\.y).reduce(0, +) / Double(all.count)
                let wanted = middle - Double(all.count - 1) * height / 2
                let lowest = bottom - Double(all.count - 1) * height
                blocks.removeLast(2)
                blocks.append((all, min(max(wanted, top), max(lowest, top))))
            }
        }
        return blocks.flatMap { block in
            block.labels.enumerated().map { index, label in
                (label.text, block.top + Double(index) * height, label.y, label.style)
            }
        }
    }
}
