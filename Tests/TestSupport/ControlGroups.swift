import Glibc

/// A control group of the kernel's own, below the group that this process is in; removed with the object.
///
/// Version 1, because its controllers can be mounted for a test; where the machine uses them in version 2, they cannot.
public final class TestControlGroup {
    public let folder: String
    /// What has to be unmounted and removed again.
    private let ownMount: ScratchFolder?
    private let parent: TestControlGroup?

    /// Why there is no such group.
    public struct Refusal: Error, CustomStringConvertible {
        public let description: String
    }

    /// - Parameter controller: "cpu" or "cpuset".
    public init(_ controller: String) throws(Refusal) {
        guard getuid() == 0 else { throw Refusal(description: "only root may make control groups") }
        var mount = Self.mountPoint(of: controller)
        var ownMount: ScratchFolder?
        if mount == nil {
            let folder = ScratchFolder()
            guard Glibc.mount("none", folder.path, "cgroup", 0, controller) == 0 else {
                throw Refusal(description: "controller \(controller) cannot be mounted: errno \(errno)")
            }
            ownMount = folder
            mount = folder.path
        }
        self.ownMount = ownMount
        parent = nil
        folder = "\(mount!)/linux-event-test-\(getpid())"
        guard mkdir(folder, 0o755) == 0 || errno == EEXIST else {
            throw Refusal(description: "no control group can be made in \(mount!): errno \(errno)")
        }
        if controller == "cpuset" {
            // Empty at first, and then no process can be in it.
            for file in ["cpuset.mems", "cpuset.cpus"] { set(file, Files.text(mount! + "/" + file)) }
        }
    }

    /// A group below another.
    public init(below parent: TestControlGroup) {
        self.parent = parent
        ownMount = nil
        folder = parent.folder + "/inner"
        if mkdir(folder, 0o755) != 0, errno != EEXIST { fatalError("test preparation: mkdir \(folder)") }
    }

    private static func mountPoint(of controller: String) -> String? {
        for line in Files.text("/proc/self/mountinfo").split(separator: "\n") {
            let words = line.split(separator: " ")
            guard let hyphen = words.lastIndex(of: "-"), words.count > hyphen + 3, words[hyphen + 1] == "cgroup" else {
                continue
            }
            if words[hyphen + 3].split(separator: ",").contains(where: { $0 == controller }) { return String(words[4]) }
        }
        return nil
    }

    /// Whether the kernel took the value.
    @discardableResult
    public func set(_ file: String, _ value: String) -> Bool { Files.write(folder + "/" + file, value) }

    /// A helper program that is in this group from its first instruction on.
    public func run(_ program: String, _ arguments: [String]) -> HelperProcess {
        let words = ["-c", "echo $$ > \"$1\" && shift && exec \"$@\"", "sh", folder + "/cgroup.procs", program]
        return HelperProcess("/bin/sh", words + arguments)
    }

    deinit {
        // A process that has ended may be in it a moment longer.
        for _ in 0..<2_000 {
            if rmdir(folder) == 0 || errno != EBUSY { break }
            usleep(1_000)
        }
        if let ownMount { umount(ownMount.path) }
    }
}
