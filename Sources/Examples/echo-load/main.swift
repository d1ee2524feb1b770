// A load generator for echo services: keeps a number of messages in flight on each connection, checks every byte
// that comes back, and tells how fast and how late they came.
//
//     Load             the main thread: starts the workers, shows progress, sums up
//     LoadWorker       one thread with a loop and its share of the connections
//     LoadConnection   what happens per message
//     Pattern          what is sent, and checked

import ExampleSupport
import Glibc
import LinuxEvent

do {
    // Before any thread exists, so that all of them leave the signals to the main thread's loop.
    try blockSignals([SIGINT, SIGTERM])
    try Load(LoadOptions()).run()
} catch {
    fail("echo-load", "\(error)")
}
