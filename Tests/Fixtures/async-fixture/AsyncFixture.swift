import Glibc
import LinuxEvent

/// A program with an async main, which blocks its signals first as it should: once main has suspended, the runtime
/// lets the first thread wait with an empty mask, and a signal would end the process. Contract S2.
///
/// Ends with 0 if the claim of a signal was refused with an error that names that thread.
@main
struct AsyncFixture {
    static func main() async {
        guard (try? blockSignals([SIGUSR1])) != nil else { exit(2) }
        try? await Task.sleep(for: .milliseconds(20))
        // The first thread is on its way to where it waits.
        for _ in 0..<100 {
            claim()
            usleep(10_000)
        }
        print("the signal was claimed, or the first thread was not named")
        exit(1)
    }

    /// Not async: a loop may not be made where there is no thread to belong to.
    private static func claim() {
        do throws(LoopError) {
            try Loop().signal(SIGUSR1) { _, _ in }.cancel()
        } catch {
            guard case .signalNotBlocked(SIGUSR1, let threads) = error, threads.contains(where: { $0.isFirst }) else {
                return
            }
            print(error)
            exit(0)
        }
    }
}
