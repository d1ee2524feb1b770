import CLinux
import Glibc
import LinuxEvent
import TestSupport
import Testing

extension LinuxEventSuite {
    @Suite("W Watching")
    struct WatchTests {
        // MARK: W1 what watch takes

        @Test("W1 handlers get the loop, the descriptor and the watcher")
        func handlersGetWhatTheyNeed() throws {
            let loop = try Loop()
            let pair = Sockets.unixPair()
            IO.write(pair.far)
            var seen = 0
            var watcher: Watcher?
            watcher = try loop.watch(
                pair.near,
                read: { inner, fd, mine in
                    #expect(inner === loop)
                    #expect(fd == pair.near)
                    #expect(mine == watcher)
                    #expect(mine.descriptor == fd)
                    IO.drain(fd)
                    seen += 1
                },
                write: { inner, fd, mine in
                    #expect(inner === loop)
                    #expect(fd == pair.near)
                    #expect(mine == watcher)
                    mine.cancel()
                    seen += 1
                })
            try pump(loop, 2)
            #expect(seen == 2)
            try expectQuiet(loop)
        }

        @Test("W1 data comes as a typed fourth argument, to every handler")
        func dataIsTyped() throws {
            final class Connection { var bytes = 0 }
            let loop = try Loop()
            let pair = Sockets.unixPair()
            let broken = Pipe()
            broken.closeReader()
            IO.write(pair.far, count: 7)
            let connection = Connection()
            var words: [String] = []
            try loop.watch(
                pair.near,
                read: { _, fd, _, connection in connection.bytes += IO.drain(fd).bytes },
                write: { _, _, watcher, connection in
                    connection.bytes += 100
                    watcher.cancel()
                }, data: connection)
            try loop.watch(
                broken.writer,
                error: { _, _, watcher, data in
                    words.append("\(data.name) \(data.number)")
                    watcher.cancel()
                }, data: (name: "seven", number: 7))
            try pump(loop, 2)
            #expect(connection.bytes == 107)
            #expect(words == ["seven 7"])
            try expectQuiet(loop)
        }

        @Test("W1 one watcher per descriptor; a handler turns its interest on, and the kernel is asked for no more")
        func handlersEnableInterest() throws {
            let probe = try Probe()
            let loop = probe.loop
            let pairs = (0..<5).map { _ in Sockets.unixPair() }
            let nothing: Handler = { _, _, _ in }
            let read = try loop.watch(pairs[0].near, read: nothing)
            let write = try loop.watch(pairs[1].near, write: nothing)
            let both = try loop.watch(pairs[2].near, read: nothing, write: nothing, edgeTriggered: true)
            let error = try loop.watch(pairs[3].near, error: nothing)
            let options = try loop.watch(pairs[4].near, read: nothing, priority: true, readHangup: true)
            #expect(read.interest == [.read])
            #expect(write.interest == [.write])
            #expect(both.interest == [.read, .write])
            #expect(error.interest == [])
            #expect(options.interest == [.read, .priority, .readHangup])
            #expect(loop.statistics.watchers == 5)

            let always = Readiness([.error, .hangup]).rawValue
            #expect(probe.mask(pairs[0].near) == Readiness.readable.rawValue | always)
            #expect(probe.mask(pairs[1].near) == Readiness.writable.rawValue | always)
            #expect(
                probe.mask(pairs[2].near)
                    == Readiness([.readable, .writable]).rawValue | always | EpollEntry.edgeTriggered)
            #expect(probe.mask(pairs[3].near) == always)
            #expect(
                probe.mask(pairs[4].near) == Readiness([.readable, .priority, .peerShutdown]).rawValue | always)
            #expect([read, write, both, error, options].allSatisfy { $0.isActive && $0.isArmed && !$0.isParked })
        }

        @Test("W1 interest: what to begin with, of that for which there is a handler")
        func initialInterest() throws {
            let probe = try Probe()
            let calls = Calls()
            let pair = Sockets.unixPair()
            let watcher = try probe.loop.watch(
                pair.near, read: calls.draining("read"), write: calls.handler("write"), interest: [.read])
            #expect(watcher.interest == [.read])
            #expect(probe.asks(pair.near, .writable) == false)
            IO.write(pair.far)
            try pump(probe.loop, 2)
            #expect(calls.names == ["read"])
            try watcher.enableWrite()
            try pump(probe.loop)
            #expect(calls.names == ["read", "write"])
            let mute = try probe.loop.watch(pair.near, read: calls.handler("new"), interest: [.write])
            #expect(mute.interest == [])
            try expectQuiet(probe.loop)
            #expect(calls.names.count == 2)
        }

        @Test("W1 handlers without options get no priority and no read-hangup readiness")
        func optionsAreOff() throws {
            let probe = try Probe()
            let pair = Sockets.tcpPair()
            let calls = Calls()
            try probe.loop.watch(pair.near, read: calls.handler("read"))
            var byte: UInt8 = 1
            #expect(send(pair.far, &byte, 1, CInt(MSG_OOB)) == 1)
            #expect(Readiness.settle(pair.near, at: [.priority, .writable]))
            try pump(probe.loop, 3)
            #expect(calls.names.isEmpty)
            #expect(probe.asks(pair.near, .priority) == false)
            #expect(probe.asks(pair.near, .peerShutdown) == false)
            try expectQuiet(probe.loop)
        }

        @Test("W1 priority: out-of-band data runs the read handler")
        func priority() throws {
            let loop = try Loop()
            let pair = Sockets.tcpPair()
            let calls = Calls()
            let watcher = try loop.watch(pair.near, read: calls.handler("read"), edgeTriggered: true, priority: true)
            try pump(loop)
            var byte: UInt8 = 1
            #expect(send(pair.far, &byte, 1, CInt(MSG_OOB)) == 1)
            #expect(Readiness.settle(pair.near, at: [.priority, .writable]))
            try pump(loop, 3)
            #expect(calls.names == ["read"])
            watcher.cancel()
            try expectQuiet(loop)
        }

        @Test("W1 read-hangup: a peer that stops sending runs the read handler, also where no data is asked for")
        func readHangup() throws {
            for asksForData in [true, false] {
                let loop = try Loop()
                let calls = Calls()
                let pair = Sockets.unixPair()
                try loop.watch(
                    pair.near, read: calls.handler("read"), edgeTriggered: true, readHangup: true,
                    interest: asksForData ? nil : [])
                try pump(loop, 2)
                #expect(calls.names.isEmpty)
                shutdown(pair.far, CInt(SHUT_WR))
                try pump(loop, 3)
                #expect(calls.names == ["read"])
                try expectQuiet(loop)
            }
        }

        @Test("W1 exclusive is asked of the kernel, and can change its interest like any other")
        func exclusive() throws {
            let probe = try Probe()
            let loop = probe.loop
            let calls = Calls()
            let pipe = Pipe()
            let watcher = try loop.watch(pipe.reader, read: calls.draining("read"), exclusive: true)
            #expect((probe.mask(pipe.reader) ?? 0) & EpollEntry.exclusive != 0)
            pipe.write()
            try pump(loop)
            #expect(calls.names == ["read"])

            // Outside a turn, and inside one: the kernel itself does not allow such a change.
            #expect(try watcher.disableRead())
            pipe.write()
            try pump(loop, 2)
            #expect(calls.names == ["read"])
            #expect(try watcher.enableRead())
            try pump(loop, 2)
            #expect(calls.names == ["read", "read"])
            loop.defer { _ in #expect(throws: Never.self) { try watcher.disableRead() } }
            try pump(loop)
            pipe.write()
            try pump(loop, 2)
            #expect(calls.names.count == 2)
            loop.defer { _ in #expect(throws: Never.self) { try watcher.enableRead() } }
            try pump(loop, 2)
            #expect(calls.names.count == 3)
            #expect((probe.mask(pipe.reader) ?? 0) & EpollEntry.exclusive != 0)
            try expectQuiet(loop)
        }

        @Test("W1 exclusive with oneshot is refused with EINVAL and changes nothing")
        func exclusiveOneshot() throws {
            let probe = try Probe()
            let pipe = Pipe.readable()
            #expect(
                refusal { () throws(LoopError) in
                    try probe.loop.watch(pipe.reader, read: { _, _, _ in }, oneshot: true, exclusive: true)
                } == EINVAL)
            #expect(probe.loop.statistics.watchers == 0)
            #expect(probe.mask(pipe.reader) == nil)
            let calls = Calls()
            try probe.loop.watch(pipe.reader, read: calls.draining("read"))
            #expect(
                refusal { () throws(LoopError) in
                    try probe.loop.watch(pipe.reader, read: calls.handler("new"), oneshot: true, exclusive: true)
                } == EINVAL)
            try pump(probe.loop)
            #expect(calls.names == ["read"])
            try expectQuiet(probe.loop)
        }

        @Test(
            "W1 W8 exclusive with priority or read hang-up is refused with EINVAL, and repeats no edge of who is there",
            arguments: [false, true])
        func exclusiveRefusals(priority: Bool) throws {
            let loop = try Loop()
            let pipe = Pipe.readable()
            let calls = Calls()
            let watcher = try loop.watch(pipe.reader, read: calls.handler("read"), edgeTriggered: true, exclusive: true)
            try pump(loop, 2)
            #expect(calls.names == ["read"])
            #expect(
                refusal { () throws(LoopError) in
                    try watcher.setInterest(priority ? [.read, .priority] : [.read, .readHangup])
                } == EINVAL)
            #expect(
                refusal { () throws(LoopError) in
                    try loop.watch(
                        pipe.reader, read: calls.handler("new"), exclusive: true, priority: priority,
                        readHangup: !priority)
                } == EINVAL)
            try pump(loop, 2)
            #expect(calls.names == ["read"])
            pipe.write()
            try pump(loop, 2)
            #expect(calls.names == ["read", "read"])
            try expectQuiet(loop)
        }

        @Test("W1 W8 exclusive with priority or read-hangup is refused with EINVAL, and not even an edge is repeated")
        func exclusiveWithOptions() throws {
            let loop = try Loop()
            let calls = Calls()
            let pair = Sockets.unixPair()
            try loop.watch(pair.near, write: calls.handler("write"), edgeTriggered: true)
            try pump(loop)
            #expect(calls.names == ["write"])
            for hangup in [false, true] {
                #expect(
                    refusal { () throws(LoopError) in
                        try loop.watch(
                            pair.near, read: calls.handler("new"), exclusive: true, priority: !hangup,
                            readHangup: hangup)
                    } == EINVAL)
            }
            try pump(loop, 2)
            #expect(calls.names == ["write"])

            let exclusive = try loop.watch(
                pair.near, read: calls.handler("read"), write: calls.handler("write"), edgeTriggered: true,
                exclusive: true)
            try pump(loop)
            calls.clear()
            for option: Interest in [.priority, .readHangup] {
                #expect(
                    refusal { () throws(LoopError) in try exclusive.setInterest([.read, .write, option]) } == EINVAL)
                #expect(exclusive.interest == [.read, .write])
            }
            try pump(loop, 2)
            #expect(calls.names.isEmpty)
            try expectQuiet(loop)
        }

        @Test("W1 W5 exclusive: a change that is undone in its turn repeats no edge, and a dropped edge comes back")
        func exclusiveInsideTurn() throws {
            let loop = try Loop()
            let calls = Calls()
            let first = Pipe.readable()
            let second = Pipe.readable()
            let target = try loop.watch(
                second.reader, read: calls.handler("second"), edgeTriggered: true, exclusive: true)
            try pump(loop)
            #expect(calls.names == ["second"])
            loop.defer { _ in
                #expect(throws: Never.self) {
                    try target.disableRead()
                    try target.enableRead()
                }
            }
            try pump(loop, 3)
            #expect(calls.names == ["second"])

            // Ready first, so told first.
            try loop.watch(
                first.reader,
                read: { loop, fd, _ in
                    IO.drain(fd)
                    calls.add("first")
                    #expect(throws: Never.self) { try target.disableRead() }
                    loop.defer { _ in #expect(throws: Never.self) { try target.enableRead() } }
                })
            second.write()
            try pump(loop)
            #expect(calls.names == ["second", "first"])
            try pump(loop, 3)
            #expect(calls.names == ["second", "first", "second"])
            try expectQuiet(loop)
        }

        @Test("W1 exclusive: of several loops at one listener somebody takes each connection, and none is lost")
        func exclusiveListener() throws {
            let (listener, port) = Sockets.listening()
            defer { close(listener) }
            IO.setNonBlocking(listener)
            let loops = try (0..<3).map { _ in try Loop() }
            var accepted: [CInt] = []
            for loop in loops {
                try loop.watch(
                    listener,
                    read: { _, fd, _ in
                        while true {
                            let connection = accept(fd, nil, nil)
                            if connection < 0 { return }
                            accepted.append(connection)
                        }
                    }, exclusive: true)
            }
            var clients: [CInt] = []
            for _ in 0..<30 {
                clients.append(Sockets.connected(to: port))
                for loop in loops { try pump(loop) }
            }
            #expect(accepted.count == 30)
            for descriptor in clients + accepted { close(descriptor) }
            for loop in loops { try expectQuiet(loop, milliseconds: 20) }
        }

        // MARK: W2 replacement

        @Test("W2 a second watch replaces the first in one step; the swap causes no callback")
        func replacement() throws {
            let probe = try Probe()
            let loop = probe.loop
            let calls = Calls()
            let pair = Sockets.unixPair()
            let ended = Tracker.Count()
            let old: Watcher
            do {
                let tracker = Tracker(ended)
                old = try loop.watch(
                    pair.near,
                    read: { _, _, _ in
                        tracker.touch()
                        calls.add("old")
                    }, error: calls.handler("old error"))
            }
            try pump(loop)
            let new = try loop.watch(pair.near, read: calls.draining("new"))
            #expect(!old.isActive)
            #expect(old != new)
            #expect(new.isActive)
            #expect(loop.watcher(of: pair.near) == new)
            #expect(loop.statistics.watchers == 1)
            // Outside of a turn no handler of it can be running.
            #expect(ended.ended == 1)
            try pump(loop, 3)
            #expect(calls.names.isEmpty)
            IO.write(pair.far)
            try pump(loop, 3)
            #expect(calls.names == ["new"])

            // The old handle does nothing for ever.
            #expect(!old.cancel())
            #expect(try !old.rearm())
            #expect(try !old.disableRead())
            #expect(try !old.enableWrite())
            #expect(try !old.setInterest([]))
            #expect(probe.asks(pair.near, .readable) == true)
            #expect(probe.asks(pair.near, .writable) == false)
            IO.write(pair.far)
            try pump(loop, 3)
            #expect(calls.names == ["new", "new"])
            try expectQuiet(loop)
        }

        @Test("W2 a replacement inside the batch: the fetched event reaches neither, the next wait the new one")
        func replacementInBatch() throws {
            let loop = try Loop()
            let calls = Calls()
            let first = Pipe.readable()
            let second = Pipe.readable()
            try loop.watch(
                first.reader,
                read: { loop, fd, _ in
                    calls.add("first")
                    IO.drain(fd)
                    #expect(throws: Never.self) { try loop.watch(second.reader, read: calls.draining("new")) }
                })
            try loop.watch(second.reader, read: calls.handler("old"))
            try pump(loop)
            #expect(calls.names == ["first"])
            try pump(loop)
            #expect(calls.names == ["first", "new"])
            try expectQuiet(loop)
        }

        @Test("W2 a replacement takes on its own options: level, edge, oneshot, parked or disarmed before")
        func replacementTakesItsOptions() throws {
            let probe = try Probe()
            let loop = probe.loop
            let calls = Calls()
            let pipe = Pipe.readable()
            let oneshot = try loop.watch(pipe.reader, read: calls.handler("oneshot"), oneshot: true)
            try pump(loop, 2)
            #expect(calls.names == ["oneshot"])
            #expect(!oneshot.isArmed)
            let level = try loop.watch(pipe.reader, read: calls.handler("level"))
            #expect(level.isArmed)
            try pump(loop, 2)
            #expect(calls.names == ["oneshot", "level", "level"])
            calls.clear()
            pipe.closeWriter()
            IO.drain(pipe.reader)
            let parked = try loop.watch(pipe.reader, write: calls.handler("write"))
            try pump(loop, 2)
            #expect(parked.isParked)
            #expect(probe.mask(pipe.reader) == nil)
            let reader = try loop.watch(pipe.reader, read: calls.handler("read"), edgeTriggered: true)
            #expect(!reader.isParked)
            #expect(loop.statistics.parked == 0)
            try pump(loop, 2)
            #expect(calls.names == ["read"])
            try expectQuiet(loop)
        }

        // MARK: W3 unwatch

        @Test("W3 unwatch and cancel tell truthfully whether something was removed, and are silent otherwise")
        func unwatchTellsTheTruth() throws {
            let probe = try Probe()
            let loop = probe.loop
            let calls = Calls()
            let pipe = Pipe.readable()
            for unknown in [pipe.reader, -1, CInt.min, CInt.max, 100_000] {
                #expect(try !loop.unwatch(unknown))
                #expect(loop.watcher(of: unknown) == nil)
            }
            let watcher = try loop.watch(pipe.reader, read: calls.handler("read"))
            #expect(loop.watcher(of: pipe.reader) == watcher)
            #expect(try loop.unwatch(pipe.reader))
            #expect(try !loop.unwatch(pipe.reader))
            #expect(!watcher.cancel())
            #expect(!watcher.isActive)
            #expect(watcher.interest == [])
            #expect(loop.watcher(of: pipe.reader) == nil)
            #expect(probe.mask(pipe.reader) == nil)
            let second = try loop.watch(pipe.reader, read: calls.handler("read"))
            #expect(second.cancel())
            #expect(!second.cancel())
            #expect(try !loop.unwatch(pipe.reader))
            #expect(probe.mask(pipe.reader) == nil)
            try pump(loop, 3)
            #expect(calls.names.isEmpty)
            #expect(loop.statistics.watchers == 0)
            try expectQuiet(loop)
        }

        @Test(
            "W3 no callback runs after unwatch, whoever called it in the turn",
            arguments: ["watcher", "timer of the turn before", "deferred", "wake"])
        func unwatchIsExact(place: String) throws {
            let loop = try Loop()
            let calls = Calls()
            let first = Pipe()
            let victim = Pipe.readable()
            func end(_ loop: Loop) { #expect((try? loop.unwatch(victim.reader)) == true) }
            switch place {
            case "watcher":
                first.write()
                try loop.watch(
                    first.reader,
                    read: { loop, fd, _ in
                        IO.drain(fd)
                        end(loop)
                    })
            case "wake":
                loop.onWake { end($0) }
                loop.waker.signal()
            case "deferred": loop.defer { end($0) }
            default: loop.after(.zero) { loop, _ in end(loop) }
            }
            var ended = false
            try loop.watch(
                victim.reader,
                read: { loop, fd, watcher in
                    #expect(watcher.isActive)
                    #expect(!ended)
                    calls.add("victim")
                })
            for _ in 0..<3 {
                try pump(loop)
                if loop.watcher(of: victim.reader) == nil {
                    if !ended { calls.clear() }
                    ended = true
                }
            }
            #expect(ended)
            #expect(calls.names.isEmpty)
            try expectQuiet(loop)
        }

        // MARK: W4 handles of the past

        @Test("W4 a handle of the past cannot touch the present owner of its number")
        func oldHandles() throws {
            let probe = try Probe()
            let loop = probe.loop
            let calls = Calls()
            let pipe = Pipe()
            var old: [Watcher] = []
            for _ in 0..<100 {
                old.append(try loop.watch(pipe.reader, read: calls.handler("old"), oneshot: true))
                if old.count % 2 == 0 { try loop.unwatch(pipe.reader) }
            }
            let present = try loop.watch(pipe.reader, read: calls.draining("present"), edgeTriggered: true)
            let mask = probe.mask(pipe.reader)
            for watcher in old {
                #expect(!watcher.isActive && !watcher.isArmed && !watcher.isParked)
                #expect(watcher != present)
                #expect(!watcher.cancel())
                #expect(try !watcher.rearm())
                #expect(try !watcher.disableRead())
                #expect(try !watcher.enableRead())
                #expect(try !watcher.enableWrite())
                #expect(try !watcher.disableWrite())
                #expect(try !watcher.setInterest([.write]))
            }
            #expect(Set(old).count == 100)
            #expect(mask != nil)
            #expect(probe.mask(pipe.reader) == mask)
            pipe.write()
            try pump(loop, 2)
            #expect(calls.names == ["present"])
            try expectQuiet(loop)
        }

        @Test("W4 the kernel's tag changes with every registration of a number")
        func tagsChange() throws {
            let probe = try Probe()
            let pipe = Pipe()
            var tags = Set<UInt64>()
            for _ in 0..<50 {
                try probe.loop.watch(pipe.reader, read: { _, _, _ in })
                if let entry = probe.entries.first(where: { $0.descriptor == pipe.reader }) { tags.insert(entry.data) }
            }
            #expect(tags.count == 50)
        }

        // MARK: W8 errors

        @Test("W8 errors of watch are the kernel's, synchronous, and change nothing")
        func errors() throws {
            let probe = try Probe()
            let loop = probe.loop
            let file = ScratchFile.open()
            let folder = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            let null = open("/dev/null", O_RDWR | O_CLOEXEC)
            let closed = IO.copy(null)
            close(closed)
            defer { for descriptor in [file, folder, null] { close(descriptor) } }
            let entries = probe.entries
            let cases: [(CInt, CInt)] = [
                (file, EPERM), (folder, EPERM), (null, EPERM), (closed, EBADF), (-1, EBADF), (-7, EBADF),
                (CInt.min, EBADF), (CInt.max, EBADF), (500_000, EBADF),
            ]
            let ended = Tracker.Count()
            for (descriptor, code) in cases {
                for options in [(false, false), (true, false), (false, true)] {
                    let tracker = Tracker(ended)
                    #expect(
                        refusal { () throws(LoopError) in
                            try loop.watch(
                                descriptor, read: { _, _, _ in tracker.touch() }, edgeTriggered: options.0,
                                oneshot: options.1)
                        } == code, "\(descriptor)")
                    #expect(loop.watcher(of: descriptor) == nil)
                }
                #expect(try !loop.unwatch(descriptor))
            }
            #expect(
                refusal { () throws(LoopError) in
                    try loop.watch(closed, read: { _, _, _, _ in }, data: Tracker(ended))
                } == EBADF)
            try pump(loop, 2)
            #expect(ended.ended == cases.count * 3 + 1, "a refused watch keeps its handlers")
            #expect(loop.statistics.watchers == 0)
            #expect(probe.entries == entries)
            // A number that was refused is usable at once for another file.
            let calls = Calls()
            let pipe = Pipe.readable()
            IO.place(pipe.reader, at: file)
            try loop.watch(file, read: calls.draining("read"))
            try pump(loop)
            #expect(calls.names == ["read"])
            try expectQuiet(loop)
        }

        @Test("W8 a refused number costs no memory, however high")
        func refusedHighNumber() throws {
            let loop = try Loop()
            let memory = Memory.residentBytes()
            for number in [CInt.max, CInt.max - 1, 1 << 30, 100_000_000] {
                #expect(refusal { () throws(LoopError) in try loop.watch(number, read: { _, _, _ in }) } == EBADF)
                #expect(try !loop.unwatch(number))
                #expect(loop.watcher(of: number) == nil)
            }
            #expect(Memory.residentBytes() - memory < 1 << 20)
        }

        @Test("W8 a refused replacement leaves the watcher that was there")
        func refusedReplacement() throws {
            let loop = try Loop()
            let calls = Calls()
            let pipe = Pipe.readable()
            let watcher = try loop.watch(pipe.reader, read: calls.handler("old"), edgeTriggered: true)
            try pump(loop)
            #expect(calls.names == ["old"])
            for _ in 0..<3 {
                #expect(
                    refusal { () throws(LoopError) in
                        try loop.watch(pipe.reader, read: calls.handler("new"), oneshot: true, exclusive: true)
                    } == EINVAL)
            }
            #expect(watcher.isActive && watcher.isArmed)
            #expect(watcher.interest == [.read])
            #expect(loop.watcher(of: pipe.reader) == watcher)
            pipe.write()
            try pump(loop, 3)
            #expect(calls.names == ["old", "old"])
            #expect(try watcher.disableRead())
            try expectQuiet(loop)
        }

        @Test("W8 loops that watch each other in a circle: ELOOP, and nobody is harmed")
        func circle() throws {
            let first = try Loop()
            let second = try Loop()
            try first.watch(
                second.descriptor,
                read: { _, _, _ in
                    #expect(throws: Never.self) { try second.runOnce(timeout: .zero) }
                })
            #expect(
                refusal { () throws(LoopError) in try second.watch(first.descriptor, read: { _, _, _ in }) } == ELOOP)
            #expect(second.statistics.watchers == 0)
            let calls = Calls()
            let pipe = Pipe.readable()
            try second.watch(pipe.reader, read: calls.draining("read"))
            try pump(first, 2)
            #expect(calls.names == ["read"])
            try expectQuiet(first)
        }

        // MARK: W11 watchers added while dispatching

        @Test("W11 a watcher added during dispatch gets no event of the batch, and is armed before the next wait")
        func addedDuringDispatch() throws {
            let loop = try Loop()
            let calls = Calls()
            let first = Pipe.readable()
            let ready = Pipe.readable()
            let later = Pipe()
            try loop.watch(
                first.reader,
                read: { loop, fd, _ in
                    calls.add("first")
                    IO.drain(fd)
                    #expect(throws: Never.self) {
                        try loop.watch(ready.reader, read: calls.draining("ready"))
                        try loop.watch(later.reader, read: calls.draining("later"))
                    }
                    later.write()
                })
            try pump(loop)
            #expect(calls.names == ["first"])
            try loop.runOnce(timeout: .seconds(5))
            #expect(calls.names.count == 3)
            try expectQuiet(loop)
        }

        @Test("W11 a watcher added by a timer or a deferred block is seen by the next wait")
        func addedLate() throws {
            let loop = try Loop()
            let calls = Calls()
            let pipes = [Pipe.readable(), Pipe.readable()]
            loop.after(.zero) { loop, _ in
                #expect(throws: Never.self) { try loop.watch(pipes[0].reader, read: calls.draining("timer")) }
            }
            loop.defer { loop in
                #expect(throws: Never.self) { try loop.watch(pipes[1].reader, read: calls.draining("deferred")) }
            }
            try pump(loop)
            #expect(calls.names.isEmpty)
            try pump(loop)
            #expect(calls.names.sorted() == ["deferred", "timer"])
            try expectQuiet(loop)
        }
    }
}
