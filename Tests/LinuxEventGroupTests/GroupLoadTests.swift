import Glibc
import LinuxEvent
import LinuxEventGroup
import TestSupport
import Testing

/// The group under the load of a whole service. LINUX_EVENT_LONG=1 keeps it up for a minute each.
extension LinuxEventGroupSuite {
    @Suite("G5 M1 Under load")
    struct GroupLoadTests {
        private static let seconds = Effort.isLong ? 60 : 2

        @Test("G4 G5 connections of a load generator move at random all the time: each byte comes back, in order")
        func movedUnderLoad() throws {
            let connections = Effort.isLong ? 1_000 : 200
            let load = try #require(Build.program("echo-load"))
            let open = Tally()
            let ended = Tally()
            try withGroup(threads: 3) { group in
                // Gone with the group: a handle keeps what it takes to post to its shard.
                let watchers = Log<GroupWatcher>()
                let socket = ListeningSocket()
                let listener = try group.listen(.hash(socket.descriptor)) { _, accepted in
                    let descriptor = accepted.descriptor
                    let result = group.watch(
                        descriptor, data: Echo(accepted),
                        read: { _, descriptor, watcher, echo in
                            guard !echo.echoes(descriptor) else { return }
                            watcher.cancel()
                            close(descriptor)
                            ended.add()
                        })
                    if let watcher = result.watcher { watchers.add(watcher) }
                    open.add()
                }
                let helper = HelperProcess(
                    load,
                    [
                        "--port", "\(socket.port)", "--connections", "\(connections)", "--seconds", "\(Self.seconds)",
                        "--pipeline", "4", "--quiet", "--json",
                    ])
                #expect(eventually(seconds: Rounds.patience) { open.value == connections })
                var random = SeededGenerator()
                let moved = Tally()
                let all = watchers.all
                while ended.value == 0 {
                    let watcher = all[Int.random(in: 0..<all.count, using: &random)]
                    watcher.move(to: group[Int.random(in: 0..<3, using: &random)]) { _, result in
                        if case .success = result { moved.add() }
                    }
                    usleep(100)
                }
                let outcome = helper.end(withinSeconds: Self.seconds + 60)
                print("\(moved.value) moves, seed \(random.seed): \(outcome.output)")
                #expect(outcome.exitCode == 0, "\(outcome)")
                #expect(outcome.output.contains("\"errors\":0") && outcome.output.contains("\"mismatches\":0"))
                #expect(moved.value > 500)
                #expect(eventually(seconds: Rounds.patience) { ended.value == connections })
                listener.cancel()
                #expect(eventually { group.metrics.map(\.watchers).reduce(0, +) == 0 })
                withExtendedLifetime(socket) {}
            }
        }

        /// One connection; its end takes it off the load.
        private final class Echo {
            private let accepted: Accepted
            private var buffer = [UInt8](repeating: 0, count: 16_384)

            init(_ accepted: consuming Accepted) { self.accepted = accepted }

            /// Sends back what is there; false at the end of it.
            func echoes(_ descriptor: CInt) -> Bool {
                let received = read(descriptor, &buffer, buffer.count)
                if received < 0 { return errno == EAGAIN || errno == EINTR }
                var sent = 0
                while sent < received {
                    let count = buffer[sent..<received].withUnsafeBytes {
                        send(descriptor, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
                    }
                    if count < 0 && errno != EAGAIN && errno != EINTR { return false }
                    sent += max(0, count)
                }
                return received > 0
            }
        }

        /// Six words that are made from one number, so that a torn or foreign value shows.
        private struct Patterned {
            let words: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64)

            init(from: Int, number: Int) {
                let seed = UInt64(from) << 48 | UInt64(number)
                words = (seed, ~seed, seed &* 3, seed ^ 0x5555, seed &+ 0x1234_5678, seed.byteSwapped)
            }

            var from: Int { Int(words.0 >> 48) }
            var number: Int { Int(words.0 & 0xffff_ffff_ffff) }
            var isWhole: Bool {
                let seed = words.0
                return words.1 == ~seed && words.2 == seed &* 3 && words.3 == seed ^ 0x5555
                    && words.4 == seed &+ 0x1234_5678 && words.5 == seed.byteSwapped
            }
        }

        @Test("M1 M2 M4 M5 all shards send to all, four to a CPU: no value is lost, torn, doubled or out of order")
        func allToAllOversubscribed() throws {
            let count = 4 * (try LoopGroup.plan().shards.count)
            let wrong = Tally()
            let received = Tally()
            let sent = Tally()
            try withGroup(threads: count) { group in
                // By receiver and sender; each row is its shard's.
                let next = PlainMemory(count * count, 0)
                defer { next.free() }
                let channel = group.channel(of: Patterned.self) { shard, value in
                    let place = shard.index * count + value.from
                    if !value.isWhole || next[place] != value.number { wrong.add() }
                    next[place] = value.number + 1
                    received.add()
                }
                let deadline = Clock.monotonic() + UInt64(Self.seconds) * 1_000_000_000
                @Sendable func go(_ shard: Shard, _ number: Int) {
                    for to in 0..<count {
                        for more in 0..<8 {
                            if !channel.send(Patterned(from: shard.index, number: number + more), to: to).isSent {
                                wrong.add()
                            }
                        }
                    }
                    sent.add(8 * count)
                    guard Clock.monotonic() < deadline else { return }
                    // Now and then a shard has nothing to do, and falls asleep.
                    if number / 8 % 16 == 15 {
                        shard.loop.after(.microseconds(200)) { _, _ in Shard.current.map { go($0, number + 8) } }
                    } else {
                        shard.post { go($0, number + 8) }
                    }
                }
                for index in 0..<count { group.post(to: index) { go($0, 0) } }
                usleep(UInt32(Self.seconds) * 1_000_000)
                #expect(eventually(seconds: Rounds.patience) { received.value == sent.value && received.value > 0 })
                usleep(100_000)
                #expect(received.value == sent.value)
                #expect(wrong.value == 0)
                print("\(received.value) values among \(count) shards in \(Self.seconds) s")
                for metrics in group.metrics {
                    #expect(metrics.sleeps == metrics.wakesSent + metrics.selfDisarms + 1, "shard \(metrics.shard)")
                }
            }
        }
    }
}
