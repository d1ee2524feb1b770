import ExampleSupport
import LinuxEvent
import LinuxEventGroup

/// Turns the group's metrics and the service's counters into a table, lines, or JSON.
final class Reporter {
    private let form: ServiceOptions.Report
    private let group: LoopGroup
    private let start = Instant.now
    private var lastTime = Instant.now
    private var last: [ShardMetrics]

    init(_ form: ServiceOptions.Report, _ group: LoopGroup) {
        self.form = form
        self.group = group
        last = group.metrics
    }

    /// One row a shard: what happened since the last report. Metrics are read while the shards run.
    func print(_ counters: [Int: EchoCounters]) {
        let now = Instant.now, metrics = group.metrics
        let seconds = max(lastTime.duration(to: now).seconds, 1e-9)
        func rate(_ new: UInt64, _ old: UInt64) -> String { (Double(new &- old) / seconds).fixed(0) }

        if form == .table {
            complain("  shard   cpu   conns    events/s     tasks/s     wakes/s  depth   hop p99     busy     spin")
        }
        for (new, old) in zip(metrics, last) {
            let open = counters[new.shard]?.open ?? 0
            let events = rate(new.events, old.events), tasks = rate(new.tasks, old.tasks)
            let wakes = rate(new.wakesSent, old.wakesSent)
            func share(_ new: UInt64, _ old: UInt64) -> String { (Double(new &- old) / seconds / 1e7).fixed(1) }
            let busy = share(new.busyNanoseconds, old.busyNanoseconds)
            let spin = share(new.spinningNanoseconds, old.spinningNanoseconds)
            let hop = new.hopLatency.quantile(0.99).map { ($0.seconds * 1e6).fixed(0) + " µs" } ?? "-"
            let cpu = new.cpu.map(String.init) ?? "-"
            switch form {
            case .table:
                let columns = [("\(new.shard)", 7), (cpu, 6), ("\(open)", 8), (events, 12), (tasks, 12)]
                let row = columns.map { $0.padded(to: $1) }.joined()
                let rest = [(wakes, 12), ("\(new.depthMax)", 7), (hop, 10), (busy + " %", 9), (spin + " %", 9)]
                complain(row + rest.map { $0.padded(to: $1) }.joined())
            case .lines:
                say(
                    "seconds=\(start.duration(to: now).seconds.fixed(1)) shard=\(new.shard) cpu=\(cpu)"
                        + " connections=\(open) events_per_second=\(events) tasks_per_second=\(tasks)"
                        + " wakes_per_second=\(wakes) busy_percent=\(busy) spin_percent=\(spin)")
            case .none: break
            }
        }
        lastTime = now
        last = metrics
    }

    /// The whole run, for people: what woke the shards, how long they took, and who sent to whom.
    func summary() {
        guard form == .table else { return }
        for shard in group.metrics {
            let turn = shard.longestTurnNanoseconds.map { (Double($0) / 1e6).fixed(1) + " ms" } ?? "-"
            complain(
                "shard \(shard.shard): \(shard.sleeps) sleeps = \(shard.wakesSent) wakes + \(shard.selfDisarms)"
                    + " self-disarms; \(shard.wakesSuppressed) wakes suppressed, \(shard.wakesSpurious) spurious;"
                    + " longest turn \(turn), \(shard.stalls) stalls")
            complain("         posts took \(shard.hopLatency)")
        }
        complain("posts and values, from each (row) to each (column):")
        for (from, row) in group.traffic.enumerated() {
            let name = from < group.count ? "\(from)" : "outside"
            complain(name.padded(to: 9) + row.map { "\($0)".padded(to: 10) }.joined())
        }
    }

    /// The whole run, for programs.
    func json(_ counters: [Int: EchoCounters]) -> String {
        let shards = group.metrics.map { shard in
            let echo = counters[shard.shard] ?? EchoCounters()
            let cpu = shard.cpu.map(String.init) ?? "null"
            return "{\"shard\":\(shard.shard),\"cpu\":\(cpu),\"connections\":\(echo.accepted)"
                + ",\"receives\":\(echo.receives),\"bytes\":\(echo.bytes),\"events\":\(shard.events)"
                + ",\"tasks\":\(shard.tasks),\"wakes\":\(shard.wakesSent),\"busy_ns\":\(shard.busyNanoseconds)"
                + ",\"spinning_ns\":\(shard.spinningNanoseconds)}"
        }
        return "{\"shards\":[\(shards.joined(separator: ","))]}"
    }
}
