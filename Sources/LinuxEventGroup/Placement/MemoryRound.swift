package import LinuxEvent

/// Goes through all of a shard's memory, a part at a time, and then from the beginning again. Contract G3.
package struct MemoryRound {
    /// The place in the list where the next part begins.
    private var place = 0

    /// A megabyte: to ask where its pages lie takes some 30 microseconds.
    private static let partLimit = 1 << 20

    package init() {}

    /// The next ranges of a list that may have changed: up to a megabyte, or a single one.
    package mutating func next(of ranges: [MemoryRange]) -> [MemoryRange] {
        var part: [MemoryRange] = []
        var byteCount = 0
        while part.count < ranges.count {
            let range = ranges[place < ranges.count ? place : 0]
            byteCount += range.byteCount
            if byteCount > Self.partLimit, !part.isEmpty { break }
            part.append(range)
            place = place < ranges.count ? place + 1 : 1
        }
        return part
    }
}
