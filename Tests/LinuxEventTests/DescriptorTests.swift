import CLinux
import Glibc
import LinuxEvent
import TestSupport
import Testing

extension LinuxEventSuite {
    @Suite("E Events and wakers")
    struct DescriptorTests {
        private static let full = UInt64.max - 1

        // MARK: E1 counters

        @Test("E1 the counter is drained before the callback, which gets what was read")
        func counts() throws {
            let loop = try Loop()
            var counts: [UInt64] = []
            let event = try loop.eventfd { inner, event in
                #expect(inner === loop)
                counts.append(event.count)
                #expect(IO.readCounter(event.descriptor) == nil, "not drained")
            }
            try pump(loop, 2)
            #expect(counts.isEmpty)
            event.signaller.signal()
            try pump(loop, 2)
            #expect(counts == [1])
            event.signaller.signal(5)
            event.signaller.signal(7)
            try pump(loop, 2)
            #expect(counts == [1, 12])
            event.signaller.signal(DescriptorTests.full)
            try pump(loop, 2)
            #expect(counts == [1, 12, DescriptorTests.full])
            #expect(OpenDescriptors.target(of: event.descriptor) == "anon_inode:[eventfd]")
            #expect(event.signaller.descriptor == event.descriptor)
            try expectQuiet(loop)
        }

        @Test("E1 several counters are each their own")
        func several() throws {
            let loop = try Loop()
            var counts = [Int: UInt64]()
            let events = try (0..<20).map { index in
                try loop.eventfd { _, event in counts[index, default: 0] += event.count }
            }
            for (index, event) in events.enumerated() where index % 2 == 0 { event.signaller.signal(UInt64(index + 1)) }
            try pump(loop, 2)
            #expect(counts.count == 10)
            #expect(counts.allSatisfy { $0.value == UInt64($0.key + 1) })
            try expectQuiet(loop)
        }

        @Test("E1 signals of many threads add up to the last one")
        func threads() throws {
            let loop = try Loop()
            var sum: UInt64 = 0
            let event = try loop.eventfd { loop, event in
                sum += event.count
                if sum == 40_000 { loop.stop() }
            }
            let signaller = event.signaller
            let threads = (0..<4).map { _ in
                Threads.spawn { for _ in 0..<10_000 { signaller.signal() } }
            }
            try loop.run()
            for thread in threads { thread.join() }
            #expect(sum == 40_000)
            try expectQuiet(loop)
        }

        @Test("E1 a signal at a full counter neither blocks nor is lost as an event")
        func saturated() throws {
            let loop = try Loop()
            var counts: [UInt64] = []
            let event = try loop.eventfd { _, event in counts.append(event.count) }
            // The sum stays at what the counter can hold, by one more and by many.
            for more in [UInt64(1), 3, .max] {
                counts.removeAll()
                event.signaller.signal(DescriptorTests.full)
                event.signaller.signal(more)
                try pump(loop, 3)
                #expect(counts == [DescriptorTests.full])
            }
            counts.removeAll()
            event.signaller.signal(.max)
            try pump(loop)
            #expect(counts == [DescriptorTests.full])
            let before = counts.count
            event.signaller.signal(2)
            try pump(loop, 2)
            #expect(counts.count == before + 1)
            #expect(counts.last == 2)
            try expectQuiet(loop)
        }

        @Test("E1 the drain never blocks, even if another holder cleared O_NONBLOCK and took the count")
        func drainNeverBlocks() throws {
            let loop = try Loop()
            let calls = Calls()
            let pipe = Pipe.readable()
            // The pipe's callback comes first and steals what the counter's event was about.
            try loop.watch(pipe.reader, read: calls.handler("pipe"))
            let event = try loop.eventfd { _, event in calls.add("event \(event.count)") }
            let descriptor = event.descriptor
            let copy = IO.copy(descriptor)
            defer { close(copy) }
            IO.setNonBlocking(copy, false)
            #expect(!IO.isNonBlocking(descriptor), "the flag belongs to the shared file")
            try loop.watch(
                pipe.reader,
                read: { _, fd, _ in
                    IO.drain(fd)
                    calls.add("stolen \(IO.readCounter(copy) ?? 0)")
                })
            event.signaller.signal(3)
            // If the loop hangs, this lets it go on, and shows in the calls.
            let over = Flag()
            let rescuer = Threads.spawn {
                for _ in 0..<2_000 where !over.isSet { usleep(1_000) }
                if !over.isSet { IO.writeCounter(copy, 1_000) }
            }
            let spent = try Spent.measure { try pump(loop, 2) }
            over.set()
            rescuer.join()
            #expect(spent.wallMilliseconds < Effort.atMost(1_500))
            #expect(calls.names == ["stolen 3"])
            // It is still good for its purpose.
            event.signaller.signal(4)
            try pump(loop, 2)
            #expect(calls.names == ["stolen 3", "event 4"])
            try expectQuiet(loop)
        }

        @Test("E1 a cancelled counter is silent, and cancel tells the truth")
        func cancelled() throws {
            let loop = try Loop()
            let calls = Calls()
            let ended = Tracker.Count()
            let event: Event
            do {
                let tracker = Tracker(ended)
                event = try loop.eventfd { _, _ in
                    tracker.touch()
                    calls.add("event")
                }
            }
            event.signaller.signal()
            #expect(event.cancel())
            #expect(!event.cancel())
            try pump(loop, 3)
            #expect(calls.names.isEmpty)
            #expect(ended.ended == 1)
            event.signaller.signal()
            try expectQuiet(loop)
            // In its own callback.
            let second = try loop.eventfd { _, event in
                calls.add("second")
                #expect(event.cancel())
            }
            second.signaller.signal()
            try pump(loop, 2)
            second.signaller.signal()
            try expectQuiet(loop)
            #expect(calls.names == ["second"])
        }

        @Test("E1 the signaller keeps the descriptor: it outlives the loop and never hits a stranger's file")
        func signallerOutlives() throws {
            try expectNoLeak {
                var signaller: EventSignaller?
                do {
                    let loop = try Loop()
                    signaller = try loop.eventfd { _, _ in }.signaller
                }
                try strike(at: try #require(signaller).descriptor) { signaller?.signal(0x7878_7878) }
                signaller = nil
            }
            // Also where only the watch has ended.
            try expectNoLeak {
                let loop = try Loop()
                let event = try loop.eventfd { _, _ in }
                event.cancel()
                try pump(loop)
                try strike(at: event.descriptor) { event.signaller.signal(0x7878_7878) }
            }
        }

        /// Opens many files, then signals: none of them may have got the number, or the bytes.
        private func strike(at number: CInt, _ signal: () -> Void) throws {
            let files = (0..<32).map { _ in ScratchFile.open() }
            defer { for file in files { close(file) } }
            #expect(!files.contains(number))
            signal()
            #expect(files.allSatisfy { ScratchFile.size($0) == 0 })
        }

        // MARK: E2 the waker

        @Test("E2 signals coalesce: one wake, one call, from any thread")
        func coalesces() throws {
            let loop = try Loop()
            var wakes = 0
            loop.onWake { _ in wakes += 1 }
            let waker = loop.waker
            #expect(waker === loop.waker)
            for _ in 0..<100 { waker.signal() }
            try pump(loop, 3)
            #expect(wakes == 1)
            Threads.spawn { for _ in 0..<100 { waker.signal() } }.join()
            try pump(loop, 3)
            #expect(wakes == 2)
            try expectQuiet(loop)
            #expect(wakes == 2)
        }

        @Test("E2 a signal ends a wait, with a handler and without")
        func endsAWait() throws {
            let loop = try Loop()
            let waker = loop.waker
            for withHandler in [false, true] {
                var wakes = 0
                if withHandler { loop.onWake { _ in wakes += 1 } }
                let thread = Threads.spawn {
                    usleep(20_000)
                    waker.signal()
                }
                let spent = try Spent.measure { try loop.runOnce(timeout: .seconds(20)) }
                thread.join()
                #expect(spent.wallMilliseconds < Effort.atMost(10_000))
                #expect(spent.wallMilliseconds >= 15)
                #expect(wakes == (withHandler ? 1 : 0))
            }
            try expectQuiet(loop)
        }

        @Test("E2 a signal from within a callback wakes the next turn")
        func signalFromInside() throws {
            let loop = try Loop()
            var wakes = 0
            loop.onWake { loop in
                wakes += 1
                if wakes < 20 { loop.waker.signal() }
            }
            loop.waker.signal()
            for turn in 1...20 {
                try loop.runOnce(timeout: .seconds(5))
                try #require(wakes == turn)
            }
            try expectQuiet(loop)
        }

        @Test("E2 one handler: a second replaces the first, nil removes it, and both are released")
        func oneHandler() throws {
            let loop = try Loop()
            let calls = Calls()
            let ended = Tracker.Count()
            func handler(_ name: String) -> (Loop) -> Void {
                let tracker = Tracker(ended)
                return { _ in
                    tracker.touch()
                    calls.add(name)
                }
            }
            loop.onWake(handler("first"))
            loop.onWake(handler("second"))
            #expect(ended.ended == 1)
            loop.waker.signal()
            try pump(loop, 2)
            #expect(calls.names == ["second"])
            loop.onWake(nil)
            #expect(ended.ended == 2)
            loop.waker.signal()
            try pump(loop, 2)
            #expect(calls.names == ["second"])
            // A handler that removes itself while it runs.
            let tracker = handler("third")
            loop.onWake { loop in
                tracker(loop)
                loop.onWake(nil)
                calls.add("still here")
            }
            loop.waker.signal()
            try pump(loop, 2)
            loop.waker.signal()
            try pump(loop, 2)
            #expect(calls.names == ["second", "third", "still here"])
            try expectQuiet(loop)
        }

        @Test("E2 the end of a replaced handler, and of a deferred block, may call the loop")
        func endOfHandlerCallsTheLoop() async {
            await #expect(processExitsWith: .success) { try endHandlersThatCallTheLoop() }
        }

        @Test("E2 a full counter still wakes")
        func saturatedWaker() throws {
            let before = OpenDescriptors.eventCounters()
            let loop = try Loop()
            var wakes = 0
            loop.onWake { _ in wakes += 1 }
            let waker = loop.waker
            let counters = OpenDescriptors.eventCounters().subtracting(before)
            #expect(counters.count == 1)
            let counter = try #require(counters.first)
            try pump(loop, 2)
            for _ in 0..<3 {
                // Fill it: what is there first, then all that fits.
                let present = IO.readCounter(counter) ?? 0
                #expect(present < DescriptorTests.full)
                #expect(IO.writeCounter(counter, DescriptorTests.full))
                try pump(loop, 2)
                let seen = wakes
                waker.signal()
                try loop.runOnce(timeout: .seconds(5))
                #expect(wakes == seen + 1)
            }
            try expectQuiet(loop)
            // And while the loop sleeps.
            _ = IO.readCounter(counter)
            #expect(IO.writeCounter(counter, DescriptorTests.full))
            try pump(loop, 2)
            let seen = wakes
            let thread = Threads.spawn {
                usleep(20_000)
                for _ in 0..<4 { waker.signal() }
            }
            let spent = try Spent.measure {
                while wakes == seen { try loop.runOnce(timeout: .seconds(20)) }
            }
            thread.join()
            #expect(spent.wallMilliseconds < Effort.atMost(10_000))
            try pump(loop, 3)
            try expectQuiet(loop)
        }

        @Test("E2 no wake-up is lost, and what was written before the signal is seen in the handler")
        func nothingIsLost() throws {
            let loop = try Loop()
            let producers = 4
            let each = Effort.isLong ? 500_000 : 50_000
            let posted = (0..<producers).map { _ in Tally() }
            let waker = loop.waker
            loop.onWake { loop in
                if posted.allSatisfy({ $0.value == each }) { loop.stop() }
            }
            let threads = posted.map { tally in
                Threads.spawn {
                    for round in 0..<each {
                        tally.add()
                        waker.signal()
                        if round % 1_000 == 0 { usleep(1) }
                    }
                }
            }
            // Were the last signal lost, this would hang, and the limit of the test would say so.
            try loop.run()
            for thread in threads { thread.join() }
            #expect(posted.map(\.value) == Array(repeating: each, count: producers))
            try pump(loop, 2)
            try expectQuiet(loop)
        }

        @Test("E2 the handler runs once for each of many separate signals across threads")
        func pingPong() throws {
            let loop = try Loop()
            let rounds = 2_000
            let seen = Tally()
            var wakes = 0
            loop.onWake { loop in
                wakes += 1
                seen.add()
                if wakes == rounds { loop.stop() }
            }
            let waker = loop.waker
            let thread = Threads.spawn {
                for round in 0..<rounds {
                    waker.signal()
                    while seen.value <= round { sched_yield() }
                }
            }
            try loop.run()
            thread.join()
            #expect(wakes == rounds)
            try expectQuiet(loop)
        }

        @Test(
            "E2 the waker's counter is written once a signal and not read",
            .enabled(if: Strace.works, "strace cannot trace here"))
        func wakerCost() throws {
            let calls = try Strace.calls("read,readv,preadv2,epoll_ctl", "waker-cost")
            #expect(calls["wakes"]?.count == 0, "\(calls)")
        }

        @Test("E2 a waker outlives its loop; a late signal never hits a stranger's file")
        func wakerOutlives() throws {
            try expectNoLeak {
                var waker: Waker?
                let before = OpenDescriptors.eventCounters()
                do {
                    let loop = try Loop()
                    waker = loop.waker
                }
                let counters = OpenDescriptors.eventCounters().subtracting(before)
                #expect(counters.count == 1, "the descriptor goes with the last waker")
                try strike(at: try #require(counters.first)) { waker?.signal() }
                waker = nil
                #expect(OpenDescriptors.eventCounters() == before)
            }
        }

        @Test("E2 threads may signal while the loop ends, again and again")
        func signalsDuringTheEnd() throws {
            try expectNoLeak {
                for round in 0..<50 {
                    var threads: [RunningThread] = []
                    do {
                        let loop = try Loop()
                        let waker = loop.waker
                        let signaller = try loop.eventfd { _, _ in }.signaller
                        for _ in 0..<2 {
                            threads.append(
                                Threads.spawn {
                                    for _ in 0..<200 {
                                        waker.signal()
                                        signaller.signal()
                                    }
                                })
                        }
                        if round % 2 == 0 { try loop.runOnce(timeout: .milliseconds(1)) }
                    }
                    // Files that are opened and written while late signals come.
                    let file = ScratchFile.open()
                    for thread in threads { thread.join() }
                    #expect(ScratchFile.size(file) == 0)
                    close(file)
                }
            }
        }

        // MARK: E3 internal descriptors

        @Test("E3 no descriptor of the loop's own can be watched, replaced or unwatched")
        func internalsAreRefused() throws {
            let before = OpenDescriptors.all()
            let loop = try Loop()
            _ = loop.waker
            _ = try loop.descriptor
            let event = try loop.eventfd { _, _ in }
            let internals = OpenDescriptors.all().keys.filter { before[$0] == nil }.sorted()
            #expect(internals.count >= 4)
            #expect(internals.contains(event.descriptor))
            for descriptor in internals {
                #expect(
                    failure { () throws(LoopError) in try loop.watch(descriptor, read: { _, _, _ in }) }
                        == .internalDescriptor(descriptor))
                #expect(
                    failure { () throws(LoopError) in try loop.watch(descriptor, read: { _, _, _, _ in }, data: 1) }
                        == .internalDescriptor(descriptor))
                #expect(
                    failure { () throws(LoopError) in try loop.unwatch(descriptor) } == .internalDescriptor(descriptor))
                #expect(loop.watcher(of: descriptor) == nil, "a handle on an internal descriptor")
            }
            #expect(loop.statistics.watchers == 0 || loop.statistics.watchers == 1)
            // All of it still works.
            var woken = false
            var fired = false
            loop.onWake { _ in woken = true }
            loop.waker.signal()
            loop.after(.milliseconds(1)) { _, _ in fired = true }
            let done = try pump(loop, milliseconds: 1_000) { woken && fired }
            #expect(done)
            try expectQuiet(loop)
        }

        @Test("E3 a number that an ended counter gave back is an ordinary one again")
        func numberIsFreed() throws {
            let loop = try Loop()
            let calls = Calls()
            var number: CInt = -1
            do {
                let event = try loop.eventfd { _, _ in }
                number = event.descriptor
                event.cancel()
            }
            try pump(loop, 2)
            #expect(!IO.isOpen(number), "nobody holds it any more")
            let pipe = Pipe.readable()
            IO.place(pipe.reader, at: number)
            defer { close(number) }
            try loop.watch(number, read: calls.draining("read"))
            try pump(loop, 2)
            #expect(calls.names == ["read"])
            #expect(try loop.unwatch(number))
            try expectQuiet(loop)
        }

        @Test("E3 another loop's descriptors are ordinary ones")
        func othersAreOrdinary() throws {
            let first = try Loop()
            let second = try Loop()
            var driven = 0
            try first.watch(
                second.descriptor,
                read: { _, _, _ in
                    driven += 1
                    #expect(throws: Never.self) { try second.runOnce(timeout: .zero) }
                })
            second.defer { _ in }
            try pump(first, 2)
            #expect(driven == 1)
            #expect(try first.unwatch(second.descriptor))
            try expectQuiet(first)
        }
    }
}

/// In a process of its own: an access that overlaps another ends it.
private func endHandlersThatCallTheLoop() throws {
    let loop = try Loop()
    let calls = Calls()
    let ended = Tracker.Count()
    do {
        let tracker = Tracker(ended) { [unowned loop] in
            loop.onWake { _ in calls.add("made by an end") }
            loop.waker.signal()
            loop.defer { _ in calls.add("deferred by an end") }
        }
        loop.onWake { _ in tracker.touch() }
    }
    loop.onWake { _ in calls.add("replaced") }
    try pump(loop, 2)
    if ended.ended != 1 || calls.names.last != "deferred by an end" || calls.names.count != 2 { exit(1) }
    // A deferred block's end, too.
    do {
        let tracker = Tracker(ended) { [unowned loop] in loop.defer { _ in calls.add("again") } }
        loop.defer { _ in tracker.touch() }
    }
    try pump(loop, 3)
    if ended.ended != 2 || calls.names.last != "again" { exit(2) }
}
