internal import Synchronization

/// Where empty nodes come home to: a stack that is only ever taken whole, so no address can be mistaken for another
/// life of itself. It rings nobody.
struct ReturnStack<Word: AtomicWord & ~Copyable, Node: LinkedNode>: ~Copyable, Sendable {
    /// The node that came last, by its bits, which links to the others; 0 for none.
    private let word = Isolated(Word(0))

    /// All that came home: a linked list. Acquiring: what the users of the nodes did to them is over.
    func takeAll() -> UInt { word.value.exchange(0, ordering: .acquiring) }

    /// Brings a list of empty nodes home. Releasing, for `takeAll`; a push on top continues the release sequence.
    func giveBack(first: UInt, last: UInt) {
        var head = word.value.load(ordering: .relaxed)
        while true {
            Node(bits: last).next = head
            let (exchanged, original) = word.value.weakCompareExchange(
                expected: head, desired: first, successOrdering: .releasing, failureOrdering: .relaxed)
            if exchanged { return }
            head = original
        }
    }
}
