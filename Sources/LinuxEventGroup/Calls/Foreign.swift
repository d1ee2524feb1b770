internal import LinuxEvent
internal import Synchronization

/// A value that lives on one shard, owned from anywhere: whoever lets go of this on another thread sends the value home
/// to die there. Contract G6.
///
/// If its shard has ended, the value is not destroyed at all, and counted in `ShardMetrics.valuesLeaked`: on a wrong
/// thread its `deinit` would race with whatever it shares.
public struct Foreign<Value>: ~Copyable, Sendable {
    private let box: HomeBound<Value?>
    /// Where the value lives.
    public let home: ShardReference

    /// Gives a value to a shard.
    public init(_ value: consuming sending Value, at home: ShardReference) {
        self.home = home
        let value: Value? = consume value
        box = HomeBound(home.core, value)
    }

    deinit {
        let core = home.core
        if Shard.isCurrent(core) {
            box.value = nil
        } else if !core.submit({ [box] _ in box.value = nil }).isPosted {
            _ = unsafe Unmanaged.passRetained(box)
            core.valuesLeaked.add(1, ordering: .relaxed)
        }
    }

    /// The value, on its own shard; elsewhere the process ends with the rule's text.
    public func withValue<Result>(on shard: Shard, _ body: (inout Value) throws -> Result) rethrows -> Result {
        guard var value = box.value.take() else { fatalError("LinuxEventGroup: the value is in use already") }
        defer { box.value = value }
        return try body(&value)
    }
}
