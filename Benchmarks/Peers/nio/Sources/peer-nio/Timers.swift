import CRaw
import Glibc
import NIOCore
import NIOPosix

/// By scheduleCallback, which makes no promise for each timer as scheduleTask does.
enum Timers {
    /// On the loop's thread, as a program of NIO has its timers.
    static func cancel(live: Int, operations: Int) throws -> Sample {
        let count = min(live, operations)
        return try onLoop { loop in
            let timer = Idle()
            var random: UInt64 = 1
            var scheduled = [NIOScheduledCallback]()
            scheduled.reserveCapacity(count)
            let rounds = max(operations / count, 1)
            let start = craw_now()
            for _ in 0..<rounds {
                let now = craw_now()
                for _ in 0..<count {
                    scheduled.append(try loop.scheduleCallback(at: deadline(&random, now), handler: timer))
                }
                for callback in scheduled { callback.cancel() }
                scheduled.removeAll(keepingCapacity: true)
            }
            let end = craw_now()
            guard timer.cancelled == rounds * count else { fail("\(timer.cancelled) timers were cancelled") }
            return Sample(rounds * count, end - start)
        }
    }

    /// NIO has no re-arm: cancel and schedule. One takes some ten microseconds, so it is done for a hundredth of the
    /// operations that other loops do.
    static func reset(live: Int, operations: Int) throws -> Sample {
        let operations = max(operations / 100, 1)
        return try onLoop { loop in
            let timer = Idle()
            var random: UInt64 = 1
            let now = craw_now()
            var scheduled = try (0..<live).map { _ in
                try loop.scheduleCallback(at: deadline(&random, now), handler: timer)
            }
            let start = craw_now()
            for _ in 0..<operations {
                let index = Int(craw_random(&random) % UInt64(live))
                scheduled[index].cancel()
                scheduled[index] = try loop.scheduleCallback(at: deadline(&random, now), handler: timer)
            }
            let end = craw_now()
            guard timer.cancelled == operations else { fail("\(timer.cancelled) timers were cancelled") }
            for callback in scheduled { callback.cancel() }
            return Sample(operations, end - start)
        }
    }

    static func fire(operations: Int) throws -> Sample {
        try withLoops(on: CPUs.a) { loops in
            let loop = loops[0]
            let timer = Counting(limit: operations, last: loop.makePromise())
            @Sendable func delay(_ index: Int) -> UInt64 {
                10_000_000 + UInt64(index) * 1_000_000_000 / UInt64(operations)
            }
            let start = try loop.submit {
                let (start, cpu) = (craw_now(), craw_thread_cpu())
                for index in 0..<operations {
                    try loop.scheduleCallback(at: .uptimeNanoseconds(start + delay(index)), handler: timer)
                }
                return (time: start, cpu: cpu)
            }.wait()
            let end = try timer.last.futureResult.wait()
            guard end.time - start.time >= delay(operations - 1) else { fail("a timer fired before its deadline") }
            var sample = Sample(operations, end.cpu - start.cpu)
            sample.note = ("wall_ms", (end.time - start.time) / 1_000_000)
            return sample
        }
    }

    /// The growth of the resident set by so many timers an hour away.
    static func memory(operations: Int) throws -> Sample {
        try onLoop { loop in
            let timer = Idle()
            let deadline = NIODeadline.now() + .hours(1)
            func schedule(_ count: Int) throws -> [NIOScheduledCallback] {
                try (0..<count).map { _ in try loop.scheduleCallback(at: deadline, handler: timer) }
            }
            let first = try schedule(100)
            craw_memory_settle()
            let before = craw_resident()
            let all = try schedule(operations)
            let after = craw_resident()
            withExtendedLifetime((first, all)) {}
            return Sample(operations, after - min(before, after))
        }
    }

    private static func onLoop(_ body: @escaping @Sendable (any EventLoop) throws -> Sample) throws -> Sample {
        try withLoops(on: CPUs.a) { loops in
            let loop = loops[0]
            return try loop.submit { try body(loop) }.wait()
        }
    }

    private static func deadline(_ random: inout UInt64, _ now: UInt64) -> NIODeadline {
        .uptimeNanoseconds(craw_deadline(&random, now))
    }

    /// On the loop's thread only.
    private final class Idle: NIOScheduledCallbackHandler, @unchecked Sendable {
        private(set) var cancelled = 0

        func handleScheduledCallback(eventLoop: some EventLoop) { fail("a timer fired before its deadline") }

        func didCancelScheduledCallback(eventLoop: some EventLoop) { cancelled &+= 1 }
    }

    /// On the loop's thread only.
    private final class Counting: NIOScheduledCallbackHandler, @unchecked Sendable {
        private var left: Int
        let last: EventLoopPromise<(time: UInt64, cpu: UInt64)>

        init(limit: Int, last: EventLoopPromise<(time: UInt64, cpu: UInt64)>) {
            left = limit
            self.last = last
        }

        func handleScheduledCallback(eventLoop: some EventLoop) {
            left &-= 1
            if left == 0 { last.succeed((craw_now(), craw_thread_cpu())) }
        }
    }
}
