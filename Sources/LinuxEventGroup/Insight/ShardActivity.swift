internal import Synchronization

/// What a shard is doing. Contract G7.
public enum ShardPhase: UInt8, Hashable, Sendable {
    /// It waits in the kernel, and has nothing to do.
    case waiting
    /// It runs handlers of descriptors, timers and deferred blocks.
    case callbacks
    /// It runs tasks and values that were sent to it.
    case tasks
    /// It releases what hangs on it, and closes its loop.
    case ending
}

/// The phase that a shard is in and the number of its turn, in one word that it writes and the watchdog reads.
struct ShardActivity: ~Copyable, Sendable {
    /// Awake at first: a watchdog that dozes is rung by shards that wake up, and one that began with work never slept.
    private let word = Atomic<UInt64>(UInt64(ShardPhase.callbacks.rawValue))
    /// The text of the innermost label, as an address; 0 for none.
    let label = Atomic<UInt>(0)
    /// The descriptor of the group's watch whose handler runs; -1 for none.
    let descriptor = Atomic<CInt>(-1)

    /// Relaxed: the reader looks again, and nothing else hangs on it.
    @inline(__always)
    func store(_ phase: ShardPhase, turn: UInt64) {
        word.store(turn << 8 | UInt64(phase.rawValue), ordering: .relaxed)
    }

    /// As `store`, for one who looks next whether the watchdog dozes: in the same order for all, so that either he sees
    /// that it dozes, or it sees that the shard is awake.
    func storeInOrder(_ phase: ShardPhase, turn: UInt64) {
        word.store(turn << 8 | UInt64(phase.rawValue), ordering: .sequentiallyConsistent)
    }

    /// The handler of a descriptor runs. Relaxed, as above.
    func begin(_ descriptor: CInt) { self.descriptor.store(descriptor, ordering: .relaxed) }

    func end() { descriptor.store(-1, ordering: .relaxed) }

    /// A number that changes with every step.
    var step: UInt64 { word.load(ordering: .sequentiallyConsistent) }

    static func phase(of step: UInt64) -> ShardPhase {
        ShardPhase(rawValue: UInt8(truncatingIfNeeded: step)) ?? .ending
    }
}

extension ShardActivity {
    var labelText: String? {
        // A literal of the program's: it is there for good, and ends with a zero.
        let address = label.load(ordering: .relaxed)
        return unsafe UnsafePointer<CChar>(bitPattern: address).map { unsafe String(cString: $0) }
    }

    var descriptorNumber: CInt? {
        let number = descriptor.load(ordering: .relaxed)
        return number < 0 ? nil : number
    }
}

extension Shard {
    /// Names what the body does, for the watchdog's reports. Contract G7.
    ///
    /// - Parameters:
    ///   - label: a literal of the program's.
    ///   - body: runs at once, and what it returns or throws goes on.
    public func labelled<Result, Failure: Error>(
        _ label: StaticString, _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        // A text of one character may be no pointer; it is no label then.
        let address = label.hasPointerRepresentation ? unsafe UInt(bitPattern: label.utf8Start) : 0
        let outer = core.counters.value.activity.label.exchange(address, ordering: .relaxed)
        defer { core.counters.value.activity.label.store(outer, ordering: .relaxed) }
        return try body()
    }
}
