// libev: ev_io for descriptors, ev_timer for timers; watchers are structs of the program's. Changes of interest wait
// until the loop is about to sleep, so what is stopped and started again in one turn costs no call of the kernel.
#define _GNU_SOURCE
#include "peer.h"

#include <errno.h>
#include <ev.h>
#include <stdio.h>
#include <stdlib.h>

static struct ev_loop *loop_open(void) {
    struct ev_loop *loop = ev_loop_new(EVBACKEND_EPOLL);
    peer_require(loop != NULL, "ev_loop_new");
    return loop;
}

static ev_io *watchers_init(uint64_t count) { return peer_allocate(count, sizeof(ev_io)); }

static void watcher_init(ev_io *watcher, void (*callback)(EV_P_ ev_io *, int), int descriptor, void *context) {
    ev_io_init(watcher, callback, descriptor, EV_READ);
    watcher->data = context;
}

// MARK: dispatch

static void on_token(EV_P_ ev_io *watcher, int events) {
    (void)events;
    if (peer_pass(watcher->data)) ev_break(EV_A_ EVBREAK_ALL);
}

static void ring(struct peer_run *run) {
    struct peer_ring ring;
    peer_ring_open(&ring, run);
    struct ev_loop *loop = loop_open();
    ev_io *watchers = watchers_init((uint64_t)ring.size);
    for (int index = 0; index < ring.size; index++) {
        watcher_init(&watchers[index], on_token, ring.stations[index].from, &ring.stations[index]);
        ev_io_start(loop, &watchers[index]);
    }
    uint64_t start = craw_now();
    ev_run(loop, 0);
    peer_done(run, ring.progress.count, start);
    ev_loop_destroy(loop);
    free(watchers);
    peer_ring_close(&ring);
}

/// Runs until the callback, which counts, has come often enough.
static void run_eventfds(struct peer_run *run, void (*callback)(EV_P_ ev_io *, int)) {
    struct peer_progress progress = {.limit = run->operations};
    int *descriptors = peer_eventfds((uint64_t)run->size, 1);
    struct ev_loop *loop = loop_open();
    ev_io *watchers = watchers_init((uint64_t)run->size);
    for (int index = 0; index < run->size; index++) {
        watcher_init(&watchers[index], callback, descriptors[index], &progress);
        ev_io_start(loop, &watchers[index]);
    }
    uint64_t start = craw_now();
    ev_run(loop, 0);
    peer_done(run, progress.count, start);
    ev_loop_destroy(loop);
    free(watchers);
    peer_close(descriptors, (uint64_t)run->size);
}

static void on_level(EV_P_ ev_io *watcher, int events) {
    (void)events;
    if (peer_count(watcher->data)) ev_break(EV_A_ EVBREAK_ALL);
}

static void level(struct peer_run *run) { run_eventfds(run, on_level); }

// MARK: churn

static void on_oneshot(EV_P_ ev_io *watcher, int events) {
    (void)events;
    ev_io_stop(EV_A_ watcher);
    if (peer_count(watcher->data)) ev_break(EV_A_ EVBREAK_ALL);
    ev_io_start(EV_A_ watcher);
}

static void oneshot(struct peer_run *run) { run_eventfds(run, on_oneshot); }

static void on_nothing(EV_P_ ev_io *watcher, int events) {
    (void)loop;
    peer_fail("nobody wrote to %d, but there was event %d", watcher->fd, events);
}

static void watch(struct peer_run *run) {
    int *descriptors = peer_eventfds((uint64_t)run->size, 0);
    struct ev_loop *loop = loop_open();
    ev_io *watchers = watchers_init((uint64_t)run->size);
    for (int index = 0; index < run->size; index++) {
        watcher_init(&watchers[index], on_nothing, descriptors[index], NULL);
    }
    uint64_t pairs = 0, start = craw_now();
    for (; pairs < run->operations; pairs += (uint64_t)run->size) {
        for (int index = 0; index < run->size; index++) ev_io_start(loop, &watchers[index]);
        ev_run(loop, EVRUN_NOWAIT);
        for (int index = 0; index < run->size; index++) ev_io_stop(loop, &watchers[index]);
        ev_run(loop, EVRUN_NOWAIT);
    }
    peer_done(run, pairs, start);
    ev_loop_destroy(loop);
    free(watchers);
    peer_close(descriptors, (uint64_t)run->size);
}

// MARK: timers

static ev_timer *timers_init(uint64_t count, void (*callback)(EV_P_ ev_timer *, int), void *context) {
    ev_timer *timers = peer_allocate(count, sizeof *timers);
    for (uint64_t index = 0; index < count; index++) {
        ev_init(&timers[index], callback);
        timers[index].data = context;
    }
    return timers;
}

static void timer_start(struct ev_loop *loop, ev_timer *timer, uint64_t nanoseconds) {
    ev_timer_set(timer, (double)nanoseconds / 1e9, 0.0);
    ev_timer_start(loop, timer);
}

static void on_early(EV_P_ ev_timer *timer, int events) {
    (void)loop, (void)timer, (void)events;
    peer_fail("a timer fired that had a second to go");
}

static void cancel(struct peer_run *run) {
    struct ev_loop *loop = loop_open();
    uint32_t live = peer_live(run), *order = peer_order(run);
    ev_timer *timers = timers_init(live, on_early, NULL);
    uint64_t random = PEER_SEED, pairs = 0, start = craw_now();
    for (; pairs < run->operations; pairs += live) {
        ev_now_update(loop);
        for (uint32_t index = 0; index < live; index++) timer_start(loop, &timers[index], peer_delay(&random));
        for (uint32_t index = 0; index < live; index++) ev_timer_stop(loop, &timers[order[index]]);
    }
    peer_done(run, pairs, start);
    for (uint32_t index = 0; index < live; index++) {
        peer_require(!ev_is_active(&timers[index]), "a timer was not cancelled");
    }
    ev_loop_destroy(loop);
    free(timers);
    free(order);
}

static void reset(struct peer_run *run) {
    struct ev_loop *loop = loop_open();
    uint32_t live = (uint32_t)run->size;
    uint64_t random = PEER_SEED;
    ev_timer *timers = timers_init(live, on_early, NULL);
    for (uint32_t index = 0; index < live; index++) timer_start(loop, &timers[index], peer_delay(&random));
    uint64_t start = craw_now();
    // What libev's manual advises for timeouts that move: `repeat` and ev_timer_again(), which moves the timer within
    // the heap.
    for (uint64_t resets = 0; resets < run->operations; resets++) {
        ev_timer *timer = &timers[craw_random(&random) % live];
        timer->repeat = (double)peer_delay(&random) / 1e9;
        ev_timer_again(loop, timer);
    }
    peer_done(run, run->operations, start);
    ev_loop_destroy(loop);
    free(timers);
}

static void on_due(EV_P_ ev_timer *timer, int events) {
    (void)loop, (void)events;
    struct peer_progress *progress = timer->data;
    progress->count++;
}

static void fire(struct peer_run *run) {
    struct peer_progress progress = {0};
    struct ev_loop *loop = loop_open();
    ev_timer *timers = timers_init(run->operations, on_due, &progress);
    struct peer_stopwatch began = peer_fire_begin();
    ev_now_update(loop);
    for (uint64_t index = 0; index < run->operations; index++) {
        timer_start(loop, &timers[index], peer_due(index, run->operations));
    }
    // Until there is no timer left.
    ev_run(loop, 0);
    peer_fire_end(run, &began, progress.count);
    ev_loop_destroy(loop);
    free(timers);
}

// MARK: post and pingpong

/// An ev_idle alone would wait until nothing else is to be done. So the turn's work is an ev_prepare's, and the ev_idle
/// only keeps the loop from sleeping.
struct mailbox {
    struct peer_tasks *tasks;
    struct peer_side *side;
    struct ev_loop *loop;
    ev_async async;
    ev_prepare prepare;
    ev_idle idle;
};

static void on_wake(EV_P_ ev_async *async, int events) {
    (void)loop, (void)events;
    struct mailbox *mailbox = async->data;
    peer_tasks_run(mailbox->tasks);
}

static void on_idle(EV_P_ ev_idle *idle, int events) { (void)loop, (void)idle, (void)events; }

static void on_turn(EV_P_ ev_prepare *prepare, int events) {
    (void)events;
    struct mailbox *mailbox = prepare->data;
    if (peer_burst(mailbox->side)) return;
    ev_prepare_stop(EV_A_ prepare);
    ev_idle_stop(EV_A_ &mailbox->idle);
}

static void *mailbox_open(struct peer_side *side) {
    struct mailbox *mailbox = peer_allocate(1, sizeof *mailbox);
    mailbox->loop = loop_open();
    mailbox->side = side;
    mailbox->tasks = peer_tasks_make();
    ev_async_init(&mailbox->async, on_wake);
    ev_prepare_init(&mailbox->prepare, on_turn);
    ev_idle_init(&mailbox->idle, on_idle);
    mailbox->async.data = mailbox->prepare.data = mailbox;
    ev_async_start(mailbox->loop, &mailbox->async);
    return mailbox;
}

static void mailbox_post(void *loop, peer_work *work, void *context, uint64_t value) {
    struct mailbox *mailbox = loop;
    if (peer_tasks_add(mailbox->tasks, work, context, value)) ev_async_send(mailbox->loop, &mailbox->async);
}

static void mailbox_run(void *loop) {
    struct mailbox *mailbox = loop;
    ev_prepare_start(mailbox->loop, &mailbox->prepare);
    ev_idle_start(mailbox->loop, &mailbox->idle);
    ev_run(mailbox->loop, 0);
}

static void mailbox_stop(void *loop) { ev_break(((struct mailbox *)loop)->loop, EVBREAK_ALL); }

static void mailbox_close(void *loop) {
    struct mailbox *mailbox = loop;
    ev_loop_destroy(mailbox->loop);
    peer_tasks_free(mailbox->tasks);
    free(mailbox);
}

static const struct peer_loops loops = {
    .open = mailbox_open, .post = mailbox_post, .run = mailbox_run, .stop = mailbox_stop, .close = mailbox_close};

// MARK: echo

struct server {
    ev_io listener, finished;
    struct peer_service service;
};

static void stop_when_idle(EV_P_ struct server *server) {
    if (peer_service_idle(&server->service)) ev_break(EV_A_ EVBREAK_ALL);
}

static void on_readable(EV_P_ ev_io *watcher, int events) {
    (void)events;
    if (peer_echo(watcher->fd)) return;
    struct server *server = watcher->data;
    ev_io_stop(EV_A_ watcher);
    close(watcher->fd);
    free(watcher);
    server->service.open--;
    stop_when_idle(EV_A_ server);
}

static void on_connection(EV_P_ ev_io *listener, int events) {
    (void)events;
    struct server *server = listener->data;
    int descriptor;
    while ((descriptor = craw_accept(listener->fd)) >= 0) {
        ev_io *watcher = watchers_init(1);
        watcher_init(watcher, on_readable, descriptor, server);
        ev_io_start(EV_A_ watcher);
        server->service.open++;
    }
    if (descriptor != -EAGAIN) peer_check("accept4", descriptor);
}

static void on_finished(EV_P_ ev_io *watcher, int events) {
    (void)events;
    struct server *server = watcher->data;
    ev_io_stop(EV_A_ watcher);
    server->service.over = true;
    stop_when_idle(EV_A_ server);
}

static void echo(struct peer_run *run) {
    struct server server;
    struct ev_loop *loop = loop_open();
    peer_service_open(&server.service, run);
    watcher_init(&server.listener, on_connection, server.service.listener, &server);
    watcher_init(&server.finished, on_finished, server.service.finished, &server);
    ev_io_start(loop, &server.listener);
    ev_io_start(loop, &server.finished);
    ev_run(loop, 0);
    peer_service_close(&server.service, run);
    ev_loop_destroy(loop);
}

// MARK: turn

static void on_message(EV_P_ ev_io *watcher, int events) {
    (void)loop, (void)events;
    peer_pair_echo(watcher->data);
}

static void turn(struct peer_run *run) {
    struct peer_pairs pairs;
    peer_pairs_open(&pairs, run->size);
    struct ev_loop *loop = loop_open();
    ev_io *watchers = watchers_init((uint64_t)pairs.count);
    for (int index = 0; index < pairs.count; index++) {
        watcher_init(&watchers[index], on_message, pairs.pairs[index].near, &pairs.pairs[index]);
        ev_io_start(loop, &watchers[index]);
    }
    uint64_t messages = 0, start = craw_now();
    for (; messages < run->operations; messages += (uint64_t)pairs.count) {
        peer_pairs_ask(&pairs);
        while (pairs.echoed < (uint64_t)pairs.count) ev_run(loop, EVRUN_NOWAIT);
        peer_pairs_hear(&pairs);
    }
    peer_done(run, messages, start);
    ev_loop_destroy(loop);
    free(watchers);
    peer_pairs_close(&pairs);
}

// MARK: memory

struct growing {
    struct ev_loop *loop;
    int *descriptors;
};

static void add_watchers(void *context, uint64_t first, uint64_t count) {
    struct growing *growing = context;
    ev_io *watchers = watchers_init(count);
    for (uint64_t index = 0; index < count; index++) {
        watcher_init(&watchers[index], on_nothing, growing->descriptors[first + index], NULL);
        ev_io_start(growing->loop, &watchers[index]);
    }
    // libev tells the kernel in the next turn.
    ev_run(growing->loop, EVRUN_NOWAIT);
}

static void memory_watcher(struct peer_run *run) {
    struct growing growing = {.loop = loop_open(), .descriptors = peer_many_eventfds(run)};
    peer_grow(run, add_watchers, &growing);
}

static void add_timers(void *context, uint64_t first, uint64_t count) {
    (void)first;
    struct growing *growing = context;
    ev_timer *timers = timers_init(count, on_early, NULL);
    for (uint64_t index = 0; index < count; index++) timer_start(growing->loop, &timers[index], PEER_HOUR);
}

static void memory_timer(struct peer_run *run) {
    struct growing growing = {.loop = loop_open()};
    peer_grow(run, add_timers, &growing);
}

static const char *version(void) {
    static char text[32];
    snprintf(text, sizeof text, "%d.%d", ev_version_major(), ev_version_minor());
    return text;
}

int main(int argc, char **argv) {
    static const struct peer_library library = {
        .name = "libev", .version = version, .ring = ring, .level = level, .watch = watch, .oneshot = oneshot,
        .cancel = cancel, .reset = reset, .fire = fire, .loops = &loops, .echo = echo, .turn = turn,
        .memory_watcher = memory_watcher, .memory_timer = memory_timer};
    return peer_main(&library, argc, argv);
}
