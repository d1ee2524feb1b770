// Threads that post to each other through a mailbox of one word: an intrusive stack whose head also says whether its
// owner sleeps. Each thread is an epoll loop with an eventfd as doorbell: one epoll_wait a turn, blocking only after
// the word went from empty to SLEEPING in one compare-exchange.
#define _GNU_SOURCE
#include "CRaw.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BATCH 256
#define CHAIN 64         // nodes sent home at once
#define SLAB 1024        // nodes made at once
#define PUBLISH_MASK 255 // every 256th task tells the producer how far its peer has come

struct node {
    struct node *next;
    void (*run)(void *context, uint64_t value);
    void *context;
    uint64_t value;
};

static struct node *const SLEEPING = (struct node *)1;

struct slab {
    struct slab *next;
    struct node nodes[SLAB];
};

struct peer {
    _Alignas(128) _Atomic(struct node *) mailbox;
    _Alignas(128) _Atomic(struct node *) returned;  // nodes coming home; nobody is woken for them

    _Alignas(128) struct peer *other;
    enum craw_nodes nodes;
    int cpu, epoll, doorbell;
    struct node *free;
    struct slab *slabs;
    struct node *homeward, *homeward_last;
    unsigned homeward_count;

    uint64_t to_send, to_receive, burst, window;
    uint64_t sent, received, sum, known_consumed;
    struct craw_counter *consumed;  // written by this peer, read by the other

    uint64_t start, end, turns, wakes;
    pthread_barrier_t *barrier;
    int failure;
};

// MARK: the word

static void push(struct peer *target, struct node *first, struct node *last, struct peer *self) {
    struct node *head = atomic_load_explicit(&target->mailbox, memory_order_relaxed);
    do {
        last->next = head == SLEEPING ? NULL : head;
    } while (!atomic_compare_exchange_weak_explicit(&target->mailbox, &head, first, memory_order_acq_rel,
                                                    memory_order_relaxed));
    if (head == SLEEPING) {
        self->wakes++;
        eventfd_write(target->doorbell, 1);
    }
}

static struct node *take(struct peer *self) {
    struct node *head = atomic_exchange_explicit(&self->mailbox, NULL, memory_order_acq_rel);
    if (head == SLEEPING) return NULL;
    struct node *oldest = NULL;
    while (head != NULL) {
        struct node *next = head->next;
        head->next = oldest;
        oldest = head;
        head = next;
    }
    return oldest;
}

static bool arm(struct peer *self) {
    struct node *empty = NULL;
    return atomic_compare_exchange_strong_explicit(&self->mailbox, &empty, SLEEPING, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

// MARK: nodes

static struct node *node_make(struct peer *self) {
    if (self->nodes == CRAW_NODES_MALLOC) return malloc(sizeof(struct node));
    if (self->free == NULL) self->free = atomic_exchange_explicit(&self->returned, NULL, memory_order_acquire);
    if (self->free == NULL) {
        struct slab *slab = malloc(sizeof *slab);
        if (slab == NULL) abort();
        slab->next = self->slabs;
        self->slabs = slab;
        for (int index = 0; index < SLAB; index++) {
            slab->nodes[index].next = index + 1 < SLAB ? &slab->nodes[index + 1] : NULL;
        }
        self->free = slab->nodes;
    }
    struct node *node = self->free;
    self->free = node->next;
    return node;
}

static void send_home(struct peer *self) {
    if (self->homeward == NULL) return;
    struct peer *owner = self->other;
    struct node *head = atomic_load_explicit(&owner->returned, memory_order_relaxed);
    do {
        self->homeward_last->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&owner->returned, &head, self->homeward, memory_order_release,
                                                    memory_order_relaxed));
    self->homeward = NULL;
    self->homeward_count = 0;
}

static void node_done(struct peer *self, struct node *node) {
    if (self->nodes == CRAW_NODES_MALLOC) {
        free(node);
        return;
    }
    if (self->homeward == NULL) self->homeward_last = node;
    node->next = self->homeward;
    self->homeward = node;
    if (++self->homeward_count == CHAIN) send_home(self);
}

// MARK: a turn

static void receive(void *context, uint64_t value) {
    struct peer *self = context;
    self->sum += value;
    self->received++;
    if ((self->received & PUBLISH_MASK) == 0) craw_counter_publish(self->consumed, self->received);
    if (self->received == self->to_receive) self->end = craw_now();
}

static void run_mailbox(struct peer *self) {
    struct node *node = take(self);
    while (node != NULL) {
        struct node *next = node->next;
        node->run(node->context, node->value);
        node_done(self, node);
        node = next;
    }
}

static void wait_for_events(struct peer *self, bool block) {
    struct epoll_event events[BATCH];
    if (block) send_home(self);
    if (epoll_wait(self->epoll, events, BATCH, block ? -1 : 0) < 0 && errno != EINTR) self->failure = -errno;
    self->turns++;
}

static bool window_open(struct peer *self) {
    if (self->sent + self->burst - self->known_consumed <= self->window) return true;
    self->known_consumed = craw_counter_read(self->other->consumed);
    return self->sent + self->burst - self->known_consumed <= self->window;
}

static void send_burst(struct peer *self) {
    uint64_t end = self->sent + self->burst < self->to_send ? self->sent + self->burst : self->to_send;
    for (; self->sent < end; self->sent++) {
        struct node *node = node_make(self);
        node->run = receive;
        node->context = self->other;
        node->value = self->sent;
        push(self->other, node, node, self);
    }
}

static void *produce(void *argument) {
    struct peer *self = argument;
    self->failure = craw_pin(self->cpu);
    pthread_barrier_wait(self->barrier);
    self->start = craw_now();
    while (self->sent < self->to_send) {
        while (!window_open(self)) craw_pause();
        send_burst(self);
    }
    return NULL;
}

static void *loop(void *argument) {
    struct peer *self = argument;
    self->failure = craw_pin(self->cpu);
    pthread_barrier_wait(self->barrier);
    self->start = craw_now();
    while (self->failure == 0 && (self->sent < self->to_send || self->received < self->to_receive)) {
        if (self->sent < self->to_send && window_open(self)) send_burst(self);
        run_mailbox(self);
        if (self->sent == self->to_send && self->received == self->to_receive) break;
        wait_for_events(self, self->sent == self->to_send && arm(self));
    }
    return NULL;
}

// MARK: a run

static int peer_open(struct peer *peer) {
    peer->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    peer->epoll = epoll_create1(EPOLL_CLOEXEC);
    peer->consumed = craw_counter_make();
    if (peer->doorbell < 0 || peer->epoll < 0 || peer->consumed == NULL) return -errno;
    // Edge-triggered: each write is an edge, so the counter is never read.
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = peer};
    return epoll_ctl(peer->epoll, EPOLL_CTL_ADD, peer->doorbell, &event) == 0 ? 0 : -errno;
}

static void peer_close(struct peer *peer) {
    if (peer->doorbell >= 0) close(peer->doorbell);
    if (peer->epoll >= 0) close(peer->epoll);
    if (peer->consumed != NULL) craw_counter_free(peer->consumed);
    while (peer->slabs != NULL) {
        struct slab *next = peer->slabs->next;
        free(peer->slabs);
        peer->slabs = next;
    }
}

static int run_pair(struct peer peers[2], void *(*bodies[2])(void *), struct craw_result *result) {
    pthread_barrier_t barrier;
    pthread_t threads[2];
    pthread_barrier_init(&barrier, NULL, 2);
    int failure = 0;
    for (int index = 0; index < 2; index++) {
        peers[index].other = &peers[1 - index];
        peers[index].barrier = &barrier;
        int opened = peer_open(&peers[index]);
        if (failure == 0) failure = opened;
    }
    if (failure == 0) {
        for (int index = 0; index < 2; index++) {
            // One thread alone would wait at the barrier for ever, so a failure here cannot be passed up.
            if (pthread_create(&threads[index], NULL, bodies[index], &peers[index]) != 0) abort();
        }
        for (int index = 0; index < 2; index++) pthread_join(threads[index], NULL);
        uint64_t start = peers[0].start < peers[1].start ? peers[0].start : peers[1].start;
        uint64_t end = peers[0].end > peers[1].end ? peers[0].end : peers[1].end;
        *result = (struct craw_result){
            .operations = peers[0].received + peers[1].received,
            .nanoseconds = end - start,
            .turns = peers[0].turns + peers[1].turns,
            .wakes = peers[0].wakes + peers[1].wakes,
        };
        for (int index = 0; index < 2; index++) {
            uint64_t count = peers[index].to_receive;
            if (failure == 0) failure = peers[index].failure;
            // Each value came once: their sum says so.
            if (failure == 0 && peers[index].sum != count * (count - (count > 0)) / 2) failure = -EILSEQ;
        }
    }
    for (int index = 0; index < 2; index++) peer_close(&peers[index]);
    pthread_barrier_destroy(&barrier);
    return failure;
}

int craw_queue_one_to_one(enum craw_nodes nodes, uint64_t posts, uint64_t window, const int cpus[2],
                          struct craw_result *result) {
    struct peer peers[2] = {
        {.nodes = nodes, .cpu = cpus[0], .to_send = posts, .burst = 64, .window = window},
        {.nodes = nodes, .cpu = cpus[1], .to_receive = posts},
    };
    return run_pair(peers, (void *(*[2])(void *)){produce, loop}, result);
}

int craw_queue_all_to_all(enum craw_nodes nodes, uint64_t posts, uint64_t burst, uint64_t window, const int cpus[2],
                          struct craw_result *result) {
    uint64_t half = posts / 2;
    struct peer peers[2] = {
        {.nodes = nodes, .cpu = cpus[0], .to_send = half, .to_receive = half, .burst = burst, .window = window},
        {.nodes = nodes, .cpu = cpus[1], .to_send = half, .to_receive = half, .burst = burst, .window = window},
    };
    return run_pair(peers, (void *(*[2])(void *)){loop, loop}, result);
}
