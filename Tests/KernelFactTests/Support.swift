import CKernelFacts
import CLinux
import Glibc
import TestSupport
import Testing

/// What the engine takes for granted of the kernel, asked of the kernel alone. A test that fails here names what this
/// kernel does otherwise; where all pass and a test of the engine fails, the fault is the engine's.
///
/// One at a time: they count descriptors, place files at chosen numbers, send signals and fork.
@Suite("Kernel facts", .serialized, .gated(keeping: true))
enum KernelFacts {}

/// A fact that a child of fork has tried must have held there; where it could not be tried, the test is skipped.
func expectHeld(_ fact: kernel_fact, sourceLocation: SourceLocation = #_sourceLocation) throws {
    if let reason = fact.skipped { try Test.cancel("not tried on this machine: \(String(cString: reason))") }
    if let condition = fact.condition {
        let place = fact.file.map { String(cString: $0).split(separator: "/").last ?? "" } ?? ""
        let code = fact.error == 0 ? "" : ", \(String(cString: strerror(fact.error)))"
        Issue.record(
            "\(place):\(fact.line): \(String(cString: condition)) is false\(code)", sourceLocation: sourceLocation)
    } else if fact.signal != 0 {
        Issue.record("the child was ended by signal \(fact.signal)", sourceLocation: sourceLocation)
    }
}

/// The body must leave the process's descriptors as they were.
func expectNoneLeft(sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> Void) rethrows {
    let before = OpenDescriptors.all()
    try Lifetimes.scope(body)
    #expect(OpenDescriptors.all() == before, sourceLocation: sourceLocation)
}

/// A counter of the kernel's, closed with the object.
final class Counter {
    let descriptor: CInt

    init(_ value: UInt64 = 0, blocking: Bool = false) {
        descriptor = clinux_eventfd(0, CInt(EFD_CLOEXEC) | (blocking ? 0 : CInt(EFD_NONBLOCK)))
        if value > 0 { IO.writeCounter(descriptor, value) }
        Lifetimes.keep(self)
    }

    deinit { close(descriptor) }
}

/// An alarm of the kernel's, closed with the object.
final class Alarm {
    let descriptor = clinux_timerfd_create()

    init() { Lifetimes.keep(self) }

    deinit { close(descriptor) }

    /// Sets it to an absolute deadline; the kernel's answer.
    @discardableResult
    func set(_ deadline: UInt64) -> CInt { clinux_timerfd_set(descriptor, deadline) }
}
