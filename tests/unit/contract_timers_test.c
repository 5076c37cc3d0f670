/* SPDX-License-Identifier: Apache-2.0 */
/* Timers and data that travel with a connection: counts, time left, spans and backlogs (group B).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "contract_lab.h"

static struct lab lab;

#define TICKS(ns) ((uint32_t)((ns) / (LAB_SEC / LAB_TICKS_PER_SECOND)))
#define CLOSE (20 * LAB_MSEC)

static void expect_near(uint64_t is, uint64_t expected, uint64_t tolerance)
{
    if (is + tolerance < expected || is > expected + tolerance)
        fail_msg("%llu us, expected %llu", (unsigned long long)is / 1000,
                 (unsigned long long)expected / 1000);
}

/** Terminates and offloads again at once; what came up in between is in conn->delegated. */
static void hand_over(struct lab_pair *pair)
{
    struct host_conn *c = &pair->conn[0];
    struct host_tree *t = lab_terminate(&lab, 0, &c->object);

    assert_int_equal(t->block[0]->status, NDIS_STATUS_SUCCESS);
    lab_take_back(c, t);
    lab_offload(&lab, 0, pair);
    assert_int_equal(c->object.state, CHIMNEY_OFFLOADED);
}

/** Runs until end 0 has sent a frame since @mark; returns when, from @start on. */
static uint64_t until_frame(size_t mark, uint64_t start)
{
    while (lab_count(&lab, mark, 0, false) == 0 && lab.now < start + 1000 * LAB_SEC)
        lab_run(&lab, LAB_MSEC);
    assert_int_not_equal(lab_count(&lab, mark, 0, false), 0);
    return lab_first(&lab, mark, 0, false)->time - start;
}

/** Runs until the retransmission count of the connection is @count. */
static void until_count(struct host_conn *c, uint8_t count)
{
    for (int i = 0; lab_state(&lab, 0, c)->retransmit_count != count; i++) {
        assert_true(i < 100000);
        lab_run(&lab, 10 * LAB_MSEC);
    }
}

/** A connection whose peer's window is closed, with data waiting. */
static struct lab_pair *zero_window(void)
{
    struct lab_pair *pair;

    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    pair->conn[0].delegated.snd_wnd = 0;
    host_write(&pair->conn[0], 1000);
    lab_offload(&lab, 0, pair);
    return pair;
}

/* rows: C70 C74 */
static void persist(void **state)
{
    struct lab_pair *pair = zero_window();
    struct host_conn *c = &pair->conn[0];
    uint64_t left, start;
    size_t mark;

    /* Two unanswered probes of the first round. */
    until_count(c, 2);
    assert_int_equal(lab_state(&lab, 0, c)->snd_wnd_probe_count, 0);
    /* The answer "still closed" begins the second round. */
    lab_peer_ack(&lab, pair, c->delegated.snd_una, 0);
    lab_run(&lab, 5 * LAB_MSEC);
    assert_int_equal(lab_state(&lab, 0, c)->snd_wnd_probe_count, 1);
    assert_int_equal(lab_state(&lab, 0, c)->retransmit_count, 0);
    /* Round and probe count go up and come down again, and so does the time that is left. */
    until_count(c, 1);
    hand_over(pair);
    assert_int_equal(c->delegated.snd_wnd_probe_count, 1);
    assert_int_equal(c->delegated.retransmit_count, 1);
    assert_int_not_equal(c->delegated.retransmit_timeout_delta, CHIMNEY_TIMER_OFF);
    left = c->delegated.retransmit_timeout_delta * 1000ull;
    start = lab.now;
    mark = lab_mark(&lab);
    expect_near(until_frame(mark, start), left, CLOSE);
    assert_int_equal(lab_state(&lab, 0, c)->retransmit_count, 2);
    assert_int_equal(lab_first(&lab, mark, 0, false)->packet.seg.len, 0); /* a probe */
    /* The window opens: everything goes, and nothing of the round is left. */
    lab_peer_ack(&lab, pair, c->delegated.snd_una, 100);
    lab_run(&lab, 5 * LAB_MSEC);
    assert_int_equal(lab_last(&lab, mark, 0, true)->packet.seg.len, 1000);
    lab_peer_ack(&lab, pair, c->delegated.snd_una + 1000, 100);
    lab_run(&lab, 5 * LAB_MSEC);
    assert_int_equal(lab_state(&lab, 0, c)->snd_wnd_probe_count, 0);
    assert_int_equal(lab_state(&lab, 0, c)->retransmit_count, 0);
    lab_free(&lab);
}

/* rows: C71 */
static void keepalive_probes(void **state)
{
    struct lab_pair *pair;
    struct host_conn *c;
    size_t mark;

    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    c = &pair->conn[0];
    c->cached.flags = CHIMNEY_TCP_KEEP_ALIVE_ENABLED;
    c->cached.ka_timeout = TICKS(10 * LAB_SEC);
    c->cached.ka_interval = TICKS(2 * LAB_SEC);
    c->cached.ka_probe_count = 5;
    c->delegated.ka_timeout_delta = TICKS(10 * LAB_SEC);
    lab_offload(&lab, 0, pair);
    mark = lab_mark(&lab);
    lab_run(&lab, 10 * LAB_SEC + 3 * LAB_SEC); /* two probes */
    assert_int_equal(lab_count(&lab, mark, 0, false), 2);
    hand_over(pair);
    assert_int_equal(c->delegated.ka_probe_count, 2);
    expect_near(c->delegated.ka_timeout_delta * 1000ull, LAB_SEC, CLOSE);
    /* The new owner sends the three that are left. */
    lab_run(&lab, LAB_MSEC);
    mark = lab_mark(&lab);
    lab_run(&lab, 60 * LAB_SEC);
    assert_int_equal(lab_count(&lab, mark, 0, false), 3);
    assert_int_equal(lab_retrieved(&lab, 0, c), TimeoutExpiration);
    lab_free(&lab);
}

/* rows: C72 */
static void keepalive_time_left(void **state)
{
    static const uint64_t left[] = {0, 700 * LAB_MSEC, 5 * LAB_SEC};

    for (size_t i = 0; i < sizeof(left) / sizeof(left[0]); i++) {
        struct lab_pair *pair;
        struct host_conn *c;
        uint64_t start;
        size_t mark;

        lab_init(&lab, NULL);
        pair = lab_pair(&lab, 4);
        c = &pair->conn[0];
        c->cached.flags = CHIMNEY_TCP_KEEP_ALIVE_ENABLED;
        c->cached.ka_timeout = TICKS(10 * LAB_SEC);
        c->cached.ka_interval = TICKS(2 * LAB_SEC);
        c->cached.ka_probe_count = 9;
        c->delegated.ka_timeout_delta = TICKS(left[i]);
        start = lab.now;
        lab_offload(&lab, 0, pair);
        if (left[i]) {
            assert_int_equal(lab_state(&lab, 0, c)->ka_probe_count, 0);
            lab_run(&lab, left[i] - 500 * LAB_MSEC);
            expect_near(lab_state(&lab, 0, c)->ka_timeout_delta * 1000ull, 500 * LAB_MSEC, CLOSE);
            lab_run(&lab, 500 * LAB_MSEC);
        }
        mark = lab_mark(&lab);
        lab_run(&lab, CLOSE);
        assert_int_equal(lab_state(&lab, 0, c)->ka_probe_count, 1);
        expect_near(lab_last(&lab, 0, 0, false)->time - start, left[i], CLOSE);
        (void)mark;
        lab_free(&lab);
    }
    /* Not running: stays so, in either direction. */
    {
        struct lab_pair *pair;

        lab_init(&lab, NULL);
        pair = lab_connect_half(&lab, 4);
        lab_run(&lab, 10 * LAB_SEC);
        hand_over(pair);
        assert_int_equal(pair->conn[0].delegated.ka_timeout_delta, CHIMNEY_TIMER_OFF);
        lab_free(&lab);
    }
}

/* rows: C73 C74 C182 */
static void retransmissions(void **state)
{
    struct lab_pair *pair;
    struct host_conn *c;
    uint64_t left, start, interval[2];
    size_t mark;

    lab_init(&lab, NULL);
    pair = lab_connect_half(&lab, 4);
    c = &pair->conn[0];
    lab_send(&lab, 0, pair, 500);
    until_count(c, 3);
    interval[0] = lab_state(&lab, 0, c)->retransmit_timeout_delta * 1000ull;
    lab_run(&lab, 100 * LAB_MSEC);
    start = lab.now;
    hand_over(pair);
    assert_int_equal(c->delegated.retransmit_count, 3);
    left = c->delegated.retransmit_timeout_delta * 1000ull;
    expect_near(left, interval[0] - 100 * LAB_MSEC, CLOSE);
    /*
     * The new owner sends the first segment at once (the other timers did not travel with it), but
     * its timeout comes when the old one's would have, and the one after that twice as late.
     */
    assert_int_equal(lab_state(&lab, 0, c)->retransmit_count, 3);
    mark = lab_mark(&lab);
    expect_near(until_frame(mark, start), left, CLOSE);
    assert_int_equal(lab_first(&lab, mark, 0, true)->packet.seg.seq, c->delegated.snd_una);
    assert_int_equal(lab_state(&lab, 0, c)->retransmit_count, 4);
    interval[1] = lab_state(&lab, 0, c)->retransmit_timeout_delta * 1000ull;
    expect_near(interval[1], 2 * interval[0], 50 * LAB_MSEC);
    /* The acknowledgement stops it. */
    lab_peer_ack(&lab, pair, c->delegated.snd_una + 500, 0xFFFF);
    lab_run(&lab, 5 * LAB_MSEC);
    assert_int_equal(lab_state(&lab, 0, c)->retransmit_timeout_delta, CHIMNEY_TIMER_OFF);
    assert_int_equal(lab_state(&lab, 0, c)->retransmit_count, 0);
    lab_free(&lab);
}

/* rows: C74 */
static void fin_wait_2(void **state)
{
    struct target_config config = {.fin_policy = TCP_FIN_CONSUME};
    struct lab_pair *pair;
    struct host_conn *c;
    struct host_tree *t;
    uint64_t start;

    lab_init(&lab, &config);
    pair = lab_connect_half(&lab, 4);
    c = &pair->conn[0];
    host_disconnect(&lab.side[0].host, c, TCP_DISCONNECT_GRACEFUL_CLOSE);
    lab_round(&lab);
    lab_peer_ack(&lab, pair, c->delegated.snd_una + 1, 0xFFFF);
    start = lab.now;
    lab_run(&lab, 5 * LAB_MSEC);
    assert_int_equal(lab_state(&lab, 0, c)->state, TcpConnectionFinWait2);
    lab_run(&lab, 50 * LAB_SEC);
    t = lab_terminate(&lab, 0, &c->object);
    expect_near(tree_tcp_delegated(t->block[0])->retransmit_timeout_delta * 1000ull,
                start + 120 * LAB_SEC - lab.now, 50 * LAB_MSEC);
    lab_take_back(c, t);
    lab_offload(&lab, 0, pair);
    /* It goes on in the new owner and ends as it would have in the old one. */
    lab_run(&lab, start + 119 * LAB_SEC - lab.now);
    assert_int_equal(lab_retrieved(&lab, 0, c), CHIMNEY_REASON_NONE);
    lab_run(&lab, 2 * LAB_SEC);
    assert_int_equal(lab_retrieved(&lab, 0, c), TimeoutExpiration);
    t = lab_terminate(&lab, 0, &c->object);
    assert_int_equal(tree_tcp_delegated(t->block[0])->state, TcpConnectionClosed);
    lab_free(&lab);
}

/* rows: C23 C75 C181 C222 C223 */
static void spans_of_send_data(void **state)
{
    static const uint32_t sizes[] = {0, 1, 100000};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct lab_pair *pair;
        struct host_conn *c;
        struct host_tree *t;
        const struct chimney_tcp_delegated *d;
        size_t mark;

        lab_init(&lab, NULL);
        pair = lab_pair(&lab, 4);
        c = &pair->conn[0];
        c->delegated.cwnd = 2 * 1448;
        host_write(c, sizes[i]);
        mark = lab_mark(&lab);
        t = lab_offload(&lab, 0, pair);
        assert_int_equal(t->block[2]->send_data.end, sizes[i]);
        if (sizes[i]) {
            /* The byte at SndUna is the first byte of the span. */
            const struct lab_frame *f = lab_first(&lab, mark, 0, true);

            assert_int_equal(f->packet.seg.seq, c->delegated.snd_una);
            for (uint32_t b = 0; b < f->packet.seg.len; b++)
                assert_int_equal(f->packet.seg.payload[b], host_byte(c->pattern_out, b));
        }
        /* Nobody acknowledges: all of it comes back, the same in block and state. */
        d = tree_tcp_delegated((t = lab_terminate(&lab, 0, &c->object))->block[0]);
        assert_int_equal(d->send_data.begin, 0);
        assert_int_equal(d->send_data.end, sizes[i]);
        assert_memory_equal(&d->send_data, &t->block[0]->send_data, sizeof(d->send_data));
        assert_int_equal(d->snd_una, 1000);
        assert_true(d->snd_max - d->snd_una <= sizes[i]);

        /* Part acknowledged: the rest comes back. */
        lab_take_back(c, t);
        lab_offload(&lab, 0, pair);
        lab_peer_ack(&lab, pair, 1000 + d->snd_max - d->snd_una, 0xFFFF);
        lab_run(&lab, 2 * LAB_MSEC);
        t = lab_terminate(&lab, 0, &c->object);
        assert_int_equal(t->block[0]->send_data.end, sizes[i] > 1 ? sizes[i] : 0);
        assert_int_equal(t->block[0]->send_data.begin, sizes[i] > 1 ? d->snd_max - 1000 : 0);
        lab_free(&lab);
    }
}

/* rows: C77 C187 C220 */
static void buffered_data(void **state)
{
    struct lab_pair *pair;
    struct host_conn *c;
    struct host_tree *t;
    const struct chimney_tcp_delegated *d;

    /* The program has left 3000 bytes of the kernel's queue unread when its connection goes down.
     */
    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    c = &pair->conn[0];
    c->hold = true;
    for (uint32_t i = 0; i < 3000; i++)
        c->constant.receive_stream.base[i] = host_byte(c->pattern_in, i);
    c->head = 3000;
    t = lab_offload(&lab, 0, pair);
    assert_int_equal(tree_tcp_delegated(t->block[2])->buffered_data.end, 3000);
    assert_int_equal(lab_state(&lab, 0, c)->receive_backlog_size, 3000);
    /* Newer bytes come behind it. */
    lab_peer_data(&lab, pair, c->delegated.rcv_nxt, 2000);
    lab_run(&lab, 100 * LAB_MSEC);
    assert_int_equal(c->head, 5000);
    assert_int_equal(lab_state(&lab, 0, c)->receive_backlog_size, 5000);
    /* Some are read, the others go up, where they were; once. */
    host_consume(&lab.side[0].host, c, 4000);
    lab_round(&lab);
    t = lab_terminate(&lab, 0, &c->object);
    d = tree_tcp_delegated(t->block[0]);
    assert_int_equal(d->buffered_data.begin, 4000);
    assert_int_equal(d->buffered_data.end, 5000);
    assert_int_equal(d->rcv_nxt, 4000);
    lab_take_back(c, t);
    assert_int_equal(c->head, 1000);
    lab_offload(&lab, 0, pair);
    lab_peer_data(&lab, pair, 4000, 500);
    lab_run(&lab, 100 * LAB_MSEC);
    assert_int_equal(c->head, 1500);
    for (uint32_t i = 0; i < 1500; i++)
        assert_int_equal(c->constant.receive_stream.base[i], host_byte(c->pattern_in, 4000 + i));
    host_consume(&lab.side[0].host, c, 1500);
    lab_free(&lab);
}

/* rows: C76 C78 C193 */
static void backlogs(void **state)
{
    const struct host *h = &lab.side[0].host;
    struct lab_pair *pair;
    struct host_conn *c;
    const struct log_entry *told;
    uint32_t before;

    lab_init(&lab, NULL);
    pair = lab_connect(&lab, 4);
    c = &pair->conn[0];
    lab_run(&lab, LAB_SEC);
    /* Independent of what is posted. */
    before = lab_state(&lab, 0, c)->send_backlog_size;
    assert_int_not_equal(before, CHIMNEY_BACKLOG_UNSUPPORTED);
    host_send(&lab.side[0].host, c, 100000);
    assert_int_equal(lab_state(&lab, 0, c)->send_backlog_size, before);
    /* What the last event said is what a query says, when nothing has changed since. */
    for (int i = 0; i < 20; i++) {
        lab_send(&lab, 0, pair, 50000);
        lab_settle(&lab, 5 * LAB_SEC);
    }
    lab_run(&lab, LAB_SEC);
    told = host_last(h, LOG_EVENT, c);
    assert_int_equal(told->status, TcpIndicateSendBacklogChange);
    before = lab_state(&lab, 0, c)->send_backlog_size;
    /* Small changes are not told; the number is never off by a factor of two. */
    assert_true(told->value < 2ull * before && before < 2 * told->value);

    /* Known bytes in the target's hands. */
    c->hold = true;
    assert_int_equal(lab_state(&lab, 0, c)->receive_backlog_size, 0);
    lab_send(&lab, 1, pair, 12345);
    lab_run(&lab, 100 * LAB_MSEC);
    assert_int_equal(lab_state(&lab, 0, c)->receive_backlog_size, 12345);
    host_consume(&lab.side[0].host, c, c->tail + 345);
    lab_round(&lab);
    assert_int_equal(lab_state(&lab, 0, c)->receive_backlog_size, 12000);
    host_consume(&lab.side[0].host, c, c->head);
    lab_free(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(persist),
        cmocka_unit_test(keepalive_probes),
        cmocka_unit_test(keepalive_time_left),
        cmocka_unit_test(retransmissions),
        cmocka_unit_test(fin_wait_2),
        cmocka_unit_test(spans_of_send_data),
        cmocka_unit_test(buffered_data),
        cmocka_unit_test(backlogs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
