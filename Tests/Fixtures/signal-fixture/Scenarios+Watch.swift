import CLinux
import Glibc
import LinuxEvent

extension Scenario {
    /// A read handler that empties its descriptor and counts.
    private final class Reads {
        let token: Trial.Token
        var count = 0
        init(_ trial: Trial) { token = trial.token() }

        func handler() -> Handler {
            { _, descriptor, _ in
                Ends.drain(descriptor)
                self.count += 1
            }
        }
    }

    /// W: to watch, replace, change and unwatch, inside a turn and outside.
    static func watching(_ trial: Trial) throws {
        let loop = try trial.makeLoop()
        let ends = trial.ends(), pair = trial.ends(sockets: true)
        let reads = Reads(trial), replaced = Reads(trial)
        var one = try trial.watch("watch", loop) { try loop.watch(ends.reader, read: reads.handler()) }
        ends.put()
        try trial.turns(loop, "an event") { reads.count > 0 }

        let old = one.watcher
        one = try trial.watch("replace", loop) { try loop.watch(ends.reader, read: replaced.handler()) }
        trial.report.expect(!old.isActive && !old.cancel(), "the replaced one is dead")
        ends.put()
        try trial.turns(loop, "an event of the new one") { replaced.count > 0 }

        try trial.attempt("disable", loop) { try one.watcher.disableRead() }
        ends.put()
        try trial.turn(loop)
        replaced.count = 0
        try trial.attempt("enable", loop) { try one.watcher.enableRead() }
        try trial.turns(loop, "an event after a pause") { replaced.count > 0 }

        // Inside: room to write, once; then what comes is read.
        var writes = 0
        let both = Reads(trial)
        let two = try trial.watch("watch both", loop) {
            try loop.watch(
                pair.reader, read: both.handler(),
                write: { _, _, watcher in
                    both.token.touch()
                    writes += 1
                    _ = try? watcher.disableWrite()
                })
        }
        try trial.turns(loop, "room") { writes > 0 }
        pair.put()
        try trial.turns(loop, "something to read") { both.count > 0 }
        loop.defer { _ in
            _ = try? two.watcher.disableRead()
            _ = try? two.watcher.enableWrite()
        }
        writes = 0
        try trial.turns(loop, "room again") { writes > 0 }

        // What a callback watches, and what it ends.
        let inner = trial.ends()
        let inside = Reads(trial)
        var three: Trial.Watched?
        loop.defer { loop in
            do {
                three = try trial.watch("watch inside", loop) { try loop.watch(inner.reader, read: inside.handler()) }
            } catch { trial.report.expect(false, "watch inside: \(error)") }
        }
        try trial.turn(loop)
        inner.put()
        try trial.turns(loop, "an event of what a callback watched") { inside.count > 0 }
        loop.defer { loop in
            do { if let three { try trial.unwatch(three) } } catch { trial.report.expect(false, "inside: \(error)") }
        }
        try trial.turn(loop)
        trial.report.expect(loop.watcher(of: inner.reader) == nil, "unwatched inside")
        let data = try trial.watch("watch with data", loop) {
            try loop.watch(
                inner.reader,
                read: { _, descriptor, _, token in
                    Ends.drain(descriptor)
                    token.touch()
                    inside.count += 1
                }, data: trial.token())
        }
        inside.count = 0
        inner.put()
        try trial.turns(loop, "an event with data") { inside.count > 0 }
        try trial.unwatch(data)
        try trial.unwatch(two)
        try trial.unwatch(one)
        trial.report.equal(loop.statistics.watchers, 0, "watchers")
        try trial.expectUsable(loop)
        try trial.attempt("close") { try loop.close() }
    }

    /// W5-W7 and `exclusive`: what an edge, a oneshot and an exclusive entry need said to the kernel.
    static func modes(_ trial: Trial) throws {
        let loop = try trial.makeLoop()
        // Of two edges in a batch the first callback silences the other, and the end of the turn brings it back.
        let ends = [trial.ends(), trial.ends()]
        let reads = [Reads(trial), Reads(trial)]
        var edges: [Trial.Watched] = []
        for index in 0...1 {
            let handler = reads[index].handler()
            edges.append(
                try trial.watch("watch edges", loop) {
                    try loop.watch(
                        ends[index].reader,
                        read: { loop, descriptor, watcher in
                            handler(loop, descriptor, watcher)
                            guard edges.count == 2 else { return }
                            let other = edges[1 - index].watcher
                            _ = try? other.disableRead()
                            loop.defer { _ in _ = try? other.enableRead() }
                        }, edgeTriggered: true)
                })
        }
        for end in ends { end.put() }
        try trial.turns(loop, "both edges") { reads[0].count > 0 && reads[1].count > 0 }

        edges = []  // their handlers hold it

        // Oneshots: left disarmed past the turn, and re-armed in their callback.
        let late = trial.ends(), soon = trial.ends()
        var lates = 0, soons = 0
        let token = trial.token()
        let one = try trial.watch("watch once", loop) {
            try loop.watch(late.reader, read: { _, _, _ in lates += 1 }, oneshot: true)
        }
        _ = try trial.watch("watch once, edges", loop) {
            try loop.watch(
                soon.reader,
                read: { _, descriptor, watcher in
                    token.touch()
                    Ends.drain(descriptor)
                    soons += 1
                    _ = try? watcher.rearm()
                }, edgeTriggered: true, oneshot: true)
        }
        late.put()
        soon.put()
        try trial.turns(loop, "both oneshots") { lates > 0 && soons > 0 }
        for _ in 0..<2 {
            (lates, soons) = (0, 0)
            soon.put()
            try trial.attempt("rearm", loop) { try one.watcher.rearm() }
            try trial.turns(loop, "both oneshots again") { lates > 0 && soons > 0 }
            try trial.turn(loop)
        }

        // The kernel changes no exclusive entry: out, and in again.
        let shared = trial.ends()
        let accepts = Reads(trial)
        let exclusive = try trial.watch("watch exclusively", loop) {
            try loop.watch(shared.reader, read: accepts.handler(), exclusive: true)
        }
        shared.put()
        try trial.turns(loop, "an exclusive event") { accepts.count > 0 }
        try trial.attempt("disable an exclusive one", loop) { try exclusive.watcher.disableRead() }
        try trial.attempt("enable an exclusive one", loop) { try exclusive.watcher.enableRead() }
        for isExclusive in [true, false, true] {
            accepts.count = 0
            _ = try trial.watch("replace an exclusive one", loop) {
                try loop.watch(shared.reader, read: accepts.handler(), exclusive: isExclusive)
            }
            shared.put()
            try trial.turns(loop, "an event after it was replaced") { accepts.count > 0 }
        }
        try trial.expectUsable(loop)
        try trial.attempt("close") { try loop.close() }
    }

    /// W10: what nobody can take, out of the kernel's set and into it again.
    static func parking(_ trial: Trial) throws {
        let loop = try trial.makeLoop()
        let token = trial.token()
        let pair = trial.ends(sockets: true), pipe = trial.ends()
        var ends = 0, errors = 0
        let one = try trial.watch("watch", loop) {
            try loop.watch(
                pair.reader,
                read: { loop, descriptor, _ in
                    token.touch()
                    ends += 1
                    _ = try? loop.unwatch(descriptor)
                })
        }
        try trial.attempt("disable", loop) { try one.watcher.disableRead() }
        pair.closeWriter()
        try trial.turn(loop)
        trial.forget(one)
        // A fault may have ended it: then it was made again, and asks to read.
        if !one.isNew {
            trial.report.expect(one.watcher.isParked, "not parked")
            try trial.attempt("stay parked", loop) { try one.watcher.setInterest([.write]) }
            trial.report.expect(one.watcher.isParked, "no longer parked")
            try trial.attempt("enable", loop) { try one.watcher.enableRead() }
        }
        try trial.turns(loop, "a hang-up") { ends > 0 }
        trial.report.equal(loop.watcher(of: pair.reader), nil, "it has unwatched itself")

        // Parked, and replaced.
        let two = try trial.watch("watch a writer", loop) {
            try loop.watch(pipe.writer, error: { _, _, _ in errors += 1 }, interest: [])
        }
        pipe.closeReader()
        try trial.turns(loop, "an error") { errors > 0 }
        let three = try trial.watch("replace by one that nobody hears", loop) {
            try loop.watch(pipe.writer, read: { _, _, _ in errors += 1 }, interest: [])
        }
        try trial.turn(loop)
        try trial.turn(loop)
        trial.report.expect(two.watcher != three.watcher, "replaced")
        trial.report.expect(three.watcher.isParked || three.isNew, "not parked")
        errors = 0
        _ = try trial.watch("replace a parked one", loop) {
            try loop.watch(pipe.writer, write: { _, _, _ in errors += 1 })
        }
        try trial.turns(loop, "an error again") { errors > 0 }
        try trial.expectUsable(loop)
        try trial.attempt("close") { try loop.close() }
    }

    /// W9: descriptors that are closed unwatched, while copies of them live and their numbers are used again.
    static func closed(_ trial: Trial) throws {
        let loop = try trial.makeLoop()
        let before = State.openDescriptors()
        let outer = try trial.attempt("descriptor", loop) { try loop.descriptor }
        trial.note(State.sets(since: before))

        // A number that is another file's now.
        let first = trial.ends(), second = trial.ends()
        let reads = Reads(trial)
        let number = fcntl(first.reader, F_DUPFD_CLOEXEC, 40)
        let old = try trial.watch("watch", loop) { try loop.watch(number, read: reads.handler()) }
        Glibc.close(number)
        _ = fcntl(second.reader, F_DUPFD_CLOEXEC, number)
        let new = try trial.watch("watch the number again", loop) { try loop.watch(number, read: reads.handler()) }
        trial.report.expect(!old.watcher.cancel() && new.watcher.isActive, "the old handle does nothing")
        second.put()
        try trial.turns(loop, "an event of the new file") { reads.count > 0 }
        try trial.unwatch(new)

        // A change that finds the descriptor closed; then a copy gets the number, under which the kernel has it still.
        let again = try trial.watch("watch", loop) { try loop.watch(number, read: reads.handler()) }
        trial.forget(again)
        Glibc.close(number)
        loop.defer { _ in _ = try? again.watcher.disableRead() }
        try trial.turn(loop)
        trial.report.expect(!again.watcher.isActive, "closed, and not ended")
        _ = fcntl(second.reader, F_DUPFD_CLOEXEC, number)
        reads.count = 0
        // (Not compared with before: an entry that is nobody's may go even if the watch is refused.)
        try trial.attempt("watch a copy") { try loop.watch(number, read: reads.handler()) }
        let copy = try trial.watch("replace it", loop) { try loop.watch(number, read: reads.handler()) }
        second.put()
        try trial.turns(loop, "an event of the copy") { reads.count > 0 }
        try trial.unwatch(copy)
        Glibc.close(number)

        // Others, of all kinds, that a rebuild has to bring along.
        let level = trial.ends(), edge = trial.ends(), once = trial.ends(), shared = trial.ends()
        let parked = trial.ends(sockets: true)
        var counts = [0, 0, 0, 0]
        func counting(_ index: Int) -> Handler {
            let token = trial.token()
            return { _, descriptor, _ in
                token.touch()
                Ends.drain(descriptor)
                counts[index] += 1
            }
        }
        _ = try trial.watch("watch", loop) { try loop.watch(level.reader, read: counting(0)) }
        _ = try trial.watch("watch", loop) { try loop.watch(edge.reader, read: counting(1), edgeTriggered: true) }
        let disarmed = try trial.watch("watch", loop) { try loop.watch(once.reader, read: counting(2), oneshot: true) }
        _ = try trial.watch("watch", loop) { try loop.watch(shared.reader, read: counting(3), exclusive: true) }
        let waiting = try trial.watch("watch", loop) { try loop.watch(parked.reader, read: { _, _, _ in }) }
        try trial.attempt("disable", loop) { try waiting.watcher.disableRead() }
        parked.closeWriter()
        once.put()
        try trial.turns(loop, "a oneshot") { counts[2] > 0 }

        // One that is closed while a copy of it lives, and something is there to be read.
        let ghost = try haunt(trial, loop)
        try trial.attempt("unwatch") { try loop.unwatch(ghost.number) }
        for _ in 0..<3 { try trial.turn(loop) }
        // Made anew, or not: the rebuild may have met the fault.
        trial.report.expect(loop.statistics.rebuilds <= 1, "rebuilt more than once")
        if !trial.mayFailAnywhere { trial.report.equal(loop.statistics.rebuilds, 1, "rebuilds") }
        // (What a refused removal has left behind may have used up the one rebuild of this second.)
        if loop.statistics.rebuilds == 1, !trial.mayFail(.epollDel) {
            var entry = pollfd(fd: outer, events: Int16(POLLIN), revents: 0)
            trial.report.equal(poll(&entry, 1, 0), 0, "nothing to do, and a foreign loop is told to turn")
        }

        counts = [0, 0, 0, 0]
        for ends in [level, edge, once, shared] { ends.put() }
        var entry = pollfd(fd: outer, events: Int16(POLLIN), revents: 0)
        trial.report.equal(poll(&entry, 1, 500), 1, "a foreign loop hears nothing any more")
        try trial.turns(loop, "events after a rebuild") { counts[0] > 0 && counts[1] > 0 && counts[3] > 0 }
        trial.report.expect(disarmed.isNew || counts[2] == 0, "a disarmed one was told")
        try trial.attempt("rearm", loop) { try disarmed.watcher.rearm() }
        try trial.turns(loop, "the oneshot after a rebuild") { counts[2] > 0 }
        trial.report.expect(waiting.watcher.isParked || waiting.isNew, "no longer parked")
        try trial.expectUsable(loop)
        try trial.attempt("close") { try loop.close() }
    }

    /// W9: one that is closed while it is watched, and while a copy of it lives. The first turn of a loop that has
    /// events looks for such; so does one now and then, but not at a time that could be told in advance.
    static func audited(_ trial: Trial) throws {
        let loop = try trial.makeLoop()
        let others = [trial.ends(), trial.ends()]
        let reads = [Reads(trial), Reads(trial)]
        for (ends, reads) in zip(others, reads) {
            _ = try trial.watch("watch", loop) { try loop.watch(ends.reader, read: reads.handler()) }
            ends.put()
        }
        let ghost = try haunt(trial, loop)
        for _ in 0..<3 { try trial.turn(loop) }
        if !trial.mayFailAnywhere {
            trial.report.equal(loop.statistics.rebuilds, 1, "rebuilds")
            trial.report.equal(loop.statistics.vanished, 1, "vanished")
            trial.report.expect(!ghost.watcher.isActive, "the closed one is still there")
        }
        for (ends, reads) in zip(others, reads) {
            reads.count = 0
            ends.put()
        }
        try trial.turns(loop, "events after an audit") { reads[0].count > 0 && reads[1].count > 0 }
        try trial.expectUsable(loop)
        try trial.attempt("close") { try loop.close() }
    }

    /// A watched number that is closed, while the kernel goes on reporting a copy of it.
    private static func haunt(_ trial: Trial, _ loop: Loop) throws -> (number: CInt, watcher: Watcher) {
        let ends = trial.ends()
        let number = fcntl(ends.reader, F_DUPFD_CLOEXEC, 40)
        let one = try trial.watch("watch what will be closed", loop) { try loop.watch(number, read: { _, _, _ in }) }
        trial.forget(one)
        ends.put()
        Glibc.close(number)
        return (number, one.watcher)
    }
}
