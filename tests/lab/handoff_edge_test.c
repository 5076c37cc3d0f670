/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The corners of the hand-off, one connection at a time.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "lab.h"
#include "pair.h"

#define PEER_BUFFER 8192
/* asm/socket.h, newer than the C library's. */
#define OPTION_BUF_LOCK 72
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);

    LAB_ZERO(getsockopt(fd, level, name, &value, &len));
    return value;
}

static void set_option(int fd, int level, int name, int value)
{
    LAB_ZERO(setsockopt(fd, level, name, &value, sizeof(value)));
}

/* Reads what comes until EOF or an error; returns the error, 0 at EOF. */
static int read_to_end(struct hand_conn *c)
{
    uint64_t deadline = lab_now_ns() + 5000000000ull;
    uint8_t data[16384];

    for (;;) {
        ssize_t n = recv(c->fd, data, sizeof(data), MSG_DONTWAIT);

        if (n > 0) {
            LAB_CHECK(lab_pattern_check(data, n, 0, c->received));
            c->received += n;
        } else if (n == 0) {
            return 0;
        } else if (errno != EAGAIN) {
            return errno;
        }
        hand_poll();
        LAB_CHECK(lab_now_ns() < deadline);
    }
}

static void fin_while_parked(unsigned family)
{
    struct pair *p = pair_open(family, 0, NULL);

    pair_load(p, 5000);
    pair_park(p);
    pair_peer_send(p, 700);
    LAB_ZERO(shutdown(p->fd, SHUT_WR));
    lab_sleep_ms(2);
    pair_restore(p);
    LAB_CHECK(read_to_end(&p->c) == 0);
    LAB_CHECK(p->c.received == p->sent);
    LAB_CHECK(p->c.h.reinjected_frames >= 1 && p->c.h.appended_bytes > 0);
    /* The other direction is open as before. */
    hand_send(&p->c, 0);
    while (p->received < p->c.sent)
        pair_peer_receive(p);
    pair_close(p);
}

static void reset_while_parked(unsigned family)
{
    struct pair *p = pair_open(family, PEER_BUFFER, NULL);
    const struct linger abort = {1, 0};

    pair_load(p, 100000); /* there will be unsent data */
    pair_park(p);
    LAB_CHECK(p->c.h.state.write_seq != p->c.h.state.snd_nxt_high);
    pair_peer_send(p, 700);
    LAB_ZERO(setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort)));
    close(p->fd);
    p->fd = -1;
    lab_sleep_ms(2);
    pair_restore(p);
    hand.resets++;
    /* The error is the program's to see: handing over the unsent data must not eat it. */
    LAB_CHECK(read_to_end(&p->c) == ECONNRESET);
    LAB_CHECK(p->c.received == p->sent);
    LAB_CHECK(p->c.pending > 0);
    pair_close(p);
}

/* rows: C431 */
static void urgent_data(unsigned family)
{
    struct pair *p = pair_open(family, 0, NULL);
    struct pollfd watch = {.fd = p->c.fd, .events = POLLPRI};
    char byte = 0;

    pair_park(p);
    pair_peer_send(p, 300);
    LAB_CHECK(send(p->fd, "!", 1, MSG_OOB) == 1);
    pair_peer_send(p, 300);
    lab_sleep_ms(2);
    pair_restore(p);
    LAB_CHECK(poll(&watch, 1, 2000) == 1 && (watch.revents & POLLPRI));
    LAB_CHECK(recv(p->c.fd, &byte, 1, MSG_OOB) == 1 && byte == '!');
    /* A second urgent byte would turn the first into ordinary data if that is not read past. */
    while (p->c.received < p->sent)
        hand_receive(&p->c, 0);

    /* With urgent data pending it stays where it is. */
    LAB_CHECK(send(p->fd, "?", 1, MSG_OOB) == 1);
    lab_sleep_ms(2);
    LAB_CHECK(handoff_freeze_batch(&hand.handoff, &p->c.h, 1) == 0);
    LAB_CHECK(p->c.h.result == HANDOFF_REFUSED && p->c.h.error == -EOPNOTSUPP);
    LAB_CHECK(!strcmp(p->c.h.reason, "urgent data pending"));
    LAB_CHECK(recv(p->c.fd, &byte, 1, MSG_OOB) == 1 && byte == '?');
    pair_settle(p, "urgent data");
    pair_close(p);
}

/* Acknowledges half of the one segment that is in flight; @frame is the peer's own ACK of all. */
static void acknowledge_half(const struct hand_frame *frame, uint32_t half)
{
    struct wire_packet in;
    struct wire_route route = {.ttl = 64};
    struct tcp_out out = {.flags = TCP_ACK};
    uint8_t built[256];
    size_t size;

    LAB_CHECK(wire_parse(frame->data, frame->len, false, &in) == WIRE_OK && in.seg.len == 0);
    /* As the peer would have sent it: what is local to us is remote to it. */
    memcpy(route.key.local_addr, in.key.remote_addr, 16);
    memcpy(route.key.remote_addr, in.key.local_addr, 16);
    route.key.local_port = in.key.remote_port;
    route.key.remote_port = in.key.local_port;
    route.key.family = in.key.family;
    memcpy(route.src_mac, in.src_mac, 6);
    memcpy(route.dst_mac, in.dst_mac, 6);
    out.seq = in.seg.seq;
    out.ack = in.seg.ack - half;
    out.window = in.seg.window;
    out.has_timestamp = in.seg.has_timestamp;
    out.tsval = in.seg.tsval;
    out.tsecr = in.seg.tsecr;
    size = wire_build(built, sizeof(built), &route, &out, false);
    LAB_CHECK(size > 0);
    LAB_ZERO(steer_reinject(hand.steer, hand.ifindex, built, size));
}

/* handoff.md T1: the kernel's send queue begins with bytes that are acknowledged already. */
static void half_acknowledged(unsigned family)
{
    const struct steer_mode hold = {.steer = true};
    struct pair *p = pair_open(family, 0, NULL);
    uint8_t data[1000], expected[500];
    int queued;

    LAB_ZERO(steer_set(hand.steer, &p->c.h.key, 1, hold));
    p->c.held = true;
    lab_pattern(data, sizeof(data), 1, 0);
    LAB_CHECK(send(p->c.fd, data, sizeof(data), 0) == sizeof(data));
    p->c.sent = sizeof(data);
    for (int tries = 0; !p->c.frame_count && tries < 1000; tries++) {
        lab_sleep_ms(1);
        pair_peer_receive(p);
        hand_poll();
    }
    LAB_CHECK(p->c.frame_count > 0);
    acknowledge_half(&p->c.frames[0], 500);
    LAB_ZERO(ioctl(p->c.fd, SIOCOUTQ, &queued));
    LAB_CHECK(queued == 500);
    hand_release(&p->c);

    pair_park(p);
    LAB_CHECK(p->c.h.state.sendq_len == 500);
    lab_pattern(expected, 500, 1, 500);
    LAB_CHECK(!memcmp(p->c.h.rings.send, expected, 500));
    pair_restore(p);
    pair_settle(p, "a half acknowledged segment");
    pair_close(p);
}

static void own_options(int listener)
{
    set_option(listener, IPPROTO_TCP, TCP_MAXSEG, 900);
    set_option(listener, SOL_SOCKET, SO_SNDBUF, 30000);
    set_option(listener, SOL_SOCKET, SO_RCVBUF, 20000);
}

/* Everything a move disturbs is as before, and what it lifted is down again. */
static void options_kept(bool own)
{
    struct pair *p = pair_open(4, PEER_BUFFER, own ? own_options : NULL);
    struct tcp_snapshot before, after;
    int fd = p->c.fd;

    set_option(fd, SOL_SOCKET, SO_REUSEADDR, own);
    for (int round = 0; round < 3; round++) {
        int locks = option(fd, SOL_SOCKET, OPTION_BUF_LOCK);

        LAB_CHECK(locks == (own ? 3 : 0));
        pair_load(p, 200000);
        for (int i = 0; i < 20; i++)
            pair_peer_send(p, 4000);
        lab_sleep_ms(1);
        LAB_ZERO(steer_snapshot(hand.steer, &p->c.h.key, &before));
        pair_park(p);
        for (int i = 0; i < 5; i++)
            pair_peer_send(p, 500);
        lab_sleep_ms(1);
        pair_restore(p);
        LAB_ZERO(steer_snapshot(hand.steer, &p->c.h.key, &after));
        LAB_CHECK(after.user_mss == before.user_mss && after.user_mss == (own ? 900 : 0));
        LAB_CHECK(after.mss_clamp == before.mss_clamp && after.mss_cache == before.mss_cache);
        LAB_CHECK(after.reuse == own);
        LAB_CHECK(option(fd, SOL_SOCKET, OPTION_BUF_LOCK) == locks);
        if (own)
            LAB_CHECK(after.sndbuf == before.sndbuf && after.rcvbuf == before.rcvbuf);
        LAB_CHECK(after.tsoffset == before.tsoffset && !after.usec_ts);
        pair_settle(p, "a move with options");
    }
    pair_close(p);
}

static void expect_refused(int fd, int error, const char *reason)
{
    static uint8_t memory[2][4096];
    struct handoff_conn c = {.fd = fd, .ifindex = hand.ifindex};

    handoff_identify(fd, &c.key);
    c.rings = (struct repair_rings){memory[0], memory[1], 4096};
    LAB_CHECK(handoff_freeze_batch(&hand.handoff, &c, 1) == 0);
    if (c.result != HANDOFF_REFUSED || c.error != error || strcmp(c.reason, reason))
        LAB_FAIL("expected \"%s\" (%d), got \"%s\" (%d)", reason, error, c.reason, c.error);
    LAB_CHECK(c.progress == 0);
}

static void sign(int fd, const char *with)
{
    struct tcp_md5sig md5 = {.tcpm_keylen = 3, .tcpm_key = "key"};
    struct sockaddr_storage address;

    hand_address(&address, 4, with, with, 0);
    memcpy(&md5.tcpm_addr, &address, sizeof(struct sockaddr_in));
    LAB_ZERO(setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &md5, sizeof(md5)));
}

/* TCP-MD5: no option of the socket tells, the snapshot does. */
static void signed_connection(void)
{
    struct sockaddr_storage remote;
    socklen_t len = hand_address(&remote, 4, HAND_A4, HAND_A6, 7011);
    int listener = hand_listen(4, 7011), peer, ours;

    sign(listener, HAND_B4);
    lab_enter(hand.b);
    peer = socket(AF_INET, SOCK_STREAM, 0);
    sign(peer, HAND_A4);
    LAB_ZERO(connect(peer, (struct sockaddr *)&remote, len));
    lab_enter(hand.a);
    ours = accept(listener, NULL, NULL);
    expect_refused(ours, -EOPNOTSUPP, "signed segments (TCP-MD5 or TCP-AO)");
    close(ours);
    close(peer);
    close(listener);
}

static void refusals(void)
{
    struct sock_filter pass = BPF_STMT(BPF_RET | BPF_K, 0xffff);
    const struct sock_fprog filter = {1, &pass};
    int udp = socket(AF_INET, SOCK_DGRAM, 0), tcp = socket(AF_INET, SOCK_STREAM, 0);
    int listener = hand_listen(4, 7009), multipath = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
    int channel[2];
    struct pair *p = pair_open(4, 0, NULL);

    LAB_ZERO(socketpair(AF_UNIX, SOCK_STREAM, 0, channel));
    expect_refused(udp, -EOPNOTSUPP, "not a TCP socket");
    expect_refused(channel[0], -EOPNOTSUPP, "not a TCP socket");
    if (multipath >= 0)
        expect_refused(multipath, -EOPNOTSUPP, "multipath TCP");
    expect_refused(tcp, -ENOTCONN, "not established");
    signed_connection();
    expect_refused(listener, -ENOTCONN, "a listening socket");

    set_option(p->c.fd, SOL_SOCKET, SO_PEEK_OFF, 0);
    expect_refused(p->c.fd, -EOPNOTSUPP, "SO_PEEK_OFF in use");
    set_option(p->c.fd, SOL_SOCKET, SO_PEEK_OFF, -1);
    LAB_ZERO(setsockopt(p->c.fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)));
    expect_refused(p->c.fd, -EOPNOTSUPP, "a socket filter");
    LAB_ZERO(setsockopt(p->c.fd, SOL_SOCKET, SO_DETACH_FILTER, &filter, sizeof(filter)));
    set_option(p->c.fd, SOL_SOCKET, SO_BINDTOIFINDEX, hand.ifindex);
    expect_refused(p->c.fd, -EOPNOTSUPP, "bound to a device");
    set_option(p->c.fd, SOL_SOCKET, SO_BINDTOIFINDEX, 0);
    if (!setsockopt(p->c.fd, IPPROTO_TCP, TCP_ULP, "tls", 3)) {
        expect_refused(p->c.fd, -EOPNOTSUPP, "TLS or another protocol on top, in the kernel");
        pair_close(p);
        p = pair_open(4, 0, NULL);
    } else {
        printf("  this kernel has no TLS: not tried\n");
    }
    set_option(p->c.fd, IPPROTO_TCP, TCP_REPAIR, 1);
    expect_refused(p->c.fd, -EBUSY, "another process has it in repair mode");
    /* An odd value switches a socket to microseconds (T5a), an even one back. */
    set_option(p->c.fd, IPPROTO_TCP, TCP_TIMESTAMP,
               option(p->c.fd, IPPROTO_TCP, TCP_TIMESTAMP) | 1);
    set_option(p->c.fd, IPPROTO_TCP, TCP_REPAIR, -1);
    expect_refused(p->c.fd, -EOPNOTSUPP, "timestamps in microseconds");
    set_option(p->c.fd, IPPROTO_TCP, TCP_REPAIR, 1);
    set_option(p->c.fd, IPPROTO_TCP, TCP_TIMESTAMP,
               (option(p->c.fd, IPPROTO_TCP, TCP_TIMESTAMP) + 2) & ~1);
    set_option(p->c.fd, IPPROTO_TCP, TCP_REPAIR, -1);
    for (int i = 0; i < 3; i++) /* more than the rings of 4096 bytes */
        pair_peer_send(p, 4000);
    lab_sleep_ms(5);
    expect_refused(p->c.fd, -ENOBUFS, "more data queued than the rings hold");
    pair_settle(p, "refusals");
    LAB_ZERO(shutdown(p->c.fd, SHUT_RD));
    expect_refused(p->c.fd, -EOPNOTSUPP, "shut down in one direction");
    LAB_ZERO(shutdown(p->fd, SHUT_WR));
    lab_sleep_ms(5);
    expect_refused(p->c.fd, -ENOTCONN, "not established");
    pair_close(p);
    close(udp);
    close(multipath);
    close(tcp);
    close(listener);
    close(channel[0]);
    close(channel[1]);
}

static void park_and_restore(struct hand_conn *c)
{
    struct repair_restore r;

    c->held = true;
    LAB_CHECK(handoff_freeze_batch(&hand.handoff, &c->h, 1) == 1);
    handoff_prepare_unchanged(&c->h, &r);
    hand_restore(c, &r);
}

/* handoff.md 2.5: nobody else is given the port of a parked socket. */
static void port_reserved(void)
{
    struct hand_conn *c = calloc(1, sizeof(*c));
    struct sockaddr_storage remote;
    struct repair_restore r;
    int listener, ours, peer, other[2];
    socklen_t len = hand_address(&remote, 4, HAND_B4, HAND_B6, 7010);
    char byte;

    LAB_CHECK(c);
    lab_enter(hand.b);
    listener = hand_listen(4, 7010);
    lab_enter(hand.a);
    lab_sysctl(hand.a, "net.ipv4.ip_local_port_range", "40000 40001");
    ours = socket(AF_INET, SOCK_STREAM, 0);
    LAB_ZERO(connect(ours, (struct sockaddr *)&remote, len));
    peer = accept(listener, NULL, NULL);
    hand_conn_init(c, ours);
    hand.n = 1;
    hand.conns = c;
    c->held = true;
    LAB_CHECK(handoff_freeze_batch(&hand.handoff, &c->h, 1) == 1);
    LAB_CHECK(c->h.state.bound_by_kernel);
    for (int i = 0; i < 2; i++) {
        /* The first gets the other port of the range, the second none. */
        other[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (!connect(other[i], (struct sockaddr *)&remote, len))
            LAB_CHECK(i == 0);
        else
            LAB_CHECK(errno == EADDRNOTAVAIL);
    }
    handoff_prepare_unchanged(&c->h, &r);
    hand_restore(c, &r);
    LAB_CHECK(send(ours, "a", 1, 0) == 1 && recv(peer, &byte, 1, 0) == 1 && byte == 'a');
    /* From now on it is bound, by us. */
    park_and_restore(c);
    LAB_CHECK(!c->h.state.bound_by_kernel);
    LAB_CHECK(send(ours, "b", 1, 0) == 1 && recv(peer, &byte, 1, 0) == 1 && byte == 'b');
    LAB_CHECK(lab_witness_resets(hand.witness) == hand.resets);
    hand_conn_free(c);
    free(c);
    hand.n = 0;
    hand.conns = NULL;
    close(peer);
    close(listener);
    close(other[0]);
    close(other[1]);
    lab_sysctl(hand.a, "net.ipv4.ip_local_port_range", "32768 60999");
    hand.resets = lab_witness_resets(hand.witness); /* nobody had accepted the other one */
}

/* The program is gone while its connection is offloaded: the peer must see a FIN all the same. */
static void program_gone(void)
{
    struct pair *p = pair_open(4, 0, NULL);
    uint64_t deadline = lab_now_ns() + 5000000000ull;
    uint8_t data[4096];
    ssize_t n;

    pair_load(p, 3000);
    while (p->c.received < p->sent)
        hand_receive(&p->c, 0); /* else the kernel would answer a close with a RST, and rightly */
    pair_park(p);
    close(p->c.fd);
    pair_restore(p);
    close(p->c.h.fd);
    while ((n = recv(p->fd, data, sizeof(data), 0)) != 0) {
        LAB_CHECK(n > 0 || errno == EAGAIN);
        p->received += n > 0 ? n : 0;
        hand_poll();
        LAB_CHECK(lab_now_ns() < deadline);
    }
    LAB_CHECK(p->received == p->c.sent);
    p->c.fd = p->c.h.fd = -1;
    pair_close(p);
}

int main(void)
{
    static const struct {
        const char *name;
        void (*run)(unsigned family);
    } tests[] = {
        {"FIN while parked", fin_while_parked},
        {"RST while parked", reset_while_parked},
        {"urgent data", urgent_data},
        {"half acknowledged segment", half_acknowledged},
    };

    lab_init("edge", 120);
    hand_open(1, false, 1500);
    for (unsigned family = 4; family <= 6; family += 2)
        for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
            printf("%s, IPv%u\n", tests[i].name, family);
            tests[i].run(family);
        }
    puts("options");
    options_kept(false);
    options_kept(true);
    puts("refusals");
    refusals();
    puts("port of a parked socket");
    port_reserved();
    puts("program gone");
    program_gone();
    hand_close();
    puts("passed");
    return 0;
}
