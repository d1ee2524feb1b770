// The mailbox of one word that the queue and call yardsticks share: a stack of links, or SLEEPING. Whoever replaces
// SLEEPING rings the doorbell.
#ifndef CRAW_MAILBOX_H
#define CRAW_MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

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

#endif
