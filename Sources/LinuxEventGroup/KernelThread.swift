internal import CLinux
internal import LinuxEvent

/// The group's own threads.
enum KernelThread {
    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// Starts a joinable thread in which all signals are blocked, and returns its handle. Contract G8.
    ///
    /// - Parameters:
    ///   - name: cut to the kernel's 15 bytes.
    ///   - body: let go of by the thread as its last step; here, if there is no thread.
    static func start(_ name: String, _ body: @escaping @Sendable () -> Void) throws(SystemError) -> UInt {
        let context = unsafe Unmanaged.passRetained(Body(body))
        var handle: UInt = 0
        let result = unsafe clinux_thread_start(
            &handle, name,
            { context in
                guard let context = unsafe context else { return }
                unsafe Unmanaged<Body>.fromOpaque(context).takeRetainedValue().run()
            }, context.toOpaque())
        guard result < 0 else { return handle }
        unsafe context.release()
        throw SystemError(call: "pthread_create", code: -result)
    }
}
