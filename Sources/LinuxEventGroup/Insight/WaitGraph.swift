/// Which shards wait for which: of use to the watchdog where several are stuck. Contract G7, M6.
enum WaitGraph {
    /// The shortest way from a shard back to itself along open calls, over shards that are all stuck; empty if there is
    /// none.
    static func cycle(through start: Int, of stuck: [Int], isOpen: (_ from: Int, _ to: Int) -> Bool) -> [Int] {
        var ways = [[start]]
        var reached: Set<Int> = []
        while !ways.isEmpty {
            let way = ways.removeFirst()
            for next in stuck where isOpen(way[way.count - 1], next) {
                if next == start { return way }
                if reached.insert(next).inserted { ways.append(way + [next]) }
            }
        }
        return []
    }
}

/// How many calls of one shard to each other have no reply yet; in debug builds only. Contract M6.
///
/// - Threads: the shard's own writes, any reads.
struct CallCounts: Sendable {
    #if DEBUG
    private let row: CounterRow

    init(_ count: Int) { row = CounterRow(count) }

    func add(_ amount: Int, to shard: Int) { row.add(amount, at: shard) }

    func isOpen(to shard: Int) -> Bool { row.values[shard] > 0 }
    #else
    init(_ count: Int) {}

    @inline(__always)
    func add(_ amount: Int, to shard: Int) {}

    func isOpen(to shard: Int) -> Bool { false }
    #endif
}
