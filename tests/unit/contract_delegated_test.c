/* SPDX-License-Identifier: Apache-2.0 */
/* Delegated state over a hand-over: sequence numbers, windows, congestion, timestamps (group B). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "contract_lab.h"

static struct lab lab;

#define MSS 1448u /* of a segment with timestamps on a 1500 byte path */

/** Delegated state with a value of its own in every field that a connection at rest may have. */
static void distinct(struct chimney_tcp_delegated *d)
{
    d->rcv_nxt = 0x11111111;
    d->rcv_wnd = 128 * 1024;
    d->snd_una = d->snd_nxt = d->snd_max = d->snd_max_possible = 0xFFFFF000;
    d->snd_wnd = 100 * 128;
    d->max_snd_wnd = 200 * 128;
    d->snd_wl1 = 0x11111000;
    d->cwnd = 7 * MSS;
    d->ssthresh = 5 * MSS;
    d->srtt = 8 * 12345;
    d->rttvar = 4 * 678;
    d->ts_recent = 0x22222222;
    d->ts_recent_age = 555000;
    d->ts_time = 0x33333333;
    d->ts_last = 0x33333330;
    d->reordering = 9;
    d->dwnd = 0x44444444;
    d->ka_probe_count = 0;
    d->ka_timeout_delta = d->retransmit_timeout_delta = CHIMNEY_TIMER_OFF;
}

/* rows: C62 C63 C64 C65 C66 C79 C192 C228 */
static void there_and_back(void **state)
{
    struct lab_pair *pair;
    struct host_conn *c;
    struct chimney_tcp_delegated gave, got;
    struct host_tree *t;

    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    c = &pair->conn[0];
    distinct(&c->delegated);
    c->cached.initial_rcv_wnd = c->delegated.rcv_wnd; /* else the first ACK opens it further */
    gave = c->delegated;
    lab_offload(&lab, 0, pair);
    got = *lab_state(&lab, 0, c);
    assert_int_equal(got.ka_timeout_delta, CHIMNEY_TIMER_OFF);
    assert_int_equal(got.retransmit_timeout_delta, CHIMNEY_TIMER_OFF);
    t = lab_terminate(&lab, 0, &c->object);
    got = *tree_tcp_delegated(t->block[0]);
    assert_int_equal(got.state, TcpConnectionEstablished);
    assert_int_equal(got.rcv_nxt, gave.rcv_nxt);
    assert_int_equal(got.rcv_wnd, gave.rcv_wnd);
    assert_int_equal(got.snd_una, gave.snd_una);
    assert_int_equal(got.snd_nxt, gave.snd_nxt);
    assert_int_equal(got.snd_max, gave.snd_max);
    assert_int_equal(got.snd_max_possible, gave.snd_max_possible);
    assert_int_equal(got.snd_wnd, gave.snd_wnd);
    assert_int_equal(got.max_snd_wnd, gave.max_snd_wnd);
    assert_int_equal(got.snd_wl1, gave.snd_wl1);
    assert_int_equal(got.cwnd, gave.cwnd);
    assert_int_equal(got.ssthresh, gave.ssthresh);
    assert_int_equal(got.srtt, gave.srtt);
    assert_int_equal(got.rttvar, gave.rttvar);
    assert_int_equal(got.ts_recent, gave.ts_recent);
    assert_int_equal(got.ts_recent_age, gave.ts_recent_age);
    assert_int_equal(got.ts_time, gave.ts_time);
    assert_int_equal(got.reordering, gave.reordering);
    assert_int_equal(got.dwnd, gave.dwnd);
    assert_int_equal(got.dup_ack_count, 0);
    assert_int_equal(got.ka_timeout_delta, CHIMNEY_TIMER_OFF);
    assert_int_equal(got.retransmit_timeout_delta, CHIMNEY_TIMER_OFF);
    assert_int_equal(got.send_data.begin, 0);
    assert_int_equal(got.send_data.end, 0);
    lab_free(&lab);
}

/* rows: C58 */
static void states_refused(void **state)
{
    static const uint32_t illegal[] = {TcpConnectionClosed,
                                       TcpConnectionListen,
                                       TcpConnectionSynSent,
                                       TcpConnectionSynRcvd,
                                       TcpConnectionTimeWait,
                                       11,
                                       0xFFFFFFFF};

    lab_init_with(&lab, NULL, LAB_MTU, true);
    for (size_t i = 0; i < sizeof(illegal) / sizeof(illegal[0]); i++) {
        struct lab_pair *pair = lab_pair(&lab, 4);
        struct host_tree *t;

        pair->conn[0].delegated.state = illegal[i];
        t = lab_offload(&lab, 0, pair);
        assert_int_equal(t->block[2]->status, NDIS_STATUS_FAILURE);
        assert_null(pair->conn[0].object.cell.context);
    }
    lab_free(&lab);
}

/* rows: C58 */
static void states_taken(void **state)
{
    static const struct {
        enum chimney_tcp_state tcp;
        bool fin_sent, fin_acked, fin_received;
    } table[] = {
        {TcpConnectionEstablished, 0, 0, 0}, {TcpConnectionFinWait1, 1, 0, 0},
        {TcpConnectionFinWait2, 1, 1, 0},    {TcpConnectionCloseWait, 0, 0, 1},
        {TcpConnectionClosing, 1, 0, 1},     {TcpConnectionLastAck, 1, 0, 1},
    };
    struct target_config config = {.fin_policy = TCP_FIN_CONSUME};

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct lab_pair *pair;
        struct host_conn *c;
        size_t mark;

        lab_init(&lab, &config);
        pair = lab_pair(&lab, 4);
        c = &pair->conn[0];
        c->delegated.state = table[i].tcp;
        if (table[i].fin_sent && !table[i].fin_acked) {
            c->delegated.snd_nxt++;
            c->delegated.snd_max++;
            c->delegated.snd_max_possible++;
        }
        c->closed_out = table[i].fin_sent;
        mark = lab_mark(&lab);
        lab_offload(&lab, 0, pair);
        assert_int_equal(c->object.state, CHIMNEY_OFFLOADED);
        assert_int_equal(lab_state(&lab, 0, c)->state, table[i].tcp);
        /* What can still arrive arrives, what can still be sent is sent. */
        if (!table[i].fin_received) {
            lab_peer_data(&lab, pair, c->delegated.rcv_nxt, 700);
            lab_run(&lab, 100 * LAB_MSEC);
            assert_int_equal(c->head, 700);
        }
        if (!table[i].fin_sent) {
            lab_send(&lab, 0, pair, 300);
            assert_int_equal(lab_last(&lab, mark, 0, true)->packet.seg.len, 300);
            lab_peer_ack(&lab, pair, c->delegated.snd_una + 300, 0xFFFF);
            lab_run(&lab, 100 * LAB_MSEC);
            assert_int_equal(c->acked, 300);
        }
        /* A FIN in flight is this target's now: it goes again until it is acknowledged. */
        if (table[i].fin_sent && !table[i].fin_acked) {
            lab_run(&lab, 2 * LAB_SEC);
            assert_true(lab_last(&lab, mark, 0, false)->packet.seg.flags & TCP_FIN);
            assert_int_equal(lab_last(&lab, mark, 0, false)->packet.seg.seq, c->delegated.snd_una);
        }
        lab_free(&lab);
    }
}

/* rows: C59 */
static void reserved_flags(void **state)
{
    struct lab_pair *pair;
    struct host_tree *t;

    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    pair->conn[0].delegated.flags = 0xFFFF;
    lab_offload(&lab, 0, pair);
    assert_int_equal(pair->conn[0].object.state, CHIMNEY_OFFLOADED);
    assert_int_equal(lab_state(&lab, 0, &pair->conn[0])->flags, 0);
    t = lab_terminate(&lab, 0, &pair->conn[0].object);
    assert_int_equal(tree_tcp_delegated(t->block[0])->flags, 0);
    lab_free(&lab);
}

/* rows: C62 */
static void older_window_update(void **state)
{
    struct lab_pair *pair;
    struct host_conn *c;
    struct lab_segment s;

    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    c = &pair->conn[0];
    c->delegated.snd_wnd = 100 * 128;
    c->delegated.snd_wl1 = c->delegated.rcv_nxt - 10;
    lab_offload(&lab, 0, pair);
    /* From before the update the host had seen: ignored.  From after it: taken. */
    s = lab_peer(&lab, pair);
    s.seg.seq = c->delegated.rcv_nxt - 20;
    s.seg.window = 5;
    lab_peer_send(&lab, pair, &s, 0);
    lab_run(&lab, 10 * LAB_MSEC);
    assert_int_equal(lab_state(&lab, 0, c)->snd_wnd, 100 * 128);
    s.seg.seq = c->delegated.rcv_nxt;
    s.seg.window = 50;
    lab_peer_send(&lab, pair, &s, 0);
    lab_run(&lab, 10 * LAB_MSEC);
    assert_int_equal(lab_state(&lab, 0, c)->snd_wnd, 50 * 128);
    assert_int_equal(lab_state(&lab, 0, c)->snd_wl1, c->delegated.rcv_nxt);
    lab_free(&lab);
}

/* rows: C63 */
static void congestion_window(void **state)
{
    for (uint32_t segments = 2; segments <= 8; segments += 3) {
        struct lab_pair *pair;
        struct host_conn *c;
        struct host_tree *t;
        size_t mark;

        lab_init(&lab, NULL);
        pair = lab_pair(&lab, 4);
        c = &pair->conn[0];
        c->delegated.cwnd = segments * MSS;
        c->delegated.ssthresh = segments * MSS;
        host_write(c, 20 * MSS);
        mark = lab_mark(&lab);
        lab_offload(&lab, 0, pair);
        /* The first burst is what the window of the previous owner allows. */
        assert_int_equal(lab_count(&lab, mark, 0, true), segments);
        assert_int_equal(lab_state(&lab, 0, c)->cwnd, segments * MSS);
        assert_int_equal(lab_state(&lab, 0, c)->ssthresh, segments * MSS);
        /* And what it is then goes back. */
        lab_peer_ack(&lab, pair, c->delegated.snd_una + segments * MSS, 0xFFFF);
        lab_run(&lab, 2 * LAB_MSEC);
        t = lab_terminate(&lab, 0, &c->object);
        assert_true(tree_tcp_delegated(t->block[0])->cwnd >= segments * MSS);
        assert_true(tree_tcp_delegated(t->block[0])->cwnd <= 2 * segments * MSS);
        lab_free(&lab);
    }
}

/* rows: C64 C65 */
static void round_trip_time(void **state)
{
    struct lab_pair *pair;
    struct host_conn *c;
    const struct chimney_tcp_delegated *d;

    /* A known series: first sample 2 ms, the smoothed values begin with R and R / 2. */
    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    c = &pair->conn[0];
    c->delegated.srtt = c->delegated.rttvar = 0;
    lab_offload(&lab, 0, pair);
    lab_send(&lab, 0, pair, 100);
    lab_run(&lab, LAB_MSEC);
    lab_peer_ack(&lab, pair, c->delegated.snd_una + 100, 0xFFFF);
    lab_run(&lab, 2 * LAB_MSEC);
    d = lab_state(&lab, 0, c);
    assert_int_equal(d->srtt, 8 * 2000);
    assert_int_equal(d->rttvar, 4 * 1000);
    /* The second, 6 ms: SRTT + (R - SRTT) / 8, RTTVAR + (|R - SRTT| - RTTVAR) / 4. */
    lab_send(&lab, 0, pair, 100);
    lab_run(&lab, 5 * LAB_MSEC);
    lab_peer_ack(&lab, pair, c->delegated.snd_una + 200, 0xFFFF);
    lab_run(&lab, 2 * LAB_MSEC);
    d = lab_state(&lab, 0, c);
    assert_int_equal(d->srtt, 8 * 2500);
    assert_int_equal(d->rttvar, 4 * 1750);
    lab_free(&lab);
}

/* rows: C66 */
static void timestamp_echo(void **state)
{
    struct lab_pair *pair;
    struct host_conn *c;
    struct lab_segment s;
    size_t mark;

    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    c = &pair->conn[0];
    c->delegated.ts_recent = 0x12345678;
    mark = lab_mark(&lab);
    lab_offload(&lab, 0, pair);
    lab_send(&lab, 0, pair, 10);
    assert_int_equal(lab_first(&lab, mark, 0, false)->packet.seg.tsecr, 0x12345678);
    /* An older stamp: dropped, and answered. */
    s = lab_peer(&lab, pair);
    s.seg.tsval = 0x12345677;
    mark = lab_mark(&lab);
    lab_peer_send(&lab, pair, &s, 100);
    lab_run(&lab, 3 * LAB_MSEC);
    assert_int_equal(c->head, 0);
    assert_int_equal(lab_count(&lab, mark, 0, false), 1);
    assert_int_equal(lab_last(&lab, mark, 0, false)->packet.seg.ack, c->delegated.rcv_nxt);
    /* A newer one: taken, and echoed from then on. */
    s.seg.tsval = 0x12345679;
    lab_peer_send(&lab, pair, &s, 100);
    lab_run(&lab, LAB_SEC);
    assert_int_equal(c->head, 100);
    assert_int_equal(lab_last(&lab, mark, 0, false)->packet.seg.tsecr, 0x12345679);
    assert_int_equal(lab_state(&lab, 0, c)->ts_recent, 0x12345679);
    lab_free(&lab);
}

/* rows: C66 */
static void outdated_echo(void **state)
{
    struct lab_pair *pair;
    struct host_conn *c;
    struct lab_segment s;

    /* After 24 days without a stamp any is taken (RFC 7323 5.5); the age counts from the previous
     * owner on. */
    lab_init(&lab, NULL);
    lab_run(&lab, 1000 * LAB_SEC); /* nothing is older than the clock */
    pair = lab_pair(&lab, 4);
    c = &pair->conn[0];
    c->delegated.ts_recent = 0x12345678;
    c->delegated.ts_recent_age = 600 * LAB_TICKS_PER_SECOND;
    lab_offload(&lab, 0, pair);
    lab_run(&lab, 200 * LAB_SEC);
    assert_int_equal(lab_state(&lab, 0, c)->ts_recent_age, 800 * LAB_TICKS_PER_SECOND);
    s = lab_peer(&lab, pair);
    s.seg.tsval = 0x12345600;
    lab_peer_send(&lab, pair, &s, 100);
    lab_run(&lab, LAB_SEC);
    assert_int_equal(c->head, 0);
    lab_free(&lab);
}

/* rows: C69 */
static void duplicate_acknowledgements(void **state)
{
    /* The third of them means loss, whoever counted the first two. */
    for (uint8_t counted = 0; counted <= 2; counted++) {
        struct lab_pair *pair;
        struct host_conn *c;
        uint32_t una;
        uint8_t more = (uint8_t)(3 - counted);

        lab_init(&lab, NULL);
        pair = lab_pair(&lab, 4);
        c = &pair->conn[0];
        una = c->delegated.snd_una;
        c->constant.flags &= (uint16_t)~CHIMNEY_TCP_SACK_ENABLED;
        host_write(c, 6 * MSS);
        c->delegated.snd_nxt = c->delegated.snd_max = c->delegated.snd_max_possible = una + 6 * MSS;
        c->delegated.cwnd = 6 * MSS;
        c->delegated.snd_wnd = 0xFFFFu << 7; /* what the duplicates say: no window update */
        c->delegated.dup_ack_count = counted;
        lab_offload(&lab, 0, pair);
        for (uint8_t i = 1; i <= more; i++) {
            lab_peer_ack(&lab, pair, una, 0xFFFF);
            lab_run(&lab, 2 * LAB_MSEC);
            assert_int_equal(lab_state(&lab, 0, c)->dup_ack_count, counted + i);
            /* Loss shows in what the sender allows itself from then on. */
            assert_int_equal(lab_state(&lab, 0, c)->ssthresh < 6 * MSS, i == more);
        }
        lab_free(&lab);
    }
}

/** All segments of end 0 since the beginning: no gap, no step back. */
static void check_continuity(uint32_t isn, uint32_t irs)
{
    uint32_t high = isn, ack = irs, stamp = 0;
    bool first = true;

    for (size_t i = 0; i < lab.frame_count; i++) {
        const struct tcp_segment *seg = &lab.frames[i].packet.seg;

        if (lab.frames[i].end != 0 || lab.frames[i].status != WIRE_OK)
            continue;
        /* A probe one byte below is no data. */
        if (seg->len) {
            assert_true((int32_t)(seg->seq - high) <= 0);
            if ((int32_t)(seg->seq + seg->len - high) > 0)
                high = seg->seq + seg->len;
        }
        assert_true((int32_t)(seg->ack - ack) >= 0);
        ack = seg->ack;
        assert_true(first || (int32_t)(seg->tsval - stamp) >= 0);
        stamp = seg->tsval;
        first = false;
    }
}

/* rows: C60 C61 C67 C224 C231 */
static void many_hand_overs(void **state)
{
    struct lab_pair *pair;
    struct host_conn *c;
    uint32_t isn, irs;
    uint64_t sent = 0, received = 0;

    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    c = &pair->conn[0];
    isn = c->delegated.snd_una = c->delegated.snd_nxt = c->delegated.snd_max = 0xFFFFC000;
    c->delegated.snd_max_possible = isn;
    irs = c->delegated.rcv_nxt = 0x7FFFF000;
    pair->conn[1].delegated.rcv_nxt = isn;
    pair->conn[1].delegated.snd_wl1 = isn - 1;
    pair->conn[1].delegated.snd_una = pair->conn[1].delegated.snd_nxt = irs;
    pair->conn[1].delegated.snd_max = pair->conn[1].delegated.snd_max_possible = irs;
    c->delegated.snd_wl1 = irs - 1;
    lab_offload_both(&lab, pair);
    /* Up and down again in traffic, at all stages of a round trip. */
    for (int move = 0; move < 300; move++) {
        struct host_tree *t;

        if (c->written - c->acked < LAB_RING / 2) {
            lab_send(&lab, 0, pair, 5000);
            sent += 5000;
        }
        if (pair->conn[1].written - pair->conn[1].acked < LAB_RING / 2) {
            lab_send(&lab, 1, pair, 7000);
            received += 7000;
        }
        lab_run(&lab, (uint64_t)(move % 7) * 500000);
        t = lab_terminate(&lab, 0, &c->object);
        assert_int_equal(t->block[0]->status, NDIS_STATUS_SUCCESS);
        lab_take_back(c, t);
        lab_offload(&lab, 0, pair);
        assert_int_equal(c->object.state, CHIMNEY_OFFLOADED);
    }
    lab_settle(&lab, 60 * LAB_SEC);
    assert_int_equal(pair->conn[1].head, sent);
    assert_int_equal(c->base_in + c->head, received);
    check_continuity(isn, irs);
    lab_free(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),      cmocka_unit_test(states_refused),
        cmocka_unit_test(states_taken),        cmocka_unit_test(reserved_flags),
        cmocka_unit_test(older_window_update), cmocka_unit_test(congestion_window),
        cmocka_unit_test(round_trip_time),     cmocka_unit_test(timestamp_echo),
        cmocka_unit_test(outdated_echo),       cmocka_unit_test(duplicate_acknowledgements),
        cmocka_unit_test(many_hand_overs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
