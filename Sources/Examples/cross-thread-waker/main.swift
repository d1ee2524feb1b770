// Waking a loop from another thread. The waker is the one part of a loop that any thread may touch.

import ExampleSupport
import LinuxEvent
import Synchronization

/// What both threads share.
final class Work: Sendable {
    let done = Atomic<Int>(0)
    let target = 1_000
}

let loop = try Loop()
let work = Work()
var wakes = 0

loop.onWake { loop in
    wakes += 1
    // Signals coalesce: however many were sent, this runs at least once after the last of them, and sees what the
    // other thread wrote before it. So look at the state, and never count the wakes.
    if work.done.load(ordering: .relaxed) == work.target { loop.stop() }
}

let waker = loop.waker
let thread = try Thread.start("worker") {
    for _ in 0..<work.target {
        work.done.wrappingAdd(1, ordering: .relaxed)
        waker.signal()
    }
}

try loop.run()
thread.join()
say("\(work.target) signals from another thread, \(wakes) wakes of the loop")
