/// Chooses the less loaded of two shards taken at random; at equal loads either. The worst shard of n is then some
/// log log n above the mean, where one at random would be log n above it.
struct LeastOfTwo {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    /// The chosen one first, then the other.
    mutating func choose(of shards: Int, load: (Int) -> Int) -> (better: Int, other: Int) {
        guard shards > 1 else { return (0, 0) }
        let one = random(below: shards)
        var other = random(below: shards - 1)
        if other >= one { other += 1 }
        // At a tie the first drawn, which is any of the two.
        return load(other) < load(one) ? (other, one) : (one, other)
    }

    /// SplitMix64, and the high half of a product instead of a remainder.
    private mutating func random(below count: Int) -> Int {
        state &+= 0x9E37_79B9_7F4A_7C15
        var bits = state
        bits = (bits ^ (bits >> 30)) &* 0xBF58_476D_1CE4_E5B9
        bits = (bits ^ (bits >> 27)) &* 0x94D0_49BB_1331_11EB
        return Int((bits ^ (bits >> 31)).multipliedFullWidth(by: UInt64(count)).high)
    }
}
