internal import CLinux

/// A connection that a listener accepted: its descriptor, and its part of the load of its shard. Contract G11.
///
/// The descriptor is yours from the moment that the handler gets this value: yours to watch and to close. Keep the
/// value where you keep the connection, for as long as the connection lives. Its end is what tells the group that the
/// shard has one less to serve, so there is nothing to be called, and nothing to forget:
///
///     final class Connection {
///         let accepted: Accepted
///         init(_ accepted: consuming Accepted) { self.accepted = accepted }
///         deinit { close(accepted.descriptor) }   // and then `accepted` ends
///     }
///
/// In this order, too: a listener that paused for want of descriptors tries again when such a value ends.
///
/// - Owns: the descriptor, until the handler gets it. What never reaches a handler is closed.
/// - Threads: any; it may end on any thread.
/// - Lifetime: one that is kept beyond the group's end keeps the shards' wakers, as a `ShardReference` does.
public struct Accepted: ~Copyable, Sendable {
    /// The connection: non-blocking and close-on-exec.
    public let descriptor: CInt
    /// The shard whose load it counts in.
    private(set) var home: Int
    private let connections: Connections
    /// Until it is delivered; from then on the descriptor is the user's.
    private var listener: Listener?

    init(_ descriptor: CInt, for home: Int, of listener: Listener) {
        self.descriptor = descriptor
        self.home = home
        connections = listener.connections
        self.listener = listener
        connections.begin(on: home)
    }

    deinit {
        if listener != nil { _ = clinux_close(descriptor) }
        connections.end(on: home)
    }

    /// Says that another shard of the group serves the connection from now on: it counts in the load of that one.
    public mutating func move(to shard: ShardReference) {
        precondition(connections.cores.owns(shard.core), "a connection stays in its group")
        move(to: shard.index)
    }

    mutating func move(to home: Int) {
        connections.begin(on: home)
        connections.leave(self.home)
        self.home = home
    }

    /// On the shard that it is for: gives it to the user.
    consuming func deliver(on shard: Shard) {
        guard let listener = listener.take() else { return }
        listener.deliver(self, on: shard)
    }
}
