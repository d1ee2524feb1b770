import NIOCore

/// The cases of the benchmark on SwiftNIO, by its event loops, channels and callbacks (not by its async interfaces,
/// which are slower).
///
/// Left out: `dispatch.level`, `dispatch.single` and `churn.*` (a channel owns its descriptor and reads it, there is no
/// watch alone), `turn.*` (it runs no turn on request), and cancel and reset with a million timers: NIO cancels by a
/// search from the heap's start, so a single one takes milliseconds.
@main
enum Main {
    enum Run {
        /// A quarter of the operations goes before.
        case warm(@Sendable (Int) throws -> Sample)
        case cold(@Sendable (Int) throws -> Sample)

        func callAsFunction(_ operations: Int) throws -> Sample {
            switch self {
            case .cold(let run): return try run(operations)
            case .warm(let run):
                _ = try run(max(operations / 4, 1))
                return try run(operations)
            }
        }
    }

    static let cases: KeyValuePairs<String, Run> = [
        "dispatch.ring": .warm(Ring.run),
        "timers.cancel.1k": .warm { try Timers.cancel(live: 1_000, operations: $0) },
        "timers.reset.10k": .warm { try Timers.reset(live: 10_000, operations: $0) },
        "timers.fire.1m": .cold(Timers.fire),
        "post.closure.1to1": .warm { try Posts.toOne(posters: 1, window: 100_000, operations: $0) },
        "post.closure.4to1": .warm { try Posts.toOne(posters: 4, window: 25_000, operations: $0) },
        "post.closure.alltoall": .warm(Posts.allToAll),
        "pingpong.asleep.onecpu": .warm { try PingPong.run(on: CPUs.a, CPUs.a, rounds: $0) },
        "pingpong.asleep.twocpus": .warm { try PingPong.run(on: CPUs.a, CPUs.b, rounds: $0) },
        // The load has a warm-up of its own.
        "echo.k64.p1": .cold { try Echo.run(connections: 64, pipeline: 1, requests: $0) },
        "echo.k64.p16": .cold { try Echo.run(connections: 64, pipeline: 16, requests: $0) },
        "echo.k1000.p1": .cold { try Echo.run(connections: 1_000, pipeline: 1, requests: $0) },
        "echo.k1000.p16": .cold { try Echo.run(connections: 1_000, pipeline: 16, requests: $0) },
        "memory.timer": .cold(Timers.memory),
    ]

    static func main() {
        let arguments = CommandLine.arguments.dropFirst()
        if arguments == ["--version"] {
            print("nio \(version())")
        } else if arguments == ["--list"] {
            for (name, _) in cases { print(name) }
        } else if arguments.count == 2, let name = arguments.first, let operations = arguments.last.flatMap(Int.init) {
            measure(name, max(operations, 1))
        } else {
            fail("usage: peer-nio --version | --list | SUITE.CASE OPERATIONS", exit: 64)
        }
    }

    private static func measure(_ name: String, _ operations: Int) {
        guard let run = cases.first(where: { $0.key == name })?.value else { fail("no case \(name)", exit: 64) }
        do {
            let sample = try run(operations)
            let note = sample.note.map { " \($0.name) \($0.value)" } ?? ""
            print("\(sample.operations) \(sample.nanoseconds)\(note)")
        } catch {
            fail("\(name): \(error)")
        }
    }
}
