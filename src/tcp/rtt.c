/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Round-trip time: stamps, samples, RTO (RFC 6298, RFC 7323, contract.md 5.4).
 *
 * Samples come from a short log of when segments were first sent: microsecond resolution, several
 * per round trip.  A segment gives one when it is first acknowledged, by SACK or by an ACK that
 * covers nothing that was sent twice (Karn; the peer may have had what lies above a hole for long).
 * When the log has nothing to say the echoed timestamp serves, in milliseconds.
 *
 * As in Linux the RTO is SRTT + max(4 RTTVAR, minimum): the minimum covers the peer's delayed ACK,
 * which comes on top of the round trip.
 */
#include "tcp/conn.h"

#define RTO_INITIAL TCP_SEC          /* RFC 6298 2.1 */
#define RTT_MAX_US (UINT32_MAX / 16) /* 268 s; keeps srtt * 8 in 32 bits */

/** The stamp clock, in milliseconds. */
uint32_t tcp_ts_now(const struct tcp_conn *c, tcp_time now)
{
    return c->ts_base + (now > c->ts_epoch ? (uint32_t)((now - c->ts_epoch) / TCP_MSEC) : 0);
}

/** A segment of new data ending before @end leaves. */
void tcp_rtt_sent(struct tcp_conn *c, uint32_t end, tcp_time now)
{
    if (c->rtt_count == TCP_RTT_LOG)
        return;
    c->rtt_log[c->rtt_count++] = (struct tcp_rtt_entry){end, now};
}

/* Does an ACK up to @ack newly cover only what was sent once? */
static bool unambiguous(const struct tcp_conn *c, uint32_t ack)
{
    for (unsigned i = 0; i < c->span_count && seq_lt(c->span[i].left, ack); i++)
        if (c->span[i].state != SPAN_SACKED)
            return false;
    return true;
}

static void rtt_update(struct tcp_conn *c, uint32_t us)
{
    if (!c->srtt) {
        c->srtt = us * 8;
        c->rttvar = us * 2; /* RTTVAR = R / 2 */
    } else {
        int32_t error = (int32_t)(us - c->srtt / 8);

        c->srtt += error;
        c->rttvar += (error < 0 ? -error : error) - (int32_t)(c->rttvar / 4);
    }
    if (!c->srtt)
        c->srtt = 1; /* 0 means unknown */
    c->backoff = 0;
}

/*
 * On a lossy path without timestamps every ACK may cover something that was sent twice; Karn's rule
 * would let the backoff grow for ever.  An ACK that comes within one plain RTO of the
 * retransmission is probably its answer, and the estimate still good.  Only half of the backoff is
 * given back, so that on a path that really became slower the next doubling reaches an unambiguous
 * sample.
 */
static bool answered_in_time(const struct tcp_conn *c, tcp_time now)
{
    const struct tcp_span *first = &c->span[0];

    return c->backoff && c->span_count && first->left == c->snd_una &&
           first->state == SPAN_RESENT && now - first->sent <= tcp_rto(c);
}

/**
 * Takes a sample from an ACK, after its SACK blocks were taken in and before SND.UNA moves.
 * Returns it in microseconds, or 0.
 */
uint32_t tcp_rtt_measure(struct tcp_conn *c, const struct tcp_segment *seg, bool advances,
                         tcp_time now)
{
    uint64_t us = 0;
    unsigned kept = 0;
    bool clean = unambiguous(c, seg->ack);

    for (unsigned i = 0; i < c->rtt_count; i++) {
        struct tcp_rtt_entry entry = c->rtt_log[i];
        bool acked = seq_leq(entry.end, seg->ack);
        enum tcp_span_state state = SPAN_FLIGHT;
        uint32_t end;

        if (c->span_count)
            state = tcp_span_at(c, entry.end - 1, &end);
        if (state == SPAN_FLIGHT && !acked) {
            c->rtt_log[kept++] = entry; /* still out */
        } else if (acked ? state == SPAN_FLIGHT && clean : state == SPAN_SACKED) {
            us = now > entry.sent ? (now - entry.sent) / TCP_USEC : 0;
            us = us ? us : 1;
        }
    }
    c->rtt_count = kept;
    if (us)
        tcp_rack_rtt(c, us, now);
    if (!us && advances && c->flags & F_TIMESTAMP && seg->has_timestamp && seg->tsecr) {
        /* (NicTime + NicDelta) - echo: C426.  An echo from the future is not believed. */
        int32_t ms = (int32_t)(tcp_ts_now(c, now) - seg->tsecr);

        if (ms >= 0)
            us = ms ? (uint64_t)ms * 1000 : 1000;
    }
    if (us)
        rtt_update(c, tcp_min(us, RTT_MAX_US));
    else if (advances && answered_in_time(c, now))
        c->backoff /= 2;
    return tcp_min(us, RTT_MAX_US);
}

/** The RTO without backoff. */
tcp_time tcp_rto(const struct tcp_conn *c)
{
    tcp_time variance = c->rttvar * TCP_USEC;

    if (!c->srtt)
        return RTO_INITIAL;
    variance = tcp_max_time(variance, tcp_from_ticks(c->params, c->params->rto_min_ticks));
    return tcp_min_time(c->srtt / 8 * TCP_USEC + variance,
                        tcp_from_ticks(c->params, c->params->rto_max_ticks));
}

tcp_time tcp_rto_shifted(const struct tcp_conn *c, unsigned doublings)
{
    if (doublings > TCP_MAX_SHIFT_RTO)
        doublings = TCP_MAX_SHIFT_RTO;
    return tcp_min_time(tcp_rto(c) << doublings,
                        tcp_from_ticks(c->params, c->params->rto_max_ticks));
}
