// An echo server as one would write it by hand on epoll: epoll_data points at the connection. And its single-threaded
// sister, which shows what a turn with a known number of ready connections costs.
#define _GNU_SOURCE
#include "CRaw.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { BATCH = 256, CHUNK = 16 * 1024 };

struct server {
    int epoll;
    bool stopping;
    uint64_t turns, echoed;
    int failure;
};

struct source {
    void (*ready)(struct server *server, struct source *source);
    int descriptor;
};

static int watch(struct server *server, struct source *source) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = source};
    return epoll_ctl(server->epoll, EPOLL_CTL_ADD, source->descriptor, &event) == 0 ? 0 : -errno;
}

static void echo(struct server *server, struct source *source) {
    char bytes[CHUNK];
    ssize_t count = read(source->descriptor, bytes, sizeof bytes);
    if (count > 0) {
        server->echoed++;
        if (write(source->descriptor, bytes, (size_t)count) == count) return;
    } else if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    // The end of the stream, an error, or a peer that does not read.
    close(source->descriptor);
    free(source);
}

static void accept_all(struct server *server, struct source *listener) {
    int descriptor;
    while ((descriptor = craw_accept(listener->descriptor)) >= 0) {
        struct source *source = malloc(sizeof *source);
        if (source == NULL) abort();
        *source = (struct source){.ready = echo, .descriptor = descriptor};
        int failure = watch(server, source);
        if (failure != 0) server->failure = failure;
    }
}

static void finish(struct server *server, struct source *source) {
    (void)source;
    server->stopping = true;
}

static int turn(struct server *server, int timeout) {
    struct epoll_event events[BATCH];
    int count = epoll_wait(server->epoll, events, BATCH, timeout);
    if (count < 0) return errno == EINTR ? 0 : -errno;
    server->turns++;
    for (int index = 0; index < count; index++) {
        struct source *source = events[index].data.ptr;
        source->ready(server, source);
    }
    return server->failure;
}

int craw_echo(int connections, int pipeline, uint64_t requests, const int cpus[2], struct craw_result *result,
              uint64_t *cpu) {
    int port = 0, failure = craw_pin(cpus[0]);
    struct server server = {.epoll = epoll_create1(EPOLL_CLOEXEC)};
    struct source listener = {.ready = accept_all, .descriptor = craw_listen(&port)};
    struct source finished = {.ready = finish, .descriptor = craw_eventfd(0)};
    if (failure == 0 && (server.epoll < 0 || listener.descriptor < 0 || finished.descriptor < 0)) failure = -EMFILE;
    if (failure == 0) failure = watch(&server, &listener);
    if (failure == 0) failure = watch(&server, &finished);
    uint64_t total = 1, begun = craw_thread_cpu();
    if (failure == 0) {
        struct craw_load *load =
            craw_load_start(port, connections, pipeline, requests, cpus[1], finished.descriptor);
        if (load == NULL) abort();
        while (failure == 0 && !server.stopping) failure = turn(&server, -1);
        *cpu = craw_thread_cpu() - begun;
        int loaded = craw_load_finish(load, result, &total);
        if (failure == 0) failure = loaded;
    }
    *cpu /= total;
    result->turns = server.turns;
    if (listener.descriptor >= 0) close(listener.descriptor);
    if (finished.descriptor >= 0) close(finished.descriptor);
    if (server.epoll >= 0) close(server.epoll);
    return failure;
}

// MARK: turns with a known number of ready connections

enum { MESSAGE = 64 };

int craw_turn_send(const int *ends, int count) {
    char bytes[MESSAGE] = {0x65};
    for (int index = 0; index < count; index++) {
        if (write(ends[index], bytes, sizeof bytes) != sizeof bytes) return -errno;
    }
    return 0;
}

int craw_turn_receive(const int *ends, int count) {
    char bytes[2 * MESSAGE];
    for (int index = 0; index < count; index++) {
        if (read(ends[index], bytes, sizeof bytes) != MESSAGE || bytes[0] != 0x65) return -EILSEQ;
    }
    return 0;
}

static int turn_rounds(struct server *server, const int *far, int pairs, uint64_t rounds) {
    int failure = 0;
    for (uint64_t round = 0; failure == 0 && round < rounds; round++) {
        uint64_t expected = server->echoed + (uint64_t)pairs;
        failure = craw_turn_send(far, pairs);
        while (failure == 0 && server->echoed < expected) failure = turn(server, 0);
        if (failure == 0) failure = craw_turn_receive(far, pairs);
    }
    return failure;
}

int craw_turn(int pairs, uint64_t messages, struct craw_result *result) {
    struct server server = {.epoll = epoll_create1(EPOLL_CLOEXEC)};
    int *far = calloc((size_t)pairs, sizeof *far);
    struct source *near = calloc((size_t)pairs, sizeof *near);
    if (server.epoll < 0 || far == NULL || near == NULL) abort();
    int failure = 0, made = 0;
    for (; failure == 0 && made < pairs; made++) {
        int ends[2];
        failure = craw_socket_pair(ends);
        if (failure != 0) break;
        far[made] = ends[0];
        near[made] = (struct source){.ready = echo, .descriptor = ends[1]};
        failure = watch(&server, &near[made]);
    }
    uint64_t rounds = messages / (uint64_t)pairs;
    if (failure == 0) failure = turn_rounds(&server, far, pairs, rounds / 4);
    server.turns = 0;
    uint64_t start = craw_now();
    if (failure == 0) failure = turn_rounds(&server, far, pairs, rounds);
    *result = (struct craw_result){
        .operations = rounds * (uint64_t)pairs, .nanoseconds = craw_now() - start, .turns = server.turns};
    while (made-- > 0) {
        close(far[made]);
        close(near[made].descriptor);
    }
    free(far);
    free(near);
    close(server.epoll);
    return failure;
}
