import Glibc
import LinuxEvent
import LinuxEventGroup
import Synchronization
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("G5 Moves")
    struct GroupMoveTests {
        /// Moves a watch and waits for the answer.
        @discardableResult
        private func move(_ watcher: GroupWatcher, to target: ShardReference) -> String {
            let log = Log<String>()
            #expect(
                watcher.move(to: target) { shard, result in
                    switch result {
                    case .success: log.add("on \(shard.index)")
                    case .failure(let error): log.add("\(error)")
                    }
                } == .accepted)
            #expect(eventually { log.count == 1 })
            return log.all.first ?? ""
        }

        @Test(
            "G5 a moved watch runs its handlers on the new shard, with its data, and back on its home when moved back")
        func thereAndBack() throws {
            let log = Log<String>()
            let deaths = Deaths()
            try withGroup(threads: 3) { group in
                let pipe = group.pipes(home: 1)[0]
                let mortal = Mortal(deaths)
                let watcher = try #require(
                    group.watch(
                        pipe.reader, data: mortal,
                        read: { shard, descriptor, watcher, data in
                            data.touch()
                            IO.drain(descriptor)
                            log.add("\(shard.index) \(Shard.current === shard) \(watcher.isActive)")
                        }
                    ).watcher)
                for target in [2, 0, 0, 1, 2] {
                    #expect(move(watcher, to: group[target]) == "on \(target)")
                    let before = log.count
                    pipe.write()
                    #expect(eventually { log.count == before + 1 })
                    #expect(log.all.last == "\(target) true true")
                    #expect(eventually { group.metrics.map(\.watchers).reduce(0, +) == 1 })
                }
                let ended = Flag()
                watcher.cancel { shard in if shard.index == 2 { ended.set() } }
                #expect(eventually { ended.isSet })
                let before = log.count
                pipe.write()
                usleep(2_000)
                #expect(log.count == before)
                #expect(move(watcher, to: group[0]) == "\(MoveError.ended)")
            }
            #expect(eventually { deaths.count == 1 })
        }

        @Test("G5 the data of a moved watch ends once, on the shard where the watch ends")
        func dataEndsThere() throws {
            let deaths = Deaths()
            try withGroup(threads: 2) { group in
                let homes = (0..<2).map { group.thread(of: $0) }
                let pipe = group.pipes(home: 0)[0]
                let watcher = try #require(
                    group.watch(pipe.reader, data: Mortal(deaths), read: { _, _, _, data in data.touch() }).watcher)
                for _ in 0..<5 {
                    move(watcher, to: group[1])
                    move(watcher, to: group[0])
                }
                move(watcher, to: group[1])
                #expect(deaths.count == 0)
                watcher.cancel()
                #expect(eventually { deaths.count == 1 })
                #expect(deaths.elsewhere(than: homes[1]) == 0)
            }
        }

        @Test("G5 mode, interest and what is armed go along", arguments: [false, true])
        func modes(edgeTriggered: Bool) throws {
            let log = Log<String>()
            try withGroup(threads: 2) { group in
                // Disarmed: silent on the new shard too, until it is armed there.
                let once = group.pipes(home: 0)[0]
                let oneshot = try #require(
                    group.watch(
                        once.reader, data: (), read: { shard, _, _, _ in log.add("oneshot \(shard.index)") },
                        edgeTriggered: edgeTriggered, oneshot: true
                    ).watcher)
                once.write()
                #expect(eventually { log.count == 1 })
                move(oneshot, to: group[1])
                once.write()
                usleep(3_000)
                #expect(log.all == ["oneshot 0"])
                oneshot.post { _, watcher in
                    #expect(watcher?.isArmed == false)
                    #expect(throws: Never.self) { try watcher?.rearm() }
                }
                #expect(eventually { log.count == 2 })
                #expect(log.all.last == "oneshot 1")
                usleep(2_000)
                #expect(log.count == 2)
                oneshot.cancel()

                // Turned off: data that is there comes when it is turned on, on the new shard.
                let quiet = group.pipes(home: 0)[0]
                let paused = try #require(
                    group.watch(
                        quiet.reader, data: (),
                        read: { shard, descriptor, _, _ in
                            IO.drain(descriptor)
                            log.add("paused \(shard.index)")
                        }, edgeTriggered: edgeTriggered, interest: []
                    ).watcher)
                quiet.write()
                move(paused, to: group[1])
                usleep(2_000)
                #expect(log.count == 2)
                paused.post { _, watcher in #expect(throws: Never.self) { try watcher?.enableRead() } }
                #expect(eventually { log.count == 3 })
                #expect(log.all.last == "paused 1")
                paused.cancel()

                // Ready before the move and not served: told on the new shard.
                let pair = Sockets.unixPair()
                let other = group.shard(for: pair.near).index == 0 ? 1 : 0
                let both = try #require(
                    group.watch(
                        pair.near, data: (), write: { shard, _, _, _ in log.add("write \(shard.index)") },
                        edgeTriggered: true
                    ).watcher)
                #expect(eventually { log.count == 4 })
                move(both, to: group[other])
                #expect(eventually { log.all.last == "write \(other)" })
                both.cancel()
            }
        }

        @Test("G5 M2 what one thread posts for a watch runs in the order posted, wherever the watch is moved meanwhile")
        func orderOfPosts() throws {
            let count = Rounds.usually(3_000, long: 100_000)
            let log = Log<Int>()
            let shards = Log<Int>()
            try withGroup(threads: 3) { group in
                let pipe = Pipe()
                let home = group.shard(for: pipe.reader)
                let watcher = try #require(group.watch(pipe.reader, data: (), read: { _, _, _, _ in }).watcher)
                var random = SeededGenerator()
                for number in 0..<count {
                    let result = watcher.post { shard, watcher in
                        log.add(watcher?.isActive == true && Shard.current === shard ? number : -1)
                        shards.add(shard.index)
                    }
                    #expect(result.isPosted)
                    if Int.random(in: 0..<8, using: &random) == 0 {
                        watcher.move(to: group[Int.random(in: 0..<3, using: &random)])
                    }
                }
                #expect(eventually { log.count == count })
                #expect(log.all == Array(0..<count), "seed \(random.seed)")
                #expect(Set(shards.all).count == 3, "it was never moved")
                watcher.cancel()
                let after = Flag()
                watcher.post { shard, watcher in
                    if watcher == nil, shard.reference == home { after.set() }
                }
                #expect(eventually { after.isSet })
            }
        }

        @Test(
            "G5 under fire nothing is lost: every byte of many connections arrives once, in order",
            arguments: [true, false])
        func underFire(edgeTriggered: Bool) throws {
            /// What one connection has received; travels with its watch.
            final class Received {
                var next: UInt8 = 0
                var bytes = 0
                var wrong = 0
            }
            let connections = 64
            let rounds = Rounds.usually(400, long: 40_000)
            let total = Tally()
            let wrong = Tally()
            try withGroup(threads: 3) { group in
                let pairs = (0..<connections).map { _ in Sockets.unixPair() }
                let watchers = try pairs.map { pair in
                    try #require(
                        group.watch(
                            pair.near, data: Received(),
                            read: { _, descriptor, _, received in
                                var buffer = [UInt8](repeating: 0, count: 512)
                                while true {
                                    let n = read(descriptor, &buffer, buffer.count)
                                    if n <= 0 { break }
                                    for byte in buffer[0..<n] {
                                        if byte != received.next { wrong.add() }
                                        received.next = byte &+ 1
                                    }
                                    total.add(n)
                                    if !edgeTriggered { break }
                                }
                            }, edgeTriggered: edgeTriggered
                        ).watcher)
                }
                // An optimized build would close them after their last use.
                defer { withExtendedLifetime(pairs) {} }
                let ends = pairs.map(\.far)
                let isOver = Flag()
                let writer = Threads.spawn {
                    var next = [UInt8](repeating: 0, count: connections)
                    for round in 0..<rounds {
                        for index in 0..<connections {
                            let count = 1 + (round &* 7 &+ index) % 13
                            let bytes = (0..<count).map { next[index] &+ UInt8($0) }
                            var sent = 0
                            while sent < count {
                                let n = bytes[sent...].withUnsafeBytes { write(ends[index], $0.baseAddress, $0.count) }
                                if n > 0 { sent += n } else { usleep(50) }
                            }
                            next[index] &+= UInt8(count)
                        }
                    }
                    isOver.set()
                }
                var random = SeededGenerator()
                let moves = Tally()
                while !isOver.isSet {
                    let index = Int.random(in: 0..<connections, using: &random)
                    watchers[index].move(to: group[Int.random(in: 0..<3, using: &random)]) { _, result in
                        if case .success = result { moves.add() }
                    }
                    usleep(20)
                }
                writer.join()
                var expected = 0
                for round in 0..<rounds { for index in 0..<connections { expected += 1 + (round &* 7 &+ index) % 13 } }
                #expect(eventually(seconds: 20) { total.value == expected })
                #expect(total.value == expected)
                #expect(wrong.value == 0)
                #expect(moves.value > 100)
                let ended = Tally()
                for watcher in watchers { watcher.cancel { _ in ended.add() } }
                #expect(eventually { ended.value == connections })
                #expect(eventually { group.metrics.map(\.watchers).reduce(0, +) == 0 })
            }
        }

        @Test(
            "G5 W2 a second watch of a descriptor whose first was moved away replaces it, and begins at home"
        )
        func replaced() throws {
            let log = Log<String>()
            try withGroup(threads: 2) { group in
                let pipe = group.pipes(home: 0)[0]
                func watch(_ name: String) throws -> GroupWatcher {
                    try #require(
                        group.watch(
                            pipe.reader, data: name,
                            read: { shard, descriptor, _, name in
                                IO.drain(descriptor)
                                log.add("\(name) \(shard.index)")
                            }
                        ).watcher)
                }
                let first = try watch("first")
                first.move(to: group[1])
                // Both come while the first is on its way, or there.
                let second = try watch("second")
                let third = try watch("third")
                #expect(move(third, to: group[0]) == "on 0")
                pipe.write()
                #expect(eventually { log.count == 1 })
                #expect(log.all == ["third 0"])
                #expect(move(second, to: group[1]) == "\(MoveError.ended)")
                #expect(move(first, to: group[1]) == "\(MoveError.ended)")
                #expect(eventually { group.metrics.map(\.watchers).reduce(0, +) == 1 })
                third.cancel()
            }
        }

        @Test("G5 a cancel while the watch moves is answered once no callback can run any more")
        func cancelledOnTheWay() throws {
            try withGroup(threads: 3) { group in
                for round in 0..<Rounds.usually(200, long: 20_000) {
                    let pipe = Pipe.readable()
                    let isEnded = Flag()
                    let late = Tally()
                    let watcher = try #require(
                        group.watch(pipe.reader, data: (), read: { _, _, _, _ in if isEnded.isSet { late.add() } })
                            .watcher)
                    watcher.move(to: group[round % 3])
                    watcher.move(to: group[(round + 1) % 3])
                    #expect(watcher.cancel { _ in isEnded.set() } == .accepted)
                    #expect(eventually { isEnded.isSet })
                    pipe.closeReader()
                    #expect(late.value == 0)
                }
                #expect(eventually { group.metrics.map(\.watchers).reduce(0, +) == 0 })
            }
        }

        @Test(
            "G5 another group is refused, a closed descriptor has no watch to move, and a stop lets moves end"
        )
        func refusals() throws {
            try withGroup(threads: 2) { group in
                let other = try LoopGroup(threads: 1, name: "other")
                let pipe = group.pipes(home: 0)[0]
                let watcher = try #require(group.watch(pipe.reader, data: (), read: { _, _, _, _ in }).watcher)
                #expect(move(watcher, to: other[0]) == "\(MoveError.otherGroup)")
                #expect(move(watcher, to: group[1]) == "on 1")
                pipe.closeReader()
                #expect(move(watcher, to: group[0]) == "\(MoveError.ended)")
                try other.stop(deadline: .seconds(20))
            }
            // A stop in the midst of moves.
            let deaths = Deaths()
            for _ in 0..<Rounds.usually(20, long: 500) {
                try withGroup(threads: 3) { group in
                    for _ in 0..<20 {
                        let pipe = Pipe()
                        let watcher = try #require(
                            group.watch(pipe.reader, data: Mortal(deaths), read: { _, _, _, data in data.touch() })
                                .watcher)
                        for target in 0..<3 { watcher.move(to: group[target]) }
                        // The pipe closes here, and the next one gets its number: one more watch of it has to wait.
                    }
                }
            }
            #expect(deaths.count == 20 * Rounds.usually(20, long: 500))
        }
    }
}
