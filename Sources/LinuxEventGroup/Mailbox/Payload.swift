/// How a value of a channel lies in a node: itself, if it has at most 48 bytes, or else a pointer to memory of its own.
@usableFromInline enum Payload<Value: ~Copyable> {
    /// Known when the user's module is compiled, so that only one of the two ways is left.
    @inlinable static var isInline: Bool {
        MemoryLayout<Value>.size <= 48 && MemoryLayout<Value>.alignment <= 16
    }

    /// Moves a value into a node.
    @inlinable @inline(__always)
    static func store(_ value: consuming Value, at payload: UInt) {
        guard let place = unsafe UnsafeMutableRawPointer(bitPattern: payload) else { return }
        if isInline {
            unsafe place.initializeMemory(as: Value.self, to: value)
        } else {
            let box = UnsafeMutablePointer<Value>.allocate(capacity: 1)
            unsafe box.initialize(to: value)
            unsafe place.storeBytes(of: UInt(bitPattern: box), as: UInt.self)
        }
    }

    /// Moves the value out of a node. It is nobody else's: who sent it gave it away.
    @inlinable @inline(__always)
    static func take(at payload: UInt) -> sending Value {
        let place = unsafe UnsafeMutableRawPointer(bitPattern: payload).unsafelyUnwrapped
        if isInline { return unsafe place.assumingMemoryBound(to: Value.self).move() }
        let bits = unsafe place.load(as: UInt.self)
        let box = unsafe UnsafeMutablePointer<Value>(bitPattern: bits).unsafelyUnwrapped
        defer { unsafe box.deallocate() }
        return unsafe box.move()
    }
}
