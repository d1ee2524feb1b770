internal import Synchronization

/// Counters in a row that one thread writes and any thread reads, without a lock: each stands for itself, so all is
/// relaxed, and a sum of them is of about one moment.
@safe final class CounterRow: Sendable {
    /// Of atomics in raw memory, alone on their cache lines.
    private let address: UInt
    let count: Int

    init(_ count: Int) {
        self.count = count
        let bytes = (count * MemoryLayout<Atomic<UInt64>>.stride + 127) & ~127
        let memory = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 128)
        for index in 0..<count {
            unsafe (memory + index * MemoryLayout<Atomic<UInt64>>.stride).bindMemory(
                to: Atomic<UInt64>.self, capacity: 1
            ).initialize(to: Atomic(0))
        }
        address = UInt(bitPattern: memory)
    }

    deinit { unsafe UnsafeMutableRawPointer(bitPattern: address)?.deallocate() }

    private subscript(index: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
        unsafe UnsafeMutablePointer(bitPattern: address).unsafelyUnwrapped + index
    }

    /// By the one writer only: a load and a store, where an atomic addition would lock the line.
    @inline(__always)
    func add(_ amount: Int, at index: Int) {
        let counter = unsafe self[index]
        let value = unsafe counter.pointee.load(ordering: .relaxed)
        unsafe counter.pointee.store(value &+ UInt64(truncatingIfNeeded: amount), ordering: .relaxed)
    }

    var values: [UInt64] { (0..<count).map { unsafe self[$0].pointee.load(ordering: .relaxed) } }
}
