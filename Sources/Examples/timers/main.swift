// Timers: one shot, repeating, cancelled, and what a late repeating timer knows about it.

import ExampleSupport
import LinuxEvent

let loop = try Loop()
let start = Instant.now

/// Milliseconds since the start, as text.
func elapsed() -> String {
    "\((start.duration(to: .now).seconds * 1e3).fixed(1).padded(to: 6)) ms"
}

loop.after(.milliseconds(50)) { _, _ in say("\(elapsed())  once, after 50 ms") }

// Deadlines are absolute instants of CLOCK_MONOTONIC; equal ones run in the order they were made.
let deadline = start.advanced(by: .milliseconds(75))
loop.at(deadline) { _, _ in say("\(elapsed())  first at 75 ms") }
loop.at(deadline) { _, _ in say("\(elapsed())  second at 75 ms") }

// `cancel` tells whether it came in time; either way the handler cannot run afterwards.
let cancelled = loop.after(.milliseconds(90)) { _, _ in say("never printed") }
loop.after(.milliseconds(80)) { _, _ in say("\(elapsed())  cancelled in time: \(cancelled.cancel())") }

// Repeating timers keep to their grid: whoever blocks the loop gets one call that knows how many it missed.
var calls = 0
try loop.every(.milliseconds(100)) { loop, timer in
    calls += 1
    say("\(elapsed())  call \(calls) of every 100 ms, periods missed: \(timer.missedPeriods)")
    switch calls {
    case 2: block(for: .milliseconds(250))
    case 4:
        timer.cancel()
        loop.stop()
    default: break
    }
}

/// What a callback should not do: it holds up everything else on its loop.
func block(for duration: Duration) {
    let end = Instant.now.advanced(by: duration)
    while Instant.now < end {}
}

try loop.run()
