import CLinux
import Glibc
import LinuxEvent
import TestSupport
import Testing

extension LinuxEventSuite {
    @Suite("T Timers")
    struct TimerTests {
        // MARK: T1 one timerfd

        @Test("T1 one timerfd on the monotonic clock, absolute, set for the earliest deadline")
        func oneTimerfd() throws {
            let before = OpenDescriptors.timers()
            let loop = try Loop()
            for second in [500, 100, 900, 300] { loop.after(.seconds(second)) { _, _ in } }
            loop.after(.milliseconds(5)) { _, _ in }
            let made = OpenDescriptors.timers().subtracting(before)
            #expect(made.count == 1)
            let descriptor = try #require(made.first)
            // A wait that ends by itself is what sets it.
            try loop.runOnce()
            try loop.wait(timeout: .milliseconds(1))
            try loop.dispatch()
            _ = try loop.descriptor
            let setting = TimerSetting.of(descriptor)
            #expect(setting.clock == Int(CLOCK_MONOTONIC))
            #expect(setting.flags == 1, "TFD_TIMER_ABSTIME")
            #expect(setting.intervalNanoseconds == 0)
            #expect(setting.remainingNanoseconds > .milliseconds(95_000))
            #expect(setting.remainingNanoseconds <= .milliseconds(100_000))
            loop.after(.seconds(50)) { _, _ in }
            #expect(TimerSetting.of(descriptor).remainingNanoseconds <= .milliseconds(50_000))
        }

        @Test(
            "T1 the timerfd is set anew only when the earliest deadline changes",
            .enabled(if: Strace.works, "strace cannot trace here"))
        func setOnlyWhenNeeded() throws {
            let calls = try Strace.calls("timerfd_settime", "timer-cost")
            #expect(calls["later deadlines"]?.count == 0)
            #expect(calls["scheduled and cancelled in one turn"]?.count == 0)
            #expect(calls["earlier deadline"]?.count == 1)
            #expect(calls["end"] != nil)
        }

        @Test("T1 a cancelled earliest timer neither runs, nor ends runOnce, nor spoils the next one")
        func cancelledEarliest() throws {
            let loop = try Loop()
            let calls = Calls()
            let first = loop.after(.milliseconds(Effort.atMost(10))) { _, _ in calls.add("first") }
            // A wait that may last has been made with the first in view: the alarm is set for it.
            loop.waker.signal()
            try loop.runOnce()
            #expect(calls.names.isEmpty)
            let second = loop.after(.milliseconds(Effort.atMost(40))) { _, _ in calls.add("second") }
            let deadline = try #require(second.deadline).nanoseconds
            #expect(first.cancel())
            let turn = try loop.runOnce()
            #expect(Clock.monotonic() >= deadline)
            #expect(turn.timers == 1)
            #expect(calls.names == ["second"])
            try expectQuiet(loop)
        }

        // MARK: T2 making timers

        @Test("T2 handlers get the loop and the timer, once")
        func handlers() throws {
            let loop = try Loop()
            var timer: Timer?
            var calls = 0
            timer = loop.after(.milliseconds(1)) { inner, mine in
                #expect(inner === loop)
                #expect(mine == timer)
                calls += 1
            }
            #expect(timer?.isScheduled == true)
            let done = try pump(loop, milliseconds: 1_000) { calls > 0 }
            #expect(done)
            try pump(loop, 3)
            #expect(calls == 1)
            #expect(timer?.isScheduled == false)
            #expect(timer?.deadline == nil)
            #expect(timer?.cancel() == false)
            try expectQuiet(loop)
        }

        @Test("T2 Instant counts the nanoseconds of CLOCK_MONOTONIC, and its arithmetic saturates")
        func instants() {
            let before = Clock.monotonic()
            let now = Instant.now
            #expect(before <= now.nanoseconds && now.nanoseconds <= Clock.monotonic())
            let instant = Instant(nanoseconds: 1_000)
            #expect(instant.advanced(by: .microseconds(5)).nanoseconds == 6_000)
            #expect(instant.advanced(by: .nanoseconds(-400)).nanoseconds == 600)
            #expect(instant.advanced(by: .seconds(-5)).nanoseconds == 0)
            #expect(instant.advanced(by: .seconds(Int64.max)).nanoseconds == .max)
            #expect(instant.advanced(by: .seconds(Int64.min)).nanoseconds == 0)
            #expect(Instant(nanoseconds: .max).advanced(by: .nanoseconds(1)).nanoseconds == .max)
            #expect(Instant(nanoseconds: .max).advanced(by: .nanoseconds(-1)).nanoseconds == UInt64.max - 1)
            #expect(instant.duration(to: Instant(nanoseconds: 4_000)) == .nanoseconds(3_000))
            #expect(Instant(nanoseconds: 4_000).duration(to: instant) == .nanoseconds(-3_000))
            let whole = Instant(nanoseconds: 0).duration(to: Instant(nanoseconds: .max))
            #expect(whole > .seconds(18_000_000_000))
            #expect(Instant(nanoseconds: 0).advanced(by: whole).nanoseconds == .max)
            #expect(Instant(nanoseconds: 1) < Instant(nanoseconds: 2))
            // What is finer than a nanosecond is rounded up: to wait for less would be early.
            for whole in [Int64(0), 5, 100, 10_000_000_000] {
                let finer = Duration(secondsComponent: whole, attosecondsComponent: 1)
                #expect(instant.advanced(by: finer).nanoseconds == 1_001 + UInt64(whole) * 1_000_000_000)
                #expect(Instant(nanoseconds: .max - 1).advanced(by: .zero - finer + .nanoseconds(1)) >= instant)
            }
            #expect(
                Instant(nanoseconds: 50).advanced(by: Duration(secondsComponent: 0, attosecondsComponent: -1))
                    .nanoseconds == 50)
        }

        @Test("T2 a zero, negative or past delay runs in the next turn, never inside the call")
        func immediateTimers() throws {
            let loop = try Loop()
            let calls = Calls()
            loop.after(.zero) { _, _ in calls.add("zero") }
            loop.after(.nanoseconds(-1)) { _, _ in calls.add("negative") }
            loop.after(.seconds(Int64.min)) { _, _ in calls.add("least") }
            loop.at(Instant(nanoseconds: 0)) { _, _ in calls.add("at zero") }
            loop.at(Instant.now.advanced(by: .seconds(-1))) { _, _ in calls.add("past") }
            #expect(calls.names.isEmpty)
            let turn = try loop.runOnce()
            #expect(turn.timers == 5)
            #expect(calls.names.sorted() == ["at zero", "least", "negative", "past", "zero"])
            #expect(try loop.runOnce(timeout: .zero).timers == 0)
            try expectQuiet(loop)
        }

        @Test("T2 after counts from the call, not from the turn's cached time")
        func afterIsFresh() throws {
            let loop = try Loop()
            var scheduled: UInt64 = 0
            var fired: UInt64 = 0
            loop.after(.zero) { loop, _ in
                usleep(30_000)
                scheduled = Clock.monotonic()
                loop.after(.milliseconds(10)) { loop, _ in
                    fired = Clock.monotonic()
                    loop.stop()
                }
            }
            try loop.run()
            #expect(fired >= scheduled + .milliseconds(10))
        }

        @Test("T2 a timer of delay zero that an event schedules waits for the next turn, also beside due timers")
        func scheduledByAnEvent() throws {
            let loop = try Loop()
            let calls = Calls()
            let pipe = Pipe.readable()
            try loop.watch(
                pipe.reader,
                read: { loop, fd, _ in
                    IO.drain(fd)
                    calls.add("event")
                    loop.after(.zero) { _, _ in calls.add("zero") }
                    loop.at(Instant(nanoseconds: 0)) { _, _ in calls.add("past") }
                })
            loop.after(.zero) { _, _ in calls.add("due") }
            #expect(try loop.runOnce().timers == 1)
            #expect(calls.names == ["event", "due"])
            #expect(try loop.runOnce().timers == 2)
            #expect(calls.names == ["event", "due", "past", "zero"])
            try expectQuiet(loop)
        }

        @Test("T2 an interval of zero or less is refused")
        func intervals() throws {
            let loop = try Loop()
            let ended = Tracker.Count()
            for interval in [Duration.zero, .nanoseconds(-1), .seconds(Int64.min)] {
                let tracker = Tracker(ended)
                #expect(
                    failure { () throws(LoopError) in try loop.every(interval) { _, _ in tracker.touch() } }
                        == .invalidInterval(interval))
            }
            #expect(ended.ended == 3)
            #expect(loop.statistics.timersLive == 0)
            try expectQuiet(loop)
        }

        // MARK: T3 order

        @Test("T3 never early: ten thousand random timers")
        func neverEarly() throws {
            var random = SeededGenerator()
            print("never early: seed \(random.seed)")
            let loop = try Loop()
            let count = 10_000
            var fired = 0
            var early = 0
            var order: [(UInt64, Int)] = []
            for index in 0..<count {
                let delay = Duration.nanoseconds(Int64.random(in: 0..<300_000_000, using: &random))
                let asked = Clock.monotonic() + UInt64(delay.components.attoseconds / 1_000_000_000)
                var deadline: UInt64 = 0
                let timer = loop.after(delay) { loop, _ in
                    if Clock.monotonic() < deadline || deadline < asked { early += 1 }
                    // Nor by the time that the turn goes by.
                    if loop.now.nanoseconds < deadline { early += 1 }
                    order.append((deadline, index))
                    fired += 1
                    if fired == count { loop.stop() }
                }
                deadline = try #require(timer.deadline).nanoseconds
            }
            try loop.run()
            #expect(fired == count)
            #expect(early == 0)
            // All were scheduled before the first could run in a turn, so the whole order is one.
            let sorted = zip(order, order.dropFirst()).allSatisfy { $0.0 < $1.0 || ($0.0 == $1.0 && $0.1 < $1.1) }
            #expect(sorted)
            try expectQuiet(loop)
        }

        @Test("T3 equal deadlines run in the order scheduled")
        func ties() throws {
            let loop = try Loop()
            for deadline in [Instant(nanoseconds: 0), Instant.now.advanced(by: .milliseconds(5))] {
                var order: [Int] = []
                var expected: [Int] = []
                var cancelled: [Timer] = []
                for index in 0..<1_000 {
                    let timer = loop.at(deadline) { _, _ in order.append(index) }
                    if index % 7 == 3 { cancelled.append(timer) } else { expected.append(index) }
                }
                for timer in cancelled { #expect(timer.cancel()) }
                let done = try pump(loop, milliseconds: 2_000) { order.count >= expected.count }
                #expect(done)
                #expect(order == expected)
            }
            try expectQuiet(loop)
        }

        @Test("T3 what a turn left over runs in order with what is due by then, be it earlier or later")
        func orderOverTheBudget() throws {
            let loop = try Loop()
            let early = Instant.now.advanced(by: .seconds(-1))
            let late = early.advanced(by: .milliseconds(1))
            var ran: [Int] = []
            for index in 0..<9_000 { loop.at(late) { _, _ in ran.append(index) } }
            try pump(loop)
            let first = ran.count
            #expect(first > 0 && first < 9_000, "the budget leaves nothing over")
            for index in 0..<10 {
                loop.at(early) { _, _ in ran.append(-10 + index) }
                loop.at(late.advanced(by: .nanoseconds(1))) { _, _ in ran.append(9_000 + index) }
            }
            try pump(loop, 10)
            #expect(ran.count == 9_020)
            #expect(ran[first..<first + 10].elementsEqual(-10..<0))
            #expect(ran.filter { $0 >= 0 } == Array(0..<9_010))
            try expectQuiet(loop)
        }

        @Test("T3 the earlier deadline runs first, whatever the order of scheduling and the distance")
        func distances() throws {
            let loop = try Loop()
            var order: [UInt64] = []
            let now = Instant.now.nanoseconds
            // Neighbours across every power of two: whatever bucket a queue may use, its borders are here.
            var deadlines: [UInt64] = []
            for bit in 0..<24 {
                for offset in [-1, 0, 1] { deadlines.append(now &+ (1 << bit) &+ UInt64(bitPattern: Int64(offset))) }
            }
            deadlines.append(contentsOf: [0, 1, now / 2, now - 1])
            var random = SeededGenerator()
            print("distances: seed \(random.seed)")
            for deadline in deadlines.shuffled(using: &random) {
                loop.at(Instant(nanoseconds: deadline)) { _, _ in order.append(deadline) }
            }
            usleep(20_000)
            let done = try pump(loop, milliseconds: 2_000) { order.count == deadlines.count }
            #expect(done)
            #expect(order == deadlines.sorted())
        }

        @Test("T3 T4 T9 random scheduling, rescheduling, cancelling and passing of time against a sorted array")
        func oracle() throws {
            var random = SeededGenerator()
            print("oracle of timers: seed \(random.seed)")
            struct Entry: Comparable {
                let deadline: UInt64
                /// The place in the order of scheduling; a new one with each new time.
                let sequence: Int
                let number: Int
                static func < (left: Entry, right: Entry) -> Bool {
                    left.deadline != right.deadline ? left.deadline < right.deadline : left.sequence < right.sequence
                }
            }
            let loop = try Loop()
            let operations = Effort.isLong ? 1_000_000 : Effort.rounds(100_000)
            var live: [Entry] = []  // sorted
            var handles: [Int: (Timer, Entry)] = [:]
            var numbers: [Int] = []  // those of handles, for a random choice
            var sequence = 0
            var fired: [Entry] = []
            var tooEarly = 0
            var wrongAnswers = 0

            func place(_ entry: Entry) -> Int {
                var low = 0
                var high = live.count
                while low < high {
                    let middle = (low + high) / 2
                    if live[middle] < entry { low = middle + 1 } else { high = middle }
                }
                return low
            }
            func cancel(_ number: Int) {
                guard let (timer, entry) = handles.removeValue(forKey: number) else { return }
                let at = place(entry)
                let isLive = at < live.count && live[at] == entry
                if timer.isScheduled != isLive || timer.cancel() != isLive || timer.isScheduled { wrongAnswers += 1 }
                if isLive { live.remove(at: at) }
            }
            func entry(for number: Int) -> Entry {
                sequence += 1
                let now = Clock.monotonic()
                let distance: Int64
                switch Int.random(in: 0..<10, using: &random) {
                case 0: distance = 0
                case 1: distance = -Int64.random(in: 0..<1_000_000, using: &random)
                case 2...6: distance = Int64.random(in: 0..<2_000_000, using: &random)
                case 7, 8: distance = Int64.random(in: 0..<40_000_000, using: &random)
                default: distance = Int64.random(in: 0..<4_000_000_000_000_000, using: &random)
                }
                // Some deadlines are equal.
                let deadline = UInt64(Int64(now) + distance) & (Bool.random(using: &random) ? ~0 : ~0xffff)
                return Entry(deadline: deadline, sequence: sequence, number: number)
            }
            func reschedule(_ number: Int) {
                guard let (timer, old) = handles[number] else { return }
                let at = place(old)
                let isLive = at < live.count && live[at] == old
                let new = entry(for: number)
                if loop.reschedule(timer, at: Instant(nanoseconds: new.deadline)) != isLive { wrongAnswers += 1 }
                guard isLive else { return }
                if timer.deadline?.nanoseconds != new.deadline { wrongAnswers += 1 }
                live.remove(at: at)
                live.insert(new, at: place(new))
                handles[number] = (timer, new)
            }
            func schedule() {
                let mine = sequence + 1
                let entry = entry(for: mine)
                let timer = loop.at(Instant(nanoseconds: entry.deadline)) { _, _ in
                    guard let (_, entry) = handles[mine] else { return wrongAnswers += 1 }  // it was cancelled
                    if Clock.monotonic() < entry.deadline { tooEarly += 1 }
                    fired.append(entry)
                    let at = place(entry)
                    if at < live.count, live[at] == entry {
                        live.remove(at: at)
                    } else {
                        wrongAnswers += 1  // it ran before
                    }
                    // A handler schedules and cancels as well, also what is due in this very batch.
                    switch Int.random(in: 0..<8, using: &random) {
                    case 0: schedule()
                    case 1: if let other = numbers.randomElement(using: &random) { cancel(other) }
                    case 2: if let next = live.first { cancel(next.number) }
                    case 3: if let next = live.first { reschedule(next.number) }
                    default: break
                    }
                }
                if timer.deadline?.nanoseconds != entry.deadline { wrongAnswers += 1 }
                live.insert(entry, at: place(entry))
                handles[mine] = (timer, entry)
                numbers.append(mine)
                if numbers.count > 2_000 { numbers.removeFirst(1_000) }
            }
            func advance() throws {
                while true {
                    fired.removeAll(keepingCapacity: true)
                    let before = Clock.monotonic()
                    let pending = live.prefix { $0.deadline <= before }
                    let turn = try loop.runOnce(timeout: .zero)
                    if turn.timers != fired.count { wrongAnswers += 1 }
                    if zip(fired, fired.dropFirst()).contains(where: { $0 > $1 }) { wrongAnswers += 1 }
                    // The most urgent one of those due was not passed over.
                    if let first = pending.first, fired.first.map({ first < $0 }) ?? true { wrongAnswers += 1 }
                    if fired.isEmpty { break }
                }
                // By now everything that was due at the start of the last turn has run.
            }
            for operation in 0..<operations {
                switch Int.random(in: 0..<20, using: &random) {
                case 0..<9: schedule()
                case 9..<13: if let number = numbers.randomElement(using: &random) { reschedule(number) }
                case 13..<18: if let number = numbers.randomElement(using: &random) { cancel(number) }
                default: if operation % 8 == 0 { try advance() }
                }
                if operation % 5_000 == 0 {
                    #expect(loop.statistics.timersLive == live.count)
                    if live.count > 20_000 { for entry in live.suffix(10_000) { cancel(entry.number) } }
                }
            }
            try advance()
            #expect(wrongAnswers == 0)
            #expect(tooEarly == 0)
            #expect(sequence > operations / 3)
            for number in handles.keys.sorted() { cancel(number) }
            #expect(wrongAnswers == 0)
            #expect(live.isEmpty)
            #expect(loop.statistics.timersLive == 0)
            try expectQuiet(loop)
        }

        // MARK: T4 cancel

        @Test("T4 cancel is exact between timers of one batch, in both directions, and tells what it prevented")
        func cancelInTheBatch() throws {
            let loop = try Loop()
            let calls = Calls()
            var first: Timer?
            var second: Timer?
            var third: Timer?
            first = loop.at(Instant(nanoseconds: 1)) { _, _ in
                calls.add("first")
                #expect(third?.cancel() == true)
                #expect(third?.cancel() == false)
                #expect(first?.cancel() == false, "the running call is not prevented")
            }
            second = loop.at(Instant(nanoseconds: 2)) { _, _ in
                calls.add("second")
                #expect(first?.cancel() == false)
                #expect(second?.cancel() == false)
            }
            third = loop.at(Instant(nanoseconds: 3)) { _, _ in calls.add("third") }
            let turn = try loop.runOnce()
            #expect(turn.timers == 2)
            #expect(calls.names == ["first", "second"])
            #expect(third?.isScheduled == false)
            try expectQuiet(loop)
        }

        @Test("T4 an event's callback may cancel a timer that is due in the same turn")
        func cancelByEvent() throws {
            let loop = try Loop()
            let calls = Calls()
            let pipe = Pipe.readable()
            let timer = loop.after(.milliseconds(1)) { _, _ in calls.add("timer") }
            try loop.watch(
                pipe.reader,
                read: { loop, fd, _ in
                    calls.add("event")
                    IO.drain(fd)
                    #expect(timer.cancel())
                    // And schedule another: setting the alarm anew makes its expiry stale.
                    loop.after(.milliseconds(5)) { _, _ in calls.add("later") }
                })
            usleep(5_000)
            try pump(loop)
            #expect(calls.names == ["event"])
            let done = try pump(loop, milliseconds: 1_000) { calls.names.count == 2 }
            #expect(done)
            #expect(calls.names == ["event", "later"])
            try expectQuiet(loop)
        }

        @Test("T4 the handler is released at once, or when its running call returns")
        func release() throws {
            let loop = try Loop()
            let ended = Tracker.Count()
            func make(_ delay: Duration, _ body: @escaping (Timer) -> Void = { _ in }) -> Timer {
                let tracker = Tracker(ended)
                return loop.after(delay) { _, timer in
                    tracker.touch()
                    body(timer)
                }
            }
            let cancelled = make(.seconds(100))
            #expect(ended.ended == 0)
            #expect(cancelled.cancel())
            #expect(ended.ended == 1)

            _ = make(.zero) { timer in
                timer.cancel()
                #expect(ended.ended == 1, "released while running")
            }
            try pump(loop)
            #expect(ended.ended == 2)

            // A repeating one that cancels itself.
            do {
                let tracker = Tracker(ended)
                try loop.every(.milliseconds(1)) { _, timer in
                    tracker.touch()
                    #expect(timer.cancel())
                    #expect(!timer.cancel())
                    #expect(ended.ended == 2, "released while running")
                }
            }
            let done = try pump(loop, milliseconds: 1_000) { ended.ended == 3 }
            #expect(done)
            try expectQuiet(loop)
        }

        @Test("T4 a handler's end may schedule and cancel")
        func releaseCallsTheLoop() throws {
            let loop = try Loop()
            let calls = Calls()
            let ended = Tracker.Count()
            let other = loop.after(.seconds(50)) { _, _ in calls.add("other") }
            do {
                let tracker = Tracker(ended) { [unowned loop] in
                    other.cancel()
                    loop.after(.zero) { _, _ in calls.add("made by an end") }
                }
                loop.after(.seconds(100)) { _, _ in tracker.touch() }.cancel()
            }
            #expect(ended.ended == 1)
            #expect(!other.isScheduled)
            try pump(loop, 2)
            #expect(calls.names == ["made by an end"])
            try expectQuiet(loop)
        }

        // MARK: T9 another time

        @Test("T9 a timer that is given another time runs then, once, with its handler and its handle")
        func reschedule() throws {
            let loop = try Loop()
            let calls = Calls()
            let start = Clock.monotonic()
            var firedAt: UInt64 = 0
            let timer = loop.after(.seconds(3600)) { _, timer in
                firedAt = Clock.monotonic()
                calls.add("late")
                #expect(!loop.reschedule(timer, after: .zero), "it is not scheduled any more")
            }
            #expect(loop.reschedule(timer, at: Instant(nanoseconds: start + 20_000_000)))
            #expect(timer.deadline == Instant(nanoseconds: start + 20_000_000))
            let other = loop.after(.milliseconds(1)) { _, _ in calls.add("other") }
            #expect(loop.reschedule(other, after: .milliseconds(40)))
            let done = try pump(loop, milliseconds: 2_000) { calls.names.count == 2 }
            #expect(done)
            #expect(calls.names == ["late", "other"])
            #expect(firedAt >= start + 20_000_000)
            #expect(!timer.isScheduled)
            #expect(!loop.reschedule(timer, after: .zero))
            let cancelled = loop.after(.zero) { _, _ in calls.add("cancelled") }
            cancelled.cancel()
            #expect(!loop.reschedule(cancelled, after: .zero))
            let another = try Loop()
            let foreign = another.after(.seconds(1)) { _, _ in }
            #expect(!loop.reschedule(foreign, after: .zero), "a timer of another loop")
            #expect(foreign.isScheduled)
            try expectQuiet(loop)
            #expect(calls.names.count == 2)
        }

        @Test("T9 a due timer that is given another time runs neither now nor twice, and equal times keep their order")
        func rescheduleInTheBatch() throws {
            let loop = try Loop()
            let calls = Calls()
            let later = Instant(nanoseconds: Clock.monotonic() + 10_000_000)
            var second: Timer?
            var third: Timer?
            loop.at(Instant(nanoseconds: 1)) { loop, _ in
                calls.add("first")
                // The third before the second: from here on that is their order.
                #expect(third.map { loop.reschedule($0, at: later) } == true)
                #expect(second.map { loop.reschedule($0, at: later) } == true)
            }
            second = loop.at(Instant(nanoseconds: 2)) { _, _ in calls.add("second") }
            third = loop.at(Instant(nanoseconds: 3)) { _, _ in calls.add("third") }
            #expect(try loop.runOnce().timers == 1)
            #expect(loop.statistics.timersDue == 0)
            #expect(loop.statistics.timersLive == 2)
            let done = try pump(loop, milliseconds: 2_000) { calls.names.count == 3 }
            #expect(done)
            #expect(calls.names == ["first", "third", "second"])
            // To the past, out of the batch: in the next turn, and not in this one.
            var fourth: Timer?
            loop.at(Instant(nanoseconds: 1)) { loop, _ in
                _ = fourth.map { loop.reschedule($0, at: .init(nanoseconds: 2)) }
            }
            fourth = loop.at(Instant(nanoseconds: 2)) { _, _ in calls.add("fourth") }
            #expect(try loop.runOnce(timeout: .zero).timers == 1)
            #expect(try loop.runOnce(timeout: .zero).timers == 1)
            #expect(calls.names.count == 4)
            try expectQuiet(loop)
        }

        @Test("T9 a repeating timer goes on from its new time, in its own handler too")
        func rescheduleRepeating() throws {
            let loop = try Loop()
            var times: [UInt64] = []
            let start = Clock.monotonic()
            let timer = try loop.every(.milliseconds(5)) { loop, timer in
                times.append(timer.deadline?.nanoseconds ?? 0)
                if times.count == 1 {
                    #expect(loop.reschedule(timer, at: Instant(nanoseconds: start + 40_000_000)))
                    times.append(Clock.monotonic())
                }
            }
            #expect(loop.reschedule(timer, at: Instant(nanoseconds: start + 20_000_000)))
            let done = try pump(loop, milliseconds: 2_000) { times.count >= 3 }
            #expect(done)
            #expect(times[0] == start + 25_000_000, "the grid begins at the new time")
            #expect(times[1] >= start + 20_000_000)
            #expect(Clock.monotonic() >= start + 40_000_000)
            #expect((times[2] - start) % 5_000_000 == 0)
            #expect(times[2] >= start + 45_000_000)
            #expect(timer.cancel())
            try expectQuiet(loop)
        }

        @Test("T4 handles of past timers stay of the past")
        func oldHandles() throws {
            let loop = try Loop()
            var old: [Timer] = []
            for _ in 0..<1_000 {
                let timer = loop.after(.seconds(1)) { _, _ in }
                #expect(timer.cancel())
                old.append(timer)
            }
            var ran = 0
            let present = (0..<10).map { _ in loop.after(.milliseconds(2)) { _, _ in ran += 1 } }
            for timer in old {
                #expect(!timer.isScheduled)
                #expect(timer.deadline == nil)
                #expect(!timer.cancel())
                #expect(!present.contains(timer))
            }
            #expect(Set(old).count == 1_000)
            let done = try pump(loop, milliseconds: 1_000) { ran == 10 }
            #expect(done)
            try expectQuiet(loop)
        }

        @Test("T4 of many timers, cancelling nearly all keeps the rest exact")
        func cancelMost() throws {
            let loop = try Loop()
            var random = SeededGenerator()
            print("cancel most: seed \(random.seed)")
            var ran: [Int] = []
            var timers: [(Int, Timer)] = []
            let base = Instant.now
            let count = Effort.isLong ? 1_000_000 : Effort.rounds(100_000)
            for index in 0..<count {
                timers.append((index, loop.at(base.advanced(by: .microseconds(index))) { _, _ in ran.append(index) }))
            }
            timers.shuffle(using: &random)
            var kept: [Int] = []
            for (position, (index, timer)) in timers.enumerated() {
                if position % 100 == 0 { kept.append(index) } else { #expect(timer.cancel()) }
            }
            #expect(loop.statistics.timersLive == kept.count)
            let done = try pump(loop, milliseconds: 5_000) { ran.count == kept.count }
            #expect(done)
            #expect(ran == kept.sorted())
            try expectQuiet(loop)
        }

        // MARK: T5 timers made by timers

        @Test("T5 a timer scheduled by a timer waits for the next turn")
        func renewal() throws {
            let loop = try Loop()
            var ran = 0
            func renew(_ loop: Loop) {
                ran += 1
                if ran < 50 { loop.at(Instant(nanoseconds: 0)) { loop, _ in renew(loop) } }
            }
            loop.after(.zero) { loop, _ in renew(loop) }
            for turn in 1...50 {
                #expect(try loop.runOnce().timers == 1)
                #expect(ran == turn)
            }
            try expectQuiet(loop)
        }

        // MARK: T6 repeating timers

        @Test("T6 a repeating timer keeps its grid over a thousand rounds, never early, and counts what it missed")
        func noDrift() throws {
            let loop = try Loop()
            let period: UInt64 = 1_000_000
            var periods: UInt64 = 0
            var calls = 0
            var wrong = 0
            var anchor: UInt64 = 0
            let timer = try loop.every(.milliseconds(1)) { loop, timer in
                calls += 1
                periods += 1 + UInt64(timer.missedPeriods)
                let now = Clock.monotonic()
                // As many grid points as were counted have passed, and no fewer than at the turn's beginning.
                if now < anchor + periods * period { wrong += 1 }
                if loop.now.nanoseconds >= anchor + (periods + 1) * period { wrong += 1 }
                if periods >= 1_000 { loop.stop() }
            }
            anchor = try #require(timer.deadline).nanoseconds - period
            let spent = try Spent.measure { try loop.run() }
            #expect(wrong == 0)
            #expect(spent.wallNanoseconds >= 999 * period)
            #expect(calls > Effort.rounds(500))
            let next = try #require(timer.deadline).nanoseconds
            #expect((next - anchor) % period == 0, "off the grid")
            #expect(next > Clock.monotonic() - Effort.atMost(10 * period))
            #expect(timer.cancel())
            try expectQuiet(loop)
        }

        @Test("T6 missed periods come as one call that says how many, and the next is on the grid again")
        func coalescing() throws {
            let loop = try Loop()
            var missed: [Int] = []
            var times: [UInt64] = []
            let timer = try loop.every(.milliseconds(10)) { loop, timer in
                missed.append(timer.missedPeriods)
                times.append(Clock.monotonic())
                if missed.count == 1 { usleep(95_000) }
                if missed.count == 4 {
                    timer.cancel()
                    loop.stop()
                }
            }
            let anchor = try #require(timer.deadline).nanoseconds - .milliseconds(10)
            try loop.run()
            #expect(missed.count == 4)
            // On time; a slow machine may be late even for the first.
            #expect(missed[0] < Effort.slowness)
            // Asleep from 10 to 105 ms and more: the points 20 to 100 came due, nine or more of them.
            #expect(missed[1] >= 8)
            let passed = (times[1] - anchor) / .milliseconds(10)
            #expect(UInt64(missed[0] + missed[1]) + 2 <= passed)
            #expect(UInt64(missed[0] + missed[1]) + 2 + Effort.atMost(1) >= passed)
            var points: UInt64 = 0
            for (index, time) in times.enumerated() {
                points += 1 + UInt64(missed[index])
                #expect(time >= anchor + points * .milliseconds(10))
            }
            #expect(!timer.isScheduled)
            try expectQuiet(loop)
        }

        @Test("T6 a stall outside the loop is one call too")
        func stallOutside() throws {
            let loop = try Loop()
            var missed: [Int] = []
            let timer = try loop.every(.milliseconds(5)) { _, timer in missed.append(timer.missedPeriods) }
            usleep(52_000)
            #expect(try loop.runOnce().timers == 1)
            #expect(missed.count == 1)
            #expect(try #require(missed.first) >= 9)
            #expect(timer.isScheduled)
            #expect(timer.cancel())
            #expect(!timer.cancel())
            try expectQuiet(loop)
        }

        @Test("T6 cancelled in its own handler, a repeating timer never comes again, at whatever call")
        func cancelInHandler() throws {
            let loop = try Loop()
            for last in 1...3 {
                var ran = 0
                try loop.every(.milliseconds(1)) { _, timer in
                    ran += 1
                    if ran == last { #expect(timer.cancel()) }
                }
                let done = try pump(loop, milliseconds: 1_000) { ran == last }
                #expect(done)
                try expectQuiet(loop, milliseconds: 20)
                #expect(ran == last)
            }
            #expect(loop.statistics.timersLive == 0)
        }

        @Test("T6 a very short interval does not starve the rest")
        func shortInterval() throws {
            let loop = try Loop()
            let pipe = Pipe.readable()
            var events = 0
            var ran = 0
            try loop.watch(pipe.reader, read: { _, _, _ in events += 1 })
            try loop.every(.nanoseconds(1)) { _, _ in ran += 1 }
            loop.after(.milliseconds(30)) { loop, _ in loop.stop() }
            try loop.run()
            #expect(events > 10)
            #expect(ran > 10)
        }

        // MARK: T7 far deadlines

        @Test("T7 deadlines centuries ahead are legal, never come, and hold up nobody")
        func farDeadlines() throws {
            let loop = try Loop()
            var ran = 0
            var near = false
            let far: [Timer] = [
                loop.after(.seconds(Int64.max)) { _, _ in ran += 1 },
                loop.after(.nanoseconds(Int64.max)) { _, _ in ran += 1 },
                loop.at(Instant(nanoseconds: .max)) { _, _ in ran += 1 },
                loop.at(Instant(nanoseconds: .max - 1)) { _, _ in ran += 1 },
                loop.at(Instant(nanoseconds: 1 << 63)) { _, _ in ran += 1 },
                try loop.every(.seconds(Int64.max)) { _, _ in ran += 1 },
            ]
            try loop.runOnce(timeout: .milliseconds(5))
            loop.after(.milliseconds(5)) { _, _ in near = true }
            let done = try pump(loop, milliseconds: 1_000) { near }
            #expect(done)
            #expect(ran == 0)
            #expect(far.allSatisfy { $0.isScheduled })
            try expectQuiet(loop)
            for timer in far { #expect(timer.cancel()) }
            #expect(loop.statistics.timersLive == 0)
            #expect(ran == 0)
        }

        @Test("T7 durations beyond Int64 seconds saturate too")
        func hugeDurations() async {
            await #expect(processExitsWith: .success) { try useHugeDurations() }
        }

        @Test("T7 a wait of any length is legal")
        func longWaits() throws {
            let loop = try Loop()
            for timeout in [Duration.seconds(Int64.max), .nanoseconds(Int64.max)] {
                loop.after(.milliseconds(2)) { _, _ in }
                #expect(try loop.runOnce(timeout: timeout).timers == 1)
            }
            #expect(try loop.runOnce(timeout: .seconds(Int64.min)).isEmpty)
        }

        // MARK: T8 the present time

        @Test("T8 now is cached within a turn, fresh in the next, and updateNow() reads the clock")
        func now() throws {
            let loop = try Loop()
            var readings: [UInt64] = []
            let start = Clock.monotonic()
            loop.after(.zero) { loop, _ in
                readings.append(loop.now.nanoseconds)
                usleep(3_000)
                readings.append(loop.now.nanoseconds)
                loop.updateNow()
                readings.append(loop.now.nanoseconds)
            }
            loop.defer { loop in readings.append(loop.now.nanoseconds) }
            try pump(loop)
            #expect(readings.count == 4)
            #expect(readings[0] >= start)
            #expect(readings[1] == readings[0])
            #expect(readings[2] >= readings[0] + 3_000_000)
            #expect(readings[3] == readings[2])
            usleep(2_000)
            let between = Clock.monotonic()
            loop.defer { loop in readings.append(loop.now.nanoseconds) }
            try pump(loop)
            #expect(readings[4] >= between)
            #expect(readings[4] <= Clock.monotonic())
        }

        @Test("T8 a deadline of zero or in the past does not disarm the loop")
        func zeroDoesNotDisarm() throws {
            let loop = try Loop()
            let calls = Calls()
            loop.at(Instant(nanoseconds: 0)) { _, _ in calls.add("zero") }
            loop.after(.milliseconds(15)) { _, _ in calls.add("later") }
            #expect(try loop.runOnce().timers == 1)
            #expect(try loop.runOnce().timers == 1)
            loop.after(.milliseconds(15)) { loop, _ in
                calls.add("last")
                loop.stop()
            }
            loop.at(Instant(nanoseconds: 0)) { _, _ in calls.add("zero again") }
            try loop.run()
            #expect(calls.names == ["zero", "later", "zero again", "last"])
        }

        @Test("T1 of two timers that lie close together the earlier one sets the alarm, whichever came first")
        func closeTogether() throws {
            let loop = try Loop()
            var best = UInt64.max
            for _ in 0..<10 {
                // Both in one span of 2^24 ns, which is 17 ms and lies ahead: they differ from the present alike.
                let span = ((Instant.now.nanoseconds >> 24) + 2) << 24
                var fired: UInt64 = 0
                loop.at(Instant(nanoseconds: span + .milliseconds(15))) { loop, _ in loop.stop() }
                loop.at(Instant(nanoseconds: span + .milliseconds(1))) { _, _ in fired = Clock.monotonic() }
                try loop.run()
                #expect(fired >= span + .milliseconds(1))
                best = min(best, fired - span)
            }
            #expect(best < .milliseconds(8), "never before the later one")
        }

        @Test("T8 only the next deadline counts, wherever it was scheduled")
        func alarmsFollowTheEarliest() throws {
            let loop = try Loop()
            let pipe = Pipe.readable()
            var fired: [UInt64] = []
            var deadlines: [UInt64] = []
            func schedule(_ loop: Loop, _ milliseconds: Int) {
                let timer = loop.after(.milliseconds(milliseconds)) { _, _ in fired.append(Clock.monotonic()) }
                deadlines.append(timer.deadline?.nanoseconds ?? .max)
            }
            schedule(loop, 60)
            try loop.runOnce(timeout: .milliseconds(1))
            try loop.watch(
                pipe.reader,
                read: { loop, fd, _ in
                    IO.drain(fd)
                    schedule(loop, 30)
                })
            loop.defer { loop in schedule(loop, 10) }
            let done = try pump(loop, milliseconds: 2_000) { fired.count == 3 }
            #expect(done)
            #expect(zip(fired, deadlines.sorted()).allSatisfy { $0 >= $1 })
            // Not all of them at the last one's time.
            #expect(fired.first.map { $0 < deadlines[0] } == true)
            try expectQuiet(loop)
        }
    }
}

/// Durations hold 128 bits of attoseconds. In a process of its own, since the arithmetic may trap.
private func useHugeDurations() throws {
    let huge = Duration.seconds(Int64.max) + .seconds(Int64.max)
    let loop = try Loop()
    var ran = 0
    for duration in [huge, .zero - huge] {
        _ = Instant.now.advanced(by: duration)
        loop.after(duration) { _, _ in ran += 1 }
    }
    _ = try loop.every(huge) { _, _ in ran += 100 }
    loop.after(.milliseconds(1)) { loop, _ in loop.stop() }
    _ = try loop.runOnce(timeout: huge)
    try loop.run()
    if ran != 1 { exit(1) }
}
