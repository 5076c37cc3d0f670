/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software target under the verifier: who owns what, what objects are made of and how they hang
 * together (groups A, B and C of the contract).
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

/** Puts a frame of @length bytes with this Ethernet type from the peer and expects it on top,
 * whole. */
static void surfaces(const uint8_t *frame, uint32_t length)
{
    struct host *h = &lab.side[0].host;
    size_t before = h->frame_count, mark = lab_mark(&lab);

    lab_put(&lab, frame, length);
    lab_run(&lab, 10 * LAB_MSEC);
    assert_int_equal(h->frame_count, before + 1);
    assert_int_equal(h->frames[before].length, length);
    assert_memory_equal(h->frames[before].data, frame, length);
    assert_int_equal(lab_count(&lab, mark, 0, false), 0);
}

/* rows: C1 C325 C326 */
static void what_stays_with_the_host(void **state)
{
    static const uint8_t ethernet[12] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
    struct lab_pair *pair;
    struct lab_segment s;
    uint8_t frame[256];
    size_t length;

    lab_init(&lab, NULL);
    pair = lab_connect_half(&lab, 4);

    /* ARP, ICMP, ICMPv6, UDP (RIP). */
    memset(frame, 0, sizeof(frame));
    memcpy(frame, ethernet, sizeof(ethernet));
    frame[12] = 0x08;
    frame[13] = 0x06;
    surfaces(frame, 60);
    s = lab_peer(&lab, pair);
    s.seg.flags = TCP_ACK;
    length = wire_build(frame, sizeof(frame), &s.route, &s.seg, false);
    frame[14 + 9] = 1; /* ICMP, with a checksum to match */
    frame[14 + 10] = frame[14 + 11] = 0;
    {
        uint16_t sum = wire_fold(wire_sum(frame + 14, 20, 0));
        memcpy(frame + 14 + 10, &sum, 2);
    }
    surfaces(frame, (uint32_t)length);

    /* A SYN for a new connection, also to the port of an offloaded one. */
    s = lab_peer(&lab, pair);
    s.route.key.local_port ^= 0xFF;
    s.seg.flags = TCP_SYN;
    s.seg.ack = 0;
    length = wire_build(frame, sizeof(frame), &s.route, &s.seg, false);
    surfaces(frame, (uint32_t)length);

    /* IPv4 options, and a fragment, of the offloaded connection itself (C325, C326). */
    s = lab_peer(&lab, pair);
    length = wire_build(frame, sizeof(frame), &s.route, &s.seg, false);
    memmove(frame + 14 + 24, frame + 14 + 20, length - 14 - 20);
    frame[14] = 0x46;
    memset(frame + 14 + 20, 1, 4); /* four no-operations */
    frame[14 + 3] = (uint8_t)(length - 14 + 4);
    frame[14 + 10] = frame[14 + 11] = 0;
    {
        uint16_t sum = wire_fold(wire_sum(frame + 14, 24, 0));
        memcpy(frame + 14 + 10, &sum, 2);
    }
    surfaces(frame, (uint32_t)length + 4);
    s = lab_peer(&lab, pair);
    length = wire_build(frame, sizeof(frame), &s.route, &s.seg, false);
    frame[14 + 6] = 0x20; /* more fragments follow */
    frame[14 + 10] = frame[14 + 11] = 0;
    {
        uint16_t sum = wire_fold(wire_sum(frame + 14, 20, 0));
        memcpy(frame + 14 + 10, &sum, 2);
    }
    surfaces(frame, (uint32_t)length);
    lab_free(&lab);
}

/* rows: C3 */
static void all_interfaces_in_one_run(void **state)
{
    const struct host *h = &lab.side[0].host;
    static const uint8_t arp[60] = {[12] = 0x08, [13] = 0x06};
    struct lab_pair *pair;

    lab_init(&lab, NULL);
    pair = lab_connect(&lab, 4);
    lab_send(&lab, 0, pair, 1000);
    lab_send(&lab, 1, pair, 1000);
    lab_put(&lab, arp, sizeof(arp));
    lab_run(&lab, LAB_SEC);
    lab_retrieve(&lab, 0, &pair->conn[0], LowActivity);
    assert_non_null(host_find(h, 0, LOG_DONE, NULL));               /* state manipulation */
    assert_non_null(host_find(h, 0, LOG_SENT, &pair->conn[0]));     /* data */
    assert_non_null(host_find(h, 0, LOG_INDICATE, &pair->conn[0])); /* data */
    assert_non_null(host_find(h, 0, LOG_EVENT, &pair->conn[0]));    /* events */
    assert_non_null(host_find(h, 0, LOG_FRAME, NULL));              /* the non-offload path */
    lab_free(&lab);
}

static void poison(struct chimney_block *block)
{
    size_t headers = sizeof(struct chimney_state_header);
    struct chimney_tcp_const *k = tree_tcp_const(block);
    struct chimney_tcp_cached *c = tree_tcp_cached(block);
    struct chimney_tcp_delegated *d = tree_tcp_delegated(block);

    if (k)
        memset((uint8_t *)k + headers, 0xA5, sizeof(*k) - headers);
    if (c)
        memset((uint8_t *)c + headers, 0xA5, sizeof(*c) - headers);
    if (d)
        memset((uint8_t *)d + headers, 0xA5, sizeof(*d) - headers);
}

/* rows: C4 C5 C6 C7 C190 */
static void three_classes(void **state)
{
    struct host_conn *c, *d;
    struct lab_pair *pair;
    struct host_tree *t, *again;
    const struct chimney_tcp_delegated *before, *after;

    lab_init(&lab, NULL);
    pair = lab_connect(&lab, 4);
    c = &pair->conn[0];
    d = &lab_connect(&lab, 4)->conn[0];
    before = lab_state(&lab, 0, c);
    lab_send(&lab, 0, pair, 5000);
    lab_send(&lab, 1, pair, 3000);
    lab_settle(&lab, LAB_SEC);
    c->cached.ttl_or_hop_limit = 17;
    c->cached.max_rt = 1234567;
    lab_update(&lab, 0, &c->object);

    /* One tree with all classes of all layers, every area poisoned, a second object unasked. */
    t = host_tree(&lab.side[0].host, TREE_QUERY);
    host_add(t, -1, NeighborOffloadState, &lab.side[0].neighbor.object);
    host_add(t, 0, Ip4OffloadState, &lab.side[0].path4.object);
    host_add(t, 1, TcpOffloadConstState, &c->object);
    host_add(t, 1, TcpOffloadCachedState, &c->object);
    host_add(t, 1, TcpOffloadDelegatedState, &c->object);
    host_add(t, 1, TcpOffloadState, NULL); /* a placeholder: nothing is filled in behind it */
    for (int i = 0; i < t->count; i++)
        poison(t->block[i]);
    tree_path_cached(t->block[1])->path_mtu = 0xA5A5A5A5;
    host_call(t);
    lab_round(&lab);
    assert_true(t->done);

    /* Constant: what was offloaded, whatever went over the wire. */
    assert_memory_equal(&tree_tcp_const(t->block[2])->flags, &c->constant.flags, 2);
    assert_int_equal(tree_tcp_const(t->block[2])->local_port, c->constant.local_port);
    assert_int_equal(tree_tcp_const(t->block[2])->remote_port, c->constant.remote_port);
    assert_int_equal(tree_tcp_const(t->block[2])->snd_wind_scale, c->constant.snd_wind_scale);
    assert_int_equal(tree_tcp_const(t->block[2])->rcv_wind_scale, c->constant.rcv_wind_scale);
    assert_int_equal(tree_tcp_const(t->block[2])->remote_mss, c->constant.remote_mss);
    assert_int_equal(tree_tcp_const(t->block[2])->hash_value, c->constant.hash_value);
    assert_ptr_equal(tree_tcp_const(t->block[2])->send_stream.base, c->constant.send_stream.base);
    assert_memory_equal(tree_path_const(t->block[1])->source_address, lab.side[0].path4.source, 4);
    assert_memory_equal(tree_path_const(t->block[1])->destination_address,
                        lab.side[0].path4.destination, 4);
    /* Cached: the last update. */
    assert_int_equal(tree_tcp_cached(t->block[3])->ttl_or_hop_limit, 17);
    assert_int_equal(tree_tcp_cached(t->block[3])->max_rt, 1234567);
    assert_int_equal(tree_tcp_cached(t->block[3])->initial_rcv_wnd, c->cached.initial_rcv_wnd);
    assert_int_equal(tree_path_cached(t->block[1])->path_mtu, LAB_MTU);
    assert_memory_equal(tree_neighbor_cached(t->block[0])->dl_destination_address,
                        lab.side[0].neighbor.cached.dl_destination_address, 6);
    /* Delegated: it moved with the traffic. */
    after = tree_tcp_delegated(t->block[4]);
    assert_int_equal(after->snd_una, before->snd_una + 5000);
    assert_int_equal(after->rcv_nxt, before->rcv_nxt + 3000);
    assert_int_equal(after->state, TcpConnectionEstablished);
    /* Nothing behind the placeholder. */
    assert_int_equal(tree_tcp_const(t->block[5])->hash_value, 0xA5A5A5A5);
    assert_int_equal(tree_tcp_delegated(t->block[5])->rcv_nxt, 0xA5A5A5A5);
    for (int i = 0; i < t->count; i++)
        assert_int_equal(t->block[i]->status, NDIS_STATUS_SUCCESS);

    /* The terminate returns the last values of the delegated class and no other (C227). */
    again = lab_terminate(&lab, 0, &c->object);
    assert_int_equal(tree_tcp_delegated(again->block[0])->snd_una, after->snd_una);
    assert_int_equal(tree_tcp_delegated(again->block[0])->rcv_nxt, after->rcv_nxt);
    assert_null(tree_tcp_const(again->block[0]));
    /* The other connection was not touched by any of it. */
    assert_int_equal(lab_state(&lab, 0, d)->snd_una, d->delegated.snd_una);
    lab_free(&lab);
}

static void states_inside(struct host *h, const struct log_entry *entry)
{
    struct host_conn *c = h->inside_arg;

    if (entry->kind == LOG_DONE)
        assert_int_equal(c->object.state,
                         entry->verb == TREE_TERMINATE ? CHIMNEY_IN_HOST : CHIMNEY_OFFLOADED);
}

/* rows: C8 */
static void four_states(void **state)
{
    struct host *h = &lab.side[0].host;
    struct lab_pair *pair;
    struct host_conn *c;
    struct host_object *object;

    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    c = &pair->conn[0];
    object = &c->object;
    h->inside = states_inside;
    h->inside_arg = c;
    assert_int_equal(c->object.state, CHIMNEY_IN_HOST);
    host_offload(h, &c, 1);
    assert_int_equal(c->object.state, CHIMNEY_OFFLOADING);
    lab_round(&lab);
    assert_int_equal(c->object.state, CHIMNEY_OFFLOADED);
    host_terminate(h, &object, 1);
    assert_int_equal(c->object.state, CHIMNEY_UPLOADING);
    lab_round(&lab);
    assert_int_equal(c->object.state, CHIMNEY_IN_HOST);
    /* An offload that fails leaves it where it was. */
    lab.side[0].rejected = &c->object;
    h->inside = NULL;
    host_offload(h, &c, 1);
    assert_int_equal(c->object.state, CHIMNEY_OFFLOADING);
    lab_round(&lab);
    assert_int_equal(c->object.state, CHIMNEY_IN_HOST);
    lab_free(&lab);
}

/* rows: C9 */
static void terminate_is_not_close(void **state)
{
    struct target_config config = {.fin_policy = TCP_FIN_CONSUME};
    struct lab_pair *pair;
    struct host_conn *c;
    struct host_tree *t;

    lab_init(&lab, &config);
    /* Uploaded, goes on, closed later. */
    pair = lab_connect(&lab, 4);
    c = &pair->conn[0];
    lab_send(&lab, 0, pair, 10000);
    lab_run(&lab, 3 * LAB_MSEC);
    t = lab_terminate(&lab, 0, &c->object);
    assert_int_equal(tree_tcp_delegated(t->block[0])->state, TcpConnectionEstablished);
    lab_take_back(c, t);
    lab_offload(&lab, 0, pair);
    lab_send(&lab, 0, pair, 10000);
    lab_settle(&lab, 10 * LAB_SEC);
    host_disconnect(&lab.side[0].host, c, TCP_DISCONNECT_GRACEFUL_CLOSE);
    lab_run(&lab, LAB_SEC);
    assert_int_equal(host_last(&lab.side[0].host, LOG_DISCONNECTED, c)->status,
                     NDIS_STATUS_SUCCESS);
    assert_int_equal(host_last(&lab.side[1].host, LOG_EVENT, &pair->conn[1])->status,
                     TcpIndicateDisconnect);
    assert_int_equal(pair->conn[1].base_in + pair->conn[1].head, 20000);
    /* Closed, uploaded later: in the state the close led to. */
    t = lab_terminate(&lab, 0, &c->object);
    assert_int_equal(tree_tcp_delegated(t->block[0])->state, TcpConnectionFinWait2);
    t = lab_terminate(&lab, 1, &pair->conn[1].object);
    assert_int_equal(tree_tcp_delegated(t->block[0])->state, TcpConnectionCloseWait);
    lab_free(&lab);
}

/* rows: C11 C12 C18 C107 C108 */
static void sharing(void **state)
{
    struct lab_side *side = &lab.side[0];
    struct lab_pair *four, *four_too, *six;
    struct host_object *path4 = &side->path4.object, *neighbor = &side->neighbor.object;
    struct host_tree *t;
    struct target_info info;

    lab_init(&lab, NULL);
    four = lab_connect(&lab, 4);
    target_get_info(side->target, &info);
    assert_int_equal(info.neighbors + info.paths + info.connections, 3);
    /* The second hangs on what is there (references), the third brings a path of its own. */
    four_too = lab_connect(&lab, 4);
    target_get_info(side->target, &info);
    assert_int_equal(info.paths, 1);
    assert_int_equal(info.connections, 2);
    six = lab_connect(&lab, 6);
    target_get_info(side->target, &info);
    assert_int_equal(info.neighbors, 1);
    assert_int_equal(info.paths, 2);
    assert_int_equal(info.connections, 3);
    /* Every context is another one. */
    assert_ptr_not_equal(four->conn[0].object.cell.context, four_too->conn[0].object.cell.context);
    assert_ptr_not_equal(four->conn[0].object.cell.context, six->conn[0].object.cell.context);
    /* Each segment carries the headers of its own path. */
    for (int i = 0; i < lab.pair_count; i++) {
        struct host_conn *c = &lab.pairs[i]->conn[0];
        const struct host_path *p = (const struct host_path *)c->object.parent;
        size_t mark = lab_mark(&lab);
        const struct lab_frame *f;

        lab_send(&lab, 0, lab.pairs[i], 100);
        f = lab_first(&lab, mark, 0, true);
        assert_int_equal(f->packet.key.family, p->family);
        assert_int_equal(f->packet.key.local_port, c->constant.remote_port);
        assert_memory_equal(f->packet.key.remote_addr, p->source, p->family == 4 ? 4 : 16);
        assert_memory_equal(f->packet.dst_mac, side->neighbor.cached.dl_destination_address, 6);
    }
    lab_settle(&lab, LAB_SEC);

    /* Up in the right order: a path after its connections, the neighbor together with the rest. */
    lab_terminate(&lab, 0, &four->conn[0].object);
    lab_terminate(&lab, 0, &four_too->conn[0].object);
    lab_terminate(&lab, 0, path4);
    target_get_info(side->target, &info);
    assert_int_equal(info.paths, 1);
    assert_int_equal(info.neighbors, 1);
    t = host_terminate(
        &side->host, (struct host_object *[]){neighbor, &side->path6.object, &six->conn[0].object},
        3);
    lab_round(&lab);
    assert_true(t->done);
    for (int i = 0; i < t->count; i++)
        assert_int_equal(t->block[i]->status, NDIS_STATUS_SUCCESS);
    target_get_info(side->target, &info);
    assert_int_equal(info.neighbors + info.paths + info.connections, 0);
    lab_free(&lab);
}

/**
 * Without the verifier: reserved fields are full of values the target must hand back, and the
 * target's own are full of values it must not believe.
 */
/* rows: C17 C20 C21 C22 C28 C91 C136 */
static void reserved_fields(void **state)
{
    struct lab_side *side = &lab.side[0];
    struct lab_pair *pair;
    struct host_conn *c;
    struct host_tree *t;
    static const enum tree_verb verbs[] = {TREE_INITIATE, TREE_QUERY, TREE_UPDATE, TREE_INVALIDATE,
                                           TREE_TERMINATE};
    static char mine[8];

    lab_init_with(&lab, NULL, LAB_MTU, true);
    pair = lab_pair(&lab, 4);
    c = &pair->conn[0];
    for (size_t v = 0; v < sizeof(verbs) / sizeof(verbs[0]); v++) {
        enum tree_verb verb = verbs[v];

        t = host_tree(&side->host, verb);
        if (verb == TREE_INITIATE) {
            host_add_object(t, -1, &side->neighbor.object);
            host_add_object(t, 0, &side->path4.object);
            host_add_object(t, 1, &c->object);
        } else {
            int part = verb == TREE_UPDATE ? 1 : verb == TREE_INVALIDATE ? 0 : 2;

            host_add(t, -1, (enum chimney_state_type)(NeighborOffloadConstState + part),
                     &side->neighbor.object);
            host_add(t, 0, (enum chimney_state_type)(Ip4OffloadConstState + part),
                     &side->path4.object);
            host_add(t, 1, (enum chimney_state_type)(TcpOffloadConstState + part), &c->object);
            if (verb == TREE_UPDATE) {
                memcpy(tree_neighbor_cached(t->block[0])->dl_destination_address,
                       side->neighbor.cached.dl_destination_address, 6);
                tree_path_cached(t->block[1])->path_mtu = LAB_MTU;
                tree_tcp_cached(t->block[2])->initial_rcv_wnd = LAB_RING;
            }
        }
        host_add(t, 1, TcpOffloadDelegatedState, NULL);
        for (int i = 0; i < t->count; i++) {
            struct chimney_block *b = t->block[i];

            b->status = TREE_STATUS_POISON;
            b->protocol_reserved[0] = &mine[0];
            b->protocol_reserved[1] = &mine[1];
            b->im_reserved[0] = &mine[2];
            b->im_reserved[1] = &mine[3];
            b->source_handle = &mine[4];
            b->target_reserved[0] = b->target_reserved[1] = &mine[5];
            b->scratch[0] = b->scratch[1] = &mine[6];
        }
        host_call(t);
        assert_false(t->done);
        lab_round(&lab);
        assert_true(t->done);
        assert_ptr_equal(host_last(&side->host, LOG_DONE, NULL)->what, t->root);
        for (int i = 0; i < t->count; i++) {
            const struct chimney_block *b = t->block[i];

            assert_int_equal(b->status, NDIS_STATUS_SUCCESS);
            assert_ptr_equal(b->protocol_reserved[0], &mine[0]);
            assert_ptr_equal(b->protocol_reserved[1], &mine[1]);
            assert_ptr_equal(b->im_reserved[0], &mine[2]);
            assert_ptr_equal(b->im_reserved[1], &mine[3]);
            assert_ptr_equal(b->source_handle, &mine[4]);
            assert_int_equal(b->port_number, 0);
        }
    }
    lab_free(&lab);
}

/* rows: C14 C15 C16 C26 C102 C112 */
static void the_target_refuses(void **state)
{
    struct lab_side *side = &lab.side[0];
    struct lab_pair *pair;
    struct target_info info;

    lab_init_with(&lab, NULL, LAB_MTU, true);
    pair = lab_pair(&lab, 4);
    for (int wrong = 0; wrong < 7; wrong++) {
        struct host_tree *t = host_tree(&side->host, TREE_INITIATE);

        host_add_object(t, -1, &side->neighbor.object);
        host_add_object(t, 0, &side->path4.object);
        host_add_object(t, 1, &pair->conn[0].object);
        switch (wrong) {
        case 0: /* a type that is not what follows */
            t->block[2]->header.type = TcpOffloadDelegatedState;
            break;
        case 1: /* another layer beside it */
            t->block[0]->next = t->block[1];
            t->block[0]->dependents = NULL;
            break;
        case 2: /* dependents of a connection */
            host_add(t, 2, TcpOffloadState, NULL);
            break;
        case 3:
            tree_tcp_delegated(t->block[2])->header.length -= 8;
            break;
        case 4: /* a placeholder with dependents */
            t->block[1]->cell = NULL;
            t->object[1] = NULL;
            break;
        case 5:
            t->block[0]->header.revision++;
            break;
        case 6:
            t->block[1]->header.size += 8;
            break;
        }
        host_call(t);
        lab_round(&lab);
        assert_true(t->done);
        assert_int_equal(t->block[0]->status, NDIS_STATUS_FAILURE);
        assert_null(side->neighbor.object.cell.context);
        assert_null(pair->conn[0].object.cell.context);
        side->path4.object.state = CHIMNEY_IN_HOST;
    }
    target_get_info(side->target, &info);
    assert_int_equal(info.neighbors + info.paths + info.connections, 0);
    lab_free(&lab);
}

/* rows: C19 C25 C108 */
static void handles_and_cells(void **state)
{
    struct host *h = &lab.side[0].host;
    struct lab_pair *pairs[8];
    void *contexts[8];
    struct chimney_parameters p;

    lab_init(&lab, NULL);
    lab_parameters_default(&p);
    p.nce_stale_ticks = 1000;
    lab_set_parameters(&lab, &p);
    for (int i = 0; i < 8; i++) {
        pairs[i] = lab_connect(&lab, i & 1 ? 6 : 4);
        contexts[i] = pairs[i]->conn[0].object.cell.context;
        for (int j = 0; j < i; j++)
            assert_ptr_not_equal(contexts[i], contexts[j]);
    }
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 8; i++) {
            lab_send(&lab, 0, pairs[i], 500);
            lab_send(&lab, 1, pairs[i], 700);
        }
        lab_run(&lab, LAB_SEC);
    }
    for (int i = 0; i < 8; i++)
        lab_update(&lab, 0, &pairs[i]->conn[0].object);
    /* Every indication carried the handle of an object of ours; what it said is true of that one.
     */
    for (int i = 0; i < 8; i++) {
        assert_int_equal(host_last(h, LOG_SENT, &pairs[i]->conn[0])->value, 2500);
        assert_int_equal(host_last(h, LOG_INDICATE, &pairs[i]->conn[0])->value, 3500);
        assert_ptr_equal(pairs[i]->conn[0].object.cell.context, contexts[i]);
    }
    assert_non_null(host_find(h, 0, LOG_QUESTION, &lab.side[0].neighbor));
    for (size_t i = 0; i < h->log_count; i++) {
        bool known = false;

        if (h->log[i].kind != LOG_SENT && h->log[i].kind != LOG_INDICATE &&
            h->log[i].kind != LOG_EVENT)
            continue;
        for (int p_ = 0; p_ < 8; p_++)
            known |= h->log[i].what == &pairs[p_]->conn[0];
        assert_true(known);
    }
    lab_free(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_stays_with_the_host),
        cmocka_unit_test(all_interfaces_in_one_run),
        cmocka_unit_test(three_classes),
        cmocka_unit_test(four_states),
        cmocka_unit_test(terminate_is_not_close),
        cmocka_unit_test(sharing),
        cmocka_unit_test(reserved_fields),
        cmocka_unit_test(the_target_refuses),
        cmocka_unit_test(handles_and_cells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
