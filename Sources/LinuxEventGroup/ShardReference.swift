/// A shard, as other threads see it. Contract G6, M1.
///
/// - Threads: any; it keeps what it needs alive, also beyond the group's end.
public struct ShardReference: Hashable, Sendable {
    let core: ShardCore

    /// The shard's number in its group, from 0.
    public var index: Int { core.index }

    /// Runs a task on the shard's thread, exactly once; lock-free, and published when this returns. What this thread
    /// wrote before is visible to it. Tasks of one thread run in the order posted. Contract M1, M2.
    ///
    /// - Returns: `.posted`, or why not, with the task.
    @discardableResult
    public func post(_ task: consuming sending @escaping ShardTask) -> PostResult { core.post(task) }

    public static func == (left: ShardReference, right: ShardReference) -> Bool { left.core === right.core }

    public func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(core)) }
}
