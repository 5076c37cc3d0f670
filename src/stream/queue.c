/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queues of slot numbers.
 *
 * A cell holds a slot number plus one; 0 is an empty cell.  A producer takes the next cell by
 * adding to head, then fills it; the consumer looks at cells only, so a producer that was
 * interrupted in between delays the queue and cannot break it.  That makes push safe for any number
 * of threads without a lock (threads of a program in the kick queue, workers of a target in a ready
 * queue); pop, arm and disarm are for one consumer at a time.
 *
 * Sleeping.  The consumer sets armed, then looks at its next cell; the producer fills its cell,
 * then looks at armed.  All four are sequentially consistent, so at least one sees the other.  The
 * producer that finds armed set clears it and rings: one ring per sleep.
 *
 * Limits.  A slot is in a queue at most once (kicked, queued), so STREAM_SLOTS cells are enough.
 * The other side can write anything into a queue: a wrong number is skipped, a wrong index costs it
 * its own events.
 */
#include "stream/stream.h"

#define CELL_MASK (STREAM_SLOTS - 1)

int stream_queue_push(struct stream_queue *q, uint32_t slot)
{
    uint32_t mine;

    /* Looked at before a cell is taken: a cell taken and never filled would stop the queue. */
    if (atomic_load_explicit(&q->head, memory_order_relaxed) -
            atomic_load_explicit(&q->tail, memory_order_acquire) >=
        STREAM_SLOTS)
        return -1;
    mine = atomic_fetch_add_explicit(&q->head, 1, memory_order_relaxed);
    atomic_store(&q->slot[mine & CELL_MASK], slot + 1);
    return atomic_load(&q->armed) != 0 && atomic_exchange(&q->armed, 0) != 0;
}

bool stream_queue_pop(struct stream_queue *q, uint32_t *tail, uint32_t *slot)
{
    /* Bounded: a producer that writes nonsense as fast as it is skipped cannot hold the consumer.
     */
    for (uint32_t skipped = 0; skipped < STREAM_SLOTS; skipped++) {
        _Atomic uint32_t *cell = &q->slot[*tail & CELL_MASK];
        uint32_t value = atomic_load_explicit(cell, memory_order_acquire);

        if (value == 0)
            return false;
        atomic_store_explicit(cell, 0, memory_order_relaxed);
        *tail += 1;
        atomic_store_explicit(&q->tail, *tail, memory_order_release);
        if (value - 1 < STREAM_SLOTS) {
            *slot = value - 1;
            return true;
        }
    }
    return false;
}

bool stream_queue_arm(struct stream_queue *q, uint32_t tail)
{
    atomic_store(&q->armed, 1);
    if (atomic_load(&q->slot[tail & CELL_MASK]) == 0)
        return true;
    stream_queue_disarm(q);
    return false;
}

void stream_queue_disarm(struct stream_queue *q)
{
    atomic_store_explicit(&q->armed, 0, memory_order_relaxed);
}
