import Glibc
import LinuxEvent
import TestSupport
import Testing

extension LinuxEventSuite {
    @Suite("D Dispatch of one event")
    struct DispatchTests {
        // MARK: D1-D5 every readiness against every watcher

        /// What a watcher asks for, and how it handles it.
        struct Setup: CustomStringConvertible {
            enum Mode: String, CaseIterable { case level, edge, oneshot, edgeOneshot }
            var mode: Mode
            var reads: Bool
            var writes: Bool
            var handlesErrors: Bool
            /// Interest is missing because it was turned off, not because there is no handler.
            var turnedOff: Bool

            var description: String {
                "\(mode), read \(reads), write \(writes), error \(handlesErrors), turned off \(turnedOff)"
            }

            static let all: [Setup] = Mode.allCases.flatMap { mode in
                [false, true].flatMap { reads in
                    [false, true].flatMap { writes in
                        [false, true].flatMap { errors in
                            [false, true].map {
                                Setup(mode: mode, reads: reads, writes: writes, handlesErrors: errors, turnedOff: $0)
                            }
                        }
                    }
                }
            }
        }

        /// What the contract says of one event: which handlers run, in order. Nil: no event at all.
        static func expectedCalls(_ readiness: Readiness, _ setup: Setup) -> [String]? {
            // The kernel tells what was asked for, and errors and hang-ups always.
            var asked: Readiness = [.error, .hangup]
            if setup.reads { asked.insert(.readable) }
            if setup.writes { asked.insert(.writable) }
            let event = readiness.intersection(asked)
            if event.isEmpty { return nil }
            if event.contains(.error), setup.handlesErrors { return ["error"] }
            var calls: [String] = []
            let failed = event.contains(.error)
            if setup.reads, failed || event.contains(.readable) || event.contains(.hangup) { calls.append("read") }
            if setup.writes, failed || event.contains(.writable) { calls.append("write") }
            return calls
        }

        @Test(
            "D1 D2 D3 D4 D5 every readiness runs the handlers of the contract, for every watcher",
            arguments: Situation.all)
        func everyReadiness(situation: Situation) throws {
            for setup in Setup.all {
                let held = situation.make()
                guard Readiness.settle(held.descriptor, at: situation.readiness) else {
                    Issue.record("prepared \(Readiness.of(held.descriptor)), not \(situation.readiness)")
                    return
                }
                let loop = try Loop()
                let calls = Calls()
                let watcher = try loop.watch(
                    held.descriptor,
                    read: setup.reads || setup.turnedOff ? calls.handler("read") : nil,
                    write: setup.writes || setup.turnedOff ? calls.handler("write") : nil,
                    error: setup.handlesErrors ? calls.handler("error") : nil,
                    edgeTriggered: setup.mode == .edge || setup.mode == .edgeOneshot,
                    oneshot: setup.mode == .oneshot || setup.mode == .edgeOneshot)
                if setup.turnedOff {
                    if !setup.reads { try watcher.disableRead() }
                    if !setup.writes { try watcher.disableWrite() }
                }
                let expected = DispatchTests.expectedCalls(situation.readiness, setup)
                let turns = 4
                for turn in 0..<turns {
                    calls.clear()
                    try pump(loop)
                    let again = turn == 0 || setup.mode == .level
                    #expect(calls.names == (again ? expected ?? [] : []), "turn \(turn): \(setup)")
                }
                // Nobody took it: outside the set, still registered.
                let parked = expected?.isEmpty == true
                #expect(watcher.isParked == parked, "\(setup)")
                #expect(loop.statistics.parked == (parked ? 1 : 0), "\(setup)")
                #expect(watcher.isActive)
                #expect(loop.statistics.watchers == 1)
                let delivered = expected.map { !$0.isEmpty } ?? false
                let oneshot = setup.mode == .oneshot || setup.mode == .edgeOneshot
                if !parked { #expect(watcher.isArmed == !(oneshot && delivered), "\(setup)") }
                let rests = !delivered || setup.mode != .level
                if rests {
                    // At rest also for the kernel: a wait takes its whole time.
                    let spent = try Spent.measure { try loop.runOnce(timeout: .milliseconds(1)) }
                    #expect(spent.wallNanoseconds >= .milliseconds(1), "\(setup)")
                }
                try loop.close()
            }
        }

        @Test("D1 an error runs the error handler alone, once a turn, and holds up nobody else")
        func persistentError() throws {
            let loop = try Loop()
            let calls = Calls()
            let broken = Pipe()
            broken.closeReader()
            let other = Pipe.readable()
            try loop.watch(
                broken.writer, read: calls.handler("read"), write: calls.handler("write"),
                error: calls.handler("error"))
            try loop.watch(other.reader, read: calls.handler("other"))
            var fired: UInt64 = 0
            let timer = loop.after(.milliseconds(2)) { _, _ in fired = Clock.monotonic() }
            let deadline = try #require(timer.deadline).nanoseconds
            for _ in 0..<100 { try pump(loop) }
            #expect(calls.count(of: "error") == 100)
            #expect(calls.count(of: "other") == 100)
            #expect(calls.count(of: "read") + calls.count(of: "write") == 0)
            let done = try pump(loop, milliseconds: 1_000) { fired != 0 }
            #expect(done)
            #expect(fired >= deadline)
        }

        @Test("D1 an error handler may end its watcher; without it nothing more comes")
        func errorHandlerCancels() throws {
            let loop = try Loop()
            let calls = Calls()
            let broken = Pipe()
            broken.closeReader()
            try loop.watch(
                broken.writer, write: calls.handler("write"),
                error: { _, _, watcher in
                    calls.add("error")
                    #expect(watcher.cancel())
                })
            try pump(loop, 3)
            #expect(calls.names == ["error"])
            try expectQuiet(loop)
        }

        @Test("D3 a hang-up lets the reader meet its end; a peer's shutdown is never asked for unasked")
        func hangup() throws {
            let loop = try Loop()
            let probe = try Probe()
            let pair = Sockets.unixPair()
            let calls = Calls()
            try probe.loop.watch(pair.near, write: calls.handler("write"))
            #expect(probe.asks(pair.near, .peerShutdown) == false)
            shutdown(pair.far, CInt(SHUT_WR))
            try pump(probe.loop, 2)
            #expect(calls.names == ["write", "write"])

            let pipe = Pipe.readable()
            var ended = false
            try loop.watch(
                pipe.reader,
                read: { _, fd, watcher in
                    if IO.drain(fd).ended {
                        ended = true
                        watcher.cancel()
                    }
                })
            pipe.closeWriter()
            try pump(loop, 2)
            #expect(ended)
            try expectQuiet(loop)
        }

        @Test("D7 the pending socket error is still there for the callback", arguments: [true, false])
        func socketErrorIsLeft(withErrorHandler: Bool) throws {
            let loop = try Loop()
            let descriptor = Sockets.tcpRefused()
            defer { close(descriptor) }
            #expect(Readiness.settle(descriptor, at: [.readable, .writable, .error, .hangup, .peerShutdown]))
            var codes: [CInt] = []
            let take: Handler = { _, fd, watcher in
                codes.append(IO.takeSocketError(fd))
                watcher.cancel()
            }
            try loop.watch(descriptor, read: take, write: take, error: withErrorHandler ? take : nil)
            try pump(loop, 3)
            #expect(codes == [ECONNREFUSED])
            try expectQuiet(loop)
        }

        @Test("D7 the loop reads no data: what is written arrives whole")
        func dataIsLeft() throws {
            let loop = try Loop()
            let pipe = Pipe()
            pipe.write(1_000)
            let calls = Calls()
            try loop.watch(pipe.reader, read: calls.handler("read"))
            try pump(loop, 10)
            #expect(calls.names.count == 10)
            #expect(IO.drain(pipe.reader).bytes == 1_000)
        }

        // MARK: D6 order and the fresh look before each step

        @Test(
            "D6 read runs before write, and write not at all if read ended the watcher, lost interest or was replaced",
            arguments: ["nothing", "unwatch", "cancel", "disable", "replace", "close", "stranger"])
        func betweenReadAndWrite(action: String) throws {
            let loop = try Loop()
            let pair = Sockets.unixPair()
            let spare = Sockets.unixPair()
            IO.write(pair.far)
            let calls = Calls()
            try loop.watch(
                pair.near,
                read: { loop, fd, watcher in
                    calls.add("read")
                    IO.drain(fd)
                    #expect(throws: Never.self) {
                        switch action {
                        case "unwatch": try loop.unwatch(fd)
                        case "cancel": watcher.cancel()
                        case "disable": try watcher.disableWrite()
                        case "replace":
                            try loop.watch(fd, read: calls.handler("new read"), write: calls.handler("new write"))
                        case "close":
                            try loop.unwatch(fd)
                            pair.closeNear()
                        case "stranger":
                            // Closed without unwatch, and another socket with room got the number at once.
                            IO.place(spare.near, at: fd)
                            try loop.watch(fd, write: calls.handler("new write"))
                        default: break
                        }
                    }
                },
                write: calls.handler("write"))
            try pump(loop)
            #expect(calls.names == (action == "nothing" ? ["read", "write"] : ["read"]))
            calls.clear()
            try pump(loop)
            switch action {
            case "nothing": #expect(calls.names == ["write"])
            case "replace", "stranger": #expect(calls.names == ["new write"])
            default: #expect(calls.names.isEmpty)
            }
            try loop.unwatch(pair.near)
            try expectQuiet(loop)
        }

        @Test("D6 interest that one callback turns off keeps another's event of the batch away")
        func interestIsLookedUp() throws {
            let loop = try Loop()
            let calls = Calls()
            let first = Pipe.readable()
            let second = Pipe.readable()
            var target: Watcher?
            try loop.watch(
                first.reader,
                read: { _, fd, _ in
                    calls.add("first")
                    IO.drain(fd)
                    #expect(throws: Never.self) { try target?.disableRead() }
                })
            target = try loop.watch(second.reader, read: calls.handler("second"))
            try pump(loop, 3)
            #expect(calls.names == ["first"])
            try target?.enableRead()
            try pump(loop)
            #expect(calls.names == ["first", "second"])
            try target?.disableRead()
            try expectQuiet(loop)
        }

        @Test("D6 readiness that one callback turns off is not told, though the same handler is asked for by another")
        func reasonIsLookedUp() throws {
            let loop = try Loop()
            let calls = Calls()
            let first = Pipe.readable()
            let second = Sockets.unixPair()
            IO.write(second.far)
            var target: Watcher?
            try loop.watch(
                first.reader,
                read: { _, fd, _ in
                    calls.add("first")
                    IO.drain(fd)
                    #expect(throws: Never.self) { try target?.disableRead() }
                })
            target = try loop.watch(second.near, read: calls.handler("second"), readHangup: true)
            try pump(loop, 3)
            #expect(target?.interest == [.readHangup])
            #expect(calls.names == ["first"])
            shutdown(second.far, CInt(SHUT_WR))
            try pump(loop)
            #expect(calls.names == ["first", "second"])
            target?.cancel()
            try expectQuiet(loop)
        }

        @Test(
            "D6 no callback runs for a watcher that an earlier one ended: 64 pipes, each callback ends a random other")
        func randomVictims() throws {
            var random = SeededGenerator()
            print("random victims: seed \(random.seed)")
            for round in 0..<20 {
                try expectNoLeak {
                    let loop = try Loop()
                    var live = [CInt: Pipe]()
                    var dead = Set<CInt>()
                    var callbacks = 0
                    var victims = 0
                    let pipes = (0..<64).map { _ in Pipe.readable() }
                    for pipe in pipes { live[pipe.reader] = pipe }
                    for pipe in pipes {
                        try loop.watch(
                            pipe.reader,
                            read: { loop, fd, _ in
                                callbacks += 1
                                #expect(!dead.contains(fd), "a callback of the dead")
                                // This one is done; its number must not be a victim's, for it had its call.
                                #expect(throws: Never.self) { try loop.unwatch(fd) }
                                live[fd] = nil
                                guard let victim = live.keys.sorted().randomElement(using: &random) else { return }
                                #expect((try? loop.unwatch(victim)) == true)
                                live[victim]?.closeReader()
                                live[victim] = nil
                                dead.insert(victim)
                                victims += 1
                            }, edgeTriggered: round % 2 == 1)
                    }
                    try pump(loop, 3)
                    #expect(callbacks + victims == 64)
                    #expect(victims > 20)
                    #expect(loop.statistics.watchers == 0)
                    if round == 0 { try expectQuiet(loop) }
                }
            }
        }

        @Test(
            "D6 an event of a closed descriptor never reaches the next owner of its number", arguments: [true, false])
        func staleEventFindsNobody(unwatched: Bool) throws {
            let loop = try Loop()
            let calls = Calls()
            let first = Sockets.unixPair()
            let second = Sockets.unixPair()
            let idle = Sockets.unixPair()
            let number = second.near
            IO.write(first.far)
            second.closeFar()
            // The first comes first in the batch, for it was ready first.
            var replaced = false
            try loop.watch(
                first.near,
                read: { loop, fd, _ in
                    calls.add("first")
                    IO.drain(fd)
                    replaced = true
                    if unwatched { #expect((try? loop.unwatch(number)) == true) }
                    close(number)
                    IO.place(idle.near, at: number)
                    #expect(throws: Never.self) { try loop.watch(number, read: calls.draining("new")) }
                })
            try loop.watch(number, read: calls.handler("old"))
            try pump(loop, 3)
            #expect(replaced)
            #expect(calls.names == ["first"])
            IO.write(idle.far)
            try pump(loop, 3)
            #expect(calls.names == ["first", "new"])
            try expectQuiet(loop)
            #expect(calls.names.count == 2)
        }

        @Test("D6 a number that is closed and taken again many times in a batch gets events of its last owner only")
        func reuseChain() throws {
            let loop = try Loop()
            let calls = Calls()
            let trigger = Pipe.readable()
            let first = Pipe.readable()
            let spares = (0..<50).map { _ in Pipe.readable() }
            let number = first.reader
            try loop.watch(
                trigger.reader,
                read: { loop, fd, _ in
                    IO.drain(fd)
                    for (index, spare) in spares.enumerated() {
                        IO.place(spare.reader, at: number)
                        #expect(throws: Never.self) { try loop.watch(number, read: calls.draining("\(index)")) }
                    }
                })
            try loop.watch(number, read: calls.handler("old"))
            try pump(loop)
            #expect(calls.names.isEmpty)
            try pump(loop, 3)
            #expect(calls.names == ["49"])
            try expectQuiet(loop)
        }

        @Test("D6 65,536 registrations of one number between the batch and its event: the old event reaches nobody")
        func generationsAreWide() throws {
            let loop = try Loop()
            let calls = Calls()
            let trigger = Pipe.readable()
            let target = Pipe.readable()
            // So that a generation of 16 bits would be the same again.
            let rounds = 65_536
            try loop.watch(
                trigger.reader,
                read: { loop, fd, _ in
                    IO.drain(fd)
                    #expect(throws: Never.self) {
                        for _ in 0..<rounds {
                            try loop.unwatch(target.reader)
                            try loop.watch(target.reader, read: calls.handler("new"))
                        }
                    }
                })
            try loop.watch(target.reader, read: calls.handler("old"))
            try pump(loop)
            #expect(calls.names.isEmpty)
            try pump(loop)
            #expect(calls.names == ["new"])
            try loop.unwatch(target.reader)
            // The handlers of 65,536 dead watchers are released within a budget.
            try pump(loop, 1_000)
            try expectQuiet(loop)
        }

        @Test("D6 a watcher may end itself in its own callback, and its object's end is no trouble")
        func endsItself() throws {
            let loop = try Loop()
            let ended = Tracker.Count()
            let pair = Sockets.unixPair()
            IO.write(pair.far)
            var endedInside = -1
            do {
                let tracker = Tracker(ended)
                try loop.watch(
                    pair.near,
                    read: { _, _, watcher in
                        watcher.cancel()
                        tracker.touch()
                        endedInside = ended.ended
                    },
                    write: { _, _, _ in
                        tracker.touch()
                        Issue.record("write after cancel")
                    })
            }
            try pump(loop, 2)
            #expect(endedInside == 0, "the handlers went while one of them ran")
            #expect(ended.ended == 1)
            try expectQuiet(loop)
        }

        @Test("D6 callbacks may start again what they end: a thousand rounds in one batch")
        func churnInCallback() throws {
            let loop = try Loop()
            let calls = Calls()
            let pipes = (0..<32).map { _ in Pipe.readable() }
            var random = SeededGenerator()
            print("churn: seed \(random.seed)")
            var generation = [CInt: Int]()
            func register(_ loop: Loop, _ fd: CInt) throws {
                let mine = generation[fd, default: 0] + 1
                generation[fd] = mine
                try loop.watch(
                    fd,
                    read: { loop, fd, _ in
                        calls.add("x")
                        #expect(generation[fd] == mine, "a callback of a replaced watcher")
                        #expect(throws: Never.self) {
                            for _ in 0..<1_000 / 32 {
                                let other = pipes[Int.random(in: 0..<pipes.count, using: &random)].reader
                                if Bool.random(using: &random) { try loop.unwatch(other) }
                                try register(loop, other)
                            }
                        }
                    })
            }
            for pipe in pipes { try register(loop, pipe.reader) }
            for _ in 0..<100 {
                calls.clear()
                try pump(loop)
                #expect(calls.names.count <= pipes.count)
            }
            for pipe in pipes { try loop.unwatch(pipe.reader) }
            #expect(loop.statistics.watchers == 0)
            try expectQuiet(loop)
        }

        // MARK: D8 cost

        @Test("D8 an event costs the same with ten watchers and with ten thousand")
        func constantTime() throws {
            let loop = try Loop()
            let active = Pipe.readable()
            var calls = 0
            try loop.watch(active.reader, read: { _, _, _ in calls += 1 })
            let idle = Pipe()
            func bestOfMany() throws -> UInt64 {
                var best = UInt64.max
                for _ in 0..<30 {
                    let spent = try Spent.measure { try pump(loop, 100) }
                    best = min(best, spent.cpuNanoseconds)
                }
                return best
            }
            let few = try bestOfMany()
            let copies = (0..<10_000).map { _ in IO.copy(idle.reader) }
            defer { for copy in copies { close(copy) } }
            for copy in copies { try loop.watch(copy, read: { _, _, _ in }) }
            let many = try bestOfMany()
            #expect(calls == 6_000)
            #expect(many < few * 3, "\(few) ns, then \(many) ns")
        }

        @Test("D8 a high number is watched like any other and does not cost memory by its number")
        func highNumbers() throws {
            let loop = try Loop()
            let calls = Calls()
            let pipe = Pipe.readable()
            let high = CInt(DescriptorLimit.current - 10)
            #expect(high > 4_000)
            IO.place(pipe.reader, at: high)
            defer { close(high) }
            let memory = Memory.heldBytes()
            try loop.watch(high, read: calls.draining("high"))
            try pump(loop, 2)
            #expect(calls.names == ["high"])
            // Slots for all numbers below would take 32 bytes each.
            #expect(Memory.heldBytes() - memory < max(Int(high) * 16, 128 << 10))
            #expect(try loop.unwatch(high))
            try expectQuiet(loop)
        }
    }
}
