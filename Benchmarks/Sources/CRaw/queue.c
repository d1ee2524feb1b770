// Threads that post to each other through a mailbox of one word: an intrusive stack whose head also says whether its
// owner sleeps. Each thread is an epoll loop with an eventfd as doorbell: one epoll_wait a turn, blocking only after
// the word went from empty to SLEEPING in one compare-exchange.
#define _GNU_SOURCE
#include "CRaw.h"
#include "mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>

#define BATCH 256
#define CHAIN 64         // nodes sent home at once
#define SLAB 1024        // nodes made at once
#define PUBLISH_MASK 255 // every 256th task tells the producer how far its peer has come

struct peer;

/// 24 bytes travel: what the receiver needs, a number, and one word more.
struct node {
    struct link link;
    void (*run)(void *context, uint64_t value);
    void *context;
    uint64_t value, more;
    struct peer *home;  // a node from malloc is made without this
};

static struct node *next_of(struct node *node) { return (struct node *)node->link.next; }

struct slab {
    struct slab *next;
    struct node nodes[SLAB];
};

/// What a receiver knows of one of its senders.
struct lane {
    uint64_t received, sum;
    struct craw_counter *consumed;  // written by the receiver, read by the sender
    struct peer *receiver;
};

struct peer {
    _Alignas(128) _Atomic(struct link *) mailbox;
    _Alignas(128) _Atomic(struct link *) returned;  // nodes coming home; nobody is woken for them

    _Alignas(128) struct peer *other;  // whom it sends to
    enum craw_nodes nodes;
    int cpu;
    struct doorbell doorbell;
    struct node *free;
    struct slab *slabs;

    // Empty nodes of each sender that this peer has not sent home yet; kept with the sender, written by the receiver.
    _Alignas(128) struct node *homeward;
    struct node *homeward_last;
    unsigned homeward_count;

    // Likewise: of this peer as a sender.
    _Alignas(128) struct lane lane;

    _Alignas(128) struct craw_counter *consumed;  // the lane's, where the sender finds it without touching the lane
    uint64_t to_send;
    uint64_t to_receive, burst, batch, window;
    uint64_t sent, received, known_consumed;
    struct peer *senders;  // whose nodes come here
    int sender_count;

    uint64_t start, end, turns, wakes;
    pthread_barrier_t *barrier;
    int failure;
};

// MARK: the word

static void push(struct peer *target, struct node *first, struct node *last, struct peer *self) {
    if (!mailbox_push(&target->mailbox, &first->link, &last->link)) return;
    self->wakes++;
    doorbell_ring(&target->doorbell);
}

// MARK: nodes

static struct node *node_make(struct peer *self) {
    if (self->nodes == CRAW_NODES_MALLOC) return malloc(offsetof(struct node, home));
    if (self->free == NULL) {
        self->free = (struct node *)atomic_exchange_explicit(&self->returned, NULL, memory_order_acquire);
    }
    if (self->free == NULL) {
        struct slab *slab = malloc(sizeof *slab);
        if (slab == NULL) abort();
        slab->next = self->slabs;
        self->slabs = slab;
        for (int index = 0; index < SLAB; index++) {
            slab->nodes[index].link.next = index + 1 < SLAB ? &slab->nodes[index + 1].link : NULL;
            slab->nodes[index].home = self;
        }
        self->free = slab->nodes;
    }
    struct node *node = self->free;
    self->free = next_of(node);
    return node;
}

static void send_home(struct peer *owner) {
    if (owner->homeward == NULL) return;
    struct link *head = atomic_load_explicit(&owner->returned, memory_order_relaxed);
    do {
        owner->homeward_last->link.next = head;
    } while (!atomic_compare_exchange_weak_explicit(&owner->returned, &head, &owner->homeward->link,
                                                    memory_order_release, memory_order_relaxed));
    owner->homeward = NULL;
    owner->homeward_count = 0;
}

static void node_done(struct peer *self, struct node *node) {
    if (self->nodes == CRAW_NODES_MALLOC) {
        free(node);
        return;
    }
    struct peer *owner = node->home;
    if (owner->homeward == NULL) owner->homeward_last = node;
    node->link.next = owner->homeward == NULL ? NULL : &owner->homeward->link;
    owner->homeward = node;
    if (++owner->homeward_count == CHAIN) send_home(owner);
}

// MARK: a turn

static void receive(void *context, uint64_t value) {
    struct lane *lane = context;
    struct peer *self = lane->receiver;
    lane->sum += value;
    if ((++lane->received & PUBLISH_MASK) == 0) craw_counter_publish(lane->consumed, lane->received);
    if (++self->received == self->to_receive) self->end = craw_now();
}

static void run_mailbox(struct peer *self) {
    struct node *node = (struct node *)mailbox_take(&self->mailbox);
    while (node != NULL) {
        struct node *next = next_of(node);
        node->run(node->context, node->value);
        node_done(self, node);
        node = next;
    }
}

static void wait_for_events(struct peer *self, bool block) {
    struct epoll_event events[BATCH];
    for (int index = 0; block && index < self->sender_count; index++) send_home(&self->senders[index]);
    if (epoll_wait(self->doorbell.epoll, events, BATCH, block ? -1 : 0) < 0 && errno != EINTR) self->failure = -errno;
    self->turns++;
}

static bool window_open(struct peer *self) {
    if (self->sent + self->burst - self->known_consumed <= self->window) return true;
    self->known_consumed = craw_counter_read(self->consumed);
    return self->sent + self->burst - self->known_consumed <= self->window;
}

static void send_burst(struct peer *self) {
    uint64_t end = self->sent + self->burst < self->to_send ? self->sent + self->burst : self->to_send;
    while (self->sent < end) {
        struct node *newest = NULL, *oldest = NULL;
        for (uint64_t count = 0; count < self->batch && self->sent < end; count++, self->sent++) {
            struct node *node = node_make(self);
            node->run = receive;
            node->context = &self->lane;
            node->value = self->sent;
            node->more = count;
            node->link.next = newest == NULL ? NULL : &newest->link;
            newest = node;
            if (oldest == NULL) oldest = node;
        }
        push(self->other, newest, oldest, self);
    }
}

static void *produce(void *argument) {
    struct peer *self = argument;
    self->failure = craw_pin(self->cpu);
    pthread_barrier_wait(self->barrier);
    self->start = craw_now();
    while (self->sent < self->to_send) {
        // Several senders share a CPU with the receiver.
        while (!window_open(self)) self->other->sender_count > 1 ? (void)sched_yield() : craw_pause();
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
        wait_for_events(self, self->sent == self->to_send && mailbox_arm(&self->mailbox));
    }
    return NULL;
}

// MARK: a run

static int peer_open(struct peer *peer) {
    peer->lane.consumed = peer->consumed = craw_counter_make();
    int failure = doorbell_open(&peer->doorbell);
    return failure == 0 && peer->lane.consumed == NULL ? -ENOMEM : failure;
}

static void peer_close(struct peer *peer) {
    doorbell_close(&peer->doorbell);
    if (peer->lane.consumed != NULL) craw_counter_free(peer->lane.consumed);
    while (peer->slabs != NULL) {
        struct slab *next = peer->slabs->next;
        free(peer->slabs);
        peer->slabs = next;
    }
}

/// Runs the peers, each sending to its `other`.
static int run_peers(struct peer *peers, int count, void *(*bodies[])(void *), struct craw_result *result) {
    pthread_barrier_t barrier;
    pthread_t threads[CRAW_PEERS];
    pthread_barrier_init(&barrier, NULL, (unsigned)count);
    int failure = 0;
    for (int index = 0; index < count; index++) {
        peers[index].barrier = &barrier;
        peers[index].lane.receiver = peers[index].other;
        int opened = peer_open(&peers[index]);
        if (failure == 0) failure = opened;
    }
    if (failure == 0) {
        for (int index = 0; index < count; index++) {
            // One thread alone would wait at the barrier for ever, so a failure here cannot be passed up.
            if (pthread_create(&threads[index], NULL, bodies[index], &peers[index]) != 0) abort();
        }
        for (int index = 0; index < count; index++) pthread_join(threads[index], NULL);
        *result = (struct craw_result){0};
        uint64_t start = peers[0].start, end = 0;
        for (int index = 0; index < count; index++) {
            struct peer *peer = &peers[index];
            if (peer->start < start) start = peer->start;
            if (peer->end > end) end = peer->end;
            result->operations += peer->received;
            result->turns += peer->turns;
            result->wakes += peer->wakes;
            if (failure == 0) failure = peer->failure;
            // Each value came once: their sum says so.
            uint64_t sent = peer->to_send;
            if (failure == 0 && peer->lane.sum != sent * (sent - (sent > 0)) / 2) failure = -EILSEQ;
        }
        result->nanoseconds = end - start;
    }
    for (int index = 0; index < count; index++) peer_close(&peers[index]);
    pthread_barrier_destroy(&barrier);
    return failure;
}

int craw_queue_to_one(enum craw_nodes nodes, int senders, uint64_t posts, uint64_t batch, uint64_t window,
                      const int *cpus, struct craw_result *result) {
    if (senders < 1 || senders >= CRAW_PEERS) return -EINVAL;
    struct peer peers[CRAW_PEERS] = {0};
    void *(*bodies[CRAW_PEERS])(void *) = {loop};
    uint64_t share = posts / (uint64_t)senders;
    peers[0] = (struct peer){.nodes = nodes, .cpu = cpus[0], .to_receive = share * (uint64_t)senders,
                             .other = &peers[1], .senders = &peers[1], .sender_count = senders};
    for (int index = 1; index <= senders; index++) {
        bodies[index] = produce;
        peers[index] = (struct peer){.nodes = nodes, .cpu = cpus[index], .to_send = share, .burst = 64, .batch = batch,
                                     .window = window / (uint64_t)senders, .other = &peers[0]};
    }
    return run_peers(peers, senders + 1, bodies, result);
}

int craw_queue_all_to_all(enum craw_nodes nodes, uint64_t posts, uint64_t burst, uint64_t window, const int cpus[2],
                          struct craw_result *result) {
    uint64_t half = posts / 2;
    struct peer peers[2];
    for (int index = 0; index < 2; index++) {
        peers[index] = (struct peer){
            .nodes = nodes, .cpu = cpus[index], .to_send = half, .to_receive = half, .burst = burst, .batch = 1,
            .window = window, .other = &peers[1 - index], .senders = &peers[1 - index], .sender_count = 1};
    }
    return run_peers(peers, 2, (void *(*[])(void *)){loop, loop}, result);
}
