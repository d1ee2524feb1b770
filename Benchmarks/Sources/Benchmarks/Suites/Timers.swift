import CRaw
import Glibc
import LinuxEvent

enum TimersSuite: Suite {
    static let name = "timers"
    static let abstract = """
        What does a timer cost? cancel: 1 k or 1 M are scheduled 1 to 60 s ahead, and cancelled in the order of \
        scheduling; shuffled: in a random one. reset: a random one of 10 k or 1 M is scheduled anew. fire: timers \
        spread over a second, per second of CPU time. raw is a heap that is exact to the nanosecond as ours are, \
        raw-wheel a wheel with ticks of 1 ms; raw-slack lets the kernel lengthen each wait by up to 50 us, as it \
        does unasked for all that wait by epoll's timeout.
        """

    static let cases = [
        cancel("cancel.1k", live: 1_000, pairs: 2_000_000, CRAW_TIMERS_IN_ORDER),
        cancel("cancel.1m", live: 1_000_000, pairs: 1_000_000, CRAW_TIMERS_IN_ORDER),
        cancel("shuffled.1m", live: 1_000_000, pairs: 1_000_000, CRAW_TIMERS_SHUFFLED),
        reset("reset.10k", live: 10_000, resets: 2_000_000),
        reset("reset.1m", live: 1_000_000, resets: 1_000_000),
        Case(
            name: "fire.1m", operations: 1_000_000, readings: [.rate("timer/s")], isCold: true, quickShare: 20,
            subjects: [
                Subject(name: "raw") { count in try rawSample { craw_heap_fire(UInt64(count), 1, $0) } },
                Subject(name: "raw-slack") { count in try rawSample { craw_heap_fire(UInt64(count), 0, $0) } },
                Subject(name: "raw-wheel") { count in try rawSample { craw_wheel_fire(UInt64(count), 1, $0) } },
                Subject(name: "linuxevent", run: fire),
            ]),
    ]

    private static func cancel(_ name: String, live: Int, pairs: Int, _ order: craw_timer_order) -> Case {
        Case(
            name: name, operations: pairs, readings: [.rate("pair/s")],
            subjects: [
                Subject(name: "raw") { pairs in
                    try rawSample { craw_heap_cancel(UInt64(min(live, pairs)), UInt64(pairs), order, $0) }
                },
                Subject(name: "raw-wheel") { pairs in
                    try rawSample { craw_wheel_cancel(UInt64(min(live, pairs)), UInt64(pairs), order, $0) }
                },
                Subject(name: "linuxevent") { try cancelTimers(live: min(live, $0), pairs: $0, order) },
            ])
    }

    private static func reset(_ name: String, live: Int, resets: Int) -> Case {
        Case(
            name: name, operations: resets, readings: [.rate("timer/s")],
            subjects: [
                Subject(name: "raw") { resets in try rawSample { craw_heap_reset(UInt64(live), UInt64(resets), $0) } },
                Subject(name: "raw-wheel") { resets in
                    try rawSample { craw_wheel_reset(UInt64(live), UInt64(resets), $0) }
                },
                Subject(name: "linuxevent") { try resetTimers(live: live, resets: $0) },
            ])
    }

    private static func deadline(_ state: inout UInt64, _ now: UInt64) -> Instant {
        Instant(nanoseconds: craw_deadline(&state, now))
    }

    private static func cancelTimers(live: Int, pairs: Int, _ order: craw_timer_order) throws -> Sample {
        guard let places = craw_order(UInt64(live), order) else { throw SystemFailure(what: "malloc", code: ENOMEM) }
        defer { free(places) }
        let loop = try Loop()
        defer { try? loop.close() }
        var timers = [LinuxEvent.Timer]()
        timers.reserveCapacity(live)
        let rounds = max(pairs / live, 1)
        var state: UInt64 = 1
        let start = craw_now()
        for _ in 0..<rounds {
            let now = craw_now()
            for _ in 0..<live { timers.append(loop.at(deadline(&state, now)) { _, _ in }) }
            for index in 0..<live { timers[Int(places[index])].cancel() }
            timers.removeAll(keepingCapacity: true)
        }
        let end = craw_now()
        return Sample(operations: UInt64(rounds * live), nanoseconds: end - start)
    }

    private static func resetTimers(live: Int, resets: Int) throws -> Sample {
        let loop = try Loop()
        defer { try? loop.close() }
        var state: UInt64 = 1
        let now = craw_now()
        let timers = (0..<live).map { _ in loop.at(deadline(&state, now)) { _, _ in } }
        let start = craw_now()
        for _ in 0..<resets {
            let index = Int(craw_random(&state) % UInt64(live))
            loop.reschedule(timers[index], at: deadline(&state, now))
        }
        let end = craw_now()
        return Sample(operations: UInt64(resets), nanoseconds: end - start)
    }

    private static func fire(_ count: Int) throws -> Sample {
        let loop = try Loop()
        defer { try? loop.close() }
        let fired = UnsafeMutablePointer<Int>.allocate(capacity: 1)
        fired.initialize(to: 0)
        defer { fired.deallocate() }
        let begun = craw_thread_cpu()
        let first = craw_now() + 10_000_000
        for index in 0..<count {
            let deadline = Instant(nanoseconds: first + UInt64(index) * 1_000_000_000 / UInt64(count))
            loop.at(deadline) { loop, _ in
                fired.pointee += 1
                if fired.pointee == count { loop.stop() }
            }
        }
        try loop.run()
        return Sample(
            operations: UInt64(fired.pointee), nanoseconds: craw_thread_cpu() - begun,
            notes: [("turns", loop.statistics.turns)])
    }
}
