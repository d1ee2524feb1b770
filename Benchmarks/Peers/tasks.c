// The cases of several threads: who posts what to whom, and how far a sender may run ahead. What carries the tasks is
// the library's.
#define _GNU_SOURCE
#include "peer.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

// MARK: a list of tasks

struct task {
    struct task *next;
    peer_work *work;
    void *context;
    uint64_t value;
};

struct peer_tasks {
    pthread_mutex_t mutex;
    struct task *first, **end;
};

struct peer_tasks *peer_tasks_make(void) {
    struct peer_tasks *tasks = peer_allocate(1, sizeof *tasks);
    pthread_mutex_init(&tasks->mutex, NULL);
    tasks->end = &tasks->first;
    return tasks;
}

void peer_tasks_free(struct peer_tasks *tasks) {
    pthread_mutex_destroy(&tasks->mutex);
    free(tasks);
}

bool peer_tasks_add(struct peer_tasks *tasks, peer_work *work, void *context, uint64_t value) {
    struct task *task = malloc(sizeof *task);
    peer_require(task != NULL, "malloc");
    *task = (struct task){.work = work, .context = context, .value = value};
    pthread_mutex_lock(&tasks->mutex);
    bool was_empty = tasks->first == NULL;
    *tasks->end = task;
    tasks->end = &task->next;
    pthread_mutex_unlock(&tasks->mutex);
    return was_empty;
}

void peer_tasks_run(struct peer_tasks *tasks) {
    pthread_mutex_lock(&tasks->mutex);
    struct task *task = tasks->first;
    tasks->first = NULL;
    tasks->end = &tasks->first;
    pthread_mutex_unlock(&tasks->mutex);
    while (task != NULL) {
        struct task *next = task->next;
        task->work(task->context, task->value);
        free(task);
        task = next;
    }
}

// MARK: threads

enum { BURST = 64, PUBLISH_MASK = 255, WINDOW = 100000, SENDERS = 4 };

/// From one sender to one receiver. What each of them writes is on lines of its own.
struct flow {
    _Alignas(128) struct peer_side *receiver;
    struct craw_counter *consumed;  // published by the receiver
    uint64_t to_send, window;

    _Alignas(128) uint64_t sent, known_consumed;  // the sender's

    _Alignas(128) uint64_t received, sum;  // the receiver's
};

/// A thread: a loop, or a sender that only posts.
struct peer_side {
    _Alignas(128) const struct peer_loops *loops;
    void *loop;  // NULL: a sender
    pthread_t thread;
    pthread_barrier_t *barrier;
    int cpu;
    bool yields;            // a sender that shares its CPU
    bool serves;            // at pingpong
    struct flow *outbound;  // NULL: it only receives
    struct peer_side *partner;

    _Alignas(128) uint64_t to_receive, received;  // tasks, or rounds of pingpong
    uint64_t start, end;
};

static void side_post(const struct peer_side *to, peer_work *work, void *context, uint64_t value) {
    to->loops->post(to->loop, work, context, value);
}

static void start_thread(struct peer_side *side, void *(*body)(void *)) {
    // One thread alone would wait at the barrier for ever.
    peer_check("pthread_create", -pthread_create(&side->thread, NULL, body, side));
}

/// In the thread of the side.
static void begin(struct peer_side *side) {
    peer_check("sched_setaffinity", craw_pin(side->cpu));
    pthread_barrier_wait(side->barrier);
    side->start = craw_now();
}

static void *loop_main(void *argument) {
    struct peer_side *side = argument;
    begin(side);
    side->loops->run(side->loop);
    return NULL;
}

/// Starts the threads, the first `loops` of them with loops, and waits until all have ended.
static void run_sides(struct peer_side *sides, int count, int loops, void *(*loop_body)(void *),
                      void *(*other_body)(void *)) {
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, (unsigned)count);
    for (int index = 0; index < count; index++) {
        sides[index].barrier = &barrier;
        if (index < loops) sides[index].loop = sides[index].loops->open(&sides[index]);
    }
    for (int index = 0; index < count; index++) start_thread(&sides[index], index < loops ? loop_body : other_body);
    for (int index = 0; index < count; index++) pthread_join(sides[index].thread, NULL);
    for (int index = 0; index < loops; index++) sides[index].loops->close(sides[index].loop);
    pthread_barrier_destroy(&barrier);
}

// MARK: post

static void stop_when_done(struct peer_side *side) {
    bool sent = side->outbound == NULL || side->outbound->sent == side->outbound->to_send;
    if (sent && side->received == side->to_receive) side->loops->stop(side->loop);
}

static void receive(void *context, uint64_t value) {
    struct flow *flow = context;
    struct peer_side *side = flow->receiver;
    flow->sum += value;
    if ((++flow->received & PUBLISH_MASK) == 0) craw_counter_publish(flow->consumed, flow->received);
    if (++side->received < side->to_receive) return;
    side->end = craw_now();
    stop_when_done(side);
}

static bool window_open(struct flow *flow) {
    if (flow->sent + BURST - flow->known_consumed <= flow->window) return true;
    flow->known_consumed = craw_counter_read(flow->consumed);
    return flow->sent + BURST - flow->known_consumed <= flow->window;
}

static void send_burst(struct flow *flow) {
    uint64_t end = flow->sent + BURST < flow->to_send ? flow->sent + BURST : flow->to_send;
    for (; flow->sent < end; flow->sent++) side_post(flow->receiver, receive, flow, flow->sent);
}

bool peer_burst(struct peer_side *side) {
    struct flow *flow = side->outbound;
    if (flow == NULL) return false;
    if (window_open(flow)) send_burst(flow);
    if (flow->sent < flow->to_send) return true;
    stop_when_done(side);
    return false;
}

static void *sender_main(void *argument) {
    struct peer_side *side = argument;
    begin(side);
    while (side->outbound->sent < side->outbound->to_send) {
        while (!window_open(side->outbound)) side->yields ? (void)sched_yield() : craw_pause();
        send_burst(side->outbound);
    }
    return NULL;
}

static struct flow flow_make(struct peer_side *receiver, uint64_t to_send, uint64_t window) {
    struct flow flow = {.receiver = receiver, .consumed = craw_counter_make(), .to_send = to_send, .window = window};
    peer_require(flow.consumed != NULL, "craw_counter_make");
    receiver->to_receive += to_send;
    return flow;
}

/// Each number came once: their sum says so.
static void flow_close(const struct flow *flow) {
    uint64_t sent = flow->to_send;
    peer_require(flow->received == sent && flow->sum == sent * (sent - 1) / 2, "tasks were lost");
    craw_counter_free(flow->consumed);
}

/// From the first post to the last task run.
static void measure(struct peer_run *run, const struct peer_side *sides, int count) {
    uint64_t start = UINT64_MAX, end = 0;
    run->operations = 0;
    for (int index = 0; index < count; index++) {
        if (sides[index].outbound != NULL && sides[index].start < start) start = sides[index].start;
        if (sides[index].end > end) end = sides[index].end;
        run->operations += sides[index].received;
    }
    run->nanoseconds = end - start;
}

void peer_to_one(struct peer_run *run) {
    struct peer_side sides[1 + SENDERS] = {{.loops = run->library->loops, .cpu = run->cpu_a}};
    struct flow flows[SENDERS];
    int senders = run->size;
    uint64_t share = run->operations / (uint64_t)senders > 0 ? run->operations / (uint64_t)senders : 1;
    for (int index = 0; index < senders; index++) {
        flows[index] = flow_make(&sides[0], share, WINDOW / (uint64_t)senders);
        sides[1 + index] = (struct peer_side){.cpu = index % 2 == 0 ? run->cpu_b : run->cpu_a,
                                              .outbound = &flows[index], .yields = senders > 1};
    }
    run_sides(sides, 1 + senders, 1, loop_main, sender_main);
    measure(run, sides, 1 + senders);
    for (int index = 0; index < senders; index++) flow_close(&flows[index]);
}

void peer_all_to_all(struct peer_run *run) {
    struct peer_side sides[2] = {{.loops = run->library->loops, .cpu = run->cpu_a},
                                 {.loops = run->library->loops, .cpu = run->cpu_b}};
    struct flow flows[2];
    uint64_t half = run->operations / 2 > 0 ? run->operations / 2 : 1;
    for (int index = 0; index < 2; index++) {
        flows[index] = flow_make(&sides[1 - index], half, WINDOW);
        sides[index].outbound = &flows[index];
    }
    run_sides(sides, 2, 2, loop_main, NULL);
    measure(run, sides, 2);
    for (int index = 0; index < 2; index++) flow_close(&flows[index]);
}

// MARK: pingpong

static void hit(void *context, uint64_t round) {
    struct peer_side *side = context;
    peer_require(round == ++side->received, "a round was lost");
    bool last = round == side->to_receive;
    if (!side->serves) {
        side_post(side->partner, hit, side->partner, round);
    } else if (!last) {
        side_post(side->partner, hit, side->partner, round + 1);
    } else {
        side->end = craw_now();
    }
    if (last) side->loops->stop(side->loop);
}

static void *player_main(void *argument) {
    struct peer_side *side = argument;
    begin(side);
    if (side->serves) side_post(side->partner, hit, side->partner, 1);
    side->loops->run(side->loop);
    return NULL;
}

void peer_pingpong(struct peer_run *run) {
    struct peer_side sides[2];
    for (int index = 0; index < 2; index++) {
        sides[index] = (struct peer_side){.loops = run->library->loops, .cpu = run->cpu_a, .serves = index == 0,
                                          .partner = &sides[1 - index], .to_receive = run->operations};
    }
    if (run->size == 2) sides[1].cpu = run->cpu_b;
    run_sides(sides, 2, 2, player_main, NULL);
    run->nanoseconds = sides[0].end - sides[0].start;
}
