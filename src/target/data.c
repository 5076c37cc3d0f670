/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data verbs, and what a connection tells its host: received data, acknowledged sends, events.
 *
 * A connection that has something to do or to tell is put into the dirty list once; target_poll()
 * runs the list.  Nothing is told before the initiate's completion has returned (C161).
 */
#include "target/internal.h"

#include <assert.h>

/** A backlog change is told at most this often, and only if it at least doubles or halves (C254).
 */
#define BACKLOG_EVENT_INTERVAL (100 * TCP_MSEC)

void conn_dirty(struct target *t, struct target_conn *c)
{
    if (c->dirty)
        return;
    c->dirty = true;
    c->next_dirty = NULL;
    *t->dirty_tail = c;
    t->dirty_tail = &c->next_dirty;
}

void conn_ask_upload(struct target *t, struct target_conn *c, enum chimney_upload_reason reason)
{
    c->retrieve = reason;
    if (chimney_upload_reason_mandatory(reason)) {
        c->stopped = true;
        c->refuse_io = true;
    }
    conn_dirty(t, c);
}

chimney_status data_send(struct chimney_target *base, struct chimney_cell *cell, uint64_t end)
{
    struct target *t = target_of(base);
    struct target_conn *c = objects_conn(t, cell);

    if (c->refuse_io || c->aborted || pause_uploading(&t->pause))
        c->send_refused = true;
    else if (tcp_send_ready(c->engine, end, true, t->now) == 0)
        c->send_end = end;
    else
        conn_ask_upload(t, c, InvalidState); /* an impossible span: the host lets go of it */
    conn_dirty(t, c);
    return NDIS_STATUS_PENDING;
}

chimney_status data_receive(struct chimney_target *base, struct chimney_cell *cell, uint64_t tail)
{
    struct target *t = target_of(base);
    struct target_conn *c = objects_conn(t, cell);

    if (tail < c->consumed || tail > tcp_rcv_pos(c->engine)) {
        conn_ask_upload(t, c, InvalidState);
    } else {
        c->consumed = tail;
        if (!c->stopped)
            tcp_recv_consumed(c->engine, tail, t->now);
    }
    conn_dirty(t, c);
    return NDIS_STATUS_PENDING;
}

chimney_status data_disconnect(struct chimney_target *base, struct chimney_cell *cell,
                               uint32_t flags)
{
    struct target *t = target_of(base);
    struct target_conn *c = objects_conn(t, cell);

    assert(flags == TCP_DISCONNECT_GRACEFUL_CLOSE || flags == TCP_DISCONNECT_ABORTIVE_CLOSE);
    c->disconnecting = true;
    c->disconnect_abortive = flags == TCP_DISCONNECT_ABORTIVE_CLOSE;
    if (!c->refuse_io && !c->aborted && !pause_uploading(&t->pause)) {
        if (c->disconnect_abortive) {
            if (conn_counts_as_established(c))
                target_stats(t, c->path->family)->reset_established++;
            tcp_abort(c->engine);
        } else
            tcp_shutdown(c->engine, t->now);
    }
    conn_dirty(t, c);
    return NDIS_STATUS_PENDING;
}

chimney_status data_forward(struct chimney_target *base, struct chimney_cell *cell,
                            const struct chimney_segment *segment)
{
    struct target *t = target_of(base);
    struct target_conn *c = objects_conn(t, cell);
    struct chimney_segment *own =
        (struct chimney_segment *)(uintptr_t)segment; /* until completed */
    chimney_status status = NDIS_STATUS_SUCCESS;
    struct wire_packet packet;

    if (c->aborted)
        status = NDIS_STATUS_REQUEST_ABORTED;
    else if (c->refuse_io)
        status = NDIS_STATUS_UPLOAD_IN_PROGRESS;
    if (c->forwarded && c->forwarded_status != status)
        conn_complete_forwards(t, c); /* one status for all that wait */
    if (status == NDIS_STATUS_SUCCESS &&
        wire_parse(segment->frame, segment->frame_length, true, &packet) == WIRE_OK &&
        packet.tcp_offset == segment->tcp_offset && flow_key_equal(&packet.key, &c->key))
        rx_conn_frame(t, c, segment->frame, segment->frame_length, &packet);
    own->target_reserved = NULL;
    if (c->forwarded)
        c->forwarded_tail->target_reserved = own;
    else
        c->forwarded = own;
    c->forwarded_tail = own;
    c->forwarded_status = status;
    conn_dirty(t, c);
    return NDIS_STATUS_PENDING;
}

void conn_complete_forwards(struct target *t, struct target_conn *c)
{
    while (c->forwarded) {
        struct chimney_segment *segment = c->forwarded;

        c->forwarded = segment->target_reserved;
        t->host_ops->forward_complete(t->host, c->host_handle, segment, c->forwarded_status);
    }
}

/* What the engine reported, after tcp_input() or tcp_timeout(). */
void conn_events(struct target *t, struct target_conn *c, uint32_t events)
{
    if (events & TCP_EV_ACKED)
        c->path->neighbor->nrt = state_ticks(t); /* forward progress (C349) */
    if (events & TCP_EV_FIN) {
        if (t->config.fin_policy == TCP_FIN_HOLD)
            conn_ask_upload(t, c, UploadRequested);
        else
            c->fin_pending = true;
    }
    if (events & TCP_EV_RESET) {
        c->aborted = true;
        c->stopped = true;
        c->refuse_io = true;
    }
    if (events & TCP_EV_FIN_ACKED)
        c->fin_acked = true;
    if (events & (TCP_EV_SYN | TCP_EV_TIME_WAIT))
        conn_ask_upload(t, c, UploadRequested);
    if (events & TCP_EV_URGENT)
        conn_ask_upload(t, c, ReceivedUrgentData);
    if (events & TCP_EV_TIMEOUT)
        conn_ask_upload(t, c, TimeoutExpiration);
    if (events)
        conn_dirty(t, c);
}

static void tell_sends(struct target *t, struct target_conn *c)
{
    uint64_t una = tcp_una_pos(c->engine);

    if (c->aborted && (c->send_end > c->acked_told || c->send_refused)) {
        c->send_end = c->acked_told = una;
        c->send_refused = false;
        t->host_ops->send_complete(t->host, c->host_handle, una, NDIS_STATUS_REQUEST_ABORTED);
        return;
    }
    if (c->send_refused) {
        /*
         * Everything open is answered, acknowledged up to here and no further (C246): nothing more
         * is sent or told.  Acknowledgements that still come show in SndUna at the terminate.
         */
        c->send_refused = false;
        if (!c->send_failed)
            c->acked_told = una;
        c->send_failed = true;
        t->info.sends_upload_in_progress++;
        t->host_ops->send_complete(t->host, c->host_handle, c->acked_told,
                                   NDIS_STATUS_UPLOAD_IN_PROGRESS);
        return;
    }
    if (c->send_failed)
        return;
    if (una > c->acked_told) {
        c->acked_told = una;
        t->host_ops->send_complete(t->host, c->host_handle, una, NDIS_STATUS_SUCCESS);
    }
}

static void tell_backlog(struct target *t, struct target_conn *c)
{
    uint32_t backlog = tcp_send_backlog(c->engine);

    if (t->now - c->backlog_time < BACKLOG_EVENT_INTERVAL ||
        (backlog < 2 * c->backlog_told && 2 * backlog > c->backlog_told))
        return;
    c->backlog_time = t->now;
    c->backlog_told = backlog;
    t->host_ops->event(t->host, c->host_handle, TcpIndicateSendBacklogChange, backlog);
}

static void tell_disconnect(struct target *t, struct target_conn *c)
{
    chimney_status status;

    if (c->aborted)
        status = NDIS_STATUS_REQUEST_ABORTED;
    else if (c->refuse_io || pause_uploading(&t->pause))
        status = NDIS_STATUS_UPLOAD_IN_PROGRESS;
    else if (c->fin_acked && !c->disconnect_abortive)
        status = NDIS_STATUS_SUCCESS; /* FIN and data are acknowledged (C306) */
    else
        return;
    c->disconnecting = false;
    t->host_ops->disconnect_complete(t->host, c->host_handle, status);
}

void conn_tell(struct target *t, struct target_conn *c)
{
    uint64_t rcv = tcp_rcv_pos(c->engine);

    if (!c->announced)
        return;
    conn_complete_forwards(t, c);
    if (rcv > c->rcv_told) {
        c->rcv_told = rcv;
        t->host_ops->receive_indicate(t->host, c->host_handle, rcv);
    }
    /* The reason first, then the answers it explains (C249, C307). */
    if (c->retrieve != CHIMNEY_REASON_NONE) {
        enum chimney_upload_reason reason = c->retrieve;

        c->retrieve = CHIMNEY_REASON_NONE;
        c->retrieved = reason;
        t->info.retrieves++;
        t->host_ops->event(t->host, c->host_handle, TcpIndicateRetrieve, (uint32_t)reason);
    }
    if (!c->corrupt) {
        tell_sends(t, c);
        if (c->disconnecting)
            tell_disconnect(t, c);
    }
    if ((c->aborted || c->corrupt) && !c->fin_told) {
        c->fin_told = true;
        t->host_ops->event(t->host, c->host_handle, TcpIndicateAbort, 0);
    }
    if (c->fin_pending && c->consumed == rcv && !c->fin_told) {
        c->fin_told = true;
        t->host_ops->event(t->host, c->host_handle, TcpIndicateDisconnect, 0);
    }
    if (c->stopped)
        return;
    tell_backlog(t, c);
    if (!c->small_told && tcp_state(c->engine) == TcpConnectionEstablished &&
        tcp_rings_small(c->engine)) {
        c->small_told = true;
        t->info.retrieves++;
        t->host_ops->event(t->host, c->host_handle, TcpIndicateRetrieve, SmallIO);
    }
}
