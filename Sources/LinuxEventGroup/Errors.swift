public import LinuxEvent

/// Why a group could not start, or refused a call.
public enum LoopGroupError: Error, Sendable, CustomStringConvertible {
    /// A group has at least one thread, and no more than 4,096. Contract G1.
    case invalidThreads(Int)
    /// A bounded mailbox holds at least one task. Contract M3.
    case invalidCapacity(Int)
    /// A mailbox cannot spill fewer than no tasks, and one without a bound spills none. Contract M3.
    case invalidSpillLimit(Int)
    /// A placement asks for a CPU that the process may not use. Contract G2.
    case unusableCPU(Int)
    /// A placement lists no CPU. Contract G2.
    case noCPUs
    /// A placement's closure threw. Contract G2.
    case placement(any Error)
    /// A thread could not be made or pinned. All others were undone. Contract G1.
    case thread(shard: Int, SystemError)
    /// A shard's loop could not be made. All others were undone. Contract G1.
    case loop(shard: Int, LoopError)
    /// The start block threw on a shard. All others were undone. Contract G1.
    case start(shard: Int, any Error)
    /// The watchdog's thread could not be made. The shards were undone. Contract G7.
    case watchdog(SystemError)
    /// A shard cannot wait for its own group to end. Contract G9.
    case calledOnShard
    /// Nothing waits for the shards of a simulation: it has to be driven. Contract G13.
    case simulated
    /// The group stops, or has stopped.
    case closed

    public var description: String {
        switch self {
        case .invalidThreads(let count): "a group cannot have \(count) threads (1 to \(Router.shardLimit))"
        case .invalidCapacity(let count): "a mailbox cannot be bounded at \(count) tasks"
        case .invalidSpillLimit(let count): "a mailbox cannot spill \(count) tasks: it takes a bound, and at least none"
        case .unusableCPU(let cpu): "CPU \(cpu) is not one that this process may use"
        case .noCPUs: "there is no CPU to place a shard on"
        case .placement(let error): "placement: \(error)"
        case .thread(let shard, let error): "thread of shard \(shard): \(error)"
        case .loop(let shard, let error): "loop of shard \(shard): \(error)"
        case .start(let shard, let error): "start of shard \(shard): \(error)"
        case .watchdog(let error): "thread of the watchdog: \(error)"
        case .simulated: "a simulation runs only while it is driven; use LoopGroupSimulation.stop(deadline:)"
        case .closed: "the group has stopped"
        case .calledOnShard: "a shard cannot wait for the group it belongs to; use requestStop()"
        }
    }
}
