internal import LinuxEvent

/// A shard without a thread of its own: it takes the steps of a turn one by one, and other shards theirs in between.
final class SimulatedShard {
    private let shard: Shard
    private var state = State.awake
    var stalledUntil = Instant(nanoseconds: 0)

    private enum State {
        case awake
        /// It has said that it sleeps.
        case asleep
        /// It has fetched events and tasks.
        case fetched(afterSleep: Bool)
        /// Its events have been dispatched, and its tasks are next.
        case dispatched(afterSleep: Bool)
        case ended
    }

    init(_ shard: Shard) { self.shard = shard }

    var core: ShardCore { shard.core }
    var loop: Loop { shard.loop }
    var hasEnded: Bool { if case .ended = state { true } else { false } }

    /// Makes the thread this shard for as long as the body runs.
    private func asCurrent<Failure: Error>(_ body: () throws(Failure) -> Void) throws(Failure) {
        let outer = Shard.current
        Shard.setCurrent(shard)
        defer { Shard.setCurrent(outer) }
        try body()
    }

    func start(_ launch: Launch) throws(LoopGroupError) {
        try asCurrent { () throws(LoopGroupError) in
            do { try launch.start(shard) } catch { throw .start(shard: shard.index, error) }
        }
    }

    /// One step. False if it sleeps on.
    func step(_ launch: Launch, at now: Instant, _ random: inout SplitMix) -> Bool {
        var isStep = true
        asCurrent {
            do throws(LoopError) { isStep = try advance(launch, at: now, &random) } catch {
                shard.group.note(error, onShard: shard.index)
                shard.group.requestStop()
                finish(launch)
            }
        }
        return isStep
    }

    private func advance(_ launch: Launch, at now: Instant, _ random: inout SplitMix) throws(LoopError) -> Bool {
        switch state {
        case .ended: return false
        case .awake where core.isRefusing: finish(launch)
        case .awake where shard.backlog.isEmpty && shard.sleep(): state = .asleep
        case .awake: try fetch(afterSleep: false)
        case .asleep:
            let isDue = loop.nextDue.map { $0 <= now } ?? false
            if try loop.wait(timeout: .zero) == 0, !isDue {
                try loop.dispatch()  // an empty turn, whose wait has begun it
                return false
            }
            shard.take()
            state = .fetched(afterSleep: true)
        case .fetched(let afterSleep):
            try shard.dispatch(afterSleep: afterSleep)
            state = .dispatched(afterSleep: afterSleep)
        case .dispatched(let afterSleep):
            // Some of them, so that others get in between.
            shard.runTasks(atMost: Int.random(in: 1...4, using: &random), afterSleep: afterSleep)
            shard.endTurn()
            state = .awake
        }
        return true
    }

    private func fetch(afterSleep: Bool) throws(LoopError) {
        try loop.wait(timeout: .zero)
        shard.take()
        state = .fetched(afterSleep: afterSleep)
    }

    // MARK: The end

    /// Whatever it was in the midst of.
    func end(_ launch: Launch) {
        if !hasEnded { asCurrent { finish(launch) } }
    }

    /// The group could not start.
    func abandon(_ launch: Launch) {
        core.abandonTasks()
        end(launch)
    }

    private func finish(_ launch: Launch) {
        state = .ended
        shard.end()
        launch.handlers.threadEnded()
        launch.running.countDown()
    }
}
