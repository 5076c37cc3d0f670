/* SPDX-License-Identifier: Apache-2.0 */
#include "tcp/hystart.h"
#include "tcp/conn.h"

/* The constants of RFC 9406 4.3. */
#define HYSTART_MIN_THRESHOLD_US 4000u
#define HYSTART_MAX_THRESHOLD_US 16000u
#define HYSTART_DIVISOR 8u
#define HYSTART_SAMPLES 8
#define HYSTART_CSS_GROWTH 4u
#define HYSTART_CSS_ROUNDS 5

static void begin_round(struct tcp_hystart *h, uint32_t inflight)
{
    h->left = tcp_max(inflight, 1);
    h->last_min = h->this_min;
    h->this_min = 0;
    h->samples = 0;
}

static void take_sample(struct tcp_hystart *h, uint32_t rtt_us)
{
    uint32_t threshold;

    if (!rtt_us)
        return;
    h->this_min = h->this_min ? tcp_min(h->this_min, rtt_us) : rtt_us;
    if (h->samples < HYSTART_SAMPLES)
        h->samples++;
    if (h->samples < HYSTART_SAMPLES)
        return;
    if (h->baseline) {
        if (h->this_min < h->baseline)
            h->baseline = 0; /* it was a mistake */
        return;
    }
    if (!h->last_min)
        return;
    threshold = tcp_max(h->last_min / HYSTART_DIVISOR, HYSTART_MIN_THRESHOLD_US);
    threshold = tcp_min(threshold, HYSTART_MAX_THRESHOLD_US);
    if (h->this_min >= h->last_min + threshold) {
        h->baseline = h->this_min;
        h->rounds = 0;
        h->credit = 0;
    }
}

void tcp_hystart_on_ack(struct tcp_hystart *h, struct tcp_cc *cc, const struct tcp_cc_ack *ack)
{
    uint32_t step = ack->acked;
    bool over = false;

    if (!h->left)
        begin_round(h, ack->inflight);
    take_sample(h, ack->rtt_us);
    if (h->baseline) {
        h->credit = tcp_min((uint64_t)h->credit + step, UINT32_MAX);
        step = h->credit / HYSTART_CSS_GROWTH;
        h->credit %= HYSTART_CSS_GROWTH;
    }
    if (ack->acked >= h->left) {
        h->left = 0;
        over = h->baseline && ++h->rounds >= HYSTART_CSS_ROUNDS;
    } else {
        h->left -= ack->acked;
    }
    cc->cwnd = tcp_min((uint64_t)cc->cwnd + step, TCP_CC_MAX_CWND);
    if (over)
        cc->ssthresh = cc->cwnd;
}
