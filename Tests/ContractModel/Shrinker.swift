import TestSupport

/// Cuts a failing script down while it still fails.
public enum Shrinker {
    /// - Parameter fails: whether a script still shows what is looked for; it is asked for at most so many seconds.
    public static func shrink(_ script: Script, seconds: UInt64 = 20, _ fails: (Script) -> Bool) -> Script {
        var best = script
        let deadline = Clock.monotonic() &+ seconds &* 1_000_000_000
        func isLate() -> Bool { Clock.monotonic() >= deadline }
        func holds(_ candidate: Script) -> Bool {
            guard candidate != best, !isLate() else { return false }
            guard fails(candidate) else { return false }
            best = candidate
            return true
        }
        var before: Script
        repeat {
            before = best
            // Runs of acts, long ones first; then each alone.
            var size = max(best.acts.count / 2, 1)
            while true {
                var start = 0
                while start < best.acts.count {
                    var shorter = best
                    shorter.acts.removeSubrange(start..<min(start + size, best.acts.count))
                    if !holds(shorter) { start += size }
                }
                if size == 1 { break }
                size /= 2
            }
            // Then each act as plain as it can be.
            for index in best.acts.indices {
                for simpler in best.acts[index].simpler {
                    var plainer = best
                    plainer.acts[index] = simpler
                    _ = holds(plainer)
                }
            }
            for byte in UInt8(0)..<128 {
                var plainer = best
                plainer.setup = Script.Setup(byte: byte)
                if (plainer.setup.byte ?? 128) < (best.setup.byte ?? 128), holds(plainer) { break }
            }
        } while best != before && !isLate()
        return best
    }
}

extension Act {
    /// Acts that say less, the plainest first. None of them is plainer than itself, so shrinking ends.
    var simpler: [Act] {
        var found: [Act] = []
        func add(_ act: Act) { if act != self, !found.contains(act) { found.append(act) } }
        if place != .now { add(Act(kind, subject, operand, .now)) }
        if case .callback(let slot, let nth) = place, nth > 0 {
            add(Act(kind, subject, operand, .callback(slot: slot, nth: nth - 1)))
        }
        if operand != 0 {
            add(Act(kind, subject, 0, place))
            if case .flags = kind.operand {
                for bit in 0..<8 where operand >> bit & 1 == 1 { add(Act(kind, subject, operand & ~(1 << bit), place)) }
            } else {
                add(Act(kind, subject, operand - 1, place))
            }
        }
        return found
    }
}
