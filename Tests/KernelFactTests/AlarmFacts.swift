import CLinux
import Glibc
import TestSupport
import Testing

extension KernelFacts {
    @Suite("timerfd")
    struct AlarmFacts {
        private func milliseconds(_ count: UInt64) -> UInt64 { count * 1_000_000 }

        /// Even a deadline of the past is told by an interrupt.
        private func expiresAtOnce(_ alarm: Alarm) -> Bool {
            Readiness.of(alarm.descriptor, waiting: Effort.atOnce) == .readable
        }

        @Test("kernel: a deadline that has passed is readable at once")
        func past() {
            let alarm = Alarm()
            for deadline in [1, Clock.monotonic() - 1, Clock.monotonic()] {
                #expect(alarm.set(deadline) == 0)
                #expect(expiresAtOnce(alarm))
            }
            #expect(IO.readCounter(alarm.descriptor) == 1)
            #expect(Readiness.of(alarm.descriptor) == [])
        }

        @Test("kernel: a deadline of zero disarms, and takes away what had expired")
        func zero() {
            let alarm = Alarm()
            alarm.set(1)
            #expect(expiresAtOnce(alarm))
            #expect(alarm.set(0) == 0)
            #expect(Readiness.of(alarm.descriptor) == [])
            alarm.set(Clock.monotonic() + milliseconds(5))
            alarm.set(0)
            #expect(Readiness.of(alarm.descriptor, waiting: 15) == [])
        }

        @Test("kernel: it never expires before its deadline on CLOCK_MONOTONIC")
        func neverEarly() {
            let alarm = Alarm()
            for step: UInt64 in 0..<200 {
                let deadline = Clock.monotonic() + step * 1_700
                alarm.set(deadline)
                #expect(Readiness.of(alarm.descriptor, waiting: 10_000) == .readable)
                #expect(Clock.monotonic() >= deadline)
            }
        }

        @Test("kernel: to set it anew clears what it had counted: a read is EAGAIN, though it had been reported")
        func setAnewClears() {
            let alarm = Alarm()
            let set = EpollSet()
            set.add(alarm.descriptor, .readable)
            alarm.set(1)
            #expect(set.readiness(waiting: Effort.atOnce) == .readable)
            alarm.set(UInt64(Int64.max))
            #expect(IO.readCounter(alarm.descriptor) == nil && errno == EAGAIN)
            #expect(set.events().isEmpty)
        }

        @Test("kernel: edge-triggered and never read, it reports each expiry once after it was set anew")
        func edgePerExpiry() {
            let alarm = Alarm()
            let set = EpollSet()
            set.add(alarm.descriptor, .readable, flags: EpollEntry.edgeTriggered)
            for round: UInt64 in 0..<50 {
                alarm.set(round % 2 == 0 ? 1 : Clock.monotonic() + 100_000)
                #expect(set.readiness(waiting: 10_000) == .readable)
                #expect(set.events().isEmpty)
            }
        }

        @Test("kernel: edge-triggered, an expiry that was taken back before the wait is not reported")
        func takenBack() {
            let alarm = Alarm()
            let set = EpollSet()
            set.add(alarm.descriptor, .readable, flags: EpollEntry.edgeTriggered)
            alarm.set(1)
            #expect(expiresAtOnce(alarm))
            alarm.set(UInt64(Int64.max))
            #expect(set.events().isEmpty)
            alarm.set(1)
            #expect(set.readiness(waiting: Effort.atOnce) == .readable)
        }

        @Test("kernel: the farthest deadline that we use is accepted, and does not expire")
        func farAhead() {
            let alarm = Alarm()
            #expect(alarm.set(UInt64(Int64.max)) == 0)
            #expect(Readiness.of(alarm.descriptor, waiting: 5) == [])
            let setting = TimerSetting.of(alarm.descriptor)
            #expect(setting.clock == Int(CLOCK_MONOTONIC))
            #expect(setting.flags == 1)
            #expect(setting.remainingNanoseconds > UInt64(Int64.max) / 2)
        }

        @Test("kernel: after a stall one read gives the number of intervals that passed, on their grid")
        func intervals() {
            let alarm = Alarm()
            let start = Clock.monotonic()
            var setting = itimerspec()
            setting.it_value.tv_sec = Int(start / 1_000_000_000)
            setting.it_value.tv_nsec = Int(start % 1_000_000_000)
            setting.it_interval.tv_nsec = 1_000_000
            #expect(timerfd_settime(alarm.descriptor, 1, &setting, nil) == 0)
            usleep(20_000)
            let before = Clock.monotonic()
            let count = IO.readCounter(alarm.descriptor) ?? 0
            let after = Clock.monotonic()
            #expect(count >= (before - start) / milliseconds(1))
            #expect(count <= (after - start) / milliseconds(1) + 1)
        }

        @Test("kernel: negative seconds, and nanoseconds outside of a second, are refused with EINVAL")
        func outOfRange() {
            let alarm = Alarm()
            for (seconds, nanoseconds) in [(0, 1_000_000_000), (0, -1), (-1, 0)] {
                var setting = itimerspec()
                setting.it_value = timespec(tv_sec: seconds, tv_nsec: nanoseconds)
                #expect(timerfd_settime(alarm.descriptor, 1, &setting, nil) == -1 && errno == EINVAL)
            }
            var setting = itimerspec()
            setting.it_value = timespec(tv_sec: .max, tv_nsec: 0)
            #expect(timerfd_settime(alarm.descriptor, 1, &setting, nil) == 0)
        }

        @Test("kernel: a thread's timer slack does not widen the wake by a timerfd")
        func slack() throws {
            let thread = try #require(Files.link("/proc/thread-self")?.split(separator: "/").last)
            let path = "/proc/\(thread)/timerslack_ns"
            let before = Files.text(path)
            try #require(Files.write(path, "40000000"))
            defer { Files.write(path, before) }
            let alarm = Alarm()
            let set = EpollSet()
            set.add(alarm.descriptor, .readable, flags: EpollEntry.edgeTriggered)
            var best = UInt64.max
            for _ in 0..<10 {
                let deadline = Clock.monotonic() + milliseconds(1)
                alarm.set(deadline)
                #expect(set.readiness(waiting: -1) == .readable)
                let now = Clock.monotonic()
                #expect(now >= deadline)
                best = min(best, now - deadline)
            }
            // Not the 40 ms of the slack. (On a slow machine this says nothing.)
            #expect(best < Effort.atMost(milliseconds(20)))
        }
    }
}
