/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receiving: one loop of steps and sleeps for every kind of receive.
 *
 * An end of stream comes from the kernel only: a FIN brings the connection back before it is acted
 * on.  Data in a ring that the program has not read goes back with it.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "client/client.h"

/** Flags the rings serve. */
#define RECEIVE_FLAGS_ANYWHERE                                                                     \
    (MSG_DONTWAIT | MSG_PEEK | MSG_WAITALL | MSG_TRUNC | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC)
/** The daemon hears of every quarter of a ring that became free: a window update may be due. */
#define RECEIVE_TELL_PARTS 4

/** One receive. */
struct receive {
    struct pieces p;
    int flags;
    bool full; /* the ring is full: waiting for more of it is of no use */
};

static ssize_t receive_kernel(struct chimney_conn *c, struct pieces *p, int flags)
{
    struct iovec batch[PIECES_BATCH];
    struct msghdr msg = pieces_message(p, batch);
    ssize_t n = os_recvmsg(c->fd, &msg, flags);

    if (n < 0)
        return -errno;
    /*
     * A walk that began inside a piece shows the kernel PIECES_BATCH pieces only; recvmsg(2) with
     * MSG_TRUNC reports no more than what it discarded or filled, so this holds for it too.
     */
    if ((flags & MSG_PEEK) == 0)
        pieces_advance(p, (size_t)n);
    return n;
}

/** True if the daemon is to be told that @view.pos is now the tail. */
static bool receive_tell(struct chimney_conn *c, struct stream_slot *slot,
                         const struct ring_view *before, size_t taken)
{
    uint32_t generation = atomic_load_explicit(&slot->generation, memory_order_relaxed);
    uint64_t tail = before->pos + taken;

    if (c->told_generation != generation) {
        c->told_generation = generation;
        c->told = before->pos;
    }
    if (taken < before->used && before->used < before->size &&
        tail - c->told < before->size / RECEIVE_TELL_PARTS)
        return false;
    c->told = tail;
    return true;
}

/** Takes what the ring has.  -EAGAIN: nothing. */
static ssize_t receive_ring(struct chimney_conn *c, struct stream_slot *slot, struct receive *r,
                            bool *tell)
{
    struct ring_view view;
    struct pieces look = r->p, *walk = (r->flags & MSG_PEEK) != 0 ? &look : &r->p;
    size_t n;

    *tell = false;
    pthread_mutex_lock(&c->receive_lock);
    if (!ring_look_receive(slot, &view)) {
        pthread_mutex_unlock(&c->receive_lock);
        conn_lose(c);
        return -EAGAIN;
    }
    r->full = view.used == view.size;
    n = r->p.left < view.used ? r->p.left : view.used;
    if (n > 0) {
        if ((r->flags & MSG_TRUNC) != 0)
            pieces_advance(walk, n);
        else
            pieces_from_ring(walk, stream_receive_base(&c->session->arena, c->index), view.size,
                             view.pos, n);
        if ((r->flags & MSG_PEEK) == 0) {
            atomic_store_explicit(&slot->receive.tail, view.pos + n, memory_order_release);
            *tell = receive_tell(c, slot, &view, n);
        }
    }
    pthread_mutex_unlock(&c->receive_lock);
    /* A receive of no bytes succeeds when there is something to receive, as in the kernel. */
    return n > 0 || view.used > 0 ? (ssize_t)n : -EAGAIN;
}

/** A lost connection: what had arrived, the error once, then the end. */
static ssize_t receive_lost(struct chimney_conn *c, struct receive *r)
{
    struct stream_slot *slot = atomic_load(&c->slot);
    struct ring_view view;
    ssize_t n = -EAGAIN;
    bool tell;
    int err;

    if (slot != NULL && ring_look_receive(slot, &view))
        n = receive_ring(c, slot, r, &tell);
    if (n != -EAGAIN)
        return n;
    err = conn_take_error(c);
    return -err;
}

/**
 * Bytes received, 0 for the end; or -errno: -EAGAIN where a blocking call sleeps, -EINPROGRESS
 * while the connection moves.
 */
static ssize_t receive_step(struct chimney_conn *c, struct receive *r)
{
    struct stream_slot *slot;
    bool tell;
    ssize_t n;
    int err;

    switch (conn_enter(c, &slot)) {
    case CARRIER_KERNEL:
        break;
    case CARRIER_STREAM:
        if ((r->flags & ~RECEIVE_FLAGS_ANYWHERE) != 0) {
            conn_leave(slot);
            err = conn_enter_kernel(c, &slot);
            if (err != 0)
                return err;
            break;
        }
        n = receive_ring(c, slot, r, &tell);
        conn_leave(slot);
        if (tell)
            ring_kick(c, slot);
        return n;
    case CARRIER_MOVING:
        return -EINPROGRESS;
    case CARRIER_LOST:
        return receive_lost(c, r);
    case CARRIER_STRANDED:
        return -EBADFD;
    }
    n = receive_kernel(c, &r->p, r->flags | MSG_DONTWAIT);
    conn_leave(slot);
    /* An error that a blocking send met too early comes after the data, before the end. */
    if ((n == 0 && r->p.left > 0) || n == -EAGAIN) {
        err = conn_take_error(c);
        if (err != 0)
            return -err;
    }
    return n;
}

static ssize_t receive_pieces(struct chimney_conn *c, struct receive *r)
{
    struct sleeper sleeper = {.peek = (r->flags & MSG_PEEK) != 0};
    size_t low = (size_t)atomic_load_explicit(&c->receive_low, memory_order_relaxed);
    size_t len = r->p.left, target, total = 0;
    int64_t patience = 0;
    ssize_t n;
    int err;

    /* What the call must have before it returns without another reason. */
    target = (r->flags & MSG_WAITALL) != 0 || len < low ? len : low;
    if (target == 0)
        target = 1;
    for (;;) {
        r->full = false;
        n = receive_step(c, r);
        if (n >= 0 || n == -EAGAIN || n == -EINPROGRESS) {
            size_t more = n > 0 ? (size_t)n : 0;

            total = sleeper.peek ? more : total + more; /* a peek begins anew each time */
        }
        if (n >= 0 && (n == 0 || total >= target || (sleeper.peek && r->full)))
            return (ssize_t)total;
        if (n < 0 && n != -EAGAIN && n != -EINPROGRESS) {
            if (total == 0)
                return client_fail((int)-n);
            atomic_store(&c->error, (int)-n);
            return (ssize_t)total;
        }
        if (conn_nonblocking(c, r->flags)) {
            if (n == -EINPROGRESS && conn_patience(c, &patience))
                continue;
            return total > 0 ? (ssize_t)total : client_fail(EAGAIN);
        }
        if (sleeper.deadline == 0)
            sleeper.deadline = client_deadline(atomic_load(&c->receive_timeout_ns));
        sleeper.need = sleeper.peek ? total + 1 : target - total < low ? target - total : low;
        sleeper.restart = total == 0; /* a count is returned, not restarted */
        err = conn_sleep(c, POLLIN, &sleeper);
        if (err != 0)
            return total > 0 ? (ssize_t)total : client_fail(-err);
    }
}

EXPORT ssize_t chimney_recvv(struct chimney_conn *c, const struct iovec *iov, int count, int flags)
{
    /* Urgent data and the error queue are never waited for. */
    struct receive r = {.flags =
                            (flags & (MSG_OOB | MSG_ERRQUEUE)) != 0 ? flags | MSG_DONTWAIT : flags};
    int err = pieces_init(&r.p, iov, count);
    ssize_t n;

    if (err != 0)
        return client_fail(-err);
    if (!conn_plain(c))
        return receive_pieces(c, &r);
    n = os_recvmsg(c->fd,
                   &(struct msghdr){.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count},
                   flags);
    return n;
}

EXPORT ssize_t chimney_recv(struct chimney_conn *c, void *data, size_t len, int flags)
{
    struct iovec iov = {.iov_base = data, .iov_len = len < SSIZE_MAX ? len : SSIZE_MAX};

    return chimney_recvv(c, &iov, 1, flags);
}
