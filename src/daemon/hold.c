/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/hold.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void hold_table_init(struct hold_table *table, uint64_t seed)
{
    memset(table, 0, sizeof(*table));
    pthread_mutex_init(&table->lock, NULL);
    table->seed = seed;
}

void hold_table_free(struct hold_table *table)
{
    pthread_mutex_destroy(&table->lock);
}

static struct hold **bucket_of(struct hold_table *table, const struct flow_key *key)
{
    return &table->buckets[flow_key_hash(key, table->seed) % HOLD_BUCKETS];
}

void hold_open(struct hold_table *table, struct hold *hold, const struct flow_key *key)
{
    struct hold **bucket;

    assert(!hold->open);
    memset(hold, 0, sizeof(*hold));
    hold->key = *key;
    hold->tail = &hold->head;
    hold->open = true;
    bucket = bucket_of(table, key);
    pthread_mutex_lock(&table->lock);
    hold->hash_next = *bucket;
    *bucket = hold;
    atomic_fetch_add(&table->open, 1);
    pthread_mutex_unlock(&table->lock);
}

bool hold_put(struct hold_table *table, const struct flow_key *key, const uint8_t *frame,
              uint32_t length)
{
    struct hold *hold;

    if (atomic_load_explicit(&table->open, memory_order_acquire) == 0)
        return false;
    pthread_mutex_lock(&table->lock);
    for (hold = *bucket_of(table, key); hold; hold = hold->hash_next)
        if (flow_key_equal(&hold->key, key))
            break;
    if (hold) {
        struct hold_frame *f = NULL;

        if (hold->frames < HOLD_MAX_FRAMES && hold->bytes + length <= HOLD_MAX_BYTES)
            f = malloc(sizeof(*f) + length);
        if (f) {
            f->next = NULL;
            f->length = length;
            memcpy(f->data, frame, length);
            *hold->tail = f;
            hold->tail = &f->next;
            if (!hold->cursor)
                hold->cursor = f;
            hold->frames++;
            hold->bytes += length;
        } else {
            hold->dropped++;
        }
    }
    pthread_mutex_unlock(&table->lock);
    return hold != NULL;
}

struct hold_frame *hold_next_frame(struct hold_table *table, struct hold *hold)
{
    struct hold_frame *f;

    pthread_mutex_lock(&table->lock);
    f = hold->cursor;
    if (f)
        hold->cursor = f->next;
    pthread_mutex_unlock(&table->lock);
    return f;
}

bool hold_next(struct hold_table *table, struct hold *hold, const uint8_t **frame, uint32_t *length)
{
    struct hold_frame *f = hold_next_frame(table, hold);

    if (!f)
        return false;
    *frame = f->data;
    *length = f->length;
    return true;
}

void hold_rewind(struct hold_table *table, struct hold *hold)
{
    pthread_mutex_lock(&table->lock);
    hold->cursor = hold->head;
    pthread_mutex_unlock(&table->lock);
}

static void hold_remove(struct hold_table *table, struct hold *hold)
{
    struct hold **link = bucket_of(table, &hold->key);

    while (*link != hold)
        link = &(*link)->hash_next;
    *link = hold->hash_next;
    hold->open = false;
    atomic_fetch_sub(&table->open, 1);
}

static void hold_free_frames(struct hold *hold)
{
    while (hold->head) {
        struct hold_frame *f = hold->head;

        hold->head = f->next;
        free(f);
    }
    hold->tail = &hold->head;
    hold->cursor = NULL;
}

bool hold_close(struct hold_table *table, struct hold *hold)
{
    bool closed = false;

    pthread_mutex_lock(&table->lock);
    if (!hold->cursor) {
        hold_remove(table, hold);
        closed = true;
    }
    pthread_mutex_unlock(&table->lock);
    if (closed)
        hold_free_frames(hold);
    return closed;
}

void hold_drop(struct hold_table *table, struct hold *hold)
{
    pthread_mutex_lock(&table->lock);
    if (hold->open)
        hold_remove(table, hold);
    pthread_mutex_unlock(&table->lock);
    hold_free_frames(hold);
}
