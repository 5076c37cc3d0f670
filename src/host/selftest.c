/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pair of loopback sockets is parked and restored, with data in every queue, and everything that
 * the hand-off relies on is looked at afterwards.
 */
#include "host/selftest.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>
#include "host/barrier.h"
#include "host/handoff.h"
#include "host/sockopt.h"

#define RING_SIZE 65536u
/** Bytes in the receive queue and in the send queue during the move; both of the pattern below. */
#define UNREAD 1000
#define UNACKED 3000
/** How long loopback may take. */
#define WAIT_MS 1000
/** Unusual values, to see whether they are kept. */
#define MARK_TOS 0x28
#define MARK_PRIORITY 5
#define MARK_KEEPIDLE 4321
#define MARK_USER_TIMEOUT 54321
#define MARK_NOTSENT 65432

struct bench {
    struct selftest_check *checks;
    int count;
    int ours, peer;
    struct flow_key key;
    struct repair_state state;
    struct repair_rings rings;
    uint64_t cookie;
    uint32_t stamp; /* the last one sent before */
};

static void check(struct bench *b, const char *name, bool fatal, bool passed, const char *format,
                  ...) __attribute__((format(printf, 5, 6)));

static void check(struct bench *b, const char *name, bool fatal, bool passed, const char *format,
                  ...)
{
    struct selftest_check *c = &b->checks[b->count];
    va_list args;

    if (b->count == SELFTEST_MAX_CHECKS)
        return;
    b->count++;
    memset(c, 0, sizeof(*c));
    snprintf(c->name, sizeof(c->name), "%s", name);
    c->fatal = fatal;
    c->passed = passed;
    if (passed)
        return;
    va_start(args, format);
    vsnprintf(c->detail, sizeof(c->detail), format, args);
    va_end(args);
}

/* What a check that passed has to say. */
static void remark(struct bench *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void remark(struct bench *b, const char *format, ...)
{
    struct selftest_check *c = &b->checks[b->count - 1];
    va_list args;

    if (!c->passed)
        return;
    va_start(args, format);
    vsnprintf(c->detail, sizeof(c->detail), format, args);
    va_end(args);
}

/* A step of the machinery itself: 0 or an error. */
static bool step(struct bench *b, const char *name, int error)
{
    check(b, name, true, !error, "%s", error ? strerror(-error) : "");
    return !error;
}

static int open_pair(struct bench *b)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timeval patience = {.tv_sec = WAIT_MS / 1000};
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), err = 0;

    if (listener < 0 || bind(listener, (struct sockaddr *)&address, len) < 0 ||
        listen(listener, 1) < 0 || getsockname(listener, (struct sockaddr *)&address, &len) < 0)
        goto fail;
    b->peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (b->peer < 0 ||
        setsockopt(b->peer, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0 ||
        connect(b->peer, (struct sockaddr *)&address, len) < 0)
        goto fail;
    b->ours = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (b->ours < 0)
        goto fail;
    close(listener);
    return handoff_identify(b->ours, &b->key);
fail:
    /* What a connect() says that has waited in vain. */
    err = errno == EINPROGRESS || errno == EAGAIN ? -ETIMEDOUT : -errno;
    if (listener >= 0)
        close(listener);
    return err;
}

static bool wait_for(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};

    return poll(&p, 1, WAIT_MS) > 0 && (p.revents & events);
}

static void pattern(uint8_t *data, size_t len, uint8_t first)
{
    for (size_t i = 0; i < len; i++)
        data[i] = first + i * 7;
}

static bool is_pattern(const uint8_t *data, size_t len, uint8_t first)
{
    for (size_t i = 0; i < len; i++)
        if (data[i] != (uint8_t)(first + i * 7))
            return false;
    return true;
}

static int set_marks(struct bench *b)
{
    socklen_t len = sizeof(b->cookie);
    int fd = b->ours, err;

    err = sockopt_set(fd, SOL_SOCKET, SO_REUSEADDR, 1, "selftest");
    if (!err)
        err = sockopt_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1, "selftest");
    if (!err)
        err = sockopt_set(fd, IPPROTO_IP, IP_TOS, MARK_TOS, "selftest");
    if (!err) /* after the other, which sets it too */
        err = sockopt_set(fd, SOL_SOCKET, SO_PRIORITY, MARK_PRIORITY, "selftest");
    if (!err)
        err = sockopt_set(fd, IPPROTO_TCP, TCP_NODELAY, 1, "selftest");
    if (!err)
        err = sockopt_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, MARK_KEEPIDLE, "selftest");
    if (!err)
        err = sockopt_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, MARK_USER_TIMEOUT, "selftest");
    if (!err)
        err = sockopt_set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, MARK_NOTSENT, "selftest");
    if (!err && getsockopt(fd, SOL_SOCKET, SO_COOKIE, &b->cookie, &len) < 0)
        err = -errno;
    return err;
}

static bool kept(int fd, int level, int name, int value)
{
    int now;

    return !sockopt_get(fd, level, name, &now, "selftest") && now == value;
}

static void check_marks(struct bench *b)
{
    socklen_t len = sizeof(uint64_t);
    uint64_t cookie = 0;
    struct repair_state now = {0};
    int fd = b->ours;

    check(b, "park keeps the cookie", false,
          !getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) && cookie == b->cookie,
          "SO_COOKIE");
    check(b, "thaw puts SO_REUSEADDR back", true, kept(fd, SOL_SOCKET, SO_REUSEADDR, 1), "%s",
          "else a server cannot be restarted");
    check(b, "park keeps keepalive settings", false,
          kept(fd, SOL_SOCKET, SO_KEEPALIVE, 1) &&
              kept(fd, IPPROTO_TCP, TCP_KEEPIDLE, MARK_KEEPIDLE),
          "SO_KEEPALIVE, TCP_KEEPIDLE");
    check(b, "park keeps socket options", false,
          kept(fd, SOL_SOCKET, SO_PRIORITY, MARK_PRIORITY) &&
              kept(fd, IPPROTO_IP, IP_TOS, MARK_TOS) && kept(fd, IPPROTO_TCP, TCP_NODELAY, 1) &&
              kept(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, MARK_USER_TIMEOUT) &&
              kept(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, MARK_NOTSENT),
          "priority, TOS, TCP_NODELAY, TCP_USER_TIMEOUT, TCP_NOTSENT_LOWAT");
    if (repair_read_options(fd, &now)) {
        check(b, "options can be read", true, false, "%s", "after the restore");
        return;
    }
    check(b, "restore keeps buffer sizes", false,
          now.rcvbuf >= b->state.rcvbuf && now.sndbuf >= b->state.sndbuf &&
              now.buf_lock == b->state.buf_lock,
          "send %d was %d, receive %d was %d, locks %d was %d", now.sndbuf, b->state.sndbuf,
          now.rcvbuf, b->state.rcvbuf, now.buf_lock, b->state.buf_lock);
    check(b, "park keeps the congestion control", false,
          !strcmp(now.congestion, b->state.congestion), "%s, was %s", now.congestion,
          b->state.congestion);
}

/* What the kernel believes to have negotiated, and the clock of its timestamps. */
static void check_connection(struct bench *b)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);

    if (getsockopt(b->ours, IPPROTO_TCP, TCP_INFO, &info, &len) < 0) {
        check(b, "state can be read", true, false, "%s", strerror(errno));
        return;
    }
    check(b, "restore gives back the connection", true, info.tcpi_state == STATE_ESTABLISHED,
          "state %u", info.tcpi_state);
    check(b, "restore keeps what was negotiated", true,
          !!(info.tcpi_options & TCPI_OPT_TIMESTAMPS) == b->state.timestamps &&
              !!(info.tcpi_options & TCPI_OPT_SACK) == b->state.sack &&
              !!(info.tcpi_options & TCPI_OPT_WSCALE) == b->state.wscale,
          "options 0x%x", info.tcpi_options);
    check(b, "park keeps ECN", false, !!(info.tcpi_options & TCPI_OPT_ECN) == b->state.ecn,
          "options 0x%x", info.tcpi_options);
    check(b, "restore keeps the segment size", true,
          info.tcpi_snd_mss + 12u >= b->state.mss_clamp || info.tcpi_snd_mss >= 32000,
          "%u, clamp %u", info.tcpi_snd_mss, b->state.mss_clamp);
    if (b->state.timestamps) {
        int stamp = 0, err = sockopt_get(b->ours, IPPROTO_TCP, TCP_TIMESTAMP, &stamp, "selftest");

        check(b, "timestamps never step back", true,
              !err && !(stamp & 1) && stamp - (int)b->stamp >= 0, "%u after %u", stamp, b->stamp);
    }
}

static void check_data(struct bench *b)
{
    uint8_t data[RING_SIZE];
    size_t got = 0;
    ssize_t n = recv(b->ours, data, sizeof(data), MSG_DONTWAIT);

    check(b, "restore keeps received data", true, n == UNREAD && is_pattern(data, UNREAD, 1),
          "%zd of %d bytes", n, UNREAD);
    while (got < UNACKED + 10 && wait_for(b->peer, POLLIN)) {
        n = recv(b->peer, data + got, sizeof(data) - got, MSG_DONTWAIT);
        if (n <= 0)
            break;
        got += n;
    }
    check(b, "restore keeps sent data", true, got == UNACKED + 10 && is_pattern(data, got, 2),
          "%zu of %d bytes", got, UNACKED + 10);
    n = send(b->peer, "x", 1, MSG_NOSIGNAL);
    check(b, "the connection goes on", true, n == 1 && wait_for(b->ours, POLLIN), "%s", "");
}

/* Edge-triggered watchers must be told of restored data by EPOLL_CTL_MOD, and it must work. */
static void check_epoll(struct bench *b, int epoll)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET}, got;

    check(b, "park keeps the epoll registration", true,
          epoll_ctl(epoll, EPOLL_CTL_MOD, b->ours, &event) == 0 &&
              epoll_wait(epoll, &got, 1, WAIT_MS) == 1 && (got.events & EPOLLIN),
          "%s", "EPOLL_CTL_MOD after a restore must report data");
}

static bool check_parked(struct bench *b)
{
    struct sockaddr_storage local = {0}, remote;
    socklen_t len = sizeof(local);
    struct pollfd watch = {.fd = b->peer, .events = POLLIN | POLLRDHUP};
    bool bound = !getsockname(b->ours, (struct sockaddr *)&local, &len) &&
                 ((struct sockaddr_in *)&local)->sin_port == b->key.local_port;

    check(b, "a parked socket keeps its address", true, bound, "%s", "bind() while parked");
    len = sizeof(remote);
    check(b, "a parked socket is closed", true,
          getpeername(b->ours, (struct sockaddr *)&remote, &len) < 0 && errno == ENOTCONN, "%s",
          "connect(AF_UNSPEC) in repair mode");
    /* Neither FIN nor RST, and no data either. */
    check(b, "the peer sees nothing of a park", true, poll(&watch, 1, 0) == 0, "events 0x%x",
          watch.revents);
    return bound;
}

/*
 * One move, out and back, without any target: the peer is quiet and loopback is not steered.  What
 * a program would have written in the meantime is handed back as unsent data.
 */
static void move(struct bench *b, struct steer *steer)
{
    const uint8_t first_unsent = 2;
    struct repair_restore r = {.was = &b->state};
    struct tcp_snapshot snap = {0};
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    uint8_t data[UNACKED + 10];
    bool parked;
    uint32_t left;
    int epoll = epoll_create1(EPOLL_CLOEXEC), err;

    pattern(data, UNREAD, 1);
    if (send(b->peer, data, UNREAD, MSG_NOSIGNAL) != UNREAD || !wait_for(b->ours, POLLIN) ||
        epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, b->ours, &event) < 0) {
        check(b, "loopback works", true, false, "%s", strerror(errno));
        goto out;
    }
    if (!step(b, "options can be set", set_marks(b)) ||
        !step(b, "options can be read", repair_read_options(b->ours, &b->state)))
        goto out;
    if (steer) {
        err = steer_snapshot(steer, &b->key, &snap);
        check(b, "the snapshot finds the socket", true, !err, "%s", err ? strerror(-err) : "");
        if (err)
            goto out;
        check(b, "the snapshot reads the same numbers", true,
              snap.state == STATE_ESTABLISHED && snap.rcv_nxt - snap.copied_seq == UNREAD &&
                  snap.snd_una == snap.write_seq,
              "%u unread", snap.rcv_nxt - snap.copied_seq);
        check(b, "timestamps are in milliseconds", true, !snap.usec_ts, "%s",
              "the route has features tcp_usec_ts");
    }
    err = repair_freeze(b->ours, &b->state);
    check(b, "TCP_REPAIR works", true, !err, "%s",
          err == -EPERM ? "needs CAP_NET_ADMIN"
          : err         ? strerror(-err)
                        : "");
    if (err || !step(b, "a frozen socket can be read", repair_dump(b->ours, &b->rings, &b->state)))
        goto out;
    check(b, "the dump reads received data", true,
          b->state.recvq_len == UNREAD && is_pattern(b->rings.receive, UNREAD, 1), "%u bytes",
          b->state.recvq_len);
    b->stamp = b->state.tsval;
    if (!step(b, "a socket can be parked", repair_park(b->ours, &b->state, &parked)) ||
        !check_parked(b))
        goto out;
    if (steer) {
        err = steer_snapshot(steer, &b->key, &snap);
        check(b, "the kernel forgets a parked connection", true, err == -ENOENT, "%s",
              err ? "" : "the snapshot still finds it");
    }

    /* As a target would give it back that has sent nothing but was given more to send. */
    pattern(b->rings.send, UNACKED + 10, first_unsent);
    r.snd_una = r.snd_max = b->state.write_seq;
    r.rcv_nxt = b->state.rcv_nxt;
    r.window = b->state.window;
    r.send_base = b->rings.send;
    r.receive_base = b->rings.receive;
    r.ring_size = b->rings.size;
    r.unsent_len = left = UNACKED;
    r.rcv_pos = r.unread_len = UNREAD;
    if (!step(b, "a parked socket can be restored", repair_restore(b->ours, &r)) ||
        !step(b, "a restored socket can be thawed", repair_thaw(b->ours, &r, &left)))
        goto out;
    if (left || send(b->ours, b->rings.send + UNACKED, 10, MSG_NOSIGNAL) != 10)
        check(b, "a restored socket takes data", true, false, "%u bytes left", left);
    check_epoll(b, epoll);
    check_connection(b);
    check_marks(b);
    check_data(b);
out:
    if (epoll >= 0)
        close(epoll);
}

static void check_barrier(struct bench *b, struct steer *steer)
{
    struct barrier *barrier;
    char err[80];

    if (barrier_create(&barrier, err, sizeof(err))) {
        check(b, "a barrier works", true, false, "%s", err);
        return;
    }
    if (steer) {
        int error = barrier_prove(barrier, steer);

        /* Too busy to tell is no reason to refuse. */
        check(b, "the barrier waits", error != -EAGAIN, !error, "%s: %s",
              barrier_method_name(barrier_method(barrier)), strerror(-error));
        remark(b, "%s, %llu us", barrier_method_name(barrier_method(barrier)),
               (unsigned long long)barrier_cost_ns(barrier) / 1000);
    }
    barrier_destroy(barrier);
}

int selftest_run(struct steer *steer, struct selftest_check checks[SELFTEST_MAX_CHECKS])
{
    struct bench b = {.checks = checks, .ours = -1, .peer = -1};
    int err;
    uint8_t *memory =
        mmap(NULL, 2 * RING_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    check_barrier(&b, steer);
    if (memory == MAP_FAILED) {
        check(&b, "memory", true, false, "%s", strerror(errno));
        return b.count;
    }
    b.rings = (struct repair_rings){memory, memory + RING_SIZE, RING_SIZE};
    err = open_pair(&b);
    check(&b, "a loopback connection can be made", true, !err,
          "%s; is the loopback interface up? `ip link set lo up`", strerror(-err));
    if (!err)
        move(&b, steer);
    if (b.ours >= 0)
        close(b.ours);
    if (b.peer >= 0)
        close(b.peer);
    munmap(memory, 2 * RING_SIZE);
    return b.count;
}
