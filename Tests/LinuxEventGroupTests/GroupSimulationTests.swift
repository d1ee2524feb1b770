import Glibc
import LinuxEvent
import LinuxEventGroup
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("G13 Simulation")
    struct GroupSimulationTests {
        private static let seeds: Range<UInt64> = 0..<UInt64(Rounds.usually(100, long: 10_000))

        /// Lines written on the one thread of a simulation.
        private final class Notes: @unchecked Sendable {
            // Unchecked: a simulation's handlers all run on the thread of the test.
            var lines: [String] = []
            func add(_ line: String) { lines.append(line) }
        }

        /// Shards that post to each other, with timers in between; what happened, in order.
        private func run(seed: UInt64) throws -> (lines: [String], fingerprint: UInt64, steps: Int) {
            let simulation = try LoopGroupSimulation(seed: seed, threads: 3)
            let notes = Notes()
            let group = simulation.group
            for from in 0..<3 {
                group.post(to: from) { shard in
                    for number in 0..<5 {
                        group.post(to: (from + 1) % 3) { _ in notes.add("\(from) posted \(number)") }
                        shard.loop.after(.milliseconds(number)) { _, _ in notes.add("\(from) after \(number)") }
                    }
                }
            }
            #expect(simulation.runUntilIdle())
            #expect(simulation.stop().isComplete)
            return (notes.lines, simulation.fingerprint, simulation.steps)
        }

        @Test("G13 a seed brings its run back, and another one another order")
        func reproducible() throws {
            var orders: Set<[String]> = []
            for seed in Self.seeds {
                let first = try run(seed: seed)
                let second = try run(seed: seed)
                #expect(first == second)
                #expect(first.lines.count == 30)
                orders.insert(first.lines)
            }
            print("\(Self.seeds.count) seeds, \(orders.count) orders")
            #expect(orders.count > Self.seeds.count / 2)
        }

        @Test("G13 T5 time goes on to the next timer at once, and no further")
        func time() throws {
            try expectNothingLeft {
                let simulation = try LoopGroupSimulation(seed: 1, threads: 2)
                let group = simulation.group
                let ticks = Tally()
                let wrong = Tally()
                let begin = simulation.now
                group.post(to: 0) { shard in
                    _ = try? shard.loop.every(.seconds(1)) { loop, timer in
                        ticks.add()
                        if begin.duration(to: loop.now) != .seconds(ticks.value) { wrong.add() }
                        if timer.missedPeriods != 0 { wrong.add() }
                    }
                }
                let real = Clock.monotonic()
                simulation.run(for: .seconds(3_600))
                #expect(ticks.value == 3_600)
                #expect(wrong.value == 0)
                #expect(begin.duration(to: simulation.now) == .seconds(3_600))
                #expect(Clock.monotonic() - real < Effort.atMost(60_000_000_000))
                simulation.run(for: .milliseconds(500))
                #expect(ticks.value == 3_600)
                #expect(simulation.stop().isComplete)
            }
        }

        @Test("G13 M1 M2 M4 in every order each task runs once, one producer's in order, and the ledger is right")
        func mailboxes() throws {
            try LoopGroupSimulation.explore(seeds: Self.seeds, threads: 4) { simulation in
                let notes = Notes()
                let group = simulation.group
                for from in 0..<4 {
                    group.post(to: from) { shard in
                        for number in 0..<20 {
                            group.post(to: number % 4) { target in
                                notes.add("\(from) \(target.index) \(number)")
                            }
                        }
                    }
                }
                #expect(simulation.runUntilIdle())
                #expect(notes.lines.count == 80)
                for from in 0..<4 {
                    for to in 0..<4 {
                        let prefix = "\(from) \(to) "
                        let numbers = notes.lines.filter { $0.hasPrefix(prefix) }.map { Int($0.dropFirst(4))! }
                        #expect(numbers == Array(stride(from: to, to: 20, by: 4)))
                    }
                }
                for metrics in group.metrics {
                    #expect(metrics.sleeps == metrics.wakesSent + metrics.selfDisarms + 1)
                }
            }
        }

        @Test("G13 M3 what a full mailbox spills stays in order, whoever runs first")
        func spills() throws {
            try LoopGroupSimulation.explore(seeds: Self.seeds, threads: 3, mailboxCapacity: 2, spillLimit: 100) {
                simulation in
                let notes = Notes()
                let group = simulation.group
                for from in 0..<3 {
                    group.post(to: from) { shard in
                        for number in 0..<20 {
                            let result = group.post(to: 0) { _ in notes.add("\(from) \(number)") }
                            #expect(result.isPosted)
                        }
                    }
                }
                #expect(simulation.runUntilIdle())
                #expect(notes.lines.count == 60)
                for from in 0..<3 {
                    let numbers = notes.lines.filter { $0.hasPrefix("\(from) ") }.map { Int($0.dropFirst(2))! }
                    #expect(numbers == Array(0..<20))
                }
                #expect(group.metrics[0].spilled > 0)
            }
        }

        @Test("G13 G4 G5 a watch that moves at random loses nothing, and keeps the order of what is posted for it")
        func moves() throws {
            let seeds = Self.seeds
            try expectNothingLeft {
                try LoopGroupSimulation.explore(seeds: seeds, threads: 3) { simulation in
                    let group = simulation.group
                    let pair = Sockets.unixPair()
                    let bytes = Tally()
                    let posts = Notes()
                    let watcher = try #require(
                        group.watch(
                            pair.near, data: (),
                            read: { _, descriptor, _, _ in
                                var buffer = [UInt8](repeating: 0, count: 64)
                                bytes.add(max(0, read(descriptor, &buffer, buffer.count)))
                            }
                        ).watcher)
                    var random = SeededGenerator(seed: simulation.seed)
                    for number in 0..<30 {
                        IO.write(pair.far)
                        watcher.post { _, _ in posts.add("\(number)") }
                        if Bool.random(using: &random) {
                            watcher.move(to: group[Int.random(in: 0..<3, using: &random)]) { _, _ in }
                        }
                        for _ in 0..<Int.random(in: 0..<6, using: &random) { simulation.step() }
                    }
                    #expect(simulation.runUntilIdle())
                    #expect(bytes.value == 30)
                    #expect(posts.lines == (0..<30).map { "\($0)" })
                    let ended = Tally()
                    watcher.cancel { _ in ended.add() }
                    #expect(simulation.runUntilIdle())
                    #expect(ended.value == 1)
                    withExtendedLifetime(pair) {}
                }
            }
        }

        @Test("G13 M6 a call to a shard that stands still ends at its deadline, to the nanosecond")
        func deadlines() throws {
            try LoopGroupSimulation.explore(seeds: Self.seeds, threads: 2) { simulation in
                let group = simulation.group
                let notes = Notes()
                simulation.stall(1, for: .seconds(5))
                group.post(to: 0) { shard in
                    let asked = shard.loop.now
                    shard.call(group[1], deadline: .milliseconds(70)) { _ in
                        1
                    } reply: { shard, result in
                        if case .failure(CallError.deadlineExceeded) = result {
                            notes.add("deadline after \(asked.duration(to: shard.loop.now))")
                        }
                    }
                    shard.call(group[1]) { _ in
                        2
                    } reply: { shard, result in
                        notes.add("\(result) after \(asked.duration(to: shard.loop.now))")
                    }
                }
                #expect(simulation.runUntilIdle())
                #expect(
                    notes.lines == [
                        "deadline after \(Duration.milliseconds(70))", "success(2) after \(Duration.seconds(5))",
                    ])
            }
        }

        @Test("G13 G9 a stop in the midst of work runs what was accepted, and names a shard that stands still")
        func stop() throws {
            let seeds = Self.seeds
            let deaths = Deaths()
            try expectNothingLeft {
                try LoopGroupSimulation.explore(seeds: seeds, threads: 3) { simulation in
                    let group = simulation.group
                    let ran = Tally()
                    let accepted = Tally()
                    @Sendable func hop(_ shard: Shard, _ left: Int) {
                        guard left > 0 else { return }
                        for target in 0..<3
                        where group.post(
                            to: target,
                            {
                                hop($0, left - 1); ran.add()
                            }
                        ).isPosted {
                            accepted.add()
                        }
                    }
                    group.post(to: 0) { hop($0, 4) }
                    for _ in 0..<Int(simulation.seed % 40) { simulation.step() }
                    let report = simulation.stop()
                    #expect(report.isComplete)
                    #expect(ran.value == accepted.value)
                    #expect(!group.post(to: 0) { _ in }.isPosted)
                }
                let simulation = try LoopGroupSimulation(seed: 7, threads: 3)
                simulation.stall(1, for: .seconds(60))
                for _ in 0..<10 { simulation.group.post(to: 1, ownerTask(of: Mortal(deaths))) }
                let begin = simulation.now
                let report = simulation.stop(deadline: .seconds(2))
                #expect(!report.isComplete)
                #expect(report.shards.map(\.stage) == [.stopped, .running, .stopped])
                #expect(report.shards[1].tasksAbandoned == 10)
                #expect(begin.duration(to: simulation.now) <= .seconds(2))
                #expect(deaths.count == 0)
                simulation.run(for: .seconds(60))
                #expect(deaths.count == 10)
            }
        }

        @Test("G13 G1 a start block that throws undoes all, and the error names the shard", arguments: 0..<3)
        func startFails(index: Int) throws {
            struct Refusal: Error {}
            expectNothingLeft {
                let error = #expect(throws: LoopGroupError.self) {
                    try LoopGroupSimulation(seed: 1, threads: 3) { shard in if shard.index == index { throw Refusal() }
                    }
                }
                guard case .start(shard: index, _) = error else { return unexpected(error) }
            }
        }

        @Test("G13 G9 the group of a simulation waits for nobody")
        func waiting() throws {
            let simulation = try LoopGroupSimulation(seed: 1, threads: 1)
            for wait in [{ try simulation.group.stop(deadline: .seconds(1)) }, { try simulation.group.wait() }] {
                let error = #expect(throws: LoopGroupError.self) { _ = try wait() }
                guard case .simulated = error else { return unexpected(error) }
            }
            #expect(simulation.stop().isComplete)
        }
    }
}
