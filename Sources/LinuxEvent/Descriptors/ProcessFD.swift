internal import CLinux

/// One process, by a descriptor that never means another: pidfd_open(2).
///
/// - Owns: its descriptor (non-blocking, close-on-exec by birth); closed with it, or before. Closing it leaves the
///   process alone.
/// - Readable once the process has ended, all of its threads.
struct ProcessFD: ~Copyable {
    private let owned: OwnedDescriptor

    var descriptor: CInt { owned.number }

    /// - Throws: ESRCH for a number that is nobody's.
    init(_ pid: CInt) throws(LoopError) {
        let result = clinux_pidfd_open(pid)
        // A process that vanishes at this very moment is answered with EINVAL by some kernels.
        owned = OwnedDescriptor(try check("pidfd_open", result == -EINVAL && pid > 0 ? -ESRCH : result))
    }

    func close() { owned.close() }

    enum End {
        case running, notOurs
        case ended(ExitStatus)
    }

    /// How the process ended; takes its status away from the kernel, unless it is to be kept. Only ever this process's:
    /// a number could be another's by now, a pidfd cannot. Contract C3.
    func wait(keeping: Bool) -> End {
        var exit = clinux_exit()
        let result = uninterrupted(unsafe clinux_pidfd_wait(descriptor, keeping, &exit))
        if result == 0 || result == -EAGAIN { return .running }
        return result > 0 ? .ended(ExitStatus(exit)) : .notOurs
    }

    /// What the kernel still knows of a process whose status somebody else took; nil where it does not.
    var rememberedStatus: ExitStatus? {
        var exit = clinux_exit()
        return unsafe clinux_pidfd_remembered(descriptor, &exit) == 1 ? ExitStatus(exit) : nil
    }

    func signal(_ number: CInt) throws(LoopError) {
        try check("pidfd_send_signal", clinux_pidfd_signal(descriptor, number))
    }

    /// Not waited for by anyone yet: then its number cannot be another's.
    var exists: Bool { clinux_pidfd_signal(descriptor, 0) != -ESRCH }
}

extension ExitStatus {
    init(_ exit: clinux_exit) {
        switch exit.code {
        case CInt(CLD_EXITED): self = .exited(exit.status)
        case CInt(CLD_DUMPED): self = .dumpedCore(exit.status)
        default: self = .killed(exit.status)
        }
    }
}
