internal import Synchronization

/// One word that threads share, as the lock-free algorithms of this module use it: `Mailbox`, `ReturnStack`, `Ending`.
///
/// They are written once, over this. A shard binds them to `Atomic<UInt>`, and the compiler leaves nothing of the
/// protocol. The tests bind them to a word that hands every step to a scheduler, which tries all orders of the steps,
/// and all values that the orderings allow a load to see.
protocol AtomicWord: ~Copyable, Sendable {
    init(_ value: consuming UInt)

    borrowing func load(ordering: AtomicLoadOrdering) -> UInt

    borrowing func store(_ desired: consuming UInt, ordering: AtomicStoreOrdering)

    borrowing func exchange(_ desired: consuming UInt, ordering: AtomicUpdateOrdering) -> UInt

    /// May fail although the word has the expected value.
    borrowing func weakCompareExchange(
        expected: consuming UInt, desired: consuming UInt,
        successOrdering: AtomicUpdateOrdering, failureOrdering: AtomicLoadOrdering
    ) -> (exchanged: Bool, original: UInt)

    borrowing func compareExchange(
        expected: consuming UInt, desired: consuming UInt, ordering: AtomicUpdateOrdering
    ) -> (exchanged: Bool, original: UInt)
}

extension Atomic: AtomicWord where Value == UInt {}

/// A node with a plain link, which only the node's owner touches.
protocol LinkedNode {
    init(bits: UInt)

    /// What stands for the node in a word or in a link: never a small number.
    var bits: UInt { get }

    /// The next node of a chain, by its bits; 0 ends it.
    var next: UInt { get nonmutating set }
}

extension TaskNode: LinkedNode {}

/// A value behind a lock.
protocol ValueLock<Value>: Sendable {
    associatedtype Value

    init(_ value: sending Value)

    func withLock<Result>(_ body: (inout Value) -> Result) -> Result
}

extension Locked: ValueLock {}
