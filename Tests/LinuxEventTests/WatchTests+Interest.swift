import CLinux
import Glibc
import LinuxEvent
import TestSupport
import Testing

extension LinuxEventSuite.WatchTests {
    // MARK: W5 interest

    @Test("W5 outside a turn a change of interest is applied at once")
    func interestOutside() throws {
        let probe = try Probe()
        let loop = probe.loop
        let calls = Calls()
        let pair = Sockets.unixPair()
        let watcher = try loop.watch(pair.near, read: calls.draining("read"), write: calls.handler("write"))
        #expect(try watcher.disableWrite())
        #expect(watcher.interest == [.read])
        #expect(probe.asks(pair.near, .writable) == false)
        #expect(probe.asks(pair.near, .readable) == true)
        #expect(try watcher.enableWrite())
        #expect(probe.asks(pair.near, [.readable, .writable]) == true)
        #expect(try watcher.setInterest([.write]))
        #expect(probe.asks(pair.near, .readable) == false)
        #expect(try watcher.setInterest([.read]))
        IO.write(pair.far)
        try pump(loop, 2)
        #expect(calls.names == ["read"])
        #expect(try watcher.disableRead())
        #expect(probe.asks(pair.near, .readable) != true)
        IO.write(pair.far)
        try pump(loop, 2)
        #expect(calls.names == ["read"])
        try expectQuiet(loop)
    }

    @Test("W5 inside a turn the kernel is told once, before the next wait", arguments: ["event", "timer", "deferred"])
    func interestInside(place: String) throws {
        let probe = try Probe()
        let loop = probe.loop
        let pair = Sockets.unixPair()
        let trigger = Pipe()
        let watcher = try loop.watch(pair.near, read: { _, _, _ in }, write: { _, _, _ in })
        try watcher.disableWrite()
        let before = probe.mask(pair.near)
        var inside: UInt32?
        func change() {
            #expect(throws: Never.self) {
                try watcher.enableWrite()
                try watcher.disableRead()
            }
            #expect(watcher.interest == [.write])
            inside = probe.mask(pair.near)
        }
        switch place {
        case "event":
            trigger.write()
            try loop.watch(
                trigger.reader,
                read: { _, fd, _ in
                    IO.drain(fd)
                    change()
                })
        case "timer": loop.after(.zero) { _, _ in change() }
        default: loop.defer { _ in change() }
        }
        try pump(loop)
        #expect(before != nil)
        #expect(inside == before)
        #expect(probe.asks(pair.near, .writable) == true)
        #expect(probe.asks(pair.near, .readable) == false)
    }

    @Test(
        "W5 what changes nothing or is undone costs no system call",
        .enabled(if: Strace.works, "strace cannot trace here"))
    func interestCosts() throws {
        let calls = try Strace.calls("epoll_ctl", "interest-cost")
        func count(_ phase: String) -> Int { calls[phase]?.count ?? -1 }
        #expect(count("dispatch") == 0)
        #expect(count("undone inside") == 0)
        #expect(count("nothing changed") == 0)
        #expect(count("changed inside") == 1)
        #expect(count("changed outside") == 1)
        #expect(count("pause and resume") == 100)
        #expect(count("end") >= 0)
    }

    @Test(
        "W5 an edge dropped while the interest was off is reported anew when it is turned on",
        arguments: [false, true])
    func droppedEdge(sameTurn: Bool) throws {
        let loop = try Loop()
        let calls = Calls()
        let first = Pipe.readable()
        let second = Pipe.readable()
        var target: Watcher?
        try loop.watch(
            first.reader,
            read: { loop, fd, _ in
                IO.drain(fd)
                calls.add("first")
                #expect(throws: Never.self) { try target?.disableRead() }
                // By then the event has been dropped; the interest is, in sum, unchanged.
                if sameTurn { loop.defer { _ in #expect(throws: Never.self) { try target?.enableRead() } } }
            })
        target = try loop.watch(second.reader, read: calls.handler("second"), edgeTriggered: true)
        try pump(loop)
        #expect(calls.names == ["first"])
        if !sameTurn { try target?.enableRead() }
        try pump(loop, 3)
        #expect(calls.names == ["first", "second"])
        try expectQuiet(loop)
        #expect(calls.names.count == 2)
    }

    @Test(
        "W5 a oneshot event dropped while the interest was off is reported anew when it is turned on",
        arguments: [false, true])
    func droppedOneshot(sameTurn: Bool) throws {
        let loop = try Loop()
        let calls = Calls()
        let first = Pipe.readable()
        let second = Pipe.readable()
        var target: Watcher?
        try loop.watch(
            first.reader,
            read: { loop, fd, _ in
                IO.drain(fd)
                #expect(throws: Never.self) { try target?.disableRead() }
                if sameTurn { loop.defer { _ in #expect(throws: Never.self) { try target?.enableRead() } } }
            })
        target = try loop.watch(second.reader, read: calls.handler("second"), oneshot: true)
        try pump(loop)
        #expect(target?.isArmed == true, "nothing was delivered")
        if !sameTurn { try target?.enableRead() }
        try pump(loop, 3)
        #expect(calls.names == ["second"])
        #expect(target?.isArmed == false)
        try expectQuiet(loop)
    }

    @Test(
        "W5 the dropped write step of an edge comes anew when write is turned on",
        arguments: [false, true])
    func droppedWriteStep(sameTurn: Bool) throws {
        let loop = try Loop()
        let calls = Calls()
        let pair = Sockets.unixPair()
        IO.write(pair.far)
        let watcher = try loop.watch(
            pair.near,
            read: { loop, fd, watcher in
                calls.add("read")
                IO.drain(fd)
                #expect(throws: Never.self) { try watcher.disableWrite() }
                if sameTurn { loop.defer { _ in #expect(throws: Never.self) { try watcher.enableWrite() } } }
            },
            write: calls.handler("write"), edgeTriggered: true)
        try pump(loop)
        #expect(calls.names == ["read"])
        if !sameTurn {
            try pump(loop)
            #expect(calls.names == ["read"])
            try watcher.enableWrite()
        }
        try pump(loop, 3)
        #expect(calls.names == ["read", "write"])
        try expectQuiet(loop)
    }

    @Test("W5 the dropped half of an edge comes anew when it is turned on, and once", arguments: [false, true])
    func droppedHalf(sameTurn: Bool) throws {
        let loop = try Loop()
        let calls = Calls()
        let first = Pipe.readable()
        let pair = Sockets.unixPair()
        IO.write(pair.far)
        var target: Watcher?
        try loop.watch(
            first.reader,
            read: { loop, fd, _ in
                IO.drain(fd)
                #expect(throws: Never.self) { try target?.disableRead() }
                if sameTurn { loop.defer { _ in #expect(throws: Never.self) { try target?.enableRead() } } }
            })
        target = try loop.watch(
            pair.near, read: calls.handler("read"), write: calls.handler("write"), edgeTriggered: true)
        try pump(loop)
        #expect(calls.names == ["write"])
        calls.clear()
        if !sameTurn { try target?.enableRead() }
        try pump(loop, 3)
        #expect(calls.names == ["read", "write"])
        // What was made up for is not repeated: a change that is undone says nothing to the kernel.
        calls.clear()
        for _ in 0..<3 {
            loop.defer { _ in
                #expect(throws: Never.self) {
                    try target?.disableRead()
                    try target?.enableRead()
                }
            }
            try pump(loop, 2)
        }
        #expect(calls.names.isEmpty)
        try expectQuiet(loop)
    }

    @Test("W5 turned off and on before its event's turn, a watcher gets the event once")
    func offAndOnBeforeTheEvent() throws {
        let loop = try Loop()
        let calls = Calls()
        let first = Pipe.readable()
        let second = Pipe.readable()
        var target: Watcher?
        try loop.watch(
            first.reader,
            read: { _, fd, _ in
                IO.drain(fd)
                #expect(throws: Never.self) {
                    try target?.disableRead()
                    try target?.enableRead()
                }
            })
        target = try loop.watch(second.reader, read: calls.handler("second"), edgeTriggered: true)
        try pump(loop, 4)
        #expect(calls.names == ["second"])
        try expectQuiet(loop)
    }

    @Test("W5 many changes in one turn end as the last one says")
    func randomInterest() throws {
        var random = SeededGenerator()
        print("random interest: seed \(random.seed)")
        let probe = try Probe()
        let loop = probe.loop
        let pairs = (0..<8).map { _ in Sockets.unixPair() }
        let watchers = try pairs.map { pair in
            IO.write(pair.far)
            return try loop.watch(pair.near, read: { _, _, _ in }, write: { _, _, _ in })
        }
        for _ in 0..<Effort.rounds(200) {
            let inside = Bool.random(using: &random)
            var wanted = watchers.map(\.interest)
            func change() throws {
                for _ in 0..<12 {
                    let index = Int.random(in: 0..<watchers.count, using: &random)
                    switch Int.random(in: 0..<5, using: &random) {
                    case 0:
                        try watchers[index].enableRead()
                        wanted[index].insert(.read)
                    case 1:
                        try watchers[index].disableRead()
                        wanted[index].remove(.read)
                    case 2:
                        try watchers[index].enableWrite()
                        wanted[index].insert(.write)
                    case 3:
                        try watchers[index].disableWrite()
                        wanted[index].remove(.write)
                    default:
                        let set = Interest(rawValue: UInt8.random(in: 0...3, using: &random))
                        try watchers[index].setInterest(set)
                        wanted[index] = set
                    }
                }
            }
            if inside {
                loop.defer { _ in #expect(throws: Never.self) { try change() } }
            } else {
                try change()
            }
            try pump(loop)
            for (index, watcher) in watchers.enumerated() {
                #expect(watcher.interest == wanted[index])
                #expect(probe.asks(pairs[index].near, .readable) == wanted[index].contains(.read))
                #expect(probe.asks(pairs[index].near, .writable) == wanted[index].contains(.write))
            }
        }
        for watcher in watchers { try watcher.setInterest([]) }
        try expectQuiet(loop)
    }

    @Test("W5 turning on a parked watcher is an ADD: it is made at once and throws")
    func enablingParkedThrows() throws {
        let probe = try Probe()
        let loop = probe.loop
        let pipe = Pipe()
        pipe.closeWriter()
        let watcher = try loop.watch(pipe.reader, read: { _, _, _ in })
        try watcher.disableRead()
        try pump(loop)
        #expect(watcher.isParked)
        pipe.closeReader()
        #expect(refusal { () throws(LoopError) in try watcher.enableRead() } == EBADF)
        #expect(watcher.isParked && watcher.interest == [])
        try expectQuiet(loop)
    }

    // MARK: W6 edges

    @Test("W6 one callback per edge; a new arrival is a new edge, also over unread data")
    func edges() throws {
        for ends in [Sockets.tcpPair(), Sockets.unixPair()] {
            let loop = try Loop()
            let calls = Calls()
            try loop.watch(ends.near, read: calls.handler("read"), edgeTriggered: true)
            for arrival in 1...5 {
                IO.write(ends.far, count: 10)
                #expect(Readiness.of(ends.near, waiting: 1_000).contains(.readable))
                try pump(loop, 3)
                #expect(calls.names.count == arrival)
            }
            // A partial read is no arrival.
            IO.read(ends.near, count: 3)
            try pump(loop, 3)
            #expect(calls.names.count == 5)
            #expect(IO.drain(ends.near).bytes == 47)
            try expectQuiet(loop)
            #expect(calls.names.count == 5)
        }
    }

    @Test("W6 readiness that was there before the watch is an edge")
    func edgeAtWatch() throws {
        let loop = try Loop()
        let calls = Calls()
        let pipe = Pipe.readable()
        try loop.watch(pipe.reader, read: calls.handler("read"), edgeTriggered: true)
        try pump(loop, 3)
        #expect(calls.names == ["read"])
        try expectQuiet(loop)
    }

    @Test("W6 turning one of two interests off does not lose edge triggering")
    func edgeSurvivesChanges() throws {
        let probe = try Probe()
        let loop = probe.loop
        let calls = Calls()
        let pair = Sockets.unixPair()
        let watcher = try loop.watch(
            pair.near, read: calls.handler("read"), write: calls.handler("write"), edgeTriggered: true)
        try pump(loop, 2)
        try watcher.disableWrite()
        #expect((probe.mask(pair.near) ?? 0) & EpollEntry.edgeTriggered != 0)
        calls.clear()
        IO.write(pair.far)
        try pump(loop, 5)
        #expect(calls.names == ["read"])
        try expectQuiet(loop)
    }

    // MARK: W7 oneshot

    @Test(
        "W7 re-armed in the callback a thousand times over unread data: exactly a thousand callbacks",
        arguments: [false, true])
    func rearmThousand(edge: Bool) throws {
        let loop = try Loop()
        let pipe = Pipe.readable()
        var calls = 0
        try loop.watch(
            pipe.reader,
            read: { _, _, watcher in
                calls += 1
                #expect(!watcher.isArmed)
                if calls < 1_000 { #expect((try? watcher.rearm()) == true) }
            }, edgeTriggered: edge, oneshot: true)
        try pump(loop, 1_100)
        #expect(calls == 1_000)
        try expectQuiet(loop)
        #expect(calls == 1_000)
    }

    @Test(
        "W7 re-armed outside the turn a thousand times over unread data: exactly a thousand callbacks",
        arguments: [false, true])
    func rearmThousandOutside(edge: Bool) throws {
        let loop = try Loop()
        let pipe = Pipe.readable()
        var calls = 0
        let watcher = try loop.watch(
            pipe.reader, read: { _, _, _ in calls += 1 }, edgeTriggered: edge, oneshot: true)
        for round in 1...1_000 {
            try pump(loop, 2)
            #expect(calls == round)
            #expect(!watcher.isArmed)
            #expect(try watcher.rearm())
            #expect(watcher.isArmed)
        }
        try watcher.disableRead()
        try expectQuiet(loop)
    }

    @Test("W7 disarmed, a watcher stays registered and is silent for data, HUP and ERR", arguments: [false, true])
    func disarmedIsSilent(edge: Bool) throws {
        let loop = try Loop()
        let calls = Calls()
        let pipe = Pipe.readable()
        let broken = Pipe()
        let reader = try loop.watch(
            pipe.reader, read: calls.handler("read"), error: calls.handler("error"), edgeTriggered: edge,
            oneshot: true)
        let writer = try loop.watch(
            broken.writer, write: calls.handler("write"), error: calls.handler("error"), edgeTriggered: edge,
            oneshot: true)
        try pump(loop, 2)
        #expect(calls.names.sorted() == ["read", "write"])
        #expect(!reader.isArmed && reader.isActive && !reader.isParked)
        #expect(loop.statistics.watchers == 2)
        #expect(loop.watcher(of: pipe.reader) == reader)
        calls.clear()
        pipe.write()
        pipe.closeWriter()
        broken.closeReader()
        try pump(loop, 3)
        try expectQuiet(loop)
        #expect(calls.names.isEmpty)
        #expect(loop.statistics.parked == 0)
        #expect(try reader.rearm())
        #expect(try writer.rearm())
        try pump(loop, 3)
        #expect(calls.names.sorted() == ["error", "read"])
        try expectQuiet(loop)
        #expect(calls.names.count == 2)
    }

    @Test("W7 a oneshot that asks for nothing but errors reports again after rearm()", arguments: [false, true])
    func errorOnlyOneshot(edge: Bool) throws {
        let loop = try Loop()
        let calls = Calls()
        let pipe = Pipe()
        pipe.closeReader()
        let only = try loop.watch(pipe.writer, error: calls.handler("error"), edgeTriggered: edge, oneshot: true)
        for round in 1...5 {
            try pump(loop, 2)
            #expect(calls.names.count == round)
            #expect(!only.isArmed)
            #expect(try only.rearm())
        }
        try pump(loop, 2)
        // The same where read is turned off.
        calls.clear()
        let off = try loop.watch(
            pipe.writer, read: calls.handler("read"), error: calls.handler("error"), edgeTriggered: edge,
            oneshot: true)
        try off.disableRead()
        for round in 1...5 {
            try pump(loop, 2)
            #expect(calls.names.count == round)
            #expect(try off.rearm())
        }
        off.cancel()
        try expectQuiet(loop)
    }

    @Test("W7 a hang-up that comes in the very turn of the delivery is kept until rearm()")
    func hangupInTheSameTurn() throws {
        let loop = try Loop()
        let calls = Calls()
        let pipe = Pipe.readable()
        let watcher = try loop.watch(
            pipe.reader,
            read: { _, fd, _ in
                calls.add("read")
                IO.drain(fd)
                pipe.closeWriter()
            }, oneshot: true)
        try pump(loop, 3)
        try expectQuiet(loop)
        #expect(calls.names == ["read"])
        try watcher.rearm()
        try pump(loop, 3)
        #expect(calls.names == ["read", "read"])
        try expectQuiet(loop)
    }

    @Test("W7 one event runs read and write, then the watcher is disarmed")
    func bothStepsOfOneEvent() throws {
        let loop = try Loop()
        let calls = Calls()
        let pair = Sockets.unixPair()
        IO.write(pair.far)
        let watcher = try loop.watch(
            pair.near, read: calls.handler("read"), write: calls.handler("write"), oneshot: true)
        try pump(loop, 3)
        #expect(calls.names == ["read", "write"])
        #expect(!watcher.isArmed)
        try expectQuiet(loop)
    }

    @Test("W7 re-armed in the read step, the write step of the same event still runs, and the next event comes")
    func rearmBetweenSteps() throws {
        let loop = try Loop()
        let calls = Calls()
        let pair = Sockets.unixPair()
        IO.write(pair.far)
        try loop.watch(
            pair.near,
            read: { _, _, watcher in
                calls.add("read")
                #expect((try? watcher.rearm()) == true)
            },
            write: calls.handler("write"), oneshot: true)
        try pump(loop)
        #expect(calls.names == ["read", "write"])
        try pump(loop)
        #expect(calls.names == ["read", "write", "read", "write"])
        try loop.unwatch(pair.near)
        try expectQuiet(loop)
    }

    @Test("W7 only rearm() arms: changes of interest do not", arguments: [false, true])
    func interestDoesNotArm(edge: Bool) throws {
        let loop = try Loop()
        let calls = Calls()
        let pair = Sockets.unixPair()
        IO.write(pair.far)
        let watcher = try loop.watch(
            pair.near, read: calls.handler("read"), write: calls.handler("write"), edgeTriggered: edge,
            oneshot: true)
        try watcher.disableWrite()
        try pump(loop, 2)
        #expect(calls.names == ["read"])
        try watcher.enableWrite()
        try pump(loop, 2)
        try watcher.disableRead()
        try watcher.enableRead()
        try pump(loop, 2)
        loop.defer { _ in
            #expect(throws: Never.self) {
                try watcher.disableRead()
                try watcher.enableRead()
            }
        }
        try pump(loop, 3)
        #expect(calls.names == ["read"])
        #expect(!watcher.isArmed)
        try expectQuiet(loop)
        try watcher.rearm()
        try pump(loop, 2)
        #expect(calls.names == ["read", "read", "write"])
        try expectQuiet(loop)
    }

    @Test("W7 another callback of the turn may re-arm, also before the flush")
    func rearmFromElsewhere() throws {
        let loop = try Loop()
        let calls = Calls()
        let pipe = Pipe.readable()
        let watcher = try loop.watch(
            pipe.reader,
            read: { loop, _, watcher in
                calls.add("read")
                if calls.names.count < 5 { loop.defer { _ in #expect((try? watcher.rearm()) == true) } }
            }, oneshot: true)
        try pump(loop, 10)
        #expect(calls.names.count == 5)
        loop.after(.zero) { _, _ in #expect((try? watcher.rearm()) == true) }
        try pump(loop, 3)
        #expect(calls.names.count == 6)
        try expectQuiet(loop)
    }

    @Test("W7 unwatched or replaced while disarmed, the number starts afresh")
    func disarmedThenReused() throws {
        let loop = try Loop()
        let calls = Calls()
        let pipe = Pipe.readable()
        let other = Pipe.readable()
        let old = try loop.watch(pipe.reader, read: calls.handler("old"), oneshot: true)
        try pump(loop, 2)
        #expect(try loop.unwatch(pipe.reader))
        IO.place(other.reader, at: pipe.reader)
        let new = try loop.watch(pipe.reader, read: calls.handler("new"), oneshot: true)
        #expect(try !old.rearm())
        try pump(loop, 3)
        #expect(calls.names == ["old", "new"])
        #expect(try new.rearm())
        try pump(loop, 3)
        #expect(calls.names == ["old", "new", "new"])
        try expectQuiet(loop)
    }

    @Test("W7 what re-arming costs", .enabled(if: Strace.works, "strace cannot trace here"))
    func rearmCosts() throws {
        let calls = try Strace.calls("epoll_ctl", "oneshot-cost")
        #expect(calls["level"]?.count == 0)
        #expect(calls["edge"]?.count == 100)
        #expect(try #require(calls["re-armed later"]?.count) <= 101)
        #expect(try #require(calls["kernel disarms"]?.count) == 50)
        #expect(try #require(calls["in the callback again"]?.count) <= 2)
        #expect(calls["as at first"]?.count == 0)
    }

    // MARK: W10 parking

    @Test("W10 with nothing enabled a hang-up parks the watcher; enabling read delivers it")
    func parked() throws {
        let probe = try Probe()
        let loop = probe.loop
        let calls = Calls()
        let pair = Sockets.unixPair()
        let watcher = try loop.watch(
            pair.near,
            read: { _, fd, watcher in
                calls.add(IO.drain(fd).ended ? "end" : "data")
                #expect(throws: Never.self) { try watcher.disableRead() }
            },
            write: calls.handler("write"))
        try watcher.disableRead()
        try watcher.disableWrite()
        try expectQuiet(loop)
        #expect(!watcher.isParked)
        pair.closeFar()
        try expectQuiet(loop)
        #expect(watcher.isParked && watcher.isActive)
        #expect(loop.statistics.parked == 1)
        #expect(loop.statistics.watchers == 1)
        #expect(probe.mask(pair.near) == nil)
        #expect(calls.names.isEmpty)
        #expect(try watcher.enableRead())
        #expect(!watcher.isParked)
        #expect(loop.statistics.parked == 0)
        try expectQuiet(loop)
        #expect(calls.names == ["end"])
        // The interest went off again, so it is parked again.
        #expect(watcher.isParked)
        #expect(watcher.cancel())
        #expect(loop.statistics.parked == 0)
        try expectQuiet(loop)
    }

    @Test("W10 a parked watcher reports nothing, not even a later error")
    func parkedIsSilent() throws {
        let loop = try Loop()
        let calls = Calls()
        let descriptor = Sockets.tcpUnconnected()
        defer { close(descriptor) }
        let watcher = try loop.watch(descriptor, read: calls.handler("read"), error: calls.handler("error"))
        try watcher.disableRead()
        try pump(loop, 2)
        #expect(watcher.isParked)
        // A refused connection puts an error on it.
        let (listener, port) = Sockets.listening()
        close(listener)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        _ = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        #expect(Readiness.of(descriptor, waiting: 1_000).contains(.error))
        try expectQuiet(loop)
        #expect(calls.names.isEmpty)
        // Interest brings it back, and the error with it.
        try watcher.enableRead()
        try pump(loop, 1)
        #expect(calls.names == ["error"])
        watcher.cancel()
        try expectQuiet(loop)
    }

    @Test("W10 a change inside the turn brings a parked watcher back for the next wait")
    func unparkInside() throws {
        let loop = try Loop()
        let calls = Calls()
        let pipe = Pipe()
        pipe.closeWriter()
        let watcher = try loop.watch(pipe.reader, read: calls.handler("read"))
        try watcher.disableRead()
        try pump(loop, 2)
        #expect(watcher.isParked)
        loop.defer { _ in #expect((try? watcher.enableRead()) == true) }
        try pump(loop)
        #expect(calls.names.isEmpty)
        try pump(loop, 2)
        #expect(calls.names == ["read", "read"])
        watcher.cancel()
        try expectQuiet(loop)
    }

    @Test("W10 a watcher that is back follows its interest", arguments: [false, true])
    func backFromParking(inside: Bool) throws {
        let probe = try Probe()
        let loop = probe.loop
        let calls = Calls()
        let (listener, port) = Sockets.listening()
        defer { close(listener) }
        let near = Sockets.tcpUnconnected()
        defer { close(near) }
        let watcher = try loop.watch(near, read: calls.draining("read"))
        try watcher.disableRead()
        try pump(loop, 2)
        #expect(watcher.isParked)
        // Once it is connected, what parked it is gone.
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        _ = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(near, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        let far = accept(listener, nil, nil)
        defer { close(far) }
        #expect(Readiness.settle(near, at: .writable))
        try watcher.enableRead()
        try pump(loop)
        func change() { #expect(throws: Never.self) { try watcher.disableRead() } }
        if inside { loop.defer { _ in change() } } else { change() }
        try pump(loop)
        #expect(probe.asks(near, .readable) == false)
        IO.write(far)
        #expect(Readiness.of(near, waiting: 1_000).contains(.readable))
        try expectQuiet(loop)
        #expect(calls.names.isEmpty && !watcher.isParked)
        try watcher.enableRead()
        try pump(loop, 2)
        #expect(calls.names == ["read"])
        watcher.cancel()
        try expectQuiet(loop)
    }

    @Test("W10 readiness that is asked for where no handler takes it does not spin")
    func interestWithoutHandler() throws {
        let loop = try Loop()
        let calls = Calls()
        let pair = Sockets.unixPair()
        IO.write(pair.far)
        let watcher = try loop.watch(pair.near, error: calls.handler("error"))
        try watcher.setInterest([.read, .write])
        try expectQuiet(loop)
        #expect(calls.names.isEmpty)
        #expect(watcher.isActive)
        let peer = Sockets.unixPair()
        let second = try loop.watch(peer.near, write: calls.handler("write"), readHangup: true)
        try second.disableWrite()
        shutdown(peer.far, CInt(SHUT_WR))
        try expectQuiet(loop)
        #expect(calls.names.isEmpty)
    }
}
