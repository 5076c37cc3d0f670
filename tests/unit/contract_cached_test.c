/* SPDX-License-Identifier: Apache-2.0 */
/* Cached state: what an update changes on the wire and in the timers (groups B and H). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "contract_lab.h"

static struct lab lab;

#define KA_TIMEOUT (20 * LAB_SEC)
#define KA_INTERVAL (3 * LAB_SEC)
#define TICKS(ns) ((uint32_t)((ns) / (LAB_SEC / LAB_TICKS_PER_SECOND)))

/** A connection without a peer whose keepalive is on or off. */
static struct lab_pair *keepalive(bool on, uint8_t probes)
{
    struct lab_pair *pair;

    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    pair->conn[0].cached.flags = on ? CHIMNEY_TCP_KEEP_ALIVE_ENABLED : 0;
    pair->conn[0].cached.ka_timeout = TICKS(KA_TIMEOUT);
    pair->conn[0].cached.ka_interval = TICKS(KA_INTERVAL);
    pair->conn[0].cached.ka_probe_count = probes;
    if (on)
        pair->conn[0].delegated.ka_timeout_delta = TICKS(KA_TIMEOUT);
    lab_offload(&lab, 0, pair);
    return pair;
}

static void expect_near(uint64_t is, uint64_t expected, uint64_t tolerance)
{
    if (is + tolerance < expected || is > expected + tolerance)
        fail_msg("%llu us, expected %llu", (unsigned long long)is / 1000,
                 (unsigned long long)expected / 1000);
}

/* rows: C45 C194 */
static void keepalive_on_and_off(void **state)
{
    struct lab_pair *pair = keepalive(false, 5);
    size_t mark;

    lab_run(&lab, LAB_SEC);
    mark = lab_mark(&lab);
    lab_run(&lab, 10 * KA_TIMEOUT);
    assert_int_equal(lab_count(&lab, mark, 0, false), 0);
    pair->conn[0].cached.flags |= CHIMNEY_TCP_KEEP_ALIVE_ENABLED | CHIMNEY_TCP_KEEP_ALIVE_RESTART;
    lab_update(&lab, 0, &pair->conn[0].object);
    lab_run(&lab, KA_TIMEOUT + LAB_SEC);
    assert_int_equal(lab_count(&lab, mark, 0, false), 1);
    /* And off again in the middle of the probes. */
    pair->conn[0].cached.flags = 0;
    lab_update(&lab, 0, &pair->conn[0].object);
    mark = lab_mark(&lab);
    lab_run(&lab, 10 * KA_TIMEOUT);
    assert_int_equal(lab_count(&lab, mark, 0, false), 0);
    assert_int_equal(lab_retrieved(&lab, 0, &pair->conn[0]), 0);
    lab_free(&lab);
}

/* rows: C52 */
static void keepalive_times(void **state)
{
    for (uint8_t probes = 1; probes <= 4; probes += 3) {
        struct lab_pair *pair = keepalive(true, probes);
        uint64_t start = lab.now;
        size_t mark = lab_mark(&lab), seen = 0;

        lab_run(&lab, KA_TIMEOUT + 20 * KA_INTERVAL);
        for (size_t i = mark; i < lab.frame_count; i++) {
            const struct lab_frame *f = &lab.frames[i];

            if (f->end != 0)
                continue;
            expect_near(f->time - start, KA_TIMEOUT + seen * KA_INTERVAL, 50 * LAB_MSEC);
            seen++;
        }
        assert_int_equal(seen, probes);
        assert_int_equal(lab_retrieved(&lab, 0, &pair->conn[0]), TimeoutExpiration);
        lab_free(&lab);
    }
}

/* rows: C47 C199 */
static void keepalive_restart(void **state)
{
    struct lab_pair *pair = keepalive(true, 9);
    const struct chimney_tcp_delegated *d;
    struct host_tree *t;
    size_t mark;
    uint64_t start;

    /* At half of the time: a whole time from the update. */
    lab_run(&lab, KA_TIMEOUT / 2);
    pair->conn[0].cached.flags |= CHIMNEY_TCP_KEEP_ALIVE_RESTART;
    lab_update(&lab, 0, &pair->conn[0].object);
    start = lab.now;
    mark = lab_mark(&lab);
    lab_run(&lab, 2 * KA_TIMEOUT);
    assert_true(lab_count(&lab, mark, 0, false) > 0);
    expect_near(lab_first(&lab, mark, 0, false)->time - start, KA_TIMEOUT, 50 * LAB_MSEC);

    /* Some probes are out: new values with the flag begin from nothing. */
    d = lab_state(&lab, 0, &pair->conn[0]);
    assert_true(d->ka_probe_count > 1);
    pair->conn[0].cached.ka_timeout = TICKS(KA_TIMEOUT * 2);
    pair->conn[0].cached.flags |= CHIMNEY_TCP_KEEP_ALIVE_RESTART;
    lab_update(&lab, 0, &pair->conn[0].object);
    d = lab_state(&lab, 0, &pair->conn[0]);
    assert_int_equal(d->ka_probe_count, 0);
    assert_int_equal(d->ka_timeout_delta, TICKS(KA_TIMEOUT * 2));

    /* The flag is a request, not a value: neither a query nor another update sees it again. */
    t = lab_query(&lab, 0, TcpOffloadCachedState, &pair->conn[0].object);
    assert_int_equal(tree_tcp_cached(t->block[0])->flags, CHIMNEY_TCP_KEEP_ALIVE_ENABLED);
    lab_run(&lab, KA_TIMEOUT);
    lab_update(&lab, 0, &lab.side[0].path4.object);
    assert_int_equal(lab_state(&lab, 0, &pair->conn[0])->ka_timeout_delta, TICKS(KA_TIMEOUT));
    lab_free(&lab);
}

/* rows: C46 */
static void nagle(void **state)
{
    for (int on = 0; on < 2; on++) {
        struct lab_pair *pair;
        size_t mark;

        lab_init(&lab, NULL);
        pair = lab_pair(&lab, 4);
        lab_offload(&lab, 0, pair);
        pair->conn[0].cached.flags = on ? CHIMNEY_TCP_NAGLING_ENABLED : 0;
        lab_update(&lab, 0, &pair->conn[0].object);
        mark = lab_mark(&lab);
        for (int i = 0; i < 5; i++)
            lab_send(&lab, 0, pair, 10);
        assert_int_equal(lab_count(&lab, mark, 0, true), on ? 1 : 5);
        /* The acknowledgement of the first lets the rest go, in one segment. */
        lab_peer_ack(&lab, pair, pair->conn[0].delegated.snd_una + 10, 0xFFFF);
        lab_run(&lab, 5 * LAB_MSEC);
        if (on) {
            assert_int_equal(lab_count(&lab, mark, 0, true), 2);
            assert_int_equal(lab_last(&lab, mark, 0, true)->packet.seg.len, 40);
        }
        lab_free(&lab);
    }
}

/* rows: C48 C68 */
static void retransmission_time_restart(void **state)
{
    struct lab_pair *pair;
    const struct chimney_tcp_delegated *d;
    uint64_t start;
    uint32_t total;
    struct host_tree *t;

    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    pair->conn[0].cached.max_rt = 0xFFFFFFFF;
    lab_offload(&lab, 0, pair);
    lab_send(&lab, 0, pair, 100);
    start = lab.now;
    lab_run(&lab, 5 * LAB_SEC);
    d = lab_state(&lab, 0, &pair->conn[0]);
    expect_near(d->total_rt * 1000ull, lab.now - start, 10 * LAB_MSEC);
    pair->conn[0].cached.flags |= CHIMNEY_TCP_MAX_RT_RESTART;
    lab_update(&lab, 0, &pair->conn[0].object);
    assert_int_equal(lab_state(&lab, 0, &pair->conn[0])->total_rt, 0);
    start = lab.now;
    lab_run(&lab, 7 * LAB_SEC);
    t = lab_terminate(&lab, 0, &pair->conn[0].object);
    total = tree_tcp_delegated(t->block[0])->total_rt;
    expect_near(total * 1000ull, lab.now - start, 10 * LAB_MSEC);

    /* The time spent goes on with the next owner. */
    lab_take_back(&pair->conn[0], t);
    pair->conn[0].cached.flags = 0;
    lab_offload(&lab, 0, pair);
    start = lab.now;
    lab_run(&lab, 3 * LAB_SEC);
    d = lab_state(&lab, 0, &pair->conn[0]);
    expect_near(d->total_rt * 1000ull, total * 1000ull + lab.now - start, 10 * LAB_MSEC);
    lab_free(&lab);
}

/* rows: C53 C337 */
static void longest_retransmission(void **state)
{
    static const struct {
        uint32_t max_rt;
        uint64_t at_least, at_most; /* 0, 0: never */
    } table[] = {
        {TICKS(5 * LAB_SEC), 5 * LAB_SEC, 12 * LAB_SEC},
        {TICKS(60 * LAB_SEC), 60 * LAB_SEC, 130 * LAB_SEC},
        {0, 1 * LAB_SEC, 10 * LAB_SEC}, /* four retransmissions of a segment */
        {0xFFFFFFFF, 0, 0},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct chimney_parameters p;
        struct lab_pair *pair;
        uint64_t start;
        size_t mark;

        lab_init(&lab, NULL);
        lab_parameters_default(&p);
        p.tcp_maximum_retransmissions = 4;
        lab_set_parameters(&lab, &p);
        pair = lab_pair(&lab, 4);
        pair->conn[0].cached.max_rt = table[i].max_rt;
        lab_offload(&lab, 0, pair);
        start = lab.now;
        mark = lab_mark(&lab);
        lab_send(&lab, 0, pair, 100);
        while (!lab_retrieved(&lab, 0, &pair->conn[0]) && lab.now < start + 2000 * LAB_SEC)
            lab_run(&lab, 100 * LAB_MSEC);
        if (!table[i].at_most) {
            assert_int_equal(lab_retrieved(&lab, 0, &pair->conn[0]), 0);
        } else {
            assert_int_equal(lab_retrieved(&lab, 0, &pair->conn[0]), TimeoutExpiration);
            assert_true(lab.now - start >= table[i].at_least);
            assert_true(lab.now - start <= table[i].at_most);
        }
        if (table[i].max_rt == 0)
            assert_int_equal(lab_count(&lab, mark, 0, true), 1 + 4);
        lab_free(&lab);
    }
}

/** The advertised window of the last segment that end 0 sent since @from, in bytes. */
static uint32_t advertised(size_t from, const struct host_conn *c)
{
    return (uint32_t)lab_last(&lab, from, 0, false)->packet.seg.window
           << c->constant.rcv_wind_scale;
}

/** The peer fills what the window was promised beyond @wish; the edge never moves back. */
static void use_up_the_promise(struct lab_pair *pair, uint32_t wish)
{
    struct host_conn *c = &pair->conn[0];

    for (uint32_t window = UINT32_MAX; window > wish;) {
        size_t mark = lab_mark(&lab);

        lab_peer_data(&lab, pair, c->delegated.rcv_nxt + (uint32_t)c->head, LAB_PEER_MSS);
        lab_run(&lab, 100 * LAB_MSEC);
        assert_true(lab_count(&lab, mark, 0, false) > 0);
        assert_true(advertised(mark, c) <= window);
        window = advertised(mark, c);
    }
}

/* rows: C49 C197 C198 */
static void receive_window(void **state)
{
    static const uint32_t wishes[] = {1u << 16, 1u << 18, 1u << 17, 1u << 15, 1u << 18};
    struct lab_pair *pair;
    struct host_conn *c;
    size_t mark;

    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    c = &pair->conn[0];
    c->delegated.rcv_wnd = 1u << 16;
    c->cached.initial_rcv_wnd = 1u << 16;
    lab_offload(&lab, 0, pair);
    for (size_t i = 1; i < sizeof(wishes) / sizeof(wishes[0]); i++) {
        c->cached.initial_rcv_wnd = wishes[i];
        c->cached.flags = CHIMNEY_TCP_UPDATE_RCV_WND;
        mark = lab_mark(&lab);
        lab_update(&lab, 0, &c->object);
        /* Told to the peer at once if larger; if smaller, as soon as nothing is taken back by it.
         */
        assert_int_equal(lab_count(&lab, mark, 0, false), 1);
        if (wishes[i] > wishes[i - 1])
            assert_int_equal(advertised(mark, c), wishes[i]);
        else
            use_up_the_promise(pair, wishes[i]);
        /* And kept: it is what the window returns to when everything is consumed. */
        mark = lab_mark(&lab);
        lab_peer_data(&lab, pair, c->delegated.rcv_nxt + (uint32_t)c->head - 1, 1);
        lab_run(&lab, LAB_SEC);
        assert_int_equal(advertised(mark, c), wishes[i]);
    }
    /* The same wish again says nothing. */
    mark = lab_mark(&lab);
    lab_update(&lab, 0, &c->object);
    lab_run(&lab, LAB_SEC);
    assert_int_equal(lab_count(&lab, mark, 0, false), 0);
    lab_free(&lab);
}

/* rows: C54 C55 C56 C57 C197 */
static void header_fields(void **state)
{
    static const int families[] = {4, 6};

    for (int i = 0; i < 2; i++) {
        struct lab_pair *pair;
        struct host_conn *c;
        const struct lab_frame *f;
        uint32_t sent = 0;

        lab_init(&lab, NULL);
        pair = lab_connect(&lab, families[i]);
        c = &pair->conn[0];
        /* One option a round: TTL, traffic class, flow label, priority. */
        for (int option = 0; option < 4; option++) {
            size_t mark;
            const uint8_t *ip;

            if (option == 0)
                c->cached.ttl_or_hop_limit = 5;
            else if (option == 1)
                c->cached.tos_or_traffic_class = 0xB8;
            else if (option == 2)
                c->cached.flow_label = 0xABCDE;
            else
                c->cached.user_priority = 6;
            lab_update(&lab, 0, &c->object);
            mark = lab_mark(&lab);
            lab_send(&lab, 0, pair, 100);
            sent += 100;
            f = lab_first(&lab, mark, 0, true);
            ip = f->data + f->packet.ip_offset;
            assert_int_equal(f->packet.ttl, 5);
            assert_int_equal(f->packet.tos & 0xFC, option >= 1 ? 0xB8 : 0);
            if (families[i] == 6)
                assert_int_equal((ip[1] & 0xF) << 16 | ip[2] << 8 | ip[3],
                                 option >= 2 ? 0xABCDE : 0);
            assert_int_equal(f->packet.tagged, option >= 3);
            if (option >= 3)
                assert_int_equal(f->packet.tci, 6 << 13);
            lab_settle(&lab, LAB_SEC);
        }
        assert_int_equal(pair->conn[1].head, sent);
        lab_free(&lab);
    }
}

/* rows: C194 */
static void only_cached_values(void **state)
{
    struct lab_pair *pair;
    struct host_conn *c;
    struct host_tree *t;
    const struct chimney_tcp_delegated *d;
    struct chimney_tcp_delegated before;
    const struct lab_frame *f;
    size_t mark;

    lab_init(&lab, NULL);
    pair = lab_connect(&lab, 4);
    c = &pair->conn[0];
    before = *lab_state(&lab, 0, c);
    /* Combined types with nonsense in the constant and delegated parts. */
    t = host_tree(&lab.side[0].host, TREE_UPDATE);
    host_add(t, -1, NeighborOffloadState, &lab.side[0].neighbor.object);
    host_add(t, 0, Ip4OffloadState, &lab.side[0].path4.object);
    host_add(t, 1, TcpOffloadState, &c->object);
    memset(tree_neighbor_const(t->block[0])->dl_source_address, 0x55, 6);
    tree_neighbor_const(t->block[0])->vlan_id = 9;
    memcpy(tree_neighbor_cached(t->block[0])->dl_destination_address,
           lab.side[0].neighbor.cached.dl_destination_address, 6);
    tree_path_const(t->block[1])->source_address = (const uint8_t *)"\1\2\3\4";
    tree_path_const(t->block[1])->destination_address = (const uint8_t *)"\5\6\7\10";
    tree_path_cached(t->block[1])->path_mtu = 1000;
    tree_tcp_const(t->block[2])->local_port = 1;
    tree_tcp_const(t->block[2])->flags = 0;
    tree_tcp_cached(t->block[2])->initial_rcv_wnd = LAB_RING;
    tree_tcp_cached(t->block[2])->ttl_or_hop_limit = 9;
    tree_tcp_delegated(t->block[2])->rcv_nxt = 12345;
    tree_tcp_delegated(t->block[2])->snd_una = 54321;
    host_call(t);
    lab_round(&lab);
    assert_true(t->done);
    for (int i = 0; i < 3; i++)
        assert_int_equal(t->block[i]->status, NDIS_STATUS_SUCCESS);
    c->cached = *tree_tcp_cached(t->block[2]);
    lab.side[0].path4.mtu = 1000;
    d = lab_state(&lab, 0, c);
    assert_int_equal(d->rcv_nxt, before.rcv_nxt);
    assert_int_equal(d->snd_una, before.snd_una);
    mark = lab_mark(&lab);
    lab_send(&lab, 0, pair, 3000);
    f = lab_first(&lab, mark, 0, true);
    assert_int_equal(f->packet.ttl, 9);
    assert_int_equal(f->packet.ip_len, 1000);
    assert_false(f->packet.tagged);
    assert_true(f->packet.seg.has_timestamp);
    assert_int_equal(f->packet.key.remote_port, c->constant.local_port);
    assert_memory_equal(f->packet.key.remote_addr, lab.side[0].path4.source, 4);
    assert_memory_equal(f->packet.src_mac, sim_link_port(lab.link, 0)->caps.mac, 6);
    lab_settle(&lab, LAB_SEC);
    lab_free(&lab);
}

/* rows: C32 C195 */
static void next_hop(void **state)
{
    static const uint8_t other[6] = {2, 0xAA, 0, 0, 0, 2};
    struct lab_pair *pair;
    size_t mark;

    lab_init(&lab, NULL);
    pair = lab_connect_half(&lab, 4);
    mark = lab_mark(&lab);
    lab_send(&lab, 0, pair, 10);
    assert_memory_equal(lab_first(&lab, mark, 0, true)->packet.dst_mac,
                        lab.side[0].neighbor.cached.dl_destination_address, 6);
    memcpy(lab.side[0].neighbor.cached.dl_destination_address, other, 6);
    lab_update(&lab, 0, &lab.side[0].neighbor.object);
    mark = lab_mark(&lab);
    lab_send(&lab, 0, pair, 10);
    assert_memory_equal(lab_first(&lab, mark, 0, true)->packet.dst_mac, other, 6);
    lab_free(&lab);
}

/* rows: C36 C196 */
static void path_mtu(void **state)
{
    static const uint32_t mtus[] = {600, 1500, 1280, 88};

    for (int family = 4; family <= 6; family += 2) {
        struct lab_pair *pair;
        struct host_path *p;
        uint64_t sent = 0;

        lab_init(&lab, NULL);
        pair = lab_connect(&lab, family);
        p = family == 4 ? &lab.side[0].path4 : &lab.side[0].path6;
        for (size_t i = 0; i < sizeof(mtus) / sizeof(mtus[0]); i++) {
            uint32_t longest = 0;
            size_t mark;

            if (family == 6 && mtus[i] < 1280)
                continue;
            p->mtu = mtus[i];
            lab_update(&lab, 0, &p->object);
            mark = lab_mark(&lab);
            lab_send(&lab, 0, pair, 5000);
            sent += 5000;
            lab_settle(&lab, 10 * LAB_SEC);
            for (size_t n = mark; n < lab.frame_count; n++) {
                if (lab.frames[n].end == 0 && lab.frames[n].packet.ip_len > longest)
                    longest = lab.frames[n].packet.ip_len;
            }
            assert_int_equal(longest, mtus[i]);
        }
        assert_int_equal(pair->conn[1].head, sent);
        lab_free(&lab);
    }
}

/* rows: C33 */
static void reachability_age(void **state)
{
    struct lab_pair *pair;
    struct host_tree *t;

    /* The host confirmed its neighbor 5000 ticks before the initiate. */
    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    lab.side[0].neighbor.cached.host_reachability_delta = 5000;
    lab_offload(&lab, 0, pair);
    t = lab_query(&lab, 0, NeighborOffloadCachedState, &lab.side[0].neighbor.object);
    assert_int_equal(tree_neighbor_cached(t->block[0])->host_reachability_delta, 5000);
    lab_run(&lab, 7000 * (LAB_SEC / LAB_TICKS_PER_SECOND));
    t = lab_query(&lab, 0, NeighborOffloadCachedState, &lab.side[0].neighbor.object);
    assert_int_equal(tree_neighbor_cached(t->block[0])->host_reachability_delta, 12000);
    lab_free(&lab);
}

/** Twenty connections on two paths to the same neighbor. */
static void many(struct lab_pair **pairs)
{
    lab_init(&lab, NULL);
    for (int i = 0; i < 20; i++)
        pairs[i] = lab_connect_half(&lab, i & 1 ? 6 : 4);
}

/** Every connection sends a byte; all of them go to @mac. */
static void all_go_to(struct lab_pair **pairs, const uint8_t *mac)
{
    for (int i = 0; i < 20; i++) {
        size_t mark = lab_mark(&lab);

        lab_send(&lab, 0, pairs[i], 10);
        assert_memory_equal(lab_first(&lab, mark, 0, true)->packet.dst_mac, mac, 6);
    }
}

/* rows: C200 C202 */
static void relink(void **state)
{
    static const uint8_t other[6] = {2, 0xBB, 0, 0, 0, 3};
    struct lab_side *side = &lab.side[0];
    struct lab_pair *pairs[20];
    struct host_neighbor next;
    struct host_tree *t;
    struct target_info info;
    size_t mark;

    many(pairs);
    all_go_to(pairs, side->neighbor.cached.dl_destination_address);

    /* The router fails: invalidate the old neighbor; nothing leaves over it any more. */
    lab_invalidate(&lab, 0, &side->neighbor.object);
    /* The new one is offloaded, alone. */
    host_neighbor_init(&next, other);
    t = host_tree(&side->host, TREE_INITIATE);
    host_add_object(t, -1, &next.object);
    host_call(t);
    lab_round(&lab);
    assert_int_equal(t->block[0]->status, NDIS_STATUS_SUCCESS);
    /* One call moves both paths. */
    t = host_tree(&side->host, TREE_UPDATE);
    host_add(t, -1, NeighborOffloadConstState, &next.object);
    host_add(t, 0, Ip4OffloadConstState, &side->path4.object);
    host_add(t, 0, Ip6OffloadConstState, &side->path6.object);
    mark = lab_mark(&lab);
    host_call(t);
    lab_round(&lab);
    for (int i = 0; i < 3; i++)
        assert_int_equal(t->block[i]->status, NDIS_STATUS_SUCCESS);
    /* The old one goes: nothing depends on it any more. */
    t = lab_terminate(&lab, 0, &side->neighbor.object);
    assert_int_equal(t->block[0]->status, NDIS_STATUS_SUCCESS);
    target_get_info(side->target, &info);
    assert_int_equal(info.neighbors, 1);
    for (size_t i = mark; i < lab.frame_count; i++) {
        if (lab.frames[i].end == 0)
            assert_memory_equal(lab.frames[i].packet.dst_mac, other, 6);
    }
    /*
     * Without an invalidate in between traffic goes on at once; here the connections had been asked
     * for by InvalidState, so they come up first.
     */
    for (int i = 0; i < 20; i++) {
        t = lab_terminate(&lab, 0, &pairs[i]->conn[0].object);
        lab_take_back(&pairs[i]->conn[0], t);
    }
    lab_terminate(&lab, 0, &side->path4.object);
    lab_terminate(&lab, 0, &side->path6.object);
    lab_terminate(&lab, 0, &next.object);
    lab_free(&lab);

    /* The same without an invalidate: nobody is asked for, all move. */
    many(pairs);
    host_neighbor_init(&next, other);
    t = host_tree(&side->host, TREE_INITIATE);
    host_add_object(t, -1, &next.object);
    host_call(t);
    lab_round(&lab);
    t = host_tree(&side->host, TREE_UPDATE);
    host_add(t, -1, NeighborOffloadConstState, &next.object);
    host_add(t, 0, Ip4OffloadConstState, &side->path4.object);
    host_add(t, 0, Ip6OffloadConstState, &side->path6.object);
    host_call(t);
    lab_round(&lab);
    all_go_to(pairs, other);
    lab_terminate(&lab, 0, &side->neighbor.object);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(lab_retrieved(&lab, 0, &pairs[i]->conn[0]), 0);
        lab_terminate(&lab, 0, &pairs[i]->conn[0].object);
    }
    lab_terminate(&lab, 0, &side->path4.object);
    lab_terminate(&lab, 0, &side->path6.object);
    lab_terminate(&lab, 0, &next.object);
    lab_free(&lab);
}

/* rows: C201 */
static void never_to_another_path(void **state)
{
    struct lab_pair *four, *six;
    struct host_tree *t;
    size_t mark;

    lab_init_with(&lab, NULL, LAB_MTU, true);
    four = lab_connect_half(&lab, 4);
    six = lab_connect_half(&lab, 6);
    t = host_tree(&lab.side[0].host, TREE_UPDATE);
    host_add(t, -1, Ip6OffloadConstState, &lab.side[0].path6.object);
    host_add(t, 0, TcpOffloadConstState, &four->conn[0].object);
    host_call(t);
    lab_round(&lab);
    assert_int_equal(t->block[1]->status, NDIS_STATUS_FAILURE);
    mark = lab_mark(&lab);
    lab_send(&lab, 0, four, 10);
    lab_send(&lab, 0, six, 10);
    assert_int_equal(lab_first(&lab, mark, 0, true)->packet.key.family, 4);
    assert_int_equal(lab_last(&lab, mark, 0, true)->packet.key.family, 6);
    lab_free(&lab);
}

/* rows: C203 C137 */
static void failed_update(void **state)
{
    struct lab_pair *pair;
    struct host_conn *c;
    struct host_tree *t;
    size_t mark;

    lab_init(&lab, NULL);
    pair = lab_connect(&lab, 4);
    c = &pair->conn[0];
    lab_send(&lab, 0, pair, 50000);
    lab.side[0].fault = TARGET_FAULT_UPDATE;
    lab.side[0].fault_layer = TREE_TCP;
    lab.side[0].fault_left = 1;
    c->cached.ttl_or_hop_limit = 3;
    t = lab_update(&lab, 0, &c->object);
    assert_int_equal(t->block[0]->status, NDIS_STATUS_FAILURE);
    c->cached.ttl_or_hop_limit = 64;
    /* The target goes on as before ... */
    mark = lab_mark(&lab);
    lab_send(&lab, 0, pair, 50000);
    lab_settle(&lab, 10 * LAB_SEC);
    assert_int_equal(lab_first(&lab, mark, 0, true)->packet.ttl, 64);
    assert_int_equal(pair->conn[1].head, 100000);
    /* ... until the host terminates what could not be updated. */
    t = lab_terminate(&lab, 0, &c->object);
    assert_int_equal(t->block[0]->status, NDIS_STATUS_SUCCESS);
    lab_take_back(c, t);
    lab_offload(&lab, 0, pair);
    lab_send(&lab, 0, pair, 1000);
    lab_settle(&lab, LAB_SEC);
    assert_int_equal(pair->conn[1].head, 101000);
    lab_free(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keepalive_on_and_off),
        cmocka_unit_test(keepalive_times),
        cmocka_unit_test(keepalive_restart),
        cmocka_unit_test(nagle),
        cmocka_unit_test(retransmission_time_restart),
        cmocka_unit_test(longest_retransmission),
        cmocka_unit_test(receive_window),
        cmocka_unit_test(header_fields),
        cmocka_unit_test(only_cached_values),
        cmocka_unit_test(next_hop),
        cmocka_unit_test(path_mtu),
        cmocka_unit_test(reachability_age),
        cmocka_unit_test(relink),
        cmocka_unit_test(never_to_another_path),
        cmocka_unit_test(failed_update),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
