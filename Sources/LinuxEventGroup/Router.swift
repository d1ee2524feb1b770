/// Which shard a key belongs to: pure, and the same for the life of a group. Contract G4.
///
/// A Fibonacci multiply spreads dense, strided and sparse numbers alike over 4,096 places, and each shard has a range
/// of these. (`number % shards` would leave half of the shards idle where every second number counts, as it does for
/// pairs of descriptors.)
struct Router: Sendable {
    static let shardLimit = 4096
    private static var places: Int { 12 }

    let shards: Int

    @inline(__always)
    func shard(of key: UInt64) -> Int {
        let place = (key &* 0x9E37_79B9_7F4A_7C15) >> UInt64(64 - Self.places)
        // In Swift `>>` binds tighter than `*`.
        return (Int(place) &* shards) >> Self.places
    }
}
