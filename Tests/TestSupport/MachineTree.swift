import Glibc

/// A folder of its own, removed with everything in it when the object goes.
public final class ScratchFolder {
    public let path: String

    public init() {
        var name = Array("/tmp/linux-event-test-XXXXXX".utf8CString)
        guard mkdtemp(&name) != nil else { fatalError("test preparation: mkdtemp") }
        path = String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        Lifetimes.keep(self)
    }

    /// Writes a file, and makes the folders that it needs.
    public func write(_ name: String, _ text: String) {
        let parts = name.split(separator: "/")
        makeFolder(parts.dropLast().joined(separator: "/"))
        let file = path + "/" + parts.joined(separator: "/")
        let descriptor = prepared(open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644), "open \(file)")
        defer { close(descriptor) }
        let count = Glibc.write(descriptor, text, text.utf8.count)
        if count != text.utf8.count { fatalError("test preparation: write \(file)") }
    }

    public func makeFolder(_ name: String) {
        var folder = path
        for part in name.split(separator: "/") {
            folder += "/" + part
            if mkdir(folder, 0o755) != 0, errno != EEXIST { fatalError("test preparation: mkdir \(folder)") }
        }
    }

    deinit { Self.remove(path) }

    private static func remove(_ path: String) {
        if unlink(path) == 0 { return }
        for name in Files.names(in: path) { remove(path + "/" + name) }
        rmdir(path)
    }
}

/// A machine as /proc and /sys would show it, in a folder.
public final class MachineTree {
    private let folder = ScratchFolder()
    private var mounts = ""
    private var memberships = ""

    public var root: String { folder.path }

    public init() {}

    @discardableResult
    public func file(_ path: String, _ text: String) -> MachineTree {
        folder.write(path, text)
        return self
    }

    /// - Parameters:
    ///   - online: the kernel's list of CPUs that are on.
    ///   - cores: the CPUs of each core; a CPU that is in none has no topology.
    @discardableResult
    public func cpus(online: String, cores: [[Int]] = []) -> MachineTree {
        file("/sys/devices/system/cpu/online", online + "\n")
        for core in cores {
            for cpu in core {
                let list = core.map(String.init).joined(separator: ",")
                file("/sys/devices/system/cpu/cpu\(cpu)/topology/core_cpus_list", list + "\n")
            }
        }
        return self
    }

    /// - Parameters:
    ///   - nodes: the CPUs of each node.
    ///   - withMemory: the kernel's list of nodes that have any; nil for all.
    @discardableResult
    public func nodes(_ nodes: [Int: String], withMemory: String? = nil) -> MachineTree {
        let all = nodes.keys.sorted().map(String.init).joined(separator: ",")
        file("/sys/devices/system/node/online", all + "\n")
        file("/sys/devices/system/node/has_memory", (withMemory ?? all) + "\n")
        for (node, cpus) in nodes { file("/sys/devices/system/node/node\(node)/cpulist", cpus + "\n") }
        return self
    }

    /// A hierarchy of control groups and where the process is in it.
    ///
    /// - Parameters:
    ///   - controllers: of version 1; nil means version 2.
    ///   - path: the process's group, as /proc/self/cgroup has it.
    ///   - point: where the hierarchy is mounted.
    ///   - mounted: which group of it is mounted there, as mountinfo has it; nil: it is not mounted at all.
    @discardableResult
    public func hierarchy(
        _ controllers: String?, path: String, point: String, mounted: String? = "/"
    ) -> MachineTree {
        memberships += controllers.map { "7:\($0):\(path)\n" } ?? "0::\(path)\n"
        if let mounted {
            let type = controllers.map { "cgroup cgroup rw,\($0)" } ?? "cgroup2 cgroup2 rw,nsdelegate"
            let escaped = point.split(separator: " ", omittingEmptySubsequences: false).joined(separator: "\\040")
            mounts += "31 23 0:28 \(mounted) \(escaped) rw,nosuid,relatime shared:9 - \(type)\n"
        }
        file("/proc/self/cgroup", memberships)
        file("/proc/self/mountinfo", "27 1 254:0 / / rw,relatime - ext4 /dev/root rw\n" + mounts)
        return self
    }

    /// The limit of a group of version 2.
    @discardableResult
    public func quota(_ folder: String, _ text: String) -> MachineTree { file(folder + "/cpu.max", text + "\n") }

    /// The limit of a group of version 1.
    @discardableResult
    public func quota1(_ folder: String, _ microseconds: Int, period: Int = 100_000) -> MachineTree {
        file(folder + "/cpu.cfs_quota_us", "\(microseconds)\n")
        return file(folder + "/cpu.cfs_period_us", "\(period)\n")
    }
}
