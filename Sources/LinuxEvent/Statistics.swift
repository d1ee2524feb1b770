/// What a loop has done and holds. Reading it costs dispatch nothing.
public struct Statistics: Hashable, Sendable {
    /// Turns made.
    public var turns: UInt64 = 0
    /// Events fetched from the kernel, the loop's own and those for nobody among them.
    public var events: UInt64 = 0
    /// Timer callbacks run.
    public var timersFired: UInt64 = 0
    /// Events whose watcher had ended when their turn came.
    public var staleEvents: UInt64 = 0
    /// The user's watchers that live.
    public var watchers = 0
    /// Of these, how many are outside the kernel's set for now. Contract W10.
    public var parked = 0
    /// Timers that will run, or run again.
    public var timersLive = 0
    /// Of these, how many are due and had to wait for another turn: the budget of one was used up. Contract L13.
    public var timersDue = 0
    /// How often the kernel's set was made anew. Contract W9.
    public var rebuilds: UInt64 = 0
    /// Watchers that ended because their descriptor had been closed under them. Contract W9.
    public var vanished: UInt64 = 0
}

/// Counted once per turn, or on a path that is rare.
struct Counters {
    var turns: UInt64 = 0
    var events: UInt64 = 0
    var timersFired: UInt64 = 0
    var internalEvents: UInt64 = 0
}

extension Loop {
    /// A snapshot of the counters.
    public var statistics: Statistics {
        checkThread()
        return Statistics(
            turns: counters.turns, events: counters.events, timersFired: counters.timersFired,
            staleEvents: watchers.staleEvents, watchers: watchers.count - watchers.internalCount,
            parked: watchers.parked, timersLive: timers.live, timersDue: timers.dueCount,
            rebuilds: watchers.rebuilds, vanished: watchers.vanished)
    }
}
