/* SPDX-License-Identifier: Apache-2.0 */
/* Blind attacks, PAWS, urgent data: what is believed and what is not (RFC 5961, RFC
 * 7323, 5.3, 5.5). */
#include "tcp_one.h"

/* Events and answer to one segment; the window is [RCV, RCV + 30000), 5,000 bytes are in flight. */
static const struct defence_case {
    struct tcp_segment seg;
    uint32_t events; /* without TCP_EV_OUTPUT */
    unsigned answers;
    uint8_t state;
} cases[] = {
    /* 1: RST at RCV.NXT */
    {{.seq = RCV, .flags = TCP_RST}, TCP_EV_RESET, 0, TcpConnectionEstablished},
    /* 2: ... with data and anything else */
    {{.seq = RCV, .flags = TCP_RST | TCP_ACK, .len = 10},
     TCP_EV_RESET,
     0,
     TcpConnectionEstablished},
    /* 3: RST in window */
    {{.seq = RCV + 1, .flags = TCP_RST}, TCP_EV_DROPPED, 1, TcpConnectionEstablished},
    /* 4 */ {{.seq = RCV + 29999, .flags = TCP_RST}, TCP_EV_DROPPED, 1, TcpConnectionEstablished},
    /* 5: RST outside */
    {{.seq = RCV - 1, .flags = TCP_RST}, TCP_EV_DROPPED, 0, TcpConnectionEstablished},
    /* 6 */ {{.seq = RCV + 30001, .flags = TCP_RST}, TCP_EV_DROPPED, 0, TcpConnectionEstablished},
    /* 7: SYN at RCV.NXT */
    {{.seq = RCV, .flags = TCP_SYN}, TCP_EV_SYN, 0, TcpConnectionClosed},
    /* 8: SYN in window */
    {{.seq = RCV + 1, .flags = TCP_SYN}, TCP_EV_DROPPED, 1, TcpConnectionEstablished},
    /* 9: SYN outside */
    {{.seq = RCV - 1, .flags = TCP_SYN}, TCP_EV_DROPPED, 1, TcpConnectionEstablished},
    /* 10: the handshake's SYN-ACK again */
    {{.seq = RCV - 1, .ack = SND, .flags = TCP_SYN | TCP_ACK},
     TCP_EV_DROPPED,
     1,
     TcpConnectionEstablished},
    /* 11: SYN beyond */
    {{.seq = RCV + 40000, .flags = TCP_SYN}, TCP_EV_DROPPED, 1, TcpConnectionEstablished},
    /* 12: no ACK flag */
    {{.seq = RCV, .flags = TCP_PSH, .len = 10}, TCP_EV_DROPPED, 0, TcpConnectionEstablished},
    /* 13: an ACK of what was never sent; its data counts for nothing */
    {{.seq = RCV, .ack = SND + 5001, .window = 9, .flags = TCP_ACK, .len = 10},
     TCP_EV_DROPPED,
     1,
     TcpConnectionEstablished},
    /* 14: an ACK of long ago (RFC 5961 5.2) */
    {{.seq = RCV, .ack = SND - 30001, .window = 9, .flags = TCP_ACK, .len = 10},
     TCP_EV_DROPPED,
     1,
     TcpConnectionEstablished},
    /* 15: an old one that may be true: data counts */
    {{.seq = RCV, .ack = SND - 30000, .window = 9, .flags = TCP_ACK, .len = 10},
     TCP_EV_RECEIVED,
     1,
     TcpConnectionEstablished},
    /* 16: urgent, valid */
    {{.seq = RCV, .ack = SND, .flags = TCP_ACK | TCP_URG, .len = 10},
     TCP_EV_URGENT,
     0,
     TcpConnectionEstablished},
    /* 17: urgent, out of window */
    {{.seq = RCV + 40000, .ack = SND, .flags = TCP_ACK | TCP_URG, .len = 10},
     TCP_EV_DROPPED,
     1,
     TcpConnectionEstablished},
    /* 18: urgent, bad ACK */
    {{.seq = RCV, .ack = SND + 6000, .flags = TCP_ACK | TCP_URG, .len = 10},
     TCP_EV_DROPPED,
     1,
     TcpConnectionEstablished},
    /* 19: everything at once */
    {{.seq = RCV, .ack = SND, .flags = 0xff, .len = 10}, TCP_EV_RESET, 0, TcpConnectionEstablished},
};

/* rows: C303 C331 C336 C412 C413 C414 C415 C416 C417 */
static void segments_by_table(void **state)
{
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct one o;
        uint32_t events;

        one_init(&o);
        one_open(&o);
        send_bytes(&o, 5000);
        events = input(&o, cases[i].seg) & ~TCP_EV_OUTPUT;
        pull(&o);
        if (events != cases[i].events || o.n != cases[i].answers ||
            tcp_state(o.c) != cases[i].state)
            fail_msg("case %u: events %x, %u answers, state %u", i + 1, events, o.n,
                     tcp_state(o.c));
        for (unsigned k = 0; k < o.n; k++) {
            assert_false(o.out[k].flags & (TCP_RST | TCP_SYN));
            if (!(events & TCP_EV_RECEIVED))
                assert_int_equal(o.out[k].ack, RCV);
        }
        if (events & (TCP_EV_RESET | TCP_EV_SYN | TCP_EV_URGENT)) {
            /* Nothing more comes of it: no ACK, no timer, no event */
            assert_true(tcp_next_timeout(o.c) == TCP_TIME_NEVER);
            assert_int_equal(data(&o, RCV, 100), TCP_EV_DROPPED);
            assert_int_equal(send_bytes(&o, 100), 0);
            assert_int_equal(tcp_output_ack(o.c, o.now, &o.out[0]), 0);
        }
        one_free(&o);
    }
}

/* rows: C417 C419 */
static void one_challenge_per_validation(void **state)
{
    struct one o;
    struct tcp_segment rst = {.seq = RCV + 100, .flags = TCP_RST};
    struct tcp_export x;

    one_init(&o);
    one_open(&o);
    input(&o, rst);
    assert_int_equal(pull(&o), 1);
    for (unsigned i = 0; i < 100; i++) {
        o.now += TCP_SEC;
        rst.seq += 17;
        input(&o, rst);
        assert_int_equal(pull(&o), 0);
    }
    /* Five minutes from the first, not from the last */
    tcp_query(o.c, o.now, &x);
    assert_int_equal(x.delegated.ka_timeout_delta, 200000000);
    /* The peer answers the challenge: all is forgotten */
    ack(&o, SND, 30000);
    assert_true(tcp_next_timeout(o.c) == TCP_TIME_NEVER);
    input(&o, rst);
    assert_int_equal(pull(&o), 1);
    one_free(&o);
}

/* rows: C414 C417 C418 C419 C420 */
static void five_minutes_later(void **state)
{
    struct one o;
    struct tcp_export x;
    unsigned probes = 0;

    one_init(&o);
    one_open(&o);
    input(&o, (struct tcp_segment){.seq = RCV + 100, .flags = TCP_SYN});
    assert_int_equal(pull(&o), 1);
    o.now += 3 * TCP_SEC - 1;
    input(&o, (struct tcp_segment){.seq = RCV + 100, .flags = TCP_SYN});
    assert_int_equal(pull(&o), 0); /* one in three seconds */
    o.now += 1;
    input(&o, (struct tcp_segment){.seq = RCV + 100, .flags = TCP_SYN});
    assert_int_equal(pull(&o), 1);
    /* Zero parameters: ten probes, one second apart */
    o.now -= 3 * TCP_SEC;
    assert_true(fire(&o) == 300 * TCP_SEC);
    while (!(o.events & TCP_EV_TIMEOUT)) {
        assert_int_equal(pull(&o), 1);
        assert_int_equal(o.out[0].seq, SND - 1);
        probes++;
        if (probes == 4) { /* in the middle of it the connection moves */
            tcp_export(o.c, o.now, &x);
            assert_int_equal(x.delegated.ka_probe_count, 4);
            assert_int_equal(x.delegated.ka_timeout_delta, 1000000);
            o.in.delegated = x.delegated;
            one_open(&o);
        }
        assert_true(fire(&o) == TCP_SEC);
    }
    assert_int_equal(probes, 10);
    assert_int_equal(tcp_state(o.c), TcpConnectionClosed);
    one_free(&o);
}

/* rows: C417 C419 */
static void defence_beside_keepalive(void **state)
{
    struct one o;

    one_init(&o);
    o.in.cached.flags = TCP_FLAG_KEEP_ALIVE_ENABLED;
    o.in.cached.ka_timeout = 60000000;
    one_open(&o);
    input(&o, (struct tcp_segment){.seq = RCV + 100, .flags = TCP_RST});
    pull(&o);
    /* It was due earlier: pushed to five minutes */
    assert_true(tcp_next_timeout(o.c) - o.now == 300 * TCP_SEC);
    ack(&o, SND, 30000);
    assert_true(tcp_next_timeout(o.c) - o.now == 60 * TCP_SEC);
    one_free(&o);
}

static struct tcp_segment stamped(uint32_t tsval, uint32_t seq, uint32_t len)
{
    return (struct tcp_segment){.seq = seq,
                                .ack = SND,
                                .window = 30000,
                                .flags = TCP_ACK,
                                .len = len,
                                .has_timestamp = true,
                                .tsval = tsval,
                                .tsecr = 10000};
}

/* rows: C66 C424 */
static void paws_by_table(void **state)
{
    static const struct {
        uint32_t recent, age, tsval; /* age in ticks of a microsecond times 1000 */
        bool rejected;
    } table[] = {
        /* 1 */ {777, 0, 777, false},
        /* 2 */ {777, 0, 778, false},
        /* 3 */ {777, 0, 776, true},
        /* 4: wraps forward */ {0xffffffff, 0, 0, false},
        /* 5: wraps back */ {1, 0, 0xffffffff, true},
        /* 6: half the circle back */ {0x90000000, 0, 0x10000001, true},
        /* 7: not known (a kernel after a restore) */ {0, 0, 0xfffffff0, false},
        /* 8: not heard for 23 days */ {777, 23 * 86400, 776, true},
        /* 9: not heard for 25 days: means nothing */ {777, 25 * 86400, 776, false},
    };

    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct one o;
        uint32_t events;

        one_init(&o);
        one_timestamps(&o);
        o.params.ticks_per_second = 1;
        o.in.delegated.srtt = o.in.delegated.rttvar = 0;
        o.in.delegated.ts_recent = table[i].recent;
        o.in.delegated.ts_recent_age = table[i].age;
        o.now = 100ull * 86400 * TCP_SEC;
        one_open(&o);
        events = input(&o, stamped(table[i].tsval, RCV, 10));
        pull(&o);
        if (!!(events & TCP_EV_DROPPED) != table[i].rejected || o.n != 1 ||
            o.out[0].ack != RCV + (table[i].rejected ? 0 : 10) ||
            o.out[0].tsecr != (table[i].rejected ? table[i].recent : table[i].tsval))
            fail_msg("case %u: events %x, %u out", i + 1, events, o.n);
        one_free(&o);
    }
}

/* rows: C66 */
static void echo_of_the_left_edge(void **state)
{
    struct one o;

    one_init(&o);
    one_timestamps(&o);
    o.in.quiet = false;
    one_open(&o);
    pull(&o);
    assert_int_equal(o.out[0].tsecr, 777); /* first segment: what came along */
    /* Out of order: its stamp is not echoed (RFC 7323 4.3) */
    input(&o, stamped(900, RCV + 1000, 100));
    pull(&o);
    assert_int_equal(o.out[0].tsecr, 777);
    input(&o, stamped(850, RCV, 1000));
    pull(&o);
    assert_int_equal(o.out[0].tsecr, 850);
    assert_int_equal(o.out[0].ack, RCV + 1100);
    /* RST is exempt from PAWS */
    assert_int_equal(input(&o, (struct tcp_segment){.seq = RCV + 1100,
                                                    .flags = TCP_RST,
                                                    .has_timestamp = true,
                                                    .tsval = 1}),
                     TCP_EV_RESET);
    one_free(&o);
}

static void no_storm_of_answers(void **state)
{
    struct one o;
    unsigned answers = 0;

    one_init(&o);
    one_open(&o);
    for (unsigned i = 0; i < 1000; i++) {
        input(&o, (struct tcp_segment){
                      .seq = RCV + 50000, .ack = SND, .window = 1000, .flags = TCP_ACK});
        answers += pull(&o);
        o.now += MS;
    }
    assert_int_equal(answers, 10); /* every 100 ms */
    one_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments_by_table),   cmocka_unit_test(one_challenge_per_validation),
        cmocka_unit_test(five_minutes_later),  cmocka_unit_test(defence_beside_keepalive),
        cmocka_unit_test(paws_by_table),       cmocka_unit_test(echo_of_the_left_edge),
        cmocka_unit_test(no_storm_of_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
