// A sharded TCP echo service: one pinned thread with an event loop of its own per CPU, nothing shared between them.
//
//     Service      the main thread: starts, reports, stops on SIGINT or SIGTERM
//     EchoShard    one shard's connections
//     Connection   what happens per message

import ExampleSupport
import LinuxEvent

do {
    // Before any thread exists: threads inherit the mask, and a signal that one of them does not block would end
    // the process instead of reaching the loop.
    try blockSignals(Service.stopSignals)
    try Service(ServiceOptions()).run()
} catch {
    fail("echo-service", "\(error)")
}
