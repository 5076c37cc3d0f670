/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ownership ledger: open addressing, linear probing, deletion by shifting back, at most three
 * quarters full.
 */
#include "contract/ledger.h"

#include <stdlib.h>

#define LEDGER_FIRST_SIZE 64u

void ledger_init(struct ledger *ledger)
{
    *ledger = (struct ledger){0};
}

void ledger_free(struct ledger *ledger)
{
    free(ledger->items);
    ledger_init(ledger);
}

/** Where an item belongs: addresses are multiples of 8 or small numbers, so mix them well. */
static size_t home_of(const struct ledger *ledger, enum ledger_kind kind, const void *key)
{
    uint64_t x = (uint64_t)(uintptr_t)key * 8 + (uint64_t)kind;

    x ^= x >> 33;
    x *= 0xFF51AFD7ED558CCDull;
    x ^= x >> 33;
    return (size_t)x & (ledger->size - 1);
}

/** The item's place, or the empty place where the search ended.  The table has an empty place. */
static size_t place_of(const struct ledger *ledger, enum ledger_kind kind, const void *key)
{
    size_t at = home_of(ledger, kind, key);

    while (ledger->items[at].key &&
           (ledger->items[at].key != key || ledger->items[at].kind != kind))
        at = (at + 1) & (ledger->size - 1);
    return at;
}

static struct ledger_item *item_of(const struct ledger *ledger, enum ledger_kind kind,
                                   const void *key)
{
    struct ledger_item *item;

    if (!ledger->size || !key)
        return NULL;
    item = &ledger->items[place_of(ledger, kind, key)];
    return item->key ? item : NULL;
}

static bool grow(struct ledger *ledger)
{
    struct ledger larger = *ledger;

    larger.size = ledger->size ? ledger->size * 2 : LEDGER_FIRST_SIZE;
    larger.items = calloc(larger.size, sizeof(*larger.items));
    if (!larger.items)
        return false;
    for (size_t i = 0; i < ledger->size; i++) {
        const struct ledger_item *item = &ledger->items[i];

        if (item->key)
            larger.items[place_of(&larger, item->kind, item->key)] = *item;
    }
    free(ledger->items);
    *ledger = larger;
    return true;
}

enum ledger_result ledger_open(struct ledger *ledger, enum ledger_kind kind, const void *key,
                               enum ledger_owner owner, void *what)
{
    size_t at;

    if ((ledger->used + 1) * 4 > ledger->size * 3 && !grow(ledger))
        return LEDGER_NO_MEMORY;
    at = place_of(ledger, kind, key);
    if (ledger->items[at].key)
        return LEDGER_TWICE;
    ledger->items[at] = (struct ledger_item){
        .key = key, .what = what, .kind = (uint8_t)kind, .owner = (uint8_t)owner};
    ledger->used++;
    ledger->opened++;
    return LEDGER_OK;
}

enum ledger_result ledger_hand_over(struct ledger *ledger, enum ledger_kind kind, const void *key,
                                    enum ledger_owner from)
{
    struct ledger_item *item = item_of(ledger, kind, key);

    if (!item)
        return LEDGER_MISSING;
    if (item->owner != from)
        return LEDGER_NOT_OWNER;
    item->owner = from == LEDGER_HOST ? LEDGER_TARGET : LEDGER_HOST;
    return LEDGER_OK;
}

enum ledger_result ledger_close(struct ledger *ledger, enum ledger_kind kind, const void *key,
                                enum ledger_owner owner)
{
    struct ledger_item *item = item_of(ledger, kind, key);
    size_t hole, at;

    if (!item)
        return LEDGER_MISSING;
    if (item->owner != owner)
        return LEDGER_NOT_OWNER;
    /* Whoever was pushed past the hole moves back, so that a search never stops short. */
    hole = at = (size_t)(item - ledger->items);
    for (;;) {
        const struct ledger_item *next;
        size_t home;

        at = (at + 1) & (ledger->size - 1);
        next = &ledger->items[at];
        if (!next->key)
            break;
        home = home_of(ledger, next->kind, next->key);
        if (((at - home) & (ledger->size - 1)) >= ((at - hole) & (ledger->size - 1))) {
            ledger->items[hole] = *next;
            hole = at;
        }
    }
    ledger->items[hole].key = NULL;
    ledger->used--;
    ledger->closed++;
    return LEDGER_OK;
}

void *ledger_find(const struct ledger *ledger, enum ledger_kind kind, const void *key)
{
    const struct ledger_item *item = item_of(ledger, kind, key);

    return item ? item->what : NULL;
}

void ledger_leaks(const struct ledger *ledger, void (*leak)(void *arg, const struct ledger_item *),
                  void *arg)
{
    for (size_t i = 0; i < ledger->size; i++) {
        if (ledger->items[i].key)
            leak(arg, &ledger->items[i]);
    }
}

const char *ledger_kind_name(enum ledger_kind kind)
{
    switch (kind) {
    case LEDGER_TREE:
        return "tree";
    case LEDGER_OBJECT:
        return "object";
    case LEDGER_CELL:
        return "cell";
    case LEDGER_FORWARD:
        return "forwarded segment";
    case LEDGER_CONTEXT:
    case LEDGER_CONTEXT_PATH:
    case LEDGER_CONTEXT_TCP:
        return "context";
    }
    return "?";
}
