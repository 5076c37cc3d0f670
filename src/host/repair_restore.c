/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Back into the kernel: restore, append, thaw.
 *
 * Until repair_thaw() nothing leaves the socket.  Its buffer limits are lifted for what has to go
 * in and are put back at the end; which ones were lifted can be seen from the lock bits, which the
 * lifting sets.
 */
#include "host/repair.h"

#include <assert.h>
#include <limits.h>
#include <linux/tcp.h>
#include <sys/uio.h>
#include "host/sockopt.h"

/* Bits of SO_BUF_LOCK. */
#define LOCKED_SNDBUF 1
#define LOCKED_RCVBUF 2

/** What TCP_MAXSEG takes. */
#define MAXSEG_MIN 88
#define MAXSEG_MAX 32767
/** The memory of a queue is counted with its packets' overhead: this many times the payload. */
#define OVERHEAD 4
/** Times a buffer limit is doubled before its queue is given up. */
#define LIFT_TRIES 8

/** Bytes [pos, pos + len) of a ring, at most two pieces; returns how many. */
static int ring_pieces(const uint8_t *base, uint32_t size, uint64_t pos, uint32_t len,
                       struct iovec pieces[2])
{
    uint32_t offset = pos & (size - 1), first = size - offset;

    assert(size && (size & (size - 1)) == 0 && len <= size);
    if (first > len)
        first = len;
    pieces[0].iov_base = (uint8_t *)base + offset;
    pieces[0].iov_len = first;
    pieces[1].iov_base = (uint8_t *)base;
    pieces[1].iov_len = len - first;
    return len > first ? 2 : 1;
}

/* One send of as much of the range as is taken: bytes or -errno. */
static ssize_t send_range(int fd, const uint8_t *base, uint32_t size, uint64_t pos, uint32_t len,
                          const char *step)
{
    struct iovec pieces[2];
    struct msghdr msg = {.msg_iov = pieces};
    ssize_t n;
    int err = host_fault(step);

    if (err)
        return err;
    msg.msg_iovlen = ring_pieces(base, size, pos, len, pieces);
    do
        n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* Makes room for @bytes of payload in one direction. */
static int lift(int fd, int get, int force, uint32_t bytes, const char *step)
{
    int now, err = sockopt_get(fd, SOL_SOCKET, get, &now, step);
    int64_t want = (int64_t)bytes * OVERHEAD;

    if (err)
        return err;
    if (want < (int64_t)now * 2)
        want = (int64_t)now * 2;
    /* The kernel doubles the value it is given. */
    return sockopt_set(fd, SOL_SOCKET, force, want / 2 > INT_MAX / 2 ? INT_MAX / 2 : want / 2,
                       step);
}

/* Fills the chosen repair queue with the whole range. */
static int fill(int fd, const uint8_t *base, uint32_t size, uint64_t pos, uint32_t len,
                bool sending, const char *step)
{
    int lifts = 0;

    while (len) {
        ssize_t n = send_range(fd, base, size, pos, len, step);

        if ((n == -EAGAIN || n == -ENOMEM || n == -ENOBUFS) && lifts++ < LIFT_TRIES) {
            int err = lift(fd, sending ? SO_SNDBUF : SO_RCVBUF,
                           sending ? SO_SNDBUFFORCE : SO_RCVBUFFORCE, len, "restore.lift");

            if (err)
                return err;
            continue;
        }
        if (n <= 0)
            return n ? n : -EPROTO;
        pos += n;
        len -= n;
    }
    return 0;
}

static int set_seq(int fd, int queue, uint32_t seq, const char *step)
{
    int err = sockopt_queue(fd, queue, step);

    return err ? err : sockopt_set(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, seq, step);
}

static int clamp_mss(unsigned mss)
{
    return mss < MAXSEG_MIN ? MAXSEG_MIN : mss > MAXSEG_MAX ? MAXSEG_MAX : (int)mss;
}

/* Sequence numbers can be set on a closed socket only: an earlier try may have come further. */
static int begin(int fd, const struct repair_restore *r)
{
    const uint32_t first_unread = r->rcv_nxt - r->unread_len;
    int ignored, err = set_seq(fd, REPAIR_SEND_QUEUE, r->snd_una, "restore.snd_una");

    if (err == -EPERM) {
        err = sockopt_set(fd, IPPROTO_TCP, TCP_REPAIR, 1, "restore.repair");
        if (!err)
            err = repair_disconnect(fd);
        if (!err)
            err = sockopt_get(fd, SOL_SOCKET, SO_ERROR, &ignored, "restore.clear_error");
        if (!err)
            err = set_seq(fd, REPAIR_SEND_QUEUE, r->snd_una, "restore.snd_una");
    }
    if (!err)
        err = set_seq(fd, REPAIR_RECV_QUEUE, first_unread, "restore.rcv_nxt");
    /* The segment size is computed in connect(), from this (T4). */
    if (!err)
        err = sockopt_set(fd, IPPROTO_TCP, TCP_MAXSEG, clamp_mss(r->was->mss_clamp),
                          "restore.maxseg");
    return err;
}

static int join(int fd, const struct repair_state *was)
{
    bool taken;
    int err = repair_bind(fd, was, &taken);

    if (!err)
        err = host_fault("restore.connect");
    if (err)
        return err;
    return connect(fd, (const struct sockaddr *)&was->remote, was->addrlen) < 0 ? -errno : 0;
}

static int negotiate(int fd, const struct repair_state *was)
{
    struct tcp_repair_opt options[4];
    int n = 0, err = host_fault("restore.options");

    if (err)
        return err;
    options[n++] = (struct tcp_repair_opt){OPTION_MSS, was->mss_clamp};
    if (was->wscale)
        options[n++] = (struct tcp_repair_opt){OPTION_WINDOW,
                                               was->snd_wscale | (uint32_t)was->rcv_wscale << 16};
    if (was->sack)
        options[n++] = (struct tcp_repair_opt){OPTION_SACK_PERMITTED, 0};
    if (was->timestamps)
        options[n++] = (struct tcp_repair_opt){OPTION_TIMESTAMP, 0};
    if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, options, n * sizeof(options[0])) < 0)
        return -errno;
    return 0;
}

static int fill_queues(int fd, const struct repair_restore *r)
{
    int err = 0;

    if (r->unread_len) {
        err = sockopt_queue(fd, REPAIR_RECV_QUEUE, "restore.queue_receive");
        if (!err)
            err = fill(fd, r->receive_base, r->ring_size, r->rcv_pos - r->unread_len, r->unread_len,
                       false, "restore.fill_receive");
    }
    if (!err && r->sent_len) {
        err = sockopt_queue(fd, REPAIR_SEND_QUEUE, "restore.queue_send");
        if (!err)
            err = fill(fd, r->send_base, r->ring_size, r->una_pos, r->sent_len, true,
                       "restore.fill_send");
    }
    return err;
}

/*
 * What the kernel has told us it may not take back: a segment that is dropped for lack of
 * memory still updates the window it carries, and SND.WL1 is then beyond a receive window that was
 * closed meanwhile.  An older SND.WL1 only means to believe the peer's next update.
 */
static int set_window(int fd, const struct repair_restore *r)
{
    struct tcp_repair_window window = r->window;
    uint32_t edge = r->rcv_nxt + window.rcv_wnd;
    int err = host_fault("restore.window");

    if (err)
        return err;
    if ((int32_t)(window.snd_wl1 - edge) > 0)
        window.snd_wl1 = edge;
    if (window.max_window < window.snd_wnd)
        window.max_window = window.snd_wnd;
    return setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, sizeof(window)) < 0 ? -errno : 0;
}

int repair_restore(int fd, const struct repair_restore *r)
{
    int err;

    assert(r->snd_max - r->snd_una == r->sent_len);
    err = begin(fd, r);
    if (!err)
        err = join(fd, r->was);
    if (!err)
        err = negotiate(fd, r->was);
    /* The lowest bit would switch the socket to microseconds (T5a). */
    if (!err && r->was->timestamps && r->tsval_floor)
        err = sockopt_set(fd, IPPROTO_TCP, TCP_TIMESTAMP, (r->tsval_floor + 1) & ~1u,
                          "restore.timestamp");
    if (!err)
        err = fill_queues(fd, r);
    if (!err)
        err = sockopt_queue(fd, REPAIR_NO_QUEUE, "restore.queue_none");
    if (!err)
        err = set_window(fd, r);
    return err;
}

int repair_append(int fd, const void *data, uint32_t len)
{
    int lifts = 0, err = sockopt_queue(fd, REPAIR_RECV_QUEUE, "append.queue");

    for (uint32_t done = 0; !err && done < len;) {
        ssize_t n;

        err = host_fault("append");
        if (err)
            break;
        n = send(fd, (const uint8_t *)data + done, len - done, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0)
            done += n;
        else if (n < 0 && errno == ENOMEM && lifts++ < LIFT_TRIES)
            err = lift(fd, SO_RCVBUF, SO_RCVBUFFORCE, len, "append.lift");
        else if (n == 0 || errno != EINTR)
            err = n ? -errno : -EPROTO;
    }
    return err;
}

/* Puts one buffer limit back if it was lifted: lifting locks it, and doubles what it is given. */
static int put_back(int fd, int bit, int locks, int get, int force, int value)
{
    int now, err;

    if (!(locks & bit))
        return 0;
    err = sockopt_get(fd, SOL_SOCKET, get, &now, "thaw.read_buffer");
    if (!err && now != value)
        err = sockopt_set(fd, SOL_SOCKET, force, value / 2, "thaw.buffer");
    return err;
}

static int put_back_buffers(int fd, const struct repair_state *was)
{
    int locks, err = sockopt_get(fd, SOL_SOCKET, SO_BUF_LOCK, &locks, "thaw.read_lock");

    if (!err)
        err = put_back(fd, LOCKED_SNDBUF, locks, SO_SNDBUF, SO_SNDBUFFORCE, was->sndbuf);
    if (!err)
        err = put_back(fd, LOCKED_RCVBUF, locks, SO_RCVBUF, SO_RCVBUFFORCE, was->rcvbuf);
    if (!err && locks != was->buf_lock)
        err = sockopt_set(fd, SOL_SOCKET, SO_BUF_LOCK, was->buf_lock, "thaw.lock");
    return err;
}

/* Established, or closed by the peer only: it may be written to. */
static bool writable(int fd)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);

    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
           (info.tcpi_state == STATE_ESTABLISHED || info.tcpi_state == STATE_CLOSE_WAIT);
}

/*
 * Hands the unsent data over.  A socket that was reset in the meantime is left alone: writing to it
 * would take away the error that is meant for the program.
 */
static int send_unsent(int fd, const struct repair_restore *r, uint32_t *left)
{
    int lifts = 0;

    while (*left && writable(fd)) {
        uint64_t pos = r->una_pos + r->sent_len + (r->unsent_len - *left);
        ssize_t n = send_range(fd, r->send_base, r->ring_size, pos, *left, "thaw.send");

        if (n > 0) {
            *left -= n;
        } else if (n == -EAGAIN && lifts++ < LIFT_TRIES) {
            int err = lift(fd, SO_SNDBUF, SO_SNDBUFFORCE, *left, "thaw.lift");

            if (err)
                return err;
        } else if (n == -EAGAIN || n == -EPIPE || n == -ECONNRESET || n == -ETIMEDOUT) {
            break;
        } else {
            return n ? n : -EPROTO;
        }
    }
    return 0;
}

int repair_thaw(int fd, const struct repair_restore *r, uint32_t *left)
{
    int err = sockopt_set(fd, IPPROTO_TCP, TCP_REPAIR, 0, "thaw");

    if (!err)
        err = sockopt_set(fd, SOL_SOCKET, SO_REUSEADDR, r->was->reuseaddr, "thaw.reuseaddr");
    if (!err)
        err = sockopt_set(fd, IPPROTO_TCP, TCP_MAXSEG, r->was->user_maxseg, "thaw.maxseg");
    if (!err)
        err = send_unsent(fd, r, left);
    if (!err)
        err = put_back_buffers(fd, r->was);
    return err;
}
