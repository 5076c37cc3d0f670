/* SPDX-License-Identifier: Apache-2.0 */
/* Loss detection, recovery and undo; congestion windows (RFC 5681, 6582, 6675, 3042, 3522, 3168).
 */
#include "tcp_one.h"

/* Ten full segments in flight from SND. */
static void open_sending(struct one *o, bool sack, bool timestamps)
{
    one_init(o);
    if (timestamps)
        one_timestamps(o);
    if (!sack)
        o->in.constant.flags &= ~TCP_FLAG_SACK_ENABLED;
    one_open(o);
    o->c->max_flight = 10000;
    assert_int_equal(send_bytes(o, 20000), 10);
    assert_int_equal(o->c->snd_max, SND + 10000);
}

/* rows: C39 C421 */
static void fast_retransmit_by_sack(void **state)
{
    struct one o;

    open_sending(&o, true, false);
    o.now += 100 * MS;
    /* 1, 2: not yet; limited transmit lets one new segment out for each (RFC 3042) */
    ack_sack(&o, SND, SND + 1000, SND + 2000);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].seq, SND + 10000);
    ack_sack(&o, SND, SND + 1000, SND + 3000);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].seq, SND + 11000);
    /* 3: three segments' worth above the hole: only the hole is sent again */
    assert_true(ack_sack(&o, SND, SND + 1000, SND + 4000) & TCP_EV_OUTPUT);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].seq, SND);
    assert_int_equal(o.out[0].len, 1000);
    assert_int_equal(o.c->cc.ssthresh, 5000); /* half of the flight inside the window */
    assert_int_equal(o.c->cc.cwnd, 8500); /* on the way there: pipe 8,000, 1,000 came (RFC 6937) */
    assert_int_equal(tcp_conn_stats(o.c)->fast_retransmits, 1);
    /* 4: nothing leaves until the pipe is below the new window */
    ack_sack(&o, SND, SND + 1000, SND + 8000);
    assert_int_equal(pull(&o), 0); /* pipe: 12 - 7 = 5 segments */
    ack_sack(&o, SND, SND + 1000, SND + 9000);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].seq, SND + 12000);
    /* 5: everything of before arrived: recovery ends, the window stays */
    ack(&o, SND + 12000, 30000);
    assert_int_equal(o.c->recovery, RECOVERY_NONE);
    assert_int_equal(o.c->cc.cwnd, 5000);
    assert_int_equal(tcp_conn_stats(o.c)->fast_retransmits, 1);
    one_free(&o);
}

static void a_lost_retransmission_is_noticed(void **state)
{
    struct one o;
    unsigned again = 0;

    open_sending(&o, true, false);
    o.now += 100 * MS;
    ack_sack(&o, SND, SND + 1000, SND + 8000);
    pull(&o); /* the hole, and new data from SND + 10000 on */
    assert_int_equal(o.out[0].seq, SND);
    /* What was in flight before says nothing; what was sent after does. */
    ack_sack(&o, SND, SND + 1000, SND + 10000);
    pull(&o);
    for (unsigned i = 0; i < o.n; i++)
        assert_int_not_equal(o.out[i].seq, SND);
    o.now += 100 * MS;
    for (uint32_t right = SND + 11000; right <= SND + 13000; right += 1000) {
        ack_sack(&o, SND, SND + 1000, right);
        pull(&o);
        again += o.n && o.out[0].seq == SND;
    }
    assert_int_equal(again, 1);
    assert_int_equal(tcp_conn_stats(o.c)->rto_fired, 0);
    one_free(&o);
}

/* rows: C421 */
static void fast_retransmit_without_sack(void **state)
{
    struct one o;

    open_sending(&o, false, false);
    ack(&o, SND, 30000);
    assert_int_equal(pull(&o), 1); /* limited transmit */
    ack(&o, SND, 30000);
    assert_int_equal(pull(&o), 1);
    ack(&o, SND, 30000);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].seq, SND);
    assert_int_equal(o.c->cc.ssthresh, 5000);
    /* A partial ACK: the next hole at once (RFC 6582) */
    ack(&o, SND + 3000, 30000);
    assert_true(pull(&o) >= 1);
    assert_int_equal(o.out[0].seq, SND + 3000);
    /* The last: out of recovery */
    ack(&o, SND + 12000, 30000);
    assert_int_equal(o.c->recovery, RECOVERY_NONE);
    /* 2 more duplicates of that are no loss */
    ack(&o, SND + 12000, 30000);
    ack(&o, SND + 12000, 30000);
    assert_int_equal(tcp_conn_stats(o.c)->fast_retransmits, 1);
    one_free(&o);
}

/* What is, and what is not, a duplicate ACK (RFC 5681 section 2). */
static void duplicates_by_definition(void **state)
{
    static const struct {
        struct tcp_segment seg;
        bool duplicate;
    } table[] = {
        /* 1 */ {{.seq = RCV, .ack = SND, .window = 30000, .flags = TCP_ACK}, true},
        /* 2: window changed */ {{.seq = RCV, .ack = SND, .window = 29999, .flags = TCP_ACK}, true},
        /* 3: window opened */ {{.seq = RCV, .ack = SND, .window = 30001, .flags = TCP_ACK}, false},
        /* 4: with data */
        {{.seq = RCV, .ack = SND, .window = 30000, .flags = TCP_ACK, .len = 10}, false},
        /* 5: with FIN */
        {{.seq = RCV, .ack = SND, .window = 30000, .flags = TCP_ACK | TCP_FIN}, false},
        /* 6: old */ {{.seq = RCV, .ack = SND - 1, .window = 30000, .flags = TCP_ACK}, false},
        /* 7: new */ {{.seq = RCV, .ack = SND + 1, .window = 30000, .flags = TCP_ACK}, false},
    };

    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct one o;

        open_sending(&o, false, false);
        ack(&o, SND, 30000);
        assert_int_equal(o.c->dup_acks, 1);
        /* A window that shrinks without new sequence numbers is an old segment: not taken in. */
        input(&o, table[i].seg);
        if ((o.c->dup_acks == 2) != table[i].duplicate)
            fail_msg("case %u: %u duplicates", i + 1, o.c->dup_acks);
        one_free(&o);
    }
}

/* rows: C400 C421 */
static void timeout_recovers_by_slow_start(void **state)
{
    struct one o;

    open_sending(&o, true, false);
    fire(&o);
    assert_true(o.events & TCP_EV_OUTPUT);
    assert_int_equal(o.c->cc.cwnd, 1000);
    assert_int_equal(o.c->cc.ssthresh, 5000);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].seq, SND);
    /* Twice as many for every ACK, over what was lost, not beyond */
    ack(&o, SND + 1000, 30000);
    assert_int_equal(pull(&o), 2);
    assert_int_equal(o.out[0].seq, SND + 1000);
    assert_int_equal(o.out[1].seq, SND + 2000);
    /* The peer had the rest: nothing of it is sent again */
    ack(&o, SND + 10000, 30000);
    pull(&o);
    assert_int_equal(o.out[0].seq, SND + 10000);
    assert_int_equal(o.c->recovery, RECOVERY_NONE);
    one_free(&o);
}

static void a_second_timeout_keeps_ssthresh(void **state)
{
    struct one o;

    open_sending(&o, true, false);
    fire(&o);
    pull(&o);
    fire(&o);
    pull(&o);
    assert_int_equal(o.c->cc.ssthresh, 5000);
    assert_int_equal(o.c->cc.cwnd, 1000);
    one_free(&o);
}

static void reneging_is_survived(void **state)
{
    struct one o;

    open_sending(&o, true, false);
    ack_sack(&o, SND, SND + 1000, SND + 10000); /* and then the peer forgets it all */
    pull(&o);
    fire(&o); /* first timeout: only what was never SACKed */
    pull(&o);
    assert_int_equal(o.out[0].seq, SND);
    ack(&o, SND + 1000, 30000); /* should have been SND + 10000 */
    pull(&o);
    fire(&o); /* the first byte is marked SACKed and not acknowledged: all marks go */
    pull(&o);
    assert_int_equal(o.out[0].seq, SND + 1000);
    one_free(&o);
}

static void eifel_undoes_a_spurious_timeout(void **state)
{
    struct one o;
    uint32_t stamp;

    open_sending(&o, true, true);
    stamp = o.out[0].tsval;
    fire(&o);
    assert_int_equal(pull(&o), 1);
    assert_true(o.out[0].tsval > stamp);
    assert_int_equal(o.c->cc.cwnd, 1000);
    /* The ACK of the original, delayed */
    input(&o, (struct tcp_segment){.seq = RCV,
                                   .ack = SND + 1000,
                                   .window = 30000,
                                   .flags = TCP_ACK,
                                   .has_timestamp = true,
                                   .tsval = 778,
                                   .tsecr = stamp});
    assert_int_equal(o.c->recovery, RECOVERY_NONE);
    assert_true(o.c->cc.cwnd >= 10000);
    assert_int_equal(o.c->lost_bytes, 0);
    pull(&o);
    assert_true(seq_geq(o.out[0].seq, SND + 10000));
    one_free(&o);

    /* The ACK of the retransmission: no undo */
    open_sending(&o, true, true);
    fire(&o);
    pull(&o);
    stamp = o.out[0].tsval;
    input(&o, (struct tcp_segment){.seq = RCV,
                                   .ack = SND + 1000,
                                   .window = 30000,
                                   .flags = TCP_ACK,
                                   .has_timestamp = true,
                                   .tsval = 778,
                                   .tsecr = stamp});
    assert_int_equal(o.c->recovery, RECOVERY_RTO);
    one_free(&o);
}

/* RFC 3708: the window comes back when D-SACKs account for every retransmission. */
static void dsack_undoes_a_spurious_recovery(void **state)
{
    static const struct {
        bool over;            /* the recovery has ended before */
        uint32_t left, right; /* the D-SACK */
        bool ecn, undone;
    } table[] = {
        /* 1: within the recovery */ {false, SND, SND + 1000, false, true},
        /* 2: after it */ {true, SND, SND + 1000, false, true},
        /* 3: of something else */ {true, SND - 1000, SND, false, false},
        /* 4: of a part */ {true, SND, SND + 500, false, false},
        /* 5: a reduction for another reason came after */ {true, SND, SND + 1000, true, false},
    };

    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct one o;
        uint32_t number = table[i].over ? SND + 12000 : SND + 5000;

        one_init(&o);
        if (table[i].ecn)
            o.in.constant.flags |= TCP_FLAG_ECN_ENABLED;
        one_open(&o);
        assert_int_equal(send_bytes(&o, 20000), 10);
        o.now += 100 * MS;
        ack_sack(&o, SND, SND + 1000, SND + 4000);
        pull(&o);
        assert_int_equal(o.c->recovery, RECOVERY_FAST);
        assert_int_equal(tcp_conn_stats(o.c)->retransmits, 1);
        o.now += 50 * MS;
        ack(&o, seq_min(number, o.c->snd_max), 30000);
        pull(&o);
        if (table[i].ecn)
            input(&o, (struct tcp_segment){.seq = RCV,
                                           .ack = o.c->snd_una,
                                           .window = 30000,
                                           .flags = TCP_ACK | TCP_ECE});
        ack_sack(&o, o.c->snd_una, table[i].left, table[i].right);
        if ((o.c->cc.cwnd >= 10000) != table[i].undone)
            fail_msg("case %u: cwnd %u", i + 1, o.c->cc.cwnd);
        assert_int_equal(o.c->recovery,
                         table[i].over || table[i].undone ? RECOVERY_NONE : RECOVERY_FAST);
        one_free(&o);
    }
}

/* rows: C69 C182 */
static void duplicate_acks_are_carried(void **state)
{
    for (int sack = 0; sack < 2; sack++) {
        struct one o;

        one_init(&o);
        if (!sack)
            o.in.constant.flags = 0;
        o.in.snd_len = 10000;
        o.in.delegated.snd_nxt = o.in.delegated.snd_max = SND + 10000;
        o.in.delegated.snd_max_possible = SND + 10000;
        o.in.delegated.dup_ack_count = 2;
        o.in.delegated.retransmit_timeout_delta = 300000;
        one_open(&o);
        assert_int_equal(pull(&o), 0);
        ack_sack(&o, SND, SND + 3000, SND + 4000); /* the third */
        assert_int_equal(pull(&o), 1);
        assert_int_equal(o.out[0].seq, SND);
        one_free(&o);
    }
}

static void ecn_reduces_once_per_window(void **state)
{
    struct one o;
    struct tcp_segment ece = {
        .seq = RCV, .ack = SND + 1000, .window = 30000, .flags = TCP_ACK | TCP_ECE};

    one_init(&o);
    o.in.constant.flags |= TCP_FLAG_ECN_ENABLED;
    one_open(&o);
    assert_int_equal(send_bytes(&o, 20000), 10);
    assert_int_equal(o.out[0].ecn, TCP_ECN_ECT0);
    input(&o, ece);
    assert_int_equal(o.c->cc.cwnd, 4500); /* half of what was in flight */
    ece.ack = SND + 2000;
    input(&o, ece);
    assert_int_equal(o.c->cc.cwnd, 4500);
    ack(&o, SND + 8000, 30000);
    assert_true(pull(&o) > 0);
    assert_true(o.out[0].flags & TCP_CWR); /* on the first new segment, and only there */
    assert_false(o.out[1].flags & TCP_CWR);
    ece.ack = SND + 10000; /* all of that window: the next reduction counts */
    input(&o, ece);
    assert_true(o.c->cc.cwnd < 4500);

    /* Receiving: echo until CWR; nothing that is sent again carries ECT */
    input(&o, (struct tcp_segment){.seq = RCV,
                                   .ack = SND + 10000,
                                   .window = 30000,
                                   .flags = TCP_ACK,
                                   .len = 100,
                                   .ecn = TCP_ECN_CE});
    pull(&o);
    assert_true(o.out[0].flags & TCP_ECE);
    input(&o, (struct tcp_segment){.seq = RCV + 100,
                                   .ack = SND + 10000,
                                   .window = 30000,
                                   .flags = TCP_ACK | TCP_CWR,
                                   .len = 3000});
    pull(&o);
    assert_false(o.out[0].flags & TCP_ECE);
    fire_rto(&o);
    pull(&o);
    assert_int_equal(o.out[0].ecn, TCP_ECN_NOT);
    one_free(&o);
}

/* rows: C63 C421 */
static void reno_by_numbers(void **state)
{
    struct tcp_cc cc = {
        .ops = &tcp_cc_reno, .cwnd = 10000, .ssthresh = TCP_CC_INFINITE, .mss = 1000};
    struct tcp_cc_ack a = {.acked = 2000};

    cc.ops->init(&cc, 0);
    cc.ops->on_ack(&cc, &a, 0);
    assert_int_equal(cc.cwnd, 12000); /* slow start: by what was acknowledged */
    cc.ssthresh = 13000;
    cc.ops->on_ack(&cc, &a, 0);
    assert_int_equal(cc.cwnd, 13000); /* not past ssthresh */
    a.acked = 12000;
    cc.ops->on_ack(&cc, &a, 0);
    assert_int_equal(cc.cwnd, 14000); /* 1,000 of credit and 12,000 make one window */
    cc.ops->on_congestion(&cc, TCP_CC_LOSS, 14000, 0);
    assert_int_equal(cc.cwnd, 7000);
    assert_int_equal(cc.ssthresh, 7000);
    cc.ops->on_spurious(&cc, 0);
    assert_int_equal(cc.cwnd, 14000);
    cc.ops->on_rto(&cc, 2500, 0);
    assert_int_equal(cc.cwnd, 1000);
    assert_int_equal(cc.ssthresh, 2000); /* never below two segments */
    assert_int_equal(tcp_cc_initial_window(1460), 14600);
    assert_int_equal(tcp_cc_initial_window(536), 5360);
    assert_int_equal(tcp_cc_initial_window(8960), 17920);
    assert_ptr_equal(tcp_cc_by_name("reno"), &tcp_cc_reno);
    assert_ptr_equal(tcp_cc_by_name("cubic"), &tcp_cc_cubic);
    assert_null(tcp_cc_by_name("cub"));
    assert_null(tcp_cc_by_name("cubics"));
}

static uint32_t cubic_after(struct tcp_cc *cc, tcp_time *now, tcp_time time, tcp_time rtt)
{
    tcp_time until = *now + time;

    for (; *now < until; *now += rtt) { /* a window per round trip, in ACKs of two segments */
        uint32_t left = cc->cwnd;

        while (left) {
            struct tcp_cc_ack a = {.acked = left < 2 * cc->mss ? left : 2 * cc->mss,
                                   .srtt_us = (uint32_t)(rtt / 1000)};

            cc->ops->on_ack(cc, &a, *now);
            left -= a.acked;
        }
    }
    return cc->cwnd;
}

/* RFC 9438: K = cbrt(W_max (1 - beta) / C); at K the window is W_max again. */
static void cubic_by_numbers(void **state)
{
    struct tcp_cc cc = {
        .ops = &tcp_cc_cubic, .cwnd = 1000000, .ssthresh = TCP_CC_INFINITE, .mss = 1000};
    tcp_time now = TCP_SEC, rtt = 100 * MS;
    uint32_t w;

    cc.ops->init(&cc, now);
    cc.ops->on_congestion(&cc, TCP_CC_LOSS, 1000000, now);
    assert_int_equal(cc.cwnd, 700000);
    assert_int_equal(cc.ssthresh, 700000);
    /* 1,000 segments: K = cbrt(300 / 0.4) = 9.086 s.  Half-way: 1000 - 0.4 * 4.543^3 = 962. */
    w = cubic_after(&cc, &now, 4543 * MS, rtt);
    assert_in_range(w, 950000, 970000);
    w = cubic_after(&cc, &now, 4543 * MS, rtt);
    assert_in_range(w, 995000, 1005000);
    /* Beyond: convex.  At 2 K: 1000 + 300. */
    w = cubic_after(&cc, &now, 9086 * MS, rtt);
    assert_in_range(w, 1270000, 1320000);
    /* Fast convergence: a loss below the old peak remembers less than it had. */
    cc.ops->on_congestion(&cc, TCP_CC_LOSS, w, now);
    cc.ops->on_congestion(&cc, TCP_CC_LOSS, cc.cwnd, now);
    assert_true(cc.cwnd < w / 2);
    cc.ops->on_rto(&cc, cc.cwnd, now);
    assert_int_equal(cc.cwnd, 1000);
    /* In the Reno-friendly region (short RTT, small window) it is no slower than Reno's estimate.
     */
    cc = (struct tcp_cc){.ops = &tcp_cc_cubic, .cwnd = 10000, .ssthresh = 10000, .mss = 1000};
    cc.ops->init(&cc, now);
    cc.ops->on_congestion(&cc, TCP_CC_LOSS, 10000, now);
    w = cubic_after(&cc, &now, 10 * MS, MS);
    assert_in_range(w, 13500, 14500); /* 9/17 per RTT from 7 to 10, then 1 */
}

/* rows: C63 */
static void window_validation(void **state)
{
    struct one o;

    one_init(&o);
    o.in.delegated.cwnd = 20000;
    one_open(&o);
    /* An application that sends little must not grow the window. */
    for (uint32_t i = 0; i < 50; i++) {
        send_bytes(&o, 500);
        o.now += 10 * MS;
        ack(&o, o.c->snd_max, 30000);
    }
    assert_int_equal(o.c->cc.cwnd, 20000);
    /* Idle for long: back to the initial window, remembered in ssthresh (RFC 5681 4.1). */
    o.now += 60 * TCP_SEC;
    assert_int_equal(send_bytes(&o, 30000), 10);
    assert_int_equal(o.c->cc.cwnd, 10000);
    assert_true(o.c->cc.ssthresh >= 15000);
    one_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fast_retransmit_by_sack),
        cmocka_unit_test(a_lost_retransmission_is_noticed),
        cmocka_unit_test(fast_retransmit_without_sack),
        cmocka_unit_test(duplicates_by_definition),
        cmocka_unit_test(timeout_recovers_by_slow_start),
        cmocka_unit_test(a_second_timeout_keeps_ssthresh),
        cmocka_unit_test(reneging_is_survived),
        cmocka_unit_test(eifel_undoes_a_spurious_timeout),
        cmocka_unit_test(dsack_undoes_a_spurious_recovery),
        cmocka_unit_test(duplicate_acks_are_carried),
        cmocka_unit_test(ecn_reduces_once_per_window),
        cmocka_unit_test(reno_by_numbers),
        cmocka_unit_test(cubic_by_numbers),
        cmocka_unit_test(window_validation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
