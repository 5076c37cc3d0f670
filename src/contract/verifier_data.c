/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data verbs and their completions.
 *
 * Sends are a range of the send stream: [send_acked, send_end) is open.  A completion with SUCCESS
 * moves the lower end; one with any other status ends all of them, and from then on none succeeds.
 */
#include "contract/verifier_internal.h"

/** The connection a data verb names, or NULL; then nobody below could make sense of the call. */
static struct verifier_object *named(struct verifier *v, const struct chimney_cell *cell,
                                     const char *verb)
{
    struct verifier_object *object = object_of_cell(v, cell);

    if (!object || object->layer != TREE_TCP) {
        breach(v, 108, LEDGER_HOST, "%s: the cell holds no connection", verb);
        return NULL;
    }
    object_check_context(v, object);
    if (object->host_cell != cell)
        breach(v, 25, LEDGER_HOST, "%s: the cell of the connection has moved", verb);
    return object;
}

/** Not while the connection comes or goes: @uploading is the row that says so for its terminate. */
static void check_moment(struct verifier *v, const struct verifier_object *object, const char *verb,
                         int uploading)
{
    if (object->state == CHIMNEY_OFFLOADING)
        breach(v, 141, LEDGER_HOST, "%s on a connection whose offload is in progress", verb);
    if (object->state == CHIMNEY_UPLOADING)
        breach(v, uploading, LEDGER_HOST, "%s after terminate was called", verb);
}

static void check_pending(struct verifier *v, chimney_status status, const char *verb, int row)
{
    if (status != NDIS_STATUS_PENDING)
        breach(v, row, LEDGER_TARGET, "%s returns %s", verb, chimney_status_name(status));
}

chimney_status verify_send(struct chimney_target *t, struct chimney_cell *cell, uint64_t end)
{
    struct verifier *v = verifier_of(t);
    struct verifier_object *object;
    chimney_status status;

    verifier_enter(v);
    object = named(v, cell, "send");
    if (!object)
        return NDIS_STATUS_PENDING;
    check_moment(v, object, "send", 211);
    if (object->in_send)
        breach(v, 239, LEDGER_HOST, "a send inside a send of the same connection");
    if (object->fin_asked || object->abort_asked)
        breach(v, 299, LEDGER_HOST, "a send after the disconnect");
    if (end < object->send_end)
        breach(v, 238, LEDGER_HOST, "a send ends before the one in front of it");
    if (end - object->send_acked > object->tcp.constant.send_stream.size)
        breach(v, 233, LEDGER_HOST, "a send of more than the send stream holds");
    if (end > object->send_end)
        object->send_end = end;
    object->send_called = true;
    object->in_send = true;
    object->in_call++;
    status = v->down.send(v->below, &object->cell, end);
    object->in_call--;
    object->in_send = false;
    check_pending(v, status, "send", 233);
    return status;
}

chimney_status verify_receive(struct chimney_target *t, struct chimney_cell *cell, uint64_t tail)
{
    struct verifier *v = verifier_of(t);
    struct verifier_object *object;
    chimney_status status;

    verifier_enter(v);
    object = named(v, cell, "receive");
    if (!object)
        return NDIS_STATUS_PENDING;
    check_moment(v, object, "receive", 211);
    if (object->in_receive)
        breach(v, 261, LEDGER_HOST, "a receive inside a receive of the same connection");
    if (tail < object->receive_tail || tail > object->receive_head)
        breach(v, 255, LEDGER_HOST, "a receive consumes what was not indicated");
    else
        object->receive_tail = tail;
    object->in_receive = true;
    object->in_call++;
    status = v->down.receive(v->below, &object->cell, tail);
    object->in_call--;
    object->in_receive = false;
    check_pending(v, status, "receive", 255);
    return status;
}

chimney_status verify_disconnect(struct chimney_target *t, struct chimney_cell *cell,
                                 uint32_t flags)
{
    struct verifier *v = verifier_of(t);
    struct verifier_object *object;
    chimney_status status;
    uint32_t open;

    verifier_enter(v);
    object = named(v, cell, "disconnect");
    if (!object)
        return NDIS_STATUS_PENDING;
    check_moment(v, object, "disconnect", 211);
    if (flags != TCP_DISCONNECT_GRACEFUL_CLOSE && flags != TCP_DISCONNECT_ABORTIVE_CLOSE)
        breach(v, 85, LEDGER_HOST, "disconnect flags 0x%x", flags);
    /* A second one only to abort what is already being closed. */
    if (object->abort_asked || (object->fin_asked && !(flags & TCP_DISCONNECT_ABORTIVE_CLOSE)))
        breach(v, 309, LEDGER_HOST, "a second disconnect");
    object->fin_asked = true;
    object->abort_asked |= (flags & TCP_DISCONNECT_ABORTIVE_CLOSE) != 0;
    open = ++object->disconnects;
    object->in_disconnect = true;
    object->in_call++;
    status = v->down.disconnect(v->below, &object->cell, flags);
    object->in_call--;
    object->in_disconnect = false;
    if (object->disconnects < open)
        breach(v, 295, LEDGER_TARGET, "a disconnect completes inside its own call");
    check_pending(v, status, "disconnect", 295);
    return status;
}

chimney_status verify_forward(struct chimney_target *t, struct chimney_cell *cell,
                              const struct chimney_segment *segment)
{
    struct verifier *v = verifier_of(t);
    struct verifier_object *object;
    chimney_status status;

    verifier_enter(v);
    object = named(v, cell, "forward");
    if (!object)
        return NDIS_STATUS_PENDING;
    if (object->state == CHIMNEY_OFFLOADING || object->state == CHIMNEY_UPLOADING)
        breach(v, 321, LEDGER_HOST, "forward while the connection is offloaded or uploaded");
    if (!segment->frame || segment->tcp_offset >= segment->frame_length)
        breach(v, 314, LEDGER_HOST, "a forwarded frame without a TCP header");
    if (ledger_open(&v->ledger, LEDGER_FORWARD, segment, LEDGER_TARGET, object) == LEDGER_TWICE)
        breach(v, 314, LEDGER_HOST, "a segment is forwarded again before it was completed");
    else
        object->forwards++;
    object->in_forward = true;
    object->in_call++;
    status = v->down.forward(v->below, &object->cell, segment);
    object->in_call--;
    object->in_forward = false;
    if (status != NDIS_STATUS_PENDING)
        ledger_close(&v->ledger, LEDGER_FORWARD, segment, LEDGER_TARGET);
    check_pending(v, status, "forward", 314);
    return status;
}

/* ---- completions and the receive indication ---------------------------------------------------
 */

/** The connection of an indication; checks that indications are allowed by now. */
static struct verifier_object *indicated(struct verifier *v, const void *handle, const char *what)
{
    struct verifier_object *object = object_of_handle(v, handle, what);

    if (!object)
        return NULL;
    if (object->layer != TREE_TCP) {
        breach(v, 19, LEDGER_TARGET, "%s with the handle of a %s", what, layer_name(object->layer));
        return NULL;
    }
    object_check_context(v, object);
    if (!object->announced)
        breach(v, 161, LEDGER_TARGET, "%s before the initiate's completion has returned", what);
    return object;
}

static void check_send_status(struct verifier *v, const struct verifier_object *object,
                              chimney_status status)
{
    switch (status) {
    case NDIS_STATUS_SUCCESS:
        if (object->send_over)
            breach(v, 246, LEDGER_TARGET, "a send succeeds after one failed");
        break;
    case NDIS_STATUS_UPLOAD_IN_PROGRESS:
        if (!verifier_upload_due(v, object))
            breach(v, 249, LEDGER_TARGET,
                   "UPLOAD_IN_PROGRESS for a send, and no upload was asked for");
        break;
    case NDIS_STATUS_REQUEST_ABORTED:
        break;
    case NDIS_STATUS_PAUSED:
        breach(v, 251, LEDGER_TARGET, "a send completes with PAUSED");
        break;
    case NDIS_STATUS_REQUEST_UPLOAD:
    case NDIS_STATUS_UPLOAD_REQUESTED:
        breach(v, 250, LEDGER_TARGET, "a send completes with %s, a code of intermediate layers",
               chimney_status_name(status));
        break;
    default:
        breach(v, 247, LEDGER_TARGET, "a send completes with %s", chimney_status_name(status));
    }
}

void verify_send_complete(struct chimney_host *h, void *handle, uint64_t acked,
                          chimney_status status)
{
    struct verifier *v = verifier_of_host(h);
    struct verifier_object *object;

    verifier_enter(v);
    object = indicated(v, handle, "send completion");
    if (!object)
        return;
    check_send_status(v, object, status);
    if (acked < object->send_acked)
        breach(v, 243, LEDGER_TARGET, "acknowledged data becomes unacknowledged");
    else if (acked > object->send_end)
        breach(v, 243, LEDGER_TARGET, "more is acknowledged than was sent");
    else if (object->send_over && acked > object->send_acked)
        breach(v, 246, LEDGER_TARGET, "more is acknowledged after a send failed");
    if (status != NDIS_STATUS_SUCCESS && !object->send_called &&
        object->send_acked == object->send_end)
        breach(v, 236, LEDGER_TARGET, "a completion, and no send is open");
    if (acked > object->send_acked && acked <= object->send_end)
        object->send_acked = acked;
    if (status != NDIS_STATUS_SUCCESS) {
        object->send_over = true;
        object->send_called = false;
    } else if (object->send_acked == object->send_end) {
        object->send_called = false;
    }
    v->up.send_complete(v->host, object->host_handle, acked, status);
}

static bool sends_open(const struct verifier_object *object)
{
    return object->send_called || (!object->send_over && object->send_acked < object->send_end);
}

void verify_disconnect_complete(struct chimney_host *h, void *handle, chimney_status status)
{
    struct verifier *v = verifier_of_host(h);
    struct verifier_object *object;

    verifier_enter(v);
    object = indicated(v, handle, "disconnect completion");
    if (!object)
        return;
    if (!object->disconnects)
        breach(v, 297, LEDGER_TARGET, "a disconnect completes that was not asked for");
    else
        object->disconnects--;
    switch (status) {
    case NDIS_STATUS_SUCCESS:
        if (object->abort_asked && sends_open(object))
            breach(v, 304, LEDGER_TARGET, "an abortive disconnect completes before the sends");
        else if (!object->abort_asked && object->send_acked < object->send_end)
            breach(v, 301, LEDGER_TARGET, "a disconnect succeeds before the sends in front of it");
        break;
    case NDIS_STATUS_UPLOAD_IN_PROGRESS:
        if (!verifier_upload_due(v, object))
            breach(v, 307, LEDGER_TARGET,
                   "UPLOAD_IN_PROGRESS for a disconnect, and no upload was asked for");
        break;
    case NDIS_STATUS_REQUEST_ABORTED:
        break;
    case NDIS_STATUS_PAUSED:
        breach(v, 251, LEDGER_TARGET, "a disconnect completes with PAUSED");
        break;
    default:
        breach(v, 306, LEDGER_TARGET, "a disconnect completes with %s",
               chimney_status_name(status));
    }
    v->up.disconnect_complete(v->host, object->host_handle, status);
}

void verify_forward_complete(struct chimney_host *h, void *handle,
                             const struct chimney_segment *segment, chimney_status status)
{
    struct verifier *v = verifier_of_host(h);
    struct verifier_object *object, *owner;

    verifier_enter(v);
    object = indicated(v, handle, "forward completion");
    if (!object)
        return;
    owner = ledger_find(&v->ledger, LEDGER_FORWARD, segment);
    if (owner != object) {
        breach(v, 316, LEDGER_TARGET, "a segment is completed that the connection was not given");
    } else {
        ledger_close(&v->ledger, LEDGER_FORWARD, segment, LEDGER_TARGET);
        object->forwards--;
        if (object->in_forward)
            breach(v, 314, LEDGER_TARGET, "a forward completes inside its own call");
    }
    switch (status) {
    case NDIS_STATUS_SUCCESS:
    case NDIS_STATUS_REQUEST_ABORTED:
        break;
    case NDIS_STATUS_UPLOAD_IN_PROGRESS:
        if (!verifier_upload_due(v, object))
            breach(v, 323, LEDGER_TARGET,
                   "UPLOAD_IN_PROGRESS for a forward, and no upload was asked for");
        break;
    case NDIS_STATUS_PAUSED:
        breach(v, 251, LEDGER_TARGET, "a forward completes with PAUSED");
        break;
    default:
        breach(v, 322, LEDGER_TARGET, "a forward completes with %s", chimney_status_name(status));
    }
    v->up.forward_complete(v->host, object->host_handle, segment, status);
}

void verify_receive_indicate(struct chimney_host *h, void *handle, uint64_t head)
{
    struct verifier *v = verifier_of_host(h);
    struct verifier_object *object;
    bool nested;

    verifier_enter(v);
    object = indicated(v, handle, "receive indication");
    if (!object)
        return;
    nested = object->indicating;
    if (nested)
        breach(v, 263, LEDGER_TARGET, "a receive indication inside another of one connection");
    if (object->abort_asked && head > object->receive_head)
        breach(v, 305, LEDGER_TARGET, "data is indicated after an abortive disconnect");
    if (object->fin_told && head > object->receive_head)
        breach(v, 329, LEDGER_TARGET, "data is indicated after the peer's FIN");
    if (head < object->receive_head)
        breach(v, 276, LEDGER_TARGET, "a receive indication goes back");
    else if (head - object->receive_tail > object->tcp.constant.receive_stream.size)
        breach(v, 276, LEDGER_TARGET, "more data is indicated than the receive stream holds");
    else
        object->receive_head = head;
    object->indicating = true;
    object->in_indication++;
    v->up.receive_indicate(v->host, object->host_handle, head);
    object->in_indication--;
    object->indicating = nested;
}
