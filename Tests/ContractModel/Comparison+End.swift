import LinuxEvent
import TestSupport

extension Comparison {
    /// Ends the script's loop, or leaves it to be released. Contract L14.
    func end(_ how: Script.Setup.End) {
        if how == .close || how == .release {
            if phase == .events { perform(Act(.pump)) }
            perform(Act(.pump))
            if divergence == nil { rest() }
        }
        if divergence == nil, how == .close || how == .closeAtOnce { close() }
        endChildren()
    }

    /// With nothing left to do the loop waits; the kernel's set holds nothing that would wake it.
    private func rest() {
        planned.removeAll()
        plannedElsewhere.removeAll()
        for watcher in watchers { unwatch(watcher.number) }
        cancelTimers()
        for index in counters.indices { perform(Act(.cancelCounter, UInt8(index))) }
        for index in observers.indices { perform(Act(.cancelObserver, UInt8(index))) }
        for _ in 0..<3 { perform(Act(.pump)) }
        // A block or a timer that was under way may have scheduled one more.
        cancelTimers()
        guard divergence == nil, !hadResidue else { return }
        perform(Act(.linger))
        check(run.wasIdle, "the script's own model is not idle when all is cancelled")
    }

    private func cancelTimers() {
        for index in timers.indices { perform(Act(.cancelTimer, UInt8(index))) }
    }

    private func close() {
        let handles = watchers.compactMap(\.handle)
        for _ in 0..<2 {
            let result = outcome { () throws(LoopError) in try loop.close() }
            check(result.error == nil, "L14 close() threw \(result)")
        }
        check(handlersLeft.allSatisfy { $0.ended == 1 }, "L14 close() did not release all handlers")
        check(handles.allSatisfy { !$0.isActive && !$0.cancel() }, "L14 a watcher is active after close()")
        check(timers.allSatisfy { $0.handle?.isScheduled == false }, "L14 a timer is scheduled after close()")
        check(counters.allSatisfy { $0.handle?.isActive == false }, "L14 a counter is active after close()")
        let turned = outcome { () throws(LoopError) in _ = try loop.runOnce(timeout: .zero) }
        check(turned.error == .closed, "L14 runOnce after close() came to \(turned)")
        let dispatched = outcome { () throws(LoopError) in _ = try loop.dispatch() }
        check(dispatched.error == .closed, "L14 dispatch after close() came to \(dispatched)")
        let ran = outcome { () throws(LoopError) in try loop.run() }
        check(ran.error == .closed, "L14 run after close() came to \(ran)")
        let watched = outcome { () throws(LoopError) in try loop.watch(files.numbers[0], read: { _, _, _ in }).isActive
        }
        check(watched.error == .closed, "L14 watch after close() came to \(watched)")
    }

    /// What shows that handlers were let go of, for all that are still there.
    var handlersLeft: [Tracker.Count] {
        (watchers + dying).filter { !$0.holdsNothing }.map(\.ended) + timers.map(\.ended) + deferred.map(\.ended)
            + counters.map(\.ended) + (waker.hasHandler ? [waker.ended] : [])
    }
}
