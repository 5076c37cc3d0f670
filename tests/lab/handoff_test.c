/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hand-off against the real kernel, without any target: connections are frozen in batches and
 * restored at once, under a flood in both directions, every byte checked, while an AF_XDP port
 * collects what arrives in the meantime.
 *
 * Half of the connections are accepted in A, half are made from A; with IPv4 half of the accepted
 * ones belong to a dual-stack listener.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "handrig.h"
#include "lab.h"

#define PORT_ACCEPT 7000 /* A listens */
#define PORT_DUAL 7001   /* A listens, dual stack */
#define PORT_PEER 7002   /* B listens */

/* What both processes know of one connection. */
struct shared_conn {
    _Atomic uint64_t peer_sent, peer_received;
    _Atomic uint32_t peer_error;
};
struct shared {
    struct shared_conn conn[HAND_MAX_CONNS];
};

static struct {
    struct shared *shared;
    pid_t peer;
    int listener, dual;
    unsigned family;
    uint64_t moves, again, longest_ns;
} flow;

static int connect_to(unsigned family, const char *host4, const char *host6, uint16_t port,
                      uint32_t id)
{
    struct sockaddr_storage remote;
    socklen_t len = hand_address(&remote, family, host4, host6, port);
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
    LAB_CHECK(*id < HAND_MAX_CONNS);
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
    static uint8_t data[4 * HAND_CHUNK];
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
        size_t len = 1 + lab_random() % HAND_CHUNK;

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
    struct peer_conn conns[HAND_MAX_CONNS] = {0};
    struct pollfd fds[HAND_MAX_CONNS];
    int listener = hand_listen(flow.family, PORT_PEER), errors = 0;
    unsigned open = hand.n;

    for (unsigned id = 0; id < hand.n; id++)
        if (accepted_in_a(id))
            conns[id].fd = connect_to(flow.family, HAND_A4, HAND_A6,
                                      dual_stack(id) ? PORT_DUAL : PORT_ACCEPT, id);
    for (unsigned id = 0; id < hand.n; id++) {
        uint32_t got;

        if (!accepted_in_a(id)) {
            int fd = accept_one(listener, &got);

            conns[got].fd = fd;
        }
    }
    for (unsigned id = 0; id < hand.n; id++)
        hand_nonblocking(conns[id].fd);
    while (open) {
        open = 0;
        for (unsigned id = 0; id < hand.n; id++) {
            fds[id].fd = conns[id].closed ? -1 : conns[id].fd;
            fds[id].events = POLLIN | POLLOUT;
        }
        poll(fds, hand.n, 100);
        for (unsigned id = 0; id < hand.n; id++) {
            if (fds[id].revents)
                peer_one(&conns[id], id, &flow.shared->conn[id]);
            open += !conns[id].closed;
        }
    }
    for (unsigned id = 0; id < hand.n; id++)
        errors += flow.shared->conn[id].peer_error != 0;
    return errors ? 1 : 0;
}

static void flow_connect(unsigned family, unsigned n)
{
    hand.n = n;
    flow.family = family;
    hand.conns = calloc(n, sizeof(*hand.conns));
    flow.shared =
        mmap(NULL, sizeof(*flow.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    LAB_CHECK(hand.conns && flow.shared != MAP_FAILED);
    flow.listener = hand_listen(family, PORT_ACCEPT);
    flow.dual = hand_listen(6, PORT_DUAL);
    flow.peer = lab_fork(hand.b, peer, NULL);
    for (unsigned i = 0; i < n; i++) {
        uint32_t id = i;
        int fd;

        if (accepted_in_a(i))
            fd = accept_one(dual_stack(i) ? flow.dual : flow.listener, &id);
        else
            fd = connect_to(family, HAND_B4, HAND_B6, PORT_PEER, id);
        hand_conn_init(&hand.conns[id], fd);
    }
}

static void flow_disconnect(void)
{
    for (unsigned i = 0; i < hand.n; i++)
        hand_conn_free(&hand.conns[i]);
    close(flow.listener);
    close(flow.dual);
    free(hand.conns);
    munmap(flow.shared, sizeof(*flow.shared));
}

/* ------------------------------------------------------------------------------------------------
 * Moves
 */

/* One restore from what a target that did nothing would give back, or from the dump itself. */
static void restore(struct hand_conn *c)
{
    struct chimney_tcp_state_all state = {0};
    struct repair_restore r;

    if (lab_random() & 1) {
        handoff_fill(&c->h, &state.constant, &state.cached, &state.delegated);
        LAB_ZERO(handoff_prepare(&c->h, &state.delegated, &r));
    } else {
        handoff_prepare_unchanged(&c->h, &r);
    }
    hand_restore(c, &r);
}

/* Freezes a random batch, waits a little, restores it. */
static void move(unsigned most)
{
    struct handoff_conn batch[HANDOFF_BATCH];
    struct hand_conn *member[HANDOFF_BATCH];
    size_t n = 0, want = 1 + lab_random() % most;
    uint64_t start;

    for (unsigned tries = 0; tries < hand.n && n < want; tries++) {
        struct hand_conn *c = &hand.conns[lab_random() % hand.n];

        /* Bytes of the last move that are still in the ring are the program's own to send first. */
        if (c->held || c->done || c->pending)
            continue;
        c->held = true;
        member[n] = c;
        batch[n++] = c->h;
    }
    start = lab_now_ns();
    handoff_freeze_batch(&hand.handoff, batch, n);
    hand_poll();
    if (lab_random() % 4 == 0) {
        uint64_t until = lab_now_ns() + lab_random() % 500000;

        while (lab_now_ns() < until)
            hand_poll();
    }
    for (size_t i = 0; i < n; i++) {
        struct hand_conn *c = member[i];
        const struct handoff_held held = hand_held(c);

        c->h = batch[i];
        if (c->h.result == HANDOFF_PARKED) {
            restore(c);
            flow.moves++;
            continue;
        }
        hand.reinjected += handoff_reinject(&hand.handoff, &c->h, &held);
        hand_release(c);
        if (c->h.result == HANDOFF_AGAIN)
            flow.again++;
        else
            LAB_FAIL("refused: %s (%s)", c->h.reason, strerror(-c->h.error));
    }
    if (lab_now_ns() - start > flow.longest_ns)
        flow.longest_ns = lab_now_ns() - start;
}

static void print_costs(void)
{
    for (int step = 0; step < HANDOFF_STEPS; step++) {
        const struct handoff_cost *cost = &hand.handoff.cost[step];

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
    unsigned open = hand.n;

    while (open) {
        open = 0;
        for (unsigned i = 0; i < hand.n; i++) {
            struct hand_conn *c = &hand.conns[i];

            if (c->pending)
                hand_send(c, i);
            else if (!c->done) {
                LAB_ZERO(shutdown(c->fd, SHUT_WR));
                c->done = true;
            }
            if (!c->eof)
                hand_receive(c, i);
            open += !c->eof;
        }
        hand_poll();
        if (lab_now_ns() > deadline) {
            for (unsigned i = 0; i < hand.n; i++)
                if (!hand.conns[i].eof)
                    fprintf(stderr,
                            "conn %u: sent %llu received %llu, peer received %llu sent %llu\n", i,
                            (unsigned long long)hand.conns[i].sent,
                            (unsigned long long)hand.conns[i].received,
                            (unsigned long long)flow.shared->conn[i].peer_received,
                            (unsigned long long)flow.shared->conn[i].peer_sent);
            LAB_FAIL("%u connections hang", open);
        }
    }
    LAB_ZERO(lab_wait(flow.peer));
    for (unsigned i = 0; i < hand.n; i++) {
        LAB_CHECK(flow.shared->conn[i].peer_received == hand.conns[i].sent);
        LAB_CHECK(flow.shared->conn[i].peer_sent == hand.conns[i].received);
        LAB_CHECK(flow.shared->conn[i].peer_error == 0);
    }
}

struct world {
    const char *name;
    unsigned family, queues, mtu;
    bool gro;      /* packets are held back on their way up (handoff.md 3.2) */
    bool tracking; /* what connection tracking calls invalid is dropped (T9) */
    const char *congestion;
};

/* rows: C60 C61 C62 C212 C231 C468 */
static void flood(const struct world *world, unsigned n, double seconds)
{
    uint64_t start, end, next, reneged, pruned, bytes = 0;

    printf("%s: %u connections, %.1f s\n", world->name, n, seconds);
    hand_open(world->queues, world->gro, world->mtu);
    lab_sysctl(hand.a, "net.ipv4.tcp_congestion_control", world->congestion);
    lab_sysctl(hand.b, "net.ipv4.tcp_congestion_control", world->congestion);
    if (world->tracking && hand.handoff.conntrack)
        lab_must(hand.a, "nft add table inet lab && nft add chain inet lab input "
                         "'{ type filter hook input priority 0; }' && "
                         "nft add rule inet lab input ct state invalid counter drop");
    flow_connect(world->family, n);
    start = next = lab_now_ns();
    end = start + (uint64_t)(seconds * 1e9);
    while (lab_now_ns() < end) {
        for (unsigned i = 0; i < n; i++) {
            hand_receive(&hand.conns[i], i);
            hand_send(&hand.conns[i], i);
        }
        hand_poll();
        if (lab_now_ns() >= next) {
            move(lab_random() % 8 ? 4 : HANDOFF_BATCH);
            next = lab_now_ns() + lab_random() % 500000;
        }
    }
    finish();
    for (unsigned i = 0; i < n; i++)
        bytes += hand.conns[i].sent + hand.conns[i].received;
    printf("  %llu moves, %llu again; %.2f GB checked; %llu frames held, "
           "%llu bytes appended, %llu reinjected, %llu late, %llu lost; longest batch %.1f ms\n",
           (unsigned long long)flow.moves, (unsigned long long)flow.again, bytes / 1e9,
           (unsigned long long)hand.held_frames, (unsigned long long)hand.appended,
           (unsigned long long)hand.reinjected, (unsigned long long)hand.late_frames,
           (unsigned long long)hand.lost_frames, flow.longest_ns / 1e6);
    print_costs();
    /* A receiver goes back on its SACKs when it prunes for lack of memory, and for no other reason.
     */
    reneged = lab_counter(hand.b, "TcpExt:TCPSACKReneging");
    pruned = lab_counter(hand.a, "TcpExt:OfoPruned");
    printf("  peer: %llu PAWS drops, %llu reneged (%llu pruned), %llu retransmitted\n",
           (unsigned long long)lab_counter(hand.b, "TcpExt:PAWSEstab"), (unsigned long long)reneged,
           (unsigned long long)pruned, (unsigned long long)lab_counter(hand.b, "Tcp:RetransSegs"));
    LAB_CHECK(reneged <= pruned);
    LAB_CHECK(flow.moves > 0);
    flow_disconnect();
    hand_close();
    memset(&flow, 0, sizeof(flow));
}

int main(void)
{
    static const struct world worlds[] = {
        {"IPv4", 4, 1, 1500, false, false, "reno"},
        {"IPv6", 6, 1, 1500, false, false, "reno"},
        {"IPv4, two receive queues", 4, 2, 1500, false, false, "reno"},
        {"IPv4, GRO holding packets", 4, 1, 1500, true, false, "reno"},
        {"IPv6, MTU 9000", 6, 1, 9000, false, false, "reno"},
        {"IPv4, BBR", 4, 1, 1500, false, false, "bbr"},
        {"IPv4, invalid packets are dropped", 4, 1, 1500, false, true, "reno"},
    };
    const char *factor = getenv("LAB_SECONDS"), *only = getenv("LAB_ONLY");
    double seconds = factor ? atof(factor) : 3;

    lab_init("hand", 280);
    for (size_t i = 0; i < sizeof(worlds) / sizeof(worlds[0]); i++)
        if (!only || strstr(worlds[i].name, only))
            flood(&worlds[i], 16, seconds);
    puts("passed");
    return 0;
}
