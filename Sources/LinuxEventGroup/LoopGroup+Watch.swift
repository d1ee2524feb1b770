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

/// A watch made by a group: a handle for any thread. Contract G4.
public struct GroupWatcher: Sendable {
    /// The shard whose callbacks these are.
    public let home: ShardReference
    fileprivate let registration: HomeBound<Registration>

    /// How the watch stands, for the home shard, where all tasks about it run in the order posted.
    fileprivate enum Registration {
        case posted, cancelled, refused
        case watching(Watcher)
    }

    /// Ends the watch. When `completed` runs, on the home shard, no callback of it can run any more: only then close
    /// the descriptor. Called on the home shard, all of it happens before this returns.
    ///
    /// It needs no room in a bounded mailbox. Idempotent; each call is answered.
    @discardableResult
    public func cancel(completed: (@Sendable (_ shard: Shard) -> Void)? = nil) -> CancelResult {
        if let shard = Shard.current, shard.core === home.core {
            Self.end(registration, completed, shard)
            return .accepted
        }
        let result = home.core.submit { [registration] shard in Self.end(registration, completed, shard) }
        guard result.isPosted else { return home.core.isAbandoned ? .abandoned : .closed }
        return .accepted
    }

    private static func end(
        _ registration: HomeBound<Registration>, _ completed: (@Sendable (Shard) -> Void)?, _ shard: Shard
    ) {
        if case .watching(let watcher) = registration.value { watcher.cancel() }
        registration.value = .cancelled
        completed?(shard)
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
        let registration = HomeBound(home.core, GroupWatcher.Registration.posted)
        let luggage = HomeBound<Data?>(home.core, consume data)
        let begin: @Sendable (Shard) -> Void = { shard in
            // Taken out here, so that it dies on this shard whoever lets go of this closure last.
            guard let data = luggage.value.take(), case .posted = registration.value else { return }
            func bound(_ handler: ShardHandler<Data>?) -> Handler? {
                handler.map { handler in { _, descriptor, watcher in handler(shard, descriptor, watcher, data) } }
            }
            do throws(LoopError) {
                let watcher = try shard.loop.watch(
                    descriptor, read: bound(read), write: bound(write), error: bound(error),
                    edgeTriggered: edgeTriggered, oneshot: oneshot, exclusive: exclusive, priority: priority,
                    readHangup: readHangup, interest: interest)
                registration.value = .watching(watcher)
                completed?(shard, .success(watcher))
            } catch {
                registration.value = .refused
                completed?(shard, .failure(error))
            }
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
