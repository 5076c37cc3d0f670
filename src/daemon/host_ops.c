/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of the contract, on the worker: completions and indications of the targets become
 * stream indices, wake-ups of programs, and messages to the control thread; kicks of the programs
 * become sends and receives.
 *
 * What a program writes into its slot is read once, compared with our own figures, and believed
 * only if it is possible.  If it is not, the connection is taken back (MAIL_CORRUPT), nothing else.
 */
#include "daemon/daemon.h"

#include <errno.h>
#include <linux/futex.h>
#include <limits.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct stream_slot *slot_of(const struct conn *c)
{
    return stream_slot_at(&c->session->arena, c->slot);
}

/* Threads that sleep on the slot's event word. */
static void slot_wake_futex(struct stream_slot *slot)
{
    atomic_fetch_add(&slot->events, 1);
    if (atomic_load(&slot->waiters) != 0)
        syscall(SYS_futex, &slot->events, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void slot_notify(struct session *s, uint32_t index, uint32_t ready)
{
    struct stream_slot *slot = stream_slot_at(&s->arena, index);
    uint32_t set, want;
    uint64_t one = 1;

    slot_wake_futex(slot);
    set = atomic_load(&slot->set);
    want = atomic_load(&slot->want) | STREAM_READY_ROUTE;
    if (set == 0 || set > STREAM_SETS || !(want & ready))
        return;
    if (atomic_exchange(&slot->queued, 1) != 0)
        return;
    if (stream_queue_push(stream_ready_queue(&s->arena, set - 1), index) == 1) {
        int fd = atomic_load(&s->set_fd_shared[set - 1]);

        if (fd >= 0 && write(fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
            daemon_log("waking a program: %s", strerror(errno));
    }
}

void slot_set_route(struct conn *c, enum stream_route route)
{
    if (!c->session)
        return;
    atomic_store(&slot_of(c)->route, (uint32_t)route);
    slot_notify(c->session, c->slot, STREAM_READY_ROUTE | STREAM_READY_IN | STREAM_READY_OUT);
}

/* ---- completions and indications ------------------------------------------------------------ */

static void post_done(struct chimney_host *host, enum tree_verb verb, struct chimney_block *root)
{
    struct port_ctx *p = (struct port_ctx *)host;
    struct mail mail = {.kind = MAIL_DONE, .port = p, .verb = verb, .root = root};

    mailbox_post(&p->daemon->to_control, &mail);
}

/*
 * The connection runs from here.  Its held frames and its route follow in host_started(), after
 * this completion has returned: the contract forbids a forward before (C321).
 */
static bool started_block(void *arg, struct chimney_block *block, struct chimney_block *parent)
{
    struct port_ctx *p = arg;
    struct conn *c = block->host_handle;

    (void)parent;
    if (tree_block_layer(block) != TREE_TCP || block->status != NDIS_STATUS_SUCCESS ||
        !block->cell || !block->cell->context)
        return true;
    c->w_active = true;
    c->w_forwards = 0;
    c->session->w_conns[c->slot] = c;
    c->w_next_started = p->daemon->w_started;
    p->daemon->w_started = c;
    return true;
}

static void on_initiate_complete(struct chimney_host *host, struct chimney_block *root)
{
    tree_walk(root, started_block, host);
    /* MAIL_DONE follows from host_started(), when the route is set. */
    post_done(host, TREE_INITIATE, root);
}

static void on_terminate_complete(struct chimney_host *host, struct chimney_block *root)
{
    post_done(host, TREE_TERMINATE, root);
}

static void on_query_complete(struct chimney_host *host, struct chimney_block *root)
{
    post_done(host, TREE_QUERY, root);
}
static void on_update_complete(struct chimney_host *host, struct chimney_block *root)
{
    post_done(host, TREE_UPDATE, root);
}
static void on_invalidate_complete(struct chimney_host *host, struct chimney_block *root)
{
    post_done(host, TREE_INVALIDATE, root);
}

static void on_send_complete(struct chimney_host *host, void *handle, uint64_t acked,
                             chimney_status status)
{
    struct conn *c = handle;
    struct stream_slot *slot = slot_of(c);

    (void)host;
    if (acked > c->w_send_tail) {
        atomic_fetch_add_explicit(&c->w_bytes_out, acked - c->w_send_tail, memory_order_relaxed);
        c->w_send_tail = acked;
        atomic_store_explicit(&slot->send.tail, acked, memory_order_release);
    }
    atomic_store_explicit(&slot->send_status, status, memory_order_relaxed);
    slot_notify(c->session, c->slot, STREAM_READY_OUT);
}

static void on_receive_indicate(struct chimney_host *host, void *handle, uint64_t head)
{
    struct conn *c = handle;
    struct stream_slot *slot = slot_of(c);

    (void)host;
    atomic_fetch_add_explicit(&c->w_bytes_in, head - c->w_rcv_head, memory_order_relaxed);
    c->w_rcv_head = head;
    atomic_store_explicit(&slot->receive.head, head, memory_order_release);
    slot_notify(c->session, c->slot, STREAM_READY_IN);
}

static void on_event(struct chimney_host *host, void *handle, enum chimney_event_type type,
                     uint32_t info)
{
    struct port_ctx *p = (struct port_ctx *)host;
    struct mail mail = {.kind = MAIL_EVENT, .port = p, .conn = handle, .event = type, .info = info};

    if (type != TcpIndicateSendBacklogChange)
        mailbox_post(&p->daemon->to_control, &mail);
}

static void on_status(struct chimney_host *host, chimney_status status, const void *buffer,
                      size_t length)
{
    struct port_ctx *p = (struct port_ctx *)host;
    struct mail mail = {.kind = MAIL_STATUS, .port = p, .status = status};

    if (status == NDIS_STATUS_OFFLOAD_RESUME && length == sizeof(mail.caps))
        memcpy(&mail.caps, buffer, sizeof(mail.caps));
    mailbox_post(&p->daemon->to_control, &mail);
}

/* The host closes by uploading first: it has no disconnect open, and forwards are not waited for.
 */
static void on_disconnect_complete(struct chimney_host *host, void *handle, chimney_status status)
{
    (void)host;
    (void)handle;
    (void)status;
}

/*
 * A held frame the target did not take because an upload began in between goes into the kernel
 * after it; the peer would send it again, this is faster.
 */
static void on_forward_complete(struct chimney_host *host, void *handle,
                                const struct chimney_segment *segment, chimney_status status)
{
    struct port_ctx *p = (struct port_ctx *)host;

    ((struct conn *)handle)->w_forwards--;
    if (status == NDIS_STATUS_UPLOAD_IN_PROGRESS)
        steer_reinject(p->daemon->steer, p->ifindex, segment->frame, segment->frame_length);
}

/*
 * Reachability: the kernel is not asked synchronously from the worker.  The answer "just confirmed"
 * keeps the target quiet for NceStaleTicks; a neighbor that really moves comes as an update.
 */
static void on_neighbor_query(struct chimney_host *host, struct chimney_block *block)
{
    (void)host;
    tree_neighbor_cached(block)->host_reachability_delta = 0;
}

/*
 * The non-offload path: held for a connection on its way, else into the kernel.
 *
 * What nobody holds was in the port's ring when its connection went home, and is older than what
 * the kernel has got since.  An acknowledgement without data is worth nothing then: the probe of
 * the thaw has asked for a new one.  And if the program has closed the connection meanwhile the
 * kernel would answer it with a reset.
 */
static void on_receive(struct chimney_host *host, int ifindex, const uint8_t *frame,
                       uint32_t length)
{
    struct port_ctx *p = (struct port_ctx *)host;
    struct daemon *d = p->daemon;
    struct wire_packet packet;

    if (wire_parse(frame, length, true, &packet) == WIRE_OK &&
        (hold_put(&d->holds, &packet.key, frame, length) ||
         (packet.seg.len == 0 && (packet.seg.flags & (TCP_SYN | TCP_FIN | TCP_RST)) == 0)))
        return;
    steer_reinject(d->steer, ifindex, frame, length);
}

const struct chimney_host_ops daemon_host_ops = {
    .initiate_complete = on_initiate_complete,
    .query_complete = on_query_complete,
    .update_complete = on_update_complete,
    .invalidate_complete = on_invalidate_complete,
    .terminate_complete = on_terminate_complete,
    .send_complete = on_send_complete,
    .disconnect_complete = on_disconnect_complete,
    .forward_complete = on_forward_complete,
    .neighbor_query = on_neighbor_query,
    .receive_indicate = on_receive_indicate,
    .event = on_event,
    .status = on_status,
    .receive = on_receive,
};

/* ---- kicks ---------------------------------------------------------------------------------- */

static void conn_corrupt(struct daemon *d, struct conn *c)
{
    struct mail mail = {.kind = MAIL_CORRUPT, .port = c->port, .conn = c};

    if (c->w_corrupt)
        return;
    c->w_corrupt = true;
    mailbox_post(&d->to_control, &mail);
}

/* Looks at the program's indices and turns progress into data verbs. */
static void conn_pump(struct daemon *d, struct conn *c)
{
    struct stream_slot *slot = slot_of(c);
    struct chimney_target *top = c->port->top;
    uint64_t head, tail;

    if (c->w_corrupt)
        return;
    head = atomic_load_explicit(&slot->send.head, memory_order_acquire);
    if (head < c->w_send_end || head - c->w_send_tail > c->w_ring_size) {
        conn_corrupt(d, c);
        return;
    }
    tail = atomic_load_explicit(&slot->receive.tail, memory_order_acquire);
    if (tail < c->w_rcv_tail || tail > c->w_rcv_head) {
        conn_corrupt(d, c);
        return;
    }
    if (head > c->w_send_end) {
        c->w_send_end = head;
        top->ops->send(top, &c->cell, head);
    }
    if (tail > c->w_rcv_tail) {
        c->w_rcv_tail = tail;
        top->ops->receive(top, &c->cell, tail);
    }
}

void host_kick(struct daemon *d, struct session *s, uint32_t index)
{
    struct conn *c;

    if (index >= STREAM_SLOTS)
        return;
    /* Cleared before the indices are read: what the program writes later kicks again. */
    atomic_exchange(&stream_slot_at(&s->arena, index)->kicked, 0);
    c = s->w_conns[index];
    if (c && c->w_active)
        conn_pump(d, c);
}

/* Everything held goes down to the target, in its order. */
static void forward_held(struct daemon *d, struct conn *c)
{
    struct chimney_target *top = c->port->top;
    struct hold_frame *f;

    while ((f = hold_next_frame(&d->holds, &c->hold)) != NULL) {
        struct wire_packet packet;

        if (wire_parse(f->data, f->length, true, &packet) != WIRE_OK)
            continue;
        f->segment = (struct chimney_segment){f->data, f->length, packet.tcp_offset, NULL};
        c->w_forwards++;
        top->ops->forward(top, &c->cell, &f->segment);
    }
}

/*
 * Connections whose initiate has completed: first the held frames, and when the target has
 * completed all of them (they are its until then), the program.
 */
void host_started(struct daemon *d)
{
    struct conn **link = &d->w_started;

    while (*link) {
        struct conn *c = *link;
        struct mail mail = {.kind = MAIL_STARTED, .port = c->port, .conn = c};

        forward_held(d, c);
        if (c->w_forwards > 0 || !hold_close(&d->holds, &c->hold)) {
            link = &c->w_next_started; /* again in the next round */
            continue;
        }
        *link = c->w_next_started;
        slot_set_route(c, STREAM_ROUTE_STREAM);
        conn_pump(d, c);
        mailbox_post(&d->to_control, &mail);
    }
}

/* The host sends and receives no more on what it terminates (C211). */
static bool stop_block(void *arg, struct chimney_block *block, struct chimney_block *parent)
{
    (void)arg;
    (void)parent;
    if (tree_block_layer(block) == TREE_TCP && block->cell) {
        struct conn *c = block->host_handle;

        c->w_active = false;
        c->session->w_conns[c->slot] = NULL;
    }
    return true;
}

void host_terminating(struct chimney_block *root)
{
    tree_walk(root, stop_block, NULL);
}
