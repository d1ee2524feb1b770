public import LinuxEvent

/// What a group's watch runs: on the descriptor's home shard. Contract G4.
public typealias ShardHandler<Data> =
    @Sendable (
        _ shard: Shard, _ descriptor: CInt, _ watcher: Watcher, _ data: Data
    ) -> Void

/// What became of a `LoopGroup.watch`. Contract G4.
public enum WatchResult: Sendable {
    /// On its way to the home shard; the kernel's answer comes to `completed` there.
    case accepted(GroupWatcher)
    /// The home shard's bounded mailbox has no room.
    case full
    /// The group stops, or has stopped.
    case closed
}

/// What became of a `GroupWatcher.cancel`. Contract G4.
public enum CancelResult: Hashable, Sendable {
    /// `completed` will say when no callback can run any more.
    case accepted
    /// The shard has ended, or runs its last tasks: no callback can run any more.
    case closed
    /// The shard missed a stop's deadline: a callback that has not returned may still be running.
    case abandoned
}

/// A watch made by a group: a handle for any thread. Contract G4, G5.
public struct GroupWatcher: Sendable {
    /// The shard that the descriptor is routed to. Its callbacks run there, unless the watch was moved.
    public let home: ShardReference
    let registration: HomeBound<Registration>

    /// Ends the watch. When `completed` runs, on the shard where the watch was, no callback of it can run any more:
    /// only then close the descriptor. Called on the home shard of a watch that was not moved, all of it happens before
    /// this returns.
    ///
    /// It needs no room in a bounded mailbox. Idempotent; each call is answered.
    @discardableResult
    public func cancel(completed: (@Sendable (_ shard: Shard) -> Void)? = nil) -> CancelResult {
        if let shard = Shard.current, shard.core === home.core {
            registration.value.end(on: shard, completed)
            return .accepted
        }
        let result = home.core.submit { [registration] shard in registration.value.end(on: shard, completed) }
        guard result.isPosted else { return home.core.isAbandoned ? .abandoned : .closed }
        return .accepted
    }
}

extension LoopGroup {
    /// Watches a descriptor on its home shard; from any thread, never blocking. Contract G4.
    ///
    /// Handlers run on the home shard and get its `Shard`, so they find its state there. `data` goes with them and is
    /// released there. For state that is made on the shard, post to it and watch there instead.
    ///
    /// - Parameters:
    ///   - descriptor: its number decides the home shard.
    ///   - data: moves to the home shard, and is given to each handler.
    ///   - read: there is something to read, or the end of it.
    ///   - write: there is room.
    ///   - error: runs for an error, alone; without it an error runs `read` and `write`.
    ///   - edgeTriggered: one callback per edge; read or write until EAGAIN.
    ///   - oneshot: after one event the watcher is silent until `rearm()`.
    ///   - exclusive: EPOLLEXCLUSIVE, for one listener in several loops; not with `oneshot` or `readHangup`.
    ///   - priority: asks for exceptional data too.
    ///   - readHangup: asks to be told when the peer will send no more.
    ///   - interest: what to begin with, of that for which there is a handler; nil: all of it.
    ///   - completed: gets the kernel's answer, on the home shard, before any callback. Called on the home shard
    ///     itself, this happens before `watch` returns.
    public func watch<Data>(
        _ descriptor: CInt, data: consuming sending Data,
        read: ShardHandler<Data>? = nil, write: ShardHandler<Data>? = nil,
        error: ShardHandler<Data>? = nil, edgeTriggered: Bool = false, oneshot: Bool = false,
        exclusive: Bool = false, priority: Bool = false, readHangup: Bool = false, interest: Interest? = nil,
        completed: (@Sendable (_ shard: Shard, _ result: Result<Watcher, LoopError>) -> Void)? = nil
    ) -> WatchResult {
        let home = shard(for: descriptor)
        let registration = HomeBound(home.core, Registration(descriptor))
        let luggage = HomeBound<Data?>(home.core, consume data)
        let namesDescriptors = self.namesDescriptors
        let start: Registration.Start = { shard throws(LoopError) in
            // Taken out here, so that it dies on this shard whoever lets go of this closure last.
            guard let data = luggage.value.take() else { throw .closed }
            // The shard is looked up and not captured: the watch may be moved to another one.
            func bound(_ handler: ShardHandler<Data>?) -> Handler? {
                handler.map { handler in
                    { _, descriptor, watcher in
                        Shard.withCurrent { shard in
                            if namesDescriptors { shard.core.counters.value.activity.begin(descriptor) }
                            handler(shard, descriptor, watcher, data)
                            if namesDescriptors { shard.core.counters.value.activity.end() }
                        }
                    }
                }
            }
            return try shard.loop.watch(
                descriptor, read: bound(read), write: bound(write), error: bound(error),
                edgeTriggered: edgeTriggered, oneshot: oneshot, exclusive: exclusive, priority: priority,
                readHangup: readHangup, interest: interest)
        }
        let begin: @Sendable (Shard) -> Void = { shard in
            registration.value.begin(on: shard, registration, start, completed)
        }
        let watcher = GroupWatcher(home: home, registration: registration)
        if let shard = Shard.current, shard.core === home.core {
            begin(shard)
            return .accepted(watcher)
        }
        switch home.core.post(begin) {
        case .posted: return .accepted(watcher)
        case .full: return .full
        case .closed: return .closed
        }
    }
}
