/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The five state verbs.
 *
 * Theory of operation.  A verb called by the host is put at the end of one queue and done at the
 * next target_poll(), so completions never run inside the call and verbs keep their order (C115 to
 * C135). An initiate passes the pause queue on its way (C358).  Each verb walks its tree once or
 * twice, writes a status into every block, completes with the same root, and only then does what
 * must come after the completion: indications for what an initiate took (C161), hardware-failure
 * events (C138), freeing what a terminate gave back (C230).
 */
#include "target/internal.h"

#include <assert.h>
#include <string.h>

/* The verb travels with its root in scratch[0], which is the target's while it holds the block. */
void verbs_enqueue(struct target *t, enum tree_verb verb, struct chimney_block *root)
{
    root->scratch[0] = (void *)(uintptr_t)verb;
    root->target_reserved[1] = NULL;
    if (t->verbs.tail)
        t->verbs.tail->target_reserved[1] = root;
    else
        t->verbs.head = root;
    t->verbs.tail = root;
}

static bool injected(struct target *t, enum target_fault what, struct chimney_block *block)
{
    return t->config.fault && t->config.fault(t->config.arg, what, block);
}

/* ---- initiate ------------------------------------------------------------------------------- */

static void do_initiate(struct target *t, struct chimney_block *root)
{
    static const struct tree_taker taker = {objects_take_neighbor, objects_take_path,
                                            objects_take_tcp};

    if (tree_validate(TREE_INITIATE, root))
        tree_set_status(root, NDIS_STATUS_FAILURE);
    else
        tree_initiate(root, &taker, t);
    t->host_ops->initiate_complete(t->host, root);
}

/* ---- query ---------------------------------------------------------------------------------- */

static void query_tcp(struct target *t, struct target_conn *c, struct chimney_block *block)
{
    struct chimney_tcp_const *constant = tree_tcp_const(block);
    struct chimney_tcp_cached *cached = tree_tcp_cached(block);
    struct chimney_tcp_delegated *d = tree_tcp_delegated(block);

    if (constant) {
        struct chimney_state_header header = constant->header;

        *constant = c->constant;
        constant->header = header;
    }
    if (cached) {
        struct chimney_state_header header = cached->header;

        *cached = c->cached;
        cached->header = header;
    }
    if (d) {
        struct tcp_export x;

        tcp_query(c->engine, t->now, &x);
        state_from_engine(c, &x, d);
        memset(&d->send_data, 0, sizeof(d->send_data));
        memset(&d->buffered_data, 0, sizeof(d->buffered_data));
        d->send_backlog_size = tcp_send_backlog(c->engine);
        d->receive_backlog_size = (uint32_t)(x.rcv_pos - c->consumed);
    }
}

static void query_path(struct target_path *p, struct chimney_block *block)
{
    struct chimney_path_const *constant = tree_path_const(block);
    struct chimney_path_cached *cached = tree_path_cached(block);

    if (constant) {
        constant->source_address = p->source;
        constant->destination_address = p->destination;
    }
    if (cached)
        cached->path_mtu = p->mtu;
}

static void query_neighbor(struct target *t, struct target_neighbor *n, struct chimney_block *block)
{
    struct chimney_neighbor_const *constant = tree_neighbor_const(block);
    struct chimney_neighbor_cached *cached = tree_neighbor_cached(block);
    struct chimney_neighbor_delegated *d = tree_neighbor_delegated(block);

    if (constant) {
        memset(constant->dl_source_address, 0, sizeof(constant->dl_source_address));
        memcpy(constant->dl_source_address, n->const_source, 6);
        constant->vlan_id = n->vlan_id;
    }
    if (cached) {
        memset(cached->dl_destination_address, 0, sizeof(cached->dl_destination_address));
        memcpy(cached->dl_destination_address, n->dst_mac, 6);
        cached->host_reachability_delta = state_ticks(t) - n->hrt;
    }
    if (d)
        d->nic_reachability_delta = state_ticks(t) - n->nrt;
}

static bool query_block(void *arg, struct chimney_block *block, struct chimney_block *parent)
{
    struct target *t = arg;

    (void)parent;
    block->status = NDIS_STATUS_SUCCESS;
    if (!block->cell)
        return true;
    if (injected(t, TARGET_FAULT_QUERY, block)) {
        block->status = NDIS_STATUS_FAILURE;
        return true;
    }
    switch (tree_block_layer(block)) {
    case TREE_TCP:
        query_tcp(t, objects_conn(t, block->cell), block);
        break;
    case TREE_PATH:
        query_path(objects_path(t, block->cell), block);
        break;
    case TREE_NEIGHBOR:
        query_neighbor(t, objects_neighbor(t, block->cell), block);
        break;
    default:
        block->status = NDIS_STATUS_FAILURE;
    }
    return true;
}

/* ---- update --------------------------------------------------------------------------------- */

/* Something below @p or @n changed: header templates and segment sizes follow. */
static void refresh_conns(struct target *t, const struct target_path *p,
                          const struct target_neighbor *n)
{
    for (uint32_t i = 0; i < t->config.max_connections; i++) {
        struct target_conn *c = &t->conns[i];
        struct tcp_cached_state cached;

        if (!c->used || (p && c->path != p) || (n && c->path->neighbor != n))
            continue;
        conn_fill_route(t, c);
        if (p) {
            state_cached_to_engine(c, &cached);
            tcp_update(c->engine, &cached, t->now);
        }
        conn_dirty(t, c);
    }
}

static chimney_status update_tcp(struct target *t, struct target_conn *c,
                                 const struct chimney_tcp_cached *cached)
{
    struct tcp_cached_state engine;
    struct chimney_state_header header = c->cached.header;

    if (cached->initial_rcv_wnd > t->config.max_rcv_wnd)
        return NDIS_STATUS_FAILURE;
    c->cached = *cached;
    c->cached.header = header;
    state_cached_to_engine(c, &engine);
    /* Restart flags are requests, not values: they are not kept (C47, C48). */
    c->cached.flags &= (uint16_t) ~(CHIMNEY_TCP_KEEP_ALIVE_RESTART | CHIMNEY_TCP_MAX_RT_RESTART |
                                    CHIMNEY_TCP_UPDATE_RCV_WND);
    tcp_update(c->engine, &engine, t->now);
    conn_fill_route(t, c);
    conn_dirty(t, c);
    return NDIS_STATUS_SUCCESS;
}

static chimney_status update_path(struct target *t, struct target_path *p,
                                  struct chimney_block *block, struct chimney_block *parent)
{
    const struct chimney_path_cached *cached = tree_path_cached(block);

    if (cached) {
        if (cached->path_mtu > t->config.max_path_mtu)
            return NDIS_STATUS_FAILURE;
        p->mtu = cached->path_mtu;
    }
    /* Under a reference to another neighbor: relink (C200). */
    if (parent && parent->cell) {
        struct target_neighbor *n = objects_neighbor(t, parent->cell);

        if (p->neighbor != n) {
            p->neighbor->dependents--;
            p->neighbor = n;
            n->dependents++;
        }
    }
    refresh_conns(t, p, NULL);
    return NDIS_STATUS_SUCCESS;
}

static bool update_block(void *arg, struct chimney_block *block, struct chimney_block *parent)
{
    struct target *t = arg;

    block->status = NDIS_STATUS_SUCCESS;
    if (!block->cell)
        return true;
    if (injected(t, TARGET_FAULT_UPDATE, block)) {
        block->status = NDIS_STATUS_FAILURE;
        return true;
    }
    switch (tree_block_layer(block)) {
    case TREE_TCP: {
        struct target_conn *c = objects_conn(t, block->cell);
        const struct chimney_tcp_cached *cached = tree_tcp_cached(block);

        if (parent && parent->cell && objects_path(t, parent->cell) != c->path)
            block->status = NDIS_STATUS_FAILURE; /* connections never change their path (C201) */
        else if (cached)
            block->status = update_tcp(t, c, cached);
        break;
    }
    case TREE_PATH:
        block->status = update_path(t, objects_path(t, block->cell), block, parent);
        break;
    case TREE_NEIGHBOR: {
        struct target_neighbor *n = objects_neighbor(t, block->cell);
        const struct chimney_neighbor_cached *cached = tree_neighbor_cached(block);

        if (cached) {
            memcpy(n->dst_mac, cached->dl_destination_address, 6);
            n->hrt = state_ticks(t) - cached->host_reachability_delta;
            refresh_conns(t, NULL, n);
        }
        break;
    }
    default:
        block->status = NDIS_STATUS_FAILURE;
    }
    return true;
}

/* ---- invalidate ----------------------------------------------------------------------------- */

static bool invalidate_block(void *arg, struct chimney_block *block, struct chimney_block *parent)
{
    struct target *t = arg;

    (void)parent;
    block->status = NDIS_STATUS_SUCCESS;
    if (!block->cell)
        return true;
    if (injected(t, TARGET_FAULT_INVALIDATE, block)) {
        block->status = NDIS_STATUS_FAILURE;
        return true;
    }
    switch (tree_block_layer(block)) {
    case TREE_TCP:
        objects_conn(t, block->cell)->invalid = true;
        break;
    case TREE_PATH:
        objects_path(t, block->cell)->invalid = true;
        break;
    case TREE_NEIGHBOR:
        objects_neighbor(t, block->cell)->invalid = true;
        break;
    default:
        block->status = NDIS_STATUS_FAILURE;
    }
    return true;
}

/* ---- terminate ------------------------------------------------------------------------------ */

/* What a terminate gives back, freed after its completion.  Linked through next_free. */
struct doomed {
    struct target *t;
    struct target_conn *conns;
    struct target_path *paths;
    struct target_neighbor *neighbors;
};

static void undirty(struct target *t, struct target_conn *c)
{
    struct target_conn **link = &t->dirty;

    if (!c->dirty)
        return;
    while (*link != c)
        link = &(*link)->next_dirty;
    *link = c->next_dirty;
    if (t->dirty_tail == &c->next_dirty)
        t->dirty_tail = link;
    c->dirty = false;
}

static void terminate_conn(struct target *t, struct target_conn *c, struct chimney_block *block)
{
    struct chimney_tcp_delegated *d = tree_tcp_delegated(block);
    bool lost = injected(t, TARGET_FAULT_TERMINATE, block);
    chimney_status io = c->aborted || c->corrupt || lost ? NDIS_STATUS_REQUEST_ABORTED
                                                         : NDIS_STATUS_UPLOAD_IN_PROGRESS;
    struct tcp_export x;
    bool removed;

    /* From here its segments go up unprocessed (C213). */
    removed = flow_remove(&t->flows, &c->key);
    assert(removed);
    timers_cancel(&t->timers, &c->timer);
    if (!c->stopped && !conn_is_invalid(c))
        tx_ack(t, c); /* the acknowledgement that is due (C215) */
    undirty(t, c);
    tcp_export(c->engine, t->now, &x);
    conn_complete_forwards(t, c);
    if (x.rcv_pos > c->rcv_told) {
        c->rcv_told = x.rcv_pos;
        t->host_ops->receive_indicate(t->host, c->host_handle, x.rcv_pos);
    }
    if (c->send_refused || (c->send_end > c->acked_told && !c->send_failed)) {
        if (io == NDIS_STATUS_UPLOAD_IN_PROGRESS && x.una_pos == c->send_end && !c->send_refused)
            io = NDIS_STATUS_SUCCESS; /* all of it is acknowledged after all */
        if (!c->send_failed)
            c->acked_told = x.una_pos;
        if (io == NDIS_STATUS_UPLOAD_IN_PROGRESS)
            t->info.sends_upload_in_progress++;
        t->host_ops->send_complete(t->host, c->host_handle, c->acked_told, io);
    }
    if (c->disconnecting) {
        c->disconnecting = false;
        t->host_ops->disconnect_complete(t->host, c->host_handle,
                                         c->aborted || c->corrupt || lost
                                             ? NDIS_STATUS_REQUEST_ABORTED
                                             : NDIS_STATUS_UPLOAD_IN_PROGRESS);
    }
    block->status = lost ? NDIS_STATUS_FAILURE : NDIS_STATUS_SUCCESS;
    if (d && !lost) {
        state_from_engine(c, &x, d);
        if (c->aborted)
            d->state = TcpConnectionClosed;
        block->send_data = (struct chimney_span){x.una_pos, x.snd_end_pos};
        if (x.una_pos == x.snd_end_pos)
            block->send_data = (struct chimney_span){0, 0}; /* C223 */
        d->send_data = block->send_data;
        d->buffered_data = (struct chimney_span){c->consumed, x.rcv_pos};
    }
    conn_pass_up_kept(t, c);
    if (!c->aborted && !lost)
        conn_pass_up_ooo(t, c, &x);
}

static bool terminate_tcp_block(void *arg, struct chimney_block *block,
                                struct chimney_block *parent)
{
    struct doomed *doomed = arg;
    struct target *t = doomed->t;
    struct target_conn *c;

    (void)parent;
    block->status = NDIS_STATUS_SUCCESS;
    if (tree_block_layer(block) != TREE_TCP || !block->cell)
        return true;
    c = objects_conn(t, block->cell);
    terminate_conn(t, c, block);
    c->path->dependents--;
    c->next_free = doomed->conns;
    doomed->conns = c;
    return true;
}

static bool terminate_path_block(void *arg, struct chimney_block *block,
                                 struct chimney_block *parent)
{
    struct doomed *doomed = arg;
    struct target_path *p;

    (void)parent;
    if (tree_block_layer(block) != TREE_PATH || !block->cell)
        return true;
    p = objects_path(doomed->t, block->cell);
    if (p->dependents > 0) {
        block->status = NDIS_STATUS_FAILURE; /* C12 */
        return true;
    }
    p->neighbor->dependents--;
    p->next_free = doomed->paths;
    doomed->paths = p;
    return true;
}

static bool terminate_neighbor_block(void *arg, struct chimney_block *block,
                                     struct chimney_block *parent)
{
    struct doomed *doomed = arg;
    struct chimney_neighbor_delegated *d;
    struct target_neighbor *n;

    (void)parent;
    if (tree_block_layer(block) != TREE_NEIGHBOR || !block->cell)
        return true;
    n = objects_neighbor(doomed->t, block->cell);
    if (n->dependents > 0) {
        block->status = NDIS_STATUS_FAILURE;
        return true;
    }
    d = tree_neighbor_delegated(block);
    if (d)
        d->nic_reachability_delta = state_ticks(doomed->t) - n->nrt; /* C34 */
    n->next_free = doomed->neighbors;
    doomed->neighbors = n;
    return true;
}

static void do_terminate(struct target *t, struct chimney_block *root)
{
    struct doomed doomed = {.t = t};

    /* Dependents first, so that a path counts only what the tree leaves (C12). */
    tree_walk(root, terminate_tcp_block, &doomed);
    tree_walk(root, terminate_path_block, &doomed);
    tree_walk(root, terminate_neighbor_block, &doomed);
    t->host_ops->terminate_complete(t->host, root);
    while (doomed.conns) {
        struct target_conn *c = doomed.conns;

        doomed.conns = c->next_free;
        objects_free_conn(t, c);
    }
    while (doomed.paths) {
        struct target_path *p = doomed.paths;

        doomed.paths = p->next_free;
        objects_free_path(t, p);
    }
    while (doomed.neighbors) {
        struct target_neighbor *n = doomed.neighbors;

        doomed.neighbors = n->next_free;
        objects_free_neighbor(t, n);
    }
}

/* ---- the queue ------------------------------------------------------------------------------ */

/* What the initiate took may be told about from now on; the tree itself is the host's again. */
static void announce_taken(struct target *t)
{
    while (t->taken) {
        struct target_conn *c = t->taken;

        t->taken = c->next_taken;
        c->announced = true;
        conn_dirty(t, c);
    }
}

static bool collect_hw_failure(void *arg, struct chimney_block *block, struct chimney_block *parent)
{
    struct target *t = arg;

    (void)parent;
    if (tree_block_layer(block) == TREE_TCP && block->cell &&
        block->status == NDIS_STATUS_FAILURE) {
        struct target_conn *c = objects_conn(t, block->cell);

        c->stopped = true;
        c->corrupt = true;
        c->retrieve = HardwareFailure;
        conn_dirty(t, c);
    }
    return true;
}

static void verbs_do(struct target *t, enum tree_verb verb, struct chimney_block *root)
{
    switch (verb) {
    case TREE_INITIATE:
        do_initiate(t, root);
        announce_taken(t);
        break;
    case TREE_QUERY:
        tree_walk(root, query_block, t);
        tree_walk(root, collect_hw_failure, t);
        t->host_ops->query_complete(t->host, root);
        break;
    case TREE_UPDATE:
        tree_walk(root, update_block, t);
        t->host_ops->update_complete(t->host, root);
        break;
    case TREE_INVALIDATE:
        tree_walk(root, invalidate_block, t);
        tree_walk(root, collect_hw_failure, t);
        t->host_ops->invalidate_complete(t->host, root);
        /* Whatever hangs on it tries to send now, and asks for its upload (C206, C207). */
        for (uint32_t i = 0; i < t->config.max_connections; i++)
            if (t->conns[i].used && conn_is_invalid(&t->conns[i]))
                conn_dirty(t, &t->conns[i]);
        break;
    case TREE_TERMINATE:
        do_terminate(t, root);
        break;
    }
}

bool verbs_run(struct target *t)
{
    struct chimney_block *root;
    bool any = false;

    while ((root = t->verbs.head) != NULL) {
        enum tree_verb verb = (enum tree_verb)(uintptr_t)root->scratch[0];

        t->verbs.head = root->target_reserved[1];
        if (!t->verbs.head)
            t->verbs.tail = NULL;
        any = true;
        if (verb == TREE_INITIATE) {
            if (t->pause_on_initiate) {
                t->pause_on_initiate = false;
                if (pause_pause(&t->pause))
                    t->host_ops->status(t->host, NDIS_STATUS_OFFLOAD_PAUSE, NULL, 0);
            }
            if (pause_initiate(&t->pause, root))
                continue;
        }
        verbs_do(t, verb, root);
    }
    while ((root = pause_dequeue(&t->pause)) != NULL) {
        any = true;
        verbs_do(t, TREE_INITIATE, root);
    }
    return any;
}

void verbs_fail_all(struct target *t)
{
    struct chimney_block *root;

    while ((root = pause_drain(&t->pause)) != NULL) {
        tree_set_status(root, NDIS_STATUS_FAILURE);
        t->host_ops->initiate_complete(t->host, root);
    }
}

static void op_initiate(struct chimney_target *t, struct chimney_block *root)
{
    verbs_enqueue(target_of(t), TREE_INITIATE, root);
}
static void op_query(struct chimney_target *t, struct chimney_block *root)
{
    verbs_enqueue(target_of(t), TREE_QUERY, root);
}
static void op_update(struct chimney_target *t, struct chimney_block *root)
{
    verbs_enqueue(target_of(t), TREE_UPDATE, root);
}
static void op_invalidate(struct chimney_target *t, struct chimney_block *root)
{
    verbs_enqueue(target_of(t), TREE_INVALIDATE, root);
}
static void op_terminate(struct chimney_target *t, struct chimney_block *root)
{
    verbs_enqueue(target_of(t), TREE_TERMINATE, root);
}

static void op_get_capabilities(struct chimney_target *base, struct chimney_capabilities *out)
{
    struct target *t = target_of(base);

    target_capabilities(t, out);
    pause_capabilities_read(&t->pause); /* after a RESUME: queued initiates may go */
}

static chimney_status op_set_parameters(struct chimney_target *base,
                                        const struct chimney_parameters *p)
{
    struct target *t = target_of(base);
    struct tcp_params *e = &t->tcp_params;
    uint64_t tps = p->ticks_per_second;

    if (tps < 10 || tps > 1000000 || p->tcp_ack_frequency == 0 ||
        p->tcp_maximum_retransmissions == 0 || p->tcp_duplicate_ack_threshold == 0 ||
        t->conn_count > 0)
        return NDIS_STATUS_FAILURE;
    t->parameters = *p;
    e->ticks_per_second = p->ticks_per_second;
    e->ack_frequency = p->tcp_ack_frequency;
    e->delayed_ack_ticks = p->tcp_delayed_ack_ticks;
    e->max_retransmissions = p->tcp_maximum_retransmissions;
    e->doubt_retransmissions = p->tcp_doubt_reachability_retransmissions;
    e->sws_prevention_ticks = p->tcp_sws_prevention_ticks;
    e->dup_ack_threshold = p->tcp_duplicate_ack_threshold;
    e->fin_wait2_ticks = (uint32_t)(120 * tps);
    e->rto_min_ticks = (uint32_t)(tps / 5 ? tps / 5 : 1);
    e->rto_max_ticks = (uint32_t)(120 * tps);
    return NDIS_STATUS_SUCCESS;
}

static void op_get_statistics(struct chimney_target *base, int family,
                              struct chimney_statistics *out)
{
    struct target *t = target_of(base);

    *out = *target_stats(t, family);
    out->currently_established = 0;
    for (uint32_t i = 0; i < t->config.max_connections; i++)
        if (t->conns[i].used && t->conns[i].path->family == family)
            out->currently_established += conn_counts_as_established(&t->conns[i]);
}

static void op_bind(struct chimney_target *base, const struct chimney_host_ops *ops,
                    struct chimney_host *host)
{
    struct target *t = target_of(base);

    t->host_ops = chimney_host_ops_init(&t->host_table, ops);
    t->host = host;
}

const struct chimney_target_ops target_ops = {
    .initiate = op_initiate,
    .query = op_query,
    .update = op_update,
    .invalidate = op_invalidate,
    .terminate = op_terminate,
    .send = data_send,
    .receive = data_receive,
    .disconnect = data_disconnect,
    .forward = data_forward,
    .get_capabilities = op_get_capabilities,
    .set_parameters = op_set_parameters,
    .get_statistics = op_get_statistics,
    .bind = op_bind,
};
