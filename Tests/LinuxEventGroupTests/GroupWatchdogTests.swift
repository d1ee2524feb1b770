import Glibc
import LinuxEvent
@testable import LinuxEventGroup
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("G7 Watchdog")
    struct GroupWatchdogTests {
        /// What a watchdog said.
        private final class Reports: Sendable {
            private let log = Log<WatchdogReport>()

            var options: WatchdogOptions { options() }

            func options(limit: Duration = .milliseconds(20), namesDescriptors: Bool = false) -> WatchdogOptions {
                WatchdogOptions(limit: limit, namesDescriptors: namesDescriptors) { [log] in log.add($0) }
            }

            var stalls: [WatchdogReport.Stall] {
                log.all.compactMap { if case .stall(let stall) = $0 { stall } else { nil } }
            }

            var lostWakes: [Int] {
                log.all.compactMap { if case .lostWake(let shard) = $0 { shard } else { nil } }
            }
        }

        private static var watchdogs: [KernelThread] { KernelThread.all.filter { $0.name == "watchdog" } }

        @Test("G7 a stall is reported with its shard, its length, what the shard does, and its label")
        func stall() throws {
            let reports = Reports()
            try withGroup(threads: 2, watchdog: reports.options) { group in
                let hold = Hold()
                group.post(to: 1) { shard in
                    shard.labelled("outer") { shard.labelled("parsing") { hold.hold() } }
                }
                #expect(hold.waitUntilHeld())
                #expect(eventually { reports.stalls.count >= 3 })
                // Nobody is held up by it.
                #expect(group.settle(0))
                hold.letGo()
                #expect(group.settle(1))
                for stall in reports.stalls {
                    #expect(stall.shard == 1)
                    #expect(stall.phase == .tasks)
                    #expect(stall.label == "parsing")
                    #expect(stall.descriptor == nil)
                }
                let durations = reports.stalls.map(\.duration)
                #expect(durations[0] >= .milliseconds(20))
                for (one, next) in zip(durations, durations.dropFirst()) { #expect(next >= one * 2) }
                #expect(group.metrics[1].stalls == durations.count)
                #expect(group.metrics[0].stalls == 0)
                #expect(group.metrics[1].longestTurnNanoseconds ?? 0 >= 20_000_000)

                let label = Log<Bool>()
                let second = Hold()
                group.post(to: 1) { shard in
                    shard.labelled("outer") {
                        shard.labelled("inner") {}
                        label.add(true)
                        second.hold()
                    }
                }
                #expect(second.waitUntilHeld())
                let known = reports.stalls.count
                #expect(eventually { reports.stalls.count > known })
                second.letGo()
                #expect(reports.stalls.last?.label == "outer")
            }
        }

        @Test("G7 a stall in a handler of the group's watches names the descriptor")
        func descriptor() throws {
            let reports = Reports()
            let pipe = Pipe()
            try withGroup(watchdog: reports.options(namesDescriptors: true)) { group in
                let hold = Hold()
                let watcher = group.watch(
                    pipe.reader, data: (),
                    read: { _, descriptor, _, _ in
                        IO.drain(descriptor)
                        hold.hold()
                    }
                ).watcher
                pipe.write()
                #expect(hold.waitUntilHeld())
                #expect(eventually { !reports.stalls.isEmpty })
                hold.letGo()
                #expect(group.settle(0))
                #expect(reports.stalls[0].phase == .callbacks)
                #expect(reports.stalls[0].descriptor == pipe.reader)
                watcher?.cancel()
                let second = Hold()
                let known = reports.stalls.count
                group.post(to: 0) { _ in second.hold() }
                #expect(eventually { reports.stalls.count > known })
                second.letGo()
                #expect(reports.stalls.last?.descriptor == nil)
            }
        }

        @Test("G7 what is within the limit, or asleep, is no stall")
        func noStall() throws {
            let reports = Reports()
            try withGroup(threads: 2, watchdog: reports.options(limit: .seconds(5))) { group in
                for _ in 0..<10 {
                    for index in 0..<2 { group.post(to: index) { _ in usleep(5_000) } }
                    usleep(10_000)
                }
                usleep(300_000)
                #expect(group.settle(0) && group.settle(1))
                #expect(reports.stalls.isEmpty)
                #expect(reports.lostWakes.isEmpty)
            }
        }

        @Test("G7 the watchdog sleeps while all shards do, and wakes up with the first")
        func dozes() throws {
            let reports = Reports()
            try withGroup(threads: 2, watchdog: reports.options) { group in
                #expect(eventually { Self.watchdogs.count == 1 })
                // It looks four times in 20 ms; the best of some quiet spells.
                let quiet = (0..<5).map { _ in
                    usleep(50_000)
                    let before = Self.watchdogs.first?.sleeps ?? 0
                    usleep(200_000)
                    return (Self.watchdogs.first?.sleeps ?? 0) - before
                }
                #expect(quiet.min() == 0, "\(quiet)")
                let hold = Hold()
                group.post(to: 0) { _ in hold.hold() }
                #expect(eventually { !reports.stalls.isEmpty })
                hold.letGo()
            }
            #expect(eventually { Self.watchdogs.isEmpty })
        }

        @Test("G7 a group has no watchdog unless asked, and knows no longest turn then")
        func optIn() throws {
            try withGroup { group in
                #expect(Self.watchdogs.isEmpty)
                #expect(group.settle(0))
                #expect(group.metrics[0].longestTurnNanoseconds == nil)
            }
        }

        @Test("G7 a shard that is stuck past a stop's deadline is still reported, and the watchdog ends after it")
        func stuckStop() throws {
            let reports = Reports()
            try expectNothingLeft {
                let group = try LoopGroup(threads: 1, watchdog: reports.options, name: Tested.name)
                let hold = Hold()
                group.post(to: 0) { _ in hold.hold() }
                #expect(hold.waitUntilHeld())
                #expect(try !group.stop(deadline: .milliseconds(50)).isComplete)
                let known = reports.stalls.count
                #expect(eventually { reports.stalls.count > known })
                hold.letGo()
                #expect(try group.stop(deadline: .seconds(20)).isComplete)
                #expect(eventually { Self.watchdogs.isEmpty })
            }
        }

        @Test("G7 G9 a watchdog ends with its group, however close the stop is to its going to doze")
        func comesAndGoes() throws {
            for cycle in 0..<Rounds.usually(1_000, long: 20_000) {
                let group = try LoopGroup(threads: 1 + cycle % 2, watchdog: Reports().options, name: Tested.name)
                if cycle % 3 == 0 { usleep(UInt32(cycle % 7) * 20) }
                #expect(try group.stop(deadline: .seconds(20)).isComplete)
            }
            #expect(eventually { Self.watchdogs.isEmpty })
        }

        @Test("M4 G7 a lost wake is noticed and made up for; no other wake is taken for one")
        func lostWake() throws {
            let reports = Reports()
            let ran = Flag()
            try withGroup(threads: 2, watchdog: reports.options) { group in
                for index in 0..<2 { #expect(group.settle(index)) }
                usleep(20_000)
                let core = group.cores[0]
                let node = core.takeNode()
                node.fill({ _ in ran.set() }, [])
                // What a push owes the shard is left out.
                guard case .mustRing = core.mailbox.push(node) else {
                    Issue.record("the shard was awake")
                    return
                }
                // The watchdog looks while another shard is awake.
                let begin = Clock.monotonic()
                #expect(
                    eventually {
                        group.post(to: 1) { _ in }
                        return ran.isSet
                    })
                #expect(Clock.monotonic() - begin >= 900_000_000)
                // The shard may be faster than the report.
                #expect(eventually { reports.lostWakes == [0] })
                #expect(group.metrics.map(\.wakesLost) == [1, 0])
            }
        }

        @Test("M6 G7 shards that wait for each other's replies are named, in debug builds")
        func cycle() throws {
            #if !DEBUG
            print("M6 G7: open calls are counted in debug builds only")
            #else
            let reports = Reports()
            try withGroup(threads: 3, watchdog: reports.options) { group in
                let hold = Hold()
                for (from, to) in [(0, 1), (1, 2), (2, 0)] {
                    group.post(to: from) { shard in
                        shard.call(group[to], { _ in }, reply: { _, _ in })
                        hold.hold()
                    }
                }
                #expect(eventually { reports.stalls.contains { $0.shard == 2 && !$0.cycle.isEmpty } })
                hold.letGo()
                #expect(reports.stalls.last { $0.shard == 2 }?.cycle == [2, 0, 1])
                for index in 0..<3 { #expect(group.settle(index)) }

                // Those that wait for nobody are in no circle, though they once did.
                let second = Hold()
                let known = reports.stalls.count
                for index in 0..<3 { group.post(to: index) { _ in second.hold() } }
                #expect(
                    eventually {
                        Set(reports.stalls.dropFirst(known).filter { $0.duration > .milliseconds(60) }.map(\.shard))
                            .count == 3
                    })
                second.letGo()
                #expect(reports.stalls.dropFirst(known).allSatisfy { $0.cycle.isEmpty })
            }
            #endif
        }
    }
}
