/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events of connections, status indications and capabilities.
 *
 * The pause as the boundary shows it is the machine of pause.h, driven by what the target indicates
 * and by the host's reading of the capabilities.  The host has taken notice of a pause when its
 * status function has returned; an initiate it calls later breaks C357, one it called before was in
 * flight.
 */
#include <string.h>

#include "contract/verifier_internal.h"

/* ---- events ---------------------------------------------------------------------------------- */

static void check_retrieve(struct verifier *v, struct verifier_object *object, uint32_t reason)
{
    if (reason < LowActivity || reason > HardwareFailure) {
        breach(v, 330, LEDGER_TARGET, "%u is no reason for an upload", reason);
        return;
    }
    if (chimney_upload_reason_mandatory(reason)) {
        object->upload_asked = true;
        return;
    }
    if (object->half_closed || object->fin_told || object->fin_asked)
        breach(v, 313, LEDGER_TARGET, "the upload of a half-closed connection is asked for: %s",
               chimney_upload_reason_name(reason));
}

static void check_event(struct verifier *v, struct verifier_object *object,
                        enum chimney_event_type type, uint32_t info)
{
    switch (type) {
    case TcpIndicateSendBacklogChange:
        break;
    case TcpIndicateDisconnect:
        if (object->fin_told)
            breach(v, 329, LEDGER_TARGET, "the peer's FIN is told twice");
        if (object->receive_tail < object->receive_head)
            breach(v, 329, LEDGER_TARGET,
                   "the peer's FIN is told before the data in front of it is consumed");
        object->fin_told = true;
        break;
    case TcpIndicateRetrieve:
        check_retrieve(v, object, info);
        break;
    case TcpIndicateAbort:
        if (object->aborted)
            breach(v, 331, LEDGER_TARGET, "an abort is told twice");
        object->aborted = true;
        break;
    default:
        breach(v, 82, LEDGER_TARGET, "%d is no event of a connection", (int)type);
    }
}

void verify_event(struct chimney_host *h, void *handle, enum chimney_event_type type, uint32_t info)
{
    struct verifier *v = verifier_of_host(h);
    struct verifier_object *object;

    verifier_enter(v);
    object = object_of_handle(v, handle, "event");
    if (!object)
        return;
    if (object->layer != TREE_TCP) {
        breach(v, 345, LEDGER_TARGET, "%s for a %s", chimney_event_type_name(type),
               layer_name(object->layer));
        return;
    }
    object_check_context(v, object);
    if (!object->announced)
        breach(v, 161, LEDGER_TARGET, "an event before the initiate's completion has returned");
    check_event(v, object, type, info);
    object->in_indication++;
    v->up.event(v->host, object->host_handle, type, info);
    object->in_indication--;
}

void verify_neighbor_query(struct chimney_host *h, struct chimney_block *block)
{
    struct verifier *v = verifier_of_host(h);
    struct verifier_object *object;
    void *handle = block->host_handle;

    verifier_enter(v);
    if (block->next || block->dependents || block->header.type != NeighborOffloadState)
        breach(v, 346, LEDGER_TARGET, "a reachability question is one block with neighbor state");
    object = object_of_handle(v, handle, "reachability question");
    if (!object)
        return;
    if (object->layer != TREE_NEIGHBOR) {
        breach(v, 346, LEDGER_TARGET, "a reachability question about a %s",
               layer_name(object->layer));
        return;
    }
    object->in_indication++;
    block->host_handle = object->host_handle;
    v->up.neighbor_query(v->host, block);
    block->host_handle = handle;
    object->in_indication--;
}

/* ---- pause, upload-all, resume -----------------------------------------------------------------
 */

/** Capabilities are what the contract asks for at least. */
static void check_capabilities(struct verifier *v, const struct chimney_capabilities *c)
{
    if (c->header.revision != CHIMNEY_REVISION || c->header.size != sizeof(*c))
        breach(v, 112, LEDGER_TARGET, "capabilities of another revision or size");
    if (!(c->encapsulation & CHIMNEY_ENCAPSULATION_IEEE_802_3))
        breach(v, 378, LEDGER_TARGET, "capabilities without an encapsulation");
    if (!c->support_ipv4 && !c->support_ipv6)
        breach(v, 379, LEDGER_TARGET, "capabilities without an address family");
}

static bool same_capabilities(const struct chimney_capabilities *a,
                              const struct chimney_capabilities *b)
{
    return a->encapsulation == b->encapsulation && a->support_ipv4 == b->support_ipv4 &&
           a->support_ipv6 == b->support_ipv6 &&
           a->support_ipv6_extension_headers == b->support_ipv6_extension_headers &&
           a->support_sack == b->support_sack &&
           a->tcp_connection_offload_capacity == b->tcp_connection_offload_capacity &&
           a->path_capacity == b->path_capacity && a->neighbor_capacity == b->neighbor_capacity &&
           a->max_path_mtu == b->max_path_mtu && a->max_rcv_wnd == b->max_rcv_wnd;
}

void verify_get_capabilities(struct chimney_target *t, struct chimney_capabilities *out)
{
    struct verifier *v = verifier_of(t);
    bool resuming;

    verifier_enter(v);
    resuming = v->pause == PAUSE_RESUMING;
    if (resuming)
        v->pause = PAUSE_RUNNING; /* before the call: queued initiates may be done from inside */
    v->down.get_capabilities(v->below, out);
    check_capabilities(v, out);
    if (resuming) {
        if (v->resumed_known && !same_capabilities(out, &v->resumed))
            breach(v, 361, LEDGER_TARGET, "capabilities are not those that the resume announced");
    } else if (v->pause == PAUSE_RUNNING && v->capabilities_known &&
               !same_capabilities(out, &v->capabilities)) {
        breach(v, 364, LEDGER_TARGET, "capabilities changed without pause and resume");
    }
    v->capabilities = *out;
    v->capabilities_known = true;
}

static void check_resume(struct verifier *v, const void *buffer, size_t length)
{
    if (v->pause != PAUSE_PAUSED && v->pause != PAUSE_UPLOADING_ALL)
        breach(v, 361, LEDGER_TARGET, "a resume without a pause");
    if (v->pause == PAUSE_UPLOADING_ALL && v->connections)
        breach(v, 363, LEDGER_TARGET, "a resume after upload-all, and %u connections are held",
               v->connections);
    v->resumed_known = false;
    if (!buffer || length != sizeof(v->resumed)) {
        breach(v, 361, LEDGER_TARGET, "a resume without capabilities");
    } else {
        memcpy(&v->resumed, buffer, sizeof(v->resumed));
        v->resumed_known = true;
        check_capabilities(v, &v->resumed);
    }
    v->pause = PAUSE_RESUMING;
    v->host_paused = v->upload_all = false;
    v->epoch++;
}

void verify_status(struct chimney_host *h, chimney_status status, const void *buffer, size_t length)
{
    struct verifier *v = verifier_of_host(h);

    verifier_enter(v);
    switch (status) {
    case NDIS_STATUS_OFFLOAD_PAUSE:
        if (v->pause == PAUSE_PAUSED || v->pause == PAUSE_UPLOADING_ALL)
            breach(v, 357, LEDGER_TARGET, "a pause in a pause");
        v->pause = PAUSE_PAUSED;
        v->epoch++;
        break;
    case NDIS_STATUS_UPLOAD_ALL:
        if (v->pause == PAUSE_UPLOADING_ALL)
            breach(v, 359, LEDGER_TARGET, "upload-all is asked for twice");
        v->pause = PAUSE_UPLOADING_ALL;
        v->upload_all = true;
        v->epoch++;
        break;
    case NDIS_STATUS_OFFLOAD_RESUME:
        check_resume(v, buffer, length);
        break;
    case NDIS_STATUS_OFFLOAD_ENCASPULATION_CHANGE:
        break;
    case NDIS_STATUS_TCP_CONNECTION_OFFLOAD_HARDWARE_CAPABILITIES:
        if (!buffer || length != sizeof(struct chimney_capabilities))
            breach(v, 365, LEDGER_TARGET, "new hardware without its capabilities");
        break;
    default:
        breach(v, 367, LEDGER_TARGET, "status indication %s (0x%08x)", chimney_status_name(status),
               status);
    }
    v->up.status(v->host, status, buffer, length);
    if (status == NDIS_STATUS_OFFLOAD_PAUSE || status == NDIS_STATUS_UPLOAD_ALL)
        v->host_paused = v->pause != PAUSE_RUNNING && v->pause != PAUSE_RESUMING;
}
