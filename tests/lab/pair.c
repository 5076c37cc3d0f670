/* SPDX-License-Identifier: Apache-2.0 */
#include "pair.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lab.h"

#define PORT_ACCEPT 7000
/** How long anything may take to arrive. */
#define PATIENCE_NS 10000000000ull

struct pair *pair_open(unsigned family, int peer_buffer, void (*prepare)(int listener))
{
    struct pair *p = calloc(1, sizeof(*p));
    int listener = hand_listen(family, PORT_ACCEPT), fd;
    struct sockaddr_storage remote;
    socklen_t len = hand_address(&remote, family, HAND_A4, HAND_A6, PORT_ACCEPT);

    LAB_CHECK(p);
    if (prepare)
        prepare(listener);
    lab_enter(hand.b);
    p->fd = socket(remote.ss_family, SOCK_STREAM, 0);
    LAB_CHECK(p->fd >= 0);
    if (peer_buffer)
        LAB_ZERO(setsockopt(p->fd, SOL_SOCKET, SO_RCVBUF, &peer_buffer, sizeof(peer_buffer)));
    LAB_ZERO(connect(p->fd, (struct sockaddr *)&remote, len));
    lab_enter(hand.a);
    fd = accept(listener, NULL, NULL);
    LAB_CHECK(fd >= 0);
    hand_conn_init(&p->c, fd);
    hand_nonblocking(p->fd);
    close(listener);
    hand.n = 1;
    hand.conns = &p->c;
    return p;
}

/* Closing with unread data resets the connection, and rightly: only what came before counts. */
void pair_close(struct pair *p)
{
    LAB_CHECK(lab_witness_resets(hand.witness) == hand.resets);
    close(p->fd);
    hand_conn_free(&p->c);
    lab_sleep_ms(2);
    hand.resets = lab_witness_resets(hand.witness);
    free(p);
    hand.n = 0;
    hand.conns = NULL;
}

void pair_peer_send(struct pair *p, size_t len)
{
    uint8_t data[4096];
    ssize_t n;

    LAB_CHECK(len <= sizeof(data));
    lab_pattern(data, len, 0, p->sent);
    n = send(p->fd, data, len, 0);
    if (n > 0)
        p->sent += n;
}

void pair_peer_receive(struct pair *p)
{
    uint8_t data[16384];
    ssize_t n = recv(p->fd, data, sizeof(data), 0);

    if (n > 0) {
        LAB_CHECK(lab_pattern_check(data, n, 1, p->received));
        p->received += n;
    } else if (n == 0 || errno != EAGAIN) {
        LAB_FAIL("the peer lost its connection: %s", n ? strerror(errno) : "EOF");
    }
}

void pair_load(struct pair *p, size_t len)
{
    uint64_t end = p->c.sent + len;

    pair_peer_send(p, 1 + lab_random() % 4096);
    for (int tries = 0; p->c.sent < end && tries < 1000; tries++)
        hand_send(&p->c, 0);
}

void pair_settle(struct pair *p, const char *after)
{
    uint64_t deadline = lab_now_ns() + PATIENCE_NS;

    pair_peer_send(p, 100);
    while (p->c.pending || p->received < p->c.sent || p->c.received < p->sent) {
        if (p->c.pending)
            hand_send(&p->c, 0);
        hand_receive(&p->c, 0);
        LAB_CHECK(!p->c.eof);
        pair_peer_receive(p);
        hand_poll();
        if (lab_now_ns() > deadline)
            LAB_FAIL("dead after %s: the peer has %llu of %llu, we have %llu of %llu", after,
                     (unsigned long long)p->received, (unsigned long long)p->c.sent,
                     (unsigned long long)p->c.received, (unsigned long long)p->sent);
    }
}

void pair_park(struct pair *p)
{
    p->c.held = true;
    handoff_freeze_batch(&hand.handoff, &p->c.h, 1);
    if (p->c.h.result != HANDOFF_PARKED)
        LAB_FAIL("not parked: %s (%s)", p->c.h.reason, strerror(-p->c.h.error));
}

void pair_restore(struct pair *p)
{
    struct repair_restore r;

    handoff_prepare_unchanged(&p->c.h, &r);
    hand_restore(&p->c, &r);
}
