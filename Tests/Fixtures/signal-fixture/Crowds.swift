import CLinux
import Glibc
import LinuxEvent
import Synchronization

/// Many children, and many signals to a process of many threads.
extension Fixture {
    /// How a child of the crowd shall end.
    private enum End: CaseIterable {
        case zero, code, term, kill, abort, killedByUs

        func script(_ index: Int) -> String {
            switch self {
            case .zero: "exit 0"
            case .code: "exit \(1 + index % 255)"
            case .term: "kill -15 $$"
            case .kill: "kill -9 $$"
            case .abort: "kill -6 $$"
            case .killedByUs: "exec sleep 10000"
            }
        }

        func status(_ index: Int) -> ExitStatus {
            switch self {
            case .zero: .exited(0)
            case .code: .exited(CInt(1 + index % 255))
            case .term: .killed(SIGTERM)
            case .kill: .killed(SIGKILL)
            case .abort: .killed(SIGABRT)
            case .killedByUs: .killed(SIGUSR2)
            }
        }
    }

    /// C1 C3: thousands at once, with mixed ends; told once each, as they ended. With a thief, another thread waits for
    /// any child at the same time: then the status is what the kernel remembers, or unknown.
    static func childFlood(_ report: Report) throws {
        let words = CommandLine.arguments
        guard words.count == 4, let count = Int(words[2]), ["alone", "thief"].contains(words[3]) else {
            return report.expect(false, "child-flood COUNT alone|thief")
        }
        let hasThief = words[3] == "thief"
        raiseLimits(descriptors: count + 64)
        let loop = try Loop()
        let before = openDescriptors(below: count + 64)
        // All live until the gate is closed, so all are there at once.
        var gate: [CInt] = [-1, -1]
        guard clinux_pipe2(&gate, O_CLOEXEC) == 0 else { fatalError("test preparation: pipe2") }
        var expected: [CInt: ExitStatus] = [:]
        var told: [CInt: ExitStatus] = [:]
        var observers: [ChildObserver] = []
        for index in 0..<count {
            let end = End.allCases[index % End.allCases.count]
            // `read` returns when the gate is closed; one that waits for a signal sleeps on.
            let script = end == .killedByUs ? end.script(index) : "read gate; \(end.script(index))"
            let pid = startChild(script, input: gate[0])
            expected[pid] = end.status(index)
            let observer = try loop.childExit(pid) { _, exit in
                report.expect(told[exit.pid] == nil, "told twice")
                told[exit.pid] = exit.status
            }
            if end == .killedByUs { observers.append(observer) }
        }
        report.equal(told.count, 0, "ended before the gate was closed")
        let endThief = hasThief ? Thief.start() : { 0 }
        for observer in observers { try observer.kill(SIGUSR2) }
        close(gate[1])
        let deadline = Instant.now.advanced(by: .seconds(120))
        while told.count < count, Instant.now < deadline { try loop.runOnce(timeout: .milliseconds(100)) }
        let stolen = endThief()
        close(gate[0])
        report.equal(told.count, count, "children told")
        var unknown = 0
        for (pid, status) in told where status != expected[pid] {
            if hasThief, status == .unknown {
                unknown += 1
            } else {
                report.expect(false, "\(pid): \(status), not \(String(describing: expected[pid]))")
            }
        }
        report.expect(!hasThief || stolen > 0, "the thief stole nothing")
        report.expect(unknown <= stolen, "unknown, but not stolen")
        report.equal(waitpid(-1, nil, WNOHANG), -1, "no zombie")
        report.equal(errno, ECHILD, "no child")
        report.equal(openDescriptors(below: count + 64), before, "descriptors")
        report.equal(loop.statistics.watchers, 0, "watchers")
        say("\(count) children, \(stolen) statuses stolen, \(unknown) of them unknown")
    }

    /// Waits for any child, as careless code does.
    private final class Thief: Sendable {
        private let isOver = Atomic<Bool>(false)
        private let count = Atomic<Int>(0)

        private func steal() {
            while !isOver.load(ordering: .acquiring) {
                if waitpid(-1, nil, WNOHANG) > 0 {
                    count.add(1, ordering: .relaxed)
                } else {
                    usleep(50)
                }
            }
        }

        /// Returns what ends it: that returns how many statuses it took.
        static func start() -> () -> Int {
            let thief = Thief()
            var thread = pthread_t()
            pthread_create(
                &thread, nil,
                { argument in
                    if let argument { Unmanaged<Thief>.fromOpaque(argument).takeRetainedValue().steal() }
                    return nil
                }, Unmanaged.passRetained(thief).toOpaque())
            return { [thread] in
                thief.isOver.store(true, ordering: .releasing)
                pthread_join(thread, nil)
                return thief.count.load(ordering: .relaxed)
            }
        }
    }

    private static func raiseLimits(descriptors: Int) {
        var limit = rlimit()
        getrlimit(CInt(RLIMIT_NOFILE.rawValue), &limit)
        limit.rlim_cur = min(limit.rlim_max, max(limit.rlim_cur, rlim_t(descriptors)))
        setrlimit(CInt(RLIMIT_NOFILE.rawValue), &limit)
        // Whoever is aborted leaves no core file, so it was killed and did not dump.
        var none = rlimit(rlim_cur: 0, rlim_max: 0)
        setrlimit(CInt(RLIMIT_CORE.rawValue), &none)
    }

    /// S2: a process that was prepared, with many threads at work, is sent many signals from outside: each is taken
    /// through the descriptor, and none takes its default action, which would end the process.
    static func signalStorm(_ report: Report) throws {
        try blockSignals([SIGUSR1, SIGTERM])
        // The runtime's own threads inherit the mask.
        for _ in 0..<16 { Crowd.keepBusy() }
        let loop = try Loop()
        var taken = 0
        try loop.signal(SIGUSR1) { _, signal in taken += signal.count }
        try loop.signal(SIGTERM) { loop, _ in loop.stop() }
        loop.defer { _ in say("ready") }
        try loop.run()
        report.expect(taken > 0, "no signal was taken")
        say("\(taken) taken")
    }
}

/// Threads of the concurrency runtime that are never idle.
private enum Crowd {
    static func keepBusy() {
        Task.detached {
            while true {
                await Task.yield()
                usleep(200)
            }
        }
    }
}
