// Facts of the kernel that concern a whole process: signals, fork, the ends of processes. Each runs in a child made by
// fork, which runs system calls only and ends with _exit, so that the caller may have any number of threads.

#ifndef CKERNELFACTS_H
#define CKERNELFACTS_H

#include <stdbool.h>

/// What did not hold: the condition, its line and the errno there. All zero where everything held.
struct kernel_fact {
    const char *condition;
    const char *file;
    int line;
    int error;
    /// The child was ended by this signal before it was done.
    int signal;
    /// Why it cannot be tried here, such as missing privileges.
    const char *skipped;
};

/// preadv2(2) and pwritev2(2) with RWF_NOWAIT at the file's own position: the number of bytes, or -errno.
int kernel_read_nowait(int descriptor, void *buffer, int size);
int kernel_write_nowait(int descriptor, const void *buffer, int size);

/// memfd_create(2), and open(2) with O_PATH; both close-on-exec.
int kernel_memory_file(void);
int kernel_open_path(const char *path);

// MARK: signals.c

struct kernel_fact kernel_fact_standard_signals_coalesce(void);
struct kernel_fact kernel_fact_queued_signals_keep_order(void);
struct kernel_fact kernel_fact_children_share_one_sigchld(void);
struct kernel_fact kernel_fact_ignored_signals_are_queued_while_blocked(void);
struct kernel_fact kernel_fact_open_thread_takes_the_signal(void);
struct kernel_fact kernel_fact_thread_directed_signals(void);
struct kernel_fact kernel_fact_unblocking_delivers_what_is_pending(void);
struct kernel_fact kernel_fact_pending_signals_can_be_taken(void);
struct kernel_fact kernel_fact_stolen_record(void);
struct kernel_fact kernel_fact_one_record_one_reader(void);
struct kernel_fact kernel_fact_signalfd_set_can_change(void);
struct kernel_fact kernel_fact_signalfd_records(void);
struct kernel_fact kernel_fact_handler_interrupts_epoll_wait(void);

// MARK: forks.c

struct kernel_fact kernel_fact_wipe_on_fork(void);
struct kernel_fact kernel_fact_child_removes_parents_entry(void);
struct kernel_fact kernel_fact_child_closes_its_copies(void);
struct kernel_fact kernel_fact_copy_in_a_child_keeps_reporting(void);
struct kernel_fact kernel_fact_child_changes_parents_signalfd(void);
struct kernel_fact kernel_fact_signalfd_in_inherited_epoll(void);
struct kernel_fact kernel_fact_child_writes_parents_counter(void);
struct kernel_fact kernel_fact_mounts_error_once(void);

// MARK: processes.c

struct kernel_fact kernel_fact_pidfd_needs_the_whole_group(void);
struct kernel_fact kernel_fact_pidfd_ignores_stops(void);
struct kernel_fact kernel_fact_pidfd_statuses(void);
struct kernel_fact kernel_fact_pidfd_refusals(void);
struct kernel_fact kernel_fact_pidfd_of_a_zombie(void);
/// `hangs_up`: a pidfd whose process was reaped reports HUP as well.
struct kernel_fact kernel_fact_pidfd_after_reaping(bool hangs_up);
struct kernel_fact kernel_fact_pidfd_waits_for_its_own(void);
struct kernel_fact kernel_fact_pidfd_of_no_child(void);
struct kernel_fact kernel_fact_pidfd_with_sigchld_ignored(void);
struct kernel_fact kernel_fact_pidfd_nonblocking(void);
struct kernel_fact kernel_fact_pidfd_never_means_another(void);
/// `skipped` where the kernel has no PIDFD_GET_INFO with PIDFD_INFO_EXIT.
struct kernel_fact kernel_fact_pidfd_remembers(void);

#endif
