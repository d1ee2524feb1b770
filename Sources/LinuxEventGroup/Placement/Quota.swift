/// How much CPU time a control group may use: so many microseconds in each period. Contract G1.
public struct CPUQuota: Hashable, Sendable, CustomStringConvertible {
    /// The time allowed in each period, above zero.
    public let microseconds: Int
    /// The period, in microseconds, above zero.
    public let period: Int
    /// The folder of the group that sets it: the process's own, or one above it.
    public let folder: String

    /// In CPUs: 1.5 is one and a half.
    public var cpus: Double { Double(microseconds) / Double(period) }

    /// As many threads as can use it up: 2 for 1.5.
    public var threads: Int { microseconds / period + (microseconds % period > 0 ? 1 : 0) }

    public var description: String {
        let hundredths = Int((min(cpus, 1e9) * 100).rounded())
        // 150 as "1.5", 104 as "1.04", 200 as "2".
        var fraction = "\(100 + hundredths % 100)".dropFirst()
        while fraction.last == "0" { fraction.removeLast() }
        let number = "\(hundredths / 100)" + (fraction.isEmpty ? "" : "." + fraction)
        return "\(number) CPUs (\(microseconds) of \(period) µs, \(folder))"
    }

    /// The smallest of a group and all its ancestors, in all hierarchies: each of them holds. Nil: none.
    static func smallest(_ groups: [ControlGroup], _ files: inout SystemFiles) -> CPUQuota? {
        var smallest: CPUQuota?
        for group in groups {
            for folder in group.ancestors {
                let quota = group.version == 2 ? current(folder, &files) : legacy(folder, &files)
                if let quota, quota.cpus < smallest?.cpus ?? .infinity { smallest = quota }
            }
        }
        return smallest
    }

    /// Version 2: "150000 100000", or "max 100000".
    private static func current(_ folder: String, _ files: inout SystemFiles) -> CPUQuota? {
        let path = folder + "/cpu.max"
        guard let text = files.text(path) else { return nil }
        let words = text.split(whereSeparator: \.isWhitespace)
        if words.first == "max" { return nil }
        let numbers = words.compactMap { Int($0) }
        if words.count == 2, numbers.count == 2, numbers[0] > 0, numbers[1] > 0 {
            return CPUQuota(microseconds: numbers[0], period: numbers[1], folder: folder)
        }
        files.note("ignored \(path), which is no quota")
        return nil
    }

    /// Version 1: two files, and -1 for none.
    private static func legacy(_ folder: String, _ files: inout SystemFiles) -> CPUQuota? {
        let path = folder + "/cpu.cfs_quota_us"
        guard let microseconds = files.number(path), microseconds != -1 else { return nil }
        guard let period = files.number(folder + "/cpu.cfs_period_us"), microseconds > 0, period > 0 else {
            files.note("ignored \(path), which is no quota")
            return nil
        }
        return CPUQuota(microseconds: microseconds, period: period, folder: folder)
    }
}
