/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data verbs on the software target under the verifier: send, disconnect and forward (groups K, M
 * and N as far as streams have them).
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

#define MSS 1448u

static uint32_t last_status(enum log_kind kind, const struct host_conn *c)
{
    const struct log_entry *entry = host_last(&lab.side[0].host, kind, c);

    assert_non_null(entry);
    return entry->status;
}

/** Segments of end 0 with any of these flags since @mark. */
static size_t with_flags(size_t mark, uint8_t flags)
{
    size_t count = 0;

    for (size_t i = mark; i < lab.frame_count; i++)
        count += lab.frames[i].end == 0 && lab.frames[i].packet.seg.flags & flags;
    return count;
}

/* ---- send ------------------------------------------------------------------------------------ */

/* rows: C233-C239 C242 C244 C247 */
static void sends_complete_in_order(void **state)
{
    struct host *h = &lab.side[0].host;
    struct lab_pair *pair;
    struct host_conn *c;
    size_t completions;
    uint64_t last = 0;

    lab_init(&lab, NULL);
    pair = lab_connect(&lab, 4);
    c = &pair->conn[0];
    /* The next send need not wait for the completion of the last; none completes inside its call.
     */
    for (int i = 0; i < 100; i++) {
        size_t from = h->log_count;

        assert_int_equal(host_send(h, c, 1 + (uint32_t)i * 17), NDIS_STATUS_PENDING);
        assert_int_equal(h->log_count, from + 1);
    }
    lab_settle(&lab, 10 * LAB_SEC);
    completions = 0;
    for (size_t i = 0; i < h->log_count; i++) {
        if (h->log[i].kind != LOG_SENT)
            continue;
        completions++;
        assert_int_equal(h->log[i].status, NDIS_STATUS_SUCCESS);
        assert_true(h->log[i].value > last);
        last = h->log[i].value;
    }
    assert_int_equal(last, c->written);
    assert_true(completions > 1 && completions < 100); /* one may speak for several */
    assert_int_equal(pair->conn[1].head, c->written);
    assert_int_equal(with_flags(0, TCP_URG), 0);
    lab_free(&lab);
}

/* rows: C237 */
static void never_refused(void **state)
{
    struct host *h = &lab.side[0].host;
    struct lab_pair *pair;
    struct host_conn *c;
    size_t mark;

    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    c = &pair->conn[0];
    c->delegated.snd_wnd = 0;
    lab_offload(&lab, 0, pair);
    mark = lab_mark(&lab);
    for (int i = 0; i < 200; i++)
        lab_send(&lab, 0, pair, 1000);
    lab_run(&lab, 5 * LAB_SEC);
    assert_null(host_find(h, 0, LOG_SENT, c));
    assert_int_equal(lab_count(&lab, mark, 0, true), 0);
    lab_peer_ack(&lab, pair, c->delegated.snd_una, 0xFFFF);
    lab_run(&lab, 2 * LAB_MSEC);
    assert_true(lab_count(&lab, mark, 0, true) > 0);
    lab_free(&lab);
}

/* rows: C241 */
static void push_at_the_end_of_a_send(void **state)
{
    struct lab_pair *pair;
    struct host_conn *c;
    uint32_t end = 0;
    size_t mark;

    lab_init(&lab, NULL);
    pair = lab_connect(&lab, 4);
    c = &pair->conn[0];
    mark = lab_mark(&lab);
    for (int i = 0; i < 5; i++) {
        lab_send(&lab, 0, pair, 2 * MSS + 500);
        lab_settle(&lab, LAB_SEC);
    }
    for (size_t i = mark; i < lab.frame_count; i++) {
        const struct tcp_segment *seg = &lab.frames[i].packet.seg;

        if (lab.frames[i].end != 0 || !seg->len)
            continue;
        end = seg->seq + seg->len - c->delegated.snd_una;
        assert_int_equal((seg->flags & TCP_PSH) != 0, end % (2 * MSS + 500) == 0);
    }
    assert_int_equal(end, 5 * (2 * MSS + 500));
    lab_free(&lab);
}

/* rows: C243 C247 */
static void complete_means_acknowledged(void **state)
{
    const struct host *h = &lab.side[0].host;
    struct lab_pair *pair;
    struct host_conn *c;

    lab_init(&lab, NULL);
    pair = lab_connect(&lab, 4);
    c = &pair->conn[0];
    for (int i = 0; i < 20; i++) {
        lab_send(&lab, 0, pair, 10000);
        lab_run(&lab, 700000);
    }
    lab_settle(&lab, 10 * LAB_SEC);
    for (size_t i = 0; i < h->log_count; i++) {
        uint64_t acked = 0;

        if (h->log[i].kind != LOG_SENT)
            continue;
        /* Some acknowledgement that had arrived by then covers it. */
        for (size_t n = 0; n < lab.frame_count; n++) {
            const struct lab_frame *f = &lab.frames[n];

            if (f->end == 1 && f->time + LAB_MSEC <= h->log[i].time &&
                f->packet.seg.ack - c->delegated.snd_una > acked)
                acked = f->packet.seg.ack - c->delegated.snd_una;
        }
        assert_true(h->log[i].value <= acked);
    }
    lab_free(&lab);
}

/* rows: C245 C246 C248 C308 C332 */
static void reset_by_the_peer(void **state)
{
    struct host *h = &lab.side[0].host;
    struct lab_pair *pair;
    struct host_conn *c;
    struct lab_segment s;
    size_t mark;

    lab_init(&lab, NULL);
    pair = lab_connect_half(&lab, 4);
    c = &pair->conn[0];
    for (int i = 0; i < 10; i++)
        lab_send(&lab, 0, pair, 1000);
    host_disconnect(h, c, TCP_DISCONNECT_GRACEFUL_CLOSE);
    lab_peer_ack(&lab, pair, c->delegated.snd_una + 3500, 0xFFFF);
    lab_run(&lab, 2 * LAB_MSEC);
    assert_int_equal(c->acked, 3500);
    s = lab_peer(&lab, pair);
    s.seg.flags = TCP_RST | TCP_ACK;
    lab_peer_send(&lab, pair, &s, 0);
    lab_run(&lab, 2 * LAB_MSEC);
    assert_int_equal(last_status(LOG_SENT, c), NDIS_STATUS_REQUEST_ABORTED);
    assert_int_equal(host_last(h, LOG_SENT, c)->value, 3500);
    assert_int_equal(last_status(LOG_DISCONNECTED, c), NDIS_STATUS_REQUEST_ABORTED);
    assert_int_equal(host_last(h, LOG_EVENT, c)->status, TcpIndicateAbort);
    /* Final: nothing is sent any more, nothing completes a second time. */
    mark = lab_mark(&lab);
    lab_run(&lab, 100 * LAB_SEC);
    assert_int_equal(lab_count(&lab, mark, 0, false), 0);
    assert_int_equal(host_count(h, 0, LOG_DISCONNECTED, c), 1);
    lab_free(&lab);
}

/* ---- disconnect ------------------------------------------------------------------------------ */

/* rows: C295-C301 C306 C303 C311 */
static void graceful(void **state)
{
    static const uint32_t sizes[] = {0, 1, 50000};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct host *h = &lab.side[0].host;
        struct target_config config = {.fin_policy = TCP_FIN_CONSUME};
        struct lab_pair *pair;
        struct host_conn *c;
        struct target_info info;
        const struct lab_frame *fin = NULL;
        size_t mark;

        lab_init(&lab, &config);
        pair = lab_connect(&lab, 4);
        c = &pair->conn[0];
        mark = lab_mark(&lab);
        if (sizes[i])
            host_send(h, c, sizes[i]);
        assert_int_equal(host_disconnect(h, c, TCP_DISCONNECT_GRACEFUL_CLOSE), NDIS_STATUS_PENDING);
        assert_null(host_find(h, 0, LOG_DISCONNECTED, c));
        lab_run(&lab, LAB_SEC);
        /* The data, then the FIN, which does not wait for an acknowledgement of its own. */
        for (size_t n = mark; n < lab.frame_count; n++) {
            if (lab.frames[n].end == 0 && lab.frames[n].packet.seg.flags & TCP_FIN)
                fin = &lab.frames[n];
        }
        assert_non_null(fin);
        assert_int_equal(with_flags(mark, TCP_FIN), 1);
        assert_int_equal(fin->packet.seg.seq + fin->packet.seg.len,
                         c->delegated.snd_una + sizes[i]);
        if (sizes[i] == 1)
            assert_int_equal(fin->packet.seg.len, 1); /* it rides on the data */
        assert_int_equal(pair->conn[1].head, sizes[i]);
        /* Completed once, with SUCCESS, after the sends; the object stays. */
        assert_int_equal(last_status(LOG_DISCONNECTED, c), NDIS_STATUS_SUCCESS);
        assert_int_equal(host_count(h, 0, LOG_DISCONNECTED, c), 1);
        if (sizes[i])
            assert_true(host_last(h, LOG_SENT, c) < host_last(h, LOG_DISCONNECTED, c));
        assert_int_equal(c->acked, sizes[i]);
        assert_int_equal(with_flags(0, TCP_RST), 0);
        target_get_info(lab.side[0].target, &info);
        assert_int_equal(info.connections, 1);
        lab_free(&lab);
    }
}

/* rows: C302 C304 C305 C306 */
static void abortive(void **state)
{
    struct host *h = &lab.side[0].host;
    struct lab_pair *pair;
    struct host_conn *c;
    size_t mark;

    lab_init(&lab, NULL);
    pair = lab_connect_half(&lab, 4);
    c = &pair->conn[0];
    lab_send(&lab, 0, pair, 100000);
    mark = lab_mark(&lab);
    host_disconnect(h, c, TCP_DISCONNECT_ABORTIVE_CLOSE);
    lab_round(&lab);
    /* The RST is next, nothing follows it, no acknowledgement either. */
    assert_int_equal(lab_count(&lab, mark, 0, false), 1);
    assert_true(lab_first(&lab, mark, 0, false)->packet.seg.flags & TCP_RST);
    lab_peer_data(&lab, pair, c->delegated.rcv_nxt, 100);
    lab_run(&lab, 10 * LAB_SEC);
    assert_int_equal(lab_count(&lab, mark, 0, false), 1);
    assert_null(host_find(h, 0, LOG_INDICATE, c));
    assert_int_equal(last_status(LOG_SENT, c), NDIS_STATUS_REQUEST_ABORTED);
    assert_int_equal(last_status(LOG_DISCONNECTED, c), NDIS_STATUS_SUCCESS);
    assert_true(host_last(h, LOG_SENT, c) < host_find(h, 0, LOG_DISCONNECTED, c));
    lab_free(&lab);
}

/* rows: C307 C309 */
static void given_up(void **state)
{
    struct host *h = &lab.side[0].host;
    struct chimney_parameters p;
    struct lab_pair *pair;
    struct host_conn *c;

    /* Nobody acknowledges the FIN: the target asks for the upload, and the close goes up with it.
     */
    lab_init(&lab, NULL);
    lab_parameters_default(&p);
    p.tcp_maximum_retransmissions = 3;
    lab_set_parameters(&lab, &p);
    pair = lab_connect_half(&lab, 4);
    c = &pair->conn[0];
    host_disconnect(h, c, TCP_DISCONNECT_GRACEFUL_CLOSE);
    lab_run(&lab, 100 * LAB_SEC);
    assert_int_equal(lab_retrieved(&lab, 0, c), TimeoutExpiration);
    lab_terminate(&lab, 0, &c->object);
    assert_int_equal(host_count(h, 0, LOG_DISCONNECTED, c), 1);
    assert_int_not_equal(last_status(LOG_DISCONNECTED, c), NDIS_STATUS_SUCCESS);
    assert_int_equal(host_count(h, 0, LOG_DISCONNECT, c), 1);
    lab_free(&lab);
}

/* rows: C310 C329 */
static void half_close(void **state)
{
    struct target_config config = {.fin_policy = TCP_FIN_CONSUME};
    struct lab_pair *pair;
    struct host_conn *c;
    const struct log_entry *fin;

    lab_init(&lab, &config);
    pair = lab_connect(&lab, 4);
    c = &pair->conn[0];
    host_disconnect(&lab.side[0].host, c, TCP_DISCONNECT_GRACEFUL_CLOSE);
    lab_run(&lab, 10 * LAB_MSEC);
    for (int i = 0; i < 16; i++) {
        lab_send(&lab, 1, pair, 65536);
        lab_settle(&lab, 10 * LAB_SEC);
    }
    assert_int_equal(c->head, 1u << 20);
    /* The peer's FIN is told when the program has consumed all that was in front of it. */
    c->hold = true;
    lab_send(&lab, 1, pair, 3000);
    host_disconnect(&lab.side[1].host, &pair->conn[1], TCP_DISCONNECT_GRACEFUL_CLOSE);
    lab_run(&lab, LAB_SEC);
    assert_int_equal(c->head, (1u << 20) + 3000);
    fin = host_last(&lab.side[0].host, LOG_EVENT, c);
    assert_true(!fin || fin->status != TcpIndicateDisconnect);
    host_consume(&lab.side[0].host, c, c->head - 1);
    lab_run(&lab, 10 * LAB_MSEC);
    fin = host_last(&lab.side[0].host, LOG_EVENT, c);
    assert_true(!fin || fin->status != TcpIndicateDisconnect);
    host_consume(&lab.side[0].host, c, c->head);
    lab_run(&lab, 10 * LAB_MSEC);
    assert_non_null(host_last(&lab.side[0].host, LOG_EVENT, c));
    for (size_t i = 0; i < lab.side[0].host.log_count; i++) {
        const struct log_entry *e = &lab.side[0].host.log[i];

        if (e->kind == LOG_EVENT && e->status == TcpIndicateDisconnect)
            fin = e;
    }
    assert_int_equal(fin->status, TcpIndicateDisconnect);
    lab_free(&lab);
}

/* ---- forward --------------------------------------------------------------------------------- */

/** A frame of the peer as a segment the host has got; @frame keeps it. */
static struct chimney_segment stray(struct lab_pair *pair, uint32_t seq, uint32_t bytes,
                                    uint8_t *frame, size_t room)
{
    const struct host_conn *c = &pair->conn[0];
    struct lab_segment s = lab_peer(&lab, pair);
    uint8_t payload[1500];

    for (uint32_t i = 0; i < bytes; i++)
        payload[i] = host_byte(c->pattern_in, seq - c->delegated.rcv_nxt + i);
    s.seg.seq = seq;
    s.seg.span[0] = payload;
    s.seg.span_len[0] = s.seg.len = bytes;
    return (struct chimney_segment){
        .frame = frame,
        .frame_length = (uint32_t)wire_build(frame, room, &s.route, &s.seg, false),
        .tcp_offset = c->object.parent == &lab.side[0].path6.object ? 54 : 34,
    };
}

/* rows: C314-C318 C322 C324 */
static void forwards(void **state)
{
    for (int family = 4; family <= 6; family += 2) {
        struct host *h = &lab.side[0].host;
        static uint8_t frames[8][2048];
        struct chimney_segment segments[8];
        struct lab_pair *pair;
        struct host_conn *c;
        struct lab_segment s;
        uint32_t rcv_nxt;

        lab_init(&lab, NULL);
        pair = lab_connect_half(&lab, family);
        c = &pair->conn[0];
        rcv_nxt = c->delegated.rcv_nxt;
        /* Segments the host got while the connection went down, some of them twice. */
        for (uint32_t i = 0; i < 6; i++) {
            size_t from = h->log_count;

            segments[i] = stray(pair, rcv_nxt + (i < 4 ? i : i - 3) * 1000, 1000, frames[i],
                                sizeof(frames[i]));
            assert_int_equal(host_forward(h, c, &segments[i]), NDIS_STATUS_PENDING);
            assert_null(host_find(h, from, LOG_FORWARDED, c));
        }
        lab_run(&lab, 10 * LAB_MSEC);
        assert_int_equal(c->head, 4000);
        assert_int_equal(host_count(h, 0, LOG_FORWARDED, c), 6);
        for (int i = 0; i < 6; i++) {
            bool seen = false;

            for (size_t n = 0; n < h->log_count; n++) {
                if (h->log[n].kind == LOG_FORWARDED && h->log[n].value == (uintptr_t)&segments[i]) {
                    assert_false(seen);
                    seen = true;
                    assert_int_equal(h->log[n].status, NDIS_STATUS_SUCCESS);
                }
            }
            assert_true(seen);
        }
        /* After a reset: the host drops it. */
        s = lab_peer(&lab, pair);
        s.seg.flags = TCP_RST | TCP_ACK;
        lab_peer_send(&lab, pair, &s, 0);
        lab_run(&lab, 2 * LAB_MSEC);
        segments[6] = stray(pair, rcv_nxt + 4000, 100, frames[6], sizeof(frames[6]));
        host_forward(h, c, &segments[6]);
        lab_run(&lab, 2 * LAB_MSEC);
        assert_int_equal(last_status(LOG_FORWARDED, c), NDIS_STATUS_REQUEST_ABORTED);
        assert_int_equal(c->head, 4000);
        lab_free(&lab);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sends_complete_in_order),
        cmocka_unit_test(never_refused),
        cmocka_unit_test(push_at_the_end_of_a_send),
        cmocka_unit_test(complete_means_acknowledged),
        cmocka_unit_test(reset_by_the_peer),
        cmocka_unit_test(graceful),
        cmocka_unit_test(abortive),
        cmocka_unit_test(given_up),
        cmocka_unit_test(half_close),
        cmocka_unit_test(forwards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
