#ifdef DEBUG

#include "CLinuxFaults.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/epoll.h>

_Static_assert(CLINUX_CALL_EPOLL_ADD - EPOLL_CTL_ADD == CLINUX_CALL_EPOLL_DEL - EPOLL_CTL_DEL, "one kind each");
_Static_assert(CLINUX_CALL_EPOLL_ADD - EPOLL_CTL_ADD == CLINUX_CALL_EPOLL_MOD - EPOLL_CTL_MOD, "one kind each");

/// Atomic, because any thread may call while a test counts, or gives an order.
static struct {
    _Atomic unsigned calls, strikes, first, times;
    _Atomic int error;
} faults[CLINUX_CALL_KINDS];

void clinux_faults_reset(void) {
    for (int kind = 0; kind < CLINUX_CALL_KINDS; kind++) {
        faults[kind].times = 0;
        faults[kind].calls = 0;
        faults[kind].strikes = 0;
    }
}

void clinux_faults_order(enum clinux_call kind, unsigned first, unsigned times, int error) {
    faults[kind].first = first;
    faults[kind].error = error;
    faults[kind].times = times; // the last: from here on it strikes
}

unsigned clinux_faults_calls(enum clinux_call kind) { return faults[kind].calls; }

unsigned clinux_faults_strikes(enum clinux_call kind) { return faults[kind].strikes; }

bool clinux_fault_strikes(enum clinux_call kind) {
    unsigned number = ++faults[kind].calls;
    // Unsigned: before the first, the difference is larger than any number of times.
    if (number - faults[kind].first >= faults[kind].times) return false;
    faults[kind].strikes++;
    errno = faults[kind].error;
    return true;
}

#endif
