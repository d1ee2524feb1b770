import CLinux
import Glibc
import LinuxEvent

/// Cases that need a process of their own: signals, the process's mask, faults put in from outside.
///
/// Started as `signal-fixture CASE [ARGUMENT]`. Ends with 0 if all held, with 1 and the reasons otherwise.
@main
struct Fixture {
    static func main() {
        guard CommandLine.arguments.count > 1, let run = cases[CommandLine.arguments[1]] else {
            say("cases: \(cases.keys.sorted().joined(separator: " "))")
            exit(2)
        }
        do {
            let report = Report()
            try run(report)
            for failure in report.failures { say("FAILED: \(failure)") }
            exit(report.failures.isEmpty ? 0 : 1)
        } catch {
            say("FAILED: threw \(error)")
            exit(1)
        }
    }

    private static var cases: [String: (Report) throws -> Void] {
        [
            "wait-300": waitThreeHundred,
            "creation": creation,
            "missing": missingFeature,
            "interest-cost": interestCost,
            "oneshot-cost": oneshotCost,
            "timer-cost": timerCost,
            "waker-cost": wakerCost,
            "hold": holdDescriptors,
            "storm": storm,
            "rebuild-in-part": rebuildInPart,
            "fan-out": fanOut,
            "coalesce": coalesce,
            "realtime": realTime,
            "values": values,
            "cancel-pending": cancelPending,
            "cancel-some": cancelSome,
            "cancel-inside": cancelInside,
            "mask": mask,
            "mask-user": maskOfUser,
            "refused": refused,
            "owned": owned,
            "end-of-loop": endOfLoop,
            "senders": senders,
            "release-at-end": releaseAtEnd,
            "budget": signalBudget,
            "run-until": runUntil,
            "open-thread": openThread,
            "blocked-thread": blockedThread,
            "child-ends": childEnds,
            "child-before": childBefore,
            "child-status": childStatus,
            "child-handle": childHandle,
            "child-core": childCore,
            "child-vanishing": childVanishing,
            "child-sharing": childSharing,
            "child-number": childNumber,
            "child-crowd": childCrowd,
            "forked": forked,
            "forked-end": forkedEnd,
            "child-end": childEnd,
        ]
    }
}

/// What did not hold.
final class Report {
    private(set) var failures: [String] = []

    func expect(_ holds: Bool, _ text: @autoclosure () -> String, line: Int = #line) {
        if !holds { failures.append("line \(line): \(text())") }
    }

    func equal<Value: Equatable>(_ found: Value, _ expected: Value, _ text: String, line: Int = #line) {
        if found != expected { failures.append("line \(line): \(text): \(found), not \(expected)") }
    }

    func throwing(_ expected: LoopError, _ text: String, line: Int = #line, _ body: () throws(LoopError) -> Void) {
        do throws(LoopError) {
            try body()
            failures.append("line \(line): \(text): accepted")
        } catch {
            if error != expected { failures.append("line \(line): \(text): \(error)") }
        }
    }
}

func say(_ text: String) {
    let line = text + "\n"
    _ = write(1, line, line.utf8.count)
}

/// A mark in an strace: a write to no descriptor.
func mark(_ phase: String) { _ = write(-1, phase, phase.utf8.count) }

func monotonic() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}

func pump(_ loop: Loop, _ turns: Int = 1) throws {
    for _ in 0..<turns { try loop.runOnce(timeout: .zero) }
}

func openDescriptors() -> Int {
    (0..<64).reduce(0) { $0 + (fcntl(CInt($1), F_GETFD) >= 0 ? 1 : 0) }
}

/// A non-blocking pipe that lives as long as the process.
func makePipe() -> (reader: CInt, writer: CInt) {
    var ends: [CInt] = [-1, -1]
    guard pipe(&ends) == 0 else { fatalError("pipe") }
    for end in ends { _ = fcntl(end, F_SETFL, O_NONBLOCK) }
    return (ends[0], ends[1])
}

func makePair() -> (near: CInt, far: CInt) {
    var ends: [CInt] = [-1, -1]
    guard socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0, &ends) == 0 else { fatalError("socketpair") }
    for end in ends { _ = fcntl(end, F_SETFL, O_NONBLOCK) }
    return (ends[0], ends[1])
}
