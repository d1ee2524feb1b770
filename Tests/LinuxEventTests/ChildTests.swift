import TestSupport
import Testing

extension LinuxEventSuite {
    /// Waiting for children concerns a whole process, so each case runs in a process of its own.
    @Suite("C Children")
    struct ChildTests {
        private func expectCase(_ name: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
            let outcome = try Fixture.run(name)
            #expect(outcome.exitCode == 0, "\(name): \(outcome)", sourceLocation: sourceLocation)
        }

        @Test("C1 a child's end is told as it was: code, signal, core; a stop is no end")
        func ends() throws { try expectCase("child-ends") }

        @Test("C1 a core file is told")
        func core() throws {
            let outcome = try Fixture.run("child-core")
            #expect(outcome.exitCode == 0, "\(outcome)")
            if outcome.output.contains("no core files") { print("C1: this machine leaves no core files") }
        }

        @Test(
            "C2 a process that vanishes while it is opened is refused with ESRCH, whatever the kernel says",
            .enabled(if: Strace.works, "strace cannot trace here"))
        func vanishing() throws {
            let outcome = try Strace.inject("pidfd_open:error=EINVAL:when=1", "child-vanishing")
            #expect(outcome.exitCode == 0, "\(outcome)")
        }

        @Test("C2 C3 C4 of several observers one that reaps is enough, each may go alone, and handlers go with them")
        func sharing() throws { try expectCase("child-sharing") }

        @Test("C3 C4 a number that was given away: each child has its own end, nobody is reaped or killed by mistake")
        func number() throws {
            let outcome = try Fixture.run("child-number")
            #expect(outcome.exitCode == 0, "\(outcome)")
            if !outcome.output.contains("numbers were chosen") { print("C3: process numbers cannot be chosen here") }
        }

        @Test("C2 a zombie is told in the next turn; one that was waited for, and nobody, are refused")
        func before() throws { try expectCase("child-before") }

        @Test("C3 the status is taken once and of this child only; one that went elsewhere is told as unknown")
        func status() throws { try expectCase("child-status") }

        @Test("C3 three hundred children are told once each, and no zombie stays")
        func crowd() throws { try expectCase("child-crowd") }

        @Test(
            "C1 C3 five thousand children at once, with mixed ends, are told once each, whoever else waits for them",
            arguments: ["alone", "thief"])
        func flood(company: String) throws {
            let words = ["child-flood", "\(Effort.rounds(5_000))", company]
            let outcome = HelperProcess(try Fixture.path, words).end(withinSeconds: 150)
            #expect(outcome.exitCode == 0, "\(company): \(outcome)")
        }

        @Test("C4 L5 the pidfd is gone before the callback, cancel spares the child, kill reaches it or nobody")
        func handle() throws { try expectCase("child-handle") }

        @Test("L14 C4 at the loop's end handlers go, kept handles are of the past, and what a deinit asks is refused")
        func end() throws { try expectCase("child-end") }

        @Test("L9 the end of a loop in a child of fork leaves the parent's signals, watchers and timers alone")
        func forkedEnd() throws { try expectCase("forked-end") }

        @Test("L9 E2 in a child of fork the parent's loop refuses, its waker works, the parent is not disturbed")
        func forked() throws { try expectCase("forked") }
    }
}
