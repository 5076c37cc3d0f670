/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scripted daemon in the test's own process.
 *
 * It speaks the session protocol and moves connections between the kernel and the rings, as
 * chimneyd does, but has no target: a relay stands where the network would be.
 *
 *      program        fixture thread          peer
 *      P ===tcp=== Q   (up, down)   T' ===tcp=== T
 *      P |===rings===| (up, down)
 *
 * While the kernel has the connection the relay moves bytes between Q and T'.  An offload quiesces
 * the program, empties P's queues in both directions, parks P with TCP_REPAIR (if we may; else P
 * just stays silent) and goes on between the rings and T'; an upload restores P with what the
 * program has not read in its receive queue.  P and Q never exchange a packet in between.
 *
 * The relay looks at a ring's indices only when it was kicked: a kick the library forgets is a
 * hang.
 */
#ifndef CHIMNEY_TESTS_CLIENT_FIXTURE_H
#define CHIMNEY_TESTS_CLIENT_FIXTURE_H

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include <chimney/chimney.h>
#include "daemon/protocol.h"
#include "stream/stream.h"

#define UNUSED __attribute__((unused))
#define FIXTURE_RELAYS 128
#define FIXTURE_SESSIONS 4
#define FIXTURE_HIGH (128u << 10) /* bytes a relay keeps per direction before it stops reading */
#define FIXTURE_QUIESCE_NS 5000000ll
#define MS 1000000ll

/** What must hold in any thread of the fixture; cmocka's asserts belong to the test's thread. */
#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: %s (errno %d %s)\n", __FILE__, __LINE__, #x, errno,            \
                    strerror(errno));                                                              \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

struct bytes {
    uint8_t *data;
    size_t len, room;
};

struct repaired {
    uint32_t snd_seq, rcv_seq;
    struct tcp_repair_window window;
    struct tcp_info info;
    int mss;
    struct sockaddr_in local, peer;
};

struct relay {
    bool used, attached, busy;
    int p, q, t; /* P is ours from the pairing on; the daemon's duplicate */
    uint64_t cookie;
    uint32_t session, slot;
    enum stream_route route;
    uint32_t ring_size;
    uint64_t send_tail, send_seen, receive_head, receive_seen;
    struct bytes up, down;
    bool q_end, t_end, q_reset, t_reset, q_told, t_told;
    bool parked, never_ack;
    struct repaired repaired;
    uint32_t ahead[2]; /* segments P sent less those Q received, and back, when all have arrived */
    int64_t next_move;
    uint64_t moves;
};

struct fixture_session {
    bool used;
    int fd, kick_fd;
    struct stream_arena arena;
    uint32_t kick_tail;
    int set_fd[STREAM_SETS];
    bool slot_used[STREAM_SLOTS];
};

enum fixture_command {
    FIXTURE_NONE,
    FIXTURE_MOVE,      /* relay to route; result: true if it is there */
    FIXTURE_LOSE,      /* route LOST */
    FIXTURE_SCRIBBLE,  /* impossible indices in the slot */
    FIXTURE_GOODBYE,   /* all uploaded, notice, sockets closed */
    FIXTURE_DIE,       /* sockets closed, as by SIGKILL */
    FIXTURE_MUTE,      /* answers nothing any more */
    FIXTURE_NEVER_ACK, /* the relay takes nothing from the send ring */
    FIXTURE_STATUS,    /* send_status = arg */
    FIXTURE_STOP,
};

struct fixture {
    char dir[64];
    unsigned seed;
    int64_t move_every; /* ns, mean; 0: only on command */
    bool may_park;
    int listen_fd, wake_fd;
    pthread_t thread;
    pthread_mutex_t lock; /* relays are added by the test */
    pthread_cond_t done;
    enum fixture_command command;
    int command_relay;
    uint32_t command_arg;
    int result;
    bool mute;
    uint32_t next_id;
    _Atomic uint64_t offloads, uploads, aborted;
    struct fixture_session sessions[FIXTURE_SESSIONS];
    struct relay relays[FIXTURE_RELAYS];
};

static inline int64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

static inline uint32_t pick(unsigned *seed, uint32_t below)
{
    return below == 0 ? 0 : (uint32_t)rand_r(seed) % below;
}

/* ---- byte buffers -----------------------------------------------------------------------------
 */

static inline uint8_t *bytes_room(struct bytes *b, size_t len)
{
    if (b->len + len > b->room) {
        b->room = (b->len + len) * 2;
        b->data = realloc(b->data, b->room);
        MUST(b->data != NULL);
    }
    return b->data + b->len;
}

static inline void bytes_drop(struct bytes *b, size_t len)
{
    b->len -= len;
    memmove(b->data, b->data + len, b->len);
}

/* ---- sockets ----------------------------------------------------------------------------------
 */

/** A connected pair over loopback: [0] connected, [1] accepted. */
static inline void tcp_pair(int fd[2])
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    MUST(l >= 0 && bind(l, (struct sockaddr *)&addr, len) == 0 && listen(l, 1) == 0);
    MUST(getsockname(l, (struct sockaddr *)&addr, &len) == 0);
    fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST(connect(fd[0], (struct sockaddr *)&addr, len) == 0);
    fd[1] = accept4(l, NULL, NULL, SOCK_CLOEXEC);
    MUST(fd[1] >= 0);
    close(l);
}

static inline uint64_t cookie_of(int fd)
{
    uint64_t cookie = 0;
    socklen_t len = sizeof(cookie);

    MUST(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0);
    return cookie;
}

static inline int queued_of(int fd, unsigned long request)
{
    int value = 0;

    return ioctl(fd, request, &value) == 0 ? value : 0;
}

static inline void abort_close(int fd)
{
    struct linger linger = {.l_onoff = 1};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    close(fd);
}

static inline void opt(int fd, int name, int value)
{
    MUST(setsockopt(fd, IPPROTO_TCP, name, &value, sizeof(value)) == 0);
}

static inline bool may_repair(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    bool may = setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) == 0;

    close(fd);
    return may;
}

/* Where the kernel's struct tcp_info has these; libc's older one ends before. */
#define TCPI_SEGS_OUT 136
#define TCPI_SEGS_IN 140

static inline uint32_t segments_of(int fd, size_t field)
{
    uint8_t info[256] = {0};
    socklen_t len = sizeof(info);
    uint32_t value;

    MUST(getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &len) == 0);
    memcpy(&value, info + field, sizeof(value));
    return value;
}

/** The order matters: first what @p sends, then what @q answers. */
static inline void segments_ahead(int p, int q, uint32_t ahead[2])
{
    ahead[0] = segments_of(p, TCPI_SEGS_OUT) - segments_of(q, TCPI_SEGS_IN);
    ahead[1] = segments_of(q, TCPI_SEGS_OUT) - segments_of(p, TCPI_SEGS_IN);
}

/* ---- park and restore (handoff.md 1.1 steps 6-10, 1.2 steps 2-10) -------------------------------
 */

static inline void park(struct relay *r)
{
    struct repaired *x = &r->repaired;
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    socklen_t len = sizeof(x->info);
    int err = 0;

    MUST(getsockopt(r->p, IPPROTO_TCP, TCP_INFO, &x->info, &len) == 0);
    len = sizeof(x->local);
    MUST(getsockname(r->p, (struct sockaddr *)&x->local, &len) == 0);
    len = sizeof(x->peer);
    MUST(getpeername(r->p, (struct sockaddr *)&x->peer, &len) == 0);
    opt(r->p, TCP_REPAIR, 1);
    opt(r->p, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);
    len = sizeof(x->rcv_seq);
    MUST(getsockopt(r->p, IPPROTO_TCP, TCP_QUEUE_SEQ, &x->rcv_seq, &len) == 0);
    opt(r->p, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);
    MUST(getsockopt(r->p, IPPROTO_TCP, TCP_QUEUE_SEQ, &x->snd_seq, &len) == 0);
    len = sizeof(x->window);
    MUST(getsockopt(r->p, IPPROTO_TCP, TCP_REPAIR_WINDOW, &x->window, &len) == 0);
    len = sizeof(x->mss);
    MUST(getsockopt(r->p, IPPROTO_TCP, TCP_MAXSEG, &x->mss, &len) == 0);
    MUST(connect(r->p, &none, sizeof(none)) == 0);
    len = sizeof(err);
    MUST(getsockopt(r->p, SOL_SOCKET, SO_ERROR, &err, &len) == 0);
    (void)bind(r->p, (struct sockaddr *)&x->local, sizeof(x->local));
    r->parked = true;
}

static inline void restore(struct relay *r, const uint8_t *unread, size_t len)
{
    struct repaired *x = &r->repaired;
    struct tcp_repair_opt options[4] = {{0}};
    uint32_t seq = x->rcv_seq - (uint32_t)len;
    int n = 0, zero = 0;

    opt(r->p, TCP_MAXSEG, x->mss < 32767 ? x->mss : 32767);
    opt(r->p, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);
    MUST(setsockopt(r->p, IPPROTO_TCP, TCP_QUEUE_SEQ, &x->snd_seq, sizeof(seq)) == 0);
    opt(r->p, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);
    MUST(setsockopt(r->p, IPPROTO_TCP, TCP_QUEUE_SEQ, &seq, sizeof(seq)) == 0);
    (void)bind(r->p, (struct sockaddr *)&x->local, sizeof(x->local));
    MUST(connect(r->p, (struct sockaddr *)&x->peer, sizeof(x->peer)) == 0);
    options[n++] = (struct tcp_repair_opt){TCPOPT_MAXSEG, (uint32_t)x->mss};
    if (x->info.tcpi_options & TCPI_OPT_WSCALE)
        options[n++] = (struct tcp_repair_opt){
            TCPOPT_WINDOW, x->info.tcpi_snd_wscale | (uint32_t)x->info.tcpi_rcv_wscale << 16};
    if (x->info.tcpi_options & TCPI_OPT_SACK)
        options[n++] = (struct tcp_repair_opt){TCPOPT_SACK_PERMITTED, 0};
    if (x->info.tcpi_options & TCPI_OPT_TIMESTAMPS)
        options[n++] = (struct tcp_repair_opt){TCPOPT_TIMESTAMP, 0};
    MUST(setsockopt(r->p, IPPROTO_TCP, TCP_REPAIR_OPTIONS, options,
                    (socklen_t)(sizeof(*options) * (unsigned)n)) == 0);
    opt(r->p, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);
    for (size_t done = 0; done < len;) {
        ssize_t s = send(r->p, unread + done, len - done < 32768 ? len - done : 32768, 0);

        MUST(s > 0);
        done += (size_t)s;
    }
    opt(r->p, TCP_REPAIR_QUEUE, TCP_NO_QUEUE);
    MUST(setsockopt(r->p, IPPROTO_TCP, TCP_REPAIR_WINDOW, &x->window, sizeof(x->window)) == 0);
    segments_ahead(r->p, r->q, r->ahead);
    MUST(setsockopt(r->p, IPPROTO_TCP, TCP_REPAIR, &zero, sizeof(zero)) == 0);
    opt(r->p, TCP_MAXSEG, 0);
    r->parked = false;
}

/* ---- news for the program ----------------------------------------------------------------------
 */

static inline struct stream_slot *relay_slot(struct fixture *f, struct relay *r)
{
    return stream_slot_at(&f->sessions[r->session].arena, r->slot);
}

static inline void relay_notify(struct fixture *f, struct relay *r, uint32_t ready)
{
    struct fixture_session *s = &f->sessions[r->session];
    struct stream_slot *slot = relay_slot(f, r);
    uint32_t set;

    atomic_fetch_add(&slot->events, 1);
    if (atomic_load(&slot->waiters) != 0)
        syscall(SYS_futex, &slot->events, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    set = atomic_load(&slot->set);
    if (set == 0 || set > STREAM_SETS ||
        ((atomic_load(&slot->want) | STREAM_READY_ROUTE) & ready) == 0)
        return;
    if (atomic_exchange(&slot->queued, 1) != 0)
        return;
    if (stream_queue_push(stream_ready_queue(&s->arena, set - 1), r->slot) == 1)
        MUST(eventfd_write(s->set_fd[set - 1], 1) == 0);
}

static inline void relay_route(struct fixture *f, struct relay *r, enum stream_route route)
{
    r->route = route;
    atomic_store(&relay_slot(f, r)->route, (uint32_t)route);
    relay_notify(f, r, STREAM_READY_ROUTE | STREAM_READY_IN | STREAM_READY_OUT);
}

static inline bool relay_quiesce(struct fixture *f, struct relay *r)
{
    struct stream_slot *slot = relay_slot(f, r);
    int64_t deadline = now_ns() + FIXTURE_QUIESCE_NS;

    while (atomic_load(&slot->users) != 0) {
        if (now_ns() > deadline)
            return false;
        sched_yield();
    }
    return true;
}

static inline void nap(unsigned *seed, uint32_t below_us)
{
    uint32_t us = pick(seed, below_us);

    if (pick(seed, 4) == 0)
        usleep(us);
}

/* ---- the relay ---------------------------------------------------------------------------------
 */

/** Reads a socket into a buffer: >0, 0 end, -1 nothing, -2 reset. */
static inline int relay_read(int fd, struct bytes *b, size_t most)
{
    ssize_t n = recv(fd, bytes_room(b, most), most, MSG_DONTWAIT);

    if (n > 0)
        b->len += (size_t)n;
    if (n >= 0)
        return n > 0;
    return errno == EAGAIN || errno == EINTR ? -1 : -2;
}

/** Writes what a socket takes; false if the connection is gone. */
static inline bool relay_write(int fd, struct bytes *b)
{
    while (b->len > 0) {
        ssize_t n = send(fd, b->data, b->len, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0)
            return errno == EAGAIN;
        bytes_drop(b, (size_t)n);
    }
    return true;
}

static inline void relay_read_q(struct relay *r, size_t limit)
{
    int one = 1, n;

    while (!r->q_end && r->up.len < limit) {
        n = relay_read(r->q, &r->up, 65536);
        setsockopt(r->q, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
        if (n == -1)
            break;
        if (n != 1)
            r->q_end = true;
        if (n == -2)
            r->q_reset = true;
    }
}

static inline bool relay_offload(struct fixture *f, struct relay *r)
{
    struct stream_slot *slot = relay_slot(f, r);
    struct bytes unread = {0};
    uint64_t base = (uint64_t)pick(&f->seed, 1u << 30) << 20;
    uint32_t size = 1024u << pick(&f->seed, 7), held;
    int64_t deadline;
    int n;

    if (r->q_end || r->t_end || r->route != STREAM_ROUTE_KERNEL)
        return false;
    relay_route(f, r, STREAM_ROUTE_MOVING);
    nap(&f->seed, 300);
    if (!relay_quiesce(f, r) || pick(&f->seed, 16) == 0)
        goto abort;
    /* What the program has sent. */
    deadline = now_ns() + 2000 * MS;
    while (queued_of(r->p, SIOCOUTQ) > 0 && !r->q_end && now_ns() < deadline)
        relay_read_q(r, SIZE_MAX);
    relay_read_q(r, SIZE_MAX);
    if (r->q_end || queued_of(r->p, SIOCOUTQ) > 0 || queued_of(r->q, SIOCINQ) > 0)
        goto abort;
    /* What it has not read. */
    do {
        n = relay_read(r->p, &unread, 65536);
        MUST(n == 1 || n == -1);
    } while (n == 1 || queued_of(r->q, SIOCOUTQ) > 0);
    /*
     * A segment of Q's that finds P parked is answered by a reset.  There is no steering here, so
     * wait until the last one has been through, and the last of P's that Q might answer.
     */
    for (;;) {
        uint32_t ahead[2];

        segments_ahead(r->p, r->q, ahead);
        if (memcmp(ahead, r->ahead, sizeof(ahead)) == 0)
            break;
        MUST(now_ns() < deadline + 10000 * MS);
        sched_yield();
    }
    while (size < unread.len)
        size *= 2;
    MUST(size <= STREAM_RING_MAX);
    /* Part of what was sent plays the part of what is not acknowledged. */
    held = (uint32_t)(r->up.len < size ? r->up.len : size);
    held = pick(&f->seed, 2) ? pick(&f->seed, held + 1) : 0;
    stream_copy_in(stream_send_base(&f->sessions[r->session].arena, r->slot), size, base,
                   r->up.data + r->up.len - held, held);
    r->up.len -= held;
    r->ring_size = size;
    r->send_tail = base;
    r->send_seen = base + held;
    r->receive_seen = base + 77;
    r->receive_head = r->receive_seen + unread.len;
    stream_copy_in(stream_receive_base(&f->sessions[r->session].arena, r->slot), size,
                   r->receive_seen, unread.data, unread.len);
    atomic_store(&slot->send.tail, r->send_tail);
    atomic_store(&slot->send.head, r->send_seen);
    atomic_store(&slot->receive.tail, r->receive_seen);
    atomic_store(&slot->receive.head, r->receive_head);
    atomic_store(&slot->ring_size, size);
    atomic_store(&slot->send_limit, size / (1 + pick(&f->seed, 3)));
    atomic_store(&slot->send_status, NDIS_STATUS_SUCCESS);
    atomic_fetch_add(&slot->generation, 1);
    free(unread.data);
    if (f->may_park)
        park(r);
    nap(&f->seed, 300);
    relay_route(f, r, STREAM_ROUTE_STREAM);
    f->offloads++;
    r->moves++;
    return true;
abort:
    free(unread.data);
    f->aborted++;
    relay_route(f, r, STREAM_ROUTE_KERNEL);
    return false;
}

/** New values of the program's indices; the library must keep them possible. */
static inline void relay_look(struct fixture *f, struct relay *r)
{
    struct stream_slot *slot = relay_slot(f, r);
    uint64_t head = atomic_load(&slot->send.head), tail = atomic_load(&slot->receive.tail);

    MUST(head >= r->send_seen && head - r->send_tail <= r->ring_size);
    MUST(tail >= r->receive_seen && tail <= r->receive_head);
    r->send_seen = head;
    r->receive_seen = tail;
}

static inline void relay_take(struct fixture *f, struct relay *r, size_t most)
{
    size_t n = r->send_seen - r->send_tail;

    if (n > most)
        n = most;
    stream_copy_out(stream_send_base(&f->sessions[r->session].arena, r->slot), r->ring_size,
                    r->send_tail, bytes_room(&r->up, n), n);
    r->up.len += n;
    r->send_tail += n;
    atomic_store_explicit(&relay_slot(f, r)->send.tail, r->send_tail, memory_order_release);
}

static inline bool relay_upload(struct fixture *f, struct relay *r, bool must)
{
    struct stream_slot *slot = relay_slot(f, r);
    struct bytes unread = {0};
    int64_t deadline;

    if (r->route != STREAM_ROUTE_STREAM)
        return r->route == STREAM_ROUTE_KERNEL;
    if (pick(&f->seed, 2)) {
        atomic_store(&slot->send_status, NDIS_STATUS_UPLOAD_IN_PROGRESS);
        relay_notify(f, r, STREAM_READY_OUT);
        nap(&f->seed, 300);
    }
    relay_route(f, r, STREAM_ROUTE_MOVING);
    nap(&f->seed, 300);
    while (!relay_quiesce(f, r))
        if (!must)
            goto abort;
    if (!must && pick(&f->seed, 16) == 0)
        goto abort;
    relay_look(f, r);
    relay_take(f, r, SIZE_MAX);
    unread.len = r->receive_head - r->receive_seen;
    unread.data = malloc(unread.len + 1);
    stream_copy_out(stream_receive_base(&f->sessions[r->session].arena, r->slot), r->ring_size,
                    r->receive_seen, unread.data, unread.len);
    stream_arena_release(&f->sessions[r->session].arena, r->slot);
    if (r->parked) {
        restore(r, unread.data, unread.len);
    } else {
        size_t before = unread.len;

        deadline = now_ns() + 100 * MS;
        do
            MUST(relay_write(r->q, &unread));
        while ((size_t)queued_of(r->p, SIOCINQ) < before && now_ns() < deadline);
        /* The rest, if P's buffer was too small, goes first. */
        (void)bytes_room(&r->down, unread.len);
        memmove(r->down.data + unread.len, r->down.data, r->down.len);
        memcpy(r->down.data, unread.data, unread.len);
        r->down.len += unread.len;
    }
    free(unread.data);
    nap(&f->seed, 300);
    f->uploads++;
    r->moves++;
    relay_route(f, r, STREAM_ROUTE_KERNEL);
    return true;
abort:
    f->aborted++;
    atomic_store(&slot->send_status, NDIS_STATUS_SUCCESS);
    relay_route(f, r, STREAM_ROUTE_STREAM);
    return false;
}

static inline void relay_stream(struct fixture *f, struct relay *r)
{
    size_t room;

    if (r->up.len < FIXTURE_HIGH && r->send_seen != r->send_tail && !r->never_ack &&
        atomic_load(&relay_slot(f, r)->send_status) == NDIS_STATUS_SUCCESS) {
        relay_take(f, r, 1 + pick(&f->seed, r->ring_size));
        relay_notify(f, r, STREAM_READY_OUT);
    }
    room = r->ring_size - (r->receive_head - r->receive_seen);
    if (r->down.len > 0 && room > 0) {
        size_t n = r->down.len < room ? r->down.len : room;

        n = 1 + pick(&f->seed, (uint32_t)n);
        stream_copy_in(stream_receive_base(&f->sessions[r->session].arena, r->slot), r->ring_size,
                       r->receive_head, r->down.data, n);
        bytes_drop(&r->down, n);
        r->receive_head += n;
        atomic_store_explicit(&relay_slot(f, r)->receive.head, r->receive_head,
                              memory_order_release);
        relay_notify(f, r, STREAM_READY_IN);
    }
}

/** One round of a relay.  True if there is more to do at once. */
static inline bool relay_round(struct fixture *f, struct relay *r)
{
    int n;

    while (!r->t_end && r->down.len < FIXTURE_HIGH) {
        n = relay_read(r->t, &r->down, 32768);
        if (n == -1)
            break;
        if (n != 1)
            r->t_end = true;
        if (n == -2)
            r->t_reset = true;
    }
    if (r->t >= 0 && !relay_write(r->t, &r->up)) {
        r->t_end = r->t_reset = true;
        r->up.len = 0;
    }
    /* An end is not for the rings: up first, then the kernel tells the program. */
    if (r->t_end && r->attached && r->route == STREAM_ROUTE_STREAM)
        (void)relay_upload(f, r, true);
    if (r->attached && r->route == STREAM_ROUTE_STREAM) {
        relay_stream(f, r);
        return (r->send_seen != r->send_tail && r->up.len < FIXTURE_HIGH && !r->never_ack &&
                atomic_load(&relay_slot(f, r)->send_status) == NDIS_STATUS_SUCCESS) ||
               (r->down.len > 0 && r->receive_head - r->receive_seen < r->ring_size);
    }
    if (r->attached && r->route != STREAM_ROUTE_KERNEL)
        return false;
    if (r->q >= 0) {
        if (r->up.len < FIXTURE_HIGH)
            relay_read_q(r, FIXTURE_HIGH);
        if (!relay_write(r->q, &r->down)) {
            relay_read_q(r, SIZE_MAX); /* what came before the reset */
            r->q_end = r->q_reset = true;
            r->down.len = 0;
        }
    }
    if (r->t_end && !r->q_told && r->down.len == 0 && r->q >= 0) {
        if (r->t_reset) {
            if (queued_of(r->q, SIOCOUTQ) > 0)
                return true;
            abort_close(r->q);
            r->q = -1;
            r->q_end = true;
        } else {
            shutdown(r->q, SHUT_WR);
        }
        r->q_told = true;
    }
    if (r->q_end && !r->t_told && r->up.len == 0 && r->t >= 0) {
        if (r->q_reset) {
            if (queued_of(r->t, SIOCOUTQ) > 0)
                return true;
            abort_close(r->t);
            r->t = -1;
            r->t_end = true;
        } else {
            shutdown(r->t, SHUT_WR);
        }
        r->t_told = true;
    }
    return false;
}

/* ---- sessions ----------------------------------------------------------------------------------
 */

static inline void session_say(struct fixture_session *s, const struct protocol_message *m,
                               const int *fds, int count)
{
    struct iovec iov = {.iov_base = (void *)m, .iov_len = sizeof(*m)};
    char control[CMSG_SPACE(2 * sizeof(int))] __attribute__((aligned(8))) = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (count > 0) {
        msg.msg_control = control;
        msg.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, (size_t)count * sizeof(int));
    }
    (void)sendmsg(s->fd, &msg, MSG_NOSIGNAL);
}

static inline struct relay *relay_of(struct fixture *f, uint32_t session, uint32_t slot)
{
    for (int i = 0; i < FIXTURE_RELAYS; i++)
        if (f->relays[i].attached && f->relays[i].session == session && f->relays[i].slot == slot)
            return &f->relays[i];
    return NULL;
}

static inline void session_attach(struct fixture *f, uint32_t index, struct protocol_message *m,
                                  int fd)
{
    struct fixture_session *s = &f->sessions[index];
    struct relay *r = NULL;

    m->error = ENOBUFS;
    snprintf(m->text, sizeof(m->text), "no relay for this socket");
    if (fd < 0)
        return;
    for (int i = 0; i < FIXTURE_RELAYS && r == NULL; i++)
        if (f->relays[i].used && !f->relays[i].attached && f->relays[i].cookie == cookie_of(fd))
            r = &f->relays[i];
    if (r == NULL) {
        close(fd);
        return;
    }
    r->p = fd;
    r->session = index;
    r->slot = 0;
    while (s->slot_used[r->slot])
        r->slot++; /* the lowest free one: slots are used again at once */
    s->slot_used[r->slot] = true;
    r->attached = true;
    r->route = STREAM_ROUTE_KERNEL;
    atomic_store(&relay_slot(f, r)->route, STREAM_ROUTE_KERNEL);
    atomic_store(&relay_slot(f, r)->conn_id, ++f->next_id);
    r->next_move = now_ns();
    m->slot = r->slot;
    m->conn_id = f->next_id;
    m->error = 0;
    m->text[0] = '\0';
    if (m->flags & PROTOCOL_ATTACH_OFFLOAD)
        (void)relay_offload(f, r);
}

static inline void session_detach(struct fixture *f, struct relay *r)
{
    if (r->route == STREAM_ROUTE_STREAM)
        MUST(relay_upload(f, r, true));
    close(r->p);
    r->p = -1;
    r->attached = false;
    f->sessions[r->session].slot_used[r->slot] = false;
}

static inline void session_close(struct fixture *f, uint32_t index, bool die)
{
    struct fixture_session *s = &f->sessions[index];

    for (int i = 0; i < FIXTURE_RELAYS; i++) {
        struct relay *r = &f->relays[i];

        if (!r->attached || r->session != index)
            continue;
        if (!die) {
            session_detach(f, r);
        } else {
            close(r->p);
            r->attached = false;
        }
    }
    close(s->fd);
    close(s->kick_fd);
    for (uint32_t i = 0; i < STREAM_SETS; i++)
        if (s->set_fd[i] >= 0)
            close(s->set_fd[i]);
    stream_arena_unmap(&s->arena);
    s->used = false;
}

static inline void session_message(struct fixture *f, uint32_t index)
{
    struct fixture_session *s = &f->sessions[index];
    struct protocol_message m;
    struct iovec iov = {.iov_base = &m, .iov_len = sizeof(m)};
    char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    struct relay *r;
    int fd = -1, out[2], count = 0;
    ssize_t n = recvmsg(s->fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN)
        return;
    if (n != sizeof(m)) {
        session_close(f, index, false);
        return;
    }
    if (CMSG_FIRSTHDR(&msg) != NULL)
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
    if (f->mute) {
        if (fd >= 0)
            close(fd);
        return;
    }
    r = relay_of(f, index, m.slot);
    m.error = 0;
    switch (m.op) {
    case PROTOCOL_HELLO:
        m.error = m.slot == PROTOCOL_VERSION ? 0 : EPROTONOSUPPORT;
        out[0] = s->arena.fd;
        out[1] = s->kick_fd;
        count = 2;
        break;
    case PROTOCOL_ATTACH:
        session_attach(f, index, &m, fd);
        break;
    case PROTOCOL_SET:
        MUST(m.slot < STREAM_SETS);
        if (s->set_fd[m.slot] < 0)
            s->set_fd[m.slot] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        out[0] = s->set_fd[m.slot];
        count = 1;
        break;
    default:
        MUST(r != NULL);
        if (m.op == PROTOCOL_DETACH) {
            session_detach(f, r);
        } else if (m.op == PROTOCOL_UPLOAD) {
            MUST(relay_upload(f, r, true));
            r->next_move = now_ns() + f->move_every;
        } else if (!relay_offload(f, r)) {
            m.error = EAGAIN;
            m.status = NDIS_STATUS_PAUSED;
            snprintf(m.text, sizeof(m.text), "not now");
        }
    }
    session_say(s, &m, out, count);
}

static inline void fixture_accept(struct fixture *f)
{
    int fd = accept4(f->listen_fd, NULL, NULL, SOCK_CLOEXEC);

    for (int i = 0; i < FIXTURE_SESSIONS; i++) {
        struct fixture_session *s = &f->sessions[i];

        if (s->used)
            continue;
        memset(s, 0, sizeof(*s));
        s->used = true;
        s->fd = fd;
        s->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        for (uint32_t k = 0; k < STREAM_SETS; k++)
            s->set_fd[k] = -1;
        MUST(stream_arena_create(&s->arena) == 0);
        return;
    }
    close(fd);
}

/* ---- the thread --------------------------------------------------------------------------------
 */

static inline bool fixture_obey(struct fixture *f)
{
    struct relay *r = &f->relays[f->command_relay];
    struct protocol_message goodbye = {.op = PROTOCOL_GOODBYE};

    switch (f->command) {
    case FIXTURE_NONE:
        return true;
    case FIXTURE_MOVE:
        f->result = 0;
        for (int i = 0; i < 1000 && !f->result && r->attached; i++) {
            if (r->route == f->command_arg)
                f->result = 1;
            else if (f->command_arg == STREAM_ROUTE_STREAM)
                f->result = relay_offload(f, r);
            else if (f->command_arg == STREAM_ROUTE_KERNEL)
                f->result = relay_upload(f, r, true);
            else
                relay_route(f, r, (enum stream_route)f->command_arg);
        }
        break;
    case FIXTURE_LOSE:
        relay_look(f, r);
        relay_route(f, r, STREAM_ROUTE_LOST);
        break;
    case FIXTURE_SCRIBBLE:
        atomic_store(&relay_slot(f, r)->receive.head, UINT64_MAX);
        atomic_store(&relay_slot(f, r)->send.tail, 5);
        r->never_ack = true;
        r->down.len = 0;
        relay_notify(f, r, STREAM_READY_IN | STREAM_READY_OUT);
        break;
    case FIXTURE_NEVER_ACK:
        r->never_ack = f->command_arg != 0;
        break;
    case FIXTURE_STATUS:
        atomic_store(&relay_slot(f, r)->send_status, f->command_arg);
        relay_notify(f, r, STREAM_READY_OUT);
        break;
    case FIXTURE_GOODBYE:
    case FIXTURE_DIE:
        for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++) {
            if (!f->sessions[i].used)
                continue;
            if (f->command == FIXTURE_GOODBYE) {
                for (int k = 0; k < FIXTURE_RELAYS; k++)
                    if (f->relays[k].attached && f->relays[k].session == i)
                        session_detach(f, &f->relays[k]);
                session_say(&f->sessions[i], &goodbye, NULL, 0);
            }
            session_close(f, i, f->command == FIXTURE_DIE);
        }
        break;
    case FIXTURE_MUTE:
        f->mute = f->command_arg != 0;
        break;
    case FIXTURE_STOP:
        return false;
    }
    f->command = FIXTURE_NONE;
    pthread_cond_broadcast(&f->done);
    return true;
}

static inline bool fixture_kicks(struct fixture *f)
{
    bool any = false;
    uint32_t slot;

    for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++) {
        struct fixture_session *s = &f->sessions[i];

        if (!s->used)
            continue;
        while (stream_queue_pop(stream_kick_queue(&s->arena), &s->kick_tail, &slot)) {
            struct relay *r = relay_of(f, i, slot);

            atomic_exchange(&stream_slot_at(&s->arena, slot)->kicked, 0);
            any = true;
            if (r != NULL && r->route == STREAM_ROUTE_STREAM)
                relay_look(f, r);
        }
    }
    return any;
}

static inline bool fixture_asleep(struct fixture *f, bool arm)
{
    bool empty = true;

    for (int i = 0; i < FIXTURE_SESSIONS; i++) {
        struct fixture_session *s = &f->sessions[i];

        if (!s->used)
            continue;
        if (arm)
            empty &= stream_queue_arm(stream_kick_queue(&s->arena), s->kick_tail);
        else
            stream_queue_disarm(stream_kick_queue(&s->arena));
    }
    return empty;
}

static inline void fixture_moves(struct fixture *f, int64_t *next)
{
    for (int i = 0; i < FIXTURE_RELAYS; i++) {
        struct relay *r = &f->relays[i];

        if (!r->attached || f->move_every == 0 || r->t_end || r->q_end)
            continue;
        if (now_ns() >= r->next_move) {
            if (r->route == STREAM_ROUTE_KERNEL)
                (void)relay_offload(f, r);
            else if (r->route == STREAM_ROUTE_STREAM)
                (void)relay_upload(f, r, false);
            r->next_move = now_ns() + pick(&f->seed, (uint32_t)(2 * f->move_every));
        }
        if (r->next_move < *next)
            *next = r->next_move;
    }
}

static inline void *fixture_main(void *arg)
{
    struct fixture *f = arg;
    struct pollfd pfd[2 + 2 * FIXTURE_SESSIONS + 2 * FIXTURE_RELAYS];

    pthread_mutex_lock(&f->lock);
    while (fixture_obey(f)) {
        int64_t next = INT64_MAX, left;
        bool more;
        int n = 0;

        fixture_moves(f, &next);
        more = fixture_kicks(f);
        for (int i = 0; i < FIXTURE_RELAYS; i++)
            if (f->relays[i].used)
                more |= relay_round(f, &f->relays[i]);
        pfd[n++] = (struct pollfd){.fd = f->listen_fd, .events = POLLIN};
        pfd[n++] = (struct pollfd){.fd = f->wake_fd, .events = POLLIN};
        for (int i = 0; i < FIXTURE_SESSIONS; i++) {
            struct fixture_session *s = &f->sessions[i];

            pfd[n++] = (struct pollfd){.fd = s->used ? s->fd : -1, .events = POLLIN};
            pfd[n++] = (struct pollfd){.fd = s->used ? s->kick_fd : -1, .events = POLLIN};
        }
        for (int i = 0; i < FIXTURE_RELAYS; i++) {
            struct relay *r = &f->relays[i];
            bool kernel = r->used && (!r->attached || r->route == STREAM_ROUTE_KERNEL);
            short q = 0, t = 0;

            if (!r->used)
                continue;
            q |= r->up.len < FIXTURE_HIGH && !r->q_end ? POLLIN : 0;
            q |= r->down.len > 0 ? POLLOUT : 0;
            t |= r->down.len < FIXTURE_HIGH && !r->t_end ? POLLIN : 0;
            t |= r->up.len > 0 ? POLLOUT : 0;
            pfd[n++] = (struct pollfd){.fd = kernel && q ? r->q : -1, .events = q};
            pfd[n++] = (struct pollfd){.fd = t ? r->t : -1, .events = t};
        }
        left = next == INT64_MAX ? -1 : (next - now_ns()) / MS + 1;
        if (more || !fixture_asleep(f, true))
            left = 0;
        pthread_mutex_unlock(&f->lock);
        MUST(poll(pfd, (nfds_t)n, (int)left) >= 0 || errno == EINTR);
        pthread_mutex_lock(&f->lock);
        fixture_asleep(f, false);
        if (pfd[0].revents)
            fixture_accept(f);
        if (pfd[1].revents)
            (void)eventfd_read(f->wake_fd, &(eventfd_t){0});
        for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++) {
            if (pfd[3 + 2 * i].revents)
                (void)eventfd_read(f->sessions[i].kick_fd, &(eventfd_t){0});
            if (pfd[2 + 2 * i].revents && f->sessions[i].used)
                session_message(f, i);
        }
    }
    f->command = FIXTURE_NONE;
    pthread_cond_broadcast(&f->done);
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* ---- what tests call ---------------------------------------------------------------------------
 */

static UNUSED unsigned test_seed(void)
{
    const char *text = getenv("SEED");
    unsigned seed = text != NULL ? (unsigned)strtoul(text, NULL, 0)
                                 : (unsigned)now_ns() ^ (unsigned)getpid() << 8;

    print_message("SEED=%u\n", seed);
    return seed;
}

static UNUSED struct fixture *fixture_start(unsigned seed, int64_t move_every)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    MUST(f != NULL);
    f->seed = seed;
    f->move_every = move_every;
    f->may_park = may_repair();
    strcpy(f->dir, "/tmp/chimney-test-XXXXXX");
    MUST(mkdtemp(f->dir) != NULL);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s", f->dir, PROTOCOL_SESSION_SOCKET);
    f->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    MUST(bind(f->listen_fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    MUST(listen(f->listen_fd, 4) == 0);
    f->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->done, NULL);
    MUST(pthread_create(&f->thread, NULL, fixture_main, f) == 0);
    return f;
}

/** Runs a command on the fixture's thread. */
static UNUSED int fixture_do(struct fixture *f, enum fixture_command command, int relay,
                             uint32_t arg)
{
    int result;

    pthread_mutex_lock(&f->lock);
    while (f->command != FIXTURE_NONE)
        pthread_cond_wait(&f->done, &f->lock);
    f->command = command;
    f->command_relay = relay;
    f->command_arg = arg;
    f->result = 0;
    (void)eventfd_write(f->wake_fd, 1);
    while (f->command != FIXTURE_NONE)
        pthread_cond_wait(&f->done, &f->lock);
    result = f->result;
    pthread_mutex_unlock(&f->lock);
    return result;
}

static UNUSED void fixture_stop(struct fixture *f)
{
    char path[128];

    fixture_do(f, FIXTURE_STOP, 0, 0);
    pthread_join(f->thread, NULL);
    if (f->move_every)
        print_message("%llu offloads, %llu uploads, %llu aborted, %s\n",
                      (unsigned long long)f->offloads, (unsigned long long)f->uploads,
                      (unsigned long long)f->aborted, f->may_park ? "parked" : "not parked");
    for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++)
        if (f->sessions[i].used)
            session_close(f, i, true);
    for (int i = 0; i < FIXTURE_RELAYS; i++) {
        struct relay *r = &f->relays[i];

        if (!r->used)
            continue;
        if (r->q >= 0)
            close(r->q);
        if (r->t >= 0)
            close(r->t);
        free(r->up.data);
        free(r->down.data);
    }
    close(f->listen_fd);
    close(f->wake_fd);
    snprintf(path, sizeof(path), "%s/%s", f->dir, PROTOCOL_SESSION_SOCKET);
    unlink(path);
    rmdir(f->dir);
    free(f);
}

/** A connection through the relay: *@program is for chimney_attach(), *@peer a plain socket. */
static UNUSED int fixture_pair(struct fixture *f, int *program, int *peer)
{
    int a[2], b[2], i, small = 100000;

    tcp_pair(a);
    tcp_pair(b);
    /* A connection that is stuck should be so soon. */
    MUST(setsockopt(b[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)) == 0);
    MUST(setsockopt(b[1], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)) == 0);
    pthread_mutex_lock(&f->lock);
    for (i = 0; i < FIXTURE_RELAYS && f->relays[i].used; i++)
        ;
    MUST(i < FIXTURE_RELAYS);
    f->relays[i] = (struct relay){
        .used = true, .p = -1, .q = a[i & 1], .t = b[0], .cookie = cookie_of(a[!(i & 1)])};
    segments_ahead(a[!(i & 1)], a[i & 1], f->relays[i].ahead);
    *program = a[!(i & 1)];
    *peer = b[1];
    pthread_mutex_unlock(&f->lock);
    (void)eventfd_write(f->wake_fd, 1);
    return i;
}

static UNUSED bool fixture_move(struct fixture *f, int relay, enum stream_route route)
{
    return fixture_do(f, FIXTURE_MOVE, relay, route) != 0;
}

/* ---- streams anybody can check ------------------------------------------------------------------
 */

/** Byte @pos of stream @id. */
static inline uint8_t stream_byte(uint64_t id, uint64_t pos)
{
    uint64_t x = (pos >> 3) * 0x9E3779B97F4A7C15ull + id * 0xD1B54A32D192ED03ull;

    x ^= x >> 31;
    x *= 0xBF58476D1CE4E5B9ull;
    x ^= x >> 29;
    return (uint8_t)(x >> (8 * (pos & 7)));
}

static UNUSED void stream_fill(uint64_t id, uint64_t pos, uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        data[i] = stream_byte(id, pos + i);
}

static UNUSED void stream_check(uint64_t id, uint64_t pos, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (data[i] != stream_byte(id, pos + i)) {
            fprintf(stderr, "stream %llu: byte %llu is wrong\n", (unsigned long long)id,
                    (unsigned long long)(pos + i));
            abort();
        }
}

#endif
