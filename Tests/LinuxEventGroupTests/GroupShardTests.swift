import Glibc
import LinuxEvent
import LinuxEventGroup
import Synchronization
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("G6, G8 Shards and their threads")
    struct GroupShardTests {
        @Test("G6 tasks, events, timers, deferred blocks and releases of a shard run on its thread, one at a time")
        func oneAtATime() throws {
            let pipe = Pipe()
            let homes = PlainMemory<UInt>(3, 0)
            let depth = PlainMemory<Int>(3, 0)
            // Plain on purpose: a callback that overlapped another would lose counts.
            let calls = PlainMemory<Int>(3, 0)
            defer { homes.free(); depth.free(); calls.free() }
            let wrong = Tally()
            let visit: @Sendable (Shard) -> Void = { shard in
                if homes[shard.index] != thisThread() || Shard.current !== shard { wrong.add() }
                depth[shard.index] += 1
                if depth[shard.index] != 1 { wrong.add() }
                calls[shard.index] += 1
                spin(nanoseconds: 100)
                depth[shard.index] -= 1
            }
            let posts = Rounds.usually(5_000, long: 500_000)
            let foreign = Tally()
            try withGroup(
                threads: 3,
                start: { shard in
                    homes[shard.index] = thisThread()
                    visit(shard)
                    _ = try shard.loop.every(.milliseconds(1)) { [unowned shard] loop, _ in
                        visit(shard)
                        loop.defer { _ in visit(shard) }
                    }
                }
            ) { group in
                let watcher = group.watch(
                    pipe.reader, data: (),
                    read: { shard, descriptor, _, _ in
                        IO.drain(descriptor)
                        visit(shard)
                    }
                ).watcher
                let writer = pipe.writer
                let threads = (0..<4).map { _ in
                    Threads.spawn {
                        for number in 0..<posts {
                            group.post(to: number % 3) { shard in
                                foreign.add()
                                visit(shard)
                            }
                            if number % 100 == 0 {
                                IO.write(writer)
                                usleep(100)
                            }
                        }
                    }
                }
                for thread in threads { thread.join() }
                for shard in 0..<3 { #expect(group.settle(shard)) }
                let answered = Flag()
                watcher?.cancel { shard in
                    visit(shard)
                    answered.set()
                }
                #expect(eventually { answered.isSet })
            }
            #expect(wrong.value == 0)
            #expect(foreign.value == 4 * posts)
            #expect((0..<3).reduce(0) { $0 + calls[$1] } > foreign.value)
        }

        @Test("G6 Shard.current is the shard of the calling thread, and nil elsewhere")
        func current() throws {
            let seen = Log<String>()
            #expect(Shard.current == nil)
            try withGroup(threads: 2) { group in
                #expect(Shard.current == nil)
                for shard in group.shards {
                    shard.post { shard in
                        seen.add("\(shard.index) is \(Shard.current.map { "\($0.index)" } ?? "nobody")")
                        Threads.runElsewhere { if Shard.current == nil { seen.add("elsewhere nobody") } }
                        if shard.reference == shard.group[shard.index] { seen.add("has its reference") }
                    }
                }
                #expect(eventually { seen.count == 6 })
                #expect(group[0] != group[1])
                #expect(Set(group.shards).count == 2)
            }
            #expect(
                seen.all.sorted() == [
                    "0 is 0", "1 is 1", "elsewhere nobody", "elsewhere nobody", "has its reference",
                    "has its reference",
                ])
            #expect(Shard.current == nil)
        }

        @Test("G6 what a shard's handlers hold is released on its thread while it is still that shard")
        func releasedAtHome() throws {
            let pipe = Pipe()
            let deaths = Deaths()
            let results = Log<Bool>()
            var home: UInt = 0
            try withGroup(
                threads: 2,
                start: { shard in
                    // At the end of the loop: a release may call the group, which takes nothing any more.
                    let group = shard.group
                    let mortal = Mortal(deaths) {
                        results.add(Shard.current === nil)
                        results.add(group.post(to: 0, { _ in }).isPosted)
                    }
                    shard.loop.after(.seconds(60)) { _, _ in mortal.touch() }
                }
            ) { group in
                home = group.thread(of: group.shard(for: pipe.reader).index)
                _ = group.watch(pipe.reader, data: Mortal(deaths), read: { _, _, _, _ in })
                #expect(group.settle(group.shard(for: pipe.reader).index))
                #expect(deaths.count == 0)
            }
            #expect(deaths.count == 3)
            #expect(deaths.elsewhere(than: thisThread()) == 3)
            #expect(deaths.elsewhere(than: home) == 1)
            #expect(results.all.allSatisfy { !$0 })
        }

        // MARK: Signals

        @Test("G8 shard threads block every signal, from their first instruction")
        func signalsAreBlocked() throws {
            // KILL and STOP cannot be blocked; 32 and 33 are the C library's own.
            let blockable: UInt64 = ~(1 << 8 | 1 << 18 | 1 << 31 | 1 << 32)
            let here = Log<UInt64>()
            try withGroup(
                threads: 3,
                start: { _ in
                    here.add(KernelThread.own?.blockedSignals ?? 0)
                }
            ) { _ in
                #expect(Tested.threads.count == 3)
                for thread in Tested.threads {
                    #expect(thread.blockedSignals & blockable == blockable, "\(thread.name)")
                }
            }
            #expect(here.count == 3)
            #expect(here.all.allSatisfy { $0 & blockable == blockable })
        }

        @Test("G8 a signal sent to a shard's thread runs nothing there, and the caller's mask stays what it was")
        func signalToAShard() throws {
            let before = KernelThread.own?.blockedSignals
            // Were it not blocked, it would be counted, not fatal.
            signal(SIGUSR2) { _ in strays.add(1, ordering: .relaxed) }
            defer { signal(SIGUSR2, SIG_DFL) }
            try withGroup(threads: 2) { group in
                #expect(KernelThread.own?.blockedSignals == before)
                for shard in 0..<2 { pthread_kill(pthread_t(group.thread(of: shard)), SIGUSR2) }
                #expect(group.settle(0))
                #expect(group.settle(1))
                usleep(5_000)
            }
            #expect(strays.load(ordering: .relaxed) == 0)
            #expect(KernelThread.own?.blockedSignals == before)
        }
    }
}

private let strays = Atomic<Int>(0)
