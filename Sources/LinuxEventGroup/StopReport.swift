public import LinuxEvent

/// How a group came to its end. Contract G9.
public struct StopReport: Sendable, CustomStringConvertible {
    /// How one shard came to its end, or how far.
    public struct ShardStop: Sendable, Hashable {
        /// The shard's number, from 0.
        public let shard: Int
        /// The stage it has reached; `.stopped` unless it missed the deadline.
        public let stage: StopStage
        /// Tasks that it ran after it had noticed that it shall stop.
        public let tasksDrained: UInt64
        /// Tasks that it held past the deadline, and that are not run.
        public let tasksAbandoned: UInt64
        /// Descriptors that it still watched. They are the user's, and stay open.
        public let watchersOpen: Int
        /// What ended its loop, if it was not the stop.
        public let failure: LoopError?
    }

    /// How long the caller waited.
    public let duration: Duration
    /// One for each shard, in the order of their numbers.
    public let shards: [ShardStop]

    /// All shards have stopped, and all of their tasks have run.
    public var isComplete: Bool { shards.allSatisfy { $0.stage == .stopped && $0.tasksAbandoned == 0 } }

    public var description: String {
        var text = "\(isComplete ? "stopped" : "NOT stopped") \(shards.count) shards in \(duration)"
        for shard in shards {
            text += "\n  shard \(shard.shard): \(shard.stage), \(shard.tasksDrained) tasks drained"
            text += ", \(shard.watchersOpen) watchers open"
            if shard.tasksAbandoned > 0 { text += ", \(shard.tasksAbandoned) tasks ABANDONED" }
            if let failure = shard.failure { text += ", failed: \(failure)" }
        }
        return text
    }
}
