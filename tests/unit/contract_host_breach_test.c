/* SPDX-License-Identifier: Apache-2.0 */
/* The verifier against a host that breaks the contract on purpose, one row a case. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "contract_breach.h"

static void unknown_type(struct world *w)
{
    struct host_tree *t = new_tree(w);

    t->block[2]->header.type = TcpOffloadResourceState;
    host_call(t);
    t->block[2]->header.type = TcpOffloadState;
}

static void cross_layer(struct world *w)
{
    struct host_tree *t = new_tree(w);

    t->block[0]->next = t->block[1];
    host_call(t);
}

static void tcp_with_dependents(struct world *w)
{
    struct host_tree *t = new_tree(w);

    host_add_object(t, 2, &w->c2.object);
    host_call(t);
}

static void foreign_context(struct world *w)
{
    w->c.object.cell.context = &w->aux;
    host_query(&w->h, TcpOffloadDelegatedState, &w->c.object);
}

static void twice_in_a_tree(struct world *w)
{
    struct host_tree *t;

    offload(w);
    t = host_tree(&w->h, TREE_INVALIDATE);
    host_add(t, -1, TcpOffloadDelegatedState, &w->c.object);
    host_add(t, -1, TcpOffloadDelegatedState, &w->c.object);
    host_call(t);
    fake_do_all(&w->f);
}

static void moved_cell(struct world *w)
{
    offload(w);
    w->c2.object.cell = w->c.object.cell;
    host_query(&w->h, TcpOffloadDelegatedState, &w->c2.object);
    fake_do_all(&w->f);
}

static void reused_cell(struct world *w)
{
    offload(w);
    w->c.object.cell.context = NULL;
    initiate(w);
    fake_do_all(&w->f);
}

static void short_length(struct world *w)
{
    struct host_tree *t = new_tree(w);

    tree_tcp_cached(t->block[2])->header.length -= 4;
    host_call(t);
}

static void under_way_already(struct world *w)
{
    struct host_tree *t = new_tree(w);

    host_call(t);
    w->v->ops->initiate(w->v, t->root);
    fake_do_all(&w->f);
    assert_int_equal(t->completions, 1);
}

#define NEW_TREE_WITH(name, change)                                                                \
    static void name(struct world *w)                                                              \
    {                                                                                              \
        struct host_tree *t = new_tree(w);                                                         \
                                                                                                   \
        change;                                                                                    \
        host_call(t);                                                                              \
        fake_do_all(&w->f);                                                                        \
    }

NEW_TREE_WITH(wide_vlan, tree_neighbor_const(t->block[0])->vlan_id = 4096)
NEW_TREE_WITH(no_address, {
    tree_path_const(t->block[1])->source_address = NULL;
    w->f.answer[1] = NDIS_STATUS_FAILURE;
})
NEW_TREE_WITH(wide_scale, tree_tcp_const(t->block[2])->rcv_wind_scale = 15)
NEW_TREE_WITH(wide_label, tree_tcp_cached(t->block[2])->flow_label = 1u << 20)
NEW_TREE_WITH(wide_priority, tree_tcp_cached(t->block[2])->user_priority = 8)
NEW_TREE_WITH(time_wait, tree_tcp_delegated(t->block[2])->state = TcpConnectionTimeWait)
NEW_TREE_WITH(sequence_disorder, tree_tcp_delegated(t->block[2])->snd_nxt = 1001)
NEW_TREE_WITH(sent_more_than_data, tree_tcp_delegated(t->block[2])->snd_max_possible = 1001)
NEW_TREE_WITH(two_spans, t->block[2]->send_data.end = 5)
NEW_TREE_WITH(backward_buffer, tree_tcp_delegated(t->block[2])->buffered_data = span(5, 4))
NEW_TREE_WITH(no_handle, t->block[2]->host_handle = NULL)
NEW_TREE_WITH(other_revision, t->block[1]->header.revision = 2)

static void placeholder_with_dependents(struct world *w)
{
    struct host_tree *t = new_tree(w);

    t->block[1]->cell = NULL;
    host_call(t);
}

static void linker_without_dependents(struct world *w)
{
    struct host_tree *t;

    offload(w);
    t = host_tree(&w->h, TREE_INITIATE);
    host_add_object(t, -1, &w->n.object);
    host_call(t);
}

static void wrong_neighbor(struct world *w)
{
    struct host_tree *t;

    offload(w);
    t = host_tree(&w->h, TREE_INITIATE);
    host_add_object(t, -1, &w->n2.object);
    host_add_object(t, 0, &w->p.object);
    host_add_object(t, 1, &w->c2.object);
    host_call(t);
    fake_do_all(&w->f);
}

static void dependents_left(struct world *w)
{
    struct host_object *p = &w->p.object;

    offload(w);
    host_terminate(&w->h, &p, 1);
    fake_do_all(&w->f);
}

static void both_flags(struct world *w)
{
    offload(w);
    host_disconnect(&w->h, &w->c, TCP_DISCONNECT_GRACEFUL_CLOSE | TCP_DISCONNECT_ABORTIVE_CLOSE);
}

static void no_flag(struct world *w)
{
    offload(w);
    host_disconnect(&w->h, &w->c, 0);
}

static void bound_twice(struct world *w)
{
    struct host second;

    host_init(&second, w->v);
}

static void initiated_twice(struct world *w)
{
    struct host_tree *again;

    initiate(w);
    again = new_tree(w);
    host_call(again);
    fake_do_all(&w->f);
}

#define VERB_WHILE_OFFLOADING(name, verb, type)                                                    \
    static void name(struct world *w)                                                              \
    {                                                                                              \
        struct host_tree *t = initiate(w), *other = host_tree(&w->h, verb);                        \
                                                                                                   \
        w->c.object.cell.context = t->block[2]->host_handle;                                       \
        host_add(other, -1, type, &w->c.object);                                                   \
        host_call(other);                                                                          \
        w->c.object.cell.context = NULL;                                                           \
    }
VERB_WHILE_OFFLOADING(query_while_offloading, TREE_QUERY, TcpOffloadDelegatedState)
VERB_WHILE_OFFLOADING(update_while_offloading, TREE_UPDATE, TcpOffloadCachedState)
VERB_WHILE_OFFLOADING(invalidate_while_offloading, TREE_INVALIDATE, TcpOffloadConstState)
VERB_WHILE_OFFLOADING(terminate_while_offloading, TREE_TERMINATE, TcpOffloadDelegatedState)

static void forward_while_offloading(struct world *w)
{
    struct host_tree *t = initiate(w);

    w->c.object.cell.context = t->block[2]->host_handle;
    host_forward(&w->h, &w->c, &w->segment);
    w->c.object.cell.context = NULL;
}

static void two_updates(struct world *w)
{
    offload(w);
    host_update(&w->h, &w->c.object);
    host_update(&w->h, &w->c.object);
    fake_do_all(&w->f);
}

static void update_of_invalid(struct world *w)
{
    offload(w);
    host_invalidate(&w->h, &w->p.object);
    fake_do_all(&w->f);
    host_update(&w->h, &w->p.object);
    fake_do_all(&w->f);
}

static void terminate_in_query(struct world *w)
{
    offload(w);
    host_query(&w->h, TcpOffloadDelegatedState, &w->c.object);
    terminate(w);
    fake_do_all(&w->f);
}

static void terminate_in_update(struct world *w)
{
    offload(w);
    host_update(&w->h, &w->c.object);
    terminate(w);
    fake_do_all(&w->f);
}

static void terminate_in_invalidate(struct world *w)
{
    offload(w);
    host_invalidate(&w->h, &w->c.object);
    terminate(w);
    fake_do_all(&w->f);
}

static void terminate_twice(struct world *w)
{
    offload(w);
    terminate(w);
    terminate(w);
    fake_do_all(&w->f);
}

static void inside_terminate(struct fake *f)
{
    terminate(f->inside_arg);
}

static void terminate_inside_receive(struct world *w)
{
    offload(w);
    w->f.inside = inside_terminate;
    host_consume(&w->h, &w->c, 0);
    fake_do_all(&w->f);
}

static void terminate_inside_disconnect(struct world *w)
{
    offload(w);
    w->f.inside = inside_terminate;
    host_disconnect(&w->h, &w->c, TCP_DISCONNECT_GRACEFUL_CLOSE);
}

static void relinked_connection(struct world *w)
{
    struct host_tree *t;
    struct host_conn *c2 = &w->c2;

    w->c2.object.parent = &w->p2.object;
    offload(w);
    host_offload(&w->h, &c2, 1);
    fake_do_all(&w->f);
    t = host_tree(&w->h, TREE_UPDATE);
    host_add(t, -1, Ip6OffloadConstState, &w->p2.object);
    host_add(t, 0, TcpOffloadConstState, &w->c.object);
    host_call(t);
    fake_do_all(&w->f);
}

static void send_after_terminate(struct world *w)
{
    offload(w);
    terminate(w);
    host_send(&w->h, &w->c, 1);
}

static void receive_after_terminate(struct world *w)
{
    offload(w);
    terminate(w);
    host_consume(&w->h, &w->c, 0);
}

static void const_in_terminate(struct world *w)
{
    struct host_tree *t;

    offload(w);
    t = host_tree(&w->h, TREE_TERMINATE);
    host_add(t, -1, TcpOffloadState, &w->c.object);
    host_call(t);
}

static void send_goes_back(struct world *w)
{
    offload(w);
    host_send(&w->h, &w->c, 10);
    w->v->ops->send(w->v, &w->c.object.cell, 5);
}

static void inside_send(struct fake *f)
{
    struct world *w = f->inside_arg;

    host_send(&w->h, &w->c, 1);
}

static void send_inside_send(struct world *w)
{
    offload(w);
    w->f.inside = inside_send;
    host_send(&w->h, &w->c, 1);
}

static void inside_receive(struct fake *f)
{
    struct world *w = f->inside_arg;

    host_consume(&w->h, &w->c, 0);
}

static void receive_inside_receive(struct world *w)
{
    offload(w);
    w->f.inside = inside_receive;
    host_consume(&w->h, &w->c, 0);
}

static void send_too_much(struct world *w)
{
    offload(w);
    host_send(&w->h, &w->c, RING + 1);
}

static void consume_too_much(struct world *w)
{
    offload(w);
    host_consume(&w->h, &w->c, 1);
}

static void send_after_disconnect(struct world *w)
{
    offload(w);
    host_disconnect(&w->h, &w->c, TCP_DISCONNECT_GRACEFUL_CLOSE);
    host_send(&w->h, &w->c, 1);
}

static void disconnect_twice(struct world *w)
{
    offload(w);
    host_disconnect(&w->h, &w->c, TCP_DISCONNECT_GRACEFUL_CLOSE);
    host_disconnect(&w->h, &w->c, TCP_DISCONNECT_GRACEFUL_CLOSE);
}

static void forward_twice(struct world *w)
{
    offload(w);
    host_forward(&w->h, &w->c, &w->segment);
    host_forward(&w->h, &w->c, &w->segment);
}

static void forward_nothing(struct world *w)
{
    offload(w);
    w->segment.tcp_offset = sizeof(w->frame);
    host_forward(&w->h, &w->c, &w->segment);
}

static void forward_after_terminate(struct world *w)
{
    offload(w);
    terminate(w);
    host_forward(&w->h, &w->c, &w->segment);
}

static void initiate_after_pause(struct world *w)
{
    indicate_status(w, NDIS_STATUS_OFFLOAD_PAUSE);
    initiate(w);
}

static void initiate_after_upload_all(struct world *w)
{
    indicate_status(w, NDIS_STATUS_UPLOAD_ALL);
    initiate(w);
}

static void empty_cell(struct world *w)
{
    host_send(&w->h, &w->c, 1);
}

static void on_a_dead_path(struct world *w)
{
    struct host_conn *c2 = &w->c2;

    offload(w);
    host_invalidate(&w->h, &w->p.object);
    fake_do_all(&w->f);
    host_offload(&w->h, &c2, 1);
    fake_do_all(&w->f);
}

/* rows: C12 C14 C15 C16 C26 C58 C85 C102 C112 C139 C141 C143 C144 C145 C146 C201 C211 C227 C239
 * C261 C321 */
static const struct breach_case cases[] = {
    CASE(14, unknown_type),
    CASE(15, cross_layer),
    CASE(16, tcp_with_dependents),
    CASE(18, foreign_context),
    CASE(18, twice_in_a_tree),
    CASE(25, moved_cell),
    CASE(25, reused_cell),
    CASE(26, short_length),
    CASE(28, under_way_already),
    CASE(31, wide_vlan),
    CASE(35, no_address),
    CASE(42, wide_scale),
    CASE(54, wide_label),
    CASE(57, wide_priority),
    CASE(58, time_wait),
    CASE(61, sequence_disorder),
    CASE(61, sent_more_than_data),
    CASE(75, two_spans),
    CASE(77, backward_buffer),
    CASE(19, no_handle),
    CASE(112, other_revision),
    CASE(102, placeholder_with_dependents),
    CASE(103, linker_without_dependents),
    CASE(11, wrong_neighbor),
    CASE(12, dependents_left),
    CASE(85, both_flags),
    CASE(85, no_flag),
    CASE(110, bound_twice),
    CASE_AND(139, initiated_twice, 2),
    CASE(141, query_while_offloading),
    CASE(141, update_while_offloading),
    CASE(141, invalidate_while_offloading),
    CASE(141, terminate_while_offloading),
    CASE(321, forward_while_offloading),
    CASE(143, two_updates),
    CASE(144, update_of_invalid),
    CASE(144, on_a_dead_path),
    CASE(145, terminate_in_query),
    CASE(145, terminate_in_update),
    CASE(145, terminate_in_invalidate),
    CASE(145, terminate_twice),
    CASE(146, terminate_inside_receive),
    CASE(146, terminate_inside_disconnect),
    CASE(201, relinked_connection),
    CASE(211, send_after_terminate),
    CASE(211, receive_after_terminate),
    CASE(227, const_in_terminate),
    CASE(238, send_goes_back),
    CASE(239, send_inside_send),
    CASE(261, receive_inside_receive),
    CASE(233, send_too_much),
    CASE(255, consume_too_much),
    CASE(299, send_after_disconnect),
    CASE(309, disconnect_twice),
    CASE(314, forward_twice),
    CASE(314, forward_nothing),
    CASE(321, forward_after_terminate),
    CASE(357, initiate_after_pause),
    CASE(357, initiate_after_upload_all),
    CASE(108, empty_cell),
};

static void host_breaches(void **state)
{
    every_breach_is_named("host", cases, sizeof(cases) / sizeof(cases[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(host_breaches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
