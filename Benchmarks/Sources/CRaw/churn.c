// What it costs to begin, change and end interest in descriptors, one epoll_ctl a change.
#define _GNU_SOURCE
#include "CRaw.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { BATCH = 256 };

struct set {
    int epoll, count;
    int *descriptors;
    uint64_t callbacks;
    struct epoll_event events[BATCH];
};

static int set_open(struct set *set, int count, unsigned counter) {
    *set = (struct set){.epoll = epoll_create1(EPOLL_CLOEXEC), .descriptors = calloc((size_t)count, sizeof(int))};
    if (set->epoll < 0) return -errno;
    if (set->descriptors == NULL) return -ENOMEM;
    for (; set->count < count; set->count++) {
        int descriptor = craw_eventfd(counter);
        if (descriptor < 0) return descriptor;
        set->descriptors[set->count] = descriptor;
    }
    return 0;
}

static void set_close(struct set *set) {
    for (int index = 0; index < set->count; index++) close(set->descriptors[index]);
    free(set->descriptors);
    if (set->epoll >= 0) close(set->epoll);
}

static int control(struct set *set, int operation, int descriptor, unsigned events) {
    struct epoll_event event = {.events = events, .data.fd = descriptor};
    return epoll_ctl(set->epoll, operation, descriptor, &event) == 0 ? 0 : -errno;
}

static int control_all(struct set *set, int operation, unsigned events) {
    int failure = 0;
    for (int index = 0; failure == 0 && index < set->count; index++) {
        failure = control(set, operation, set->descriptors[index], events);
    }
    return failure;
}

static int turn(struct set *set) {
    int count = epoll_wait(set->epoll, set->events, BATCH, 0);
    return count >= 0 || errno == EINTR ? count : -errno;
}

/// One round changes every descriptor once.
static int measure(int descriptors, unsigned counter, uint64_t operations, int (*begin)(struct set *),
                   int (*round)(struct set *, uint64_t number), struct craw_result *result) {
    struct set set;
    int failure = set_open(&set, descriptors, counter);
    if (failure == 0 && begin != NULL) failure = begin(&set);
    uint64_t rounds = operations / (uint64_t)descriptors;
    uint64_t start = craw_now();
    for (uint64_t number = 0; failure == 0 && number < rounds; number++) failure = round(&set, number);
    *result = (struct craw_result){.operations = rounds * (uint64_t)descriptors,
                                   .nanoseconds = craw_now() - start};
    set_close(&set);
    return failure;
}

static int watch_all(struct set *set) { return control_all(set, EPOLL_CTL_ADD, EPOLLIN); }

static int watch_round(struct set *set, uint64_t number) {
    (void)number;
    int failure = watch_all(set);
    if (failure == 0) failure = turn(set);
    if (failure >= 0) failure = control_all(set, EPOLL_CTL_DEL, 0);
    if (failure == 0) failure = turn(set);
    return failure < 0 ? failure : 0;
}

int craw_churn_watch(int descriptors, uint64_t pairs, struct craw_result *result) {
    return measure(descriptors, 0, pairs, NULL, watch_round, result);
}

static int pause_round(struct set *set, uint64_t number) {
    int failure = control_all(set, EPOLL_CTL_MOD, number & 1 ? EPOLLIN : 0);
    if (failure == 0) failure = turn(set);
    return failure < 0 ? failure : 0;
}

int craw_churn_pause(int descriptors, uint64_t changes, struct craw_result *result) {
    return measure(descriptors, 0, changes, watch_all, pause_round, result);
}

static int undone_round(struct set *set, uint64_t number) {
    (void)number;
    int failure = control_all(set, EPOLL_CTL_MOD, 0);
    if (failure == 0) failure = control_all(set, EPOLL_CTL_MOD, EPOLLIN);
    if (failure == 0) failure = turn(set);
    return failure < 0 ? failure : 0;
}

int craw_churn_undone(int descriptors, uint64_t pairs, struct craw_result *result) {
    return measure(descriptors, 0, pairs, watch_all, undone_round, result);
}

static int watch_oneshot(struct set *set) { return control_all(set, EPOLL_CTL_ADD, EPOLLIN | EPOLLONESHOT); }

static int oneshot_round(struct set *set, uint64_t number) {
    (void)number;
    int count = turn(set), failure = 0;
    for (int index = 0; failure == 0 && index < count; index++) {
        set->callbacks++;
        failure = control(set, EPOLL_CTL_MOD, set->events[index].data.fd, EPOLLIN | EPOLLONESHOT);
    }
    return count < 0 ? count : failure;
}

int craw_churn_oneshot(int descriptors, uint64_t events, struct craw_result *result) {
    return measure(descriptors, 1, events, watch_oneshot, oneshot_round, result);
}
