/// Chooses the less loaded of two shards taken at random; at equal loads either. The worst shard of n is then some
/// log log n above the mean, where one at random would be log n above it.
struct LeastOfTwo {
    private var bits: SplitMix

    init(seed: UInt64) { bits = SplitMix(state: seed) }

    /// The chosen one first, then the other.
    mutating func choose(of shards: Int, load: (Int) -> Int) -> (better: Int, other: Int) {
        guard shards > 1 else { return (0, 0) }
        let one = random(below: shards)
        var other = random(below: shards - 1)
        if other >= one { other += 1 }
        // At a tie the first drawn, which is any of the two.
        return load(other) < load(one) ? (other, one) : (one, other)
    }

    /// The high half of a product instead of a remainder.
    private mutating func random(below count: Int) -> Int {
        Int(bits.next().multipliedFullWidth(by: UInt64(count)).high)
    }
}
