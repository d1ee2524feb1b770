import Glibc

/// Nanoseconds of the kernel's clocks, read without the engine's help.
public enum Clock {
    public static func monotonic() -> UInt64 { read(CLOCK_MONOTONIC) }
    /// CPU time of the calling thread alone, so that other work on the machine does not count.
    public static func threadCPU() -> UInt64 { read(CLOCK_THREAD_CPUTIME_ID) }

    private static func read(_ clock: CInt) -> UInt64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }
}

/// What a piece of work took.
public struct Spent: Sendable {
    public let wallNanoseconds: UInt64
    public let cpuNanoseconds: UInt64
    public var wallMilliseconds: Double { Double(wallNanoseconds) / 1e6 }
    public var cpuMilliseconds: Double { Double(cpuNanoseconds) / 1e6 }

    public static func measure(_ body: () throws -> Void) rethrows -> Spent {
        let wall = Clock.monotonic()
        let cpu = Clock.threadCPU()
        try body()
        return Spent(
            wallNanoseconds: Clock.monotonic() &- wall, cpuNanoseconds: Clock.threadCPU() &- cpu)
    }
}

/// What the process holds in memory.
public enum Memory {
    public static func residentBytes() -> Int {
        let words = Files.text("/proc/self/statm").split(separator: " ")
        return words.count > 1 ? (Int(words[1]) ?? 0) * Int(getpagesize()) : 0
    }

    /// Without what is mapped from files, and after the allocator was asked to give back what is free.
    public static func heldBytes() -> Int {
        typealias Trim = @convention(c) (Int) -> CInt
        if let trim = dlsym(nil, "malloc_trim") { _ = unsafeBitCast(trim, to: Trim.self)(0) }
        let words = Files.text("/proc/self/statm").split(separator: " ").compactMap { Int($0) }
        return words.count > 2 ? (words[1] - words[2]) * Int(getpagesize()) : 0
    }
}

/// Long runs are asked for by LINUX_EVENT_LONG=1; LINUX_EVENT_SLOW=10 says that the machine is ten times as slow as a
/// real one, being emulated.
public enum Effort {
    public static var isLong: Bool { environment("LINUX_EVENT_LONG") == "1" }

    /// 1 on a real machine.
    public static let slowness = max(1, environment("LINUX_EVENT_SLOW").flatMap { Int($0) } ?? 1)

    /// An upper bound of time, in whatever unit. (A lower bound holds on a slow machine as it is.)
    public static func atMost(_ bound: UInt64) -> UInt64 { bound &* UInt64(slowness) }
    public static func atMost(_ bound: Double) -> Double { bound * Double(slowness) }

    /// For poll(2), in milliseconds: how long something may take that takes no time on a real machine, such as the
    /// interrupt of an alarm that is set to the past.
    public static let atOnce: CInt = slowness > 1 ? 10_000 : 0

    /// How often to do what is done often, so that something shows in the sum.
    public static func rounds(_ count: Int) -> Int { max(1, count / slowness) }

    public static func environment(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
}

/// Random numbers that a printed seed brings back (SplitMix64). LINUX_EVENT_SEED sets the seed.
public struct SeededGenerator: RandomNumberGenerator {
    public let seed: UInt64
    private var state: UInt64

    public init(seed: UInt64? = nil) {
        let chosen = seed ?? Effort.environment("LINUX_EVENT_SEED").flatMap { UInt64($0) } ?? Clock.monotonic()
        self.seed = chosen
        state = chosen
    }

    public mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

/// Counts its own end, to show when somebody let go of it.
public final class Tracker {
    public final class Count {
        public var ended = 0
        public init() {}
    }

    private let count: Count
    private let onEnd: (() -> Void)?

    public init(_ count: Count, onEnd: (() -> Void)? = nil) {
        self.count = count
        self.onEnd = onEnd
    }

    /// To be called by a closure that shall own this.
    public func touch() {}

    deinit {
        count.ended += 1
        onEnd?()
    }
}
