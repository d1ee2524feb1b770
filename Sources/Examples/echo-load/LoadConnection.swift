import ExampleSupport
import LinuxEvent

/// One connection to the service: keeps its messages in flight, and checks what comes back.
///
/// - Owns: its descriptor, until it ends.
final class LoadConnection {
    private enum State { case connecting, open, draining, ended }

    let number: Int
    private let descriptor: CInt
    private unowned let worker: LoadWorker
    private let size: Int
    private var state = State.connecting
    /// Positions in the stream: up to where it may be sent, was sent, came back and was right.
    private var granted = 0
    private var sent = 0
    private var received = 0
    private var isBlocked = false
    /// When each message in flight was granted, by its number modulo their count. In nanoseconds.
    private var grantTimes: [UInt64]
    private var messagesGranted = 0
    private var messagesReceived = 0

    init(_ number: Int, _ descriptor: CInt, worker: LoadWorker) {
        self.number = number
        self.descriptor = descriptor
        self.worker = worker
        size = worker.options.size
        grantTimes = [UInt64](repeating: 0, count: worker.options.pipeline)
    }

    // MARK: Connecting

    private func finishConnecting(_ watcher: Watcher) {
        let code = socketError(descriptor)
        guard code == 0 else { return worker.cannotConnect(SystemError(call: "connect", code: code)) }
        state = .open
        do { try watcher.disableWrite() } catch { return fail("\(error)", watcher) }
        worker.connected()
    }

    // MARK: Sending

    /// Puts the first messages in flight.
    func begin(_ watcher: Watcher, at now: UInt64) { grant(grantTimes.count, at: now, watcher) }

    /// Lets further messages go. A message's time begins here, so it counts also what it waits for room.
    private func grant(_ messages: Int, at now: UInt64, _ watcher: Watcher) {
        for _ in 0..<messages {
            grantTimes[messagesGranted % grantTimes.count] = now
            messagesGranted += 1
        }
        granted += messages * size
        // Blocked, it goes on when the kernel says that there is room.
        if !isBlocked { send(watcher) }
    }

    private func send(_ watcher: Watcher) {
        while sent < granted {
            let wanted = min(granted - sent, Pattern.longest)
            let count = worker.pattern.send(wanted, from: sent, of: number, to: descriptor)
            guard count >= 0 || isTransient(count) else { return fail("send", -count, watcher) }
            sent += max(0, count)
            if count < wanted { return setBlocked(true, watcher) }
        }
        setBlocked(false, watcher)
    }

    private func setBlocked(_ blocked: Bool, _ watcher: Watcher) {
        guard blocked != isBlocked else { return }
        isBlocked = blocked
        do { if blocked { try watcher.enableWrite() } else { try watcher.disableWrite() } } catch {
            fail("\(error)", watcher)
        }
    }

    // MARK: Events

    func write(_ watcher: Watcher) {
        if state == .connecting { finishConnecting(watcher) } else { send(watcher) }
    }

    func read(_ watcher: Watcher) {
        // The error of a failed connect comes as readiness of both kinds.
        if state == .connecting { return finishConnecting(watcher) }
        let count = worker.pattern.receive(from: descriptor)
        guard count > 0 else {
            if count == 0 { return end(watcher) }
            return isTransient(count) ? () : fail("recv", -count, watcher)
        }
        let now = Instant.now.nanoseconds
        guard received + count <= sent, worker.pattern.isReceived(count, at: received, of: number) else {
            return worker.mismatch(self, at: received) { finish(watcher) }
        }
        received += count

        let whole = received / size
        for message in messagesReceived..<whole { worker.record(now &- grantTimes[message % grantTimes.count]) }
        let completed = whole - messagesReceived
        messagesReceived = whole
        if state == .open && completed > 0 { grant(completed, at: now, watcher) }
        worker.received(completed, at: now)
        endOutputWhenDone()
    }

    // MARK: The end

    /// Sends no further message; what has begun is finished and awaited.
    func drain() {
        guard state == .open else { return }
        state = .draining
        granted = min(granted, (sent + size - 1) / size * size)
        endOutputWhenDone()
    }

    private func endOutputWhenDone() {
        // Then the service shall do likewise: its end is the only thing still to come.
        if state == .draining && received == granted { endOutput(of: descriptor) }
    }

    private func end(_ watcher: Watcher) {
        guard state == .draining && received == granted else {
            return fail("the service ended the connection", watcher)
        }
        finish(watcher)
    }

    /// Its time is up.
    func giveUp(_ watcher: Watcher) { fail("no answer in time", watcher) }

    private func fail(_ call: String, _ code: Int, _ watcher: Watcher) {
        fail(SystemError(call: call, code: CInt(code)).description, watcher)
    }

    private func fail(_ why: String, _ watcher: Watcher) {
        guard state != .ended else { return }
        worker.error(self, why)
        finish(watcher)
    }

    private func finish(_ watcher: Watcher) {
        state = .ended
        watcher.cancel()
        closeDescriptor(descriptor)
        worker.ended(self)
    }
}
