/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections the daemon knows: made by a session's ATTACH, freed when the program has let go and
 * nothing is on its way.
 */
#include "daemon/daemon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct conn **bucket_of(struct daemon *d, const struct flow_key *key)
{
    return &d->hash[flow_key_hash(key, d->hash_seed) % DAEMON_HASH];
}

struct conn *conn_create(struct daemon *d, struct session *s, uint32_t slot, int fd, uint32_t flags,
                         int *error, const char **line)
{
    struct stream_slot *shared = stream_slot_at(&s->arena, slot);
    struct flow_key key;
    struct conn *c, **bucket;
    const char *why_not;
    int rc = handoff_identify(fd, &key);

    *error = -rc;
    if (rc < 0) {
        *line = rc == -ENOTCONN ? "not connected: attach after connect() or accept()"
                                : "not a connected TCP socket";
        return NULL;
    }
    bucket = bucket_of(d, &key);
    for (c = *bucket; c; c = c->hash_next)
        if (flow_key_equal(&c->key, &key)) {
            *error = EEXIST;
            *line = "attached already: detach it first";
            return NULL;
        }
    c = calloc(1, sizeof(*c));
    if (c)
        c->block = calloc(1, tree_block_size(TcpOffloadState));
    if (!c || !c->block) {
        free(c);
        *error = ENOMEM;
        *line = "out of memory";
        return NULL;
    }
    c->id = ++d->next_conn_id;
    c->session = s;
    c->slot = slot;
    c->fd = fd;
    c->key = key;
    c->accepted = flags & PROTOCOL_ATTACH_ACCEPTED;
    c->attached_ns = c->state_since_ns = daemon_now();
    why_not = repair_why_not(fd);
    snprintf(c->why_not, sizeof(c->why_not), "%s", why_not ? why_not : "nobody asked for it");
    c->hash_next = *bucket;
    *bucket = c;
    c->next = d->conns;
    if (c->next)
        c->next->prev = c;
    d->conns = c;
    d->conn_count++;
    s->conns[slot] = c;
    s->attached++;
    atomic_store(&shared->conn_id, c->id);
    atomic_store(&shared->set, 0);
    atomic_store(&shared->queued, 0);
    atomic_store(&shared->route, STREAM_ROUTE_KERNEL);
    return c;
}

/* Out of table and list: its tuple may be attached anew. */
static void conn_unlink(struct daemon *d, struct conn *c)
{
    struct conn **link = bucket_of(d, &c->key);

    while (*link != c)
        link = &(*link)->hash_next;
    *link = c->hash_next;
    if (c->prev)
        c->prev->next = c->next;
    else
        d->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    d->conn_count--;
}

void conn_bury(struct daemon *d, struct conn *c)
{
    conn_unlink(d, c);
    c->session = NULL;
    c->zombie = true;
    c->next = d->zombies;
    d->zombies = c;
}

void conn_free(struct daemon *d, struct conn *c)
{
    if (c->zombie) {
        struct conn **link = &d->zombies;

        while (*link != c)
            link = &(*link)->next;
        *link = c->next;
    } else {
        conn_unlink(d, c);
    }
    hold_drop(&d->holds, &c->hold);
    if (c->path)
        paths_put(c->path);
    if (c->fd >= 0)
        close(c->fd);
    free(c->block);
    free(c);
}

struct conn *conn_by_id(struct daemon *d, uint32_t id)
{
    struct conn *c = d->conns;

    while (c && c->id != id)
        c = c->next;
    return c;
}
