/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sending: one loop of steps and sleeps for every kind of send.
 *
 * A blocking send is made of non-blocking ones, so a step can meet an error after earlier steps
 * have moved data.  The kernel would return the count and keep the error for the next call.  Here
 * the error has been taken from the socket already; it is kept in conn->error.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "client/client.h"

/** Flags a target needs not know of: about waiting and signals, or hints. */
#define SEND_FLAGS_ANYWHERE                                                                        \
    (MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE | MSG_EOR | MSG_DONTROUTE | MSG_CONFIRM)

static ssize_t send_kernel(struct chimney_conn *c, struct pieces *p, int flags)
{
    struct iovec batch[PIECES_BATCH];
    struct msghdr msg = pieces_message(p, batch);
    ssize_t n = os_sendmsg(c->fd, &msg, flags);

    if (n < 0)
        return -errno;
    pieces_advance(p, (size_t)n);
    return n;
}

static ssize_t send_stream(struct chimney_conn *c, struct stream_slot *slot, struct pieces *p)
{
    struct ring_view view;
    size_t n;

    if (p->left == 0)
        return 0;
    pthread_mutex_lock(&c->send_lock);
    if (!ring_look_send(slot, &view)) {
        pthread_mutex_unlock(&c->send_lock);
        conn_lose(c);
        return -EAGAIN; /* the next look finds it lost */
    }
    n = p->left < view.room ? p->left : view.room;
    if (!ring_open(slot))
        n = 0;
    if (n > 0) {
        pieces_to_ring(p, stream_send_base(&c->session->arena, c->index), view.size, view.pos, n);
        atomic_store_explicit(&slot->send.head, view.pos + n, memory_order_release);
    }
    pthread_mutex_unlock(&c->send_lock);
    if (p->left > 0)
        set_no_room(c, slot);
    return n > 0 ? (ssize_t)n : -EAGAIN;
}

/** Bytes moved; or -errno: -EAGAIN where a blocking call sleeps, -EINPROGRESS while it moves. */
static ssize_t send_step(struct chimney_conn *c, struct pieces *p, int flags)
{
    struct stream_slot *slot;
    ssize_t n;
    int err;

    switch (conn_enter(c, &slot)) {
    case CARRIER_KERNEL:
        n = send_kernel(c, p, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
        conn_leave(slot);
        return n;
    case CARRIER_STREAM:
        if ((flags & ~SEND_FLAGS_ANYWHERE) != 0) {
            conn_leave(slot);
            err = conn_enter_kernel(c, &slot);
            if (err != 0)
                return err;
            n = send_kernel(c, p, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
            conn_leave(slot);
            return n;
        }
        n = send_stream(c, slot, p);
        conn_leave(slot);
        if (n > 0)
            ring_kick(c, slot);
        return n;
    case CARRIER_MOVING:
        return -EINPROGRESS;
    case CARRIER_LOST:
        err = conn_take_error(c);
        return err != 0 ? -err : -EPIPE;
    case CARRIER_STRANDED:
        return -EBADFD;
    }
    return -EBADFD;
}

/** The end of a send that moved nothing. */
static ssize_t send_fail(int err, int flags)
{
    if (err == EPIPE && (flags & MSG_NOSIGNAL) == 0)
        syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGPIPE);
    return client_fail(err);
}

static ssize_t send_pieces(struct chimney_conn *c, struct pieces *p, int flags)
{
    struct sleeper sleeper = {0};
    int64_t patience = 0;
    ssize_t total = 0, n;
    int err = conn_take_error(c);

    if (err != 0)
        return send_fail(err, flags);
    for (;;) {
        n = send_step(c, p, flags);
        if (n > 0)
            total += n;
        if (n >= 0 && p->left == 0)
            return total;
        if (n < 0 && n != -EAGAIN && n != -EINPROGRESS) {
            if (total == 0)
                return send_fail((int)-n, flags);
            if (n != -EPIPE) /* a closed direction stays closed; anything else was said once */
                atomic_store(&c->error, (int)-n);
            return total;
        }
        if (conn_nonblocking(c, flags)) {
            if (n == -EINPROGRESS && conn_patience(c, &patience))
                continue;
            return total > 0 ? total : client_fail(EAGAIN);
        }
        if (sleeper.deadline == 0)
            sleeper.deadline = client_deadline(atomic_load(&c->send_timeout_ns));
        sleeper.restart = total == 0; /* a count is returned, not restarted */
        err = conn_sleep(c, POLLOUT, &sleeper);
        if (err != 0)
            return total > 0 ? total : client_fail(-err);
    }
}

EXPORT ssize_t chimney_sendv(struct chimney_conn *c, const struct iovec *iov, int count, int flags)
{
    struct pieces p;
    int err = pieces_init(&p, iov, count);

    if (err != 0)
        return client_fail(-err);
    if (!conn_plain(c))
        return send_pieces(c, &p, flags);
    return os_sendmsg(c->fd,
                      &(struct msghdr){.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count},
                      flags);
}

EXPORT ssize_t chimney_send(struct chimney_conn *c, const void *data, size_t len, int flags)
{
    struct iovec iov = {.iov_base = (void *)data, .iov_len = len < SSIZE_MAX ? len : SSIZE_MAX};

    return chimney_sendv(c, &iov, 1, flags);
}
