/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software target: creation, the poll round, and what it asks of its host.
 *
 * A round: requests of the management (pause, upload-all, resume), verbs, frames, timers, then the
 * dirty list: output first, then what the host is told.  Order matters in one place: an initiate is
 * done before the next frames are read, so that no frame of a connection is taken for a stray.
 */
#include "target/internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const struct chimney_host_ops no_host;

struct chimney_target *target_create(const struct target_config *config, struct port *port)
{
    struct target *t = calloc(1, sizeof(*t));
    struct target_config *cfg;

    if (!t)
        return NULL;
    t->config = *config;
    cfg = &t->config;
    if (!cfg->max_connections)
        cfg->max_connections = TARGET_MAX_CONNECTIONS;
    if (!cfg->max_paths)
        cfg->max_paths = TARGET_MAX_PATHS;
    if (!cfg->max_neighbors)
        cfg->max_neighbors = TARGET_MAX_NEIGHBORS;
    if (!cfg->max_source_addresses)
        cfg->max_source_addresses = TARGET_MAX_SOURCE_ADDRESSES;
    if (!cfg->max_vlans)
        cfg->max_vlans = TARGET_MAX_VLANS;
    if (!cfg->max_path_mtu || cfg->max_path_mtu > port->caps.mtu)
        cfg->max_path_mtu = port->caps.mtu;
    if (!cfg->max_rcv_wnd)
        cfg->max_rcv_wnd = TARGET_MAX_RCV_WND;
    t->port = port;
    t->capacity = cfg->max_connections;
    t->base.ops = &target_ops;
    strncpy(t->base.name, cfg->name ? cfg->name : port->caps.name, sizeof(t->base.name) - 1);
    t->host_ops = chimney_host_ops_init(&t->host_table, &no_host);
    t->dirty_tail = &t->dirty;
    tcp_params_default(&t->tcp_params);
    t->parameters.ticks_per_second = t->tcp_params.ticks_per_second;
    pause_init(&t->pause);
    if (!objects_create(t)) {
        objects_destroy(t);
        free(t);
        return NULL;
    }
    return &t->base;
}

void target_destroy(struct chimney_target *base)
{
    struct target *t = target_of(base);

    verbs_run(t);
    verbs_fail_all(t);
    for (uint32_t i = 0; i < t->config.max_connections; i++) {
        struct target_conn *c = &t->conns[i];

        while (c->used && c->kept) {
            struct target_kept *kept = c->kept;

            c->kept = kept->next;
            free(kept);
        }
    }
    objects_destroy(t);
    free(t);
}

/* Ticks of the contract on the target's clock, modulo 2^32 (C356). */
uint32_t state_ticks(const struct target *t)
{
    uint64_t tps = t->tcp_params.ticks_per_second;

    return (uint32_t)(t->now / TCP_SEC * tps + t->now % TCP_SEC * tps / TCP_SEC);
}

void target_capabilities(const struct target *t, struct chimney_capabilities *out)
{
    *out = (struct chimney_capabilities){
        .header = {0, CHIMNEY_REVISION, sizeof(*out)},
        .encapsulation = CHIMNEY_ENCAPSULATION_IEEE_802_3,
        .support_ipv4 = true,
        .support_ipv6 = true,
        .support_sack = true,
        .tcp_connection_offload_capacity = t->capacity,
        .path_capacity = t->config.max_paths,
        .neighbor_capacity = t->config.max_neighbors,
        .max_path_mtu = t->config.max_path_mtu,
        .max_rcv_wnd = t->config.max_rcv_wnd,
    };
}

static bool run_requests(struct target *t)
{
    chimney_status status;
    bool any = false;

    if (t->pause_wanted) {
        t->pause_wanted = false;
        any = true;
        status = pause_pause(&t->pause);
        if (status)
            t->host_ops->status(t->host, status, NULL, 0);
    }
    if (t->upload_all_wanted) {
        t->upload_all_wanted = false;
        any = true;
        status = pause_upload_all(&t->pause);
        if (status)
            t->host_ops->status(t->host, status, NULL, 0);
    }
    if (t->resume_wanted) {
        status = pause_resume(&t->pause, t->conn_count);
        if (status) {
            struct chimney_capabilities caps;

            t->resume_wanted = false;
            any = true;
            if (t->resume_capacity && t->resume_capacity <= t->config.max_connections)
                t->capacity = t->resume_capacity;
            target_capabilities(t, &caps);
            t->host_ops->status(t->host, status, &caps, sizeof(caps));
        } else if (t->pause.state == PAUSE_RUNNING || t->pause.state == PAUSE_RESUMING) {
            t->resume_wanted = false; /* nothing to resume */
        }
    }
    return any;
}

static bool run_timers(struct target *t)
{
    struct timer_node *node;
    bool any = false;

    while ((node = timers_pop(&t->timers, t->now)) != NULL) {
        struct target_conn *c = &t->conns[node->id];

        assert(c->used);
        any = true;
        if (!c->stopped)
            conn_events(t, c, tcp_timeout(c->engine, t->now));
        conn_dirty(t, c);
    }
    return any;
}

static bool run_dirty(struct target *t)
{
    struct target_conn *c = t->dirty;
    bool any = c != NULL;

    t->dirty = NULL;
    t->dirty_tail = &t->dirty;
    while (c) {
        struct target_conn *next = c->next_dirty;
        bool blocked = false;

        c->dirty = false;
        if (c->send_failed && !c->stopped)
            tx_ack(t, c);
        else if (!c->stopped)
            blocked = !tx_conn(t, c);
        conn_tell(t, c);
        timers_set(&t->timers, &c->timer,
                   c->stopped || c->send_failed ? TCP_TIME_NEVER : tcp_next_timeout(c->engine));
        if (blocked)
            conn_dirty(t, c);
        c = next;
    }
    return any;
}

bool target_poll(struct chimney_target *base, tcp_time now)
{
    struct target *t = target_of(base);
    bool any;

    assert(now >= t->now);
    t->now = now;
    any = run_requests(t);
    any |= verbs_run(t);
    any |= rx_run(t);
    any |= run_timers(t);
    any |= run_dirty(t);
    port_tx_flush(t->port);
    return any;
}

tcp_time target_next_timeout(const struct chimney_target *base)
{
    const struct target *t = (const struct target *)base;

    if (t->verbs.head || t->dirty || t->pause_wanted || t->upload_all_wanted)
        return t->now;
    return timers_next(&t->timers);
}

void target_pause(struct chimney_target *t)
{
    target_of(t)->pause_wanted = true;
}
void target_pause_on_initiate(struct chimney_target *t)
{
    target_of(t)->pause_on_initiate = true;
}
void target_upload_all(struct chimney_target *t)
{
    target_of(t)->upload_all_wanted = true;
}

void target_resume(struct chimney_target *base, uint32_t capacity)
{
    target_of(base)->pause_on_initiate = false;
    target_of(base)->resume_wanted = true;
    target_of(base)->resume_capacity = capacity;
}

void target_retrieve(struct chimney_target *base, struct chimney_cell *cell,
                     enum chimney_upload_reason reason)
{
    struct target *t = target_of(base);
    struct target_conn *c = objects_conn(t, cell);

    /* A half-closed connection is not asked for without need (C313). */
    if (chimney_upload_reason_mandatory(reason) || tcp_state(c->engine) == TcpConnectionEstablished)
        conn_ask_upload(t, c, reason);
}

void target_get_info(const struct chimney_target *base, struct target_info *out)
{
    const struct target *t = (const struct target *)base;

    *out = t->info;
    out->connections = t->conn_count;
    out->paths = t->path_count;
    out->neighbors = t->neighbor_count;
    out->max_connections = t->capacity;
    out->pause = t->pause.state;
    out->queued = t->pause.queued;
    out->queued_total = t->pause.queued_total;
    out->pauses = t->pause.pauses;
    out->resumes = t->pause.resumes;
    out->upload_alls = t->pause.upload_alls;
}

const struct tcp_stats *target_conn_stats(const struct chimney_cell *cell)
{
    return tcp_conn_stats(((const struct target_conn *)cell->context)->engine);
}
