import ArgumentParser
import CRaw
import Glibc
import LinuxEventGroup

/// How long does it take to get an answer from another shard?
enum PingPongSuite: Suite {
    static let name = "pingpong"

    static let cases = [
        pair("asleep.onecpu", rounds: 20_000, sleeps: true, idle: .sleep) { [$0[0], $0[0]] },
        pair("asleep.twocpus", rounds: 10_000, sleeps: true, idle: .sleep) { [$0[0], $0[$0.count - 1]] },
        pair("spinning.adaptive", rounds: 1_000_000, sleeps: false, idle: .adaptive) { [$0[0], $0[$0.count - 1]] },
        pair("spinning.poll", rounds: 1_000_000, sleeps: false, idle: .poll) { [$0[0], $0[$0.count - 1]] },
    ]

    private static func pair(
        _ name: String, rounds: Int, sleeps: Bool, idle: IdlePolicy,
        cpus: @escaping @Sendable (_ allowed: [CInt]) -> [CInt]
    ) -> Case {
        Case(
            name: name, unit: "round trip/s", operations: rounds, cpu: nil,
            subjects: [
                Subject(name: "raw") { rounds in
                    var result = craw_result()
                    try check(
                        "raw", craw_pingpong(UInt64(rounds), sleeps ? 1 : 0, cpus(Harness.allowedCPUs()), &result))
                    return Sample(
                        operations: result.operations, nanoseconds: result.nanoseconds,
                        notes: [("wakes", result.wakes), ("turns", result.turns)])
                },
                Subject(name: "linuxevent") { try run($0, idle, cpus(Harness.allowedCPUs()).map(Int.init)) },
            ])
    }

    /// A value of 24 bytes goes to and fro on a channel.
    private static func run(_ rounds: Int, _ idle: IdlePolicy, _ cpus: [Int]) throws -> Sample {
        let group = try LoopGroup(placement: .listed(cpus), idle: idle)
        let finished = try check("eventfd", craw_semaphore())
        defer { close(finished) }
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
                var one: UInt64 = 1
                _ = write(finished, &one, 8)
            }
        }
        route.open(channel)
        group.post(to: 0) { _ in
            end.times[0] = craw_now()
            route.send(Ball(left: rounds - 1, more: (0, 0)), to: 1)
        }
        var count: UInt64 = 0
        while read(finished, &count, 8) != 8 {}
        let metrics = group.metrics
        guard try group.stop(deadline: .seconds(5)).isComplete else { throw Failure.stop }
        return Sample(
            operations: UInt64(rounds), nanoseconds: times[1] - times[0],
            notes: [
                ("wakes", metrics.reduce(0) { $0 + $1.wakesSent }), ("turns", metrics.reduce(0) { $0 + $1.turns }),
            ])
    }

    private enum Failure: Error { case stop }

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

struct PingPongCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pingpong",
        abstract: "Round trips between two threads, asleep or looking.",
        discussion: """
            raw hands one number to and fro: both threads sleep in epoll_wait until the other writes to their \
            eventfd, or both look at a cache line. linuxevent sends a value of 24 bytes to and fro on a channel.
            """)
    @OptionGroup var options: RunOptions

    func run() throws { try options.run(PingPongSuite.self) }
}
