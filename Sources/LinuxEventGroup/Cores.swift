/// A group's shards, to be reached without counting a reference: that would be an atomic step per post, on a line that
/// all posters share.
@safe final class Cores: @unchecked Sendable, RandomAccessCollection {
    // Unchecked: all is written once, before anyone else can see it. `all` owns what `raw` points to.
    // All posters read this per post, so nothing that somebody writes may lie on the same line.
    private let before = InlineArray<15, UInt64>(repeating: 0)
    private let all: [ShardCore]
    private let raw: UnsafeMutablePointer<Unmanaged<ShardCore>>
    let count: Int
    private let after = InlineArray<15, UInt64>(repeating: 0)

    /// The nodes of all threads that are no shard of the group.
    let outside: NodePool

    init(_ cores: [ShardCore], outside: NodePool) {
        all = cores
        self.outside = outside
        count = cores.count
        let stride = MemoryLayout<UInt>.stride  // a reference
        let memory = UnsafeMutableRawPointer.allocate(byteCount: (stride * cores.count + 255) & ~127, alignment: 128)
        unsafe raw = memory.bindMemory(to: Unmanaged<ShardCore>.self, capacity: cores.count)
        for (index, core) in cores.enumerated() {
            unsafe (raw + index).initialize(to: Unmanaged.passUnretained(core))
        }
    }

    deinit { unsafe raw.deallocate() }

    var startIndex: Int { 0 }
    var endIndex: Int { count }
    subscript(index: Int) -> ShardCore { all[index] }

    /// Posts to a shard of the group, which lives as long as this does.
    @inline(__always)
    func post(to index: Int, _ task: consuming @escaping ShardTask) -> PostResult {
        // Out of the closure that `Unmanaged` asks for, a consumed parameter cannot be moved; out of a variable it can.
        var task: ShardTask? = consume task
        return withCore(index) { unsafe $0.post(task.take().unsafelyUnwrapped) }
    }

    /// A shard, without counting a reference to it.
    @inline(__always)
    func withCore<Result>(_ index: Int, _ body: (ShardCore) -> Result) -> Result {
        precondition(UInt(bitPattern: index) < UInt(bitPattern: count), "a group has no shard of that number")
        return unsafe raw[index]._withUnsafeGuaranteedRef { body($0) }
    }

    func owns(_ core: ShardCore) -> Bool { core.outside === outside }
}
