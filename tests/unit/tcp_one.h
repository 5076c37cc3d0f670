/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One engine, its rings and a clock, for tests that speak in segments.
 *
 * Our sequence numbers begin at SND (mostly), the peer's at RCV; a full segment is MSS bytes with
 * or without timestamps.  Nothing leaves until pull() is called; then out[] holds what left.
 */
#ifndef TEST_TCP_ONE_H
#define TEST_TCP_ONE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <chimney/status.h>
#include <stdlib.h>
#include <string.h>
#include "tcp/conn.h"

#define SND 1000u
#define RCV 5000u
#define MSS 1000u
#define RING 65536u
#define MS TCP_MSEC

struct one {
    struct tcp_conn *c;
    struct tcp_params params;
    struct tcp_import in;
    uint8_t snd[RING], rcv[RING];
    tcp_time now;
    uint64_t end;
    struct tcp_out out[512];
    unsigned n;
    uint32_t events;
};

/* An idle connection: SACK, no timestamps, no scaling, 30,000 bytes of window each way, RTT 100 ms.
 */
static inline void one_init(struct one *o)
{
    memset(o, 0, sizeof(*o));
    o->c = aligned_alloc(64, (tcp_conn_size() + 63) / 64 * 64);
    o->now = 1000 * TCP_SEC;
    tcp_params_default(&o->params);
    for (unsigned i = 0; i < RING; i++)
        o->snd[i] = (uint8_t)(i * 7 + (i >> 8));
    o->in = (struct tcp_import){
        .constant = {.flags = TCP_FLAG_SACK_ENABLED, .remote_mss = MSS},
        .cached = {.initial_rcv_wnd = 30000, .path_mtu = 1500},
        .delegated =
            {
                .state = TcpConnectionEstablished,
                .rcv_nxt = RCV,
                .rcv_wnd = 30000,
                .snd_una = SND,
                .snd_nxt = SND,
                .snd_max = SND,
                .snd_max_possible = SND,
                .snd_wnd = 30000,
                .max_snd_wnd = 30000,
                .snd_wl1 = RCV - 1,
                .cwnd = 10000,
                .srtt = 100000 * 8,
                .rttvar = 10000 * 4,
                .ka_timeout_delta = TCP_TIMER_OFF,
                .retransmit_timeout_delta = TCP_TIMER_OFF,
            },
        .snd = {o->snd, RING},
        .rcv = {o->rcv, RING},
        .quiet = true,
        .ip_header = 20,
    };
}

static inline void one_free(struct one *o)
{
    free(o->c);
}

static inline void one_timestamps(struct one *o)
{
    o->in.constant.flags |= TCP_FLAG_TIMESTAMP_ENABLED;
    o->in.constant.remote_mss = MSS + 12;
    o->in.delegated.ts_time = 10000;
    o->in.delegated.ts_last = 10000;
    o->in.delegated.ts_recent = 777;
}

static inline void one_open(struct one *o)
{
    assert_int_equal(tcp_import(o->c, &o->params, &o->in, o->now), 0);
    tcp_set_cc(o->c, &tcp_cc_reno, o->now);
    o->end = o->in.snd_len;
    o->n = 0;
}

/* Everything that wants to leave. */
static inline unsigned pull_super(struct one *o, uint32_t max_len)
{
    o->n = 0;
    while (o->n < 512 && tcp_output(o->c, max_len, o->now, &o->out[o->n]))
        o->n++;
    assert_true(o->n < 512);
    return o->n;
}
static inline unsigned pull(struct one *o)
{
    return pull_super(o, 0);
}

static inline unsigned send_bytes(struct one *o, uint32_t len)
{
    o->end += len;
    assert_int_equal(tcp_send_ready(o->c, o->end, false, o->now), 0);
    return pull(o);
}

static inline uint32_t input(struct one *o, struct tcp_segment seg)
{
    static const uint8_t zeroes[65536];

    if (seg.len && !seg.payload)
        seg.payload = zeroes;
    return tcp_input(o->c, &seg, o->now);
}

/* A pure ACK from the peer; the window field unscaled. */
static inline uint32_t ack(struct one *o, uint32_t number, uint16_t window)
{
    return input(o, (struct tcp_segment){
                        .seq = o->c->rcv_nxt, .ack = number, .window = window, .flags = TCP_ACK});
}

static inline uint32_t ack_sack(struct one *o, uint32_t number, uint32_t left, uint32_t right)
{
    return input(o, (struct tcp_segment){.seq = o->c->rcv_nxt,
                                         .ack = number,
                                         .window = 30000,
                                         .flags = TCP_ACK,
                                         .sack_count = 1,
                                         .sack = {{left, right}}});
}

static inline uint32_t data(struct one *o, uint32_t seq, uint32_t len)
{
    return input(
        o, (struct tcp_segment){
               .seq = seq, .ack = o->c->snd_una, .window = 30000, .flags = TCP_ACK, .len = len});
}

/* Lets the next timer fire; returns how long that took. */
static inline tcp_time fire(struct one *o)
{
    tcp_time at = tcp_next_timeout(o->c), before = o->now;

    assert_true(at != TCP_TIME_NEVER);
    o->now = at > o->now ? at : o->now;
    o->events = tcp_timeout(o->c, o->now);
    return o->now - before;
}

/* Lets timers fire until the retransmission timer has; what the others send is thrown away. */
static inline void fire_rto(struct one *o)
{
    uint64_t before = tcp_conn_stats(o->c)->rto_fired;

    for (fire(o); tcp_conn_stats(o->c)->rto_fired == before; fire(o))
        pull(o);
}

/* Lets time pass; timers that fall due fire, what they send is thrown away. */
static inline void pass(struct one *o, tcp_time time)
{
    tcp_time until = o->now + time;

    while (tcp_next_timeout(o->c) <= until) {
        fire(o);
        pull(o);
    }
    o->now = until;
}

static inline uint32_t wire_window(const struct tcp_out *out, unsigned scale)
{
    return (uint32_t)out->window << scale;
}

#endif
