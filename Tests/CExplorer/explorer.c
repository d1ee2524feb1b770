#define _GNU_SOURCE
#include "explorer.h"

#include <setjmp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

// MARK: Fibers

enum { stack_size = 256 * 1024 };

struct explorer_fiber {
    ucontext_t context;
    // Jumps, since a swap of contexts sets the signal mask, which is a system call.
    jmp_buf own, resumer;
    void *stack;
    void (*body)(void *);
    void *argument;
    enum { fresh, begun, ended } state;
};

static _Thread_local explorer_fiber *running;

explorer_fiber *explorer_fiber_make(void) {
    explorer_fiber *fiber = calloc(1, sizeof *fiber);
    if (!fiber) abort();
    fiber->stack = mmap(NULL, stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fiber->stack == MAP_FAILED) abort();
    // A stack that is too small ends the process, and overwrites nothing.
    if (mprotect(fiber->stack, 4096, PROT_NONE)) abort();
    return fiber;
}

void explorer_fiber_free(explorer_fiber *fiber) {
    munmap(fiber->stack, stack_size);
    free(fiber);
}

static void enter(void) {
    explorer_fiber *fiber = running;
    fiber->body(fiber->argument);
    fiber->state = ended;
    _longjmp(fiber->resumer, 1);
}

void explorer_fiber_prepare(explorer_fiber *fiber, void (*body)(void *), void *argument) {
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = stack_size;
    fiber->context.uc_link = NULL;
    makecontext(&fiber->context, enter, 0);
    fiber->body = body;
    fiber->argument = argument;
    fiber->state = fresh;
}

bool explorer_fiber_resume(explorer_fiber *fiber) {
    running = fiber;
    if (_setjmp(fiber->resumer) == 0) {
        if (fiber->state != fresh) _longjmp(fiber->own, 1);
        fiber->state = begun;
        setcontext(&fiber->context);
    }
    running = NULL;
    return fiber->state == ended;
}

void explorer_fiber_yield(void) {
    explorer_fiber *fiber = running;
    if (_setjmp(fiber->own) == 0) _longjmp(fiber->resumer, 1);
}

// MARK: States

uint64_t explorer_hash(uint64_t seed, const void *bytes, size_t count) {
    const uint64_t *words = bytes;
    uint64_t hash = seed ^ 0x9e3779b97f4a7c15;
    for (size_t index = 0; index < count / 8; index++) {
        // The halves of a product of 128 bits: each bit of the input reaches all of the output in two rounds.
        unsigned __int128 product = (unsigned __int128)(hash ^ words[index]) * 0xd6e8feb86659fd93;
        hash = (uint64_t)product ^ (uint64_t)(product >> 64) ^ 0xa0761d6478bd642f;
    }
    return hash;
}

struct explorer_states {
    size_t count, capacity;
    uint64_t *hashes; // 0 for none
    uint8_t *budgets;
};

static void allocate(explorer_states *states, size_t capacity) {
    states->capacity = capacity;
    states->hashes = calloc(capacity, sizeof *states->hashes);
    states->budgets = calloc(capacity, sizeof *states->budgets);
    if (!states->hashes || !states->budgets) abort();
}

explorer_states *explorer_states_make(void) {
    explorer_states *states = calloc(1, sizeof *states);
    if (!states) abort();
    allocate(states, 1 << 12);
    return states;
}

void explorer_states_free(explorer_states *states) {
    free(states->hashes);
    free(states->budgets);
    free(states);
}

size_t explorer_states_count(const explorer_states *states) { return states->count; }

static size_t place(const explorer_states *states, uint64_t hash) {
    size_t index = hash & (states->capacity - 1);
    while (states->hashes[index] && states->hashes[index] != hash) index = (index + 1) & (states->capacity - 1);
    return index;
}

static void grow(explorer_states *states) {
    explorer_states old = *states;
    allocate(states, old.capacity * 2);
    for (size_t index = 0; index < old.capacity; index++) {
        if (!old.hashes[index]) continue;
        size_t found = place(states, old.hashes[index]);
        states->hashes[found] = old.hashes[index];
        states->budgets[found] = old.budgets[index];
    }
    free(old.hashes);
    free(old.budgets);
}

bool explorer_states_visit(explorer_states *states, uint64_t hash, uint8_t budget) {
    if (!hash) hash = 1;
    if (states->count * 2 > states->capacity) grow(states);
    size_t index = place(states, hash);
    if (!states->hashes[index]) {
        states->hashes[index] = hash;
        states->count++;
    } else if (states->budgets[index] >= budget) {
        return false;
    }
    states->budgets[index] = budget;
    return true;
}
