public import LinuxEvent

/// Why a watch could not be moved. Contract G5.
public enum MoveError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The watch has ended.
    case ended
    /// The target is a shard of another group.
    case otherGroup
    /// The target has stopped. The watch is where it was.
    case closed
    /// The target's loop refused. The watch is where it was.
    case refused(LoopError)
    /// The target's loop refused, and then the old one too; the watch has ended.
    case lost(LoopError, LoopError)

    public var description: String {
        switch self {
        case .ended: "the watch has ended"
        case .otherGroup: "the target belongs to another group"
        case .closed: "the target has stopped"
        case .refused(let error): "the target refused: \(error)"
        case .lost(let error, let second): "the target refused: \(error); and the old shard too: \(second)"
        }
    }
}

/// What runs when a move has come to its end, on the shard where the watch then is. Contract G5.
public typealias MoveAnswer = @Sendable (_ shard: Shard, _ result: Result<Void, MoveError>) -> Void

extension GroupWatcher {
    /// Moves the watch to another shard of its group, alive: interest, mode, handlers and data go along, and whether it
    /// is armed. Nothing that becomes ready meanwhile is lost; an edge may be repeated. What is posted for it keeps its
    /// order. If the target refuses, the watch is put back. Contract G5.
    ///
    /// The data moves too: what a handler has put aside of it on the old shard must not be used there any more.
    ///
    /// - Parameters:
    ///   - target: a shard of the same group; the one where the watch is already will do.
    ///   - completed: runs on the shard where the watch then is.
    /// - Returns: `.accepted`, or that the home shard has stopped.
    @discardableResult
    public func move(to target: ShardReference, completed: MoveAnswer? = nil) -> CancelResult {
        let result = home.core.submit { [registration] shard in
            guard shard.group.owns(target.core) else {
                completed?(shard, .failure(.otherGroup))
                return
            }
            registration.value.move(on: shard, registration, to: target.core, completed)
        }
        guard result.isPosted else { return home.core.isAbandoned ? .abandoned : .closed }
        return .accepted
    }

    /// Runs a task on the shard where the watch is, wherever that may be by then, with its watcher; with nil if the
    /// watch has ended. What one thread posts for a watch runs in the order posted, across moves too. Contract G5.
    ///
    /// - Returns: `.posted`, or why not; then the task does not run.
    @discardableResult
    public func post(_ task: @escaping @Sendable (_ shard: Shard, _ watcher: Watcher?) -> Void) -> PostResult {
        home.core.post { [registration] shard in registration.value.forward(on: shard, task) }
    }
}

/// One move: from the old shard to the new one, back if need be, and home with the news.
struct WatchMove: Sendable {
    let home: ShardCore
    let registration: HomeBound<Registration>
    let from: Registration.Place
    let to: ShardCore
    let answer: MoveAnswer?

    /// On the old shard, between turns.
    func leave(_ shard: Shard) {
        guard let watcher = from.watcher.value, let watch = shard.loop.detach(watcher) else {
            answer?(shard, .failure(.ended))
            return tell(nil)
        }
        // To add what is ready reports it, edge-triggered too: what came in between is not lost.
        let result = to.submit { shard in
            do throws(LoopError) { settle(shard, try shard.loop.adopt(watch), .success(())) } catch {
                let error = error
                if !from.core.submit({ restore($0, watch, after: error) }).isPosted { lose(shard, error, .closed) }
            }
        }
        if !result.isPosted { restore(shard, watch, after: nil) }
    }

    /// On the old shard, which gets its watch back.
    private func restore(_ shard: Shard, _ watch: DetachedWatch, after error: LoopError?) {
        do throws(LoopError) {
            settle(shard, try shard.loop.adopt(watch), .failure(error.map { .refused($0) } ?? .closed))
        } catch let second { lose(shard, error ?? .closed, second) }
    }

    private func settle(_ shard: Shard, _ watcher: Watcher, _ result: Result<Void, MoveError>) {
        let place = Registration.Place(shard, watcher)
        answer?(shard, result)
        tell(place)
    }

    private func lose(_ shard: Shard, _ first: LoopError, _ second: LoopError) {
        answer?(shard, .failure(.lost(first, second)))
        tell(nil)
    }

    /// The home hears of it last, and lets go of what waited.
    private func tell(_ place: Registration.Place?) {
        _ = home.submit { [registration] shard in registration.value.arrive(place, on: shard) }
    }
}
