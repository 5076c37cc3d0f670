/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proportional rate reduction (RFC 6937): how cwnd gets to ssthresh in a fast recovery with SACK.
 *
 * The algorithm under cc.h has said where to go: ssthresh.  While more than that is in the pipe,
 * each delivered byte lets out ssthresh / flight bytes, so that sending goes on evenly through the
 * round trip.  Below it, what left may not exceed what arrived; if SND.UNA advances and nothing
 * more is found lost, a segment more per ACK, as in slow start (the safe bound).  At the end, cwnd
 * is ssthresh.
 */
#include "tcp/conn.h"

/** A recovery begins; @delivered bytes came with the ACK that tells so.  ssthresh is set. */
void tcp_prr_begin(struct tcp_conn *c, uint32_t delivered)
{
    uint32_t flight = tcp_flight(c) - c->sacked_bytes + delivered;

    c->prr = (struct tcp_prr){.active = true, .flight = tcp_max(flight, 1)};
}

/** After an ACK in the recovery (or its timer) was taken in; @safe: SND.UNA moved, nothing new
 * lost. */
void tcp_prr_on_ack(struct tcp_conn *c, uint32_t delivered, bool safe)
{
    struct tcp_prr *p = &c->prr;
    uint32_t pipe = tcp_pipe(c), ssthresh = c->cc.ssthresh;
    uint64_t goal, room;

    if (!p->active)
        return;
    p->delivered += delivered;
    if (pipe > ssthresh) {
        goal = (p->delivered * ssthresh + p->flight - 1) / p->flight;
        room = goal > p->out ? goal - p->out : 0;
    } else {
        room = p->delivered > p->out ? p->delivered - p->out : 0;
        if (safe)
            room = tcp_max(tcp_min(room, UINT32_MAX), delivered) + c->mss;
        room = tcp_min(room, ssthresh - pipe);
    }
    c->cc.cwnd = tcp_min(pipe + room, TCP_CC_MAX_CWND);
}

/** @len bytes leave, new or again. */
void tcp_prr_sent(struct tcp_conn *c, uint32_t len)
{
    if (c->prr.active)
        c->prr.out += len;
}

/** The recovery is over, or gives way to a timeout. */
void tcp_prr_end(struct tcp_conn *c)
{
    if (!c->prr.active)
        return;
    c->prr.active = false;
    c->cc.cwnd = c->cc.ssthresh;
}
