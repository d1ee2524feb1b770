import CLinux
import Glibc
import LinuxEvent
import LinuxEventGroup
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    /// On this machine, with real threads and control groups.
    @Suite("G2 Placement")
    struct GroupPlacementTests {
        private static let cpus = KernelThread.own?.cpuNumbers ?? []

        // MARK: Threads

        @Test("G2 a group starts exactly its plan")
        func planned() throws {
            let placement = Placement.listed(Self.cpus.reversed() + [Self.cpus[0]])
            let plan = try LoopGroup.plan(placement: placement)
            try expectNothingLeft {
                let group = try LoopGroup(plan: plan, name: Tested.name)
                #expect(group.plan == plan)
                let threads = Tested.threads.sorted { $0.name < $1.name }
                #expect(threads.map(\.cpuNumbers) == (Self.cpus.reversed() + [Self.cpus[0]]).map { [$0] })
                #expect(group.metrics.map(\.cpu) == plan.shards.map(\.cpu))
                #expect(try group.stop(deadline: .seconds(10)).isComplete)
            }
            let unusable = (Self.cpus.last ?? 0) + 1
            let error = #expect(throws: LoopGroupError.self) { try LoopGroup(placement: .listed([unusable])) }
            guard case .unusableCPU(unusable) = error else { return unexpected(error) }
        }

        @Test("G2 shards that are not pinned may run where their maker may")
        func unpinned() throws {
            try expectNothingLeft {
                let group = try LoopGroup(threads: 3, placement: .unpinned, name: Tested.name)
                #expect(Tested.threads.map(\.cpuNumbers) == [Self.cpus, Self.cpus, Self.cpus])
                #expect(group.metrics.map(\.cpu) == [nil, nil, nil])
                for shard in 0..<3 { #expect(group.settle(shard)) }
                #expect(try group.stop(deadline: .seconds(10)).isComplete)
            }
        }

        @Test("G1 a plan made for CPUs that are gone starts nothing, and the error names the shard")
        func outdated() throws {
            guard Self.cpus.count > 1 else { return print("skipped: there is one CPU") }
            let tree = MachineTree().cpus(online: "0-5000")
            let topology = try tree.topology([Self.cpus[0], 4_999])
            let plan = try Plan(topology: topology)
            expectNothingLeft {
                let error = #expect(throws: LoopGroupError.self) { try LoopGroup(plan: plan, name: Tested.name) }
                guard case .thread(1, let cause) = error else { return unexpected(error) }
                #expect(cause.code == EINVAL)
            }
        }

        // MARK: Upkeep

        /// Lets a shard's thread run elsewhere, as anyone may, and makes turns until it is back.
        private static func disturb(_ group: LoopGroup, _ index: Int, _ change: @escaping @Sendable () -> CInt) throws {
            let before = group.metrics[index]
            let isChanged = Flag()
            group.post(to: index) { _ in
                if change() == 0 { isChanged.set() }
            }
            try #require(eventually { isChanged.isSet })
            let begin = Clock.monotonic()
            let isRepaired = eventually(seconds: 10) {
                group.settle(index)
                usleep(1_000)
                return group.metrics[index].affinityRepairs > before.affinityRepairs
            }
            #expect(isRepaired)
            // A second between two looks, and what a busy machine adds.
            #expect(Clock.monotonic() - begin < Effort.atMost(2_000_000_000))
            #expect(group.metrics[index].affinityRepairs == before.affinityRepairs + 1)
            #expect(group.metrics[index].cpu == group.plan.shards[index].cpu)
            let thread = Tested.threads.first { $0.name == "\(Tested.name)-\(index)" }
            #expect(thread?.cpuNumbers == group.plan.shards[index].cpu.map { [$0] })
        }

        @Test("G1 a shard whose thread was moved or let loose goes back to its CPU within two seconds, and counts it")
        func affinityLost() throws {
            guard Self.cpus.count > 1 else { return print("skipped: there is one CPU") }
            try withGroup(threads: 2) { group in
                #expect(group.metrics.map(\.affinityRepairs) == [0, 0])
                let other = CInt(Self.cpus[1])
                try Self.disturb(group, 0) { clinux_affinity_pin(other) }
                let all = Self.cpus
                try Self.disturb(group, 0) { Affinities.set(all) }
                #expect(group.metrics[1].affinityRepairs == 0)
            }
        }

        @Test("G1 an idle shard is not woken to look after its CPU")
        func idle() throws {
            guard Self.cpus.count > 1 else { return print("skipped: there is one CPU") }
            try withGroup(threads: 1) { group in
                // The first look is made by the first turn; then there is none for a second.
                #expect(group.settle(0))
                let other = CInt(Self.cpus[1])
                group.post(to: 0) { _ in _ = clinux_affinity_pin(other) }
                #expect(group.settle(0))
                usleep(20_000)
                let before = group.metrics[0]
                usleep(1_500_000)
                let after = group.metrics[0]
                #expect(after.turns == before.turns)
                #expect(after.affinityRepairs == 0)
                #expect(Tested.threads.first?.cpuNumbers == [Self.cpus[1]])
                #expect(group.settle(0) && group.settle(0))
                #expect(group.metrics[0].affinityRepairs == 1)
            }
        }

        @Test("G1 a shard that is not pinned is left alone")
        func unpinnedIsLeftAlone() throws {
            try expectNothingLeft {
                let group = try LoopGroup(threads: 1, placement: .unpinned, name: Tested.name)
                let cpu = CInt(Self.cpus[0])
                group.post(to: 0) { _ in _ = clinux_affinity_pin(cpu) }
                let begin = Clock.monotonic()
                while Clock.monotonic() - begin < 1_200_000_000 {
                    group.settle(0)
                    usleep(5_000)
                }
                #expect(Tested.threads.map(\.cpuNumbers) == [[Self.cpus[0]]])
                #expect(group.metrics[0].affinityRepairs == 0)
                #expect(try group.stop(deadline: .seconds(10)).isComplete)
            }
        }

        // MARK: Control groups

        private static func output(of helper: HelperProcess) -> String {
            let outcome = helper.end()
            #expect(outcome.exitCode == 0, "\(outcome)")
            return outcome.output
        }

        @Test("G1 in a cpuset of one CPU there is one shard, on that CPU")
        func cpuset() throws {
            let fixture = try #require(Build.program("plan-fixture"))
            do throws(TestControlGroup.Refusal) {
                let group = try TestControlGroup("cpuset")
                for cpu in Self.cpus {
                    guard group.set("cpuset.cpus", "\(cpu)") else { return print("skipped: CPU \(cpu) is refused") }
                    let plan = Self.output(of: group.run(fixture, ["plan"]))
                    #expect(plan.hasPrefix("shards: 1, on 1 of 1 usable CPUs\n  shard 0: CPU \(cpu),"), "\(plan)")
                    #expect(Self.output(of: group.run(fixture, ["start"])) == "shard 0 may run on \(cpu)\n")
                }
            } catch { print("skipped: \(error)") }
        }

        @Test(
            "G1 under a CPU quota of 1.5 there are two shards, not pinned, also where a group above sets it")
        func quota() throws {
            let fixture = try #require(Build.program("plan-fixture"))
            guard Self.cpus.count > 1 else { return print("skipped: there is one CPU") }
            do throws(TestControlGroup.Refusal) {
                let group = try TestControlGroup("cpu")
                guard group.set("cpu.cfs_period_us", "100000"), group.set("cpu.cfs_quota_us", "150000") else {
                    return print("skipped: the kernel has no CPU quotas")
                }
                for group in [group, TestControlGroup(below: group)] {
                    let plan = Self.output(of: group.run(fixture, ["plan"]))
                    #expect(plan.hasPrefix("shards: 2, unpinned\n"), "\(plan)")
                    #expect(plan.contains("1.5 CPUs (150000 of 100000 µs, "), "\(plan)")
                    #expect(plan.contains("spinning does not pay"), "\(plan)")
                    let all = Self.cpus.map(String.init).joined(separator: ",")
                    let lines = Self.output(of: group.run(fixture, ["start"])).split(separator: "\n").sorted()
                    #expect(lines == ["shard 0 may run on \(all)", "shard 1 may run on \(all)"])
                }
                #expect(group.set("cpu.cfs_quota_us", "50000"))
                #expect(Self.output(of: group.run(fixture, ["plan"])).hasPrefix("shards: 1, unpinned\n"))
            } catch { print("skipped: \(error)") }
        }

        @Test("G1 a shard whose CPU is taken from the cpuset goes on nearby, and comes back when it may")
        func cpuTaken() throws {
            let fixture = try #require(Build.program("plan-fixture"))
            guard Self.cpus.count > 1 else { return print("skipped: there is one CPU") }
            let (kept, taken) = (Self.cpus[0], Self.cpus[1])
            do throws(TestControlGroup.Refusal) {
                let group = try TestControlGroup("cpuset")
                guard group.set("cpuset.cpus", "\(kept),\(taken)") else { return print("skipped: no such cpuset") }
                let helper = group.run(fixture, ["upkeep", "20", "2"])
                #expect(helper.waitForLine("shard 1: CPU \(taken), 0 repairs"))
                #expect(group.set("cpuset.cpus", "\(kept)"))
                #expect(helper.waitForLine("shard 1: CPU \(kept), 1 repairs"))
                #expect(group.set("cpuset.cpus", "\(kept),\(taken)"))
                #expect(helper.waitForLine("shard 1: CPU \(taken), 2 repairs"))
                let output = Self.output(of: helper)
                #expect(output.contains("shard 0: CPU \(kept), "))
                #expect(!output.contains("CPU -"), "\(output)")
            } catch { print("skipped: \(error)") }
        }
    }
}

/// The calling thread's mask, set by the kernel's own call, which the Glibc module lacks.
private enum Affinities {
    private typealias Call = @convention(c) (CInt, Int, UnsafeRawPointer) -> CInt

    static func set(_ cpus: [Int]) -> CInt {
        guard let symbol = dlsym(nil, "sched_setaffinity") else { return -1 }
        var bytes = [UInt8](repeating: 0, count: 128)
        for cpu in cpus { bytes[cpu / 8] |= 1 << UInt8(cpu % 8) }
        return unsafeBitCast(symbol, to: Call.self)(0, bytes.count, bytes)
    }
}
