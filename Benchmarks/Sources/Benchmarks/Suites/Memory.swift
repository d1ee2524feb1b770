import CRaw
import Glibc
import LinuxEvent

enum MemorySuite: Suite {
    static let name = "memory"
    static let abstract = """
        How many bytes does an idle watcher or a timer hold? The growth of the process, malloc's part included, \
        divided by their number; the kernel's own part is not in it.
        """

    static let cases = [
        Case(
            name: "watcher", operations: 10_000, readings: [.cost("bytes")], isCold: true,
            subjects: [
                Subject(name: "raw") { count in
                    try withDescriptors(count) { descriptors in
                        try rawSample { craw_memory_watchers(descriptors, UInt64(count), $0) }
                    }
                },
                Subject(name: "linuxevent") { count in try withDescriptors(count, watchers) },
            ]),
        Case(
            name: "timer", operations: 1_000_000, readings: [.cost("bytes")], isCold: true,
            subjects: [
                Subject(name: "raw") { count in try rawSample { craw_memory_timers(UInt64(count), $0) } },
                Subject(name: "linuxevent", run: timers),
            ]),
    ]

    private static func withDescriptors(_ count: Int, _ body: ([CInt]) throws -> Sample) throws -> Sample {
        try check("RLIMIT_NOFILE", craw_raise_descriptor_limit(CInt(count + 100)))
        var descriptors = [CInt]()
        descriptors.reserveCapacity(count)
        defer { for descriptor in descriptors { close(descriptor) } }
        for _ in 0..<count { descriptors.append(try check("eventfd", craw_eventfd(0))) }
        return try body(descriptors)
    }

    private static func growth(_ count: Int, _ body: () throws -> Void) rethrows -> Sample {
        craw_memory_settle()
        let before = craw_resident()
        try body()
        return Sample(operations: UInt64(count), nanoseconds: craw_resident() - before)
    }

    private static func watchers(_ descriptors: [CInt]) throws -> Sample {
        let loop = try Loop()
        defer { try? loop.close() }
        return try growth(descriptors.count) {
            for descriptor in descriptors { try loop.watch(descriptor, read: { _, _, _ in }) }
        }
    }

    private static func timers(_ count: Int) throws -> Sample {
        let loop = try Loop()
        defer { try? loop.close() }
        return growth(count) { for _ in 0..<count { loop.after(.seconds(3600)) { _, _ in } } }
    }
}
