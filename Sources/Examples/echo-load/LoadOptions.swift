import ExampleSupport

struct LoadOptions: Sendable {
    let host: String
    let port: Int
    let connections: Int
    let size: Int
    let pipeline: Int
    let seconds: Int
    let threads: Int
    let quiet: Bool
    let json: Bool

    init() {
        let arguments = Arguments(
            "echo-load", about: "loads a TCP echo service and checks what it sends back",
            options: [
                .value("host", "H", "where the service listens (default: 127.0.0.1)"),
                .value("port", "P", "its port (default: 7000)"),
                .value("connections", "C", "connections (default: 64)"),
                .value("size", "S", "bytes in a message (default: 64)"),
                .value("pipeline", "K", "messages in flight on each connection (default: 1)"),
                .value("seconds", "N", "how long to send (default: 10)"),
                .value("threads", "T", "threads, each with a loop of its own (default: 1)"),
                .flag("quiet", "shows no progress"),
                .flag("json", "ends with one line of JSON on stdout"),
            ])
        host = arguments.text("host") ?? "127.0.0.1"
        port = arguments.integer("port", in: 1...65_535) ?? 7_000
        connections = arguments.integer("connections", in: 1...1_000_000) ?? 64
        size = arguments.integer("size", in: 1...16_777_216) ?? 64
        pipeline = arguments.integer("pipeline", in: 1...65_536) ?? 1
        seconds = arguments.integer("seconds", in: 1...86_400) ?? 10
        threads = arguments.integer("threads", in: 1...1_024) ?? 1
        quiet = arguments.flag("quiet")
        json = arguments.flag("json")
        guard threads <= connections else {
            arguments.refuse("--threads \(threads) is more than --connections \(connections)")
        }
    }
}
