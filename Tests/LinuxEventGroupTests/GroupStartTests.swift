import CLinux
import Glibc
import LinuxEvent
import LinuxEventGroup
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("G1 Start")
    struct GroupStartTests {
        /// The CPUs that the calling thread may run on, by the kernel's list.
        private static var usableCPUs: [Int] { KernelThread.own?.cpuNumbers ?? [] }

        // MARK: All

        @Test("G1 every shard is a thread of its own, named, and pinned to the plan's CPU", arguments: [1, 2, 8])
        func pinned(threads: Int) throws {
            let cpus = Self.usableCPUs
            try withGroup(threads: threads) { group in
                #expect(group.count == threads)
                #expect(group.shards.map(\.index) == Array(0..<threads))
                #expect(group.plan.usableCPUs == cpus)
                let found = Tested.threads.sorted { $0.name < $1.name }
                #expect(found.map(\.name) == (0..<threads).map { "\(Tested.name)-\($0)" })
                // With more threads than CPUs, each CPU in turn.
                #expect(found.map(\.cpus) == (0..<threads).map { "\(cpus[$0 % cpus.count])" })
                #expect(group.plan.shards.map(\.cpu) == (0..<threads).map { cpus[$0 % cpus.count] })
                #expect(group.metrics.map(\.cpu) == group.plan.shards.map(\.cpu))
                for place in group.plan.shards {
                    #expect("\(group.plan)".contains("shard \(place.shard): CPU \(place.cpu!)"))
                }
            }
        }

        @Test("G1 without a number there is a shard for each CPU that the caller may use")
        func defaultCount() throws {
            try expectNothingLeft {
                let group = try LoopGroup(name: Tested.name)
                #expect(group.count == Self.usableCPUs.count)
                #expect(Tested.threads.count == group.count)
                #expect(try group.stop(deadline: .seconds(10)).isComplete)
            }
            let last = try #require(Self.usableCPUs.last)
            expectNothingLeft {
                var plan: Plan?
                Threads.runElsewhere {
                    _ = clinux_affinity_pin(CInt(last))
                    guard let group = try? LoopGroup(name: Tested.name) else { return }
                    plan = group.plan
                    _ = try? group.stop(deadline: .seconds(10))
                }
                #expect(plan?.shards.map(\.cpu) == [last])
            }
        }

        @Test("G1 the caller's own CPUs stay what they were")
        func callerIsNotPinned() throws {
            let before = Self.usableCPUs
            try withGroup(threads: 2) { _ in #expect(Self.usableCPUs == before) }
            #expect(Self.usableCPUs == before)
        }

        @Test("G1 a thread's name is cut to what the kernel takes")
        func longName() throws {
            try expectNothingLeft {
                let group = try LoopGroup(threads: 1, name: "a-name-longer-than-fifteen-bytes")
                #expect(KernelThread.all.contains { $0.name == "a-name-longer-t" })
                #expect(try group.stop(deadline: .seconds(10)).isComplete)
            }
        }

        @Test("G1 the start block has run once on every shard, on its thread, when the initializer returns")
        func startBlocks() throws {
            let ran = Log<(shard: Int, thread: UInt)>()
            let wrong = Tally()
            try withGroup(
                threads: 5,
                start: { shard in
                    usleep(UInt32(shard.index) * 2_000)
                    ran.add((shard.index, thisThread()))
                    if Shard.current !== shard { wrong.add() }
                    shard.loop.after(.zero) { _, _ in }
                }
            ) { group in
                #expect(ran.all.map(\.shard).sorted() == [0, 1, 2, 3, 4])
                for (shard, thread) in ran.all { #expect(group.thread(of: shard) == thread) }
            }
            #expect(ran.count == 5)
            #expect(wrong.value == 0)
        }

        @Test("G1 a shard runs nothing before all start blocks have returned")
        func noTaskBeforeTheBlocks() throws {
            let early = Tally()
            let slowIsThrough = Flag()
            try withGroup(
                threads: 2,
                start: { shard in
                    if shard.index == 1 {
                        usleep(20_000)
                        slowIsThrough.set()
                    } else {
                        shard.post { _ in if !slowIsThrough.isSet { early.add() } }
                        shard.loop.after(.zero) { _, _ in if !slowIsThrough.isSet { early.add() } }
                    }
                }
            ) { group in
                #expect(group.settle(0))
            }
            #expect(early.value == 0)
        }

        // MARK: Or none

        private struct Refusal: Error {}

        @Test("G1 a start block that throws on one shard undoes all, and the error names the shard", arguments: 0..<4)
        func startBlockThrows(failing: Int) throws {
            let deaths = Deaths()
            let ran = Tally()
            expectNothingLeft {
                let error = #expect(throws: LoopGroupError.self) {
                    try LoopGroup(threads: 4, name: Tested.name) { shard in
                        ran.add()
                        // What the others had begun must end on their threads.
                        let mortal = Mortal(deaths)
                        shard.loop.after(.seconds(60)) { _, _ in mortal.touch() }
                        shard.post { _ in mortal.touch() }
                        if shard.index == failing { throw Refusal() }
                    }
                }
                guard case .start(failing, let cause) = error else {
                    Issue.record("\(String(describing: error))")
                    return
                }
                #expect(cause is Refusal)
            }
            #expect(ran.value == 4)
            #expect(deaths.count == 4)
            #expect(deaths.elsewhere(than: thisThread()) == 4)
        }

        @Test("G1 start blocks that throw everywhere: the error names one of the shards")
        func allStartBlocksThrow() throws {
            expectNothingLeft {
                let error = #expect(throws: LoopGroupError.self) {
                    try LoopGroup(threads: 6, name: Tested.name) { _ in throw Refusal() }
                }
                guard case .start(let shard, _) = error, (0..<6).contains(shard) else {
                    Issue.record("\(String(describing: error))")
                    return
                }
            }
        }

        @Test("G1 tasks that start blocks post to a group that cannot start do not run, and end")
        func tasksOfAFailedStart() throws {
            let deaths = Deaths()
            let ran = Tally()
            expectNothingLeft {
                #expect(throws: LoopGroupError.self) {
                    try LoopGroup(threads: 3, name: Tested.name) { shard in
                        for other in 0..<3 {
                            let mortal = Mortal(deaths)
                            shard.group.post(to: other) { _ in
                                mortal.touch()
                                ran.add()
                            }
                        }
                        if shard.index == 1 { throw Refusal() }
                    }
                }
            }
            #expect(ran.value == 0)
            #expect(deaths.count == 9)
        }

        @Test(
            "G1 a number of threads below one, or beyond reason, is refused",
            arguments: [0, -1, Int.min, 4_097, Int.max])
        func invalidNumber(threads: Int) throws {
            expectNothingLeft {
                let error = #expect(throws: LoopGroupError.self) { try LoopGroup(threads: threads, name: Tested.name) }
                guard case .invalidThreads(threads) = error else {
                    Issue.record("\(String(describing: error))")
                    return
                }
                #expect("\(error!)".contains("\(threads)"))
            }
        }

        @Test("G1 without descriptors for all loops there is no group, and nothing is leaked")
        func tooFewDescriptors() throws {
            try expectNothingLeft {
                // What one group of three takes; also, /proc has been read once by then.
                let before = OpenDescriptors.count()
                let group = try LoopGroup(threads: 3, name: Tested.name)
                let needed = OpenDescriptors.count() - before
                #expect(try group.stop(deadline: .seconds(10)).isComplete)
                #expect(needed >= 3)
                for spare in 0..<needed {
                    let outcome = DescriptorLimit.leaving(spare: spare) { Self.outcomeOfStarting() }
                    #expect(outcome == .system(EMFILE), "\(spare) of \(needed)")
                    #expect(Tested.threads.isEmpty, "\(spare) of \(needed)")
                }
                #expect(DescriptorLimit.leaving(spare: needed) { Self.outcomeOfStarting() } == .started)
            }
        }

        private enum Outcome: Equatable { case started, system(CInt), other(String) }

        private static func outcomeOfStarting() -> Outcome {
            do throws(LoopGroupError) {
                let group = try LoopGroup(threads: 3, name: Tested.name)
                let report = try group.stop(deadline: .seconds(10))
                return report.isComplete ? .started : .other("\(report)")
            } catch {
                guard case .loop(0..<3, let cause) = error, let code = cause.code else { return .other("\(error)") }
                return .system(code)
            }
        }

        @Test("G1 where the system gives no thread there is no group, and nothing is leaked")
        func noThread() throws {
            typealias Attributes = UnsafeMutablePointer<pthread_attr_t>
            typealias SetDefault = @convention(c) (Attributes) -> CInt
            // Threads whose stacks are larger than the address space.
            let get = try #require(dlsym(nil, "pthread_getattr_default_np"))
            let set = try #require(dlsym(nil, "pthread_setattr_default_np"))
            var usual = pthread_attr_t()
            var absurd = pthread_attr_t()
            try #require(unsafeBitCast(get, to: SetDefault.self)(&usual) == 0)
            pthread_attr_init(&absurd)
            try #require(pthread_attr_setstacksize(&absurd, 1 << 50) == 0)
            expectNothingLeft {
                try? #require(unsafeBitCast(set, to: SetDefault.self)(&absurd) == 0)
                defer { _ = unsafeBitCast(set, to: SetDefault.self)(&usual) }
                let error = #expect(throws: LoopGroupError.self) { try LoopGroup(threads: 3, name: Tested.name) }
                guard case .thread(0, let cause) = error else {
                    Issue.record("\(String(describing: error))")
                    return
                }
                #expect(cause.code == EAGAIN)
            }
            // And afterwards all is well again.
            try withGroup(threads: 3) { group in #expect(group.settle(2)) }
        }
    }
}
