internal import CLinux
internal import LinuxEvent

/// Which CPUs the calling thread may run on: sched_setaffinity(2).
enum Affinity {
    /// The CPUs of the mask. Cpusets are part of it.
    static func cpus() throws(SystemError) -> [Int] {
        var cpus = [CInt](repeating: 0, count: 8192)
        let count = unsafe cpus.withUnsafeMutableBufferPointer {
            unsafe clinux_affinity_get($0.baseAddress, CInt($0.count))
        }
        guard count > 0 else { throw SystemError(call: "sched_getaffinity", code: -count) }
        return cpus.prefix(Int(count)).map(Int.init)
    }

    /// Whether the mask is this CPU and no other.
    static func isPinned(to cpu: Int) -> Bool {
        var only: CInt = -1
        return unsafe clinux_affinity_get(&only, 1) == 1 && Int(only) == cpu
    }

    /// Binds the thread to one CPU. The kernel refuses one that is offline, or outside the cpuset.
    static func pin(to cpu: Int) throws(SystemError) {
        let result = clinux_affinity_pin(CInt(clamping: cpu))
        if result < 0 { throw SystemError(call: "sched_setaffinity", code: -result) }
    }
}
