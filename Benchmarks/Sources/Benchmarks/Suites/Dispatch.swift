import CRaw
import Glibc
import LinuxEvent

enum DispatchSuite: Suite {
    static let name = "dispatch"
    static let abstract = """
        What does the loop add between epoll_wait and the user's code? ring: 100 tokens among 1,000 pipes, one byte \
        read and written in each callback. level: 100 eventfds that are always readable, dispatch alone. single: one \
        such eventfd, so one event a turn.
        """

    static let cases = [
        Case(
            name: "ring", operations: 400_000, readings: [.rate("event/s")],
            subjects: [
                Subject(name: "raw") { events in
                    try rawSample { craw_dispatch_ring(CInt(pipes), CInt(tokens), UInt64(events), $0) }
                },
                Subject(name: "linuxevent") { try Ring.run(events: $0) },
            ]),
        levelCase(name: "level", descriptors: 100, events: 4_000_000),
        // One event a turn shows what a turn costs, where the others show what an event costs.
        levelCase(name: "single", descriptors: 1, events: 400_000),
    ]

    static let pipes = 1_000
    static let tokens = 100

    private static func levelCase(name: String, descriptors: Int, events: Int) -> Case {
        Case(
            name: name, operations: events, readings: [.rate("event/s")],
            subjects: [
                Subject(name: "raw") { events in
                    try rawSample { craw_dispatch_level(CInt(descriptors), UInt64(events), $0) }
                },
                Subject(name: "linuxevent") { try level(descriptors: descriptors, events: $0) },
            ])
    }
}

/// What the callbacks of one run share. Behind a pointer, as the C program has it: what is measured is the loop and not
/// how this file keeps its count.
private struct Progress {
    var callbacks: UInt64 = 0
    let limit: UInt64
}

private typealias ProgressPointer = UnsafeMutablePointer<Progress>

private func measure(_ loop: Loop, _ progress: ProgressPointer) throws -> Sample {
    let start = craw_now()
    try loop.run()
    let end = craw_now()
    return Sample(
        operations: progress.pointee.callbacks, nanoseconds: end - start, notes: [("turns", loop.statistics.turns)])
}

private func withProgress(limit: Int, _ body: (ProgressPointer) throws -> Sample) rethrows -> Sample {
    let progress = ProgressPointer.allocate(capacity: 1)
    progress.initialize(to: Progress(limit: UInt64(limit)))
    defer { progress.deallocate() }
    return try body(progress)
}

private enum Ring {
    static func run(events: Int) throws -> Sample {
        var pipes = [(read: CInt, write: CInt)]()
        defer {
            for pipe in pipes {
                close(pipe.read)
                close(pipe.write)
            }
        }
        for _ in 0..<DispatchSuite.pipes {
            var ends: [CInt] = [0, 0]
            try check("pipe2", craw_pipe(&ends))
            pipes.append((ends[0], ends[1]))
        }
        return try withProgress(limit: events) { progress in
            let loop = try Loop()
            for (index, pipe) in pipes.enumerated() {
                try watch(loop, pipe.read, next: pipes[(index + 1) % pipes.count].write, progress)
            }
            for token in 0..<DispatchSuite.tokens {
                var byte: UInt8 = 0x74
                _ = write(pipes[token * (pipes.count / DispatchSuite.tokens)].write, &byte, 1)
            }
            defer { try? loop.close() }
            return try measure(loop, progress)
        }
    }

    private static func watch(_ loop: Loop, _ descriptor: CInt, next: CInt, _ progress: ProgressPointer) throws {
        try loop.watch(
            descriptor,
            read: { loop, descriptor, _ in
                var byte: UInt8 = 0
                guard read(descriptor, &byte, 1) == 1, write(next, &byte, 1) == 1 else { return }
                progress.pointee.callbacks &+= 1
                if progress.pointee.callbacks >= progress.pointee.limit { loop.stop() }
            })
    }
}

private func level(descriptors: Int, events: Int) throws -> Sample {
    var opened = [CInt]()
    defer { for descriptor in opened { close(descriptor) } }
    for _ in 0..<descriptors { opened.append(try check("eventfd", craw_eventfd(1))) }
    return try withProgress(limit: events) { progress in
        let loop = try Loop()
        defer { try? loop.close() }
        for descriptor in opened {
            try loop.watch(
                descriptor,
                read: { loop, _, _ in
                    progress.pointee.callbacks &+= 1
                    if progress.pointee.callbacks >= progress.pointee.limit { loop.stop() }
                })
        }
        return try measure(loop, progress)
    }
}
