#ifndef FACTS_H
#define FACTS_H

#include "CKernelFacts.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/// The page in which the child tells what did not hold; shared with the caller, also by children of the child.
extern struct kernel_fact *report;

/// Runs the body in a child of fork with an empty signal mask. The child is ended after 20 seconds. (A pointer to a
/// text means the same in both, since neither replaces its program.)
struct kernel_fact in_child(void (*body)(void));

/// To be used in the child, and in children of it.
#define CHECK(holds)                                                                                                   \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        if (!(holds)) {                                                                                                \
            *report = (struct kernel_fact){.condition = #holds, .file = __FILE__, .line = __LINE__, .error = errno};   \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

#define SKIP_UNLESS(holds, why)                                                                                        \
    do {                                                                                                               \
        if (!(holds)) {                                                                                                \
            report->skipped = why;                                                                                     \
            _exit(0);                                                                                                  \
        }                                                                                                              \
    } while (0)

#define FACT(name)                                                                                                     \
    static void name##_body(void);                                                                                     \
    struct kernel_fact kernel_fact_##name(void) { return in_child(name##_body); }                                      \
    static void name##_body(void)

/// A child of the child; ends with it.
pid_t start(void (*body)(void));
/// Starts a child that ends at once with this code.
pid_t start_ending(int code);
/// Starts a child that sleeps until it is killed.
pid_t start_sleeping(void);
/// A thread without the C library: it may use system calls only. Its number.
pid_t start_thread(int (*body)(void *));
/// A millisecond's sleep, also for such a thread.
void nap(void);

/// What poll(2) says, asked for everything.
int readiness(int descriptor);
/// What the set's first event is, waiting so long for it; 0 if there is none.
int reported(int epoll, int timeout_ms);
int epoll_with(int descriptor, uint32_t events);
uint64_t bit(int signal);
void block(int signal);
int signalfd_of(int signal);

#endif
