/* SPDX-License-Identifier: Apache-2.0 */
/* Terminate on the software target under the verifier: the way up (group J). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "contract_lab.h"

static struct lab lab;

/* rows: C210 C232 C330 C338-C344 */
static void why_the_host_does_it(void **state)
{
    struct host *h = &lab.side[0].host;

    /* Asked by the target, with each reason, three times over: one terminate. */
    for (uint32_t reason = LowActivity; reason <= HardwareFailure; reason++) {
        struct lab_pair *pair;
        struct host_conn *c;
        struct host_tree *t;

        lab_init(&lab, NULL);
        pair = lab_connect(&lab, 4);
        c = &pair->conn[0];
        lab_send(&lab, 0, pair, 10000);
        lab_settle(&lab, LAB_SEC);
        for (int i = 0; i < 3; i++) {
            lab_retrieve(&lab, 0, c, reason);
            assert_int_equal(lab_retrieved(&lab, 0, c), reason);
        }
        /* A reason the host may ignore stops nothing. */
        if (!chimney_upload_reason_mandatory(reason)) {
            lab_send(&lab, 0, pair, 10000);
            lab_settle(&lab, LAB_SEC);
            assert_int_equal(pair->conn[1].head, 20000);
        }
        t = lab_terminate(&lab, 0, &c->object);
        assert_int_equal(t->block[0]->status, NDIS_STATUS_SUCCESS);
        assert_int_equal(t->completions, 1);
        lab_free(&lab);
    }
    /* Asked by nobody; because the link is down; because the capability goes (upload-all). */
    for (int why = 0; why < 3; why++) {
        struct lab_pair *pair;
        struct host_tree *t;

        lab_init(&lab, NULL);
        pair = lab_connect(&lab, 4);
        lab_send(&lab, 0, pair, 10000);
        if (why == 1)
            sim_link_set_carrier(lab.link, false);
        if (why == 2) {
            target_upload_all(lab.side[0].target);
            lab_round(&lab);
            assert_true(h->upload_all);
        }
        t = lab_terminate(&lab, 0, &pair->conn[0].object);
        assert_int_equal(t->block[0]->status, NDIS_STATUS_SUCCESS);
        lab_free(&lab);
    }
}

/** TCP payload in a frame that came up the non-offload path, as a segment to forward. */
static struct chimney_segment as_segment(const struct host_frame *f)
{
    struct wire_packet packet;

    assert_int_equal(wire_parse(f->data, f->length, false, &packet), WIRE_OK);
    return (struct chimney_segment){
        .frame = f->data, .frame_length = f->length, .tcp_offset = packet.tcp_offset};
}

/* rows: C211 C212 C213 C214 C318 C322 */
static void segments_during_and_after(void **state)
{
    struct host *h = &lab.side[0].host;
    struct lab_pair *pair;
    struct host_conn *c;
    struct host_object *object;
    struct host_tree *t;
    struct chimney_segment segments[64];
    size_t surfaced, mark, count;

    lab_init(&lab, NULL);
    pair = lab_connect(&lab, 4);
    c = &pair->conn[0];
    object = &c->object;
    /* A window full of data is on its way when the terminate is called. */
    host_send(&lab.side[1].host, &pair->conn[1], 14000);
    target_poll(lab.side[1].target, lab.now);
    surfaced = h->frame_count;
    t = host_terminate(h, &object, 1);
    lab_run(&lab, 0);
    assert_true(t->done);
    mark = lab_mark(&lab);
    lab_run(&lab, 5 * LAB_MSEC);
    /* It comes up, every segment, whole and unprocessed; the target says nothing to it. */
    count = h->frame_count - surfaced;
    assert_true(count >= 10 && count <= 64);
    assert_int_equal(lab_count(&lab, mark, 0, false), 0);
    assert_int_equal(c->head, 0);
    assert_int_equal(tree_tcp_delegated(t->block[0])->rcv_nxt, c->delegated.rcv_nxt);
    /* Nothing was forwarded meanwhile; the host consumes them (here: with the next offload). */
    assert_null(host_find(h, 0, LOG_FORWARD, c));
    lab_take_back(c, t);
    lab_offload(&lab, 0, pair);
    for (size_t i = 0; i < count; i++) {
        segments[i] = as_segment(&h->frames[surfaced + i]);
        host_forward(h, c, &segments[i]);
    }
    lab_settle(&lab, 10 * LAB_SEC);
    assert_int_equal(c->head, 14000);
    assert_int_equal(host_count(h, 0, LOG_FORWARDED, c), count);
    lab_free(&lab);
}

/* rows: C215 */
static void delayed_acknowledgement(void **state)
{
    struct lab_pair *pair;
    struct host_conn *c;
    struct host_object *object;
    struct host_tree *t;
    size_t mark;

    lab_init(&lab, NULL);
    pair = lab_connect_half(&lab, 4);
    c = &pair->conn[0];
    object = &c->object;
    /* Past the first few segments, which are acknowledged at once. */
    for (int i = 0; i < 40; i++) {
        lab_peer_data(&lab, pair, c->delegated.rcv_nxt + (uint32_t)c->head, 100);
        lab_run(&lab, 100 * LAB_MSEC);
    }
    mark = lab_mark(&lab);
    lab_peer_data(&lab, pair, c->delegated.rcv_nxt + (uint32_t)c->head, 100);
    lab_run(&lab, 2 * LAB_MSEC);
    assert_int_equal(lab_count(&lab, mark, 0, false), 0); /* it waits */
    t = host_terminate(&lab.side[0].host, &object, 1);
    lab_round(&lab);
    assert_true(t->done);
    assert_int_equal(lab_count(&lab, mark, 0, false), 1);
    assert_int_equal(lab_last(&lab, mark, 0, false)->packet.seg.ack,
                     tree_tcp_delegated(t->block[0])->rcv_nxt);
    lab_free(&lab);
}

/* rows: C217 C230 */
static void silence_afterwards(void **state)
{
    struct lab_pair *pair;
    struct host_conn *c;
    size_t mark;

    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    c = &pair->conn[0];
    /* Every timer runs: data in flight, a small window, keepalive, an acknowledgement due. */
    c->cached.flags = CHIMNEY_TCP_KEEP_ALIVE_ENABLED | CHIMNEY_TCP_NAGLING_ENABLED;
    c->cached.ka_timeout = c->cached.ka_interval = LAB_TICKS_PER_SECOND;
    c->cached.ka_probe_count = 5;
    c->delegated.snd_wnd = 300;
    lab_offload(&lab, 0, pair);
    lab_send(&lab, 0, pair, 5000);
    lab_peer_data(&lab, pair, c->delegated.rcv_nxt, 100);
    lab_run(&lab, 2 * LAB_MSEC);
    lab_terminate(&lab, 0, &c->object);
    mark = lab_mark(&lab);
    lab_run(&lab, 1000 * LAB_SEC);
    assert_int_equal(lab_count(&lab, mark, 0, false), 0);
    assert_int_equal(host_last(&lab.side[0].host, LOG_DONE, NULL)->verb, TREE_TERMINATE);
    lab_free(&lab);
}

/* rows: C218 */
static void only_selectively_acknowledged(void **state)
{
    struct lab_pair *pair;
    struct host_conn *c;
    struct host_tree *t;
    const struct chimney_tcp_delegated *d;
    uint32_t rcv_nxt;
    size_t mark;

    lab_init(&lab, NULL);
    pair = lab_connect_half(&lab, 4);
    c = &pair->conn[0];
    rcv_nxt = c->delegated.rcv_nxt;
    mark = lab_mark(&lab);
    lab_peer_data(&lab, pair, rcv_nxt, 500);
    lab_run(&lab, 5 * LAB_MSEC);
    lab_peer_data(&lab, pair, rcv_nxt + 1000, 500);
    lab_run(&lab, 5 * LAB_MSEC);
    assert_int_equal(lab_last(&lab, mark, 0, false)->packet.seg.sack_count, 1);
    t = lab_terminate(&lab, 0, &c->object);
    d = tree_tcp_delegated(t->block[0]);
    /* Neither delivered nor acknowledged. */
    assert_int_equal(d->rcv_nxt, rcv_nxt + 500);
    assert_int_equal(d->buffered_data.end, 500);
    assert_int_equal(c->head, 500);
    for (size_t i = mark; i < lab.frame_count; i++) {
        if (lab.frames[i].end == 0)
            assert_true((int32_t)(lab.frames[i].packet.seg.ack - (rcv_nxt + 500)) <= 0);
    }
    /* The peer sends everything again, to the next owner, and the stream is whole. */
    lab_take_back(c, t);
    lab_offload(&lab, 0, pair);
    lab_peer_data(&lab, pair, rcv_nxt + 500, 1000);
    lab_run(&lab, 100 * LAB_MSEC);
    assert_int_equal(c->base_in + c->head, 1500);
    lab_free(&lab);
}

/* rows: C219 C225 C226 */
static void everything_else_first(void **state)
{
    struct host *h = &lab.side[0].host;
    struct lab_pair *pair;
    struct host_conn *c;
    struct host_object *object;
    struct host_tree *t, *q, *u;
    struct chimney_segment segment;
    struct lab_segment s;
    uint8_t frame[2048];
    size_t from, finished;

    lab_init(&lab, NULL);
    pair = lab_connect_half(&lab, 4);
    c = &pair->conn[0];
    object = &c->object;
    /*
     * All of it in front of one poll: a send, a query, an update, a forward with data in it, a
     * disconnect; and the terminate as soon as query and update are done.
     */
    from = h->log_count;
    host_send(h, c, 1000);
    s = lab_peer(&lab, pair);
    {
        uint8_t payload[300];

        for (uint32_t i = 0; i < sizeof(payload); i++)
            payload[i] = host_byte(c->pattern_in, i);
        s.seg.span[0] = payload;
        s.seg.span_len[0] = s.seg.len = sizeof(payload);
        segment = (struct chimney_segment){.frame = frame, .tcp_offset = 34};
        segment.frame_length = (uint32_t)wire_build(frame, sizeof(frame), &s.route, &s.seg, false);
    }
    q = host_query(h, TcpOffloadDelegatedState, object);
    u = host_update(h, object);
    lab_round(&lab);
    assert_true(q->done && u->done);
    host_forward(h, c, &segment);
    host_disconnect(h, c, TCP_DISCONNECT_GRACEFUL_CLOSE);
    t = host_terminate(h, &object, 1);
    lab_round(&lab);
    assert_true(t->done);
    /* At its completion nothing is open; received data was indicated before it. */
    finished = (size_t)(host_last(h, LOG_DONE, t->root) - h->log);
    assert_int_equal(host_count(h, from, LOG_FORWARDED, c), 1);
    assert_int_equal(host_count(h, from, LOG_DISCONNECTED, c), 1);
    assert_true(host_find(h, from, LOG_FORWARDED, c) < &h->log[finished]);
    assert_true(host_find(h, from, LOG_DISCONNECTED, c) < &h->log[finished]);
    assert_true(host_find(h, from, LOG_SENT, c) < &h->log[finished]);
    assert_non_null(host_find(h, from, LOG_INDICATE, c));
    assert_true(host_find(h, from, LOG_INDICATE, c) < &h->log[finished]);
    assert_int_equal(c->head, 300);
    /* And nothing comes afterwards. */
    lab_run(&lab, 10 * LAB_SEC);
    for (size_t i = finished + 1; i < h->log_count; i++)
        assert_ptr_not_equal(h->log[i].what, c);
    lab_free(&lab);
}

/* rows: C221 C224 C249 */
static void sends(void **state)
{
    const struct host *h = &lab.side[0].host;
    struct lab_pair *pair;
    struct host_conn *c;
    struct host_tree *t;
    const struct chimney_tcp_delegated *d;

    lab_init(&lab, NULL);
    pair = lab_connect_half(&lab, 4);
    c = &pair->conn[0];
    for (int i = 0; i < 5; i++)
        lab_send(&lab, 0, pair, 1000);
    /* One and a half are acknowledged, three and a half come back. */
    lab_peer_ack(&lab, pair, c->delegated.snd_una + 1500, 0xFFFF);
    lab_run(&lab, 2 * LAB_MSEC);
    assert_int_equal(host_last(h, LOG_SENT, c)->value, 1500);
    assert_int_equal(host_last(h, LOG_SENT, c)->status, NDIS_STATUS_SUCCESS);
    t = lab_terminate(&lab, 0, &c->object);
    assert_int_equal(host_last(h, LOG_SENT, c)->value, 1500);
    assert_int_equal(host_last(h, LOG_SENT, c)->status, NDIS_STATUS_UPLOAD_IN_PROGRESS);
    assert_int_equal(host_count(h, 0, LOG_SENT, c), 2);
    d = tree_tcp_delegated(t->block[0]);
    assert_int_equal(d->send_data.begin, 1500);
    assert_int_equal(d->send_data.end, 5000);
    assert_int_equal(d->snd_una, 1000 + 1500);
    assert_int_equal(d->snd_max, 1000 + 5000);
    /* The host goes on with the right byte. */
    lab_take_back(c, t);
    {
        const struct lab_frame *f;
        size_t mark = lab_mark(&lab);

        lab_offload(&lab, 0, pair);
        f = lab_first(&lab, mark, 0, true);
        assert_int_equal(f->packet.seg.seq, 1000 + 1500);
        for (uint32_t i = 0; i < f->packet.seg.len; i++)
            assert_int_equal(f->packet.seg.payload[i], host_byte(c->pattern_out, 1500 + i));
    }
    lab_free(&lab);
}

/* rows: C227 C228 */
static void delegated_values_only(void **state)
{
    static const struct chimney_tcp_delegated zero;
    struct lab_pair *pair;
    struct host_conn *c;
    struct host_tree *t;
    struct chimney_tcp_delegated *d;
    uint32_t before;

    lab_init_with(&lab, NULL, LAB_MTU, true);
    pair = lab_connect(&lab, 4);
    c = &pair->conn[0];
    lab_send(&lab, 0, pair, 10000);
    lab_settle(&lab, LAB_SEC);
    t = host_tree(&lab.side[0].host, TREE_TERMINATE);
    host_add(t, -1, TcpOffloadDelegatedState, &c->object);
    d = tree_tcp_delegated(t->block[0]);
    before = d->header.length;
    memset((uint8_t *)d + sizeof(d->header), 0xA5, sizeof(*d) - sizeof(d->header));
    host_call(t);
    lab_round(&lab);
    assert_true(t->done);
    assert_null(tree_tcp_const(t->block[0]));
    assert_null(tree_tcp_cached(t->block[0]));
    d = tree_tcp_delegated(t->block[0]);
    assert_int_equal(d->header.length, before);
#define WRITTEN(field)                                                                             \
    assert_memory_not_equal(&d->field, memset(&poison, 0xA5, sizeof(poison)), sizeof(d->field))
    {
        struct chimney_tcp_delegated poison = zero;

        WRITTEN(state);
        WRITTEN(flags);
        WRITTEN(rcv_nxt);
        WRITTEN(rcv_wnd);
        WRITTEN(snd_una);
        WRITTEN(snd_nxt);
        WRITTEN(snd_max);
        WRITTEN(snd_max_possible);
        WRITTEN(snd_wnd);
        WRITTEN(max_snd_wnd);
        WRITTEN(snd_wl1);
        WRITTEN(cwnd);
        WRITTEN(ssthresh);
        WRITTEN(srtt);
        WRITTEN(rttvar);
        WRITTEN(ts_recent);
        WRITTEN(ts_recent_age);
        WRITTEN(ts_time);
        WRITTEN(ts_last);
        WRITTEN(total_rt);
        WRITTEN(dup_ack_count);
        WRITTEN(snd_wnd_probe_count);
        WRITTEN(ka_probe_count);
        WRITTEN(retransmit_count);
        WRITTEN(ka_timeout_delta);
        WRITTEN(retransmit_timeout_delta);
        WRITTEN(reordering);
        WRITTEN(dwnd);
        WRITTEN(send_data);
        WRITTEN(buffered_data);
    }
    lab_free(&lab);
}

static uint32_t held_at_completion;

static void count_objects(struct host *h, const struct log_entry *entry)
{
    struct target_info info;

    if (entry->kind != LOG_DONE || entry->verb != TREE_TERMINATE)
        return;
    target_get_info(lab.side[0].target, &info);
    held_at_completion = info.connections + info.paths + info.neighbors;
}

/* rows: C34 C230 */
static void freed_last(void **state)
{
    struct lab_side *side = &lab.side[0];
    struct host_object *all[3];
    struct lab_pair *pair;
    struct host_tree *t;
    struct target_info info;

    lab_init(&lab, NULL);
    pair = lab_connect_half(&lab, 4);
    all[0] = &side->neighbor.object;
    all[1] = &side->path4.object;
    all[2] = &pair->conn[0].object;
    /* Forward progress now, and 30 s of nothing. */
    lab_send(&lab, 0, pair, 10);
    lab_peer_ack(&lab, pair, pair->conn[0].delegated.snd_una + 10, 0xFFFF);
    lab_run(&lab, LAB_MSEC);
    lab_run(&lab, 30 * LAB_SEC);
    side->host.inside = count_objects;
    t = host_terminate(&side->host, all, 3);
    lab_round(&lab);
    side->host.inside = NULL;
    assert_int_equal(held_at_completion, 3);
    target_get_info(side->target, &info);
    assert_int_equal(info.connections + info.paths + info.neighbors, 0);
    assert_int_equal(tree_neighbor_delegated(t->block[0])->nic_reachability_delta,
                     30 * LAB_TICKS_PER_SECOND);
    lab_free(&lab);
}

/* rows: C231 */
static void again_and_again(void **state)
{
    struct lab_pair *pairs[4];

    lab_init(&lab, NULL);
    for (int i = 0; i < 4; i++)
        pairs[i] = lab_connect(&lab, i & 1 ? 6 : 4);
    /* Four connections, both ends changing owners at times of their own, traffic both ways. */
    for (int move = 0; move < 400; move++) {
        struct lab_pair *pair = pairs[move % 4];
        int end = (move / 4) & 1;
        struct host_conn *c = &pair->conn[end];

        if (c->written - c->acked < LAB_RING / 4)
            lab_send(&lab, end, pair, 3000);
        lab_run(&lab, (uint64_t)(move * 37 % 11) * 200000);
        lab_take_back(c, lab_terminate(&lab, end, &c->object));
        lab_offload(&lab, end, pair);
    }
    lab_settle(&lab, 60 * LAB_SEC);
    for (int i = 0; i < 4; i++) {
        for (int end = 0; end < 2; end++) {
            const struct host_conn *from = &pairs[i]->conn[end], *to = &pairs[i]->conn[1 - end];

            assert_int_equal(from->base_out + from->written, to->base_in + to->head);
        }
    }
    lab_free(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(why_the_host_does_it),
        cmocka_unit_test(segments_during_and_after),
        cmocka_unit_test(delayed_acknowledgement),
        cmocka_unit_test(silence_afterwards),
        cmocka_unit_test(only_selectively_acknowledged),
        cmocka_unit_test(everything_else_first),
        cmocka_unit_test(sends),
        cmocka_unit_test(delegated_values_only),
        cmocka_unit_test(freed_last),
        cmocka_unit_test(again_and_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
