internal import CLinux
public import LinuxEvent

/// A thread of one's own: pthreads(7). Every signal is blocked in it, so that a loop's signalfd gets them all.
public struct Thread: Sendable {
    private let handle: UInt

    public static func start(
        _ name: String, _ body: @escaping @Sendable () -> Void
    ) throws(SystemError) -> Thread {
        let context = unsafe Unmanaged.passRetained(Body(run: body))
        var handle: UInt = 0
        let entry: @convention(c) (UnsafeMutableRawPointer?) -> Void = { pointer in
            guard let pointer = unsafe pointer else { return }
            unsafe Unmanaged<Body>.fromOpaque(pointer).takeRetainedValue().run()
        }
        let result = unsafe clinux_thread_start(&handle, name, entry, context.toOpaque())
        if result < 0 { unsafe context.release() }
        try check("pthread_create", result)
        return Thread(handle: handle)
    }

    /// Waits for the thread's end. Once only.
    public func join() { _ = clinux_thread_join(handle) }

    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(run: @escaping @Sendable () -> Void) { self.run = run }
    }
}
