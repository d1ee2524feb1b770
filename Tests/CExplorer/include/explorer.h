#ifndef EXPLORER_H
#define EXPLORER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What the explorer of Tests/LinuxEventGroupTests/Explorer needs and Swift cannot say, or says slowly in a debug build:
// several stacks on one thread, vector clocks, and a set of states.

// MARK: Fibers

typedef struct explorer_fiber explorer_fiber;

explorer_fiber *explorer_fiber_make(void);
void explorer_fiber_free(explorer_fiber *fiber);
// Begins anew with this body; whatever the fiber was in the middle of is forgotten, not unwound.
void explorer_fiber_prepare(explorer_fiber *fiber, void (*body)(void *), void *argument);
// Runs the fiber until it yields or its body returns. True: it has returned.
bool explorer_fiber_resume(explorer_fiber *fiber);
// On a fiber: goes back to whoever resumed it.
void explorer_fiber_yield(void);

// MARK: Clocks

#define EXPLORER_THREADS 6
#define EXPLORER_WORDS 10

// For each thread, how far its past is known; for each word, the oldest of its values that may still be seen.
typedef struct {
    uint16_t at[EXPLORER_THREADS + EXPLORER_WORDS];
} explorer_clock;

static inline uint16_t explorer_clock_get(const explorer_clock *clock, size_t index) { return clock->at[index]; }

static inline void explorer_clock_set(explorer_clock *clock, size_t index, uint16_t value) { clock->at[index] = value; }

static inline void explorer_clock_join(explorer_clock *clock, const explorer_clock *other) {
    for (size_t index = 0; index < EXPLORER_THREADS + EXPLORER_WORDS; index++)
        if (clock->at[index] < other->at[index]) clock->at[index] = other->at[index];
}

// Whether the first is nowhere ahead of the second, as far as threads are concerned.
static inline bool explorer_clock_is_before(const explorer_clock *clock, const explorer_clock *other) {
    for (size_t index = 0; index < EXPLORER_THREADS; index++)
        if (clock->at[index] > other->at[index]) return false;
    return true;
}

// MARK: States

// The same for the same bytes, in every process. The count is a multiple of eight.
uint64_t explorer_hash(uint64_t seed, const void *bytes, size_t count);

typedef struct explorer_states explorer_states;

explorer_states *explorer_states_make(void);
void explorer_states_free(explorer_states *states);
size_t explorer_states_count(const explorer_states *states);
// False if the state was visited with this budget or a larger one.
bool explorer_states_visit(explorer_states *states, uint64_t hash, uint8_t budget);

#endif
