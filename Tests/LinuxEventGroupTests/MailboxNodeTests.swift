import Glibc
import LinuxEventGroup
import TestSupport
import Testing

extension LinuxEventGroupSuite {
    @Suite("M5 Memory of what is on its way")
    struct MailboxNodeTests {
        @Test("M5 threads that come, send and go leave no memory behind")
        func threadsComeAndGo() throws {
            let arrived = Tally()
            try withGroup(threads: 2) { group in
                let channel = group.channel(of: Words<6>.self) { _, _ in arrived.add() }
                func round() {
                    let before = arrived.value
                    let threads = (0..<4).map { _ in
                        Threads.spawn { for number in 0..<100 { channel.send(Words<6>(number), to: number & 1) } }
                    }
                    for thread in threads { thread.join() }
                    #expect(eventually { arrived.value == before + 400 })
                }
                for _ in 0..<50 { round() }
                let before = resident()
                for _ in 0..<Rounds.usually(600, long: 10_000) { round() }
                // A thread whose nodes were lost would leave 4 KB: 2,400 of them leave 10 MB.
                #expect(Build.hasOwnAllocator || resident() - before < 5 << 20)
            }
        }

        @Test("M5 a thread that outlives groups holds nothing of more than a few of them")
        func groupsComeAndGo() throws {
            func cycle() throws {
                let group = try LoopGroup(threads: 1, name: Tested.name)
                let arrived = Tally()
                let channel = group.channel(of: Words<6>.self) { _, _ in arrived.add() }
                for number in 0..<1_000 { channel.send(Words<6>(number), to: 0) }
                #expect(eventually { arrived.value == 1_000 })
                #expect(try group.stop(deadline: .seconds(10)).isComplete)
            }
            try expectNothingLeft {
                for _ in 0..<10 { try cycle() }
                let before = resident()
                for _ in 0..<Rounds.usually(500, long: 2_000) { try cycle() }
                // A group whose nodes were kept would leave 64 KB: 500 of them leave 32 MB.
                #expect(Build.hasOwnAllocator || resident() - before < 16 << 20)
            }
        }

        @Test("M5 threads may hold nodes of groups that have ended, and go in any order", arguments: [1, 6])
        func outliving(groups count: Int) throws {
            let sent = Tally()
            let arrived = Tally()
            let goOn = Flag()
            let refused = Tally()
            try expectNothingLeft {
                var groups: [LoopGroup] = []
                for _ in 0..<count { groups.append(try LoopGroup(threads: 1, name: Tested.name)) }
                let channels = groups.map { $0.channel(of: Int.self) { _, _ in arrived.add() } }
                let threads = (0..<3).map { thread in
                    Threads.spawn {
                        // To each in turn, which is more than a thread keeps nodes of.
                        for number in 0..<1_000 {
                            if channels[(number + thread) % count].send(number, to: 0).isSent { sent.add() }
                        }
                        while !goOn.isSet { usleep(100) }
                        for channel in channels where !channel.send(0, to: 0).isSent { refused.add() }
                    }
                }
                #expect(eventually { arrived.value == 3_000 })
                for group in groups { #expect(try group.stop(deadline: .seconds(10)).isComplete) }
                groups = []
                goOn.set()
                for thread in threads { thread.join() }
            }
            #expect(sent.value == 3_000)
            #expect(refused.value == 3 * count)
        }

        @Test("M5 a burst by a thread outside uses its memory again in the next")
        func burstsReuse() throws {
            let arrived = Tally()
            let burst = 50_000
            try withGroup { group in
                let channel = group.channel(of: Words<6>.self) { _, _ in arrived.add() }
                func round() {
                    let before = arrived.value
                    for number in 0..<burst { channel.send(Words<6>(number), to: 0) }
                    #expect(eventually { arrived.value == before + burst })
                    // What the shard still has in hand comes home when it falls asleep.
                    usleep(2_000)
                }
                for _ in 0..<3 { round() }
                let before = resident()
                for _ in 0..<10 { round() }
                #expect(Build.hasOwnAllocator || resident() - before < burst * 64)
            }
        }

        /// The process's memory, in bytes.
        private func resident() -> Int {
            let pages = Files.text("/proc/self/statm").split(separator: " ").dropFirst().first ?? ""
            return (Int(pages) ?? 0) * Int(getpagesize())
        }
    }
}
