/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The five verbs of the software target under the verifier: pairing and order, what may overlap,
 * query, invalidate, and what a target does whose state is corrupt (groups E, G and I).
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

/** A tree of @verb for all three layers of a connection. */
static struct host_tree *whole_tree(enum tree_verb verb, struct lab_pair *pair)
{
    struct lab_side *side = &lab.side[0];
    struct host_conn *c = &pair->conn[0];
    struct host_tree *t = host_tree(&side->host, verb);
    int part = verb == TREE_INVALIDATE ? 0 : verb == TREE_UPDATE ? 1 : 2;

    if (verb == TREE_INITIATE) {
        host_add_object(t, -1, &side->neighbor.object);
        host_add_object(t, 0, &side->path4.object);
        host_add_object(t, 1, &c->object);
        return t;
    }
    host_add(t, -1, (enum chimney_state_type)(NeighborOffloadConstState + part),
             &side->neighbor.object);
    host_add(t, 0, (enum chimney_state_type)(Ip4OffloadConstState + part), &side->path4.object);
    host_add(t, 1, (enum chimney_state_type)(TcpOffloadConstState + part), &c->object);
    if (verb == TREE_UPDATE) {
        memcpy(tree_neighbor_cached(t->block[0])->dl_destination_address,
               side->neighbor.cached.dl_destination_address, 6);
        tree_path_cached(t->block[1])->path_mtu = side->path4.mtu;
        tree_tcp_cached(t->block[2])->initial_rcv_wnd = c->cached.initial_rcv_wnd;
        tree_tcp_cached(t->block[2])->ttl_or_hop_limit = 64;
    }
    return t;
}

/*
 * Each of the five: the down call arrives, returns, and is completed later, once, with the same
 * root and a status in every block.  The verifier in between checks the handler's side of it.
 */
/* rows: C115-C137 */
static void call_and_completion(void **state)
{
    static const enum tree_verb verbs[] = {TREE_INITIATE, TREE_QUERY, TREE_UPDATE, TREE_INVALIDATE,
                                           TREE_TERMINATE};
    const struct host *h = &lab.side[0].host;
    struct lab_pair *pair;

    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    for (size_t v = 0; v < sizeof(verbs) / sizeof(verbs[0]); v++) {
        struct host_tree *t = whole_tree(verbs[v], pair);
        size_t from = h->log_count;
        uint64_t calls[2], breaches;

        host_add(t, 1, TcpOffloadDelegatedState, NULL); /* a placeholder */
        verifier_counts(lab.side[0].top, &calls[0], &breaches);
        host_call(t);
        assert_int_equal(h->log[from].kind, LOG_CALL);
        assert_int_equal(h->log[from + 1].kind, LOG_RETURN);
        assert_false(t->done);
        assert_int_equal(h->log_count, from + 2);
        lab_round(&lab);
        assert_true(t->done);
        assert_int_equal(t->completions, 1);
        assert_ptr_equal(host_find(h, from, LOG_DONE, NULL)->what, t->root);
        assert_int_equal(host_find(h, from, LOG_DONE, NULL)->verb, verbs[v]);
        for (int i = 0; i < t->count; i++)
            assert_int_equal(t->block[i]->status, NDIS_STATUS_SUCCESS);
        lab_run(&lab, LAB_SEC);
        assert_int_equal(host_count(h, from, LOG_DONE, t->root), 1);
        verifier_counts(lab.side[0].top, &calls[1], &breaches);
        assert_true(calls[1] >= calls[0] + 2);
        assert_int_equal(breaches, 0);
    }
    lab_free(&lab);
}

/* rows: C140 C162 */
static void parallel_initiates(void **state)
{
    struct host *h = &lab.side[0].host;
    struct lab_pair *pairs[30];
    struct host_tree *trees[30];

    lab_init(&lab, NULL);
    pairs[0] = lab_connect(&lab, 4);
    pairs[1] = lab_connect(&lab, 6);
    /* In a flood of the first two the others are offered all at once, each in a tree of its own. */
    for (int i = 2; i < 30; i++)
        pairs[i] = lab_pair(&lab, i & 1 ? 6 : 4);
    for (int round = 0; round < 5; round++) {
        size_t from;

        lab_send(&lab, 0, pairs[0], 20000);
        lab_send(&lab, 1, pairs[1], 20000);
        lab_run(&lab, 700000);
        from = h->log_count;
        for (int i = 2; i < 30; i++) {
            struct host_conn *c = &pairs[i]->conn[0];

            trees[i] = host_offload(h, &c, 1);
        }
        lab_round(&lab);
        for (int i = 2; i < 30; i++)
            assert_int_equal(pairs[i]->conn[0].object.state, CHIMNEY_OFFLOADED);
        /* Quiet between call and completion: no indication of the other connections either. */
        for (size_t i = from; &h->log[i] <= host_last(h, LOG_DONE, NULL); i++)
            assert_true(h->log[i].kind == LOG_CALL || h->log[i].kind == LOG_RETURN ||
                        h->log[i].kind == LOG_DONE);
        for (int i = 2; i < 30; i++) {
            assert_int_equal(trees[i]->completions, 1);
            lab_take_back(&pairs[i]->conn[0], lab_terminate(&lab, 0, &pairs[i]->conn[0].object));
        }
    }
    lab_settle(&lab, 10 * LAB_SEC);
    lab_free(&lab);
}

/* rows: C142 */
static void parallel_queries(void **state)
{
    struct lab_pair *pair;
    struct host_tree *t[2];
    struct host_conn *c;

    lab_init(&lab, NULL);
    pair = lab_connect(&lab, 4);
    c = &pair->conn[0];
    lab_send(&lab, 0, pair, 30000);
    for (int i = 0; i < 2; i++)
        t[i] = host_query(&lab.side[0].host, TcpOffloadState, &c->object);
    lab_round(&lab);
    for (int i = 0; i < 2; i++) {
        assert_true(t[i]->done);
        assert_int_equal(t[i]->block[0]->status, NDIS_STATUS_SUCCESS);
    }
    assert_memory_equal(tree_tcp_const(t[0]->block[0]), tree_tcp_const(t[1]->block[0]),
                        sizeof(struct chimney_tcp_const));
    assert_memory_equal(tree_tcp_cached(t[0]->block[0]), tree_tcp_cached(t[1]->block[0]),
                        sizeof(struct chimney_tcp_cached));
    lab_settle(&lab, 10 * LAB_SEC);
    lab_free(&lab);
}

/* rows: C147 */
static void verbs_in_every_tcp_state(void **state)
{
    struct target_config config = {.fin_policy = TCP_FIN_CONSUME};

    for (uint32_t tcp = TcpConnectionEstablished; tcp <= TcpConnectionLastAck; tcp++) {
        for (enum tree_verb verb = TREE_QUERY; verb <= TREE_TERMINATE; verb++) {
            bool fin_in_flight = tcp == TcpConnectionFinWait1 || tcp == TcpConnectionClosing ||
                                 tcp == TcpConnectionLastAck;
            struct lab_pair *pair;
            struct host_conn *c;
            struct host_tree *t;

            lab_init(&lab, &config);
            pair = lab_pair(&lab, 4);
            c = &pair->conn[0];
            c->delegated.state = tcp;
            if (fin_in_flight) {
                c->delegated.snd_nxt++;
                c->delegated.snd_max++;
                c->delegated.snd_max_possible++;
            }
            lab_offload(&lab, 0, pair);
            assert_int_equal(c->object.state, CHIMNEY_OFFLOADED);
            t = whole_tree(verb, pair);
            host_call(t);
            lab_round(&lab);
            assert_true(t->done);
            for (int i = 0; i < 3; i++)
                assert_int_equal(t->block[i]->status, NDIS_STATUS_SUCCESS);
            if (verb == TREE_QUERY || verb == TREE_TERMINATE)
                assert_int_equal(tree_tcp_delegated(t->block[2])->state, tcp);
            lab_free(&lab);
        }
    }
    /* And after the peer has closed, or reset, or we have. */
    for (int end = 0; end < 3; end++) {
        struct lab_pair *pair;
        struct lab_segment s;
        struct host_tree *t;

        lab_init(&lab, &config);
        pair = lab_connect_half(&lab, 4);
        s = lab_peer(&lab, pair);
        s.seg.flags = TCP_ACK | (end == 0 ? TCP_FIN : TCP_RST);
        if (end < 2)
            lab_peer_send(&lab, pair, &s, 0);
        else
            host_disconnect(&lab.side[0].host, &pair->conn[0], TCP_DISCONNECT_ABORTIVE_CLOSE);
        lab_run(&lab, 10 * LAB_MSEC);
        for (enum tree_verb verb = TREE_QUERY; verb <= TREE_TERMINATE; verb++) {
            t = whole_tree(verb, pair);
            host_call(t);
            lab_round(&lab);
            assert_true(t->done);
            for (int i = 0; i < 3; i++)
                assert_int_equal(t->block[i]->status, NDIS_STATUS_SUCCESS);
        }
        lab_free(&lab);
    }
}

/** Index of the first entry of @kind about @what since @from with this status; fails if none. */
static size_t at(size_t from, enum log_kind kind, const void *what, uint32_t status)
{
    const struct host *h = &lab.side[0].host;

    for (size_t i = from; i < h->log_count; i++) {
        if (h->log[i].kind == kind && (!what || h->log[i].what == what) &&
            (kind == LOG_DONE || h->log[i].status == status))
            return i;
    }
    fail_msg("no entry %d with status %s", kind, chimney_status_name(status));
    return 0;
}

/* rows: C138 C191 C209 C334 */
static void corrupt_state(void **state)
{
    static const struct {
        enum tree_verb verb;
        enum target_fault fault;
    } table[] = {{TREE_QUERY, TARGET_FAULT_QUERY}, {TREE_INVALIDATE, TARGET_FAULT_INVALIDATE}};

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct lab_side *side = &lab.side[0];
        struct lab_pair *pair;
        struct host_conn *c;
        struct host_tree *t;
        size_t from, done, retrieve, aborted, terminate, sent, finished;

        lab_init(&lab, NULL);
        pair = lab_connect_half(&lab, 4);
        c = &pair->conn[0];
        lab_send(&lab, 0, pair, 5000);
        side->fault = table[i].fault;
        side->fault_layer = TREE_TCP;
        side->fault_left = 1;
        from = side->host.log_count;
        t = whole_tree(table[i].verb, pair);
        host_call(t);
        lab_round(&lab);
        assert_int_equal(t->block[2]->status, NDIS_STATUS_FAILURE);
        /* FAILURE, then the retrieve, then the abort. */
        done = at(from, LOG_DONE, NULL, 0);
        retrieve = at(done, LOG_EVENT, c, TcpIndicateRetrieve);
        assert_int_equal(side->host.log[retrieve].value, HardwareFailure);
        aborted = at(retrieve, LOG_EVENT, c, TcpIndicateAbort);
        assert_int_equal(host_count(&side->host, from, LOG_EVENT, c), 2);
        /* The host terminates; the send comes back aborted, then the terminate is done. */
        terminate = side->host.log_count;
        lab_terminate(&lab, 0, &c->object);
        sent = at(from, LOG_SENT, c, NDIS_STATUS_REQUEST_ABORTED);
        finished = at(terminate, LOG_DONE, NULL, 0);
        assert_true(aborted < terminate);
        assert_true(sent > aborted && sent < finished);
        lab_free(&lab);
    }
}

/* rows: C138 C229 */
static void lost_at_terminate(void **state)
{
    struct lab_side *side = &lab.side[0];
    struct lab_pair *pair;
    struct host_conn *c;
    struct host_tree *t;
    struct target_info info;
    size_t from, sent, disconnected, done;

    lab_init(&lab, NULL);
    pair = lab_connect_half(&lab, 4);
    c = &pair->conn[0];
    lab_send(&lab, 0, pair, 5000);
    host_disconnect(&side->host, c, TCP_DISCONNECT_GRACEFUL_CLOSE);
    lab_round(&lab);
    side->fault = TARGET_FAULT_TERMINATE;
    side->fault_layer = TREE_TCP;
    side->fault_left = 1;
    from = side->host.log_count;
    t = lab_terminate(&lab, 0, &c->object);
    /* The object is gone: everything open is aborted first, and the host is told that it lost it.
     */
    assert_int_equal(t->block[0]->status, NDIS_STATUS_FAILURE);
    sent = at(from, LOG_SENT, c, NDIS_STATUS_REQUEST_ABORTED);
    disconnected = at(from, LOG_DISCONNECTED, c, NDIS_STATUS_REQUEST_ABORTED);
    done = at(from, LOG_DONE, NULL, 0);
    assert_true(sent < disconnected && disconnected < done);
    target_get_info(side->target, &info);
    assert_int_equal(info.connections, 0);
    lab_free(&lab);
}

/* rows: C192 */
static void timers_that_do_not_run(void **state)
{
    struct lab_pair *pair;
    const struct chimney_tcp_delegated *d;

    lab_init(&lab, NULL);
    pair = lab_connect(&lab, 4);
    lab_run(&lab, LAB_SEC);
    d = lab_state(&lab, 0, &pair->conn[0]);
    assert_int_equal(d->ka_timeout_delta, 0xFFFFFFFF);
    assert_int_equal(d->retransmit_timeout_delta, 0xFFFFFFFF);
    lab_send(&lab, 0, pair, 10);
    d = lab_state(&lab, 0, &pair->conn[0]);
    assert_int_equal(d->ka_timeout_delta, 0xFFFFFFFF);
    assert_int_not_equal(d->retransmit_timeout_delta, 0xFFFFFFFF);
    lab_settle(&lab, LAB_SEC);
    lab_free(&lab);
}

/* ---- invalidate ------------------------------------------------------------------------------ */

/* rows: C204 C205 C206 C207 C208 C335 */
static void invalidate(void **state)
{
    for (int layer = TREE_NEIGHBOR; layer <= TREE_TCP; layer++) {
        struct lab_side *side = &lab.side[0];
        struct lab_pair *pairs[8];
        struct host_object *objects[] = {&side->neighbor.object, &side->path4.object, NULL};
        struct target_info before, after;
        struct host_tree *t;
        size_t mark;

        lab_init(&lab, NULL);
        for (int i = 0; i < 8; i++) {
            pairs[i] = lab_connect_half(&lab, i & 1 ? 6 : 4);
            lab_send(&lab, 0, pairs[i], 100); /* unacknowledged: something would be sent again */
        }
        objects[TREE_TCP] = &pairs[0]->conn[0].object;
        target_get_info(side->target, &before);
        /* The blocks of this tree have no state behind them at all. */
        t = lab_invalidate(&lab, 0, objects[layer]);
        assert_int_equal(t->block[0]->status, NDIS_STATUS_SUCCESS);
        mark = lab_mark(&lab);
        for (int i = 0; i < 8; i++) {
            host_send(&side->host, &pairs[i]->conn[0], 100);
            lab_peer_data(&lab, pairs[i], pairs[i]->conn[0].delegated.rcv_nxt, 50);
        }
        lab_run(&lab, 20 * LAB_SEC);
        for (int i = 0; i < 8; i++) {
            bool affected = layer == TREE_NEIGHBOR || (layer == TREE_PATH && !(i & 1)) || i == 0;
            bool seen = false;

            for (size_t n = mark; n < lab.frame_count; n++)
                seen |= lab.frames[n].end == 0 && lab.frames[n].packet.key.remote_port ==
                                                      pairs[i]->conn[0].constant.local_port;
            /* Nothing leaves any more, data or not, and each is asked for. */
            assert_int_equal(seen, !affected);
            assert_int_equal(lab_retrieved(&lab, 0, &pairs[i]->conn[0]),
                             affected ? InvalidState : CHIMNEY_REASON_NONE);
        }
        /* Object and connections stay until the host terminates them. */
        target_get_info(side->target, &after);
        assert_int_equal(after.connections, before.connections);
        assert_int_equal(after.paths, before.paths);
        assert_int_equal(after.neighbors, before.neighbors);
        for (int i = 0; i < 8; i++) {
            bool affected = lab_retrieved(&lab, 0, &pairs[i]->conn[0]) == InvalidState;

            t = lab_terminate(&lab, 0, &pairs[i]->conn[0].object);
            assert_int_equal(t->block[0]->status, NDIS_STATUS_SUCCESS);
            /* What was given before comes back; the send afterwards was answered. */
            assert_int_equal(t->block[0]->send_data.end, affected ? 100 : 200);
            assert_int_equal(host_last(&side->host, LOG_SENT, &pairs[i]->conn[0])->status,
                             NDIS_STATUS_UPLOAD_IN_PROGRESS);
        }
        lab_free(&lab);
    }
}

/* rows: C209 */
static void failed_invalidate_of_a_path(void **state)
{
    struct lab_side *side = &lab.side[0];
    struct host_tree *t;

    lab_init(&lab, NULL);
    lab_connect(&lab, 4);
    side->fault = TARGET_FAULT_INVALIDATE;
    side->fault_layer = TREE_PATH;
    side->fault_left = 1;
    t = lab_invalidate(&lab, 0, &side->path4.object);
    assert_int_equal(t->block[0]->status, NDIS_STATUS_FAILURE);
    lab_free(&lab); /* the host terminates */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(call_and_completion),
        cmocka_unit_test(parallel_initiates),
        cmocka_unit_test(parallel_queries),
        cmocka_unit_test(verbs_in_every_tcp_state),
        cmocka_unit_test(corrupt_state),
        cmocka_unit_test(lost_at_terminate),
        cmocka_unit_test(timers_that_do_not_run),
        cmocka_unit_test(invalidate),
        cmocka_unit_test(failed_invalidate_of_a_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
