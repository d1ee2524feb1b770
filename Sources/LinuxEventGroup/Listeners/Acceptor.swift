internal import CLinux
internal import Glibc
internal import LinuxEvent

/// One shard's part of a listener: takes connections from one listening descriptor, and sees that each gets to its
/// shard. Contract G11.
///
/// - Threads: its shard's only.
final class Acceptor {
    private let listener: Listener
    private let descriptor: CInt
    private let seat: Seat
    private let counters: ListenerCounters
    private var watcher: Watcher?
    /// While it accepts nothing: what ends that.
    private var pauseEnd: Timer?
    private var isDraining = false
    private var hasEnded = false
    /// Events in a row that brought nothing.
    private var emptyEvents = 0
    /// Connections since it joined those who wait for the descriptor.
    private var sinceJoined = 0
    private var leastOfTwo: LeastOfTwo

    init(_ listener: Listener, _ descriptor: CInt, at seat: Seat) {
        self.listener = listener
        self.descriptor = descriptor
        self.seat = seat
        counters = listener.counters[seat.core.index]
        leastOfTwo = LeastOfTwo(seed: listener.options.seed ?? clinux_monotonic_ns())
    }

    // MARK: Beginning and ending

    func start(on shard: Shard) {
        // The stop of the group ends it, whatever it is doing. Contract G9.
        shard.addService(ObjectIdentifier(self)) { [self] shard in end(.stopped, on: shard) }
        do throws(LoopError) { try join(shard) } catch { fail(error, on: shard) }
    }

    /// Watches the descriptor, in place of what watched it before: last in the line of those who wait for it.
    private func join(_ shard: Shard) throws(LoopError) {
        watcher = try shard.loop.watch(
            descriptor, read: { [self] _, _, _ in Shard.withCurrent { accept(on: $0) } },
            exclusive: listener.distribution.isExclusive)
        sinceJoined = 0
    }

    /// Takes what is in the kernel's queue, and ends when it is empty. It goes on by itself from here: that the queue
    /// is empty is nothing that would be reported.
    func drain(on shard: Shard) {
        guard !isDraining else { return }
        isDraining = true
        watcher?.cancel()
        watcher = nil
        if pauseEnd == nil { accept(on: shard) }
    }

    func end(_ end: ListenerEnd, on shard: Shard) {
        guard !hasEnded else { return }
        hasEnded = true
        watcher?.cancel()
        pauseEnd?.cancel()
        (watcher, pauseEnd) = (nil, nil)
        listener.connections.forgetPause(of: self)
        shard.endService(ObjectIdentifier(self))
        seat.acceptor.value = nil
        listener.acceptorEnded(end)
    }

    private func fail(_ error: LoopError, on shard: Shard) {
        guard !hasEnded else { return }
        listener.notice?(shard, .failed(error))
        end(.failed(error), on: shard)
    }

    // MARK: Accepting

    /// Takes some of the connections that wait. Not all: those that keep coming must not hold up the shard's other
    /// work. The descriptor is level-triggered, so what is left comes with the next turn. Contract L13.
    private func accept(on shard: Shard) {
        for taken in 0..<max(1, listener.options.acceptsPerEvent) {
            // Looked at each time, because handlers run in between.
            if hasEnded || shard.core.isRefusing { return }
            let result = clinux_accept4(
                descriptor, nil, nil, CInt(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue))
            guard result < 0 else {
                take(result, on: shard)
                continue
            }
            switch Refusal(errno: -result) {
            case .empty where isDraining: return end(.drained, on: shard)
            case .empty: return found(taken, on: shard)
            case .connection: continue
            case .scarcity: return pause(SystemError(call: "accept4", code: -result), on: shard)
            case .descriptor: return fail(.system(SystemError(call: "accept4", code: -result)), on: shard)
            }
        }
        guard isDraining else { return rejoinIfDue(shard) }
        _ = seat.core.submit { [self] shard in if pauseEnd == nil { accept(on: shard) } }
    }

    /// The queue is empty now.
    private func found(_ taken: Int, on shard: Shard) {
        emptyEvents = taken > 0 ? 0 : emptyEvents + 1
        // Others may have been faster, again and again. But a unix socket that was shut down is readable for ever, and
        // has nothing: what accept(2) says to those who wait is said here.
        if emptyEvents & 15 == 15, clinux_poll(descriptor, 0, 0) & Int32(POLLHUP) != 0 {
            return fail(.system(SystemError(call: "accept4", code: EINVAL)), on: shard)
        }
        rejoinIfDue(shard)
    }

    /// What an errno of accept(2) says.
    private enum Refusal {
        /// Nobody waits.
        case empty
        /// It concerns one connection, which died in the queue, or nothing at all: a signal.
        case connection
        /// No descriptors or no memory; and whatever nobody has thought of, so that it makes no spin.
        case scarcity
        /// The descriptor is not one that connections come from.
        case descriptor

        init(errno: CInt) {
            switch errno {
            case EAGAIN: self = .empty
            case EINTR, ECONNABORTED, EPROTO, EPERM, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH,
                ENETUNREACH, ETIMEDOUT:
                self = .connection
            case EBADF, EINVAL, ENOTSOCK, EOPNOTSUPP, EFAULT: self = .descriptor
            default: self = .scarcity
            }
        }
    }

    /// Out of the kernel's set and in again, as the last of those who wait: it wakes the first that sleeps, so without
    /// this one shard would get nearly all connections.
    private func rejoinIfDue(_ shard: Shard) {
        guard listener.distribution.isExclusive, let limit = listener.options.rejoinsAfter, sinceJoined >= limit,
            !hasEnded
        else { return }
        // Where the kernel refuses the new entry, the old one is put back, and serves on. Contract W8.
        do throws(LoopError) { try join(shard) } catch { sinceJoined = 0 }
    }

    // MARK: Pauses

    /// Without descriptors to spare the listener would stay readable, and spin.
    private func pause(_ error: SystemError, on shard: Shard) {
        counters.notePause()
        do throws(LoopError) { try watcher?.disableRead() } catch { return fail(error, on: shard) }
        pauseEnd = shard.loop.after(listener.options.pause) { [seat] _, _ in
            // In a task: outside of a turn the kernel's answer to a change of interest comes at once.
            _ = seat.core.submit { shard in seat.acceptor.value?.resume(on: shard) }
        }
        listener.connections.notePause(of: self, at: seat)
        listener.notice?(shard, .paused(error))
    }

    /// Tries again; in a task.
    func resume(on shard: Shard) {
        guard let pauseEnd else { return }
        pauseEnd.cancel()
        self.pauseEnd = nil
        if isDraining { return accept(on: shard) }
        do throws(LoopError) {
            // False: it was closed before, and its watcher is gone. Contract W9.
            guard try watcher?.enableRead() == true else { throw .system(SystemError(call: "epoll_ctl", code: EBADF)) }
        } catch { fail(error, on: shard) }
    }

    // MARK: Handing over

    private func take(_ connection: CInt, on shard: Shard) {
        counters.noteAccepted()
        sinceJoined += 1
        switch listener.distribution {
        case .perShard, .shared: handOver(connection, to: CollectionOfOne(shard.index), on: shard)
        case .hash: handOver(connection, to: CollectionOfOne(shard.group.shard(for: connection).index), on: shard)
        case .leastOfTwo:
            let count = shard.group.count
            let (better, other) = leastOfTwo.choose(of: count) { listener.connections.load(of: $0) }
            // Then the other one, and all the rest; this shard is among them, and always takes what it hands to itself.
            handOver(connection, to: (0...count).lazy.map { $0 == 0 ? better : (other + $0 - 1) % count }, on: shard)
        }
    }

    /// Gives a connection to the first of the shards that takes it; if none does, it is closed.
    private func handOver(_ connection: CInt, to targets: some Sequence<Int>, on shard: Shard) {
        var inHand: Accepted?
        for target in targets {
            var accepted = inHand.take() ?? Accepted(connection, for: target, of: listener)
            if accepted.home != target { accepted.move(to: target) }
            // Counted first: the handler may look at the counters, and on this shard it runs at once.
            if target == shard.index {
                counters.noteHandedOver()
                return accepted.deliver(on: shard)
            }
            guard let refused = listener.connections.channel.send(accepted, to: target).takeBack() else {
                return counters.noteHandedOver()
            }
            inHand = consume refused
        }
        inHand = nil  // closed, before anyone hears of it
        counters.noteRefused()
    }
}
