// The command line, and the parts of the cases that know no library.
#define _GNU_SOURCE
#include "peer.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

// MARK: a program

enum { USAGE = 64, DESCRIPTORS = 4096, SPARE_DESCRIPTORS = 64, CPUS = 1024 };

enum warm_up {
    COLD,  // once, or it warms itself up
    WARM,
};

struct choice {
    const char *name;
    peer_function *function;
    int size, depth;
    enum warm_up warm_up;
};

void peer_fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

void peer_fail_with(const char *what, int code) { peer_fail("%s: %s", what, strerror(code)); }

void *peer_allocate(uint64_t count, size_t size) {
    void *memory = calloc(count, size);
    peer_require(memory != NULL, "calloc");
    return memory;
}

static void run_once(const struct choice *choice, struct peer_run *run, uint64_t operations) {
    run->operations = operations;
    choice->function(run);
}

static int run_case(const struct choice *choice, const struct peer_library *library, uint64_t operations) {
    int cpus[CPUS];
    int count = peer_check("sched_getaffinity", craw_allowed_cpus(cpus, CPUS));
    struct peer_run run = {.size = choice->size, .depth = choice->depth, .library = library};
    run.cpu_a = cpus[0];
    run.cpu_b = cpus[count - 1];
    peer_check("sched_setaffinity", craw_pin(run.cpu_a));
    peer_check("RLIMIT_NOFILE", craw_raise_descriptor_limit(DESCRIPTORS));
    // A write to a closed socket is an error that is reported, not the end.
    signal(SIGPIPE, SIG_IGN);
    if (choice->warm_up == WARM) run_once(choice, &run, operations / 4 > 0 ? operations / 4 : 1);
    run_once(choice, &run, operations);
    printf("%" PRIu64 " %" PRIu64, run.operations, run.nanoseconds);
    if (run.note != NULL) printf(" %s %" PRIu64, run.note, run.note_value);
    puts("");
    return 0;
}

static int run_choice(const struct choice *choices, size_t count, const struct peer_library *library, char **words) {
    char *end;
    uint64_t operations = strtoull(words[1], &end, 10);
    for (size_t index = 0; index < count; index++) {
        const struct choice *choice = &choices[index];
        if (choice->function == NULL || strcmp(choice->name, words[0]) != 0) continue;
        if (*end == '\0' && operations > 0) return run_case(choice, library, operations);
    }
    fprintf(stderr, "%s: no case %s %s\n", library->name, words[0], words[1]);
    return USAGE;
}

int peer_main(const struct peer_library *library, int argc, char **argv) {
    const struct choice choices[] = {
        // pipes, tokens
        {"dispatch.ring", library->ring, 1000, 100, WARM},
        // descriptors
        {"dispatch.level", library->level, 100, 0, WARM},
        {"dispatch.single", library->level, 1, 0, WARM},
        {"churn.watch", library->watch, 100, 0, WARM},
        {"churn.oneshot", library->oneshot, 100, 0, WARM},
        // timers, the order of cancelling
        {"timers.cancel.1k", library->cancel, 1000, CRAW_TIMERS_IN_ORDER, WARM},
        {"timers.cancel.1m", library->cancel, 1000000, CRAW_TIMERS_IN_ORDER, WARM},
        {"timers.shuffled.1m", library->cancel, 1000000, CRAW_TIMERS_SHUFFLED, WARM},
        {"timers.reset.10k", library->reset, 10000, 0, WARM},
        {"timers.reset.1m", library->reset, 1000000, 0, WARM},
        {"timers.fire.1m", library->fire, 0, 0, COLD},
        // senders
        {"post.closure.1to1", peer_to_one, 1, 0, WARM},
        {"post.closure.4to1", peer_to_one, 4, 0, WARM},
        {"post.closure.alltoall", peer_all_to_all, 2, 0, WARM},
        // CPUs
        {"pingpong.asleep.onecpu", peer_pingpong, 1, 0, WARM},
        {"pingpong.asleep.twocpus", peer_pingpong, 2, 0, WARM},
        // connections, messages under way on each
        {"echo.k64.p1", library->echo, 64, 1, COLD},
        {"echo.k64.p16", library->echo, 64, 16, COLD},
        {"echo.k1000.p1", library->echo, 1000, 1, COLD},
        {"echo.k1000.p16", library->echo, 1000, 16, COLD},
        // pairs
        {"turn.1", library->turn, 1, 0, WARM},
        {"turn.8", library->turn, 8, 0, WARM},
        {"turn.64", library->turn, 64, 0, WARM},
        {"memory.watcher", library->memory_watcher, 0, 0, COLD},
        {"memory.timer", library->memory_timer, 0, 0, COLD},
    };
    size_t count = sizeof choices / sizeof *choices;
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("%s %s\n", library->name, library->version());
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (size_t index = 0; index < count; index++) {
            if (choices[index].function != NULL) puts(choices[index].name);
        }
        return 0;
    }
    if (argc == 3) return run_choice(choices, count, library, argv + 1);
    fprintf(stderr, "usage: %s --version | --list | SUITE.CASE OPERATIONS\n", argv[0]);
    return USAGE;
}

// MARK: dispatch and churn

int *peer_eventfds(uint64_t count, unsigned initial) {
    peer_check("RLIMIT_NOFILE", craw_raise_descriptor_limit((int)count + SPARE_DESCRIPTORS));
    int *descriptors = peer_allocate(count, sizeof *descriptors);
    for (uint64_t index = 0; index < count; index++) descriptors[index] = peer_check("eventfd", craw_eventfd(initial));
    return descriptors;
}

void peer_close(int *descriptors, uint64_t count) {
    for (uint64_t index = 0; index < count; index++) close(descriptors[index]);
    free(descriptors);
}

void peer_ring_open(struct peer_ring *ring, const struct peer_run *run) {
    *ring = (struct peer_ring){.size = run->size, .progress.limit = run->operations};
    ring->stations = peer_allocate((uint64_t)ring->size, sizeof *ring->stations);
    for (int index = 0; index < ring->size; index++) {
        int ends[2];
        peer_check("pipe2", craw_pipe(ends));
        ring->stations[index].from = ends[0];
        ring->stations[index].progress = &ring->progress;
        ring->stations[(index + ring->size - 1) % ring->size].to = ends[1];
    }
    for (int token = 0; token < run->depth; token++) {
        int to = ring->stations[token * (ring->size / run->depth)].to;
        peer_require(write(to, "t", 1) == 1, "write to a pipe");
    }
}

void peer_ring_close(struct peer_ring *ring) {
    for (int index = 0; index < ring->size; index++) {
        close(ring->stations[index].from);
        close(ring->stations[index].to);
    }
    free(ring->stations);
}

// MARK: timers

uint32_t *peer_order(const struct peer_run *run) {
    uint32_t *order = craw_order(peer_live(run), (enum craw_timer_order)run->depth);
    peer_require(order != NULL, "malloc");
    return order;
}

struct peer_stopwatch peer_fire_begin(void) {
    return (struct peer_stopwatch){.cpu = craw_thread_cpu(), .wall = craw_now()};
}

void peer_fire_end(struct peer_run *run, const struct peer_stopwatch *began, uint64_t fired) {
    run->nanoseconds = craw_thread_cpu() - began->cpu;
    run->note = "wall_ms";
    run->note_value = (craw_now() - began->wall) / 1000000;
    if (fired != run->operations) peer_fail("%" PRIu64 " of %" PRIu64 " timers fired", fired, run->operations);
}

// MARK: echo and turn

bool peer_echo(int descriptor) {
    static char buffer[PEER_BUFFER];
    ssize_t size = read(descriptor, buffer, sizeof buffer);
    if (size == 0) return false;
    if (size < 0) {
        if (errno != EAGAIN) peer_fail_with("read", errno);
        return true;
    }
    // At most a KiB is under way on a connection, so the socket has room for it.
    peer_require(write(descriptor, buffer, (size_t)size) == size, "write to a socket");
    return true;
}

void peer_service_open(struct peer_service *service, const struct peer_run *run) {
    int port;
    *service = (struct peer_service){.listener = peer_check("listen", craw_listen(&port)),
                                     .finished = peer_check("eventfd", craw_eventfd(0))};
    service->load = craw_load_start(port, run->size, run->depth, run->operations, run->cpu_b, service->finished);
    peer_require(service->load != NULL, "craw_load_start");
    service->cpu = craw_thread_cpu();
}

void peer_service_close(struct peer_service *service, struct peer_run *run) {
    uint64_t cpu = craw_thread_cpu() - service->cpu, total;
    struct craw_result result;
    peer_check("load", craw_load_finish(service->load, &result, &total));
    run->operations = result.operations;
    run->nanoseconds = result.nanoseconds;
    run->note = "cpu_ns";
    run->note_value = cpu / total;
    if (service->listener >= 0) close(service->listener);
    close(service->finished);
}

void peer_pairs_open(struct peer_pairs *pairs, int count) {
    *pairs = (struct peer_pairs){.count = count};
    pairs->pairs = peer_allocate((uint64_t)count, sizeof *pairs->pairs);
    pairs->far = peer_allocate((uint64_t)count, sizeof *pairs->far);
    for (int index = 0; index < count; index++) {
        int ends[2];
        peer_check("socketpair", craw_socket_pair(ends));
        pairs->pairs[index] = (struct peer_pair){.near = ends[0], .echoed = &pairs->echoed};
        pairs->far[index] = ends[1];
    }
}

void peer_pairs_close(struct peer_pairs *pairs) {
    for (int index = 0; index < pairs->count; index++) {
        if (pairs->pairs[index].near >= 0) close(pairs->pairs[index].near);
        close(pairs->far[index]);
    }
    free(pairs->pairs);
    free(pairs->far);
}

void peer_pairs_ask(struct peer_pairs *pairs) {
    pairs->echoed = 0;
    peer_check("write to a pair", craw_turn_send(pairs->far, pairs->count));
}

void peer_pairs_hear(struct peer_pairs *pairs) {
    peer_check("the answer of a pair", craw_turn_receive(pairs->far, pairs->count));
    peer_require(pairs->echoed == (uint64_t)pairs->count, "a pair was called twice");
}

// MARK: memory

int *peer_many_eventfds(struct peer_run *run) {
    struct rlimit limit;
    peer_require(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
    uint64_t most = limit.rlim_max - SPARE_DESCRIPTORS - PEER_FIRST;
    if (run->operations > most) run->operations = most;
    return peer_eventfds(PEER_FIRST + run->operations, 0);
}

void peer_grow(struct peer_run *run, void (*add)(void *context, uint64_t first, uint64_t count), void *context) {
    add(context, 0, PEER_FIRST);
    craw_memory_settle();
    uint64_t before = craw_resident();
    add(context, PEER_FIRST, run->operations);
    run->nanoseconds = craw_resident() - before;
}
