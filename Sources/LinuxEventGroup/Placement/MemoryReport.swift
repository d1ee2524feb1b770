internal import CLinux
internal import Glibc
internal import LinuxEvent

/// Where the memory of one shard lies, by the kernel's word: the tables of its loop, its mailbox, and the nodes that it
/// posts with. Contract G3.
package struct ShardMemory: Hashable, Sendable, CustomStringConvertible {
    package let shard: Int
    /// The CPU that its thread is pinned to.
    package let cpu: Int?
    /// That CPU's node, also where it is the only one.
    package let node: Int?
    /// Where its memory is to lie: on that node, or, if it has no memory, on the nearest that has.
    package let memoryNodes: [Int]
    /// All pages that hold some of it, by address.
    package let pages: [UInt]
    /// On one of `memoryNodes`.
    package let pagesOnNode: Int
    package let pagesElsewhere: Int
    /// Never touched, or the kernel may not be asked.
    package let pagesUnknown: Int

    package var description: String {
        "shard \(shard): CPU \(cpu.map(String.init) ?? "-"), node \(node.map(String.init) ?? "-"), "
            + (memoryNodes == node.map { [$0] } ?? [] ? "" : "memory of node \(CPUSet(memoryNodes)), ")
            + "\(pagesOnNode) pages on it, \(pagesElsewhere) elsewhere, \(pagesUnknown) unknown"
    }

    fileprivate init(_ core: ShardCore, _ loop: Loop, _ topology: Topology) {
        shard = core.index
        cpu = core.cpu
        node = core.cpu.flatMap { topology.cpu($0)?.node }
        memoryNodes = node.map(topology.memoryNodes) ?? []
        pages = Memory.pages(of: core.memory + loop.memory)
        let nodes = Memory.nodes(of: pages) ?? pages.map { _ in -EPERM }
        let known = nodes.filter { $0 >= 0 }
        let homes = memoryNodes
        pagesOnNode = known.count { homes.contains(Int($0)) }
        pagesElsewhere = known.count - pagesOnNode
        pagesUnknown = nodes.count - known.count
    }
}

extension ShardCore {
    /// What other threads write to: this object with the mailbox in it, the pool, and the pool's nodes.
    var memory: [MemoryRange] { [Self.range(of: self), Self.range(of: pool)] + pool.memory }

    private static func range(of object: AnyObject) -> MemoryRange {
        let address = unsafe Unmanaged.passUnretained(object).toOpaque()
        return unsafe MemoryRange(start: UInt(bitPattern: address), byteCount: Int(clinux_allocation_size(address)))
    }
}

extension LoopGroup {
    /// Where each shard's memory lies now. Each shard asks for itself, between two of its turns; one that has ended or
    /// does not come to it within the limit is left out.
    @available(*, noasync, message: "blocks the thread")
    package func memoryReport(within limit: Duration = .seconds(5)) throws(LoopGroupError) -> [ShardMemory] {
        try refuseOnShard()
        let found = Locked<[ShardMemory]>([])
        let answered = Latch(cores.count)
        for core in cores {
            let result = core.submit { [plan] shard in
                let memory = ShardMemory(shard.core, shard.loop, plan.topology)
                found.withLock { $0.append(memory) }
                answered.countDown()
            }
            if !result.isPosted { answered.countDown() }
        }
        answered.wait(until: Instant.now.advanced(by: limit))
        return found.withLock { $0.sorted { $0.shard < $1.shard } }
    }
}
