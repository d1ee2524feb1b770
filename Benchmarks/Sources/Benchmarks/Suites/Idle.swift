import CRaw
import Glibc
import LinuxEventGroup

enum IdleSuite: Suite {
    static let name = "idle"
    static let abstract = """
        What does a group without work use? CPU time of all its threads over a second, shards on all CPUs, by idle \
        policy, and how often any of them is switched in.
        """

    static let cases = [
        idle("sleep", .sleep), idle("adaptive", .adaptive),
    ]

    private static func idle(_ name: String, _ policy: IdlePolicy) -> Case {
        Case(
            name: name, operations: 10,
            readings: [.cost("ns CPU/s"), .note("switches", "switches", suffix: ".switches")], isPinned: false,
            isCold: true,
            subjects: [Subject(name: "linuxevent") { try run(policy, tenths: $0) }])
    }

    private static func run(_ policy: IdlePolicy, tenths: Int) throws -> Sample {
        let group = try LoopGroup(idle: policy)
        // Past whatever a shard does before it settles.
        usleep(300_000)
        let before = craw_process_cpu()
        let switchesBefore = try switches()
        usleep(UInt32(tenths) * 100_000)
        let used = craw_process_cpu() - before
        let switched = try switches() - switchesBefore
        try group.finish()
        // Per second.
        return Sample(
            operations: UInt64(tenths), nanoseconds: used * 10, notes: [("switches", UInt64(switched))])
    }

    private static func switches() throws -> Int {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        return usage.ru_nvcsw + usage.ru_nivcsw
    }
}
