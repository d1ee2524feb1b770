// Runs the engine's hot paths under the preloaded counter and holds each to its budget. To be built for release: in a
// debug build the compiler's own retains would be counted. tools/budget --check does all of it.
import Glibc

/// What one operation may cost; nil is reported and not judged.
struct Budget: Sendable {
    var allocations: Double? = 0
    var retains: Double? = 0
    var releases: Double? = 0
    var accesses: Double? = 0

    static let nothing = Budget()
    /// The counter sees the whole process, and on a busy machine something of the other threads' falls into a case. A
    /// cost of each event would be two hundred times as much.
    static let nothingOfAnothersThread = Budget(allocations: 0.005, retains: 0.005, releases: 0.005, accesses: 0.005)
}

struct Case: Sendable {
    let name: String
    let budget: Budget
    let run: @Sendable (Counter, _ operations: Int) throws -> Counts
}

let arguments = CommandLine.arguments.dropFirst()
let operations = arguments.isEmpty ? 100_000 : arguments.first.flatMap { Int($0) } ?? 0
guard arguments.count <= 1, operations > 0 else {
    print(
        """
        usage: LD_PRELOAD=counter.so budget-fixture [OPERATIONS]
        Allocations, retains, releases and run-time exclusivity checks of each hot path, per operation.
        Exit: 0 within the budgets, 1 beyond one, 2 nothing was counted.
        """)
    exit(arguments.first == "--help" ? 0 : 2)
}
guard let counter = Counter() else {
    print("budget-fixture: no counter is preloaded")
    exit(2)
}
guard CounterCheck.passes(counter) else {
    print("budget-fixture: the counter does not see what is done on purpose, so a zero would mean nothing")
    exit(2)
}

func perOperation(_ count: UInt64) -> Double { Double(count) / Double(operations) }

func text(_ value: Double) -> String {
    let thousandths = Int((value * 1000).rounded(.up))
    let fraction = String(thousandths % 1000)
    return "\(thousandths / 1000).\(String(repeating: "0", count: 3 - fraction.count))\(fraction)"
}

/// What happens once in a while (a slab for a thousand nodes) is not a cost per operation.
let tolerance = 0.001

func column(_ name: String, _ count: UInt64, _ limit: Double?) -> (text: String, exceeded: Bool) {
    let value = perOperation(count)
    guard let limit else { return ("\(name) \(text(value))", false) }
    let exceeded = value > limit + (limit == 0 ? 0 : tolerance)
    return ("\(name) \(text(value))\(exceeded ? " (budget \(text(limit)))" : "")", exceeded)
}

var failures = 0
for testCase in DispatchCases.all + TimerCases.all + PostCases.all {
    do {
        let counts = try testCase.run(counter, operations)
        let columns = [
            column("allocations", counts.allocations, testCase.budget.allocations),
            column("retains", counts.retains, testCase.budget.retains),
            column("releases", counts.releases, testCase.budget.releases),
            column("accesses", counts.accesses, testCase.budget.accesses),
        ]
        let exceeded = columns.contains { $0.exceeded }
        if exceeded { failures += 1 }
        print("\(exceeded ? "OVER" : "ok  ") \(testCase.name): \(columns.map(\.text).joined(separator: ", "))")
    } catch {
        failures += 1
        print("FAIL \(testCase.name): \(error)")
    }
    fflush(nil)
}
print("\(failures == 0 ? "all" : "not all") within budget, \(operations) operations each")
exit(failures == 0 ? 0 : 1)
