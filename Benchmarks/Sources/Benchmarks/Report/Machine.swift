import Foundation
import Glibc

/// Where the figures come from. Holds no name of the host.
struct Machine: Sendable {
    /// In the order of the page; more may be added, such as the versions of the peers.
    var rows: [(name: String, value: String)]

    static func describe() -> Machine {
        let cpuinfo = read("/proc/cpuinfo")
        var rows = [
            (name: "CPU", value: cpuModel(cpuinfo)),
            (name: "CPUs", value: cpus(cpuinfo)),
            (name: "Memory", value: memory()),
            (name: "Kernel", value: "Linux " + read("/proc/sys/kernel/osrelease")),
            (name: "System", value: field("PRETTY_NAME", of: read("/etc/os-release"), separator: "=")),
            (name: "Swift", value: swiftVersion()),
            (name: "C library", value: libraryVersion()),
        ]
        let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        if !governor.isEmpty { rows.append(("Frequency governor", governor)) }
        return Machine(rows: rows.filter { !$0.value.isEmpty })
    }

    /// Now, UTC: 2025-11-25 02:47 UTC.
    static func date() -> String {
        var now = time(nil)
        var parts = tm()
        gmtime_r(&now, &parts)
        func two(_ number: CInt) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday)) "
            + "\(two(parts.tm_hour)):\(two(parts.tm_min)) UTC"
    }

    private static func read(_ path: String) -> String {
        let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
        return text.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// The first value of that name in a text of `name: value` lines.
    private static func field(_ name: String, of text: String, separator: Character = ":") -> String {
        for line in text.split(separator: "\n") {
            let parts = line.split(separator: separator, maxSplits: 1)
            if parts.count == 2, parts[0].trimmingCharacters(in: .whitespaces) == name {
                return parts[1].trimmingCharacters(in: CharacterSet(charactersIn: " \t\""))
            }
        }
        return ""
    }

    private static func cpuModel(_ cpuinfo: String) -> String {
        let model = field("model name", of: cpuinfo)
        let implementer = field("CPU implementer", of: cpuinfo)
        let name = model.isEmpty ? "implementer \(implementer), part \(field("CPU part", of: cpuinfo))" : model
        let flags = field("flags", of: cpuinfo).split(separator: " ")
        return flags.contains("hypervisor") ? name + ", virtual machine" : name
    }

    private static func cpus(_ cpuinfo: String) -> String {
        let online = sysconf(CInt(_SC_NPROCESSORS_ONLN))
        let allowed = field("Cpus_allowed_list", of: read("/proc/self/status"))
        let siblings = Int(field("siblings", of: cpuinfo)) ?? 0
        let cores = Int(field("cpu cores", of: cpuinfo)) ?? 0
        let threads = cores > 0 && siblings > cores ? ", \(siblings / cores) threads a core" : ""
        return allowed.isEmpty ? "\(online)\(threads)" : "\(online)\(threads); allowed: \(allowed)"
    }

    private static func memory() -> String {
        guard let kibibytes = Double(field("MemTotal", of: read("/proc/meminfo")).split(separator: " ").first ?? "")
        else { return "" }
        return "\(Figure.fixed(kibibytes / 1_048_576, 1)) GiB"
    }

    /// The full version, if a compiler is at hand; else what the compiler of this program knew of itself.
    private static func swiftVersion() -> String {
        #if compiler(>=6.4)
        let known = "6.4 or later"
        #elseif compiler(>=6.3)
        let known = "6.3"
        #else
        let known = "6.2"
        #endif
        let process = Process()
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["swiftc", "--version"]
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        guard (try? process.run()) != nil else { return known }
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        let words = text.split(whereSeparator: \.isWhitespace)
        guard process.terminationStatus == 0, let place = words.firstIndex(of: "version"), place + 1 < words.count
        else { return known }
        return String(words[place + 1])
    }

    private static func libraryVersion() -> String {
        var bytes = [CChar](repeating: 0, count: 64)
        guard confstr(CInt(_CS_GNU_LIBC_VERSION), &bytes, bytes.count) > 0 else { return "" }
        return String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
