// A level-triggered epoll loop as one would write it by hand: epoll_data points at the watcher, the watcher holds a
// function and its context.
#define _GNU_SOURCE
#include "CRaw.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BATCH 256

struct loop {
    int epoll;
    bool stopping;
    uint64_t turns;
};

struct watcher {
    void (*read)(struct loop *loop, int descriptor, void *context);
    void *context;
    int descriptor;
};

static int watch(struct loop *loop, struct watcher *watcher) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = watcher};
    return epoll_ctl(loop->epoll, EPOLL_CTL_ADD, watcher->descriptor, &event) == 0 ? 0 : -errno;
}

static int run(struct loop *loop) {
    struct epoll_event events[BATCH];
    while (!loop->stopping) {
        int count = epoll_wait(loop->epoll, events, BATCH, -1);
        if (count < 0) {
            if (errno == EINTR) continue;
            return -errno;
        }
        loop->turns++;
        for (int index = 0; index < count; index++) {
            struct watcher *watcher = events[index].data.ptr;
            if (events[index].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                watcher->read(loop, watcher->descriptor, watcher->context);
            }
        }
    }
    return 0;
}

static int measure(struct loop *loop, const uint64_t *callbacks, struct craw_result *result) {
    uint64_t start = craw_now();
    int failure = run(loop);
    result->nanoseconds = craw_now() - start;
    result->operations = *callbacks;
    result->turns = loop->turns;
    return failure;
}

struct ring {
    uint64_t callbacks, limit;
};

struct station {
    struct watcher watcher;
    struct ring *ring;
    int next;  // the write end of the next pipe
    int ends[2];
};

static void pass_token(struct loop *loop, int descriptor, void *context) {
    struct station *station = context;
    char byte;
    if (read(descriptor, &byte, 1) == 1 && write(station->next, &byte, 1) == 1) {
        struct ring *ring = station->ring;
        if (++ring->callbacks >= ring->limit) loop->stopping = true;
    }
}

int craw_dispatch_ring(int pipes, int active, uint64_t events, struct craw_result *result) {
    struct loop loop = {.epoll = epoll_create1(EPOLL_CLOEXEC)};
    struct ring ring = {.limit = events};
    struct station *stations = calloc((size_t)pipes, sizeof *stations);
    int failure = loop.epoll < 0 ? -errno : stations == NULL ? -ENOMEM : 0;
    int made = 0;
    for (; failure == 0 && made < pipes; made++) {
        struct station *station = &stations[made];
        if (pipe2(station->ends, O_CLOEXEC | O_NONBLOCK) != 0) {
            failure = -errno;
            break;
        }
        station->ring = &ring;
        station->watcher = (struct watcher){.read = pass_token, .context = station, .descriptor = station->ends[0]};
        failure = watch(&loop, &station->watcher);
    }
    if (failure == 0) {
        for (int index = 0; index < pipes; index++) stations[index].next = stations[(index + 1) % pipes].ends[1];
        for (int index = 0; index < active; index++) {
            if (write(stations[index * (pipes / active)].ends[1], "t", 1) != 1) failure = -errno;
        }
    }
    if (failure == 0) failure = measure(&loop, &ring.callbacks, result);
    while (made-- > 0) {
        close(stations[made].ends[0]);
        close(stations[made].ends[1]);
    }
    free(stations);
    if (loop.epoll >= 0) close(loop.epoll);
    return failure;
}

static void count_event(struct loop *loop, int descriptor, void *context) {
    (void)descriptor;
    struct ring *ring = context;
    if (++ring->callbacks >= ring->limit) loop->stopping = true;
}

int craw_dispatch_level(int descriptors, uint64_t events, struct craw_result *result) {
    struct loop loop = {.epoll = epoll_create1(EPOLL_CLOEXEC)};
    struct ring ring = {.limit = events};
    struct watcher *watchers = calloc((size_t)descriptors, sizeof *watchers);
    int failure = loop.epoll < 0 ? -errno : watchers == NULL ? -ENOMEM : 0;
    int made = 0;
    for (; failure == 0 && made < descriptors; made++) {
        int descriptor = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
        if (descriptor < 0) {
            failure = -errno;
            break;
        }
        watchers[made] = (struct watcher){.read = count_event, .context = &ring, .descriptor = descriptor};
        failure = watch(&loop, &watchers[made]);
    }
    if (failure == 0) failure = measure(&loop, &ring.callbacks, result);
    while (made-- > 0) close(watchers[made].descriptor);
    free(watchers);
    if (loop.epoll >= 0) close(loop.epoll);
    return failure;
}

// MARK: memory

int craw_memory_watchers(const int *descriptors, uint64_t count, struct craw_result *result) {
    struct loop loop = {.epoll = epoll_create1(EPOLL_CLOEXEC)};
    if (loop.epoll < 0) return -errno;
    craw_memory_settle();
    uint64_t before = craw_resident();
    int failure = 0;
    struct watcher **watchers = calloc(count, sizeof *watchers);
    for (uint64_t index = 0; failure == 0 && index < count; index++) {
        watchers[index] = malloc(sizeof **watchers);
        *watchers[index] = (struct watcher){.read = count_event, .descriptor = descriptors[index]};
        failure = watch(&loop, watchers[index]);
    }
    *result = (struct craw_result){.operations = count, .nanoseconds = craw_resident() - before};
    for (uint64_t index = 0; index < count; index++) free(watchers[index]);
    free(watchers);
    close(loop.epoll);
    return failure;
}

// MARK: scale

struct ring_thread {
    pthread_t thread;
    int cpu, failure;
    uint64_t events;
    struct craw_result result;
};

static void *ring_main(void *argument) {
    struct ring_thread *self = argument;
    self->failure = craw_pin(self->cpu);
    if (self->failure == 0) self->failure = craw_dispatch_ring(100, 10, self->events, &self->result);
    return NULL;
}

int craw_scale_ring(int threads, uint64_t events, const int *cpus, struct craw_result *result) {
    struct ring_thread *rings = calloc((size_t)threads, sizeof *rings);
    if (rings == NULL) return -ENOMEM;
    int failure = 0;
    for (int index = 0; index < threads; index++) {
        rings[index].cpu = cpus[index];
        rings[index].events = events / (uint64_t)threads;
        if (pthread_create(&rings[index].thread, NULL, ring_main, &rings[index]) != 0) abort();
    }
    *result = (struct craw_result){0};
    for (int index = 0; index < threads; index++) {
        pthread_join(rings[index].thread, NULL);
        if (failure == 0) failure = rings[index].failure;
        result->operations += rings[index].result.operations;
        result->turns += rings[index].result.turns;
        // The slowest one says how long all took.
        if (rings[index].result.nanoseconds > result->nanoseconds) {
            result->nanoseconds = rings[index].result.nanoseconds;
        }
    }
    free(rings);
    return failure;
}
