import CKernelFacts
import CLinux
import Glibc
import TestSupport
import Testing

extension KernelFacts {
    /// What an entry hangs on: the open file, not its number.
    @Suite("Entries, numbers and copies")
    struct NumberFacts {
        @Test("kernel: the last close of a file takes its entry away")
        func lastClose() {
            let set = EpollSet()
            let pipe = Pipe.readable()
            set.add(pipe.reader, .readable)
            pipe.closeReader()
            #expect(set.events().isEmpty)
            #expect(EpollEntry.all(in: set.descriptor).isEmpty)
        }

        @Test("kernel: a file whose number was closed reports on while a copy lives, and no number removes it")
        func copyKeepsReporting() {
            let set = EpollSet()
            let pipe = Pipe()
            set.add(pipe.reader, .readable, tag: 7)
            let copy = IO.copy(pipe.reader)
            let number = pipe.reader
            pipe.closeReader()
            pipe.write()
            for _ in 0..<3 { #expect(set.events() == [.init(.readable, 7)]) }
            #expect(set.remove(number) == -EBADF)
            #expect(set.modify(number, .readable) == -EBADF)
            #expect(set.remove(copy) == -ENOENT)
            #expect(set.modify(copy, .readable) == -ENOENT)
            // The copy may have an entry of its own.
            #expect(set.add(copy, .readable, tag: 8) == 0)
            #expect(Set(set.events()) == [.init(.readable, 7), .init(.readable, 8)])
            close(copy)
            #expect(set.events().isEmpty)
        }

        @Test("kernel: where another file got the number, what is removed is that file's entry, and the old one stays")
        func strangerUnderTheNumber() {
            let set = EpollSet()
            let pipe = Pipe.readable()
            let stranger = Pipe.readable()
            set.add(pipe.reader, .readable, tag: 1)
            let copy = IO.copy(pipe.reader)
            defer { close(copy) }
            IO.place(stranger.reader, at: pipe.reader)
            #expect(set.modify(pipe.reader, .readable, tag: 2) == -ENOENT)
            #expect(set.remove(pipe.reader) == -ENOENT)
            // To add is accepted: the question whether the number still means what was watched.
            #expect(set.add(pipe.reader, [], tag: 2) == 0)
            #expect(set.remove(pipe.reader) == 0)
            #expect(set.events() == [.init(.readable, 1)])
            // With the old file back in its place the entry can be had again.
            IO.place(copy, at: pipe.reader)
            #expect(set.add(pipe.reader, .readable) == -EEXIST)
            #expect(set.remove(pipe.reader) == 0)
            #expect(set.events().isEmpty)
        }

        @Test("kernel: the same file put back under its old number finds its old entry: EEXIST, and it can be changed")
        func sameFileSameNumber() {
            let set = EpollSet()
            let pair = Sockets.unixPair()
            let number = IO.copy(pair.near)
            set.add(number, .readable, tag: 1)
            close(number)
            IO.place(pair.near, at: number)
            defer { close(number) }
            #expect(set.add(number, .writable, tag: 2) == -EEXIST)
            #expect(set.modify(number, .writable, tag: 2) == 0)
            #expect(set.events() == [.init(.writable, 2)])
        }

        @Test("kernel: one file under two numbers makes two entries")
        func twoNumbers() {
            let set = EpollSet()
            let pipe = Pipe.readable()
            let copy = IO.copy(pipe.reader)
            defer { close(copy) }
            set.add(pipe.reader, .readable, tag: 1)
            #expect(set.add(copy, .readable, tag: 2) == 0)
            #expect(Set(set.events().map(\.tag)) == [1, 2])
        }

        @Test("kernel: dup3 over an epoll's number keeps the number, with the new set's entries; the old set is gone")
        func replacedSet() {
            let set = EpollSet()
            let old = Pipe.readable()
            let new = Pipe.readable()
            set.add(old.reader, .readable, tag: 1)
            let number = set.descriptor
            do {
                let fresh = EpollSet()
                fresh.add(new.reader, .readable, tag: 2)
                #expect(clinux_dup3(fresh.descriptor, number, O_CLOEXEC) == number)
                #expect(IO.isCloseOnExec(number))
                #expect(set.events() == [.init(.readable, 2)])
                #expect(fresh.events() == [.init(.readable, 2)])
            }
            #expect(EpollEntry.all(in: number).map(\.descriptor) == [new.reader])
            #expect(set.add(old.reader, .readable, tag: 3) == 0)
            #expect(Set(set.events().map(\.tag)) == [2, 3])
        }

        @Test("kernel: an outer set forgets a set that dup3 has closed, and takes the new one under the same number")
        func replacedInnerSet() {
            let outer = EpollSet()
            let inner = EpollSet()
            let pipe = Pipe.readable()
            outer.add(inner.descriptor, .readable)
            let fresh = EpollSet()
            fresh.add(pipe.reader, .readable)
            #expect(clinux_dup3(fresh.descriptor, inner.descriptor, O_CLOEXEC) == inner.descriptor)
            #expect(outer.events().isEmpty)
            #expect(outer.add(inner.descriptor, .readable) == 0)
            #expect(outer.readiness() == .readable)
        }

        // MARK: Sets in sets

        @Test("kernel: an outer set reports an inner one for as long as that has something to report")
        func nested() {
            let outer = EpollSet()
            let inner = EpollSet()
            let level = Pipe()
            let edge = Pipe()
            outer.add(inner.descriptor, .readable)
            inner.add(level.reader, .readable)
            inner.add(edge.reader, .readable, flags: EpollEntry.edgeTriggered)
            #expect(outer.events().isEmpty)
            level.write()
            for _ in 0..<3 { #expect(outer.readiness() == .readable) }
            _ = inner.events()
            #expect(outer.readiness() == .readable, "level-triggered, it is still ready")
            IO.drain(level.reader)
            #expect(outer.events().isEmpty)
            edge.write()
            #expect(outer.readiness() == .readable)
            #expect(inner.events().count == 1)
            #expect(outer.events().isEmpty, "the edge was fetched")
        }

        @Test("kernel: a set cannot hold itself (EINVAL), nor be part of a circle, nor lie five sets deep (ELOOP)")
        func circles() {
            let sets = (0..<7).map { _ in EpollSet() }
            #expect(sets[0].add(sets[0].descriptor, .readable) == -EINVAL)
            var depth = 0
            while depth < 6, sets[depth + 1].add(sets[depth].descriptor, .readable) == 0 { depth += 1 }
            #expect(depth == 4)
            #expect(sets[depth + 1].add(sets[depth].descriptor, .readable) == -ELOOP)
            #expect(sets[0].add(sets[depth].descriptor, .readable) == -ELOOP)
            #expect(sets[0].add(sets[1].descriptor, .readable) == -ELOOP)
        }

        @Test("kernel: a set within a set may hold 500 numbers of one file; the next is refused with EINVAL")
        func paths() {
            let outer = EpollSet()
            let inner = EpollSet()
            outer.add(inner.descriptor, .readable)
            let pipe = Pipe()
            let copies = (0..<501).map { _ in Held(owning: IO.copy(pipe.reader)) }
            let answers = copies.map { inner.add($0.descriptor, .readable) }
            #expect(answers.firstIndex { $0 != 0 } == 500)
            #expect(answers.last == -EINVAL)
        }

        @Test("kernel: whatever makes a descriptor answers EMFILE at the process's limit")
        func limit() {
            expectNoneLeft {
                DescriptorLimit.leaving(spare: 0) {
                    #expect(clinux_epoll_create() == -EMFILE)
                    #expect(clinux_eventfd(0, 0) == -EMFILE)
                    #expect(clinux_timerfd_create() == -EMFILE)
                    #expect(clinux_signalfd(-1, 0) == -EMFILE)
                    #expect(clinux_pidfd_open(getpid()) == -EMFILE)
                }
            }
        }

        // MARK: Children of fork

        @Test("kernel: a child of fork shares the set: it removes its parent's entry")
        func childRemoves() throws { try expectHeld(kernel_fact_child_removes_parents_entry()) }

        @Test("kernel: a child that closes its copies leaves the parent's set as it is")
        func childCloses() throws { try expectHeld(kernel_fact_child_closes_its_copies()) }

        @Test("kernel: a copy held by a child keeps a closed descriptor reporting, until the child has ended")
        func childHolds() throws { try expectHeld(kernel_fact_copy_in_a_child_keeps_reporting()) }

        @Test("kernel: a child of fork sees zeros in a page marked MADV_WIPEONFORK, and its parent what it wrote")
        func wipeOnFork() throws { try expectHeld(kernel_fact_wipe_on_fork()) }
    }
}
