/// What became of a post. A refused task comes back: nothing is dropped in silence. Contract M1.
public enum PostResult {
    /// It will run on the shard's thread, exactly once.
    case posted
    /// A bounded mailbox has no room.
    case full(ShardTask)
    /// The shard stops, or has stopped.
    case closed(ShardTask)

    /// It will run; false where the task came back.
    public var isPosted: Bool { if case .posted = self { true } else { false } }
}
