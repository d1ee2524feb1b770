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
    /// CPU time of the shard's thread, by its own clock.
    public let busyNanoseconds: UInt64
    /// Values of a `Foreign` that outlived the shard, and so were not destroyed. Contract G6.
    public let valuesLeaked: Int

    /// Tasks that needed no wake of their own.
    public var wakesSuppressed: UInt64 { tasks > wakesSent ? tasks - wakesSent : 0 }
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
    /// Tasks taken and not run.
    let backlog = Atomic<UInt64>(0)
    let watchers = Atomic<Int>(0)
    let wakesSent = Atomic<UInt64>(0)
    /// As it is now; -1 for none.
    let cpu = Atomic<Int>(-1)
    let affinityRepairs = Atomic<UInt64>(0)
    let cpuTime = ThreadClock()
}

/// The CPU time of one thread, readable from others, also after its end.
struct ThreadClock: ~Copyable, Sendable {
    private static let none = Int.min
    private let clock = Atomic<Int>(Self.none)
    private let atEnd = Atomic<UInt64>(0)

    /// On the thread itself, as it starts.
    func start() {
        var clock: CInt = 0
        if unsafe clinux_thread_cpu_clock(&clock) == 0 { self.clock.store(Int(clock), ordering: .releasing) }
    }

    /// On the thread itself, as its last act: a clock of a thread that is gone cannot be read.
    func end() {
        atEnd.store(nanoseconds, ordering: .releasing)
        clock.store(Self.none, ordering: .releasing)
    }

    var nanoseconds: UInt64 {
        let clock = self.clock.load(ordering: .acquiring)
        var time: UInt64 = 0
        guard clock != Self.none, unsafe clinux_clock_ns(CInt(clock), &time) == 0 else {
            return atEnd.load(ordering: .acquiring)
        }
        return time
    }
}

extension ShardCore {
    /// The CPU that the shard's thread is pinned to now.
    var cpu: Int? {
        let cpu = counters.value.cpu.load(ordering: .relaxed)
        return cpu < 0 ? nil : cpu
    }

    var metrics: ShardMetrics {
        ShardMetrics(
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
            busyNanoseconds: counters.value.cpuTime.nanoseconds,
            valuesLeaked: valuesLeaked.load(ordering: .relaxed))
    }
}

extension LoopGroup {
    /// A snapshot of all shards, from any thread at any time; no shard is stopped or woken for it. Contract G10.
    public var metrics: [ShardMetrics] { cores.map(\.metrics) }
}
