internal import CLinux

/// A set of signals as one bit each: bit n - 1 for signal n.
struct SignalSet: OptionSet, Sendable {
    let rawValue: UInt64
    init(rawValue: UInt64) { self.rawValue = rawValue }
    init(_ number: CInt) { rawValue = 1 << UInt64(number - 1) }
}

/// Takes blocked signals as records to be read: signalfd(2).
///
/// - Owns: its descriptor (non-blocking, close-on-exec); closed with it, or before.
/// - Takes only what the reading thread, or the whole process, was sent and every thread blocks.
struct SignalFD: ~Copyable {
    private let owned: OwnedDescriptor

    var descriptor: CInt { owned.number }

    init() throws(LoopError) { owned = OwnedDescriptor(try check("signalfd", clinux_signalfd(-1, 0))) }

    func close() { owned.close() }

    func setSignals(_ signals: SignalSet) throws(LoopError) {
        try check("signalfd", clinux_signalfd(descriptor, signals.rawValue))
    }

    /// Up to 16 records; empty when nothing is pending, or another reader was faster.
    func read() -> [signalfd_siginfo] {
        unsafe [signalfd_siginfo](unsafeUninitializedCapacity: 16) { buffer, count in
            count = max(0, Int(unsafe clinux_signalfd_read(descriptor, buffer.baseAddress, 16)))
        }
    }
}
