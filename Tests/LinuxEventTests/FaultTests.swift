import TestSupport
import Testing

extension LinuxEventSuite {
    /// Every call that a loop makes of the kernel fails once, at every position of a scenario, with every errno of a
    /// table (FaultTable.swift of the fixture). The scenarios, too, are the fixture's: a fault may end a process.
    @Suite("Faults", .enabled(if: Faults.canBeOrdered, "calls fail by order in a debug build only"))
    struct FaultTests {
        @Test("L2 L11 L14 whichever call fails: loops are made, run and end")
        func life() throws { try sweep("life") }

        @Test("L9 L11 whichever call fails: the mark that tells a forked child is made by a later loop")
        func mark() throws { try sweep("mark") }

        @Test("L6 whichever call fails: a foreign loop hears of all work")
        func embedded() throws { try sweep("embedded") }

        @Test("W2 W3 W5 W8 whichever call fails: a watcher is as it was, or as asked")
        func watching() throws { try sweep("watching") }

        @Test("W5 W6 W7 whichever call fails: no edge and no oneshot is lost")
        func modes() throws { try sweep("modes") }

        @Test("W9 whichever call fails: a rebuild is made, or the old set serves on, for foreign loops too")
        func closed() throws { try sweep("closed") }

        @Test("W9 whichever call fails: what was closed is noticed, and nothing else is taken for it")
        func audited() throws { try sweep("audited") }

        @Test("W10 whichever call fails: what is parked comes back")
        func parking() throws { try sweep("parking") }

        @Test("T1 T3 whichever call fails: no timer is lost, and none is early")
        func timers() throws { try sweep("timers") }

        @Test("E1 E2 whichever call fails: no wake and no count is lost")
        func counters() throws { try sweep("counters") }

        @Test("E1 E2 whichever call fails, on a kernel whose eventfd knows no RWF_NOWAIT: no wake and no count is lost")
        func oldCounters() throws { try sweep("counters", "old") }

        @Test("S1 S2 S3 S4 whichever call fails: mask, ownership and what is pending stay right")
        func signals() throws { try sweep("signals") }

        @Test("C1 C2 C3 C4 whichever call fails: the end of each child is told, once")
        func children() throws { try sweep("children") }

        @Test("L11 W8 the scenarios make every kind of call, and there are errnos for each")
        func kinds() throws {
            let outcome = try Fixture.run("faults-kinds")
            #expect(outcome.exitCode == 0, "\(outcome)")
            print(outcome.output)
        }

        /// A sweep by the fixture; says how many positions there were, each with one errno.
        private func sweep(
            _ scenario: String, _ base: String? = nil, sourceLocation: SourceLocation = #_sourceLocation
        ) throws {
            let words = scenario == "mark" ? ["faults-mark"] : ["faults", scenario] + (base.map { [$0] } ?? [])
            let outcome = HelperProcess(try Fixture.path, words).end(withinSeconds: 100)
            #expect(outcome.exitCode == 0, "\(outcome)", sourceLocation: sourceLocation)
            let total = outcome.output.split(separator: "\n").first { $0.hasPrefix("positions ") }
            #expect(total != nil && total?.hasPrefix("positions 0 ") == false, sourceLocation: sourceLocation)
            print("faults: \(scenario) \(base ?? ""): \(total ?? "nothing")")
        }
    }
}

enum Faults {
    static var canBeOrdered: Bool {
        #if DEBUG
        true
        #else
        false
        #endif
    }
}
