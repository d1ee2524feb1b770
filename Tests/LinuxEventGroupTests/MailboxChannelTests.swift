import Glibc
import LinuxEvent
import LinuxEventGroup
import Synchronization
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("M5 Channels")
    struct MailboxChannelTests {
        // MARK: What a value may be

        @Test("M5 values of every size and kind arrive whole, whoever sends them, alone and in batches")
        func sizes() throws {
            try withGroup(threads: 2) { group in
                try expectArrival(of: { _ in Sized<Void>(value: ()) }, group) { _, _ in true }
                try expectArrival(of: { UInt8(truncatingIfNeeded: $0) }, group) { $0 == UInt8(truncatingIfNeeded: $1) }
                try expectArrival(of: { $0 }, group) { $0 == $1 }
                try expectArrival(of: { Words<3>($0) }, group) { $0.isWhole($1) }
                try expectArrival(of: { Words<6>($0) }, group) { $0.isWhole($1) }
                try expectArrival(of: { Sized(value: Words<6>($0), byte: 7) }, group) {
                    $0.value.isWhole($1) && $0.byte == 7
                }
                try expectArrival(of: { Words<25>($0) }, group) { $0.isWhole($1) }
                try expectArrival(of: { "number \($0), long enough to live outside of the value itself" }, group) {
                    $0 == "number \($1), long enough to live outside of the value itself"
                }
                try expectArrival(of: { Shared(Atomic<Int>($0)) }, group) {
                    $0.value.load(ordering: .relaxed) == $1
                }
                try expectArrival(of: { SIMD8<Int>(repeating: $0) }, group) { $0 == SIMD8<Int>(repeating: $1) }
            }
            #expect(MemoryLayout<Sized<Words<6>>>.size == 49)
            #expect(MemoryLayout<Words<25>>.size == 200)
            #expect(MemoryLayout<SIMD8<Int>>.size == 64)
        }

        private func expectArrival<Value: Sendable>(
            of make: @escaping @Sendable (Int) -> Value, _ group: LoopGroup,
            sourceLocation: SourceLocation = #_sourceLocation, isRight: @escaping @Sendable (Value, Int) -> Bool
        ) throws {
            let count = 100
            let next = PlainMemory<Int>(1, 0)
            defer { next.free() }
            let wrong = Tally()
            let arrived = Tally()
            let channel = group.channel(of: Value.self) { shard, value in
                // Three senders, one after the other, each from 0 on.
                if shard.index != 0 || !isRight(value, next[0] % count) { wrong.add() }
                next[0] += 1
                arrived.add()
            }
            @Sendable func send() {
                for number in 0..<count / 2 where !channel.send(make(number), to: 0).isSent { wrong.add() }
                let batch = (count / 2..<count).map(make)
                if !channel.send(contentsOf: batch, to: 0).isSent { wrong.add() }
            }
            send()
            try #require(eventually { arrived.value == count }, sourceLocation: sourceLocation)
            group.post(to: 1) { _ in send() }
            try #require(eventually { arrived.value == 2 * count }, sourceLocation: sourceLocation)
            group.post(to: 0) { _ in send() }
            #expect(eventually { arrived.value == 3 * count }, sourceLocation: sourceLocation)
            #expect(wrong.value == 0, "\(Value.self)", sourceLocation: sourceLocation)
        }

        @Test("M5 values that cannot be copied end exactly once, on their shard", arguments: [0, 1])
        func noncopyable(from sender: Int) throws {
            let count = Rounds.usually(20_000, long: 500_000)
            let deaths = Deaths()
            var home: UInt = 0
            try withGroup(threads: 2) { group in
                home = group.thread(of: 0)
                let sum = Tally()
                let small = group.channel(of: Token.self) { _, token in sum.add(token.number) }
                let large = group.channel(of: LargeToken.self) { _, token in sum.add(token.token.number) }
                let isThrough = Flag()
                let send: @Sendable () -> Void = {
                    for _ in 0..<count {
                        small.send(Token(1, deaths), to: 0)
                        large.send(LargeToken(Token(2, deaths)), to: group[0])
                    }
                    isThrough.set()
                }
                if sender == 0 { send() } else { group.post(to: sender) { _ in send() } }
                #expect(eventually(seconds: Rounds.patience) { isThrough.isSet && sum.value == 3 * count })
            }
            #expect(deaths.count == 2 * count)
            #expect(deaths.elsewhere(than: home) == 0)
        }

        // MARK: Exactly once

        @Test("M1 M5 what eight threads send, alone and in batches, arrives exactly once", arguments: [1, 3])
        func exactlyOnce(shards: Int) throws {
            let producers = 8
            let count = Rounds.usually(100_000, long: 1_000_000)
            let runs = PlainMemory<UInt8>(producers * count, 0)
            defer { runs.free() }
            let refused = Tally()
            try withGroup(threads: shards) { group in
                let channel = group.channel(of: Int.self) { _, slot in runs[slot] += 1 }
                let threads = (0..<producers).map { producer in
                    Threads.spawn {
                        var number = 0
                        while number < count {
                            let target = number % shards
                            if number % 64 < 32 {
                                if !channel.send(producer * count + number, to: target).isSent { refused.add() }
                                number += 1
                            } else {
                                let end = min(number + 7, count)
                                let batch = (number..<end).map { producer * count + $0 }
                                if !channel.send(contentsOf: batch, to: target).isSent { refused.add() }
                                number = end
                            }
                        }
                    }
                }
                for thread in threads { thread.join() }
                for shard in 0..<shards { try #require(group.settle(shard)) }
            }
            #expect(refused.value == 0)
            #expect(runs.count { $0 != 1 } == 0)
        }

        @Test("M1 M5 a value that is refused comes back untouched, alone and in a batch, from full and from closed")
        func refused() throws {
            let deaths = Deaths()
            let arrived = Tally()
            try expectNothingLeft {
                let group = try LoopGroup(threads: 1, mailboxCapacity: 4, name: Tested.name)
                let tokens = group.channel(of: Token.self) { _, _ in arrived.add() }
                let large = group.channel(of: LargeToken.self) { _, _ in arrived.add() }
                let numbers = group.channel(of: Int.self) { _, _ in arrived.add() }
                let hold = Hold()
                group.post(to: 0) { shard in shard.loop.after(.zero) { _, _ in hold.hold() } }
                #expect(hold.waitUntilHeld())
                #expect(!numbers.send(contentsOf: Array(0..<5), to: 0).isSent, "five values in four places")
                #expect(numbers.send(contentsOf: Array(0..<3), to: 0).isSent)
                #expect(numbers.send(contentsOf: [7, 8], to: 0).takeBack() == [7, 8])
                #expect(numbers.send(contentsOf: [], to: 0).isSent)
                #expect(numbers.send(9, to: 0).isSent)
                expectBack(tokens.send(Token(42, deaths), to: 0), 42)
                expectBack(large.send(LargeToken(Token(43, deaths)), to: 0), 43)
                #expect(deaths.count == 2)
                hold.letGo()
                #expect(eventually { arrived.value == 4 })
                // All places are free again, of single values and of batches.
                #expect(eventually { numbers.send(contentsOf: Array(0..<4), to: 0).isSent })
                #expect(eventually { arrived.value == 8 })
                #expect(try group.stop(deadline: .seconds(10)).isComplete)
                expectBack(tokens.send(Token(44, deaths), to: 0), 44)
                expectBack(large.send(LargeToken(Token(45, deaths)), to: 0), 45)
                guard case .closed(let batch) = numbers.send(contentsOf: [1, 2, 3], to: 0) else {
                    Issue.record("not closed")
                    return
                }
                #expect(batch == [1, 2, 3])
            }
            #expect(arrived.value == 8)
            #expect(deaths.count == 4)
            #expect(deaths.elsewhere(than: thisThread()) == 0)
        }

        private func expectBack(_ result: consuming SendResult<Token>, _ number: Int) {
            guard let back = result.takeBack() else {
                Issue.record("a value was not given back")
                return
            }
            let found = back.number
            #expect(found == number)
        }

        private func expectBack(_ result: consuming SendResult<LargeToken>, _ number: Int) {
            guard let back = result.takeBack() else {
                Issue.record("a large value was not given back")
                return
            }
            let found = back.token.number
            #expect(found == number)
        }

        @Test("G9 M5 what a stop abandons is not given to the handler, and ends once, on its shard")
        func abandoned() throws {
            let deaths = Deaths()
            let arrived = Tally()
            var home: UInt = 0
            try expectNothingLeft {
                let group = try LoopGroup(threads: 1, name: Tested.name)
                home = group.thread(of: 0)
                let small = group.channel(of: Token.self) { _, _ in arrived.add() }
                let large = group.channel(of: LargeToken.self) { _, _ in arrived.add() }
                let objects = group.channel(of: Mortal.self) { _, _ in arrived.add() }
                let hold = Hold()
                group.post(to: 0) { _ in hold.hold() }
                #expect(hold.waitUntilHeld())
                for _ in 0..<100 {
                    small.send(Token(1, deaths), to: 0)
                    large.send(LargeToken(Token(2, deaths)), to: 0)
                    objects.send(contentsOf: [Mortal(deaths), Mortal(deaths)], to: 0)
                }
                let report = try group.stop(deadline: .milliseconds(50))
                #expect(report.shards[0].tasksAbandoned == 400)
                #expect(deaths.count == 0)
                hold.letGo()
                _ = try group.wait()
            }
            #expect(arrived.value == 0)
            #expect(deaths.count == 400)
            #expect(deaths.elsewhere(than: home) == 0)
        }

        @Test("G9 M5 values sent while groups stop arrive or come back, each exactly once")
        func againstStops() throws {
            let cycles = Rounds.usually(60, long: 1_000)
            let deaths = Deaths()
            let arrived = Tally()
            let sent = Tally()
            let made = Tally()
            try expectNothingLeft {
                for cycle in 0..<cycles {
                    let group = try LoopGroup(threads: 2, name: Tested.name)
                    let channel = group.channel(of: Token.self) { _, _ in arrived.add() }
                    let batches = group.channel(of: Int.self) { _, _ in arrived.add() }
                    let senders = (0..<3).map { sender in
                        Threads.spawn {
                            for number in 0... {
                                made.add()
                                let isSent = channel.send(Token(number, deaths), to: (number + sender) & 1).isSent
                                if isSent { sent.add() }
                                if batches.send(contentsOf: [1, 2, 3], to: number & 1).isSent { sent.add(3) }
                                if !isSent { return }
                            }
                        }
                    }
                    usleep(UInt32(cycle % 7) * 300)
                    #expect(try group.stop(deadline: .seconds(10)).isComplete)
                    for sender in senders { sender.join() }
                }
            }
            #expect(arrived.value == sent.value)
            #expect(deaths.count == made.value)
        }

        // MARK: Lifetime

        @Test("M5 a channel may be dropped with values on their way, and a handler that holds its group lets go of it")
        func dropped() throws {
            let deaths = Deaths()
            let arrived = Tally()
            try expectNothingLeft {
                let group = try LoopGroup(threads: 1, name: Tested.name)
                let hold = Hold()
                group.post(to: 0) { _ in hold.hold() }
                #expect(hold.waitUntilHeld())
                sendAndDrop(group, Mortal(deaths), arrived)
                #expect(deaths.count == 0)
                hold.letGo()
                #expect(eventually { arrived.value == 100 })
                #expect(deaths.count == 0, "the handler went before its group")
                #expect(try group.stop(deadline: .seconds(10)).isComplete)
                #expect(deaths.count == 1)
            }
        }

        private func sendAndDrop(_ group: LoopGroup, _ captured: Mortal, _ arrived: Tally) {
            let channel = group.channel(of: Int.self) { _, _ in
                captured.touch()
                if group.count == 1 { arrived.add() }
            }
            for number in 0..<100 { channel.send(number, to: 0) }
        }

        // MARK: Order

        @Test("M2 M5 all forms of one thread to one shard keep one order: posts, sends, batches, watches, cancels")
        func orderOfAllForms() throws {
            let rounds = Rounds.usually(2_000, long: 100_000)
            let producers = 4
            let last = PlainMemory<Int>(producers, 0)
            let pipes = (0..<producers).map { _ in Pipe.readable() }
            defer { last.free() }
            let wrong = Tally()
            try withGroup(threads: 2) { group in
                let step: @Sendable (Int, Int) -> Void = { producer, number in
                    if last[producer] != number - 1 { wrong.add() }
                    last[producer] = number
                }
                let channel = group.channel(of: Words<2>.self) { _, words in step(words.words[0], words.words[1]) }
                let large = group.channel(of: Words<9>.self) { _, words in step(words.words[0], words.words[1]) }
                let threads = (0..<producers).map { producer in
                    let descriptor = pipes[producer].reader
                    return Threads.spawn {
                        let home = group.shard(for: descriptor)
                        var number = 0
                        func next() -> Int {
                            number += 1
                            return number
                        }
                        for round in 0..<rounds {
                            let posted = next()
                            home.post { _ in step(producer, posted) }
                            channel.send(Words(producer, next()), to: home)
                            channel.send(contentsOf: (0..<round % 5).map { _ in Words(producer, next()) }, to: home)
                            large.send(Words(producer, next()), to: home.index)
                            if round % 16 == 0 {
                                let watched = next()
                                let result = group.watch(
                                    descriptor, data: (), read: { _, _, _, _ in }, oneshot: true,
                                    completed: { _, _ in step(producer, watched) })
                                channel.send(Words(producer, next()), to: home)
                                let cancelled = next()
                                result.watcher?.cancel { _ in step(producer, cancelled) }
                            }
                        }
                        let end = number
                        let isThrough = eventually(seconds: Rounds.patience) {
                            let seen = Log<Int>()
                            home.post { _ in seen.add(last[producer]) }
                            return eventually { seen.count == 1 } && seen.all[0] == end
                        }
                        if !isThrough { wrong.add() }
                    }
                }
                for thread in threads { thread.join() }
            }
            #expect(wrong.value == 0)
        }

        @Test("M5 nothing comes between the values of a batch, whoever else sends")
        func batchesAreWhole() throws {
            let producers = 4
            let batches = Rounds.usually(5_000, long: 200_000)
            let size = 16
            let state = PlainMemory<Int>(2, 0)
            defer { state.free() }
            let wrong = Tally()
            try withGroup(threads: 2) { group in
                let channel = group.channel(of: Words<2>.self) { _, words in
                    // The producer whose batch is arriving, and how much of it has.
                    if state[1] == 0 { state[0] = words.words[0] }
                    if state[0] != words.words[0] || state[1] != words.words[1] { wrong.add() }
                    state[1] = (state[1] + 1) % size
                }
                let send: @Sendable (Int) -> Void = { producer in
                    for _ in 0..<batches {
                        channel.send(contentsOf: (0..<size).map { Words<2>(producer, $0) }, to: 0)
                    }
                }
                let threads = (0..<producers).map { producer in Threads.spawn { send(producer) } }
                let isThrough = Flag()
                group.post(to: 1) { _ in
                    send(producers)
                    isThrough.set()
                }
                for thread in threads { thread.join() }
                #expect(eventually(seconds: Rounds.patience) { isThrough.isSet })
            }
            #expect(wrong.value == 0)
            #expect(state[1] == 0)
        }

        @Test("M4 M5 a batch to a sleeping shard costs one wake")
        func oneWakePerBatch() throws {
            let arrived = Tally()
            try withGroup { group in
                let channel = group.channel(of: Int.self) { _, _ in arrived.add() }
                for round in 1...50 {
                    usleep(500)
                    let before = group.metrics[0].wakesSent
                    channel.send(contentsOf: Array(0..<1_000), to: 0)
                    #expect(eventually { arrived.value == round * 1_000 })
                    #expect(group.metrics[0].wakesSent - before <= 1)
                }
            }
        }

        @Test("M7 M5 a handler that sends to its own shard starves neither timers nor other senders")
        func selfSending() throws {
            let fired = Flag()
            let other = Flag()
            let rounds = Tally()
            let isOver = Flag()
            try withGroup { group in
                let channel = Shared(OnceSet<Channel<Int>>())
                let made = group.channel(of: Int.self) { _, number in
                    rounds.add()
                    if !isOver.isSet { channel.value.get().send(number + 1, to: 0) }
                }
                channel.value.set(made)
                made.send(0, to: 0)
                group.post(to: 0) { shard in shard.loop.after(.milliseconds(1)) { _, _ in fired.set() } }
                #expect(eventually { fired.isSet })
                Threads.spawn { group.post(to: 0) { _ in other.set() } }.join()
                #expect(eventually { other.isSet })
                isOver.set()
            }
            #expect(rounds.value > 1)
        }
    }
}

// MARK: Values

/// A byte more than its value has.
private struct Sized<Value: Sendable>: Sendable {
    var value: Value
    var byte: UInt8 = 1
}

/// So many words, all derived from one number, or two of them given.
struct Words<let count: Int>: Sendable {
    var words = InlineArray<count, Int>(repeating: 0)

    init(_ number: Int) { for index in 0..<count { words[index] = number &* (index + 1) } }

    init(_ first: Int, _ second: Int) {
        words[0] = first
        words[1] = second
    }

    func isWhole(_ number: Int) -> Bool { (0..<count).allSatisfy { words[$0] == number &* ($0 + 1) } }
}

/// It cannot be copied, and its end is noted.
private struct Token: ~Copyable, Sendable {
    let number: Int
    private let mortal: Mortal

    init(_ number: Int, _ deaths: Deaths) {
        self.number = number
        mortal = Mortal(deaths)
    }
}

/// As a token, and too large for a node.
private struct LargeToken: ~Copyable, Sendable {
    let token: Token
    private let padding = InlineArray<24, UInt64>(repeating: 0)

    init(_ token: consuming Token) { self.token = token }
}

/// Set once by one thread, before another can have a reason to ask.
private struct OnceSet<Value: Sendable>: ~Copyable, Sendable {
    private let value = Locked<Value?>(nil)
    func set(_ new: Value) { value.withLock { $0 = new } }
    func get() -> Value { value.withLock { $0! } }
}
