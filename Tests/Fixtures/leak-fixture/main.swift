// Makes and ends everything that the engine and the group have, again and again, and ends itself. Built with the
// address sanitizer, whose leak detector then looks for memory that nothing names any more. tools/check does all of it.
import CLinux
import Glibc
import LinuxEvent
import LinuxEventGroup
import Synchronization

let arguments = Array(CommandLine.arguments.dropFirst())
guard arguments.count <= 1, arguments.first != "--help", ["", "--leak"].contains(arguments.first ?? "") else {
    print(
        """
        usage: leak-fixture [--leak]
        Makes and ends loops, watchers, timers, counters, signals, children and groups, then itself.
          --leak  Leaves an object and a piece of memory behind, to show that both are noticed.
        Exit: 0 if every object of its own has ended; the leak detector's status where it found something.
        """)
    exit(arguments.first == "--help" ? 0 : 2)
}

/// What handlers capture and tasks carry: each must have ended when all is over.
final class Load: Sendable {
    static let alive = Atomic<Int>(0)
    let words = [1, 2, 3]
    init() { Load.alive.add(1, ordering: .relaxed) }
    deinit { Load.alive.subtract(1, ordering: .relaxed) }
    func touch() {}
}

try blockSignals([SIGUSR1, SIGUSR2])
let rounds = 20
for _ in 0..<rounds {
    try LoopLives.all()
    try GroupLives.all()
}
if arguments.first == "--leak" {
    _ = Unmanaged.passRetained(Load())
    // In a function of its own, so that no register and no stack slot names it any more.
    leaveMemoryBehind()
}
let alive = Load.alive.load(ordering: .acquiring)
let expected = arguments.first == "--leak" ? 1 : 0
if alive != expected {
    print("FAILED: \(alive) objects live on after \(rounds) rounds")
    exit(1)
}
print("\(rounds) rounds, every object of theirs has ended")

@inline(never)
func leaveMemoryBehind() { UnsafeMutablePointer<UInt64>.allocate(capacity: 64).initialize(to: 1) }
