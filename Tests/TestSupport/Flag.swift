import Synchronization

/// One bit that threads may share.
public final class Flag: Sendable {
    private let bit = Atomic<Bool>(false)
    public init() {}
    public var isSet: Bool { bit.load(ordering: .acquiring) }
    public func set() { bit.store(true, ordering: .releasing) }
}

/// A number that threads may share.
public final class Tally: Sendable {
    private let number = Atomic<Int>(0)
    public init() {}
    public var value: Int { number.load(ordering: .acquiring) }
    public func add(_ amount: Int = 1) { number.add(amount, ordering: .acquiringAndReleasing) }
}
