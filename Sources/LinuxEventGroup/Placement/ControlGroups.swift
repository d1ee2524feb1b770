/// Where the calling thread is in one hierarchy of control groups: cgroups(7).
struct ControlGroup: Hashable, Sendable {
    /// 1 or 2.
    let version: Int
    /// Where the hierarchy is mounted.
    let mount: String
    /// From the mount on: "" or "/a/b".
    let path: String

    /// The folders of the group itself and of all its ancestors that can be seen.
    var ancestors: [String] {
        var folders: [String] = []
        var parts = path.split(separator: "/")
        while !parts.isEmpty {
            folders.append(mount + "/" + parts.joined(separator: "/"))
            parts.removeLast()
        }
        return folders + [mount]
    }
}

/// The hierarchies that limit CPUs: of version 1, of version 2, or of both on one machine.
struct ControlGroups: Hashable, Sendable {
    /// With `cpu.max` or `cpu.cfs_quota_us`.
    private(set) var cpu: [ControlGroup] = []
    /// With `cpuset.cpus.effective` or `cpuset.effective_cpus`.
    private(set) var cpuset: [ControlGroup] = []

    /// The calling thread's: /proc/thread-self says where it is, and its mountinfo where that can be seen.
    init(_ files: inout SystemFiles) {
        let memberships = files.text("/proc/thread-self/cgroup") ?? files.text("/proc/self/cgroup") ?? ""
        let mountinfo = files.text("/proc/thread-self/mountinfo") ?? files.text("/proc/self/mountinfo") ?? ""
        let mounts = mountinfo.split(separator: "\n").compactMap(Mount.init)
        for line in memberships.split(separator: "\n") {
            // "4:cpu,cpuacct:/a/b", "0::/a/b"; the path may hold colons.
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3, fields[2].first == "/" else {
                files.note("ignored a line of /proc/self/cgroup that is none: \(line.prefix(80))")
                continue
            }
            let controllers = fields[1].split(separator: ",")
            if fields[0] == "0", controllers.isEmpty {
                guard let group = Self.find(fields[2], mounts.filter { $0.type == "cgroup2" }, 2, &files) else {
                    continue
                }
                cpu.append(group)
                cpuset.append(group)
            }
            for name in ["cpu", "cpuset"] where controllers.contains(Substring(name)) {
                let mounts = mounts.filter { $0.type == "cgroup" && $0.options.contains(Substring(name)) }
                guard let group = Self.find(fields[2], mounts, 1, &files) else { continue }
                if name == "cpu" { cpu.append(group) } else { cpuset.append(group) }
            }
        }
    }

    /// Where a membership can be seen. Nil where the hierarchy is mounted nowhere.
    private static func find(
        _ path: Substring, _ mounts: [Mount], _ version: Int, _ files: inout SystemFiles
    ) -> ControlGroup? {
        let parts = path.split(separator: "/")
        // The mount that shows most ancestors.
        let above = mounts.filter { parts.starts(with: $0.root) }.min { $0.root.count < $1.root.count }
        if let above {
            let rest = parts.dropFirst(above.root.count)
            if !rest.contains("..") {
                return ControlGroup(version: version, mount: above.point, path: rest.map { "/" + $0 }.joined())
            }
        } else if let mount = mounts.last, !parts.contains("..") {
            // Seen from another namespace than the mount's. The end of the path may still be right; the mount itself is
            // what whoever made the container wanted seen.
            for dropped in 0...parts.count {
                let rest = parts.dropFirst(dropped).map { "/" + $0 }.joined()
                guard files.exists(mount.point + rest) else { continue }
                files.note("cgroup \(path) is not below its mount; \(mount.point + rest) is taken for it")
                return ControlGroup(version: version, mount: mount.point, path: rest)
            }
        }
        if !mounts.isEmpty { files.note("ignored cgroup \(path), which is outside of what is mounted here") }
        return nil
    }
}

/// A line of mountinfo: proc_pid_mountinfo(5).
private struct Mount {
    let type: Substring
    let point: String
    /// Which folder of the file system is mounted, in parts.
    let root: [Substring]
    /// Of the file system: a hierarchy's controllers are among them.
    let options: [Substring]

    init?(_ line: Substring) {
        let fields = line.split(separator: " ")
        // A varying number of optional fields ends with a lone hyphen.
        guard fields.count >= 10, let hyphen = fields[6...].firstIndex(of: "-"), fields.count > hyphen + 3 else {
            return nil
        }
        type = fields[hyphen + 1]
        root = Self.unescaped(fields[3]).split(separator: "/")
        let point = Self.unescaped(fields[4])
        self.point = point == "/" ? "" : point
        options = fields[hyphen + 3].split(separator: ",")
    }

    /// Blanks and the like are written as "\040".
    private static func unescaped(_ text: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.first {
            let digits = rest.dropFirst().prefix(3)
            if byte == UInt8(ascii: "\\"), digits.count == 3,
                let code = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
            {
                bytes.append(code)
                rest = rest.dropFirst(4)
            } else {
                bytes.append(byte)
                rest = rest.dropFirst()
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
