/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events of the software target under the verifier: resets, urgent data, backlog, and the question
 * whether a neighbor is reachable (group O).
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

/** Events of this type about @c. */
static size_t events(const struct host_conn *c, enum chimney_event_type type)
{
    const struct host *h = &lab.side[0].host;
    size_t count = 0;

    for (size_t i = 0; i < h->log_count; i++)
        count += h->log[i].kind == LOG_EVENT && h->log[i].what == c && h->log[i].status == type;
    return count;
}

/* rows: C327 C331 */
static void only_an_acceptable_reset(void **state)
{
    static const int32_t offsets[] = {-1, 1, 1000, 1 << 20, 0}; /* from RcvNxt */

    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        struct lab_pair *pair, *other;
        struct lab_segment s;

        lab_init(&lab, NULL);
        pair = lab_connect_half(&lab, 4);
        other = lab_connect_half(&lab, 4);
        s = lab_peer(&lab, pair);
        s.seg.seq += (uint32_t)offsets[i];
        s.seg.flags = TCP_RST | TCP_ACK;
        lab_peer_send(&lab, pair, &s, 0);
        lab_run(&lab, 10 * LAB_MSEC);
        assert_int_equal(events(&pair->conn[0], TcpIndicateAbort), offsets[i] == 0);
        assert_int_equal(events(&other->conn[0], TcpIndicateAbort), 0);
        lab_free(&lab);
    }
}

/* rows: C336 */
static void urgent_data(void **state)
{
    struct host *h = &lab.side[0].host;
    struct lab_pair *pair;
    struct host_conn *c;
    struct host_tree *t;
    struct lab_segment s;
    size_t mark, surfaced;
    uint32_t rcv_nxt;

    lab_init(&lab, NULL);
    pair = lab_connect_half(&lab, 4);
    c = &pair->conn[0];
    rcv_nxt = c->delegated.rcv_nxt;
    lab_peer_data(&lab, pair, rcv_nxt, 500);
    lab_run(&lab, 100 * LAB_MSEC);
    mark = lab_mark(&lab);
    surfaced = h->frame_count;
    s = lab_peer(&lab, pair);
    s.seg.flags = TCP_ACK | TCP_URG;
    lab_peer_send(&lab, pair, &s, 100);
    lab_run(&lab, 2 * LAB_MSEC);
    lab_peer_data(&lab, pair, rcv_nxt + 600, 200);
    lab_run(&lab, LAB_SEC);
    /* Asked for; neither it nor anything later is acknowledged or delivered, all of it waits. */
    assert_int_equal(lab_retrieved(&lab, 0, c), ReceivedUrgentData);
    assert_int_equal(c->head, 500);
    for (size_t i = mark; i < lab.frame_count; i++) {
        if (lab.frames[i].end == 0)
            assert_int_equal(lab.frames[i].packet.seg.ack, rcv_nxt + 500);
    }
    assert_int_equal(h->frame_count, surfaced);
    /* It goes up the non-offload path at the terminate, in order. */
    t = lab_terminate(&lab, 0, &c->object);
    assert_int_equal(tree_tcp_delegated(t->block[0])->rcv_nxt, rcv_nxt + 500);
    assert_int_equal(h->frame_count, surfaced + 2);
    for (int i = 0; i < 2; i++) {
        struct wire_packet packet;

        assert_int_equal(wire_parse(h->frames[surfaced + (size_t)i].data,
                                    h->frames[surfaced + (size_t)i].length, false, &packet),
                         WIRE_OK);
        assert_int_equal(packet.seg.seq, rcv_nxt + (i ? 600 : 500));
        assert_int_equal((packet.seg.flags & TCP_URG) != 0, i == 0);
    }
    lab_free(&lab);
}

/* rows: C336 */
static void urgent_data_that_is_not_valid(void **state)
{
    struct lab_pair *pair;
    struct lab_segment s;

    lab_init(&lab, NULL);
    pair = lab_connect_half(&lab, 4);
    s = lab_peer(&lab, pair);
    s.seg.flags = TCP_ACK | TCP_URG;
    s.seg.seq += 1u << 20; /* outside the window */
    lab_peer_send(&lab, pair, &s, 100);
    s = lab_peer(&lab, pair);
    s.seg.flags = TCP_ACK | TCP_URG;
    s.seg.ack += 5000; /* of what was never sent */
    lab_peer_send(&lab, pair, &s, 100);
    lab_run(&lab, LAB_SEC);
    assert_int_equal(lab_retrieved(&lab, 0, &pair->conn[0]), CHIMNEY_REASON_NONE);
    lab_free(&lab);
}

/* rows: C254 C333 */
static void backlog_changes_are_throttled(void **state)
{
    const struct host *h = &lab.side[0].host;
    struct lab_pair *pair;
    struct host_conn *c;
    uint64_t start;
    size_t told;

    lab_init(&lab, NULL);
    pair = lab_connect(&lab, 4);
    c = &pair->conn[0];
    start = lab.now;
    for (int i = 0; i < 300; i++) {
        if (c->written - c->acked < LAB_RING / 2)
            lab_send(&lab, 0, pair, 30000);
        lab_run(&lab, 10 * LAB_MSEC);
    }
    told = events(c, TcpIndicateSendBacklogChange);
    assert_true(told >= 1);
    assert_true(told <= 1 + (lab.now - start) / (100 * LAB_MSEC));
    lab_settle(&lab, 10 * LAB_SEC);
    for (size_t i = h->log_count; i-- > 0;) {
        if (h->log[i].kind == LOG_EVENT && h->log[i].status == TcpIndicateSendBacklogChange) {
            uint32_t now = lab_state(&lab, 0, c)->send_backlog_size;

            assert_true(h->log[i].value < 2ull * now && now < 2 * h->log[i].value);
            break;
        }
    }
    lab_free(&lab);
}

/* ---- is the neighbor there? -------------------------------------------------------------------
 */

#define STALE (5 * LAB_SEC)

/** A connection in a world where neighbors are stale after five seconds. */
static struct lab_pair *stale_world(void)
{
    struct chimney_parameters p;

    lab_init(&lab, NULL);
    lab_parameters_default(&p);
    p.nce_stale_ticks = 5 * LAB_TICKS_PER_SECOND;
    lab_set_parameters(&lab, &p);
    return lab_connect_half(&lab, 4);
}

static size_t questions(void)
{
    return host_count(&lab.side[0].host, 0, LOG_QUESTION, &lab.side[0].neighbor);
}

static uint32_t neighbor_age(void)
{
    struct host_tree *t =
        lab_query(&lab, 0, NeighborOffloadDelegatedState, &lab.side[0].neighbor.object);

    return tree_neighbor_delegated(t->block[0])->nic_reachability_delta;
}

/* rows: C346 C347 C348 C349 C350 C351 C352 */
static void reachability(void **state)
{
    struct lab_pair *pair = stale_world();
    struct host_conn *c = &pair->conn[0];
    uint64_t acked = 0;

    /* Forward progress sets the age to nothing. */
    lab_run(&lab, 2 * LAB_SEC);
    lab_send(&lab, 0, pair, 10);
    lab_peer_ack(&lab, pair, c->delegated.snd_una + (uint32_t)(acked += 10), 0xFFFF);
    lab_run(&lab, LAB_MSEC);
    assert_int_equal(neighbor_age(), 0);
    lab_run(&lab, 3 * LAB_SEC);
    assert_int_equal(neighbor_age(), 3 * LAB_TICKS_PER_SECOND);
    /* Both ages must be above the limit: not yet, and yet. */
    lab_run(&lab, 2 * LAB_SEC - LAB_MSEC);
    lab_send(&lab, 0, pair, 10);
    assert_int_equal(questions(), 0);
    lab_peer_ack(&lab, pair, c->delegated.snd_una + (uint32_t)(acked += 10), 0xFFFF);
    lab_run(&lab, LAB_MSEC);
    lab_run(&lab, STALE + LAB_MSEC);
    lab.side[0].neighbor.answer = 0; /* stale, and the host looks after it */
    lab_send(&lab, 0, pair, 10);
    assert_int_equal(questions(), 1);
    assert_int_equal(host_last(&lab.side[0].host, LOG_QUESTION, NULL)->value,
                     (STALE + LAB_MSEC) / 1000);
    /* No other before the time has passed again, silent as the peer may be. */
    lab_run(&lab, STALE - 10 * LAB_MSEC);
    assert_int_equal(questions(), 1);
    /* An answer of d at n makes the record n - d: the next question comes d earlier. */
    lab.side[0].neighbor.answer = 4 * LAB_TICKS_PER_SECOND;
    while (questions() == 1)
        lab_run(&lab, 100 * LAB_MSEC);
    {
        struct host_tree *t =
            lab_query(&lab, 0, NeighborOffloadCachedState, &lab.side[0].neighbor.object);
        uint64_t asked = host_last(&lab.side[0].host, LOG_QUESTION, NULL)->time;

        assert_int_equal(tree_neighbor_cached(t->block[0])->host_reachability_delta,
                         4 * LAB_TICKS_PER_SECOND + (lab.now - asked) / 1000);
    }
    lab_free(&lab);
}

/* rows: C349 C350 */
static void progress_prevents_the_question(void **state)
{
    struct lab_pair *pair = stale_world();
    struct host_conn *c = &pair->conn[0];

    for (uint32_t i = 1; i <= 20; i++) {
        lab_send(&lab, 0, pair, 10);
        lab_peer_ack(&lab, pair, c->delegated.snd_una + i * 10, 0xFFFF);
        lab_run(&lab, STALE - 100 * LAB_MSEC);
    }
    assert_int_equal(questions(), 0);
    lab_free(&lab);
}

/* rows: C356 */
static void clock_near_wrap(void **state)
{
    /* Ticks are 32 bits of microseconds: 4294.967 s.  Offload shortly before, look shortly after.
     */
    struct lab_pair *pair;

    lab_init(&lab, NULL);
    lab_run(&lab, 4294 * LAB_SEC - lab.now);
    {
        struct chimney_parameters p;

        lab_parameters_default(&p);
        p.nce_stale_ticks = 5 * LAB_TICKS_PER_SECOND;
        lab_set_parameters(&lab, &p);
    }
    lab.side[0].neighbor.cached.host_reachability_delta = LAB_TICKS_PER_SECOND;
    pair = lab_connect_half(&lab, 4);
    lab_run(&lab, 3 * LAB_SEC);
    assert_int_equal(neighbor_age(), 4 * LAB_TICKS_PER_SECOND);
    lab_send(&lab, 0, pair, 10);
    assert_int_equal(questions(), 0);
    lab_run(&lab, 3 * LAB_SEC);
    assert_true(questions() > 0);
    lab_free(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_an_acceptable_reset),
        cmocka_unit_test(urgent_data),
        cmocka_unit_test(urgent_data_that_is_not_valid),
        cmocka_unit_test(backlog_changes_are_throttled),
        cmocka_unit_test(reachability),
        cmocka_unit_test(progress_prevents_the_question),
        cmocka_unit_test(clock_near_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
