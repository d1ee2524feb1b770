// Faults by order, in debug builds only: a release build has neither these functions nor a place that asks them.
//
// A test says that the call number `first` of one kind fails with an errno, and perhaps some more after it. That call
// is then not made. (A close is made: however close(2) fails, the descriptor is gone.) One table for the process: such
// tests run one at a time.

#ifndef CLINUX_FAULTS_H
#define CLINUX_FAULTS_H

#include <stdbool.h>

/// The kinds of calls that can be made to fail: those of a loop, and then those of a group.
enum clinux_call {
    CLINUX_CALL_EPOLL_CREATE,
    // In the order of EPOLL_CTL_ADD, EPOLL_CTL_DEL and EPOLL_CTL_MOD.
    CLINUX_CALL_EPOLL_ADD,
    CLINUX_CALL_EPOLL_DEL,
    CLINUX_CALL_EPOLL_MOD,
    CLINUX_CALL_EPOLL_WAIT,
    CLINUX_CALL_EVENTFD,
    CLINUX_CALL_EVENTFD_WRITE,
    CLINUX_CALL_EVENTFD_DRAIN,
    // The other way to drain, where preadv2 cannot.
    CLINUX_CALL_EVENTFD_POLL,
    CLINUX_CALL_EVENTFD_READ,
    CLINUX_CALL_TIMERFD_CREATE,
    CLINUX_CALL_TIMERFD_SETTIME,
    CLINUX_CALL_DUP3,
    CLINUX_CALL_CLOSE,
    CLINUX_CALL_SIGNALFD_CREATE,
    CLINUX_CALL_SIGNALFD_CHANGE,
    CLINUX_CALL_SIGNALFD_READ,
    CLINUX_CALL_SIGMASK_BLOCK,
    CLINUX_CALL_SIGMASK_UNBLOCK,
    CLINUX_CALL_SIGTIMEDWAIT,
    CLINUX_CALL_TASKS_OPEN,
    CLINUX_CALL_TASK_STATUS_OPEN,
    CLINUX_CALL_PIDFD_OPEN,
    CLINUX_CALL_PIDFD_WAITID,
    CLINUX_CALL_PIDFD_INFO,
    CLINUX_CALL_PIDFD_SIGNAL,
    CLINUX_CALL_MARK_MMAP,
    CLINUX_CALL_MARK_MADVISE,
    CLINUX_CALL_LOOP_KINDS,
    CLINUX_CALL_ACCEPT = CLINUX_CALL_LOOP_KINDS,
    CLINUX_CALL_KINDS,
};

/// Takes back all orders and starts counting anew.
void clinux_faults_reset(void);
/// Calls number `first` to `first + times - 1` of a kind, counted from 1 since the last reset, fail with `error`.
void clinux_faults_order(enum clinux_call kind, unsigned first, unsigned times, int error);
/// How often a kind was asked for since the last reset, and how often it was made to fail.
unsigned clinux_faults_calls(enum clinux_call kind);
unsigned clinux_faults_strikes(enum clinux_call kind);

/// For the shim alone: counts a call; true if it shall fail, and then errno is set.
bool clinux_fault_strikes(enum clinux_call kind);

#endif
