/// Keeps a value alone on its cache lines, in whatever object it is stored.
///
/// 120 bytes on either side: two lines, because processors fetch lines in pairs. Two threads that write to different
/// atomics on one line slow each other down as if they wrote to the same.
struct Isolated<Value: ~Copyable>: ~Copyable {
    private let before = InlineArray<15, UInt64>(repeating: 0)
    let value: Value
    private let after = InlineArray<15, UInt64>(repeating: 0)

    init(_ value: consuming Value) { self.value = value }
}

extension Isolated: Sendable where Value: Sendable & ~Copyable {}
