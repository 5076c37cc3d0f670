/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves: connections out of the kernel and back.  Runs on the control thread.
 *
 * Theory of operation.  What is wanted and what is under way are kept apart.  Wishes (offload,
 * upload, release) are flags of the connection; a move in progress is its state.  When a move ends,
 * conn_settled() looks at the wishes and begins the next one.  So requests never wait for one
 * another and never collide, whoever they come from.
 *
 * Offload, per port, at most one batch of HANDOFF_BATCH at a time: quiesce the program (route
 * MOVING, wait until it has left its calls), open the hold lists, freeze and park (host/handoff.c),
 * send one initiate tree to the target, and wait.  host_started() on the worker forwards what was
 * held and gives the route to the program.  Failure of any step puts the connection back as it was.
 *
 * Upload: quiesce, open the hold list, terminate, restore (host/handoff.c), route KERNEL.  At most
 * HANDOFF_BATCH connections are Uploading at a time; the others run on in the target until it is
 * their turn, so that upload-all makes none of them silent for long.
 *
 * Pause.  After PAUSE nothing is offered.  A tree that was on its way is queued by the target; its
 * connections would be silent until a resume that may never come.  They are lent back: restored in
 * the kernel while the tree stays queued.  At RESUME they are frozen again, the fresh state is
 * written into the still unread blocks, and re-reading the capabilities tells the target to go on.
 */
#include "daemon/daemon.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef SOCK_SNDBUF_LOCK
#define SOCK_SNDBUF_LOCK 1
#endif

/** Spacing of repeated restores and flushes. */
#define MOVE_BUSY_RETRY_NS (5 * 1000000ull)
/** Time per round of the loop for giving memory back. */
#define MOVE_RELEASE_NS (300 * 1000ull)
/** How often objects nobody uses are looked for. */
#define MOVE_COLLECT_NS (1000 * 1000000ull)

static void conn_settled(struct daemon *d, struct conn *c);
static void pump_offloads(struct daemon *d);

static struct stream_slot *slot_of(const struct conn *c)
{
    return stream_slot_at(&c->session->arena, c->slot);
}

static void set_state(struct conn *c, enum chimney_conn_state state)
{
    c->state = state;
    c->state_since_ns = daemon_now();
}

/* ---- records -------------------------------------------------------------------------------- */

static void record_begin(struct conn *c, enum move_direction direction, const char *why)
{
    memset(&c->now, 0, sizeof(c->now));
    c->now.direction = direction;
    c->now.start_ns = daemon_now();
    snprintf(c->now.why, sizeof(c->now.why), "%s", why);
}

static void record_end(struct daemon *d, struct conn *c, bool failed)
{
    struct move_record *m = &c->now;

    m->failed = failed;
    m->duration_ns = daemon_now() - m->start_ns;
    c->last = *m;
    if (failed) {
        c->moves_failed++;
        d->moves_failed++;
    } else if (m->direction == MOVE_OFFLOAD) {
        c->moves_offload++;
        d->moves_offload++;
    } else {
        c->moves_upload++;
        d->moves_upload++;
    }
    if (!failed && m->duration_ns > d->longest_move_ns)
        d->longest_move_ns = m->duration_ns;
    event_move(d, c, m);
}

/* ---- quiescing ------------------------------------------------------------------------------ */

/* All of @conns get route MOVING; then waits until the program is out of its calls. */
static void quiesce(struct conn *const *conns, size_t n, bool *quiet)
{
    uint64_t deadline = daemon_now() + DAEMON_QUIESCE_NS;

    for (size_t i = 0; i < n; i++)
        if (conns[i]->session)
            atomic_store(&slot_of(conns[i])->route, STREAM_ROUTE_MOVING);
    for (size_t i = 0; i < n; i++) {
        quiet[i] = true;
        if (!conns[i]->session || conns[i]->session->dead)
            continue;
        for (int spins = 0; atomic_load(&slot_of(conns[i])->users) != 0; spins++) {
            if (daemon_now() > deadline) {
                quiet[i] = false;
                break;
            }
            if (spins > 50)
                sched_yield();
        }
    }
}

/* ---- held frames ---------------------------------------------------------------------------- */

struct held_ctx {
    struct daemon *d;
    struct conn *c;
};

static int held_next(void *arg, const uint8_t **frame, uint32_t *len)
{
    struct held_ctx *h = arg;

    return hold_next(&h->d->holds, &h->c->hold, frame, len);
}

static void held_rewind(void *arg)
{
    struct held_ctx *h = arg;

    hold_rewind(&h->d->holds, &h->c->hold);
}

/*
 * Whatever is still held goes into the kernel, then nothing is held any more.  Not from the
 * beginning: after a restore the frames that were read have been appended or reinjected already.
 */
static void give_back_held(struct daemon *d, struct conn *c)
{
    struct held_ctx ctx = {d, c};
    struct handoff_held held = {held_next, NULL, &ctx};

    do {
        handoff_reinject(&d->handoff, &c->handoff, &held);
    } while (!hold_close(&d->holds, &c->hold));
}

/* ---- back in the kernel --------------------------------------------------------------------- */

static void busy_add(struct daemon *d, struct conn *c)
{
    c->busy_next = d->busy;
    d->busy = c;
    c->retry_ns = daemon_now() + MOVE_BUSY_RETRY_NS;
}

/*
 * The memory of the rings goes back to the system, but later: it takes a millisecond for rings of
 * full size, and while a batch is restored the rest of the batch is silent.
 */
enum { RELEASE_LISTED = 1, RELEASE_WANTED = 2 };

static void release_later(struct conn *c)
{
    struct session *s = c->session;

    if (!s)
        return;
    if (!(s->release_state[c->slot] & RELEASE_LISTED))
        s->release[s->release_count++] = (uint16_t)c->slot;
    s->release_state[c->slot] = RELEASE_LISTED | RELEASE_WANTED;
}

/* The rings are used again, or about to be. */
static void release_not(struct conn *c)
{
    c->session->release_state[c->slot] &= (uint8_t)~RELEASE_WANTED;
}

static void release_some(struct daemon *d)
{
    uint64_t until = daemon_now() + MOVE_RELEASE_NS;

    for (struct session *s = d->sessions; s; s = s->next)
        while (s->release_count > 0) {
            uint32_t slot = s->release[--s->release_count];

            if (s->release_state[slot] & RELEASE_WANTED)
                stream_arena_release(&s->arena, slot);
            s->release_state[slot] = 0;
            if (daemon_now() > until)
                return;
        }
}

static bool release_left(const struct daemon *d)
{
    for (const struct session *s = d->sessions; s; s = s->next)
        if (s->release_count > 0)
            return true;
    return false;
}

/* The socket is ordinary again. */
static void in_kernel(struct daemon *d, struct conn *c)
{
    give_back_held(d, c);
    slot_set_route(c, STREAM_ROUTE_KERNEL);
    release_later(c);
}

/*
 * The rest of the send stream that the kernel had no room for; true when all of it is out.  A
 * socket that was reset is left alone: writing to it would take away the error that is the
 * program's.
 */
static bool flush_rest(struct conn *c)
{
    const struct repair_restore *r = &c->restore;
    struct pollfd reset = {.fd = c->fd};

    while (c->handoff.unsent_left > 0 && poll(&reset, 1, 0) == 0) {
        uint64_t pos = r->una_pos + r->sent_len + r->unsent_len - c->handoff.unsent_left;
        uint32_t offset = (uint32_t)(pos & (r->ring_size - 1));
        uint32_t len = c->handoff.unsent_left;
        ssize_t n;

        if (len > r->ring_size - offset)
            len = r->ring_size - offset;
        n = send(c->fd, r->send_base + offset, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0)
            return errno != EAGAIN && errno != ENOBUFS && errno != ENOMEM && errno != EINTR;
        c->handoff.unsent_left -= (uint32_t)n;
    }
    return true;
}

/* Ends a restore that succeeded: either lent back in a pause, or home. */
static void come_home(struct daemon *d, struct conn *c)
{
    c->restoring = c->flushing = false;
    in_kernel(d, c);
    if (c->state == CHIMNEY_OFFLOADING && c->lent) {
        conn_settled(d, c);
        return;
    }
    if (c->state == CHIMNEY_UPLOADING)
        d->uploading--;
    set_state(c, CHIMNEY_IN_HOST);
    conn_settled(d, c);
}

/*
 * Restored connections get their programs back together, after one word with the worker: frames
 * that were steered before the restore may still wait in a port's ring, and are put into the hold
 * lists first.  Otherwise they would reach the kernel after what the program does next, and when
 * that is to close the connection, the kernel would answer them with a reset.
 */
static void come_home_all(struct daemon *d)
{
    while (d->home) {
        struct conn *list = d->home;

        d->home = NULL;
        worker_call(d, worker_drain, NULL);
        while (list) {
            struct conn *c = list;

            list = c->busy_next;
            come_home(d, c);
        }
    }
}

/* handoff_restore(), now or as often as it takes. */
static void restore(struct daemon *d, struct conn *c)
{
    struct held_ctx ctx = {d, c};
    struct handoff_held held = {held_next, held_rewind, &ctx};
    int rc = c->flushing ? 0 : handoff_restore(&d->handoff, &c->handoff, &c->restore, &held);

    if (rc < 0) {
        if (!c->restoring)
            daemon_log("connection %u: restore: %s; trying again", c->id, strerror(-rc));
        c->restoring = true;
        busy_add(d, c);
        return;
    }
    c->flushing = true;
    if (!flush_rest(c)) {
        busy_add(d, c);
        return;
    }
    c->busy_next = d->home;
    d->home = c;
}

/* ---- offload -------------------------------------------------------------------------------- */

static void want(struct daemon *d, struct conn *c)
{
    c->want_offload = true;
    if (c->in_wants)
        return;
    c->in_wants = true;
    c->want_next = NULL;
    *d->wants_tail = c;
    d->wants_tail = &c->want_next;
}

static void refuse(struct daemon *d, struct conn *c, chimney_status status, const char *why)
{
    c->want_offload = false;
    snprintf(c->why_not, sizeof(c->why_not), "%s", why);
    record_begin(c, MOVE_OFFLOAD, why);
    c->now.status = status;
    record_end(d, c, true);
}

static void again(struct daemon *d, struct conn *c, const char *why)
{
    if (++c->tries >= DAEMON_OFFLOAD_TRIES) {
        refuse(d, c, NDIS_STATUS_FAILURE, why);
        return;
    }
    snprintf(c->why_not, sizeof(c->why_not), "%s", why);
    c->retry_ns = daemon_now() + DAEMON_RETRY_NS;
    want(d, c);
}

/* Rings large enough for what both queues hold and for the window the peer was promised. */
static uint32_t ring_size(struct conn *c)
{
    uint32_t sendq = 0, recvq = 0, size = DAEMON_RING_DEFAULT, need;
    int rcvbuf = 0;
    socklen_t len = sizeof(rcvbuf);

    repair_queues(c->fd, &sendq, &recvq);
    getsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, &len);
    need = 2 * (sendq > recvq ? sendq : recvq);
    if (rcvbuf > 0 && (uint32_t)rcvbuf > need)
        need = (uint32_t)rcvbuf;
    if (c->ring_hint > need)
        need = c->ring_hint;
    while (size < need && size < STREAM_RING_MAX)
        size *= 2;
    return size;
}

/* Is this one ready to go by @p now?  Sets its path and port. */
static bool candidate(struct daemon *d, struct conn *c)
{
    const char *why_not;
    char why[96];

    if (c->state != CHIMNEY_IN_HOST || c->want_release || !c->session || c->session->dead)
        return false;
    why_not = c->w_corrupt ? "its program wrote impossible values into shared memory"
                           : repair_why_not(c->fd);
    if (why_not) {
        refuse(d, c, NDIS_STATUS_OFFLOAD_CONNECTION_REJECTED, why_not);
        return false;
    }
    if (c->path) {
        paths_put(c->path);
        c->path = NULL;
    }
    c->path = paths_get(d, &c->port, &c->key, why, sizeof(why));
    if (!c->path) {
        again(d, c, why);
        return false;
    }
    if (c->path->busy || c->path->neighbor->busy) {
        again(d, c, "its path is being changed");
        return false;
    }
    return true;
}

/*
 * A restored socket begins again with ten segments and no round trip time (handoff.md 2.2).  If the
 * target had the connection a moment ago, what it knew is closer to the truth.
 */
static void carry_over(const struct conn *c, struct chimney_tcp_delegated *delegated)
{
    if (c->carry.at_ns == 0 || daemon_now() - c->carry.at_ns > DAEMON_CARRY_NS)
        return;
    if (delegated->srtt == 0) {
        delegated->srtt = c->carry.srtt;
        delegated->rttvar = c->carry.rttvar;
    }
    if (delegated->cwnd < c->carry.cwnd) {
        delegated->cwnd = c->carry.cwnd;
        delegated->ssthresh = c->carry.ssthresh;
    }
    if (delegated->reordering < c->carry.reordering)
        delegated->reordering = c->carry.reordering;
}

static void fill_block(struct conn *c)
{
    struct chimney_block *b = c->block;
    struct chimney_tcp_const *constant = tree_tcp_const(b);
    struct chimney_tcp_cached *cached = tree_tcp_cached(b);
    struct chimney_tcp_delegated *delegated = tree_tcp_delegated(b);

    handoff_fill(&c->handoff, constant, cached, delegated);
    carry_over(c, delegated);
    constant->hash_value = (uint32_t)flow_key_hash(&c->key, 0);
    b->send_data = delegated->send_data;
}

/* What the program will find in its slot once the route is STREAM, and what the worker knows. */
static void fill_slot(struct conn *c)
{
    struct stream_slot *slot = slot_of(c);
    const struct repair_state *s = &c->handoff.state;
    uint32_t size = c->handoff.rings.size;
    /* A buffer size the program chose is kept; else the kernel would let it grow, and so do we. */
    uint32_t limit = s->buf_lock & SOCK_SNDBUF_LOCK ? (uint32_t)s->sndbuf : size;

    c->w_send_end = s->sendq_len;
    c->w_send_tail = 0;
    c->w_rcv_head = s->recvq_len;
    c->w_rcv_tail = 0;
    c->w_ring_size = size;
    atomic_store(&c->w_bytes_in, 0);
    atomic_store(&c->w_bytes_out, 0);
    atomic_store(&slot->send.head, s->sendq_len);
    atomic_store(&slot->send.tail, 0);
    atomic_store(&slot->receive.head, s->recvq_len);
    atomic_store(&slot->receive.tail, 0);
    atomic_store(&slot->ring_size, size);
    if (limit < STREAM_RING_MIN)
        limit = STREAM_RING_MIN;
    atomic_store(&slot->send_limit, limit < size ? limit : size);
    atomic_store(&slot->send_status, NDIS_STATUS_SUCCESS);
    atomic_store(&slot->kicked, 0);
    atomic_fetch_add(&slot->generation, 1);
}

/* One tree for the whole batch: neighbors, paths, connections (contract.md 1.4). */
static struct chimney_block *build_tree(struct conn *const *conns, size_t n)
{
    struct chimney_block *root = NULL, **root_tail = &root;

    for (size_t i = 0; i < n; i++) {
        conns[i]->path->block->dependents = NULL;
        conns[i]->path->block->status = 0;
        conns[i]->path->neighbor->block->status = 0;
    }
    for (size_t i = 0; i < n; i++) {
        struct path_obj *path = conns[i]->path;
        struct neighbor_obj *nb = path->neighbor;
        struct chimney_block *b;

        if (nb->block->status != TREE_STATUS_POISON) {
            b = tree_block_init(nb->block, NeighborOffloadState);
            b->cell = &nb->cell;
            b->host_handle = nb;
            memcpy(tree_neighbor_cached(b)->dl_destination_address, nb->route.mac, 6);
            tree_neighbor_cached(b)->host_reachability_delta = nb->route.confirmed_ms * 1000;
            *root_tail = b;
            root_tail = &b->next;
        }
        if (path->block->status != TREE_STATUS_POISON) {
            b = tree_block_init(path->block, path->family == 4 ? Ip4OffloadState : Ip6OffloadState);
            b->cell = &path->cell;
            b->host_handle = path;
            tree_path_const(b)->source_address = path->source;
            tree_path_const(b)->destination_address = path->destination;
            tree_path_cached(b)->path_mtu = path->mtu;
            b->next = nb->block->dependents;
            nb->block->dependents = b;
        }
        b = conns[i]->block;
        b->next = path->block->dependents;
        path->block->dependents = b;
    }
    return root;
}

static void send_initiate(struct daemon *d, struct port_ctx *p, struct conn *const *conns, size_t n)
{
    struct mail mail = {.kind = MAIL_VERB, .port = p, .verb = TREE_INITIATE};

    for (size_t i = 0; i < n; i++) {
        struct conn *c = conns[i];

        tree_block_init(c->block, TcpOffloadState);
        c->cell.context = NULL;
        c->block->cell = &c->cell;
        c->block->host_handle = c;
        fill_block(c);
        fill_slot(c);
        set_state(c, CHIMNEY_OFFLOADING);
        c->lent = false;
        p->batch[i] = c;
    }
    p->batch_count = n;
    p->initiate = build_tree(conns, n);
    p->initiates++;
    mail.root = p->initiate;
    worker_post(d, &mail);
}

/* Quiesces, freezes and parks; returns how many of @conns are parked, moved to the front. */
static size_t freeze(struct daemon *d, struct conn **conns, size_t n)
{
    static struct handoff_conn handoffs[HANDOFF_BATCH]; /* too large for the stack */
    bool quiet[HANDOFF_BATCH];
    size_t m = 0, parked = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t size = ring_size(conns[i]);
        struct handoff_conn *h = &conns[i]->handoff;
        uint32_t ts_recent = h->ts_recent;

        memset(h, 0, sizeof(*h));
        h->ts_recent = ts_recent;
        h->fd = conns[i]->fd;
        h->key = conns[i]->key;
        h->ifindex = conns[i]->port->ifindex;
        h->rings.send = stream_send_base(&conns[i]->session->arena, conns[i]->slot);
        h->rings.receive = stream_receive_base(&conns[i]->session->arena, conns[i]->slot);
        h->rings.size = size;
    }
    quiesce(conns, n, quiet);
    for (size_t i = 0; i < n; i++) {
        struct conn *c = conns[i];

        if (!quiet[i]) {
            slot_set_route(c, STREAM_ROUTE_KERNEL);
            if (!c->lent)
                again(d, c, "its program did not leave a call in time");
            continue;
        }
        if (c->lent)
            c->now.start_ns = daemon_now(); /* its silence begins; in the pause it was none */
        else
            record_begin(c, MOVE_OFFLOAD, c->want_why);
        release_not(c);
        hold_open(&d->holds, &c->hold, &c->key);
        handoffs[m] = c->handoff;
        conns[m++] = c;
    }
    if (handoff_freeze_batch(&d->handoff, handoffs, m) < m)
        worker_call(d, worker_drain, NULL); /* as come_home_all() */
    for (size_t i = 0; i < m; i++) {
        struct conn *c = conns[i];

        c->handoff = handoffs[i];
        if (c->handoff.result == HANDOFF_PARKED) {
            c->now.in_flight = c->handoff.state.snd_nxt_low - c->handoff.state.snd_una;
            c->now.queued_bytes = c->handoff.state.sendq_len + c->handoff.state.recvq_len;
            conns[parked++] = c;
            continue;
        }
        in_kernel(d, c);
        if (c->lent)
            continue;
        if (c->handoff.error == -ENOBUFS) {
            char why[sizeof(c->why_not)];

            snprintf(why, sizeof(why), "%s: %u bytes to send, %u received, rings of %u",
                     c->handoff.reason, c->handoff.state.sendq_len, c->handoff.state.recvq_len,
                     c->handoff.rings.size);
            again(d, c, why);
        } else if (c->handoff.result == HANDOFF_AGAIN)
            again(d, c, c->handoff.reason ? c->handoff.reason : "not now");
        else
            refuse(d, c, NDIS_STATUS_FAILURE, c->handoff.reason ? c->handoff.reason : "refused");
    }
    return parked;
}

/* Begins the next batch of every port that can take one. */
static void pump_offloads(struct daemon *d)
{
    struct conn *batches[DAEMON_MAX_PORTS][HANDOFF_BATCH];
    size_t counts[DAEMON_MAX_PORTS] = {0};
    struct conn *list = d->wants;
    uint64_t now = daemon_now();
    bool open = false;

    for (unsigned i = 0; i < d->port_count; i++)
        open |= !d->ports[i].paused && !d->ports[i].upload_all && !d->ports[i].initiate;
    if (!open || !list)
        return;
    d->wants = NULL;
    d->wants_tail = &d->wants;
    while (list) {
        struct conn *c = list;
        struct port_ctx *p;
        unsigned index;

        list = c->want_next;
        c->in_wants = false;
        if (!c->want_offload)
            continue;
        if (c->retry_ns > now || c->state != CHIMNEY_IN_HOST) {
            want(d, c);
            continue;
        }
        if (!candidate(d, c))
            continue;
        p = c->port;
        index = (unsigned)(p - d->ports);
        if (p->paused || p->upload_all || p->initiate || counts[index] == HANDOFF_BATCH) {
            want(d, c); /* it works in the kernel and waits */
            if (counts[index] == HANDOFF_BATCH && d->port_count == 1) {
                /* The rest of the list stays as it is. */
                *d->wants_tail = list;
                while (*d->wants_tail)
                    d->wants_tail = &(*d->wants_tail)->want_next;
                break;
            }
            continue;
        }
        c->want_offload = false;
        batches[index][counts[index]++] = c;
    }
    for (unsigned i = 0; i < d->port_count; i++) {
        size_t n = counts[i] ? freeze(d, batches[i], counts[i]) : 0;

        if (n > 0)
            send_initiate(d, &d->ports[i], batches[i], n);
    }
}

void move_offload(struct daemon *d, struct conn *const *conns, size_t n, const char *why)
{
    for (size_t i = 0; i < n; i++) {
        struct conn *c = conns[i];

        if (c->lent)
            c->want_upload = false; /* whatever was wanted before */
        if (c->state == CHIMNEY_OFFLOADED || c->state == CHIMNEY_OFFLOADING || c->want_release ||
            d->stopping)
            continue;
        snprintf(c->want_why, sizeof(c->want_why), "%s", why);
        snprintf(c->why_not, sizeof(c->why_not), "waiting for its turn");
        c->tries = 0;
        c->retry_ns = 0;
        want(d, c);
    }
    pump_offloads(d);
}

/* The worker has forwarded what was held and given the route to the program. */
static void started(struct daemon *d, struct conn *c)
{
    c->port->offloaded++;
    c->why_not[0] = 0;
    set_state(c, CHIMNEY_OFFLOADED);
    record_end(d, c, false);
    conn_settled(d, c);
}

/* A connection of a completed initiate. */
static void initiate_done(struct daemon *d, struct conn *c)
{
    chimney_status status = c->block->status;

    c->now.status = status;
    if (status == NDIS_STATUS_SUCCESS) {
        c->lent = false;
        return; /* MAIL_STARTED follows */
    }
    c->cell.context = NULL;
    paths_put(c->path);
    c->path = NULL;
    snprintf(c->why_not, sizeof(c->why_not), "%s", chimney_status_name(status));
    record_end(d, c, true);
    if (c->lent) {
        /* It could not be frozen at the resume, or is no longer to be offloaded. */
        bool retry = !c->want_upload && !c->want_release && !d->stopping;

        c->lent = false;
        set_state(c, CHIMNEY_IN_HOST);
        c->tries = 0;
        if (retry)
            again(d, c, "it could not be frozen at the resume");
        conn_settled(d, c);
        return;
    }
    handoff_prepare_unchanged(&c->handoff, &c->restore);
    restore(d, c);
}

static void batch_done(struct daemon *d, struct port_ctx *p, struct chimney_block *root)
{
    struct conn *batch[HANDOFF_BATCH];
    size_t n = p->batch_count;

    assert(root == p->initiate);
    for (struct chimney_block *nb = root; nb; nb = nb->next) {
        struct neighbor_obj *neighbor = nb->host_handle;

        neighbor->offloaded = neighbor->cell.context != NULL;
        for (struct chimney_block *pb = nb->dependents; pb; pb = pb->next) {
            struct path_obj *path = pb->host_handle;

            path->offloaded = path->cell.context != NULL;
        }
    }
    memcpy(batch, p->batch, n * sizeof(batch[0]));
    p->initiate = NULL;
    p->batch_count = 0;
    for (size_t i = 0; i < n; i++) {
        if (batch[i]->zombie)
            conn_free(d, batch[i]);
        else
            initiate_done(d, batch[i]);
    }
}

/* ---- upload --------------------------------------------------------------------------------- */

static void begin_uploads(struct daemon *d, struct conn *const *conns, size_t n)
{
    struct port_ctx *p = conns[0]->port;
    struct mail mail = {.kind = MAIL_VERB, .port = p, .verb = TREE_TERMINATE};
    bool quiet[HANDOFF_BATCH];

    for (size_t i = 0; i < n; i++) {
        struct conn *c = conns[i];

        record_begin(c, MOVE_UPLOAD, c->want_why);
        c->now.reason = c->want_reason;
        c->want_upload = false;
        d->uploading++;
        set_state(c, CHIMNEY_UPLOADING);
    }
    /* A program that does not leave its call in time is waited for once more when the target is
     * done (wait_for_program). */
    quiesce(conns, n, quiet);
    for (size_t i = 0; i < n; i++) {
        struct conn *c = conns[i];

        hold_open(&d->holds, &c->hold, &c->key);
        tree_block_init(c->block, TcpOffloadDelegatedState);
        c->block->cell = &c->cell;
        c->block->host_handle = c;
        c->block->next = i + 1 < n ? conns[i + 1]->block : NULL;
    }
    /* tree_block_init() cleared the link written before it. */
    for (size_t i = 0; i + 1 < n; i++)
        conns[i]->block->next = conns[i + 1]->block;
    p->terminates++;
    mail.root = conns[0]->block;
    worker_post(d, &mail);
}

static void enqueue_upload(struct daemon *d, struct conn *c)
{
    if (c->in_ups)
        return;
    c->in_ups = true;
    c->up_next = NULL;
    *d->ups_tail = c;
    d->ups_tail = &c->up_next;
}

/* Begins as many uploads as there is room for. */
static void pump_uploads(struct daemon *d)
{
    while (d->ups && d->uploading < HANDOFF_BATCH) {
        const struct port_ctx *port = d->ups->port; /* a terminate goes to one target */
        struct conn *batch[HANDOFF_BATCH];
        size_t n = 0;

        do {
            struct conn *c = d->ups;

            d->ups = c->up_next;
            if (!d->ups)
                d->ups_tail = &d->ups;
            c->in_ups = false;
            assert(c->state == CHIMNEY_OFFLOADED); /* it leaves that state only here */
            batch[n++] = c;
        } while (d->ups && d->uploading + n < HANDOFF_BATCH && d->ups->port == port);
        begin_uploads(d, batch, n);
    }
}

void move_upload(struct daemon *d, struct conn *const *conns, size_t n,
                 enum chimney_upload_reason reason, const char *why)
{
    for (size_t i = 0; i < n; i++) {
        struct conn *c = conns[i];

        c->want_offload = false;
        if (c->state == CHIMNEY_OFFLOADED || c->state == CHIMNEY_OFFLOADING) {
            snprintf(c->want_why, sizeof(c->want_why), "%s", why);
            c->want_reason = reason;
            c->want_upload = true;
        }
        if (c->state == CHIMNEY_OFFLOADED) {
            enqueue_upload(d, c);
        } else if (c->state == CHIMNEY_IN_HOST || c->lent) {
            snprintf(c->why_not, sizeof(c->why_not), "uploaded: %s", why);
            conn_settled(d, c);
        }
    }
    pump_uploads(d);
}

/* The state of a target that cannot be believed, or that lost it: nothing to restore from. */
static void lost(struct daemon *d, struct conn *c, const char *why)
{
    daemon_log("connection %u is lost: %s", c->id, why);
    snprintf(c->now.why, sizeof(c->now.why), "%s", why);
    record_end(d, c, true);
    steer_delete(d->steer, &c->key, 1);
    hold_drop(&d->holds, &c->hold);
    slot_set_route(c, STREAM_ROUTE_LOST);
    snprintf(c->why_not, sizeof(c->why_not), "lost: %s", why);
    d->uploading--;
    set_state(c, CHIMNEY_IN_HOST);
    c->w_corrupt = true; /* never again */
    conn_settled(d, c);
}

/*
 * Before the rings are read for the last time: a thread that was preempted inside a call finishes
 * it first.  Only a thread that stopped for good is not waited for.
 */
static void wait_for_program(struct conn *c)
{
    uint64_t deadline = daemon_now() + DAEMON_DRAIN_NS;

    while (!c->session->dead && atomic_load(&slot_of(c)->users) != 0 && daemon_now() < deadline)
        nanosleep(&(struct timespec){0, 50000}, NULL);
}

static void terminate_done(struct daemon *d, struct conn *c)
{
    struct chimney_tcp_delegated *t = tree_tcp_delegated(c->block);
    struct stream_slot *slot = slot_of(c);
    uint64_t una, head, tail;

    c->cell.context = NULL;
    c->port->offloaded--;
    paths_put(c->path);
    c->path = NULL;
    wait_for_program(c);
    c->bytes_in += atomic_load(&c->w_bytes_in);
    c->bytes_out += atomic_load(&c->w_bytes_out);
    atomic_store(&c->w_bytes_in, 0);
    atomic_store(&c->w_bytes_out, 0);
    c->now.status = c->block->status;
    if (c->block->status != NDIS_STATUS_SUCCESS) {
        lost(d, c, "the target lost its state");
        return;
    }
    c->carry.at_ns = daemon_now();
    c->carry.cwnd = t->cwnd;
    c->carry.ssthresh = t->ssthresh;
    c->carry.srtt = t->srtt;
    c->carry.rttvar = t->rttvar;
    c->carry.reordering = t->reordering;
    /* SndUna may be ahead of the last send completion (C246): the state decides. */
    una = c->w_send_tail +
          (uint32_t)(t->snd_una - (c->handoff.state.snd_una + (uint32_t)c->w_send_tail));
    /* What the program wrote and read since the worker last looked; believed if possible. */
    head = atomic_load(&slot->send.head);
    if (head < c->w_send_end || head - c->w_send_tail > c->w_ring_size)
        head = c->w_send_end;
    tail = atomic_load(&slot->receive.tail);
    if (tail < c->w_rcv_tail || tail > t->buffered_data.end)
        tail = c->w_rcv_tail;
    t->send_data = (struct chimney_span){una, head};
    t->buffered_data.begin = tail;
    c->now.in_flight = t->snd_max - t->snd_una;
    c->now.queued_bytes = (uint32_t)(head - una + (t->buffered_data.end - tail));
    if (handoff_prepare(&c->handoff, t, &c->restore) < 0) {
        lost(d, c, "the target gave back a state that contradicts itself");
        return;
    }
    restore(d, c);
}

/* ---- release -------------------------------------------------------------------------------- */

/*
 * Our duplicate goes before the program is told: its own close(2) is to be the last one, with all
 * that SO_LINGER may mean.  If the program is gone ours is the last, and must not wait: neither
 * does the kernel's for a process that exits.
 */
static void close_duplicate(struct conn *c)
{
    struct linger linger;
    socklen_t len = sizeof(linger);

    if (c->session && c->session->dead &&
        getsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, &len) == 0 && linger.l_onoff &&
        linger.l_linger > 0) {
        linger.l_onoff = 0;
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    }
    close(c->fd);
    c->fd = -1;
}

static void drop(struct daemon *d, struct conn *c)
{
    struct session *s = c->session;

    close_duplicate(c);
    if (s) {
        if (c->notify_detach)
            session_answer(s, PROTOCOL_DETACH, c->detach_serial, c, 0, 0, NULL);
        event_simple(d, "detach", NULL, c, c->want_why);
        s->conns[c->slot] = NULL;
        s->attached--;
    }
    if (c->lent) {
        /* Its block is still in a queued tree: it goes when the tree completes. */
        conn_bury(d, c);
        return;
    }
    if (c->in_wants) {
        struct conn **link = &d->wants;

        while (*link != c)
            link = &(*link)->want_next;
        *link = c->want_next;
        if (d->wants_tail == &c->want_next)
            d->wants_tail = link;
    }
    conn_free(d, c);
}

void move_release(struct daemon *d, struct conn *c)
{
    c->want_release = true;
    c->want_offload = false;
    if (c->restoring || c->flushing)
        return; /* when it is back */
    if (c->state == CHIMNEY_IN_HOST || c->lent)
        drop(d, c);
    else if (c->state == CHIMNEY_OFFLOADED) {
        c->want_reason = CHIMNEY_REASON_NONE;
        enqueue_upload(d, c);
        pump_uploads(d);
    }
}

/* A move has ended: what is wanted next? */
static void conn_settled(struct daemon *d, struct conn *c)
{
    if (c->state == CHIMNEY_OFFLOADED) {
        if (c->want_upload || c->want_release)
            enqueue_upload(d, c); /* pumped after every message */
        return;
    }
    if (c->now.direction == MOVE_UPLOAD && c->now.duration_ns == 0 && c->state == CHIMNEY_IN_HOST) {
        snprintf(c->why_not, sizeof(c->why_not), "uploaded: %s", c->now.why);
        record_end(d, c, false);
    }
    if (!c->lent)
        c->want_upload = false; /* while lent: on_resume() sees it */
    if (c->notify_upload && c->session) {
        c->notify_upload = false;
        session_answer(c->session, PROTOCOL_UPLOAD, c->upload_serial, c, 0, 0, NULL);
    }
    if (c->want_release && !c->restoring && !c->flushing &&
        (c->state == CHIMNEY_IN_HOST || c->lent)) {
        drop(d, c);
    }
}

/* ---- pause and resume ----------------------------------------------------------------------- */

/*
 * The initiate that was on its way is queued.  Lend its connections back to the kernel until the
 * resume.  It is certain that it is queued: had the target done it before it paused, its completion
 * would have come before this indication.
 */
static void lend_back(struct daemon *d, struct port_ctx *p)
{
    for (size_t i = 0; p->initiate && i < p->batch_count; i++) {
        struct conn *c = p->batch[i];

        if (c->lent || c->zombie)
            continue;
        p->queued_in_pause++;
        c->lent = true;
        snprintf(c->why_not, sizeof(c->why_not), "its initiate is queued until the target resumes");
        event_simple(d, "queued", p->ifname, c, NULL);
        handoff_prepare_unchanged(&c->handoff, &c->restore);
        restore(d, c);
    }
}

static void on_pause(struct daemon *d, struct port_ctx *p)
{
    p->paused = true;
    p->pauses++;
    event_simple(d, "pause", p->ifname, NULL, NULL);
    lend_back(d, p);
}

static void on_upload_all(struct daemon *d, struct port_ctx *p)
{
    struct conn *batch[HANDOFF_BATCH];
    size_t n = 0;

    p->paused = true;
    p->upload_all = true;
    p->upload_alls++;
    event_simple(d, "upload-all", p->ifname, NULL, NULL);
    lend_back(d, p);
    for (struct conn *c = d->conns; c; c = c->next) {
        if (c->port != p || c->lent ||
            (c->state != CHIMNEY_OFFLOADED && c->state != CHIMNEY_OFFLOADING))
            continue;
        batch[n++] = c;
        if (n == HANDOFF_BATCH) {
            move_upload(d, batch, n, UploadRequested, "target asked for all");
            n = 0;
        }
    }
    if (n > 0)
        move_upload(d, batch, n, UploadRequested, "target asked for all");
    d->next_collect_ns = 0; /* then paths and neighbors (C359) */
}

static void on_resume(struct daemon *d, struct port_ctx *p, const struct chimney_capabilities *caps)
{
    struct mail mail = {.kind = MAIL_CAPS, .port = p};
    struct conn *lent[HANDOFF_BATCH];
    size_t n = 0;

    p->paused = p->upload_all = false;
    p->resumes++;
    p->caps = *caps;
    event_simple(d, "resume", p->ifname, NULL, NULL);
    /* Freeze again what was lent back, and write its state of now into the unread blocks. */
    for (size_t i = 0; p->initiate && i < p->batch_count; i++) {
        struct conn *c = p->batch[i];

        if (!c->zombie && c->lent && !c->want_upload && !c->restoring && !c->flushing)
            lent[n++] = c;
        tree_tcp_delegated(c->block)->state = TcpConnectionClosed; /* unless frozen below */
    }
    if (n > 0) {
        n = freeze(d, lent, n);
        for (size_t i = 0; i < n; i++) {
            lent[i]->lent = false;
            fill_block(lent[i]);
            fill_slot(lent[i]);
        }
    }
    worker_post(d, &mail);
    pump_offloads(d);
}

/*
 * SmallIO: the rings are too small for the path.  An optional reason: the connection stays where it
 * is, and its next offload gets larger ones.
 */
static void larger_rings(struct conn *c)
{
    uint32_t size = c->handoff.rings.size;

    if (size < STREAM_RING_MAX)
        c->ring_hint = 4 * size < STREAM_RING_MAX ? 4 * size : STREAM_RING_MAX;
}

/* ---- messages and time ---------------------------------------------------------------------- */

static const char *reason_why(enum chimney_upload_reason reason)
{
    switch (reason) {
    case ReceivedUrgentData:
        return "urgent data";
    case TimeoutExpiration:
        return "the peer does not answer";
    case UploadRequested:
        return "peer closed, or the target asked";
    default:
        return chimney_upload_reason_name(reason);
    }
}

void move_mail(struct daemon *d, const struct mail *mail)
{
    struct port_ctx *p = mail->port;
    struct conn *c = mail->conn;

    switch (mail->kind) {
    case MAIL_DONE:
        if (mail->verb == TREE_INITIATE) {
            batch_done(d, p, mail->root);
            pump_offloads(d);
        } else if (mail->verb == TREE_TERMINATE && tree_block_layer(mail->root) == TREE_TCP) {
            struct chimney_block *b = mail->root, *next;

            for (; b; b = next) {
                next = b->next;
                terminate_done(d, b->host_handle);
            }
        } else {
            paths_verb_done(d, p, (enum tree_verb)mail->verb, mail->root);
            pump_offloads(d);
        }
        break;
    case MAIL_STARTED:
        started(d, c);
        break;
    case MAIL_STATUS:
        if (mail->status == NDIS_STATUS_OFFLOAD_PAUSE)
            on_pause(d, p);
        else if (mail->status == NDIS_STATUS_UPLOAD_ALL)
            on_upload_all(d, p);
        else if (mail->status == NDIS_STATUS_OFFLOAD_RESUME)
            on_resume(d, p, &mail->caps);
        break;
    case MAIL_EVENT:
        if (mail->event == TcpIndicateRetrieve && mail->info == SmallIO)
            larger_rings(c);
        else if (mail->event == TcpIndicateRetrieve)
            move_upload(d, &c, 1, (enum chimney_upload_reason)mail->info,
                        reason_why((enum chimney_upload_reason)mail->info));
        else if (mail->event == TcpIndicateAbort)
            move_upload(d, &c, 1, CHIMNEY_REASON_NONE, "peer reset");
        else if (mail->event == TcpIndicateDisconnect)
            move_upload(d, &c, 1, CHIMNEY_REASON_NONE, "peer closed");
        break;
    case MAIL_CORRUPT:
        daemon_log("connection %u: its program wrote impossible values into shared memory", c->id);
        move_upload(d, &c, 1, InvalidState, "impossible values in shared memory");
        break;
    case MAIL_BREACH:
        d->breaches++;
        daemon_log("contract: %s", mail->text);
        event_simple(d, "breach", p ? p->ifname : NULL, NULL, mail->text);
        break;
    default:
        break;
    }
    come_home_all(d);
    pump_uploads(d);
    pump_offloads(d);
}

void move_tick(struct daemon *d, uint64_t now)
{
    struct conn *list = d->busy;

    d->busy = NULL;
    while (list) {
        struct conn *c = list;

        list = c->busy_next;
        if (c->retry_ns > now) {
            c->busy_next = d->busy;
            d->busy = c;
        } else {
            restore(d, c);
        }
    }
    come_home_all(d);
    pump_offloads(d);
    pump_uploads(d);
    release_some(d);
    if (now >= d->next_collect_ns) {
        d->next_collect_ns = now + MOVE_COLLECT_NS;
        for (unsigned i = 0; i < d->port_count; i++)
            paths_collect(d, &d->ports[i]);
    }
}

uint64_t move_next_tick(struct daemon *d)
{
    uint64_t next = UINT64_MAX, now = daemon_now();

    if (d->busy)
        next = now + MOVE_BUSY_RETRY_NS;
    if (release_left(d))
        next = now;
    for (unsigned i = 0; i < d->port_count; i++) {
        struct port_ctx *p = &d->ports[i];

        if (d->wants && !p->paused && !p->initiate)
            next = next < now + DAEMON_RETRY_NS ? next : now + DAEMON_RETRY_NS;
        if ((p->paths || p->neighbors) && d->next_collect_ns < next)
            next = d->next_collect_ns;
    }
    return next;
}

bool move_idle(struct daemon *d)
{
    if (d->busy || d->home)
        return false;
    for (unsigned i = 0; i < d->port_count; i++)
        if (d->ports[i].offloaded > 0)
            return false;
    for (struct conn *c = d->conns; c; c = c->next)
        if (c->state == CHIMNEY_UPLOADING || (c->state == CHIMNEY_OFFLOADING && !c->lent))
            return false;
    return true;
}
