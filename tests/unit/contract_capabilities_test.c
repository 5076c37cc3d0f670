/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Capabilities, parameters and statistics of the software target: what it says it can do, what a
 * parameter changes, and counters against the frames on the wire (group B).
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

/* rows: C92 */
static void capabilities(void **state)
{
    struct target_config config = {.max_connections = 11,
                                   .max_paths = 7,
                                   .max_neighbors = 5,
                                   .max_path_mtu = 1400,
                                   .max_rcv_wnd = 123456};
    const struct chimney_capabilities *c = &lab.side[0].host.capabilities;

    lab_init(&lab, &config);
    assert_int_equal(c->header.revision, CHIMNEY_REVISION);
    assert_int_equal(c->header.size, sizeof(*c));
    assert_true(c->encapsulation & CHIMNEY_ENCAPSULATION_IEEE_802_3);
    assert_true(c->support_ipv4);
    assert_true(c->support_ipv6);
    assert_true(c->support_sack);
    assert_false(c->support_ipv6_extension_headers);
    assert_int_equal(c->tcp_connection_offload_capacity, 11);
    assert_int_equal(c->path_capacity, 7);
    assert_int_equal(c->neighbor_capacity, 5);
    assert_int_equal(c->max_path_mtu, 1400);
    assert_int_equal(c->max_rcv_wnd, 123456);
    lab_free(&lab);
}

static chimney_status set(const struct chimney_parameters *p)
{
    return lab.side[0].top->ops->set_parameters(lab.side[0].top, p);
}

/** Time from in-order data of @segments full segments to the acknowledgement of all of them. */
static uint64_t acknowledged_after(struct lab_pair *pair, uint32_t segments)
{
    struct host_conn *c = &pair->conn[0];
    uint32_t seq = c->delegated.rcv_nxt + (uint32_t)c->head, end = seq + segments * LAB_PEER_MSS;
    uint64_t start;
    size_t mark = lab_mark(&lab);

    lab_peer_data(&lab, pair, seq, segments * LAB_PEER_MSS);
    start = lab.now + LAB_MSEC;
    for (;;) {
        const struct lab_frame *f = lab_last(&lab, mark, 0, false);

        if (f && f->packet.seg.ack == end)
            return f->time - start;
        assert_true(lab.now < start + 10 * LAB_SEC);
        lab_run(&lab, LAB_MSEC);
    }
}

/** A connection past the segments that are acknowledged at once at its beginning. */
static struct lab_pair *warmed_up(void)
{
    struct lab_pair *pair = lab_connect_half(&lab, 4);

    for (int i = 0; i < 60; i++)
        acknowledged_after(pair, 1);
    return pair;
}

/*
 * TcpPushTicks is not in the list: streams have no push timer.  TcpDoubtReachabilityRetransmissions
 * drives an event that is reserved (C348).  Both are accepted and change nothing.
 */
/* rows: C93 */
static void parameters(void **state)
{
    struct chimney_parameters p;
    struct lab_pair *pair;
    struct host_conn *c;
    uint64_t delays[2];

    /* Delayed acknowledgement: the time ... */
    for (int i = 0; i < 2; i++) {
        lab_init(&lab, NULL);
        lab_parameters_default(&p);
        p.tcp_delayed_ack_ticks = i ? 150000 : 40000;
        lab_set_parameters(&lab, &p);
        pair = warmed_up();
        delays[i] = acknowledged_after(pair, 1);
        lab_free(&lab);
    }
    assert_true(delays[0] >= 35 * LAB_MSEC && delays[0] <= 45 * LAB_MSEC);
    assert_true(delays[1] >= 140 * LAB_MSEC && delays[1] <= 160 * LAB_MSEC);
    /* ... and the number of segments. */
    for (uint8_t frequency = 1; frequency <= 4; frequency++) {
        lab_init(&lab, NULL);
        lab_parameters_default(&p);
        p.tcp_delayed_ack_ticks = 150000;
        p.tcp_ack_frequency = frequency;
        lab_set_parameters(&lab, &p);
        pair = warmed_up();
        assert_true(acknowledged_after(pair, frequency) <= 5 * LAB_MSEC);
        if (frequency > 1)
            assert_true(acknowledged_after(pair, frequency - 1u) >= 100 * LAB_MSEC);
        lab_free(&lab);
    }
    /* Retransmissions of a segment. */
    for (uint8_t most = 1; most <= 5; most += 2) {
        size_t mark;

        lab_init(&lab, NULL);
        lab_parameters_default(&p);
        p.tcp_maximum_retransmissions = most;
        lab_set_parameters(&lab, &p);
        pair = lab_connect_half(&lab, 4);
        mark = lab_mark(&lab);
        lab_send(&lab, 0, pair, 10);
        lab_run(&lab, 200 * LAB_SEC);
        assert_int_equal(lab_count(&lab, mark, 0, true), 1 + most);
        assert_int_equal(lab_retrieved(&lab, 0, &pair->conn[0]), TimeoutExpiration);
        lab_free(&lab);
    }
    /* Duplicate acknowledgements that mean loss. */
    for (uint32_t threshold = 2; threshold <= 5; threshold++) {
        uint32_t seen = 0, una;

        lab_init(&lab, NULL);
        lab_parameters_default(&p);
        p.tcp_duplicate_ack_threshold = threshold;
        lab_set_parameters(&lab, &p);
        pair = lab_pair(&lab, 4);
        c = &pair->conn[0];
        c->constant.flags &= (uint16_t)~CHIMNEY_TCP_SACK_ENABLED;
        c->delegated.snd_wnd = 0xFFFFu << 7;
        c->delegated.cwnd = 20 * 1448;
        lab_offload(&lab, 0, pair);
        lab_send(&lab, 0, pair, 10 * 1448);
        una = c->delegated.snd_una;
        while (lab_state(&lab, 0, c)->ssthresh > 20 * 1448 && seen < 10) {
            seen++;
            lab_peer_ack(&lab, pair, una, 0xFFFF);
            lab_run(&lab, 2 * LAB_MSEC);
        }
        assert_int_equal(seen, threshold);
        lab_free(&lab);
    }
    /* How long a silly window is waited for. */
    for (int i = 0; i < 2; i++) {
        uint64_t start;
        size_t mark;

        lab_init(&lab, NULL);
        lab_parameters_default(&p);
        p.tcp_sws_prevention_ticks = i ? 900000 : 200000;
        lab_set_parameters(&lab, &p);
        pair = lab_pair(&lab, 4);
        c = &pair->conn[0];
        c->delegated.snd_wnd = 0;
        c->delegated.max_snd_wnd = 100000;
        lab_offload(&lab, 0, pair);
        lab_run(&lab, LAB_MSEC);
        lab_peer_ack(&lab, pair, c->delegated.snd_una, 1); /* 128 bytes */
        lab_run(&lab, 2 * LAB_MSEC);
        lab_send(&lab, 0, pair, 128); /* the first after a hand-over goes at once */
        lab_peer_ack(&lab, pair, c->delegated.snd_una + 128, 1);
        lab_run(&lab, 2 * LAB_MSEC);
        mark = lab_mark(&lab);
        start = lab.now;
        lab_send(&lab, 0, pair, 10000);
        lab_run(&lab, 10 * LAB_SEC);
        assert_true(lab_count(&lab, mark, 0, true) > 0);
        delays[i] = lab_first(&lab, mark, 0, true)->time - start;
        lab_free(&lab);
    }
    assert_true(delays[0] >= 190 * LAB_MSEC && delays[0] <= 250 * LAB_MSEC);
    assert_true(delays[1] >= 850 * LAB_MSEC && delays[1] <= 950 * LAB_MSEC);
    /* When a neighbor is stale. */
    lab_init(&lab, NULL);
    lab_parameters_default(&p);
    p.nce_stale_ticks = 5 * LAB_TICKS_PER_SECOND;
    lab_set_parameters(&lab, &p);
    pair = lab_connect_half(&lab, 4);
    lab_run(&lab, 4 * LAB_SEC);
    lab_send(&lab, 0, pair, 1);
    assert_null(host_find(&lab.side[0].host, 0, LOG_QUESTION, NULL));
    lab_run(&lab, 2 * LAB_SEC);
    lab_send(&lab, 0, pair, 1);
    assert_non_null(host_find(&lab.side[0].host, 0, LOG_QUESTION, &lab.side[0].neighbor));
    lab_free(&lab);
    /* The tick itself: the same numbers in milliseconds. */
    lab_init(&lab, NULL);
    lab_parameters_default(&p);
    p.ticks_per_second = 1000;
    p.tcp_delayed_ack_ticks = 150;
    lab_set_parameters(&lab, &p);
    pair = warmed_up();
    delays[0] = acknowledged_after(pair, 1);
    assert_true(delays[0] >= 140 * LAB_MSEC && delays[0] <= 160 * LAB_MSEC);
    lab_free(&lab);
}

/* rows: C93 */
static void unusable_parameters(void **state)
{
    struct chimney_parameters good, bad;

    lab_init(&lab, NULL);
    lab_parameters_default(&good);
    for (int i = 0; i < 5; i++) {
        bad = good;
        if (i == 0)
            bad.ticks_per_second = 0;
        else if (i == 1)
            bad.ticks_per_second = 9;
        else if (i == 2)
            bad.tcp_ack_frequency = 0;
        else if (i == 3)
            bad.tcp_maximum_retransmissions = 0;
        else
            bad.tcp_duplicate_ack_threshold = 0;
        bad.nce_stale_ticks = 1;
        assert_int_equal(set(&bad), NDIS_STATUS_FAILURE);
    }
    /* Nothing of the refused sets was taken over. */
    lab_connect(&lab, 4);
    lab_run(&lab, 10 * LAB_SEC);
    lab_send(&lab, 0, lab.pairs[0], 10);
    assert_null(host_find(&lab.side[0].host, 0, LOG_QUESTION, NULL));
    lab_free(&lab);
}

struct counts {
    uint64_t in_packets, in_octets, in_segments, out_packets, out_octets, out_data_end;
    uint32_t out_segments, out_again, out_resets;
};

/** What the wire says end 0 received and sent; @una is the first sequence number of ours. */
static struct counts count_wire(int family, uint32_t una)
{
    struct counts k = {0};
    uint32_t high = una;

    for (size_t i = 0; i < lab.frame_count; i++) {
        const struct lab_frame *f = &lab.frames[i];

        if (f->status != WIRE_OK || f->packet.key.family != family)
            continue;
        if (f->end == 1) {
            k.in_packets++;
            k.in_octets += f->packet.ip_len;
            k.in_segments++;
            continue;
        }
        k.out_packets++;
        k.out_octets += f->packet.ip_len;
        k.out_resets += (f->packet.seg.flags & TCP_RST) != 0;
        if (f->packet.seg.len && (int32_t)(f->packet.seg.seq + f->packet.seg.len - high) <= 0) {
            k.out_again++;
        } else {
            k.out_segments++;
            if (f->packet.seg.len)
                high = f->packet.seg.seq + f->packet.seg.len;
        }
    }
    return k;
}

static struct chimney_statistics statistics(int family)
{
    struct chimney_statistics s;

    memset(&s, 0xA5, sizeof(s));
    lab.side[0].top->ops->get_statistics(lab.side[0].top, family, &s);
    return s;
}

/* rows: C97 C98 C99 */
static void counters(void **state)
{
    for (int family = 4; family <= 6; family += 2) {
        const struct sim_impair lossy = {.latency_ns = LAB_MSEC, .loss_ppm = 30000};
        struct chimney_statistics s, other;
        struct lab_pair *pair;
        struct counts k;

        lab_init(&lab, NULL);
        pair = lab_connect(&lab, family);
        /* Only what is sent by end 0 gets lost, so that all that was sent to it was received. */
        sim_link_set_impair(lab.link, 0, &lossy);
        for (int i = 0; i < 20; i++) {
            lab_send(&lab, 0, pair, 20000);
            lab_send(&lab, 1, pair, 20000);
            lab_settle(&lab, 60 * LAB_SEC);
        }
        lab_run(&lab, LAB_SEC);
        k = count_wire(family, 1000);
        s = statistics(family);
        assert_true(k.out_again > 0);
        assert_int_equal(s.in_receives, k.in_packets);
        assert_int_equal(s.in_octets, k.in_octets);
        assert_int_equal(s.in_delivers, k.in_packets);
        assert_int_equal(s.in_segments, k.in_segments);
        assert_int_equal(s.out_requests, k.out_packets);
        assert_int_equal(s.out_octets, k.out_octets);
        assert_int_equal(s.out_segments, k.out_segments); /* without retransmissions */
        assert_int_equal(s.retransmitted_segments, k.out_again);
        assert_int_equal(s.currently_established, 1);
        assert_int_equal(s.in_errors + s.in_header_errors + s.in_truncated_packets, 0);
        assert_int_equal(s.in_discards + s.out_discards + s.out_no_routes, 0);
        assert_int_equal(s.out_resets + s.reset_established, 0);
        /* Bytes transferred are bytes acknowledged. */
        assert_int_equal(host_last(&lab.side[0].host, LOG_SENT, &pair->conn[0])->value, 400000);
        /* One set a family. */
        other = statistics(10 - family);
        assert_int_equal(other.in_receives + other.out_requests + other.in_segments, 0);
        lab_free(&lab);
    }
}

/* rows: C98 */
static void resets_and_states(void **state)
{
    struct target_config config = {.fin_policy = TCP_FIN_CONSUME};
    struct lab_pair *pairs[4];
    struct lab_segment s;
    struct chimney_statistics k;

    lab_init(&lab, &config);
    for (int i = 0; i < 4; i++)
        pairs[i] = lab_connect_half(&lab, 4);
    assert_int_equal(statistics(4).currently_established, 4);
    /* The peer closes one (still counted), we close one (not any more), one is reset by each side.
     */
    s = lab_peer(&lab, pairs[0]);
    s.seg.flags = TCP_ACK | TCP_FIN;
    lab_peer_send(&lab, pairs[0], &s, 0);
    host_disconnect(&lab.side[0].host, &pairs[1]->conn[0], TCP_DISCONNECT_GRACEFUL_CLOSE);
    s = lab_peer(&lab, pairs[2]);
    s.seg.flags = TCP_ACK | TCP_RST;
    lab_peer_send(&lab, pairs[2], &s, 0);
    host_disconnect(&lab.side[0].host, &pairs[3]->conn[0], TCP_DISCONNECT_ABORTIVE_CLOSE);
    lab_run(&lab, 10 * LAB_MSEC);
    k = statistics(4);
    assert_int_equal(k.out_resets, 1);
    assert_int_equal(k.reset_established, 2);
    assert_int_equal(k.currently_established, 1);
    lab_free(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(capabilities),        cmocka_unit_test(parameters),
        cmocka_unit_test(unusable_parameters), cmocka_unit_test(counters),
        cmocka_unit_test(resets_and_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
