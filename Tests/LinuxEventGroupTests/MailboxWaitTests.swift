import Glibc
import LinuxEvent
import LinuxEventGroup
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("M3 Waiting for room")
    struct MailboxWaitTests {
        /// A group of one shard with a bound, held in a timer's handler and filled.
        private struct Full {
            let group: LoopGroup
            let hold = Hold()
            let filler: Channel<Int>
            let arrived: Log<Int>

            init(bound: Int) throws {
                let arrived = Log<Int>()
                self.arrived = arrived
                group = try LoopGroup(threads: 1, mailboxCapacity: bound, name: Tested.name)
                filler = group.channel(of: Int.self) { _, number in arrived.add(number) }
                group.post(to: 0) { [hold] shard in shard.loop.after(.zero) { _, _ in hold.hold() } }
                #expect(hold.waitUntilHeld())
                #expect(eventually { self.filler.send(-1, to: 0).isSent })
                for _ in 1..<bound { #expect(filler.send(-1, to: 0).isSent) }
                #expect(!filler.send(-1, to: 0).isSent)
            }

            func stop() async throws {
                try await stopOnAThread(group)
            }
        }

        @Test("M3 a send that waits gets in when there is room, and blocks no thread meanwhile")
        func waits() async throws {
            let full = try Full(bound: 2)
            let filler = full.filler
            let isThrough = Flag()
            let waiting = Task {
                let isSent = await filler.sendWhenRoom(1, to: 0).isSent
                isThrough.set()
                return isSent
            }
            try await Task.sleep(for: .milliseconds(20))
            #expect(!isThrough.isSet)
            full.hold.letGo()
            #expect(await waiting.value)
            let arrived = full.arrived
            let isPosted = await full.group[0].postWhenRoom { _ in arrived.add(2) }.isPosted
            #expect(isPosted)
            try await full.stop()
            #expect(full.arrived.all == [-1, -1, 1, 2])
        }

        @Test("M3 who waits first gets in first, and who does not wait gets in behind")
        func fair() async throws {
            let full = try Full(bound: 1)
            let filler = full.filler
            var tasks: [Task<Bool, Never>] = []
            for number in 0..<20 {
                tasks.append(Task { await filler.sendWhenRoom(number, to: 0).isSent })
                try await Task.sleep(for: .milliseconds(2))
            }
            full.hold.letGo()
            for task in tasks {
                let isSent = await task.value
                #expect(isSent)
            }
            while !filler.send(100, to: 0).isSent { await Task.yield() }
            try await full.stop()
            #expect(full.arrived.all == [-1] + Array(0..<20) + [100])
        }

        @Test("M3 a wait that is cancelled gives the value back, and takes no place")
        func cancelled() async throws {
            let full = try Full(bound: 1)
            let filler = full.filler
            let tasks = (0..<50).map { number in
                Task { () -> Int? in await filler.sendWhenRoom(number, to: 0).takeBack() }
            }
            try await Task.sleep(for: .milliseconds(10))
            for task in tasks { task.cancel() }
            for (number, task) in tasks.enumerated() {
                let back = await task.value
                #expect(back == number)
            }
            full.hold.letGo()
            // The place that nobody waits for any more is free.
            #expect(eventually { full.arrived.count == 1 })
            while !filler.send(1, to: 0).isSent { await Task.yield() }
            try await full.stop()
            #expect(full.arrived.all == [-1, 1])
        }

        @Test("M3 G9 a wait ends when its shard stops, with the value")
        func stopped() async throws {
            let full = try Full(bound: 1)
            let filler = full.filler
            let waiting = Task { () -> Bool in
                if case .closed(7) = await filler.sendWhenRoom(7, to: 0) { true } else { false }
            }
            try await Task.sleep(for: .milliseconds(10))
            full.group.requestStop()
            #expect(await waiting.value)
            full.hold.letGo()
            try await full.stop()
            if case .closed(8) = await filler.sendWhenRoom(8, to: 0) {} else { Issue.record("not closed") }
            #expect(full.arrived.all == [-1])
        }

        @Test("M3 many tasks that wait get all of it through a small bound, each exactly once, also with cancellations")
        func throughASmallBound() async throws {
            let senders = 16
            let count = Rounds.usually(500, long: 20_000)
            let arrived = Tally()
            let sent = Tally()
            let group = try LoopGroup(threads: 2, mailboxCapacity: 3, name: Tested.name)
            let channel = group.channel(of: Int.self) { _, _ in arrived.add() }
            await withTaskGroup(of: Void.self) { tasks in
                for sender in 0..<senders {
                    tasks.addTask {
                        for number in 0..<count {
                            let task = Task { await channel.sendWhenRoom(number, to: (number + sender) & 1).isSent }
                            if number % 5 == 0 { task.cancel() }
                            if await task.value { sent.add() }
                        }
                    }
                }
            }
            try await stopOnAThread(group)
            #expect(arrived.value == sent.value)
            #expect(sent.value >= senders * count * 4 / 5)
        }

        @Test("M3 without a bound there is nothing to wait for")
        func unbounded() async throws {
            let group = try LoopGroup(threads: 1, name: Tested.name)
            let arrived = Tally()
            let channel = group.channel(of: Int.self) { _, _ in arrived.add() }
            for number in 0..<1_000 where await !channel.sendWhenRoom(number, to: group[0]).isSent {
                Issue.record("refused")
            }
            try await stopOnAThread(group)
            #expect(arrived.value == 1_000)
        }
    }
}

/// A group is stopped from a thread of its own: a task of Swift concurrency must not block.
private func stopOnAThread(_ group: LoopGroup) async throws {
    let result = Locked<Result<StopReport, any Error>?>(nil)
    let thread = Threads.spawn {
        let stopped = Result { try group.stop(deadline: .seconds(10)) }
        result.withLock { $0 = stopped }
    }
    while result.withLock({ $0 == nil }) { try await Task.sleep(for: .milliseconds(1)) }
    thread.join()
    let report = try #require(result.withLock { $0 }).get()
    #expect(report.isComplete)
}
