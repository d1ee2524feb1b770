// What Swift cannot say about Linux, and no more: headers that the Glibc module lacks, macros, and calls that
// need _GNU_SOURCE (defined in the .c files only: defined here it would change how Glibc's own headers import).
//
// No policy lives here. Every function that can fail returns a value >= 0, or -errno read before anything else
// could run. No call is retried here: EINTR and EAGAIN are answered in Swift, where the reason is written.

#ifndef CLINUX_H
#define CLINUX_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>

#include "CLinuxFaults.h"

/// "Bad file descriptor" for EBADF; a static string, from any thread.
const char *clinux_error_text(int code);

// MARK: epoll(7). Masks are macros mixed with an enum in C; here they are one type.

enum {
    CLINUX_EPOLLIN = EPOLLIN,
    CLINUX_EPOLLPRI = EPOLLPRI,
    CLINUX_EPOLLOUT = EPOLLOUT,
    CLINUX_EPOLLERR = EPOLLERR,
    CLINUX_EPOLLHUP = EPOLLHUP,
    CLINUX_EPOLLRDHUP = EPOLLRDHUP,
    CLINUX_EPOLLEXCLUSIVE = EPOLLEXCLUSIVE,
    CLINUX_EPOLLONESHOT = EPOLLONESHOT,
};
#define CLINUX_EPOLLET ((uint32_t)1 << 31)

int clinux_epoll_create(void);
int clinux_epoll_ctl(int epoll, int operation, int descriptor, uint32_t events, uint64_t data);
/// `timeout_ms` is only ever 0 or -1: limits of time are the timerfd's business (nanoseconds, no timer slack).
int clinux_epoll_wait(int epoll, struct epoll_event *events, int capacity, int timeout_ms);

// MARK: eventfd(2), timerfd_create(2), descriptors

int clinux_eventfd(unsigned initial, int flags);
int clinux_eventfd_write(int descriptor, uint64_t value);
/// Reads and clears the counter without ever blocking, even if another holder of the description cleared O_NONBLOCK.
int clinux_eventfd_drain(int descriptor, uint64_t *value);

int clinux_timerfd_create(void);
/// Absolute CLOCK_MONOTONIC nanoseconds; 0 would disarm, so callers who mean "now" pass 1.
int clinux_timerfd_set(int descriptor, uint64_t deadline_ns);

int clinux_close(int descriptor);
int clinux_dup3(int from, int to, int flags);
/// Which file a descriptor means: sockets and pipes have an inode each. eventfd and its like share one.
struct clinux_file_identity {
    uint64_t device;
    uint64_t inode;
};
int clinux_file_identity(int descriptor, struct clinux_file_identity *identity);
int clinux_pipe2(int descriptors[2], int flags);
int clinux_accept4(int descriptor, struct sockaddr *address, socklen_t *length, int flags);
/// What kind of a socket a descriptor is, as bits; -ENOTSOCK if it is none.
enum { CLINUX_LISTENS = 1, CLINUX_NONBLOCKING = 2 };
int clinux_listening(int descriptor);
int clinux_poll(int descriptor, short events, int timeout_ms);

uint64_t clinux_monotonic_ns(void);
/// As of the last tick, some milliseconds ago at most: half the price.
uint64_t clinux_monotonic_coarse_ns(void);

// MARK: signals. Sets are words: bit n - 1 stands for signal n, as in /proc/PID/status.

int clinux_sigmask_block(uint64_t signals, uint64_t *previous);
int clinux_sigmask_unblock(uint64_t signals);
int clinux_signalfd(int descriptor, uint64_t signals);
/// The number of records read, or -errno (EAGAIN: none).
int clinux_signalfd_read(int descriptor, struct signalfd_siginfo *records, int capacity);
/// Takes one pending signal of the set off the queue without running anything: its number, or -EAGAIN.
int clinux_sigtake(uint64_t signals);
int clinux_sigrtmin(void);
int clinux_sigrtmax(void);

// MARK: processes, by pidfd_open(2)

/// How a process ended: `code` as si_code of waitid(2) (CLD_EXITED, CLD_KILLED, CLD_DUMPED), `status` with it.
struct clinux_exit {
    int code;
    int status;
};

int clinux_pidfd_open(int pid);
/// 1 and the exit, 0 if the child has not ended; -ECHILD if it is not ours to wait for. `keep` leaves it waitable.
int clinux_pidfd_wait(int pidfd, bool keep, struct clinux_exit *exit);
/// What the kernel remembers of a process that somebody else has waited for; Linux 6.15 and later. 1 if it does.
int clinux_pidfd_remembered(int pidfd, struct clinux_exit *exit);
int clinux_pidfd_signal(int pidfd, int signal);

/// Made in a page that the kernel wipes in a child of fork(2). Read through `clinux_process`.
extern uint32_t *clinux_process_word;
/// Makes the page, where there is none yet, and writes this process's number into it, again after a fork. The number,
/// or -errno.
int clinux_process_mark(void);

/// The number of the process that marked itself last; 0 in a child of fork that has not. Two loads.
static inline uint32_t clinux_process(void) {
    // Acquire: another thread may make the page at this moment, for a loop of its own.
    uint32_t *word = __atomic_load_n(&clinux_process_word, __ATOMIC_ACQUIRE);
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

// MARK: threads

/// One thread of this process: which signals it blocks, and what it is called.
struct clinux_thread_mask {
    int thread;
    uint64_t blocked;
    char name[16];
};

/// Reads /proc/self/task: how many threads there are, or -errno; at most `capacity` are written. Threads that end
/// meanwhile are left out.
int clinux_thread_masks(struct clinux_thread_mask *masks, int capacity);

extern _Thread_local uintptr_t clinux_thread_number;
uintptr_t clinux_thread_number_assign(void);

/// A number that no other thread of this process has had or will have; one load of thread-local memory.
/// (A pthread_t is used again once its thread is gone, so it cannot tell a successor from the owner.)
static inline uintptr_t clinux_thread(void) {
    uintptr_t number = clinux_thread_number;
    return __builtin_expect(number != 0, 1) ? number : clinux_thread_number_assign();
}

extern _Thread_local void *clinux_thread_slot;

/// One pointer per thread for the module above. Swift has no cheap thread-local variable of its own.
static inline void *clinux_thread_slot_get(void) { return clinux_thread_slot; }
static inline void clinux_thread_slot_set(void *pointer) { clinux_thread_slot = pointer; }

extern _Thread_local void *clinux_thread_cache;

/// A second pointer per thread, for what has to be given back as the thread ends.
static inline void *clinux_thread_cache_get(void) { return clinux_thread_cache; }
/// Sets it. `give_back` gets the pointer when the thread ends, by pthread_key_create(3); it is to be the same function
/// each time. The first thread of a process does not end in this sense: exit(3) calls no such function.
/// 0, or -errno, and then nothing is set.
int clinux_thread_cache_set(void *cache, void (*give_back)(void *));

/// Starts a joinable thread in which every signal is blocked from its first instruction.
/// `name` is cut to the kernel's 15 bytes.
int clinux_thread_start(uintptr_t *handle, const char *name, void (*body)(void *), void *context);
int clinux_thread_join(uintptr_t handle);
int clinux_thread_detach(uintptr_t handle);
/// The clock of the CPU time that the calling thread has used; readable from any thread while this one lives.
int clinux_thread_cpu_clock(int *clock);
int clinux_clock_ns(int clock, uint64_t *nanoseconds);

/// Writes the CPUs that the calling thread may run on, ascending; returns how many there are.
int clinux_affinity_get(int *cpus, int capacity);
/// Binds the calling thread to one CPU.
int clinux_affinity_pin(int cpu);

// MARK: memory nodes, by the kernel's own calls, so that they can be asked without libnuma

/// The calling thread's memory policy, one of MPOL_*; 0 is the default, which is local.
int clinux_memory_policy(void);
/// Asks on which node each page lies, or with `nodes` moves it there: a number or -errno each in `status`.
int clinux_move_pages(const uintptr_t *pages, const int *nodes, int *status, unsigned long count);

/// How many bytes malloc(3) gave for an allocation: its size, rounded up.
int clinux_allocation_size(void *allocation);
/// Gives all pages that hold nothing back to the kernel, those in the middle of heaps too.
void clinux_allocator_trim(void);

/// Asks for a cache line that will soon be read, or written. A hint: any address will do.
static inline void clinux_prefetch_read(uintptr_t address) { __builtin_prefetch((const void *)address, 0); }
static inline void clinux_prefetch_write(uintptr_t address) {
#ifdef __x86_64__
    // The builtin would ask for reading only, as the oldest processors know no other way; they ignore this one.
    __asm__ volatile("prefetchw (%0)" : : "r"(address));
#else
    __builtin_prefetch((const void *)address, 1);
#endif
}

/// Tells the processor that the thread waits for another's store: it saves power, and leaves more to its sibling.
static inline void clinux_pause(void) {
#ifdef __x86_64__
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

/// futex(2), private: waits while `*word == expected`, at most until the absolute deadline (0: without limit).
int clinux_futex_wait(uint32_t *word, uint32_t expected, uint64_t deadline_ns);
int clinux_futex_wake_all(uint32_t *word);

#endif
