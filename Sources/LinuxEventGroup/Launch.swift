internal import CLinux
internal import LinuxEvent

/// How a group's threads start together: all loops are made before any start block runs, and no shard runs before all
/// blocks have returned. Contract G1.
final class Launch: Sendable {
    let group: LoopGroup
    let start: @Sendable (Shard) throws -> Void
    let loops: Rendezvous
    let blocks: Rendezvous

    init(group: LoopGroup, start: @escaping @Sendable (Shard) throws -> Void) {
        self.group = group
        self.start = start
        loops = Rendezvous(group.count)
        blocks = Rendezvous(group.count)
    }
}

/// One step that every thread takes, and none goes on from unless all could take it.
final class Rendezvous: Sendable {
    private let arrived: Latch
    private let decided = Latch(1)
    private let failure = Locked<LoopGroupError?>(nil)

    init(_ count: Int) { arrived = Latch(count) }

    /// Takes the step, and waits for the others. Returns whether all could take it.
    func rendezvous(on shard: Int, _ step: () throws(LoopGroupError) -> Void) -> Bool {
        do throws(LoopGroupError) {
            try step()
            arrived.countDown()
        } catch { fail(error) }
        decided.wait()
        return failure.withLock { $0 == nil }
    }

    /// Arrives without having taken the step.
    func fail(_ error: LoopGroupError) {
        failure.withLock { if $0 == nil { $0 = error } }
        arrived.countDown()
    }

    /// The first failure, if any, once all have arrived; and lets them go.
    func conclude() -> LoopGroupError? {
        arrived.wait()
        defer { decided.countDown() }
        return failure.withLock { $0 }
    }
}

/// The body of a shard's thread.
final class ShardThread: Sendable {
    private let core: ShardCore
    private let launch: Launch

    init(core: ShardCore, launch: Launch) {
        self.core = core
        self.launch = launch
    }

    static func main(_ context: UnsafeMutableRawPointer?) {
        guard let context = unsafe context else { return }
        let group = unsafe Unmanaged<ShardThread>.fromOpaque(context).takeRetainedValue().run()
        group.threadEnded()
    }

    /// Everything of the shard's is gone when it returns.
    private func run() -> LoopGroup {
        let group = launch.group
        core.counters.value.cpuTime.start()
        defer { core.counters.value.cpuTime.end() }
        var loop: Loop?
        let areAllMade = launch.loops.rendezvous(on: core.index) { () throws(LoopGroupError) in
            // First the CPU, then memory of its node, then everything that allocates.
            let pinned = clinux_affinity_pin(CInt(core.placement.cpu))
            if pinned < 0 {
                throw .thread(shard: core.index, SystemError(call: "sched_setaffinity", code: -pinned))
            }
            Memory.preferLocal()
            do throws(LoopError) { loop = try Loop() } catch { throw .loop(shard: core.index, error) }
            if let loop { core.setWaker(loop.waker) }
        }
        if areAllMade, let loop {
            Shard(core: core, loop: loop, group: group).live(launch)
        } else {
            core.reach(.stopped)
        }
        return group
    }
}
