import CRaw
import Glibc
import LinuxEventGroup

enum PingPongSuite: Suite {
    static let name = "pingpong"
    static let abstract = """
        How long does it take to get an answer from another thread? asleep: both sleep until the other wakes them, \
        on one CPU or on two. spinning: both look at their mailbox. raw hands a number to and fro by eventfd and \
        epoll, or one node through mailboxes; raw-line is a number in a cache line, which is what the processor can \
        do; linuxevent sends a value of 24 bytes on a channel.
        """

    static let cases = [
        pair("asleep.onecpu", rounds: 20_000, [("raw", CRAW_HOP_ASLEEP)], idle: .sleep) { [$0[0], $0[0]] },
        pair("asleep.twocpus", rounds: 10_000, [("raw", CRAW_HOP_ASLEEP)], idle: .sleep) { $0 },
        pair("spinning.adaptive", rounds: 1_000_000, looking, idle: .adaptive) { $0 },
        pair("spinning.poll", rounds: 1_000_000, looking, idle: .poll) { $0 },
    ]

    private static let looking = [("raw", CRAW_HOP_MAILBOX), ("raw-line", CRAW_HOP_LINE)]

    private static func pair(
        _ name: String, rounds: Int, _ hops: [(name: String, hop: craw_hop)], idle: IdlePolicy,
        cpus: @escaping @Sendable (_ two: [CInt]) -> [CInt]
    ) -> Case {
        Case(
            name: name, operations: rounds, readings: [.cost("ns/round trip")], isPinned: false,
            subjects: hops.map { hop in
                Subject(name: hop.name) { rounds in
                    let cpus = try cpus(Harness.twoCPUs())
                    return try rawSample { craw_pingpong(UInt64(rounds), hop.hop, cpus, $0) }
                }
            } + [Subject(name: "linuxevent") { try run($0, idle, cpus(Harness.twoCPUs()).map(Int.init)) }])
    }

    /// A value of 24 bytes goes to and fro on a channel.
    private static func run(_ rounds: Int, _ idle: IdlePolicy, _ cpus: [Int]) throws -> Sample {
        let group = try LoopGroup(placement: .listed(cpus), idle: idle)
        let finish = try Finish()
        defer { finish.close() }
        let times: UnsafeMutablePointer<UInt64> = Apart.allocate(2)
        times.initialize(repeating: 0, count: 2)
        defer { times.deallocate() }
        let end = Times(times: times)
        let route = Route()
        let channel = group.channel(of: Ball.self) { shard, ball in
            if shard.index == 1 {
                route.send(ball, to: 0)
            } else if ball.left > 0 {
                route.send(Ball(left: ball.left - 1, more: ball.more), to: 1)
            } else {
                end.times[1] = craw_now()
                finish.signal()
            }
        }
        route.open(channel)
        group.post(to: 0) { _ in
            end.times[0] = craw_now()
            route.send(Ball(left: rounds - 1, more: (0, 0)), to: 1)
        }
        finish.wait()
        let notes = group.notes
        try group.finish()
        return Sample(operations: UInt64(rounds), nanoseconds: times[1] - times[0], notes: notes)
    }

    private struct Ball {
        let left: Int
        let more: (Int, Int)
    }

    private struct Times: @unchecked Sendable {
        let times: UnsafeMutablePointer<UInt64>
    }

    /// The channel, for its own handler. Written once, before the first value is sent.
    private final class Route: @unchecked Sendable {
        private var channel: Channel<Ball>?

        func open(_ channel: Channel<Ball>) { self.channel = channel }

        func send(_ ball: Ball, to index: Int) { channel?.send(ball, to: index) }
    }
}
