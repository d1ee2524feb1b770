import Glibc
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    /// The lock-free algorithms of the library itself, in every order of their steps: see `World` and `Search`.
    @Suite("Explorer", .enabled(if: !Explorer.isWatched, "the sanitizers know nothing of its stacks"))
    struct ExplorerTests {
        struct Round: Sendable, CustomTestStringConvertible {
            let population: Population
            let limits: Search.Limits

            init(_ population: Population, preemptions: Int?, oddities: Int) {
                self.population = population
                limits = Search.Limits(preemptions: preemptions, oddities: oddities)
            }

            var testDescription: String {
                "\(population), \(limits.preemptions.map(String.init) ?? "any") pre-emptions, \(limits.oddities) odd"
            }
        }

        private static let small: [Population] = [.twoPosters, .twoShards, .returns, .stop]

        private static let usually: [Round] =
            small.map { Round($0, preemptions: nil, oddities: 0) }
            + small.map { Round($0, preemptions: 2, oddities: 1) }
            + [.twoPostersTwice, .threePosters, .batch, .twoShardsMore, .stopTwoPosters]
            .map { Round($0, preemptions: 3, oddities: 0) } + [Round(.twoStops, preemptions: 2, oddities: 0)]

        private static let long: [Round] =
            Population.allCases.map { Round($0, preemptions: nil, oddities: 0) }
            + Population.allCases.map { Round($0, preemptions: 3, oddities: 1) }
            + small.map { Round($0, preemptions: nil, oddities: 1) }
            + small.map { Round($0, preemptions: 3, oddities: 2) }

        static var rounds: [Round] { Effort.isLong ? long : usually }

        @Test("M1 M2 M4 M5 G9 in every order of steps, tasks, nodes and wakes come out right", arguments: rounds)
        func promises(round: Round) {
            let begin = Clock.monotonic()
            let outcome = Search.explore(round.population.scenario(), round.limits)
            let seconds = (Double(Clock.monotonic() &- begin) / 1e8).rounded() / 10
            print("\(round.testDescription): \(outcome.schedules) schedules, \(outcome.states) states, \(seconds) s")
            expectNone(outcome)
            #expect(outcome.schedules > 200, "there was hardly anything to choose")
        }

        @Test("M1 M2 M4 M5 G9 each fault is found, and its schedule shows it again", arguments: Fault.harmful)
        func faults(fault: Fault) throws {
            var schedules = 0
            // The least pre-emptions that show it make the clearest schedule.
            for preemptions in 0...3 {
                let limits = Search.Limits(preemptions: preemptions)
                let outcome = Search.explore(fault.population.scenario(fault), limits)
                schedules += outcome.schedules
                guard let failure = outcome.failure else { continue }
                print("\(fault): \(failure): \(fault.population)/\(outcome.schedule) in \(schedules) schedules")
                let again = Search.replay(outcome.schedule, fault.population.scenario(fault))
                #expect(again.failure == failure)
                #expect(again.trace == outcome.trace && again.schedule == outcome.schedule)
                // Nor is it the scenario that fails.
                #expect(Search.replay(outcome.schedule, fault.population.scenario()).failure == nil)
                return
            }
            Issue.record("\(fault) is not noticed in \(schedules) schedules")
        }

        @Test("M1 M4 G9 what could be ordered more or less strictly is found harmless", arguments: Fault.harmless)
        func harmless(fault: Fault) {
            for population in [Population.twoPosters, .returns, .stop] {
                let limits = Search.Limits(preemptions: Effort.isLong ? 3 : 1)
                let outcome = Search.explore(population.scenario(fault), limits)
                print("\(fault), \(population): \(outcome.schedules) schedules, \(outcome.states) states")
                expectNone(outcome)
            }
        }

        /// LINUX_EVENT_SCHEDULE=stop/3/1/b00c0, and LINUX_EVENT_FAULT=forgetsOrphans where a fault belongs to it.
        @Test("M4 a schedule that is asked for is shown step by step", .enabled(if: Explorer.schedule != nil))
        func replay() throws {
            let schedule = try #require(Explorer.schedule)
            let slash = try #require(schedule.firstIndex(of: "/"))
            let population = try #require(Population(rawValue: String(schedule[..<slash])))
            let fault = Effort.environment("LINUX_EVENT_FAULT").flatMap(Fault.init)
            let outcome = Search.replay(String(schedule[slash...].dropFirst()), population.scenario(fault))
            print(outcome.trace.joined(separator: "\n"))
            expectNone(outcome)
        }

        private func expectNone(_ outcome: Search.Outcome, sourceLocation: SourceLocation = #_sourceLocation) {
            guard let failure = outcome.failure else { return }
            let trace = outcome.trace.joined(separator: "\n")
            Issue.record("\(failure) in \(outcome.schedule)\n\(trace)", sourceLocation: sourceLocation)
        }
    }
}

enum Explorer {
    static let isWatched = dlsym(nil, "__tsan_init") != nil || dlsym(nil, "__asan_init") != nil
    static let schedule = Effort.environment("LINUX_EVENT_SCHEDULE")
}
