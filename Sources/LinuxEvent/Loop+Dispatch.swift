extension Loop {
    /// Runs the callbacks that one event asks for: error, or read and then write. Contract D1-D6.
    ///
    /// The way of an event: `run` > `turn` > `dispatchBatch` (with this inlined) > the user's handler. Nothing here
    /// counts a reference, allocates, or checks exclusivity: the record is owned by the table, and what a callback ends
    /// is released after the turn.
    @inline(__always)
    func deliver(_ events: UInt32, to token: Token) {
        guard let slot = watchers.table.live(token) else { return watchers.stale(token) }
        guard events & ~slot.value.plain == 0 else { return deliverWithCare(events, to: token, slot) }
        run(Steps.due(events), token, slot)
    }

    /// Errors, oneshots, and what comes for a watcher that does not want all of it, or no longer.
    @inline(never)
    private func deliverWithCare(_ events: UInt32, to token: Token, _ slot: WatcherReference) {
        guard slot.value.state.isDisjoint(with: .silent) else { return }
        // What was disabled after the batch was fetched is not told, while the same handler may run for another reason.
        var due = Steps.due(events & (slot.value.interest.mask | Readiness.unasked))
        if events & Readiness.error != 0 {
            // Alone, if there is a handler: Contract D1. Else the next read or write shall meet the errno: D2.
            due = slot.value.steps.contains(.error) ? .error : [.read, .write]
        }
        due.formIntersection(slot.value.steps)
        if due.isEmpty { return watchers.unclaimed(events, token.descriptor, slot) }
        if due != .error { watchers.dropped(events, token.descriptor, slot) }
        if slot.value.traits.contains(.oneshot) { watchers.disarm(token.descriptor, slot) }
        run(due, token, slot)
    }

    /// The steps that are due, in the contract's order. (The watcher is made anew for each call: held in a variable, it
    /// would be retained.)
    @inline(__always)
    private func run(_ due: Steps, _ token: Token, _ slot: WatcherReference) {
        let descriptor = token.descriptor, generation = slot.value.generation
        guard let record = unsafe slot.value.record else { return }
        if due.contains(.read) {
            unsafe record._withUnsafeGuaranteedRef {
                $0.read?(self, descriptor, Watcher(set: watchers, descriptor: descriptor, generation: generation))
            }
            guard due.contains(.write) else { return }
            // The callback may have ended this watcher, or closed the descriptor and watched a new one that got the
            // same number, or lost interest: look afresh. Contract D6.
            guard let slot = watchers.table.live(descriptor, generation) else { return }
            guard slot.value.steps.contains(.write) else {
                return watchers.dropped(Readiness.output, descriptor, slot)
            }
        }
        if due.contains(.write) {
            unsafe record._withUnsafeGuaranteedRef {
                $0.write?(self, descriptor, Watcher(set: watchers, descriptor: descriptor, generation: generation))
            }
        } else {
            unsafe record._withUnsafeGuaranteedRef {
                $0.error?(self, descriptor, Watcher(set: watchers, descriptor: descriptor, generation: generation))
            }
        }
    }
}
