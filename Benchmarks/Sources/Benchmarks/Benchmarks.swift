import ArgumentParser
import Glibc

/// `main` is synchronous on purpose: a loop lives on the thread that made it.
@main
struct Benchmarks: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "benchmarks",
        abstract: "LinuxEvent beside raw C programs that do the same work.",
        discussion: """
            Every figure is taken in one process, subjects in turn (A B, then B A, …), after one warm-up each. \
            The ratio is the median over the rounds of subject / raw of the same round; read the ratios, not the \
            absolute figures.
            """,
        subcommands: [
            DispatchCommand.self, QueueCommand.self, PingPongCommand.self, AllCommand.self, OnceCommand.self,
        ])

    /// Each suite is a file that answers one question.
    static let suites: [any Suite.Type] = [DispatchSuite.self, QueueSuite.self, PingPongSuite.self]
}

struct AllCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "all", abstract: "Every suite, one after the other.")
    @OptionGroup var options: RunOptions

    func run() throws {
        for suite in Benchmarks.suites { try options.run(suite) }
    }
}

struct OnceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "once",
        abstract: "One subject of one case, once, without warm-up: for callgrind, strace and perf.")
    @Argument(help: "SUITE.CASE, as --json prints them: dispatch.ring") var name: String
    @Argument(help: "raw, linuxevent, …") var subject: String
    @Option(help: "Operations; the case's own number without it.") var operations: Int?

    func run() throws {
        for suite in Benchmarks.suites {
            for testCase in suite.cases where "\(suite.name).\(testCase.name)" == name {
                guard let found = testCase.subjects.first(where: { $0.name == subject }) else {
                    let names = testCase.subjects.map(\.name).joined(separator: ", ")
                    throw ValidationError("\(name) has no subject \(subject), but \(names)")
                }
                let sample = try Harness.sample(testCase, found, operations: operations ?? testCase.operations)
                let notes = sample.notes.map { "\($0.name) \($0.value)" }.joined(separator: ", ")
                print("\(name) \(subject): \(sample.operations) operations in \(sample.nanoseconds) ns; \(notes)")
                return
            }
        }
        let names = Benchmarks.suites.flatMap { suite in suite.cases.map { "\(suite.name).\($0.name)" } }
        throw ValidationError("no case \(name), but \(names.joined(separator: ", "))")
    }
}

struct RunOptions: ParsableArguments {
    @Option(help: "Rounds; each runs every subject once.") var runs: Int = 7
    @Flag(help: "A tenth of the work, 3 rounds: shows that it runs, and no more.") var quick = false
    @Flag(help: "One JSON object a line on standard output.") var json = false
    @Option(name: .customLong("case"), help: "Only cases whose name contains this.") var filter: String?

    func validate() throws {
        guard runs > 0 else { throw ValidationError("--runs takes a number from 1 on") }
    }

    func run(_ suite: any Suite.Type) throws {
        for testCase in suite.cases where filter.map(testCase.name.contains) ?? true {
            let lines = try Harness.compare(
                testCase, suite: suite.name,
                runs: quick ? min(runs, 3) : runs,
                operations: quick ? max(testCase.operations / 10, 1) : testCase.operations)
            if json {
                for line in lines { print(line.json) }
            } else {
                print(Line.table(lines))
            }
            fflush(nil)
        }
    }
}
