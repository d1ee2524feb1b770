import CKernelFacts
import CLinux
import Glibc
import TestSupport
import Testing

extension KernelFacts {
    @Suite("signalfd")
    struct SignalFacts {
        @Test("kernel: five pending signals of one kind are one record")
        func coalescing() throws { try expectHeld(kernel_fact_standard_signals_coalesce()) }

        @Test("kernel: real-time signals are queued, and come in order")
        func queued() throws { try expectHeld(kernel_fact_queued_signals_keep_order()) }

        @Test("kernel: three children that end are one SIGCHLD")
        func children() throws { try expectHeld(kernel_fact_children_share_one_sigchld()) }

        @Test("kernel: an ignored signal is queued all the same while it is blocked")
        func ignored() throws { try expectHeld(kernel_fact_ignored_signals_are_queued_while_blocked()) }

        @Test("kernel: a signal to the process goes to a thread that does not block it, not to the descriptor")
        func openThread() throws { try expectHeld(kernel_fact_open_thread_takes_the_signal()) }

        @Test("kernel: a signal to a thread is read by that thread alone, and wakes nobody else's poll")
        func threadDirected() throws { try expectHeld(kernel_fact_thread_directed_signals()) }

        @Test("kernel: a signal that is pending when it is unblocked takes its default action")
        func unblocked() throws { try expectHeld(kernel_fact_unblocking_delivers_what_is_pending()) }

        @Test("kernel: sigtimedwait takes a pending signal off, and nothing runs")
        func taken() throws { try expectHeld(kernel_fact_pending_signals_can_be_taken()) }

        @Test("kernel: a record that was taken elsewhere leaves EAGAIN for who had it reported")
        func stolen() throws { try expectHeld(kernel_fact_stolen_record()) }

        @Test("kernel: one record is read by one reader, though all are told")
        func oneReader() throws { try expectHeld(kernel_fact_one_record_one_reader()) }

        @Test("kernel: the set of a signalfd can change; what is pending stays so, and counts for the new set")
        func changed() throws { try expectHeld(kernel_fact_signalfd_set_can_change()) }

        @Test("kernel: a read gives as many records as there is room for, each with its sender and code")
        func records() throws { try expectHeld(kernel_fact_signalfd_records()) }

        @Test("kernel: a child of fork that changes an inherited signalfd changes its parent's")
        func changedByChild() throws { try expectHeld(kernel_fact_child_changes_parents_signalfd()) }

        @Test("kernel: a signalfd in an inherited set is never ready in a child of fork, though a read works")
        func inheritedSet() throws { try expectHeld(kernel_fact_signalfd_in_inherited_epoll()) }
    }

    @Suite("pidfd")
    struct ProcessFacts {
        @Test("kernel: a pidfd is ready when the whole thread group has ended, not its first thread")
        func wholeGroup() throws { try expectHeld(kernel_fact_pidfd_needs_the_whole_group()) }

        @Test("kernel: a stop is no end: not ready, and nothing to wait for")
        func stops() throws { try expectHeld(kernel_fact_pidfd_ignores_stops()) }

        @Test("kernel: waitid by pidfd tells code and status; WNOWAIT leaves them, and a second wait is ECHILD")
        func statuses() throws { try expectHeld(kernel_fact_pidfd_statuses()) }

        @Test("kernel: who was reaped, and nobody, is ESRCH; zero and below EINVAL; a pidfd is born close-on-exec")
        func refusals() throws { try expectHeld(kernel_fact_pidfd_refusals()) }

        @Test("kernel: a zombie can be opened, is ready at once, and takes signals; after the wait they are ESRCH")
        func zombie() throws { try expectHeld(kernel_fact_pidfd_of_a_zombie()) }

        @Test("kernel: a pidfd stays ready after its process was reaped, from 6.9 on with HUP")
        func afterReaping() throws {
            try expectHeld(kernel_fact_pidfd_after_reaping(KernelVersion.current >= .init(6, 9)))
        }

        @Test("kernel: waitid by pidfd takes that child's status alone; a wait for anyone may take it away")
        func itsOwn() throws { try expectHeld(kernel_fact_pidfd_waits_for_its_own()) }

        @Test("kernel: who is no child can be opened and polled; to wait for it is ECHILD")
        func noChild() throws { try expectHeld(kernel_fact_pidfd_of_no_child()) }

        @Test("kernel: with SIGCHLD ignored a child's end is told, and its status is gone: ECHILD")
        func ignoredSIGCHLD() throws { try expectHeld(kernel_fact_pidfd_with_sigchld_ignored()) }

        @Test("kernel: waitid with WNOHANG answers nothing for who runs, also by a pidfd with PIDFD_NONBLOCK")
        func nonblocking() throws { try expectHeld(kernel_fact_pidfd_nonblocking()) }

        @Test("kernel: a pidfd never means the next process with the number: ESRCH and ECHILD")
        func numberUsedAgain() throws { try expectHeld(kernel_fact_pidfd_never_means_another()) }

        @Test("kernel: where there is PIDFD_GET_INFO with the exit, it outlives the wait and an ignored SIGCHLD")
        func remembers() throws {
            let fact = kernel_fact_pidfd_remembers()
            if fact.skipped == nil {
                print("Linux \(KernelVersion.current): PIDFD_GET_INFO tells the exit of who was reaped")
                try expectHeld(fact)
            } else {
                print("Linux \(KernelVersion.current): no PIDFD_GET_INFO with the exit")
                #expect(KernelVersion.current < .init(6, 15))
            }
        }
    }

    @Suite("Threads")
    struct ThreadFacts {
        @Test("kernel: /proc/self/task tells the signals that each thread blocks")
        func masks() {
            var masks = [clinux_thread_mask](repeating: clinux_thread_mask(), count: 256)
            func mask(of thread: CInt) -> UInt64? {
                let count = Int(clinux_thread_masks(&masks, 256))
                return masks.prefix(min(count, 256)).first { $0.thread == thread }?.blocked
            }
            let own = CInt(Files.link("/proc/thread-self")?.split(separator: "/").last ?? "") ?? 0
            var previous: UInt64 = 0
            let bit = UInt64(1) << UInt64(SIGWINCH - 1)
            #expect(clinux_sigmask_block(bit, &previous) == 0)
            #expect(mask(of: own) == previous | bit)
            #expect(clinux_sigmask_unblock(bit) == 0)
            #expect(mask(of: own) == previous & ~bit)
            _ = clinux_sigmask_block(previous, &previous)
        }

        @Test("kernel: a thread begins with the mask of the one that made it")
        func inheritedMask() {
            let blocked = Tally()
            // Makes it with every signal blocked.
            Threads.spawn {
                var mask = sigset_t()
                pthread_sigmask(SIG_BLOCK, nil, &mask)
                for number in [SIGINT, SIGTERM, SIGUSR1, SIGCHLD, clinux_sigrtmax()] {
                    blocked.add(Int(sigismember(&mask, number)))
                }
            }.join()
            #expect(blocked.value == 5)
        }

        @Test("kernel: a futex wait until an absolute time of CLOCK_MONOTONIC ends then and not before")
        func futex() {
            var word: UInt32 = 1
            #expect(clinux_futex_wait(&word, 2, 0) == -EAGAIN)
            let deadline = Clock.monotonic() + 5_000_000
            #expect(clinux_futex_wait(&word, 1, deadline) == -ETIMEDOUT)
            #expect(Clock.monotonic() >= deadline)
            #expect(clinux_futex_wake_all(&word) == 0)
        }

        @Test("kernel: a thread's CPU clock can be read by another thread")
        func cpuClock() {
            var clock: CInt = 0
            #expect(clinux_thread_cpu_clock(&clock) == 0)
            let own = clock
            let result = Tally()
            Threads.spawn {
                var time: UInt64 = 0
                if clinux_clock_ns(own, &time) == 0, time > 0 { result.add() }
            }.join()
            #expect(result.value == 1)
        }

        @Test("kernel: a CPU that there is not is refused with EINVAL, and the thread stays where it may run")
        func affinity() {
            var before = [CInt](repeating: 0, count: 4096)
            let count = clinux_affinity_get(&before, 4096)
            #expect(count >= 1)
            #expect(clinux_affinity_pin(1 << 19) == -EINVAL)
            var after = [CInt](repeating: 0, count: 4096)
            #expect(clinux_affinity_get(&after, 4096) == count)
            #expect(before == after)
        }
    }
}
