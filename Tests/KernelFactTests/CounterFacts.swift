import CKernelFacts
import CLinux
import Glibc
import TestSupport
import Testing

extension KernelFacts {
    @Suite("eventfd")
    struct CounterFacts {
        private let limit = UInt64.max - 1

        @Test("kernel: a read takes the sum and clears it; then there is EAGAIN")
        func sum() {
            let counter = Counter()
            #expect(IO.readCounter(counter.descriptor) == nil && errno == EAGAIN)
            for value: UInt64 in [1, 2, 39] { #expect(IO.writeCounter(counter.descriptor, value)) }
            #expect(IO.readCounter(counter.descriptor) == 42)
            #expect(IO.readCounter(counter.descriptor) == nil && errno == EAGAIN)
        }

        @Test("kernel: 2^64 - 2 is the limit: beyond it EAGAIN, no OUT and nothing changed; 2^64 - 1 is EINVAL")
        func limits() {
            let counter = Counter()
            #expect(clinux_eventfd_write(counter.descriptor, .max) == -EINVAL)
            #expect(clinux_eventfd_write(counter.descriptor, limit - 1) == 8)
            #expect(clinux_eventfd_write(counter.descriptor, 2) == -EAGAIN)
            #expect(clinux_eventfd_write(counter.descriptor, 1) == 8)
            #expect(clinux_eventfd_write(counter.descriptor, 1) == -EAGAIN)
            #expect(Readiness.of(counter.descriptor) == .readable)
            #expect(IO.readCounter(counter.descriptor) == limit)
        }

        @Test("kernel: edge-triggered and never read, every write is an edge")
        func edgePerWrite() {
            let counter = Counter()
            let set = EpollSet()
            set.add(counter.descriptor, .readable, flags: EpollEntry.edgeTriggered)
            for _ in 0..<100 {
                #expect(IO.writeCounter(counter.descriptor, 1))
                #expect(set.readiness() == .readable)
                #expect(set.events().isEmpty)
            }
            #expect(IO.readCounter(counter.descriptor) == 100)
        }

        @Test("kernel: a refused write is no edge; after a read the next write is one")
        func refusedWriteIsNoEdge() {
            let counter = Counter(limit)
            let set = EpollSet()
            set.add(counter.descriptor, .readable, flags: EpollEntry.edgeTriggered)
            #expect(set.readiness() == .readable)
            #expect(clinux_eventfd_write(counter.descriptor, 1) == -EAGAIN)
            #expect(set.events().isEmpty)
            #expect(IO.readCounter(counter.descriptor) == limit)
            #expect(set.events().isEmpty, "a read is no edge of reading")
            #expect(IO.writeCounter(counter.descriptor, 1))
            #expect(set.readiness() == .readable)
        }

        @Test("kernel: O_NONBLOCK belongs to the open file: who holds a copy can take it away")
        func sharedFlag() {
            let counter = Counter()
            let copy = IO.copy(counter.descriptor)
            defer { close(copy) }
            IO.setNonBlocking(copy, false)
            #expect(!IO.isNonBlocking(counter.descriptor))
        }

        @Test("kernel: a read with RWF_NOWAIT does not block on a blocking counter, and takes what is there")
        func noWait() {
            let counter = Counter(blocking: true)
            var value: UInt64 = 0
            #expect(kernel_read_nowait(counter.descriptor, &value, 8) == -EAGAIN)
            IO.writeCounter(counter.descriptor, 3)
            #expect(kernel_read_nowait(counter.descriptor, &value, 8) == 8)
            #expect(value == 3)
            IO.writeCounter(counter.descriptor, 4)
            #expect(clinux_eventfd_drain(counter.descriptor, &value) == 8)
            #expect(value == 4)
            #expect(clinux_eventfd_drain(counter.descriptor, &value) == -EAGAIN)
        }

        /// Not relied on: it says where such a read would do and where not.
        @Test("kernel: RWF_NOWAIT is EOPNOTSUPP for a counter's write, and on older kernels for what is no counter")
        func noWaitElsewhere() {
            let counter = Counter(blocking: true)
            var value: UInt64 = 1
            #expect(kernel_write_nowait(counter.descriptor, &value, 8) == -EOPNOTSUPP)
            let alarm = Alarm()
            let signals = Held(owning: clinux_signalfd(-1, 0))
            IO.setNonBlocking(alarm.descriptor, false)
            IO.setNonBlocking(signals.descriptor, false)
            func expected(since version: KernelVersion) -> CInt {
                KernelVersion.current < version ? -EOPNOTSUPP : -EAGAIN
            }
            #expect(kernel_read_nowait(alarm.descriptor, &value, 8) == expected(since: .init(6, 10)))
            var record = signalfd_siginfo()
            let size = CInt(MemoryLayout<signalfd_siginfo>.size)
            #expect(kernel_read_nowait(signals.descriptor, &record, size) == expected(since: .init(6, 10)))
            let pipe = Pipe()
            IO.setNonBlocking(pipe.reader, false)
            #expect(kernel_read_nowait(pipe.reader, &value, 8) == expected(since: .init(6, 4)))
        }

        @Test("kernel: a child of fork that writes an inherited counter wakes its parent")
        func childWrites() throws { try expectHeld(kernel_fact_child_writes_parents_counter()) }
    }
}
