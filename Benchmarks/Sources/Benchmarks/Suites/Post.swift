import CRaw
import Glibc
import LinuxEventGroup

enum PostSuite: Suite {
    static let name = "post"
    static let abstract = """
        What does a post from one thread to another cost? closure: tasks that capture; raw allocates a node per \
        task, raw-recycled takes its nodes from a pool. channel: values of 24 bytes; raw takes its nodes from a \
        pool. 1to1: one shard to another; 4to1: four to one; alltoall: two to each other, 64 a turn. batch16: 16 \
        published at once.
        """

    static let cases = [
        Case(
            name: "closure.1to1", operations: 5_000_000, readings: [.rate("post/s")], isPinned: false,
            subjects: [
                Subject(name: "raw") { try raw(CRAW_NODES_MALLOC, posts: $0, allToAll: false) },
                Subject(name: "raw-recycled") { try raw(CRAW_NODES_RECYCLED, posts: $0, allToAll: false) },
                Subject(name: "linuxevent") { try Exchange.run(posts: $0, allToAll: false) },
            ]),
        Case(
            name: "closure.alltoall", operations: 5_000_000, readings: [.rate("post/s")], isPinned: false,
            subjects: [
                Subject(name: "raw") { try raw(CRAW_NODES_MALLOC, posts: $0, allToAll: true) },
                Subject(name: "raw-recycled") { try raw(CRAW_NODES_RECYCLED, posts: $0, allToAll: true) },
                Subject(name: "linuxevent") { try Exchange.run(posts: $0, allToAll: true) },
            ]),
        channelToOne("channel.1to1", senders: 1, batch: 1),
        channelToOne("channel.batch16.1to1", senders: 1, batch: 16),
        channelToOne("channel.4to1", senders: 4, batch: 1),
        channelToOne("channel.batch16.4to1", senders: 4, batch: 16),
        Case(
            name: "channel.alltoall", operations: 5_000_000, readings: [.rate("value/s")], isPinned: false,
            subjects: [
                Subject(name: "raw") { try raw(CRAW_NODES_RECYCLED, posts: $0, allToAll: true) },
                Subject(name: "linuxevent") { try ChannelExchange.allToAll(values: $0) },
            ]),
    ]

    private static func channelToOne(_ name: String, senders: Int, batch: Int) -> Case {
        Case(
            name: name, operations: 5_000_000, readings: [.rate("value/s")], isPinned: false,
            subjects: [
                Subject(name: "raw") {
                    try raw(CRAW_NODES_RECYCLED, posts: $0, allToAll: false, senders: senders, batch: batch)
                },
                Subject(name: "linuxevent") { try ChannelExchange.toOne(values: $0, senders: senders, batch: batch) },
            ])
    }

    static let burst = 64
    /// Posts under way at most, so that a fast producer is not measured by the memory it fills.
    static let window = 100_000

    private static func raw(
        _ nodes: craw_nodes, posts: Int, allToAll: Bool, senders: Int = 1, batch: Int = 1
    ) throws -> Sample {
        // As a group hands them out: in turn.
        let allowed = try Harness.allowedCPUs()
        let cpus = (0...senders).map { allowed[$0 % allowed.count] }
        var result = craw_result()
        let failure =
            allToAll
            ? craw_queue_all_to_all(nodes, UInt64(posts), UInt64(burst), UInt64(window), cpus, &result)
            : craw_queue_to_one(
                nodes, CInt(senders), UInt64(posts), UInt64(batch), UInt64(window), cpus, &result)
        try check("raw", failure)
        return Sample(result)
    }
}

/// One side's progress; only its own shard touches it, but for `consumed`, which the other side reads.
private struct Side {
    var toSend = 0
    var toReceive = 0
    var sent = 0
    var received = 0
    var sum = 0
    var knownConsumed = 0
    var start: UInt64 = 0
    var end: UInt64 = 0
    let consumed: OpaquePointer
    /// Each side writes to its own lines.
    private let behind = InlineArray<16, UInt64>(repeating: 0)

    init(consumed: OpaquePointer) { self.consumed = consumed }
}

/// Both sides of one run: a value that closures capture without a reference count.
private struct Exchange: @unchecked Sendable {
    private let sides: UnsafeMutablePointer<Side>
    private let finish: Finish

    static func run(posts: Int, allToAll: Bool) throws -> Sample {
        let group = try LoopGroup(threads: 2)
        let exchange = try Exchange()
        defer { exchange.free() }
        let half = allToAll ? posts / 2 : posts
        exchange.sides[0].toSend = half
        exchange.sides[1].toReceive = half
        if allToAll {
            exchange.sides[1].toSend = half
            exchange.sides[0].toReceive = half
        }
        let before = group.wakes
        for index in 0..<2 { group.post(to: index) { shard in exchange.begin(shard, group, allToAll: allToAll) } }
        exchange.finish.wait(times: allToAll ? 2 : 1)
        let start = min(exchange.sides[0].start, exchange.sides[1].start)
        let end = max(exchange.sides[0].end, exchange.sides[1].end)
        let sample = Sample(
            operations: UInt64(exchange.sides[0].received + exchange.sides[1].received), nanoseconds: end - start,
            notes: [("wakes", group.wakes - before), ("turns", group.turns)])
        try group.finish()
        for index in 0..<2 {
            let count = exchange.sides[index].toReceive
            // Each value came once: their sum says so.
            guard exchange.sides[index].sum == count * max(count - 1, 0) / 2 else { throw Failure.lost(index) }
        }
        return sample
    }

    enum Failure: Error { case lost(Int) }

    private init() throws {
        finish = try Finish()
        sides = Apart.allocate(2)
        for index in 0..<2 {
            guard let consumed = craw_counter_make() else { fatalError("out of memory") }
            (sides + index).initialize(to: Side(consumed: consumed))
        }
    }

    private func free() {
        for index in 0..<2 { craw_counter_free(sides[index].consumed) }
        sides.deallocate()
        finish.close()
    }

    private func begin(_ shard: Shard, _ group: LoopGroup, allToAll: Bool) {
        let own = sides + shard.index
        own.pointee.start = craw_now()
        if allToAll {
            sendBurstPerTurn(shard, group)
        } else {
            while own.pointee.sent < own.pointee.toSend {
                while !windowIsOpen(shard.index) { craw_pause() }
                sendBurst(from: shard.index, group)
            }
        }
    }

    private func sendBurstPerTurn(_ shard: Shard, _ group: LoopGroup) {
        if windowIsOpen(shard.index) { sendBurst(from: shard.index, group) }
        if sides[shard.index].sent < sides[shard.index].toSend {
            shard.post { shard in sendBurstPerTurn(shard, group) }
        }
    }

    private func windowIsOpen(_ index: Int) -> Bool {
        let own = sides + index
        if own.pointee.sent + PostSuite.burst - own.pointee.knownConsumed <= PostSuite.window { return true }
        own.pointee.knownConsumed = Int(craw_counter_read(sides[1 - index].consumed))
        return own.pointee.sent + PostSuite.burst - own.pointee.knownConsumed <= PostSuite.window
    }

    private func sendBurst(from index: Int, _ group: LoopGroup) {
        let own = sides + index
        let target = 1 - index
        let end = min(own.pointee.sent + PostSuite.burst, own.pointee.toSend)
        while own.pointee.sent < end {
            let value = own.pointee.sent
            let receiver = sides + target
            let task = Receipt(side: receiver, finish: finish)
            group.post(to: target) { _ in task.receive(value) }
            own.pointee.sent += 1
        }
    }
}

/// What a posted closure captures beside its value.
private struct Receipt: @unchecked Sendable {
    let side: UnsafeMutablePointer<Side>
    let finish: Finish

    func receive(_ value: Int) {
        side.pointee.sum &+= value
        side.pointee.received += 1
        if side.pointee.received & 255 == 0 {
            craw_counter_publish(side.pointee.consumed, UInt64(side.pointee.received))
        }
        guard side.pointee.received == side.pointee.toReceive else { return }
        side.pointee.end = craw_now()
        finish.signal()
    }
}
