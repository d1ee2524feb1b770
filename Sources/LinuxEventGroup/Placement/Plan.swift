/// How many shards a group has, which CPU each runs on, and why. Contract G2.
///
/// A value: making one starts nothing. `LoopGroup(plan:)` starts exactly what it says.
public struct Plan: Hashable, Sendable, CustomStringConvertible {
    /// Where one shard runs.
    public struct Place: Hashable, Sendable, CustomStringConvertible {
        /// The shard's number, from 0.
        public let shard: Int
        /// The CPU that its thread is pinned to, as the kernel numbers them; nil for a thread that is not pinned.
        public let cpu: Int?
        /// The core that this CPU is a thread of, by the core's lowest CPU number; nil without a CPU.
        public let core: Int?
        /// The CPU's memory node; nil on a machine with one node, or without a CPU.
        public let node: Int?
        /// A usable CPU with a lower number is of the same core.
        public let isSibling: Bool

        public var description: String {
            guard let cpu, let core else { return "shard \(shard): unpinned" }
            return "shard \(shard): CPU \(cpu), core \(core)" + (node.map { ", node \($0)" } ?? "")
                + (isSibling ? ", sibling" : "")
        }
    }

    /// A place for each shard, in the order of their numbers.
    public let shards: [Place]
    /// What the plan was made from.
    public let topology: Topology
    /// Whether a shard that has nothing to do may look for work a while before it sleeps. That takes a CPU of its own,
    /// and is paid for out of a CPU quota.
    public let allowsSpinning: Bool
    /// Why it is this plan, one sentence each.
    public let reasons: [String]

    /// The CPUs that this process may run on.
    public var usableCPUs: [Int] { topology.cpus.map(\.number) }

    public var description: String {
        let used = Set(shards.compactMap(\.cpu)).count
        var text = "shards: \(shards.count), "
        text += used == 0 ? "unpinned" : "on \(used) of \(topology.cpus.count) usable CPUs"
        for place in shards { text += "\n  \(place)" }
        for reason in reasons { text += "\n  \(reason)" }
        return text
    }

    /// - Parameters:
    ///   - threads: how many; nil takes as many as `placement` lists, or as the process can make use of.
    ///   - topology: the machine to plan for.
    package init(
        threads: Int? = nil, placement: Placement = .automatic, topology: Topology
    ) throws(LoopGroupError) {
        if let threads, !(1...Router.shardLimit).contains(threads) { throw .invalidThreads(threads) }
        let usable = topology.cpus.count
        var reasons: [String] = []
        let tightQuota = topology.quota.flatMap { $0.cpus < Double(usable) ? $0 : nil }

        let order: [Int?]?
        if case .automatic = placement, tightQuota != nil { order = nil } else { order = try placement.order(topology) }

        let count: Int
        (count, reasons) = Self.count(threads, placement, order, topology, tightQuota)
        if count > Router.shardLimit { throw .invalidThreads(count) }
        reasons.append(Self.reason(for: placement, tightQuota))

        var shards: [Place] = []
        for shard in 0..<count {
            let cpu = order.flatMap { $0[shard % $0.count] }.flatMap { topology.cpu($0) }
            shards.append(
                Place(
                    shard: shard, cpu: cpu?.number, core: cpu?.core,
                    node: topology.hasSeveralNodes ? cpu?.node : nil, isSibling: cpu?.isSibling ?? false))
        }
        let pinned = shards.compactMap(\.cpu)
        let areShared = Set(pinned).count < pinned.count
        if areShared { reasons.append("there are more shards than CPUs to pin them to: these are handed out in turn") }

        let obstacle = Self.obstacleToSpinning(tightQuota, areShared || count > usable, usable)
        allowsSpinning = obstacle == nil
        if let obstacle { reasons.append("spinning does not pay: \(obstacle)") }

        reasons.append("CPU quota: " + (topology.quota.map { "\($0)" } ?? "none"))
        for node in Set(shards.compactMap(\.node)).subtracting(topology.nodesWithMemory).sorted() {
            let nearest = CPUSet(topology.memoryNodes(of: node))
            reasons.append("node \(node) has no memory: its shards take the nearest, that of node \(nearest)")
        }
        self.shards = shards
        self.topology = topology
        self.reasons = reasons + topology.notes
    }

    private static func count(
        _ threads: Int?, _ placement: Placement, _ order: [Int?]?, _ topology: Topology, _ tightQuota: CPUQuota?
    ) -> (count: Int, reasons: [String]) {
        let usable = topology.cpus.count
        if let threads {
            var reasons = ["\(threads) shards: asked for"]
            if let tightQuota, threads > tightQuota.threads {
                reasons.append("the CPU quota allows \(tightQuota): more shards than \(tightQuota.threads) wait for it")
            }
            return (threads, reasons)
        }
        switch placement {
        case .listed, .custom:
            let listed = order?.count ?? usable
            return (listed, ["\(listed) shards: one for each entry of the placement"])
        case .automatic, .unpinned, .spread, .pack:
            if let tightQuota, tightQuota.threads < usable {
                let count = tightQuota.threads
                return (count, ["\(count) shards: \(usable) CPUs are usable, but the CPU quota allows \(tightQuota)"])
            }
            if usable > Router.shardLimit {
                return (Router.shardLimit, ["\(Router.shardLimit) shards: a group has no more"])
            }
            return (usable, ["\(usable) shards: one for each usable CPU"])
        }
    }

    private static func obstacleToSpinning(_ tightQuota: CPUQuota?, _ areShared: Bool, _ usable: Int) -> String? {
        if tightQuota != nil { return "it is paid for out of the CPU quota" }
        if areShared { return "shards share CPUs" }
        return usable == 1 ? "there is one CPU" : nil
    }

    private static func reason(for placement: Placement, _ tightQuota: CPUQuota?) -> String {
        switch placement {
        case .automatic where tightQuota != nil:
            "unpinned: a CPU quota below the number of usable CPUs is best used where the scheduler finds room"
        case .automatic: "pinned: physical cores before their siblings, node by node"
        case .unpinned: "unpinned: asked for"
        case .spread: "pinned: spread over nodes and cores, as asked for"
        case .pack: "pinned: packed into cores and nodes, as asked for"
        case .listed: "pinned: as listed"
        case .custom: "placed by the caller's closure"
        }
    }
}

extension LoopGroup {
    /// What a group with these parameters would be: how many shards, where, and why. Starts nothing. Contract G2.
    ///
    /// It is made for the calling thread: the CPUs that this one may use, now.
    ///
    /// - Parameters:
    ///   - threads: how many; nil takes as many as the process may really use, by its affinity mask, its cpuset, the
    ///     CPUs that are on, and the CPU quotas of its control group and all above it. With `listed` and `custom`: one
    ///     for each entry.
    ///   - placement: which CPUs they get.
    /// - Throws: `.invalidThreads`, `.unusableCPU`, `.noCPUs`, or `.placement` with what the closure threw.
    public static func plan(
        threads: Int? = nil, placement: Placement = .automatic
    ) throws(LoopGroupError) -> Plan {
        if let threads, !(1...Router.shardLimit).contains(threads) { throw .invalidThreads(threads) }
        return try Plan(threads: threads, placement: placement, topology: Topology())
    }
}
