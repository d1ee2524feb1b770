#if NUMA
internal import CNuma
#endif

/// Memory nodes, where the machine has several: numa(3). Preferred, never demanded.
enum Memory {
    #if NUMA
    /// libnuma must be asked this first, once.
    private static let hasNodes = numa_available() >= 0 && numa_max_node() > 0
    #else
    private static let hasNodes = false
    #endif

    /// Nil on a machine with one node: then there is nothing to choose.
    static func node(ofCPU cpu: Int) -> Int? {
        #if NUMA
        guard hasNodes else { return nil }
        let node = numa_node_of_cpu(CInt(cpu))
        return node >= 0 ? Int(node) : nil
        #else
        return nil
        #endif
    }

    /// What the calling thread allocates from here on comes from the node that it runs on, while there is room.
    static func preferLocal() {
        #if NUMA
        if hasNodes { numa_set_localalloc() }
        #endif
    }
}
