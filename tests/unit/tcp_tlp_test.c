/* SPDX-License-Identifier: Apache-2.0 */
/* Tail loss probes (RFC 8985 section 7). */
#include "tcp_one.h"

#define RTT (100 * MS)

/* @len bytes in flight from SND, @more waiting behind a closed congestion window; RTT measured. */
static void open_tail(struct one *o, uint32_t len, uint32_t more)
{
    one_init(o);
    o->in.delegated.cwnd = len;
    o->in.delegated.ssthresh = len;
    one_open(o);
    tcp_rack_rtt(o->c, 100000, o->now);
    send_bytes(o, len + more);
    assert_int_equal(tcp_conn_stats(o->c)->tlp_fired, 0);
}

static void when_and_what(void **state)
{
    static const struct {
        uint32_t flight, more, window;
        bool sack, measured, sacked;
        int ms; /* until a probe; -1: the RTO comes first */
        uint32_t seq, len;
    } table[] = {
        /* 1: new data goes first */ {5000, 5000, 30000, true, true, false, 202, SND + 5000, 1000},
        /* 2: else the last segment */ {5000, 0, 30000, true, true, false, 202, SND + 4000, 1000},
        /* 3: the peer's window is full */
        {5000, 50, 5000, true, true, false, 202, SND + 4000, 1000},
        /* 4: a small rest */ {5000, 50, 30000, true, true, false, 202, SND + 5000, 50},
        /* 5: one segment: the peer may delay its ACK */
        {1000, 0, 30000, true, true, false, -1, 0, 0},
        /* 6: no SACK, no probe */ {5000, 0, 30000, false, true, false, -1, 0, 0},
        /* 7: RTT not measured by us */ {5000, 0, 30000, true, false, false, -1, 0, 0},
        /* 8: something is SACKed: RACK's */ {5000, 0, 30000, true, true, true, -1, 0, 0},
    };

    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct one o;
        tcp_time start;
        bool probed;

        one_init(&o);
        if (!table[i].sack)
            o.in.constant.flags &= ~TCP_FLAG_SACK_ENABLED;
        o.in.delegated.cwnd = table[i].flight;
        o.in.delegated.snd_wnd = o.in.delegated.max_snd_wnd = table[i].window;
        one_open(&o);
        if (table[i].measured)
            tcp_rack_rtt(o.c, 100000, o.now);
        send_bytes(&o, table[i].flight + table[i].more);
        start = o.now;
        if (table[i].sacked)
            ack_sack(&o, SND, SND + 1000, SND + 2000);
        while (!(o.n = 0, fire(&o), pull(&o)))
            ;
        probed = tcp_conn_stats(o.c)->tlp_fired;
        if (probed != (table[i].ms >= 0))
            fail_msg("case %u: %s", i + 1, probed ? "probe" : "no probe");
        if (probed && (o.n != 1 || o.now - start != table[i].ms * MS ||
                       o.out[0].seq != table[i].seq || o.out[0].len != table[i].len))
            fail_msg("case %u: %u bytes at %u", i + 1, o.out[0].len, o.out[0].seq - SND);
        if (probed) { /* one at a time; the RTO counts from it */
            assert_int_equal(fire(&o) / MS, 300);
            assert_int_equal(tcp_conn_stats(o.c)->rto_fired, 1);
            pull(&o);
            assert_int_equal(tcp_conn_stats(o.c)->tlp_fired, 1);
        }
        one_free(&o);
    }
}

/* The probe's SACK shows the hole below it: recovery without a timeout. */
static void a_lost_tail_is_recovered(void **state)
{
    struct one o;

    open_tail(&o, 5000, 0);
    o.now += RTT;
    ack(&o, SND + 2000, 30000); /* and the rest is gone */
    fire(&o);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].seq, SND + 4000);
    o.now += RTT;
    ack_sack(&o, SND + 2000, SND + 4000, SND + 5000);
    while (!pull(&o))
        fire(&o);
    assert_int_equal(o.out[0].seq, SND + 2000);
    assert_int_equal(o.c->recovery, RECOVERY_FAST);
    assert_int_equal(tcp_conn_stats(o.c)->rto_fired, 0);
    one_free(&o);
}

/* RFC 8985 7.4: what the answers say about the tail, and whether the window shrinks. */
static void answers(void **state)
{
    static const struct {
        uint32_t dsack_left, dsack_right; /* with the first ACK of the probe */
        bool twice;                       /* a second, plain ACK of the same */
        bool reduced;
    } table[] = {
        /* 1: repaired by the probe */ {0, 0, false, true},
        /* 2: D-SACK: both came */ {SND + 4000, SND + 5000, false, false},
        /* 3: D-SACK of something else */ {SND, SND + 1000, false, true},
        /* 4: two ACKs, no D-SACK */ {0, 0, true, false},
    };

    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct one o;
        struct tcp_segment answer = {
            .seq = RCV, .ack = SND + 5000, .window = 30000, .flags = TCP_ACK};

        open_tail(&o, 5000, 0);
        fire(&o);
        assert_int_equal(pull(&o), 1);
        o.now += RTT;
        if (table[i].dsack_right) {
            answer.sack_count = 1;
            answer.sack[0] = (struct tcp_sack_range){table[i].dsack_left, table[i].dsack_right};
        }
        input(&o, answer);
        if (table[i].twice)
            ack(&o, SND + 5000, 30000);
        assert_int_equal(o.c->rack.reo_mult, table[i].dsack_right == SND + 1000 ? 2 : 1);
        send_bytes(&o, 1000);
        o.now += RTT;
        ack(&o, SND + 6000, 30000);
        if ((o.c->cc.cwnd < 5000) != table[i].reduced)
            fail_msg("case %u: cwnd %u", i + 1, o.c->cc.cwnd);
        assert_int_equal(o.c->recovery, RECOVERY_NONE);
        one_free(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(when_and_what),
        cmocka_unit_test(a_lost_tail_is_recovered),
        cmocka_unit_test(answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
