import CRaw
import Glibc
import LinuxEvent

enum EchoSuite: Suite {
    static let name = "echo"
    static let abstract = """
        What does a TCP server cost? Messages of 64 bytes come back to a load generator in C on the other CPU, which \
        checks every byte: 64 or 1,000 connections (k), 1 or 16 messages under way on each (p). cpu: the server's \
        CPU time per request, which says more than the rate where the load generator is as busy as the server.
        """

    static let cases = [
        echo("k64.p1", connections: 64, pipeline: 1, requests: 100_000),
        echo("k64.p16", connections: 64, pipeline: 16, requests: 800_000),
        echo("k1000.p1", connections: 1_000, pipeline: 1, requests: 100_000),
        echo("k1000.p16", connections: 1_000, pipeline: 16, requests: 800_000),
    ]

    private static func echo(_ name: String, connections: Int, pipeline: Int, requests: Int) -> Case {
        Case(
            name: name, operations: requests,
            readings: [.rate("request/s"), .note("cpu_ns", "ns CPU/request", suffix: ".cpu")],
            leastRuns: 11, isPinned: false, isCold: true,
            subjects: [
                Subject(name: "raw") { requests in
                    var result = craw_result()
                    var cpu: UInt64 = 0
                    try check(
                        "echo",
                        craw_echo(
                            CInt(connections), CInt(pipeline), UInt64(requests), Harness.twoCPUs(), &result, &cpu))
                    var sample = Sample(result)
                    sample.notes.append(("cpu_ns", cpu))
                    return sample
                },
                Subject(name: "linuxevent") {
                    try EchoServer.run(connections: connections, pipeline: pipeline, requests: $0)
                },
            ])
    }
}

/// One loop, one handler a connection, and no more around it than the C program has.
private enum EchoServer {
    static func run(connections: Int, pipeline: Int, requests: Int) throws -> Sample {
        let cpus = try Harness.twoCPUs()
        try check("sched_setaffinity", craw_pin(cpus[0]))
        var port: CInt = 0
        let listener = try check("listen", craw_listen(&port))
        let finished = try check("eventfd", craw_eventfd(0))
        defer {
            close(listener)
            close(finished)
        }
        let loop = try Loop()
        defer { try? loop.close() }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 16 * 1024, alignment: 64)
        defer { buffer.deallocate() }
        try loop.watch(listener, read: { loop, listener, _ in acceptAll(loop, listener, buffer) })
        try loop.watch(finished, read: { loop, _, _ in loop.stop() })
        let begun = craw_thread_cpu()
        guard
            let load = craw_load_start(
                port, CInt(connections), CInt(pipeline), UInt64(requests), cpus[1], finished)
        else { throw SystemFailure(what: "load", code: ENOMEM) }
        try loop.run()
        let used = craw_thread_cpu() - begun
        var result = craw_result()
        var total: UInt64 = 0
        try check("load", craw_load_finish(load, &result, &total))
        var sample = Sample(result)
        sample.notes += [("turns", loop.statistics.turns), ("cpu_ns", used / total)]
        return sample
    }

    private static func acceptAll(_ loop: Loop, _ listener: CInt, _ buffer: UnsafeMutableRawBufferPointer) {
        while true {
            let connection = craw_accept(listener)
            guard connection >= 0 else { return }
            let watcher = try? loop.watch(
                connection,
                read: { _, descriptor, watcher in
                    guard echoOnce(descriptor, buffer) else {
                        watcher.cancel()
                        close(descriptor)
                        return
                    }
                })
            if watcher == nil { close(connection) }
        }
    }
}

/// False: the connection is over.
@inline(__always)
private func echoOnce(_ descriptor: CInt, _ buffer: UnsafeMutableRawBufferPointer) -> Bool {
    let count = read(descriptor, buffer.baseAddress, buffer.count)
    if count > 0 { return write(descriptor, buffer.baseAddress, count) == count }
    return count < 0 && (errno == EAGAIN || errno == EINTR)
}

enum TurnSuite: Suite {
    static let name = "turn"
    static let abstract = """
        What does a turn cost with 1, 8 or 64 ready connections? One thread writes to the far ends of that many \
        socket pairs, runs the loop until it has echoed all, and reads the answers: nothing depends on a second CPU.
        """

    static let cases = [1, 8, 64].map { pairs in
        Case(
            name: "\(pairs)", operations: 300_000, readings: [.rate("message/s")],
            subjects: [
                Subject(name: "raw") { messages in try rawSample { craw_turn(CInt(pairs), UInt64(messages), $0) } },
                Subject(name: "linuxevent") { try run(pairs: pairs, messages: $0) },
            ])
    }

    private static func run(pairs: Int, messages: Int) throws -> Sample {
        let loop = try Loop()
        var near = [CInt]()
        var far = [CInt]()
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 16 * 1024, alignment: 64)
        let echoed = UnsafeMutablePointer<Int>.allocate(capacity: 1)
        echoed.initialize(to: 0)
        defer {
            try? loop.close()
            for descriptor in near + far { close(descriptor) }
            buffer.deallocate()
            echoed.deallocate()
        }
        for _ in 0..<pairs {
            var ends: [CInt] = [0, 0]
            try check("socketpair", craw_socket_pair(&ends))
            near.append(ends[0])
            far.append(ends[1])
            try loop.watch(
                ends[0],
                read: { _, descriptor, _ in
                    if echoOnce(descriptor, buffer) { echoed.pointee += 1 }
                })
        }
        func runRounds(_ count: Int) throws {
            for _ in 0..<count {
                let expected = echoed.pointee + pairs
                try check("write", craw_turn_send(far, CInt(pairs)))
                while echoed.pointee < expected { try loop.runOnce(timeout: .zero) }
                try check("read", craw_turn_receive(far, CInt(pairs)))
            }
        }
        let rounds = messages / pairs
        try runRounds(rounds / 4)
        let start = craw_now()
        try runRounds(rounds)
        let end = craw_now()
        return Sample(operations: UInt64(rounds * pairs), nanoseconds: end - start)
    }
}
