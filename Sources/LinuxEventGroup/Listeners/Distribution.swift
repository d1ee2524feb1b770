/// Which shard of a group gets which connection of a listener. Contract G11.
///
/// The listening descriptors that stand in it are yours: bound, listening and non-blocking before you hand them in, and
/// never changed or closed by the group. Close them when the listener has ended, and no earlier.
public enum Distribution: Hashable, Sendable {
    /// A listening descriptor for each shard, in the order of their numbers, bound to one address with SO_REUSEPORT.
    /// Each shard accepts from its own. The kernel chooses, by a hash of the connection's addresses.
    case perShard([CInt])

    /// One listening descriptor for all shards: whoever is awake first takes what is there.
    ///
    /// - exclusive: EPOLLEXCLUSIVE, so that a connection wakes one shard and not all of them. The kernel asks the
    ///   shards in the order in which they joined, and takes the first that sleeps, which would be the same one again
    ///   and again. So a shard that has accepted `ListenerOptions.rejoinsAfter` connections joins anew, as the last.
    case shared(CInt, exclusive: Bool = true)

    /// The shard `acceptor` accepts, and each connection goes to `group.shard(for:)` of its own number: where a
    /// `group.watch` of it would run too.
    case hash(CInt, acceptor: Int = 0)

    /// The shard `acceptor` accepts, and each connection goes to the less loaded of two shards taken at random.
    ///
    /// The load of a shard is the number of `Accepted` values that were handed to it and live. It is counted as a
    /// connection is handed over, so the next choice knows of it.
    case leastOfTwo(CInt, acceptor: Int = 0)

    /// Which shard accepts from what.
    func places(shards: Int) throws(ListenerError) -> [(shard: Int, descriptor: CInt)] {
        switch self {
        case .perShard(let descriptors):
            guard descriptors.count == shards else { throw .descriptorCount(descriptors.count, shards: shards) }
            return descriptors.enumerated().map { ($0.offset, $0.element) }
        case .shared(let descriptor, _): return (0..<shards).map { ($0, descriptor) }
        case .hash(let descriptor, let acceptor), .leastOfTwo(let descriptor, let acceptor):
            guard (0..<shards).contains(acceptor) else { throw .noSuchShard(acceptor) }
            return [(acceptor, descriptor)]
        }
    }

    var isExclusive: Bool { if case .shared(_, exclusive: true) = self { true } else { false } }
}

/// How a listener goes about it. Contract G11.
public struct ListenerOptions: Hashable, Sendable {
    /// Connections taken in one go, before the shard's other work has its turn; what is left comes with the next turn.
    public var acceptsPerEvent = 16
    /// How long a shard accepts nothing after it found no descriptor or no memory; less if a connection of the group
    /// ends meanwhile.
    public var pause: Duration = .milliseconds(100)
    /// Of a shared descriptor that is exclusive: after how many connections a shard joins anew; nil for never.
    public var rejoinsAfter: Int? = 16
    /// What `leastOfTwo` draws its shards from; nil for a seed of its own.
    public var seed: UInt64?

    /// The usual ones.
    public init() {}
}
