/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deadlines of connections: a binary heap with lazy moves.  A deadline that moves away (the usual
 * case: every acknowledgement pushes the retransmission timer out) only changes the connection's
 * own value; the heap entry is corrected when it comes up.  A deadline that moves closer is sifted
 * up.
 */
#ifndef CHIMNEY_TARGET_TIMERS_H
#define CHIMNEY_TARGET_TIMERS_H

#include <stdbool.h>
#include <stdint.h>

#define TIMERS_ABSENT UINT32_MAX

/** One per connection, inside it. */
struct timer_node {
    uint64_t deadline; /* UINT64_MAX: none */
    uint32_t index;    /* place in the heap, TIMERS_ABSENT if it is not there */
    uint32_t id;       /* the owner's */
};

struct timer_entry {
    uint64_t key; /* not later than the node's deadline */
    struct timer_node *node;
};

struct timers {
    struct timer_entry *heap;
    uint32_t used, limit;
};

bool timers_init(struct timers *timers, uint32_t limit);
void timers_free(struct timers *timers);
void timer_node_init(struct timer_node *node, uint32_t id);
void timers_set(struct timers *timers, struct timer_node *node, uint64_t deadline);
void timers_cancel(struct timers *timers, struct timer_node *node);
/** Takes out a node whose deadline is not after @now, or NULL. */
struct timer_node *timers_pop(struct timers *timers, uint64_t now);
/** A time not after the earliest deadline (an early wake-up is possible), or UINT64_MAX. */
uint64_t timers_next(const struct timers *timers);

#endif
