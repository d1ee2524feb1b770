import Glibc
import LinuxEvent
import LinuxEventGroup
import TestSupport
import Testing

// How a listener ends, and what becomes of connections then.
extension LinuxEventGroupSuite.GroupListenTests {
    @Test("G11 a drain delivers all that is in the kernel's queue, and then nobody accepts", arguments: Way.allCases)
    func drain(way: Way) throws {
        let service = Service()
        try withGroup(threads: 3) { group in
            let (sockets, distribution) = way.make(shards: 3)
            let listener = try group.listen(distribution, to: service)
            for index in 0..<3 { group.settle(index) }
            let holds = (0..<3).map { group.hold($0) }
            // Complete for their clients, who have sent already, and none of them accepted.
            let clients = (0..<80).map { _ in sockets[0].connect() }
            for client in clients { IO.write(client.descriptor) }
            let ends = Log<ListenerEnd>()
            listener.drain { ends.add($0) }
            usleep(5_000)
            #expect(ends.count == 0 && listener.total(\.accepted) == 0)
            for hold in holds { hold.letGo() }
            #expect(eventually { ends.count == 1 })
            #expect(ends.all == [.drained])
            // When it says so they have been with the handler, all of them.
            #expect(service.delivered.value == 80)
            #expect(eventually { group.metrics.allSatisfy { $0.watchers == 0 } })

            let late = sockets[0].connect()
            usleep(20_000)
            #expect(service.delivered.value == 80 && late.answer(seconds: 0) == .nothing)
            #expect(sockets.contains { $0.takeOne() })

            for socket in sockets { socket.close() }
            for client in clients {
                guard case .byte = client.answer() else {
                    Issue.record("a client of the queue got no answer")
                    continue
                }
                #expect(Readiness.of(client.descriptor).isDisjoint(with: [.hangup, .error]))
            }
            #expect(service.strays.value == 0)
            // Whoever asks later has the answer at once.
            let thread = thisThread()
            let isSame = Flag()
            listener.cancel { end in if thisThread() == thread, end == .drained { isSame.set() } }
            #expect(isSame.isSet)
            service.end()
        }
    }

    @Test("G11 a cancel leaves the queue to the kernel, whose clients are reset when the descriptor is closed")
    func cancel() throws {
        let service = Service()
        try withGroup(threads: 2) { group in
            let socket = ListeningSocket()
            let options = ListenerOptions { $0.acceptsPerEvent = 4 }
            let listener = try group.listen(.hash(socket.descriptor), options: options, to: service)
            group.settle(0)
            let hold = group.hold(0)
            let clients = (0..<10).map { _ in socket.connect() }
            let ends = Log<ListenerEnd>()
            for _ in 0..<2 { listener.cancel { ends.add($0) } }
            // Too late: the cancel came first.
            listener.drain { ends.add($0) }
            hold.letGo()
            #expect(eventually { ends.count == 3 })
            #expect(ends.all == [.cancelled, .cancelled, .cancelled])
            // An event comes before a task, so one portion was taken.
            let accepted = Int(listener.total(\.accepted))
            #expect(accepted <= 4 && accepted == service.delivered.value)
            socket.close()
            #expect(clients.count { $0.answer() == .reset } == 10 - accepted)
            service.end()
        }
    }

    @Test("G11 a drain says so only when the handler has returned on the other shards, too")
    func drainWaitsForDelivery() throws {
        let service = Service()
        try withGroup(threads: 2) { group in
            let socket = ListeningSocket()
            let listener = try group.listen(.leastOfTwo(socket.descriptor), to: service)
            let hold = group.hold(1)
            let clients = (0..<8).map { _ in socket.connect() }
            let ends = Log<ListenerEnd>()
            listener.drain { ends.add($0) }
            #expect(eventually { listener.total(\.handedOver) == 8 })
            usleep(10_000)
            #expect(ends.count == 0 && service.delivered.value == 4)
            hold.letGo()
            #expect(eventually { ends.count == 1 })
            #expect(service.delivered.value == 8 && ends.all == [.drained])
            service.end()
            withExtendedLifetime((socket, clients)) {}
        }
    }

    @Test("G11 G9 a stop of the group ends its listeners, and a drain that was under way is told")
    func stopEnds() throws {
        let ends = Log<ListenerEnd>()
        let service = Service()
        let sockets = [ListeningSocket(), ListeningSocket(.unix)]
        try withGroup(threads: 2) { group in
            let listeners = [
                try group.listen(.leastOfTwo(sockets[0].descriptor), to: service),
                try group.listen(.shared(sockets[1].descriptor), to: service),
            ]
            for index in 0..<2 { group.settle(index) }
            let hold = group.hold(0)
            for listener in listeners { listener.drain { ends.add($0) } }
            group.requestStop()
            hold.letGo()
            #expect(try group.stop(deadline: .seconds(10)).isComplete)
            #expect(ends.all == [.stopped, .stopped])
            for listener in listeners { listener.drain { ends.add($0) } }
            #expect(ends.all == [.stopped, .stopped, .stopped, .stopped])
        }
        withExtendedLifetime(sockets) {}
    }

    @Test("G11 G9 a stop in the midst of accepting leaks no descriptor", arguments: [nil, 1])
    func stopWhileAccepting(capacity: Int?) throws {
        for cycle in 0..<Rounds.usually(24, long: 300) {
            let service = Service()
            let isOver = Flag()
            // Its `expectNothingLeft` is the proof; what came to a handler is the service's, which lets go of it.
            try withGroup(threads: 3, capacity: capacity) { group in
                let way = Way.allCases[cycle % Way.allCases.count]
                let (sockets, distribution) = way.make(shards: 3)
                let listener = try group.listen(distribution, to: service)
                let door = sockets[0].door
                let crowd = (0..<2).map { _ in
                    Threads.spawn {
                        var clients: [Client] = []
                        while !isOver.isSet, clients.count < 60 {
                            if let client = door.tryConnect() { clients.append(client) }
                        }
                        withExtendedLifetime(clients) {}
                    }
                }
                usleep(UInt32(cycle % 8) * 500)
                #expect(try group.stop(deadline: .seconds(20)).isComplete)
                isOver.set()
                for socket in sockets { socket.close() }
                for thread in crowd { thread.join() }
                #expect(listener.cancelled() == [.stopped])
                #expect(listener.total(\.accepted) == listener.total(\.handedOver) + listener.total(\.refused))
                #expect(service.delivered.value == Int(listener.total(\.delivered)))
                #expect(group.loads.reduce(0, +) == service.count)
                service.end()
                #expect(eventually { group.loads == [0, 0, 0] })
            }
        }
    }

    @Test("G11 G9 a shard that misses the stop's deadline closes what it was handed, if it ever comes back")
    func abandoned() throws {
        let service = Service()
        try expectNothingLeft {
            let group = try LoopGroup(threads: 2, name: Tested.name)
            let socket = ListeningSocket()
            let listener = try group.listen(.leastOfTwo(socket.descriptor), to: service)
            let hold = group.hold(1)
            let clients = (0..<10).map { _ in socket.connect() }
            #expect(eventually { listener.total(\.handedOver) == 10 })
            #expect(!(try group.stop(deadline: .milliseconds(50)).isComplete))
            #expect(service.delivered.value == 5)
            hold.letGo()
            _ = try group.wait()
            #expect(service.delivered.value == 5 && group.loads == [5, 0])
            #expect(clients.count { $0.answer(seconds: 1) == .end } == 5)
            #expect(listener.cancelled() == [.stopped])
            service.end()
            withExtendedLifetime(socket) {}
        }
    }
}
