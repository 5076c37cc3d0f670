/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of positions of a stream, kept as sorted, disjoint, non-touching ranges [left, right). Made
 * for the wire checker: simple enough to be right at sight, and shared with nothing of the engine.
 */
#ifndef CHIMNEY_SIM_RANGES_H
#define CHIMNEY_SIM_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct range {
    int64_t left, right;
};

struct ranges {
    struct range *at;
    size_t count, room;
};

void ranges_free(struct ranges *set);
/** Adds [@left, @right); nothing when it is empty. */
void ranges_add(struct ranges *set, int64_t left, int64_t right);
/** True if every position of [@left, @right) is in the set (an empty range always is). */
bool ranges_contain(const struct ranges *set, int64_t left, int64_t right);
/** The range that holds @position, or NULL. */
const struct range *ranges_find(const struct ranges *set, int64_t position);
/** The first position at or above @from that is not in the set. */
int64_t ranges_first_gap(const struct ranges *set, int64_t from);
/** Removes everything at or above @position. */
void ranges_cut(struct ranges *set, int64_t position);
/** Adds the part of [@left, @right) that @set holds to @out. */
void ranges_intersect(const struct ranges *set, int64_t left, int64_t right, struct ranges *out);

#endif
