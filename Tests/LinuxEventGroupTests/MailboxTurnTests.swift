import Glibc
import LinuxEvent
import LinuxEventGroup
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("M7 Tasks and turns")
    struct MailboxTurnTests {
        /// A task that posts itself again, as long as it may.
        private final class Endless: Sendable {
            let runs = Tally()
            let mayGoOn = Flag()
            private let byReference: Bool

            init(byReference: Bool) { self.byReference = byReference }

            func run(on shard: Shard) {
                runs.add()
                guard !mayGoOn.isSet else { return }
                if byReference {
                    shard.reference.post { shard in self.run(on: shard) }
                } else {
                    shard.post { shard in self.run(on: shard) }
                }
            }
        }

        @Test(
            "M7 a task that posts itself again and again starves neither a timer nor a descriptor",
            arguments: [false, true], [1, 50])
        func selfPosting(byReference: Bool, tasks: Int) throws {
            let pipe = Pipe()
            let endless = Endless(byReference: byReference)
            let ticks = Tally()
            let reads = Tally()
            try withGroup { group in
                group.post(to: 0) { shard in
                    _ = try? shard.loop.every(.milliseconds(10)) { _, _ in ticks.add() }
                    for _ in 0..<tasks { endless.run(on: shard) }
                }
                _ = group.watch(
                    pipe.reader, data: (),
                    read: { _, descriptor, _, _ in
                        IO.drain(descriptor)
                        reads.add()
                    })
                for round in 1...5 {
                    usleep(20_000)
                    pipe.write()
                    #expect(eventually { reads.value == round })
                }
                #expect(eventually { ticks.value >= 5 })
                #expect(endless.runs.value > 100)
                endless.mayGoOn.set()
            }
        }

        @Test("M7 a task posted by a task runs in a later turn")
        func laterTurn() throws {
            let turns = Log<UInt64>()
            try withGroup { group in
                group.post(to: 0) { shard in Self.chain(shard, 50, turns) }
                #expect(eventually { turns.count == 50 })
            }
            #expect(zip(turns.all, turns.all.dropFirst()).allSatisfy { $0 < $1 })
        }

        private static func chain(_ shard: Shard, _ left: Int, _ turns: Log<UInt64>) {
            turns.add(shard.loop.statistics.turns)
            guard left > 1 else { return }
            if left % 2 == 0 {
                shard.post { shard in chain(shard, left - 1, turns) }
            } else {
                shard.group.post(to: shard.index) { shard in chain(shard, left - 1, turns) }
            }
        }

        @Test("M7 what is due in a turn runs before what its tasks post, and events come in between")
        func eventsInBetween() throws {
            let pipe = Pipe()
            let ran = Log<String>()
            try withGroup { group in
                let watched = Flag()
                _ = group.watch(
                    pipe.reader, data: (),
                    read: { _, descriptor, _, _ in
                        IO.drain(descriptor)
                        ran.add("event")
                    }, completed: { _, _ in watched.set() })
                #expect(eventually { watched.isSet })
                let writer = pipe.writer
                group.post(to: group.shard(for: pipe.reader).index) { shard in
                    IO.write(writer)
                    shard.post { _ in ran.add("task") }
                }
                #expect(eventually { ran.count == 2 })
            }
            #expect(ran.all == ["event", "task"])
        }

        @Test("M7 a long queue is worked off in shares: events and timers are served before its end")
        func longQueue() throws {
            let count = Rounds.usually(50_000, long: 500_000)
            let pipe = Pipe()
            let ran = Tally()
            let ranBeforeEvent = Log<Int>()
            let ranBeforeTimer = Log<Int>()
            try withGroup { group in
                let hold = Hold()
                let watched = Flag()
                _ = group.watch(
                    pipe.reader, data: (),
                    read: { _, descriptor, _, _ in
                        IO.drain(descriptor)
                        ranBeforeEvent.add(ran.value)
                    }, completed: { _, _ in watched.set() })
                #expect(eventually { watched.isSet })
                let writer = pipe.writer
                group.post(to: 0) { _ in hold.hold() }
                #expect(hold.waitUntilHeld())
                for number in 0..<count {
                    group.post(to: 0) { shard in
                        ran.add()
                        guard number == 100 else { return }
                        IO.write(writer)
                        shard.loop.after(.zero) { _, _ in ranBeforeTimer.add(ran.value) }
                    }
                }
                hold.letGo()
                #expect(eventually(seconds: Rounds.patience) { ran.value == count })
            }
            #expect(try #require(ranBeforeEvent.all.first) < count / 2)
            #expect(try #require(ranBeforeTimer.all.first) < count / 2)
        }

        @Test("M7 other shards that never stop posting starve no timer")
        func bombarded() throws {
            let ticks = Tally()
            let isOver = Flag()
            try withGroup(threads: 2) { group in
                group.post(to: 0) { shard in _ = try? shard.loop.every(.milliseconds(10)) { _, _ in ticks.add() } }
                group.post(to: 1) { shard in Self.bombard(shard, isOver) }
                #expect(eventually { ticks.value >= 5 })
                isOver.set()
            }
        }

        private static func bombard(_ shard: Shard, _ isOver: Flag) {
            guard !isOver.isSet else { return }
            let received = Flag()
            for _ in 0..<200 { shard.group.post(to: 0) { _ in } }
            guard shard.group.post(to: 0, { _ in received.set() }).isPosted else { return }
            // No more than the other shard can take: memory is bounded here by waiting.
            while !received.isSet {}
            shard.post { shard in bombard(shard, isOver) }
        }
    }
}
