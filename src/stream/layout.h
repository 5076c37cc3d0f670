/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where everything is in an arena.  Both sides are built from these constants; the numbers in the
 * session page only prove that they are the same on both sides.
 */
#ifndef CHIMNEY_STREAM_LAYOUT_H
#define CHIMNEY_STREAM_LAYOUT_H

#include "stream/stream.h"

#define STREAM_PAGES(bytes) (((uint64_t)(bytes) + STREAM_PAGE - 1) / STREAM_PAGE * STREAM_PAGE)

#define LAYOUT_QUEUE_STRIDE STREAM_PAGES(sizeof(struct stream_queue))
#define LAYOUT_KICK ((uint64_t)STREAM_PAGE)
#define LAYOUT_READY (LAYOUT_KICK + LAYOUT_QUEUE_STRIDE)
#define LAYOUT_SLOTS (LAYOUT_READY + STREAM_SETS * LAYOUT_QUEUE_STRIDE)
#define LAYOUT_SEND ((uint64_t)STREAM_PAGE)
#define LAYOUT_RECEIVE (LAYOUT_SEND + STREAM_RING_MAX)
#define LAYOUT_SLOT_STRIDE (LAYOUT_RECEIVE + STREAM_RING_MAX)
#define LAYOUT_SIZE (LAYOUT_SLOTS + STREAM_SLOTS * LAYOUT_SLOT_STRIDE)

_Static_assert(sizeof(struct stream_session) <= STREAM_PAGE, "the session page is one page");
_Static_assert(sizeof(struct stream_slot) <= STREAM_PAGE, "a slot's header is one page");
_Static_assert((STREAM_SLOTS & (STREAM_SLOTS - 1)) == 0, "queue indices are masked");
_Static_assert((STREAM_RING_MAX & (STREAM_RING_MAX - 1)) == 0, "ring positions are masked");
_Static_assert((STREAM_RING_MIN & (STREAM_RING_MIN - 1)) == 0, "ring positions are masked");
_Static_assert(STREAM_RING_MIN <= STREAM_RING_MAX, "ring sizes");
_Static_assert(sizeof(_Atomic uint32_t) == 4 && sizeof(_Atomic uint64_t) == 8,
               "atomics shared by two processes carry no lock");
_Static_assert(offsetof(struct stream_slot, users) == STREAM_CACHELINE, "one line per writer");
_Static_assert(offsetof(struct stream_slot, queued) == 2 * STREAM_CACHELINE, "one line per writer");

/** The numbers for the session page. */
void stream_layout_fill(struct stream_session *session);
/** True if @session (a private copy) describes this layout. */
bool stream_layout_same(const struct stream_session *session);

#endif
