import CExplorer

/// Tries all schedules of virtual threads: depth first, each run from the start, and no state twice.
final class Search {
    struct Limits {
        /// How often a thread that could go on has to stand back for another; nil is no limit.
        var preemptions: Int? = 3
        /// How often a load sees an old value, or a weak compare-exchange fails for no reason.
        var oddities = 1
        /// Whether a state that was seen before ends a run.
        var remembers = true

        /// As the head of a schedule.
        fileprivate var text: String { "\(preemptions.map(String.init) ?? "*")/\(oddities)/" }
    }

    struct Outcome {
        var failure: String?
        /// The limits, and a letter for each step at which there was a choice: `a` is the first thread; a digit is a
        /// value that is so many changes old, or 1 for a weak compare-exchange that fails.
        var schedule = ""
        var trace: [String] = []
        var schedules = 0
        var states = 0
    }

    private struct Choice {
        var chosen = 0
        let count: Int
    }

    private static let stepLimit = 1_000

    private let limits: Limits
    private let states = explorer_states_make()
    // Nobody else touches what a run is made of, and to check that takes a fifth of the time.
    @exclusivity(unchecked) private var path: [Choice] = []
    @exclusivity(unchecked) private var depth = 0
    @exclusivity(unchecked) private var letters: [UInt8] = []
    /// A schedule to be followed instead.
    private var script: [UInt8]?
    @exclusivity(unchecked) private var preemptionsLeft = 0
    @exclusivity(unchecked) private var odditiesLeft = 0
    @exclusivity(unchecked) private var options: [Int] = []

    private init(_ limits: Limits) { self.limits = limits }

    /// What a scenario is made of, and, returned, what must hold where no thread can go on.
    typealias Scenario = (World) -> () -> Void

    /// Tries all schedules until one fails.
    static func explore(_ scenario: Scenario, _ limits: Limits = Limits()) -> Outcome {
        let search = Search(limits)
        let world = World(search)
        defer { search.free(world) }
        World.current = world
        let atEnd = scenario(world)
        var outcome = Outcome()
        repeat {
            search.run(world, atEnd)
            outcome.schedules += 1
        } while world.failure == nil && search.advance()
        outcome.failure = world.failure
        outcome.states = explorer_states_count(search.states)
        if outcome.failure != nil {
            outcome.schedule = limits.text + search.schedule
            outcome.trace = search.follow(search.schedule, world, atEnd).trace
        }
        return outcome
    }

    /// Runs one schedule, as an outcome gives it.
    static func replay(_ schedule: String, _ scenario: Scenario) -> Outcome {
        let parts = schedule.split(separator: "/", omittingEmptySubsequences: false)
        let search = Search(Limits(preemptions: Int(parts[0]), oddities: Int(parts[1]) ?? 0))
        let world = World(search)
        defer { search.free(world) }
        World.current = world
        return search.follow(String(parts[2]), world, scenario(world))
    }

    private func follow(_ schedule: String, _ world: World, _ atEnd: () -> Void) -> Outcome {
        script = Array(schedule.utf8)
        world.isTracing = true
        run(world, atEnd)
        return Outcome(failure: world.failure, schedule: limits.text + self.schedule, trace: world.trace, schedules: 1)
    }

    private func free(_ world: World) {
        world.free()
        explorer_states_free(states)
        World.current = nil
    }

    private var schedule: String { String(decoding: letters, as: UTF8.self) }

    /// To the next schedule; false if there is none.
    private func advance() -> Bool {
        while let last = path.last {
            if last.chosen + 1 < last.count {
                path[path.count - 1].chosen += 1
                return true
            }
            path.removeLast()
        }
        return false
    }

    private func run(_ world: World, _ atEnd: () -> Void) {
        depth = 0
        letters.removeAll(keepingCapacity: true)
        preemptionsLeft = limits.preemptions ?? 0
        odditiesLeft = limits.oddities
        world.begin()
        var current = -1
        var steps = 0
        while world.failure == nil {
            let mayGoOn = current >= 0 && world.canGoOn(current)
            options.removeAll(keepingCapacity: true)
            if mayGoOn { options.append(current) }
            if !mayGoOn || limits.preemptions == nil || preemptionsLeft > 0 {
                for thread in 0..<world.threadCount where thread != current && world.canGoOn(thread) {
                    options.append(thread)
                }
            }
            if options.isEmpty { return atEnd() }
            if limits.remembers, depth == path.count, script == nil {
                // Who runs makes a difference only where it is not free to change.
                let seed = odditiesLeft * 16 + (limits.preemptions == nil || !mayGoOn ? 15 : current)
                let isNew = explorer_states_visit(states, world.hash(UInt64(seed)), UInt8(preemptionsLeft))
                if !isNew { return }
            }
            let next = options[choose(options.count, among: options, world)]
            if mayGoOn, next != current, limits.preemptions != nil { preemptionsLeft -= 1 }
            current = next
            steps += 1
            if steps > Self.stepLimit { return world.fail("no end after \(steps) steps") }
            world.step(next)
        }
    }

    /// One of several, where all but the first are odd.
    func odd(_ count: Int) -> Int {
        if count == 1 || odditiesLeft == 0 { return 0 }
        let chosen = choose(count, among: nil, nil)
        if chosen > 0 { odditiesLeft -= 1 }
        return chosen
    }

    private func choose(_ count: Int, among threads: [Int]?, _ world: World?) -> Int {
        if count == 1 { return 0 }
        func letter(_ index: Int) -> UInt8 {
            guard let threads, let world else { return UInt8(ascii: "0") + UInt8(index) }
            return world.letter(of: threads[index])
        }
        var chosen = 0
        if let script {
            if depth < script.count { chosen = (0..<count).first { letter($0) == script[depth] } ?? 0 }
        } else if depth < path.count {
            chosen = path[depth].chosen
        } else {
            path.append(Choice(count: count))
        }
        depth += 1
        letters.append(letter(chosen))
        return chosen
    }
}
