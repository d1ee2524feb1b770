#define _GNU_SOURCE
#include "CRaw.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

uint64_t craw_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static _Thread_local cpu_set_t saved;

int craw_affinity_save(void) { return sched_getaffinity(0, sizeof saved, &saved) == 0 ? 0 : -errno; }

int craw_affinity_restore(void) { return sched_setaffinity(0, sizeof saved, &saved) == 0 ? 0 : -errno; }

int craw_pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof set, &set) == 0 ? 0 : -errno;
}

int craw_allowed_cpus(int *cpus, int capacity) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return -errno;
    int count = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && count < capacity; cpu++) {
        if (CPU_ISSET(cpu, &set)) cpus[count++] = cpu;
    }
    return count;
}

int craw_raise_descriptor_limit(int needed) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return -errno;
    if (limit.rlim_cur >= (rlim_t)needed) return 0;
    if (limit.rlim_max < (rlim_t)needed) return -EMFILE;
    limit.rlim_cur = (rlim_t)needed;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? 0 : -errno;
}

int craw_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0 ? 0 : -errno; }

static int nonnegative(int value) { return value >= 0 ? value : -errno; }

int craw_eventfd(unsigned initial) { return nonnegative(eventfd(initial, EFD_CLOEXEC | EFD_NONBLOCK)); }

int craw_semaphore(void) { return nonnegative(eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE)); }

struct craw_counter {
    _Alignas(128) _Atomic uint64_t value;
};

struct craw_counter *craw_counter_make(void) {
    struct craw_counter *counter = aligned_alloc(_Alignof(struct craw_counter), sizeof *counter);
    if (counter != NULL) atomic_init(&counter->value, 0);
    return counter;
}

void craw_counter_free(struct craw_counter *counter) { free(counter); }

void craw_counter_publish(struct craw_counter *counter, uint64_t value) {
    atomic_store_explicit(&counter->value, value, memory_order_release);
}

uint64_t craw_counter_read(const struct craw_counter *counter) {
    return atomic_load_explicit(&counter->value, memory_order_acquire);
}

void craw_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
