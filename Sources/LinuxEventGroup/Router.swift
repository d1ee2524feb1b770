/// Which shard a key belongs to: pure, and the same for the life of a group. Contract G4.
///
/// One multiplication spreads dense, strided and sparse numbers alike over 4,096 places, and each shard has a range of
/// these. (`number % shards` would leave half of the shards idle where every second number counts, as it does for pairs
/// of descriptors.)
///
/// The factor was searched for. The fullest shard has at most 1.1 times the mean for 2 to 64 shards, strides 1, 2, 3, 4
/// and 8, and 1,000 numbers or more; with 2^64 divided by the golden ratio it has up to 1.35 times.
struct Router: Sendable {
    static let shardLimit = 4096
    private static var places: Int { 12 }

    let shards: Int

    @inline(__always)
    func shard(of key: UInt64) -> Int {
        let place = (key &* 0x7522_B7D7_FB84_A14F) >> UInt64(64 - Self.places)
        // In Swift `>>` binds tighter than `*`.
        return (Int(place) &* shards) >> Self.places
    }
}
