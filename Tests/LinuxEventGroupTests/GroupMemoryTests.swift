import CLinux
import Glibc
import LinuxEvent
import LinuxEventGroup
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("G3 Memory")
    struct GroupMemoryTests {
        /// The kernel may not be asked everywhere: containers forbid move_pages(2).
        private static func isAllowed(_ report: [ShardMemory]) -> Bool {
            let isKnown = report.contains { $0.pagesOnNode + $0.pagesElsewhere > 0 }
            if !isKnown { print("skipped: the kernel does not say where pages lie") }
            return isKnown
        }

        @Test("G3 what a shard consists of lies on the node of its CPU, by the kernel's word")
        func onItsNode() throws {
            try withGroup(
                threads: 3,
                start: { shard in
                    for number in 0..<1_000 { shard.loop.after(.seconds(60 + number)) { _, _ in } }
                    for number in 0..<1_000 { shard.group.post(to: (shard.index + number) % 3) { _ in } }
                }
            ) { group in
                let report = try group.memoryReport()
                #expect(report.map(\.shard) == [0, 1, 2])
                guard Self.isAllowed(report) else { return }
                for memory in report {
                    print(memory)
                    #expect(memory.cpu == group.plan.shards[memory.shard].cpu)
                    // Timers, nodes, watchers, events, the mailbox.
                    #expect(memory.pages.count >= 20)
                    let known = memory.pagesOnNode + memory.pagesElsewhere
                    #expect(known + memory.pagesUnknown == memory.pages.count)
                    // Heaps of earlier tests' threads are used again, and some of their pages stay where they were.
                    if memory.node != nil { #expect(memory.pagesElsewhere <= known / 4) }
                }
            }
        }

        @Test("G3 each shard's memory is made by its own thread: no two shards have a page in common")
        func ownPages() throws {
            guard !Build.hasAddressSanitizer, !Build.hasThreadSanitizer else {
                return print("skipped: the sanitizer's allocator has no heaps of threads")
            }
            let fixture = try #require(Build.program("plan-fixture"))
            let outcome = HelperProcess(fixture, ["memory"]).end()
            #expect(outcome.exitCode == 0, "\(outcome)")
            #expect(outcome.output.contains("\n0 pages shared\n"), "\(outcome)")
            // And where no thread was before, all of them lie where they should.
            let lines = outcome.output.split(separator: "\n").filter { $0.hasPrefix("shard ") }
            #expect(lines.count >= 3)
            for line in lines where !line.contains("node -") { #expect(line.contains(" 0 elsewhere,")) }
        }

        @Test("G3 the report follows what a shard comes to use")
        func follows() throws {
            try withGroup(threads: 1) { group in
                let before = try group.memoryReport()[0].pages.count
                group.post(to: 0) { shard in
                    for number in 0..<10_000 { shard.loop.after(.seconds(60 + number)) { _, _ in } }
                }
                #expect(group.settle(0))
                // A timer has a node of 80 bytes and more.
                #expect(try group.memoryReport()[0].pages.count > before + 100)
            }
        }

        @Test("G3 pages that were moved to another node come home while the shard is active")
        func broughtHome() throws {
            let topology = try Topology()
            guard topology.nodesWithMemory.count > 1 else { return print("skipped: one node has memory") }
            try withGroup(threads: topology.cpus.count) { group in
                let before = try group.memoryReport()
                guard Self.isAllowed(before) else { return }
                for memory in before where memory.node != nil {
                    let other = topology.nodesWithMemory.first { !memory.memoryNodes.contains($0) }
                    let away = CInt(try #require(other))
                    let nodes = [CInt](repeating: away, count: memory.pages.count)
                    var status = [CInt](repeating: -1, count: memory.pages.count)
                    #expect(clinux_move_pages(memory.pages, nodes, &status, UInt(nodes.count)) >= 0)
                    // A page that is in use at that moment may stay.
                    #expect(status.count { $0 == away } > nodes.count / 2)
                }
                // The report itself makes turns.
                let areHome = eventually(seconds: 20) {
                    usleep(10_000)
                    return (try? group.memoryReport())?.allSatisfy { $0.node == nil || $0.pagesElsewhere == 0 } == true
                }
                let after = try group.memoryReport()
                #expect(areHome, "\(after)")
            }
        }

        @Test("G3 a shard looks at all of its memory in turn, a megabyte at a time, however that changes")
        func inTurn() {
            /// By its start alone.
            func parts(_ round: inout MemoryRound, of sizes: [Int], count: Int) -> [[UInt]] {
                let ranges = sizes.enumerated().map { MemoryRange(start: UInt($0.offset), byteCount: $0.element) }
                return (0..<count).map { _ in round.next(of: ranges).map(\.start) }
            }
            let megabyte = 1 << 20
            var round = MemoryRound()
            // What fits is looked at whole, each range once.
            #expect(parts(&round, of: [1, 2, 3], count: 2) == [[0, 1, 2], [0, 1, 2]])
            #expect(parts(&round, of: [], count: 1) == [[]])
            round = MemoryRound()
            let half = megabyte / 2
            #expect(parts(&round, of: [half, half, half], count: 3) == [[0, 1], [2, 0], [1, 2]])
            // One that is too large is looked at alone.
            round = MemoryRound()
            #expect(parts(&round, of: [half, 3 * megabyte, half, half], count: 4) == [[0], [1], [2, 3], [0]])
            // It grows and shrinks.
            #expect(parts(&round, of: [half, half], count: 1) == [[1, 0]])
            #expect(parts(&round, of: [half], count: 2) == [[0], [0]])
            #expect(parts(&round, of: [half, half, half], count: 2) == [[1, 2], [0, 1]])
        }

        @Test("G3 a shard cannot wait for the report, and a group that has stopped has none")
        func refusals() throws {
            let refused = Flag()
            try expectNothingLeft {
                let group = try LoopGroup(threads: 1, name: Tested.name)
                group.post(to: 0) { shard in
                    do throws(LoopGroupError) { _ = try shard.group.memoryReport() } catch {
                        if case .calledOnShard = error { refused.set() }
                    }
                }
                #expect(group.settle(0))
                #expect(try group.stop(deadline: .seconds(10)).isComplete)
                #expect(try group.memoryReport() == [])
            }
            #expect(refused.isSet)
        }

        @Test("G3 on a machine with one node no shard has a node, and no policy is set")
        func oneNode() throws {
            let tree = MachineTree().cpus(online: "0-3").nodes([0: "0-3"])
            let topology = try tree.topology([0, 1, 2, 3])
            #expect(!topology.hasSeveralNodes)
            #expect(try Plan(topology: topology).shards.map(\.node) == [nil, nil, nil, nil])
            #expect(topology.cpus.map(\.node) == [0, 0, 0, 0])
            guard try Topology().nodes.count == 1 else { return print("skipped: this machine has several nodes") }
            let policies = Log<CInt>()
            let own = clinux_memory_policy()
            try withGroup(threads: 2) { group in
                for shard in group.shards { shard.post { _ in policies.add(clinux_memory_policy()) } }
                for shard in 0..<2 { #expect(group.settle(shard)) }
                #expect(group.plan.shards.map(\.node) == [nil, nil])
            }
            #expect(policies.all == [own, own])
        }

        @Test("G3 where the kernel refuses every call about memory nodes, a group starts and works as ever")
        func noPermission() throws {
            let fixture = try #require(Build.program("plan-fixture"))
            let outcome = HelperProcess(fixture, ["no-memory-calls"]).end()
            if outcome.output.hasPrefix("no filter") { return print("skipped: \(outcome.output)") }
            #expect(outcome.exitCode == 0, "\(outcome)")
            #expect(outcome.errors == "")
            let lines = outcome.output.split(separator: "\n")
            #expect(lines.first == "policy: EPERM")
            #expect(lines.last == "complete")
            #expect(lines.count == 4)
            #expect(
                lines.dropFirst().dropLast().allSatisfy { $0.contains(", 0 pages on it, 0 elsewhere, ") }, "\(outcome)")
        }
    }
}
