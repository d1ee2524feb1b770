import Glibc
import LinuxEvent
@testable import LinuxEventGroup
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("G10 Insight")
    struct GroupInsightTests {
        @Test("G10 the traffic from each shard to each, and from elsewhere, is counted exactly")
        func traffic() throws {
            let count = 3
            try withGroup(threads: count) { group in
                let channel = group.channel(of: Int.self) { _, _ in }
                var expected = [[UInt64]](repeating: [UInt64](repeating: 0, count: count), count: count + 1)
                for from in 0..<count {
                    let sent = Flag()
                    for to in 0..<count { expected[from][to] += UInt64(100 * from + 10 * to + 1 + 3) }
                    expected[count][from] += 1
                    group.post(to: from) { shard in
                        for to in 0..<count {
                            for _ in 0..<(100 * from + 10 * to + 1) { group.post(to: to) { _ in } }
                            channel.send(contentsOf: [1, 2], to: to)
                            channel.send(3, to: to)
                        }
                        sent.set()
                    }
                    #expect(eventually { sent.isSet })
                }
                #expect(eventually { group.traffic == expected }, "\(group.traffic), not \(expected)")
                #expect(group.metrics.map(\.tasks) == (0..<count).map { to in expected.map { $0[to] }.reduce(0, +) })
            }
        }

        @Test("G10 M5 values of several senders that lie in one row are counted for each, and their nodes go to each")
        func rows() throws {
            try withGroup(threads: 3) { group in
                let ran = Tally()
                let channel = group.channel(of: Int.self) { _, _ in ran.add() }
                for round in 1...50 {
                    let hold = Hold()
                    group.post(to: 0) { _ in hold.hold() }
                    #expect(hold.waitUntilHeld())
                    for number in 0..<90 {
                        let sent = Flag()
                        group.post(to: 1 + number % 2) { _ in
                            channel.send(number, to: 0)
                            sent.set()
                        }
                        #expect(eventually { sent.isSet })
                    }
                    hold.letGo()
                    #expect(eventually { ran.value == round * 90 })
                }
                // Each round: 45 from either, and the one that holds the shard from elsewhere.
                let expected: [UInt64] = [0, 45 * 50, 45 * 50, 50]
                #expect(eventually { group.traffic.map { $0[0] } == expected }, "\(group.traffic)")
            }
        }

        @Test("G10 how long posts take is known of some: neither less than they took, nor of none")
        func hopLatency() throws {
            try withGroup { group in
                #expect(group.metrics[0].hopLatency.quantile(0.5) == nil)
                for _ in 0..<1_000 { #expect(group.settle(0)) }
                let quick = group.metrics[0].hopLatency
                print("a post to a shard that sleeps: \(quick)")
                #expect(quick.count >= 50)
                #expect(quick.quantile(0)! > .zero)
                #expect(quick.quantile(0.5)! < .seconds(1))
                for _ in 0..<40 {
                    // In a timer's handler, so that the task that waits meanwhile may be the next to be timed.
                    let hold = Hold()
                    group.post(to: 0) { shard in shard.loop.after(.zero) { _, _ in hold.hold() } }
                    #expect(hold.waitUntilHeld())
                    group.post(to: 0) { _ in }
                    usleep(5_000)
                    hold.letGo()
                    #expect(group.settle(0))
                }
                let slow = group.metrics[0].hopLatency
                #expect(slow.count > quick.count)
                #expect(slow.quantile(1)! >= .milliseconds(5))
            }
        }

        @Test("G10 busy, spinning and sleeping time make up the shard's life")
        func times() throws {
            let begin = Clock.monotonic()
            try withGroup { group in
                let hold = Hold()
                let started = Clock.monotonic()
                group.post(to: 0) { _ in hold.hold(spinning: true) }
                #expect(hold.waitUntilHeld())
                usleep(50_000)
                hold.letGo()
                #expect(group.settle(0))
                usleep(50_000)
                let metrics = group.metrics[0]
                let sum = metrics.busyNanoseconds + metrics.spinningNanoseconds + metrics.sleepingNanoseconds
                #expect(sum <= Clock.monotonic() - begin)
                #expect(sum >= Clock.monotonic() - started - 50_000_000)
                #expect(metrics.sleepingNanoseconds >= 50_000_000)
                #expect(metrics.busyNanoseconds > 1_000_000)
            }
        }

        @Test("G10 a histogram's steps leave no gap, and are a quarter of a power of two wide")
        func steps() {
            for step in 0..<(LatencyHistogram.steps - 1) {
                let end = LatencyHistogram.end(of: step)
                #expect(LatencyHistogram.step(of: end) == step)
                #expect(LatencyHistogram.step(of: end + 1) == step + 1)
                if step > 4 {
                    let width = end - LatencyHistogram.end(of: step - 1)
                    #expect(Double(width) <= Double(end) * 0.25)
                }
            }
            #expect(LatencyHistogram.step(of: .max) == LatencyHistogram.steps - 1)
        }

        @Test("G10 a histogram's quantile is the step that so many times did not exceed")
        func quantiles() {
            var counts = [UInt64](repeating: 0, count: LatencyHistogram.steps)
            #expect(LatencyHistogram(counts: counts).quantile(0.5) == nil)
            for time in 1...100 { counts[LatencyHistogram.step(of: UInt64(time) * 1_000)] += 1 }
            let histogram = LatencyHistogram(counts: counts)
            #expect(histogram.count == 100)
            for percent in [1, 25, 50, 75, 99, 100] {
                let found = histogram.quantile(Double(percent) / 100)!
                #expect(found >= .microseconds(percent) && found <= .microseconds(percent) * 1.26, "\(percent) %")
            }
            #expect(histogram.quantile(0) == histogram.quantile(0.01))
        }
    }
}
