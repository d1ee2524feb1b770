import Glibc
import TestSupport

enum Pause {
    static func microseconds(_ count: UInt32) { usleep(count) }

    /// Waits until what is on its way has come.
    static func until(milliseconds: UInt64 = 100, _ condition: () -> Bool) {
        let deadline = Clock.monotonic() &+ milliseconds &* 1_000_000
        while !condition(), Clock.monotonic() < deadline { usleep(20) }
    }
}
