internal import LinuxEvent

/// The CPUs that this process may use, how they lie to each other, and how much of them it may use. Contract G2.
///
/// Usable is what the calling thread's affinity mask, the cpuset, and the kernel's list of CPUs that are on agree on.
public struct Topology: Hashable, Sendable, CustomStringConvertible {
    /// One usable CPU, by the kernel's number: a thread of a core.
    public struct CPU: Hashable, Sendable {
        /// As the kernel numbers them; there may be holes.
        public let number: Int
        /// The core that it belongs to, by the lowest CPU number of that core.
        public let core: Int
        /// The memory node that it belongs to; nil where the kernel names none.
        public let node: Int?
        /// Another usable CPU of the same core has a lower number.
        public let isSibling: Bool
    }

    /// Ascending by number; never empty.
    public let cpus: [CPU]
    /// The machine's memory nodes that are on, also those without a CPU; empty where the kernel names none.
    public let nodes: [Int]
    /// Those of `nodes` that have memory.
    public let nodesWithMemory: [Int]
    /// For each node without memory, the nearest that have some.
    private let nearestWithMemory: [Int: [Int]]
    /// The smallest CPU quota of the process's control group and all above it; nil where none is set.
    public let quota: CPUQuota?
    /// Where the list of usable CPUs comes from, and what was ignored.
    public let notes: [String]

    /// The usable CPU with this number.
    public func cpu(_ number: Int) -> CPU? { cpus.first { $0.number == number } }

    /// Memory can lie on one node or another.
    public var hasSeveralNodes: Bool { nodes.count > 1 }

    /// Where the memory of a node's CPUs lies: on the node itself, or, if it has no memory, on the nearest that has;
    /// several nodes where these are as near. Contract G3.
    package func memoryNodes(of node: Int) -> [Int] { nearestWithMemory[node] ?? [node] }

    /// CPUs in the order in which a shard that lost its own takes them: same node first, then those with the fewest
    /// shards, then the same core, then by number. Contract G1.
    package func nearest(to home: Int, of cpus: [Int], taken: [Int]) -> [Int] {
        let own = cpu(home)
        let keys = cpus.map { number in
            let other = cpu(number)
            let key = [
                other != nil && other?.node == own?.node ? 0 : 1, taken.count { $0 == number },
                other != nil && other?.core == own?.core ? 0 : 1, abs(number - home), number,
            ]
            return (key: key, number: number)
        }
        return keys.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map(\.number)
    }

    public var description: String {
        let cores = Set(cpus.map(\.core)).count
        return "\(cpus.count) usable CPUs on \(cores) cores and \(max(nodes.count, 1)) nodes; quota: "
            + (quota.map { "\($0)" } ?? "none")
    }

    /// Reads all of it.
    ///
    /// - Parameters:
    ///   - root: the folder that holds /proc and /sys.
    ///   - affinity: nil asks the kernel for the calling thread's.
    package init(root: String = "/", affinity: [Int]? = nil) throws(LoopGroupError) {
        var files = SystemFiles(root: root)
        let mask: CPUSet
        if let affinity {
            mask = CPUSet(affinity)
        } else {
            do throws(SystemError) { mask = CPUSet(try Affinity.cpus()) } catch { throw .thread(shard: 0, error) }
        }
        if mask.isEmpty { throw .noCPUs }
        let groups = ControlGroups(&files)
        let usable = Self.usable(mask, groups, &files)
        let nodes = files.list("/sys/devices/system/node/online")?.numbers ?? []
        let nodeOfCPU = Self.nodeOfCPU(nodes, usable.cpus, &files)
        let withMemory =
            files.list("/sys/devices/system/node/has_memory")
            ?? files.list("/sys/devices/system/node/has_normal_memory")
        self.nodes = nodes
        nodesWithMemory = withMemory.map { $0.intersection(CPUSet(nodes)).numbers } ?? nodes
        nearestWithMemory = Self.nearest(nodesWithMemory, nodes, &files)
        let coreOfCPU = Self.coreOfCPU(usable.cpus, &files)
        var seen: Set<Int> = []
        var cpus: [CPU] = []
        for number in usable.cpus.numbers {
            let core = coreOfCPU[number] ?? number
            let isSibling = !seen.insert(core).inserted
            cpus.append(CPU(number: number, core: core, node: nodeOfCPU[number], isSibling: isSibling))
        }
        self.cpus = cpus
        quota = CPUQuota.smallest(groups.cpu, &files)
        notes = ["usable CPUs \(usable.cpus): \(usable.sources.joined(separator: ", "))"] + files.notes
    }

    private static func usable(
        _ mask: CPUSet, _ groups: ControlGroups, _ files: inout SystemFiles
    ) -> (cpus: CPUSet, sources: [String]) {
        var usable = mask
        var sources = ["affinity mask \(mask)"]
        /// What leaves nothing cannot be true: the calling thread runs.
        func narrow(_ list: CPUSet, _ name: String, _ files: inout SystemFiles) {
            let rest = usable.intersection(list)
            if rest.isEmpty { return files.note("ignored \(name) \(list), which has no CPU in common with \(usable)") }
            usable = rest
            sources.append("\(name) \(list)")
        }
        for group in groups.cpuset {
            let name = group.version == 2 ? "/cpuset.cpus.effective" : "/cpuset.effective_cpus"
            // A group without the controller has its ancestor's CPUs.
            for folder in group.ancestors {
                guard let list = files.list(folder + name) else { continue }
                narrow(list, "cpuset \(folder)", &files)
                break
            }
        }
        if let online = files.list("/sys/devices/system/cpu/online") { narrow(online, "online", &files) }
        return (usable, sources)
    }

    private static func nodeOfCPU(
        _ nodes: [Int], _ usable: CPUSet, _ files: inout SystemFiles
    ) -> [Int: Int] {
        var nodeOfCPU: [Int: Int] = [:]
        for node in nodes {
            let list = files.list("/sys/devices/system/node/node\(node)/cpulist")
            for cpu in list?.intersection(usable).numbers ?? [] {
                if let other = nodeOfCPU[cpu] {
                    files.note("ignored node \(node) for CPU \(cpu), which is on node \(other)")
                } else {
                    nodeOfCPU[cpu] = node
                }
            }
        }
        return nodeOfCPU
    }

    private static func nearest(
        _ withMemory: [Int], _ nodes: [Int], _ files: inout SystemFiles
    ) -> [Int: [Int]] {
        var nearest: [Int: [Int]] = [:]
        for node in nodes where !withMemory.contains(node) {
            let distances = distances(from: node, to: nodes, &files)
            let least = withMemory.compactMap { distances[$0] }.min()
            nearest[node] = withMemory.filter { distances[$0] == least }
        }
        return nearest
    }

    /// None where the kernel does not tell them: then all nodes are as near.
    private static func distances(from node: Int, to nodes: [Int], _ files: inout SystemFiles) -> [Int: Int] {
        let path = "/sys/devices/system/node/node\(node)/distance"
        guard let words = files.text(path)?.split(whereSeparator: \.isWhitespace) else { return [:] }
        let numbers = words.compactMap { Int($0) }
        // One for each node that is on, in ascending order.
        guard numbers.count == words.count, numbers.count == nodes.count else {
            files.note("ignored \(path), which has no number for each node")
            return [:]
        }
        return Dictionary(uniqueKeysWithValues: zip(nodes, numbers))
    }

    private static func coreOfCPU(_ cpus: CPUSet, _ files: inout SystemFiles) -> [Int: Int] {
        struct Place: Hashable { let package, core: Int }
        var coreOfCPU: [Int: Int] = [:]
        var firstOfPlace: [Place: Int] = [:]
        for cpu in cpus.numbers {
            let folder = "/sys/devices/system/cpu/cpu\(cpu)/topology"
            // The second is what the first was called before.
            let siblings = files.list(folder + "/core_cpus_list") ?? files.list(folder + "/thread_siblings_list")
            if let siblings, siblings.numbers.contains(cpu) {
                coreOfCPU[cpu] = siblings.numbers[0]
                continue
            }
            if let siblings { files.note("ignored that CPU \(cpu) shares a core with \(siblings), without itself") }
            // Cores are numbered anew in each package.
            guard let core = files.number(folder + "/core_id"), core >= 0 else { continue }
            let place = Place(package: files.number(folder + "/physical_package_id") ?? -1, core: core)
            coreOfCPU[cpu] = firstOfPlace[place] ?? cpu
            if firstOfPlace[place] == nil { firstOfPlace[place] = cpu }
        }
        return coreOfCPU
    }
}
