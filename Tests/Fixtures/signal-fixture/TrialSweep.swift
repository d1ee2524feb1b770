import CLinux
import Glibc
import LinuxEvent

/// Runs scenarios with one fault each: from inside in a debug build, at every position; from outside, where strace
/// decides.
enum Sweep {
    static var scenarios: [String: (Trial) throws -> Void] {
        [
            "life": Scenario.life,
            "watching": Scenario.watching,
            "modes": Scenario.modes,
            "parking": Scenario.parking,
            "closed": Scenario.closed,
            "audited": Scenario.audited,
            "embedded": Scenario.embedded,
            "timers": Scenario.timers,
            "counters": Scenario.counters,
            "signals": Scenario.signals,
            "children": Scenario.children,
        ]
    }

    /// `signal-fixture trial SCENARIO [CALL ERRNO]`: once, with a fault put in from outside, or with none.
    static func trial(_ report: Report) throws {
        let words = CommandLine.arguments.dropFirst(2)
        guard let name = words.first, let scenario = scenarios[name] else {
            return report.expect(false, "scenarios: \(scenarios.keys.sorted().joined(separator: " "))")
        }
        let call = words.dropFirst().first, code = words.dropFirst(2).first.flatMap(Errno.code)
        let faults = clinux_call.all.filter { $0.systemCall == call }.flatMap { kind in
            let known = Fault.table.filter { $0.kind == kind && $0.code == code }
            return known.isEmpty ? code.map { Fault.outside(kind, $0) } ?? [] : known
        }
        report.expect(words.count == 1 || !faults.isEmpty, "not in the table: \(words)")
        let trial = Trial(report, faults, isDue: { !faults.isEmpty })
        run(trial, scenario)
        say(trial.refusals.isEmpty ? "passed" : "refused: \(trial.refusals[0])")
    }

    /// `signal-fixture faults-list`: what there is to be swept from outside.
    static func list(_ report: Report) throws {
        for name in scenarios.keys.sorted() { say("scenario \(name)") }
        var seen: Set<String> = []
        for fault in Fault.table {
            let line = "fault \(fault.kind.systemCall) \(Errno.name(fault.code))"
            if seen.insert(line).inserted { say(line) }
        }
    }

    /// A whole run, and what must hold after it.
    private static func run(_ trial: Trial, _ scenario: (Trial) throws -> Void) {
        let report = trial.report
        let descriptors = State.openDescriptors(), blocked = State.blockedSignals()
        alarm(10)
        do { try scenario(trial) } catch { report.expect(false, "threw \(error)") }
        trial.letGo()
        alarm(0)
        report.equal(trial.live, 0, "what handlers hold was not let go of")
        report.equal(State.openDescriptors(), descriptors, "descriptors")
        report.equal(State.blockedSignals(), blocked, "the signal mask")
        report.expect(waitpid(-1, nil, WNOHANG) == -1 && errno == ECHILD, "a child is left")
    }

    #if DEBUG
    /// `signal-fixture faults SCENARIO [old]`: with every fault of the table, at every position. With `CALL ERRNO
    /// POSITION` after the scenario only that one.
    static func inside(_ report: Report) throws {
        let words = Array(CommandLine.arguments.dropFirst(2))
        guard let name = words.first, let scenario = scenarios[name] else {
            return report.expect(false, "scenarios: \(scenarios.keys.sorted().joined(separator: " "))")
        }
        Place.watch()
        if words.count == 4, let position = Int(words[3]) {
            for fault in Fault.table where fault.name == "\(words[1]) \(words[2])" {
                report.expect(strike(fault, position, name, scenario, report), "not reached: \(words)")
            }
            return
        }
        let calls = count(scenario, report)
        guard report.failures.isEmpty else { return }
        var positions = 0, unreached = 0
        for kind in clinux_call.all where calls[kind.index] > 0 {
            let faults = Fault.table.filter { $0.kind == kind }
            for fault in faults {
                for position in 1...calls[kind.index] {
                    if strike(fault, position, name, scenario, report) { positions += 1 } else { unreached += 1 }
                    // One is enough to look into, and each may take seconds.
                    if report.failures.count > 20 { return }
                }
            }
            say("calls \(calls[kind.index]) errnos \(faults.count) \(kind.name)")
        }
        report.expect(unreached * 50 <= positions, "\(unreached) positions were not reached")
        say("positions \(positions) unreached \(unreached)")
    }

    /// One run without faults: how often each kind of call is made. (The first run of all makes what lasts for the
    /// life of the process.)
    private static func count(_ scenario: (Trial) throws -> Void, _ report: Report) -> [Int] {
        for _ in 0..<2 {
            base()
            run(Trial(report, [], isDue: { false }), scenario)
        }
        return clinux_call.all.map { Int(clinux_faults_calls($0)) }
    }

    /// `signal-fixture faults-kinds`: what all sweeps together go through, and that no kind of call is left out.
    static func kinds(_ report: Report) throws {
        var calls = clinux_call.all.map { _ in 0 }
        for (name, scenario) in scenarios.sorted(by: { $0.key < $1.key }) {
            for isOld in name == "counters" ? [false, true] : [false] {
                base(old: isOld)
                run(Trial(report, [], isDue: { false }), scenario)
                for kind in clinux_call.all { calls[kind.index] += Int(clinux_faults_calls(kind)) }
            }
        }
        var total = 0
        for kind in clinux_call.all {
            let errnos = Fault.table.count { $0.kind == kind }
            report.expect(calls[kind.index] > 0, "never called: \(kind.name)")
            report.expect(errnos > 0 || kind == .sigmaskUnblock, "no errno for \(kind.name)")
            say("\(kind.name): \(calls[kind.index]) calls, \(errnos) errnos")
            total += calls[kind.index] * errnos
        }
        say("\(clinux_call.all.count) kinds, \(Fault.table.count) faults, \(total) positions")
    }

    /// One run with one fault. Where time decides how many calls there are, a position may need several tries.
    private static func strike(
        _ fault: Fault, _ position: Int, _ name: String, _ scenario: (Trial) throws -> Void, _ report: Report
    ) -> Bool {
        for _ in 0..<5 {
            base()
            clinux_faults_order(fault.kind, UInt32(position), 1, fault.code)
            Place.set("\(name): \(fault.name) at \(position)")
            let one = Report()
            let trial = Trial(one, [fault], isDue: { clinux_faults_strikes(fault.kind) == 0 })
            run(trial, scenario)
            let hasStruck = clinux_faults_strikes(fault.kind) > 0
            if hasStruck, fault.outcome == .refused { one.expect(!trial.refusals.isEmpty, "nobody heard of it") }
            for failure in one.failures { report.expect(false, "\(Place.text): \(failure)") }
            if hasStruck || !one.failures.isEmpty { return true }
        }
        return false
    }

    /// No faults but those that a whole sweep is made with: `old` stands for a kernel whose eventfd knows no
    /// RWF_NOWAIT.
    private static func base(old isOld: Bool = CommandLine.arguments.dropFirst(3).first == "old") {
        clinux_faults_reset()
        if isOld {
            clinux_faults_order(.eventfdDrain, 1, UInt32.max, EOPNOTSUPP)
        }
    }

    /// `signal-fixture faults-mark`: the page that tells a forked child is made once in a process. What failed is
    /// not remembered: a later loop can be made.
    static func mark(_ report: Report) throws {
        var positions = 0
        for fault in Fault.table where [.markMmap, .markMadvise].contains(fault.kind) {
            clinux_faults_reset()
            clinux_faults_order(fault.kind, 1, 1, fault.code)
            let before = State.openDescriptors()
            do throws(LoopError) {
                _ = try Loop()
                report.expect(false, "\(fault.name): accepted")
            } catch {
                report.equal(error.code, fault.code, "\(fault.name): \(error)")
            }
            report.equal(State.openDescriptors(), before, "\(fault.name): descriptors")
            positions += Int(clinux_faults_strikes(fault.kind))
        }
        clinux_faults_reset()
        let trial = Trial(report, [], isDue: { false })
        run(trial, Scenario.life)
        for kind in [clinux_call.markMmap, .markMadvise] {
            say("calls \(clinux_faults_calls(kind)) errnos \(Fault.table.count { $0.kind == kind }) \(kind.name)")
        }
        say("positions \(positions) unreached 0")
    }
    #endif
}

extension clinux_call {
    var index: Int { Int(rawValue) }
}

/// Where a sweep is, for the case that it ends by a trap or by the alarm.
enum Place {
    nonisolated(unsafe) private static let bytes = UnsafeMutablePointer<CChar>.allocate(capacity: 256)
    nonisolated(unsafe) private static var count = 0

    static var text: String { String(cString: bytes) }

    static func set(_ text: String) {
        count = min(text.utf8.count, 255)
        for (index, byte) in text.utf8.prefix(count).enumerated() { bytes[index] = CChar(bitPattern: byte) }
        bytes[count] = 0
    }

    static func watch() {
        set("at the start")
        for number in [SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGABRT, SIGALRM, SIGUSR1, SIGUSR2, SIGHUP] {
            signal(number) { number in
                _ = write(1, "FAILED: ended by a signal: ", 27)
                _ = write(1, Place.bytes, Place.count)
                _ = write(1, "\n", 1)
                signal(number, SIG_DFL)
                raise(number)
            }
        }
    }
}
