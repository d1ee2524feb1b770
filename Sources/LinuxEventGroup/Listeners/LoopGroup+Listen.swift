internal import CLinux
internal import LinuxEvent
internal import Synchronization

extension LoopGroup {
    /// Accepts connections and gives each to a shard; from any thread, never blocking. Contract G11.
    ///
    ///     let listener = try group.listen(.leastOfTwo(listening)) { shard, accepted in
    ///         serve(Connection(accepted), on: shard)
    ///     }
    ///
    /// - Parameters:
    ///   - distribution: the listening descriptors, and who gets what comes. They stay yours.
    ///   - options: bounds and delays.
    ///   - notice: is told, on the shard that it concerns, when there are no descriptors to be had, or when a shard
    ///     could not go on.
    ///   - handler: gets each connection, once, on the shard that it was handed to; on several threads at once.
    /// - Throws: if a descriptor is not a listening, non-blocking socket, or the distribution does not fit the group;
    ///   then nothing has happened. `.closed` if the group stops.
    public func listen(
        _ distribution: Distribution, options: ListenerOptions = ListenerOptions(),
        notice: (@Sendable (_ shard: Shard, _ notice: ListenerNotice) -> Void)? = nil,
        handler: @escaping AcceptHandler
    ) throws(ListenerError) -> Listener {
        let places = try distribution.places(shards: count)
        for (_, descriptor) in places { try Self.checkListening(descriptor) }
        if cores[0].isRefusing { throw .closed }
        let listener = Listener(distribution, options, connections, notice, handler)
        listener.start(places)
        return listener
    }

    /// Connections of the group's listeners that were handed to this shard and live, as their `Accepted` values say.
    /// From any thread; a connection counts as soon as it is handed over. Contract G11.
    public func load(of index: Int) -> Int { connections.load(of: index) }

    private static func checkListening(_ descriptor: CInt) throws(ListenerError) {
        let kind = clinux_listening(descriptor)
        guard kind >= 0 else { throw .system(SystemError(call: "getsockopt", code: -kind)) }
        guard Int(kind) & Int(CLINUX_LISTENS) != 0 else { throw .notListening(descriptor) }
        guard Int(kind) & Int(CLINUX_NONBLOCKING) != 0 else { throw .blocking(descriptor) }
    }

    private var connections: Connections {
        if let made = listening.load() { return made }
        return listening.storeIfNil(Connections(self))
    }
}
