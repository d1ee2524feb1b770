internal import CLinux
internal import Glibc
internal import LinuxEvent

#if NUMA
internal import CNuma
#endif

/// Memory nodes, where the machine has several: numa(3). Preferred, never demanded: where the kernel refuses, or there
/// is one node, nothing is done. Contract G3.
enum Memory {
    private static let pageSize = UInt(sysconf(CInt(_SC_PAGESIZE)))

    #if NUMA
    private static let policyOfBinding: CInt = 2

    /// libnuma must be asked this first, once. Of a machine with one node there is nothing to choose.
    private static let hasNodes = numa_available() >= 0 && numa_max_node() > 0

    /// Whoever started the process may have bound its memory to nodes: that is an order, and stays.
    private static var mayChoose: Bool {
        guard hasNodes else { return false }
        let policy = clinux_memory_policy()
        return policy >= 0 && policy != policyOfBinding
    }
    #endif

    /// What the calling thread allocates from here on comes from the node that it runs on, while there is room.
    static func preferLocal() {
        #if NUMA
        if mayChoose { numa_set_localalloc() }
        #endif
    }

    /// Gives what the allocator has and does not use back to the kernel, before threads are started. A new thread may
    /// get the heap of one that has ended, and its pages would stay on the node where that one ran.
    static func forgetUnused() {
        #if NUMA
        if mayChoose { clinux_allocator_trim() }
        #endif
    }

    /// Moves pages that lie elsewhere: those of an earlier thread's heap that were not given back, and those that the
    /// kernel has moved to a thread of another node that uses them.
    ///
    /// - Parameter homes: nodes that have memory; where a page is on one of them, it stays.
    static func bringHome(_ ranges: [MemoryRange], to homes: [Int]) {
        #if NUMA
        let homes = homes.map { CInt(clamping: $0) }
        guard mayChoose, let home = homes.first else { return }
        let pages = pages(of: ranges)
        guard let nodes = nodes(of: pages) else { return }
        let strays = zip(pages, nodes).filter { $0.1 >= 0 && !homes.contains($0.1) }.map(\.0)
        guard !strays.isEmpty else { return }
        var status = [CInt](repeating: 0, count: strays.count)
        _ = unsafe clinux_move_pages(
            strays, [CInt](repeating: home, count: strays.count), &status, UInt(strays.count))
        #endif
    }

    /// The addresses of all pages that have a part in the ranges, each once.
    static func pages(of ranges: [MemoryRange]) -> [UInt] {
        var pages: Set<UInt> = []
        for range in ranges where range.byteCount > 0 {
            let last = range.start + UInt(range.byteCount) - 1
            for page in range.start / pageSize...last / pageSize { pages.insert(page * pageSize) }
        }
        return pages.sorted()
    }

    /// The kernel's word on where each page lies, or -errno for a page that was never touched: move_pages(2). Nil where
    /// it may not be asked.
    static func nodes(of pages: [UInt]) -> [CInt]? {
        guard !pages.isEmpty else { return [] }
        var status = [CInt](repeating: -ENOENT, count: pages.count)
        guard unsafe clinux_move_pages(pages, nil, &status, UInt(pages.count)) >= 0 else { return nil }
        return status
    }
}
