import LinuxEvent
import Synchronization

/// Where the shards leave their counters for the main thread. They are asked by posted tasks, so that a shard's
/// counters stay plain numbers that nobody else reads.
final class Inbox: Sendable {
    private struct State {
        var counters: [Int: EchoCounters] = [:]
        var asked: Set<Int> = []
        var ended: Set<Int> = []
    }
    private let state = Mutex(State())
    private let waker: Waker

    init(waker: Waker) { self.waker = waker }

    /// Notes that a shard is about to be asked; false where its last answer is still due.
    func ask(_ shard: Int) -> Bool { state.withLock { $0.asked.insert(shard).inserted } }

    /// The last of those asked wakes the main thread.
    func answer(_ counters: EchoCounters, from shard: Int) {
        let isLast = state.withLock { state in
            state.counters[shard] = counters
            state.asked.remove(shard)
            return state.asked.isEmpty
        }
        if isLast { waker.signal() }
    }

    /// The shard has no connection left and will have none.
    func end(_ counters: EchoCounters?, from shard: Int) {
        state.withLock { state in
            if let counters { state.counters[shard] = counters }
            _ = state.ended.insert(shard)
        }
        waker.signal()
    }

    var isAnswered: Bool { state.withLock { $0.asked.isEmpty } }
    var endedCount: Int { state.withLock { $0.ended.count } }
    /// What each shard said last.
    var counters: [Int: EchoCounters] { state.withLock { $0.counters } }
}
