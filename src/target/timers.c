/* SPDX-License-Identifier: Apache-2.0 */
#include "target/timers.h"

#include <assert.h>
#include <stdlib.h>

bool timers_init(struct timers *timers, uint32_t limit)
{
    timers->heap = calloc(limit ? limit : 1, sizeof(*timers->heap));
    timers->used = 0;
    timers->limit = limit;
    return timers->heap != NULL;
}

void timers_free(struct timers *timers)
{
    free(timers->heap);
    timers->heap = NULL;
}

void timer_node_init(struct timer_node *node, uint32_t id)
{
    node->deadline = UINT64_MAX;
    node->index = TIMERS_ABSENT;
    node->id = id;
}

static void timers_place(struct timers *timers, uint32_t i, struct timer_entry entry)
{
    timers->heap[i] = entry;
    entry.node->index = i;
}

static void timers_up(struct timers *timers, uint32_t i, struct timer_entry entry)
{
    while (i > 0) {
        uint32_t parent = (i - 1) / 2;

        if (timers->heap[parent].key <= entry.key)
            break;
        timers_place(timers, i, timers->heap[parent]);
        i = parent;
    }
    timers_place(timers, i, entry);
}

static void timers_down(struct timers *timers, uint32_t i, struct timer_entry entry)
{
    for (;;) {
        uint32_t child = 2 * i + 1;

        if (child >= timers->used)
            break;
        if (child + 1 < timers->used && timers->heap[child + 1].key < timers->heap[child].key)
            child++;
        if (entry.key <= timers->heap[child].key)
            break;
        timers_place(timers, i, timers->heap[child]);
        i = child;
    }
    timers_place(timers, i, entry);
}

static void timers_remove_at(struct timers *timers, uint32_t i)
{
    struct timer_entry last;

    assert(i < timers->used);
    timers->heap[i].node->index = TIMERS_ABSENT;
    last = timers->heap[--timers->used];
    if (i == timers->used)
        return;
    if (i > 0 && last.key < timers->heap[(i - 1) / 2].key)
        timers_up(timers, i, last);
    else
        timers_down(timers, i, last);
}

void timers_set(struct timers *timers, struct timer_node *node, uint64_t deadline)
{
    node->deadline = deadline;
    if (node->index != TIMERS_ABSENT) {
        if (deadline < timers->heap[node->index].key)
            timers_up(timers, node->index, (struct timer_entry){deadline, node});
        return; /* later: the entry is corrected when it comes up */
    }
    if (deadline == UINT64_MAX)
        return;
    assert(timers->used < timers->limit);
    timers_up(timers, timers->used++, (struct timer_entry){deadline, node});
}

void timers_cancel(struct timers *timers, struct timer_node *node)
{
    node->deadline = UINT64_MAX;
    if (node->index != TIMERS_ABSENT)
        timers_remove_at(timers, node->index);
}

struct timer_node *timers_pop(struct timers *timers, uint64_t now)
{
    while (timers->used > 0 && timers->heap[0].key <= now) {
        struct timer_node *node = timers->heap[0].node;

        if (node->deadline <= now) {
            timers_remove_at(timers, 0);
            node->deadline = UINT64_MAX;
            return node;
        }
        if (node->deadline == UINT64_MAX)
            timers_remove_at(timers, 0);
        else
            timers_down(timers, 0, (struct timer_entry){node->deadline, node});
    }
    return NULL;
}

uint64_t timers_next(const struct timers *timers)
{
    return timers->used ? timers->heap[0].key : UINT64_MAX;
}
