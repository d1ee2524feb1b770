import ExampleSupport
import LinuxEvent
import LinuxEventGroup

/// One client. What it sends comes back in order, and to the last byte before the end.
///
/// - Owns: its descriptor, from `adopt` to `close`.
/// - Bound: a client that does not read gets at most one scratch buffer's worth kept for it. Until that is gone
///   nothing more is read from it, so the sender is stopped by TCP, and nobody else notices.
final class Connection {
    private let home: EchoShard
    private let accepted: Accepted
    /// What the kernel did not take yet. While there is something, the connection writes; otherwise it reads.
    private var rest: Bytes?
    private var restStart = 0

    /// How much one client may take of a turn; the event comes again if more is there.
    private static let receivesPerEvent = 4

    init(_ accepted: consuming Accepted, home: EchoShard) {
        self.accepted = accepted
        self.home = home
    }

    private var descriptor: CInt { accepted.descriptor }

    /// The usual case touches no memory of the connection's own: into the scratch buffer and straight back.
    func read(_ watcher: Watcher) {
        let scratch = home.scratch
        for _ in 0..<Connection.receivesPerEvent {
            let received = scratch.receive(from: descriptor)
            guard received > 0 else {
                // The end: nothing is left to send, for we read only while `rest` is empty. What the kernel has
                // taken it delivers after close(2). An error is a peer that went away; it wants no answer.
                if received == 0 || !isTransient(received) { home.close(descriptor, watcher) }
                return
            }
            home.counters.count(bytes: received)
            let sent = scratch.send(0..<received, to: descriptor)
            guard sent == received else { return keep(scratch, sent, received, watcher) }
            // A short read emptied the socket: asking again would only bring EAGAIN.
            if received < scratch.count { return }
        }
    }

    /// The client reads more slowly than it sends: from now on it is its turn.
    private func keep(_ scratch: Bytes, _ sent: Int, _ received: Int, _ watcher: Watcher) {
        guard sent >= 0 || isTransient(sent) else { return home.close(descriptor, watcher) }
        rest = Bytes(copying: scratch, max(0, sent)..<received)
        restStart = 0
        setInterest(.write, watcher)
    }

    func write(_ watcher: Watcher) {
        guard let rest else { return }
        let sent = rest.send(restStart..<rest.count, to: descriptor)
        guard sent >= 0 else {
            if !isTransient(sent) { home.close(descriptor, watcher) }
            return
        }
        restStart += sent
        guard restStart == rest.count else { return }
        self.rest = nil
        setInterest(.read, watcher)
    }

    private func setInterest(_ interest: Interest, _ watcher: Watcher) {
        do { try watcher.setInterest(interest) } catch { home.close(descriptor, watcher) }
    }
}
