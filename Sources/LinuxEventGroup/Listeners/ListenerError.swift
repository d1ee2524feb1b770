public import LinuxEvent

/// Why a listener could not be made. Contract G11.
public enum ListenerError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The kernel does not know the descriptor, or it is no socket.
    case system(SystemError)
    /// The socket does not listen.
    case notListening(CInt)
    /// The descriptor is not O_NONBLOCK: a shard that asked it for a connection would wait there.
    case blocking(CInt)
    /// `perShard` takes as many descriptors as there are shards.
    case descriptorCount(Int, shards: Int)
    /// The group has no shard with this number.
    case noSuchShard(Int)
    /// The group stops, or has stopped.
    case closed

    public var description: String {
        switch self {
        case .system(let error): error.description
        case .notListening(let descriptor): "descriptor \(descriptor) does not listen"
        case .blocking(let descriptor): "descriptor \(descriptor) is not non-blocking"
        case .descriptorCount(let count, let shards): "\(count) listening descriptors for \(shards) shards"
        case .noSuchShard(let index): "the group has no shard \(index)"
        case .closed: "the group has stopped"
        }
    }
}

/// What goes wrong with a listener while it runs; told on the shard that it concerns. Contract G11.
public enum ListenerNotice: Hashable, Sendable {
    /// There was no descriptor or no memory for a connection. The shard accepts nothing for `ListenerOptions.pause`, or
    /// until a connection of the group has ended. The connection waits in the kernel's queue.
    case paused(SystemError)
    /// The listening descriptor is not what it was, or could not be watched. The shard accepts no more.
    case failed(LoopError)
}

/// How a listener ended. Of a listener that several shards accept for, what comes last in this list counts.
public enum ListenerEnd: Hashable, Sendable {
    /// The kernel's queue was found empty, and all connections have been handed over.
    case drained
    /// As `cancel()` asked; connections may be waiting in the kernel's queue.
    case cancelled
    /// The group stopped.
    case stopped
    /// On some shard the descriptor was not what it was, or could not be watched.
    case failed(LoopError)

    private var rank: Int {
        switch self {
        case .drained: 0
        case .cancelled: 1
        case .stopped: 2
        case .failed: 3
        }
    }

    /// Of two ends, the one that counts.
    func merged(with other: ListenerEnd) -> ListenerEnd { other.rank > rank ? other : self }
}
