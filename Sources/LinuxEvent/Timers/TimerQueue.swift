internal import CLinux

/// The timers of one loop, and the one timerfd that they share. Contract T1.
///
/// Timers hang in lists by the highest base-64 digit in which their deadline differs from `base`, the time of the last
/// collection: a radix heap, which is a timer wheel without ticks. To add and to cancel take constant time. As time
/// passes `base`, a list is dealt out to finer ones; at most once per digit. Exact to the nanosecond, because only
/// what is due is sorted.
///
/// A class of its own, so that a `Timer` which the user keeps holds this and not the loop.
final class TimerQueue {
    let owner: LoopOwner
    // Constants over raw memory, both: variables would be checked for exclusive access at every step.
    private let store = TimerStore()
    private let buckets = TimerBuckets()

    var memory: [MemoryRange] { store.memory + [buckets.memory] }
    /// No live timer outside `due` and the overdue list has a deadline at or before this.
    private var base: UInt64
    /// The last number given to a timer: as its generation, and as its place among equal deadlines.
    private var lastNumber: UInt64 = 0

    /// What is due and has not run, in order from `nextDue` on.
    private let due = Cell<[DueTimer]>([])
    private var nextDue = 0

    private let alarm: TimerFD
    /// What the alarm is set to, while it has not gone off.
    private var armed: UInt64?
    private(set) var isClosed = false

    var descriptor: CInt { alarm.descriptor }
    var live: Int { store.live }
    /// Something was due and has not run: the budget was used up. Cancelled ones count until they are passed over.
    private(set) var hasLeftovers = false
    var hasAny: Bool { store.live > 0 || hasLeftovers }

    init(_ owner: LoopOwner, startingAt start: Instant) throws(LoopError) {
        self.owner = owner
        base = start.nanoseconds
        alarm = try TimerFD()
    }

    deinit { close() }

    // MARK: Scheduling

    func schedule(_ deadline: UInt64, interval: UInt64, _ handler: @escaping TimerHandler) -> Timer {
        let number = nextNumber()
        let index = store.insert(
            TimerNode(
                deadline: deadline, order: number, generation: number, interval: interval, next: .none,
                previous: .none, missed: 0, bucket: 0, handler: TimerNode.Held(run: handler)))
        file(index, store[index])
        return Timer(queue: self, index: index, generation: number)
    }

    @inline(__always)
    private func nextNumber() -> UInt64 {
        lastNumber &+= 1
        return lastNumber
    }

    /// Contract T4. A due timer stays in `due`, where its generation finds nobody.
    func cancel(_ index: TimerIndex, _ generation: UInt64) -> Bool {
        guard let node = store.live(index, generation) else { return false }
        unfile(node)
        // Released when this returns, or when the call that is running has returned; the loop holds it there.
        let handler = store.remove(index)
        _ = consume handler
        return true
    }

    /// Contract T9. A due timer stays in `due`, where its old number finds nobody.
    func reschedule(_ index: TimerIndex, _ generation: UInt64, at deadline: UInt64) -> Bool {
        guard let node = store.live(index, generation) else { return false }
        unfile(node)
        node.value.deadline = deadline
        node.value.order = nextNumber()
        file(index, node)
        return true
    }

    func node(_ index: TimerIndex, _ generation: UInt64) -> TimerReference? { store.live(index, generation) }

    // MARK: Buckets

    @inline(__always)
    private func file(_ index: TimerIndex, _ node: TimerReference) {
        let bucket = TimerBuckets.bucket(of: node.value.deadline, base: base)
        let head = buckets.push(index, node.value.deadline, to: bucket)
        node.value.bucket = bucket
        node.value.previous = .none
        node.value.next = head
        if head != .none { store[head].value.previous = index }
    }

    @inline(__always)
    private func unfile(_ node: TimerReference) {
        let bucket = node.value.bucket
        guard bucket != TimerBuckets.due else { return }
        let next = node.value.next, previous = node.value.previous
        if next != .none { store[next].value.previous = previous }
        if previous != .none {
            store[previous].value.next = next
        } else {
            buckets.setHead(next, of: bucket)
        }
    }

    // MARK: What is due

    /// Moves all that is due at `now` into `due`, in the order of deadline and scheduling. Contract T3, T5.
    func collect(_ now: UInt64) {
        if nextDue >= Budget.timers {
            // More is due than a turn may run: what has run must not pile up before it.
            due.value.removeFirst(nextDue)
            nextDue = 0
        }
        let leftovers = due.value.count
        moveToDue(buckets.take(TimerBuckets.overdue))
        while let (bucket, first, last) = buckets.lowest(base: base), first <= now {
            let list = buckets.take(bucket)
            if last <= now {
                moveToDue(list)
            } else {
                base = now
                deal(list)
                moveToDue(buckets.take(TimerBuckets.overdue))
            }
        }
        base = max(base, now)
        hasLeftovers = nextDue < due.value.count
        guard due.value.count > leftovers else { return }
        // What was left over was due earlier, as a rule, and then the two parts need not be merged.
        if due.value.count - leftovers > 1 { due.value[leftovers...].sort() }
        if nextDue < leftovers, due.value[leftovers] < due.value[leftovers - 1] { due.value[nextDue...].sort() }
    }

    private func moveToDue(_ list: TimerIndex) {
        var index = list
        while index != .none {
            let node = store[index]
            let next = node.value.next
            node.value.bucket = TimerBuckets.due
            due.value.append(
                DueTimer(
                    deadline: node.value.deadline, order: node.value.order, generation: node.value.generation,
                    index: index))
            index = next
        }
    }

    /// Files a list anew, nearer to where it belongs.
    private func deal(_ list: TimerIndex) {
        var index = list
        while index != .none {
            let node = store[index]
            let next = node.value.next
            file(index, node)
            index = next
        }
    }

    /// The next timer to run: one that runs once is gone already, one that repeats has its next deadline already. So
    /// what its handler does to it is exact. Contract T4, T6.
    func takeDue(_ now: UInt64) -> DueCall? {
        while nextDue < due.value.count {
            let entry = due.value[nextDue]
            nextDue += 1
            if nextDue == due.value.count { forgetDue() }
            guard let node = live(entry) else { continue }  // cancelled meanwhile, or given another time
            let interval = node.value.interval
            guard interval > 0 else {
                return DueCall(index: entry.index, generation: entry.generation, handler: store.remove(entry.index))
            }
            let missed = now > entry.deadline ? (now - entry.deadline) / interval : 0
            node.value.missed = UInt32(clamping: missed)
            node.value.deadline = entry.deadline.addingSaturated(interval.multipliedSaturated(by: missed + 1))
            node.value.order = nextNumber()
            file(entry.index, node)
            return DueCall(index: entry.index, generation: entry.generation, handler: node.lendHandler())
        }
        return nil
    }

    private func live(_ entry: DueTimer) -> TimerReference? {
        guard let node = store.live(entry.index, entry.generation), node.value.order == entry.order else { return nil }
        return node
    }

    /// After the call: a timer that repeats and was not cancelled gets its handler back. Else it ends here.
    func takeBack(_ call: consuming DueCall) {
        guard let node = store.live(call.index, call.generation) else { return }
        node.value.handler = call.handler
    }

    /// A timer and its handler, moved out of its node and not copied: that would count references.
    struct DueCall: ~Copyable {
        let index: TimerIndex
        let generation: UInt64
        let handler: TimerNode.Held
    }

    private func forgetDue() {
        due.value.removeAll(keepingCapacity: due.value.capacity <= Budget.timers)
        nextDue = 0
        hasLeftovers = false
    }

    /// Of what is due, how many timers still live. Counted when asked: dispatch keeps no account of it.
    var dueCount: Int { due.value[nextDue...].count { live($0) != nil } }

    /// No timer is due before this; nil without timers.
    var earliest: UInt64? { hasLeftovers ? 0 : buckets.earliest(base: base) }

    // MARK: The alarm

    /// The alarm went off; setting it anew clears what it counted, so it is never read.
    func alarmFired() { armed = nil }

    /// Sets the alarm for the next wait, if that would otherwise end too late. Contract T1.
    ///
    /// A deadline that was cancelled stays in the alarm: it may end one wait early, which costs less than a system
    /// call for each of the cancellations.
    ///
    /// - Returns: whether something is due already, and the wait must not block.
    @inline(__always)
    func arm(_ limit: WaitLimit) throws(LoopError) -> Bool {
        if case .none = limit, store.live == 0 { return false }
        return try armNow(limit)
    }

    private func armNow(_ limit: WaitLimit) throws(LoopError) -> Bool {
        var needed = buckets.earliest(base: base)
        if case .until(let end) = limit { needed = min(needed ?? .max, end.nanoseconds) }
        guard let needed, needed < armed ?? .max else { return false }
        if needed <= Instant.now.nanoseconds { return true }
        try setAlarm(needed)
        return false
    }

    private func setAlarm(_ deadline: UInt64) throws(LoopError) {
        try alarm.arm(Instant(nanoseconds: deadline))
        armed = deadline
    }

    /// As `arm`, for a foreign loop that polls our descriptor and waits in our stead: the alarm must be right outside
    /// of turns too, and a deadline that has passed sets it off. Contract L6.
    func armForOthers() throws(LoopError) {
        guard let needed = buckets.earliest(base: base), needed < armed ?? .max else { return }
        try setAlarm(needed)
    }

    func close() {
        guard !isClosed else { return }
        isClosed = true
        var live: [(TimerIndex, UInt64)] = []
        store.forEach { live.append(($0, store[$0].value.generation)) }
        forgetDue()
        // By generation: what the release of one handler cancels, another must not touch.
        for (index, generation) in live { _ = cancel(index, generation) }
        alarm.close()
    }
}

/// A timer that is due, with all that its order needs.
private struct DueTimer: Comparable {
    let deadline: UInt64
    let order: UInt64
    let generation: UInt64
    let index: TimerIndex

    static func < (left: DueTimer, right: DueTimer) -> Bool {
        left.deadline != right.deadline ? left.deadline < right.deadline : left.order < right.order
    }
}

extension UInt64 {
    func addingSaturated(_ other: UInt64) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }

    func multipliedSaturated(by other: UInt64) -> UInt64 {
        let (product, overflow) = multipliedReportingOverflow(by: other)
        return overflow ? .max : product
    }
}
