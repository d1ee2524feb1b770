/// Which CPUs a group's shards get. Contract G2.
public enum Placement: Sendable {
    /// Physical cores before their siblings, node by node, each shard pinned; unpinned where a CPU quota is below the
    /// number of usable CPUs.
    case automatic
    /// No shard is pinned: all may run where the maker of the group may.
    case unpinned
    /// As far from each other as can be: on all nodes in turn, physical cores before siblings.
    case spread
    /// As near to each other as can be: all threads of one core, all cores of one node, then the next.
    case pack
    /// These CPUs, in this order, and from the beginning again where there are more shards.
    case listed([Int])
    /// What the closure says, as `listed`; nil stands for a shard that is not pinned.
    case custom(@Sendable (_ topology: Topology) throws -> [Int?])

    /// The order in which CPUs are handed out; nil for no pinning.
    func order(_ topology: Topology) throws(LoopGroupError) -> [Int?]? {
        switch self {
        case .unpinned: return nil
        case .automatic:
            return Self.sorted(topology.cpus) { cpu in [cpu.rank, cpu.node] }
        case .spread:
            return Self.sorted(topology.cpus) { cpu in [cpu.rank, cpu.indexOnNode, cpu.node] }
        case .pack:
            return Self.sorted(topology.cpus) { cpu in [cpu.node, cpu.core] }
        case .listed(let cpus): return try Self.checked(cpus, topology)
        case .custom(let choose):
            let cpus: [Int?]
            do { cpus = try choose(topology) } catch { throw .placement(error) }
            return try Self.checked(cpus, topology)
        }
    }

    private static func checked(_ cpus: [Int?], _ topology: Topology) throws(LoopGroupError) -> [Int?] {
        if cpus.isEmpty { throw .noCPUs }
        for case .some(let cpu) in cpus where topology.cpu(cpu) == nil { throw .unusableCPU(cpu) }
        return cpus
    }

    /// How a CPU stands among the usable ones.
    private struct Standing {
        let number, core, node: Int
        /// How many CPUs of its core have lower numbers.
        let rank: Int
        /// How many CPUs of its node, of the same rank, have lower numbers.
        let indexOnNode: Int
    }

    /// By what a closure says of each, and then by number.
    private static func sorted(_ cpus: [Topology.CPU], _ key: (Standing) -> [Int]) -> [Int?] {
        var ranks: [Int: Int] = [:]
        var indices: [[Int]: Int] = [:]
        let standings = cpus.map { cpu in
            let node = cpu.node ?? -1
            let rank = ranks[cpu.core, default: 0]
            let index = indices[[node, rank], default: 0]
            ranks[cpu.core] = rank + 1
            indices[[node, rank]] = index + 1
            return Standing(number: cpu.number, core: cpu.core, node: node, rank: rank, indexOnNode: index)
        }
        let keys = standings.map { (key: key($0) + [$0.number], number: $0.number) }
        return keys.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map(\.number)
    }
}
