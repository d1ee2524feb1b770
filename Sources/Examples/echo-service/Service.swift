import ExampleSupport
import Glibc
import LinuxEvent
import LinuxEventGroup

/// The main thread's part: starts the shards, tells what they do, and stops them when a signal comes. It runs a loop
/// of its own; the connections are the shards' business alone.
final class Service {
    static let stopSignals = [SIGINT, SIGTERM]

    private let options: ServiceOptions
    private let loop: Loop
    private let group: LoopGroup
    private let inbox: Inbox
    private let peers: ShardLocal<EchoShard>
    private let listener: Listener
    private let listening: [CInt]
    private let reporter: Reporter
    private var isAwaitingAnswers = false
    private var isStopping = false

    init(_ options: ServiceOptions) throws {
        self.options = options
        raiseDescriptorLimit()
        loop = try Loop()
        // Whatever needs a descriptor comes before the first client, who might take the last one. The handlers that
        // do something follow in `run`; these hold the signals until then.
        for number in Service.stopSignals { try loop.signal(number) { _, _ in } }
        inbox = Inbox(waker: loop.waker)

        guard let wanted = Address(host: options.host, port: options.port) else {
            fail("echo-service", "\(options.host) is not an address of this or any host")
        }
        let (reserved, address): (CInt, Address)
        do {
            (reserved, address) = try reserve(wanted)
        } catch {
            fail("echo-service", "cannot listen on \(wanted): \(error)")
        }

        let watchdog = options.stallLimit.map { limit in
            WatchdogOptions(limit: limit) { complain("echo-service: \($0)") }
        }
        group = try LoopGroup(threads: options.threads, idle: options.idle, watchdog: watchdog, name: "echo")
        let peers = try group.local { shard in EchoShard(shard) }
        self.peers = peers
        let distribution: Distribution
        if options.mode == .kernel {
            listening = try group.shards.map { _ in try ExampleSupport.listen(beside: address) }
            distribution = .perShard(listening)
            closeDescriptor(reserved)  // it held the port until the others had it
        } else {
            try startListening(reserved)
            listening = [reserved]
            distribution = options.mode == .hash ? .hash(reserved) : .leastOfTwo(reserved)
        }
        listener = try group.listen(
            distribution, notice: { shard, notice in complain("echo-service: shard \(shard.index): \(notice)") }
        ) { shard, accepted in
            peers[shard].adopt(accepted)
        }
        reporter = Reporter(options.report, group)
        say("shards: \(group.count)")
        say("listening on \(address)")
    }

    func run() throws {
        loop.onWake { [unowned self] _ in hear() }
        for number in Service.stopSignals { try loop.signal(number) { [unowned self] _, _ in stop() } }
        if options.report != .none { try loop.every(options.interval) { [unowned self] _, _ in tick() } }
        try loop.run()

        let counters = inbox.counters
        let report = try group.stop(deadline: .seconds(5))
        say("\(report)")
        reporter.summary()
        if options.json { say(reporter.json(counters)) }
    }

    // MARK: Reports

    /// Asks every shard for its counters. What they answer is printed when the last one did, or, where a shard is
    /// held up, with the next tick.
    private func tick() {
        if isAwaitingAnswers { reporter.print(inbox.counters) }
        isAwaitingAnswers = true
        for shard in group.shards where inbox.ask(shard.index) {
            let (inbox, peers) = (inbox, peers)
            shard.post { shard in inbox.answer(peers[shard].counters, from: shard.index) }
        }
    }

    private func hear() {
        if isAwaitingAnswers && inbox.isAnswered {
            isAwaitingAnswers = false
            reporter.print(inbox.counters)
        }
        if isStopping && inbox.endedCount == group.count { loop.stop() }
    }

    // MARK: Stopping

    private func stop() {
        complain(isStopping ? "closing all connections" : "stopping: \(options.grace) for open connections")
        if isStopping { return Self.stopShards(group.shards, inbox, peers, grace: options.grace) }
        isStopping = true
        // A shard that is stuck must not keep the service for ever: the group's own stop has a deadline too.
        loop.after(options.grace + .seconds(1)) { loop, _ in loop.stop() }
        // Who has been let in by the kernel is served.
        let (shards, inbox, peers, listening, grace) = (group.shards, inbox, peers, listening, options.grace)
        listener.drain { _ in
            for descriptor in listening { closeDescriptor(descriptor) }
            Self.stopShards(shards, inbox, peers, grace: grace)
        }
    }

    private static func stopShards(
        _ shards: [ShardReference], _ inbox: Inbox, _ peers: ShardLocal<EchoShard>, grace: Duration
    ) {
        for shard in shards {
            let result = shard.post { shard in
                peers[shard].stop(grace: grace) { echo in inbox.end(echo.counters, from: echo.shard.index) }
            }
            if !result.isPosted { inbox.end(nil, from: shard.index) }
        }
    }
}
