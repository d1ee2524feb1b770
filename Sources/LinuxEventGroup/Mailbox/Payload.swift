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

    /// It fits into three words, which go to the sender in registers.
    @inlinable static var isSmall: Bool {
        MemoryLayout<Value>.size <= 24 && MemoryLayout<Value>.alignment <= 16
    }

    /// Moves a small value out of its place, into words that are its only owner from here on.
    @inlinable @inline(__always)
    static func words(_ value: consuming Value) -> ValueWords {
        var value = Optional(value)
        return unsafe withUnsafeTemporaryAllocation(byteCount: 24, alignment: 16) { memory in
            let place = unsafe memory.baseAddress.unsafelyUnwrapped
            unsafe place.initializeMemory(as: Value.self, to: value.take()!)
            return unsafe ValueWords(
                place.load(as: UInt64.self), place.load(fromByteOffset: 8, as: UInt64.self),
                place.load(fromByteOffset: 16, as: UInt64.self))
        }
    }

    /// Moves it back: for a value that was refused, so now and then.
    @inlinable
    static func value(_ words: ValueWords) -> sending Value {
        let place = UnsafeMutableRawPointer.allocate(byteCount: 24, alignment: 16)
        defer { unsafe place.deallocate() }
        unsafe place.storeBytes(of: words.first, as: UInt64.self)
        unsafe place.storeBytes(of: words.second, toByteOffset: 8, as: UInt64.self)
        unsafe place.storeBytes(of: words.third, toByteOffset: 16, as: UInt64.self)
        return take(at: UInt(bitPattern: place))
    }
}

/// The bits of a small value.
@usableFromInline struct ValueWords {
    @usableFromInline let first: UInt64
    @usableFromInline let second: UInt64
    @usableFromInline let third: UInt64

    @inlinable @inline(__always)
    init(_ first: UInt64, _ second: UInt64, _ third: UInt64) {
        self.first = first
        self.second = second
        self.third = third
    }
}
