/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CUBIC (RFC 9438) in integers.
 *
 * After a reduction the window follows W(t) = C (t - K)^3 + W_max: it comes back fast, lingers
 * around the window that was too much, then probes faster and faster.  t is milliseconds since the
 * epoch began, windows are bytes, C = 0.4 segments per second cubed.  Beside it runs an estimate of
 * what Reno would have; the larger of the two is used.  The first slow start is HyStart++'s.
 *
 * Limits: t - K is cut at 100 s, so that no product leaves 64 bits.
 */
#include "tcp/cc.h"
#include "tcp/conn.h"
#include "tcp/hystart.h"

#define CUBIC_BETA_NUM 7u /* multiplicative decrease 0.7 */
#define CUBIC_BETA_DEN 10u
#define CUBIC_MAX_MS 100000

struct cubic {
    tcp_time epoch;   /* start of this growth period; 0: not begun */
    uint32_t w_max;   /* window at the last reduction, after fast convergence */
    uint32_t k_ms;    /* time from epoch to w_max */
    uint32_t w_est;   /* Reno's window */
    uint32_t w_prior; /* window just before the last reduction */
    uint32_t credit;  /* bytes acknowledged towards growth of cwnd, scaled by cwnd */
    uint32_t est_acc; /* the same for w_est */
    struct tcp_hystart hystart;
};
_Static_assert(sizeof(struct cubic) <= TCP_CC_PRIVATE_WORDS * 8, "fits the private words");

static struct cubic *cubic_of(struct tcp_cc *cc)
{
    return (struct cubic *)cc->priv;
}

static uint32_t cube_root(uint64_t x)
{
    uint32_t root = 0;

    for (int bit = 20; bit >= 0; bit--) { /* 2^21 cubed is 2^63 */
        uint64_t try = root | (1u << bit);

        if (try * try * try <= x)
            root = (uint32_t)try;
    }
    return root;
}

static void cubic_init(struct tcp_cc *cc, tcp_time now)
{
    *cubic_of(cc) = (struct cubic){0};
}

static void cubic_begin_epoch(struct tcp_cc *cc, tcp_time now)
{
    struct cubic *cubic = cubic_of(cc);

    cubic->epoch = now ? now : 1;
    cubic->w_est = cc->cwnd;
    cubic->credit = 0;
    cubic->est_acc = 0;
    if (cubic->w_max > cc->cwnd) {
        /* K = cbrt((w_max - cwnd) / C), here in milliseconds */
        uint64_t gap = cubic->w_max - cc->cwnd;

        cubic->k_ms = cube_root(gap * 2500000000ull / cc->mss);
    } else {
        cubic->k_ms = 0;
        cubic->w_max = cc->cwnd;
    }
}

static uint32_t cubic_window(const struct cubic *cubic, uint32_t mss, uint64_t t_ms)
{
    int64_t dt = (int64_t)t_ms - cubic->k_ms;
    int64_t w;

    if (dt > CUBIC_MAX_MS)
        dt = CUBIC_MAX_MS;
    if (dt < -CUBIC_MAX_MS)
        dt = -CUBIC_MAX_MS;
    w = dt * dt * dt / 1000 * mss / 10 * 4 / 1000000 + cubic->w_max;
    if (w < 0)
        return 0;
    return w > TCP_CC_MAX_CWND ? TCP_CC_MAX_CWND : (uint32_t)w;
}

static void cubic_reno_estimate(struct tcp_cc *cc, uint32_t acked)
{
    struct cubic *cubic = cubic_of(cc);
    /* alpha = 3 (1 - beta) / (1 + beta) = 9/17 until the old window is reached, then 1 */
    uint64_t gain = (uint64_t)acked * cc->mss;

    if (cubic->w_est < cubic->w_prior)
        gain = gain * 9 / 17;
    gain += cubic->est_acc;
    cubic->w_est = tcp_min(cubic->w_est + gain / cc->cwnd, TCP_CC_MAX_CWND);
    cubic->est_acc = (uint32_t)(gain % cc->cwnd);
}

static void cubic_on_ack(struct tcp_cc *cc, const struct tcp_cc_ack *ack, tcp_time now)
{
    struct cubic *cubic = cubic_of(cc);
    uint32_t left, target;
    uint64_t t_ms, gain;

    if (cc->ssthresh == TCP_CC_INFINITE) {
        tcp_hystart_on_ack(&cubic->hystart, cc, ack);
        return;
    }
    left = tcp_cc_slow_start(cc, ack->acked);
    if (!left)
        return;
    if (!cubic->epoch)
        cubic_begin_epoch(cc, now);
    t_ms = now > cubic->epoch ? (now - cubic->epoch) / TCP_MSEC : 0;
    cubic_reno_estimate(cc, left);

    /* Where the curve will be one RTT from now, but at most half a window more (RFC 9438 4.2). */
    target = cubic_window(cubic, cc->mss, t_ms + ack->srtt_us / 1000);
    target = tcp_min(target, cc->cwnd + cc->cwnd / 2);
    if (target > cc->cwnd) {
        gain = (uint64_t)(target - cc->cwnd) * left + cubic->credit;
        cc->cwnd += (uint32_t)(gain / cc->cwnd);
        cubic->credit = (uint32_t)(gain % cc->cwnd);
    }
    if (cubic->w_est > cc->cwnd)
        cc->cwnd = cubic->w_est; /* Reno would be further: RFC 9438 4.3 */
    cc->cwnd = tcp_min(cc->cwnd, TCP_CC_MAX_CWND);
}

static void cubic_reduce(struct tcp_cc *cc, uint32_t inflight)
{
    struct cubic *cubic = cubic_of(cc);
    uint32_t w = cc->cwnd;

    tcp_cc_remember(cc);
    cubic->epoch = 0;
    cubic->w_prior = w;
    /* Fast convergence: a flow whose peaks fall gives room to newcomers (RFC 9438 4.7). */
    cubic->w_max =
        w < cubic->w_max
            ? (uint32_t)((uint64_t)w * (CUBIC_BETA_DEN + CUBIC_BETA_NUM) / (2 * CUBIC_BETA_DEN))
            : w;
    w = (uint32_t)((uint64_t)w * CUBIC_BETA_NUM / CUBIC_BETA_DEN);
    cc->ssthresh = tcp_max(w, 2 * cc->mss);
}

static void cubic_on_congestion(struct tcp_cc *cc, enum tcp_cc_signal signal, uint32_t inflight,
                                tcp_time now)
{
    cubic_reduce(cc, inflight);
    cc->cwnd = cc->ssthresh;
}

static void cubic_on_rto(struct tcp_cc *cc, uint32_t inflight, tcp_time now)
{
    cubic_reduce(cc, inflight);
    cc->cwnd = cc->mss;
}

static void cubic_on_spurious(struct tcp_cc *cc, tcp_time now)
{
    struct cubic *cubic = cubic_of(cc);

    tcp_cc_restore(cc);
    cubic->w_max = tcp_max(cubic->w_max, cubic->w_prior);
    cubic->epoch = 0;
}

static void cubic_on_idle(struct tcp_cc *cc, tcp_time idle, tcp_time now)
{
    struct cubic *cubic = cubic_of(cc);

    if (cubic->epoch) /* t must not run while nothing is sent (RFC 9438 5.8) */
        cubic->epoch = tcp_min_time(cubic->epoch + idle, now);
}

const struct tcp_cc_ops tcp_cc_cubic = {
    .name = "cubic",
    .init = cubic_init,
    .on_ack = cubic_on_ack,
    .on_congestion = cubic_on_congestion,
    .on_rto = cubic_on_rto,
    .on_spurious = cubic_on_spurious,
    .on_idle = cubic_on_idle,
};
