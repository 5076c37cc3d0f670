/* SPDX-License-Identifier: Apache-2.0 */
#include "ranges.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void ranges_free(struct ranges *set)
{
    free(set->at);
    memset(set, 0, sizeof(*set));
}

/* Index of the first range that ends at or above @position (it may touch it from below). */
static size_t first_reaching(const struct ranges *set, int64_t position)
{
    size_t low = 0, high = set->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (set->at[mid].right < position)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

void ranges_add(struct ranges *set, int64_t left, int64_t right)
{
    size_t first, last;

    if (left >= right)
        return;
    first = first_reaching(set, left);
    for (last = first; last < set->count && set->at[last].left <= right; last++) {
        if (set->at[last].left < left)
            left = set->at[last].left;
        if (set->at[last].right > right)
            right = set->at[last].right;
    }
    if (last == first) { /* nothing to merge with: make room */
        if (set->count == set->room) {
            set->room = set->room ? 2 * set->room : 8;
            set->at = realloc(set->at, set->room * sizeof(*set->at));
            assert(set->at);
        }
        memmove(set->at + first + 1, set->at + first, (set->count - first) * sizeof(*set->at));
        set->count++;
    } else if (last > first + 1) {
        memmove(set->at + first + 1, set->at + last, (set->count - last) * sizeof(*set->at));
        set->count -= last - first - 1;
    }
    set->at[first] = (struct range){left, right};
}

const struct range *ranges_find(const struct ranges *set, int64_t position)
{
    size_t i = first_reaching(set, position + 1);

    if (i < set->count && set->at[i].left <= position)
        return &set->at[i];
    return NULL;
}

bool ranges_contain(const struct ranges *set, int64_t left, int64_t right)
{
    const struct range *found;

    if (left >= right)
        return true;
    found = ranges_find(set, left);
    return found && found->right >= right;
}

int64_t ranges_first_gap(const struct ranges *set, int64_t from)
{
    const struct range *found = ranges_find(set, from);

    return found ? found->right : from;
}

void ranges_cut(struct ranges *set, int64_t position)
{
    while (set->count && set->at[set->count - 1].left >= position)
        set->count--;
    if (set->count && set->at[set->count - 1].right > position)
        set->at[set->count - 1].right = position;
}

void ranges_intersect(const struct ranges *set, int64_t left, int64_t right, struct ranges *out)
{
    for (size_t i = first_reaching(set, left); i < set->count && set->at[i].left < right; i++) {
        int64_t from = set->at[i].left > left ? set->at[i].left : left;
        int64_t to = set->at[i].right < right ? set->at[i].right : right;

        ranges_add(out, from, to);
    }
}
