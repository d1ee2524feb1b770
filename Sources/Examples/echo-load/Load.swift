import ExampleSupport
import Glibc
import LinuxEvent

/// The main thread's part: starts the workers, lets them begin together, shows progress, sums up.
final class Load {
    private let options: LoadOptions
    private let address: Address
    private let loop: Loop
    private var links: [WorkerLink] = []
    private var hasBegun = false
    private var isInterrupted = false
    private var total = LoadResult()
    private var seconds = 0
    private var lastRequests: UInt64 = 0

    init(_ options: LoadOptions) throws(LoopError) {
        self.options = options
        let limit = raiseDescriptorLimit()
        // Beside the connections: three for each loop, the signals', standard input and output, and some to spare.
        let needed = options.connections + 4 * (options.threads + 1) + 8
        guard needed <= limit else {
            fail(
                "echo-load",
                "\(options.connections) connections need \(needed) descriptors; the limit is \(limit)"
                    + " (ulimit -Hn)")
        }
        guard let address = Address(host: options.host, port: options.port) else {
            fail("echo-load", "unknown host \(options.host)")
        }
        self.address = address
        loop = try Loop()
    }

    func run() throws {
        for number in [SIGINT, SIGTERM] { try loop.signal(number) { [unowned self] _, _ in interrupt() } }
        loop.onWake { [unowned self] _ in look() }
        loop.after(.seconds(10)) { [unowned self] _, _ in
            if !hasBegun { fail("echo-load", "\(address) did not accept all connections within 10 s") }
        }

        var threads: [ExampleSupport.Thread] = []
        for index in 0..<options.threads {
            let share = { [options] index in options.connections * index / options.threads }
            let (options, address, link) = (options, address, WorkerLink(main: loop.waker))
            let numbers = share(index)..<share(index + 1)
            links.append(link)
            threads.append(
                try .start("load-\(index)") {
                    do {
                        try LoadWorker(options, address, numbers: numbers, link: link).run()
                    } catch {
                        link.tell(.failed("\(error)"))
                    }
                })
        }
        try loop.run()
        for thread in threads { thread.join() }
        sumUp()
    }

    /// Some worker has got further.
    private func look() {
        var connected = 0, finished: [LoadResult] = []
        for link in links {
            switch link.phase {
            case .connecting: break
            case .connected: connected += 1
            case .finished(let result): finished.append(result)
            case .failed(let why): fail("echo-load", why)
            }
        }
        if !hasBegun && connected == links.count { begin() }
        if finished.count == links.count {
            for result in finished { total.add(result) }
            loop.stop()
        }
    }

    private func begin() {
        hasBegun = true
        for link in links { link.order(.begin) }
        guard !options.quiet else { return }
        do {
            try loop.every(.seconds(1)) { [unowned self] _, _ in showProgress() }
        } catch {
            fail("echo-load", "\(error)")
        }
    }

    private func showProgress() {
        seconds += 1
        let requests = links.reduce(0) { $0 + $1.progress.requests }
        let errors = links.reduce(0) { $0 + $1.progress.errors }
        let time = "\(seconds)".padded(to: 4), rate = "\(requests - lastRequests)".padded(to: 9)
        complain("\(time) s  \(rate) requests/s  \(errors) errors")
        lastRequests = requests
    }

    /// The first signal ends the sending, a second one the program.
    private func interrupt() {
        guard hasBegun && !isInterrupted else { exit(128 + SIGINT) }
        isInterrupted = true
        for link in links { link.order(.drain) }
    }

    private func sumUp() {
        let seconds = total.end > total.begin ? Double(total.end - total.begin) / 1e9 : 0
        let rate = seconds > 0 ? Double(total.requests) / seconds : 0
        let p50 = total.latencies.percentile(0.5)
        let p99 = total.latencies.percentile(0.99)
        let p999 = total.latencies.percentile(0.999)
        say(
            "\(total.requests) requests in \(seconds.fixed(3)) s: \(rate.fixed(0)) requests/s"
                + " (\(options.connections) connections, \(options.pipeline) in flight on each, \(options.size) bytes)")
        say(
            "latency p50 \(readable(nanoseconds: p50)), p99 \(readable(nanoseconds: p99)),"
                + " p99.9 \(readable(nanoseconds: p999))")
        say("\(total.errors) errors, \(total.mismatches) mismatches")
        if options.json {
            say(
                "{\"requests\":\(total.requests),\"seconds\":\(seconds.fixed(3))"
                    + ",\"requests_per_second\":\(rate.fixed(1))"
                    + ",\"errors\":\(total.errors),\"mismatches\":\(total.mismatches)"
                    + ",\"p50_ns\":\(p50),\"p99_ns\":\(p99),\"p999_ns\":\(p999)}")
        }
        exit(total.errors == 0 && total.mismatches == 0 && total.requests > 0 ? EXIT_SUCCESS : EXIT_FAILURE)
    }
}
