/// The heads of the timer lists: 11 levels of 64, a level per base-64 digit of a deadline.
///
/// A timer's level is the highest digit in which it differs from `base`, its place there that digit. So every timer in
/// a level lies before all timers of higher levels, and places are in order of time.
@safe struct TimerBuckets: ~Copyable {
    private static let levels = 11
    /// Deadlines at or before the base.
    static let overdue = UInt16(levels * 64)
    /// Not a list: the node is in the queue's `due`.
    static let due = UInt16.max

    private struct Head {
        var first = TimerIndex.none
        /// No deadline of the list is earlier. Exact, unless the earliest was cancelled.
        var minimum = UInt64.max
    }

    @safe private struct Header {
        /// Which places of a level hold timers, and which levels any.
        var places = InlineArray<11, UInt64>(repeating: 0)
        var occupied: UInt16 = 0
    }

    private let header: UnsafeMutablePointer<Header>
    private let heads: UnsafeMutablePointer<Head>

    init() {
        unsafe header = .allocate(capacity: 1)
        unsafe header.initialize(to: Header())
        unsafe heads = .allocate(capacity: Self.levels * 64 + 1)
        unsafe heads.initialize(repeating: Head(), count: Self.levels * 64 + 1)
    }

    deinit {
        unsafe header.deallocate()
        unsafe heads.deallocate()
    }

    var memory: MemoryRange {
        unsafe MemoryRange(
            start: UInt(bitPattern: heads), byteCount: (Self.levels * 64 + 1) * MemoryLayout<Head>.stride)
    }

    @inline(__always) private var occupied: UInt16 { unsafe header.pointee.occupied }

    @inline(__always)
    private func places(_ level: Int) -> UInt64 { unsafe header.pointee.places[level] }

    @inline(__always)
    static func bucket(of deadline: UInt64, base: UInt64) -> UInt16 {
        guard deadline > base else { return overdue }
        let level = UInt64(63 - (deadline ^ base).leadingZeroBitCount) / 6
        return UInt16(level << 6 | deadline >> (level * 6) & 63)
    }

    /// Puts a timer in front; returns what was there.
    @inline(__always)
    func push(_ index: TimerIndex, _ deadline: UInt64, to bucket: UInt16) -> TimerIndex {
        let old = unsafe heads[Int(bucket)].first
        unsafe heads[Int(bucket)].first = index
        if old == .none {
            unsafe heads[Int(bucket)].minimum = deadline
            mark(bucket)
        } else if unsafe deadline < heads[Int(bucket)].minimum {
            unsafe heads[Int(bucket)].minimum = deadline
        }
        return old
    }

    func setHead(_ index: TimerIndex, of bucket: UInt16) {
        unsafe heads[Int(bucket)].first = index
        if index == .none { unmark(bucket) }
    }

    /// Empties a list; returns its first timer.
    func take(_ bucket: UInt16) -> TimerIndex {
        let first = unsafe heads[Int(bucket)].first
        if first != .none { setHead(.none, of: bucket) }
        return first
    }

    /// The list with the earliest timers that are not overdue, and the span of time that it stands for.
    func lowest(base: UInt64) -> (bucket: UInt16, first: UInt64, last: UInt64)? {
        guard occupied != 0 else { return nil }
        let level = occupied.trailingZeroBitCount
        let place = places(level).trailingZeroBitCount
        let shift = level * 6
        // Smart shifts: beyond 63 bits nothing is left, which is what the top level needs.
        let first = (base >> (shift + 6)) << (shift + 6) | UInt64(place) << shift
        return (UInt16(level << 6 | place), first, first | ((1 << shift) - 1))
    }

    /// No timer is due before this; nil without timers.
    func earliest(base: UInt64) -> UInt64? {
        if unsafe heads[Int(Self.overdue)].first != .none { return unsafe heads[Int(Self.overdue)].minimum }
        guard occupied != 0 else { return nil }
        let level = occupied.trailingZeroBitCount
        return unsafe heads[level << 6 | places(level).trailingZeroBitCount].minimum
    }

    private func mark(_ bucket: UInt16) {
        guard bucket != Self.overdue else { return }
        unsafe header.pointee.places[Int(bucket >> 6)] |= 1 << UInt64(bucket & 63)
        unsafe header.pointee.occupied |= 1 << (bucket >> 6)
    }

    private func unmark(_ bucket: UInt16) {
        guard bucket != Self.overdue else { return }
        unsafe header.pointee.places[Int(bucket >> 6)] &= ~(1 << UInt64(bucket & 63))
        if places(Int(bucket >> 6)) == 0 { unsafe header.pointee.occupied &= ~(1 << (bucket >> 6)) }
    }
}
