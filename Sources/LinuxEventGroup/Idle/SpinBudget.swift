internal import Synchronization

/// How many shards of a group may look for work instead of sleeping, at the same time. Contract G12.
final class SpinBudget: Sendable {
    private let isBounded: Bool
    private let free: Isolated<Atomic<Int>>

    /// - Parameter shards: nil for no bound.
    init(shards: Int?) {
        isBounded = shards != nil
        free = Isolated(Atomic(shards ?? 0))
    }

    /// Takes a place, if there is one. All is relaxed: a place is a number, and no data goes with it.
    func take() -> Bool {
        guard isBounded else { return true }
        var left = free.value.load(ordering: .relaxed)
        while left > 0 {
            let (exchanged, original) = free.value.weakCompareExchange(
                expected: left, desired: left - 1, ordering: .relaxed)
            if exchanged { return true }
            left = original
        }
        return false
    }

    func giveBack() {
        if isBounded { free.value.wrappingAdd(1, ordering: .relaxed) }
    }
}
