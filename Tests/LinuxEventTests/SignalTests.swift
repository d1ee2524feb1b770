import CLinux
import Glibc
import LinuxEvent
import TestSupport
import Testing

extension LinuxEventSuite {
    /// Signals belong to a whole process and to all its threads, so each case runs in a process of its own.
    @Suite("S Signals")
    struct SignalTests {
        private func expectCase(_ name: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
            let outcome = try Fixture.run(name)
            #expect(outcome.exitCode == 0, "\(name): \(outcome)", sourceLocation: sourceLocation)
        }

        @Test("S1 several subscriptions to one signal run in the order made")
        func fanOut() throws { try expectCase("fan-out") }

        @Test("S1 equal pending signals arrive as one record")
        func coalesce() throws { try expectCase("coalesce") }

        @Test("S1 queued signals are counted, each record once")
        func realTime() throws { try expectCase("realtime") }

        @Test("S1 a signal carries number, count, and the sender's pid, uid and code")
        func values() throws { try expectCase("values") }

        @Test("S1 subscriptions may be made and cancelled in a handler")
        func cancelInside() throws { try expectCase("cancel-inside") }

        @Test("S1 SIGINT and SIGTERM from outside end run() cleanly", arguments: [SIGINT, SIGTERM])
        func endFromOutside(number: CInt) throws {
            let helper = try Fixture.start("run-until")
            #expect(helper.waitForLine("ready"))
            helper.send(number)
            let outcome = helper.end()
            #expect(outcome.exitCode == 0, "\(outcome)")
            #expect(outcome.output == "ready\nsignal \(number)\nclean end\n")
        }

        @Test("S2 a signal that some thread does not block is refused, with that thread's name")
        func openThread() throws { try expectCase("open-thread") }

        @Test("S2 a refused claim leaves what was pending, the mask and the descriptors as they were")
        func refusedClaim() throws { try expectCase("refused-claim") }

        @Test("S2 threads started after blockSignals() are no obstacle")
        func blockedThread() throws { try expectCase("blocked-thread") }

        @Test("S2 a thousand signals into a prepared process with the runtime's threads at work end nobody")
        func intoThreads() throws {
            let helper = try Fixture.start("signal-storm")
            #expect(helper.waitForLine("ready"))
            for _ in 0..<1_000 {
                helper.send(SIGUSR1)
                usleep(100)
            }
            helper.send(SIGTERM)
            let outcome = helper.end()
            #expect(outcome.exitCode == 0, "\(outcome)")
            #expect(outcome.output.hasSuffix("taken\n"))
        }

        @Test("S2 in an async main the claim is refused, and the error names the first thread and the cause")
        func asyncMain() throws {
            let program = try #require(Build.program("async-fixture"), "async-fixture is not beside the tests")
            let outcome = HelperProcess(program).end()
            #expect(outcome.exitCode == 0, "\(outcome)")
            #expect(outcome.output.contains("async"), "\(outcome)")
        }

        @Test("S3 a second loop's claim is a typed error until the first lets go")
        func owned() throws { try expectCase("owned") }

        @Test("S3 KILL, STOP, faults and numbers out of range are refused")
        func refused() throws { try expectCase("refused") }

        @Test("S4 a signal pending at the last cancel never takes its default action")
        func cancelPending() throws { try expectCase("cancel-pending") }

        @Test("S4 only the last cancel drains and unblocks")
        func cancelSome() throws { try expectCase("cancel-some") }

        @Test("S4 the mask is restored exactly")
        func mask() throws { try expectCase("mask") }

        @Test("S4 what the user had blocked stays blocked")
        func maskOfUser() throws { try expectCase("mask-user") }

        @Test("S4 a loop dropped with subscriptions leaves mask, ownership and descriptors as they were")
        func endOfLoop() throws { try expectCase("end-of-loop") }

        @Test("S1 of several records of one signal the last one's sender is told")
        func senders() throws { try expectCase("senders") }

        @Test("L14 S4 at the loop's end handlers go, kept handles are of the past, and what a deinit asks is refused")
        func releaseAtEnd() throws { try expectCase("release-at-end") }

        @Test("L13 queued signals have a budget")
        func budget() throws { try expectCase("budget") }

        @Test("L7 an interval timer of 1 kHz neither shortens nor prolongs a wait in a single thread")
        func storm() throws { try expectCase("storm") }

        @Test("S1 the fixture does report what fails")
        func fixtureFails() throws {
            #expect(try Fixture.run("no such case").exitCode == 2)
            #expect(try Fixture.run("trial").exitCode == 1)
        }
    }
}
