/* SPDX-License-Identifier: Apache-2.0 */
/* Reno's congestion window (RFC 5681), counted in bytes. */
#include "tcp/cc.h"
#include "tcp/conn.h"

struct reno {
    uint32_t credit; /* bytes acknowledged towards the next segment of growth */
};
_Static_assert(sizeof(struct reno) <= TCP_CC_PRIVATE_WORDS * 8, "fits the private words");

static void reno_init(struct tcp_cc *cc, tcp_time now)
{
    ((struct reno *)cc->priv)->credit = 0;
}

static void reno_on_ack(struct tcp_cc *cc, const struct tcp_cc_ack *ack, tcp_time now)
{
    struct reno *reno = (struct reno *)cc->priv;
    uint32_t left = tcp_cc_slow_start(cc, ack->acked);

    if (!left)
        return;
    reno->credit += left;
    while (reno->credit >= cc->cwnd) { /* one segment per window acknowledged */
        reno->credit -= cc->cwnd;
        cc->cwnd = tcp_min(cc->cwnd + cc->mss, TCP_CC_MAX_CWND);
    }
}

static uint32_t reno_half(const struct tcp_cc *cc, uint32_t inflight)
{
    return tcp_max(inflight / 2, 2 * cc->mss); /* RFC 5681 (4) */
}

static void reno_on_congestion(struct tcp_cc *cc, enum tcp_cc_signal signal, uint32_t inflight,
                               tcp_time now)
{
    tcp_cc_remember(cc);
    cc->ssthresh = reno_half(cc, inflight);
    cc->cwnd = cc->ssthresh;
    reno_init(cc, now);
}

static void reno_on_rto(struct tcp_cc *cc, uint32_t inflight, tcp_time now)
{
    tcp_cc_remember(cc);
    cc->ssthresh = reno_half(cc, inflight);
    cc->cwnd = cc->mss;
    reno_init(cc, now);
}

static void reno_on_spurious(struct tcp_cc *cc, tcp_time now)
{
    tcp_cc_restore(cc);
}

static void reno_on_idle(struct tcp_cc *cc, tcp_time idle, tcp_time now) {}

const struct tcp_cc_ops tcp_cc_reno = {
    .name = "reno",
    .init = reno_init,
    .on_ack = reno_on_ack,
    .on_congestion = reno_on_congestion,
    .on_rto = reno_on_rto,
    .on_spurious = reno_on_spurious,
    .on_idle = reno_on_idle,
};
