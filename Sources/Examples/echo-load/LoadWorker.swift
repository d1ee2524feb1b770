import ExampleSupport
import LinuxEvent
import Synchronization

/// What a worker has to say in the end.
struct LoadResult: Sendable {
    var requests: UInt64 = 0
    var errors: UInt64 = 0
    var mismatches: UInt64 = 0
    var latencies = Histogram()
    var begin: UInt64 = .max
    var end: UInt64 = 0

    mutating func add(_ other: LoadResult) {
        requests += other.requests
        errors += other.errors
        mismatches += other.mismatches
        latencies.add(other.latencies)
        begin = min(begin, other.begin)
        end = max(end, other.end)
    }
}

/// What a worker and the main thread share.
final class WorkerLink: Sendable {
    enum Phase { case connecting, connected, finished(LoadResult), failed(String) }
    enum Command: Int, AtomicRepresentable { case wait, begin, drain }

    private let requests = Atomic<UInt64>(0)
    private let errors = Atomic<UInt64>(0)
    private let ordered = Atomic<Command>(.wait)
    private let state = Mutex<(phase: Phase, waker: Waker?)>((.connecting, nil))
    private let main: Waker

    init(main: Waker) { self.main = main }

    var phase: Phase { state.withLock { $0.phase } }

    /// The worker says how far it is.
    func tell(_ phase: Phase) {
        state.withLock { $0.phase = phase }
        main.signal()
    }

    func attach(_ waker: Waker) { state.withLock { $0.waker = waker } }

    /// The main thread says what to do. What it stores is visible in the wake that its signal causes.
    func order(_ command: Command) {
        ordered.store(command, ordering: .relaxed)
        state.withLock { $0.waker }?.signal()
    }

    var command: Command { ordered.load(ordering: .relaxed) }

    /// For the progress line. Only the worker writes, so this costs two plain stores.
    func show(requests: UInt64, errors: UInt64) {
        self.requests.store(requests, ordering: .relaxed)
        self.errors.store(errors, ordering: .relaxed)
    }

    var progress: (requests: UInt64, errors: UInt64) {
        (requests.load(ordering: .relaxed), errors.load(ordering: .relaxed))
    }
}

/// One thread of the load: a loop, and its share of the connections.
///
/// - Threads: its own; the link is what others see.
final class LoadWorker {
    let options: LoadOptions
    let pattern = Pattern()

    private let link: WorkerLink
    private let loop: Loop
    private let address: Address
    private var numbers: Range<Int>
    private var result = LoadResult()
    private var connections: [Int: (connection: LoadConnection, watcher: Watcher)] = [:]
    private var connecting = 0
    private var hasComplained = false
    private var phase = WorkerLink.Command.wait

    /// Connections under way at once: fewer than any service's backlog, beyond which the kernel drops and retries
    /// after a second.
    private static let connectsAtOnce = 64

    init(_ options: LoadOptions, _ address: Address, numbers: Range<Int>, link: WorkerLink) throws(LoopError) {
        self.options = options
        self.address = address
        self.numbers = numbers
        self.link = link
        loop = try Loop()
        link.attach(loop.waker)
    }

    func run() throws(LoopError) {
        loop.onWake { [unowned self] _ in obey() }
        loop.defer { [unowned self] _ in connectMore() }
        try loop.run()
        link.tell(.finished(result))
    }

    // MARK: Connecting

    private func connectMore() {
        while connecting < LoadWorker.connectsAtOnce, let number = numbers.popFirst() {
            do {
                let descriptor = try startConnecting(to: address)
                let connection = LoadConnection(number, descriptor, worker: self)
                let watcher = try loop.watch(
                    descriptor, read: { _, _, watcher, connection in connection.read(watcher) },
                    write: { _, _, watcher, connection in connection.write(watcher) }, data: connection)
                connections[number] = (connection, watcher)
                connecting += 1
            } catch {
                return cannotConnect(error)
            }
        }
        if connecting == 0 && numbers.isEmpty { link.tell(.connected) }
    }

    func connected() {
        connecting -= 1
        connectMore()
    }

    func cannotConnect(_ error: any Error) { link.tell(.failed("cannot connect to \(address): \(error)")) }

    // MARK: Phases

    private func obey() {
        let command = link.command
        guard command != phase else { return }
        phase = command
        switch command {
        case .wait: break
        case .begin:
            result.begin = Instant.now.nanoseconds
            for (connection, watcher) in connections.values { connection.begin(watcher, at: Instant.now.nanoseconds) }
            loop.after(.seconds(options.seconds)) { [unowned self] _, _ in drain() }
        case .drain: drain()
        }
    }

    private var isDraining = false

    private func drain() {
        guard !isDraining else { return }
        isDraining = true
        for (connection, _) in connections.values { connection.drain() }
        loop.after(.seconds(2)) { [unowned self] _, _ in
            for (connection, watcher) in connections.values { connection.giveUp(watcher) }
        }
        if connections.isEmpty { loop.stop() }
    }

    // MARK: What connections report

    func record(_ latency: UInt64) { result.latencies.record(latency) }

    func received(_ messages: Int, at now: UInt64) {
        result.requests += UInt64(messages)
        result.end = now
        showProgress()
    }

    func error(_ connection: LoadConnection, _ why: String) {
        result.errors += 1
        showProgress()
        if !hasComplained { complain("echo-load: connection \(connection.number): \(why)") }
        hasComplained = true
    }

    func mismatch(_ connection: LoadConnection, at position: Int, then finish: () -> Void) {
        result.mismatches += 1
        showProgress()
        complain("echo-load: connection \(connection.number): not what was sent, from byte \(position) on")
        finish()
    }

    private func showProgress() { link.show(requests: result.requests, errors: result.errors + result.mismatches) }

    func ended(_ connection: LoadConnection) {
        connections[connection.number] = nil
        if connections.isEmpty { loop.stop() }
    }
}
