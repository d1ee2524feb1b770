// Requests and answers between two threads: the request's node comes back as the answer, so nothing is allocated after
// the first round. And how long a wake takes.
#define _GNU_SOURCE
#include "CRaw.h"
#include "mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

struct request {
    struct link link;
    uint64_t value, answer;
};

struct party {
    _Alignas(128) _Atomic(struct link *) mailbox;
    _Alignas(128) struct party *other;
    struct doorbell doorbell;
    int cpu, failure;
    uint64_t calls, window, sent, answered, sum, turns, wakes, nanoseconds;
    struct request *requests;
    pthread_barrier_t *barrier;
    _Atomic bool over;

    // Of the wake yardstick.
    uint64_t gap, *latencies;
    _Alignas(128) _Atomic uint64_t begun;  // when the wake that is under way was sent; 0: it has come
};

static void send_to(struct party *self, struct party *other, struct request *request) {
    if (!mailbox_push(&other->mailbox, &request->link, &request->link)) return;
    self->wakes++;
    doorbell_ring(&other->doorbell);
}

static void ask(struct party *self, struct request *request) {
    request->value = self->sent++;
    send_to(self, self->other, request);
}

static void handle_answer(struct party *self, struct request *request) {
    self->sum += request->answer;
    self->answered++;
    if (self->sent < self->calls) ask(self, request);
}

static void handle_request(struct party *self, struct request *request) {
    request->answer = request->value + 1;
    send_to(self, self->other, request);
}

static void run_turns(struct party *self, bool caller) {
    while (caller ? self->answered < self->calls : !self->over) {
        struct link *link = mailbox_take(&self->mailbox);
        while (link != NULL) {
            struct link *next = link->next;
            (caller ? handle_answer : handle_request)(self, (struct request *)link);
            link = next;
        }
        if (caller && self->answered == self->calls) break;
        struct epoll_event events[16];
        epoll_wait(self->doorbell.epoll, events, 16, mailbox_arm(&self->mailbox) ? -1 : 0);
        self->turns++;
    }
}

static void *call_main(void *argument) {
    struct party *self = argument;
    self->failure = craw_pin(self->cpu);
    pthread_barrier_wait(self->barrier);
    if (self->requests == NULL) {
        run_turns(self, false);
        return NULL;
    }
    uint64_t start = craw_now();
    for (uint64_t index = 0; index < self->window && self->sent < self->calls; index++) {
        ask(self, &self->requests[index]);
    }
    run_turns(self, true);
    self->nanoseconds = craw_now() - start;
    self->other->over = true;
    doorbell_ring(&self->other->doorbell);
    return NULL;
}

static void party_close(struct party *party) {
    doorbell_close(&party->doorbell);
    free(party->requests);
}

static int run_both(struct party parties[2], const int cpus[2], void *(*body)(void *)) {
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, 2);
    int failure = 0;
    for (int index = 0; index < 2; index++) {
        parties[index].other = &parties[1 - index];
        parties[index].cpu = cpus[index];
        parties[index].barrier = &barrier;
        int opened = doorbell_open(&parties[index].doorbell);
        if (failure == 0) failure = opened;
    }
    pthread_t threads[2];
    for (int index = 0; failure == 0 && index < 2; index++) {
        if (pthread_create(&threads[index], NULL, body, &parties[index]) != 0) abort();
    }
    for (int index = 0; failure == 0 && index < 2; index++) pthread_join(threads[index], NULL);
    for (int index = 0; index < 2; index++) {
        if (failure == 0) failure = parties[index].failure;
    }
    pthread_barrier_destroy(&barrier);
    return failure;
}

int craw_call(uint64_t calls, uint64_t window, const int cpus[2], struct craw_result *result) {
    struct party parties[2] = {{.calls = calls, .window = window}, {0}};
    parties[0].requests = calloc(window, sizeof *parties[0].requests);
    if (parties[0].requests == NULL) return -ENOMEM;
    int failure = run_both(parties, cpus, call_main);
    if (failure == 0 && parties[0].sum != calls * (calls + 1) / 2) failure = -EILSEQ;
    *result = (struct craw_result){.operations = calls, .nanoseconds = parties[0].nanoseconds,
                                   .turns = parties[0].turns + parties[1].turns,
                                   .wakes = parties[0].wakes + parties[1].wakes};
    party_close(&parties[0]);
    party_close(&parties[1]);
    return failure;
}

// MARK: wake

static void ring_at_intervals(struct party *self) {
    for (uint64_t count = 0; count < self->calls; count++) {
        uint64_t due = craw_now() + self->gap;
        while (craw_now() < due || self->other->begun != 0) craw_pause();
        self->other->begun = craw_now();
        doorbell_ring(&self->other->doorbell);
    }
}

static void *wake_main(void *argument) {
    struct party *self = argument;
    self->failure = craw_pin(self->cpu);
    pthread_barrier_wait(self->barrier);
    if (self->latencies == NULL) {
        ring_at_intervals(self);
        return NULL;
    }
    uint64_t start = craw_now();
    for (uint64_t count = 0; count < self->calls; count++) {
        struct epoll_event events[16];
        while (self->begun == 0) epoll_wait(self->doorbell.epoll, events, 16, -1);
        self->latencies[count] = craw_now() - self->begun;
        self->begun = 0;
    }
    self->nanoseconds = craw_now() - start;
    return NULL;
}

int craw_wake(uint64_t wakes, uint64_t gap, const int cpus[2], struct craw_result *result) {
    struct party parties[2] = {{.calls = wakes}, {.calls = wakes, .gap = gap}};
    uint64_t *latencies = calloc(wakes, sizeof *latencies);
    if (latencies == NULL) return -ENOMEM;
    parties[0].latencies = latencies;
    int failure = run_both(parties, cpus, wake_main);
    *result = (struct craw_result){.operations = wakes, .nanoseconds = parties[0].nanoseconds, .wakes = wakes};
    craw_percentiles(latencies, wakes, result);
    free(latencies);
    party_close(&parties[0]);
    party_close(&parties[1]);
    return failure;
}
