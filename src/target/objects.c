/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State objects of the software target: tables, taking over at an initiate, freeing after a
 * terminate.  The statuses are those of contract.md 2.3, one cause each.
 */
#include "target/internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const struct flow_key *conn_key_of(void *arg, uint32_t value)
{
    return &((struct target *)arg)->conns[value].key;
}

bool objects_create(struct target *t)
{
    const struct target_config *cfg = &t->config;

    t->engine_size = (tcp_conn_size() + 63) & ~(size_t)63;
    t->neighbors = calloc(cfg->max_neighbors, sizeof(*t->neighbors));
    t->paths = calloc(cfg->max_paths, sizeof(*t->paths));
    t->conns = calloc(cfg->max_connections, sizeof(*t->conns));
    t->engines = aligned_alloc(64, t->engine_size * cfg->max_connections);
    if (!t->neighbors || !t->paths || !t->conns || !t->engines ||
        !timers_init(&t->timers, cfg->max_connections) ||
        !flow_init(&t->flows, cfg->max_connections, cfg->hash_seed, conn_key_of, t))
        return false;
    for (uint32_t i = cfg->max_neighbors; i-- > 0;) {
        t->neighbors[i].next_free = t->free_neighbor;
        t->free_neighbor = &t->neighbors[i];
    }
    for (uint32_t i = cfg->max_paths; i-- > 0;) {
        t->paths[i].next_free = t->free_path;
        t->free_path = &t->paths[i];
    }
    for (uint32_t i = cfg->max_connections; i-- > 0;) {
        t->conns[i].engine = (struct tcp_conn *)(t->engines + i * t->engine_size);
        t->conns[i].next_free = t->free_conn;
        t->free_conn = &t->conns[i];
    }
    return true;
}

void objects_destroy(struct target *t)
{
    free(t->neighbors);
    free(t->paths);
    free(t->conns);
    free(t->engines);
    timers_free(&t->timers);
    flow_free(&t->flows);
}

struct target_neighbor *objects_neighbor(struct target *t, const struct chimney_cell *cell)
{
    struct target_neighbor *n = cell->context;

    assert(n >= t->neighbors && n < t->neighbors + t->config.max_neighbors && n->used);
    return n;
}

struct target_path *objects_path(struct target *t, const struct chimney_cell *cell)
{
    struct target_path *p = cell->context;

    assert(p >= t->paths && p < t->paths + t->config.max_paths && p->used);
    return p;
}

struct target_conn *objects_conn(struct target *t, const struct chimney_cell *cell)
{
    struct target_conn *c = cell->context;

    assert(c >= t->conns && c < t->conns + t->config.max_connections && c->used);
    return c;
}

static bool injected(struct target *t, enum target_fault what, struct chimney_block *block)
{
    return t->config.fault && t->config.fault(t->config.arg, what, block);
}

/* contract.md 6.4: may this VLAN id be used, and is there room for one more? */
static chimney_status neighbor_vlan(const struct target *t, uint16_t vlan)
{
    uint32_t distinct = 0;
    bool known = false;

    if (vlan == 0)
        return NDIS_STATUS_SUCCESS;
    if (vlan > 0xfff)
        return NDIS_STATUS_FAILURE;
    if (t->config.vlan_count > 0) {
        for (unsigned i = 0; i < t->config.vlan_count; i++)
            known |= t->config.vlan_ids[i] == vlan;
        if (!known)
            return NDIS_STATUS_OFFLOAD_VLAN_MISMATCH;
    }
    for (uint32_t i = 0; i < t->config.max_neighbors; i++) {
        const struct target_neighbor *n = &t->neighbors[i];
        bool first = n->used && n->vlan_id != 0;

        if (n->used && n->vlan_id == vlan)
            return NDIS_STATUS_SUCCESS;
        for (uint32_t j = 0; first && j < i; j++)
            first = !(t->neighbors[j].used && t->neighbors[j].vlan_id == n->vlan_id);
        distinct += first;
    }
    return distinct < t->config.max_vlans ? NDIS_STATUS_SUCCESS : NDIS_STATUS_OFFLOAD_VLAN_ENTRIES;
}

chimney_status objects_take_neighbor(void *arg, struct chimney_block *block, void **context)
{
    static const uint8_t zero[CHIMNEY_MAC_BYTES];
    struct target *t = arg;
    const struct chimney_neighbor_const *constant = tree_neighbor_const(block);
    const struct chimney_neighbor_cached *cached = tree_neighbor_cached(block);
    struct target_neighbor *n = t->free_neighbor;
    uint32_t ticks = state_ticks(t);
    chimney_status status;
    bool own_mac;

    if (injected(t, TARGET_FAULT_MEMORY, block))
        return NDIS_STATUS_RESOURCES;
    if (injected(t, TARGET_FAULT_TAKE, block))
        return NDIS_STATUS_FAILURE;
    own_mac = memcmp(constant->dl_source_address, zero, sizeof(zero)) == 0;
    /* The port receives frames to its own address only; another source could not be answered. */
    if (!own_mac && memcmp(constant->dl_source_address, t->port->caps.mac, 6) != 0)
        return NDIS_STATUS_OFFLOAD_HW_ADDRESS_ENTRIES;
    status = neighbor_vlan(t, constant->vlan_id);
    if (status != NDIS_STATUS_SUCCESS)
        return status;
    if (!n)
        return NDIS_STATUS_OFFLOAD_NEIGHBOR_ENTRIES;
    t->free_neighbor = n->next_free;
    memset(n, 0, sizeof(*n));
    n->used = true;
    n->host_handle = block->host_handle;
    n->vlan_id = constant->vlan_id;
    memcpy(n->src_mac, t->port->caps.mac, 6);
    memcpy(n->const_source, constant->dl_source_address, 6);
    memcpy(n->dst_mac, cached->dl_destination_address, 6);
    /* At offload HRD is the host's, and NRD starts from the same moment (contract.md 4.2). */
    n->hrt = n->nrt = ticks - cached->host_reachability_delta;
    t->neighbor_count++;
    *context = n;
    return NDIS_STATUS_SUCCESS;
}

/* Room for the source address: it is in use already, or a slot is free. */
static bool path_source_fits(const struct target *t, uint8_t family, const uint8_t *source)
{
    size_t bytes = family == 4 ? 4 : 16;
    uint32_t distinct = 0;

    for (uint32_t i = 0; i < t->config.max_paths; i++) {
        const struct target_path *p = &t->paths[i];
        bool first = p->used;

        if (p->used && p->family == family && memcmp(p->source, source, bytes) == 0)
            return true;
        for (uint32_t j = 0; first && j < i; j++)
            first = !(t->paths[j].used && t->paths[j].family == p->family &&
                      memcmp(t->paths[j].source, p->source, 16) == 0);
        distinct += first;
        if (distinct >= t->config.max_source_addresses)
            break;
    }
    return distinct < t->config.max_source_addresses;
}

chimney_status objects_take_path(void *arg, struct chimney_block *block, void *neighbor,
                                 void **context)
{
    struct target *t = arg;
    const struct chimney_path_const *constant = tree_path_const(block);
    const struct chimney_path_cached *cached = tree_path_cached(block);
    struct target_path *p = t->free_path;
    uint8_t family = block->header.type >= Ip6OffloadConstState ? 6 : 4;
    size_t bytes = family == 4 ? 4 : 16;

    if (injected(t, TARGET_FAULT_MEMORY, block))
        return NDIS_STATUS_RESOURCES;
    if (injected(t, TARGET_FAULT_TAKE, block))
        return NDIS_STATUS_FAILURE;
    if (!neighbor)
        return NDIS_STATUS_FAILURE; /* under a placeholder: nothing to link to */
    if (cached->path_mtu > t->config.max_path_mtu)
        return NDIS_STATUS_OFFLOAD_PATH_MTU;
    if (!p)
        return NDIS_STATUS_OFFLOAD_PATH_ENTRIES;
    if (!path_source_fits(t, family, constant->source_address))
        return NDIS_STATUS_OFFLOAD_IP_ADDRESS_ENTRIES;
    t->free_path = p->next_free;
    memset(p, 0, sizeof(*p));
    p->used = true;
    p->family = family;
    p->host_handle = block->host_handle;
    memcpy(p->source, constant->source_address, bytes);
    memcpy(p->destination, constant->destination_address, bytes);
    p->mtu = cached->path_mtu;
    p->neighbor = neighbor;
    p->neighbor->dependents++;
    t->path_count++;
    *context = p;
    return NDIS_STATUS_SUCCESS;
}

static chimney_status conn_import_status(int error, const struct chimney_tcp_delegated *d,
                                         const struct target_conn *c)
{
    switch (error) {
    case 0:
        return NDIS_STATUS_SUCCESS;
    case TCP_E_RING:
        return d->send_data.end - d->send_data.begin > c->constant.send_stream.size
                   ? NDIS_STATUS_OFFLOAD_TCP_XMIT_BUFFER
                   : NDIS_STATUS_OFFLOAD_TCP_RCV_BUFFER;
    case TCP_E_WINDOW:
        return NDIS_STATUS_OFFLOAD_TCP_RCV_WINDOW;
    default:
        return NDIS_STATUS_FAILURE;
    }
}

void conn_fill_route(struct target *t, struct target_conn *c)
{
    const struct target_neighbor *n = c->path->neighbor;
    struct wire_route *r = &c->route;

    (void)t;
    memset(r, 0, sizeof(*r));
    r->key = c->key;
    memcpy(r->src_mac, n->src_mac, 6);
    memcpy(r->dst_mac, n->dst_mac, 6);
    /* contract.md 6.4: tag for a VLAN id or a priority, CFI 0. */
    r->tagged = n->vlan_id != 0 || c->cached.user_priority != 0;
    r->tci = (uint16_t)((c->cached.user_priority & 7u) << 13 | (n->vlan_id & 0xfffu));
    r->ttl = c->cached.ttl_or_hop_limit ? c->cached.ttl_or_hop_limit : 64;
    r->tos = c->cached.tos_or_traffic_class;
    r->flow_label = c->cached.flow_label & 0xfffffu;
}

chimney_status objects_take_tcp(void *arg, struct chimney_block *block, void *path, void **context)
{
    struct target *t = arg;
    const struct chimney_tcp_const *constant = tree_tcp_const(block);
    const struct chimney_tcp_cached *cached = tree_tcp_cached(block);
    const struct chimney_tcp_delegated *d = tree_tcp_delegated(block);
    struct target_conn *c = t->free_conn;
    struct tcp_conn *engine;
    struct tcp_import import;
    uint64_t send_len = d->send_data.end - d->send_data.begin;
    uint64_t recv_len = d->buffered_data.end - d->buffered_data.begin;
    const struct tcp_cc_ops *cc;
    int error;

    if (injected(t, TARGET_FAULT_MEMORY, block))
        return NDIS_STATUS_RESOURCES;
    if (injected(t, TARGET_FAULT_TAKE, block))
        return NDIS_STATUS_FAILURE;
    if (!path)
        return NDIS_STATUS_FAILURE;
    if (t->config.reject && t->config.reject(t->config.arg, block))
        return NDIS_STATUS_OFFLOAD_CONNECTION_REJECTED;
    if (!c || t->conn_count >= t->capacity)
        return NDIS_STATUS_OFFLOAD_TCP_ENTRIES;
    if (cached->initial_rcv_wnd > t->config.max_rcv_wnd)
        return NDIS_STATUS_OFFLOAD_TCP_RCV_WINDOW;
    /* The send span is what the block says, twice (C23, C75): check one against the other. */
    if (block->send_data.begin != d->send_data.begin || block->send_data.end != d->send_data.end)
        return NDIS_STATUS_FAILURE;
    if (send_len > constant->send_stream.size)
        return NDIS_STATUS_OFFLOAD_TCP_XMIT_BUFFER;
    if (recv_len > constant->receive_stream.size)
        return NDIS_STATUS_OFFLOAD_TCP_RCV_BUFFER;
    if (d->send_data.begin != 0 || d->buffered_data.begin != 0)
        return NDIS_STATUS_FAILURE; /* streams begin at position 0 at an initiate */

    engine = c->engine;
    t->free_conn = c->next_free;
    memset(c, 0, sizeof(*c));
    c->engine = engine;
    c->path = path;
    c->host_handle = block->host_handle;
    c->constant = *constant;
    c->cached = *cached;
    c->dwnd = d->dwnd;
    c->kept_tail = &c->kept;
    c->key.family = c->path->family;
    memcpy(c->key.local_addr, c->path->source, 16);
    memcpy(c->key.remote_addr, c->path->destination, 16);
    c->key.local_port = constant->local_port;
    c->key.remote_port = constant->remote_port;
    timer_node_init(&c->timer, (uint32_t)(c - t->conns));

    memset(&import, 0, sizeof(import));
    state_to_engine(c, d, &import);
    import.snd_len = (uint32_t)send_len;
    import.rcv_len = (uint32_t)recv_len;
    import.fin_policy = t->config.fin_policy;
    error = tcp_import(engine, &t->tcp_params, &import, t->now);
    if (error == 0 && !flow_insert(&t->flows, &c->key, (uint32_t)(c - t->conns)))
        error = TCP_E_STATE; /* the same tuple twice: a host error */
    if (error) {
        chimney_status status = conn_import_status(error, d, c);

        c->next_free = t->free_conn;
        t->free_conn = c;
        return status;
    }
    cc = tcp_cc_by_name(cached->congestion_algorithm);
    if (cc)
        tcp_set_cc(engine, cc, t->now);
    conn_fill_route(t, c);
    c->used = true;
    c->send_end = send_len;
    c->rcv_told = recv_len;
    c->path->dependents++;
    t->conn_count++;
    *context = c;
    c->next_taken = t->taken;
    t->taken = c;
    conn_dirty(t, c);
    return NDIS_STATUS_SUCCESS;
}

void objects_free_neighbor(struct target *t, struct target_neighbor *n)
{
    assert(n->used && n->dependents == 0); /* C12: the host's rule */
    n->used = false;
    n->next_free = t->free_neighbor;
    t->free_neighbor = n;
    t->neighbor_count--;
}

void objects_free_path(struct target *t, struct target_path *p)
{
    assert(p->used && p->dependents == 0);
    p->used = false;
    p->next_free = t->free_path;
    t->free_path = p;
    t->path_count--;
}

void objects_free_conn(struct target *t, struct target_conn *c)
{
    assert(c->used && !c->kept && !c->dirty);
    c->used = false;
    c->next_free = t->free_conn;
    t->free_conn = c;
    t->conn_count--;
}

bool conn_is_invalid(const struct target_conn *c)
{
    return c->invalid || c->path->invalid || c->path->neighbor->invalid;
}

bool conn_counts_as_established(const struct target_conn *c)
{
    uint8_t state = tcp_state(c->engine);

    return !c->aborted && (state == TcpConnectionEstablished || state == TcpConnectionCloseWait);
}
