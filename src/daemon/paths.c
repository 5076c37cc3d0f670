/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Path and neighbor objects in the host's hands: made when a connection needs them, offloaded with
 * its initiate, updated when the kernel's routing changes, terminated when nobody hangs on them.
 *
 * One verb per object is under way at a time (C143); what changes meanwhile is done afterwards
 * (update_again).  A connection never changes its path (C201): if its route moves to another next
 * hop, it is uploaded and may be offloaded again over the new one.
 */
#include "daemon/daemon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct port_ctx *port_by_ifindex(struct daemon *d, int ifindex)
{
    for (unsigned i = 0; i < d->port_count; i++)
        if (d->ports[i].ifindex == ifindex)
            return &d->ports[i];
    return NULL;
}

static struct neighbor_obj *neighbor_get(struct port_ctx *p, const struct route_entry *route)
{
    struct neighbor_obj *n;

    for (n = p->neighbors; n; n = n->next)
        if (n->route.family == route->family &&
            memcmp(n->route.nexthop, route->nexthop, sizeof(route->nexthop)) == 0)
            return n;
    n = calloc(1, sizeof(*n));
    if (!n)
        return NULL;
    n->block = calloc(1, tree_block_size(NeighborOffloadState));
    if (!n->block) {
        free(n);
        return NULL;
    }
    n->port = p;
    n->route = *route;
    n->next = p->neighbors;
    p->neighbors = n;
    return n;
}

struct path_obj *paths_get(struct daemon *d, struct port_ctx **port, const struct flow_key *key,
                           char *why, size_t whylen)
{
    struct route_entry route;
    struct port_ctx *p;
    struct path_obj *path;
    int rc = route_lookup(d->routes, key, &route);

    switch (rc) {
    case 0:
        break;
    case -EHOSTUNREACH:
        snprintf(why, whylen, "no route to the peer");
        return NULL;
    case -EAGAIN:
        snprintf(why, whylen, "the next hop has no link-layer address yet");
        return NULL;
    default:
        snprintf(why, whylen, "its route cannot be offloaded: %s", strerror(-rc));
        return NULL;
    }
    p = port_by_ifindex(d, route.ifindex);
    if (!p) {
        snprintf(why, whylen, "its route leaves by interface %d, which is not a port of chimneyd",
                 route.ifindex);
        return NULL;
    }
    *port = p;
    for (path = p->paths; path; path = path->next)
        if (path->family == key->family && memcmp(path->source, key->local_addr, 16) == 0 &&
            memcmp(path->destination, key->remote_addr, 16) == 0 &&
            memcmp(path->neighbor->route.nexthop, route.nexthop, 16) == 0)
            break;
    if (!path) {
        path = calloc(1, sizeof(*path));
        if (path)
            path->block = calloc(1, tree_block_size(Ip6OffloadState));
        if (path && path->block)
            path->neighbor = neighbor_get(p, &route);
        if (!path || !path->block || !path->neighbor) {
            if (path)
                free(path->block);
            free(path);
            snprintf(why, whylen, "out of memory");
            return NULL;
        }
        path->family = (uint8_t)key->family;
        memcpy(path->source, key->local_addr, 16);
        memcpy(path->destination, key->remote_addr, 16);
        path->mtu = route.mtu;
        path->neighbor->refs++;
        path->next = p->paths;
        p->paths = path;
    }
    path->refs++;
    return path;
}

void paths_put(struct path_obj *path)
{
    path->refs--;
}

static void free_path(struct port_ctx *p, struct path_obj *path)
{
    struct path_obj **link = &p->paths;

    while (*link != path)
        link = &(*link)->next;
    *link = path->next;
    path->neighbor->refs--;
    free(path->block);
    free(path);
}

static void free_neighbor(struct port_ctx *p, struct neighbor_obj *n)
{
    struct neighbor_obj **link = &p->neighbors;

    while (*link != n)
        link = &(*link)->next;
    *link = n->next;
    free(n->block);
    free(n);
}

static void post_verb(struct port_ctx *p, enum tree_verb verb, struct chimney_block *root)
{
    struct mail mail = {.kind = MAIL_VERB, .port = p, .verb = verb, .root = root};

    worker_post(p->daemon, &mail);
}

static struct chimney_block *path_block(struct path_obj *path, bool delegated)
{
    enum chimney_state_type type =
        path->family == 4 ? (delegated ? Ip4OffloadDelegatedState : Ip4OffloadCachedState)
                          : (delegated ? Ip6OffloadDelegatedState : Ip6OffloadCachedState);
    struct chimney_block *b = tree_block_init(path->block, type);

    b->cell = &path->cell;
    b->host_handle = path;
    return b;
}

static struct chimney_block *neighbor_block(struct neighbor_obj *n, enum chimney_state_type type)
{
    struct chimney_block *b = tree_block_init(n->block, type);

    b->cell = &n->cell;
    b->host_handle = n;
    return b;
}

void paths_collect(struct daemon *d, struct port_ctx *p)
{
    struct path_obj *path, *next_path;
    struct neighbor_obj *n, *next_n;

    (void)d;
    if (p->initiate)
        return; /* its tree refers to some of them */
    for (path = p->paths; path; path = next_path) {
        next_path = path->next;
        if (path->refs > 0 || path->busy)
            continue;
        if (path->offloaded) {
            path->busy = true;
            p->terminates++;
            post_verb(p, TREE_TERMINATE, path_block(path, true));
        } else {
            free_path(p, path);
        }
    }
    for (n = p->neighbors; n; n = next_n) {
        next_n = n->next;
        if (n->refs > 0 || n->busy)
            continue;
        if (n->offloaded) {
            n->busy = true;
            p->terminates++;
            post_verb(p, TREE_TERMINATE, neighbor_block(n, NeighborOffloadDelegatedState));
        } else {
            free_neighbor(p, n);
        }
    }
}

static void update_neighbor(struct port_ctx *p, struct neighbor_obj *n)
{
    struct chimney_block *b;

    if (!n->offloaded)
        return;
    if (n->busy || p->initiate) {
        n->update_again = true;
        return;
    }
    n->busy = true;
    n->update_again = false;
    b = neighbor_block(n, NeighborOffloadCachedState);
    memcpy(tree_neighbor_cached(b)->dl_destination_address, n->route.mac, 6);
    post_verb(p, TREE_UPDATE, b);
}

static void update_path(struct port_ctx *p, struct path_obj *path)
{
    struct chimney_block *b;

    if (!path->offloaded)
        return;
    if (path->busy || p->initiate) {
        path->update_again = true;
        return;
    }
    path->busy = true;
    path->update_again = false;
    b = path_block(path, false);
    tree_path_cached(b)->path_mtu = path->mtu;
    post_verb(p, TREE_UPDATE, b);
}

static void upload_path(struct daemon *d, struct path_obj *path, const char *why)
{
    for (struct conn *c = d->conns; c; c = c->next)
        if (c->path == path)
            move_upload(d, &c, 1, InvalidState, why);
}

/* Asks the kernel again how each path goes. */
static void reexamine_port(struct daemon *d, struct port_ctx *p)
{
    for (struct path_obj *path = p->paths; path; path = path->next) {
        struct flow_key key = {.family = path->family};
        struct route_entry route;
        int rc;

        if (path->refs == 0)
            continue;
        memcpy(key.local_addr, path->source, 16);
        memcpy(key.remote_addr, path->destination, 16);
        rc = route_lookup(d->routes, &key, &route);
        if (rc == -EAGAIN)
            continue; /* being resolved: a neighbor notice will follow */
        if (rc < 0 || route.ifindex != p->ifindex ||
            memcmp(route.nexthop, path->neighbor->route.nexthop, 16) != 0) {
            upload_path(d, path, "route changed");
            continue;
        }
        if (memcmp(route.mac, path->neighbor->route.mac, 6) != 0) {
            path->neighbor->route = route;
            update_neighbor(p, path->neighbor);
        }
        if (route.mtu != path->mtu) {
            path->mtu = route.mtu;
            if (route.mtu > p->caps.max_path_mtu)
                upload_path(d, path, "path MTU larger than the port's");
            else
                update_path(p, path);
        }
    }
}

void paths_reexamine(struct daemon *d)
{
    for (unsigned i = 0; i < d->port_count; i++)
        reexamine_port(d, &d->ports[i]);
}

void paths_changed(struct daemon *d, const struct route_event *event)
{
    struct port_ctx *p;

    if (event->change == ROUTE_ROUTE) {
        paths_reexamine(d);
        return;
    }
    p = port_by_ifindex(d, event->ifindex);
    if (!p)
        return;
    switch (event->change) {
    case ROUTE_NEIGHBOR:
        for (struct neighbor_obj *n = p->neighbors; n; n = n->next)
            if (n->route.family == event->family &&
                memcmp(n->route.nexthop, event->address, 16) == 0 &&
                memcmp(n->route.mac, event->mac, 6) != 0) {
                memcpy(n->route.mac, event->mac, 6);
                update_neighbor(p, n);
            }
        break;
    case ROUTE_LINK:
        if (p->link_up != event->link_up) {
            p->link_up = event->link_up;
            event_simple(d, "port", p->ifname, NULL, event->link_up ? "link up" : "link down");
        }
        reexamine_port(d, p);
        break;
    case ROUTE_NEIGHBOR_GONE: /* the kernel forgets what it does not use; ours stays as it was */
    case ROUTE_ROUTE:
        break;
    }
}

/* Each block of a completed verb of paths and neighbors. */
static void object_done(struct port_ctx *p, enum tree_verb verb, struct chimney_block *b)
{
    if (tree_block_layer(b) == TREE_PATH) {
        struct path_obj *path = b->host_handle;

        path->busy = false;
        if (verb == TREE_TERMINATE && b->status == NDIS_STATUS_SUCCESS) {
            path->offloaded = false;
            path->cell.context = NULL;
        } else if (verb == TREE_UPDATE && b->status != NDIS_STATUS_SUCCESS) {
            upload_path(p->daemon, path, "path update failed"); /* C203 */
        }
        if (path->update_again)
            update_path(p, path);
    } else if (tree_block_layer(b) == TREE_NEIGHBOR) {
        struct neighbor_obj *n = b->host_handle;

        n->busy = false;
        if (verb == TREE_TERMINATE && b->status == NDIS_STATUS_SUCCESS) {
            n->offloaded = false;
            n->cell.context = NULL;
        }
        if (n->update_again)
            update_neighbor(p, n);
    }
}

void paths_verb_done(struct daemon *d, struct port_ctx *p, enum tree_verb verb,
                     struct chimney_block *root)
{
    object_done(p, verb, root);
    if (verb == TREE_TERMINATE)
        paths_collect(d, p);
}
