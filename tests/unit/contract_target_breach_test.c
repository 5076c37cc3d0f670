/* SPDX-License-Identifier: Apache-2.0 */
/* The verifier against a target that breaks the contract on purpose, one row a case. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "contract_breach.h"

#define DURING(name, verb, call, change)                                                           \
    static void name(struct world *w)                                                              \
    {                                                                                              \
        struct host_tree *t;                                                                       \
        struct chimney_block *root, *tcp;                                                          \
                                                                                                   \
        if (verb != TREE_INITIATE)                                                                 \
            offload(w);                                                                            \
        t = call;                                                                                  \
        root = fake_do(&w->f, true);                                                               \
        tcp = t->block[t->count - 1];                                                              \
        change;                                                                                    \
        (void)tcp;                                                                                 \
        fake_complete(&w->f, verb, root);                                                          \
    }
#define DURING_INITIATE(name, change) DURING(name, TREE_INITIATE, initiate(w), change)
#define DURING_TERMINATE(name, change) DURING(name, TREE_TERMINATE, terminate(w), change)
#define DURING_UPDATE(name, change)                                                                \
    DURING(name, TREE_UPDATE, host_update(&w->h, &w->c.object), change)
#define DURING_QUERY(name, type, change)                                                           \
    DURING(name, TREE_QUERY, host_query(&w->h, type, &w->c.object), change)

DURING_INITIATE(const_written, tree_tcp_const(tcp)->hash_value++)
DURING_INITIATE(no_status, tcp->status = TREE_STATUS_POISON)
DURING_INITIATE(header_changed, tcp->header.revision++)
DURING_INITIATE(port_changed, tcp->port_number = 1)
DURING_INITIATE(protocol_reserved_changed, tcp->protocol_reserved[1] = tcp)
DURING_INITIATE(im_reserved_changed, tcp->im_reserved[0] = NULL)
DURING_INITIATE(source_handle_changed, tcp->source_handle = tcp)
DURING_INITIATE(shape_changed, tcp->next = tcp)
DURING_INITIATE(handle_changed, tcp->host_handle = NULL)
DURING_INITIATE(not_in_the_list, {
    tcp->status = NDIS_STATUS_NOT_SUPPORTED;
    tcp->cell->context = NULL;
    root->status = root->dependents->status = NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS;
})
DURING_INITIATE(empty_after_success, tcp->cell->context = NULL)
DURING_INITIATE(context_after_failure, {
    tcp->status = NDIS_STATUS_OFFLOAD_TCP_ENTRIES;
    root->status = root->dependents->status = NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS;
})
DURING_INITIATE(orphan_taken, {
    root->dependents->status = NDIS_STATUS_OFFLOAD_PATH_ENTRIES;
    root->dependents->cell->context = NULL;
    root->status = NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS;
})
DURING_INITIATE(parent_says_success, {
    tcp->status = NDIS_STATUS_OFFLOAD_TCP_ENTRIES;
    tcp->cell->context = NULL;
})
DURING_INITIATE(partial_without_cause, root->status = NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS)
DURING_INITIATE(connection_in_part, {
    tcp->status = NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS;
    root->status = root->dependents->status = NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS;
})
DURING_INITIATE(send_data_touched, {
    tcp->status = NDIS_STATUS_OFFLOAD_TCP_ENTRIES;
    tcp->cell->context = NULL;
    tcp->send_data.end = 7;
    root->status = root->dependents->status = NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS;
})
DURING_INITIATE(wrong_completion, w->f.up->query_complete(w->f.host, root); return )

DURING_UPDATE(update_resources, tcp->status = NDIS_STATUS_RESOURCES)
DURING_UPDATE(update_written, tree_tcp_cached(tcp)->flags++)
DURING_QUERY(query_partial, TcpOffloadDelegatedState,
             tcp->status = NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS)
DURING_QUERY(query_flags, TcpOffloadDelegatedState, tree_tcp_delegated(tcp)->flags = 1)
DURING_QUERY(query_state, TcpOffloadDelegatedState, tree_tcp_delegated(tcp)->state = 11)
DURING_QUERY(query_const, TcpOffloadConstState, tree_tcp_const(tcp)->remote_mss = 1)
DURING_QUERY(query_cached, TcpOffloadCachedState, tree_tcp_cached(tcp)->max_rt = 1)
DURING_TERMINATE(terminate_aborted, tcp->status = NDIS_STATUS_REQUEST_ABORTED)
DURING_TERMINATE(terminate_flags, tree_tcp_delegated(tcp)->flags = 1)
DURING_TERMINATE(terminate_left_out, tree_tcp_delegated(tcp)->snd_wl1 = 0xDBDBDBDBu)
DURING_TERMINATE(terminate_two_spans, tcp->send_data.end = 1)
DURING_TERMINATE(terminate_foreign_data, {
    tree_tcp_delegated(tcp)->send_data = span(0, 1);
    tcp->send_data = tree_tcp_delegated(tcp)->send_data;
})
DURING_TERMINATE(terminate_empty_span, {
    tree_tcp_delegated(tcp)->send_data = span(3, 3);
    tcp->send_data = tree_tcp_delegated(tcp)->send_data;
})
DURING_TERMINATE(terminate_sequence, tree_tcp_delegated(tcp)->snd_max_possible = 9)
DURING_TERMINATE(terminate_buffer, tree_tcp_delegated(tcp)->buffered_data = span(2, 1))

static void one_context(struct world *w)
{
    struct host_conn *both[] = {&w->c, &w->c2};
    struct host_tree *t = host_offload(&w->h, both, 2);
    struct chimney_block *root = fake_do(&w->f, true);

    t->block[3]->cell->context = t->block[2]->cell->context;
    fake_complete(&w->f, TREE_INITIATE, root);
}

static void placeholder_left_out(struct world *w)
{
    struct host_tree *t = new_tree(w);
    struct chimney_block *root;

    host_add(t, -1, NeighborOffloadState, NULL);
    host_call(t);
    root = fake_do(&w->f, true);
    t->block[3]->status = TREE_STATUS_POISON;
    fake_complete(&w->f, TREE_INITIATE, root);
}

static void placeholder_fails(struct world *w)
{
    struct host_tree *t = new_tree(w);
    struct chimney_block *root;

    host_add(t, -1, NeighborOffloadState, NULL);
    host_call(t);
    root = fake_do(&w->f, true);
    t->block[3]->status = NDIS_STATUS_FAILURE;
    fake_complete(&w->f, TREE_INITIATE, root);
}

static void linker_lies(struct world *w)
{
    struct host_conn *c2 = &w->c2;
    struct host_tree *t;
    struct chimney_block *root;

    offload(w);
    w->f.answer[w->f.taken] = NDIS_STATUS_OFFLOAD_TCP_ENTRIES;
    t = host_offload(&w->h, &c2, 1);
    root = fake_do(&w->f, true);
    t->block[1]->status = NDIS_STATUS_SUCCESS;
    root->status = NDIS_STATUS_SUCCESS;
    fake_complete(&w->f, TREE_INITIATE, root);
}

static void cell_cleared(struct world *w)
{
    offload(w);
    /* The target below holds the address of the cell since the initiate. */
    host_send(&w->h, &w->c, 1);
    w->f.cell->context = NULL;
    host_consume(&w->h, &w->c, 0);
}

static void context_changed(struct world *w)
{
    offload(w);
    host_send(&w->h, &w->c, 1);
    w->f.cell->context = &w->aux;
    host_consume(&w->h, &w->c, 0);
}

static void late_handle(struct world *w)
{
    void *was;

    offload(w);
    was = handle(w);
    terminate(w);
    fake_do_all(&w->f);
    w->f.up->event(w->f.host, was, TcpIndicateAbort, 0);
}

static void unknown_handle(struct world *w)
{
    offload(w);
    w->f.up->event(w->f.host, &w->c, TcpIndicateAbort, 0);
}

static void path_handle(struct world *w)
{
    offload(w);
    w->f.up->send_complete(w->f.host, w->p.object.cell.context, 0, NDIS_STATUS_SUCCESS);
}

static void unknown_event(struct world *w)
{
    offload(w);
    w->f.up->event(w->f.host, handle(w), 5, 0);
}

static void inside_complete(struct fake *f)
{
    fake_do(f, false);
}

static void initiate_inside(struct world *w)
{
    w->f.inside = inside_complete;
    initiate(w);
}

static void terminate_inside(struct world *w)
{
    offload(w);
    w->f.inside = inside_complete;
    terminate(w);
}

static void update_inside(struct world *w)
{
    offload(w);
    w->f.inside = inside_complete;
    host_update(&w->h, &w->c.object);
}

static void query_inside(struct world *w)
{
    offload(w);
    w->f.inside = inside_complete;
    host_query(&w->h, TcpOffloadDelegatedState, &w->c.object);
}

static void invalidate_inside(struct world *w)
{
    offload(w);
    w->f.inside = inside_complete;
    host_invalidate(&w->h, &w->c.object);
}

static void completed_as(struct world *w, enum tree_verb verb, enum tree_verb as)
{
    struct chimney_block *root;

    offload(w);
    switch (verb) {
    case TREE_QUERY:
        host_query(&w->h, TcpOffloadDelegatedState, &w->c.object);
        break;
    case TREE_UPDATE:
        host_update(&w->h, &w->c.object);
        break;
    case TREE_INVALIDATE:
        host_invalidate(&w->h, &w->c.object);
        break;
    default:
        terminate(w);
    }
    root = fake_do(&w->f, true);
    fake_complete(&w->f, as, root);
}

static void query_as_initiate(struct world *w)
{
    completed_as(w, TREE_QUERY, TREE_INITIATE);
}
static void query_as_update(struct world *w)
{
    completed_as(w, TREE_QUERY, TREE_UPDATE);
}
static void update_as_invalidate(struct world *w)
{
    completed_as(w, TREE_UPDATE, TREE_INVALIDATE);
}
static void invalidate_as_terminate(struct world *w)
{
    completed_as(w, TREE_INVALIDATE, TREE_TERMINATE);
}

static void completed_twice(struct world *w)
{
    struct host_tree *t = initiate(w);
    struct chimney_block *root = t->root;

    fake_do_all(&w->f);
    w->f.up->initiate_complete(w->f.host, root);
}

static void indicated_too_early(struct world *w)
{
    struct host_tree *t = initiate(w);

    w->f.up->receive_indicate(w->f.host, t->block[2]->host_handle, 0);
}

static void event_inside_completion(struct host *h, const struct log_entry *entry)
{
    struct world *w = h->inside_arg;

    h->inside = NULL;
    retrieve(w, LowActivity);
}

static void indicated_in_completion(struct world *w)
{
    w->h.inside = event_inside_completion;
    initiate(w);
    fake_do_all(&w->f);
}

static void empty_frame(struct world *w)
{
    w->f.up->receive(w->f.host, 1, w->frame, 0);
}

static void disconnect_left_open(struct world *w)
{
    offload(w);
    host_disconnect(&w->h, &w->c, TCP_DISCONNECT_GRACEFUL_CLOSE);
    terminate(w);
    fake_do_all(&w->f);
}

static void forward_left_open(struct world *w)
{
    offload(w);
    host_forward(&w->h, &w->c, &w->segment);
    terminate(w);
    fake_do_all(&w->f);
}

static void terminate_in_indication(struct host *h, const struct log_entry *entry)
{
    struct world *w = h->inside_arg;

    h->inside = NULL;
    terminate(w);
    fake_do_all(&w->f);
}

static void indication_left_open(struct world *w)
{
    offload(w);
    w->h.inside = terminate_in_indication;
    retrieve(w, UploadRequested);
}

static void send_not_pending(struct world *w)
{
    offload(w);
    w->f.data_status = NDIS_STATUS_SUCCESS;
    host_send(&w->h, &w->c, 1);
}

static void receive_not_pending(struct world *w)
{
    offload(w);
    w->f.data_status = NDIS_STATUS_SUCCESS;
    host_consume(&w->h, &w->c, 0);
}

static void disconnect_not_pending(struct world *w)
{
    offload(w);
    w->f.data_status = NDIS_STATUS_UPLOAD_IN_PROGRESS;
    host_disconnect(&w->h, &w->c, TCP_DISCONNECT_GRACEFUL_CLOSE);
}

static void forward_not_pending(struct world *w)
{
    offload(w);
    w->f.data_status = NDIS_STATUS_SUCCESS;
    host_forward(&w->h, &w->c, &w->segment);
}

/** Ten bytes sent; @asked: the upload was asked for before. */
static void sent(struct world *w, bool asked)
{
    offload(w);
    host_send(&w->h, &w->c, 10);
    if (asked)
        retrieve(w, UploadRequested);
}

static void nothing_sent(struct world *w)
{
    offload(w);
    send_done(w, 0, NDIS_STATUS_REQUEST_ABORTED);
}

static void acked_goes_back(struct world *w)
{
    sent(w, false);
    send_done(w, 6, NDIS_STATUS_SUCCESS);
    send_done(w, 5, NDIS_STATUS_SUCCESS);
}

static void acked_too_much(struct world *w)
{
    sent(w, false);
    send_done(w, 11, NDIS_STATUS_SUCCESS);
}

static void success_after_failure(struct world *w)
{
    sent(w, true);
    send_done(w, 5, NDIS_STATUS_UPLOAD_IN_PROGRESS);
    send_done(w, 5, NDIS_STATUS_SUCCESS);
}

static void acked_after_failure(struct world *w)
{
    sent(w, true);
    send_done(w, 5, NDIS_STATUS_UPLOAD_IN_PROGRESS);
    host_send(&w->h, &w->c, 1);
    send_done(w, 6, NDIS_STATUS_UPLOAD_IN_PROGRESS);
}

static void send_status(struct world *w)
{
    sent(w, false);
    send_done(w, 10, NDIS_STATUS_FAILURE);
}

static void send_upload_unasked(struct world *w)
{
    sent(w, false);
    send_done(w, 0, NDIS_STATUS_UPLOAD_IN_PROGRESS);
}

static void send_upload_optional(struct world *w)
{
    sent(w, false);
    retrieve(w, LowActivity);
    send_done(w, 0, NDIS_STATUS_UPLOAD_IN_PROGRESS);
}

static void send_request_upload(struct world *w)
{
    sent(w, false);
    send_done(w, 0, NDIS_STATUS_REQUEST_UPLOAD);
}

static void send_paused(struct world *w)
{
    sent(w, false);
    indicate_status(w, NDIS_STATUS_OFFLOAD_PAUSE);
    indicate_status(w, NDIS_STATUS_UPLOAD_ALL);
    send_done(w, 0, NDIS_STATUS_PAUSED);
}

static void indicate_inside(struct host *h, const struct log_entry *entry)
{
    struct world *w = h->inside_arg;

    h->inside = NULL;
    w->f.up->receive_indicate(w->f.host, handle(w), 2);
}

static void indication_in_indication(struct world *w)
{
    offload(w);
    w->c.hold = true;
    w->h.inside = indicate_inside;
    w->f.up->receive_indicate(w->f.host, handle(w), 1);
}

static void indication_goes_back(struct world *w)
{
    offload(w);
    w->c.hold = true;
    w->f.up->receive_indicate(w->f.host, handle(w), 2);
    w->f.up->receive_indicate(w->f.host, handle(w), 1);
}

static void indication_too_far(struct world *w)
{
    offload(w);
    w->c.hold = true;
    w->f.up->receive_indicate(w->f.host, handle(w), RING + 1);
}

static void inside_disconnected(struct fake *f)
{
    struct world *w = f->inside_arg;

    f->up->disconnect_complete(f->host, handle(w), NDIS_STATUS_SUCCESS);
}

static void disconnect_inside(struct world *w)
{
    offload(w);
    w->f.inside = inside_disconnected;
    host_disconnect(&w->h, &w->c, TCP_DISCONNECT_GRACEFUL_CLOSE);
}

static void disconnected(struct world *w, uint32_t flags, chimney_status status)
{
    host_disconnect(&w->h, &w->c, flags);
    w->f.up->disconnect_complete(w->f.host, handle(w), status);
}

static void not_disconnecting(struct world *w)
{
    offload(w);
    w->f.up->disconnect_complete(w->f.host, handle(w), NDIS_STATUS_SUCCESS);
}

static void disconnected_before_sends(struct world *w)
{
    sent(w, false);
    disconnected(w, TCP_DISCONNECT_GRACEFUL_CLOSE, NDIS_STATUS_SUCCESS);
}

static void aborted_before_sends(struct world *w)
{
    sent(w, false);
    disconnected(w, TCP_DISCONNECT_ABORTIVE_CLOSE, NDIS_STATUS_SUCCESS);
}

static void data_after_abort(struct world *w)
{
    offload(w);
    disconnected(w, TCP_DISCONNECT_ABORTIVE_CLOSE, NDIS_STATUS_SUCCESS);
    w->c.hold = true;
    w->f.up->receive_indicate(w->f.host, handle(w), 1);
}

static void disconnect_status(struct world *w)
{
    offload(w);
    disconnected(w, TCP_DISCONNECT_GRACEFUL_CLOSE, NDIS_STATUS_FAILURE);
}

static void disconnect_upload_unasked(struct world *w)
{
    offload(w);
    disconnected(w, TCP_DISCONNECT_GRACEFUL_CLOSE, NDIS_STATUS_UPLOAD_IN_PROGRESS);
}

static void disconnect_paused(struct world *w)
{
    offload(w);
    disconnected(w, TCP_DISCONNECT_GRACEFUL_CLOSE, NDIS_STATUS_PAUSED);
}

static void half_closed_unwanted(struct world *w)
{
    offload(w);
    host_disconnect(&w->h, &w->c, TCP_DISCONNECT_GRACEFUL_CLOSE);
    retrieve(w, LowActivity);
}

static void close_wait_unwanted(struct world *w)
{
    w->c.delegated.state = TcpConnectionCloseWait;
    offload(w);
    retrieve(w, SmallIO);
}

static void inside_forwarded(struct fake *f)
{
    struct world *w = f->inside_arg;

    f->up->forward_complete(f->host, handle(w), f->segment, NDIS_STATUS_SUCCESS);
}

static void forward_inside(struct world *w)
{
    offload(w);
    w->f.inside = inside_forwarded;
    host_forward(&w->h, &w->c, &w->segment);
}

static void not_forwarded(struct world *w)
{
    offload(w);
    w->f.up->forward_complete(w->f.host, handle(w), &w->segment, NDIS_STATUS_SUCCESS);
}

static void forwarded(struct world *w, chimney_status status)
{
    offload(w);
    host_forward(&w->h, &w->c, &w->segment);
    w->f.up->forward_complete(w->f.host, handle(w), &w->segment, status);
}

static void forward_status(struct world *w)
{
    forwarded(w, NDIS_STATUS_FAILURE);
}
static void forward_upload_unasked(struct world *w)
{
    forwarded(w, NDIS_STATUS_UPLOAD_IN_PROGRESS);
}

static void event_of(struct world *w, enum chimney_event_type type, uint32_t info)
{
    w->f.up->event(w->f.host, handle(w), type, info);
}

static void fin_before_data(struct world *w)
{
    offload(w);
    w->c.hold = true;
    w->f.up->receive_indicate(w->f.host, handle(w), 1);
    event_of(w, TcpIndicateDisconnect, 0);
}

static void fin_twice(struct world *w)
{
    offload(w);
    event_of(w, TcpIndicateDisconnect, 0);
    event_of(w, TcpIndicateDisconnect, 0);
}

static void data_after_fin(struct world *w)
{
    offload(w);
    event_of(w, TcpIndicateDisconnect, 0);
    w->f.up->receive_indicate(w->f.host, handle(w), 1);
}

static void no_reason(struct world *w)
{
    offload(w);
    retrieve(w, 0);
}

static void reason_twelve(struct world *w)
{
    offload(w);
    retrieve(w, 12);
}

static void abort_twice(struct world *w)
{
    offload(w);
    event_of(w, TcpIndicateAbort, 0);
    event_of(w, TcpIndicateAbort, 0);
}

static void retrieve_path(struct world *w)
{
    offload(w);
    w->f.up->event(w->f.host, w->p.object.cell.context, TcpIndicateRetrieve, UploadRequested);
}

static void retrieve_neighbor(struct world *w)
{
    offload(w);
    w->f.up->event(w->f.host, w->n.object.cell.context, TcpIndicateRetrieve, UploadRequested);
}

static void question_of_half(struct world *w)
{
    offload(w);
    ask_about(w, NeighborOffloadDelegatedState, w->n.object.cell.context);
}

static void question_about_path(struct world *w)
{
    offload(w);
    ask_about(w, NeighborOffloadState, w->p.object.cell.context);
}

static void pause_in_pause(struct world *w)
{
    indicate_status(w, NDIS_STATUS_OFFLOAD_PAUSE);
    indicate_status(w, NDIS_STATUS_OFFLOAD_PAUSE);
}

static void upload_all_twice(struct world *w)
{
    indicate_status(w, NDIS_STATUS_UPLOAD_ALL);
    indicate_status(w, NDIS_STATUS_UPLOAD_ALL);
}

static void done_in_pause(struct world *w)
{
    w->h.inside = inside_initiate;
    indicate_status(w, NDIS_STATUS_OFFLOAD_PAUSE);
    assert_int_equal(w->found.count, 0);
    fake_do_all(&w->f);
}

static void refused_in_pause(struct world *w)
{
    w->h.inside = inside_initiate;
    indicate_status(w, NDIS_STATUS_OFFLOAD_PAUSE);
    w->f.answer[0] = NDIS_STATUS_RESOURCES;
    fake_do_all(&w->f);
}

static void done_before_reading(struct world *w)
{
    w->h.lazy = true;
    w->h.inside = inside_initiate;
    indicate_status(w, NDIS_STATUS_OFFLOAD_PAUSE);
    indicate_status(w, NDIS_STATUS_OFFLOAD_RESUME);
    fake_do_all(&w->f);
}

static void resume_without_pause(struct world *w)
{
    indicate_status(w, NDIS_STATUS_OFFLOAD_RESUME);
}

static void resume_without_capabilities(struct world *w)
{
    indicate_status(w, NDIS_STATUS_OFFLOAD_PAUSE);
    w->f.up->status(w->f.host, NDIS_STATUS_OFFLOAD_RESUME, NULL, 0);
}

static void resume_with_others(struct world *w)
{
    struct chimney_capabilities announced = w->f.capabilities;

    indicate_status(w, NDIS_STATUS_OFFLOAD_PAUSE);
    announced.tcp_connection_offload_capacity++;
    w->f.up->status(w->f.host, NDIS_STATUS_OFFLOAD_RESUME, &announced, sizeof(announced));
}

static void resume_too_early(struct world *w)
{
    offload(w);
    indicate_status(w, NDIS_STATUS_UPLOAD_ALL);
    terminate(w);
    indicate_status(w, NDIS_STATUS_OFFLOAD_RESUME);
}

static void capabilities_change(struct world *w)
{
    w->f.capabilities.max_path_mtu = 9000;
    host_read_capabilities(&w->h);
}

static void no_encapsulation(struct world *w)
{
    indicate_status(w, NDIS_STATUS_OFFLOAD_PAUSE);
    w->f.capabilities.encapsulation = 0;
    host_read_capabilities(&w->h);
}

static void no_family(struct world *w)
{
    indicate_status(w, NDIS_STATUS_OFFLOAD_PAUSE);
    w->f.capabilities.support_ipv4 = w->f.capabilities.support_ipv6 = false;
    host_read_capabilities(&w->h);
}

static void hardware_without_buffer(struct world *w)
{
    indicate_status(w, NDIS_STATUS_TCP_CONNECTION_OFFLOAD_HARDWARE_CAPABILITIES);
}

static void state_invalid(struct world *w)
{
    indicate_status(w, NDIS_STATUS_OFFLOAD_STATE_INVALID);
}

/* rows: C10 C135 C313 C345 */
static const struct breach_case cases[] = {
    CASE(4, const_written),
    CASE(5, update_written),
    CASE(4, query_const),
    CASE(5, query_cached),
    CASE(10, cell_cleared),
    CASE(13, header_changed),
    CASE_AND(17, no_status, 1),
    CASE(136, placeholder_left_out),
    CASE(18, handle_changed),
    CASE(19, unknown_handle),
    CASE(19, path_handle),
    CASE(20, protocol_reserved_changed),
    CASE(20, im_reserved_changed),
    CASE(20, source_handle_changed),
    CASE(22, port_changed),
    CASE(28, shape_changed),
    CASE(59, query_flags),
    CASE(59, terminate_flags),
    CASE(82, unknown_event),
    CASE(102, placeholder_fails),
    CASE(103, linker_lies),
    CASE(104, empty_after_success),
    CASE(105, context_after_failure),
    CASE(108, context_changed),
    CASE(108, one_context),
    CASE(108, late_handle),
    CASE(115, initiate_inside),
    CASE(116, terminate_inside),
    CASE(117, update_inside),
    CASE(118, query_inside),
    CASE(119, invalidate_inside),
    CASE(120, query_as_initiate),
    CASE(121, invalidate_as_terminate),
    CASE(122, query_as_update),
    CASE(123, wrong_completion),
    CASE(124, update_as_invalidate),
    CASE(135, completed_twice),
    CASE(137, update_resources),
    CASE(137, query_partial),
    CASE(137, terminate_aborted),
    CASE(155, send_data_touched),
    CASE(158, orphan_taken),
    CASE(159, parent_says_success),
    CASE(161, indicated_too_early),
    CASE(161, indicated_in_completion),
    CASE(163, partial_without_cause),
    CASE(164, connection_in_part),
    CASE(165, not_in_the_list),
    CASE(190, query_state),
    CASE(213, empty_frame),
    CASE(220, terminate_buffer),
    CASE_AND(222, terminate_two_spans, 1),
    CASE(222, terminate_foreign_data),
    CASE(222, terminate_sequence),
    CASE(223, terminate_empty_span),
    CASE(225, disconnect_left_open),
    CASE(225, forward_left_open),
    CASE(226, indication_left_open),
    CASE(228, terminate_left_out),
    CASE(233, send_not_pending),
    CASE(255, receive_not_pending),
    CASE(295, disconnect_not_pending),
    CASE(314, forward_not_pending),
    CASE(236, nothing_sent),
    CASE(243, acked_goes_back),
    CASE(243, acked_too_much),
    CASE(246, success_after_failure),
    CASE(246, acked_after_failure),
    CASE(247, send_status),
    CASE(249, send_upload_unasked),
    CASE(249, send_upload_optional),
    CASE(250, send_request_upload),
    CASE(251, send_paused),
    CASE(251, disconnect_paused),
    CASE(263, indication_in_indication),
    CASE(276, indication_goes_back),
    CASE(276, indication_too_far),
    CASE(295, disconnect_inside),
    CASE(297, not_disconnecting),
    CASE(301, disconnected_before_sends),
    CASE(304, aborted_before_sends),
    CASE(305, data_after_abort),
    CASE(306, disconnect_status),
    CASE(307, disconnect_upload_unasked),
    CASE(313, half_closed_unwanted),
    CASE(313, close_wait_unwanted),
    CASE(314, forward_inside),
    CASE(316, not_forwarded),
    CASE(322, forward_status),
    CASE(323, forward_upload_unasked),
    CASE(329, fin_before_data),
    CASE(329, fin_twice),
    CASE(329, data_after_fin),
    CASE(330, no_reason),
    CASE(330, reason_twelve),
    CASE(331, abort_twice),
    CASE(345, retrieve_path),
    CASE(345, retrieve_neighbor),
    CASE(346, question_of_half),
    CASE(346, question_about_path),
    CASE(357, pause_in_pause),
    CASE(358, done_in_pause),
    CASE(358, refused_in_pause),
    CASE(358, done_before_reading),
    CASE(359, upload_all_twice),
    CASE(361, resume_without_pause),
    CASE(361, resume_without_capabilities),
    CASE(361, resume_with_others),
    CASE(363, resume_too_early),
    CASE(364, capabilities_change),
    CASE(365, hardware_without_buffer),
    CASE(367, state_invalid),
    CASE(378, no_encapsulation),
    CASE(379, no_family),
};

static void target_breaches(void **state)
{
    every_breach_is_named("target", cases, sizeof(cases) / sizeof(cases[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(target_breaches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
