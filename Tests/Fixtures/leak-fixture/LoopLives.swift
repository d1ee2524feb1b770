import CLinux
import Glibc
import LinuxEvent

/// Loops with everything on them, ended in every way.
enum LoopLives {
    static func all() throws {
        for ending in Ending.allCases {
            try life(ending)
        }
        try failures()
    }

    enum Ending: CaseIterable { case cancelled, closed, dropped }

    private static func life(_ ending: Ending) throws {
        let pipes = (0..<64).map { _ in TwoEnds() }
        let loop = try Loop()
        var watchers: [Watcher] = []
        for (index, pipe) in pipes.enumerated() {
            let load = Load()
            watchers.append(
                try loop.watch(
                    pipe.near,
                    read: { _, fd, _, data in
                        data.touch()
                        drain(fd)
                    }, error: { _, _, _, _ in load.touch() },
                    data: Load(), edgeTriggered: index % 3 == 1, oneshot: index % 3 == 2))
        }
        // Replaced, with interest changed, parked, closed under the loop.
        for pipe in pipes.prefix(16) { try loop.watch(pipe.near, read: { [load = Load()] _, _, _ in load.touch() }) }
        for watcher in watchers.suffix(16) { try watcher.disableRead() }
        for pipe in pipes.suffix(8) { pipe.closeFar() }
        // A number beyond the others needs memory of its own in the table.
        let high = fcntl(pipes[20].near, F_DUPFD_CLOEXEC, 900)
        try loop.watch(
            high,
            read: { [load = Load()] _, _, watcher in
                load.touch()
                watcher.cancel()
            })
        let copy = fcntl(pipes[30].near, F_DUPFD_CLOEXEC, 0)
        pipes[30].closeNear()

        var timers: [Timer] = []
        for index in 0..<300 {
            timers.append(loop.after(.microseconds(index)) { [load = Load()] _, _ in load.touch() })
            timers.append(loop.after(.seconds(index)) { [load = Load()] _, _ in load.touch() })
        }
        try loop.every(.microseconds(50)) { [load = Load()] _, timer in
            load.touch()
            if timer.missedPeriods > 3 { timer.cancel() }
        }
        let event = try loop.eventfd { [load = Load()] _, _ in load.touch() }
        event.signaller.signal(2)
        loop.onWake { [load = Load()] _ in load.touch() }
        loop.waker.signal()
        loop.defer { [load = Load()] loop in
            load.touch()
            loop.defer { [load = Load()] _ in load.touch() }
        }
        try loop.signal(SIGUSR1) { [load = Load()] _, _ in load.touch() }
        let subscription = try loop.signal(SIGUSR2) { [load = Load()] _, _ in load.touch() }
        kill(getpid(), SIGUSR1)
        kill(getpid(), SIGUSR2)
        let pid = start()
        try loop.childExit(pid) { [load = Load()] _, _ in load.touch() }
        let second = try loop.childExit(pid) { [load = Load()] _, _ in load.touch() }
        _ = try loop.descriptor

        for pipe in pipes.dropLast(8) { pipe.write() }
        for _ in 0..<20 { try loop.runOnce(timeout: .milliseconds(1)) }
        for watcher in watchers where watcher.isActive && !watcher.isArmed { try watcher.rearm() }
        for _ in 0..<5 { try loop.runOnce(timeout: .zero) }
        close(copy)

        switch ending {
        case .cancelled:
            for pipe in pipes where pipe.near >= 0 { try loop.unwatch(pipe.near) }
            for timer in timers { timer.cancel() }
            event.cancel()
            subscription.cancel()
            second.cancel()
        case .closed:
            try loop.close()
            // Handles that outlive their loop.
            for watcher in watchers { watcher.cancel() }
            for timer in timers { timer.cancel() }
        case .dropped: break
        }
        close(high)
        waitpid(pid, nil, 0)
    }

    /// What is refused must not leave anything behind either.
    private static func failures() throws {
        let loop = try Loop()
        let file = open("/dev/null", O_RDONLY | O_CLOEXEC)
        defer { close(file) }
        for descriptor in [file, -1, 1_000_000] {
            _ = try? loop.watch(descriptor, read: { [load = Load()] _, _, _ in load.touch() })
        }
        _ = try? loop.every(.zero) { [load = Load()] _, _ in load.touch() }
        _ = try? loop.signal(SIGKILL) { [load = Load()] _, _ in load.touch() }
        _ = try? loop.childExit(CInt.max) { [load = Load()] _, _ in load.touch() }
        try loop.close()
        loop.after(.zero) { [load = Load()] _, _ in load.touch() }
        loop.defer { [load = Load()] _ in load.touch() }
        _ = try? loop.eventfd { [load = Load()] _, _ in load.touch() }
    }

    private static func start() -> pid_t {
        var pid: pid_t = 0
        var words: [UnsafeMutablePointer<CChar>?] = [strdup("true"), nil]
        let result = posix_spawnp(&pid, "true", nil, nil, &words, environ)
        free(words[0])
        if result != 0 { fatalError("preparation: posix_spawnp: \(result)") }
        return pid
    }
}

/// A socketpair that closes with the object.
final class TwoEnds {
    private(set) var near: CInt
    private(set) var far: CInt

    init() {
        var ends: [CInt] = [-1, -1]
        let type = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, type, 0, &ends) == 0 else { fatalError("preparation: socketpair") }
        (near, far) = (ends[0], ends[1])
    }

    func write() { _ = Glibc.write(far, "x", 1) }

    func closeNear() {
        close(near)
        near = -1
    }

    func closeFar() {
        close(far)
        far = -1
    }

    deinit {
        if near >= 0 { close(near) }
        if far >= 0 { close(far) }
    }
}

func drain(_ descriptor: CInt) {
    var byte: UInt8 = 0
    while read(descriptor, &byte, 1) > 0 {}
}
