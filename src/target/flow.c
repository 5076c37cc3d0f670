/* SPDX-License-Identifier: Apache-2.0 */
#include "target/flow.h"

#include <assert.h>
#include <stdlib.h>

static uint32_t flow_hash(const struct flow_table *table, const struct flow_key *key)
{
    return (uint32_t)flow_key_hash(key, table->seed);
}

bool flow_init(struct flow_table *table, uint32_t limit, uint64_t seed,
               const struct flow_key *(*key_of)(void *arg, uint32_t value), void *arg)
{
    uint32_t size = 64;

    while (size < 2 * (uint64_t)limit)
        size *= 2;
    table->slots = malloc((size_t)size * sizeof(*table->slots));
    if (!table->slots)
        return false;
    for (uint32_t i = 0; i < size; i++)
        table->slots[i] = (struct flow_slot){0, FLOW_NONE};
    table->mask = size - 1;
    table->used = 0;
    table->limit = limit;
    table->seed = seed;
    table->key_of = key_of;
    table->arg = arg;
    return true;
}

void flow_free(struct flow_table *table)
{
    free(table->slots);
    table->slots = NULL;
}

/* Slot that holds @key, or the empty slot where the search ended. */
static uint32_t flow_probe(const struct flow_table *table, const struct flow_key *key,
                           uint32_t hash)
{
    uint32_t i = hash & table->mask;

    for (;; i = (i + 1) & table->mask) {
        const struct flow_slot *s = &table->slots[i];

        if (s->value == FLOW_NONE)
            return i;
        if (s->hash == hash && flow_key_equal(table->key_of(table->arg, s->value), key))
            return i;
    }
}

uint32_t flow_find(const struct flow_table *table, const struct flow_key *key)
{
    return table->slots[flow_probe(table, key, flow_hash(table, key))].value;
}

bool flow_insert(struct flow_table *table, const struct flow_key *key, uint32_t value)
{
    uint32_t hash = flow_hash(table, key);
    uint32_t i;

    assert(value != FLOW_NONE);
    if (table->used == table->limit)
        return false;
    i = flow_probe(table, key, hash);
    if (table->slots[i].value != FLOW_NONE)
        return false;
    table->slots[i] = (struct flow_slot){hash, value};
    table->used++;
    return true;
}

bool flow_remove(struct flow_table *table, const struct flow_key *key)
{
    uint32_t hole = flow_probe(table, key, flow_hash(table, key));
    uint32_t i = hole;

    if (table->slots[hole].value == FLOW_NONE)
        return false;
    /* Move back every entry whose home lies at or before the hole, so that no search breaks off. */
    for (;;) {
        uint32_t home;

        i = (i + 1) & table->mask;
        if (table->slots[i].value == FLOW_NONE)
            break;
        home = table->slots[i].hash & table->mask;
        if (((i - home) & table->mask) >= ((i - hole) & table->mask)) {
            table->slots[hole] = table->slots[i];
            hole = i;
        }
    }
    table->slots[hole].value = FLOW_NONE;
    assert(table->used > 0);
    table->used--;
    return true;
}
