import Testing

extension LinuxEventGroupSuite {
    /// That the explorer's memory is as weak as it says, and no weaker: what it cannot find, it does not show absent.
    @Suite("Explorer's memory", .enabled(if: !Explorer.isWatched, "the sanitizers know nothing of its stacks"))
    struct ExplorerMemoryTests {
        /// All endings of some threads, each of which notes what it saw; or how one fails.
        private func endings(
            _ limits: Search.Limits = Search.Limits(preemptions: nil, oddities: 2), words: Int = 2, notes: Int = 2,
            of threads: [(World) -> Void]
        ) -> (all: Set<[Int]>, failure: String?) {
            var all: Set<[Int]> = []
            let outcome = Search.explore(
                { world in
                    for _ in 0..<words { _ = world.addWord(0) }
                    for _ in 0..<notes { _ = world.addNote() }
                    _ = world.addPlain()
                    for (index, thread) in threads.enumerated() {
                        world.addThread("thread \(index + 1)") { thread(world) }
                    }
                    return { all.insert((0..<notes).map(world.note)) }
                }, limits)
            return (all, outcome.failure)
        }

        @Test("M4 explorer: two threads that store and then look may both miss the other's store")
        func storeBuffers() {
            let found = endings(of: [
                { world in
                    world.store(0, 1, isReleasing: true)
                    world.note(0, Int(world.load(1, isAcquiring: true)))
                },
                { world in
                    world.store(1, 1, isReleasing: true)
                    world.note(1, Int(world.load(0, isAcquiring: true)))
                },
            ])
            #expect(found.all == [[0, 0], [0, 1], [1, 0], [1, 1]])
        }

        @Test("M4 explorer: an old value is seen only by who has not seen a newer one")
        func coherence() {
            let found = endings(
                words: 1,
                of: [
                    { world in world.store(0, 1, isReleasing: false) },
                    { world in
                        world.note(0, Int(world.load(0, isAcquiring: false)))
                        world.note(1, Int(world.load(0, isAcquiring: false)))
                    },
                ])
            #expect(found.all == [[0, 0], [0, 1], [1, 1]])
        }

        @Test("M4 explorer: read-modify-writes miss none of each other, loads and stores do")
        func updates() {
            /// What two threads that do the same make of a word.
            func sums(_ body: @escaping (World) -> Void) -> Set<[Int]> {
                endings(
                    words: 1, notes: 1,
                    of: [body, body].map { body in
                        { world in
                            body(world)
                            world.note(0, Int(world.newest(0)))
                        }
                    }
                ).all
            }
            #expect(sums { world in _ = world.add(0, 1, isAcquiring: false, isReleasing: false) } == [[2]])
            #expect(
                sums { world in world.store(0, world.load(0, isAcquiring: true) + 1, isReleasing: true) }
                    == [[1], [2]])
        }

        enum Message: String, CaseIterable, CustomTestStringConvertible {
            case ordered, withoutRelease, withoutAcquire, continuedByUpdate, brokenByStore
            var testDescription: String { rawValue }
        }

        @Test("M2 explorer: plain memory is handed over by release and acquire alone", arguments: Message.allCases)
        func messages(message: Message) {
            var threads: [(World) -> Void] = [
                { world in
                    world.write(0, 1, "the data")
                    world.store(0, 1, isReleasing: message != .withoutRelease)
                },
                { world in
                    let seen = world.load(0, isAcquiring: message != .withoutAcquire)
                    let isHandedOver =
                        message == .continuedByUpdate || message == .brokenByStore ? seen == 2 : seen == 1
                    if isHandedOver { world.note(0, Int(world.read(0, "the data"))) }
                },
            ]
            if message == .continuedByUpdate {
                threads.append { world in
                    if world.load(0, isAcquiring: false) == 1 {
                        _ = world.add(0, 1, isAcquiring: false, isReleasing: false)
                    }
                }
            }
            if message == .brokenByStore {
                threads.append { world in
                    if world.load(0, isAcquiring: false) == 1 { world.store(0, 2, isReleasing: true) }
                }
            }
            let found = endings(words: 1, notes: 1, of: threads)
            if message == .ordered || message == .continuedByUpdate {
                #expect(found.failure == nil)
                #expect(found.all == [[0], [1]])
            } else {
                #expect(found.failure?.hasPrefix("race: thread 2 reads the data") == true, "\(found)")
            }
        }

        @Test("M4 explorer: what needs two pre-emptions is found with two, and not with one")
        func preemptions() {
            let threads: [(World) -> Void] = [
                { world in
                    let first = Int(world.load(0, isAcquiring: false))
                    world.note(0, first)
                    world.note(1, Int(world.load(0, isAcquiring: false)))
                },
                { world in
                    world.store(0, 1, isReleasing: false)
                    world.store(0, 2, isReleasing: false)
                },
            ]
            func found(_ preemptions: Int?) -> Set<[Int]> {
                endings(.init(preemptions: preemptions, oddities: 0), words: 1, of: threads).all
            }
            #expect(found(0) == [[0, 0], [2, 2]])
            #expect(found(1) == found(0).union([[0, 2], [1, 1]]))
            #expect(found(2) == found(1).union([[0, 1], [1, 2]]))
            #expect(found(nil) == found(2))
        }

        @Test("M4 explorer: to end a run at a state that was seen before hides no ending")
        func memory() {
            func ends(_ population: Population, remembers: Bool) -> (schedules: Int, ends: Set<UInt64>) {
                var ends: Set<UInt64> = []
                var limits = Search.Limits(preemptions: 2, oddities: 1)
                limits.remembers = remembers
                let outcome = Search.explore(
                    { world in
                        let atEnd = population.scenario()(world)
                        return {
                            atEnd()
                            ends.insert(world.hash(0))
                        }
                    }, limits)
                #expect(outcome.failure == nil)
                return (outcome.schedules, ends)
            }
            for population in [Population.returns, .stop] {
                let short = ends(population, remembers: true)
                let whole = ends(population, remembers: false)
                #expect(short.ends == whole.ends && short.ends.count > 20)
                #expect(short.schedules < whole.schedules)
                print("\(population): \(short.schedules) of \(whole.schedules) schedules, \(whole.ends.count) endings")
            }
        }
    }
}
