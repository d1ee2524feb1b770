import Glibc
import LinuxEvent
import LinuxEventGroup
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("G11 Listeners")
    struct GroupListenTests {
        /// Ways of distribution, each with sockets of a kind.
        enum Way: CaseIterable, CustomTestStringConvertible {
            case perShard, shared, sharedExclusive, sharedUnix, hash, hashUnix, leastOfTwo, leastOfTwoUnix
            var testDescription: String { "\(self)" }

            /// The sockets, and the distribution that has them.
            func make(shards: Int) -> (sockets: [ListeningSocket], distribution: Distribution) {
                switch self {
                case .perShard:
                    let first = ListeningSocket()
                    let sockets = [first] + (1..<shards).map { _ in ListeningSocket(reusingPortOf: first) }
                    return (sockets, .perShard(sockets.map(\.descriptor)))
                case .shared: return Self.make(.tcp) { .shared($0, exclusive: false) }
                case .sharedExclusive: return Self.make(.tcp) { .shared($0) }
                case .sharedUnix: return Self.make(.unix) { .shared($0) }
                case .hash: return Self.make(.tcp) { .hash($0, acceptor: 1) }
                case .hashUnix: return Self.make(.unix) { .hash($0) }
                case .leastOfTwo: return Self.make(.tcp) { .leastOfTwo($0) }
                case .leastOfTwoUnix: return Self.make(.unix) { .leastOfTwo($0, acceptor: 2) }
                }
            }

            private static func make(
                _ kind: ListeningSocket.Kind, _ distribution: (CInt) -> Distribution
            ) -> ([ListeningSocket], Distribution) {
                let socket = ListeningSocket(kind)
                return ([socket], distribution(socket.descriptor))
            }
        }

        @Test("G11 each connection is accepted once and delivered on its shard, by every way", arguments: Way.allCases)
        func delivery(way: Way) throws {
            let service = Service()
            try withGroup(threads: 3) { group in
                let (sockets, distribution) = way.make(shards: 3)
                let listener = try group.listen(distribution, to: service)
                let made = Log<Client>()
                let door = sockets[0].door
                // One after the other, and then several at a time.
                for _ in 0..<30 { made.add(door.connect()) }
                let crowd = (0..<4).map { _ in Threads.spawn { for _ in 0..<10 { made.add(door.connect()) } } }
                for thread in crowd { thread.join() }
                let clients = made.all
                for client in clients {
                    guard case .byte(let shard) = client.answer() else {
                        Issue.record("a client got no answer")
                        continue
                    }
                    #expect(shard < 3)
                    // Exactly one: nobody else has it.
                    #expect(Readiness.of(client.descriptor).isDisjoint(with: [.readable, .hangup]))
                }
                #expect(service.delivered.value == clients.count && service.strays.value == 0)
                expectRight(service.all, of: distribution, on: group)
                #expect(eventually { listener.total(\.handedOver) == UInt64(clients.count) })
                #expect(listener.total(\.accepted) == UInt64(clients.count))
                #expect(listener.metrics.map { Int($0.delivered) } == (0..<3).map { service.count(on: $0) })
                #expect(listener.total(\.refused) == 0 && listener.total(\.pauses) == 0)
                switch distribution {
                case .hash(_, let acceptor), .leastOfTwo(_, let acceptor):
                    #expect(listener.metrics[acceptor].accepted == UInt64(clients.count))
                default: #expect(listener.metrics.allSatisfy { $0.accepted == $0.delivered })
                }
                #expect(group.loads == (0..<3).map { service.count(on: $0) })
                service.end()
                #expect(eventually { group.loads == [0, 0, 0] })
                for client in clients { #expect(client.answer() == .end) }
                #expect(listener.cancelled() == [.cancelled])
                // They are the user's, and open.
                for socket in sockets { #expect(IO.isOpen(socket.descriptor)) }
            }
        }

        /// Each has a descriptor of its own, as it should be, on the shard where it should be.
        private func expectRight(_ connections: [Served], of distribution: Distribution, on group: LoopGroup) {
            #expect(Set(connections.map(\.descriptor)).count == connections.count)
            for served in connections {
                #expect(fcntl(served.descriptor, F_GETFL) & O_NONBLOCK != 0)
                #expect(fcntl(served.descriptor, F_GETFD) == FD_CLOEXEC)
                guard case .hash = distribution else { continue }
                #expect(group.shard(for: served.descriptor).index == served.shard)
            }
        }

        // MARK: What is refused

        @Test("G11 what is no listening, non-blocking socket is refused, and so is what does not fit the group")
        func refusals() throws {
            let service = Service()
            func failure(_ group: LoopGroup, _ distribution: Distribution) -> ListenerError? {
                do throws(ListenerError) {
                    _ = try group.listen(distribution, to: service)
                    return nil
                } catch { return error }
            }
            let socket = ListeningSocket()
            let pipe = Pipe()
            try expectNothingLeft {
                let group = try LoopGroup(threads: 2, name: Tested.name)
                let bad = ListenerError.system(SystemError(call: "getsockopt", code: EBADF))
                #expect(failure(group, .hash(-1)) == bad)
                #expect(failure(group, .shared(900)) == bad)
                #expect(
                    failure(group, .hash(pipe.reader)) == .system(SystemError(call: "getsockopt", code: ENOTSOCK)))
                let unbound = Sockets.tcpUnconnected()
                #expect(failure(group, .leastOfTwo(unbound)) == .notListening(unbound))
                close(unbound)
                let blocking = Sockets.listening().descriptor
                #expect(failure(group, .perShard([socket.descriptor, blocking])) == .blocking(blocking))
                close(blocking)
                #expect(failure(group, .perShard([socket.descriptor])) == .descriptorCount(1, shards: 2))
                #expect(failure(group, .hash(socket.descriptor, acceptor: 2)) == .noSuchShard(2))
                #expect(failure(group, .leastOfTwo(socket.descriptor, acceptor: -1)) == .noSuchShard(-1))
                #expect(group.metrics.allSatisfy { $0.watchers == 0 })
                #expect(try group.stop(deadline: .seconds(10)).isComplete)
                #expect(failure(group, .hash(socket.descriptor)) == .closed)
            }
            withExtendedLifetime((socket, pipe)) {}
        }

        @Test("G11 a hash's shard that has no room refuses: the connection is closed and counted, and nobody sees it")
        func fullHash() throws {
            let service = Service()
            try withGroup(threads: 2, capacity: 1) { group in
                let socket = ListeningSocket()
                let listener = try group.listen(.hash(socket.descriptor), to: service)
                let hold = group.hold(1)
                #expect(group.post(to: 1) { _ in }.isFull)
                let before = OpenDescriptors.count()
                var clients: [Client] = []
                // Numbers alternate between the homes, more or less.
                while listener.total(\.refused) < 3, clients.count < 60 {
                    clients.append(socket.connect())
                    let count = UInt64(clients.count)
                    #expect(eventually { listener.total(\.handedOver) + listener.total(\.refused) == count })
                }
                let refused = Int(listener.total(\.refused))
                #expect(refused == 3)
                #expect(OpenDescriptors.count() == before + 2 * clients.count - refused)
                hold.letGo()
                let answers = clients.map { $0.answer() }
                #expect(answers.count { $0 == .end } == refused)
                #expect(answers.count { $0 == .byte(0) } == clients.count - refused)
                #expect(service.delivered.value == clients.count - refused)
                #expect(group.loads == [clients.count - refused, 0])
                service.end()
                #expect(listener.cancelled() == [.cancelled])
                withExtendedLifetime(socket) {}
            }
        }

        @Test("G11 leastOfTwo goes on to a shard that has room, at last to the acceptor itself")
        func fullLeastOfTwo() throws {
            let service = Service()
            try withGroup(threads: 3, capacity: 1) { group in
                let socket = ListeningSocket()
                let listener = try group.listen(.leastOfTwo(socket.descriptor), to: service)
                let holds = [1, 2].map { group.hold($0) }
                for index in [1, 2] { #expect(group.post(to: index) { _ in }.isFull) }
                let clients = (0..<20).map { _ in socket.connect() }
                for client in clients { #expect(client.answer() == .byte(0)) }
                #expect(group.loads == [20, 0, 0] && listener.total(\.refused) == 0)
                for hold in holds { hold.letGo() }
                service.end()
                #expect(listener.cancelled() == [.cancelled])
                withExtendedLifetime(socket) {}
            }
        }

        // MARK: Bounds

        @Test("G11 L13 a crowd is taken in portions, between which other work has its turn")
        func portions() throws {
            let turns = Log<String>()
            let service = Service()
            try withGroup { group in
                let socket = ListeningSocket()
                let pipe = Pipe.readable()
                let hold = group.hold(0)
                let clients = (0..<50).map { _ in socket.connect() }
                let options = ListenerOptions { $0.acceptsPerEvent = 4 }
                let listener = try group.listen(.hash(socket.descriptor), options: options) { shard, accepted in
                    turns.add("accept")
                    service.serve(accepted, on: shard)
                }
                let descriptor = pipe.reader
                group.post(to: 0) { shard in
                    _ = try? shard.loop.watch(descriptor, read: { _, _, _ in turns.add("other") })
                }
                hold.letGo()
                for client in clients { #expect(client.answer() == .byte(0)) }
                group.post(to: 0) { shard in _ = try? shard.loop.unwatch(descriptor) }
                var longest = 0
                var row = 0
                for turn in turns.all {
                    row = turn == "accept" ? row + 1 : 0
                    longest = max(longest, row)
                }
                #expect(longest == 4)
                #expect(listener.cancelled() == [.cancelled])
                service.end()
                withExtendedLifetime((socket, pipe)) {}
            }
        }

        // MARK: Lifetimes

        @Test("G11 handler and notices are let go of with the listener, and its connections keep neither")
        func release() throws {
            let deaths = Deaths()
            let service = Service()
            try withGroup(threads: 2) { group in
                let socket = ListeningSocket()
                do {
                    let mortals = [Mortal(deaths), Mortal(deaths)]
                    let listener = try group.listen(
                        .leastOfTwo(socket.descriptor), notice: { [mortal = mortals[0]] _, _ in mortal.touch() }
                    ) { [mortal = mortals[1]] shard, accepted in
                        mortal.touch()
                        service.serve(accepted, on: shard)
                    }
                    let clients = (0..<4).map { _ in socket.connect() }
                    for client in clients { #expect(client.answer() != .nothing) }
                    #expect(listener.cancelled() == [.cancelled])
                }
                for index in 0..<2 { group.settle(index) }
                #expect(eventually { deaths.count == 2 })
                #expect(group.loads.reduce(0, +) == 4)
                service.end()
                #expect(eventually { group.loads == [0, 0] })
                withExtendedLifetime(socket) {}
            }
        }

        @Test("G11 a listener that is let go of goes on until the group stops, which ends it")
        func dropped() throws {
            let service = Service()
            try withGroup(threads: 2) { group in
                let socket = ListeningSocket(.unix)
                _ = try group.listen(.shared(socket.descriptor), to: service)
                for _ in 0..<5 { #expect(socket.connect().answer() != .nothing) }
                #expect(try group.stop(deadline: .seconds(10)).isComplete)
                service.end()
            }
        }

        @Test("G11 a start block may listen, and a task", arguments: [true, false])
        func onAShard(inStart: Bool) throws {
            let service = Service()
            let socket = ListeningSocket()
            let descriptor = socket.descriptor
            let listen: @Sendable (Shard) throws -> Void = { shard in
                guard shard.index == 1 else { return }
                _ = try shard.group.listen(.leastOfTwo(descriptor, acceptor: 1), to: service)
            }
            try withGroup(threads: 2, start: { if inStart { try listen($0) } }) { group in
                if !inStart { group.post(to: 1) { try? listen($0) } }
                let clients = (0..<6).map { _ in socket.connect() }
                for client in clients { #expect(client.answer() != .nothing) }
                #expect(group.loads == [3, 3])
                let report = try group.stop(deadline: .seconds(10))
                #expect(report.isComplete)
                service.end()
            }
            withExtendedLifetime(socket) {}
        }

        @Test("G11 a connection that moves counts in the load of its new shard")
        func moved() throws {
            let kept = Locked<[Served]>([])
            try withGroup(threads: 2) { group in
                let socket = ListeningSocket(.unix)
                let listener = try group.listen(.shared(socket.descriptor, exclusive: false)) { shard, accepted in
                    var accepted = accepted
                    accepted.move(to: shard.group[1])
                    let served = Served(accepted, on: shard)
                    kept.withLock { $0.append(served) }
                }
                let clients = (0..<6).map { _ in socket.connect() }
                #expect(eventually { kept.withLock { $0.count } == clients.count })
                #expect(group.loads == [0, 6])
                kept.withLock { $0 = [] }
                #expect(eventually { group.loads == [0, 0] })
                #expect(listener.cancelled() == [.cancelled])
                withExtendedLifetime(socket) {}
            }
        }
    }
}
