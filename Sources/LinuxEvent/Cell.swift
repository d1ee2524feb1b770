/// A variable in memory of its own, reached through a constant.
///
/// A stored `var` of a class is checked for exclusive access at run time wherever the optimizer cannot see that no two
/// accesses overlap, at the cost of two calls each. What lives in a cell is only changed in single steps that run no
/// code of the user's, so there is nothing to check.
@safe package struct Cell<Value>: ~Copyable {
    @usableFromInline let pointer: UnsafeMutablePointer<Value>

    @inlinable
    package init(_ value: consuming Value) {
        unsafe pointer = .allocate(capacity: 1)
        unsafe pointer.initialize(to: value)
    }

    @inlinable
    deinit {
        unsafe pointer.deinitialize(count: 1)
        unsafe pointer.deallocate()
    }

    @inlinable
    package var value: Value {
        @inline(__always) _read { yield unsafe pointer.pointee }
        @inline(__always) nonmutating _modify { yield unsafe &pointer.pointee }
    }
}
