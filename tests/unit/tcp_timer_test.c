/* SPDX-License-Identifier: Apache-2.0 */
/* RTO, persist, keepalive, FIN_WAIT_2, delayed ACK, MaxRT: times to the microsecond. */
#include "tcp_one.h"

static uint32_t us(tcp_time t)
{
    return (uint32_t)(t / TCP_USEC);
}

/* RFC 6298 section 2, with RTO = SRTT + max(4 RTTVAR, 200 ms): sample, SRTT, RTTVAR, RTO in us. */
/* rows: C64 C65 C426 */
static void rto_by_numbers(void **state)
{
    static const uint32_t table[][4] = {
        /* 1 */ {100000, 100000, 50000, 300000},
        /* 2 */ {100000, 100000, 37500, 300000},
        /* 3 */ {100000, 100000, 28125, 300000},
        /* 4 */ {180000, 110000, 41093, 310000},
        /* 5 */ {30000, 100000, 50820, 303279},
        /* 6 */ {500000, 150000, 138115, 702460},
        /* 7 */ {1, 131250, 141086, 695594},
    };
    struct one o;

    one_init(&o);
    o.in.delegated.srtt = o.in.delegated.rttvar = 0;
    one_open(&o);
    assert_int_equal(us(tcp_rto(o.c)), 1000000); /* nothing known: RFC 6298 (2.1) */
    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        send_bytes(&o, 1000);
        o.now += table[i][0] * TCP_USEC;
        ack(&o, o.c->snd_max, 30000);
        if (abs((int)(o.c->srtt / 8 - table[i][1])) > 2 ||
            abs((int)(o.c->rttvar / 4 - table[i][2])) > 2 ||
            abs((int)(us(tcp_rto(o.c)) - table[i][3])) > 8)
            fail_msg("case %u: srtt %u rttvar %u rto %u", i + 1, o.c->srtt / 8, o.c->rttvar / 4,
                     us(tcp_rto(o.c)));
    }
    one_free(&o);
}

/* rows: C64 C65 */
static void rtt_travels_in_every_tick(void **state)
{
    static const uint32_t rates[] = {1000, 10000, 100000, 1000000};

    for (unsigned i = 0; i < 4; i++) {
        struct one o;
        struct tcp_export x;

        one_init(&o);
        o.params.ticks_per_second = rates[i];
        o.in.delegated.srtt = 8 * rates[i] / 10 + 3;
        o.in.delegated.rttvar = 4 * rates[i] / 50 + 1;
        one_open(&o);
        tcp_query(o.c, o.now, &x);
        assert_int_equal(x.delegated.srtt, o.in.delegated.srtt);
        assert_int_equal(x.delegated.rttvar, o.in.delegated.rttvar);
        assert_in_range(o.c->srtt / 8, 100000, 100400);
        one_free(&o);
    }
}

/* rows: C426 */
static void samples_by_timestamp(void **state)
{
    struct one o;

    one_init(&o);
    one_timestamps(&o);
    o.in.delegated.srtt = 0;
    o.in.snd_len = 1000;
    o.in.delegated.snd_nxt = o.in.delegated.snd_max = SND + 1000; /* sent by the kernel */
    o.in.delegated.snd_max_possible = SND + 1000;
    o.in.delegated.retransmit_timeout_delta = 500000;
    one_open(&o);
    o.now += 30 * MS;
    input(&o, (struct tcp_segment){.seq = RCV,
                                   .ack = SND + 1000,
                                   .window = 30000,
                                   .flags = TCP_ACK,
                                   .has_timestamp = true,
                                   .tsval = 800,
                                   .tsecr = 9950}); /* 50 ms before the hand-over */
    assert_int_equal(o.c->srtt / 8, 80000);
    one_free(&o);
}

/* rows: C53 C68 C73 C337 C400 */
static void backoff_series_and_limit(void **state)
{
    struct one o;
    tcp_time total = 0;

    one_init(&o);
    o.params.max_retransmissions = 10;
    one_open(&o);
    send_bytes(&o, 500);
    for (unsigned k = 0; k < 10; k++) {
        tcp_time waited = fire(&o), want = 300 * MS << k;
        struct tcp_export x;

        total += waited;
        want = want < 120 * TCP_SEC ? want : 120 * TCP_SEC;
        if (waited != want)
            fail_msg("retransmission %u after %u ms", k + 1, us(waited) / 1000);
        assert_int_equal(pull(&o), 1);
        assert_int_equal(o.out[0].seq, SND);
        tcp_query(o.c, o.now, &x);
        assert_int_equal(x.delegated.retransmit_count, k + 1);
        assert_int_equal(x.delegated.total_rt, us(total));
    }
    fire(&o);
    assert_int_equal(o.events, TCP_EV_TIMEOUT);
    assert_int_equal(pull(&o), 0);
    assert_true(tcp_next_timeout(o.c) == TCP_TIME_NEVER);
    one_free(&o);
}

/* rows: C53 */
static void max_rt_by_time(void **state)
{
    struct one o;

    one_init(&o);
    o.in.cached.max_rt = 5000000; /* 5 s */
    one_open(&o);
    send_bytes(&o, 500);
    do {
        fire(&o);
        pull(&o);
    } while (!(o.events & TCP_EV_TIMEOUT));
    assert_int_equal(us(o.now - 1000 * TCP_SEC), 5000000);
    one_free(&o);

    one_init(&o);
    o.in.cached.max_rt = UINT32_MAX; /* no limit */
    one_open(&o);
    send_bytes(&o, 500);
    for (unsigned k = 0; k < 400; k++) {
        fire(&o);
        assert_false(o.events & TCP_EV_TIMEOUT);
        pull(&o);
    }
    one_free(&o);
}

/* rows: C48 C194 */
static void max_rt_restart(void **state)
{
    struct one o;
    struct tcp_export x;
    struct tcp_cached_state cached;

    one_init(&o);
    one_open(&o);
    send_bytes(&o, 500);
    pass(&o, 5 * TCP_SEC);
    tcp_query(o.c, o.now, &x);
    assert_int_equal(x.delegated.total_rt, 5000000);
    cached = o.in.cached;
    cached.flags |= TCP_FLAG_MAX_RT_RESTART;
    tcp_update(o.c, &cached, o.now);
    tcp_query(o.c, o.now, &x);
    assert_int_equal(x.delegated.total_rt, 0);
    assert_int_equal(x.delegated.snd_una, SND); /* delegated values are nobody else's */
    one_free(&o);
}

/* A closed window: RTO is 300 ms. */
static void open_closed(struct one *o)
{
    one_init(o);
    o->params.max_retransmissions = 4;
    o->in.delegated.snd_wnd = 0;
    one_open(o);
    assert_int_equal(send_bytes(o, 3000), 0);
}

static void expect_probe(struct one *o)
{
    assert_int_equal(pull(o), 1);
    assert_int_equal(o->out[0].seq, SND - 1);
    assert_int_equal(o->out[0].len, 0);
    assert_int_equal(o->out[0].flags, TCP_ACK);
}

/* rows: C70 C401 C402 C403 C404 */
static void persist_by_the_contract(void **state)
{
    struct one o;
    struct tcp_export x;

    open_closed(&o);
    /* Round 0: RTO, then the probe, then RTO and its doubles as long as it is unanswered */
    assert_int_equal(us(fire(&o)), 300000);
    expect_probe(&o);
    assert_int_equal(us(fire(&o)), 300000);
    expect_probe(&o);
    assert_int_equal(us(fire(&o)), 600000);
    expect_probe(&o);
    tcp_query(o.c, o.now, &x);
    assert_int_equal(x.delegated.snd_wnd_probe_count, 0);
    assert_int_equal(x.delegated.retransmit_count, 3);
    assert_int_equal(x.delegated.snd_max, SND); /* a probe leaves no trace */
    /* An answer that still says closed: round 1, whose first wait is twice as long */
    ack(&o, SND, 0);
    tcp_query(o.c, o.now, &x);
    assert_int_equal(x.delegated.snd_wnd_probe_count, 1);
    assert_int_equal(x.delegated.retransmit_count, 0);
    assert_int_equal(us(fire(&o)), 600000);
    expect_probe(&o);
    ack(&o, SND, 0);
    assert_int_equal(us(fire(&o)), 1200000);
    expect_probe(&o);
    /* An ACK that answers no probe is no answer */
    ack(&o, SND, 0);
    ack(&o, SND, 0);
    tcp_query(o.c, o.now, &x);
    assert_int_equal(x.delegated.snd_wnd_probe_count, 3);
    /* It opens: data at once */
    assert_true(ack(&o, SND, 2000) & TCP_EV_OUTPUT);
    assert_int_equal(pull(&o), 2);
    assert_int_equal(o.out[0].seq, SND);
    tcp_query(o.c, o.now, &x);
    assert_int_equal(x.delegated.snd_wnd_probe_count, 0);
    one_free(&o);
}

/* rows: C405 */
static void persist_limit(void **state)
{
    struct one o;
    unsigned probes = 0;

    open_closed(&o);
    for (;; probes++) {
        fire(&o);
        if (o.events & TCP_EV_TIMEOUT)
            break;
        expect_probe(&o);
    }
    assert_int_equal(probes, 4);
    one_free(&o);

    /* Answered probes go on for ever */
    open_closed(&o);
    for (probes = 0; probes < 100; probes++) {
        assert_true(fire(&o) <= 120 * TCP_SEC);
        expect_probe(&o);
        ack(&o, SND, 0);
    }
    one_free(&o);
}

/* rows: C70 C74 C406 */
static void persist_is_carried(void **state)
{
    for (unsigned probed = 0; probed < 3; probed++) {
        struct one o;
        struct tcp_export x;

        open_closed(&o);
        for (unsigned k = 0; k < probed; k++) {
            fire(&o);
            pull(&o);
        }
        o.now += 100 * MS;
        tcp_export(o.c, o.now, &x);
        o.in.delegated = x.delegated;
        o.in.snd_len = 3000;
        o.now += 7 * MS; /* the new owner's clock is another */
        one_open(&o);
        assert_int_equal(pull(&o), 0);
        assert_int_equal(us(fire(&o)), (300000u << (probed ? probed - 1 : 0)) - 100000);
        expect_probe(&o);
        assert_int_equal(us(fire(&o)), 300000u << probed);
        one_free(&o);
    }
}

/* rows: C45 C47 C52 C71 C72 C407 */
static void keepalive_by_the_contract(void **state)
{
    struct one o;
    struct tcp_export x;
    struct tcp_cached_state cached;

    one_init(&o);
    o.in.cached.flags = TCP_FLAG_KEEP_ALIVE_ENABLED;
    o.in.cached.ka_timeout = 60000000;
    o.in.cached.ka_interval = 5000000;
    o.in.cached.ka_probe_count = 3;
    one_open(&o);
    assert_int_equal(us(fire(&o)), 60000000);
    expect_probe(&o);
    tcp_query(o.c, o.now, &x);
    assert_int_equal(x.delegated.ka_probe_count, 1);
    assert_int_equal(x.delegated.ka_timeout_delta, 5000000);
    /* An answer begins again */
    ack(&o, SND, 30000);
    tcp_query(o.c, o.now, &x);
    assert_int_equal(x.delegated.ka_probe_count, 0);
    assert_int_equal(x.delegated.ka_timeout_delta, 60000000);
    /* Restart flag at half of the time: a whole time from there */
    o.now += 30 * TCP_SEC;
    cached = o.in.cached;
    cached.flags |= TCP_FLAG_KEEP_ALIVE_RESTART;
    tcp_update(o.c, &cached, o.now);
    assert_int_equal(us(fire(&o)), 60000000);
    expect_probe(&o);
    assert_int_equal(us(fire(&o)), 5000000);
    expect_probe(&o);
    assert_int_equal(us(fire(&o)), 5000000);
    expect_probe(&o);
    assert_int_equal(us(fire(&o)), 5000000);
    assert_int_equal(o.events, TCP_EV_TIMEOUT);
    one_free(&o);

    /* Switched off by update: no probe; on again: a whole time */
    one_init(&o);
    o.in.cached.flags = TCP_FLAG_KEEP_ALIVE_ENABLED;
    o.in.cached.ka_timeout = 60000000;
    one_open(&o);
    cached = o.in.cached;
    cached.flags = 0;
    tcp_update(o.c, &cached, o.now);
    assert_true(tcp_next_timeout(o.c) == TCP_TIME_NEVER);
    o.now += 100 * TCP_SEC;
    cached.flags = TCP_FLAG_KEEP_ALIVE_ENABLED;
    tcp_update(o.c, &cached, o.now);
    assert_int_equal(us(fire(&o)), 60000000);
    one_free(&o);
}

/* rows: C71 C72 C199 C408 */
static void keepalive_is_carried(void **state)
{
    struct one o;
    struct tcp_export x;
    struct tcp_cached_state cached;
    unsigned probes = 0;

    one_init(&o);
    o.in.cached.flags = TCP_FLAG_KEEP_ALIVE_ENABLED;
    o.in.cached.ka_timeout = 60000000;
    o.in.cached.ka_interval = 5000000;
    o.in.cached.ka_probe_count = 5;
    one_open(&o);
    fire(&o);
    pull(&o);
    fire(&o);
    pull(&o);
    o.now += TCP_SEC;
    tcp_export(o.c, o.now, &x);
    assert_int_equal(x.delegated.ka_probe_count, 2);
    assert_int_equal(x.delegated.ka_timeout_delta, 4000000);
    o.in.delegated = x.delegated;
    one_open(&o);
    assert_int_equal(us(fire(&o)), 4000000);
    for (probes = 0; !(o.events & TCP_EV_TIMEOUT); probes++) {
        expect_probe(&o);
        fire(&o);
    }
    assert_int_equal(probes, 3); /* only KaProbeCount - 2 more */
    one_free(&o);

    /* Due now: at once.  Restart resets the counters. */
    one_init(&o);
    o.in.cached.flags = TCP_FLAG_KEEP_ALIVE_ENABLED;
    o.in.cached.ka_timeout = 60000000;
    o.in.delegated.ka_timeout_delta = 0;
    o.in.delegated.ka_probe_count = 2;
    one_open(&o);
    assert_true(tcp_next_timeout(o.c) <= o.now);
    cached = o.in.cached;
    cached.flags |= TCP_FLAG_KEEP_ALIVE_RESTART;
    tcp_update(o.c, &cached, o.now);
    tcp_query(o.c, o.now, &x);
    assert_int_equal(x.delegated.ka_probe_count, 0);
    assert_int_equal(x.delegated.ka_timeout_delta, 60000000);
    one_free(&o);
}

static void keepalive_waits_for_data(void **state)
{
    struct one o;

    one_init(&o);
    o.in.cached.flags = TCP_FLAG_KEEP_ALIVE_ENABLED;
    o.in.cached.ka_timeout = 100000;
    o.in.cached.ka_probe_count = 1;
    o.in.cached.max_rt = UINT32_MAX;
    one_open(&o);
    send_bytes(&o, 100);
    for (unsigned i = 0; i < 50; i++) {
        fire(&o);
        assert_false(o.events & TCP_EV_TIMEOUT);
        pull(&o);
        for (unsigned k = 0; k < o.n; k++)
            assert_int_equal(o.out[k].len, 100);
    }
    one_free(&o);
}

/* rows: C74 C192 C409 */
static void fin_wait_2(void **state)
{
    struct one o;
    struct tcp_export x;

    one_init(&o);
    one_open(&o);
    tcp_shutdown(o.c, o.now);
    assert_int_equal(pull(&o), 1);
    assert_true(ack(&o, SND + 1, 30000) & TCP_EV_FIN_ACKED);
    assert_int_equal(tcp_state(o.c), TcpConnectionFinWait2);
    tcp_query(o.c, o.now, &x);
    assert_int_equal(x.delegated.retransmit_timeout_delta, 120000000);
    o.now += 100 * TCP_SEC;
    data(&o, RCV, 10); /* any acceptable segment restarts it */
    pull(&o);
    tcp_query(o.c, o.now, &x);
    assert_int_equal(x.delegated.retransmit_timeout_delta, 120000000);
    o.now += 20 * TCP_SEC;
    tcp_export(o.c, o.now, &x);
    assert_int_equal(x.delegated.retransmit_timeout_delta, 100000000);
    o.in.delegated = x.delegated;
    one_open(&o);
    assert_int_equal(us(fire(&o)), 100000000);
    assert_int_equal(o.events, TCP_EV_TIMEOUT);
    assert_int_equal(tcp_state(o.c), TcpConnectionClosed);
    one_free(&o);
}

/* rows: C396 C215 */
static void delayed_ack(void **state)
{
    struct one o;

    one_init(&o);
    one_open(&o);
    o.c->quick_acks = 0;
    o.c->rcv_mss = 1000;
    data(&o, RCV, 1000);
    assert_int_equal(pull(&o), 0);
    assert_int_equal(us(fire(&o)), 40000);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].ack, RCV + 1000);
    assert_true(tcp_next_timeout(o.c) == TCP_TIME_NEVER);
    /* Every second full segment at once; a super-segment counts as what it was merged from */
    data(&o, RCV + 1000, 1000);
    assert_int_equal(pull(&o), 0);
    data(&o, RCV + 2000, 1000);
    assert_int_equal(pull(&o), 1);
    input(&o, (struct tcp_segment){.seq = RCV + 3000,
                                   .ack = SND,
                                   .window = 30000,
                                   .flags = TCP_ACK,
                                   .len = 5000,
                                   .gso_size = 1000});
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.c->rcv_mss, 1000);
    /* Data on its way takes the ACK along */
    data(&o, RCV + 8000, 1000);
    assert_int_equal(send_bytes(&o, 10), 1);
    assert_int_equal(o.out[0].ack, RCV + 9000);
    ack(&o, SND + 10, 30000);
    assert_true(tcp_next_timeout(o.c) == TCP_TIME_NEVER);
    /* Before a hand-over what is due is pulled, and the new owner starts without a timer */
    data(&o, RCV + 9000, 500);
    assert_int_equal(tcp_output_ack(o.c, o.now, &o.out[0]), 1);
    assert_int_equal(o.out[0].ack, RCV + 9500);
    assert_int_equal(tcp_output_ack(o.c, o.now, &o.out[0]), 0);
    assert_true(tcp_next_timeout(o.c) == TCP_TIME_NEVER);
    one_free(&o);
}

static void quick_acks_after_import(void **state)
{
    struct one o;

    one_init(&o);
    o.in.quiet = false;
    one_open(&o);
    assert_int_equal(pull(&o), 1); /* the ACK that tells the peer nothing was lost */
    for (uint32_t i = 0; i < TCP_QUICK_ACKS; i++) {
        data(&o, RCV + i * 100, 100);
        assert_int_equal(pull(&o), 1);
    }
    data(&o, RCV + 800, 100);
    assert_int_equal(pull(&o), 0);
    one_free(&o);
}

/* rows: C395 */
static void weeks_without_wrap(void **state)
{
    struct one o;

    one_init(&o);
    o.params.ticks_per_second = 1000;
    o.in.delegated.srtt = 100 * 8;
    o.in.delegated.rttvar = 10 * 4;
    o.in.cached.flags = TCP_FLAG_KEEP_ALIVE_ENABLED;
    o.in.cached.ka_timeout = 4000000000u; /* 46 days */
    o.now = 10ull * 365 * 24 * 3600 * TCP_SEC;
    one_open(&o);
    assert_true(fire(&o) == 4000000000ull * TCP_MSEC);
    expect_probe(&o);
    ack(&o, SND, 30000);
    o.now += 50ull * 24 * 3600 * TCP_SEC;
    send_bytes(&o, 100);
    ack(&o, SND + 100, 30000);
    assert_true(tcp_next_timeout(o.c) - o.now == 4000000000ull * TCP_MSEC);
    one_free(&o);
}

/* Whatever is in flight or waits has a deadline. */
static void nothing_waits_without_a_timer(void **state)
{
    struct one o;

    /* 1: a window smaller than a segment, nothing in flight: silly window timer */
    one_init(&o);
    o.in.delegated.snd_wnd = 100;
    one_open(&o);
    o.c->flags &= ~F_SWS_OVERRIDE;
    assert_int_equal(send_bytes(&o, 3000), 0);
    assert_int_equal(us(fire(&o)), 200000);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].len, 100);
    one_free(&o);
    /* 2: only a FIN waits before a closed window */
    one_init(&o);
    o.in.delegated.snd_wnd = 0;
    one_open(&o);
    tcp_shutdown(o.c, o.now);
    assert_int_equal(pull(&o), 0);
    fire(&o);
    expect_probe(&o);
    ack(&o, SND, 1);
    assert_int_equal(pull(&o), 1);
    assert_true(o.out[0].flags & TCP_FIN);
    one_free(&o);
    /* 3: the peer takes its window back while data is in flight, and answers: never given up */
    one_init(&o);
    o.params.max_retransmissions = 3;
    one_open(&o);
    send_bytes(&o, 5000);
    input(&o,
          (struct tcp_segment){.seq = RCV + 1, .ack = SND + 1000, .window = 0, .flags = TCP_ACK});
    for (unsigned i = 0; i < 20; i++) {
        fire(&o);
        assert_false(o.events & TCP_EV_TIMEOUT);
        assert_int_equal(pull(&o), 1);
        assert_int_equal(o.out[0].seq, SND + 1000);
        ack(&o, SND + 1000, 0);
    }
    ack(&o, SND + 1000, 30000);
    pull(&o);
    ack(&o, SND + 5000, 30000);
    assert_true(tcp_next_timeout(o.c) == TCP_TIME_NEVER);
    one_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rto_by_numbers),
        cmocka_unit_test(rtt_travels_in_every_tick),
        cmocka_unit_test(samples_by_timestamp),
        cmocka_unit_test(backoff_series_and_limit),
        cmocka_unit_test(max_rt_by_time),
        cmocka_unit_test(max_rt_restart),
        cmocka_unit_test(persist_by_the_contract),
        cmocka_unit_test(persist_limit),
        cmocka_unit_test(persist_is_carried),
        cmocka_unit_test(keepalive_by_the_contract),
        cmocka_unit_test(keepalive_is_carried),
        cmocka_unit_test(keepalive_waits_for_data),
        cmocka_unit_test(fin_wait_2),
        cmocka_unit_test(delayed_ack),
        cmocka_unit_test(quick_acks_after_import),
        cmocka_unit_test(weeks_without_wrap),
        cmocka_unit_test(nothing_waits_without_a_timer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
