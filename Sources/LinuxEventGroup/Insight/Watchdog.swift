internal import CLinux
internal import LinuxEvent
internal import Synchronization

/// That a watchdog shall be there, what it reports, and to whom. Contract G7.
public struct WatchdogOptions: Sendable {
    let limit: UInt64
    let namesDescriptors: Bool
    let report: @Sendable (WatchdogReport) -> Void

    /// - Parameters:
    ///   - limit: how long one turn of a shard may take, at least a millisecond.
    ///   - namesDescriptors: reports name the descriptor of the group's watch whose handler runs. Each event of such a
    ///     watch costs two stores more then.
    ///   - report: runs on the watchdog's own thread, so that it runs though the shard is stuck.
    public init(
        limit: Duration = .milliseconds(25), namesDescriptors: Bool = false,
        report: @escaping @Sendable (_ report: WatchdogReport) -> Void
    ) {
        // A limit of centuries is none, and still can be added to the time.
        self.limit = UInt64(min(max(limit.nanoseconds, 1_000_000), 1 << 62))
        self.namesDescriptors = namesDescriptors
        self.report = report
    }
}

/// What the watchdog has found. Contract G7.
public enum WatchdogReport: Sendable, CustomStringConvertible {
    /// A shard has been in one turn for too long. It comes again each time that the stall has become twice as long.
    case stall(Stall)
    /// A shard slept for a second with tasks in its mailbox, and was woken by the watchdog. It means a fault in the
    /// library or in the kernel: there is no way to bring it about. Contract M4.
    case lostWake(shard: Int)

    /// A stall, as it stands.
    public struct Stall: Hashable, Sendable {
        /// The shard's number, from 0.
        public let shard: Int
        /// How long the turn has lasted, at least.
        public let duration: Duration
        /// What the shard does.
        public let phase: ShardPhase
        /// The innermost label that it is in, by `Shard.labelled`.
        public let label: String?
        /// The descriptor whose handler runs, for watches of the group, and if the options ask for it.
        public let descriptor: CInt?
        /// Shards that are all stuck, and each of which has a call open to the next, the last to the first: they wait
        /// for each other. Found in debug builds of the library only. Contract M6.
        public let cycle: [Int]
    }

    public var description: String {
        switch self {
        case .lostWake(let shard): return "shard \(shard): a wake was lost, and sent again"
        case .stall(let stall):
            var text = "shard \(stall.shard): stuck for \(stall.duration) in \(stall.phase)"
            if let label = stall.label { text += ", \(label)" }
            if let descriptor = stall.descriptor { text += ", descriptor \(descriptor)" }
            if !stall.cycle.isEmpty {
                text +=
                    ", waiting in a circle: "
                    + (stall.cycle + stall.cycle.prefix(1)).map(String.init)
                    .joined(separator: " → ")
            }
            return text
        }
    }
}

/// A thread that looks at what the shards do. It uses no signals: a shard notes its steps, and this reads them.
///
/// It looks several times per limit while any shard is awake, and dozes while all wait: an idle group is not woken by
/// it. A shard that wakes up rings it out of its doze. Contract G7.
final class Watchdog: Sendable {
    let options: WatchdogOptions
    private let isDozing = Isolated(Atomic<Bool>(false))
    private let bell = Bell()

    init(_ options: WatchdogOptions) { self.options = options }

    // MARK: Shards

    /// A shard's sleep has ended. Both this and `doze` write first and read then, in one order for all, so at least one
    /// of the two sees the other.
    func shardWoke(_ core: ShardCore, turn: UInt64) {
        core.counters.value.activity.storeInOrder(.callbacks, turn: turn)
        guard isDozing.value.load(ordering: .sequentiallyConsistent) else { return }
        isDozing.value.store(false, ordering: .relaxed)
        bell.ring()
    }

    func shardEnded(_ core: ShardCore) { bell.ring() }

    // MARK: Its own thread

    /// What it knows of one shard.
    private struct Sight {
        var step: UInt64 = .max
        var since: UInt64 = 0
        /// When to report next.
        var nextReport: UInt64 = 0
        /// Since when there have been tasks for a shard that sleeps; 0 for none.
        var unheardSince: UInt64 = 0
    }

    private static let patience: UInt64 = 1_000_000_000

    /// Until all shards have ended.
    func run(_ cores: Cores) {
        var sights = [Sight](repeating: Sight(), count: cores.count)
        while true {
            // Before the look at who has stopped: a shard that does so after it rings once more than this.
            let rings = bell.count
            if cores.allSatisfy({ $0.stopStage == .stopped }) { return }
            let isQuiet = look(cores, &sights)
            if isQuiet, doze(cores, rings) { continue }
            bell.wait(until: Instant.now.advanced(by: .nanoseconds(Int64(options.limit / 4))))
        }
    }

    /// Returns whether all shards sleep, and none has tasks.
    private func look(_ cores: Cores, _ sights: inout [Sight]) -> Bool {
        let now = clinux_monotonic_ns()
        var isQuiet = true
        var stuck: Set<Int> = []
        for core in cores where core.stopStage != .stopped {
            let step = core.counters.value.activity.step
            let isAsleep = ShardActivity.phase(of: step) == .waiting
            if !isAsleep || core.mailbox.hasTasks { isQuiet = false }
            if step != sights[core.index].step {
                sights[core.index] = Sight(step: step, since: now, nextReport: now + options.limit)
            } else if isAsleep {
                listen(core, &sights[core.index], now)
            } else if now >= sights[core.index].nextReport {
                stuck.insert(core.index)
            }
        }
        for index in stuck.sorted() { report(cores, index, &sights, now) }
        return isQuiet
    }

    /// A shard that sleeps and has tasks is about to wake up: who posted the first of them rings. If nobody has done so
    /// after a second, the wake was lost. (If somebody has, the shard waits for its CPU.)
    private func listen(_ core: ShardCore, _ sight: inout Sight, _ now: UInt64) {
        guard core.mailbox.hasTasks, core.counters.value.isUnwoken else {
            sight.unheardSince = 0
            return
        }
        if sight.unheardSince == 0 { sight.unheardSince = now }
        guard now - sight.unheardSince >= Self.patience else { return }
        sight.unheardSince = now
        core.wakesLost.wrappingAdd(1, ordering: .relaxed)
        core.ring()
        options.report(.lostWake(shard: core.index))
    }

    private func report(_ cores: Cores, _ index: Int, _ sights: inout [Sight], _ now: UInt64) {
        let core = cores[index]
        let duration = now - sights[index].since
        sights[index].nextReport = sights[index].since + 2 * duration
        core.stalls.wrappingAdd(1, ordering: .relaxed)
        let stuck = cores.indices.filter { now - sights[$0].since >= options.limit && isAwake(sights[$0]) }
        options.report(
            .stall(
                .init(
                    shard: index, duration: .nanoseconds(Int64(duration)),
                    phase: ShardActivity.phase(of: sights[index].step),
                    label: core.counters.value.activity.labelText,
                    descriptor: core.counters.value.activity.descriptorNumber,
                    cycle: WaitGraph.cycle(through: index, of: stuck) { cores[$0].calls.isOpen(to: $1) })))
    }

    private func isAwake(_ sight: Sight) -> Bool { ShardActivity.phase(of: sight.step) != .waiting }

    /// Waits until a shard wakes up or ends, unless it has rung since then. False if one is awake already.
    private func doze(_ cores: Cores, _ rings: UInt32) -> Bool {
        isDozing.value.store(true, ordering: .sequentiallyConsistent)
        let isQuiet = cores.allSatisfy {
            $0.stopStage == .stopped || ShardActivity.phase(of: $0.counters.value.activity.step) == .waiting
        }
        if isQuiet { bell.wait(after: rings) }
        isDozing.value.store(false, ordering: .relaxed)
        return isQuiet
    }
}
