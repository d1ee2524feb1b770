/// Measurements by suite and case, in the order in which they came; of two of the same name the later one counts.
struct Results: Sendable {
    struct Case: Sendable {
        let suite: String
        let name: String
        /// In the order of `Subjects`.
        var measurements: [Measurement]

        var unit: String { measurements[0].unit }
        var lowerIsBetter: Bool { measurements[0].lowerIsBetter }

        subscript(subject: String) -> Measurement? { measurements.first { $0.subject == subject } }
    }

    struct Suite: Sendable {
        let name: String
        var cases: [Case]

        var measurements: [Measurement] { cases.flatMap(\.measurements) }
        var subjects: [String] { Subjects.sorted(measurements.map(\.subject)) }
    }

    private(set) var suites: [Suite] = []

    init(_ measurements: [Measurement]) {
        for measurement in measurements { add(measurement) }
        for suite in suites.indices {
            for index in suites[suite].cases.indices {
                let found = suites[suite].cases[index].measurements
                let order = Subjects.sorted(found.map(\.subject))
                suites[suite].cases[index].measurements = order.compactMap { name in
                    found.first { $0.subject == name }
                }
            }
        }
    }

    private mutating func add(_ measurement: Measurement) {
        let suite = suites.firstIndex { $0.name == measurement.suite } ?? suites.endIndex
        if suite == suites.endIndex { suites.append(Suite(name: measurement.suite, cases: [])) }
        let cases = suites[suite].cases
        let place = cases.firstIndex { $0.name == measurement.testCase } ?? cases.endIndex
        if place == cases.endIndex {
            suites[suite].cases.append(Case(suite: measurement.suite, name: measurement.testCase, measurements: []))
        }
        suites[suite].cases[place].measurements.removeAll { $0.subject == measurement.subject }
        suites[suite].cases[place].measurements.append(measurement)
    }

    var measurements: [Measurement] { suites.flatMap(\.measurements) }
    var subjects: [String] { Subjects.sorted(measurements.map(\.subject)) }
}

/// Who is measured, always in the same order and in the same colour.
enum Subjects {
    static let yardstick = "raw"
    static let ours = "linuxevent"
    static let peers = ["libuv", "libevent", "libev", "asio", "tokio", "nio"]

    /// Each once: raw, ours, the known peers, then the others as they came.
    static func sorted(_ names: [String]) -> [String] {
        let known = [yardstick, ours] + peers
        var others: [String] = []
        for name in names where !known.contains(name) && !others.contains(name) { others.append(name) }
        return known.filter(names.contains) + others
    }

    /// Another loop: neither ours, nor raw C in one of its forms.
    static func isPeer(_ name: String) -> Bool { !name.hasPrefix(ours) && !name.hasPrefix(yardstick) }

    static func title(_ name: String) -> String { name == yardstick ? "raw C" : name }

    /// The class that gives it its colour.
    static func style(_ name: String) -> String {
        switch name {
        case yardstick: "s-raw"
        case _ where name.hasPrefix(ours): "s-ours"
        case _ where peers.contains(name): "s-\(name)"
        default: "s-other"
        }
    }
}
