/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who carries a connection at this moment, and holding it there for one step.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include "client/client.h"

int client_fail(int err)
{
    errno = err;
    return -1;
}

/** The program is told once that the connection is gone. */
static void conn_mark_lost(struct chimney_conn *c)
{
    if (!atomic_exchange(&c->lost, true))
        atomic_store(&c->error, ECONNRESET);
}

void conn_lose(struct chimney_conn *c)
{
    struct stream_slot *slot = atomic_load(&c->slot);

    conn_mark_lost(c);
    if (slot != NULL)
        slot_wake(slot);
}

int conn_take_error(struct chimney_conn *c)
{
    return atomic_load_explicit(&c->error, memory_order_relaxed) == 0
               ? 0
               : atomic_exchange(&c->error, 0);
}

enum carrier conn_carrier(struct chimney_conn *c, struct stream_slot *slot)
{
    if (slot == NULL) {
        if (c->stranded)
            return CARRIER_STRANDED;
        return atomic_load_explicit(&c->lost, memory_order_relaxed) ? CARRIER_LOST : CARRIER_KERNEL;
    }
    switch (atomic_load(&slot->route)) {
    case STREAM_ROUTE_KERNEL:
        if (atomic_load_explicit(&c->lost, memory_order_relaxed))
            return CARRIER_LOST;
        atomic_store_explicit(&c->state, CHIMNEY_IN_HOST, memory_order_relaxed);
        return CARRIER_KERNEL;
    case STREAM_ROUTE_STREAM:
        if (!session_alive(c->session))
            break;
        if (atomic_load_explicit(&c->lost, memory_order_relaxed))
            return CARRIER_LOST;
        atomic_store_explicit(&c->state, CHIMNEY_OFFLOADED, memory_order_relaxed);
        return CARRIER_STREAM;
    case STREAM_ROUTE_MOVING:
        if (!session_alive(c->session))
            break;
        return atomic_load_explicit(&c->lost, memory_order_relaxed) ? CARRIER_LOST : CARRIER_MOVING;
    default:
        break;
    }
    /*
     * LOST by the daemon's word, or a daemon that died with the connection in its hands.  It may
     * have set the route free with its last breath: the route is final now, so read it again.
     */
    if (atomic_load(&slot->route) == STREAM_ROUTE_KERNEL)
        return CARRIER_KERNEL;
    conn_mark_lost(c);
    return CARRIER_LOST;
}

enum carrier conn_enter(struct chimney_conn *c, struct stream_slot **slot)
{
    struct stream_slot *s;
    enum carrier carrier;

    for (;;) {
        s = atomic_load(&c->slot);
        if (s == NULL)
            break;
        atomic_fetch_add(&s->users, 1);
        /*
         * The slot may have been given up, and to another connection, before we were counted.  Now
         * that we are counted it cannot leave the kernel, whosever it is.
         */
        if (atomic_load(&c->slot) == s)
            break;
        atomic_fetch_sub(&s->users, 1);
    }
    *slot = s;
    carrier = conn_carrier(c, s);
    if (carrier != CARRIER_KERNEL && carrier != CARRIER_STREAM)
        conn_leave(s);
    return carrier;
}

void conn_leave(struct stream_slot *slot)
{
    if (slot != NULL)
        atomic_fetch_sub(&slot->users, 1);
}

enum carrier conn_enter_rest(struct chimney_conn *c, struct stream_slot **slot)
{
    enum carrier carrier = conn_enter(c, slot);
    int64_t deadline = 0;

    while (carrier == CARRIER_MOVING) {
        if (deadline == 0)
            deadline = client_deadline(CLIENT_ANSWER_SECONDS * 1000000000ll);
        if (!conn_settle(c, deadline))
            break;
        carrier = conn_enter(c, slot);
    }
    return carrier;
}

int conn_enter_kernel(struct chimney_conn *c, struct stream_slot **slot)
{
    int64_t deadline = client_deadline(CLIENT_ANSWER_SECONDS * 1000000000ll);
    int err;

    for (;;) {
        switch (conn_enter_rest(c, slot)) {
        case CARRIER_KERNEL:
            return 0;
        case CARRIER_STREAM:
            conn_leave(*slot);
            err = conn_upload(c, UploadRequested);
            if (err != 0)
                return err;
            /* A policy may be quicker than we are and offload it again: ask again, not for ever. */
            if (client_now() >= deadline)
                return -ETIMEDOUT;
            break;
        case CARRIER_MOVING:
            return -ETIMEDOUT;
        case CARRIER_LOST:
            return -ECONNRESET;
        case CARRIER_STRANDED:
            return -EBADFD;
        }
    }
}

bool conn_nonblocking(struct chimney_conn *c, int flags)
{
    int status;

    if ((flags & MSG_DONTWAIT) != 0)
        return true;
    status = os_getfl(c->fd);
    return status >= 0 && (status & O_NONBLOCK) != 0;
}
