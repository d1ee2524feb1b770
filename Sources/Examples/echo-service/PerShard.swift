import LinuxEventGroup

/// One value for each shard, which need not be Sendable: it is put, used and removed on its shard's thread.
///
/// What proves the thread is the `Shard` that the subscript wants: tasks and callbacks on that shard have one, and
/// it cannot leave them.
final class PerShard<Value>: @unchecked Sendable {  // each slot is reached by the one thread that holds its Shard
    private final class Slot {
        var value: Value?
    }
    private let slots: [Slot]

    init(shards: Int) { slots = (0..<shards).map { _ in Slot() } }

    subscript(shard: Shard) -> Value? {
        get { slots[shard.index].value }
        set { slots[shard.index].value = newValue }
    }
}
