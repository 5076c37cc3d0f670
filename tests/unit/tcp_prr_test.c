/* SPDX-License-Identifier: Apache-2.0 */
/* Proportional rate reduction (RFC 6937). */
#include "tcp_one.h"

/* @count segments in flight from SND, more to send; a round trip later. */
static void open_flight(struct one *o, unsigned count)
{
    one_init(o);
    o->in.delegated.cwnd = count * MSS;
    o->in.delegated.snd_wnd = o->in.delegated.max_snd_wnd = 60000;
    one_open(o);
    assert_int_equal(send_bytes(o, 60000), count);
    o->now += 100 * MS;
}

/* The first segment is missing, @count - 1 after it have arrived. */
static void sack_up_to(struct one *o, unsigned count)
{
    input(o, (struct tcp_segment){.seq = RCV,
                                  .ack = SND,
                                  .window = 60000,
                                  .flags = TCP_ACK,
                                  .sack_count = 1,
                                  .sack = {{SND + MSS, SND + count * MSS}}});
}

/* By hand, without the wire: state, an ACK, the window. */
static void window_by_the_table(void **state)
{
    static const struct {
        uint32_t flight, ssthresh, pipe;
        uint64_t delivered, out;
        uint32_t now;
        bool safe;
        uint32_t cwnd;
    } table[] = {
        /* 1: proportional: half of what came */ {20000, 10000, 15000, 2000, 1000, 2000, 0, 16000},
        /* 2: ... rounded up, in bytes */ {30000, 10000, 15000, 0, 0, 1000, 0, 15334},
        /* 3: ... never below the pipe */ {20000, 10000, 15000, 2000, 5000, 2000, 1, 15000},
        /* 4: below ssthresh: as much as came */ {20000, 10000, 5000, 8000, 6000, 1000, 0, 8000},
        /* 5: ... and a segment more if it is safe */
        {20000, 10000, 5000, 8000, 8000, 1000, 1, 7000},
        /* 6: ... the ACK at hand counts */ {20000, 10000, 5000, 8000, 9000, 1000, 1, 7000},
        /* 7: ... but not if it is not */ {20000, 10000, 5000, 8000, 9000, 1000, 0, 5000},
        /* 8: never beyond ssthresh */ {20000, 10000, 9500, 8000, 2000, 1000, 1, 10000},
    };

    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct one o;

        one_init(&o);
        one_open(&o);
        o.c->prr = (struct tcp_prr){.active = true,
                                    .flight = table[i].flight,
                                    .delivered = table[i].delivered,
                                    .out = table[i].out};
        o.c->snd_max = SND + table[i].pipe;
        o.c->cc.ssthresh = table[i].ssthresh;
        tcp_prr_on_ack(o.c, table[i].now, table[i].safe);
        if (o.c->cc.cwnd != table[i].cwnd)
            fail_msg("case %u: cwnd %u", i + 1, o.c->cc.cwnd);
        one_free(&o);
    }
}

/* One loss in forty: a segment for every second ACK, ssthresh at the end. */
static void sending_goes_on_evenly(void **state)
{
    struct one o;
    unsigned sent = 0, longest = 0, silent = 0;

    open_flight(&o, 40);
    for (unsigned i = 1; i < 4; i++) {
        sack_up_to(&o, i + 1);
        sent += pull(&o);
        o.now += MS;
    }
    assert_int_equal(o.c->recovery, RECOVERY_FAST);
    assert_int_equal(o.c->cc.ssthresh, 20000);
    sent = 0;
    for (unsigned i = 4; i < 40; i++) {
        sack_up_to(&o, i + 1);
        pull(&o);
        assert_true(o.n <= 1);
        sent += o.n;
        silent = o.n ? 0 : silent + 1;
        longest = silent > longest ? silent : longest;
        o.now += MS;
    }
    assert_in_range(sent, 17, 19);
    assert_true(longest <= 2);
    o.now += 60 * MS;
    ack(&o, SND + 40000, 60000);
    pull(&o);
    ack(&o, o.c->recover, 60000);
    assert_int_equal(o.c->recovery, RECOVERY_NONE);
    assert_int_equal(o.c->cc.cwnd, 20000);
    one_free(&o);
}

/* What is exported in mid-recovery is where the window goes, not where it happens to be. */
static void the_next_owner_gets_ssthresh(void **state)
{
    struct one o;
    struct tcp_export x;

    open_flight(&o, 40);
    sack_up_to(&o, 4);
    pull(&o);
    assert_true(o.c->cc.cwnd > 30000);
    tcp_query(o.c, o.now, &x);
    assert_int_equal(x.delegated.cwnd, 20000);
    /* A timeout begins where the recovery was going, too. */
    fire_rto(&o);
    assert_int_equal(o.c->cc.cwnd, 1000);
    assert_int_equal(o.c->cc.ssthresh, 20000);
    one_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(window_by_the_table),
        cmocka_unit_test(sending_goes_on_evenly),
        cmocka_unit_test(the_next_owner_gets_ssthresh),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
