import Glibc

/// What the kernel says of this process's descriptors: /proc/self/fd and /proc/self/fdinfo.
public enum OpenDescriptors {
    /// Every open descriptor and what it is, such as "anon_inode:[eventpoll]".
    public static func all() -> [CInt: String] {
        guard let folder = opendir("/proc/self/fd") else { fatalError("test preparation: no /proc") }
        defer { closedir(folder) }
        let own = dirfd(folder)
        var found: [CInt: String] = [:]
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            guard let number = CInt(name), number != own else { continue }
            found[number] = target(of: number)
        }
        return found
    }

    public static func count() -> Int { all().count }

    /// What one descriptor is, or "" if it is not open.
    public static func target(of number: CInt) -> String { Files.link("/proc/self/fd/\(number)") ?? "" }

    public static func epolls() -> Set<CInt> { named("anon_inode:[eventpoll]") }
    public static func eventCounters() -> Set<CInt> { named("anon_inode:[eventfd]") }
    public static func timers() -> Set<CInt> { named("anon_inode:[timerfd]") }

    private static func named(_ target: String) -> Set<CInt> { Set(all().filter { $0.value == target }.keys) }
}

/// One registration in the kernel's set.
public struct EpollEntry: Sendable, Hashable {
    public let descriptor: CInt
    public let mask: UInt32
    public let data: UInt64

    public static let edgeTriggered: UInt32 = 1 << 31
    public static let oneshot: UInt32 = 1 << 30
    public static let exclusive: UInt32 = 1 << 28

    /// All registrations of an epoll descriptor.
    public static func all(in epoll: CInt) -> [EpollEntry] {
        Files.text("/proc/self/fdinfo/\(epoll)").split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ", omittingEmptySubsequences: true)
            guard words.count >= 6, words[0] == "tfd:", let number = CInt(words[1]),
                let mask = UInt32(words[3], radix: 16), let data = UInt64(words[5], radix: 16)
            else { return nil }
            return EpollEntry(descriptor: number, mask: mask, data: data)
        }
    }
}

/// How a timerfd is set.
public struct TimerSetting: Sendable, Hashable {
    public let clock: Int
    public let flags: Int
    /// What is left until it expires.
    public let remainingNanoseconds: UInt64
    public let intervalNanoseconds: UInt64

    public static func of(_ descriptor: CInt) -> TimerSetting {
        var clock = -1
        var flags = 0
        var remaining: UInt64 = 0
        var interval: UInt64 = 0
        func pair(_ line: Substring) -> UInt64 {
            let numbers = line.split { !$0.isNumber }.compactMap { UInt64($0) }
            return numbers.count == 2 ? numbers[0] &* 1_000_000_000 &+ numbers[1] : 0
        }
        for line in Files.text("/proc/self/fdinfo/\(descriptor)").split(separator: "\n") {
            let last = line.split(whereSeparator: { $0 == " " || $0 == "\t" }).last ?? ""
            if line.hasPrefix("clockid:") { clock = Int(last) ?? -1 }
            if line.hasPrefix("settime flags:") { flags = Int(last, radix: 8) ?? -1 }
            if line.hasPrefix("it_value:") { remaining = pair(line) }
            if line.hasPrefix("it_interval:") { interval = pair(line) }
        }
        return TimerSetting(
            clock: clock, flags: flags, remainingNanoseconds: remaining, intervalNanoseconds: interval)
    }
}

/// Small files of /proc, read whole.
public enum Files {
    public static func text(_ path: String) -> String {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return "" }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let n = Glibc.read(descriptor, &buffer, buffer.count)
            if n <= 0 { return String(decoding: bytes, as: UTF8.self) }
            bytes.append(contentsOf: buffer[0..<n])
        }
    }

    /// Whether the text could be written.
    @discardableResult
    public static func write(_ path: String, _ text: String) -> Bool {
        let descriptor = open(path, O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        return Glibc.write(descriptor, text, text.utf8.count) == text.utf8.count
    }

    public static func link(_ path: String) -> String? {
        var buffer = [CChar](repeating: 0, count: 4096)
        let n = readlink(path, &buffer, buffer.count - 1)
        guard n >= 0 else { return nil }
        return String(decoding: buffer[0..<n].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    public static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// The names in a folder, sorted.
    public static func names(in path: String) -> [String] {
        guard let folder = opendir(path) else { return [] }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }
}

/// The process's limit of descriptors.
public enum DescriptorLimit {
    public static var current: Int {
        var limit = rlimit()
        getrlimit(CInt(RLIMIT_NOFILE.rawValue), &limit)
        return Int(limit.rlim_cur)
    }

    /// Runs the body while exactly `spare` more descriptors can be opened, then restores what was.
    ///
    /// Every number below the lowered limit is taken by copies of descriptor 0's like, and `spare` of them freed again.
    public static func leaving<Result>(spare: Int, _ body: () throws -> Result) rethrows -> Result {
        var before = rlimit()
        getrlimit(CInt(RLIMIT_NOFILE.rawValue), &before)
        let anchor = prepared(open("/dev/null", O_RDONLY | O_CLOEXEC), "open")
        let highest = OpenDescriptors.all().keys.max() ?? 0
        var lowered = before
        lowered.rlim_cur = rlim_t(highest) + 1 + rlim_t(spare) + 4
        _ = prepared(setrlimit(CInt(RLIMIT_NOFILE.rawValue), &lowered), "setrlimit")
        var fillers: [CInt] = []
        while true {
            let copy = fcntl(anchor, F_DUPFD_CLOEXEC, 0)
            if copy < 0 { break }
            fillers.append(copy)
        }
        for _ in 0..<spare { close(fillers.removeLast()) }
        defer {
            for filler in fillers { close(filler) }
            close(anchor)
            setrlimit(CInt(RLIMIT_NOFILE.rawValue), &before)
        }
        return try body()
    }
}
