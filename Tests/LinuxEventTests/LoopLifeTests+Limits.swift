import CLinux
import Glibc
import LinuxEvent
import TestSupport
import Testing

extension LinuxEventSuite.LoopLifeTests {
    // MARK: L11 failures of creation

    @Test("L11 with too few free descriptors creation throws EMFILE and leaks nothing")
    func creationFailsCleanly() throws {
        try expectNoLeak {
            var needed: Int?
            for spare in 0..<10 where needed == nil {
                try expectNoLeak {
                    DescriptorLimit.leaving(spare: spare) {
                        do throws(LoopError) {
                            let loop = try Loop()
                            needed = spare
                            try loop.close()
                        } catch {
                            #expect(error.code == EMFILE)
                        }
                    }
                }
            }
            #expect(try #require(needed) > 0, "the limit was not in force")
        }
        // And afterwards all is well.
        let loop = try Loop()
        try pump(loop)
    }

    @Test("L11 eventfd and loop.descriptor fail cleanly too, and the loop goes on")
    func laterDescriptorsFailCleanly() throws {
        let loop = try Loop()
        let calls = Calls()
        let pipe = Pipe()
        try loop.watch(pipe.reader, read: calls.draining("read"))
        let ended = Tracker.Count()
        try expectNoLeak {
            DescriptorLimit.leaving(spare: 0) {
                let tracker = Tracker(ended)
                let eventError = failure { () throws(LoopError) in
                    try loop.eventfd { _, _ in tracker.touch() }
                }
                #expect(eventError?.code == EMFILE)
                do throws(LoopError) {
                    _ = try loop.descriptor
                } catch {
                    #expect(error.code == EMFILE)
                }
            }
        }
        try pump(loop)
        #expect(ended.ended == 1, "the refused handler is kept")
        let descriptor = try loop.descriptor
        #expect(!isReadable(descriptor))
        pipe.write()
        try pump(loop)
        #expect(calls.names == ["read"])
        try expectQuiet(loop)
    }

    @Test(
        "L11 every system call of creation may fail: a typed error, and nothing leaked",
        .enabled(if: Strace.works, "strace cannot trace here"),
        arguments: ["epoll_create1", "timerfd_create", "eventfd2", "signalfd4", "pidfd_open", "epoll_ctl"])
    func creationFaults(call: String) throws {
        let errors = call == "epoll_ctl" ? ["ENOSPC", "ENOMEM"] : ["EMFILE", "ENFILE", "ENOMEM"]
        for error in errors {
            // A fault whose call's result does not matter looks like none: the end is a row of them.
            var completed = 0
            for occurrence in 1...40 where completed < 3 {
                let outcome = try Strace.inject(
                    "\(call):error=\(error):when=\(occurrence)", "trial embedded \(call) \(error)")
                #expect(outcome.exitCode == 0, "\(call) \(error) \(occurrence): \(outcome)")
                completed = outcome.output.contains("passed") ? completed + 1 : 0
                if occurrence == 1, call == "epoll_create1" { #expect(completed == 0, "nothing was injected") }
                if outcome.exitCode != 0 { return }
            }
            #expect(completed == 3, "no run without a failure was reached")
        }
    }

    @Test(
        "L16 a missing kernel feature is a typed error that names it",
        .enabled(if: Strace.works, "strace cannot trace here"),
        arguments: ["epoll_create1", "timerfd_create", "eventfd2", "timerfd_settime", "epoll_pwait2"])
    func missingFeature(call: String) throws {
        let outcome = try Strace.inject("\(call):error=ENOSYS", "missing")
        #expect(outcome.exitCode == 0, "\(outcome)")
        if call == "epoll_create1" { #expect(outcome.output.contains("refused: ")) }
    }

    // MARK: L12 memory

    private func expectFlat(
        _ rounds: Int, allowing bytes: Int = 2 << 20, sourceLocation: SourceLocation = #_sourceLocation,
        _ body: (Int) throws -> Void
    ) throws {
        try body(rounds / 10)
        if Build.hasOwnAllocator { return print("L12: not measured, a sanitizer's allocator keeps freed memory back") }
        let before = Memory.residentBytes()
        #expect(before > 0)
        try body(rounds)
        let grown = Memory.residentBytes() - before
        // Other kernels give memory out in pages of 2 MB.
        let bytes = Effort.slowness > 1 ? 4 * bytes : bytes
        #expect(grown < bytes, "\(grown) bytes", sourceLocation: sourceLocation)
    }

    @Test("L12 a million rounds of watch and unwatch leave no growth")
    func watchRoundsAreFlat() throws {
        let loop = try Loop()
        let pipe = Pipe()
        try expectFlat(Effort.rounds(1_000_000)) { rounds in
            for _ in 0..<rounds {
                try loop.watch(pipe.reader, read: { _, _, _ in })
                try loop.unwatch(pipe.reader)
            }
        }
        #expect(loop.statistics.watchers == 0)
        try expectQuiet(loop)
    }

    @Test("L12 rounds inside turns, replacements included, leave no growth")
    func watchRoundsInTurnsAreFlat() throws {
        let loop = try Loop()
        let pipe = Pipe()
        try expectFlat(Effort.rounds(2_000)) { turns in
            for _ in 0..<turns {
                loop.defer { loop in
                    for _ in 0..<50 {
                        #expect(throws: Never.self) {
                            try loop.watch(pipe.reader, read: { _, _, _ in })
                            try loop.watch(pipe.reader, read: { _, _, _ in })
                            try loop.unwatch(pipe.reader)
                        }
                    }
                }
                try pump(loop)
            }
        }
        try expectQuiet(loop)
    }

    @Test(
        "L12 a million rounds of schedule and cancel leave no growth",
        .enabled(if: !Build.hasOwnAllocator, "a sanitizer's allocator keeps freed memory back"))
    func timerRoundsAreFlat() throws {
        let loop = try Loop()
        try expectFlat(Effort.rounds(1_000_000)) { rounds in
            for round in 0..<rounds {
                let timer = loop.after(.seconds(1 + round & 1_023)) { _, _ in }
                timer.cancel()
            }
        }
        #expect(loop.statistics.timersLive == 0)
        try expectQuiet(loop)
    }

    @Test(
        "L12 user objects that keep their watchers cost nothing beyond themselves",
        .enabled(if: !Build.hasOwnAllocator, "a sanitizer's allocator keeps freed memory back"))
    func keptWatchersAreFlat() throws {
        final class Connection {
            var watcher: Watcher?
            var page = [UInt8](repeating: 0, count: 1_000)
        }
        let loop = try Loop()
        let pipe = Pipe()
        try expectFlat(Effort.rounds(100_000)) { rounds in
            for _ in 0..<rounds {
                let connection = Connection()
                connection.watcher = try loop.watch(pipe.reader, read: { _, _, _ in _ = connection.page.count })
                connection.watcher?.cancel()
            }
        }
        // One watcher, kept by the user through all of them, keeps its own record at most.
        var kept: [Watcher] = []
        try expectFlat(Effort.rounds(100_000)) { rounds in
            for _ in 0..<rounds {
                let watcher = try loop.watch(pipe.reader, read: { _, _, _ in })
                if kept.count < 10 { kept.append(watcher) }
                watcher.cancel()
            }
        }
        #expect(kept.allSatisfy { !$0.isActive })
        try expectQuiet(loop)
    }

    @Test(
        "L12 the memory of three hundred thousand timers goes back when they are cancelled",
        .enabled(if: !Build.hasOwnAllocator, "a sanitizer's allocator keeps freed memory back"))
    func timersGoBack() throws {
        let loop = try Loop()
        func round(_ count: Int) -> Int {
            let timers = (0..<count).map { index in loop.after(.seconds(1 + index & 1_023)) { _, _ in } }
            let held = Memory.heldBytes()
            for timer in timers { timer.cancel() }
            return held
        }
        _ = round(1_000)
        let before = Memory.heldBytes()
        let full = round(300_000)
        #expect(full - before > 10 << 20, "the measure is blind")
        #expect(Memory.heldBytes() - before < 4 << 20)
        #expect(loop.statistics.timersLive == 0)
        try expectQuiet(loop)
    }

    @Test(
        "L12 the memory of watchers that lie far apart goes back when they are unwatched",
        .enabled(if: !Build.hasOwnAllocator, "a sanitizer's allocator keeps freed memory back"))
    func scatteredWatchersGoBack() throws {
        let loop = try Loop()
        let pipe = Pipe()
        let numbers = stride(from: CInt(1_024), to: CInt(DescriptorLimit.current), by: 256).map { $0 }
        guard numbers.count >= 64 else { return print("L12: too few descriptors are allowed here") }
        for number in numbers { IO.place(pipe.reader, at: number) }
        defer { for number in numbers { close(number) } }
        func round() throws -> Int {
            for number in numbers { try loop.watch(number, read: { _, _, _ in }) }
            let full = Memory.heldBytes()
            for number in numbers { try loop.unwatch(number) }
            return full
        }
        // What earlier tests have freed may lie in pages that are still held, and would be used first.
        let plugs = (0..<8_000).map { _ in malloc(8_192) }
        defer { for plug in plugs { free(plug) } }
        let before = Memory.heldBytes()
        let full = try round()
        let after = Memory.heldBytes()
        #expect(full - before > numbers.count * 4_096, "the measure is blind")
        // Some is kept for the next ones.
        #expect(after - before < (full - before) * 6 / 10, "\(before), \(full), \(after)")
        // What was let go of is made anew.
        _ = try round()
        let calls = Calls()
        try loop.watch(numbers[40], read: calls.draining("read"))
        pipe.write()
        try pump(loop, 2)
        #expect(calls.names == ["read"])
        #expect(try loop.unwatch(numbers[40]))
        try expectQuiet(loop)
    }

    @Test("L12 a block that defers itself anew leaves no growth")
    func selfDeferringIsFlat() throws {
        let loop = try Loop()
        func again(_ loop: Loop) { loop.defer { loop in again(loop) } }
        again(loop)
        again(loop)
        try expectFlat(300_000) { rounds in try pump(loop, rounds) }
    }

    // MARK: L13 fairness

    @Test("L13 nobody starves: endless input, a self-renewing timer and a self-deferring block beside others")
    func fairness() throws {
        let loop = try Loop()
        let endless = Pipe.readable()
        let other = Pipe()
        var counts: [String: Int] = [:]
        func renew(_ loop: Loop) {
            counts["zero timer", default: 0] += 1
            loop.after(.zero) { loop, _ in renew(loop) }
        }
        func again(_ loop: Loop) {
            counts["deferred", default: 0] += 1
            loop.defer { loop in again(loop) }
        }
        try loop.watch(endless.reader, read: { _, _, _ in counts["endless", default: 0] += 1 })
        try loop.watch(
            other.reader,
            read: { _, fd, _ in
                IO.drain(fd)
                counts["other", default: 0] += 1
            })
        try loop.every(.milliseconds(10)) { _, timer in
            counts["timer", default: 0] += 1
            other.write()
        }
        loop.onWake { loop in
            counts["wake", default: 0] += 1
            loop.waker.signal()
        }
        loop.waker.signal()
        let event = try loop.eventfd { _, event in
            counts["event", default: 0] += 1
            event.signaller.signal()
        }
        event.signaller.signal()
        renew(loop)
        again(loop)
        loop.after(.milliseconds(300)) { loop, _ in loop.stop() }
        let spent = try Spent.measure { try loop.run() }
        #expect(spent.wallMilliseconds < Effort.atMost(1_000))
        for name in ["zero timer", "deferred", "endless", "wake", "event"] {
            #expect(counts[name, default: 0] > 100, "\(name): \(counts)")
        }
        #expect(counts["timer", default: 0] >= 10, "\(counts)")
        #expect(counts["other", default: 0] >= 9, "\(counts)")
    }

    @Test("L13 due timers and deferred blocks have a budget: descriptors are served in between")
    func budgets() throws {
        let loop = try Loop()
        let count = 50_000
        var timers = 0
        var deferred = 0
        var order = true
        var seen: [(timers: Int, deferred: Int)] = []
        let pipe = Pipe.readable()
        try loop.watch(pipe.reader, read: { _, _, _ in seen.append((timers, deferred)) })
        for index in 0..<count {
            loop.after(.zero) { _, _ in timers += 1 }
            loop.defer { _ in
                if deferred != index { order = false }
                deferred += 1
            }
        }
        let done = try pump(loop, milliseconds: 10_000) { timers == count && deferred == count }
        #expect(done)
        #expect(order, "a budget must not change the order of deferred blocks")
        #expect(seen.contains { $0.timers > 0 && $0.timers < count }, "timers ran in one go")
        #expect(seen.contains { $0.deferred > 0 && $0.deferred < count }, "deferred blocks ran in one go")
    }

    @Test("L13 statistics tell how many timers are due and wait for another turn, without those that were cancelled")
    func timersDue() throws {
        let loop = try Loop()
        var ran = 0
        let timers = (0..<10_000).map { _ in loop.after(.zero) { _, _ in ran += 1 } }
        loop.after(.seconds(3_600)) { _, _ in }
        #expect(loop.statistics.timersDue == 0, "nothing is due before a turn has looked")
        try pump(loop)
        #expect(ran > 0 && ran < timers.count)
        #expect(loop.statistics.timersDue == timers.count - ran)
        #expect(loop.statistics.timersLive == timers.count - ran + 1)
        #expect(timers.last?.cancel() == true)
        #expect(loop.statistics.timersDue == timers.count - ran - 1)
        let done = try pump(loop, milliseconds: 5_000) { ran == timers.count - 1 }
        #expect(done)
        #expect(loop.statistics.timersDue == 0)
    }

    @Test("L13 what is over the budget goes on at once, without an event", arguments: ["timers", "deferred"])
    func leftoversDoNotWait(kind: String) throws {
        let loop = try Loop()
        let count = 10_000
        var ran = 0
        for _ in 0..<count {
            if kind == "timers" { loop.after(.zero) { _, _ in ran += 1 } } else { loop.defer { _ in ran += 1 } }
        }
        let spent = try Spent.measure {
            for _ in 0..<3 { try loop.runOnce(timeout: .seconds(8)) }
        }
        #expect(ran == count)
        #expect(spent.wallMilliseconds < 4_000)
        try expectQuiet(loop)
    }

    @Test("L13 many always-ready descriptors are all served")
    func manyReady() throws {
        let loop = try Loop()
        let source = Pipe.readable()
        let copies = (0..<3_000).map { _ in IO.copy(source.reader) }
        defer { for copy in copies { close(copy) } }
        var calls = [CInt: Int]()
        for copy in copies { try loop.watch(copy, read: { _, fd, _ in calls[fd, default: 0] += 1 }) }
        try pump(loop, 60)
        #expect(calls.count == copies.count)
        let counts = calls.values
        // The kernel serves in rotation: nobody is more than a round ahead.
        #expect((counts.max() ?? 0) - (counts.min() ?? 0) <= 1)
    }
}
