import CLinux
import Glibc
import LinuxEvent
import LinuxEventGroup
import TestSupport
import Testing

// What the kernel may answer instead of a connection.
extension LinuxEventGroupSuite.GroupListenTests {
    @Test("G11 without descriptors a listener pauses and does not spin; when a connection has ended it goes on at once")
    func noDescriptors() throws {
        let service = Service()
        let notices = Log<ListenerNotice>()
        try withGroup(threads: 2) { group in
            let socket = ListeningSocket()
            let clients = (0..<8).map { _ in socket.connect() }
            // Longer than this test: it is an end that makes it go on.
            let options = ListenerOptions { $0.pause = .seconds(600) }
            let none = ListenerNotice.paused(SystemError(call: "accept4", code: EMFILE))
            let listener = try DescriptorLimit.leaving(spare: 3) {
                let listener = try group.listen(
                    .leastOfTwo(socket.descriptor), options: options, to: service, notices: notices)
                #expect(eventually { notices.count == 1 })
                #expect(notices.all == [none])
                let before = group.metrics.map(\.turns)
                usleep(200_000)
                let turns = zip(group.metrics.map(\.turns), before).map { $0 - $1 }
                #expect(turns.allSatisfy { $0 <= 5 }, "turns in 200 ms: \(turns)")
                #expect(service.delivered.value == 3 && listener.total(\.pauses) == 1)

                // Each that ends makes room for the next one, and then it pauses anew.
                for round in 1...3 {
                    service.endOne(at: 0)
                    #expect(eventually { service.delivered.value == 3 + round && notices.count == 1 + round })
                }
                return listener
            }
            #expect(notices.all.allSatisfy { $0 == none } && listener.total(\.pauses) == 4)
            service.endOne(at: 0)
            for client in clients { #expect(client.answer() != .nothing) }
            #expect(service.delivered.value == 8 && notices.count == 4)
            service.end()
            #expect(listener.cancelled() == [.cancelled])
            withExtendedLifetime(socket) {}
        }
    }

    @Test("G11 without descriptors a listener tries again after its pause, by every way", arguments: Way.allCases)
    func descriptorsFromElsewhere(way: Way) throws {
        let service = Service()
        let notices = Log<ListenerNotice>()
        try withGroup(threads: 3) { group in
            let (sockets, distribution) = way.make(shards: 3)
            let clients = (0..<4).map { _ in sockets[0].connect() }
            let options = ListenerOptions { $0.pause = .milliseconds(20) }
            let listener = try DescriptorLimit.leaving(spare: 1) {
                let listener = try group.listen(distribution, options: options, to: service, notices: notices)
                #expect(eventually { notices.count >= 3 })
                #expect(service.delivered.value == 1)
                let before = (group.metrics.map(\.turns).reduce(0, +), listener.total(\.pauses))
                usleep(100_000)
                let pauses = listener.total(\.pauses) - before.1
                // A pause costs the turn of its end, the one that finds no descriptor, and one to spare.
                let turns = group.metrics.map(\.turns).reduce(0, +) - before.0
                #expect(pauses >= 1 && turns <= 3 * pauses + 9, "\(turns) turns, \(pauses) pauses")
                return listener
            }
            for client in clients { #expect(client.answer() != .nothing) }
            #expect(service.delivered.value == 4)
            service.end()
            #expect(listener.cancelled() == [.cancelled])
            withExtendedLifetime(sockets) {}
        }
    }

    @Test("G11 a drain goes on when there are descriptors again")
    func drainWithoutDescriptors() throws {
        let service = Service()
        let notices = Log<ListenerNotice>()
        let ends = Log<ListenerEnd>()
        try withGroup(threads: 2) { group in
            let socket = ListeningSocket()
            let clients = (0..<6).map { _ in socket.connect() }
            let options = ListenerOptions { $0.pause = .milliseconds(20) }
            try DescriptorLimit.leaving(spare: 2) {
                let listener = try group.listen(
                    .hash(socket.descriptor), options: options, to: service, notices: notices)
                listener.drain { ends.add($0) }
                #expect(eventually { notices.count >= 2 })
                #expect(ends.count == 0)
            }
            #expect(eventually { ends.count == 1 })
            #expect(ends.all == [.drained] && service.delivered.value == 6)
            for client in clients { #expect(client.answer() != .nothing) }
            service.end()
            withExtendedLifetime(socket) {}
        }
    }

    @Test(
        "G11 a descriptor that listens no more ends the listener, which says so",
        arguments: ListeningSocket.Kind.allCases)
    func shutDown(kind: ListeningSocket.Kind) throws {
        let service = Service()
        let notices = Log<ListenerNotice>()
        let ends = Log<ListenerEnd>()
        try withGroup(threads: 2) { group in
            let socket = ListeningSocket(kind)
            let listener = try group.listen(.hash(socket.descriptor), to: service, notices: notices)
            #expect(socket.connect().answer() != .nothing)
            Glibc.shutdown(socket.descriptor, CInt(SHUT_RDWR))
            let error = LoopError.system(SystemError(call: "accept4", code: EINVAL))
            #expect(eventually { notices.count == 1 })
            #expect(notices.all == [.failed(error)])
            #expect(eventually { group.metrics.allSatisfy { $0.watchers == 0 } })
            listener.drain { ends.add($0) }
            #expect(eventually { ends.count == 1 })
            #expect(ends.all == [.failed(error)])
            service.end()
            withExtendedLifetime(socket) {}
        }
    }

    #if DEBUG
    /// Runs the body while calls of a kind fail, from the present one on.
    private func failing(
        _ kind: clinux_call, _ code: CInt, times: UInt32, _ body: () throws -> Void
    ) rethrows {
        clinux_faults_reset()
        clinux_faults_order(kind, 1, times, code)
        defer { clinux_faults_reset() }
        try body()
    }

    @Test(
        "G11 an error of one connection is passed over, and so is a signal",
        arguments: [ECONNABORTED, EINTR, EPROTO, EPERM, ENETDOWN, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT])
    func passedOver(code: CInt) throws {
        let service = Service()
        let notices = Log<ListenerNotice>()
        try withGroup(threads: 2) { group in
            let socket = ListeningSocket()
            // More of them than one go takes.
            try failing(CLINUX_CALL_ACCEPT, code, times: 40) {
                let listener = try group.listen(.hash(socket.descriptor), to: service, notices: notices)
                for _ in 0..<3 { #expect(socket.connect().answer() != .nothing) }
                #expect(clinux_faults_strikes(CLINUX_CALL_ACCEPT) == 40)
                #expect(notices.count == 0 && listener.total(\.pauses) == 0)
                #expect(listener.cancelled() == [.cancelled])
            }
            service.end()
            withExtendedLifetime(socket) {}
        }
    }

    @Test(
        "G11 for want of memory, and for a reason that nobody knows, a listener pauses",
        arguments: [ENFILE, ENOBUFS, ENOMEM, ENOSPC])
    func scarce(code: CInt) throws {
        let service = Service()
        let notices = Log<ListenerNotice>()
        try withGroup(threads: 2) { group in
            let socket = ListeningSocket()
            try failing(CLINUX_CALL_ACCEPT, code, times: 3) {
                let options = ListenerOptions { $0.pause = .milliseconds(5) }
                let listener = try group.listen(
                    .leastOfTwo(socket.descriptor), options: options, to: service, notices: notices)
                #expect(socket.connect().answer() != .nothing)
                let paused = ListenerNotice.paused(SystemError(call: "accept4", code: code))
                #expect(notices.all == [paused, paused, paused])
                #expect(listener.cancelled() == [.cancelled])
            }
            service.end()
            withExtendedLifetime(socket) {}
        }
    }

    @Test("G11 a descriptor that was closed during a pause ends the listener, which says so", arguments: [true, false])
    func closedMeanwhile(exclusive: Bool) throws {
        let service = Service()
        let notices = Log<ListenerNotice>()
        try withGroup { group in
            let socket = ListeningSocket()
            try failing(CLINUX_CALL_ACCEPT, ENFILE, times: 1) {
                let options = ListenerOptions { $0.pause = .milliseconds(50) }
                let listener = try group.listen(
                    .shared(socket.descriptor, exclusive: exclusive), options: options, to: service, notices: notices)
                let client = socket.connect()
                #expect(eventually { notices.count == 1 })
                socket.close()
                #expect(eventually { notices.count == 2 })
                guard case .failed(let error) = notices.all.last, error.code == EBADF else {
                    return unexpected(nil)
                }
                #expect(listener.drained() == [.failed(error)])
                #expect(client.answer() == .reset)
            }
        }
    }

    @Test("G11 a descriptor that cannot be watched ends the listener, which says so")
    func cannotWatch() throws {
        let service = Service()
        let notices = Log<ListenerNotice>()
        try withGroup(threads: 2) { group in
            let socket = ListeningSocket()
            try failing(CLINUX_CALL_EPOLL_ADD, ENOSPC, times: .max) {
                let listener = try group.listen(.shared(socket.descriptor), to: service, notices: notices)
                #expect(eventually { notices.count == 2 })
                let error = LoopError.system(SystemError(call: "epoll_ctl", code: ENOSPC))
                #expect(notices.all == [.failed(error), .failed(error)])
                #expect(listener.drained() == [.failed(error)])
            }
            withExtendedLifetime(socket) {}
        }
    }
    #endif

    @Test("G11 whether the kernel migrates the connections of a closed socket is told as it stands")
    func migration() {
        let text = Files.text("/proc/sys/net/ipv4/tcp_migrate_req")
        let expected: Bool? = text.isEmpty ? nil : text.first != "0"
        #expect(Listener.kernelMigratesRequests == expected)
    }
}
