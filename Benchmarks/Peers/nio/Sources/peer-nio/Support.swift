import CRaw
import Glibc
import NIOCore
import NIOPosix

/// What one run measured, over the work alone.
struct Sample: Sendable {
    let operations: UInt64
    let nanoseconds: UInt64
    var note: (name: String, value: UInt64)?

    init(_ operations: Int, _ nanoseconds: UInt64) {
        self.operations = UInt64(operations)
        self.nanoseconds = nanoseconds
    }
}

/// A benchmark that fails has nothing to tidy up, on whichever thread.
func fail(_ what: String, exit code: CInt = 1) -> Never {
    let line = Array("peer-nio: \(what)\n".utf8)
    _ = write(STDERR_FILENO, line, line.count)
    exit(code)
}

/// The value of a call that answers -errno.
@discardableResult
func check(_ what: String, _ value: CInt) -> CInt {
    guard value >= 0 else { fail("\(what): \(String(cString: strerror(-value)))") }
    return value
}

/// CPU A and CPU B: the first and the last that this process may use.
enum CPUs {
    private static let allowed = {
        var cpus = [CInt](repeating: 0, count: 64)
        let count = check("sched_getaffinity", craw_allowed_cpus(&cpus, CInt(cpus.count)))
        return cpus.prefix(Int(count))
    }()

    static let a = allowed[0]
    static let b = allowed[allowed.count - 1]
}

/// Runs `body` with event loops, each on its CPU.
func withLoops<Value>(on cpus: CInt..., body: ([any EventLoop]) throws -> Value) throws -> Value {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: cpus.count)
    let loops = Array(group.makeIterator())
    for (loop, cpu) in zip(loops, cpus) {
        // NIO cannot place its threads itself.
        try loop.submit { _ = check("sched_setaffinity", craw_pin(cpu)) }.wait()
    }
    let result = try body(loops)
    try group.syncShutdownGracefully()
    return result
}

/// NIO does not tell its version; the file beside Package.swift tells which one this was built with.
func version() -> String {
    var path = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3)
    path.append("Package.resolved")
    guard let file = fopen(path.joined(separator: "/"), "r") else { return "unknown" }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 65_536)
    let count = fread(&bytes, 1, bytes.count, file)
    let text = String(decoding: bytes.prefix(count), as: UTF8.self)
    let pin = /"swift-nio".*?"version" : "([^"]+)"/.dotMatchesNewlines()
    return text.firstMatch(of: pin).map { String($0.output.1) } ?? "unknown"
}
