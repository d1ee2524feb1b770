import CLinux
import Glibc
import LinuxEvent
import TestSupport
import Testing

extension LinuxEventSuite.WatchTests {
    // MARK: W12 release

    @Test("W12 handlers and data are released after unwatch, and not while they run")
    func release() throws {
        let loop = try Loop()
        let ended = Tracker.Count()
        let pipe = Pipe()
        func watch() throws {
            let tracker = Tracker(ended)
            try loop.watch(
                pipe.reader,
                read: { loop, fd, _, data in
                    tracker.touch()
                    IO.drain(fd)
                    #expect((try? loop.unwatch(fd)) == true)
                    data.touch()
                    #expect(ended.ended % 2 == 0, "released while running")
                }, data: Tracker(ended))
        }
        try watch()
        try pump(loop)
        #expect(ended.ended == 0)
        try loop.unwatch(pipe.reader)
        try pump(loop)
        #expect(ended.ended == 2)
        try watch()
        pipe.write()
        try pump(loop, 2)
        #expect(ended.ended == 4)
        try expectQuiet(loop)
    }

    @Test("W12 a release may run a deinit that calls the loop")
    func deinitCallsTheLoop() throws {
        let loop = try Loop()
        let calls = Calls()
        let ended = Tracker.Count()
        let pipes = (0..<4).map { _ in Pipe.readable() }
        // Each object's end replaces, ends and makes watchers, schedules and defers.
        func watch(_ index: Int) throws {
            let tracker = Tracker(ended) { [unowned loop] in
                loop.defer { _ in calls.add("deferred") }
                loop.after(.zero) { _, _ in calls.add("timer") }
                #expect(throws: Never.self) {
                    try loop.unwatch(pipes[3].reader)
                    try loop.watch(pipes[3].reader, read: calls.handler("made by a deinit"))
                    _ = loop.watcher(of: pipes[0].reader)?.cancel()
                }
            }
            try loop.watch(
                pipes[index].reader,
                read: { loop, fd, _ in
                    tracker.touch()
                    calls.add("read")
                    IO.drain(fd)
                    #expect(throws: Never.self) { try loop.unwatch(fd) }
                })
        }
        for index in 0..<3 { try watch(index) }
        try pump(loop, 5)
        #expect(ended.ended == 3)
        #expect(calls.count(of: "read") == 3)
        #expect(calls.count(of: "timer") == 3)
        #expect(calls.count(of: "deferred") == 3)
        #expect(calls.names.contains("made by a deinit"))
        #expect(loop.statistics.watchers == 1)
        // And outside of a turn.
        try loop.unwatch(pipes[3].reader)
        pipes[1].write()
        try watch(1)
        try loop.unwatch(pipes[1].reader)
        try pump(loop, 5)
        #expect(ended.ended == 4)
        try loop.unwatch(pipes[3].reader)
        try expectQuiet(loop)
    }

    @Test("W12 a deinit that calls the loop while the loop ends is no trouble")
    func deinitAtTheEnd() throws {
        let ended = Tracker.Count()
        let pipe = Pipe()
        try expectNoLeak {
            let loop = try Loop()
            let tracker = Tracker(ended) { [weak loop] in
                _ = try? loop?.unwatch(pipe.reader)
                loop?.defer { _ in }
                loop?.after(.zero) { _, _ in }
                _ = try? loop?.watch(pipe.reader, read: { _, _, _ in })
            }
            try loop.watch(pipe.reader, read: { _, _, _ in tracker.touch() })
            loop.after(.seconds(1)) { _, _ in tracker.touch() }
            try loop.close()
        }
        #expect(ended.ended == 1)
    }

    @Test(
        "W12 the handlers of 8,000 watchers ended in one callback are released in turns, soon, without events"
    )
    func massUnwatch() throws {
        let loop = try Loop()
        let ended = Tracker.Count()
        let trigger = Pipe.readable()
        let idle = Pipe()
        let count = 8_000
        let copies = (0..<count).map { _ in IO.copy(idle.reader) }
        defer { for copy in copies { close(copy) } }
        var last: UInt64 = 0
        for copy in copies {
            let tracker = Tracker(ended) { last = Clock.monotonic() }
            try loop.watch(copy, read: { _, _, _ in tracker.touch() })
        }
        try loop.watch(
            trigger.reader,
            read: { loop, fd, _ in
                IO.drain(fd)
                for copy in copies { #expect((try? loop.unwatch(copy)) == true) }
                #expect(ended.ended == 0, "released before the callback returned")
            })
        try pump(loop)
        let afterOneTurn = ended.ended
        #expect(afterOneTurn < count, "released in one go")
        // Nothing else is to be done, and still the loop does not rest on them.
        let end = loop.after(.milliseconds(200)) { loop, _ in loop.stop() }
        let deadline = try #require(end.deadline).nanoseconds
        try loop.run()
        #expect(ended.ended == count)
        #expect(last < deadline, "they waited for the timer")
        #expect(loop.statistics.watchers == 1)
        try expectQuiet(loop)
    }

    @Test("W12 a long chain of releases, each of which ends the next watcher, does not pile up on the stack")
    func chainOfReleases() throws {
        let loop = try Loop()
        let ended = Tracker.Count()
        let idle = Pipe()
        let count = 15_000
        let copies = (0..<count).map { _ in IO.copy(idle.reader) }
        defer { for copy in copies { close(copy) } }
        for (index, copy) in copies.enumerated() {
            let tracker = Tracker(ended) { [unowned loop] in
                if index + 1 < count { #expect((try? loop.unwatch(copies[index + 1])) == true) }
            }
            try loop.watch(copy, read: { _, _, _ in tracker.touch() })
        }
        // On a small stack it would show at once; on this one it takes some more.
        try loop.unwatch(copies[0])
        let done = try pump(loop, milliseconds: 5_000) { ended.ended == count }
        #expect(done)
        #expect(loop.statistics.watchers == 0)
        try expectQuiet(loop)
    }

    @Test("W12 L8 a deinit outside of a turn may make a turn, which waits as any other")
    func turnInADeinit() throws {
        let loop = try Loop()
        let ended = Tracker.Count()
        let calls = Calls()
        let pipe = Pipe()
        let other = Pipe.readable()
        var spent: Spent?
        do {
            let tracker = Tracker(ended) { [unowned loop] in
                let turns = loop.statistics.turns
                #expect(throws: Never.self) {
                    try loop.watch(
                        other.reader,
                        read: { loop, fd, watcher in
                            calls.add("read")
                            IO.drain(fd)
                            watcher.cancel()
                        })
                    #expect(try loop.runOnce(timeout: .milliseconds(50)).events == 1)
                    spent = try Spent.measure { try loop.runOnce(timeout: .milliseconds(50)) }
                }
                #expect(loop.statistics.turns - turns < 5, "the loop turns without work")
            }
            try loop.watch(pipe.reader, read: { _, _, _ in tracker.touch() })
        }
        #expect(try loop.unwatch(pipe.reader))
        #expect(ended.ended == 1)
        #expect(calls.names == ["read"])
        #expect(try #require(spent).wallMilliseconds >= 50)
        try expectQuiet(loop)
    }

    @Test("W12 an object that keeps its watcher makes no cycle that unwatch does not break")
    func cycleIsBroken() throws {
        final class Connection {
            var watcher: Watcher?
            let tracker: Tracker
            init(_ ended: Tracker.Count) { tracker = Tracker(ended) }
        }
        let ended = Tracker.Count()
        let pipe = Pipe()
        do {
            let loop = try Loop()
            do {
                let connection = Connection(ended)
                connection.watcher = try loop.watch(
                    pipe.reader, read: { _, _, watcher in connection.watcher = watcher })
            }
            pipe.write()
            try pump(loop, 2)
            #expect(ended.ended == 0)
            try loop.unwatch(pipe.reader)
            try pump(loop)
            #expect(ended.ended == 1)

            // With data, and ended by the handle.
            do {
                let connection = Connection(ended)
                connection.watcher = try loop.watch(
                    pipe.reader, read: { _, _, _, connection in _ = connection.watcher }, data: connection)
                connection.watcher?.cancel()
            }
            try pump(loop)
            #expect(ended.ended == 2)

            // And never ended: the loop's end does it.
            do {
                let connection = Connection(ended)
                connection.watcher = try loop.watch(
                    pipe.reader, read: { _, _, _ in _ = connection.watcher })
            }
            #expect(ended.ended == 2)
        }
        #expect(ended.ended == 3)
    }
}
