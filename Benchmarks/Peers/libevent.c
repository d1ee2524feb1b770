// libevent: struct event, prepared by event_assign() in memory of the program's. Without evthread_use_pthreads() a base
// takes no locks, so only the cases with threads ask for it. The change list of the epoll backend is off by default,
// as it does not bear descriptors made by dup(); there are none here, and it spares churn.oneshot its system calls.
#define _GNU_SOURCE
#include "peer.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/thread.h>
#include <stdlib.h>
#include <sys/time.h>

static struct event_base *base_open(void) {
    struct event_config *config = event_config_new();
    peer_require(config != NULL, "event_config_new");
    event_config_set_flag(config, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
    struct event_base *base = event_base_new_with_config(config);
    event_config_free(config);
    peer_require(base != NULL, "event_base_new_with_config");
    return base;
}

static struct event *events_allocate(uint64_t count) { return peer_allocate(count, sizeof(struct event)); }

static void event_init(struct event *event, struct event_base *base, int descriptor, short what,
                       event_callback_fn callback, void *context) {
    peer_require(event_assign(event, base, descriptor, what, callback, context) == 0, "event_assign");
}

static void add(struct event *event) { peer_require(event_add(event, NULL) == 0, "event_add"); }

static void run_loop(struct event_base *base, int flags) {
    peer_require(event_base_loop(base, flags) >= 0, "event_base_loop");
}

// MARK: dispatch

static void on_token(evutil_socket_t descriptor, short what, void *context) {
    (void)descriptor, (void)what;
    struct peer_station *station = context;
    if (peer_pass(station)) event_base_loopbreak(station->progress->loop);
}

static void ring(struct peer_run *run) {
    struct peer_ring ring;
    peer_ring_open(&ring, run);
    struct event_base *base = ring.progress.loop = base_open();
    struct event *events = events_allocate((uint64_t)ring.size);
    for (int index = 0; index < ring.size; index++) {
        struct peer_station *station = &ring.stations[index];
        event_init(&events[index], base, station->from, EV_READ | EV_PERSIST, on_token, station);
        add(&events[index]);
    }
    uint64_t start = craw_now();
    run_loop(base, 0);
    peer_done(run, ring.progress.count, start);
    event_base_free(base);
    free(events);
    peer_ring_close(&ring);
}

static void on_level(evutil_socket_t descriptor, short what, void *context) {
    (void)descriptor, (void)what;
    struct peer_progress *progress = context;
    if (peer_count(progress)) event_base_loopbreak(progress->loop);
}

static void level(struct peer_run *run) {
    struct event_base *base = base_open();
    struct peer_progress progress = {.limit = run->operations, .loop = base};
    int *descriptors = peer_eventfds((uint64_t)run->size, 1);
    struct event *events = events_allocate((uint64_t)run->size);
    for (int index = 0; index < run->size; index++) {
        event_init(&events[index], base, descriptors[index], EV_READ | EV_PERSIST, on_level, &progress);
        add(&events[index]);
    }
    uint64_t start = craw_now();
    run_loop(base, 0);
    peer_done(run, progress.count, start);
    event_base_free(base);
    free(events);
    peer_close(descriptors, (uint64_t)run->size);
}

// MARK: churn

struct oneshot {
    struct event event;
    struct peer_progress *progress;
};

/// Without EV_PERSIST an event is no longer pending when its callback runs.
static void on_oneshot(evutil_socket_t descriptor, short what, void *context) {
    (void)descriptor, (void)what;
    struct oneshot *oneshot = context;
    if (peer_count(oneshot->progress)) event_base_loopbreak(oneshot->progress->loop);
    add(&oneshot->event);
}

static void oneshot(struct peer_run *run) {
    struct event_base *base = base_open();
    struct peer_progress progress = {.limit = run->operations, .loop = base};
    int *descriptors = peer_eventfds((uint64_t)run->size, 1);
    struct oneshot *oneshots = peer_allocate((uint64_t)run->size, sizeof *oneshots);
    for (int index = 0; index < run->size; index++) {
        oneshots[index].progress = &progress;
        event_init(&oneshots[index].event, base, descriptors[index], EV_READ, on_oneshot, &oneshots[index]);
        add(&oneshots[index].event);
    }
    uint64_t start = craw_now();
    run_loop(base, 0);
    peer_done(run, progress.count, start);
    event_base_free(base);
    free(oneshots);
    peer_close(descriptors, (uint64_t)run->size);
}

static void on_nothing(evutil_socket_t descriptor, short what, void *context) {
    (void)context;
    peer_fail("nobody wrote to %d, but there was event %d", descriptor, what);
}

static void watch(struct peer_run *run) {
    // Without the second flag a base with no events makes no turn at all.
    const int turn = EVLOOP_NONBLOCK | EVLOOP_NO_EXIT_ON_EMPTY;
    struct event_base *base = base_open();
    int *descriptors = peer_eventfds((uint64_t)run->size, 0);
    struct event *events = events_allocate((uint64_t)run->size);
    for (int index = 0; index < run->size; index++) {
        event_init(&events[index], base, descriptors[index], EV_READ | EV_PERSIST, on_nothing, NULL);
    }
    uint64_t pairs = 0, start = craw_now();
    for (; pairs < run->operations; pairs += (uint64_t)run->size) {
        for (int index = 0; index < run->size; index++) add(&events[index]);
        run_loop(base, turn);
        for (int index = 0; index < run->size; index++) event_del(&events[index]);
        run_loop(base, turn);
    }
    peer_done(run, pairs, start);
    event_base_free(base);
    free(events);
    peer_close(descriptors, (uint64_t)run->size);
}

// MARK: timers

/// Timers are set from a callback, as programs do: there the base knows the time, elsewhere event_add() asks the clock.
struct timers {
    struct event_base *base;
    struct event *events;
    uint32_t *order, live;
    struct peer_run *run;
    struct peer_progress progress;
};

static void timers_open(struct timers *timers, struct peer_run *run, uint64_t count, event_callback_fn callback) {
    *timers = (struct timers){.base = base_open(), .events = events_allocate(count), .run = run};
    for (uint64_t index = 0; index < count; index++) {
        event_init(&timers->events[index], timers->base, -1, 0, callback, &timers->progress);
    }
}

static void timers_close(struct timers *timers) {
    event_base_free(timers->base);
    free(timers->events);
}

/// Runs `body` in a callback.
static void timers_run(struct timers *timers, event_callback_fn body) {
    peer_require(event_base_once(timers->base, -1, EV_TIMEOUT, body, timers, NULL) == 0, "event_base_once");
    run_loop(timers->base, EVLOOP_ONCE);
}

static void timer_add(struct event *timer, uint64_t nanoseconds) {
    struct timeval delay = {.tv_sec = (time_t)(nanoseconds / 1000000000),
                            .tv_usec = (suseconds_t)(nanoseconds % 1000000000 / 1000)};
    peer_require(event_add(timer, &delay) == 0, "event_add");
}

static void on_early(evutil_socket_t descriptor, short what, void *context) {
    (void)descriptor, (void)what, (void)context;
    peer_fail("a timer fired that had a second to go");
}

static void cancel_all(evutil_socket_t descriptor, short what, void *context) {
    (void)descriptor, (void)what;
    struct timers *timers = context;
    uint32_t live = timers->live;
    uint64_t random = PEER_SEED, pairs = 0, start = craw_now();
    for (; pairs < timers->run->operations; pairs += live) {
        event_base_update_cache_time(timers->base);
        for (uint32_t index = 0; index < live; index++) timer_add(&timers->events[index], peer_delay(&random));
        for (uint32_t index = 0; index < live; index++) event_del(&timers->events[timers->order[index]]);
    }
    peer_done(timers->run, pairs, start);
}

static void cancel(struct peer_run *run) {
    struct timers timers;
    uint32_t live = peer_live(run);
    timers_open(&timers, run, live, on_early);
    timers.live = live;
    timers.order = peer_order(run);
    timers_run(&timers, cancel_all);
    peer_require(event_base_get_num_events(timers.base, EVENT_BASE_COUNT_ADDED) == 0, "a timer was not cancelled");
    free(timers.order);
    timers_close(&timers);
}

static void reset_some(evutil_socket_t descriptor, short what, void *context) {
    (void)descriptor, (void)what;
    struct timers *timers = context;
    uint64_t random = PEER_SEED;
    for (uint32_t index = 0; index < timers->live; index++) timer_add(&timers->events[index], peer_delay(&random));
    uint64_t start = craw_now();
    // event_add() moves a timer that is pending.
    for (uint64_t resets = 0; resets < timers->run->operations; resets++) {
        struct event *timer = &timers->events[craw_random(&random) % timers->live];
        timer_add(timer, peer_delay(&random));
    }
    peer_done(timers->run, timers->run->operations, start);
}

static void reset(struct peer_run *run) {
    struct timers timers;
    timers_open(&timers, run, (uint64_t)run->size, on_early);
    timers.live = (uint32_t)run->size;
    timers_run(&timers, reset_some);
    // event_base_free() would take them from the top of the heap: with a million, that is the better part of a minute.
    for (int index = 0; index < run->size; index++) event_del(&timers.events[index]);
    timers_close(&timers);
}

static void on_due(evutil_socket_t descriptor, short what, void *context) {
    (void)descriptor, (void)what;
    struct peer_progress *progress = context;
    progress->count++;
}

static void start_all(evutil_socket_t descriptor, short what, void *context) {
    (void)descriptor, (void)what;
    struct timers *timers = context;
    uint64_t count = timers->run->operations;
    for (uint64_t index = 0; index < count; index++) timer_add(&timers->events[index], peer_due(index, count));
}

static void fire(struct peer_run *run) {
    struct timers timers;
    timers_open(&timers, run, run->operations, on_due);
    struct peer_stopwatch began = peer_fire_begin();
    timers_run(&timers, start_all);
    // Until there is no timer left.
    run_loop(timers.base, 0);
    peer_fire_end(run, &began, timers.progress.count);
    timers_close(&timers);
}

// MARK: post and pingpong

struct mailbox {
    struct peer_tasks *tasks;
    struct peer_side *side;
    struct event_base *base;
    struct event wake, turn;
};

static void on_wake(evutil_socket_t descriptor, short what, void *context) {
    (void)descriptor, (void)what;
    struct mailbox *mailbox = context;
    peer_tasks_run(mailbox->tasks);
}

/// A timeout of zero comes once a turn. An event that makes itself active would come again before the turn is over.
static void next_turn(struct mailbox *mailbox) { timer_add(&mailbox->turn, 0); }

static void on_turn(evutil_socket_t descriptor, short what, void *context) {
    (void)descriptor, (void)what;
    struct mailbox *mailbox = context;
    if (peer_burst(mailbox->side)) next_turn(mailbox);
}

static void *mailbox_open(struct peer_side *side) {
    peer_require(evthread_use_pthreads() == 0, "evthread_use_pthreads");
    struct mailbox *mailbox = peer_allocate(1, sizeof *mailbox);
    mailbox->base = base_open();
    mailbox->side = side;
    mailbox->tasks = peer_tasks_make();
    event_init(&mailbox->wake, mailbox->base, -1, EV_PERSIST, on_wake, mailbox);
    event_init(&mailbox->turn, mailbox->base, -1, 0, on_turn, mailbox);
    return mailbox;
}

/// event_active() is libevent's way to call from another thread.
static void mailbox_post(void *loop, peer_work *work, void *context, uint64_t value) {
    struct mailbox *mailbox = loop;
    if (peer_tasks_add(mailbox->tasks, work, context, value)) event_active(&mailbox->wake, 0, 0);
}

static void mailbox_run(void *loop) {
    struct mailbox *mailbox = loop;
    next_turn(mailbox);
    run_loop(mailbox->base, EVLOOP_NO_EXIT_ON_EMPTY);
}

static void mailbox_stop(void *loop) { event_base_loopbreak(((struct mailbox *)loop)->base); }

static void mailbox_close(void *loop) {
    struct mailbox *mailbox = loop;
    event_base_free(mailbox->base);
    peer_tasks_free(mailbox->tasks);
    free(mailbox);
}

static const struct peer_loops loops = {
    .open = mailbox_open, .post = mailbox_post, .run = mailbox_run, .stop = mailbox_stop, .close = mailbox_close};

// MARK: echo

/// struct event and not struct bufferevent, whose buffers an echo does not need.
struct server {
    struct event_base *base;
    struct event listener, finished;
    struct peer_service service;
};

struct connection {
    struct event event;
    struct server *server;
};

static void stop_when_idle(struct server *server) {
    if (peer_service_idle(&server->service)) event_base_loopbreak(server->base);
}

static void on_readable(evutil_socket_t descriptor, short what, void *context) {
    (void)what;
    if (peer_echo(descriptor)) return;
    struct connection *connection = context;
    struct server *server = connection->server;
    event_del(&connection->event);
    close(descriptor);
    free(connection);
    server->service.open--;
    stop_when_idle(server);
}

static void on_connection(evutil_socket_t listener, short what, void *context) {
    (void)what;
    struct server *server = context;
    int descriptor;
    while ((descriptor = craw_accept(listener)) >= 0) {
        struct connection *connection = peer_allocate(1, sizeof *connection);
        connection->server = server;
        event_init(&connection->event, server->base, descriptor, EV_READ | EV_PERSIST, on_readable, connection);
        add(&connection->event);
        server->service.open++;
    }
    if (descriptor != -EAGAIN) peer_check("accept4", descriptor);
}

static void on_finished(evutil_socket_t descriptor, short what, void *context) {
    (void)descriptor, (void)what;
    struct server *server = context;
    server->service.over = true;
    stop_when_idle(server);
}

static void echo(struct peer_run *run) {
    struct server server = {.base = base_open()};
    peer_service_open(&server.service, run);
    event_init(&server.listener, server.base, server.service.listener, EV_READ | EV_PERSIST, on_connection, &server);
    event_init(&server.finished, server.base, server.service.finished, EV_READ, on_finished, &server);
    add(&server.listener);
    add(&server.finished);
    run_loop(server.base, 0);
    peer_service_close(&server.service, run);
    event_base_free(server.base);
}

// MARK: turn

static void on_message(evutil_socket_t descriptor, short what, void *context) {
    (void)descriptor, (void)what;
    peer_pair_echo(context);
}

static void turn(struct peer_run *run) {
    struct peer_pairs pairs;
    peer_pairs_open(&pairs, run->size);
    struct event_base *base = base_open();
    struct event *events = events_allocate((uint64_t)pairs.count);
    for (int index = 0; index < pairs.count; index++) {
        struct peer_pair *pair = &pairs.pairs[index];
        event_init(&events[index], base, pair->near, EV_READ | EV_PERSIST, on_message, pair);
        add(&events[index]);
    }
    uint64_t messages = 0, start = craw_now();
    for (; messages < run->operations; messages += (uint64_t)pairs.count) {
        peer_pairs_ask(&pairs);
        while (pairs.echoed < (uint64_t)pairs.count) run_loop(base, EVLOOP_NONBLOCK);
        peer_pairs_hear(&pairs);
    }
    peer_done(run, messages, start);
    event_base_free(base);
    free(events);
    peer_pairs_close(&pairs);
}

// MARK: memory

struct growing {
    struct event_base *base;
    int *descriptors;
};

static void add_watchers(void *context, uint64_t first, uint64_t count) {
    struct growing *growing = context;
    struct event *events = events_allocate(count);
    for (uint64_t index = 0; index < count; index++) {
        int descriptor = growing->descriptors[first + index];
        event_init(&events[index], growing->base, descriptor, EV_READ | EV_PERSIST, on_nothing, NULL);
        add(&events[index]);
    }
    run_loop(growing->base, EVLOOP_NONBLOCK);
}

static void memory_watcher(struct peer_run *run) {
    struct growing growing = {.base = base_open(), .descriptors = peer_many_eventfds(run)};
    peer_grow(run, add_watchers, &growing);
}

static void add_timers(void *context, uint64_t first, uint64_t count) {
    (void)first;
    struct growing *growing = context;
    struct event *events = events_allocate(count);
    for (uint64_t index = 0; index < count; index++) {
        event_init(&events[index], growing->base, -1, 0, on_early, NULL);
        timer_add(&events[index], PEER_HOUR);
    }
}

static void memory_timer(struct peer_run *run) {
    struct growing growing = {.base = base_open()};
    peer_grow(run, add_timers, &growing);
}

int main(int argc, char **argv) {
    static const struct peer_library library = {
        .name = "libevent", .version = event_get_version, .ring = ring, .level = level, .watch = watch,
        .oneshot = oneshot, .cancel = cancel, .reset = reset, .fire = fire, .loops = &loops, .echo = echo,
        .turn = turn, .memory_watcher = memory_watcher, .memory_timer = memory_timer};
    return peer_main(&library, argc, argv);
}
