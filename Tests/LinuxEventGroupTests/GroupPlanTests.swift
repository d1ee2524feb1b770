import LinuxEventGroup
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    /// Machines that are folders, as in `GroupQuotaTests`.
    @Suite("G2 Plan")
    struct GroupPlanTests {
        /// The CPUs of a plan, in the order of its shards.
        private static func cpus(
            _ tree: MachineTree, affinity: Range<Int> = 0..<64, threads: Int? = nil, _ placement: Placement = .automatic
        ) throws -> [Int?] {
            try plan(tree, affinity: affinity, threads: threads, placement).shards.map(\.cpu)
        }

        private static func plan(
            _ tree: MachineTree, affinity: Range<Int> = 0..<64, threads: Int? = nil, _ placement: Placement = .automatic
        ) throws -> Plan {
            try Plan(
                threads: threads, placement: placement, topology: tree.topology(Array(affinity)))
        }

        // MARK: Usable CPUs

        @Test("G2 usable is what affinity mask, cpuset and the list of CPUs that are on agree on, with all holes")
        func usable() throws {
            let holes = MachineTree().cpus(online: "1,3-5,9,63")
            #expect(try Self.plan(holes).usableCPUs == [1, 3, 4, 5, 9, 63])
            #expect(try Self.plan(holes, affinity: 4..<10).usableCPUs == [4, 5, 9])
            let current = MachineTree().cpus(online: "0-7").hierarchy(nil, path: "/a/b", point: "/c")
                .file("/c/a/b/cpuset.cpus.effective", "2-4,6\n").file("/c/a/cpuset.cpus.effective", "0-6\n")
            #expect(try Self.plan(current).usableCPUs == [2, 3, 4, 6])
            #expect(try Self.cpus(current) == [2, 3, 4, 6])
            let legacy = MachineTree().cpus(online: "0-3,5-7").hierarchy("cpuset", path: "/a", point: "/c")
                .file("/c/a/cpuset.effective_cpus", "4-5\n")
            #expect(try Self.plan(legacy).usableCPUs == [5])
            #expect(try Self.plan(legacy).description.contains("cpuset /c/a 4-5, online 0-3,5-7"))
        }

        @Test("G2 a group without the cpuset controller has the CPUs of the nearest one above that has it")
        func cpusetAbove() throws {
            let tree = MachineTree().cpus(online: "0-7").hierarchy(nil, path: "/a/b/c", point: "/c")
                .file("/c/a/cpuset.cpus.effective", "1-2\n").file("/c/cpuset.cpus.effective", "0-7\n")
            #expect(try Self.plan(tree).usableCPUs == [1, 2])
        }

        @Test("G2 a list that leaves no CPU cannot be true of a thread that runs: it is ignored, and the plan says so")
        func contradictions() throws {
            let tree = MachineTree().cpus(online: "8-9").hierarchy(nil, path: "/", point: "/c")
                .file("/c/cpuset.cpus.effective", "6\n")
            let plan = try Self.plan(tree, affinity: 0..<4)
            #expect(plan.usableCPUs == [0, 1, 2, 3])
            #expect(plan.reasons.count { $0.hasPrefix("ignored") } == 2, "\(plan)")
        }

        @Test("G2 a machine that shows nothing at all has the CPUs of the affinity mask")
        func nothing() throws {
            let plan = try Self.plan(MachineTree(), affinity: 2..<5)
            #expect(plan.shards.map(\.cpu) == [2, 3, 4])
            #expect(plan.shards.map(\.node) == [nil, nil, nil])
            #expect(try Topology(root: "/nowhere/at all", affinity: [1]).cpus.map(\.number) == [1])
        }

        // MARK: Cores

        @Test("G2 automatic: physical cores come before their siblings, however these are numbered")
        func siblings() throws {
            let apart = MachineTree().cpus(online: "0-7", cores: [[0, 4], [1, 5], [2, 6], [3, 7]])
            let plan = try Self.plan(apart)
            #expect(plan.shards.map(\.cpu) == [0, 1, 2, 3, 4, 5, 6, 7])
            #expect(plan.shards.map(\.isSibling) == [false, false, false, false, true, true, true, true])
            #expect(plan.shards.map(\.core) == [0, 1, 2, 3, 0, 1, 2, 3])
            #expect(plan.description.contains("shard 5: CPU 5, core 1, sibling"))
            let adjacent = MachineTree().cpus(online: "0-7", cores: [[0, 1], [2, 3], [4, 5], [6, 7]])
            #expect(try Self.cpus(adjacent) == [0, 2, 4, 6, 1, 3, 5, 7])
            #expect(try Self.cpus(adjacent, threads: 3) == [0, 2, 4])
            #expect(try Self.cpus(adjacent, .pack) == [0, 1, 2, 3, 4, 5, 6, 7])
            #expect(try Self.cpus(adjacent, .spread) == [0, 2, 4, 6, 1, 3, 5, 7])
            let four = MachineTree().cpus(online: "0-7", cores: [[0, 2, 4, 6], [1, 3, 5, 7]])
            #expect(try Self.cpus(four) == [0, 1, 2, 3, 4, 5, 6, 7])
            #expect(try Self.cpus(four, .pack) == [0, 2, 4, 6, 1, 3, 5, 7])
        }

        @Test("G2 a CPU whose siblings cannot be used is no sibling")
        func lonelySibling() throws {
            let tree = MachineTree().cpus(online: "0-7", cores: [[0, 4], [1, 5], [2, 6], [3, 7]])
            let plan = try Self.plan(tree, affinity: 3..<6)
            #expect(plan.shards.map(\.cpu) == [3, 4, 5])
            #expect(plan.shards.map(\.isSibling) == [false, false, false])
            let off = MachineTree().cpus(online: "0-3,5", cores: [[0], [1, 5], [2], [3]])
            #expect(try Self.plan(off).shards.map(\.isSibling) == [false, false, false, false, true])
        }

        @Test("G2 siblings are known by the older file, or by core and package, where the newer file is missing")
        func olderFiles() throws {
            let folder = "/sys/devices/system/cpu/cpu"
            let older = MachineTree().cpus(online: "0-3")
            let oldest = MachineTree().cpus(online: "0-3")
            for cpu in 0..<4 {
                older.file("\(folder)\(cpu)/topology/thread_siblings_list", cpu < 2 ? "0-1\n" : "2-3\n")
                oldest.file("\(folder)\(cpu)/topology/core_id", "0\n")
                oldest.file("\(folder)\(cpu)/topology/physical_package_id", "\(cpu / 2)\n")
            }
            #expect(try Self.cpus(older) == [0, 2, 1, 3])
            #expect(try Self.cpus(oldest) == [0, 2, 1, 3])
        }

        // MARK: Nodes

        /// Two nodes of two cores with two threads each, numbered as common machines do.
        private static func twoNodes() -> MachineTree {
            MachineTree().cpus(online: "0-7", cores: [[0, 4], [1, 5], [2, 6], [3, 7]])
                .nodes([0: "0-1,4-5", 1: "2-3,6-7"])
        }

        @Test("G2 two nodes: automatic fills one after the other, spread takes both in turn, pack fills core by core")
        func nodes() throws {
            let tree = Self.twoNodes()
            let plan = try Self.plan(tree)
            #expect(plan.shards.map(\.cpu) == [0, 1, 2, 3, 4, 5, 6, 7])
            #expect(plan.shards.map(\.node) == [0, 0, 1, 1, 0, 0, 1, 1])
            #expect(plan.description.contains("shard 6: CPU 6, core 2, node 1, sibling"))
            #expect(try Self.cpus(tree, .spread) == [0, 2, 1, 3, 4, 6, 5, 7])
            #expect(try Self.cpus(tree, threads: 2, .spread) == [0, 2])
            #expect(try Self.cpus(tree, .pack) == [0, 4, 1, 5, 2, 6, 3, 7])
        }

        @Test("G2 four nodes of different size are all used by spread before any sibling is")
        func fourNodes() throws {
            let tree = MachineTree().cpus(online: "0-9", cores: [[0, 8], [1], [2], [3], [4], [5], [6, 9], [7]])
                .nodes([0: "0,8", 1: "1-3", 2: "4-5", 3: "6-7,9"])
            #expect(try Self.cpus(tree, .spread) == [0, 1, 4, 6, 2, 5, 7, 3, 8, 9])
            #expect(try Self.plan(tree, threads: 4, .spread).shards.map(\.node) == [0, 1, 2, 3])
        }

        @Test("G2 nodes without CPUs and nodes without memory")
        func unevenNodes() throws {
            let tree = MachineTree().cpus(online: "0-3", cores: [[0], [1], [2], [3]])
                .nodes([0: "0-1", 1: "", 3: "2-3"], withMemory: "0-1")
            let topology = try tree.topology([0, 1, 2, 3])
            #expect(topology.nodes == [0, 1, 3])
            #expect(topology.nodesWithMemory == [0, 1])
            let plan = try Plan(topology: topology)
            #expect(plan.shards.map(\.node) == [0, 0, 3, 3])
            #expect(plan.reasons.contains { $0.hasPrefix("node 3 has no memory") && $0.hasSuffix("node 0-1") })
            // Memory may lie elsewhere, so the node counts though all CPUs are on one.
            let attached = MachineTree().cpus(online: "0-1").nodes([0: "0-1", 1: ""])
            #expect(try Self.plan(attached).shards.map(\.node) == [0, 0])
        }

        @Test("G3 memory of a node without any is that of the nearest that have some, as far as the kernel tells")
        func nearestMemory() throws {
            let tree = MachineTree().cpus(online: "0-7")
                .nodes([0: "0-1", 2: "2-3", 3: "4-5", 7: "6-7"], withMemory: "0,2")
            func homes(_ distances: String?) throws -> [[Int]] {
                if let distances { tree.file("/sys/devices/system/node/node3/distance", distances) }
                let topology = try tree.topology(Array(0..<8))
                return [0, 2, 3].map(topology.memoryNodes)
            }
            #expect(try homes(nil) == [[0], [2], [0, 2]])
            // In the order of the nodes, holes left out.
            #expect(try homes("40 15 10 20\n") == [[0], [2], [2]])
            #expect(try homes("21 31 10 11\n") == [[0], [2], [0]])
            #expect(try homes("20 20 10 11\n") == [[0], [2], [0, 2]])
            #expect(try Self.plan(tree).reasons.contains { $0.hasSuffix("that of node 0,2") })
            for text in ["", "40 15 10", "40 15 10 x", "40 15 10 20 20"] {
                #expect(try homes(text) == [[0], [2], [0, 2]])
                #expect(try Self.plan(tree).reasons.contains { $0.contains("node3/distance") })
            }
        }

        // MARK: Kinds of placement

        @Test("G2 more shards than CPUs: each CPU in turn, still pinned")
        func inTurn() throws {
            let tree = MachineTree().cpus(online: "1,5-6")
            let plan = try Self.plan(tree, threads: 7)
            #expect(plan.shards.map(\.cpu) == [1, 5, 6, 1, 5, 6, 1])
            #expect(plan.description.contains("shards: 7, on 3 of 3 usable CPUs"))
            #expect(plan.reasons.contains { $0.contains("in turn") })
            #expect(try Self.cpus(tree, threads: 3, .listed([6, 1])) == [6, 1, 6])
        }

        @Test("G2 listed and custom give one shard for each entry, unless a number is given")
        func listed() throws {
            let tree = Self.twoNodes()
            #expect(try Self.cpus(tree, .listed([7, 0, 7])) == [7, 0, 7])
            #expect(try Self.cpus(tree, threads: 1, .listed([3, 2])) == [3])
            let lastOfEachNode = Placement.custom { topology in
                topology.nodes.map { node in topology.cpus.last { $0.node == node }?.number } + [nil]
            }
            let plan = try Self.plan(tree, lastOfEachNode)
            #expect(plan.shards.map(\.cpu) == [5, 7, nil])
            #expect(plan.shards.map(\.node) == [0, 1, nil])
            #expect(plan.description.contains("shard 2: unpinned"))
        }

        @Test("G2 a CPU that is not usable, a list of none, and a closure that throws are typed errors")
        func refusals() throws {
            struct Refusal: Error {}
            let tree = MachineTree().cpus(online: "0-3")
            let unusable = #expect(throws: LoopGroupError.self) { try Self.plan(tree, .listed([1, 4])) }
            guard case .unusableCPU(4) = unusable else { return unexpected(unusable) }
            #expect("\(unusable!)".contains("CPU 4"))
            for cpu in [-1, Int.min, Int.max] {
                let error = #expect(throws: LoopGroupError.self) { try Self.plan(tree, .custom { _ in [nil, cpu] }) }
                guard case .unusableCPU(cpu) = error else { return unexpected(error) }
            }
            for placement in [Placement.listed([]), .custom { _ in [] }] {
                let error = #expect(throws: LoopGroupError.self) { try Self.plan(tree, placement) }
                guard case .noCPUs = error else { return unexpected(error) }
            }
            let thrown = #expect(throws: LoopGroupError.self) { try Self.plan(tree, .custom { _ in throw Refusal() }) }
            guard case .placement(let cause) = thrown, cause is Refusal else {
                return unexpected(thrown)
            }
            for threads in [0, -3, 4_097] {
                let error = #expect(throws: LoopGroupError.self) { try LoopGroup.plan(threads: threads) }
                guard case .invalidThreads(threads) = error else { return unexpected(error) }
            }
        }

        @Test("G1 a shard that lost its CPU takes one of its node, then one with few shards, then the same core")
        func nearest() throws {
            let topology = try Self.twoNodes().topology(Array(0..<8))
            #expect(topology.nearest(to: 3, of: [0, 1, 2, 4, 5, 6, 7], taken: []) == [7, 2, 6, 4, 1, 5, 0])
            #expect(topology.nearest(to: 3, of: [0, 2, 6, 7], taken: [7, 7, 2]) == [6, 2, 7, 0])
            // A CPU that was turned on later is better than none.
            #expect(topology.nearest(to: 3, of: [9, 0], taken: []) == [0, 9])
            #expect(topology.nearest(to: 3, of: [9], taken: [9]) == [9])
        }

        // MARK: A value

        @Test("G2 a plan is made without starting a thread or keeping a descriptor, and is the same each time")
        func pure() throws {
            let threads = Threads.count()
            let descriptors = OpenDescriptors.all()
            let plan = try LoopGroup.plan(threads: 3)
            #expect(try LoopGroup.plan(threads: 3) == plan)
            #expect(try LoopGroup.plan(threads: 2) != plan)
            // Threads of the test runner may end meanwhile.
            #expect(Threads.count() <= threads)
            #expect(OpenDescriptors.all() == descriptors)
            #expect(plan.description.split(separator: "\n").count == 1 + 3 + plan.reasons.count)
        }

        @Test("G2 whatever the files hold, there is a plan, and its CPUs are of the affinity mask")
        func randomFiles() throws {
            var random = SeededGenerator()
            print("random files: LINUX_EVENT_SEED=\(random.seed)")
            let texts = [
                "", "0", "0-3", "3-0", "-", ",", "1,,2", "0-", "-1", "0-8191", "0-8192", "4294967296", "٣", "max",
                "max 100000", "1 1", "50000 100000", "\u{0}", "a-b", " 2 ", "0-3,0-3", "9223372036854775808 1",
                "0::/", "0::/a", "3:cpu:/a", "3:cpuset,cpu:/", ":::", "1:cpu", "0::a",
                "31 23 0:28 / /c rw - cgroup2 cgroup2 rw", "31 23 0:28 /a /c rw - cgroup none rw,cpu,cpuset",
                "31 23 0:28 / / rw - cgroup2 x rw", "- - - - - - - - - - -",
                "31 23 0:28 /\\0 /\\777\\ rw x - cgroup2 x y",
            ]
            let files = [
                "/proc/self/cgroup", "/proc/self/mountinfo", "/sys/devices/system/cpu/online",
                "/sys/devices/system/node/online", "/sys/devices/system/node/has_memory",
                "/sys/devices/system/node/node0/cpulist", "/sys/devices/system/node/node1/cpulist",
                "/sys/devices/system/node/node1/distance",
                "/sys/devices/system/cpu/cpu0/topology/core_cpus_list", "/sys/devices/system/cpu/cpu1/topology/core_id",
                "/sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "/c/cpu.max", "/c/a/cpu.max",
                "/c/cpu.cfs_quota_us", "/c/cpu.cfs_period_us", "/c/cpuset.cpus.effective", "/c/cpuset.effective_cpus",
            ]
            for _ in 0..<Rounds.usually(150, long: 20_000) {
                let tree = MachineTree()
                for file in files where Bool.random(using: &random) {
                    let lines = (0..<Int.random(in: 1...3, using: &random)).map { _ in
                        texts.randomElement(using: &random)!
                    }
                    if Int.random(in: 0..<20, using: &random) == 0 {
                        tree.file(file + "/folder", "")
                    } else {
                        tree.file(file, lines.joined(separator: "\n"))
                    }
                }
                for placement in [Placement.automatic, .unpinned, .spread, .pack] {
                    let plan = try Self.plan(tree, affinity: 0..<4, placement)
                    #expect((1...4).contains(plan.shards.count), "\(plan)")
                    #expect(plan.shards.allSatisfy { $0.cpu.map { (0..<4).contains($0) } ?? true }, "\(plan)")
                    #expect(Set(plan.usableCPUs).isSubset(of: 0..<4))
                }
            }
        }
    }
}
