import ExampleSupport
import LinuxEventGroup

struct ServiceOptions {
    enum Report { case table, lines, none }

    let host: String
    let port: Int
    let threads: Int?
    let mode: AcceptMode
    let idle: IdlePolicy
    let stallLimit: Duration?
    let grace: Duration
    let report: Report
    let interval: Duration
    let json: Bool

    init() {
        let arguments = Arguments(
            "echo-service", about: "sends back what it receives over TCP, on one pinned event loop per CPU",
            options: [
                .value("host", "H", "address to listen on (default: 127.0.0.1)"),
                .value("port", "P", "port to listen on; 0 lets the kernel choose (default: 7000)"),
                .value("threads", "N", "shards (default: one for each usable CPU)"),
                .value(
                    "accept", "MODE",
                    "kernel, or reuseport: each shard listens for itself (default);"
                        + " hash: one shard accepts and posts each descriptor to its home;"
                        + " least: one shard accepts, and the less loaded of two gets the connection"),
                .value(
                    "idle", "POLICY",
                    "what a shard does without work; sleep (default), adaptive: looks for some first, if that pays;"
                        + " poll: never sleeps"),
                .value("stall-ms", "MS", "reports shards that are stuck for so long; 0 for never (default: 25)"),
                .value(
                    "report", "FORM",
                    "table: to stderr while it runs; lines: to stdout, for machines;"
                        + " none (default)"),
                .value("stats-interval-ms", "MS", "time between two reports (default: 1000)"),
                .value(
                    "grace-ms", "MS",
                    "how long open connections are still served after SIGINT or SIGTERM;"
                        + " a second signal ends it (default: 300)"),
                .flag("json", "ends with one line of JSON about the shards on stdout"),
            ])
        host = arguments.text("host") ?? "127.0.0.1"
        port = arguments.integer("port", in: 0...65_535) ?? 7_000
        threads = arguments.integer("threads", in: 1...1_024)
        mode =
            switch arguments.choice("accept", of: ["kernel", "reuseport", "hash", "least"]) {
            case "hash": .hash
            case "least": .least
            default: .kernel
            }
        idle =
            switch arguments.choice("idle", of: ["sleep", "adaptive", "poll"]) {
            case "adaptive": .adaptive
            case "poll": .poll
            default: .sleep
            }
        let limit = arguments.integer("stall-ms", in: 0...3_600_000) ?? 25
        stallLimit = limit > 0 ? .milliseconds(limit) : nil
        report =
            switch arguments.choice("report", of: ["table", "lines", "none"]) {
            case "table": .table
            case "lines": .lines
            default: .none
            }
        interval = .milliseconds(arguments.integer("stats-interval-ms", in: 10...3_600_000) ?? 1_000)
        grace = .milliseconds(arguments.integer("grace-ms", in: 0...3_600_000) ?? 300)
        json = arguments.flag("json")
    }
}
