import CLinux
import Glibc
import LinuxEvent

/// One run of a scenario, in which one call of the kernel may fail.
///
/// A scenario is written as if nothing failed, with each call of the loop's in `attempt` and each turn in `turn`. There
/// one error is allowed, which has to be the fault's, to have changed nothing, and not to stand in the way of a second
/// attempt.
final class Trial {
    let report: Report
    /// What may strike in this run: none, one, or those that an errno put in from outside can be.
    private let faults: [Fault]
    /// Whether the one fault can still come, as far as one can know.
    private let isDue: () -> Bool
    private(set) var refusals: [String] = []
    private(set) var live = 0
    /// Sets of the kernel's that loops have made, to be looked into.
    private var sets: [CInt] = []
    private var watched: [Watched] = []
    private var kept: [Ends] = []
    private var hasVanished = false

    init(_ report: Report, _ faults: [Fault], isDue: @escaping () -> Bool) {
        self.report = report
        self.faults = faults
        self.isDue = isDue
    }

    func mayFail(_ kinds: clinux_call..., code: CInt? = nil) -> Bool {
        faults.contains { fault in kinds.contains(fault.kind) && code ?? fault.code == fault.code }
    }

    // MARK: Steps

    /// Does something that may be refused, once: then as it was before, and again.
    @discardableResult
    func attempt<Result>(
        _ step: String, _ loop: Loop? = nil, line: Int = #line, _ body: () throws -> Result
    ) throws -> Result {
        guard isDue() else { return try body() }
        let before = State(loop, loop == nil ? [] : sets)
        do { return try body() } catch let error as LoopError {
            accept(error, step, line: line)
            let after = State(loop, loop == nil ? [] : sets)
            report.expect(after == before, "\(step): refused, and changed \(before) to \(after)", line: line)
            return try body()
        }
    }

    var mayFailAnywhere: Bool { !faults.isEmpty }

    /// More sets to look into.
    func note(_ new: [CInt]) { sets += new }

    /// A pipe, or a pair of sockets, that stays open until the scenario has ended: an optimized build lets go of an
    /// object after its last use.
    func ends(sockets: Bool = false) -> Ends {
        let ends = Ends(sockets: sockets)
        kept.append(ends)
        return ends
    }

    /// At the end of a scenario: nothing of it is held here any more.
    func letGo() {
        watched = []
        kept = []
    }

    func makeLoop(line: Int = #line) throws -> Loop {
        let before = State.openDescriptors()
        let loop = try attempt("Loop()", line: line) { try Loop() }
        sets += State.sets(since: before)
        return loop
    }

    /// A turn, which may throw once.
    @discardableResult
    func turn(_ loop: Loop, _ timeout: Duration = .zero, line: Int = #line) throws -> Turn {
        let turn: Turn
        do throws(LoopError) { turn = try loop.runOnce(timeout: timeout) } catch {
            accept(error, "turn", line: line)
            turn = try loop.runOnce(timeout: timeout)
        }
        try revive()
        return turn
    }

    /// Turns until a condition holds.
    func turns(_ loop: Loop, _ what: String, line: Int = #line, until holds: () -> Bool) throws {
        let end = Instant.now.advanced(by: .seconds(2))
        while !holds() {
            if Instant.now > end { return report.expect(false, "never came: \(what)", line: line) }
            try turn(loop, .milliseconds(20), line: line)
        }
    }

    /// The one error that this run may see: the kernel's errno, and the call that it came from.
    private func accept(_ error: LoopError, _ step: String, line: Int) {
        refusals.append("\(step): \(error)")
        report.expect(refusals.count == 1, "one fault, and refused were \(refusals)", line: line)
        let isKnown = faults.contains { fault in
            guard fault.outcome != .passed else { return false }
            return switch error {
            case .system(let system): system.call.hasPrefix(fault.kind.errorName) && fault.answers.contains(system.code)
            case .unsupported(let feature): fault.code == ENOSYS && feature.hasPrefix(fault.kind.errorName)
            default: false
            }
        }
        report.expect(isKnown, "\(step): \(error)", line: line)
    }

    // MARK: Watchers

    /// A watcher that a scenario goes on using. If a fault ends it in a way that the contract allows (W9: the kernel
    /// said that the descriptor is not the one it was given), it is made again, with all that it should be.
    final class Watched {
        let loop: Loop
        let make: () throws -> Watcher
        fileprivate(set) var watcher: Watcher
        /// It was made again.
        fileprivate(set) var isNew = false

        fileprivate init(_ loop: Loop, _ watcher: Watcher, _ make: @escaping () throws -> Watcher) {
            self.loop = loop
            self.watcher = watcher
            self.make = make
        }
    }

    func watch(
        _ step: String, _ loop: Loop, line: Int = #line, _ make: @escaping () throws -> Watcher
    ) throws -> Watched {
        let watcher = try attempt(step, loop, line: line, make)
        report.expect(watcher.isActive, "\(step): not active", line: line)
        let one = Watched(loop, watcher, make)
        // A replaced one is not made again.
        watched.removeAll { !$0.watcher.isActive || $0.watcher.descriptor == watcher.descriptor && $0.loop === loop }
        watched.append(one)
        return one
    }

    func unwatch(_ one: Watched, line: Int = #line) throws {
        let descriptor = one.watcher.descriptor
        forget(one)
        let removed = try attempt("unwatch", one.loop, line: line) { try one.loop.unwatch(descriptor) }
        report.expect(removed, "unwatch: nothing was removed", line: line)
        report.expect(!one.watcher.isActive, "unwatch: still active", line: line)
    }

    /// Its end is the scenario's from here on.
    func forget(_ one: Watched) { watched.removeAll { $0 === one } }

    private func revive() throws {
        for one in watched where !one.watcher.isActive {
            report.expect(!hasVanished && faults.contains(where: \.saysClosed), "a watcher ended unasked")
            report.expect(one.loop.statistics.vanished > 0, "a watcher ended uncounted")
            hasVanished = true
            one.watcher = try attempt("made again", one.loop, one.make)
            one.isNew = true
        }
    }

    // MARK: What must hold in the end

    /// Captured by handlers: counts what was not let go of.
    final class Token {
        private let trial: Trial
        fileprivate init(_ trial: Trial) {
            self.trial = trial
            trial.live += 1
        }
        func touch() {}
        deinit { trial.live -= 1 }
    }

    func token() -> Token { Token(self) }

    /// The loop still does all that a loop does: an event, a timer, a wake.
    func expectUsable(_ loop: Loop, line: Int = #line) throws {
        let ends = ends()
        var events = 0, timers = 0, wakes = 0
        let token = token()
        let one = try watch("watch at last", loop, line: line) {
            try loop.watch(
                ends.reader,
                read: { _, descriptor, _ in
                    token.touch()
                    Ends.drain(descriptor)
                    events += 1
                })
        }
        loop.onWake { _ in
            token.touch()
            wakes += 1
        }
        loop.after(.zero) { _, _ in
            token.touch()
            timers += 1
        }
        ends.put()
        loop.waker.signal()
        try turns(loop, "an event, a timer and a wake at last", line: line) { events > 0 && timers > 0 && wakes > 0 }
        loop.onWake(nil)
        try unwatch(one, line: line)
    }
}

/// What a refused call must leave as it was.
struct State: Equatable, CustomStringConvertible {
    private let descriptors: [CInt]
    private let blocked: UInt64
    private let pending: UInt64
    private let counts: [Int]
    /// The kernel's own words on each set.
    private let sets: [String]

    init(_ loop: Loop?, _ sets: [CInt]) {
        descriptors = Self.openDescriptors()
        blocked = Self.blockedSignals()
        pending = Self.pendingSignals()
        let statistics = loop?.statistics
        counts = statistics.map { [$0.watchers, $0.parked, $0.timersLive, Int($0.vanished)] } ?? []
        self.sets = sets.map { Self.text("/proc/self/fdinfo/\($0)") }
    }

    var description: String {
        "\(descriptors) \(String(blocked, radix: 16)) \(String(pending, radix: 16)) \(counts) \(sets)"
    }

    static func openDescriptors() -> [CInt] { (0..<96).filter { fcntl($0, F_GETFD) >= 0 } }

    static func blockedSignals() -> UInt64 {
        var set = sigset_t()
        pthread_sigmask(SIG_BLOCK, nil, &set)
        return withUnsafeBytes(of: &set) { $0.load(as: UInt64.self) }
    }

    static func pendingSignals() -> UInt64 {
        var set = sigset_t()
        sigpending(&set)
        return withUnsafeBytes(of: &set) { $0.load(as: UInt64.self) }
    }

    static func sets(since before: [CInt]) -> [CInt] {
        openDescriptors().filter { !before.contains($0) && link("/proc/self/fd/\($0)") == "anon_inode:[eventpoll]" }
    }

    static func link(_ path: String) -> String {
        var buffer = [CChar](repeating: 0, count: 128)
        let count = readlink(path, &buffer, buffer.count)
        return String(decoding: buffer.prefix(max(count, 0)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func text(_ path: String) -> String {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return "" }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: 8192)
        let count = Glibc.read(descriptor, &buffer, buffer.count)
        return String(decoding: buffer.prefix(max(count, 0)), as: UTF8.self)
    }
}

/// A pipe, or a pair of sockets, that is closed with this object. It uses no system call that a loop uses, so that a
/// fault put in from outside does not hit the wrong one.
final class Ends {
    private(set) var reader: CInt
    private(set) var writer: CInt

    init(sockets: Bool = false) {
        var ends: [CInt] = [-1, -1]
        let result = sockets ? socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0, &ends) : pipe(&ends)
        guard result == 0 else { fatalError("pipe") }
        for end in ends { _ = fcntl(end, F_SETFL, O_NONBLOCK) }
        (reader, writer) = (ends[0], ends[1])
    }

    func put() {
        var byte: UInt8 = 0x78
        withUnsafeMutablePointer(to: &byte) { byte in
            var vector = iovec(iov_base: byte, iov_len: 1)
            _ = writev(writer, &vector, 1)
        }
    }

    static func drain(_ descriptor: CInt) {
        var bytes: (UInt64, UInt64) = (0, 0)
        withUnsafeMutablePointer(to: &bytes) { bytes in
            var vector = iovec(iov_base: bytes, iov_len: 16)
            while readv(descriptor, &vector, 1) > 0 {}
        }
    }

    func closeReader() {
        if reader >= 0 { Glibc.close(reader) }
        reader = -1
    }

    func closeWriter() {
        if writer >= 0 { Glibc.close(writer) }
        writer = -1
    }

    deinit {
        closeReader()
        closeWriter()
    }
}
