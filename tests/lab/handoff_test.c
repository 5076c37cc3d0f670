/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hand-off against the real kernel, without any target: connections are frozen in batches and
 * restored at once, under a flood in both directions, every byte checked, while an AF_XDP port
 * collects what arrives in the meantime.
 *
 *   +--- namespace A -------------------+          +--- namespace B ----------+
 *   | this process: program, hand-off,  | va    vb | a forked child: the peer, |
 *   | AF_XDP port, steering         10.x.0.1 -- 10.x.0.2   plain kernel TCP    |
 *   +-----------------------------------+          +--------------------------+
 *
 * Half of the connections are accepted in A, half are made from A; with IPv4 half of the accepted
 * ones belong to a dual-stack listener.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "host/handoff.h"
#include "lab.h"
#include "port/xsk.h"

#define MAX_CONNS 64
#define RING_SIZE (8u << 20)
#define CHUNK 16384
#define PORT_ACCEPT 7000 /* A listens */
#define PORT_DUAL 7001   /* A listens, dual stack */
#define PORT_PEER 7002   /* B listens */
#define HELD_MAX 4096

/* What both processes know of one connection. */
struct shared_conn {
    _Atomic uint64_t peer_sent, peer_received;
    _Atomic uint32_t peer_error;
};
struct shared {
    _Atomic int ready;
    struct shared_conn conn[MAX_CONNS];
};

struct held_frame {
    uint8_t *data;
    uint32_t len;
};

/* A's side of one connection. */
struct test_conn {
    int fd;
    uint64_t sent, received;
    uint64_t pending_pos; /* in the send ring: what the kernel had no room for */
    uint32_t pending;
    bool eof, done;
    struct handoff_conn h;
    bool held; /* frames are kept */
    struct held_frame frames[HELD_MAX];
    unsigned frame_count, cursor;
};

static struct rig {
    int a, b, ifindex;
    struct steer *steer;
    struct port *port;
    struct handoff handoff;
    struct lab_witness *witness;
    struct shared *shared;
    pid_t peer;
    int listener, dual;
    unsigned n, family;
    struct test_conn *conns;
    uint64_t moves, again, refused, appended, reinjected, held_frames, late_frames, lost_frames;
    uint64_t longest_ns;
} rig;

/* ------------------------------------------------------------------------------------------------
 * Sockets
 */

static socklen_t address(struct sockaddr_storage *out, unsigned family, const char *host4,
                         const char *host6, uint16_t port)
{
    struct sockaddr_in *in4 = (void *)out;
    struct sockaddr_in6 *in6 = (void *)out;

    memset(out, 0, sizeof(*out));
    if (family == 4) {
        in4->sin_family = AF_INET;
        in4->sin_port = htons(port);
        LAB_CHECK(inet_pton(AF_INET, host4, &in4->sin_addr) == 1);
        return sizeof(*in4);
    }
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    LAB_CHECK(inet_pton(AF_INET6, host6, &in6->sin6_addr) == 1);
    return sizeof(*in6);
}

static int listen_on(unsigned family, uint16_t port)
{
    struct sockaddr_storage local;
    socklen_t len = address(&local, family, "0.0.0.0", "::", port);
    int one = 1, zero = 0, fd = socket(local.ss_family, SOCK_STREAM, 0);

    LAB_CHECK(fd >= 0);
    LAB_ZERO(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
    if (family == 6)
        LAB_ZERO(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero)));
    LAB_ZERO(bind(fd, (struct sockaddr *)&local, len));
    LAB_ZERO(listen(fd, MAX_CONNS));
    return fd;
}

static int connect_to(unsigned family, const char *host4, const char *host6, uint16_t port,
                      uint32_t id)
{
    struct sockaddr_storage remote;
    socklen_t len = address(&remote, family, host4, host6, port);
    int fd = socket(remote.ss_family, SOCK_STREAM, 0);

    LAB_CHECK(fd >= 0);
    for (int tries = 0; connect(fd, (struct sockaddr *)&remote, len) < 0; tries++) {
        LAB_CHECK(errno == ECONNREFUSED && tries < 500);
        lab_sleep_ms(10);
    }
    LAB_CHECK(send(fd, &id, sizeof(id), 0) == sizeof(id));
    return fd;
}

static int accept_one(int listener, uint32_t *id)
{
    int fd = accept(listener, NULL, NULL);

    LAB_CHECK(fd >= 0);
    LAB_CHECK(recv(fd, id, sizeof(*id), MSG_WAITALL) == sizeof(*id));
    LAB_CHECK(*id < MAX_CONNS);
    return fd;
}

static bool accepted_in_a(unsigned id)
{
    return id % 2 == 0;
}
static bool dual_stack(unsigned id)
{
    return id % 4 == 0;
}

static void nonblocking(int fd)
{
    LAB_ZERO(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK));
}

/* ------------------------------------------------------------------------------------------------
 * The peer: floods every connection until it sees EOF, then closes its own direction.
 */

struct peer_conn {
    int fd;
    uint64_t sent, received;
    bool closed;
};

static void peer_one(struct peer_conn *c, uint32_t id, struct shared_conn *shared)
{
    static uint8_t data[4 * CHUNK];
    ssize_t n;

    for (int round = 0; round < 4 && !c->closed; round++) {
        n = recv(c->fd, data, sizeof(data), 0);
        if (n > 0) {
            if (!lab_pattern_check(data, n, 2 * id + 1, c->received)) {
                shared->peer_error = EILSEQ;
                c->closed = true;
            }
            c->received += n;
        } else if (n == 0) {
            shutdown(c->fd, SHUT_WR);
            c->closed = true;
        } else if (errno != EAGAIN) {
            shared->peer_error = errno;
            c->closed = true;
        }
        if (c->closed)
            break;
        size_t len = 1 + lab_random() % CHUNK;

        lab_pattern(data, len, 2 * id, c->sent);
        n = send(c->fd, data, len, 0);
        if (n > 0)
            c->sent += n;
        else if (errno != EAGAIN)
            shared->peer_error = errno;
    }
    shared->peer_sent = c->sent;
    shared->peer_received = c->received;
}

static int peer(void *arg)
{
    struct peer_conn conns[MAX_CONNS] = {0};
    struct pollfd fds[MAX_CONNS];
    int listener = listen_on(rig.family, PORT_PEER), errors = 0;
    unsigned open = rig.n;

    rig.shared->ready = 1;
    for (unsigned id = 0; id < rig.n; id++)
        if (accepted_in_a(id))
            conns[id].fd = connect_to(rig.family, "10.99.0.1", "fd00:63::1",
                                      dual_stack(id) ? PORT_DUAL : PORT_ACCEPT, id);
    for (unsigned id = 0; id < rig.n; id++) {
        uint32_t got;

        if (!accepted_in_a(id)) {
            int fd = accept_one(listener, &got);

            conns[got].fd = fd;
        }
    }
    for (unsigned id = 0; id < rig.n; id++)
        nonblocking(conns[id].fd);
    while (open) {
        open = 0;
        for (unsigned id = 0; id < rig.n; id++) {
            fds[id].fd = conns[id].closed ? -1 : conns[id].fd;
            fds[id].events = POLLIN | POLLOUT;
        }
        poll(fds, rig.n, 100);
        for (unsigned id = 0; id < rig.n; id++) {
            if (fds[id].revents)
                peer_one(&conns[id], id, &rig.shared->conn[id]);
            open += !conns[id].closed;
        }
    }
    for (unsigned id = 0; id < rig.n; id++)
        errors += rig.shared->conn[id].peer_error != 0;
    return errors ? 1 : 0;
}

/* ------------------------------------------------------------------------------------------------
 * The AF_XDP side: keeps frames of connections that are on their way, gives others to the kernel.
 */

static struct test_conn *owner_of(const struct flow_key *key)
{
    for (unsigned i = 0; i < rig.n; i++)
        if (rig.conns[i].held && flow_key_equal(&rig.conns[i].h.key, key))
            return &rig.conns[i];
    return NULL;
}

static void keep(const struct port_frame *frame)
{
    struct wire_packet packet;
    struct test_conn *c = NULL;

    if (wire_parse(frame->data, frame->len, false, &packet) == WIRE_OK)
        c = owner_of(&packet.key);
    if (!c) {
        rig.late_frames++;
        if (steer_reinject(rig.steer, rig.ifindex, frame->data, frame->len))
            rig.lost_frames++;
        return;
    }
    if (c->frame_count == HELD_MAX) {
        rig.lost_frames++;
        return;
    }
    c->frames[c->frame_count].data = malloc(frame->len);
    LAB_CHECK(c->frames[c->frame_count].data);
    memcpy(c->frames[c->frame_count].data, frame->data, frame->len);
    c->frames[c->frame_count++].len = frame->len;
    rig.held_frames++;
}

static void poll_port(void)
{
    struct port_frame frames[64];
    int n;

    while ((n = port_rx_burst(rig.port, frames, 64)) > 0) {
        for (int i = 0; i < n; i++)
            keep(&frames[i]);
        port_rx_release(rig.port, frames, n);
    }
    port_tx_flush(rig.port);
}

static int next_held(void *arg, const uint8_t **frame, uint32_t *len)
{
    struct test_conn *c = arg;

    if (c->cursor == c->frame_count)
        poll_port();
    if (c->cursor == c->frame_count)
        return 0;
    *frame = c->frames[c->cursor].data;
    *len = c->frames[c->cursor++].len;
    return 1;
}

static void rewind_held(void *arg)
{
    ((struct test_conn *)arg)->cursor = 0;
}

static void release_held(struct test_conn *c)
{
    for (unsigned i = 0; i < c->frame_count; i++)
        free(c->frames[i].data);
    c->frame_count = c->cursor = 0;
    c->held = false;
}

/* ------------------------------------------------------------------------------------------------
 * The program in A
 */

static void program_send(struct test_conn *c, unsigned id)
{
    static uint8_t data[CHUNK];
    size_t len;
    ssize_t n;

    if (c->pending) {
        uint32_t offset = c->pending_pos & (RING_SIZE - 1);

        len = RING_SIZE - offset < c->pending ? RING_SIZE - offset : c->pending;
        n = send(c->fd, c->h.rings.send + offset, len, MSG_DONTWAIT);
        if (n > 0) {
            c->pending -= n;
            c->pending_pos += n;
        }
    } else {
        len = 1 + lab_random() % CHUNK;
        lab_pattern(data, len, 2 * id + 1, c->sent);
        n = send(c->fd, data, len, MSG_DONTWAIT);
        if (n > 0)
            c->sent += n;
    }
    if (n < 0 && errno != EAGAIN)
        LAB_FAIL("conn %u: send: %s", id, strerror(errno));
}

static void program_receive(struct test_conn *c, unsigned id)
{
    static uint8_t data[4 * CHUNK];
    ssize_t n = recv(c->fd, data, sizeof(data), MSG_DONTWAIT);

    if (n > 0) {
        LAB_CHECK(lab_pattern_check(data, n, 2 * id, c->received));
        c->received += n;
    } else if (n == 0) {
        c->eof = true;
    } else if (errno != EAGAIN) {
        LAB_FAIL("conn %u: recv: %s after %llu bytes", id, strerror(errno),
                 (unsigned long long)c->received);
    }
}

/* ------------------------------------------------------------------------------------------------
 * The rig
 */

static void rig_links(unsigned queues, bool gro)
{
    char err[256];
    bool native;

    rig.a = lab_ns("a");
    rig.b = lab_ns("b");
    lab_veth(rig.a, "va", rig.b, "vb", queues, 99);
    lab_sysctl(rig.a, "net.ipv4.tcp_congestion_control", "reno");
    lab_sysctl(rig.b, "net.ipv4.tcp_congestion_control", "reno");
    if (gro)
        lab_must(-1,
                 "ip netns exec %s sh -c 'ethtool -K va gro on && "
                 "echo 5000000 > /sys/class/net/va/gro_flush_timeout && "
                 "echo 100 > /sys/class/net/va/napi_defer_hard_irqs'",
                 lab_ns_name(rig.a));
    rig.witness = lab_witness(rig.b, "vb");
    lab_enter(rig.a);
    rig.ifindex = if_nametoindex("va");
    if (steer_create(&rig.steer, NULL, err, sizeof(err)) ||
        barrier_create(&rig.handoff.barrier, err, sizeof(err)) ||
        steer_attach(rig.steer, rig.ifindex, false, &native, err, sizeof(err)))
        LAB_FAIL("%s", err);
    LAB_CHECK(native);
    rig.port = xsk_open(&(struct xsk_config){.ifname = "va"}, err, sizeof(err));
    if (!rig.port)
        LAB_FAIL("%s", err);
    for (unsigned q = 0; q < rig.port->caps.queues; q++)
        LAB_ZERO(steer_set_queue(rig.steer, rig.ifindex, q, xsk_queue_fd(rig.port, q)));
    rig.handoff.steer = rig.steer;
    if (conntrack_open(&rig.handoff.conntrack))
        rig.handoff.conntrack = NULL;
}

static void *ring_memory(void)
{
    void *memory =
        mmap(NULL, RING_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    LAB_CHECK(memory != MAP_FAILED);
    return memory;
}

static void rig_connect(unsigned family, unsigned n)
{
    rig.n = n;
    rig.family = family;
    rig.conns = calloc(n, sizeof(*rig.conns));
    rig.shared =
        mmap(NULL, sizeof(*rig.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    LAB_CHECK(rig.conns && rig.shared != MAP_FAILED);
    rig.listener = listen_on(family, PORT_ACCEPT);
    rig.dual = listen_on(6, PORT_DUAL);
    rig.peer = lab_fork(rig.b, peer, NULL);
    for (unsigned i = 0; i < n; i++) {
        uint32_t id = i;
        int fd;

        if (accepted_in_a(i))
            fd = accept_one(dual_stack(i) ? rig.dual : rig.listener, &id);
        else
            fd = connect_to(family, "10.99.0.2", "fd00:63::2", PORT_PEER, id);
        rig.conns[id].fd = fd;
        rig.conns[id].h.fd = dup(fd);
        rig.conns[id].h.ifindex = rig.ifindex;
        rig.conns[id].h.rings = (struct repair_rings){ring_memory(), ring_memory(), RING_SIZE};
        LAB_CHECK(rig.conns[id].h.fd >= 0);
        LAB_ZERO(handoff_identify(fd, &rig.conns[id].h.key));
        nonblocking(fd);
    }
}

static void rig_disconnect(void)
{
    for (unsigned i = 0; i < rig.n; i++) {
        close(rig.conns[i].fd);
        close(rig.conns[i].h.fd);
        munmap(rig.conns[i].h.rings.send, RING_SIZE);
        munmap(rig.conns[i].h.rings.receive, RING_SIZE);
    }
    close(rig.listener);
    close(rig.dual);
    free(rig.conns);
    munmap(rig.shared, sizeof(*rig.shared));
}

static void rig_close(void)
{
    struct steer_counters counters;

    steer_get_counters(rig.steer, &counters);
    printf("  kernel: %llu steered, %llu late (%llu dropped), %llu RSTs suppressed, "
           "%llu without queue\n",
           (unsigned long long)counters.steered, (unsigned long long)counters.late,
           (unsigned long long)counters.late_dropped, (unsigned long long)counters.rst_suppressed,
           (unsigned long long)counters.no_queue_dropped);
    LAB_CHECK(counters.no_queue_dropped == 0);
    LAB_CHECK(lab_witness_resets(rig.witness) == 0);
    lab_witness_end(rig.witness);
    port_close(rig.port);
    steer_destroy(rig.steer);
    barrier_destroy(rig.handoff.barrier);
    conntrack_close(rig.handoff.conntrack);
    lab_clear();
    memset(&rig, 0, sizeof(rig));
}

/* ------------------------------------------------------------------------------------------------
 * Moves
 */

/* One restore from what a target that did nothing would give back, or from the dump itself. */
static void restore(struct test_conn *c)
{
    struct chimney_tcp_state_all state = {0};
    const struct handoff_held held = {next_held, rewind_held, c};
    struct repair_restore r;

    if (lab_random() & 1) {
        handoff_fill(&c->h, &state.constant, &state.cached, &state.delegated);
        LAB_ZERO(handoff_prepare(&c->h, &state.delegated, &r));
    } else {
        handoff_prepare_unchanged(&c->h, &r);
    }
    LAB_ZERO(handoff_restore(&rig.handoff, &c->h, &r, &held));
    c->pending = c->h.unsent_left;
    c->pending_pos = r.una_pos + r.sent_len + r.unsent_len - c->pending;
    rig.appended += c->h.appended_bytes;
    rig.reinjected += c->h.reinjected_frames;
    release_held(c);
}

/* Freezes a random batch, waits a little, restores it. */
static void move(unsigned most)
{
    struct handoff_conn batch[HANDOFF_BATCH];
    struct test_conn *member[HANDOFF_BATCH];
    size_t n = 0, want = 1 + lab_random() % most;
    uint64_t start;

    for (unsigned tries = 0; tries < rig.n && n < want; tries++) {
        struct test_conn *c = &rig.conns[lab_random() % rig.n];

        /* Bytes of the last move that are still in the ring are the program's own to send first. */
        if (c->held || c->done || c->pending)
            continue;
        c->held = true;
        member[n] = c;
        batch[n++] = c->h;
    }
    start = lab_now_ns();
    handoff_freeze_batch(&rig.handoff, batch, n);
    poll_port();
    if (lab_random() % 4 == 0) {
        uint64_t until = lab_now_ns() + lab_random() % 500000;

        while (lab_now_ns() < until)
            poll_port();
    }
    for (size_t i = 0; i < n; i++) {
        struct test_conn *c = member[i];
        const struct handoff_held held = {next_held, rewind_held, c};

        c->h = batch[i];
        if (c->h.result == HANDOFF_PARKED) {
            restore(c);
            rig.moves++;
            continue;
        }
        rig.reinjected += handoff_reinject(&rig.handoff, &c->h, &held);
        release_held(c);
        if (c->h.result == HANDOFF_REFUSED && !rig.refused)
            printf("  first refused: %s: %u bytes to send, %u received\n", c->h.reason,
                   c->h.state.sendq_len, c->h.state.recvq_len);
        if (c->h.result == HANDOFF_AGAIN)
            rig.again++;
        else if (c->h.error == -ENOBUFS || c->h.error == -ENOTCONN)
            rig.refused++;
        else
            LAB_FAIL("refused: %s (%s)", c->h.reason, strerror(-c->h.error));
    }
    if (lab_now_ns() - start > rig.longest_ns)
        rig.longest_ns = lab_now_ns() - start;
}

static void print_costs(void)
{
    for (int step = 0; step < HANDOFF_STEPS; step++) {
        const struct handoff_cost *cost = &rig.handoff.cost[step];

        if (cost->count)
            printf("  %-9s %8llu times, mean %7.2f us, max %9.1f us\n", handoff_step_name(step),
                   (unsigned long long)cost->count, cost->total_ns / 1e3 / cost->count,
                   cost->max_ns / 1e3);
    }
}

/* Both sides close in order and agree on what was said. */
static void finish(void)
{
    uint64_t deadline = lab_now_ns() + 20000000000ull;
    unsigned open = rig.n;

    while (open) {
        open = 0;
        for (unsigned i = 0; i < rig.n; i++) {
            struct test_conn *c = &rig.conns[i];

            if (c->pending)
                program_send(c, i);
            else if (!c->done) {
                LAB_ZERO(shutdown(c->fd, SHUT_WR));
                c->done = true;
            }
            if (!c->eof)
                program_receive(c, i);
            open += !c->eof;
        }
        poll_port();
        if (lab_now_ns() > deadline) {
            for (unsigned i = 0; i < rig.n; i++)
                if (!rig.conns[i].eof)
                    fprintf(stderr,
                            "conn %u: sent %llu received %llu, peer received %llu sent %llu\n", i,
                            (unsigned long long)rig.conns[i].sent,
                            (unsigned long long)rig.conns[i].received,
                            (unsigned long long)rig.shared->conn[i].peer_received,
                            (unsigned long long)rig.shared->conn[i].peer_sent);
            LAB_FAIL("%u connections hang", open);
        }
    }
    LAB_ZERO(lab_wait(rig.peer));
    for (unsigned i = 0; i < rig.n; i++) {
        LAB_CHECK(rig.shared->conn[i].peer_received == rig.conns[i].sent);
        LAB_CHECK(rig.shared->conn[i].peer_sent == rig.conns[i].received);
        LAB_CHECK(rig.shared->conn[i].peer_error == 0);
    }
}

/* rows: C60 C61 C62 C212 C231 C468 */
static void flood(const char *name, unsigned family, unsigned n, unsigned queues, bool gro,
                  double seconds)
{
    uint64_t start, end, next, bytes = 0;

    printf("%s: %u connections, %.1f s\n", name, n, seconds);
    rig_links(queues, gro);
    rig_connect(family, n);
    start = next = lab_now_ns();
    end = start + (uint64_t)(seconds * 1e9);
    while (lab_now_ns() < end) {
        for (unsigned i = 0; i < n; i++) {
            program_receive(&rig.conns[i], i);
            program_send(&rig.conns[i], i);
        }
        poll_port();
        if (lab_now_ns() >= next) {
            move(lab_random() % 8 ? 4 : HANDOFF_BATCH);
            next = lab_now_ns() + lab_random() % 500000;
        }
    }
    finish();
    for (unsigned i = 0; i < n; i++)
        bytes += rig.conns[i].sent + rig.conns[i].received;
    printf("  %llu moves, %llu again, %llu refused; %.2f GB checked; %llu frames held, "
           "%llu bytes appended, %llu reinjected, %llu late, %llu lost; longest batch %.1f ms\n",
           (unsigned long long)rig.moves, (unsigned long long)rig.again,
           (unsigned long long)rig.refused, bytes / 1e9, (unsigned long long)rig.held_frames,
           (unsigned long long)rig.appended, (unsigned long long)rig.reinjected,
           (unsigned long long)rig.late_frames, (unsigned long long)rig.lost_frames,
           rig.longest_ns / 1e6);
    print_costs();
    printf("  peer: %llu PAWS drops, %llu reneged, %llu retransmitted\n",
           (unsigned long long)lab_counter(rig.b, "TcpExt:PAWSEstab"),
           (unsigned long long)lab_counter(rig.b, "TcpExt:TCPSACKReneging"),
           (unsigned long long)lab_counter(rig.b, "Tcp:RetransSegs"));
    LAB_CHECK(lab_counter(rig.b, "TcpExt:TCPSACKReneging") == 0);
    LAB_CHECK(rig.moves > 0 && rig.refused * 10 <= rig.moves);
    rig_disconnect();
    rig_close();
}

/* ------------------------------------------------------------------------------------------------
 * Fault injection: one connection, both ends in this process.
 */

#define SEND_AHEAD 60000
#define PEER_BUFFER 8192

static struct {
    unsigned calls;   /* steps so far */
    unsigned fail[2]; /* which of them fail, counted from 1; 0: none */
    int error;
    char failed[2][40]; /* their names */
} plan;

static int planned_fault(const char *step)
{
    plan.calls++;
    for (int i = 0; i < 2; i++)
        if (plan.calls == plan.fail[i]) {
            snprintf(plan.failed[i], sizeof(plan.failed[i]), "%s", step);
            return plan.error;
        }
    return 0;
}

static void plan_faults(unsigned first, unsigned second)
{
    static const int errors[] = {-EIO, -EPERM, -ENOMEM, -EAGAIN, -EINVAL};

    memset(&plan, 0, sizeof(plan));
    plan.fail[0] = first;
    plan.fail[1] = second;
    plan.error = errors[lab_random() % 5];
}

struct pair {
    struct test_conn c;
    int fd; /* the peer's */
    uint64_t sent, received;
};

static struct pair *pair_open(unsigned family)
{
    struct pair *p = calloc(1, sizeof(*p));
    int listener = listen_on(family, PORT_ACCEPT), size = PEER_BUFFER;
    struct sockaddr_storage remote;
    socklen_t len = address(&remote, family, "10.99.0.1", "fd00:63::1", PORT_ACCEPT);

    LAB_CHECK(p);
    lab_enter(rig.b);
    p->fd = socket(remote.ss_family, SOCK_STREAM, 0);
    LAB_CHECK(p->fd >= 0);
    LAB_ZERO(setsockopt(p->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)));
    LAB_ZERO(connect(p->fd, (struct sockaddr *)&remote, len));
    lab_enter(rig.a);
    p->c.fd = accept(listener, NULL, NULL);
    LAB_CHECK(p->c.fd >= 0);
    p->c.h.fd = dup(p->c.fd);
    p->c.h.ifindex = rig.ifindex;
    p->c.h.rings = (struct repair_rings){ring_memory(), ring_memory(), RING_SIZE};
    LAB_ZERO(handoff_identify(p->c.fd, &p->c.h.key));
    nonblocking(p->fd);
    nonblocking(p->c.fd);
    close(listener);
    rig.n = 1;
    rig.conns = &p->c;
    return p;
}

static void pair_close(struct pair *p)
{
    close(p->fd);
    close(p->c.fd);
    close(p->c.h.fd);
    munmap(p->c.h.rings.send, RING_SIZE);
    munmap(p->c.h.rings.receive, RING_SIZE);
    free(p);
    rig.n = 0;
    rig.conns = NULL;
}

static void peer_send(struct pair *p, size_t len)
{
    uint8_t data[4096];
    ssize_t n;

    LAB_CHECK(len <= sizeof(data));
    lab_pattern(data, len, 0, p->sent);
    n = send(p->fd, data, len, 0);
    if (n > 0)
        p->sent += n;
}

static void peer_receive(struct pair *p)
{
    uint8_t data[16384];
    ssize_t n = recv(p->fd, data, sizeof(data), 0);

    if (n > 0) {
        LAB_CHECK(lab_pattern_check(data, n, 1, p->received));
        p->received += n;
    } else if (n == 0 || errno != EAGAIN) {
        LAB_FAIL("the peer lost its connection: %s (%s, %s)", n ? strerror(errno) : "EOF",
                 plan.failed[0], plan.failed[1]);
    }
}

/* Puts data into all queues: unread in A, in flight and unsent towards the peer. */
static void pair_load(struct pair *p)
{
    uint64_t end = p->c.sent + SEND_AHEAD;

    peer_send(p, 1 + lab_random() % 4096);
    for (int tries = 0; p->c.sent < end && tries < 100; tries++)
        program_send(&p->c, 0);
}

/* The connection is an ordinary one, and everything that was said arrives. */
static void pair_check_alive(struct pair *p)
{
    uint64_t deadline = lab_now_ns() + 10000000000ull;

    peer_send(p, 100);
    while (p->c.pending || p->received < p->c.sent || p->c.received < p->sent) {
        if (p->c.pending)
            program_send(&p->c, 0);
        program_receive(&p->c, 0);
        LAB_CHECK(!p->c.eof);
        peer_receive(p);
        poll_port();
        if (lab_now_ns() > deadline)
            LAB_FAIL(
                "dead after %s and %s failed (%d): peer has %llu of %llu, we have %llu of %llu",
                plan.failed[0], plan.failed[1], plan.error, (unsigned long long)p->received,
                (unsigned long long)p->c.sent, (unsigned long long)p->c.received,
                (unsigned long long)p->sent);
    }
}

/* One offload and one upload with the planned faults; true if the plan was used up. */
static bool pair_move(struct pair *p, unsigned *parked_at)
{
    const struct handoff_held held = {next_held, rewind_held, &p->c};
    struct repair_restore r;
    int tries = 0;

    pair_load(p);
    p->c.held = true;
    handoff_fault = planned_fault;
    handoff_freeze_batch(&rig.handoff, &p->c.h, 1);
    peer_send(p, 1000); /* something to be held */
    poll_port();
    *parked_at = plan.calls;
    if (p->c.h.result == HANDOFF_PARKED) {
        handoff_prepare_unchanged(&p->c.h, &r);
        while (handoff_restore(&rig.handoff, &p->c.h, &r, &held)) {
            LAB_CHECK(++tries <= 2);
            if (tries == 1)
                peer_send(p, 500);
        }
        p->c.pending = p->c.h.unsent_left;
        p->c.pending_pos = r.una_pos + r.sent_len + r.unsent_len - p->c.pending;
    } else {
        LAB_CHECK(p->c.h.result == HANDOFF_REFUSED || p->c.h.result == HANDOFF_AGAIN);
        LAB_CHECK(p->c.h.reason && p->c.h.error < 0);
        handoff_reinject(&rig.handoff, &p->c.h, &held);
    }
    handoff_fault = NULL;
    release_held(&p->c);
    pair_check_alive(p);
    LAB_CHECK(p->c.h.progress == 0);
    return plan.calls >= plan.fail[0] && plan.calls >= plan.fail[1];
}

/* rows: C164 C165 C179 */
static void faults(unsigned family)
{
    struct pair *p;
    unsigned steps, parked, used = 0;

    printf("IPv%u: every step fails once, and every two steps\n", family);
    rig_links(1, false);
    p = pair_open(family);
    plan_faults(0, 0);
    pair_move(p, &parked);
    LAB_CHECK(p->c.h.result == HANDOFF_IN_KERNEL && p->c.h.error == 0);
    steps = plan.calls;
    for (unsigned first = 1; first <= steps; first++) {
        plan_faults(first, 0);
        LAB_CHECK(pair_move(p, &parked));
        used++;
    }
    for (unsigned first = 1; first <= steps; first++)
        for (unsigned gap = 1; gap <= 12; gap++) {
            plan_faults(first, first + gap);
            if (!pair_move(p, &parked))
                break;
            used++;
        }
    printf("  %u steps, %u plans, connection alive after each\n", steps, used);
    pair_close(p);
    rig_close();
}

int main(void)
{
    const char *factor = getenv("LAB_SECONDS");
    double s = factor ? atof(factor) : 4;

    lab_init("hand", 280);
    flood("IPv4", 4, 16, 1, false, s);
    flood("IPv6", 6, 16, 1, false, s);
    flood("IPv4, two receive queues", 4, 16, 2, false, s);
    flood("IPv4, GRO holding packets", 4, 16, 1, true, s);
    faults(4);
    faults(6);
    puts("passed");
    return 0;
}
