import CLinux
import Glibc
import LinuxEvent
import TestSupport
import Testing

extension LinuxEventSuite.WatchTests {
    // MARK: W2 W5 W8 what the kernel refuses changes nothing

    @Test("W8 a replacement that the kernel refuses leaves the watcher that was there, and its handlers")
    func replacementRefusedByKernel() throws {
        let loop = try Loop()
        let calls = Calls()
        let pipe = Pipe()
        let ended = Tracker.Count()
        let old: Watcher
        do {
            let tracker = Tracker(ended)
            old = try loop.watch(pipe.reader, read: { _, _, _ in tracker.touch() })
        }
        let number = pipe.reader
        pipe.closeReader()
        for options in [(false, false), (true, false), (false, true)] {
            #expect(
                refusal { () throws(LoopError) in
                    try loop.watch(
                        number, read: calls.handler("new"), edgeTriggered: options.0, exclusive: options.1)
                } == EBADF)
        }
        #expect(old.isActive && old.interest == [.read])
        #expect(loop.watcher(of: number) == old)
        try pump(loop, 2)
        #expect(ended.ended == 0)
        #expect(old.cancel())
        #expect(ended.ended == 1)
        try expectQuiet(loop)
    }

    @Test("W2 W8 an exclusive replacement that the kernel refuses leaves the watcher that was there")
    func exclusiveReplacementRefused() throws {
        let probe = try Probe()
        let loop = probe.loop
        let inner = try Loop()
        let calls = Calls()
        // The kernel takes no epoll descriptor as exclusive.
        let number = try inner.descriptor
        let old = try loop.watch(number, read: calls.handler("old"))
        #expect(
            refusal { () throws(LoopError) in
                try loop.watch(number, read: calls.handler("new"), exclusive: true)
            } == EINVAL)
        #expect(old.isActive)
        #expect(probe.asks(number, .readable) == true)
        inner.waker.signal()
        try pump(loop)
        #expect(calls.names == ["old"])
        try pump(inner)
        try expectQuiet(loop)
    }

    @Test("W2 an exclusive watcher replaces any other, and any other replaces it")
    func exclusiveReplacements() throws {
        let probe = try Probe()
        let loop = probe.loop
        let calls = Calls()
        let pipe = Pipe()
        for exclusive in [false, true, true, false] {
            let name = exclusive ? "exclusive" : "plain"
            try loop.watch(pipe.reader, read: calls.draining(name), exclusive: exclusive)
            #expect(((probe.mask(pipe.reader) ?? 0) & EpollEntry.exclusive != 0) == exclusive)
            pipe.write()
            try pump(loop, 2)
            #expect(calls.names == [name])
            calls.clear()
        }
        #expect(loop.statistics.watchers == 1)
        try expectQuiet(loop)
    }

    @Test("W8 W9 a refused replacement does not put another file into the set in the old one's place")
    func refusedReplacementOfStranger() throws {
        let probe = try Probe()
        let loop = probe.loop
        let inner = try Loop()
        let calls = Calls()
        let pipe = Pipe()
        let number = pipe.reader
        try loop.watch(number, read: calls.handler("old"))
        IO.place(try inner.descriptor, at: number)
        #expect(
            refusal { () throws(LoopError) in
                try loop.watch(number, read: calls.handler("new"), exclusive: true)
            } == EINVAL)
        #expect(probe.mask(number) == nil, "a stranger is in the kernel's set")
        inner.waker.signal()
        try pump(loop, 2)
        #expect(calls.names.isEmpty)
        try pump(inner)
        try expectQuiet(loop)
    }

    @Test("W5 an exclusive watcher's change that the kernel refuses changes nothing", arguments: [false, true])
    func exclusiveChangeRefused(inside: Bool) throws {
        let probe = try Probe()
        let loop = probe.loop
        let calls = Calls()
        let pipe = Pipe()
        let watcher = try loop.watch(pipe.reader, read: calls.draining("read"), exclusive: true)
        // Neither goes with exclusive.
        func refuse(_ interest: Interest) {
            #expect(refusal { () throws(LoopError) in try watcher.setInterest(interest) } == EINVAL)
            #expect(watcher.interest == [.read])
        }
        for interest in [Interest([.read, .priority]), [.read, .readHangup]] {
            if inside {
                loop.defer { _ in refuse(interest) }
                try pump(loop)
            } else {
                refuse(interest)
            }
            #expect(probe.asks(pipe.reader, .readable) == true)
            #expect((probe.mask(pipe.reader) ?? 0) & EpollEntry.exclusive != 0)
            calls.clear()
            pipe.write()
            try pump(loop, 2)
            #expect(calls.names == ["read"])
        }
        try expectQuiet(loop)
    }

    @Test(
        "W9 a number that was closed and made again from a copy of the same file is watched, exclusive before or now",
        arguments: [true, false])
    func sameFileExclusive(before: Bool) throws {
        let probe = try Probe()
        let loop = probe.loop
        let calls = Calls()
        let pipe = Pipe()
        let number = IO.copy(pipe.reader)
        try loop.watch(number, read: calls.handler("old"), exclusive: before)
        close(number)
        #expect(try loop.unwatch(number))
        // The kernel still knows the file under this number.
        IO.place(pipe.reader, at: number)
        defer { close(number) }
        try loop.watch(number, read: calls.draining("new"), exclusive: !before)
        #expect(((probe.mask(number) ?? 0) & EpollEntry.exclusive != 0) == !before)
        pipe.write()
        try pump(loop, 2)
        #expect(calls.names == ["new"])
        #expect(try loop.unwatch(number))
        try expectQuiet(loop)
    }
}
