import CLinux
import Glibc

/// A way in which one kind of call may fail, and what has to come of it.
struct Fault {
    enum Outcome {
        /// The user's call throws, or the turn does.
        case refused
        /// Nobody hears of it.
        case passed
        /// One or the other: it depends on what the loop made the call for.
        case either
    }

    let kind: clinux_call
    let code: CInt
    let outcome: Outcome
    /// What the error may hold. Most often the errno itself.
    let answers: [CInt]
    let reason: String

    init(
        _ kind: clinux_call, _ code: CInt, _ outcome: Outcome, answers: [CInt]? = nil, _ reason: String
    ) {
        self.kind = kind
        self.code = code
        self.outcome = outcome
        self.answers = answers ?? [code]
        self.reason = reason
    }

    /// A fault that was put in from outside, where the kinds of one call are all the same, may hit one that would not
    /// meet this errno. What was not removed is then in the way of what is to be added.
    static func outside(_ kind: clinux_call, _ code: CInt) -> [Fault] {
        [Fault(kind, code, .either, answers: [code, EEXIST], "from outside")]
    }

    /// The kernel's word that a watched descriptor is not the one that it was given. (That it has no memory, or no
    /// room, for what is there already says nothing.)
    var saysClosed: Bool {
        switch kind {
        case .epollAdd: ![ENOMEM, ENOSPC].contains(code)
        case .epollDel, .epollMod: true
        default: false
        }
    }

    var name: String { "\(kind.name) \(Errno.name(code))" }

    /// Every errno that a man page gives for a kind of call, if our way of using it can meet it. What is left out:
    ///
    /// - EFAULT: all pointers are the shim's own.
    /// - EBADF of what the loop owns and nobody hears the error of (eventfd, close): somebody closed it, against L5.
    /// - EPOLL_CTL_DEL, ENOMEM: to remove takes no memory. EPOLL_CTL_ADD has it, and EPOLL_CTL_MOD for the man page's
    ///   sake.
    /// - timerfd_settime, ECANCELED: only with TFD_TIMER_CANCEL_ON_SET.
    /// - sigtimedwait, EAGAIN: it is the answer that nothing is pending, and no failure. EINVAL: the time is a
    ///   constant.
    /// - pthread_sigmask that unblocks, EINVAL: `how` is a constant. (That which blocks has it, for seccomp's sake.)
    /// - waitid, EINVAL: kernels before 5.4.
    static let table: [Fault] = [
        // A loop, or `loop.descriptor`, is refused. A rebuild does without, and the old set serves on.
        Fault(.epollCreate, EMFILE, .either, "the process's descriptors, or the user's sets, are at their limit"),
        Fault(.epollCreate, ENFILE, .either, "the system's files are at their limit"),
        Fault(.epollCreate, ENOMEM, .either, "no memory"),
        Fault(.epollCreate, EINVAL, .either, "the flag is not known"),
        Fault(.epollCreate, ENOSYS, .either, "a filter knows no such call: L16"),

        // A watch, or what needs one. In an audit and a rebuild nobody hears of it.
        Fault(.epollAdd, EBADF, .either, "another thread closed the descriptor"),
        Fault(
            .epollAdd, EEXIST, .either, answers: [EEXIST, ENOENT],
            "a copy got the old number: then it is a MOD, to which the kernel says here that nothing is there"),
        Fault(.epollAdd, EINVAL, .either, "the number is the set's own by now, or the mask does not go with it"),
        Fault(.epollAdd, ELOOP, .either, "sets that watch each other"),
        Fault(.epollAdd, ENOMEM, .either, "no memory"),
        Fault(.epollAdd, ENOSPC, .either, "the user's limit of watched descriptors"),
        Fault(.epollAdd, EPERM, .either, "a regular file got the number"),

        // To change interest is refused outside a turn. At the end of a turn it means that the descriptor was closed.
        Fault(.epollMod, EBADF, .either, "closed unwatched"),
        Fault(
            .epollMod, ENOENT, .either, answers: [ENOENT, EEXIST],
            "closed unwatched, and the number is another file's: then it is an ADD, which is refused here"),
        Fault(.epollMod, EPERM, .either, "closed unwatched, and the number is a regular file's"),
        Fault(.epollMod, EINVAL, .either, "closed unwatched, and the number is the set's own"),
        Fault(.epollMod, ENOMEM, .either, "the man page has it, though a MOD takes no memory"),

        // Nothing is left to undo, except where an exclusive entry must be out before it can be in again.
        Fault(.epollDel, EBADF, .either, answers: [EBADF, EEXIST], "closed unwatched"),
        Fault(
            .epollDel, ENOENT, .either, answers: [ENOENT, EEXIST],
            "closed unwatched, and the number is another file's"),

        Fault(.epollWait, EINTR, .passed, "a signal handler, a stop, a debugger: L7"),
        Fault(.epollWait, EBADF, .refused, "somebody closed the loop's set: L2"),
        Fault(.epollWait, EINVAL, .refused, "somebody put another file in its place"),

        Fault(.eventfd, EMFILE, .refused, "the process's descriptors are at their limit"),
        Fault(.eventfd, ENFILE, .refused, "the system's files are at their limit"),
        Fault(.eventfd, ENODEV, .refused, "no anonymous inodes"),
        Fault(.eventfd, ENOMEM, .refused, "no memory"),
        Fault(.eventfd, EINVAL, .refused, "the flags are not known"),
        Fault(.eventfd, ENOSYS, .refused, "a filter knows no such call: L16"),

        Fault(.eventfdWrite, EAGAIN, .passed, "the counter is full: it is read, and written again"),
        Fault(.eventfdWrite, EINTR, .passed, "another holder made it blocking"),
        Fault(.eventfdDrain, EAGAIN, .passed, "another reader was faster"),
        Fault(.eventfdDrain, EINTR, .passed, "a signal handler"),
        Fault(.eventfdDrain, EOPNOTSUPP, .passed, "a kernel whose eventfd knows no RWF_NOWAIT: poll and read"),
        Fault(.eventfdPoll, EINTR, .passed, "a signal handler"),
        Fault(.eventfdPoll, ENOMEM, .passed, "no memory; the next turn tries again"),
        Fault(.eventfdRead, EAGAIN, .passed, "another reader was faster"),
        Fault(.eventfdRead, EINTR, .passed, "a signal handler"),

        Fault(.timerfdCreate, EMFILE, .refused, "the process's descriptors are at their limit"),
        Fault(.timerfdCreate, ENFILE, .refused, "the system's files are at their limit"),
        Fault(.timerfdCreate, ENODEV, .refused, "no anonymous inodes"),
        Fault(.timerfdCreate, ENOMEM, .refused, "no memory"),
        Fault(.timerfdCreate, EINVAL, .refused, "the flags are not known"),
        Fault(.timerfdCreate, ENOSYS, .refused, "a filter knows no such call: L16"),

        // The wait throws, or a foreign loop is told that there is something to do.
        Fault(.timerfdSettime, EBADF, .either, "somebody closed the loop's alarm"),
        Fault(.timerfdSettime, EINVAL, .either, "somebody put another file in its place"),

        // The old set serves on, or it is tried again.
        Fault(.dup3, EBADF, .passed, "the number is above a limit that was lowered"),
        Fault(.dup3, EBUSY, .passed, "a race with open in another thread"),
        Fault(.dup3, EINTR, .passed, "a signal handler"),
        Fault(.dup3, EINVAL, .passed, "the flag is not known"),
        Fault(.dup3, EMFILE, .passed, "the process's descriptors are at their limit"),

        // The descriptor is gone all the same.
        Fault(.close, EINTR, .passed, "a signal handler"),
        Fault(.close, EIO, .passed, "a device"),

        Fault(.signalfdCreate, EMFILE, .refused, "the process's descriptors are at their limit"),
        Fault(.signalfdCreate, ENFILE, .refused, "the system's files are at their limit"),
        Fault(.signalfdCreate, ENODEV, .refused, "no anonymous inodes"),
        Fault(.signalfdCreate, ENOMEM, .refused, "no memory"),
        Fault(.signalfdCreate, EINVAL, .refused, "the flags are not known"),
        Fault(.signalfdCreate, ENOSYS, .refused, "a filter knows no such call: L16"),
        // A claim is refused. To give a signal back goes on without.
        Fault(.signalfdChange, EBADF, .either, "somebody closed the descriptor"),
        Fault(.signalfdChange, EINVAL, .either, "somebody put another file in its place"),
        Fault(.signalfdRead, EINTR, .passed, "a signal handler"),
        Fault(.signalfdRead, EAGAIN, .passed, "another reader was faster"),
        Fault(.sigmaskBlock, EINVAL, .refused, "a filter"),
        Fault(.sigtimedwait, EINTR, .passed, "a handler of another signal; what is pending is still to be taken off"),
        Fault(.tasksOpen, EMFILE, .refused, "the process's descriptors are at their limit"),
        Fault(.tasksOpen, ENFILE, .refused, "the system's files are at their limit"),
        Fault(.tasksOpen, ENOMEM, .refused, "no memory"),
        Fault(.tasksOpen, ENOENT, .passed, "no /proc: nobody can tell"),
        Fault(.tasksOpen, EACCES, .passed, "a filter: nobody can tell"),
        Fault(.taskStatusOpen, EMFILE, .refused, "the process's descriptors are at their limit"),
        Fault(.taskStatusOpen, ENFILE, .refused, "the system's files are at their limit"),
        Fault(.taskStatusOpen, ENOMEM, .refused, "no memory"),
        Fault(.taskStatusOpen, ENOENT, .passed, "the thread has ended meanwhile"),
        Fault(.taskStatusOpen, ESRCH, .passed, "the thread has ended meanwhile"),

        Fault(.pidfdOpen, EMFILE, .refused, "the process's descriptors are at their limit"),
        Fault(.pidfdOpen, ENFILE, .refused, "the system's files are at their limit"),
        Fault(.pidfdOpen, ENODEV, .refused, "no anonymous inodes"),
        Fault(.pidfdOpen, ENOMEM, .refused, "no memory"),
        Fault(.pidfdOpen, ESRCH, .refused, "nobody has the number"),
        Fault(.pidfdOpen, EINVAL, .refused, answers: [ESRCH], "a process that vanishes just now"),
        Fault(.pidfdOpen, ENOSYS, .refused, "a filter knows no such call: L16"),
        Fault(.pidfdWaitid, EINTR, .passed, "a signal handler; the status is still to be taken"),
        Fault(.pidfdWaitid, EAGAIN, .passed, "it has not ended yet"),
        Fault(.pidfdWaitid, ECHILD, .passed, "not ours to wait for: told as unknown"),
        Fault(.pidfdInfo, ENOTTY, .passed, "before Linux 6.13: told as unknown"),
        Fault(.pidfdInfo, EINVAL, .passed, "another size of the struct: told as unknown"),
        Fault(.pidfdInfo, ESRCH, .passed, "nothing is remembered: told as unknown"),
        // `kill` is refused. To look whether a process is still there goes by the answer.
        Fault(.pidfdSignal, EBADF, .either, "somebody closed the descriptor"),
        Fault(.pidfdSignal, EINVAL, .either, "no such signal"),
        Fault(.pidfdSignal, EPERM, .either, "another user's process"),
        Fault(.pidfdSignal, ESRCH, .either, "it was waited for"),

        // In a process of their own: the page is made once.
        Fault(.markMmap, ENOMEM, .refused, "no memory, or too many mappings"),
        Fault(.markMmap, EAGAIN, .refused, "too much memory is locked"),
        Fault(.markMadvise, ENOMEM, .refused, "no memory"),
        Fault(.markMadvise, EAGAIN, .refused, "a resource is exhausted for now"),
        Fault(.markMadvise, EINVAL, .refused, "before Linux 4.14"),
    ]
}

/// The names of errnos, which Glibc's module lacks.
enum Errno {
    private static let names: [CInt: String] = [
        EACCES: "EACCES", EAGAIN: "EAGAIN", EBADF: "EBADF", EBUSY: "EBUSY", ECHILD: "ECHILD", EEXIST: "EEXIST",
        EINTR: "EINTR", EINVAL: "EINVAL", EIO: "EIO", ELOOP: "ELOOP", EMFILE: "EMFILE", ENFILE: "ENFILE",
        ENODEV: "ENODEV", ENOENT: "ENOENT", ENOMEM: "ENOMEM", ENOSPC: "ENOSPC", ENOSYS: "ENOSYS", ENOTTY: "ENOTTY",
        EOPNOTSUPP: "EOPNOTSUPP", EPERM: "EPERM", ESRCH: "ESRCH",
    ]

    static func name(_ code: CInt) -> String { names[code] ?? "errno \(code)" }
    static func code(_ name: String) -> CInt? { names.first { $0.value == name }?.key }
}

extension clinux_call {
    static let epollCreate = CLINUX_CALL_EPOLL_CREATE
    static let epollAdd = CLINUX_CALL_EPOLL_ADD
    static let epollDel = CLINUX_CALL_EPOLL_DEL
    static let epollMod = CLINUX_CALL_EPOLL_MOD
    static let epollWait = CLINUX_CALL_EPOLL_WAIT
    static let eventfd = CLINUX_CALL_EVENTFD
    static let eventfdWrite = CLINUX_CALL_EVENTFD_WRITE
    static let eventfdDrain = CLINUX_CALL_EVENTFD_DRAIN
    static let eventfdPoll = CLINUX_CALL_EVENTFD_POLL
    static let eventfdRead = CLINUX_CALL_EVENTFD_READ
    static let timerfdCreate = CLINUX_CALL_TIMERFD_CREATE
    static let timerfdSettime = CLINUX_CALL_TIMERFD_SETTIME
    static let dup3 = CLINUX_CALL_DUP3
    static let close = CLINUX_CALL_CLOSE
    static let signalfdCreate = CLINUX_CALL_SIGNALFD_CREATE
    static let signalfdChange = CLINUX_CALL_SIGNALFD_CHANGE
    static let signalfdRead = CLINUX_CALL_SIGNALFD_READ
    static let sigmaskBlock = CLINUX_CALL_SIGMASK_BLOCK
    static let sigmaskUnblock = CLINUX_CALL_SIGMASK_UNBLOCK
    static let sigtimedwait = CLINUX_CALL_SIGTIMEDWAIT
    static let tasksOpen = CLINUX_CALL_TASKS_OPEN
    static let taskStatusOpen = CLINUX_CALL_TASK_STATUS_OPEN
    static let pidfdOpen = CLINUX_CALL_PIDFD_OPEN
    static let pidfdWaitid = CLINUX_CALL_PIDFD_WAITID
    static let pidfdInfo = CLINUX_CALL_PIDFD_INFO
    static let pidfdSignal = CLINUX_CALL_PIDFD_SIGNAL
    static let markMmap = CLINUX_CALL_MARK_MMAP
    static let markMadvise = CLINUX_CALL_MARK_MADVISE

    static var all: [clinux_call] { (0..<CLINUX_CALL_LOOP_KINDS.rawValue).map { clinux_call(rawValue: $0) } }

    /// What the call is named, as in a `SystemError` or before a word of its own; and what strace calls it on x86-64.
    private var names: (name: String, systemCall: String) {
        switch self {
        case .epollCreate: ("epoll_create1", "epoll_create1")
        case .epollAdd: ("epoll_ctl ADD", "epoll_ctl")
        case .epollDel: ("epoll_ctl DEL", "epoll_ctl")
        case .epollMod: ("epoll_ctl MOD", "epoll_ctl")
        case .epollWait: ("epoll_wait", "epoll_wait")
        case .eventfd: ("eventfd", "eventfd2")
        case .eventfdWrite: ("write eventfd", "write")
        case .eventfdDrain: ("preadv2 eventfd", "preadv2")
        case .eventfdPoll: ("poll eventfd", "poll")
        case .eventfdRead: ("read eventfd", "read")
        case .timerfdCreate: ("timerfd_create", "timerfd_create")
        case .timerfdSettime: ("timerfd_settime", "timerfd_settime")
        case .dup3: ("dup3", "dup3")
        case .close: ("close", "close")
        case .signalfdCreate: ("signalfd new", "signalfd4")
        case .signalfdChange: ("signalfd change", "signalfd4")
        case .signalfdRead: ("read signalfd", "read")
        case .sigmaskBlock: ("pthread_sigmask block", "rt_sigprocmask")
        case .sigmaskUnblock: ("pthread_sigmask unblock", "rt_sigprocmask")
        case .sigtimedwait: ("sigtimedwait", "rt_sigtimedwait")
        case .tasksOpen: ("open /proc/self/task", "openat")
        case .taskStatusOpen: ("open /proc/self/task/*/status", "openat")
        case .pidfdOpen: ("pidfd_open", "pidfd_open")
        case .pidfdWaitid: ("waitid", "waitid")
        case .pidfdInfo: ("ioctl PIDFD_GET_INFO", "ioctl")
        case .pidfdSignal: ("pidfd_send_signal", "pidfd_send_signal")
        case .markMmap: ("mmap", "mmap")
        case .markMadvise: ("madvise", "madvise")
        default: ("?", "?")
        }
    }

    /// A fault that was put in from outside, where the kinds of one call are all the same, may hit one that would not
    /// meet this errno. What was not removed is then in the way of what is to be added.
    static func outside(_ kind: clinux_call, _ code: CInt) -> [Fault] {
        [Fault(kind, code, .either, answers: [code, EEXIST], "from outside")]
    }

    var name: String { names.name }
    var systemCall: String { names.systemCall }
    /// The first word of the name: what an error is named by.
    var errorName: String { String(name.prefix { $0 != " " }) }
}
