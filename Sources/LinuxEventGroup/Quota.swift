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
        let fraction = hundredths % 100
        let digits = fraction == 0 ? "" : fraction % 10 == 0 ? ".\(fraction / 10)" : fraction < 10 ? ".0\(fraction)"
            : ".\(fraction)"
        return "\(hundredths / 100)\(digits) CPUs (\(microseconds) of \(period) µs, \(folder))"
    }

    /// The smallest of a group and all its ancestors, in all hierarchies: each of them holds. Nil: none.
    static func smallest(_ groups: [ControlGroup], _ files: inout SystemFiles) -> CPUQuota? {
        var smallest: CPUQuota?
        for group in groups {
            for folder in group.ancestors {
                guard let quota = group.version == 2 ? current(folder, &files) : legacy(folder, &files) else { continue }
                if quota.cpus < smallest?.cpus ?? .infinity { smallest = quota }
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
        if words.count == 2, let microseconds = Int(words[0]), let period = Int(words[1]), microseconds > 0, period > 0 {
            return CPUQuota(microseconds: microseconds, period: period, folder: folder)
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
