import CLinux
import Glibc
import LinuxEvent
import TestSupport
import Testing

/// Every suite of this target hangs below this one, so that all its tests run one at a time: they count
/// descriptors and threads, place files at chosen numbers, and lower limits that the whole process shares.
@Suite("LinuxEvent", .serialized, .gated(keeping: true))
enum LinuxEventSuite {}

/// What ran, in order.
final class Calls {
    var names: [String] = []

    func add(_ name: String) { names.append(name) }
    func count(of name: String) -> Int { names.reduce(0) { $0 + ($1 == name ? 1 : 0) } }
    func clear() { names.removeAll() }

    /// A handler that does nothing but note its name.
    func handler(_ name: String) -> Handler {
        { _, _, _ in self.names.append(name) }
    }

    /// A handler that notes its name and reads its descriptor empty.
    func draining(_ name: String) -> Handler {
        { _, descriptor, _ in
            self.names.append(name)
            IO.drain(descriptor)
        }
    }
}

/// A loop, and what the kernel says of its set.
final class Probe {
    let loop: Loop
    /// Descriptors that came with the loop.
    let internals: [CInt: String]
    private let epollsBefore: Set<CInt>

    init() throws {
        let before = OpenDescriptors.all()
        epollsBefore = OpenDescriptors.epolls()
        loop = try Loop()
        internals = OpenDescriptors.all().filter { before[$0.key] == nil }
    }

    /// Registrations in all epoll sets made since.
    var entries: [EpollEntry] {
        OpenDescriptors.epolls().subtracting(epollsBefore).flatMap { EpollEntry.all(in: $0) }
    }

    /// The kernel's mask for a descriptor, or nil where the set does not hold it.
    func mask(_ descriptor: CInt) -> UInt32? { entries.first { $0.descriptor == descriptor }?.mask }

    /// Whether the kernel is asked for all of this; nil where the set does not hold the descriptor.
    func asks(_ descriptor: CInt, _ readiness: Readiness) -> Bool? {
        mask(descriptor).map { $0 & readiness.rawValue == readiness.rawValue }
    }
}

/// Turns without waiting.
func pump(_ loop: Loop, _ turns: Int = 1) throws {
    for _ in 0..<turns { try loop.runOnce(timeout: .zero) }
}

/// Turns until the condition holds, at most that long (longer on a slow machine); whether it came to hold.
func pump(_ loop: Loop, milliseconds: Int, until condition: () -> Bool) throws -> Bool {
    let deadline = Clock.monotonic() &+ Effort.atMost(UInt64(milliseconds) &* 1_000_000)
    while Clock.monotonic() < deadline {
        if condition() { return true }
        try loop.runOnce(timeout: .milliseconds(1))
    }
    return condition()
}

/// The loop must be at rest: for a while it neither turns often nor uses the CPU.
func expectQuiet(_ loop: Loop, milliseconds: Int = 60, sourceLocation: SourceLocation = #_sourceLocation) throws {
    func rest() throws -> (turns: UInt64, spent: Spent) {
        let turns = loop.statistics.turns
        let spent = try Spent.measure {
            loop.after(.milliseconds(milliseconds)) { loop, _ in loop.stop() }
            try loop.run()
        }
        return (loop.statistics.turns - turns, spent)
    }
    let bound = Double(milliseconds) / 10
    var (turned, spent) = try rest()
    // An emulated machine counts as used whatever time its host takes away: there, the best of many tells.
    for _ in 0..<20 where Effort.slowness > 1 && spent.cpuMilliseconds >= bound { spent = try rest().spent }
    #expect(turned > 0, "the turn counter does not count", sourceLocation: sourceLocation)
    #expect(turned < 20, "the loop turns without work", sourceLocation: sourceLocation)
    #expect(
        spent.wallMilliseconds >= Double(milliseconds), "run() ended too early", sourceLocation: sourceLocation)
    #expect(spent.cpuMilliseconds < bound, "the loop uses the CPU without work", sourceLocation: sourceLocation)
}

/// The body must leave the process's descriptors as they were; first the counter shows that it sees one.
func expectNoLeak(sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> Void) throws {
    let before = OpenDescriptors.all()
    let extra = open("/dev/null", O_RDONLY | O_CLOEXEC)
    #expect(OpenDescriptors.count() == before.count + 1, "the counter is blind", sourceLocation: sourceLocation)
    close(extra)
    try Lifetimes.scope(body)
    #expect(OpenDescriptors.all() == before, sourceLocation: sourceLocation)
}

/// The kernel's errno of a call that must be refused.
func refusal(
    sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws(LoopError) -> Void
) -> CInt? {
    do throws(LoopError) {
        try body()
        Issue.record("the call was accepted", sourceLocation: sourceLocation)
        return nil
    } catch {
        guard case .system = error else {
            Issue.record("not the kernel's refusal: \(error)", sourceLocation: sourceLocation)
            return nil
        }
        return error.code
    }
}

/// The error of a call that must fail.
func failure(
    sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws(LoopError) -> Void
) -> LoopError? {
    do throws(LoopError) {
        try body()
        Issue.record("the call was accepted", sourceLocation: sourceLocation)
        return nil
    } catch {
        return error
    }
}

extension Turn {
    /// Nothing was done in it.
    var isEmpty: Bool { events == 0 && timers == 0 && deferred == 0 && !stopped }
}

/// The helper program of Tests/Fixtures/signal-fixture: whole processes with a synchronous main.
enum Fixture {
    static func start(_ arguments: String..., inheriting: [CInt] = []) throws -> HelperProcess {
        HelperProcess(try path, arguments, inheriting: inheriting)
    }

    static func run(_ arguments: String...) throws -> HelperProcess.Outcome {
        HelperProcess(try path, arguments).end()
    }

    static var path: String {
        get throws { try #require(Build.program("signal-fixture"), "signal-fixture is not beside the tests") }
    }
}

/// The helper program under strace.
enum Strace {
    /// Whether there is an strace that may trace.
    static let works: Bool = {
        guard let tool = Build.tool("strace") else { return false }
        return HelperProcess(tool, ["-o", "/dev/null", "true"]).end().exitCode == 0
    }()

    /// Runs a case of the fixture with faults put into its system calls.
    static func inject(_ fault: String, _ arguments: String) throws -> HelperProcess.Outcome {
        let tool = try #require(Build.tool("strace"))
        let words = arguments.split(separator: " ").map(String.init)
        return HelperProcess(
            tool, ["-o", "/dev/null", "-e", "inject=\(fault)", try Fixture.path] + words
        ).end()
    }

    /// The system calls between a case's marks: name of the phase → lines.
    static func calls(_ names: String, _ argument: String) throws -> [String: [String]] {
        let tool = try #require(Build.tool("strace"))
        let file = "/tmp/linux-event-strace-\(getpid())"
        defer { unlink(file) }
        let outcome = HelperProcess(
            tool, ["-o", file, "-s", "64", "-e", "trace=write,\(names)", try Fixture.path, argument]
        ).end()
        #expect(outcome.exitCode == 0, "\(outcome)")
        var phase = ""
        var found: [String: [String]] = [:]
        for line in Files.text(file).split(separator: "\n") {
            // A mark is a write to no descriptor at all.
            if line.hasPrefix("write(-1, \"") {
                phase = String(line.dropFirst(11).prefix { $0 != "\"" })
                found[phase] = []
            } else if line.contains("EPOLL_CTL_ADD"), line.contains("EEXIST") {
                // A question whether the number still means what was watched (W9), now and then; it changes nothing.
                continue
            } else if !line.hasPrefix("write("), !line.hasPrefix("+++"), !line.hasPrefix("---") {
                found[phase, default: []].append(String(line))
            }
        }
        return found
    }
}

extension UInt64 {
    static func milliseconds(_ count: UInt64) -> UInt64 { count &* 1_000_000 }
    static func microseconds(_ count: UInt64) -> UInt64 { count &* 1_000 }
}
