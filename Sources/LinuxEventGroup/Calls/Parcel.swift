/// A value on its way from one thread to another, with nobody else who could reach it.
struct Parcel<Value>: @unchecked Sendable {
    // Unchecked: made from a `sending` value, and opened once.
    private let value: Value

    init(_ value: consuming sending Value) { self.value = consume value }

    /// To be called once.
    consuming func open() -> sending Value {
        nonisolated(unsafe) let value = self.value  // nobody else has it, see above
        return unsafe value
    }
}
