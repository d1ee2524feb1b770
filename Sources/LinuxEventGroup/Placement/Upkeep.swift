internal import CLinux
internal import LinuxEvent
internal import Synchronization

/// Sees to it that a shard's thread stays on its CPU, and its memory on that CPU's node. Contract G1, G3.
///
/// Anyone may change what a thread may run on, and the kernel does it itself when a cpuset shrinks or a CPU is turned
/// off; nobody is told. It also moves pages to other threads that use them. So the shard looks, at most once a second,
/// and only in turns that it makes anyway: an idle group is woken by nothing.
///
/// - Threads: the shard's own.
struct Upkeep {
    private let core: ShardCore
    private let loop: Loop
    private let cores: Cores
    private let topology: Topology
    private var nextLook: UInt64 = 0
    private var round = MemoryRound()

    private static let interval: UInt64 = 1_000_000_000

    init(_ core: ShardCore, _ loop: Loop, cores: Cores, topology: Topology) {
        self.core = core
        self.loop = loop
        self.cores = cores
        self.topology = topology
    }

    /// Cheap enough for every turn that slept: one reading of the coarse clock.
    mutating func look() {
        guard let home = core.place.cpu else { return }
        let now = clinux_monotonic_coarse_ns()
        guard now >= nextLook else { return }
        nextLook = now + Self.interval
        bringMemoryHome()
        lookAfterAffinity(home)
    }

    /// A part of it at each look, so that a loop with large tables is not held up. Contract G3.
    private mutating func bringMemoryHome() {
        guard let node = core.place.node else { return }
        let part = round.next(of: core.memory + loop.memory)
        Memory.bringHome(part, to: topology.memoryNodes(of: node))
    }

    private func lookAfterAffinity(_ home: Int) {
        let present = core.cpu
        if let present, Affinity.isPinned(to: present) {
            // Away from home, it goes back as soon as it may.
            if present != home, pin(to: home) { return }
        } else {
            _ = pin(to: home) || moveNear(home) || giveUp()
        }
    }

    private func pin(to cpu: Int) -> Bool {
        do throws(SystemError) { try Affinity.pin(to: cpu) } catch { return false }
        core.counters.value.cpu.store(cpu, ordering: .relaxed)
        core.counters.value.affinityRepairs.wrappingAdd(1, ordering: .relaxed)
        return true
    }

    /// Home is not to be had, so the kernel has let the thread run where it may: the nearest of these.
    private func moveNear(_ home: Int) -> Bool {
        guard let cpus = try? Affinity.cpus() else { return false }
        let others = cores.filter { $0 !== core }.compactMap(\.cpu)
        return topology.nearest(to: home, of: cpus, taken: others).contains { pin(to: $0) }
    }

    /// The shard runs on, wherever the kernel lets it.
    private func giveUp() -> Bool {
        core.counters.value.cpu.store(-1, ordering: .relaxed)
        return false
    }
}
