/* SPDX-License-Identifier: Apache-2.0 */
/* RACK (RFC 8985 section 6): what is lost, and when. */
#include "tcp_one.h"

#define RTT (100 * MS)

/* One segment every millisecond, @count of them, from SND; RTT 100 ms was measured before. */
static void open_paced(struct one *o, unsigned count)
{
    one_init(o);
    o->in.delegated.cwnd = 60000;
    o->in.delegated.snd_wnd = o->in.delegated.max_snd_wnd = 60000;
    one_open(o);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(send_bytes(o, MSS), 1);
        o->now += MS;
    }
}

/* The SACK of segment @i (counted from 0), alone, a round trip after it was sent. */
static void sack_one(struct one *o, tcp_time start, unsigned i)
{
    o->now = start + i * MS + RTT;
    ack_sack(o, o->c->snd_una, SND + i * MSS, SND + (i + 1) * MSS);
}

/* Segments SACKed, in this order; then which is lost, and after how many milliseconds more. */
static void verdicts_by_the_table(void **state)
{
    static const struct {
        unsigned sacked[6], count;
        bool reordering;
        uint32_t lost; /* bytes at once */
        int timer;     /* ms from the last SACK until the reordering timer; -1: none */
        uint32_t then; /* bytes lost when it has fired */
    } table[] = {
        /* 1: one segment above: not yet; SRTT / 4 */ {{1}, 1, false, 0, 24, 1000},
        /* 2: two */ {{1, 2}, 2, false, 0, 23, 1000},
        /* 3: DupThresh: at once */ {{1, 2, 3}, 3, false, 1000, -1, 1000},
        /* 4: the same on a path that reorders: the window */ {{1, 2, 3}, 3, true, 0, 22, 1000},
        /* 5: well above, by time */ {{30}, 1, true, 6000, 24, 30000},
        /* 6: several holes */ {{1, 3, 5}, 3, false, 3000, -1, 3000},
        /* 7: ... on a path that reorders */ {{1, 3, 5}, 3, true, 0, 24, 3000},
        /* 8: what was sent after it is none of its business */ {{0}, 1, false, 0, -1, 0},
    };

    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct one o;
        tcp_time start;
        int timer;

        open_paced(&o, 40);
        start = o.now - 40 * MS;
        o.c->rack.min_rtt = RTT;
        o.c->rack.min_rtt_at = o.now;
        o.c->rack.reordering = table[i].reordering;
        for (unsigned k = 0; k < table[i].count; k++)
            sack_one(&o, start, table[i].sacked[k]);
        timer = o.c->timer[TIMER_LOSS] == TCP_TIME_NEVER
                    ? -1
                    : (int)((o.c->timer[TIMER_LOSS] - o.now + MS / 2) / MS);
        if (o.c->lost_bytes != table[i].lost)
            fail_msg("case %u: %u bytes lost", i + 1, o.c->lost_bytes);
        /* The log is as fine as a few hundredths of a round trip. */
        if (timer < table[i].timer - 2 || timer > table[i].timer + 3)
            fail_msg("case %u: timer in %d ms", i + 1, timer);
        if (timer >= 0)
            while (o.c->timer[TIMER_LOSS] != TCP_TIME_NEVER)
                fire(&o);
        if (o.c->lost_bytes != table[i].then)
            fail_msg("case %u: %u bytes lost in the end", i + 1, o.c->lost_bytes);
        assert_int_equal(o.c->recovery, table[i].then ? RECOVERY_FAST : RECOVERY_NONE);
        one_free(&o);
    }
}

/* Data that was late and not lost shows that the path reorders; from then on we wait. */
static void reordering_is_noticed(void **state)
{
    struct one o;
    tcp_time start;

    open_paced(&o, 20);
    start = o.now - 20 * MS;
    sack_one(&o, start, 1);
    assert_true(o.c->timer[TIMER_LOSS] != TCP_TIME_NEVER);
    o.now += 5 * MS;
    ack(&o, SND + 2000, 60000); /* segment 0, 4 ms late */
    assert_true(o.c->rack.reordering);
    assert_int_not_equal(o.c->loss_kind, LOSS_REORDER);
    assert_int_equal(o.c->reordering, 2);
    for (unsigned i = 3; i < 8; i++)
        sack_one(&o, start, i + 5);
    assert_int_equal(o.c->lost_bytes, 0);
    assert_int_equal(tcp_conn_stats(o.c)->retransmits, 0);
    one_free(&o);

    /* ... a retransmission that arrives shows nothing of the kind. */
    open_paced(&o, 20);
    start = o.now - 20 * MS;
    for (unsigned i = 1; i < 4; i++)
        sack_one(&o, start, i);
    pull(&o);
    assert_int_equal(o.out[0].seq, SND);
    o.now += RTT;
    ack(&o, SND + 4000, 60000);
    assert_false(o.c->rack.reordering);
    assert_int_equal(o.c->recovery, RECOVERY_FAST);
    one_free(&o);
}

/* A retransmission that is lost is noticed by what was sent after it, without a timeout. */
static void a_lost_retransmission(void **state)
{
    struct one o;
    tcp_time start;

    open_paced(&o, 20);
    start = o.now - 20 * MS;
    for (unsigned i = 1; i < 20; i++)
        sack_one(&o, start, i);
    pull(&o);
    assert_int_equal(o.out[0].seq, SND);
    o.now += 10 * MS;
    assert_int_equal(send_bytes(&o, MSS), 1);
    o.now += RTT - 10 * MS;
    assert_int_equal(pull(&o), 0);
    o.now += 10 * MS;
    ack_sack(&o, SND, SND + 1000, SND + 21000);
    assert_int_equal(pull(&o), 1);
    assert_int_equal(o.out[0].seq, SND);
    assert_int_equal(tcp_conn_stats(o.c)->rto_fired, 0);
    one_free(&o);
}

/* RFC 8985 6.2 step 4: the window grows by a quarter round trip for each with a D-SACK. */
static void dsack_widens_the_window(void **state)
{
    struct one o;
    struct tcp_segment dsack = {.seq = RCV,
                                .ack = SND + 1000,
                                .window = 60000,
                                .flags = TCP_ACK,
                                .sack_count = 1,
                                .sack = {{SND, SND + 1000}}};

    open_paced(&o, 10);
    o.now += RTT;
    /* 1: once per round trip */
    input(&o, dsack);
    input(&o, dsack);
    assert_int_equal(o.c->rack.reo_mult, 2);
    /* 2: the next one counts again */
    ack(&o, SND + 10000, 60000);
    dsack.ack = SND + 10000;
    input(&o, dsack);
    assert_int_equal(o.c->rack.reo_mult, 3);
    /* 3: back to one after 16 recoveries without */
    for (unsigned i = 0; i < 16; i++) {
        assert_int_equal(o.c->rack.reo_mult, 3);
        tcp_rack_recovered(o.c);
    }
    assert_int_equal(o.c->rack.reo_mult, 1);
    one_free(&o);
}

/* The log holds any flight, and what it says is late by a small part of the flight's duration. */
static void the_log_is_bounded(void **state)
{
    struct one o;
    tcp_time start;

    one_init(&o);
    o.in.delegated.cwnd = 65536;
    o.in.delegated.snd_wnd = o.in.delegated.max_snd_wnd = 65000;
    o.in.delegated.srtt = 100 * 8; /* far too small: the log has to coarsen */
    o.in.delegated.rttvar = 4000000 * 4;
    one_open(&o);
    start = o.now;
    for (unsigned i = 0; i < 60; i++)
        for (unsigned k = 0; k < 10; k++) {
            send_bytes(&o, 100);
            o.now += MS;
        }
    assert_true(o.c->rack.log_count <= TCP_SENT_LOG);
    assert_true(o.c->rack.log_count >= TCP_SENT_LOG / 4);
    for (unsigned i = 0, at = 0; at < 60000; i++) {
        const struct tcp_rtt_entry *e = &o.c->rack.log[(o.c->rack.log_first + i) % TCP_SENT_LOG];
        tcp_time first = start + at / 100 * MS;

        assert_true(i < o.c->rack.log_count);
        assert_true(e->sent >= first && e->sent - first <= 600 * MS / 30);
        at = e->end - SND;
    }
    one_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdicts_by_the_table), cmocka_unit_test(reordering_is_noticed),
        cmocka_unit_test(a_lost_retransmission), cmocka_unit_test(dsack_widens_the_window),
        cmocka_unit_test(the_log_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
