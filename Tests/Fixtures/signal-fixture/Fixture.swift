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
        var cases: [String: (Report) throws -> Void] = [
            "wait-300": waitThreeHundred,
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
            "refused-claim": refusedClaim,
            "child-ends": childEnds,
            "child-before": childBefore,
            "child-status": childStatus,
            "child-handle": childHandle,
            "child-core": childCore,
            "child-vanishing": childVanishing,
            "child-sharing": childSharing,
            "child-number": childNumber,
            "child-crowd": childCrowd,
            "child-flood": childFlood,
            "signal-storm": signalStorm,
            "stopped-second": stoppedSecond,
            "forked": forked,
            "forked-end": forkedEnd,
            "child-end": childEnd,
            "trial": Sweep.trial,
            "faults-list": Sweep.list,
        ]
        #if DEBUG
        cases["faults"] = Sweep.inside
        cases["faults-mark"] = Sweep.mark
        cases["faults-kinds"] = Sweep.kinds
        #endif
        return cases
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

/// LINUX_EVENT_SLOW=10: the machine is ten times as slow as a real one. Upper bounds of time are multiplied by it.
let slowness = max(1, getenv("LINUX_EVENT_SLOW").flatMap { UInt64(String(cString: $0)) } ?? 1)

func say(_ text: String) {
    var line = text + "\n"
    // Not write(2), into which a fault may be put from outside.
    line.withUTF8 { bytes in
        var vector = iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)
        _ = writev(1, &vector, 1)
    }
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

func openDescriptors(below limit: Int = 64) -> Int {
    (0..<limit).reduce(0) { $0 + (fcntl(CInt($1), F_GETFD) >= 0 ? 1 : 0) }
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
