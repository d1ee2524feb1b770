import Glibc

/// Threads without a runtime of their own between them and the kernel.
public enum Threads {
    /// How many threads the process has.
    public static func count() -> Int { Files.names(in: "/proc/self/task").count }

    /// Runs the body on a new thread and waits for its end. Nothing is checked about what the body captures:
    /// that is for tests that must break the rules.
    public static func runElsewhere(_ body: () -> Void) {
        withoutActuallyEscaping(body) { body in
            start(body).join()
        }
    }

    /// Starts a thread, with every signal blocked.
    public static func spawn(_ body: @escaping @Sendable () -> Void) -> RunningThread { start(body) }

    private static func start(_ body: @escaping () -> Void) -> RunningThread {
        var everything = sigset_t()
        var before = sigset_t()
        sigfillset(&everything)
        pthread_sigmask(SIG_SETMASK, &everything, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        var thread = pthread_t()
        let box = Unmanaged.passRetained(Body(body)).toOpaque()
        let result = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                let body = Unmanaged<Body>.fromOpaque(argument).takeRetainedValue()
                body.run()
                return nil
            }, box)
        if result != 0 { fatalError("test preparation: pthread_create: \(result)") }
        return RunningThread(thread: thread)
    }

    private final class Body {
        let run: () -> Void
        init(_ run: @escaping () -> Void) { self.run = run }
    }
}

/// A thread to be joined exactly once.
public struct RunningThread: Sendable {
    let thread: pthread_t
    public func join() { pthread_join(thread, nil) }
}

/// Interrupts one thread again and again with a signal that does nothing.
public final class SignalStorm: Sendable {
    private let thread: RunningThread
    private let flag: Flag
    private let maskBefore: sigset_t

    /// The calling thread is the one that gets SIGALRM, about once per `microseconds`, until `stop()`.
    public init(everyMicroseconds microseconds: UInt32) {
        signal(SIGALRM) { _ in }
        // Threads of a pool have all signals blocked.
        var alarm = sigset_t()
        var before = sigset_t()
        sigemptyset(&alarm)
        sigaddset(&alarm, SIGALRM)
        pthread_sigmask(SIG_UNBLOCK, &alarm, &before)
        maskBefore = before
        let target = pthread_self()
        let flag = Flag()
        self.flag = flag
        thread = Threads.spawn {
            while !flag.isSet {
                pthread_kill(target, SIGALRM)
                usleep(microseconds)
            }
        }
    }

    public func stop() {
        flag.set()
        thread.join()
        // No signal is on its way any more: pthread_kill returned before the join did.
        var mask = maskBefore
        pthread_sigmask(SIG_SETMASK, &mask, nil)
        signal(SIGALRM, SIG_DFL)
    }
}
