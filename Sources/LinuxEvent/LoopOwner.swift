internal import CLinux

/// The thread and the process that a loop belongs to. Every public entry asks: one load of thread-local memory, one of
/// a word that the kernel wipes in a child of fork, and a compare of each. Contract L1, L9.
struct LoopOwner {
    private let thread = clinux_thread()
    private let process: UInt32

    init() throws(LoopError) {
        process = UInt32(try check("mmap, madvise", clinux_process_mark()))
    }

    /// This is a child of the process that made the loop, by fork without exec: what is shared with the parent must not
    /// be touched. Ends the process on a wrong thread.
    @inline(__always)
    var isForeign: Bool {
        if thread != clinux_thread() {
            contractViolation("a loop and its handles belong to the thread that made the loop (Contract L1)")
        }
        return process != clinux_process()
    }
}
