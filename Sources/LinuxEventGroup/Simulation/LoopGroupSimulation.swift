public import LinuxEvent

/// A group whose shards all live on one thread, in a time of their own, and take their steps in an order that a seed
/// decides: for tests of what is built on a `LoopGroup`.
///
///     try LoopGroupSimulation.explore(seeds: 0..<1_000, threads: 4) { simulation in
///         let service = Service(simulation.group)
///         service.start()
///         try simulation.run(for: .seconds(10))     // takes as long as the work in it
///         #expect(service.isConsistent)
///     }
///
/// The same seed brings the same run back; another one brings another order of what shards do at the same time. Shards,
/// mailboxes, channels, calls, watches, moves and stop are the real ones, and so are descriptors: what goes from shard
/// to shard through a pipe or a socket pair is there at once. What comes from outside, such as other processes or
/// signals, comes when it comes.
///
/// Time stands still while anything is to be done, and then goes on to the next timer. `Instant.now` is the kernel's
/// clock still: use `loop.now`.
///
/// Do not wait for anything in a simulation, nor use the async forms of calls: what resumes them is not this thread.
///
/// - Threads: the maker's only. Contract G13.
public final class LoopGroupSimulation {
    /// The group: all that a real one can, but `stop(deadline:)` and `wait()`, which are here.
    public let group: LoopGroup
    /// What decides the order of steps.
    public let seed: UInt64
    /// Steps taken. With `fingerprint` it tells one run from another.
    public private(set) var steps = 0
    /// A number made from the order of all steps so far: equal for equal runs.
    public private(set) var fingerprint: UInt64 = 0xCBF2_9CE4_8422_2325

    private let launch: Launch
    private let clock: VirtualClock
    private var shards: [SimulatedShard] = []
    private var random: SplitMix

    /// Makes the shards, and runs the start block on each, as `LoopGroup` does.
    ///
    /// - Parameters:
    ///   - seed: decides the order of steps.
    ///   - threads: how many shards there would be threads for.
    ///   - mailboxCapacity: as for a `LoopGroup`.
    ///   - spillLimit: as for a `LoopGroup`.
    ///   - start: runs on each shard before this returns. If it throws on one, all are undone.
    /// - Throws: as `LoopGroup`.
    public init(
        seed: UInt64, threads: Int, mailboxCapacity: Int? = nil, spillLimit: Int = 0,
        start: @escaping @Sendable (_ shard: Shard) throws -> Void = { _ in }
    ) throws(LoopGroupError) {
        self.seed = seed
        random = SplitMix(state: seed)
        let launch = try Launch(
            plan: LoopGroup.plan(threads: threads, placement: .unpinned),
            mailbox: MailboxLimit(capacity: mailboxCapacity, spillLimit: spillLimit), idle: .sleep, watchdog: nil,
            start: start)
        self.launch = launch
        let clock = VirtualClock(startingAt: Instant(nanoseconds: 1_000_000_000))
        self.clock = clock
        var loops: [Loop] = []
        var cores: [ShardCore] = []
        for place in launch.plan.shards {
            let core = ShardCore(place, launch)
            let loop: Loop
            do throws(LoopError) { loop = try Loop(clock: clock) } catch { throw .loop(shard: place.shard, error) }
            core.setWaker(loop.waker)
            cores.append(core)
            loops.append(loop)
        }
        group = LoopGroup(launch, cores, isSimulated: true)
        for (core, loop) in zip(cores, loops) {
            shards.append(SimulatedShard(Shard(core: core, loop: loop, group: group, launch: launch)))
        }
        var failure: LoopGroupError?
        for shard in shards {
            do throws(LoopGroupError) { try shard.start(launch) } catch { failure = failure ?? error }
        }
        if let failure {
            for shard in shards { shard.abandon(launch) }
            throw failure
        }
    }

    deinit {
        group.requestStop()
        for shard in shards { shard.end(launch) }
    }

    // MARK: Time

    /// The simulated time, which is each shard's `loop.now`.
    public var now: Instant { clock.now }

    // MARK: Running

    /// One step of one shard: into its sleep, to what woke it, its events and timers, or some of its tasks. If none has
    /// anything to do, time goes on to the next timer.
    ///
    /// - Returns: false if nothing is left to do, now or later, unless something comes from outside.
    @discardableResult
    public func step() -> Bool { step(until: nil) }

    /// Takes steps until so much time has passed. What is due at the end is done.
    public func run(for duration: Duration) {
        let end = clock.now.advanced(by: duration)
        while step(until: end) {}
        clock.advance(to: end)
    }

    /// Takes steps until nothing is left to do, now or later.
    ///
    /// - Parameter limit: of steps; a timer that repeats never comes to an end.
    /// - Returns: whether it came to an end.
    @discardableResult
    public func runUntilIdle(atMost limit: Int = 1_000_000) -> Bool {
        for _ in 0..<limit where !step(until: nil) { return true }
        return false
    }

    /// Lets a shard stand still for a while, as if a callback of it did not return.
    public func stall(_ index: Int, for duration: Duration) {
        shards[index].stalledUntil = clock.now.advanced(by: duration)
    }

    /// Stops the group, within so much simulated time. Contract G9.
    ///
    /// A shard that stands still past the deadline is named in the report; what it holds is not run any more.
    @discardableResult
    public func stop(deadline: Duration = .seconds(1)) -> StopReport {
        let begin = clock.now
        let end = begin.advanced(by: deadline)
        group.requestStop()
        while !shards.allSatisfy(\.hasEnded), clock.now < end, step(until: end) {}
        for shard in shards where !shard.hasEnded { shard.core.abandon() }
        return group.report(of: begin.duration(to: clock.now))
    }

    /// Runs a body in one simulation for each seed. What the body throws is thrown on, and the seed is printed with it.
    ///
    /// - Parameters:
    ///   - seeds: as many runs.
    ///   - threads: as for the initializer.
    ///   - mailboxCapacity: as for a `LoopGroup`.
    ///   - spillLimit: as for a `LoopGroup`.
    ///   - start: runs on each shard of each simulation.
    ///   - body: gets a simulation, which is stopped when it returns.
    public static func explore(
        seeds: Range<UInt64>, threads: Int, mailboxCapacity: Int? = nil, spillLimit: Int = 0,
        start: @escaping @Sendable (_ shard: Shard) throws -> Void = { _ in },
        _ body: (_ simulation: LoopGroupSimulation) throws -> Void
    ) throws {
        for seed in seeds {
            do {
                let simulation = try LoopGroupSimulation(
                    seed: seed, threads: threads, mailboxCapacity: mailboxCapacity, spillLimit: spillLimit,
                    start: start)
                try body(simulation)
                simulation.stop()
            } catch {
                print("LoopGroupSimulation: seed \(seed): \(error)")
                throw error
            }
        }
    }

    // MARK: Choosing

    /// One step now, or at the next time at which there is one, but not after `end`.
    private func step(until end: Instant?) -> Bool {
        while true {
            var candidates = shards.indices.filter { !shards[$0].hasEnded && shards[$0].stalledUntil <= clock.now }
            while !candidates.isEmpty {
                let index = candidates.remove(at: Int.random(in: 0..<candidates.count, using: &random))
                guard shards[index].step(launch, at: clock.now, &random) else { continue }
                steps += 1
                fingerprint = (fingerprint ^ UInt64(index)) &* 0x100_0000_01B3
                return true
            }
            guard let next = nextTime(), next <= end ?? next else { return false }
            clock.advance(to: next)
        }
    }

    /// When something is due or comes to life again.
    private func nextTime() -> Instant? {
        shards.filter { !$0.hasEnded }.compactMap { shard in
            if shard.stalledUntil > clock.now { return shard.stalledUntil }
            // Early, it is looked at again: no time is passed over.
            return shard.loop.nextDue.map { max($0, clock.now) }
        }.min()
    }
}

@available(*, unavailable)
extension LoopGroupSimulation: Sendable {}
