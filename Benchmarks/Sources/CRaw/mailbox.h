// The mailbox of one word that several yardsticks share: a stack of links, or SLEEPING. Whoever replaces SLEEPING
// rings the doorbell.
#ifndef CRAW_MAILBOX_H
#define CRAW_MAILBOX_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct link {
    struct link *next;
};

#define SLEEPING ((struct link *)1)

/// `first` is the newest of a chain that ends with `last`. True: the owner sleeps, and is to be woken.
static inline bool mailbox_push(_Atomic(struct link *) *word, struct link *first, struct link *last) {
    struct link *head = atomic_load_explicit(word, memory_order_relaxed);
    do {
        last->next = head == SLEEPING ? NULL : head;
    } while (!atomic_compare_exchange_weak_explicit(word, &head, first, memory_order_acq_rel, memory_order_relaxed));
    return head == SLEEPING;
}

/// All that is there, the oldest first.
static inline struct link *mailbox_take(_Atomic(struct link *) *word) {
    struct link *head = atomic_exchange_explicit(word, NULL, memory_order_acq_rel);
    if (head == SLEEPING) return NULL;
    struct link *oldest = NULL;
    while (head != NULL) {
        struct link *next = head->next;
        head->next = oldest;
        oldest = head;
        head = next;
    }
    return oldest;
}

/// True: the word was empty, and the owner may sleep.
static inline bool mailbox_arm(_Atomic(struct link *) *word) {
    struct link *empty = NULL;
    return atomic_compare_exchange_strong_explicit(word, &empty, SLEEPING, memory_order_acq_rel, memory_order_relaxed);
}

// MARK: what a sleeping owner waits for

struct doorbell {
    int epoll, descriptor;
};

static inline int doorbell_open(struct doorbell *doorbell) {
    doorbell->descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    doorbell->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (doorbell->descriptor < 0 || doorbell->epoll < 0) return -errno;
    // Edge-triggered: each write is an edge, so the counter is never read.
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    return epoll_ctl(doorbell->epoll, EPOLL_CTL_ADD, doorbell->descriptor, &event) == 0 ? 0 : -errno;
}

static inline void doorbell_close(struct doorbell *doorbell) {
    if (doorbell->descriptor >= 0) close(doorbell->descriptor);
    if (doorbell->epoll >= 0) close(doorbell->epoll);
}

static inline void doorbell_ring(struct doorbell *doorbell) { eventfd_write(doorbell->descriptor, 1); }

#endif
