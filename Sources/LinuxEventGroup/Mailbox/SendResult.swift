/// What became of a value that was sent on a channel. A refused value comes back: nothing is dropped in silence.
/// Contract M1, M5.
public enum SendResult<Value: ~Copyable>: ~Copyable {
    /// The handler will get it on the shard's thread, exactly once.
    case sent
    /// A bounded mailbox has no room for it.
    case full(Value)
    /// The shard stops, or has stopped.
    case closed(Value)
}

extension SendResult: Copyable where Value: Copyable {}
extension SendResult: Sendable where Value: Sendable & ~Copyable {}

extension SendResult where Value: ~Copyable {
    /// It is on its way; false where the value came back.
    public var isSent: Bool {
        switch self {
        case .sent: true
        case .full: false
        case .closed: false
        }
    }

    /// The value, if it came back.
    public consuming func takeBack() -> Value? {
        switch consume self {
        case .sent: nil
        case .full(let value): value
        case .closed(let value): value
        }
    }
}
