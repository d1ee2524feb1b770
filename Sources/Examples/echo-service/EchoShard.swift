import ExampleSupport
import Glibc
import LinuxEvent
import LinuxEventGroup

/// What one shard has done and holds. Plain numbers: only the shard writes them, and sends copies.
struct EchoCounters: Sendable {
    var accepted = 0
    var open = 0
    var receives = 0
    var bytes = 0

    mutating func count(bytes count: Int) {
        receives += 1
        bytes += count
    }
}

/// How connections get to shards.
enum AcceptMode: Sendable {
    /// Each shard listens for itself, and the kernel spreads the connections (SO_REUSEPORT).
    case kernel
    /// One shard accepts, and each descriptor goes to the shard that its number hashes to.
    case hash
    /// One shard accepts, and each connection goes to the less loaded of two.
    case least
}

/// One shard's part of the service: its connections. Nothing in it is shared, so nothing in it is locked.
///
/// - Threads: its shard's, from making to end.
final class EchoShard {
    let shard: Shard
    let scratch = Bytes(count: 64 * 1_024)
    var counters = EchoCounters()

    private var watchers: [CInt: Watcher] = [:]
    private var isStopping = false
    /// What to call, once, when it stops and the last connection is gone.
    private var whenEmpty: ((EchoShard) -> Void)?

    init(_ shard: Shard) { self.shard = shard }

    // MARK: Connections

    /// Serves a connection, and owns its socket from now on.
    func adopt(_ accepted: consuming Accepted) {
        let descriptor = accepted.descriptor
        counters.accepted += 1
        // It was on its way here when the service was told to stop.
        guard !isStopping else { return closeDescriptor(descriptor) }
        do {
            watchers[descriptor] = try shard.loop.watch(
                descriptor, read: { _, _, watcher, connection in connection.read(watcher) },
                write: { _, _, watcher, connection in connection.write(watcher) },
                data: Connection(accepted, home: self), interest: .read)
            counters.open += 1
        } catch {
            complain("echo-service: \(error)")
            closeDescriptor(descriptor)
        }
    }

    func close(_ descriptor: CInt, _ watcher: Watcher) {
        // First the watcher, then the number: after close(2) it may be somebody else's at once.
        watcher.cancel()
        closeDescriptor(descriptor)
        watchers[descriptor] = nil
        counters.open -= 1
        if isStopping && counters.open == 0 { finishStop() }
    }

    // MARK: Stopping

    /// Serves the connections that are here until they end or the grace is over, closes what is left then, and calls
    /// back once nothing is open. A second call ends the grace.
    func stop(grace: Duration, whenEmpty: @escaping (EchoShard) -> Void) {
        guard !isStopping else { return closeAll() }
        isStopping = true
        self.whenEmpty = whenEmpty
        guard counters.open > 0 else { return finishStop() }
        shard.loop.after(grace) { [weak self] _, _ in self?.closeAll() }
    }

    private func closeAll() {
        for (descriptor, watcher) in watchers { close(descriptor, watcher) }
    }

    private func finishStop() {
        let callback = whenEmpty
        whenEmpty = nil
        callback?(self)
    }
}
