import Glibc
import LinuxEvent
import TestSupport

extension Comparison {
    func performOnFiles(_ act: Act) -> Bool {
        let slot = Int(act.subject)
        if act.kind == .open {
            guard !files.isOpen(slot & ~1), !files.isOpen(slot | 1) else { return false }
            let kinds: [Script.Setup.Pair] = [.unix, .pipe, .tcp, .null]
            files.open(kinds[Int(act.operand)], pair: slot / 2)
            noteReuse(slot & ~1)
            noteReuse(slot | 1)
            return true
        }
        guard let file = files.files[slot] else { return false }
        let number = files.numbers[slot]
        switch act.kind {
        case .write:
            guard file.canWrite else { return false }
            // A pipe's reader is woken even by a write for which there was no room.
            changing(file, wakes: file.kind == .pipeWriter ? .readable : []) {
                let count = Int(act.operand) + 1
                let unread = file.peer.flatMap { files.number(of: $0) }.map { OpenFiles.unread($0) } ?? 0
                guard IO.write(number, count: count) > 0, let peer = file.peer else { return }
                // Loopback delivers at once, as a rule, but by another context: wait until it has.
                if file.kind == .tcp, let far = files.number(of: peer) {
                    Pause.until {
                        OpenFiles.unread(far) > unread || !Readiness.of(far).isDisjoint(with: [.error, .hangup])
                    }
                }
                arrived(peer, .readable)
                if unread > 0 { situations.note(.edgeOverUnread) }
            }
        case .read:
            guard file.canRead else { return false }
            changing(file, wakes: .writable) { if act.operand == 0 { IO.drain(number) } else { IO.read(number) } }
        case .fill:
            // Room on TCP comes when the peer's acknowledgement does, which the model knows nothing of.
            guard file.canWrite, file.kind != .tcp else { return false }
            changing(file, wakes: file.kind == .pipeWriter ? .readable : []) {
                guard let peer = file.peer, let far = files.number(of: peer) else { return IO.fill(number) }
                let unread = OpenFiles.unread(far)
                IO.fill(number)
                if OpenFiles.unread(far) > unread { arrived(peer, .readable) }
            }
        case .close:
            if act.operand == 0 { unwatch(number) }
            closeSlot(slot) { files.close(slot) }
        case .reset:
            guard file.kind == .tcp else { return false }
            unwatch(number)
            closeSlot(slot) { files.reset(slot) }
        case .shut:
            guard file.isSocket else { return false }
            let how = [SHUT_WR, SHUT_RD, SHUT_RDWR][Int(act.operand)]
            if file.kind == .tcp {
                file.isRestless = true
                file.peer?.isRestless = true
            }
            changing(file, isStateChange: true) {
                guard shutdown(number, CInt(how)) == 0, how != SHUT_RD else { return }
                if let far = file.peer.flatMap({ files.number(of: $0) }) {
                    Pause.until { Readiness.of(far).contains(.peerShutdown) }
                }
            }
        case .urgent:
            guard file.kind == .tcp else { return false }
            changing(file) {
                var byte: UInt8 = 1
                guard send(number, &byte, 1, CInt(MSG_OOB) | CInt(MSG_NOSIGNAL)) == 1, let peer = file.peer
                else { return }
                if let far = files.number(of: peer) { Pause.until { Readiness.of(far).contains(.priority) } }
                arrived(peer, [.priority, .readable])
            }
        case .takeError:
            guard file.isSocket else { return false }
            changing(file) { _ = IO.takeSocketError(number) }
        case .copy:
            let empty = Int(act.operand)
            guard !files.isOpen(empty) else { return false }
            files.copy(slot, to: empty)
            noteReuse(empty)
        case .place:
            let taken = Int(act.operand)
            guard files.isOpen(taken), taken != slot else { return false }
            situations.note(.placedOver)
            closeSlot(taken) { files.place(slot, at: taken) }
            noteReuse(taken)
        default: return false
        }
        return true
    }

    /// Closes what a slot means, one way or another. Watchers of the number were not asked. Contract W9.
    private func closeSlot(_ slot: Int, _ body: () -> Void) {
        guard let file = files.files[slot] else { return }
        let number = files.numbers[slot]
        for watcher in watchers where watcher.number == number && !watcher.isDoubtful {
            watcher.isDoubtful = true
            situations.note(.closedWatched)
            if watcher.event?.isOver == false, phase == .events { situations.note(.closedInBatch) }
        }
        changing(file, isStateChange: true) {
            body()
            guard file.kind == .tcp, !files.isAlive(file), let peer = file.peer, let far = files.number(of: peer)
            else { return }
            Pause.until { !Readiness.of(far).isDisjoint(with: [.peerShutdown, .hangup]) }
        }
        if files.isAlive(file) { hadResidue = true }
        residues.removeAll { !files.isAlive($0) }
    }

    /// A number may have been a watched one before.
    private func noteReuse(_ slot: Int) {
        let number = files.numbers[slot]
        if number >= 0, watchers.contains(where: { $0.number == number }) { situations.note(.numberReused) }
    }

    // MARK: What watchers hear of it

    /// Does something to a file and its peer, and tells their watchers what has become so.
    ///
    /// - Parameter wakes: for what the kernel may wake those who look at the peer, even where it has not become so.
    func changing(_ file: OpenFile, wakes: Readiness = [], isStateChange: Bool = false, _ body: () -> Void) {
        let peer = file.peer
        let before = files.readiness()
        let held = files.files
        body()
        let after = files.readiness()
        for slot in 0..<Act.slots where held[slot] != nil && held[slot] === files.files[slot] {
            let news = after[slot].subtracting(before[slot])
            if !news.isEmpty, let file = files.files[slot] { arrived(file, news) }
        }
        for watcher in watchers where watcher.file === file || watcher.file === peer {
            if isStateChange {
                // This wakes everybody who looks at either end, whatever they look for.
                watcher.touched(.everything)
            } else if watcher.file === peer {
                watcher.touched(wakes)
            }
        }
    }

    private func arrived(_ file: OpenFile, _ bits: Readiness) {
        for watcher in watchers where watcher.file === file {
            if watcher.traits.isEdge, bits.contains(.readable), watcher.asked.isDisjoint(with: .readable),
                watcher.traits.hasRead
            {
                watcher.hasUnasked = true
            }
            if !watcher.isArmed, !bits.isDisjoint(with: [.error, .hangup, .readable]) {
                situations.note(.silentWhileDisarmed)
            }
            watcher.arrived(bits)
            // Who waits for urgent data is woken for any.
            if bits.contains(.readable), watcher.file.isSocket { watcher.touched(.priority) }
        }
    }
}
