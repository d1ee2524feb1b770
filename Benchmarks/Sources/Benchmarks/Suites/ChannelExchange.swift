import CRaw
import Glibc
import LinuxEventGroup

/// One sender's progress. The sender writes the first part, the receiver the second, on lines of their own.
private struct Lane {
    var toSend = 0
    var sent = 0
    var knownConsumed = 0
    var window = 0
    /// The receiver's word, where the sender finds it without touching the receiver's lines.
    let known: OpaquePointer
    private let apart = InlineArray<16, UInt64>(repeating: 0)
    var received = 0
    var sum = 0
    let consumed: OpaquePointer
    let receiver: UnsafeMutablePointer<Receiver>
    private let behind = InlineArray<16, UInt64>(repeating: 0)
}

extension Lane {
    init(toSend: Int, window: Int, receiver: UnsafeMutablePointer<Receiver>) {
        guard let consumed = craw_counter_make() else { fatalError("out of memory") }
        self.toSend = toSend
        self.window = window
        self.consumed = consumed
        known = consumed
        self.receiver = receiver
    }
}

private struct Receiver {
    var toReceive = 0
    var received = 0
    var end: UInt64 = 0
    private let behind = InlineArray<16, UInt64>(repeating: 0)
}

/// What travels: 24 bytes, as in the raw program.
private struct Parcel: @unchecked Sendable {
    let lane: UnsafeMutablePointer<Lane>
    let value: Int
    let more: Int

    @inline(__always) func arrive(_ finish: Finish) {
        lane.pointee.sum &+= value
        lane.pointee.received &+= 1
        if lane.pointee.received & 255 == 0 {
            craw_counter_publish(lane.pointee.consumed, UInt64(lane.pointee.received))
        }
        let receiver = lane.pointee.receiver
        receiver.pointee.received &+= 1
        guard receiver.pointee.received == receiver.pointee.toReceive else { return }
        receiver.pointee.end = craw_now()
        finish.signal()
    }
}

/// Values from shard to shard on a channel.
struct ChannelExchange: @unchecked Sendable {
    private let group: LoopGroup
    private let channel: Channel<Parcel>
    private let lanes: UnsafeMutablePointer<Lane>
    private let receivers: UnsafeMutablePointer<Receiver>
    private let finish: Finish
    private let batch: Int

    enum Failure: Error { case lost(Int) }

    /// Shards 1 to `senders` send to shard 0, `batch` at a time.
    static func toOne(values: Int, senders: Int, batch: Int) throws -> Sample {
        let exchange = try ChannelExchange(shards: senders + 1, batch: batch)
        let share = values / senders
        exchange.receivers[0].toReceive = share * senders
        for index in 1...senders {
            (exchange.lanes + index).initialize(
                to: Lane(toSend: share, window: PostSuite.window / senders, receiver: exchange.receivers))
        }
        return try exchange.run(from: 1...senders, to: 1) { shard in
            while !exchange.isThrough(shard.index) {
                while !exchange.windowIsOpen(shard.index) {
                    if senders > 1 { sched_yield() } else { craw_pause() }
                }
                exchange.sendBurst(from: shard.index, to: 0)
            }
        }
    }

    /// Two shards send to each other, a burst a turn.
    static func allToAll(values: Int) throws -> Sample {
        let exchange = try ChannelExchange(shards: 2, batch: 1)
        for index in 0..<2 {
            exchange.receivers[1 - index].toReceive = values / 2
            (exchange.lanes + index).initialize(
                to: Lane(toSend: values / 2, window: PostSuite.window, receiver: exchange.receivers + (1 - index)))
        }
        return try exchange.run(from: 0...1, to: 2) { shard in exchange.sendBurstPerTurn(shard) }
    }

    private init(shards: Int, batch: Int) throws {
        let finish = try Finish()
        group = try LoopGroup(threads: shards)
        channel = group.channel(of: Parcel.self) { _, parcel in parcel.arrive(finish) }
        lanes = Apart.allocate(shards)
        receivers = Apart.allocate(2)
        receivers.initialize(repeating: Receiver(), count: 2)
        self.finish = finish
        self.batch = batch
    }

    private func run(
        from senders: ClosedRange<Int>, to receiving: Int, _ body: @escaping @Sendable (Shard) -> Void
    ) throws -> Sample {
        defer {
            for index in senders { craw_counter_free(lanes[index].consumed) }
            lanes.deallocate()
            receivers.deallocate()
            finish.close()
        }
        let before = group.wakes
        let start = craw_now()
        for index in senders { group.post(to: index, body) }
        finish.wait(times: receiving)
        let notes = [("wakes", group.wakes - before), ("turns", group.turns)]
        let end = max(receivers[0].end, receivers[1].end)
        try group.finish()
        var operations = 0
        for index in senders {
            let count = lanes[index].toSend
            operations += count
            // Each value came once: their sum says so.
            guard lanes[index].sum == count * max(count - 1, 0) / 2 else { throw Failure.lost(index) }
        }
        return Sample(
            operations: UInt64(operations), nanoseconds: end - start,
            notes: notes)
    }

    private func isThrough(_ index: Int) -> Bool { lanes[index].sent >= lanes[index].toSend }

    private func windowIsOpen(_ index: Int) -> Bool {
        let lane = lanes + index
        if lane.pointee.sent + PostSuite.burst - lane.pointee.knownConsumed <= lane.pointee.window { return true }
        lane.pointee.knownConsumed = Int(craw_counter_read(lane.pointee.known))
        return lane.pointee.sent + PostSuite.burst - lane.pointee.knownConsumed <= lane.pointee.window
    }

    private func sendBurstPerTurn(_ shard: Shard) {
        if windowIsOpen(shard.index) { sendBurst(from: shard.index, to: 1 - shard.index) }
        if !isThrough(shard.index) { shard.post { shard in sendBurstPerTurn(shard) } }
    }

    private func sendBurst(from index: Int, to target: Int) {
        let lane = lanes + index
        let end = min(lane.pointee.sent + PostSuite.burst, lane.pointee.toSend)
        while lane.pointee.sent < end {
            if batch == 1 {
                channel.send(Parcel(lane: lane, value: lane.pointee.sent, more: 0), to: target)
                lane.pointee.sent += 1
            } else {
                let count = min(batch, end - lane.pointee.sent)
                let first = lane.pointee.sent
                channel.send(
                    contentsOf: (0..<count).map { Parcel(lane: lane, value: first + $0, more: $0) }, to: target)
                lane.pointee.sent += count
            }
        }
    }
}
