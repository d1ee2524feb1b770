// What the preloaded counter keeps; the program under it finds the function by dlsym("budget_read").

#ifndef BUDGET_COUNTER_H
#define BUDGET_COUNTER_H

#include <stdint.h>

/// Every thread's calls since the process began. Five words, in this order.
struct budget_counts {
    uint64_t allocations;  // malloc, calloc, realloc, posix_memalign, aligned_alloc, memalign
    uint64_t frees;
    uint64_t retains;   // swift_retain and its variants, by how much each adds
    uint64_t releases;  // likewise
    uint64_t accesses;  // swift_beginAccess: exclusivity checked at run time
};

/// A function and not the struct itself: a compiler may well keep a word in a register across a retain, but not across
/// a call of what it does not know.
void budget_read(struct budget_counts *counts);

#endif
