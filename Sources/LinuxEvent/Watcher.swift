internal import CLinux

/// What a watcher's callbacks get: the loop, the descriptor, the watcher itself. Handlers do not throw. Contract W1.
public typealias Handler = (_ loop: Loop, _ descriptor: CInt, _ watcher: Watcher) -> Void

/// One registration of one descriptor on one loop: a handle, to be copied and kept at will.
///
/// It holds no closure and not the loop, so an object that keeps its watcher makes no cycle that `cancel` does not
/// break. A handle of the past does nothing for ever, even when its number is watched again. Contract W3, W4, W12.
///
/// - Threads: the loop's only. Contract L1.
public struct Watcher: Hashable {
    let set: WatcherSet
    /// The user's descriptor that it watches, or watched.
    public let descriptor: CInt
    let generation: UInt64

    @inline(__always)
    init(set: WatcherSet, descriptor: CInt, generation: UInt64) {
        self.set = set
        self.descriptor = descriptor
        self.generation = generation
    }

    /// The slot, while this watcher lives; checks the thread.
    private var slot: WatcherReference? {
        guard !set.owner.isForeign else { return nil }
        return set.table.live(descriptor, generation)
    }

    /// Still registered: not cancelled, not replaced, its loop not closed.
    public var isActive: Bool { slot != nil }

    /// Not a oneshot that has delivered its event. Contract W7.
    public var isArmed: Bool { slot.map { !$0.value.state.contains(.disarmed) } ?? false }

    /// Registered, but outside the kernel's set until its interest changes. Contract W10.
    public var isParked: Bool { slot.map { $0.value.state.contains(.parked) } ?? false }

    /// What is asked for; empty for a handle of the past.
    public var interest: Interest { slot?.value.interest ?? [] }

    /// Ends the watcher. When it returns, none of its callbacks will ever run again, not even for an event that was
    /// fetched already. The descriptor stays open: it is the user's. Contract W3.
    ///
    /// - Returns: false if it had ended before.
    @discardableResult
    public func cancel() -> Bool {
        guard let slot else { return false }
        self.set.unwatch(descriptor, slot)
        return true
    }

    /// Changes what is asked for. Outside a turn at once; inside a turn with its end, where what was undone meanwhile
    /// costs no system call. Contract W5.
    ///
    /// - Returns: false for a handle of the past.
    /// - Throws: the kernel's errno, where it was asked at once; then nothing has changed.
    @discardableResult
    public func setInterest(_ interest: Interest) throws(LoopError) -> Bool {
        guard let slot else { return false }
        try self.set.setInterest(interest, descriptor, slot)
        return true
    }

    /// As `setInterest`, for one part of it. Contract W5.
    @discardableResult
    public func enableRead() throws(LoopError) -> Bool { try setInterest(interest.union(.read)) }

    /// As `setInterest`, for one part of it. Contract W5.
    @discardableResult
    public func disableRead() throws(LoopError) -> Bool { try setInterest(interest.subtracting(.read)) }

    /// As `setInterest`, for one part of it. Contract W5.
    @discardableResult
    public func enableWrite() throws(LoopError) -> Bool { try setInterest(interest.union(.write)) }

    /// As `setInterest`, for one part of it. Contract W5.
    @discardableResult
    public func disableWrite() throws(LoopError) -> Bool { try setInterest(interest.subtracting(.write)) }

    /// Lets a oneshot report again. What is ready still, or again, is reported. Contract W7.
    ///
    /// In the callback that the oneshot ran it costs no system call if level-triggered, one if edge-triggered.
    ///
    /// - Returns: false for a handle of the past.
    @discardableResult
    public func rearm() throws(LoopError) -> Bool {
        guard let slot else { return false }
        try self.set.rearm(descriptor, slot)
        return true
    }

    public static func == (left: Watcher, right: Watcher) -> Bool {
        left.generation == right.generation && left.descriptor == right.descriptor && left.set === right.set
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(descriptor)
        hasher.combine(generation)
    }
}

@available(*, unavailable)
extension Watcher: Sendable {}
