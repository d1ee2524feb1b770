/// How a value lies in a node: itself, if it fits into the room that there is, or else a pointer to memory of its own.
///
/// A channel's value has all of the 48 bytes; the result of a call leaves some to the call.
@usableFromInline enum Payload<Value: ~Copyable> {
    /// Known when the user's module is compiled, so that only one of the two ways is left.
    @inlinable @inline(__always)
    static func isInline(in room: Int) -> Bool {
        MemoryLayout<Value>.size <= room && MemoryLayout<Value>.alignment <= 16
    }

    /// Moves a value into a node.
    @inlinable @inline(__always)
    static func store(_ value: consuming Value, at payload: UInt, room: Int = 48) {
        guard let place = unsafe UnsafeMutableRawPointer(bitPattern: payload) else { return }
        if isInline(in: room) {
            unsafe place.initializeMemory(as: Value.self, to: value)
        } else {
            let box = UnsafeMutablePointer<Value>.allocate(capacity: 1)
            unsafe box.initialize(to: value)
            unsafe place.storeBytes(of: UInt(bitPattern: box), as: UInt.self)
        }
    }

    /// Moves the value out of a node. It is nobody else's: who sent it gave it away.
    @inlinable @inline(__always)
    static func take(at payload: UInt, room: Int = 48) -> sending Value {
        let place = unsafe UnsafeMutableRawPointer(bitPattern: payload).unsafelyUnwrapped
        if isInline(in: room) { return unsafe place.assumingMemoryBound(to: Value.self).move() }
        let bits = unsafe place.load(as: UInt.self)
        let box = unsafe UnsafeMutablePointer<Value>(bitPattern: bits).unsafelyUnwrapped
        defer { unsafe box.deallocate() }
        return unsafe box.move()
    }
}
