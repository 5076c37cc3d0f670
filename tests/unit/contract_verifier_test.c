/* SPDX-License-Identifier: Apache-2.0 */
/* The verifier itself: it is not seen by those who behave, and it leaves nothing behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "contract_breach.h"

static void query_left_open(struct world *w)
{
    struct chimney_block *root;

    offload(w);
    terminate(w);
    root = fake_do(&w->f, true);
    /* The host's rule that makes this impossible has to be broken first. */
    host_query(&w->h, TcpOffloadDelegatedState, &w->c.object);
    fake_complete(&w->f, TREE_TERMINATE, root);
}

static void send_while_offloading(struct world *w)
{
    struct host_tree *t;

    offload(w);
    t = host_tree(&w->h, TREE_INITIATE);
    host_add_object(t, -1, &w->n.object);
    host_add_object(t, 0, &w->p.object);
    host_add_object(t, 1, &w->c2.object);
    host_call(t);
    /* There is no context yet; the host takes it from the block the target has been given. */
    w->c2.object.cell.context = t->block[2]->host_handle;
    host_send(&w->h, &w->c2, 1);
    w->c2.object.cell.context = NULL;
}

/** A query during a terminate breaks two rules, of the host and of the target. */
static void query_in_terminate(void **state)
{
    static struct world w;

    world_init(&w);
    query_left_open(&w);
    assert_int_equal(w.found.row[0], 145);
    verifier_destroy(w.v);
    world_free(&w);
}

static void send_before_completion(void **state)
{
    static struct world w;

    world_init(&w);
    send_while_offloading(&w);
    assert_int_equal(w.found.row[0], 141);
    verifier_destroy(w.v);
    world_free(&w);
}

/* rows: C86 C88 */
static void incomplete_tables(void **state)
{
    struct chimney_target_ops holed;
    struct findings found = {0};
    struct fake f;
    struct chimney_target *v;
    static const struct chimney_host_ops nobody;

    fake_init(&f);
    holed = *f.base.ops;
    holed.terminate = NULL;
    f.base.ops = &holed;
    v = verifier_create(&f.base, findings_report, &found);
    assert_int_equal(found.count, 1);
    assert_int_equal(found.row[0], 86);
    v->ops->bind(v, &nobody, NULL);
    assert_int_equal(found.count, 2);
    assert_int_equal(found.row[1], 88);
    verifier_destroy(v);
}

/* rows: C109 */
static void verb_before_bind(void **state)
{
    struct findings found = {0};
    struct fake f;
    struct chimney_target *v;
    struct chimney_block *block;

    fake_init(&f);
    v = verifier_create(&f.base, findings_report, &found);
    block = tree_block_init(malloc(tree_block_size(TcpOffloadDelegatedState)),
                            TcpOffloadDelegatedState);
    v->ops->query(v, block);
    assert_int_equal(found.row[0], 109);
    verifier_destroy(v);
    free(block);
}

/** A refused tree comes back, but not from inside the call that brought it. */
static void refused_trees_come_back(void **state)
{
    static struct world w;
    struct host_tree *t, *u;

    world_init(&w);
    t = new_tree(&w);
    tree_tcp_const(t->block[2])->header.length = 0;
    host_call(t);
    u = host_tree(&w.h, TREE_QUERY);
    w.c2.object.cell.context = &w;
    host_add(u, -1, TcpOffloadDelegatedState, &w.c2.object);
    host_call(u);
    assert_int_equal(w.f.pending_count, 0);
    assert_true(t->done);
    assert_false(u->done);
    host_read_capabilities(&w.h);
    assert_true(u->done);
    for (int i = 0; i < 3; i++)
        assert_int_equal(t->block[i]->status, NDIS_STATUS_FAILURE);
    assert_int_equal(u->block[0]->status, NDIS_STATUS_FAILURE);
    verifier_destroy(w.v);
    world_free(&w);
}

/* rows: C20 C21 */
static bool scribble(void *arg, struct chimney_block *block, struct chimney_block *parent)
{
    block->target_reserved[0] = block->target_reserved[1] = arg;
    block->scratch[0] = block->scratch[1] = arg;
    return true;
}

/**
 * Between a host and a target that behave the layer is not seen: same root below and above,
 * statuses as given, reserved fields as they were, the host's handles in every indication.
 */
static void transparent(void **state)
{
    static struct world w;
    struct host_tree *t;
    struct chimney_block *root;
    struct host_object *all[] = {&w.n.object, &w.p.object, &w.c.object, &w.c2.object};
    uint64_t calls, breaches;
    size_t from;

    world_init(&w);
    t = new_tree(&w);
    host_add_object(t, 1, &w.c2.object);
    for (int i = 0; i < t->count; i++) {
        t->block[i]->protocol_reserved[0] = &w.aux;
        t->block[i]->im_reserved[0] = &w.f;
        t->block[i]->im_reserved[1] = &w.h;
        t->block[i]->source_handle = &w.found;
    }
    w.f.answer[3] = NDIS_STATUS_OFFLOAD_TCP_ENTRIES;
    host_call(t);
    assert_ptr_equal(w.f.pending[0].root, t->root);
    tree_walk(t->root, scribble, &w);
    root = fake_do(&w.f, true);
    assert_ptr_equal(root, t->root);
    fake_complete(&w.f, TREE_INITIATE, root);
    assert_int_equal(t->completions, 1);
    for (int i = 0; i < t->count; i++) {
        assert_ptr_equal(t->block[i]->protocol_reserved[0], &w.aux);
        assert_ptr_equal(t->block[i]->im_reserved[0], &w.f);
        assert_ptr_equal(t->block[i]->im_reserved[1], &w.h);
        assert_ptr_equal(t->block[i]->source_handle, &w.found);
        assert_ptr_equal(t->block[i]->cell, &t->object[i]->cell);
        assert_ptr_equal(t->block[i]->host_handle, t->object[i]);
    }
    assert_int_equal(t->block[0]->status, NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS);
    assert_int_equal(t->block[1]->status, NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS);
    assert_int_equal(t->block[2]->status, NDIS_STATUS_SUCCESS);
    assert_int_equal(t->block[3]->status, NDIS_STATUS_OFFLOAD_TCP_ENTRIES);
    assert_null(w.c2.object.cell.context);
    assert_non_null(w.c.object.cell.context);

    /* The second one again, under what is there already. */
    t = host_tree(&w.h, TREE_INITIATE);
    host_add_object(t, -1, &w.n.object);
    host_add_object(t, 0, &w.p.object);
    host_add_object(t, 1, &w.c2.object);
    host_call(t);
    fake_do_all(&w.f);
    assert_int_equal(t->block[0]->status, NDIS_STATUS_SUCCESS);

    /* Data both ways, events, questions: with our own handles. */
    from = w.h.log_count;
    host_send(&w.h, &w.c, 100);
    assert_int_equal(w.f.position, 100);
    send_done(&w, 60, NDIS_STATUS_SUCCESS);
    send_done(&w, 100, NDIS_STATUS_SUCCESS);
    w.f.up->receive_indicate(w.f.host, handle(&w), 10);
    host_forward(&w.h, &w.c, &w.segment);
    w.f.up->forward_complete(w.f.host, handle(&w), &w.segment, NDIS_STATUS_SUCCESS);
    retrieve(&w, LowActivity);
    ask_about(&w, NeighborOffloadState, w.n.object.cell.context);
    assert_int_equal(host_count(&w.h, from, LOG_SENT, &w.c), 2);
    assert_int_equal(host_count(&w.h, from, LOG_INDICATE, &w.c), 1);
    assert_int_equal(host_count(&w.h, from, LOG_FORWARDED, &w.c), 1);
    assert_int_equal(host_count(&w.h, from, LOG_EVENT, &w.c), 1);
    assert_int_equal(host_count(&w.h, from, LOG_QUESTION, &w.n), 1);

    /* Two queries at once, an update, an invalidate. */
    host_query(&w.h, TcpOffloadDelegatedState, &w.c.object);
    host_query(&w.h, TcpOffloadDelegatedState, &w.c.object);
    w.c.cached.max_rt = 99;
    host_update(&w.h, &w.c.object);
    host_update(&w.h, &w.c2.object);
    fake_do_all(&w.f);
    host_invalidate(&w.h, &w.n.object);
    fake_do_all(&w.f);

    /* A send that is answered with an upload, and the upload of everything in one tree. */
    host_send(&w.h, &w.c, 50);
    retrieve(&w, InvalidState);
    send_done(&w, 100, NDIS_STATUS_UPLOAD_IN_PROGRESS);
    t = host_terminate(&w.h, all, 4);
    root = fake_do(&w.f, true);
    tree_tcp_delegated(t->block[2])->send_data = span(100, 150);
    t->block[2]->send_data = span(100, 150);
    tree_tcp_delegated(t->block[2])->buffered_data = span(10, 10);
    fake_complete(&w.f, TREE_TERMINATE, root);
    for (int i = 0; i < w.found.count; i++)
        print_message("C%d %s: %s\n", w.found.row[i], w.found.who[i], w.found.line[i]);
    assert_int_equal(w.found.count, 0);
    verifier_counts(w.v, &calls, &breaches);
    assert_int_equal(breaches, 0);
    assert_int_equal(calls, 1 + 1 + 2 * 8 + 12);
    verifier_destroy(w.v);
    assert_int_equal(w.found.count, 0);
    world_free(&w);
}

/** A pause as it should be: a late initiate waits, gets fresh state, and is done after the reading.
 */
static void pause_as_it_should_be(void **state)
{
    static struct world w;
    struct chimney_block *tcp;

    world_init(&w);
    w.h.inside = inside_initiate;
    indicate_status(&w, NDIS_STATUS_OFFLOAD_PAUSE);
    assert_int_equal(w.f.pending_count, 1);
    /* The host took the connection back meanwhile and has newer state for it. */
    tcp = w.f.pending[0].root->dependents->dependents;
    tree_tcp_delegated(tcp)->rcv_nxt += 500;
    tree_tcp_const(tcp)->hash_value = 77;
    w.f.capabilities.tcp_connection_offload_capacity = 7;
    indicate_status(&w, NDIS_STATUS_OFFLOAD_RESUME);
    assert_int_equal(w.h.capabilities.tcp_connection_offload_capacity, 7);
    fake_do_all(&w.f);
    assert_int_equal(w.c.object.state, CHIMNEY_OFFLOADED);
    /* Pause, upload-all, resume. */
    indicate_status(&w, NDIS_STATUS_OFFLOAD_PAUSE);
    indicate_status(&w, NDIS_STATUS_UPLOAD_ALL);
    terminate(&w);
    fake_do_all(&w.f);
    indicate_status(&w, NDIS_STATUS_OFFLOAD_RESUME);
    offload(&w);
    assert_int_equal(w.found.count, 0);
    verifier_destroy(w.v);
    /* Never terminated: three objects. */
    assert_int_equal(w.found.count, 3);
    assert_int_equal(w.found.row[0], 210);
    world_free(&w);
}

/* rows: C202 */
static void relink_and_terminate_the_old(void **state)
{
    static struct world w;
    struct host_tree *t;
    struct host_object *rest[] = {&w.n2.object, &w.p.object, &w.c.object};
    struct host_object *old = &w.n.object;

    world_init(&w);
    offload(&w);
    host_invalidate(&w.h, &w.n.object);
    fake_do_all(&w.f);
    t = host_tree(&w.h, TREE_INITIATE);
    host_add_object(t, -1, &w.n2.object);
    host_call(t);
    fake_do_all(&w.f);
    t = host_tree(&w.h, TREE_UPDATE);
    host_add(t, -1, NeighborOffloadConstState, &w.n2.object);
    host_add(t, 0, Ip4OffloadConstState, &w.p.object);
    host_call(t);
    fake_do_all(&w.f);
    host_terminate(&w.h, &old, 1);
    fake_do_all(&w.f);
    w.p.object.parent = &w.n2.object;
    host_terminate(&w.h, rest, 3);
    fake_do_all(&w.f);
    assert_int_equal(w.found.count, 0);
    verifier_destroy(w.v);
    assert_int_equal(w.found.count, 0);
    world_free(&w);
}

/** What is left open at the end is a leak, each by its name. */
static void leaks(void **state)
{
    static struct world w;
    static const int expected[] = {135, 210, 297, 316};

    world_init(&w);
    offload_two(&w);
    host_disconnect(&w.h, &w.c, TCP_DISCONNECT_GRACEFUL_CLOSE);
    host_forward(&w.h, &w.c2, &w.segment);
    host_query(&w.h, TcpOffloadDelegatedState, &w.c2.object);
    assert_int_equal(w.found.count, 0);
    verifier_destroy(w.v);
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        bool seen = false;

        for (int n = 0; n < w.found.count; n++)
            seen |= w.found.row[n] == expected[i];
        assert_true(seen);
    }
    world_free(&w);
}

/** Objects come and go for a long time and nothing is left of them. */
static void memory_does_not_grow(void **state)
{
    static struct world w;
    struct host_object *all[] = {&w.n.object, &w.p.object, &w.c.object};

    world_init(&w);
    for (int i = 0; i < 2000; i++) {
        offload(&w);
        w.f.taken = 0;
        host_terminate(&w.h, all, 3);
        fake_do_all(&w.f);
    }
    assert_int_equal(w.found.count, 0);
    verifier_destroy(w.v);
    assert_int_equal(w.found.count, 0);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(query_in_terminate),
        cmocka_unit_test(send_before_completion),
        cmocka_unit_test(incomplete_tables),
        cmocka_unit_test(verb_before_bind),
        cmocka_unit_test(refused_trees_come_back),
        cmocka_unit_test(transparent),
        cmocka_unit_test(pause_as_it_should_be),
        cmocka_unit_test(relink_and_terminate_the_old),
        cmocka_unit_test(leaks),
        cmocka_unit_test(memory_does_not_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
