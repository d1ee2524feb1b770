internal import CLinux

/// Whether one shard that has nothing to do looks for work a while before it sleeps: a judgement, learned from how long
/// its pauses are. The looking itself is in `Shard+Turns.swift`. Contract G12.
///
/// A pause begins with the first turn that finds nothing, and ends with work. It is short if looking would have caught
/// its end. Where most of them are short, the shard looks; where looking is in vain, it stops. A shard that has given
/// up several times takes longer and longer until it tries again.
///
/// - Threads: the shard's own.
struct Spinning {
    private let policy: IdlePolicy
    private let budget: SpinBudget

    private var isPausing = false
    private var pauseBegan: UInt64 = 0
    /// When the sleep of this pause ended, before what it ended for was run.
    private var pauseEnded: UInt64 = 0
    private var lastLook: UInt64 = 0
    /// The shard looks, and has its place in the budget, until it sleeps.
    private(set) var isLooking = false
    /// Looking has paid of late.
    private var isWilling = false
    /// How many of the last pauses were short, of 1,024.
    private var score = 0
    /// Pauses to sleep through before it may look again, and how many that will be after the next vain look.
    private var patience = 0
    private var nextPatience = 8
    /// How long it takes from a post to a sleeping shard until its task runs; as measured, 0 before.
    private var wakeCost: UInt64 = 0
    /// The CPU is wanted by others until then.
    private var contestedUntil: UInt64 = 0
    private var delay = RunDelay()

    /// Nanoseconds of CPU time for looks that found nothing. Contract G10.
    private(set) var nanoseconds: UInt64 = 0

    private static let scoreToBegin = 512, scoreToEnd = 384
    private static let patienceLimit = 4_096
    /// A look that takes so much longer than it should was interrupted: somebody else was given the CPU.
    private static let interruption: UInt64 = 500_000
    private static let contestedFor: UInt64 = 1_000_000_000

    init(_ policy: IdlePolicy, _ budget: SpinBudget) {
        self.policy = policy
        self.budget = budget
    }

    /// The longest look: what a wake costs is what a look may cost, so that the two together cost at most twice what
    /// the better of them would.
    private var limit: UInt64 {
        let worth = wakeCost == 0 ? 20_000 : max(5_000, 2 * wakeCost)
        return min(policy.limit, worth)
    }

    /// There is nothing to do. Whether to look for work now, rather than sleep.
    mutating func begin() -> Bool {
        if isPausing { return isLooking }
        isPausing = true
        pauseBegan = clinux_monotonic_ns()
        pauseEnded = pauseBegan
        lastLook = pauseBegan
        if !isLooking { isLooking = mayBegin() }
        return isLooking
    }

    private mutating func mayBegin() -> Bool {
        if policy.kind == .poll { return true }
        if patience > 0 { patience -= 1 }
        if score >= Self.scoreToBegin, patience == 0 { isWilling = true }
        return isWilling && pauseBegan >= contestedUntil && budget.take()
    }

    /// One look is over. Whether to go on.
    mutating func goOn(found: Bool) -> Bool {
        if found {
            didWork()
            return true
        }
        let now = clinux_monotonic_ns()
        let duration = now &- lastLook
        lastLook = now
        nanoseconds &+= duration
        if policy.kind == .poll { return true }
        if duration > Self.interruption {
            contestedUntil = now + Self.contestedFor
        } else if now &- pauseBegan < limit {
            return true
        }
        learn(isShort: false)
        stopLooking()
        isPausing = false  // learned from
        if score < Self.scoreToEnd {
            isWilling = false
            patience = nextPatience
            nextPatience = min(nextPatience * 2, Self.patienceLimit)
        }
        return false
    }

    /// The shard's sleep has ended.
    mutating func woke() { pauseEnded = clinux_monotonic_ns() }

    /// There was something to do.
    mutating func didWork() {
        guard isPausing else { return }
        isPausing = false
        // Asleep, this shard had to be woken, and maybe the other side, too: a look would have found it sooner.
        if policy.kind == .adaptive { learn(isShort: isLooking || pauseEnded &- pauseBegan < 3 * limit) }
    }

    private mutating func learn(isShort: Bool) {
        score += isShort ? (1_024 - score) / 8 : -score / 8
        if score > 896 { nextPatience = 8 }
    }

    private mutating func stopLooking() {
        guard isLooking else { return }
        isLooking = false
        budget.giveBack()
    }

    /// How long a post took to a shard that slept. Contract G10.
    mutating func learn(wakeCost cost: UInt64) {
        wakeCost = wakeCost == 0 ? cost : wakeCost - wakeCost / 8 + cost / 8
    }

    /// Asks the kernel, once a second, whether this thread has to wait for its CPU: then others want it.
    mutating func look() {
        guard policy.kind == .adaptive, let share = delay.share(at: clinux_monotonic_coarse_ns()) else { return }
        if share > 0.02 { contestedUntil = clinux_monotonic_ns() + 2 * Self.contestedFor }
    }

    /// The shard ends.
    mutating func end() { stopLooking() }
}

/// How much of the time the calling thread was ready to run and did not, as others had its CPU:
/// /proc/thread-self/schedstat, which proc(5) calls the time spent waiting on a run queue.
private struct RunDelay {
    private var nextLook: UInt64 = 0
    private var lastLook: UInt64 = 0
    private var lastDelay: UInt64 = 0

    private static let interval: UInt64 = 1_000_000_000

    /// A share of the time since the last look, once a second; nil in between, the first time, or where the kernel does
    /// not tell.
    mutating func share(at now: UInt64) -> Double? {
        guard now >= nextLook else { return nil }
        nextLook = now + Self.interval
        var files = SystemFiles(root: "/")
        let fields = files.text("/proc/thread-self/schedstat")?.split(separator: " ")
        guard let fields, fields.count > 1, let delay = UInt64(fields[1]) else { return nil }
        defer { (lastLook, lastDelay) = (now, delay) }
        guard lastLook != 0, now > lastLook, delay >= lastDelay else { return nil }
        return Double(delay - lastDelay) / Double(now - lastLook)
    }
}
