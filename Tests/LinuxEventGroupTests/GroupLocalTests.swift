import Glibc
import LinuxEvent
import LinuxEventGroup
import Synchronization
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("G6 Values of shards")
    struct GroupLocalTests {
        /// Not Sendable; says where it lives and dies.
        final class Cache {
            let shard: Int
            private let mortal: Mortal
            var count = 0
            init(_ shard: Int, _ deaths: Deaths) {
                self.shard = shard
                mortal = Mortal(deaths)
            }
            deinit { mortal.touch() }
        }

        @Test("G6 local values are made, used and destroyed on their shards, after the last task")
        func lives() throws {
            let deaths = Deaths()
            let log = Log<String>()
            var homes: [UInt] = []
            try withGroup(threads: 3) { group in
                homes = (0..<3).map { group.thread(of: $0) }
                let cache = try group.local { shard in Cache(shard.index, deaths) }
                for index in 0..<3 {
                    for _ in 0..<100 { group.post(to: index) { shard in cache[shard].count += 1 } }
                    group.settle(index)
                    group.post(to: index) { shard in log.add("\(cache[shard].shard) \(cache[shard].count)") }
                    group.settle(index)
                }
                #expect(log.all == ["0 100", "1 100", "2 100"])
                #expect(deaths.count == 0)
                // Still there for the tasks that a stop drains.
                let hold = Hold()
                group.post(to: 0) { _ in hold.hold() }
                #expect(hold.waitUntilHeld())
                group.post(to: 0) { shard in log.add("last \(cache[shard].count)") }
                group.requestStop()
                hold.letGo()
            }
            #expect(log.all.last == "last 100")
            #expect(deaths.count == 3)
            #expect(deaths.outside(homes) == 0)
        }

        @Test("G6 several local values of a shard are stopped and destroyed in reverse order of making")
        func reverse() throws {
            let log = Log<String>()
            try withGroup(threads: 1) { group in
                for name in ["first", "second", "third"] {
                    _ = try group.local { _ in
                        name
                    } stop: { shard, value in
                        log.add("\(value) on \(Shard.current === shard)")
                    }
                }
            }
            #expect(log.all == ["third on true", "second on true", "first on true"])
        }

        @Test("G6 all or none: if one shard fails, the others' values end in reverse order, and the error names it")
        func allOrNone() throws {
            struct Refusal: Error {}
            let deaths = Deaths()
            let log = Log<Int>()
            try withGroup(threads: 4) { group in
                let homes = (0..<4).map { group.thread(of: $0) }
                do throws(LoopGroupError) {
                    _ = try group.local { shard in
                        if shard.index == 2 { throw Refusal() }
                        return Cache(shard.index, deaths)
                    } stop: { shard, _ in
                        log.add(shard.index)
                    }
                    Issue.record("a value was made on some shards only")
                } catch {
                    guard case .start(shard: 2, let cause) = error, cause is Refusal else {
                        Issue.record("not the failure of shard 2: \(error)")
                        return
                    }
                }
                #expect(log.all == [3, 1, 0])
                #expect(deaths.count == 3 && deaths.outside(homes) == 0)
            }
            #expect(log.count == 3, "stopped twice")
        }

        @Test("G6 on a shard of the group itself, and after its stop, local values are refused")
        func refused() throws {
            let log = Log<String>()
            let group = try LoopGroup(threads: 1, name: Tested.name)
            group.post(to: 0) { _ in
                do throws(LoopGroupError) { _ = try group.local { _ in 1 } } catch { log.add("\(error)") }
            }
            group.settle(0)
            try group.stop(deadline: .seconds(20))
            do throws(LoopGroupError) { _ = try group.local { _ in 1 } } catch { log.add("\(error)") }
            #expect(log.all == ["\(LoopGroupError.calledOnShard)", "\(LoopGroupError.closed)"])
        }

        @Test("G6 async callers make local values without blocking a thread")
        func fromAsync() async throws {
            let deaths = Deaths()
            let group = try LoopGroup(threads: 2, name: Tested.name)
            let cache = try await group.local { shard in Cache(shard.index, deaths) }
            try await group.broadcast { shard in cache[shard].count = shard.index + 1 }
            #expect(try await group.mapReduce(0, { shard in cache[shard].count }, +) == 3)
            group.requestStop()
            #expect(eventually { Tested.threads.isEmpty })
            #expect(deaths.count == 2)
        }

        @Test("G6 a local value asked of another group's shard ends the process with the rule's text")
        func strangers() async {
            let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
                let group = try LoopGroup(threads: 1)
                let other = try LoopGroup(threads: 1)
                let local = try await group.local { _ in 1 }
                try await other.broadcast { shard in _ = local[shard] }
            }
            let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
            #expect(text.contains("Contract G6"))
        }

        @Test("G6 a foreign value is used and destroyed at home, whoever lets go of it")
        func foreign() throws {
            let deaths = Deaths()
            let log = Log<Int>()
            try withGroup(threads: 2) { group in
                let home = group.thread(of: 1)
                do {
                    let value = Foreign(Cache(1, deaths), at: group[1])
                    #expect(value.home == group[1])
                    #expect(deaths.count == 0)
                }
                #expect(eventually { deaths.count == 1 })
                #expect(deaths.elsewhere(than: home) == 0)
                // On its own shard it ends at once.
                group.post(to: 1) { shard in
                    do {
                        let value = Foreign(Cache(1, deaths), at: shard.reference)
                        value.withValue(on: shard) { $0.count += 5 }
                        log.add(value.withValue(on: shard) { $0.count })
                    }
                    log.add(deaths.count)
                }
                group.settle(1)
                #expect(log.all == [5, 2])
                #expect(group.metrics[1].valuesLeaked == 0)
            }
        }

        @Test("G6 a foreign value whose shard has ended is counted, and not destroyed on a wrong thread")
        func orphan() throws {
            let deaths = Deaths()
            let group = try LoopGroup(threads: 1, name: Tested.name)
            var value: Shared? = Shared(Foreign(Cache(0, deaths), at: group[0]))
            try withExtendedLifetime(value) {
                try group.stop(deadline: .seconds(20))
                #expect(group.metrics[0].valuesLeaked == 0)
            }
            value = nil
            #expect(group.metrics[0].valuesLeaked == 1)
            #expect(deaths.count == 0)
        }
    }
}
