internal import LinuxEvent

/// How one watch of the group stands, and where it is. Contract G4, G5.
///
/// It is touched on the descriptor's hash home only. All that concerns the watch passes there, in the order posted, and
/// goes on from there to the shard where the watch is; so nothing overtakes anything. While the watch moves, what comes
/// for it waits here.
///
/// - Threads: the home shard's only.
final class Registration {
    typealias Start = @Sendable (Shard) throws(LoopError) -> Watcher
    typealias Answer = @Sendable (_ shard: Shard, _ result: Result<Watcher, LoopError>) -> Void

    private enum State {
        case posted, ended
        /// It moves, or waits until its predecessor has ended.
        case underWay
        case watching(Place)
    }

    /// A shard, and the watcher there, which only that shard may touch.
    struct Place: Sendable {
        let core: ShardCore
        let watcher: HomeBound<Watcher?>

        /// On the shard itself.
        init(_ shard: Shard, _ watcher: Watcher) {
            core = shard.core
            self.watcher = HomeBound(shard.core, nil)
            self.watcher.value = watcher
        }
    }

    private let descriptor: CInt
    private var state = State.posted
    /// The one that has to end before this begins, while that takes.
    private var predecessor: Registration?
    /// What came while it was under way, in order.
    private var waiting: [(Shard) -> Void] = []

    init(_ descriptor: CInt) { self.descriptor = descriptor }

    // MARK: Beginning and ending

    /// `me` is this object, as it may be handed to other threads.
    func begin(on home: Shard, _ me: HomeBound<Registration>, _ start: @escaping Start, _ answer: Answer?) {
        guard case .posted = state else { return }  // cancelled before it began
        // One watcher per descriptor: one that was moved away must have ended there before this begins. Contract W2.
        guard let predecessor = home.moved[descriptor] else { return open(on: home, start, answer) }
        state = .underWay
        // Whoever comes next waits for this one.
        home.moved[descriptor] = self
        self.predecessor = predecessor
        predecessor.end(on: home) { [core = home.core] _ in
            _ = core.submit { home in
                me.value.predecessor = nil
                me.value.forgetMove(on: home)
                me.value.open(on: home, start, answer)
                me.value.settle(on: home)
            }
        }
    }

    private func open(on home: Shard, _ start: Start, _ answer: Answer?) {
        do throws(LoopError) {
            let watcher = try start(home)
            state = .watching(Place(home, watcher))
            answer?(home, .success(watcher))
        } catch {
            state = .ended
            answer?(home, .failure(error))
        }
    }

    /// Contract G4: when `completed` runs, no callback can run any more.
    func end(on home: Shard, _ completed: (@Sendable (Shard) -> Void)?) {
        switch state {
        case .underWay: waiting.append { [self] home in end(on: home, completed) }
        case .posted, .ended:
            state = .ended
            completed?(home)
        case .watching(let place):
            state = .ended
            forgetMove(on: home)
            if place.core === home.core {
                place.watcher.value?.cancel()
                completed?(home)
                return
            }
            let result = place.core.submit { shard in
                place.watcher.value?.cancel()
                completed?(shard)
            }
            // That shard has ended, and its watches with it.
            if !result.isPosted { completed?(home) }
        }
    }

    // MARK: Going on to where it is

    /// Runs a block on the shard where the watch is, with its watcher; on the home, with none, if it has ended.
    func forward(on home: Shard, _ body: @escaping @Sendable (Shard, Watcher?) -> Void) {
        switch state {
        case .underWay: waiting.append { [self] home in forward(on: home, body) }
        case .posted, .ended: body(home, nil)
        case .watching(let place) where place.core === home.core: body(home, place.active)
        case .watching(let place):
            if !place.core.submit({ shard in body(shard, place.active) }).isPosted { body(home, nil) }
        }
    }

    // MARK: Moving

    func move(on home: Shard, _ me: HomeBound<Registration>, to target: ShardCore, _ answer: MoveAnswer?) {
        switch state {
        case .underWay: waiting.append { [self] home in move(on: home, me, to: target, answer) }
        case .posted, .ended: answer?(home, .failure(.ended))
        case .watching(let place) where place.core === target:
            // It is there already, which is said there.
            if !target.submit({ shard in answer?(shard, .success(())) }).isPosted { answer?(home, .failure(.closed)) }
        case .watching(let place):
            state = .underWay
            // Unless a successor stands there, which waits for this one.
            if home.moved[descriptor] == nil { home.moved[descriptor] = self }
            let move = WatchMove(
                home: home.core, registration: me, from: place, to: target, answer: answer)
            // A task also where the watch is on this shard: between turns, when none of its handlers is running.
            if !place.core.submit({ shard in move.leave(shard) }).isPosted { arrive(nil, on: home) }
        }
    }

    /// The end of a move: where it is now, or nil if it has ended.
    func arrive(_ place: Place?, on home: Shard) {
        state = place.map { .watching($0) } ?? .ended
        if place == nil || place?.core === home.core { forgetMove(on: home) }
        settle(on: home)
    }

    /// The home ends, and hears of no arrival any more. What waited would wait for ever, and hold this for as long.
    func abandon() {
        predecessor?.abandon()
        predecessor = nil
        state = .ended
        waiting = []
    }

    /// What waited goes on, in order; up to the next move.
    private func settle(on home: Shard) {
        while !waiting.isEmpty {
            if case .underWay = state { return }
            waiting.removeFirst()(home)
        }
    }

    private func forgetMove(on home: Shard) {
        if home.moved[descriptor] === self { home.moved[descriptor] = nil }
    }
}

extension Registration.Place {
    /// On its own shard.
    var active: Watcher? { watcher.value.flatMap { $0.isActive ? $0 : nil } }
}
