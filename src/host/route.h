/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Routes and neighbors of the kernel over rtnetlink (libmnl): what path and neighbor objects are
 * made of, and the changes that become updates.  Control thread only.
 */
#ifndef CHIMNEY_HOST_ROUTE_H
#define CHIMNEY_HOST_ROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "wire/wire.h"

struct route_table;

struct route_entry {
    int ifindex;
    uint8_t family;          /* 4 or 6 */
    uint8_t nexthop[16];     /* gateway, or the destination itself */
    uint8_t mac[6];          /* of the next hop */
    uint8_t src_mac[6];      /* of the interface */
    uint32_t mtu;            /* of the route, else of the interface */
    uint32_t confirmed_ms;   /* since the kernel last confirmed the neighbor */
    uint16_t neighbor_state; /* NUD_* */
};

int route_open(struct route_table **out, char *err, size_t errlen);
void route_close(struct route_table *table);
/**
 * Looks up how @key's packets leave.  -EHOSTUNREACH: no route; -EAGAIN: the next hop has no
 * link-layer address yet (resolution is started); -EOPNOTSUPP: multipath, tunnel, blackhole, local.
 */
int route_lookup(struct route_table *table, const struct flow_key *key, struct route_entry *out);

/* Changes.  The descriptor becomes readable; route_dispatch() calls back for each. */
enum route_change { ROUTE_NEIGHBOR, ROUTE_NEIGHBOR_GONE, ROUTE_ROUTE, ROUTE_LINK };
struct route_event {
    enum route_change change;
    int ifindex;
    uint8_t family;
    uint8_t address[16]; /* of the neighbor */
    uint8_t mac[6];
    bool link_up;
    uint32_t mtu;
};
int route_fd(const struct route_table *table);
/** 0, or -ENOBUFS when notices were lost: the caller re-examines everything. */
int route_dispatch(struct route_table *table,
                   void (*changed)(void *arg, const struct route_event *event), void *arg);
/** Tells the kernel that @nexthop answered just now (contract.md 4.2). */
int route_confirm(struct route_table *table, const struct route_entry *entry);

#endif
