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
    uint64_t percentiles[4];  // of single latencies, ns: 50, 90, 99, 99.9 %; zeros where none are taken
};

uint64_t craw_now(void);
uint64_t craw_thread_cpu(void);   // CPU time of the calling thread, ns
uint64_t craw_process_cpu(void);  // of the process
uint64_t craw_resident(void);     // bytes of the process that are in memory
uint64_t craw_random(uint64_t *state);  // splitmix64
/// Sorts, and answers the value below which `share` (0 to 1) of them lie.
uint64_t craw_percentile(uint64_t *values, uint64_t count, double share);
/// The four of a result.
void craw_percentiles(uint64_t *values, uint64_t count, struct craw_result *result);

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
int craw_socket_pair(int ends[2]);
/// A socket that listens on a free port of 127.0.0.1.
int craw_listen(int *port);
/// The next connection, with TCP_NODELAY; -EAGAIN when there is none.
int craw_accept(int listener);

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

enum craw_hop {
    CRAW_HOP_ASLEEP,   // both sleep in epoll_wait until the other writes to their eventfd
    CRAW_HOP_MAILBOX,  // both look at their mailbox of one word; what travels is a node
    CRAW_HOP_LINE,     // both look at a cache line with a number: what the processor can do
};

int craw_pingpong(uint64_t rounds, enum craw_hop hop, const int cpus[2], struct craw_result *result);

/// A request to the other thread and its answer, `window` of them under way at a time, one CPU each.
int craw_call(uint64_t calls, uint64_t window, const int cpus[2], struct craw_result *result);

/// The second thread sleeps; the first one looks at the clock and wakes it every `gap` ns. The percentiles are the time
/// from just before the wake to the first line of the woken thread.
int craw_wake(uint64_t wakes, uint64_t gap, const int cpus[2], struct craw_result *result);

// MARK: interest

/// Rounds of: watch all, a turn, unwatch all, a turn. An operation is a pair.
int craw_churn_watch(int descriptors, uint64_t pairs, struct craw_result *result);
/// Each turn takes the interest of all away, or gives it back. An operation is a change.
int craw_churn_pause(int descriptors, uint64_t changes, struct craw_result *result);
/// Each turn takes the interest of all away and gives it back. An operation is a pair.
int craw_churn_undone(int descriptors, uint64_t pairs, struct craw_result *result);
/// Descriptors that are always readable, watched oneshot and armed again in each callback.
int craw_churn_oneshot(int descriptors, uint64_t events, struct craw_result *result);

// MARK: timers

enum craw_timer_order { CRAW_TIMERS_IN_ORDER, CRAW_TIMERS_SHUFFLED };

/// A heap by deadline with the place kept in the timer; ticks of 1 ns.
int craw_heap_cancel(uint64_t live, uint64_t pairs, enum craw_timer_order order, struct craw_result *result);
int craw_heap_reset(uint64_t live, uint64_t resets, struct craw_result *result);
/// All fire within a second; nanoseconds is the thread's CPU time. `slack`: by how many ns the kernel may lengthen a
/// wait; 0 is its default, 50 us, which lets a loop that waits by epoll's timeout serve many timers at once.
int craw_heap_fire(uint64_t timers, unsigned long slack, struct craw_result *result);
/// A wheel of 6 levels of 64 slots; ticks of 1 ms.
int craw_wheel_cancel(uint64_t live, uint64_t pairs, enum craw_timer_order order, struct craw_result *result);
int craw_wheel_reset(uint64_t live, uint64_t resets, struct craw_result *result);
int craw_wheel_fire(uint64_t timers, unsigned long slack, struct craw_result *result);
/// The deadlines that all subjects use: 1 to 60 s from `now`.
uint64_t craw_deadline(uint64_t *state, uint64_t now);
/// The order in which `count` timers are cancelled; free() it. NULL when there is no memory.
uint32_t *craw_order(uint64_t count, enum craw_timer_order order);

// MARK: echo

/// A load generator on a thread of its own: `connections` connections to 127.0.0.1:`port` with `pipeline` messages of
/// 64 bytes under way on each, every byte checked. A quarter of `requests` is warm-up. When all answers have come it
/// closes the connections and adds 1 to the eventfd `finished` (-1: none).
struct craw_load;
struct craw_load *craw_load_start(int port, int connections, int pipeline, uint64_t requests, int cpu, int finished);
/// Waits for the thread. What it measured leaves the warm-up out; `total` counts it.
int craw_load_finish(struct craw_load *load, struct craw_result *result, uint64_t *total);
/// The server's CPU time per request goes to `cpu`, ns.
int craw_echo(int connections, int pipeline, uint64_t requests, const int cpus[2], struct craw_result *result,
              uint64_t *cpu);

/// One thread: writes to the far ends of `pairs` socket pairs, runs turns until all callbacks have echoed, reads what
/// came back.
int craw_turn(int pairs, uint64_t messages, struct craw_result *result);
/// Both far ends' work, the same for all subjects: 64 bytes to each, and from each.
int craw_turn_send(const int *ends, int count);
int craw_turn_receive(const int *ends, int count);

// MARK: memory: nanoseconds is the growth in bytes

int craw_memory_watchers(const int *descriptors, uint64_t count, struct craw_result *result);
int craw_memory_timers(uint64_t count, struct craw_result *result);
/// Gives free memory back to the kernel, so that growth is growth.
void craw_memory_settle(void);

// MARK: scale

/// `threads` rings (see craw_dispatch_ring), each on a thread and a CPU of its own; `events` together.
int craw_scale_ring(int threads, uint64_t events, const int *cpus, struct craw_result *result);

// MARK: flow control, shared by both sides of the queue suite so that it costs both the same

/// A word alone on its cache line.
struct craw_counter;
struct craw_counter *craw_counter_make(void);
void craw_counter_free(struct craw_counter *counter);
void craw_counter_publish(struct craw_counter *counter, uint64_t value);  // store, release
uint64_t craw_counter_read(const struct craw_counter *counter);           // load, acquire
void craw_pause(void);

#endif
