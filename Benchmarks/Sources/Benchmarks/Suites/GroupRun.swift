import CRaw
import Glibc
import LinuxEventGroup

/// How shards tell the thread that started a run that they are through.
struct Finish: Sendable {
    private let descriptor: CInt

    init() throws { descriptor = try check("eventfd", craw_semaphore()) }

    func signal() {
        var one: UInt64 = 1
        _ = write(descriptor, &one, 8)
    }

    /// Returns when so many have signalled.
    func wait(times: Int = 1) {
        for _ in 0..<times {
            var count: UInt64 = 0
            while read(descriptor, &count, 8) != 8 {}
        }
    }

    func close() { _ = Glibc.close(descriptor) }
}

extension LoopGroup {
    /// Of all shards so far.
    var wakes: UInt64 { metrics.reduce(0) { $0 + $1.wakesSent } }
    var turns: UInt64 { metrics.reduce(0) { $0 + $1.turns } }

    /// What most samples tell beside their time.
    var notes: [(name: String, value: UInt64)] { [("wakes", wakes), ("turns", turns)] }

    /// Stops it, and does not let a stop that is not complete pass for a run.
    func finish() throws {
        let report = try stop(deadline: .seconds(5))
        guard report.isComplete else { throw IncompleteStop(description: report.description) }
    }
}

struct IncompleteStop: Error, CustomStringConvertible {
    let description: String
}

/// Memory that shares no cache line with anybody else's: otherwise chance decides what a run measures.
enum Apart {
    static func allocate<Element>(_ count: Int) -> UnsafeMutablePointer<Element> {
        let size = MemoryLayout<Element>.stride * count
        let raw = UnsafeMutableRawPointer.allocate(byteCount: (size + 255) / 128 * 128, alignment: 128)
        return raw.bindMemory(to: Element.self, capacity: count)
    }
}
