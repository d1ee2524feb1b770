internal import Synchronization

/// What one shard has done for one listener. Contract G11.
public struct ListenerMetrics: Hashable, Sendable {
    /// The shard's number, from 0.
    public let shard: Int
    /// Connections that it took from the kernel.
    public let accepted: UInt64
    /// Of these, those that it gave to a shard: to another one, or to itself.
    public let handedOver: UInt64
    /// Of these, those that no shard could take. They were closed, and nobody has seen them.
    public let refused: UInt64
    /// How often it paused, because there was no descriptor or no memory.
    public let pauses: UInt64
    /// Connections that the handler got on this shard, whoever accepted them.
    public let delivered: UInt64
}

/// Written by its shard alone, read by anyone. Relaxed, all: each stands for itself.
final class ListenerCounters: Sendable {
    private struct Counts: ~Copyable, Sendable {
        let accepted = Atomic<UInt64>(0)
        let handedOver = Atomic<UInt64>(0)
        let refused = Atomic<UInt64>(0)
        let pauses = Atomic<UInt64>(0)
        let delivered = Atomic<UInt64>(0)
    }

    private let counts = Isolated(Counts())

    func noteAccepted() { counts.value.accepted.wrappingAdd(1, ordering: .relaxed) }
    func noteHandedOver() { counts.value.handedOver.wrappingAdd(1, ordering: .relaxed) }
    func noteRefused() { counts.value.refused.wrappingAdd(1, ordering: .relaxed) }
    func notePause() { counts.value.pauses.wrappingAdd(1, ordering: .relaxed) }
    func noteDelivered() { counts.value.delivered.wrappingAdd(1, ordering: .relaxed) }

    func metrics(shard: Int) -> ListenerMetrics {
        ListenerMetrics(
            shard: shard, accepted: counts.value.accepted.load(ordering: .relaxed),
            handedOver: counts.value.handedOver.load(ordering: .relaxed),
            refused: counts.value.refused.load(ordering: .relaxed),
            pauses: counts.value.pauses.load(ordering: .relaxed),
            delivered: counts.value.delivered.load(ordering: .relaxed))
    }
}
