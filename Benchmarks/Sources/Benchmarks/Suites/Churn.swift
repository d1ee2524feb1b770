import CRaw
import Glibc
import LinuxEvent

enum ChurnSuite: Suite {
    static let name = "churn"
    static let abstract = """
        What does it cost to begin, change and end interest? watch: 100 eventfds watched, a turn, unwatched, a turn. \
        pause: the interest of 100 watchers taken away in one turn and given back in the next. undone: both in the \
        same turn. oneshot: 100 ready descriptors armed again in each callback.
        """

    static let cases = [
        churn("watch", "pair/s", operations: 200_000, craw_churn_watch, watch),
        churn("pause", "change/s", operations: 400_000, craw_churn_pause, pause),
        churn("undone", "pair/s", operations: 400_000, craw_churn_undone, undone),
        churn("oneshot", "event/s", operations: 400_000, craw_churn_oneshot, oneshot),
    ]

    private static let count = 100

    private static func churn(
        _ name: String, _ unit: String, operations: Int,
        _ raw: @escaping @Sendable (CInt, UInt64, UnsafeMutablePointer<craw_result>?) -> CInt,
        _ own: @escaping @Sendable (Int) throws -> Sample
    ) -> Case {
        Case(
            name: name, operations: operations, readings: [.rate(unit)],
            subjects: [
                Subject(name: "raw") { operations in try rawSample { raw(CInt(count), UInt64(operations), $0) } },
                Subject(name: "linuxevent", run: own),
            ])
    }

    /// Rounds of a hundred operations each.
    private static func measure(
        _ operations: Int, counter: UInt32, begin: (Loop, CInt) throws -> Void = { _, _ in },
        round: (Loop, [CInt], Int) throws -> Void
    ) throws -> Sample {
        var descriptors = [CInt]()
        defer { for descriptor in descriptors { close(descriptor) } }
        for _ in 0..<count { descriptors.append(try check("eventfd", craw_eventfd(counter))) }
        let loop = try Loop()
        defer { try? loop.close() }
        for descriptor in descriptors { try begin(loop, descriptor) }
        let rounds = operations / count
        let start = craw_now()
        for number in 0..<rounds { try round(loop, descriptors, number) }
        let end = craw_now()
        return Sample(operations: UInt64(rounds * count), nanoseconds: end - start)
    }

    private static func ignore(_ loop: Loop, _ descriptor: CInt) throws {
        try loop.watch(descriptor, read: { _, _, _ in })
    }

    private static func watch(_ operations: Int) throws -> Sample {
        try measure(operations, counter: 0) { loop, descriptors, _ in
            for descriptor in descriptors { try loop.watch(descriptor, read: { _, _, _ in }) }
            try loop.runOnce(timeout: .zero)
            for descriptor in descriptors { try loop.unwatch(descriptor) }
            try loop.runOnce(timeout: .zero)
        }
    }

    /// In a turn, as a callback would; `count` watchers.
    private static func change(
        _ operations: Int, _ body: @escaping (_ watcher: Watcher, _ round: Int) throws -> Void
    ) throws -> Sample {
        var failure: (any Error)?
        let sample = try measure(operations, counter: 0, begin: ignore) { loop, descriptors, round in
            loop.defer { loop in
                do {
                    for descriptor in descriptors {
                        guard let watcher = loop.watcher(of: descriptor) else { throw Missing() }
                        try body(watcher, round)
                    }
                } catch { failure = error }
            }
            try loop.runOnce(timeout: .zero)
        }
        if let failure { throw failure }
        return sample
    }

    private static func pause(_ operations: Int) throws -> Sample {
        try change(operations) { watcher, round in
            if round & 1 == 0 { try watcher.disableRead() } else { try watcher.enableRead() }
        }
    }

    private static func undone(_ operations: Int) throws -> Sample {
        try change(operations) { watcher, _ in
            try watcher.disableRead()
            try watcher.enableRead()
        }
    }

    private static func oneshot(_ operations: Int) throws -> Sample {
        var events = 0
        let sample = try measure(
            operations, counter: 1,
            begin: { loop, descriptor in
                try loop.watch(
                    descriptor,
                    read: { _, _, watcher in
                        events += 1
                        _ = try? watcher.rearm()
                    }, oneshot: true)
            },
            round: { loop, _, _ in try loop.runOnce(timeout: .zero) })
        guard events == sample.operations else { throw Missing() }
        return sample
    }

    struct Missing: Error {}
}
