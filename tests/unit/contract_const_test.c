/* SPDX-License-Identifier: Apache-2.0 */
/* What constant state of neighbor, path and connection looks like on the wire (group B). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "contract_lab.h"

static struct lab lab;

/* rows: C29 C171 */
static void source_mac(void **state)
{
    struct lab_side *side = &lab.side[0];
    struct lab_pair *pair;
    struct host_tree *t;
    size_t mark;

    /* Not given: the interface's own. */
    lab_init(&lab, NULL);
    pair = lab_connect_half(&lab, 4);
    mark = lab_mark(&lab);
    lab_send(&lab, 0, pair, 10);
    assert_memory_equal(lab_first(&lab, mark, 0, true)->packet.src_mac,
                        sim_link_port(lab.link, 0)->caps.mac, 6);
    lab_free(&lab);

    /* Given, and one the interface has. */
    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    memcpy(side->neighbor.constant.dl_source_address, sim_link_port(lab.link, 0)->caps.mac, 6);
    lab_offload(&lab, 0, pair);
    assert_int_equal(pair->conn[0].object.state, CHIMNEY_OFFLOADED);
    mark = lab_mark(&lab);
    lab_send(&lab, 0, pair, 10);
    assert_memory_equal(lab_first(&lab, mark, 0, true)->packet.src_mac,
                        side->neighbor.constant.dl_source_address, 6);
    lab_free(&lab);

    /* Given, and foreign: the neighbor fails with its own code, and all that hangs on it. */
    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    memcpy(side->neighbor.constant.dl_source_address, "\x02\x33\x44\x55\x66\x77", 6);
    t = lab_offload(&lab, 0, pair);
    assert_int_equal(t->block[0]->status, NDIS_STATUS_OFFLOAD_HW_ADDRESS_ENTRIES);
    assert_int_equal(t->block[1]->status, NDIS_STATUS_FAILURE);
    assert_int_equal(t->block[2]->status, NDIS_STATUS_FAILURE);
    lab_free(&lab);
}

/* rows: C30 */
static void multicast_is_received(void **state)
{
    static const uint8_t group[6] = {0x01, 0, 0x5e, 0, 0, 1};
    struct lab_pair *pair;
    struct lab_segment s;

    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    memcpy(lab.side[0].neighbor.constant.dl_source_address, sim_link_port(lab.link, 0)->caps.mac,
           6);
    lab_offload(&lab, 0, pair);
    s = lab_peer(&lab, pair);
    memcpy(s.route.dst_mac, group, 6);
    lab_peer_send(&lab, pair, &s, 300);
    lab_run(&lab, 10 * LAB_MSEC);
    assert_int_equal(pair->conn[0].head, 300);
    lab_free(&lab);
}

/* rows: C31 C57 */
static void vlan_and_priority(void **state)
{
    /* contract.md 6.4: no tag without id and priority, a tag with either. */
    static const struct {
        uint16_t vlan;
        uint8_t priority;
        bool tagged;
    } table[] = {{0, 0, false}, {0, 5, true}, {77, 0, true}, {4095, 7, true}};

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct lab_pair *pair;
        const struct lab_frame *f;
        struct lab_segment s;
        size_t mark;

        lab_init(&lab, NULL);
        pair = lab_pair(&lab, 4);
        lab.side[0].neighbor.constant.vlan_id = table[i].vlan;
        pair->conn[0].cached.user_priority = table[i].priority;
        lab_offload(&lab, 0, pair);
        mark = lab_mark(&lab);
        lab_send(&lab, 0, pair, 10);
        f = lab_first(&lab, mark, 0, true);
        assert_int_equal(f->packet.tagged, table[i].tagged);
        if (table[i].tagged)
            assert_int_equal(f->packet.tci, table[i].priority << 13 | table[i].vlan);

        /* Received: id 0 filters nothing; otherwise only frames of that VLAN count. */
        s = lab_peer(&lab, pair);
        s.route.tagged = true;
        s.route.tci = 78;
        lab_peer_send(&lab, pair, &s, 100);
        lab_run(&lab, 10 * LAB_MSEC);
        assert_int_equal(pair->conn[0].head, table[i].vlan == 0 ? 100 : 0);
        s = lab_peer(&lab, pair);
        s.route.tagged = table[i].tagged;
        s.route.tci = table[i].vlan;
        lab_peer_send(&lab, pair, &s, 100);
        lab_run(&lab, 10 * LAB_MSEC);
        assert_int_equal(pair->conn[0].head, table[i].vlan == 0 ? 200 : 100);
        lab_free(&lab);
    }
}

/* rows: C35 C41 */
static void addresses_and_ports(void **state)
{
    static const int families[] = {4, 6};

    for (int i = 0; i < 2; i++) {
        struct lab_side *side = &lab.side[0];
        struct host_path *p;
        struct lab_pair *pair;
        const struct lab_frame *f;
        uint16_t raw[2];
        size_t at, mark;
        uint32_t bytes = families[i] == 4 ? 4 : 16;

        lab_init(&lab, NULL);
        pair = lab_pair(&lab, families[i]);
        p = families[i] == 4 ? &side->path4 : &side->path6;
        for (uint32_t b = 0; b < bytes; b++) {
            p->source[b] = (uint8_t)(0x20 + b);
            p->destination[b] = (uint8_t)(0x50 + b);
        }
        lab_offload(&lab, 0, pair);
        mark = lab_mark(&lab);
        lab_send(&lab, 0, pair, 10);
        f = lab_first(&lab, mark, 0, true);
        at = 14 + (families[i] == 4 ? 12 : 8);
        assert_memory_equal(f->data + at, p->source, bytes);
        assert_memory_equal(f->data + at + bytes, p->destination, bytes);
        /* 40000 and 80: neither is the same with its bytes exchanged. */
        memcpy(raw, f->data + f->packet.tcp_offset, 4);
        assert_int_equal(raw[0], pair->conn[0].constant.local_port);
        assert_int_equal(raw[1], pair->conn[0].constant.remote_port);
        assert_int_equal(f->data[f->packet.tcp_offset] << 8 | f->data[f->packet.tcp_offset + 1],
                         40000);
        assert_int_equal(f->data[f->packet.tcp_offset + 3], 80);
        lab_free(&lab);
    }
}

/** Largest IP packet and largest payload of @end since @from. */
static void largest(size_t from, int end, uint32_t *ip, uint32_t *payload, uint32_t *tcp)
{
    *ip = *payload = *tcp = 0;
    for (size_t i = from; i < lab.frame_count; i++) {
        const struct lab_frame *f = &lab.frames[i];
        uint32_t options;

        if (f->end != end || f->status != WIRE_OK)
            continue;
        options = wire_option_bytes(f->packet.seg.has_timestamp, f->packet.seg.sack_count);
        *ip = f->packet.ip_len > *ip ? f->packet.ip_len : *ip;
        *payload = f->packet.seg.len > *payload ? f->packet.seg.len : *payload;
        *tcp = f->packet.seg.len + options > *tcp ? f->packet.seg.len + options : *tcp;
    }
}

/* rows: C36 C43 */
static void segment_sizes(void **state)
{
    /* The smaller of path MTU and the peer's MSS bounds every segment, options included. */
    static const struct {
        int family;
        uint32_t mtu;
        uint16_t mss;
        uint32_t payload; /* largest with timestamps */
    } table[] = {
        {4, 1500, 1460, 1448}, {4, 1500, 536, 524},   {4, 600, 1460, 548}, {4, 9000, 8960, 8948},
        {6, 1500, 1440, 1428}, {6, 1280, 1440, 1208}, {4, 1500, 88, 76},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct lab_pair *pair;
        uint32_t ip, payload, tcp;
        size_t mark;

        lab_init_with(&lab, NULL, 9000, false);
        pair = lab_pair(&lab, table[i].family);
        lab.side[0].path4.mtu = lab.side[0].path6.mtu = table[i].mtu;
        pair->conn[0].constant.remote_mss = table[i].mss;
        lab_offload_both(&lab, pair);
        mark = lab_mark(&lab);
        lab_send(&lab, 0, pair, 30000);
        lab_settle(&lab, 10 * LAB_SEC);
        largest(mark, 0, &ip, &payload, &tcp);
        assert_true(ip <= table[i].mtu);
        assert_true(tcp <= table[i].mss);
        assert_int_equal(payload, table[i].payload);
        assert_int_equal(pair->conn[1].head, 30000);
        lab_free(&lab);
    }
}

/* rows: C38 */
static void timestamps(void **state)
{
    for (int on = 0; on < 2; on++) {
        struct lab_pair *pair;

        lab_init(&lab, NULL);
        pair = lab_pair(&lab, 4);
        for (int end = 0; end < 2; end++) {
            pair->conn[end].constant.flags &= (uint16_t)~CHIMNEY_TCP_TIMESTAMP_ENABLED;
            if (on)
                pair->conn[end].constant.flags |= CHIMNEY_TCP_TIMESTAMP_ENABLED;
        }
        lab_offload_both(&lab, pair);
        lab_send(&lab, 0, pair, 20000);
        lab_send(&lab, 1, pair, 20000);
        lab_settle(&lab, 10 * LAB_SEC);
        host_disconnect(&lab.side[0].host, &pair->conn[0], TCP_DISCONNECT_GRACEFUL_CLOSE);
        lab_run(&lab, LAB_SEC);
        assert_true(lab_count(&lab, 0, 0, false) > 10);
        for (size_t i = 0; i < lab.frame_count; i++) {
            if (lab.frames[i].status == WIRE_OK)
                assert_int_equal(lab.frames[i].packet.seg.has_timestamp, on);
        }
        lab_free(&lab);
    }
}

/* rows: C39 */
static void selective_acknowledgement(void **state)
{
    for (int on = 0; on < 2; on++) {
        struct lab_pair *pair;
        struct lab_segment s;
        uint32_t una, mss = 1448;
        size_t mark;
        int twice = 0;

        lab_init(&lab, NULL);
        pair = lab_pair(&lab, 4);
        pair->conn[0].constant.flags &= (uint16_t)~CHIMNEY_TCP_SACK_ENABLED;
        if (on)
            pair->conn[0].constant.flags |= CHIMNEY_TCP_SACK_ENABLED;
        pair->conn[0].delegated.cwnd = 10 * mss;
        lab_offload(&lab, 0, pair);

        /* As sender: segments 1 and 4 of ten are lost; with blocks only these two go again. */
        mark = lab_mark(&lab);
        una = pair->conn[0].delegated.snd_una;
        lab_send(&lab, 0, pair, 10 * mss);
        assert_int_equal(lab_count(&lab, mark, 0, true), 10);
        mark = lab_mark(&lab);
        for (uint32_t i = 2; i < 10; i++) {
            if (i == 4)
                continue;
            s = lab_peer(&lab, pair);
            s.seg.ack = una + mss;
            if (on) {
                s.seg.sack_count = i < 4 ? 1 : 2;
                s.seg.sack[0] =
                    (struct tcp_sack_range){una + (i < 4 ? 2 : 5) * mss, una + (i + 1) * mss};
                s.seg.sack[1] = (struct tcp_sack_range){una + 2 * mss, una + 4 * mss};
            }
            lab_peer_send(&lab, pair, &s, 0);
            lab_run(&lab, 2 * LAB_MSEC);
        }
        for (size_t i = mark; i < lab.frame_count; i++) {
            const struct tcp_segment *seg = &lab.frames[i].packet.seg;

            if (lab.frames[i].end != 0 || seg->len == 0)
                continue;
            twice++;
            if (on)
                assert_true(seg->seq == una + mss || seg->seq == una + 4 * mss);
        }
        assert_int_equal(twice, on ? 2 : 1); /* without blocks the second hole is not known yet */

        /* As receiver: a hole in front of what comes in is told by blocks, or is not. */
        mark = lab_mark(&lab);
        lab_peer_data(&lab, pair, pair->conn[0].delegated.rcv_nxt + 1000, 500);
        lab_run(&lab, 100 * LAB_MSEC);
        assert_int_equal(lab_last(&lab, mark, 0, false)->packet.seg.sack_count, on);
        if (on) {
            assert_int_equal(lab_last(&lab, mark, 0, false)->packet.seg.sack[0].left,
                             pair->conn[0].delegated.rcv_nxt + 1000);
            assert_int_equal(lab_last(&lab, mark, 0, false)->packet.seg.sack[0].right,
                             pair->conn[0].delegated.rcv_nxt + 1500);
        }
        lab_free(&lab);
    }
}

/* rows: C40 C42 C50 */
static void window_scaling(void **state)
{
    static const struct {
        bool on;
        uint8_t snd, rcv;
        uint32_t window; /* ours */
        uint16_t raw;    /* on the wire */
        uint16_t peer;   /* the peer's field */
    } table[] = {
        {true, 7, 7, 1u << 18, 2048, 40},
        {true, 0, 4, 1u << 18, 16384, 5000},
        {true, 14, 2, 1u << 17, 32768, 1},
        {false, 0, 0, 60000, 60000, 3000},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct lab_pair *pair;
        struct host_conn *c;
        const struct lab_frame *f;
        struct lab_segment s;
        uint32_t allowed, sent;
        size_t mark;

        lab_init(&lab, NULL);
        pair = lab_pair(&lab, 4);
        c = &pair->conn[0];
        if (!table[i].on)
            c->constant.flags &= (uint16_t)~CHIMNEY_TCP_WINDOW_SCALING_ENABLED;
        c->constant.snd_wind_scale = table[i].snd;
        c->constant.rcv_wind_scale = table[i].rcv;
        c->cached.initial_rcv_wnd = c->delegated.rcv_wnd = table[i].window;
        c->delegated.cwnd = 1u << 20;
        lab_offload(&lab, 0, pair);
        mark = lab_mark(&lab);
        /* A keepalive probe asks for nothing but an acknowledgement. */
        lab_peer_data(&lab, pair, c->delegated.rcv_nxt - 1, 1);
        lab_run(&lab, LAB_SEC);
        f = lab_last(&lab, mark, 0, false);
        assert_int_equal(f->packet.seg.window, table[i].raw);

        /* The peer's field means its value shifted by ours for sending: not a byte beyond. */
        s = lab_peer(&lab, pair);
        s.seg.window = table[i].peer;
        lab_peer_send(&lab, pair, &s, 1); /* new data: the window may be a smaller one */
        lab_run(&lab, 10 * LAB_MSEC);
        allowed = (uint32_t)table[i].peer << table[i].snd;
        mark = lab_mark(&lab);
        lab_send(&lab, 0, pair, LAB_RING);
        sent = 0;
        for (size_t n = mark; n < lab.frame_count; n++) {
            const struct tcp_segment *seg = &lab.frames[n].packet.seg;

            if (lab.frames[n].end == 0 && seg->len)
                sent = seg->seq + seg->len - c->delegated.snd_una;
        }
        assert_true(sent <= allowed);
        if (allowed < 10 * 1448) /* else the restart window after the idle time bounds it */
            assert_true(sent + 1448 > allowed);
        lab_free(&lab);
    }
}

/* rows: C253 C252 */
static void ip_header(void **state)
{
    struct lab_pair *pair;

    lab_init(&lab, NULL);
    pair = lab_connect(&lab, 4);
    lab_send(&lab, 0, pair, 100000);
    lab_settle(&lab, 10 * LAB_SEC);
    for (size_t i = 0; i < lab.frame_count; i++) {
        const uint8_t *ip = lab.frames[i].data + 14;

        assert_int_equal(ip[6] & 0xE0, 0x40); /* do not fragment, no fragment follows */
        assert_true(ip[4] & 0x80);            /* the upper half of the identifications */
    }
    lab_free(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(source_mac),
        cmocka_unit_test(multicast_is_received),
        cmocka_unit_test(vlan_and_priority),
        cmocka_unit_test(addresses_and_ports),
        cmocka_unit_test(segment_sizes),
        cmocka_unit_test(timestamps),
        cmocka_unit_test(selective_acknowledgement),
        cmocka_unit_test(window_scaling),
        cmocka_unit_test(ip_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
