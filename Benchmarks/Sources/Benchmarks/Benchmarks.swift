import ArgumentParser
import Foundation

/// `main` is synchronous on purpose: a loop lives on the thread that made it.
@main
struct Benchmarks: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "benchmarks",
        abstract: "LinuxEvent beside raw C programs and other loops that do the same work.",
        discussion: """
            Each sample is a process of its own. The rounds of a case run every subject once, in an order that turns \
            from round to round. The ratio is the median over the rounds of subject / raw of the same round; read the \
            ratios, not the absolute figures.
            """,
        subcommands: [RunCommand.self, OnceCommand.self, ListCommand.self],
        defaultSubcommand: RunCommand.self)

    /// Each suite answers one question.
    static let suites: [any Suite.Type] = [
        DispatchSuite.self, TurnSuite.self, ChurnSuite.self, TimersSuite.self, PostSuite.self, CallSuite.self,
        WakeSuite.self, PingPongSuite.self, EchoSuite.self, IdleSuite.self, MemorySuite.self, ScaleSuite.self,
    ]

    static func suite(_ name: String) throws -> any Suite.Type {
        if let suite = suites.first(where: { $0.name == name }) { return suite }
        throw ValidationError("no suite \(name), but \(suites.map { $0.name }.joined(separator: ", "))")
    }
}

struct ListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "The suites, what they ask, and their cases.")

    func run() {
        for suite in Benchmarks.suites {
            print("\(suite.name): \(suite.abstract)")
            for testCase in suite.cases {
                let subjects = testCase.subjects.map(\.name).joined(separator: ", ")
                print("  \(suite.name).\(testCase.name), \(testCase.operations) operations: \(subjects)")
            }
        }
    }
}

struct OnceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "once",
        abstract: "One subject of one case, once: for callgrind, strace and perf.")
    @Argument(help: "SUITE.CASE, as --json prints them: dispatch.ring") var name: String
    @Argument(help: "raw, linuxevent, …") var subject: String
    @Option(help: "Operations; the case's own number without it.") var operations: Int?
    @Flag(help: "A quarter of the work before, not measured.") var warm = false
    @Flag(help: "OPERATIONS NANOSECONDS [NAME VALUE]... and no words.") var plain = false

    func validate() throws {
        if let operations, operations < 1 { throw ValidationError("--operations takes a number from 1 on") }
    }

    func run() throws {
        let testCase = try testCase()
        guard let found = testCase.subjects.first(where: { $0.name == subject }) else {
            let names = testCase.subjects.map(\.name).joined(separator: ", ")
            throw ValidationError("\(name) has no subject \(subject), but \(names)")
        }
        let count = operations ?? testCase.operations
        let sample =
            try warm
            ? Harness.sample(testCase, found, operations: count) : Harness.once(testCase, found, operations: count)
        if plain { return print(sample.line) }
        let notes = sample.notes.map { "\($0.name) \($0.value)" }.joined(separator: ", ")
        print("\(name) \(subject): \(sample.operations) operations in \(sample.nanoseconds) ns; \(notes)")
    }

    private func testCase() throws -> Case {
        for suite in Benchmarks.suites {
            if let found = suite.cases.first(where: { "\(suite.name).\($0.name)" == name }) { return found }
        }
        let names = Benchmarks.suites.flatMap { suite in suite.cases.map { "\(suite.name).\($0.name)" } }
        throw ValidationError("no case \(name), but \(names.joined(separator: ", "))")
    }
}

struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Runs suites and prints their figures.")
    @Argument(help: "Suites; all without any.") var suites: [String] = []
    @Option(help: "Rounds; each runs every subject once.") var runs: Int = 7
    @Flag(help: "A tenth of the work, 3 rounds: shows that it runs, and no more.") var quick = false
    @Flag(help: "One JSON object a line on standard output.") var json = false
    @Option(name: .customLong("case"), help: "Only cases whose name contains this.") var filter: String?
    @Option(help: ArgumentHelp("A folder with the programs of peers.", valueName: "dir")) var peers: String?
    @Option(help: ArgumentHelp("Writes an HTML page and the figures into this folder.", valueName: "dir"))
    var report: String?
    @Flag(help: "Puts the table of this run into README.md, between its marks.") var readme = false
    @Option(
        help: ArgumentHelp(
            "An earlier run's JSON: says what changed, and fails if something became worse.", valueName: "file"))
    var against: String?

    func validate() throws {
        guard runs > 0 else { throw ValidationError("--runs takes a number from 1 on") }
        for name in suites { _ = try Benchmarks.suite(name) }
    }

    func run() throws {
        // Whatever is wrong with these is said before the work and not after it.
        let earlier = try against.map { Measurement.all(in: try String(contentsOfFile: $0, encoding: .utf8)) }
        if let earlier, earlier.isEmpty { throw ValidationError("no measurement in \(against ?? "")") }
        if let report { try FileManager.default.createDirectory(atPath: report, withIntermediateDirectories: true) }
        let peers = try self.peers.map(Peer.all) ?? []
        for peer in peers { Harness.progress("peer \(peer.name): \(peer.version)") }

        let measurements = try measure(peers)
        if let report { try save(measurements, into: report) }
        if readme { try Readme.replace(in: "README.md", with: measurements) }
        guard let earlier else { return }
        let changes = Against.compare(earlier: earlier, now: measurements)
        Harness.progress(Against.text(changes, earlier: earlier, now: measurements))
        if changes.contains(where: \.isWorse) { throw ExitCode.failure }
    }

    private func save(_ measurements: [Measurement], into folder: String) throws {
        let descriptions = Dictionary(uniqueKeysWithValues: Benchmarks.suites.map { ($0.name, $0.abstract) })
        let page = Report.page(measurements, machine: .describe(), descriptions: descriptions)
        try page.write(toFile: folder + "/report.html", atomically: true, encoding: .utf8)
        let lines = measurements.map { $0.json + "\n" }.joined()
        try lines.write(toFile: folder + "/results.json", atomically: true, encoding: .utf8)
        Harness.progress("written: \(folder)/report.html, \(folder)/results.json")
    }

    private func measure(_ peers: [Peer]) throws -> [Measurement] {
        var work = [(suite: any Suite.Type, testCase: Case)]()
        for suite in Benchmarks.suites where suites.isEmpty || suites.contains(suite.name) {
            work += suite.cases.filter { filter.map("\(suite.name).\($0.name)".contains) ?? true }.map { (suite, $0) }
        }
        guard !work.isEmpty else { throw ValidationError("no case has \(filter ?? "") in its name") }
        var measurements = [Measurement]()
        for (index, (suite, testCase)) in work.enumerated() {
            let name = "\(suite.name).\(testCase.name)"
            let rounds = Rounds(
                suite: suite.name, testCase: testCase,
                participants: testCase.subjects.map { .own($0.name, name) } + peers.compactMap { $0.participant(name) },
                operations: quick ? max(testCase.operations / testCase.quickShare, 1) : testCase.operations,
                runs: quick ? min(runs, 3) : max(runs, testCase.leastRuns), position: "[\(index + 1) of \(work.count)] "
            )
            let results = try rounds.run()
            if json { for result in results { print(result.json) } } else { print(TextTable.text(results)) }
            fflush(nil)
            measurements += results
        }
        return measurements
    }
}
