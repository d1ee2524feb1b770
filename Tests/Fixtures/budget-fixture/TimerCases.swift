import LinuxEvent

enum TimerCases {
    static let all = [
        Case(name: "repeating timer", budget: .nothing) { counter, operations in
            try onLoop(counter, operations) { loop, probe in
                let session = Session()
                try loop.every(.nanoseconds(1)) { loop, _ in
                    session.touch()
                    if probe.call() { loop.stop() }
                }
            }
        },
        // What a server does with its deadlines, once their handler is made. The loop keeps the handler and the handle
        // keeps the queue, a retain each; the third is this file's, which reads a handle from where it is stored.
        Case(
            name: "timer cancelled and scheduled again with the same handler",
            budget: Budget(retains: 3, releases: 3)
        ) { counter, operations in
            try onLoop(counter, operations) { loop, probe in
                let session = Session()
                let handler: (Loop, Timer) -> Void = { _, _ in session.touch() }
                let slot = Slot(loop.after(.seconds(60), handler))
                try loop.every(.nanoseconds(1)) { loop, _ in
                    slot.timer.cancel()
                    slot.timer = loop.after(.seconds(60), handler)
                    if probe.call() { loop.stop() }
                }
            }
        },
        Case(
            name: "one-shot timer that schedules itself again",
            budget: Budget(retains: 3, releases: 3)
        ) { counter, operations in
            try onLoop(counter, operations) { loop, probe in
                let again = Again(probe)
                loop.after(.zero, again.handler)
            }
        },
    ]

    private final class Slot {
        var timer: Timer
        init(_ timer: Timer) { self.timer = timer }
    }

    /// A handler that refers to itself; it lives as long as the process.
    private final class Again {
        private(set) var handler: (Loop, Timer) -> Void = { _, _ in }

        init(_ probe: Probe) {
            handler = { loop, _ in
                if probe.call() { loop.stop() } else { loop.after(.zero, self.handler) }
            }
        }
    }

    private static func onLoop(
        _ counter: Counter, _ operations: Int, schedule: (Loop, Probe) throws -> Void
    ) throws -> Counts {
        let probe = Probe(counter, operations: operations)
        let loop = try Loop()
        try schedule(loop, probe)
        try loop.run()
        try loop.close()
        return probe.finish()
    }
}
