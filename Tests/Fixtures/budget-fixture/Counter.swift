import Glibc

/// The preloaded counter's figures; Tests/BudgetTests/Counter/counter.h has the same five words in the same order.
struct Counts {
    var allocations: UInt64 = 0
    var frees: UInt64 = 0
    var retains: UInt64 = 0
    var releases: UInt64 = 0
    var accesses: UInt64 = 0

    static func - (later: Counts, earlier: Counts) -> Counts {
        Counts(
            allocations: later.allocations - earlier.allocations, frees: later.frees - earlier.frees,
            retains: later.retains - earlier.retains, releases: later.releases - earlier.releases,
            accesses: later.accesses - earlier.accesses)
    }
}

/// The preloaded counter, which counts for the whole process and all of its threads; nil without the preload.
@safe struct Counter: @unchecked Sendable {
    private let read: @convention(c) (UnsafeMutableRawPointer) -> Void

    init?() {
        guard let symbol = unsafe dlsym(nil, "budget_read") else { return nil }
        unsafe read = unsafeBitCast(symbol, to: (@convention(c) (UnsafeMutableRawPointer) -> Void).self)
    }

    var now: Counts {
        var counts = Counts()
        unsafe read(&counts)
        return counts
    }
}

/// Counts the callbacks of a case and reads the counter in the first one after the warm-up and in the last: between
/// the two lie whole turns of the loop and nothing else.
@safe struct Probe: @unchecked Sendable {
    struct State {
        var calls = 0
        var first = Counts()
        var last = Counts()
    }

    static let warmUp = 1_000
    private let counter: Counter
    private let operations: Int
    private let state: UnsafeMutablePointer<State>

    init(_ counter: Counter, operations: Int) {
        self.counter = counter
        self.operations = operations
        unsafe state = .allocate(capacity: 1)
        unsafe state.initialize(to: State())
    }

    /// True once, when the case is through.
    @inline(__always) func call() -> Bool {
        unsafe state.pointee.calls &+= 1
        if unsafe state.pointee.calls == Probe.warmUp { unsafe state.pointee.first = counter.now }
        guard unsafe state.pointee.calls == Probe.warmUp + operations else { return false }
        unsafe state.pointee.last = counter.now
        return true
    }

    func finish() -> Counts {
        defer { unsafe state.deallocate() }
        return unsafe state.pointee.last - state.pointee.first
    }
}
