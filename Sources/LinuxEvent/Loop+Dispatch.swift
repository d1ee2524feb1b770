extension Loop {
    /// Runs the callbacks that one event asks for: error, or read and then write. Contract D1-D6.
    ///
    /// The way of an event: `run` > `turn` > `deliver` > the user's handler. Nothing here counts a reference,
    /// allocates, or checks exclusivity: the record is owned by the table, and what a callback ends is released after
    /// the turn. (The watcher is made anew for each call: held in a variable, it would be retained.)
    func deliver(_ events: UInt32, to token: Token) {
        guard let slot = watchers.table.live(token) else { return watchers.stale(token) }
        let entry = slot.value
        guard entry.state.isDisjoint(with: .silent), let record = unsafe entry.record else { return }

        var due = Steps.due(events)
        if events & Readiness.error != 0 {
            if entry.steps.contains(.error) {
                if entry.traits.contains(.oneshot) { watchers.disarm(token.descriptor, slot) }
                unsafe record._withUnsafeGuaranteedRef {
                    $0.error?(self, token.descriptor, watcher(token, entry.generation))
                }
                return
            }
            due = [.read, .write]  // the next read or write shall meet the errno: Contract D2
        }
        due.formIntersection(entry.steps)
        if due.isEmpty { return watchers.unclaimed(events, token.descriptor, slot) }
        if entry.traits.contains(.oneshot) { watchers.disarm(token.descriptor, slot) }

        if due.contains(.read) {
            unsafe record._withUnsafeGuaranteedRef {
                $0.read?(self, token.descriptor, watcher(token, entry.generation))
            }
            guard due.contains(.write) else { return }
            // The callback may have ended this watcher, or closed the descriptor and watched a new one that got the
            // same number, or lost interest: look afresh. Contract D6.
            guard let slot = watchers.table.live(token.descriptor, entry.generation) else { return }
            guard slot.value.steps.contains(.write) else { return watchers.dropped(token.descriptor, slot) }
        }
        unsafe record._withUnsafeGuaranteedRef {
            $0.write?(self, token.descriptor, watcher(token, entry.generation))
        }
    }

    @inline(__always)
    private func watcher(_ token: Token, _ generation: UInt64) -> Watcher {
        Watcher(owner: watchers, descriptor: token.descriptor, generation: generation)
    }
}
