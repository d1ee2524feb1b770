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
    case reusePort
    /// One shard accepts, and posts each descriptor to the shard that its number hashes to.
    case hash
}

/// One shard's part of the service: its listener, if it has one, and its connections. Nothing in it is shared, so
/// nothing in it is locked.
///
/// - Threads: its shard's, from making to end.
final class EchoShard {
    let shard: Shard
    let scratch = Bytes(count: 64 * 1_024)
    var counters = EchoCounters()

    private let mode: AcceptMode
    private let peers: PerShard<EchoShard>
    private var watchers: [CInt: Watcher] = [:]
    private var listener: Watcher?
    private var pause: Timer?
    private var hasComplained = false
    private var isStopping = false
    /// What to call, once, when it stops and the last connection is gone.
    private var whenEmpty: ((EchoShard) -> Void)?

    init(_ shard: Shard, mode: AcceptMode, peers: PerShard<EchoShard>) {
        self.shard = shard
        self.mode = mode
        self.peers = peers
    }

    // MARK: Accepting

    /// Serves a listening socket, and owns it from now on.
    func listen(_ descriptor: CInt) throws {
        listener = try shard.loop.watch(
            descriptor, read: { _, descriptor, _, home in home.accept(from: descriptor) }, data: self)
    }

    /// Takes some of the waiting connections. Not all: clients that keep coming must not hold up those that are here.
    private func accept(from listening: CInt) {
        for _ in 0..<64 {
            let descriptor = acceptConnection(of: listening)
            guard descriptor < 0 else {
                place(descriptor)
                continue
            }
            switch -descriptor {
            case EAGAIN: return
            // This one died in the queue, or a signal came; accept(2) has the list.
            case EINTR, ECONNABORTED, EPROTO, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH, ENETUNREACH:
                continue
            default: return pauseAccepting(SystemError(call: "accept4", code: -descriptor))
            }
        }
    }

    /// Without descriptors to spare, a listener would stay readable and spin. So it is asked again only when a
    /// connection of this shard has ended, or after a while: others may have given one back.
    private func pauseAccepting(_ reason: SystemError) {
        guard let listener, pause == nil else { return }
        if !hasComplained { complain("echo-service: shard \(shard.index) accepts no more for now: \(reason)") }
        hasComplained = true
        do { try listener.disableRead() } catch { return complain("echo-service: \(error)") }
        pause = shard.loop.after(.milliseconds(100)) { [unowned self] _, _ in resumeAccepting() }
    }

    private func resumeAccepting() {
        guard let pause else { return }
        pause.cancel()
        self.pause = nil
        do { try listener?.enableRead() } catch { complain("echo-service: \(error)") }
    }

    private func place(_ descriptor: CInt) {
        guard mode == .hash else { return adopt(descriptor) }
        let home = shard.group.shard(for: descriptor)
        guard home.index != shard.index else { return adopt(descriptor) }
        let peers = peers
        let result = home.post { shard in
            if let peer = peers[shard] { peer.adopt(descriptor) } else { closeDescriptor(descriptor) }
        }
        if !result.isPosted { closeDescriptor(descriptor) }
    }

    // MARK: Connections

    /// Serves a connected socket, and owns it from now on.
    func adopt(_ descriptor: CInt) {
        counters.accepted += 1
        // It was on its way here when the service was told to stop.
        guard !isStopping else { return closeDescriptor(descriptor) }
        do {
            watchers[descriptor] = try shard.loop.watch(
                descriptor, read: { _, _, watcher, connection in connection.read(watcher) },
                write: { _, _, watcher, connection in connection.write(watcher) },
                data: Connection(descriptor, home: self), interest: .read)
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
        resumeAccepting()
        if isStopping && counters.open == 0 { finishStop() }
    }

    // MARK: Stopping

    /// Takes no more connections, serves those that are here until they end or the grace is over, closes what is left
    /// then, and calls back once nothing is open. A second call ends the grace.
    func stop(grace: Duration, whenEmpty: @escaping (EchoShard) -> Void) {
        guard !isStopping else { return closeAll() }
        isStopping = true
        self.whenEmpty = whenEmpty
        if let listener {
            pause?.cancel()
            pause = nil
            listener.cancel()
            closeDescriptor(listener.descriptor)
            self.listener = nil
        }
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
