import LinuxEventGroup
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    /// Machines that are folders: what /proc and /sys say there is all that a plan knows.
    @Suite("G1 Quota")
    struct GroupQuotaTests {
        /// Eight CPUs without siblings, and no control group yet.
        private static func machine() -> MachineTree { MachineTree().cpus(online: "0-7", cores: (0..<8).map { [$0] }) }

        private static func plan(
            _ tree: MachineTree, threads: Int? = nil, _ placement: Placement = .automatic
        ) throws -> Plan {
            try Plan(
                threads: threads, placement: placement, topology: tree.topology(Array(0..<8)))
        }

        @Test("G1 without any control group there is a pinned shard for each CPU")
        func noControlGroup() throws {
            let plan = try Self.plan(Self.machine())
            #expect(plan.shards.map(\.cpu) == Array(0..<8))
            #expect(plan.topology.quota == nil)
            #expect(plan.allowsSpinning)
            #expect(plan.description.contains("CPU quota: none"))
        }

        struct Case: CustomTestStringConvertible {
            let microseconds, period, shards: Int
            let isTight: Bool
            var testDescription: String { "\(microseconds) of \(period) µs" }
        }

        @Test(
            "G1 a quota below the usable CPUs gives as many shards as can use it up, not pinned and not spinning",
            arguments: [
                Case(microseconds: 150_000, period: 100_000, shards: 2, isTight: true),
                Case(microseconds: 100_000, period: 100_000, shards: 1, isTight: true),
                Case(microseconds: 1_000, period: 100_000, shards: 1, isTight: true),
                Case(microseconds: 100_001, period: 100_000, shards: 2, isTight: true),
                Case(microseconds: 37_500, period: 25_000, shards: 2, isTight: true),
                Case(microseconds: 750_000, period: 100_000, shards: 8, isTight: true),
                Case(microseconds: 800_000, period: 100_000, shards: 8, isTight: false),
                Case(microseconds: 9_000_000, period: 100_000, shards: 8, isTight: false),
                Case(microseconds: .max, period: 1, shards: 8, isTight: false),
            ])
        func fractions(_ quota: Case) throws {
            let current = Self.machine().hierarchy(nil, path: "/a", point: "/sys/fs/cgroup")
                .quota("/sys/fs/cgroup/a", "\(quota.microseconds) \(quota.period)")
            let legacy = Self.machine().hierarchy("cpu,cpuacct", path: "/a", point: "/sys/fs/cgroup/cpu")
                .quota1("/sys/fs/cgroup/cpu/a", quota.microseconds, period: quota.period)
            for tree in [current, legacy] {
                let plan = try Self.plan(tree)
                #expect(plan.shards.count == quota.shards)
                #expect(plan.shards.allSatisfy { ($0.cpu == nil) == quota.isTight })
                #expect(plan.allowsSpinning == !quota.isTight)
                #expect(plan.topology.quota?.microseconds == quota.microseconds)
                #expect(plan.topology.quota?.period == quota.period)
            }
        }

        @Test("G1 the smallest quota of a group and all above it counts, and the plan names the group that sets it")
        func nested() throws {
            let quotas = ["/a": 400_000, "/a/b": 150_000, "/a/b/c": 700_000]
            let current = Self.machine().hierarchy(nil, path: "/a/b/c/d", point: "/sys/fs/cgroup")
            let legacy = Self.machine().hierarchy("cpu", path: "/a/b/c/d", point: "/sys/fs/cgroup/cpu")
            for (group, quota) in quotas {
                current.quota("/sys/fs/cgroup" + group, "\(quota) 100000")
                legacy.quota1("/sys/fs/cgroup/cpu" + group, quota)
            }
            current.quota("/sys/fs/cgroup/a/b/c/d", "max 100000")
            legacy.quota1("/sys/fs/cgroup/cpu/a/b/c/d", -1)
            for (tree, folder) in [(current, "/sys/fs/cgroup/a/b"), (legacy, "/sys/fs/cgroup/cpu/a/b")] {
                let plan = try Self.plan(tree)
                #expect(plan.shards.map(\.cpu) == [nil, nil])
                #expect(plan.topology.quota?.folder == folder)
                #expect(plan.reasons[0].contains("1.5 CPUs") && plan.reasons[0].contains(folder + ")"))
            }
        }

        @Test("G1 a quota on the group that the container sees as the root counts")
        func ofTheMount() throws {
            let tree = Self.machine().hierarchy(nil, path: "/", point: "/sys/fs/cgroup")
                .quota("/sys/fs/cgroup", "200000 100000")
            #expect(try Self.plan(tree).shards.count == 2)
        }

        @Test("G1 no limit is no quota, in either version")
        func unlimited() throws {
            let tree = Self.machine().hierarchy(nil, path: "/a", point: "/sys/fs/cgroup/unified")
                .hierarchy("cpu", path: "/a", point: "/sys/fs/cgroup/cpu")
                .quota("/sys/fs/cgroup/unified/a", "max 100000").quota("/sys/fs/cgroup/unified", "max")
                .quota1("/sys/fs/cgroup/cpu/a", -1)
            let plan = try Self.plan(tree)
            #expect(plan.topology.quota == nil)
            #expect(plan.topology.notes.count == 1, "\(plan.topology.notes)")
            #expect(plan.shards.map(\.cpu) == Array(0..<8))
        }

        @Test(
            "G1 with both versions mounted, the smaller quota counts, whichever has it", arguments: [true, false])
        func hybrid(legacyIsSmaller: Bool) throws {
            let tree = Self.machine().hierarchy("cpu,cpuacct", path: "/x", point: "/sys/fs/cgroup/cpu,cpuacct")
                .hierarchy("name=systemd", path: "/elsewhere", point: "/sys/fs/cgroup/systemd")
                .hierarchy(nil, path: "/y", point: "/sys/fs/cgroup/unified")
                .quota1("/sys/fs/cgroup/cpu,cpuacct/x", legacyIsSmaller ? 250_000 : 500_000)
                .quota("/sys/fs/cgroup/unified/y", legacyIsSmaller ? "500000 100000" : "250000 100000")
                // Not a hierarchy that limits CPU time.
                .quota1("/sys/fs/cgroup/systemd/elsewhere", 100_000)
            let plan = try Self.plan(tree)
            #expect(plan.shards.count == 3)
            let folder = legacyIsSmaller ? "/sys/fs/cgroup/cpu,cpuacct/x" : "/sys/fs/cgroup/unified/y"
            #expect(plan.topology.quota?.folder == folder)
        }

        // MARK: Where the group can be seen

        @Test("G1 a group is found where its hierarchy is mounted, whole or from some group on, and whatever the name")
        func mountedElsewhere() throws {
            let cases: [(path: String, point: String, mounted: String, folder: String)] = [
                // A container that sees its own group as the mount's root, under the host's name.
                ("/docker/abc", "/sys/fs/cgroup", "/docker/abc", "/sys/fs/cgroup"),
                ("/docker/abc/inner", "/sys/fs/cgroup", "/docker/abc", "/sys/fs/cgroup/inner"),
                // A mount at another place, with blanks in its name.
                ("/a", "/mnt/control groups/x", "/", "/mnt/control groups/x/a"),
                // A namespace of its own: names begin at its root, and may lead out of it.
                ("/", "/sys/fs/cgroup", "/", "/sys/fs/cgroup"),
                ("/../x", "/sys/fs/cgroup", "/..", "/sys/fs/cgroup/x"),
                // A name like another's beginning is not below it.
                ("/docker/abcd", "/sys/fs/cgroup", "/docker/abc", "/sys/fs/cgroup"),
                // The mount is of another namespace: the end of the name is right, or the mount itself is.
                ("/host/pod/abc", "/sys/fs/cgroup", "/pod", "/sys/fs/cgroup/abc"),
                ("/host/pod/gone", "/sys/fs/cgroup", "/pod", "/sys/fs/cgroup"),
                // A group that was removed while the process is in it: what is above still holds.
                ("/a (deleted)", "/sys/fs/cgroup", "/", "/sys/fs/cgroup"),
                // A colon is part of a name.
                ("/a:b/c", "/sys/fs/cgroup", "/", "/sys/fs/cgroup/a:b/c"),
            ]
            for (path, point, mounted, folder) in cases {
                let current = Self.machine().hierarchy(nil, path: path, point: point, mounted: mounted)
                    .quota(folder, "150000 100000")
                let legacy = Self.machine().hierarchy("cpu", path: path, point: point, mounted: mounted)
                    .quota1(folder, 150_000)
                for tree in [current, legacy] {
                    let plan = try Self.plan(tree)
                    #expect(plan.topology.quota?.folder == folder, "\(path) at \(point)")
                    #expect(plan.shards.count == 2, "\(path) at \(point)")
                }
            }
        }

        @Test("G1 of several mounts of a hierarchy, the one that shows most groups above is read")
        func mountedTwice() throws {
            let tree = Self.machine().hierarchy(nil, path: "/a/b", point: "/narrow", mounted: "/a/b")
                .hierarchy(nil, path: "/a/b", point: "/wide")
                .quota("/narrow", "500000 100000").quota("/wide/a/b", "500000 100000")
                .quota("/wide/a", "300000 100000")
            let plan = try Self.plan(tree)
            #expect(plan.shards.count == 3)
            #expect(plan.topology.quota?.folder == "/wide/a")
        }

        @Test(
            "G1 a group outside of what is mounted, or of a hierarchy that is not, limits nothing that can be known"
        )
        func unseen() throws {
            let outside = Self.machine().hierarchy(nil, path: "/../sibling", point: "/sys/fs/cgroup")
                .quota("/sys/fs/cgroup", "100000 100000").quota("/sys/fs/sibling", "100000 100000")
            #expect(try Self.plan(outside).shards.count == 8)
            #expect(try Self.plan(outside).description.contains("ignored cgroup /../sibling"))
            let unmounted = Self.machine().hierarchy("cpu", path: "/a", point: "/nowhere", mounted: nil)
            #expect(try Self.plan(unmounted).shards.count == 8)
        }

        @Test("G1 the calling thread's group counts, where threads of a process are in several")
        func ofTheThread() throws {
            let tree = Self.machine().hierarchy("cpu", path: "/process", point: "/c")
                .quota1("/c/process", 600_000).quota1("/c/thread", 200_000)
                .file("/proc/thread-self/cgroup", "7:cpu:/thread\n")
            #expect(try Self.plan(tree).shards.count == 2)
        }

        // MARK: What makes no sense

        @Test(
            "G1 a file that makes no sense is ignored, and the plan says which",
            arguments: [
                "", "\n", "max max", "-5 100000", "0 100000", "150000 0", "150000 -1", "150000", "1.5 1", "x y",
                "150000 100000 3", "99999999999999999999 1", "\u{0}\u{fffd}",
            ])
        func garbage(text: String) throws {
            let current = Self.machine().hierarchy(nil, path: "/a", point: "/c").file("/c/a/cpu.max", text)
                .quota("/c", "500000 100000")
            // Each makes sense in one version.
            if text != "max max" {
                let plan = try Self.plan(current)
                #expect(plan.shards.count == 5, "what is above still holds")
                #expect(plan.reasons.contains { $0.hasPrefix("ignored /c/a/cpu.max") }, "\(plan)")
            }
            if text == "150000" { return }
            let legacy = Self.machine().hierarchy("cpu", path: "/a", point: "/c").file("/c/a/cpu.cfs_quota_us", text)
                .file("/c/a/cpu.cfs_period_us", text).quota1("/c", 500_000)
            let plan = try Self.plan(legacy)
            #expect(plan.shards.count == 5)
            #expect(plan.reasons.contains { $0.hasPrefix("ignored /c/a/cpu.cfs_quota_us") }, "\(plan)")
        }

        // MARK: What was asked for

        @Test("G1 a placement that is asked for pins also under a quota, and as many threads as are asked for are made")
        func explicit() throws {
            let tree = Self.machine().hierarchy(nil, path: "/", point: "/c").quota("/c", "250000 100000")
            let spread = try Self.plan(tree, .spread)
            #expect(spread.shards.map(\.cpu) == [0, 1, 2])
            #expect(!spread.allowsSpinning)
            #expect(try Self.plan(tree, .pack).shards.map(\.cpu) == [0, 1, 2])
            #expect(try Self.plan(tree, .unpinned).shards.map(\.cpu) == [nil, nil, nil])
            let listed = try Self.plan(tree, .listed([7, 6, 5, 4]))
            #expect(listed.shards.map(\.cpu) == [7, 6, 5, 4])
            #expect(!listed.allowsSpinning)
            let many = try Self.plan(tree, threads: 6)
            #expect(many.shards.map(\.cpu) == [nil, nil, nil, nil, nil, nil])
            #expect(many.reasons[0].contains("asked for"))
            #expect(many.reasons.contains { $0.contains("2.5 CPUs") && $0.contains("wait") })
        }

        @Test("G1 shards that share CPUs do not spin, and neither does one on the only CPU")
        func spinning() throws {
            let tree = Self.machine()
            #expect(try Self.plan(tree, threads: 8).allowsSpinning)
            #expect(try !Self.plan(tree, threads: 9).allowsSpinning)
            #expect(try !Self.plan(tree, threads: 9, .unpinned).allowsSpinning)
            #expect(try Self.plan(tree, .listed([1, 2])).allowsSpinning)
            #expect(try !Self.plan(tree, .listed([1, 2, 1])).allowsSpinning)
            let only = try Plan(topology: tree.topology([3]))
            #expect(only.shards.map(\.cpu) == [3])
            #expect(!only.allowsSpinning)
        }
    }
}
