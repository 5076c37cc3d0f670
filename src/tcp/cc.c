/* SPDX-License-Identifier: Apache-2.0 */
/* What the congestion control algorithms share, and their list. */
#include "tcp/cc.h"
#include "tcp/conn.h"

static const struct tcp_cc_ops *const algorithms[] = {&tcp_cc_cubic, &tcp_cc_reno};

const struct tcp_cc_ops *tcp_cc_by_name(const char *name)
{
    for (size_t i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++) {
        const char *a = algorithms[i]->name, *b = name;

        while (*a && *a == *b)
            a++, b++;
        if (*a == *b)
            return algorithms[i];
    }
    return NULL;
}

void tcp_set_cc(struct tcp_conn *conn, const struct tcp_cc_ops *cc, tcp_time now)
{
    conn->cc.ops = cc;
    cc->init(&conn->cc, now);
}

uint32_t tcp_cc_initial_window(uint32_t mss)
{
    uint32_t floor = tcp_max(2 * mss, 14600);

    return tcp_min(TCP_CC_INITIAL_SEGMENTS * mss, floor);
}

uint32_t tcp_cc_slow_start(struct tcp_cc *cc, uint32_t acked)
{
    uint32_t step;

    if (cc->cwnd >= cc->ssthresh)
        return acked;
    step = tcp_min(acked, cc->ssthresh - cc->cwnd);
    cc->cwnd = tcp_min(cc->cwnd + step, TCP_CC_MAX_CWND);
    return acked - step;
}

void tcp_cc_remember(struct tcp_cc *cc)
{
    cc->prior_cwnd = cc->cwnd;
    cc->prior_ssthresh = cc->ssthresh;
}

void tcp_cc_restore(struct tcp_cc *cc)
{
    cc->cwnd = tcp_max(cc->cwnd, cc->prior_cwnd);
    cc->ssthresh = tcp_max(cc->ssthresh, cc->prior_ssthresh);
}
