// libuv: uv_poll_t where the program reads for itself, uv_tcp_t where it lets libuv read.
//
// Handles are structs of the program's, in one array: libuv allocates nothing for them.
#define _GNU_SOURCE
#include "peer.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

static void loop_open(uv_loop_t *loop) { peer_check("uv_loop_init", uv_loop_init(loop)); }

static void close_handle(uv_handle_t *handle, void *context) {
    (void)context;
    if (!uv_is_closing(handle)) uv_close(handle, NULL);
}

static void loop_close(uv_loop_t *loop) {
    uv_walk(loop, close_handle, NULL);
    // Handles are closed in a turn.
    while (uv_run(loop, UV_RUN_DEFAULT) != 0) {}
    peer_check("uv_loop_close", uv_loop_close(loop));
}

static void poll_init(uv_loop_t *loop, uv_poll_t *poll, int descriptor, void *context) {
    peer_check("uv_poll_init", uv_poll_init(loop, poll, descriptor));
    poll->data = context;
}

static void poll_start(uv_poll_t *poll, uv_poll_cb callback) {
    peer_check("uv_poll_start", uv_poll_start(poll, UV_READABLE, callback));
}

// MARK: dispatch

static void on_token(uv_poll_t *poll, int status, int events) {
    (void)events;
    peer_check("a poll", status);
    if (peer_pass(poll->data)) uv_stop(poll->loop);
}

static void ring(struct peer_run *run) {
    struct peer_ring ring;
    uv_loop_t loop;
    peer_ring_open(&ring, run);
    loop_open(&loop);
    uv_poll_t *polls = peer_allocate((uint64_t)ring.size, sizeof *polls);
    for (int index = 0; index < ring.size; index++) {
        poll_init(&loop, &polls[index], ring.stations[index].from, &ring.stations[index]);
        poll_start(&polls[index], on_token);
    }
    uint64_t start = craw_now();
    uv_run(&loop, UV_RUN_DEFAULT);
    peer_done(run, ring.progress.count, start);
    loop_close(&loop);
    free(polls);
    peer_ring_close(&ring);
}

/// Runs until the callback, which counts, has come often enough.
static void run_eventfds(struct peer_run *run, uv_poll_cb callback) {
    struct peer_progress progress = {.limit = run->operations};
    uv_loop_t loop;
    int *descriptors = peer_eventfds((uint64_t)run->size, 1);
    loop_open(&loop);
    uv_poll_t *polls = peer_allocate((uint64_t)run->size, sizeof *polls);
    for (int index = 0; index < run->size; index++) {
        poll_init(&loop, &polls[index], descriptors[index], &progress);
        poll_start(&polls[index], callback);
    }
    uint64_t start = craw_now();
    uv_run(&loop, UV_RUN_DEFAULT);
    peer_done(run, progress.count, start);
    loop_close(&loop);
    free(polls);
    peer_close(descriptors, (uint64_t)run->size);
}

static void on_level(uv_poll_t *poll, int status, int events) {
    (void)events;
    peer_check("a poll", status);
    if (peer_count(poll->data)) uv_stop(poll->loop);
}

static void level(struct peer_run *run) { run_eventfds(run, on_level); }

// MARK: churn

static void on_oneshot(uv_poll_t *poll, int status, int events) {
    (void)events;
    peer_check("a poll", status);
    peer_check("uv_poll_stop", uv_poll_stop(poll));
    if (peer_count(poll->data)) uv_stop(poll->loop);
    poll_start(poll, on_oneshot);
}

static void oneshot(struct peer_run *run) { run_eventfds(run, on_oneshot); }

static void on_nothing(uv_poll_t *poll, int status, int events) {
    (void)poll;
    peer_check("a poll", status);
    peer_fail("nobody wrote, but there was event %d", events);
}

static void watch(struct peer_run *run) {
    uv_loop_t loop;
    uv_async_t async;
    int *descriptors = peer_eventfds((uint64_t)run->size, 0);
    loop_open(&loop);
    // A loop without an active handle makes no turn at all; a program's has one to be woken by.
    peer_check("uv_async_init", uv_async_init(&loop, &async, NULL));
    uv_poll_t *polls = peer_allocate((uint64_t)run->size, sizeof *polls);
    for (int index = 0; index < run->size; index++) poll_init(&loop, &polls[index], descriptors[index], NULL);
    uint64_t pairs = 0, start = craw_now();
    for (; pairs < run->operations; pairs += (uint64_t)run->size) {
        for (int index = 0; index < run->size; index++) poll_start(&polls[index], on_nothing);
        uv_run(&loop, UV_RUN_NOWAIT);
        for (int index = 0; index < run->size; index++) uv_poll_stop(&polls[index]);
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    peer_done(run, pairs, start);
    loop_close(&loop);
    free(polls);
    peer_close(descriptors, (uint64_t)run->size);
}

// MARK: timers

static uv_timer_t *timers_init(uv_loop_t *loop, uint64_t count, void *context) {
    uv_timer_t *timers = peer_allocate(count, sizeof *timers);
    for (uint64_t index = 0; index < count; index++) {
        uv_timer_init(loop, &timers[index]);
        timers[index].data = context;
    }
    return timers;
}

/// Ticks are milliseconds.
static void timer_start(uv_timer_t *timer, uv_timer_cb callback, uint64_t nanoseconds) {
    peer_check("uv_timer_start", uv_timer_start(timer, callback, nanoseconds / 1000000, 0));
}

static void on_early(uv_timer_t *timer) {
    (void)timer;
    peer_fail("a timer fired that had a second to go");
}

static void cancel(struct peer_run *run) {
    uv_loop_t loop;
    uint32_t live = peer_live(run), *order = peer_order(run);
    loop_open(&loop);
    uv_timer_t *timers = timers_init(&loop, live, NULL);
    uint64_t random = PEER_SEED, pairs = 0, start = craw_now();
    for (; pairs < run->operations; pairs += live) {
        uv_update_time(&loop);
        for (uint32_t index = 0; index < live; index++) timer_start(&timers[index], on_early, peer_delay(&random));
        for (uint32_t index = 0; index < live; index++) uv_timer_stop(&timers[order[index]]);
    }
    peer_done(run, pairs, start);
    peer_require(!uv_loop_alive(&loop), "a timer was not cancelled");
    loop_close(&loop);
    free(timers);
    free(order);
}

static void reset(struct peer_run *run) {
    uv_loop_t loop;
    uint32_t live = (uint32_t)run->size;
    uint64_t random = PEER_SEED;
    loop_open(&loop);
    uv_timer_t *timers = timers_init(&loop, live, NULL);
    for (uint32_t index = 0; index < live; index++) timer_start(&timers[index], on_early, peer_delay(&random));
    uint64_t start = craw_now();
    // To start an active timer is to stop it first.
    for (uint64_t resets = 0; resets < run->operations; resets++) {
        uv_timer_t *timer = &timers[craw_random(&random) % live];
        timer_start(timer, on_early, peer_delay(&random));
    }
    peer_done(run, run->operations, start);
    loop_close(&loop);
    free(timers);
}

static void on_due(uv_timer_t *timer) {
    struct peer_progress *progress = timer->data;
    progress->count++;
}

static void fire(struct peer_run *run) {
    struct peer_progress progress = {0};
    uv_loop_t loop;
    loop_open(&loop);
    uv_timer_t *timers = timers_init(&loop, run->operations, &progress);
    struct peer_stopwatch began = peer_fire_begin();
    uv_update_time(&loop);
    for (uint64_t index = 0; index < run->operations; index++) {
        timer_start(&timers[index], on_due, peer_due(index, run->operations));
    }
    // Until there is no timer left.
    uv_run(&loop, UV_RUN_DEFAULT);
    peer_fire_end(run, &began, progress.count);
    loop_close(&loop);
    free(timers);
}

// MARK: post and pingpong

struct mailbox {
    struct peer_tasks *tasks;
    struct peer_side *side;
    uv_loop_t loop;
    uv_async_t async;
    uv_idle_t idle;
};

static void on_wake(uv_async_t *async) {
    struct mailbox *mailbox = async->data;
    peer_tasks_run(mailbox->tasks);
}

static void on_turn(uv_idle_t *idle) {
    struct mailbox *mailbox = idle->data;
    if (!peer_burst(mailbox->side)) uv_idle_stop(idle);
}

static void *mailbox_open(struct peer_side *side) {
    struct mailbox *mailbox = peer_allocate(1, sizeof *mailbox);
    mailbox->side = side;
    mailbox->tasks = peer_tasks_make();
    mailbox->async.data = mailbox->idle.data = mailbox;
    loop_open(&mailbox->loop);
    peer_check("uv_async_init", uv_async_init(&mailbox->loop, &mailbox->async, on_wake));
    peer_check("uv_idle_init", uv_idle_init(&mailbox->loop, &mailbox->idle));
    return mailbox;
}

static void mailbox_post(void *loop, peer_work *work, void *context, uint64_t value) {
    struct mailbox *mailbox = loop;
    if (!peer_tasks_add(mailbox->tasks, work, context, value)) return;
    peer_check("uv_async_send", uv_async_send(&mailbox->async));
}

static void mailbox_run(void *loop) {
    struct mailbox *mailbox = loop;
    peer_check("uv_idle_start", uv_idle_start(&mailbox->idle, on_turn));
    uv_run(&mailbox->loop, UV_RUN_DEFAULT);
}

static void mailbox_stop(void *loop) { uv_stop(&((struct mailbox *)loop)->loop); }

static void mailbox_close(void *loop) {
    struct mailbox *mailbox = loop;
    loop_close(&mailbox->loop);
    peer_tasks_free(mailbox->tasks);
    free(mailbox);
}

static const struct peer_loops loops = {
    .open = mailbox_open, .post = mailbox_post, .run = mailbox_run, .stop = mailbox_stop, .close = mailbox_close};

// MARK: echo

struct server {
    uv_loop_t loop;
    uv_tcp_t listener;
    uv_poll_t finished;
    struct peer_service service;
    char buffer[PEER_BUFFER];  // one for all: it is free again when a read callback returns
};

/// What a socket did not take at once.
struct rest {
    uv_write_t write;
    char bytes[];
};

static void stop_when_idle(struct server *server) {
    if (peer_service_idle(&server->service)) uv_stop(&server->loop);
}

static void on_closed(uv_handle_t *connection) {
    struct server *server = connection->data;
    free(connection);
    server->service.open--;
    stop_when_idle(server);
}

static void on_buffer(uv_handle_t *connection, size_t suggested, uv_buf_t *buffer) {
    (void)suggested;
    struct server *server = connection->data;
    *buffer = uv_buf_init(server->buffer, sizeof server->buffer);
}

static void on_written(uv_write_t *write, int status) {
    peer_check("uv_write", status);
    free(write);
}

static void write_rest(uv_stream_t *connection, const char *bytes, size_t size) {
    struct rest *rest = peer_allocate(1, sizeof *rest + size);
    memcpy(rest->bytes, bytes, size);
    uv_buf_t buffer = uv_buf_init(rest->bytes, (unsigned)size);
    peer_check("uv_write", uv_write(&rest->write, connection, &buffer, 1, on_written));
}

/// uv_try_write() first: it needs no request and no copy, and a socket that has room takes all.
static void on_read(uv_stream_t *connection, ssize_t size, const uv_buf_t *buffer) {
    if (size == UV_EOF) {
        uv_close((uv_handle_t *)connection, on_closed);
        return;
    }
    peer_check("uv_read", (int)size);
    if (size == 0) return;
    uv_buf_t answer = uv_buf_init(buffer->base, (unsigned)size);
    int written = uv_try_write(connection, &answer, 1);
    if (written == size) return;
    if (written == UV_EAGAIN) written = 0;
    peer_check("uv_try_write", written);
    write_rest(connection, buffer->base + written, (size_t)(size - written));
}

static void on_connection(uv_stream_t *listener, int status) {
    peer_check("a listener", status);
    struct server *server = listener->data;
    uv_tcp_t *connection = peer_allocate(1, sizeof *connection);
    peer_check("uv_tcp_init", uv_tcp_init(&server->loop, connection));
    peer_check("uv_accept", uv_accept(listener, (uv_stream_t *)connection));
    peer_check("uv_tcp_nodelay", uv_tcp_nodelay(connection, 1));
    connection->data = server;
    server->service.open++;
    peer_check("uv_read_start", uv_read_start((uv_stream_t *)connection, on_buffer, on_read));
}

static void on_finished(uv_poll_t *poll, int status, int events) {
    (void)events;
    peer_check("a poll", status);
    struct server *server = poll->data;
    uv_poll_stop(poll);
    server->service.over = true;
    stop_when_idle(server);
}

static void echo(struct peer_run *run) {
    struct server *server = peer_allocate(1, sizeof *server);
    loop_open(&server->loop);
    peer_service_open(&server->service, run);
    poll_init(&server->loop, &server->finished, server->service.finished, server);
    poll_start(&server->finished, on_finished);
    peer_check("uv_tcp_init", uv_tcp_init(&server->loop, &server->listener));
    peer_check("uv_tcp_open", uv_tcp_open(&server->listener, server->service.listener));
    server->service.listener = -1;
    server->listener.data = server;
    peer_check("uv_listen", uv_listen((uv_stream_t *)&server->listener, 1024, on_connection));
    uv_run(&server->loop, UV_RUN_DEFAULT);
    peer_service_close(&server->service, run);
    loop_close(&server->loop);
    free(server);
}

// MARK: turn

static void on_message(uv_poll_t *poll, int status, int events) {
    (void)events;
    peer_check("a poll", status);
    peer_pair_echo(poll->data);
}

static void turn(struct peer_run *run) {
    struct peer_pairs pairs;
    uv_loop_t loop;
    peer_pairs_open(&pairs, run->size);
    loop_open(&loop);
    uv_poll_t *polls = peer_allocate((uint64_t)pairs.count, sizeof *polls);
    for (int index = 0; index < pairs.count; index++) {
        poll_init(&loop, &polls[index], pairs.pairs[index].near, &pairs.pairs[index]);
        poll_start(&polls[index], on_message);
    }
    uint64_t messages = 0, start = craw_now();
    for (; messages < run->operations; messages += (uint64_t)pairs.count) {
        peer_pairs_ask(&pairs);
        while (pairs.echoed < (uint64_t)pairs.count) uv_run(&loop, UV_RUN_NOWAIT);
        peer_pairs_hear(&pairs);
    }
    peer_done(run, messages, start);
    loop_close(&loop);
    free(polls);
    peer_pairs_close(&pairs);
}

// MARK: memory

struct growing {
    uv_loop_t loop;
    int *descriptors;
};

static void add_watchers(void *context, uint64_t first, uint64_t count) {
    struct growing *growing = context;
    uv_poll_t *polls = peer_allocate(count, sizeof *polls);
    for (uint64_t index = 0; index < count; index++) {
        poll_init(&growing->loop, &polls[index], growing->descriptors[first + index], NULL);
        poll_start(&polls[index], on_nothing);
    }
    // libuv tells the kernel in the next turn.
    uv_run(&growing->loop, UV_RUN_NOWAIT);
}

static void memory_watcher(struct peer_run *run) {
    struct growing growing = {.descriptors = peer_many_eventfds(run)};
    loop_open(&growing.loop);
    peer_grow(run, add_watchers, &growing);
}

static void add_timers(void *context, uint64_t first, uint64_t count) {
    (void)first;
    struct growing *growing = context;
    uv_timer_t *timers = timers_init(&growing->loop, count, NULL);
    for (uint64_t index = 0; index < count; index++) timer_start(&timers[index], on_early, PEER_HOUR);
}

static void memory_timer(struct peer_run *run) {
    struct growing growing = {0};
    loop_open(&growing.loop);
    peer_grow(run, add_timers, &growing);
}

int main(int argc, char **argv) {
    static const struct peer_library library = {
        .name = "libuv", .version = uv_version_string, .ring = ring, .level = level, .watch = watch,
        .oneshot = oneshot, .cancel = cancel, .reset = reset, .fire = fire, .loops = &loops, .echo = echo,
        .turn = turn, .memory_watcher = memory_watcher, .memory_timer = memory_timer};
    return peer_main(&library, argc, argv);
}
