/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hold lists: frames of a connection that has no owner at the moment.
 *
 * From the moment a flow is steered until its initiate is complete, and from its terminate until it
 * is restored, the target passes its frames up the non-offload path.  They are kept here in order
 * of arrival (contract rows C212, C318) and then forwarded to the target, appended to the restored
 * socket, or reinjected into the kernel.  The worker puts in, the control thread takes out: one
 * mutex, only used while something is on its way.
 */
#ifndef CHIMNEY_DAEMON_HOLD_H
#define CHIMNEY_DAEMON_HOLD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <chimney/target.h>
#include "wire/wire.h"

/** Frames and bytes one connection may hold; beyond it frames are dropped (the peer retransmits).
 */
#define HOLD_MAX_FRAMES 8192u
#define HOLD_MAX_BYTES (16u << 20)
#define HOLD_BUCKETS 4096u

struct hold_frame {
    struct hold_frame *next;
    struct chimney_segment segment; /* while it is forwarded to a target */
    uint32_t length;
    uint8_t data[];
};

/** One per connection, inside it. */
struct hold {
    struct flow_key key;
    struct hold *hash_next;
    bool open;
    struct hold_frame *head, **tail, *cursor;
    uint32_t frames;
    uint64_t bytes, dropped;
};

struct hold_table {
    pthread_mutex_t lock;
    _Atomic uint32_t open; /* lists open now: 0 means nobody needs to look */
    uint64_t seed;
    struct hold *buckets[HOLD_BUCKETS];
};

void hold_table_init(struct hold_table *table, uint64_t seed);
void hold_table_free(struct hold_table *table);
/** From now on frames of @key are kept in @hold. */
void hold_open(struct hold_table *table, struct hold *hold, const struct flow_key *key);
/** Keeps a copy if the flow's list is open: true.  False: nobody holds this flow. */
bool hold_put(struct hold_table *table, const struct flow_key *key, const uint8_t *frame,
              uint32_t length);
/** Next frame not yet read; the frame stays until hold_close().  False: none now. */
bool hold_next(struct hold_table *table, struct hold *hold, const uint8_t **frame,
               uint32_t *length);
/** The same, as the frame's own record; NULL: none now. */
struct hold_frame *hold_next_frame(struct hold_table *table, struct hold *hold);
void hold_rewind(struct hold_table *table, struct hold *hold);
/**
 * Closes the list unless there are frames not yet read: then returns false and the caller reads on.
 * True: closed, everything freed; later frames of this flow find nobody.
 */
bool hold_close(struct hold_table *table, struct hold *hold);
/** Closes it whatever is in it. */
void hold_drop(struct hold_table *table, struct hold *hold);

#endif
