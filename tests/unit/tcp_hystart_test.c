/* SPDX-License-Identifier: Apache-2.0 */
/* HyStart++ (RFC 9406) under CUBIC. */
#include "tcp_one.h"
#include "tcp/hystart.h"

/* One round: the window, in @acks ACKs with this round trip. */
static void round_of(struct tcp_cc *cc, uint32_t acks, uint32_t rtt_us)
{
    uint32_t window = cc->cwnd;

    for (uint32_t i = 0; i < acks; i++) {
        struct tcp_cc_ack a = {.acked = i + 1 < acks ? window / acks
                                                     : window - window / acks * (acks - 1),
                               .inflight = window,
                               .rtt_us = rtt_us,
                               .srtt_us = rtt_us};

        cc->ops->on_ack(cc, &a, TCP_SEC);
    }
}

/* Round trips of successive rounds; what the window is afterwards. */
static void rounds_by_the_table(void **state)
{
    static const struct {
        uint32_t acks;
        uint32_t rtt_ms[9];
        uint32_t low, high; /* cwnd in segments */
        bool over;          /* slow start is over */
    } table[] = {
        /* 1: nothing changes: doubling */ {10, {40, 40, 40}, 80, 80, false},
        /* 2: 4 ms more at 40 ms is no sign */ {10, {40, 44, 44}, 80, 80, false},
        /* 3: an eighth more: a quarter as fast */ {10, {40, 45, 45}, 40, 48, false},
        /* 4: at 8 ms the threshold is 4 ms */ {10, {8, 11, 11}, 80, 80, false},
        /* 5 */ {10, {8, 12, 12}, 40, 48, false},
        /* 6: at 400 ms it is 16 ms */ {10, {400, 416, 416}, 40, 48, false},
        /* 7: too few samples */ {7, {40, 60, 80}, 80, 80, false},
        /* 8: a mistake: on as before */ {10, {40, 50, 45, 45}, 70, 110, false},
        /* 9: five rounds later it is over */ {10, {40, 50, 50, 50, 50, 50}, 80, 95, true},
        /* 10: smaller steps each round are no sign */ {10, {40, 41, 42, 43}, 160, 160, false},
    };

    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct tcp_cc cc = {
            .ops = &tcp_cc_cubic, .cwnd = 10000, .ssthresh = TCP_CC_INFINITE, .mss = 1000};

        cc.ops->init(&cc, 0);
        for (unsigned k = 0; k < 9 && table[i].rtt_ms[k]; k++)
            round_of(&cc, table[i].acks, table[i].rtt_ms[k] * 1000);
        if (cc.cwnd < table[i].low * 1000 || cc.cwnd > table[i].high * 1000 ||
            (cc.ssthresh != TCP_CC_INFINITE) != table[i].over)
            fail_msg("case %u: cwnd %u, ssthresh %u", i + 1, cc.cwnd, cc.ssthresh);
    }
}

/* Only the first slow start: after a loss ssthresh is known. */
static void not_after_a_loss(void **state)
{
    struct tcp_cc cc = {.ops = &tcp_cc_cubic, .cwnd = 10000, .ssthresh = 80000, .mss = 1000};

    cc.ops->init(&cc, 0);
    round_of(&cc, 10, 40000);
    round_of(&cc, 10, 80000);
    round_of(&cc, 10, 120000);
    assert_int_equal(cc.cwnd, 80000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounds_by_the_table),
        cmocka_unit_test(not_after_a_loss),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
