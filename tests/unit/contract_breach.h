/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A world for tests of the verifier: a host above it and the scripted target below it, three
 * objects and a spare of each, and the list of what was found.
 */
#ifndef CHIMNEY_TEST_CONTRACT_BREACH_H
#define CHIMNEY_TEST_CONTRACT_BREACH_H

#include "contract_host.h"

#define RING 4096u

struct world {
    struct fake f;
    struct chimney_target *v;
    struct findings found;
    struct host h;
    struct host_neighbor n, n2;
    struct host_path p, p2;
    struct host_conn c, c2;
    struct chimney_segment segment;
    uint8_t frame[64];
    uint64_t aux;
};

void world_init(struct world *w);
/** Frees what the world holds; the verifier is destroyed before. */
void world_free(struct world *w);

/** Offloads the first connection with its path and neighbor, or both of them. */
void offload(struct world *w);
void offload_two(struct world *w);
/** An initiate of the first connection, called but not done. */
struct host_tree *initiate(struct world *w);
/** A sound tree of three new blocks, not called yet: 0 neighbor, 1 path, 2 connection. */
struct host_tree *new_tree(struct world *w);
/** A terminate of the first connection, called but not done. */
struct host_tree *terminate(struct world *w);

/** What the target below calls the first connection. */
void *handle(const struct world *w);
/** The target indicates: a retrieve, a status, the end of sends, a reachability question. */
void retrieve(struct world *w, enum chimney_upload_reason reason);
void indicate_status(struct world *w, chimney_status status);
void send_done(struct world *w, uint64_t acked, chimney_status status);
void ask_about(struct world *w, enum chimney_state_type type, void *about);
/** For host.inside: an initiate from inside an indication. */
void inside_initiate(struct host *h, const struct log_entry *entry);
struct chimney_span span(uint64_t begin, uint64_t end);

struct breach_case {
    int row; /* the first finding */
    void (*commit)(struct world *w);
    const char *name;
    int more; /* breaches that follow of themselves */
};
#define CASE(row, commit)                                                                          \
    {                                                                                              \
        row, commit, #commit, 0                                                                    \
    }
#define CASE_AND(row, commit, more)                                                                \
    {                                                                                              \
        row, commit, #commit, more                                                                 \
    }
/** Each in a world of its own; fails if the findings are not exactly those expected of @who. */
void every_breach_is_named(const char *who, const struct breach_case *cases, size_t count);

#endif
