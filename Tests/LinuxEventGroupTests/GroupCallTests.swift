import Glibc
import LinuxEvent
import LinuxEventGroup
import Synchronization
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("M6 Calls from shard to shard")
    struct GroupCallTests {
        struct Failure: Error, Equatable { let number: Int }

        /// Runs a block on a shard of the group and waits until it has.
        static func on(_ group: LoopGroup, _ index: Int, _ body: @escaping @Sendable (Shard) -> Void) {
            let isThrough = Flag()
            group.post(to: index) { shard in
                body(shard)
                isThrough.set()
            }
            #expect(eventually { isThrough.isSet })
        }

        /// A result as text, to be noted where it arrives.
        static func text<Value>(_ result: Result<Value, any Error>) -> String {
            switch result {
            case .success(let value): "\(value)"
            case .failure(let error): "\(error)"
            }
        }

        /// Why a call has no result.
        static func error<Value>(of result: Result<Value, any Error>) -> String {
            if case .failure(let error) = result { "\(error)" } else { "none" }
        }

        @Test("M6 a call runs on its target, and its reply on the calling shard, once and not inside the call")
        func thereAndBack() throws {
            let log = Log<String>()
            try withGroup(threads: 2) { group in
                for target in 0..<2 {
                    Self.on(group, 0) { shard in
                        shard.call(group[target]) { there in
                            log.add("block on \(there.index), current \(Shard.current?.index ?? -1)")
                            return there.index * 10
                        } reply: { home, result in
                            log.add(
                                "reply on \(home.index), current \(Shard.current?.index ?? -1): \(Self.text(result))")
                        }
                        log.add("called")
                    }
                    #expect(eventually { log.count == 3 * (target + 1) })
                }
                // A call to itself waits for a later turn as well.
                #expect(
                    log.all == [
                        "called", "block on 0, current 0", "reply on 0, current 0: 0", "called",
                        "block on 1, current 1", "reply on 0, current 0: 10",
                    ])
                #expect(group.settle(0) && group.settle(1))
                #expect(log.count == 6)
            }
        }

        @Test("M6 what the block throws comes as it was thrown, and a value need not be Sendable")
        func errorsAndObjects() throws {
            final class Basket { var apples = 3 }
            let log = Log<String>()
            try withGroup(threads: 2) { group in
                Self.on(group, 0) { shard in
                    shard.call(group[1]) { _ -> Int in
                        throw Failure(number: 7)
                    } reply: { _, result in
                        if case .failure(let error) = result, error as? Failure == Failure(number: 7) {
                            log.add("as thrown")
                        }
                    }
                    shard.call(group[1]) { _ in
                        Basket()
                    } reply: { _, result in
                        guard case .success(let basket) = result else { return }
                        basket.apples += 1
                        log.add("\(basket.apples) apples")
                    }
                }
                #expect(eventually { log.count == 2 })
                #expect(log.all == ["as thrown", "4 apples"])
            }
        }

        @Test("M6 a target with a full mailbox, and one that has stopped, answer with an error, never inside the call")
        func refusals() throws {
            let log = Log<String>()
            try withGroup(threads: 1) { group in
                let other = try LoopGroup(threads: 1, mailboxCapacity: 1, name: "other")
                let hold = Hold()
                other.post(to: 0) { _ in hold.hold() }
                #expect(hold.waitUntilHeld())  // and its place is taken until it returns
                let call: @Sendable (Shard) -> Void = { shard in
                    shard.call(other[0]) { _ in
                        1
                    } reply: { _, result in
                        log.add(Self.text(result))
                    }
                    log.add("called")
                }
                Self.on(group, 0, call)
                #expect(eventually { log.count == 2 })
                #expect(log.all == ["called", "\(CallError.full)"])
                hold.letGo()
                try other.stop(deadline: .seconds(20))
                Self.on(group, 0, call)
                #expect(eventually { log.count == 4 })
                #expect(log.all.suffix(2) == ["called", "\(CallError.closed)"])
            }
        }

        @Test("M6 a call that waits at a shard which is given up ends with closed once that shard is back")
        func abandoned() throws {
            let log = Log<String>()
            try withGroup(threads: 1) { group in
                let other = try LoopGroup(threads: 1, name: "other")
                let hold = Hold()
                other.post(to: 0) { _ in hold.hold() }
                #expect(hold.waitUntilHeld())
                Self.on(group, 0) { shard in
                    shard.call(other[0]) { _ in
                        log.add("the block")
                    } reply: { _, result in
                        log.add("\(Self.text(result)) on \(Shard.current?.group === group)")
                    }
                }
                let report = try other.stop(deadline: .milliseconds(50))
                #expect(!report.isComplete)
                hold.letGo()
                #expect(eventually { log.count == 1 })
                #expect(log.all == ["\(CallError.closed) on true"])
                try other.wait()
            }
        }

        @Test("M6 a deadline covers the wait: past it the reply comes, and the block does not begin any more")
        func deadlineWhileWaiting() throws {
            let log = Log<String>()
            try withGroup(threads: 2) { group in
                let hold = Hold()
                group.post(to: 1) { _ in hold.hold() }
                #expect(hold.waitUntilHeld())
                let begin = Clock.monotonic()
                Self.on(group, 0) { shard in
                    shard.call(group[1], deadline: .milliseconds(30)) { _ in
                        log.add("the block")
                    } reply: { _, result in
                        log.add(Self.text(result))
                    }
                }
                #expect(eventually { log.count == 1 })
                #expect(Clock.monotonic() - begin >= 30_000_000)
                hold.letGo()
                #expect(group.settle(1) && group.settle(0))
                #expect(log.all == ["\(CallError.deadlineExceeded)"])
            }
        }

        @Test("M6 a deadline covers the work: the result of a block that takes too long is dropped")
        func deadlineWhileWorking() throws {
            let log = Log<String>()
            let deaths = Deaths()
            try withGroup(threads: 2) { group in
                let hold = Hold()
                Self.on(group, 0) { shard in
                    shard.call(group[1], deadline: .milliseconds(30)) { _ in
                        hold.hold()
                        return Mortal(deaths)
                    } reply: { _, result in
                        if case .failure(let error) = result { log.add("\(error)") }
                    }
                }
                #expect(hold.waitUntilHeld())
                #expect(eventually { log.count == 1 })
                hold.letGo()
                #expect(group.settle(1) && group.settle(0))
                #expect(log.all == ["\(CallError.deadlineExceeded)"])
                #expect(eventually { deaths.count == 1 })
            }
        }

        @Test("M6 cancelled, a call has no reply; the block that has not begun does not, and what it held ends at home")
        func cancelled() throws {
            let log = Log<String>()
            let deaths = Deaths()
            try withGroup(threads: 2) { group in
                let home = group.thread(of: 0)
                let hold = Hold()
                group.post(to: 1) { _ in hold.hold() }
                #expect(hold.waitUntilHeld())
                Self.on(group, 0) { shard in
                    let mortal = Mortal(deaths)
                    let call = shard.call(group[1]) { _ in
                        log.add("the block")
                    } reply: { _, _ in
                        mortal.touch()
                        log.add("the reply")
                    }
                    log.add(
                        "open \(call.isOpen), cancelled \(call.cancel()), again \(call.cancel()), open \(call.isOpen)")
                }
                hold.letGo()
                #expect(group.settle(1) && group.settle(0))
                #expect(log.all == ["open true, cancelled true, again false, open false"])
                #expect(deaths.count == 1 && deaths.elsewhere(than: home) == 0)
            }
        }

        @Test("M6 G9 a shard that stops fails the calls that it waits for, on its own thread")
        func ownStop() throws {
            let log = Log<String>()
            try withGroup(threads: 1) { other in
                let hold = Hold()
                other.post(to: 0) { _ in hold.hold() }
                #expect(hold.waitUntilHeld())
                let group = try LoopGroup(threads: 1, name: "other")
                Self.on(group, 0) { shard in
                    for _ in 0..<3 {
                        shard.call(other[0]) { _ in
                            1
                        } reply: { home, result in
                            log.add("\(Self.text(result)) on \(Shard.current === home)")
                        }
                    }
                }
                let report = try group.stop(deadline: .seconds(20))
                #expect(report.isComplete)
                #expect(log.all == Array(repeating: "\(CallError.closed) on true", count: 3))
                hold.letGo()
            }
        }

        @Test("M6 results of every size come home, and what a call held is let go of though its handle is kept")
        func sizesAndHandles() throws {
            struct Crate {
                let mortal: Mortal
                let numbers: (Int, Int, Int, Int)
                let more: InlineArray<20, Int>
            }
            final class Kept: @unchecked Sendable { var calls: [ShardCall] = [] }
            let log = Log<String>()
            let deaths = Deaths()
            let kept = Kept()
            try withGroup(threads: 2) { group in
                Self.on(group, 0) { shard in
                    let captured = Mortal(deaths)
                    kept.calls.append(
                        shard.call(group[1]) { _ in
                            captured.touch()
                            return Crate(mortal: Mortal(deaths), numbers: (1, 2, 3, 4), more: .init(repeating: 5))
                        } reply: { _, result in
                            guard case .success(let crate) = result else { return }
                            captured.touch()
                            log.add("\(crate.numbers.3), \(crate.more[19])")
                        })
                    kept.calls.append(
                        shard.call(group[1]) { _ in
                            (captured, captured, captured, captured)
                        } reply: { _, result in
                            if case .success((_, _, _, let last)) = result { log.add(last === captured ? "same" : "") }
                        })
                    kept.calls.append(
                        shard.call(group[1]) { _ in
                            captured.touch()
                        } reply: { _, result in
                            if case .success(()) = result { log.add("nothing") }
                        })
                }
                #expect(eventually { log.count == 3 })
                #expect(log.all == ["4, 5", "same", "nothing"])
                #expect(eventually { deaths.count == 2 }, "the one captured, and the one in the crate")
                Self.on(group, 0) { _ in
                    log.add("\(kept.calls.map(\.isOpen))")
                    kept.calls = []
                }
                #expect(log.all.last == "[false, false, false]")
            }
        }

        @Test("M6 G9 an answer that a given-up shard takes no more is destroyed; its call is closed once that is back")
        func answerToTheGivenUp() throws {
            let log = Log<String>()
            let deaths = Deaths()
            try withGroup(threads: 1) { other in
                let group = try LoopGroup(threads: 1, name: "other")
                let work = Hold()
                let hold = Hold()
                group.post(to: 0) { shard in
                    let captured = Mortal(deaths)
                    shard.call(other[0]) { _ in
                        captured.touch()
                        work.hold()
                        return Mortal(deaths)
                    } reply: { home, result in
                        log.add("\(Self.error(of: result)) on \(Shard.current === home)")
                    }
                    hold.hold()
                }
                #expect(hold.waitUntilHeld() && work.waitUntilHeld())
                let report = try group.stop(deadline: .milliseconds(50))
                #expect(!report.isComplete)
                work.letGo()
                #expect(other.settle(0))
                #expect(deaths.count == 1 && log.count == 0)
                hold.letGo()
                try group.wait()
                #expect(log.all == ["\(CallError.closed) on true"])
                #expect(deaths.count == 2)
            }
        }

        @Test("M6 G9 a call that the last tasks of a shard make ends with closed, on its own thread and once")
        func calledWhileStopping() throws {
            let log = Log<String>()
            let deaths = Deaths()
            try withGroup(threads: 1) { other in
                let group = try LoopGroup(threads: 1, name: "other")
                let hold = Hold()
                group.post(to: 0) { shard in
                    for isLate in [false, true] {
                        shard.post { shard in
                            shard.call(other[0]) { _ in
                                if isLate { hold.hold() }
                                return Mortal(deaths)
                            } reply: { home, result in
                                log.add("\(Self.error(of: result)) on \(Shard.current === home)")
                            }
                            // The first is answered while its shard still runs its last tasks, the second after that.
                            if isLate { _ = hold.waitUntilHeld() }
                        }
                    }
                    shard.group.requestStop()
                }
                let report = try group.wait()
                #expect(report.isComplete)
                #expect(log.all == Array(repeating: "\(CallError.closed) on true", count: 2))
                hold.letGo()
                #expect(other.settle(0))
                #expect(eventually { deaths.count == 2 })
            }
        }

        @Test("M2 M6 calls and posts of one shard to another begin in the order made")
        func order() throws {
            let log = Log<Int>()
            try withGroup(threads: 2) { group in
                let replies = Tally()
                Self.on(group, 0) { shard in
                    for number in 0..<1_000 {
                        if number % 2 == 0 {
                            shard.call(group[1]) { _ in
                                log.add(number)
                            } reply: { _, _ in
                                replies.add()
                            }
                        } else {
                            group.post(to: 1) { _ in log.add(number) }
                        }
                    }
                }
                #expect(eventually { replies.value == 500 && log.count == 1_000 })
                #expect(log.all == Array(0..<1_000))
            }
        }

        @Test("M6 calls of all shards to all, thousands at once: each is answered once, with its own result")
        func allToAll() throws {
            let count = Rounds.usually(3_000, long: 100_000)
            let shards = 3
            let deaths = Deaths()
            let right = Tally()
            try withGroup(threads: shards) { group in
                for index in 0..<shards {
                    group.post(to: index) { shard in
                        for number in 0..<count {
                            let mortal = Mortal(deaths)
                            shard.call(group[number % shards], deadline: .seconds(60)) { there in
                                mortal.touch()
                                return number &* 31 &+ there.index
                            } reply: { home, result in
                                if home.index == index, case .success(number &* 31 &+ number % shards) = result {
                                    right.add()
                                }
                            }
                        }
                    }
                }
                #expect(eventually(seconds: Rounds.patience) { right.value == shards * count })
                #expect(eventually { deaths.count == shards * count })
            }
        }
    }

    @Suite("M6 Calls of async callers")
    struct GroupAsyncCallTests {
        /// The group's stop blocks, so it is a matter for a thread of its own.
        private func withAsyncGroup(
            threads: Int, capacity: Int? = nil, _ body: (LoopGroup) async throws -> Void
        ) async throws {
            let group = try LoopGroup(threads: threads, mailboxCapacity: capacity, name: Tested.name)
            do { try await body(group) } catch { Issue.record("threw \(error)") }
            let stopped = Flag()
            let stopper = Threads.spawn {
                let report = try? group.stop(deadline: .seconds(20))
                #expect(report?.isComplete == true)
                stopped.set()
            }
            while !stopped.isSet { try await Task.sleep(for: .milliseconds(1)) }
            stopper.join()
            #expect(eventually { Tested.threads.isEmpty })
        }

        private func error(_ body: () async throws -> Void) async -> (any Error)? {
            do {
                try await body()
                return nil
            } catch { return error }
        }

        @Test("M6 an async call runs on its shard and returns the value, or throws what the block threw")
        func values() async throws {
            try await withAsyncGroup(threads: 2) { group in
                let there = try await group[1].call { shard in (shard.index, Shard.current === shard) }
                #expect(there == (1, true))
                let thrown = await error { try await group[0].call { _ in throw GroupCallTests.Failure(number: 5) } }
                #expect(thrown as? GroupCallTests.Failure == GroupCallTests.Failure(number: 5))
            }
        }

        @Test("M6 broadcast reaches every shard; mapReduce combines in the order of the shards")
        func all() async throws {
            try await withAsyncGroup(threads: 3) { group in
                let visited = Log<Int>()
                try await group.broadcast { visited.add($0.index) }
                #expect(visited.all.sorted() == [0, 1, 2])
                let text = try await group.mapReduce("", { "\($0.index)" }, +)
                #expect(text == "012")
                let thrown = await error {
                    try await group.broadcast { if $0.index > 0 { throw GroupCallTests.Failure(number: $0.index) } }
                }
                #expect(thrown as? GroupCallTests.Failure == GroupCallTests.Failure(number: 1))
                #expect(try await group.mapReduce(0, { _ in 1 }, +) == 3, "after a failure all goes on")
            }
        }

        @Test("M6 a cancelled caller goes on at once, and the block that has not begun does not")
        func cancellation() async throws {
            try await withAsyncGroup(threads: 1) { group in
                let hold = Hold()
                let ran = Flag()
                group.post(to: 0) { _ in hold.hold() }
                #expect(hold.waitUntilHeld())
                let task = Task { try await group[0].call { _ in ran.set() } }
                try await Task.sleep(for: .milliseconds(20))
                task.cancel()
                #expect(await error { try await task.value } is CancellationError)
                let early = Task {
                    withUnsafeCurrentTask { $0?.cancel() }
                    try await group[0].call { _ in ran.set() }
                }
                #expect(await error { try await early.value } is CancellationError)
                hold.letGo()
                #expect(group.settle(0))
                #expect(!ran.isSet)
            }
        }

        @Test("M6 an async call past its deadline, to a full mailbox, and to a stopped group throws CallError")
        func errors() async throws {
            let stopped = Shared(Locked<LoopGroup?>(nil))
            try await withAsyncGroup(threads: 1, capacity: 2) { group in
                stopped.value.withLock { $0 = group }
                let hold = Hold()
                group.post(to: 0) { _ in hold.hold() }
                #expect(hold.waitUntilHeld())
                let begin = Clock.monotonic()
                let late = await error { try await group[0].call(deadline: .milliseconds(30)) { _ in } }
                #expect(late as? CallError == .deadlineExceeded)
                #expect(Clock.monotonic() - begin >= 30_000_000)
                // The one that is late still has its place.
                #expect(await error { try await group[0].call { _ in } } as? CallError == .full)
                hold.letGo()
                #expect(eventually { group.settle(0) })
            }
            let group = try #require(stopped.value.withLock { $0 })
            #expect(await error { try await group[0].call { _ in } } as? CallError == .closed)
            #expect(await error { try await group.broadcast { _ in } } as? CallError == .closed)
        }

        @Test("M6 many async callers at once get their own answers")
        func many() async throws {
            let count = Rounds.usually(2_000, long: 50_000)
            try await withAsyncGroup(threads: 2) { group in
                let sum = try await withThrowingTaskGroup(of: Int.self) { tasks in
                    for number in 0..<count {
                        tasks.addTask { try await group[number % 2].call { number + $0.index } - number % 2 }
                    }
                    return try await tasks.reduce(0, +)
                }
                #expect(sum == count * (count - 1) / 2)
            }
        }
    }
}
