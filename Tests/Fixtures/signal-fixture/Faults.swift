import CLinux
import Glibc
import LinuxEvent

/// L16: one system call does not exist. That is a typed error whose text names what is missing, or not needed at all.
func missingFeature(_ report: Report) throws {
    do throws(LoopError) {
        let loop = try Loop()
        loop.after(.milliseconds(1)) { loop, _ in loop.stop() }
        _ = try loop.runOnce(timeout: .milliseconds(5))
        say("not needed")
    } catch {
        say("refused: \(error)")
        switch error {
        case .unsupported(let feature): report.expect(!feature.isEmpty, "no name")
        default: report.expect(false, "not .unsupported: \(error)")
        }
    }
}
