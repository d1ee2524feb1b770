// What the peers share: the command line and all of a case that is not the library's, so that it costs each the same.
// A peer is one file: the library's own way to do what Sources/CRaw does by hand.

#ifndef PEER_H
#define PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "CRaw.h"

// MARK: a program

struct peer_library;

struct peer_run {
    uint64_t operations;   // asked for; then what was really done
    uint64_t nanoseconds;  // bytes in the cases of memory
    const char *note;      // NULL: there is none
    uint64_t note_value;
    int size, depth;       // what they mean says the table in peer.c
    int cpu_a, cpu_b;      // the calling thread is on A
    const struct peer_library *library;
};

typedef void peer_function(struct peer_run *run);

/// What a library has to offer. NULL: it has no such thing.
struct peer_library {
    const char *name;
    const char *(*version)(void);
    peer_function *ring, *level;
    peer_function *watch, *oneshot;
    peer_function *cancel, *reset, *fire;
    const struct peer_loops *loops;  // for post and pingpong
    peer_function *echo, *turn;
    peer_function *memory_watcher, *memory_timer;
};

/// The whole of main.
int peer_main(const struct peer_library *library, int argc, char **argv);

void peer_fail(const char *format, ...) __attribute__((noreturn, cold, format(printf, 1, 2)));
void peer_fail_with(const char *what, int code) __attribute__((noreturn, cold));

/// The value of a call that answers -errno.
static inline int peer_check(const char *what, int value) {
    if (value < 0) peer_fail_with(what, -value);
    return value;
}

static inline void peer_require(bool truth, const char *what) {
    if (!truth) peer_fail("%s", what);
}

/// Zeroed memory, or the end of the program.
void *peer_allocate(uint64_t count, size_t size);

static inline void peer_done(struct peer_run *run, uint64_t operations, uint64_t start) {
    run->nanoseconds = craw_now() - start;
    run->operations = operations;
}

// MARK: dispatch and churn

struct peer_progress {
    uint64_t count, limit;
    void *loop;  // for those whose callbacks are not told
};

/// True from the last one on.
static inline bool peer_count(struct peer_progress *progress) { return ++progress->count >= progress->limit; }

/// `count` of them, non-blocking.
int *peer_eventfds(uint64_t count, unsigned initial);
void peer_close(int *descriptors, uint64_t count);

struct peer_station {
    int from, to;  // to: the write end of the next pipe
    struct peer_progress *progress;
};

struct peer_ring {
    struct peer_station *stations;
    struct peer_progress progress;
    int size;
};

/// The tokens are in the pipes then.
void peer_ring_open(struct peer_ring *ring, const struct peer_run *run);
void peer_ring_close(struct peer_ring *ring);

/// Passes a token on. True: that was the last one.
static inline bool peer_pass(const struct peer_station *station) {
    char byte;
    if (read(station->from, &byte, 1) != 1) return false;
    peer_require(write(station->to, &byte, 1) == 1, "write to a pipe");
    return peer_count(station->progress);
}

// MARK: timers

enum { PEER_SEED = 1 };

/// 1 to 60 s, in nanoseconds.
static inline uint64_t peer_delay(uint64_t *random) { return craw_deadline(random, 0); }

/// How many timers live at a time.
static inline uint32_t peer_live(const struct peer_run *run) {
    return run->operations < (uint64_t)run->size ? (uint32_t)run->operations : (uint32_t)run->size;
}

/// The order to cancel in; free() it.
uint32_t *peer_order(const struct peer_run *run);

/// When timer `index` of `count` is due: evenly over a second, from 10 ms from now on.
static inline uint64_t peer_due(uint64_t index, uint64_t count) { return 10000000 + index * 1000000000 / count; }

struct peer_stopwatch {
    uint64_t cpu, wall;
};

struct peer_stopwatch peer_fire_begin(void);
void peer_fire_end(struct peer_run *run, const struct peer_stopwatch *began, uint64_t fired);

// MARK: tasks from other threads

typedef void peer_work(void *context, uint64_t value);

struct peer_side;

/// A loop with a thread of its own.
struct peer_loops {
    void *(*open)(struct peer_side *side);
    /// From any thread: `work` runs in the loop's.
    void (*post)(void *loop, peer_work *work, void *context, uint64_t value);
    /// Calls peer_burst() once a turn until that answers false; returns after stop().
    void (*run)(void *loop);
    void (*stop)(void *loop);
    void (*close)(void *loop);
};

/// What a side sends in one turn. False: that was all.
bool peer_burst(struct peer_side *side);

peer_function peer_to_one, peer_all_to_all, peer_pingpong;

/// For libraries that can wake a loop and leave the rest to the program: a mutex and a list of tasks, each from malloc.
struct peer_tasks;
struct peer_tasks *peer_tasks_make(void);
void peer_tasks_free(struct peer_tasks *tasks);
/// True: there was none before, so the loop is to be woken.
bool peer_tasks_add(struct peer_tasks *tasks, peer_work *work, void *context, uint64_t value);
/// All that there are.
void peer_tasks_run(struct peer_tasks *tasks);

// MARK: echo and turn

enum { PEER_BUFFER = 16 * 1024 };

/// Reads up to 16 KiB and writes them back. False at the end of the file.
bool peer_echo(int descriptor);

/// The server of a run of echo, as far as it is no library's.
struct peer_service {
    struct craw_load *load;
    int listener;  // -1: the library has taken it, and closes it
    int finished;  // readable when the clients have closed all connections
    bool over;     // `finished` was seen
    int open;      // connections
    uint64_t cpu;
};

void peer_service_open(struct peer_service *service, const struct peer_run *run);
/// The loop has ended.
void peer_service_close(struct peer_service *service, struct peer_run *run);

/// Nothing is left to do: time to stop the loop.
static inline bool peer_service_idle(const struct peer_service *service) {
    return service->over && service->open == 0;
}

struct peer_pair {
    int near;  // watched; -1: the library has taken it, and closes it
    uint64_t *echoed;
};

/// Socket pairs.
struct peer_pairs {
    struct peer_pair *pairs;
    int *far;
    int count;
    uint64_t echoed;
};

void peer_pairs_open(struct peer_pairs *pairs, int count);
void peer_pairs_close(struct peer_pairs *pairs);
/// A message to each.
void peer_pairs_ask(struct peer_pairs *pairs);
/// The answer of each.
void peer_pairs_hear(struct peer_pairs *pairs);

/// The work of a callback.
static inline void peer_pair_echo(const struct peer_pair *pair) {
    peer_require(peer_echo(pair->near), "a pair was closed");
    ++*pair->echoed;
}

// MARK: memory

enum { PEER_FIRST = 100 };  // so many are made before, and stay

#define PEER_HOUR 3600000000000u  // in nanoseconds

/// For the first ones and as many as are asked for, or as the limit of descriptors allows.
int *peer_many_eventfds(struct peer_run *run);

/// Calls `add` for the first ones, then for those that count. The program ends after that, so nothing is taken back.
void peer_grow(struct peer_run *run, void (*add)(void *context, uint64_t first, uint64_t count), void *context);

#ifdef __cplusplus
}
#endif

#endif
