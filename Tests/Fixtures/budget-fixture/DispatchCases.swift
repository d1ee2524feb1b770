import LinuxEvent
import LinuxEventGroup

/// What users capture: an object with a reference count.
final class Session {
    private(set) var bytes = 0
    @inline(__always) func touch() { bytes &+= 1 }
}

enum DispatchCases {
    static let all = [
        Case(name: "read handler that captures", budget: .nothing) { counter, operations in
            try onLoop(counter, operations) { loop, pipe, probe in
                let session = Session()
                try loop.watch(
                    pipe.readEnd,
                    read: { loop, _, _ in
                        session.touch()
                        if probe.call() { loop.stop() }
                    })
            }
        },
        Case(name: "read handler with data", budget: .nothing) { counter, operations in
            try onLoop(counter, operations) { loop, pipe, probe in
                try loop.watch(
                    pipe.readEnd,
                    read: { loop, _, _, session in
                        session.touch()
                        if probe.call() { loop.stop() }
                    }, data: Session())
            }
        },
        Case(name: "read handler with a struct as data", budget: .nothing) { counter, operations in
            try onLoop(counter, operations) { loop, pipe, probe in
                try loop.watch(
                    pipe.readEnd,
                    read: { loop, _, _, connection in
                        connection.session.touch()
                        if probe.call() { loop.stop() }
                    }, data: Connection(session: Session(), peer: Session(), number: 7))
            }
        },
        Case(name: "write handler", budget: .nothing) { counter, operations in
            try onLoop(counter, operations) { loop, pipe, probe in
                let session = Session()
                try loop.watch(
                    pipe.writeEnd,
                    write: { loop, _, _ in
                        session.touch()
                        if probe.call() { loop.stop() }
                    })
            }
        },
        Case(name: "read handler, with error and write handlers beside it", budget: .nothing) { counter, operations in
            try onLoop(counter, operations) { loop, pipe, probe in
                let session = Session()
                try loop.watch(
                    pipe.readEnd,
                    read: { loop, _, _ in
                        session.touch()
                        if probe.call() { loop.stop() }
                    },
                    write: { _, _, _ in session.touch() },
                    error: { _, _, _ in session.touch() })
            }
        },
        Case(name: "oneshot, re-armed in its callback", budget: .nothing) { counter, operations in
            try onLoop(counter, operations) { loop, pipe, probe in
                let session = Session()
                try loop.watch(
                    pipe.readEnd,
                    read: { loop, _, watcher in
                        session.touch()
                        _ = try? watcher.rearm()
                        if probe.call() { loop.stop() }
                    }, oneshot: true)
            }
        },
        Case(name: "interest changed and changed back in its callback", budget: .nothing) { counter, operations in
            try onLoop(counter, operations) { loop, pipe, probe in
                let session = Session()
                try loop.watch(
                    pipe.readEnd,
                    read: { loop, _, watcher in
                        session.touch()
                        _ = try? watcher.disableRead()
                        _ = try? watcher.enableRead()
                        if probe.call() { loop.stop() }
                    })
            }
        },
        Case(name: "driven by runOnce", budget: .nothing) { counter, operations in
            let pipe = Pipe(holdingByte: true)
            defer { pipe.closeBoth() }
            let probe = Probe(counter, operations: operations)
            let loop = try Loop()
            let session = Session()
            let done = Flag()
            try loop.watch(
                pipe.readEnd,
                read: { _, _, _ in
                    session.touch()
                    if probe.call() { done.raise() }
                })
            while !done.isRaised { try loop.runOnce(timeout: .zero) }
            try loop.close()
            return probe.finish()
        },
        Case(name: "group.watch", budget: .nothingOfAnothersThread) { counter, operations in
            let pipe = Pipe(holdingByte: true)
            let finished = Pipe()
            defer {
                pipe.closeBoth()
                finished.closeBoth()
            }
            let probe = Probe(counter, operations: operations)
            let group = try LoopGroup(threads: 1)
            _ = group.watch(
                pipe.readEnd, data: Session(),
                read: { _, _, watcher, session in
                    session.touch()
                    if probe.call() {
                        watcher.cancel()
                        finished.put()
                    }
                })
            finished.take()
            _ = try group.stop(deadline: .seconds(5))
            return probe.finish()
        },
        Case(name: "signalled eventfd", budget: .nothing) { counter, operations in
            let probe = Probe(counter, operations: operations)
            let loop = try Loop()
            let session = Session()
            let event = try loop.eventfd { loop, event in
                session.touch()
                event.signaller.signal()
                if probe.call() { loop.stop() }
            }
            event.signaller.signal()
            try loop.run()
            try loop.close()
            return probe.finish()
        },
    ]

    private struct Connection {
        let session: Session
        let peer: Session
        let number: Int
    }

    /// Runs a loop until the probe is through; the pipe holds a byte, so both of its ends are always ready.
    private static func onLoop(
        _ counter: Counter, _ operations: Int, watch: (Loop, Pipe, Probe) throws -> Void
    ) throws -> Counts {
        let pipe = Pipe(holdingByte: true)
        defer { pipe.closeBoth() }
        let probe = Probe(counter, operations: operations)
        let loop = try Loop()
        try watch(loop, pipe, probe)
        try loop.run()
        try loop.close()
        return probe.finish()
    }
}

private final class Flag {
    private(set) var isRaised = false
    func raise() { isRaised = true }
}
