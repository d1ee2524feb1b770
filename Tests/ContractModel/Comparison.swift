public import LinuxEvent
import TestSupport

/// Where a loop did not do what the contract says.
public struct Divergence: Error, Hashable, CustomStringConvertible {
    public let text: String
    /// What was done and what ran up to then, where it was asked for.
    public let trace: [String]
    public var description: String { ([text] + trace).joined(separator: "\n") }
}

/// One script, done on a loop and on a model of the contract at the same time.
///
/// Every callback is checked when it comes: is it allowed at this moment? At the end of a turn everything that had to
/// run must have run. The order of events of different descriptors is the kernel's, so the model follows what
/// actually ran. It asks poll(2) what is ready, just before the loop asks the kernel.
///
/// The rest is in extensions, by topic.
public final class Comparison {
    enum Phase: Int { case outside, events, timers, deferred }

    let driven: DrivenLoop
    var loop: Loop { driven.loop }
    var situations: Situations
    private(set) var divergence: Divergence?
    private let isTracing: Bool
    private var trace: [String] = []

    let files = OpenFiles()
    var phase = Phase.outside
    /// How many turns have begun.
    var turn = 0
    /// How many callbacks are running, one within the other.
    var depth = 0
    /// What the turn in progress has come to.
    var run = TurnModel()
    var isStopRequested = false
    var fired: UInt64 = 0
    var staleEvents: UInt64 = 0

    // Watchers.
    /// All that the model holds for live, doubtful ones among them.
    var watchers: [WatcherModel] = []
    /// Those of the past, oldest first; a few.
    var past: [WatcherModel] = []
    /// Ended, and their handlers not known to be released yet.
    var dying: [WatcherModel] = []
    /// The watcher whose event is being dispatched.
    var current: WatcherModel?
    /// Open files that the kernel's set may still hold though nobody watches them any more. Contract W9.
    var residues: [OpenFile] = []
    /// Acts to be done in a callback of a slot: in how many callbacks from now, and what.
    var planned: [(slot: Int, left: Int, act: Act)] = []

    // Work that is no descriptor's.
    var timers: [TimerModel] = []
    var timersMade = 0
    /// Deadlines for which the loop's alarm may still be set, though their timers ran or were cancelled. Contract T1.
    var oldAlarms: [(deadline: UInt64, turn: Int)] = []
    var deferred: [DeferredModel] = []
    var waker = WakerModel()
    var counters: [CounterModel] = []
    var children: [ChildModel] = []
    var observers: [ObserverModel] = []
    var plannedElsewhere: [Act.Place: [Act]] = [:]
    /// Obtained by the script, so to be kept right by the loop. Contract L6.
    var descriptor: CInt?
    var hasSettled = false
    /// Something has stood in the kernel's set that the loop cannot remove by number. Contract W9.
    var hadResidue = false
    var rebuilds: UInt64 = 0
    /// Watchers that the loop found closed, as seen by their handles.
    var vanished: UInt64 = 0

    init(_ driven: DrivenLoop, _ situations: Situations, isTracing: Bool) {
        (self.driven, self.situations, self.isTracing) = (driven, situations, isTracing)
    }

    // MARK: Running a script

    /// Runs a script on a new loop.
    ///
    /// - Returns: where the loop and the contract part, if they do.
    public static func run(
        _ script: Script, counting situations: inout Situations, isTracing: Bool = false,
        on makeLoop: () throws(LoopError) -> DrivenLoop = { () throws(LoopError) in try DrivenLoop() }
    ) -> Divergence? {
        let before = Descriptors.open()
        var divergence: Divergence?
        do throws(LoopError) {
            var comparison: Comparison? = Comparison(try makeLoop(), situations, isTracing: isTracing)
            guard let files = comparison?.files else { return nil }
            comparison?.perform(script)
            comparison?.end(script.setup.end)
            let handlers = comparison?.handlersLeft ?? []
            divergence = comparison?.divergence
            situations = comparison?.situations ?? situations
            comparison = nil
            // By now the loop is gone, however it ended. Contract L5, L14.
            if divergence == nil, handlers.contains(where: { $0.ended != 1 }) {
                divergence = Divergence(text: "L14 the loop is gone, and not all of its handlers are", trace: [])
            }
            let broken = files.brokenSlots
            if divergence == nil, !broken.isEmpty {
                divergence = Divergence(text: "L5 descriptors of the user's were closed: slots \(broken)", trace: [])
            }
            files.closeAll()
        } catch {
            return Divergence(text: "no loop: \(error)", trace: [])
        }
        let after = Descriptors.open()
        if divergence == nil, before != after {
            divergence = Divergence(text: "L5 descriptors before and after the script: \(before), \(after)", trace: [])
        }
        return divergence
    }

    private func perform(_ script: Script) {
        situations.scripts += 1
        for (pair, kind) in script.setup.pairs.enumerated() { files.open(kind, pair: pair) }
        for act in script.acts where divergence == nil { take(act) }
    }

    /// Does an act, or puts it where it is to be done.
    private func take(_ act: Act) {
        var plain = act
        plain.place = .now
        switch act.place {
        case .now: perform(act)
        case .callback(let slot, let nth): planned.append((Int(slot), Int(nth), plain))
        case .deferred: addDeferred(plain)
        case .timer: addTimer(plain)
        case .release, .tick, .wake, .counter, .child: plannedElsewhere[act.place, default: []].append(plain)
        }
    }

    func perform(_ act: Act) {
        guard divergence == nil else { return }
        note { "\(self.depth > 0 ? "    inside: " : "")\(act)" }
        if performs(act) { situations.note(act.kind, isInside: phase != .outside) }
    }

    /// - Returns: whether the act had something to act on.
    private func performs(_ act: Act) -> Bool {
        switch act.kind {
        case .write, .read, .fill, .close, .shut, .reset, .urgent, .open, .copy, .place, .takeError:
            performOnFiles(act)
        case .watch, .watchWith, .interest, .turn, .unwatch, .cancel, .old, .rearm, .look:
            performOnWatchers(act)
        case .after, .at, .every, .cancelTimer, .pause: performOnTimers(act)
        case .defer, .stop, .wake, .onWake, .counter, .signal, .cancelCounter, .internals, .updateNow, .descriptor:
            performOnLoop(act)
        case .spawn, .observe, .kill, .steal, .cancelObserver: performOnChildren(act)
        case .statistics: performStatistics()
        case .pump, .wait, .run, .linger, .settle: performTurn(act)
        }
    }

    /// Does what was planned for a place, where there is such a thing.
    func performPlanned(_ place: Act.Place) {
        guard let acts = plannedElsewhere.removeValue(forKey: place) else { return }
        for act in acts { perform(act) }
    }

    // MARK: Finding out

    /// The first divergence counts; the script ends with it.
    func fail(_ text: @autoclosure () -> String) {
        guard divergence == nil else { return }
        divergence = Divergence(text: text(), trace: trace)
    }

    func check(_ holds: Bool, _ text: @autoclosure () -> String) {
        if !holds { fail(text()) }
    }

    func note(_ text: () -> String) {
        if isTracing { trace.append(text()) }
    }

    /// What a call came to.
    func outcome<Value>(_ body: () throws(LoopError) -> Value) -> Result<Value, LoopError> {
        do throws(LoopError) { return .success(try body()) } catch { return .failure(error) }
    }
}

extension Result {
    var value: Success? { if case .success(let value) = self { value } else { nil } }
    var error: Failure? { if case .failure(let error) = self { error } else { nil } }
}

extension Result where Failure == LoopError {
    /// The errno with which the kernel refused.
    var code: CInt? { error?.code }
}
