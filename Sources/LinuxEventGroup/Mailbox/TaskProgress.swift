public import Synchronization

/// What a shard does before each of its tasks: it looks whether tasks are to be run at all, and says how many are left,
/// so that a stop can count them should the task not return. Contract G9.
///
/// Two words in memory of their own, so that a run of values can do it in the user's module, in a loop with the
/// handler, for a few instructions. All is relaxed: each word stands for itself, and orders nothing.
@safe @usableFromInline struct TaskProgress: Sendable {
    // Each alone on its cache lines: the shard writes to the first per task, others to the second, once.
    @usableFromInline let waitingBits: UInt
    @usableFromInline let abandonedBits: UInt

    init() {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 256, alignment: 128)
        unsafe memory.bindMemory(to: Atomic<Int>.self, capacity: 1).initialize(to: Atomic(0))
        unsafe (memory + 128).bindMemory(to: Atomic<Bool>.self, capacity: 1).initialize(to: Atomic(false))
        waitingBits = UInt(bitPattern: memory)
        abandonedBits = waitingBits + 128
    }

    func free() { unsafe UnsafeMutableRawPointer(bitPattern: waitingBits)?.deallocate() }

    @inlinable @inline(__always)
    var waitingWord: UnsafePointer<Atomic<Int>> { unsafe UnsafePointer(bitPattern: waitingBits).unsafelyUnwrapped }

    @inlinable @inline(__always)
    var abandonedWord: UnsafePointer<Atomic<Bool>> {
        unsafe UnsafePointer(bitPattern: abandonedBits).unsafelyUnwrapped
    }

    /// How many tasks were taken and have not begun.
    @inlinable
    var waiting: Int {
        @inline(__always) get { unsafe waitingWord.pointee.load(ordering: .relaxed) }
        // By its one writer, the shard.
        @inline(__always) nonmutating set { unsafe waitingWord.pointee.store(newValue, ordering: .relaxed) }
    }

    /// Tasks are not run any more, only destroyed. Looked at until it is seen.
    @inlinable
    var isAbandoned: Bool {
        @inline(__always) get { unsafe abandonedWord.pointee.load(ordering: .relaxed) }
    }

    func abandon() { unsafe abandonedWord.pointee.store(true, ordering: .relaxed) }

    /// Before a task. False: it is not to be run, and still counts.
    @inlinable @inline(__always)
    func begin() -> Bool {
        if isAbandoned { return false }
        countDown()
        return true
    }

    @inlinable @inline(__always)
    func countDown() { waiting = waiting &- 1 }
}
