import CLinux
import Glibc
import LinuxEvent
import LinuxEventGroup

// What a process sees of its place in the machine, for tests that put it there.

let arguments = CommandLine.arguments.dropFirst()
switch arguments.first {
case "plan": try printPlan()
case "start": try start()
case "upkeep": try upkeep(seconds: number(1) ?? 1, repairs: number(2).map(UInt64.init) ?? .max)
case "memory": try printMemory(rounds: number(1) ?? 1)
case "nodes": try printNodes(arguments.dropFirst().first ?? "automatic")
case "no-memory-calls": try withoutMemoryCalls()
default:
    say(
        "usage: plan-fixture plan | start | upkeep SECONDS [REPAIRS] | memory [ROUNDS] | nodes [PLACEMENT] | "
            + "no-memory-calls")
}

/// A line at once, whole.
func say(_ text: Any) {
    let line = "\(text)\n"
    _ = write(1, line, line.utf8.count)
}

func printPlan() throws {
    say(try LoopGroup.plan())
}

/// What the shards' threads really may run on.
func start() throws {
    let group = try LoopGroup()
    for shard in group.shards {
        shard.post { shard in
            var cpus = [CInt](repeating: 0, count: 1024)
            let count = clinux_affinity_get(&cpus, 1024)
            say("shard \(shard.index) may run on \(cpus.prefix(Int(count)).map(String.init).joined(separator: ","))")
        }
    }
    try group.stop(deadline: .seconds(5))
}

/// An argument after the first.
func number(_ place: Int) -> Int? { arguments.dropFirst(place).first.flatMap { Int($0) } }

/// Keeps a shard per CPU busy, and says each time one has moved, until they have done so often enough.
func upkeep(seconds: Int, repairs: UInt64) throws {
    let group = try LoopGroup()
    say("ready")
    var last: [String] = []
    let end = Instant.now.advanced(by: .seconds(seconds))
    var count: UInt64 = 0
    while Instant.now < end, count < repairs {
        for shard in group.shards { shard.post { _ in } }
        usleep(5_000)
        let metrics = group.metrics
        let lines = metrics.map {
            "shard \($0.shard): CPU \($0.cpu.map(String.init) ?? "-"), \($0.affinityRepairs) repairs"
        }
        for line in lines where !last.contains(line) { say(line) }
        last = lines
        count = metrics.reduce(0) { $0 + $1.affinityRepairs }
    }
    try group.stop(deadline: .seconds(5))
}

/// Where the memory of a group lies, after each shard has used all of its tables. From the second round on, heaps are
/// used again by shards of other nodes.
func printMemory(rounds: Int) throws {
    for round in 0..<rounds {
        let cpus = try LoopGroup.plan(placement: .spread).shards.compactMap(\.cpu)
        let listed = (0..<max(3, cpus.count)).map { cpus[($0 + round) % cpus.count] }
        let group = try LoopGroup(placement: .listed(listed)) { shard in
            for number in 0..<1_000 { shard.loop.after(.seconds(60 + number)) { _, _ in } }
            for number in 0..<1_000 { shard.group.post(to: (shard.index + number) % shard.group.count) { _ in } }
        }
        let report = try group.memoryReport()
        for memory in report { say(memory) }
        let pages = report.reduce(0) { $0 + $1.pages.count }
        let different = report.reduce(into: Set<UInt>()) { $0.formUnion($1.pages) }
        say("\(pages - different.count) pages shared")
        try group.stop(deadline: .seconds(5))
    }
}

/// As a container without the right to choose memory: every such call fails with EPERM.
func withoutMemoryCalls() throws {
    guard refuseMemoryCalls() else { return say("no filter: errno \(errno)") }
    say("policy: \(clinux_memory_policy() == -EPERM ? "EPERM" : "allowed")")
    let group = try LoopGroup(threads: 2)
    for memory in try group.memoryReport() { say(memory) }
    let report = try group.stop(deadline: .seconds(5))
    say(report.isComplete ? "complete" : "\(report)")
}

/// A filter of system calls: seccomp(2), in the kernel's small machine language.
func refuseMemoryCalls() -> Bool {
    struct Step {
        var code: UInt16
        var ifTrue: UInt8 = 0
        var ifFalse: UInt8 = 0
        var value: UInt32
    }
    struct Program {
        var count: UInt16
        var steps: UnsafeMutablePointer<Step>
    }
    #if arch(x86_64)
    let calls: [UInt32] = [237, 238, 239, 256, 279]  // mbind, set_mempolicy, get_mempolicy, migrate_pages, move_pages
    #else
    let calls: [UInt32] = [235, 236, 237, 238, 239]  // mbind, get_mempolicy, set_mempolicy, migrate_pages, move_pages
    #endif
    var steps = [Step(code: 0x20, value: 0)]  // load the call's number
    for (index, call) in calls.enumerated() {
        steps.append(Step(code: 0x15, ifTrue: UInt8(calls.count - index), value: call))  // if equal, to the last step
    }
    steps.append(Step(code: 0x06, value: 0x7fff_0000))  // allow
    steps.append(Step(code: 0x06, value: 0x0005_0000 | UInt32(EPERM)))  // refuse
    // It takes any number of arguments, so Swift does not import it.
    typealias Control = @convention(c) (CInt, UInt, UInt, UInt, UInt) -> CInt
    guard let symbol = dlsym(nil, "prctl") else { return false }
    let prctl = unsafeBitCast(symbol, to: Control.self)
    guard prctl(38, 1, 0, 0, 0) == 0 else { return false }  // PR_SET_NO_NEW_PRIVS
    return steps.withUnsafeMutableBufferPointer { steps in
        var program = Program(count: UInt16(steps.count), steps: steps.baseAddress!)
        return withUnsafeMutablePointer(to: &program) { prctl(22, 2, UInt(bitPattern: $0), 0, 0) == 0 }
    }
}
