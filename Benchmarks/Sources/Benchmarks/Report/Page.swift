/// One page of HTML that needs nothing but itself: what was measured, where and how, drawn and in full.
enum Report {
    /// - descriptions: what a case does, by `suite.case`, or what a suite asks, by `suite`, in a few words.
    static func page(
        _ measurements: [Measurement], machine: Machine, title: String = "LinuxEvent, measured",
        date: String = Machine.date(), descriptions: [String: String] = [:]
    ) -> String {
        let results = Results(measurements)
        let sections = results.suites.map { section($0, descriptions) }
        return """
            <!DOCTYPE html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <meta name="color-scheme" content="light dark">
            <title>\(escaped(title))</title>
            <style>
            \(Style.sheet)
            </style>
            </head>
            <body>
            <main>
            <header>
            <h1>\(escaped(title))</h1>
            <p class="date">\(escaped(date))</p>
            </header>
            \(introduction(results, machine))
            \(overview(results))
            \(sections.joined(separator: "\n"))
            </main>
            </body>
            </html>

            """
    }

    private static func introduction(_ results: Results, _ machine: Machine) -> String {
        let rows = machine.rows.map { "<dt>\(escaped($0.name))</dt><dd>\(escaped($0.value))</dd>" }
        let runs = results.measurements.map(\.runs)
        let least = runs.min() ?? 0
        let most = runs.max() ?? 0
        let rounds = least == most ? "\(most)" : "\(least) to \(most)"
        let ratios = results.measurements.filter { $0.ratio.isFinite && $0.subject != Subjects.yardstick }
        let noisy = ratios.filter(Noise.isNoisy).count
        return """
            <section class="two">
            <div>
            <h2>Machine</h2>
            <dl>\(rows.joined())</dl>
            </div>
            <div>
            <h2>How it was measured</h2>
            <ul>
            <li>Every subject does the same work. Each sample is a process of its own. Most warm up first, with a
            quarter of the work.</li>
            <li>\(rounds) rounds. In each round every subject of a case runs once; the order rotates from round to
            round.</li>
            <li>The ratio is subject to raw C <em>of the same round</em>. Shown are medians over the rounds; the
            whiskers are the quartiles of the ratio.</li>
            <li>Read the ratios. They carry over to other machines; absolute figures do not.</li>
            <li>\(noisy) of \(ratios.count) ratios are noisy: a quartile is more than 10 % away from the median. The
            tables mark them with ~.</li>
            </ul>
            </div>
            </section>
            """
    }

    private static func overview(_ results: Results) -> String {
        let chart = Overview.chart(results)
        guard !chart.isEmpty else { return "" }
        let links = results.suites.map { suite in
            "<a href=\"#\(anchor(suite.name))\">\(escaped(suite.name)) <small>\(suite.cases.count)</small></a>"
        }
        let sentences = Overview.sentences(results).map { "<p>\(escaped($0))</p>" }
        return """
            <section>
            <h2>At a glance</h2>
            <div class="glance">
            <div>\(sentences.joined())
            <p>One dot is one case:
            <span class="key"><i class="s-ours round"></i>\(Subjects.ours)</span>,
            <span class="key"><i class="s-dim round"></i>every other loop</span>.
            Right is better, whatever the unit; the line is raw C.</p>
            <nav aria-label="Suites">\(links.joined(separator: " "))</nav></div>
            <figure>\(chart)</figure>
            </div>
            </section>
            """
    }

    private static func section(_ suite: Results.Suite, _ descriptions: [String: String]) -> String {
        let description = descriptions[suite.name].map { "<p>\(escaped($0))</p>" } ?? ""
        return """
            <section id="\(anchor(suite.name))">
            <h2>\(escaped(suite.name))</h2>
            \(description)
            \(legend(suite.subjects))
            \(curves(suite))
            \(ratios(suite, descriptions))
            \(latencies(suite))
            \(FigureTable.html(suite))
            </section>
            """
    }

    private static func legend(_ subjects: [String]) -> String {
        let keys = subjects.map { name in
            let own = Subjects.style(name) == "s-ours" ? " own" : ""
            return "<span class=\"key\(own)\"><i class=\"\(Subjects.style(name))\"></i>"
                + "\(escaped(Subjects.title(name)))</span>"
        }
        return "<p class=\"legend\">\(keys.joined(separator: " "))</p>"
    }

    private static func curves(_ suite: Results.Suite) -> String {
        guard suite.name == "scale" else { return "" }
        let panels = ScaleChart.charts(suite).map { chart in
            figure(chart.name, "speed-up", "", chart.panel(suite: suite.name))
        }
        guard !panels.isEmpty else { return "" }
        return """
            <h3>Speed-up over threads</h3>
            <p class="note">The rate with N threads divided by the same subject's rate with one. Dashed: ideal.</p>
            <div class="panels">\(panels.joined(separator: "\n"))</div>
            """
    }

    private static func ratios(_ suite: Results.Suite, _ descriptions: [String: String]) -> String {
        let chart = RatioChart(suite)
        let panels = suite.cases.map { testCase in
            let sense = testCase.lowerIsBetter ? "lower is better" : ""
            let description = descriptions["\(testCase.suite).\(testCase.name)"] ?? ""
            return figure(testCase.name, testCase.unit, sense, chart.panel(testCase), description)
        }
        let note =
            chart.logarithmic
            ? "Logarithmic axis: bars begin at raw C = 1, to the right above it, to the left below it."
            : "The line is raw C = 1."
        guard suite.measurements.contains(where: \.ratio.isFinite) else {
            return """
                <h3>Medians</h3>
                <p class="note">No program in raw C does this.</p>
                <div class="panels">\(panels.joined(separator: "\n"))</div>
                """
        }
        return """
            <h3>Ratio to raw C</h3>
            <p class="note">\(note) Whiskers: quartiles. Beside the bars: median, and ratio.</p>
            <div class="panels">\(panels.joined(separator: "\n"))</div>
            """
    }

    private static func latencies(_ suite: Results.Suite) -> String {
        guard let chart = LatencyChart(suite) else { return "" }
        let panels = suite.cases.filter(LatencyChart.has).map { testCase in
            figure(testCase.name, "latency", "lower is better", chart.panel(testCase))
        }
        return """
            <h3>Latency</h3>
            <p class="note">Logarithmic axis. ● p50 (the median), ○ p90, ◆ p99, × p99.9. Beside them: p50 and p99.</p>
            <div class="panels">\(panels.joined(separator: "\n"))</div>
            """
    }

    private static func figure(
        _ title: String, _ unit: String, _ sense: String, _ drawing: String, _ description: String = ""
    ) -> String {
        let senseMark = sense.isEmpty ? "" : " <em>\(escaped(sense))</em>"
        let words = description.isEmpty ? "" : "<span class=\"what\">\(escaped(description))</span>"
        return "<figure><figcaption><b>\(escaped(title))</b> <span>\(escaped(unit))</span>\(senseMark)\(words)"
            + "</figcaption>\(drawing)</figure>"
    }

    private static func anchor(_ name: String) -> String {
        "suite-" + String(name.map { $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "-" })
    }
}

/// All figures of a suite.
enum FigureTable {
    static func html(_ suite: Results.Suite) -> String {
        let names = notes(suite)
        let head =
            ["median", "min–max", "ratio", "quartiles", "runs"].map { "<th scope=\"col\" class=\"n\">\($0)</th>" }
            + (names.isEmpty ? [] : ["<th scope=\"col\">notes</th>"])
        let bodies = suite.cases.map { testCase in
            let rows = testCase.measurements.enumerated().map { index, measurement in
                row(measurement, first: index == 0 ? testCase : nil, names)
            }
            return "<tbody>\(rows.joined(separator: "\n"))</tbody>"
        }
        return """
            <details>
            <summary>All figures of \(escaped(suite.name))</summary>
            <div class="scroll"><table>
            <thead><tr><th scope="col">case</th><th scope="col">subject</th>\(head.joined())</tr></thead>
            \(bodies.joined(separator: "\n"))
            </table></div>
            </details>
            """
    }

    private static func row(_ measurement: Measurement, first: Results.Case?, _ names: [String]) -> String {
        var cells = ""
        if let first {
            let sense = first.lowerIsBetter ? "<br><small>lower is better</small>" : ""
            cells += """
                <th scope="rowgroup" rowspan="\(first.measurements.count)">\(escaped(first.name))<br>\
                <small>\(escaped(first.unit))</small>\(sense)</th>
                """
        }
        let own = Subjects.style(measurement.subject) == "s-ours" ? " class=\"own\"" : ""
        let noisy = Noise.isNoisy(measurement) ? " <abbr title=\"noisy\">~</abbr>" : ""
        let figures = [
            escaped(Figure.short(measurement.value, unit: measurement.unit)),
            escaped(Figure.short(measurement.min, unit: measurement.unit)) + " – "
                + escaped(Figure.short(measurement.max, unit: measurement.unit)),
            Figure.ratio(measurement.ratio),
            Figure.quartiles(measurement) + noisy,
            "\(measurement.runs)",
        ]
        cells += "<td>\(escaped(Subjects.title(measurement.subject)))</td>"
        cells += figures.map { "<td class=\"n\">\($0)</td>" }.joined()
        if !names.isEmpty { cells += "<td class=\"notes\">\(escaped(words(measurement, names)))</td>" }
        return "<tr\(own)>\(cells)</tr>"
    }

    /// The percentiles in their order, then the others by name.
    private static func notes(_ suite: Results.Suite) -> [String] {
        let all = Set(suite.measurements.flatMap(\.notes.keys))
        let percentiles = LatencyChart.percentiles.map(\.note)
        return percentiles.filter(all.contains) + all.subtracting(percentiles).sorted()
    }

    private static func words(_ measurement: Measurement, _ names: [String]) -> String {
        let titles = Dictionary(uniqueKeysWithValues: LatencyChart.percentiles.map { ($0.note, $0.title) })
        return names.compactMap { name in
            guard let value = measurement.notes[name] else { return nil }
            if let title = titles[name] { return "\(title) \(Figure.time(value))" }
            if name.hasSuffix("_ns") { return "\(name.dropLast(3)) \(Figure.time(value))" }
            return "\(name) \(Figure.grouped(value))"
        }.joined(separator: ", ")
    }
}
