import CRaw
import Glibc
import LinuxEventGroup

enum WakeSuite: Suite {
    static let name = "wake"
    static let abstract = """
        How long until a sleeping shard runs what was posted, and how many posts ring? latency: a post every 60 us \
        from another CPU to a shard that sleeps. burst: bursts of 1,000 posts, each when the one before has been \
        run.
        """

    static let cases = [
        Case(
            name: "latency", operations: 10_000,
            readings: [.note("p50", "ns"), .note("p99", "ns", suffix: ".p99")], isPinned: false,
            subjects: [
                Subject(name: "raw") { wakes in
                    let cpus = try Harness.twoCPUs()
                    return try rawSample { craw_wake(UInt64(wakes), gap, cpus, $0) }
                },
                Subject(name: "linuxevent", run: latency),
            ]),
        Case(
            name: "burst", operations: 500_000, readings: [.note("wakes", "wakes per 1,000 posts")], isPinned: false,
            subjects: [Subject(name: "linuxevent", run: bursts)]),
    ]

    private static let gap: UInt64 = 60_000
    private static let burst = 1_000

    /// What the shard and the poster share.
    private struct Stamps: @unchecked Sendable {
        let latencies: UnsafeMutableBufferPointer<UInt64>
        /// How many have been run.
        let done: OpaquePointer
    }

    private static func withStamps(_ count: Int, _ body: (Stamps) throws -> Sample) throws -> Sample {
        guard let done = craw_counter_make() else { throw SystemFailure(what: "malloc", code: ENOMEM) }
        let latencies = UnsafeMutableBufferPointer<UInt64>.allocate(capacity: count)
        latencies.initialize(repeating: 0)
        defer {
            craw_counter_free(done)
            latencies.deallocate()
        }
        return try body(Stamps(latencies: latencies, done: done))
    }

    private static func latency(_ wakes: Int) throws -> Sample {
        let cpus = try Harness.twoCPUs()
        return try withStamps(wakes) { stamps in
            let group = try LoopGroup(placement: .listed([Int(cpus[0])]))
            try check("sched_setaffinity", craw_pin(cpus[1]))
            let start = craw_now()
            for index in 0..<wakes {
                let due = craw_now() + gap
                while craw_now() < due || craw_counter_read(stamps.done) < index { craw_pause() }
                let begun = craw_now()
                group.post(to: 0) { _ in
                    stamps.latencies[index] = craw_now() - begun
                    craw_counter_publish(stamps.done, UInt64(index + 1))
                }
            }
            while craw_counter_read(stamps.done) < wakes { craw_pause() }
            let end = craw_now()
            let sent = group.wakes
            try group.finish()
            return Sample(
                operations: UInt64(wakes), nanoseconds: end - start,
                notes: [("wakes", sent)] + Sample.percentiles(stamps.latencies))
        }
    }

    private static func bursts(_ posts: Int) throws -> Sample {
        let cpus = try Harness.twoCPUs()
        return try withStamps(1) { stamps in
            let group = try LoopGroup(placement: .listed([Int(cpus[0])]))
            try check("sched_setaffinity", craw_pin(cpus[1]))
            let start = craw_now()
            let count = posts / burst * burst
            for index in 0..<count {
                group.post(to: 0) { _ in craw_counter_publish(stamps.done, UInt64(index + 1)) }
                guard (index + 1) % burst == 0 else { continue }
                while craw_counter_read(stamps.done) < index + 1 { craw_pause() }
                // Long enough for the shard to fall asleep.
                let due = craw_now() + gap
                while craw_now() < due { craw_pause() }
            }
            let end = craw_now()
            let wakes = group.wakes
            try group.finish()
            let perThousand = (wakes * 1_000 + UInt64(count) / 2) / UInt64(max(count, 1))
            return Sample(operations: UInt64(count), nanoseconds: end - start, notes: [("wakes", perThousand)])
        }
    }
}
