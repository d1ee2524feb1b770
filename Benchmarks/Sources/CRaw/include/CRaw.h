// The yardsticks: each function does in plain C what a suite's LinuxEvent subject does, no more and no less, and
// measures itself over the same stretch (set-up and tear-down are outside of it).
//
// They return 0, or -errno of the call that failed; the figures come back through `result`.

#ifndef CRAW_H
#define CRAW_H

#include <stdint.h>

struct craw_result {
    uint64_t operations;  // callbacks run, or posts delivered
    uint64_t nanoseconds;
    uint64_t turns;  // returns of epoll_wait
    uint64_t wakes;  // eventfd writes
};

uint64_t craw_now(void);

// MARK: the calling thread's CPUs, and limits

int craw_affinity_save(void);     // remembers the calling thread's mask
int craw_affinity_restore(void);  // puts it back
int craw_pin(int cpu);
int craw_allowed_cpus(int *cpus, int capacity);  // the count, ascending numbers
int craw_raise_descriptor_limit(int needed);

// MARK: descriptors for the subjects that are not C (non-blocking, close-on-exec), so that both sides use the same

int craw_pipe(int ends[2]);
int craw_eventfd(unsigned initial);
/// A blocking eventfd in semaphore mode: each read takes one.
int craw_semaphore(void);

// MARK: dispatch

/// `active` tokens travel through `pipes` pipes: each callback reads one byte and writes one to the next pipe.
int craw_dispatch_ring(int pipes, int active, uint64_t events, struct craw_result *result);
/// `descriptors` eventfds that are always readable; the callback only counts.
int craw_dispatch_level(int descriptors, uint64_t events, struct craw_result *result);

// MARK: queue

enum craw_nodes {
    CRAW_NODES_MALLOC,    // one malloc per post by the producer, freed by the consumer
    CRAW_NODES_RECYCLED,  // taken from a pool, sent home in chains
};

enum { CRAW_PEERS = 8 };

/// Threads 1 to `senders` post to thread 0, `batch` at a time in one exchange; `cpus` has one for each thread. At most
/// `window` posts are outstanding.
int craw_queue_to_one(enum craw_nodes nodes, int senders, uint64_t posts, uint64_t batch, uint64_t window,
                      const int *cpus, struct craw_result *result);
/// Each of two threads posts half of `posts` to the other, `burst` a turn, and runs what it got in between.
int craw_queue_all_to_all(enum craw_nodes nodes, uint64_t posts, uint64_t burst, uint64_t window, const int cpus[2],
                          struct craw_result *result);

// MARK: round trips

/// A number that goes to and fro between two threads: they look at a line all the time, or sleep in epoll_wait until
/// the other writes to their eventfd.
int craw_pingpong(uint64_t rounds, int sleeps, const int cpus[2], struct craw_result *result);

// MARK: flow control, shared by both sides of the queue suite so that it costs both the same

/// A word alone on its cache line.
struct craw_counter;
struct craw_counter *craw_counter_make(void);
void craw_counter_free(struct craw_counter *counter);
void craw_counter_publish(struct craw_counter *counter, uint64_t value);  // store, release
uint64_t craw_counter_read(const struct craw_counter *counter);           // load, acquire
void craw_pause(void);

#endif
