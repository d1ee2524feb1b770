// Two threads that hand one number to and fro: through a cache line that both look at all the time, or through
// eventfds that each waits for in epoll_wait.
#define _GNU_SOURCE
#include "CRaw.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct side {
    _Alignas(128) _Atomic uint64_t word;  // written by the other side
    _Alignas(128) struct side *other;
    int cpu, epoll, doorbell, failure;
    bool sleeps, begins;
    uint64_t rounds, nanoseconds, turns, wakes;
    pthread_barrier_t *barrier;
};

static void hand_over(struct side *self, uint64_t number) {
    atomic_store_explicit(&self->other->word, number, memory_order_release);
    if (!self->sleeps) return;
    self->wakes++;
    eventfd_write(self->other->doorbell, 1);
}

static void await(struct side *self, uint64_t number) {
    while (atomic_load_explicit(&self->word, memory_order_acquire) != number) {
        if (self->sleeps) {
            // Edge-triggered, and never read: the doorbell as the engine has it.
            struct epoll_event events[16];
            self->turns++;
            epoll_wait(self->epoll, events, 16, -1);
        } else {
            craw_pause();
        }
    }
}

static void *side_main(void *argument) {
    struct side *self = argument;
    self->failure = craw_pin(self->cpu);
    pthread_barrier_wait(self->barrier);
    uint64_t start = craw_now();
    for (uint64_t round = 1; round <= self->rounds; round++) {
        if (self->begins) hand_over(self, round);
        await(self, round);
        if (!self->begins) hand_over(self, round);
    }
    self->nanoseconds = craw_now() - start;
    return NULL;
}

static int side_open(struct side *self) {
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    self->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    if (self->epoll < 0 || self->doorbell < 0) return -errno;
    return epoll_ctl(self->epoll, EPOLL_CTL_ADD, self->doorbell, &event) == 0 ? 0 : -errno;
}

int craw_pingpong(uint64_t rounds, int sleeps, const int cpus[2], struct craw_result *result) {
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, 2);
    struct side sides[2] = {0};
    int failure = 0;
    for (int index = 0; index < 2; index++) {
        struct side *side = &sides[index];
        side->other = &sides[1 - index];
        side->cpu = cpus[index];
        side->sleeps = sleeps;
        side->begins = index == 0;
        side->rounds = rounds;
        side->barrier = &barrier;
        int error = side_open(side);
        if (failure == 0) failure = error;
    }
    if (failure == 0) {
        pthread_t threads[2];
        for (int index = 0; index < 2; index++) pthread_create(&threads[index], NULL, side_main, &sides[index]);
        for (int index = 0; index < 2; index++) pthread_join(threads[index], NULL);
    }
    for (int index = 0; index < 2; index++) {
        if (failure == 0) failure = sides[index].failure;
        if (sides[index].epoll >= 0) close(sides[index].epoll);
        if (sides[index].doorbell >= 0) close(sides[index].doorbell);
    }
    pthread_barrier_destroy(&barrier);
    *result = (struct craw_result){.operations = rounds,
                                   .nanoseconds = sides[0].nanoseconds,
                                   .turns = sides[0].turns + sides[1].turns,
                                   .wakes = sides[0].wakes + sides[1].wakes};
    return failure;
}
