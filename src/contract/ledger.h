/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ownership ledger: who holds what right now.
 *
 * Everything that crosses the boundary between host and target (a tree of blocks, an object, a
 * forwarded segment) is open from the call that hands it over to the call that hands it back, and
 * has exactly one owner meanwhile.  Opened twice, closed twice, closed by somebody who does not own
 * it, never closed: each is a breach, and each is a result of these functions.
 *
 * A hash table of open items, keyed by kind and address.  Memory grows with the number of items
 * that are open at the same time and never with the number of calls.
 */
#ifndef CHIMNEY_CONTRACT_LEDGER_H
#define CHIMNEY_CONTRACT_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ledger_kind {
    LEDGER_TREE = 1, /* a verb under way; key: its root */
    LEDGER_OBJECT,   /* key: the handle the target was given */
    LEDGER_CELL,     /* a host's cell in use; key: the cell */
    LEDGER_FORWARD,  /* a forwarded segment; key: the segment */
    /* Context values a target gave; key: the value.  One kind per layer: neighbor, path, TCP. */
    LEDGER_CONTEXT,
    LEDGER_CONTEXT_PATH,
    LEDGER_CONTEXT_TCP,
};

enum ledger_owner { LEDGER_HOST, LEDGER_TARGET };

enum ledger_result {
    LEDGER_OK = 0,
    LEDGER_TWICE,     /* open already */
    LEDGER_MISSING,   /* not open: never was, or closed already */
    LEDGER_NOT_OWNER, /* open, but somebody else holds it */
    LEDGER_NO_MEMORY,
};

struct ledger_item {
    const void *key;
    void *what; /* the caller's record of it */
    uint8_t kind, owner;
};

struct ledger {
    struct ledger_item *items; /* key NULL: empty */
    size_t size, used;         /* size is 0 or a power of two */
    uint64_t opened, closed;
};

void ledger_init(struct ledger *ledger);
void ledger_free(struct ledger *ledger);
/** Opens (@kind, @key), held by @owner.  @key is not NULL. */
enum ledger_result ledger_open(struct ledger *ledger, enum ledger_kind kind, const void *key,
                               enum ledger_owner owner, void *what);
/** Hands an open item from @from to the other side. */
enum ledger_result ledger_hand_over(struct ledger *ledger, enum ledger_kind kind, const void *key,
                                    enum ledger_owner from);
/** Closes an item that @owner holds. */
enum ledger_result ledger_close(struct ledger *ledger, enum ledger_kind kind, const void *key,
                                enum ledger_owner owner);
/** What was recorded with an open item, or NULL if it is not open. */
void *ledger_find(const struct ledger *ledger, enum ledger_kind kind, const void *key);
/** Calls @leak for every open item, in no particular order; it must not change the ledger. */
void ledger_leaks(const struct ledger *ledger, void (*leak)(void *arg, const struct ledger_item *),
                  void *arg);
const char *ledger_kind_name(enum ledger_kind kind);

#endif
