import CKernelFacts
import CLinux
import Glibc
import TestSupport
import Testing

extension KernelFacts {
    @Suite("Readiness")
    struct ReadinessFacts {
        @Test("kernel: epoll and poll(2) report the same, and what the guide says", arguments: Situation.all)
        func table(situation: Situation) {
            expectNoneLeft {
                let held = situation.make()
                #expect(Readiness.settle(held.descriptor, at: situation.readiness))
                #expect(Readiness.of(held.descriptor) == situation.readiness)
                for flags in [0, EpollEntry.edgeTriggered, EpollEntry.oneshot] {
                    let set = EpollSet()
                    #expect(set.add(held.descriptor, .everything, flags: flags) == 0)
                    #expect(set.readiness() == situation.readiness)
                    #expect(set.readiness() == (flags == 0 ? situation.readiness : []), "a second time: \(flags)")
                }
            }
        }

        @Test("kernel: nothing is reported that was not asked for, but ERR and HUP", arguments: Situation.all)
        func asked(situation: Situation) {
            let held = situation.make()
            #expect(Readiness.settle(held.descriptor, at: situation.readiness))
            for asked: Readiness in [[], .readable, .writable, .peerShutdown] {
                let set = EpollSet()
                #expect(set.add(held.descriptor, asked) == 0)
                let expected = situation.readiness.intersection(asked.union([.error, .hangup]))
                #expect(set.readiness() == expected, "asked for \(asked)")
            }
        }

        @Test("kernel: what cannot be polled is refused with EPERM, though poll(2) takes it for always ready")
        func notPollable() {
            let descriptors = [
                ScratchFile.open(), open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC), kernel_memory_file(),
                open("/dev/null", O_RDWR | O_CLOEXEC), open("/dev/urandom", O_RDONLY | O_CLOEXEC),
            ]
            let set = EpollSet()
            for descriptor in descriptors {
                let name = OpenDescriptors.target(of: descriptor)
                #expect(set.add(descriptor, .readable) == -EPERM, "\(name)")
                #expect(!Readiness.of(descriptor).isDisjoint(with: [.readable, .writable]), "\(name)")
                close(descriptor)
            }
            #expect(EpollEntry.all(in: set.descriptor).isEmpty)
        }

        @Test("kernel: a number that is not open, and one opened with O_PATH, are refused with EBADF")
        func badNumbers() {
            let path = kernel_open_path("/tmp")
            defer { close(path) }
            let set = EpollSet()
            let pipe = Pipe()
            let closed = pipe.reader
            pipe.closeReader()
            for number in [path, closed, -1, CInt.max] {
                #expect(set.add(number, .readable) == -EBADF)
                #expect(set.modify(number, .readable) == -EBADF)
                #expect(set.remove(number) == -EBADF)
            }
        }

        @Test("kernel: ERR is gone once SO_ERROR was fetched, HUP stays")
        func fetchedError() {
            let descriptor = Sockets.tcpRefused()
            defer { close(descriptor) }
            let everything: Readiness = [.readable, .writable, .error, .hangup, .peerShutdown]
            #expect(Readiness.settle(descriptor, at: everything))
            let set = EpollSet()
            set.add(descriptor, .everything)
            for _ in 0..<3 { #expect(set.readiness() == everything) }
            #expect(IO.takeSocketError(descriptor) == ECONNREFUSED)
            #expect(set.readiness() == everything.subtracting(.error))
            #expect(IO.takeSocketError(descriptor) == 0)
        }

        @Test("kernel: the error is ECONNRESET after a reset, also where a unix peer left our data unread")
        func resetErrors() {
            let tcp = Sockets.tcpPair()
            tcp.resetFar()
            #expect(Readiness.of(tcp.near, waiting: 10_000).contains(.error))
            #expect(IO.takeSocketError(tcp.near) == ECONNRESET)
            let unix = Sockets.unixPair()
            IO.write(unix.near)
            unix.closeFar()
            #expect(IO.takeSocketError(unix.near) == ECONNRESET)
        }

        @Test("kernel: data that came before a reset can be read, and then comes ECONNRESET")
        func dataBeforeReset() {
            let pair = Sockets.tcpPair()
            IO.write(pair.far, count: 3)
            #expect(Readiness.settle(pair.near, at: [.readable, .writable]))
            pair.resetFar()
            #expect(Readiness.of(pair.near, waiting: 10_000).contains(.readable))
            #expect(Readiness.settle(pair.near, at: [.readable, .writable, .error, .hangup, .peerShutdown]))
            #expect(IO.read(pair.near, count: 10) == 3)
            #expect(IO.read(pair.near, count: 10) == -1 && errno == ECONNRESET)
        }

        @Test("kernel: an end is read as an end where HUP comes without IN")
        func endWithoutInput() {
            let pipe = Pipe()
            pipe.closeWriter()
            #expect(Readiness.of(pipe.reader) == .hangup)
            #expect(IO.read(pipe.reader) == 0)
        }

        @Test("kernel: a mount is told once on /proc/self/mounts, as IN, PRI and ERR")
        func mounts() throws { try expectHeld(kernel_fact_mounts_error_once()) }
    }
}
