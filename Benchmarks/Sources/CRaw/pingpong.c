// Two threads that hand something to and fro: a number through a cache line that both look at all the time, a node
// through mailboxes of one word, or a number with an eventfd that each waits for in epoll_wait.
#define _GNU_SOURCE
#include "CRaw.h"
#include "mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>

struct node {
    struct link link;
    uint64_t number;
};

struct side {
    _Alignas(128) _Atomic uint64_t word;  // written by the other side
    _Alignas(128) _Atomic(struct link *) mailbox;
    _Alignas(128) struct side *other;
    struct doorbell doorbell;
    int cpu, failure;
    enum craw_hop hop;
    bool begins;
    struct node *node;  // what travels, while it is here
    uint64_t rounds, nanoseconds, turns, wakes;
    pthread_barrier_t *barrier;
};

static void hand_over(struct side *self, uint64_t number) {
    if (self->hop == CRAW_HOP_MAILBOX) {
        self->node->number = number;
        mailbox_push(&self->other->mailbox, &self->node->link, &self->node->link);
        return;
    }
    atomic_store_explicit(&self->other->word, number, memory_order_release);
    if (self->hop == CRAW_HOP_LINE) return;
    self->wakes++;
    doorbell_ring(&self->other->doorbell);
}

static void await_node(struct side *self, uint64_t number) {
    // A look first: an exchange would take the line away from the one who is about to push.
    while (atomic_load_explicit(&self->mailbox, memory_order_relaxed) == NULL) craw_pause();
    self->node = (struct node *)mailbox_take(&self->mailbox);
    if (self->node->number != number) self->failure = -EILSEQ;
}

static void await(struct side *self, uint64_t number) {
    if (self->hop == CRAW_HOP_MAILBOX) {
        await_node(self, number);
        return;
    }
    while (atomic_load_explicit(&self->word, memory_order_acquire) != number) {
        if (self->hop == CRAW_HOP_ASLEEP) {
            struct epoll_event events[16];
            self->turns++;
            epoll_wait(self->doorbell.epoll, events, 16, -1);
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

int craw_pingpong(uint64_t rounds, enum craw_hop hop, const int cpus[2], struct craw_result *result) {
    _Alignas(128) struct node node = {0};
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, 2);
    struct side sides[2] = {0};
    int failure = 0;
    for (int index = 0; index < 2; index++) {
        struct side *side = &sides[index];
        side->other = &sides[1 - index];
        side->cpu = cpus[index];
        side->hop = hop;
        side->begins = index == 0;
        side->node = &node;
        side->rounds = rounds;
        side->barrier = &barrier;
        int error = doorbell_open(&side->doorbell);
        if (failure == 0) failure = error;
    }
    if (failure == 0) {
        pthread_t threads[2];
        for (int index = 0; index < 2; index++) pthread_create(&threads[index], NULL, side_main, &sides[index]);
        for (int index = 0; index < 2; index++) pthread_join(threads[index], NULL);
    }
    for (int index = 0; index < 2; index++) {
        if (failure == 0) failure = sides[index].failure;
        doorbell_close(&sides[index].doorbell);
    }
    pthread_barrier_destroy(&barrier);
    *result = (struct craw_result){.operations = rounds,
                                   .nanoseconds = sides[0].nanoseconds,
                                   .turns = sides[0].turns + sides[1].turns,
                                   .wakes = sides[0].wakes + sides[1].wakes};
    return failure;
}
