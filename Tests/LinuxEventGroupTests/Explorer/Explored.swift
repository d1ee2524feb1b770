@testable import LinuxEventGroup
import Synchronization

/// A word of the world that is explored.
struct ExploredWord: AtomicWord {
    let number: Int

    init(_ value: consuming UInt) { number = World.current.addWord(value) }

    /// The word with this number.
    init(number: Int) { self.number = number }

    private var fault: WordFault? { World.current.fault(of: number) }

    func load(ordering: AtomicLoadOrdering) -> UInt {
        let fault = self.fault
        let isAcquiring = ordering != .relaxed && fault != .acquiresNothing
        return World.current.load(number, isAcquiring: isAcquiring || fault == .loadsAcquire)
    }

    func store(_ desired: consuming UInt, ordering: AtomicStoreOrdering) {
        World.current.store(number, desired, isReleasing: ordering != .relaxed && fault != .releasesNothing)
    }

    func exchange(_ desired: consuming UInt, ordering: AtomicUpdateOrdering) -> UInt {
        let fault = self.fault
        if fault == .exchangesByStore(for: desired) {
            let old = load(ordering: .acquiring)
            store(desired, ordering: .releasing)
            return old
        }
        return World.current.exchange(
            number, desired, isAcquiring: isAcquiring(ordering) && fault != .exchangeAcquiresNothing(for: desired),
            isReleasing: isReleasing(ordering) && fault != .exchangeReleasesNothing(for: desired))
    }

    func weakCompareExchange(
        expected: consuming UInt, desired: consuming UInt,
        successOrdering: AtomicUpdateOrdering, failureOrdering: AtomicLoadOrdering
    ) -> (exchanged: Bool, original: UInt) {
        compareExchange(expected, desired, successOrdering, isWeak: fault != .exchangesStrongly)
    }

    func compareExchange(
        expected: consuming UInt, desired: consuming UInt, ordering: AtomicUpdateOrdering
    ) -> (exchanged: Bool, original: UInt) {
        compareExchange(expected, desired, ordering, isWeak: false)
    }

    private func compareExchange(
        _ expected: UInt, _ desired: UInt, _ ordering: AtomicUpdateOrdering, isWeak: Bool
    ) -> (exchanged: Bool, original: UInt) {
        let isByStore =
            switch fault {
            case .comparesByStoreFor(let value): value == desired
            case .comparesByStoreExceptFrom(let value): value != expected
            case .comparesByStoreAlways: true
            default: false
            }
        if isByStore {
            let old = load(ordering: .acquiring)
            if old != expected { return (false, old) }
            store(desired, ordering: .releasing)
            return (true, old)
        }
        let isOrdered = fault == .compareIsOrdered(for: desired)
        return World.current.compareExchange(
            number, expected: expected, desired: desired, isAcquiring: isAcquiring(ordering) || isOrdered,
            isReleasing: isReleasing(ordering) || isOrdered, isWeak: isWeak, failureAcquires: fault == .loadsAcquire)
    }

    private func isAcquiring(_ ordering: AtomicUpdateOrdering) -> Bool {
        ordering != .relaxed && ordering != .releasing && fault != .acquiresNothing
    }

    private func isReleasing(_ ordering: AtomicUpdateOrdering) -> Bool {
        ordering != .relaxed && ordering != .acquiring && fault != .releasesNothing
    }
}

/// Whether tasks are not run any more, in a word of the world that is explored.
struct ExploredFlag: AbandonFlag {
    private let word = ExploredWord(0)

    var isAbandoned: Bool { word.load(ordering: .relaxed) != 0 }

    func abandon() { word.store(1, ordering: .relaxed) }
}

/// A node of the world that is explored, with a link and the number of a task in plain memory.
struct ExploredNode: LinkedNode {
    /// 16 times its number, from 1. Its link and its task lie in the plain memory with the numbers after that.
    let bits: UInt

    init(bits: UInt) { self.bits = bits }

    /// Makes a node, before the first run.
    init(in world: World) {
        bits = UInt(world.addPlain() + 1) * 16
        _ = world.addPlain()
    }

    var number: Int { Int(bits / 16) }

    /// Where its link lies.
    var linkPlace: Int { number - 1 }

    var next: UInt {
        get { World.current.read(linkPlace, "the link of node \(number)") }
        nonmutating set { World.current.write(linkPlace, newValue, "the link of node \(number)") }
    }

    var task: Int {
        get { Int(World.current.read(number, "the task in node \(number)")) }
        nonmutating set { World.current.write(number, UInt(newValue), "the task in node \(number)") }
    }
}

/// A lock of the world that is explored. The value has no references, and a size that is a multiple of eight.
final class ExploredLock<Value: BitwiseCopyable>: ValueLock, @unchecked Sendable {
    // Unchecked: all virtual threads run on one thread.
    private let lock: Int
    /// Stands for the value where races are looked for.
    private let plain: Int
    private let value: UnsafeMutablePointer<Value>

    init(_ value: sending Value) {
        lock = World.current.addLock()
        plain = World.current.addPlain()
        let first = value
        // With room for what makes its size even.
        let bytes = UnsafeMutableRawBufferPointer.allocate(
            byteCount: (MemoryLayout<Value>.size + 7) / 8 * 8, alignment: 16)
        let place = bytes.baseAddress!.bindMemory(to: Value.self, capacity: 1)
        self.value = place
        World.current.addRegion(UnsafeRawBufferPointer(bytes)) {
            bytes.initializeMemory(as: UInt8.self, repeating: 0)
            place.initialize(to: first)
        }
    }

    func withLock<Result>(_ body: (inout Value) -> Result) -> Result {
        World.current.lock(lock)
        World.current.write(plain, 0, "what the lock protects")
        defer { World.current.unlock(lock) }
        return body(&value.pointee)
    }
}
