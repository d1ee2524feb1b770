import Glibc
public import Testing

/// Lets one test at a time into the process's shared things: descriptor numbers, limits, signals, threads, time.
///
/// Suites of different targets run in one process and in parallel. A suite that carries `.gated` runs
/// each of its tests alone among all gated tests, and none of them for ever: a test that exceeds the limit
/// ends the process with its name, since a thread that is stuck in the kernel cannot be ended otherwise.
public struct GatedTrait: SuiteTrait, TestTrait, TestScoping {
    let limitSeconds: UInt64
    let isKeeping: Bool
    public var isRecursive: Bool { true }

    public func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        guard testCase != nil else { return try await function() }
        await ProcessGate.shared.enter()
        Watchdog.shared.begin(test.name, limitSeconds: limitSeconds)
        if isKeeping { Lifetimes.begin() }
        defer {
            if isKeeping { Lifetimes.end() }
            Watchdog.shared.end()
            ProcessGate.shared.leave()
        }
        try await function()
    }
}

extension Trait where Self == GatedTrait {
    /// See `GatedTrait`.
    public static var gated: GatedTrait { gated() }

    /// - Parameter keeping: pipes and the like live until the test has ended; see `Lifetimes`.
    public static func gated(limitSeconds: UInt64 = 120, keeping: Bool = false) -> GatedTrait {
        GatedTrait(limitSeconds: limitSeconds, isKeeping: keeping)
    }
}

/// A lock that suspends instead of blocking, first come, first served.
public final class ProcessGate: Sendable {
    public static let shared = ProcessGate()
    private struct State {
        var taken = false
        var waiting: [CheckedContinuation<Void, Never>] = []
    }
    private let state = Locked(State())

    public func enter() async {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let free = state.withLock { state in
                if state.taken {
                    state.waiting.append(continuation)
                    return false
                }
                state.taken = true
                return true
            }
            if free { continuation.resume() }
        }
    }

    public func leave() {
        let next = state.withLock { state -> CheckedContinuation<Void, Never>? in
            if state.waiting.isEmpty {
                state.taken = false
                return nil
            }
            return state.waiting.removeFirst()
        }
        next?.resume()
    }
}

/// One thread that ends the process where a test hangs.
final class Watchdog: Sendable {
    static let shared: Watchdog = {
        let watchdog = Watchdog()
        _ = Threads.spawn {
            while true {
                usleep(500_000)
                watchdog.look()
            }
        }
        return watchdog
    }()

    private struct Watched {
        var name = ""
        var deadline: UInt64 = .max
    }
    private let watched = Locked(Watched())

    func begin(_ name: String, limitSeconds: UInt64) {
        let deadline = Clock.monotonic() &+ Effort.atMost(limitSeconds &* 1_000_000_000)
        watched.withLock { $0 = Watched(name: name, deadline: deadline) }
    }

    func end() { watched.withLock { $0 = Watched() } }

    private func look() {
        let late = watched.withLock { Clock.monotonic() > $0.deadline ? $0.name : nil }
        guard let late else { return }
        let text = "a test hangs: \(late)\n"
        _ = write(2, text, text.utf8.count)
        abort()
    }
}
