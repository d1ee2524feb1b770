import CKernelFacts
import CLinux
import Glibc
import TestSupport
import Testing

extension KernelFacts {
    @Suite("Entries of an epoll set")
    struct EpollFacts {
        private let edge = EpollEntry.edgeTriggered
        private let oneshot = EpollEntry.oneshot
        private let exclusive = EpollEntry.exclusive

        // MARK: Adding, changing, removing

        @Test("kernel: the descriptors that we make are close-on-exec, and named in /proc/self/fd")
        func births() {
            expectNoneLeft {
                let set = EpollSet()
                let counter = Counter()
                let alarm = Alarm()
                let signals = Held(owning: clinux_signalfd(-1, 0))
                for descriptor in [set.descriptor, counter.descriptor, alarm.descriptor, signals.descriptor] {
                    #expect(IO.isCloseOnExec(descriptor))
                }
                for descriptor in [counter.descriptor, alarm.descriptor, signals.descriptor] {
                    #expect(IO.isNonBlocking(descriptor))
                }
                #expect(OpenDescriptors.target(of: set.descriptor) == "anon_inode:[eventpoll]")
                #expect(OpenDescriptors.target(of: counter.descriptor) == "anon_inode:[eventfd]")
                #expect(OpenDescriptors.target(of: alarm.descriptor) == "anon_inode:[timerfd]")
                #expect(OpenDescriptors.target(of: signals.descriptor) == "anon_inode:[signalfd]")
            }
        }

        @Test("kernel: an entry's tag comes back with all 64 bits, and /proc/self/fdinfo tells number, mask and tag")
        func tags() {
            let set = EpollSet()
            let pipe = Pipe.readable()
            let tag: UInt64 = 0xfedc_ba98_7654_3210
            #expect(set.add(pipe.reader, .readable, flags: edge, tag: tag) == 0)
            let entry = EpollEntry.all(in: set.descriptor)
            #expect(entry.map(\.descriptor) == [pipe.reader])
            #expect(entry.map(\.data) == [tag])
            // ERR and HUP are always asked for.
            let asked: Readiness = [.readable, .error, .hangup]
            #expect(entry.map(\.mask) == [asked.rawValue | edge])
            #expect(set.events() == [.init(.readable, tag)])
        }

        @Test("kernel: to add what is there is refused with EEXIST and changes nothing")
        func addTwice() {
            let set = EpollSet()
            let pipe = Pipe.readable()
            set.add(pipe.reader, .readable, flags: edge, tag: 1)
            #expect(set.events() == [.init(.readable, 1)])
            let before = EpollEntry.all(in: set.descriptor)
            for asked: Readiness in [[], .readable, .writable] {
                #expect(set.add(pipe.reader, asked, tag: 2) == -EEXIST)
            }
            #expect(EpollEntry.all(in: set.descriptor) == before)
            #expect(set.events().isEmpty, "the edge was repeated")
            pipe.write()
            #expect(set.events() == [.init(.readable, 1)])
            // A spent oneshot stays spent.
            let other = Pipe.readable()
            set.add(other.reader, .readable, flags: oneshot, tag: 3)
            #expect(set.events() == [.init(.readable, 3)])
            #expect(set.add(other.reader, [], tag: 3) == -EEXIST)
            #expect(set.events().isEmpty)
        }

        @Test("kernel: to change or remove what is not there is refused with ENOENT")
        func absent() {
            let set = EpollSet()
            let pipe = Pipe()
            #expect(set.modify(pipe.reader, .readable) == -ENOENT)
            #expect(set.remove(pipe.reader) == -ENOENT)
            set.add(pipe.reader, .readable)
            #expect(set.remove(pipe.reader) == 0)
            #expect(set.remove(pipe.reader) == -ENOENT)
        }

        @Test("kernel: what is ready when it is added is reported at once, edge-triggered and oneshot too")
        func readyWhenAdded() {
            for flags in [0, edge, oneshot, edge | oneshot, exclusive, exclusive | edge] {
                let set = EpollSet()
                let pipe = Pipe.readable()
                #expect(set.add(pipe.reader, .readable, flags: flags) == 0)
                #expect(set.readiness() == .readable)
                // Out and in again repeats it.
                set.remove(pipe.reader)
                #expect(set.add(pipe.reader, .readable, flags: flags) == 0)
                #expect(set.readiness() == .readable)
            }
        }

        @Test("kernel: removed is silent, also for what was ready before")
        func removed() {
            let set = EpollSet()
            let pipe = Pipe.readable()
            set.add(pipe.reader, .readable)
            set.remove(pipe.reader)
            pipe.closeWriter()
            #expect(set.events().isEmpty)
        }

        @Test("kernel: an entry with mask 0 still reports HUP and ERR, every time")
        func maskZero() {
            let set = EpollSet()
            let hung = Pipe.readable()
            let broken = Pipe()
            set.add(hung.reader, [], tag: 1)
            set.add(broken.writer, [], tag: 2)
            #expect(set.events().isEmpty)
            hung.closeWriter()
            broken.closeReader()
            for _ in 0..<100 { #expect(Set(set.events()) == [.init(.hangup, 1), .init(.error, 2)]) }
            set.modify(hung.reader, [], tag: 1)
            #expect(set.events().count == 2)
        }

        // MARK: Oneshot

        @Test(
            "kernel: a disarmed oneshot reports nothing, not even HUP and ERR, until it is changed",
            arguments: [false, true])
        func spentOneshot(edgeTriggered: Bool) {
            let flags = oneshot | (edgeTriggered ? edge : 0)
            let set = EpollSet()
            let pair = Sockets.unixPair()
            IO.write(pair.far)
            set.add(pair.near, .readable, flags: flags)
            #expect(set.readiness() == .readable)
            IO.write(pair.near)
            pair.closeFar()
            #expect(Readiness.of(pair.near).isSuperset(of: [.error, .hangup]))
            for _ in 0..<10 { #expect(set.events().isEmpty) }
            // With the same mask.
            #expect(set.modify(pair.near, .readable, flags: flags) == 0)
            #expect(set.readiness() == [.readable, .error, .hangup])
            #expect(set.events().isEmpty)
        }

        @Test("kernel: data left unread is reported for each time that a oneshot is armed")
        func rearmed() {
            for flags in [oneshot, oneshot | edge] {
                let set = EpollSet()
                let pipe = Pipe.readable()
                set.add(pipe.reader, .readable, flags: flags)
                for _ in 0..<100 {
                    #expect(set.readiness() == .readable)
                    #expect(set.events().isEmpty)
                    #expect(set.modify(pipe.reader, .readable, flags: flags) == 0)
                }
            }
        }

        @Test("kernel: a oneshot that asks for nothing reports HUP or ERR once, and nothing else")
        func silentOneshot() {
            let set = EpollSet()
            let pipe = Pipe.readable()
            set.add(pipe.reader, [], flags: oneshot)
            #expect(set.events().isEmpty)
            pipe.closeWriter()
            #expect(set.readiness() == .hangup)
            #expect(set.events().isEmpty)
        }

        // MARK: Edges

        @Test("kernel: edge-triggered, what is not read is not reported again; what arrives is, read or not")
        func edges() {
            let set = EpollSet()
            let pipe = Pipe()
            set.add(pipe.reader, .readable, flags: edge)
            #expect(set.events().isEmpty)
            pipe.write(10)
            #expect(set.readiness() == .readable)
            #expect(set.events().isEmpty)
            IO.read(pipe.reader, count: 3)
            #expect(set.events().isEmpty, "a partial read is no edge")
            pipe.write()
            #expect(set.readiness() == .readable)
            #expect(set.events().isEmpty)
            pipe.closeWriter()
            #expect(set.readiness() == [.readable, .hangup])
            #expect(set.events().isEmpty)
        }

        @Test("kernel: edge-triggered, TCP data that arrives is reported, read or not")
        func streamEdges() {
            let set = EpollSet()
            let pair = Sockets.tcpPair()
            set.add(pair.near, .readable, flags: edge)
            for _ in 0..<3 {
                IO.write(pair.far)
                #expect(set.readiness(waiting: 10_000) == .readable)
                #expect(set.events().isEmpty)
            }
        }

        @Test("kernel: an edge of reading reports room as well, where that was asked for")
        func edgeReportsAll() {
            let set = EpollSet()
            let pair = Sockets.unixPair()
            set.add(pair.near, [.readable, .writable], flags: edge)
            #expect(set.readiness() == .writable)
            #expect(set.events().isEmpty)
            IO.write(pair.far)
            #expect(set.readiness() == [.readable, .writable])
        }

        @Test("kernel: a change with the same mask repeats an edge; to ask for less does not lose edge triggering")
        func changeRepeats() {
            let set = EpollSet()
            let pair = Sockets.unixPair()
            IO.write(pair.far)
            for _ in 0..<3 {
                set.add(pair.near, .readable, flags: edge)
                set.modify(pair.near, .readable, flags: edge)
                #expect(set.readiness() == .readable)
                #expect(set.events().isEmpty)
            }
            set.modify(pair.near, [.readable, .writable], flags: edge)
            #expect(set.readiness() == [.readable, .writable])
            set.modify(pair.near, .writable, flags: edge)
            #expect(set.readiness() == .writable)
            #expect(set.events().isEmpty)
        }

        @Test("kernel: what stopped being ready before the wait is not reported, edge-triggered either")
        func readInBetween() {
            let set = EpollSet()
            let pipe = Pipe()
            set.add(pipe.reader, .readable, flags: edge)
            pipe.write()
            IO.drain(pipe.reader)
            #expect(set.events().isEmpty)
            pipe.write()
            #expect(set.readiness() == .readable)
        }

        // MARK: Exclusive

        @Test("kernel: exclusive goes with edge triggering only, not with oneshot, RDHUP or PRI, nor on an epoll set")
        func exclusiveRefusals() {
            let set = EpollSet()
            let pipe = Pipe()
            #expect(set.add(pipe.reader, .readable, flags: exclusive | oneshot) == -EINVAL)
            #expect(set.add(pipe.reader, [.readable, .peerShutdown], flags: exclusive) == -EINVAL)
            #expect(set.add(pipe.reader, [.readable, .priority], flags: exclusive) == -EINVAL)
            #expect(set.add(EpollSet().descriptor, .readable, flags: exclusive) == -EINVAL)
            #expect(set.add(pipe.reader, .readable, flags: exclusive | edge) == 0)
        }

        @Test("kernel: an exclusive entry cannot be changed, and no entry can become exclusive")
        func exclusiveIsFinal() {
            let set = EpollSet()
            let pipe = Pipe()
            set.add(pipe.reader, .readable, flags: exclusive)
            let before = EpollEntry.all(in: set.descriptor)
            #expect(set.modify(pipe.reader, .readable) == -EINVAL)
            #expect(set.modify(pipe.reader, .readable, flags: exclusive) == -EINVAL)
            #expect(EpollEntry.all(in: set.descriptor) == before)
            set.add(pipe.writer, .writable)
            #expect(set.modify(pipe.writer, .writable, flags: exclusive) == -EINVAL)
            #expect(set.readiness() == .writable)
        }

        // MARK: The wait

        @Test("kernel: events come in the order in which descriptors became ready")
        func order() {
            let set = EpollSet()
            let pipes = (0..<8).map { _ in Pipe() }
            for (index, pipe) in pipes.enumerated() { set.add(pipe.reader, .readable, tag: UInt64(index)) }
            let turn = [3, 0, 7, 5, 1, 6, 2, 4]
            for index in turn { pipes[index].write() }
            #expect(set.events().map(\.tag) == turn.map { UInt64($0) })
        }

        @Test("kernel: a batch smaller than what is ready rotates: nobody is served twice before all were once")
        func rotation() {
            let set = EpollSet()
            let pipes = (0..<4).map { _ in Pipe.readable() }
            for (index, pipe) in pipes.enumerated() { set.add(pipe.reader, .readable, tag: UInt64(index)) }
            let served = (0..<8).flatMap { _ in set.events(capacity: 1).map(\.tag) }
            #expect(served == [0, 1, 2, 3, 0, 1, 2, 3])
            #expect(
                (0..<4).flatMap { _ in set.events(capacity: 3).map(\.tag) } == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3])
        }

        @Test("kernel: an edge that found no room in the batch is reported by the next wait")
        func edgesBeyondTheBatch() {
            let set = EpollSet()
            let pipes = (0..<5).map { _ in Pipe.readable() }
            for (index, pipe) in pipes.enumerated() {
                set.add(pipe.reader, .readable, flags: edge, tag: UInt64(index))
            }
            #expect((0..<4).map { _ in set.events(capacity: 2).map(\.tag) } == [[0, 1], [2, 3], [4], []])
        }

        @Test("kernel: a wait of zero does not wait, and one without limit ends with the first event")
        func waits() {
            let set = EpollSet()
            let pipe = Pipe()
            set.add(pipe.reader, .readable)
            #expect(set.events().isEmpty)
            let start = Clock.monotonic()
            let thread = Threads.spawn { [writer = pipe.writer] in
                usleep(20_000)
                IO.write(writer)
            }
            #expect(set.events(waiting: -1).count == 1)
            #expect(Clock.monotonic() - start >= 20_000_000)
            thread.join()
        }

        @Test("kernel: entries may be added, changed and removed by another thread while one waits")
        func changesWhileWaiting() {
            let set = EpollSet()
            let pipe = Pipe.readable()
            let thread = Threads.spawn { [epoll = set.descriptor, reader = pipe.reader] in
                usleep(20_000)
                _ = clinux_epoll_ctl(epoll, EPOLL_CTL_ADD, reader, Readiness.readable.rawValue, 5)
            }
            #expect(set.events(waiting: -1) == [.init(.readable, 5)])
            thread.join()
        }

        @Test(
            "kernel: a signal's handler ends a wait with EINTR, with SA_RESTART too",
            .enabled(if: !Build.hasThreadSanitizer, "under ThreadSanitizer handlers run late"))
        func interrupted() throws { try expectHeld(kernel_fact_handler_interrupts_epoll_wait()) }
    }
}
