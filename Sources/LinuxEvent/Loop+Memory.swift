/// A piece of memory, by its address: to ask the kernel about, never to be read.
package struct MemoryRange: Hashable, Sendable {
    package let start: UInt
    package let byteCount: Int

    package init(start: UInt, byteCount: Int) {
        self.start = start
        self.byteCount = byteCount
    }
}

extension Loop {
    /// The tables of the loop, as they are now. The loop's thread only.
    package var memory: [MemoryRange] {
        checkThread()
        return watchers.table.memory + watchers.batch.memory + timers.memory
    }
}
