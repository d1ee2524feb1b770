import CLinux
import Glibc
import LinuxEvent
import LinuxEventGroup
import Synchronization
import TestSupport
import Testing

/// Every suite of this target hangs below this one, so that all its tests run one at a time: they count threads and
/// descriptors of the whole process, and measure time.
@Suite("LinuxEventGroup", .serialized, .gated(limitSeconds: Rounds.secondsPerTest))
enum LinuxEventGroupSuite {}

/// How much a test does.
enum Rounds {
    /// Under ThreadSanitizer everything takes many times as long.
    static let isSanitized = dlsym(nil, "__tsan_init") != nil

    static let secondsPerTest = Effort.atMost(Effort.isLong ? 3_600 : 120 as UInt64)

    /// Seconds after which what takes a moment, or a second on a busy machine, will not happen any more.
    static let patience: Double = Effort.isLong ? 600 : 20

    static func usually(_ count: Int, long: Int) -> Int {
        if Effort.isLong { return long }
        return isSanitized ? max(1, count / 5) : count
    }
}

// MARK: A group under test

enum Tested {
    static let name = "tested"

    /// The kernel's names and masks of all threads of groups that were started with `name`.
    static var threads: [KernelThread] { KernelThread.all.filter { $0.name.hasPrefix(name + "-") } }
}

/// Runs a body and expects that it leaves no thread of a group and no descriptor behind.
func expectNothingLeft(
    sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> Void
) rethrows {
    let before = OpenDescriptors.all()
    #expect(Tested.threads.isEmpty, "an earlier test left threads", sourceLocation: sourceLocation)
    try body()
    _ = eventually(seconds: 2) { Tested.threads.isEmpty && OpenDescriptors.count() == before.count }
    #expect(Tested.threads.isEmpty, sourceLocation: sourceLocation)
    let left = OpenDescriptors.all().filter { before[$0.key] != $0.value }
    #expect(left.isEmpty, "descriptors left open", sourceLocation: sourceLocation)
}

/// Starts a group, runs a body, stops the group, and expects that all of it ended and nothing is left.
///
/// That the counters see a group at all is shown each time: its threads and descriptors are there while it runs.
@discardableResult
func withGroup(
    threads: Int = 1, capacity: Int? = nil, spill: Int = 0, idle: IdlePolicy = .sleep,
    watchdog: WatchdogOptions? = nil, sourceLocation: SourceLocation = #_sourceLocation,
    start: @escaping @Sendable (Shard) throws -> Void = { _ in }, _ body: (LoopGroup) throws -> Void
) throws -> StopReport {
    var report: StopReport?
    try expectNothingLeft(sourceLocation: sourceLocation) {
        let descriptors = OpenDescriptors.count()
        let group = try LoopGroup(
            threads: threads, mailboxCapacity: capacity, spillLimit: spill, idle: idle, watchdog: watchdog,
            name: Tested.name, start: start)
        #expect(Tested.threads.count == threads, sourceLocation: sourceLocation)
        #expect(OpenDescriptors.count() >= descriptors + threads, sourceLocation: sourceLocation)
        let result = Result { try body(group) }
        report = try group.stop(deadline: .seconds(Effort.atMost(20.0)))
        #expect(report?.isComplete == true, "\(report!)", sourceLocation: sourceLocation)
        try result.get()
    }
    return try #require(report)
}

/// One thread of this process, as /proc shows it.
struct KernelThread {
    let name: String
    /// How often it went to sleep.
    let sleeps: Int
    /// CPUs that it may run on, such as "0" or "0-1".
    let cpus: String
    /// Bit n - 1 stands for signal n.
    let blockedSignals: UInt64

    /// `cpus` as numbers.
    var cpuNumbers: [Int] {
        cpus.split(separator: ",").flatMap { part -> [Int] in
            let ends = part.split(separator: "-").compactMap { Int($0) }
            return ends.count == 2 ? Array(ends[0]...ends[1]) : ends
        }
    }

    static var all: [KernelThread] { Files.names(in: "/proc/self/task").compactMap { KernelThread(task: $0) } }

    /// The calling thread.
    static var own: KernelThread? {
        Files.link("/proc/thread-self").flatMap { $0.split(separator: "/").last }.flatMap {
            KernelThread(task: "\($0)")
        }
    }

    private init?(task: String) {
        // The name of a thread, unlike a status, is there as long as the thread is.
        var name = Files.text("/proc/self/task/\(task)/comm")
        guard !name.isEmpty else { return nil }
        name.removeLast()
        self.name = name
        var fields: [Substring: String] = [:]
        for line in Files.text("/proc/self/task/\(task)/status").split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 1)
            if parts.count == 2 { fields[parts[0]] = parts[1].filter { $0 != "\t" && $0 != " " } }
        }
        sleeps = Int(fields["voluntary_ctxt_switches"] ?? "") ?? 0
        cpus = fields["Cpus_allowed_list"] ?? ""
        blockedSignals = UInt64(fields["SigBlk"] ?? "", radix: 16) ?? 0
    }
}

extension MachineTree {
    /// What is read from it, while it is there.
    func topology(_ affinity: [Int]) throws(LoopGroupError) -> Topology {
        defer { withExtendedLifetime(self) {} }
        return try Topology(root: root, affinity: affinity)
    }
}

/// Says which error came where another was expected.
func unexpected(_ error: (any Error)?, sourceLocation: SourceLocation = #_sourceLocation) {
    Issue.record("\(String(describing: error))", sourceLocation: sourceLocation)
}

// MARK: Waiting

/// Looks until the condition holds; whether it came to hold in time.
func eventually(seconds: Double = 10, _ condition: () -> Bool) -> Bool {
    let deadline = Clock.monotonic() &+ UInt64(Effort.atMost(seconds) * 1e9)
    while !condition() {
        if Clock.monotonic() > deadline { return condition() }
        usleep(100)
    }
    return true
}

/// As `eventually`, without going to sleep at first: for what is a matter of microseconds.
func soon(seconds: Double = 2, _ condition: () -> Bool) -> Bool {
    var deadline: UInt64 = 0
    for look in 0... {
        if condition() { return true }
        guard look & 63 == 63 else { continue }
        if look > 20_000 { sched_yield() }
        if deadline == 0 { deadline = Clock.monotonic() &+ UInt64(seconds * 1e9) }
        if Clock.monotonic() > deadline { return condition() }
    }
    return true
}

/// Passes about that much time on the CPU, also where it is too short for a clock.
func spin(nanoseconds: Int) {
    let looks = Int(Double(nanoseconds) * Gap.looksPerNanosecond)
    for _ in 0..<looks { Gap.look() }
}

private enum Gap {
    private static let word = Atomic<Int>(0)

    static func look() { _ = word.load(ordering: .acquiring) }

    /// The best of some measurements: all others were disturbed.
    static let looksPerNanosecond: Double = {
        let looks = 20_000
        let fastest = (0..<20).map { _ in
            let begin = Clock.monotonic()
            for _ in 0..<looks { look() }
            return Clock.monotonic() - begin
        }.min()
        return Double(looks) / Double(max(fastest ?? 1, 1))
    }()
}

/// The calling thread, as a number.
func thisThread() -> UInt { UInt(pthread_self()) }

/// Holds a thread inside some code until it is let go.
final class Hold: Sendable {
    private let entered = Flag()
    private let opened = Flag()

    /// To be called by the thread that shall be held.
    func hold(spinning: Bool = false) {
        entered.set()
        let deadline = Clock.monotonic() &+ 60_000_000_000
        while !opened.isSet, Clock.monotonic() < deadline {
            if !spinning { usleep(50) }
        }
    }

    func waitUntilHeld() -> Bool { eventually { entered.isSet } }
    func letGo() { opened.set() }
}

// MARK: Memory that threads share on purpose

/// Plain memory: whoever orders the accesses is the thing under test.
struct PlainMemory<Element>: @unchecked Sendable {
    private let pointer: UnsafeMutablePointer<Element>
    let count: Int

    init(_ count: Int, _ element: Element) {
        self.count = count
        pointer = .allocate(capacity: count)
        pointer.initialize(repeating: element, count: count)
    }

    subscript(index: Int) -> Element {
        get { pointer[index] }
        nonmutating set { pointer[index] = newValue }
    }

    func count(where isWanted: (Element) -> Bool) -> Int { (0..<count).count { isWanted(pointer[$0]) } }

    func free() {
        pointer.deinitialize(count: count)
        pointer.deallocate()
    }
}

/// Counts the ends of what was handed around, and says on which threads they came.
final class Deaths: Sendable {
    private let threads = Locked<[UInt]>([])

    var count: Int { threads.withLock { $0.count } }

    /// Deaths on any other thread than that one.
    func elsewhere(than thread: UInt) -> Int { outside([thread]) }

    func outside(_ homes: [UInt]) -> Int { threads.withLock { $0.count { !homes.contains($0) } } }

    fileprivate func note() { threads.withLock { $0.append(thisThread()) } }
}

/// Something whose end is noted.
final class Mortal: Sendable {
    private let deaths: Deaths
    private let onEnd: (@Sendable () -> Void)?

    init(_ deaths: Deaths, onEnd: (@Sendable () -> Void)? = nil) {
        self.deaths = deaths
        self.onEnd = onEnd
    }

    /// To be called by a closure that shall own this.
    func touch() {}

    deinit {
        deaths.note()
        onEnd?()
    }
}

/// A task that is the only owner of what it captured: not even the poster's frame holds it any more.
func ownerTask(of mortal: consuming Mortal, _ run: @escaping @Sendable () -> Void = {}) -> sending ShardTask {
    { [mortal] _ in
        mortal.touch()
        run()
    }
}

/// Lines that threads may write together.
final class Log<Line: Sendable>: Sendable {
    private let lines = Locked<[Line]>([])

    var all: [Line] { lines.withLock { $0 } }
    var count: Int { lines.withLock { $0.count } }
    func add(_ line: Line) { lines.withLock { $0.append(line) } }
}

extension LoopGroup {
    /// Keeps shard 0 in a timer's handler, so that none of its tasks is in hand and none can begin.
    func holdOutsideTasks() throws -> Hold {
        let hold = Hold()
        try #require(eventually { post(to: 0) { shard in shard.loop.after(.zero) { _, _ in hold.hold() } }.isPosted })
        try #require(hold.waitUntilHeld())
        return hold
    }

    /// The thread of a shard, found by a task there.
    func thread(of index: Int) -> UInt {
        let found = Atomic<UInt>(0)
        let box = Shared(found)
        post(to: index) { _ in box.value.store(thisThread(), ordering: .releasing) }
        _ = eventually { box.value.load(ordering: .acquiring) != 0 }
        return box.value.load(ordering: .acquiring)
    }

    /// Pipes whose readers have this shard as their home.
    func pipes(home: Int, count: Int = 1) -> [Pipe] {
        var found: [Pipe] = []
        // Kept open, so that their numbers are not handed out again.
        var others: [Pipe] = []
        while found.count < count, others.count < 400 {
            let pipe = Pipe()
            if shard(for: pipe.reader).index == home { found.append(pipe) } else { others.append(pipe) }
        }
        if found.count < count { fatalError("no descriptor is routed to shard \(home) of \(self.count)") }
        return found
    }

    /// Returns when everything that this thread posted to a shard before has run.
    @discardableResult
    func settle(_ index: Int) -> Bool {
        let isThrough = Flag()
        guard post(to: index, { _ in isThrough.set() }).isPosted else { return false }
        return eventually { isThrough.isSet }
    }
}

/// A value that cannot be copied, for several owners.
final class Shared<Value: ~Copyable & Sendable>: Sendable {
    let value: Value
    init(_ value: consuming Value) { self.value = value }
}

extension PostResult {
    var isFull: Bool { if case .full = self { true } else { false } }
    var isClosed: Bool { if case .closed = self { true } else { false } }
}

extension WatchResult {
    var watcher: GroupWatcher? { if case .accepted(let watcher) = self { watcher } else { nil } }
    var isFull: Bool { if case .full = self { true } else { false } }
    var isClosed: Bool { if case .closed = self { true } else { false } }
}
