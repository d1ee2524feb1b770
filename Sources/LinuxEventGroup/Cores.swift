/// A group's shards, to be reached without counting a reference: that would be an atomic step per post, on a line that
/// all posters share.
@safe final class Cores: @unchecked Sendable, RandomAccessCollection {
    // Unchecked: both are written once, before anyone else can see them. `all` owns what `raw` points to.
    private let all: [ShardCore]
    private let raw: UnsafeMutablePointer<Unmanaged<ShardCore>>

    init(_ cores: [ShardCore]) {
        all = cores
        unsafe raw = .allocate(capacity: cores.count)
        for (index, core) in cores.enumerated() {
            unsafe (raw + index).initialize(to: Unmanaged.passUnretained(core))
        }
    }

    deinit { unsafe raw.deallocate() }

    var startIndex: Int { 0 }
    var endIndex: Int { all.count }
    subscript(index: Int) -> ShardCore { all[index] }

    /// Posts to a shard of the group, which lives as long as this does.
    @inline(__always)
    func post(to index: Int, _ task: consuming @escaping ShardTask) -> PostResult {
        precondition(index >= 0 && index < all.count, "a group has no shard of that number")
        // Out of the closure that `Unmanaged` asks for, a consumed parameter cannot be moved; out of a variable it can.
        var task: ShardTask? = consume task
        return unsafe raw[index]._withUnsafeGuaranteedRef { unsafe $0.post(task.take().unsafelyUnwrapped) }
    }
}
