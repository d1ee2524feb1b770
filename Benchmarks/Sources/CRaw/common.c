#define _GNU_SOURCE
#include "CRaw.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_of(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t craw_now(void) { return clock_of(CLOCK_MONOTONIC); }

uint64_t craw_thread_cpu(void) { return clock_of(CLOCK_THREAD_CPUTIME_ID); }

uint64_t craw_process_cpu(void) { return clock_of(CLOCK_PROCESS_CPUTIME_ID); }

uint64_t craw_resident(void) {
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long size = 0, resident = 0;
    if (file == NULL) return 0;
    int fields = fscanf(file, "%lu %lu", &size, &resident);
    fclose(file);
    return fields == 2 ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

void craw_memory_settle(void) { malloc_trim(0); }

uint64_t craw_random(uint64_t *state) {
    uint64_t value = *state += 0x9e3779b97f4a7c15u;
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
    value = (value ^ value >> 27) * 0x94d049bb133111ebu;
    return value ^ value >> 31;
}

static int ascending(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

uint64_t craw_percentile(uint64_t *values, uint64_t count, double share) {
    if (count == 0) return 0;
    qsort(values, count, sizeof *values, ascending);
    uint64_t place = (uint64_t)((double)count * share);
    return values[place < count ? place : count - 1];
}

void craw_percentiles(uint64_t *values, uint64_t count, struct craw_result *result) {
    static const double shares[4] = {0.5, 0.9, 0.99, 0.999};
    for (int index = 0; index < 4; index++) result->percentiles[index] = craw_percentile(values, count, shares[index]);
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

int craw_socket_pair(int ends[2]) {
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0 ? 0 : -errno;
}

int craw_listen(int *port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener < 0) return -errno;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 1024) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0) {
        int error = errno;
        close(listener);
        return -error;
    }
    *port = ntohs(address.sin_port);
    return listener;
}

int craw_accept(int listener) {
    int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (connection < 0) return -errno;
    int on = 1;
    if (setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
        int error = errno;
        close(connection);
        return -error;
    }
    return connection;
}

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
