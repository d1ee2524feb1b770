internal import CLinux
internal import Synchronization

/// What one shard has done and how it stands, at about one moment. Contract G10.
public struct ShardMetrics: Hashable, Sendable {
    /// The shard's number, from 0.
    public let shard: Int
    /// The CPU that its thread is pinned to now; nil for a thread that is not pinned.
    public let cpu: Int?
    /// How often the thread was pinned anew, because someone had changed what it may run on, or had taken its CPU away.
    public let affinityRepairs: UInt64
    /// Turns of its loop.
    public let turns: UInt64
    /// Events of descriptors that the shard watches.
    public let events: UInt64
    /// Tasks run.
    public let tasks: UInt64
    /// How often the shard said that it goes to sleep.
    public let sleeps: UInt64
    /// Sleeps ended by a post, counted by the posters at the write.
    public let wakesSent: UInt64
    /// Sleeps ended by anything else. At rest `sleeps` = `wakesSent` + `selfDisarms` + (1 if asleep). Contract M4.
    public let selfDisarms: UInt64
    /// Sleeps that ended for neither an event, a timer nor a task: a wake that was sent while the shard was waking
    /// anyway, or an alarm for a timer that had been cancelled.
    public let wakesSpurious: UInt64
    /// Tasks that the last look into the mailbox found.
    public let depth: UInt64
    /// The most that a look into the mailbox ever found.
    public let depthMax: UInt64
    /// Descriptors watched.
    public let watchers: Int
    /// Posts that found a bounded mailbox full and were spilled. Contract M3.
    public let spilled: UInt64
    /// CPU time of the shard's thread for work.
    public let busyNanoseconds: UInt64
    /// CPU time for looks that found no work. Contract G12.
    public let spinningNanoseconds: UInt64
    /// Time without the CPU, since its start: asleep, or waiting for a CPU that others had.
    public let sleepingNanoseconds: UInt64
    /// The longest turn without its wait; nil where there is no watchdog, since it costs two looks at the clock. G7.
    public let longestTurnNanoseconds: UInt64?
    /// Stalls that the watchdog has reported. Contract G7.
    public let stalls: UInt64
    /// Wakes that the watchdog had to send again, because they were lost. It is always 0. Contract M4.
    public let wakesLost: UInt64
    /// From a post to the beginning of its task, for some of the tasks: about one in a hundred.
    public let hopLatency: LatencyHistogram
    /// Values of a `Foreign` that outlived the shard, and so were not destroyed. Contract G6.
    public let valuesLeaked: Int

    /// Tasks that needed no wake of their own.
    public var wakesSuppressed: UInt64 { tasks > wakesSent ? tasks - wakesSent : 0 }
}

/// What a shard counts, in its own variables; others see copies of them. Contract G10.
struct ShardCounts {
    var turns: UInt64 = 0
    var events: UInt64 = 0
    var tasks: UInt64 = 0
    var sleeps: UInt64 = 0
    var selfDisarms: UInt64 = 0
    var wakesSpurious: UInt64 = 0
    var depth: UInt64 = 0
    var depthMax: UInt64 = 0
    var watchers = 0
    var spinning: UInt64 = 0
    var longestTurn: UInt64 = 0
    /// 0 before the first.
    var turnBegan: UInt64 = 0
    /// A post is to be timed, or was, and has not come.
    var isTiming = false
    /// Tasks to run before the next look into the mailbox.
    var untilNextTake = 0

    /// At the end of a turn.
    mutating func measureTurn() {
        if turnBegan != 0 { longestTurn = max(longestTurn, clinux_monotonic_ns() &- turnBegan) }
    }
}

/// Written by the shard once per turn, `wakesSent` by its posters beside a system call each; read by anyone.
struct ShardCounters: ~Copyable, Sendable {
    let turns = Atomic<UInt64>(0)
    let events = Atomic<UInt64>(0)
    let tasks = Atomic<UInt64>(0)
    let sleeps = Atomic<UInt64>(0)
    let selfDisarms = Atomic<UInt64>(0)
    let wakesSpurious = Atomic<UInt64>(0)
    let depth = Atomic<UInt64>(0)
    let depthMax = Atomic<UInt64>(0)
    let watchers = Atomic<Int>(0)
    let spinning = Atomic<UInt64>(0)
    let longestTurn = Atomic<UInt64>(0)
    let activity = ShardActivity()
    let wakesSent = Atomic<UInt64>(0)
    /// As it is now; -1 for none.
    let cpu = Atomic<Int>(-1)
    let affinityRepairs = Atomic<UInt64>(0)
    let cpuTime = ThreadClock()

    /// For a shard that sleeps: nobody has rung for this sleep. Contract M4.
    var isUnwoken: Bool {
        sleeps.load(ordering: .relaxed)
            > wakesSent.load(ordering: .relaxed) + selfDisarms.load(ordering: .relaxed)
    }

    /// All of it relaxed: each counter stands for itself.
    func publish(_ counts: ShardCounts) {
        turns.store(counts.turns, ordering: .relaxed)
        events.store(counts.events, ordering: .relaxed)
        tasks.store(counts.tasks, ordering: .relaxed)
        sleeps.store(counts.sleeps, ordering: .relaxed)
        selfDisarms.store(counts.selfDisarms, ordering: .relaxed)
        wakesSpurious.store(counts.wakesSpurious, ordering: .relaxed)
        depth.store(counts.depth, ordering: .relaxed)
        depthMax.store(counts.depthMax, ordering: .relaxed)
        watchers.store(counts.watchers, ordering: .relaxed)
        spinning.store(counts.spinning, ordering: .relaxed)
        longestTurn.store(counts.longestTurn, ordering: .relaxed)
    }
}

/// The CPU time of one thread, readable from others, also after its end.
struct ThreadClock: ~Copyable, Sendable {
    private static let none = Int.min
    private let clock = Atomic<Int>(Self.none)
    private let atStart = Atomic<UInt64>(0)
    private let usedAtEnd = Atomic<UInt64>(0)
    private let ageAtEnd = Atomic<UInt64>(0)

    /// On the thread itself, as it starts.
    func start() {
        atStart.store(clinux_monotonic_ns(), ordering: .relaxed)
        var clock: CInt = 0
        // Releasing, and acquired below: who sees the clock sees the start.
        if unsafe clinux_thread_cpu_clock(&clock) == 0 { self.clock.store(Int(clock), ordering: .releasing) }
    }

    /// On the thread itself, as its last act: a clock of a thread that is gone cannot be read.
    func end() {
        let (used, age) = times
        usedAtEnd.store(used, ordering: .relaxed)
        ageAtEnd.store(age, ordering: .relaxed)
        clock.store(Self.none, ordering: .releasing)
    }

    /// How much CPU time the thread has used, and how long ago it started, in nanoseconds.
    var times: (used: UInt64, age: UInt64) {
        let clock = self.clock.load(ordering: .acquiring)
        var used: UInt64 = 0
        guard clock != Self.none, unsafe clinux_clock_ns(CInt(clock), &used) == 0 else {
            return (usedAtEnd.load(ordering: .relaxed), ageAtEnd.load(ordering: .relaxed))
        }
        return (used, clinux_monotonic_ns() &- atStart.load(ordering: .relaxed))
    }
}

extension ShardCore {
    /// The CPU that the shard's thread is pinned to now.
    var cpu: Int? {
        let cpu = counters.value.cpu.load(ordering: .relaxed)
        return cpu < 0 ? nil : cpu
    }

    var metrics: ShardMetrics {
        let spinning = counters.value.spinning.load(ordering: .relaxed)
        let (used, age) = counters.value.cpuTime.times
        return ShardMetrics(
            shard: index, cpu: cpu, affinityRepairs: counters.value.affinityRepairs.load(ordering: .relaxed),
            turns: counters.value.turns.load(ordering: .relaxed),
            events: counters.value.events.load(ordering: .relaxed),
            tasks: counters.value.tasks.load(ordering: .relaxed),
            sleeps: counters.value.sleeps.load(ordering: .relaxed),
            wakesSent: counters.value.wakesSent.load(ordering: .relaxed),
            selfDisarms: counters.value.selfDisarms.load(ordering: .relaxed),
            wakesSpurious: counters.value.wakesSpurious.load(ordering: .relaxed),
            depth: counters.value.depth.load(ordering: .relaxed),
            depthMax: counters.value.depthMax.load(ordering: .relaxed),
            watchers: counters.value.watchers.load(ordering: .relaxed),
            spilled: spilled.load(ordering: .relaxed),
            busyNanoseconds: used > spinning ? used - spinning : 0, spinningNanoseconds: spinning,
            sleepingNanoseconds: age > used ? age - used : 0,
            longestTurnNanoseconds: isWatched ? counters.value.longestTurn.load(ordering: .relaxed) : nil,
            stalls: stalls.load(ordering: .relaxed), wakesLost: wakesLost.load(ordering: .relaxed),
            hopLatency: LatencyHistogram(counts: hopLatency.values),
            valuesLeaked: valuesLeaked.load(ordering: .relaxed))
    }
}

extension LoopGroup {
    /// A snapshot of all shards, from any thread at any time; no shard is stopped or woken for it. Contract G10.
    public var metrics: [ShardMetrics] { cores.map(\.metrics) }

    /// Who sends to whom: how many tasks and values each shard has got from each. `traffic[from][to]`; the last row is
    /// of all threads that are no shard of the group. Of about one moment, for what was run before it. Contract G10.
    public var traffic: [[UInt64]] {
        let columns = cores.map(\.traffic.values)
        return (0...count).map { from in columns.map { $0[from] } }
    }
}
