import CLinux
import Glibc
import LinuxEvent
import LinuxEventGroup
import Synchronization

/// How a group lies on the machine's memory nodes, in lines of words with a tab between, for tools/numa-vm:
///
///     place SHARD CPU CORE NODE
///     memory PHASE SHARD CPU NODE MAY-RUN-ON RUNS-ON ON-NODE ELSEWHERE STRAYS UNKNOWN BY-NODE
///
/// The last five are numbers of pages. The phases: `start`, when nothing has been posted; `load`, when all shards have
/// posted to each other, and used their timers and watchers, until all of it had to grow; `again` and `more`, the same
/// of a second group, whose shards are in reverse order on the CPUs, so that each may get the heap that another had.
///
/// The load takes some seconds: the kernel moves pages to those who use them, but not at once. After it the shards have
/// ten seconds to bring their pages home; strays are those that were elsewhere when it ended.
func printNodes(_ name: String) throws {
    let kinds: [String: Placement] = ["automatic": .automatic, "spread": .spread, "pack": .pack]
    guard let placement = kinds[name] else { return say("no placement \(name)") }
    let group = try LoopGroup(placement: placement)
    for place in group.plan.shards {
        say(row("place", place.shard, shown(place.cpu), shown(place.core), shown(place.node)))
    }
    try printMemory(of: group, phase: "start")
    load(group)
    try printMemory(of: group, phase: "load")
    let cpus = group.plan.shards.compactMap(\.cpu)
    try group.stop(deadline: .seconds(60))

    let other = try LoopGroup(placement: .listed(cpus.reversed()))
    try printMemory(of: other, phase: "again")
    load(other)
    try printMemory(of: other, phase: "more")
    try other.stop(deadline: .seconds(60))
}

private func row(_ words: Any...) -> String { words.map { "\($0)" }.joined(separator: "\t") }

private func shown(_ number: Int?) -> String { number.map(String.init) ?? "-" }

private func printMemory(of group: LoopGroup, phase: String) throws {
    let threads = Threads(group.count)
    for shard in group.shards { shard.post { threads.note($0) } }
    threads.wait()
    // The kernel is asked twice, by the library and here, and may move a page in between.
    func look() throws -> [(memory: ShardMemory, byNode: String)] {
        try group.memoryReport(within: .seconds(60)).map { ($0, pagesByNode($0.pages)) }
    }
    var report = try look()
    let strays = report.map(\.memory.pagesElsewhere)
    // After a load: what lies elsewhere is brought home, some at a time.
    let end = Instant.now.advanced(by: .seconds(phase == "start" || phase == "again" ? 0 : 10))
    while report.contains(where: { $0.memory.pagesElsewhere > 0 || $0.byNode.contains(",") }), Instant.now < end {
        usleep(100_000)
        report = try look()
    }
    for ((memory, byNode), strays) in zip(report, strays) {
        let thread = threads.found[memory.shard]
        say(
            row(
                "memory", phase, memory.shard, shown(memory.cpu), shown(memory.node), thread.mayRunOn, thread.runsOn,
                memory.pagesOnNode, memory.pagesElsewhere, strays, memory.pagesUnknown, byNode))
    }
}

/// Such as "0=12,2=1"; "-" where the kernel says nothing.
private func pagesByNode(_ pages: [UInt]) -> String {
    var nodes = [CInt](repeating: -1, count: pages.count)
    guard clinux_move_pages(pages, nil, &nodes, UInt(pages.count)) >= 0 else { return "-" }
    let counts = nodes.filter { $0 >= 0 }.reduce(into: [CInt: Int]()) { $0[$1, default: 0] += 1 }
    if counts.isEmpty { return "-" }
    return counts.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: ",")
}

/// Where the shards' threads may run, and where each was found.
private final class Threads: Sendable {
    private let slots: [Slot]
    private let missing: Atomic<Int>

    private final class Slot: Sendable {
        let mayRunOn = Atomic<Int>(-1)
        let runsOn = Atomic<Int>(-1)
    }

    init(_ count: Int) {
        slots = (0..<count).map { _ in Slot() }
        missing = Atomic(count)
    }

    /// -1 for more than one CPU.
    var found: [(mayRunOn: Int, runsOn: Int)] {
        slots.map { ($0.mayRunOn.load(ordering: .relaxed), $0.runsOn.load(ordering: .relaxed)) }
    }

    func note(_ shard: Shard) {
        var cpu: CInt = -1
        if clinux_affinity_get(&cpu, 1) == 1 { slots[shard.index].mayRunOn.store(Int(cpu), ordering: .relaxed) }
        slots[shard.index].runsOn.store(currentCPU(), ordering: .relaxed)
        // Releasing, for `wait`: the two words above are visible.
        missing.subtract(1, ordering: .releasing)
    }

    func wait() { waitUntil { missing.load(ordering: .acquiring) == 0 } }

    /// The Glibc module lacks sched_getcpu(3).
    private func currentCPU() -> Int {
        typealias Call = @convention(c) () -> CInt
        guard let symbol = dlsym(nil, "sched_getcpu") else { return -1 }
        return Int(unsafeBitCast(symbol, to: Call.self)())
    }
}

private func waitUntil(_ condition: () -> Bool) {
    let end = Instant.now.advanced(by: .seconds(300))
    while !condition() {
        if Instant.now > end {
            say("not done within 300 s")
            exit(1)
        }
        usleep(1_000)
    }
}

/// Each shard posts more to each other, and to itself, than it has nodes for, and fills its tables. So does the caller.
private func load(_ group: LoopGroup) {
    let posts = 1_500
    let ran = Counter()
    let end = Instant.now.advanced(by: .seconds(4))
    var round = 0
    while round < 3 || Instant.now < end {
        let fills = round < 3 ? round : nil
        for shard in group.shards {
            shard.post { shard in
                if let fills {
                    for number in 0..<500 { shard.loop.after(.seconds(3_600 + number)) { _, _ in } }
                    watch(atLeast: CInt(300 + 300 * fills), on: shard.loop)
                }
                for _ in 0..<posts {
                    for target in 0..<shard.group.count { shard.group.post(to: target) { _ in ran.add() } }
                }
            }
        }
        for _ in 0..<posts {
            for target in 0..<group.count { group.post(to: target) { _ in ran.add() } }
        }
        round += 1
        waitUntil { ran.value == round * posts * group.count * (group.count + 1) }
    }
}

private final class Counter: Sendable {
    private let count = Atomic<Int>(0)
    var value: Int { count.load(ordering: .acquiring) }
    func add() { count.add(1, ordering: .releasing) }
}

/// Watches a descriptor of a high number, so that the table of watchers gets another leaf. It stays open to the end.
private func watch(atLeast number: CInt, on loop: Loop) {
    var ends: [CInt] = [-1, -1]
    guard pipe(&ends) == 0 else { return say("no pipe: errno \(errno)") }
    let high = fcntl(ends[0], F_DUPFD_CLOEXEC, number)
    close(ends[0])
    do { try loop.watch(high, read: { _, _, _ in }) } catch { say("no watch of \(high): \(error)") }
}
