/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flow table: 4-tuple to connection.  Open addressing with linear probing and backward-shift
 * deletion, sized at start to at most half full; the hash is seeded so that a peer cannot choose
 * ports that collide.
 */
#ifndef CHIMNEY_TARGET_FLOW_H
#define CHIMNEY_TARGET_FLOW_H

#include <stdbool.h>
#include <stdint.h>
#include "wire/wire.h"

#define FLOW_NONE UINT32_MAX

struct flow_slot {
    uint32_t hash;
    uint32_t value; /* FLOW_NONE: empty */
};

struct flow_table {
    struct flow_slot *slots;
    uint32_t mask, used, limit;
    uint64_t seed;
    /** The key stored for a value; keys live with the connections, once. */
    const struct flow_key *(*key_of)(void *arg, uint32_t value);
    void *arg;
};

/** @limit: entries at most.  Returns false when memory is short. */
bool flow_init(struct flow_table *table, uint32_t limit, uint64_t seed,
               const struct flow_key *(*key_of)(void *arg, uint32_t value), void *arg);
void flow_free(struct flow_table *table);
/** Value of @key, or FLOW_NONE. */
uint32_t flow_find(const struct flow_table *table, const struct flow_key *key);
/** False if the table is full or the key is there already. */
bool flow_insert(struct flow_table *table, const struct flow_key *key, uint32_t value);
/** False if the key is not there. */
bool flow_remove(struct flow_table *table, const struct flow_key *key);

#endif
