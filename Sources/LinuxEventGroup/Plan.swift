internal import CLinux
internal import LinuxEvent

/// Which shard runs on which CPU. Contract G1.
public struct Plan: Hashable, Sendable, CustomStringConvertible {
    /// Where one shard runs.
    public struct Placement: Hashable, Sendable {
        /// The shard's number, from 0.
        public let shard: Int
        /// The CPU that its thread is pinned to, as the kernel numbers them.
        public let cpu: Int
        /// The CPU's memory node; nil on a machine with one node, or without libnuma.
        public let node: Int?
    }

    /// A placement for each shard, in the order of their numbers.
    public let shards: [Placement]
    /// The CPUs that this process may run on.
    public let usableCPUs: [Int]

    public var description: String {
        let used = min(shards.count, usableCPUs.count)
        var text = "shards: \(shards.count), on \(used) of \(usableCPUs.count) usable CPUs"
        for placement in shards {
            text += "\n  shard \(placement.shard): CPU \(placement.cpu)"
            if let node = placement.node { text += ", node \(node)" }
        }
        return text
    }

    /// One shard per CPU of the affinity mask, or `threads` of them, in turn where there are more than CPUs.
    init(threads: Int?) throws(LoopGroupError) {
        if let threads, !(1...Router.shardLimit).contains(threads) { throw .invalidThreads(threads) }
        usableCPUs = try Self.affinityMask()
        let cpus = usableCPUs
        shards = (0..<(threads ?? cpus.count)).map { index in
            let cpu = cpus[index % cpus.count]
            return Placement(shard: index, cpu: cpu, node: Memory.node(ofCPU: cpu))
        }
    }

    /// sched_getaffinity(2) of the calling thread: cpusets are part of it.
    private static func affinityMask() throws(LoopGroupError) -> [Int] {
        var cpus = [CInt](repeating: 0, count: 8192)
        let count = unsafe cpus.withUnsafeMutableBufferPointer {
            unsafe clinux_affinity_get($0.baseAddress, CInt($0.count))
        }
        guard count > 0 else { throw .thread(shard: 0, SystemError(call: "sched_getaffinity", code: -count)) }
        return cpus.prefix(Int(count)).map(Int.init)
    }
}
