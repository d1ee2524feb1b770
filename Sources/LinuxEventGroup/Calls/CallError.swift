/// Why a call has no result. What the called block throws is passed on as it is. Contract M6.
public enum CallError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The target's bounded mailbox has no room.
    case full
    /// The target has stopped, or stops, or the caller's own shard does.
    case closed
    /// The deadline passed first. The block does not begin any more; if it had begun, its result is dropped.
    case deadlineExceeded

    public var description: String {
        switch self {
        case .full: "the shard's mailbox is full"
        case .closed: "the shard has stopped"
        case .deadlineExceeded: "the deadline of the call has passed"
        }
    }
}
