/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program's side of the two rings.
 *
 * The daemon's indices are checked although the daemon is trusted: a wrong one must end this
 * connection with an error, not the program with a fault.
 */
#include <errno.h>
#include <poll.h>
#include "client/client.h"

/** A power of two within the slot's room. */
static bool ring_size(struct stream_slot *slot, uint32_t *size)
{
    *size = atomic_load_explicit(&slot->ring_size, memory_order_relaxed);
    return *size != 0 && (*size & (*size - 1)) == 0 && *size <= STREAM_RING_MAX;
}

bool ring_look_send(struct stream_slot *slot, struct ring_view *view)
{
    uint64_t head = atomic_load_explicit(&slot->send.head, memory_order_relaxed);
    uint64_t tail = atomic_load_explicit(&slot->send.tail, memory_order_acquire);
    size_t limit = atomic_load_explicit(&slot->send_limit, memory_order_relaxed);

    if (!ring_size(slot, &view->size) || head - tail > view->size)
        return false;
    if (limit > view->size)
        limit = view->size;
    view->pos = head;
    view->used = head - tail;
    /* After an offload the ring may hold more than the limit: what the kernel's queue held. */
    view->room = limit > view->used ? limit - view->used : 0;
    return true;
}

bool ring_look_receive(struct stream_slot *slot, struct ring_view *view)
{
    uint64_t tail = atomic_load_explicit(&slot->receive.tail, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&slot->receive.head, memory_order_acquire);

    if (!ring_size(slot, &view->size) || head - tail > view->size)
        return false;
    view->pos = tail;
    view->used = head - tail;
    view->room = 0;
    return true;
}

/*
 * A send that completed with anything but success means that the target takes no more: what is in
 * the ring is carried to the kernel by the daemon (UPLOAD_IN_PROGRESS), the rest of the program's
 * bytes waits for the route to change.
 */
bool ring_open(struct stream_slot *slot)
{
    chimney_status status = atomic_load_explicit(&slot->send_status, memory_order_relaxed);

    return status == NDIS_STATUS_SUCCESS || status == NDIS_STATUS_PENDING;
}

int ring_ready(struct chimney_conn *c, struct stream_slot *slot, size_t need)
{
    struct ring_view in, out;
    int ready = 0;

    if (need == 0)
        need = (size_t)atomic_load_explicit(&c->receive_low, memory_order_relaxed);

    if (!ring_look_send(slot, &out) || !ring_look_receive(slot, &in))
        return POLLIN | POLLOUT; /* whoever comes to look finds out */
    /* Data enough, or a ring that can take no more: the same rule as the kernel's. */
    if (in.used >= need || in.used == in.size)
        ready |= POLLIN | POLLRDNORM;
    /* Writable when a third is free, as Linux has it: room >= used / 2. */
    if (ring_open(slot) && out.room > 0 && out.room >= out.used / 2)
        ready |= POLLOUT | POLLWRNORM;
    return ready;
}

void ring_kick(struct chimney_conn *c, struct stream_slot *slot)
{
    struct chimney_session *s = c->session;

    /* The daemon clears kicked before it reads the indices: if it is set, they will be read. */
    if (atomic_exchange(&slot->kicked, 1) != 0)
        return;
    if (stream_queue_push(stream_kick_queue(&s->arena), c->index) == 1)
        os_event_ring(s->kick_fd);
}
