/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Do the rings limit this connection?
 *
 * The rings are lent with the connection and never change under it; an owner that learns that they
 * are too small takes the connection back for a moment and lends larger ones.
 *
 * Receiving, after Linux's dynamic right-sizing: if the program consumes half a ring or more within
 * one round trip, the peer may be waiting for our window.  The round trip is seen from this side by
 * the peer's echo of our stamps, which counts in milliseconds: a shorter one never asks (256 KiB in
 * half a millisecond are 4 Gbit/s).  The smallest echo is taken; it forgets slowly.
 *
 * Sending: the program has filled the ring and both the congestion window and the peer's window
 * would let out more than half of it.
 */
#include "tcp/conn.h"

/** How long a smallest round trip is believed. */
#define DEMAND_RTT_VALID (10 * TCP_SEC)

/** A valid segment with data came in. */
void tcp_demand_segment(struct tcp_conn *c, const struct tcp_segment *seg, tcp_time now)
{
    int32_t ms;

    if (!seg->len || !(c->flags & F_TIMESTAMP) || !seg->has_timestamp || !seg->tsecr)
        return;
    ms = (int32_t)(tcp_ts_now(c, now) - seg->tsecr);
    if (ms < 0)
        return; /* an echo from the future is not believed */
    if (c->demand_rtt_at && (uint32_t)ms > c->demand_rtt_ms &&
        now - c->demand_rtt_at < DEMAND_RTT_VALID)
        return;
    c->demand_rtt_ms = (uint32_t)ms;
    c->demand_rtt_at = now;
}

/** The program has consumed up to rcv_tail. */
void tcp_demand_consumed(struct tcp_conn *c, tcp_time now)
{
    if (!c->demand_rtt_at || !c->demand_rtt_ms)
        return;
    if (now - c->demand_from < c->demand_rtt_ms * TCP_MSEC)
        return;
    if (c->demand_from && now - c->demand_from < 2 * c->demand_rtt_ms * TCP_MSEC &&
        c->rcv_tail - c->demand_tail >= (c->rcv_mask + 1) / 2)
        c->demand_receive = true;
    c->demand_from = now;
    c->demand_tail = c->rcv_tail;
}

bool tcp_rings_small(const struct tcp_conn *c)
{
    uint32_t half = (c->snd_mask + 1) / 2;

    return c->demand_receive ||
           (c->end_pos - c->una_pos > half + half / 2 && c->cc.cwnd > half && c->snd_wnd > half);
}
