// A library to preload into a release build that counts allocations, reference counting and exclusivity checks.
//
//     cc -O2 -shared -fPIC -o counter.so counter.c -ldl
//     LD_PRELOAD=./counter.so program
//
// All of it by interposing symbols, so the Swift runtime must be linked dynamically, as it is by default. What the
// runtime calls within itself binds inside of libswiftCore and is not counted: the budgets are for what the compiler
// put into the program. (The runtime's hooks for instruments, _swift_retain and the like, would show both. In 6.3 they
// crash: the adapter in front of them masks the tag off immortal strings, and hands on what was never an object.)
#define _GNU_SOURCE
#include "counter.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

static struct budget_counts budget_counts;

void budget_read(struct budget_counts *counts) {
    counts->allocations = __atomic_load_n(&budget_counts.allocations, __ATOMIC_RELAXED);
    counts->frees = __atomic_load_n(&budget_counts.frees, __ATOMIC_RELAXED);
    counts->retains = __atomic_load_n(&budget_counts.retains, __ATOMIC_RELAXED);
    counts->releases = __atomic_load_n(&budget_counts.releases, __ATOMIC_RELAXED);
    counts->accesses = __atomic_load_n(&budget_counts.accesses, __ATOMIC_RELAXED);
}

static void count(uint64_t *counter, uint64_t times) { __atomic_fetch_add(counter, times, __ATOMIC_RELAXED); }

// MARK: allocations

static void *(*real_malloc)(size_t);
static void *(*real_calloc)(size_t, size_t);
static void *(*real_realloc)(void *, size_t);
static int (*real_posix_memalign)(void **, size_t, size_t);
static void *(*real_aligned_alloc)(size_t, size_t);
static void *(*real_memalign)(size_t, size_t);
static void (*real_free)(void *);

// dlsym may allocate before it has found malloc for us; such requests are served from here and never freed.
static _Alignas(16) char early[64 * 1024];
static size_t early_used;
static bool resolving;

static void *early_allocate(size_t size) {
    size_t start = __atomic_fetch_add(&early_used, (size + 15) & ~(size_t)15, __ATOMIC_RELAXED);
    return start + size <= sizeof early ? early + start : NULL;
}

static bool is_early(const void *memory) {
    return (const char *)memory >= early && (const char *)memory < early + sizeof early;
}

static void resolve(void) {
    if (resolving) return;
    resolving = true;
    real_free = dlsym(RTLD_NEXT, "free");
    real_calloc = dlsym(RTLD_NEXT, "calloc");
    real_realloc = dlsym(RTLD_NEXT, "realloc");
    real_posix_memalign = dlsym(RTLD_NEXT, "posix_memalign");
    real_aligned_alloc = dlsym(RTLD_NEXT, "aligned_alloc");
    real_memalign = dlsym(RTLD_NEXT, "memalign");
    real_malloc = dlsym(RTLD_NEXT, "malloc");
    resolving = false;
}

void *malloc(size_t size) {
    count(&budget_counts.allocations, 1);
    if (real_malloc == NULL) resolve();
    return real_malloc != NULL ? real_malloc(size) : early_allocate(size);
}

void *calloc(size_t number, size_t size) {
    count(&budget_counts.allocations, 1);
    if (real_malloc == NULL) resolve();
    // Early memory is zero: it is handed out once.
    return real_calloc != NULL ? real_calloc(number, size) : early_allocate(number * size);
}

void *realloc(void *memory, size_t size) {
    count(&budget_counts.allocations, 1);
    if (real_malloc == NULL) resolve();
    if (!is_early(memory)) return real_realloc(memory, size);
    void *copy = real_malloc(size);
    size_t available = (size_t)(early + sizeof early - (char *)memory);
    if (copy != NULL) memcpy(copy, memory, size < available ? size : available);
    return copy;
}

int posix_memalign(void **memory, size_t alignment, size_t size) {
    count(&budget_counts.allocations, 1);
    if (real_malloc == NULL) resolve();
    return real_posix_memalign(memory, alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    count(&budget_counts.allocations, 1);
    if (real_malloc == NULL) resolve();
    return real_aligned_alloc(alignment, size);
}

void *memalign(size_t alignment, size_t size) {
    count(&budget_counts.allocations, 1);
    if (real_malloc == NULL) resolve();
    return real_memalign(alignment, size);
}

void free(void *memory) {
    if (memory == NULL) return;
    count(&budget_counts.frees, 1);
    if (is_early(memory)) return;
    if (real_malloc == NULL) resolve();
    if (real_free != NULL) real_free(memory);
}

// MARK: exclusivity

void swift_beginAccess(void *pointer, void *buffer, uintptr_t flags, void *pc) {
    static void (*real)(void *, void *, uintptr_t, void *);
    if (real == NULL) real = dlsym(RTLD_NEXT, "swift_beginAccess");
    count(&budget_counts.accesses, 1);
    // Without a pc the runtime takes its return address, which would be ours.
    real(pointer, buffer, flags, pc != NULL ? pc : __builtin_return_address(0));
}

// MARK: reference counting

// On arm64 the runtime's entry points keep registers that C's convention lets a callee destroy, and callers rely on it.
#if defined(__aarch64__)
#define REFERENCE_COUNTING __attribute__((preserve_most))  // clang; gcc knows no such attribute
#else
#define REFERENCE_COUNTING
#endif

// A closure without captures has no object: to retain or release it does nothing.
#define COUNT_ONE(result, name, counter, answer)                                   \
    REFERENCE_COUNTING result name(void *object) {                                 \
        static REFERENCE_COUNTING result (*real)(void *);                          \
        if (real == NULL) real = (REFERENCE_COUNTING result (*)(void *))next(#name); \
        if (object != NULL) count(&budget_counts.counter, 1);                      \
        answer real(object);                                                       \
    }

#define COUNT_MANY(result, name, counter, answer)                                            \
    REFERENCE_COUNTING result name(void *object, uint32_t times) {                           \
        static REFERENCE_COUNTING result (*real)(void *, uint32_t);                          \
        if (real == NULL) real = (REFERENCE_COUNTING result (*)(void *, uint32_t))next(#name); \
        if (object != NULL) count(&budget_counts.counter, times);                            \
        answer real(object, times);                                                          \
    }

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

COUNT_ONE(void *, swift_retain, retains, return)
COUNT_ONE(void, swift_release, releases, )
COUNT_MANY(void *, swift_retain_n, retains, return)
COUNT_MANY(void, swift_release_n, releases, )
COUNT_ONE(void *, swift_bridgeObjectRetain, retains, return)
COUNT_ONE(void, swift_bridgeObjectRelease, releases, )
COUNT_MANY(void *, swift_bridgeObjectRetain_n, retains, return)
COUNT_MANY(void, swift_bridgeObjectRelease_n, releases, )
COUNT_ONE(void *, swift_unownedRetain, retains, return)
COUNT_ONE(void, swift_unownedRelease, releases, )
COUNT_ONE(void *, swift_unownedRetainStrong, retains, return)
COUNT_ONE(void *, swift_tryRetain, retains, return)
