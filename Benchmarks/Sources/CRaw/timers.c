// Two timer queues as C programs have them: a heap of 4 children with the place kept in the timer, exact to the
// nanosecond; and a hierarchical wheel with ticks of 1 ms, as the kernel had it. Timers are the caller's structs.
#define _GNU_SOURCE
#include "CRaw.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_DELAY = 10 * 1000 * 1000, SECOND = 1000 * 1000 * 1000 };

uint64_t craw_deadline(uint64_t *state, uint64_t now) {
    return now + SECOND + craw_random(state) % (59ull * SECOND);
}

uint32_t *craw_order(uint64_t count, enum craw_timer_order order) {
    uint32_t *indices = malloc(count * sizeof *indices);
    if (indices == NULL) return NULL;
    uint64_t state = 7;
    for (uint64_t index = 0; index < count; index++) indices[index] = (uint32_t)index;
    for (uint64_t index = count - 1; order == CRAW_TIMERS_SHUFFLED && index > 0; index--) {
        uint64_t other = craw_random(&state) % (index + 1);
        uint32_t value = indices[index];
        indices[index] = indices[other];
        indices[other] = value;
    }
    return indices;
}

struct timer {
    uint64_t deadline;
    union {
        uint64_t place;  // in the heap
        struct {         // in a slot of the wheel
            struct timer *next, **link;
        };
    };
    void (*fire)(struct timer *timer, void *context);
    void *context;
};

// MARK: the heap

struct entry {
    uint64_t deadline;
    struct timer *timer;
};

struct heap {
    struct entry *entries;
    uint64_t count;
};

static void put(struct heap *heap, uint64_t place, struct entry entry) {
    heap->entries[place] = entry;
    entry.timer->place = place;
}

static uint64_t sift_up(struct heap *heap, uint64_t place, struct entry entry) {
    while (place > 0) {
        uint64_t parent = (place - 1) / 4;
        if (heap->entries[parent].deadline <= entry.deadline) break;
        put(heap, place, heap->entries[parent]);
        place = parent;
    }
    return place;
}

static uint64_t sift_down(struct heap *heap, uint64_t place, struct entry entry) {
    for (;;) {
        uint64_t first = place * 4 + 1, least = first;
        if (first >= heap->count) return place;
        for (uint64_t child = first + 1; child < first + 4 && child < heap->count; child++) {
            if (heap->entries[child].deadline < heap->entries[least].deadline) least = child;
        }
        if (heap->entries[least].deadline >= entry.deadline) return place;
        put(heap, place, heap->entries[least]);
        place = least;
    }
}

static void settle(struct heap *heap, uint64_t place, struct entry entry) {
    uint64_t up = sift_up(heap, place, entry);
    put(heap, up == place ? sift_down(heap, place, entry) : up, entry);
}

static void heap_start(struct heap *heap, struct timer *timer, uint64_t deadline) {
    timer->deadline = deadline;
    struct entry entry = {deadline, timer};
    put(heap, sift_up(heap, heap->count++, entry), entry);
}

static void heap_cancel(struct heap *heap, struct timer *timer) {
    uint64_t place = timer->place;
    struct entry last = heap->entries[--heap->count];
    if (place < heap->count) settle(heap, place, last);
}

static void heap_reset(struct heap *heap, struct timer *timer, uint64_t deadline) {
    timer->deadline = deadline;
    settle(heap, timer->place, (struct entry){deadline, timer});
}

static bool heap_next(struct heap *heap, uint64_t *deadline) {
    if (heap->count == 0) return false;
    *deadline = heap->entries[0].deadline;
    return true;
}

static void heap_expire(struct heap *heap, uint64_t now) {
    while (heap->count > 0 && heap->entries[0].deadline <= now) {
        struct timer *timer = heap->entries[0].timer;
        heap_cancel(heap, timer);
        timer->fire(timer, timer->context);
    }
}

// MARK: the wheel

enum { LEVELS = 6, SLOT_BITS = 6, SLOTS = 1 << SLOT_BITS, TICK = 1000 * 1000 };

struct wheel {
    uint64_t tick;  // up to which all have fired
    uint64_t occupied[LEVELS];
    struct timer *slots[LEVELS][SLOTS];
    uint64_t count;
};

static uint64_t tick_of(uint64_t deadline) { return (deadline + TICK - 1) / TICK; }

static void wheel_place(struct wheel *wheel, struct timer *timer, uint64_t tick) {
    uint64_t differing = (tick ^ wheel->tick) >> SLOT_BITS;
    unsigned level = differing == 0 ? 0 : (unsigned)(63 - __builtin_clzll(differing)) / SLOT_BITS + 1;
    unsigned slot = (unsigned)(tick >> (level * SLOT_BITS)) & (SLOTS - 1);
    struct timer **head = &wheel->slots[level][slot];
    timer->next = *head;
    timer->link = head;
    if (*head != NULL) (*head)->link = &timer->next;
    *head = timer;
    wheel->occupied[level] |= 1ull << slot;
}

static void wheel_insert(struct wheel *wheel, struct timer *timer) {
    uint64_t tick = tick_of(timer->deadline);
    wheel_place(wheel, timer, tick > wheel->tick ? tick : wheel->tick + 1);
}

static void wheel_start(struct wheel *wheel, struct timer *timer, uint64_t deadline) {
    timer->deadline = deadline;
    wheel_insert(wheel, timer);
    wheel->count++;
}

/// Bits of slots that fell empty stay; whoever looks into one clears it.
static void wheel_remove(struct timer *timer) {
    *timer->link = timer->next;
    if (timer->next != NULL) timer->next->link = timer->link;
}

static void wheel_cancel(struct wheel *wheel, struct timer *timer) {
    wheel_remove(timer);
    wheel->count--;
}

static void wheel_reset(struct wheel *wheel, struct timer *timer, uint64_t deadline) {
    wheel_remove(timer);
    timer->deadline = deadline;
    wheel_insert(wheel, timer);
}

/// The next tick at which there is something to do, at the latest: a slot that falls due, or one to be spread.
static bool wheel_next(struct wheel *wheel, uint64_t *deadline) {
    if (wheel->count == 0) return false;
    for (unsigned level = 0; level < LEVELS; level++) {
        unsigned shift = level * SLOT_BITS;
        uint64_t here = wheel->tick >> shift & (SLOTS - 1);
        uint64_t after = here == SLOTS - 1 ? 0 : wheel->occupied[level] & ~0ull << (here + 1);
        if (after == 0) continue;
        uint64_t base = wheel->tick >> shift >> SLOT_BITS << SLOT_BITS << shift;
        *deadline = (base + ((uint64_t)__builtin_ctzll(after) << shift)) * TICK;
        return true;
    }
    return false;
}

static struct timer *wheel_take(struct wheel *wheel, unsigned level, unsigned slot) {
    struct timer *list = wheel->slots[level][slot];
    wheel->slots[level][slot] = NULL;
    wheel->occupied[level] &= ~(1ull << slot);
    return list;
}

/// What lies in the slot that begins with this tick goes to where its own ticks say.
static void wheel_spread(struct wheel *wheel, unsigned level) {
    struct timer *list = wheel_take(wheel, level, wheel->tick >> (level * SLOT_BITS) & (SLOTS - 1));
    while (list != NULL) {
        struct timer *timer = list;
        list = timer->next;
        wheel_place(wheel, timer, tick_of(timer->deadline));
    }
}

static void wheel_expire(struct wheel *wheel, uint64_t now) {
    uint64_t next;
    while (wheel_next(wheel, &next) && next <= now) {
        wheel->tick = next / TICK;
        for (unsigned level = LEVELS - 1; level > 0; level--) {
            if ((wheel->tick & ((1ull << (level * SLOT_BITS)) - 1)) == 0) wheel_spread(wheel, level);
        }
        struct timer *due = wheel_take(wheel, 0, wheel->tick & (SLOTS - 1));
        while (due != NULL) {
            struct timer *timer = due;
            due = timer->next;
            if (due != NULL) due->link = &due;
            wheel->count--;
            timer->fire(timer, timer->context);
        }
    }
}

// MARK: runs, written once for both queues; the calls are constants, so they are inlined

union queue {
    struct heap heap;
    struct wheel wheel;
};

struct kind {
    int (*open)(union queue *queue, uint64_t capacity);
    void (*close)(union queue *queue);
    void (*start)(union queue *queue, struct timer *timer, uint64_t deadline);
    void (*cancel)(union queue *queue, struct timer *timer);
    void (*reset)(union queue *queue, struct timer *timer, uint64_t deadline);
    bool (*next)(union queue *queue, uint64_t *deadline);
    void (*expire)(union queue *queue, uint64_t now);
};

#define INLINE static inline __attribute__((always_inline))

struct run {
    union queue queue;
    struct timer *timers;
    uint32_t *order;
    uint64_t fired;
};

static void run_close(struct run *run, const struct kind *kind) {
    kind->close(&run->queue);
    free(run->timers);
    free(run->order);
}

static int run_open(struct run *run, const struct kind *kind, uint64_t count, enum craw_timer_order order) {
    *run = (struct run){.timers = calloc(count, sizeof *run->timers), .order = craw_order(count, order)};
    int failure = kind->open(&run->queue, count);
    if (failure == 0 && run->timers != NULL && run->order != NULL) return 0;
    run_close(run, kind);
    return -ENOMEM;
}

INLINE int cancel_run(const struct kind *kind, uint64_t live, uint64_t pairs, enum craw_timer_order order,
                      struct craw_result *result) {
    struct run run;
    int failure = run_open(&run, kind, live, order);
    if (failure != 0) return failure;
    uint64_t rounds = pairs / live > 0 ? pairs / live : 1, state = 1, start = craw_now();
    for (uint64_t round = 0; round < rounds; round++) {
        uint64_t now = craw_now();
        for (uint64_t index = 0; index < live; index++) {
            kind->start(&run.queue, &run.timers[index], craw_deadline(&state, now));
        }
        for (uint64_t index = 0; index < live; index++) kind->cancel(&run.queue, &run.timers[run.order[index]]);
    }
    *result = (struct craw_result){.operations = rounds * live, .nanoseconds = craw_now() - start};
    run_close(&run, kind);
    return 0;
}

INLINE int reset_run(const struct kind *kind, uint64_t live, uint64_t resets, struct craw_result *result) {
    struct run run;
    int failure = run_open(&run, kind, live, CRAW_TIMERS_IN_ORDER);
    if (failure != 0) return failure;
    uint64_t state = 1, now = craw_now();
    for (uint64_t index = 0; index < live; index++) {
        kind->start(&run.queue, &run.timers[index], craw_deadline(&state, now));
    }
    uint64_t start = craw_now();
    for (uint64_t count = 0; count < resets; count++) {
        struct timer *timer = &run.timers[craw_random(&state) % live];
        kind->reset(&run.queue, timer, craw_deadline(&state, now));
    }
    *result = (struct craw_result){.operations = resets, .nanoseconds = craw_now() - start};
    run_close(&run, kind);
    return 0;
}

static void count_fired(struct timer *timer, void *context) {
    (void)timer;
    ((struct run *)context)->fired++;
}

INLINE int fire_run(const struct kind *kind, uint64_t count, unsigned long slack, struct craw_result *result) {
    struct run run;
    if (prctl(PR_SET_TIMERSLACK, slack, 0, 0, 0) != 0) return -errno;
    int epoll = epoll_create1(EPOLL_CLOEXEC), failure = run_open(&run, kind, count, CRAW_TIMERS_IN_ORDER);
    if (failure != 0) return failure;
    uint64_t begun = craw_thread_cpu(), first = craw_now() + FIRST_DELAY;
    for (uint64_t index = 0; index < count; index++) {
        run.timers[index].fire = count_fired;
        run.timers[index].context = &run;
        kind->start(&run.queue, &run.timers[index], first + index * SECOND / count);
    }
    uint64_t next;
    while (kind->next(&run.queue, &next)) {
        uint64_t now = craw_now(), rest = next > now ? next - now : 0;
        struct timespec timeout = {.tv_sec = (time_t)(rest / SECOND), .tv_nsec = (long)(rest % SECOND)};
        struct epoll_event events[16];
        if (epoll_pwait2(epoll, events, 16, &timeout, NULL) < 0 && errno != EINTR) failure = -errno;
        kind->expire(&run.queue, craw_now());
        result->turns++;
    }
    result->operations = run.fired;
    result->nanoseconds = craw_thread_cpu() - begun;
    if (failure == 0 && run.fired != count) failure = -EILSEQ;
    run_close(&run, kind);
    close(epoll);
    return failure;
}

INLINE int heap_open(union queue *queue, uint64_t capacity) {
    queue->heap.entries = malloc(capacity * sizeof *queue->heap.entries);
    return queue->heap.entries != NULL ? 0 : -ENOMEM;
}

INLINE int wheel_open(union queue *queue, uint64_t capacity) {
    (void)capacity;
    queue->wheel.tick = craw_now() / TICK;
    return 0;
}

INLINE void heap_close(union queue *queue) { free(queue->heap.entries); }
INLINE void wheel_close(union queue *queue) { (void)queue; }

#define KIND(name)                                                                                                   \
    INLINE void name##_start_in(union queue *queue, struct timer *timer, uint64_t deadline) {                        \
        name##_start(&queue->name, timer, deadline);                                                                 \
    }                                                                                                                \
    INLINE void name##_cancel_in(union queue *queue, struct timer *timer) { name##_cancel(&queue->name, timer); }    \
    INLINE void name##_reset_in(union queue *queue, struct timer *timer, uint64_t deadline) {                        \
        name##_reset(&queue->name, timer, deadline);                                                                 \
    }                                                                                                                \
    INLINE bool name##_next_in(union queue *queue, uint64_t *deadline) { return name##_next(&queue->name, deadline); } \
    INLINE void name##_expire_in(union queue *queue, uint64_t now) { name##_expire(&queue->name, now); }             \
    static const struct kind name##_kind = {name##_open,     name##_close,   name##_start_in, name##_cancel_in,      \
                                            name##_reset_in, name##_next_in, name##_expire_in};                      \
    int craw_##name##_cancel(uint64_t live, uint64_t pairs, enum craw_timer_order order,                             \
                             struct craw_result *result) {                                                           \
        return cancel_run(&name##_kind, live, pairs, order, result);                                                 \
    }                                                                                                                \
    int craw_##name##_reset(uint64_t live, uint64_t resets, struct craw_result *result) {                            \
        return reset_run(&name##_kind, live, resets, result);                                                        \
    }                                                                                                                \
    int craw_##name##_fire(uint64_t timers, unsigned long slack, struct craw_result *result) {                       \
        return fire_run(&name##_kind, timers, slack, result);                                                        \
    }

KIND(heap)
KIND(wheel)

// MARK: memory

int craw_memory_timers(uint64_t count, struct craw_result *result) {
    struct run run = {0};
    craw_memory_settle();
    uint64_t before = craw_resident();
    int failure = run_open(&run, &heap_kind, count, CRAW_TIMERS_IN_ORDER);
    if (failure != 0) return failure;
    for (uint64_t index = 0; index < count; index++) {
        heap_start(&run.queue.heap, &run.timers[index], craw_now() + 3600ull * SECOND);
    }
    // The order is the bench's and not the timers'.
    *result = (struct craw_result){.operations = count,
                                   .nanoseconds = craw_resident() - before - count * sizeof *run.order};
    run_close(&run, &heap_kind);
    return 0;
}
