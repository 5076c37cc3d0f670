/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking a connection over and giving it back, in the units of the contract
 * (contract.md 1.5, 3.10).
 *
 * What a state means on the way in:
 *   [snd_una, snd_nxt)            in flight: wait for its ACK
 *   [snd_nxt, snd_max)            to be sent again, before anything else: LOST in the scoreboard
 *   [snd_max, snd_max_possible)   perhaps sent: new data for us, but its ACK is accepted
 *   the retransmit timer          an RTO if something is in flight, else persist if something waits
 * and the window is closed, else FIN_WAIT_2 in that state, else off The way out is the mirror
 * image, so that import(export(x)) is x in every state.
 */
#include "tcp/conn.h"

size_t tcp_conn_size(void)
{
    return sizeof(struct tcp_conn);
}

/** Payload of a full segment: RemoteMss and path MTU less the options every segment has (C43). */
void tcp_set_mss(struct tcp_conn *c)
{
    uint32_t mss = tcp_min(c->remote_mss, c->path_mtu - c->ip_header - TCP_HEADER);

    if (c->flags & F_TIMESTAMP)
        mss -= TCP_TIMESTAMP_BYTES;
    c->mss = (uint16_t)mss;
    c->cc.mss = mss;
}

static bool ring_valid(const struct tcp_ring *ring, uint32_t used)
{
    return ring->base && ring->size && ring->size <= TCP_MAX_RING &&
           (ring->size & (ring->size - 1)) == 0 && used <= ring->size;
}

static bool fin_is_queued(uint8_t state)
{
    return state == TcpConnectionFinWait1 || state == TcpConnectionFinWait2 ||
           state == TcpConnectionClosing || state == TcpConnectionLastAck;
}

static bool peer_fin_is_consumed(uint8_t state)
{
    return state == TcpConnectionCloseWait || state == TcpConnectionClosing ||
           state == TcpConnectionLastAck;
}

static bool mtu_valid(uint32_t path_mtu, uint32_t ip_header)
{
    return path_mtu >= ip_header + TCP_HEADER + TCP_MIN_MSS;
}

static int check(const struct tcp_import *in)
{
    const struct tcp_delegated_state *d = &in->delegated;
    uint32_t ip = in->ip_header ? in->ip_header : 40, sendable = in->snd_len;
    bool scaling = in->constant.flags & TCP_FLAG_WINDOW_SCALING_ENABLED;

    if (d->state < TcpConnectionEstablished || d->state > TcpConnectionLastAck)
        return TCP_E_STATE;
    if (!ring_valid(&in->snd, in->snd_len) || !ring_valid(&in->rcv, in->rcv_len))
        return TCP_E_RING;
    if (scaling && (in->constant.snd_wind_scale > TCP_MAX_SHIFT ||
                    in->constant.rcv_wind_scale > TCP_MAX_SHIFT))
        return TCP_E_WINDOW;
    if (scaling && in->rcv.size >> in->constant.rcv_wind_scale == 0)
        return TCP_E_RING; /* a window could never be expressed */
    if (d->snd_wnd > TCP_MAX_WINDOW || d->rcv_wnd > TCP_MAX_WINDOW ||
        d->max_snd_wnd > TCP_MAX_WINDOW)
        return TCP_E_WINDOW;
    if (in->constant.remote_mss < TCP_MIN_MSS || !mtu_valid(in->cached.path_mtu, ip))
        return TCP_E_MSS;

    if (d->state == TcpConnectionFinWait2) { /* all sent and acknowledged, the FIN as well */
        if (in->snd_len)
            return TCP_E_SEQUENCE;
    } else if (fin_is_queued(d->state)) {
        sendable++;
    }
    /* As distances from snd_una the order is that of plain numbers. */
    if (d->snd_nxt - d->snd_una > d->snd_max - d->snd_una ||
        d->snd_max - d->snd_una > d->snd_max_possible - d->snd_una ||
        d->snd_max_possible - d->snd_una > sendable)
        return TCP_E_SEQUENCE;
    return 0;
}

static void import_constant(struct tcp_conn *c, const struct tcp_import *in)
{
    if (in->constant.flags & TCP_FLAG_TIMESTAMP_ENABLED)
        c->flags |= F_TIMESTAMP;
    if (in->constant.flags & TCP_FLAG_SACK_ENABLED)
        c->flags |= F_SACK;
    if (in->constant.flags & TCP_FLAG_ECN_ENABLED)
        c->flags |= F_ECN;
    if (in->constant.flags & TCP_FLAG_WINDOW_SCALING_ENABLED) {
        c->snd_scale = in->constant.snd_wind_scale;
        c->rcv_scale = in->constant.rcv_wind_scale;
    }
    c->remote_mss = in->constant.remote_mss;
    if (in->fin_policy == TCP_FIN_HOLD)
        c->flags |= F_FIN_HOLD;
}

/* Keepalive, Nagle and MaxRT: the same at import and at update. */
static void set_cached(struct tcp_conn *c, const struct tcp_cached_state *cached)
{
    c->flags &= ~(F_NAGLE | F_KEEPALIVE);
    if (cached->flags & TCP_FLAG_NAGLING_ENABLED)
        c->flags |= F_NAGLE;
    if (cached->flags & TCP_FLAG_KEEP_ALIVE_ENABLED)
        c->flags |= F_KEEPALIVE;
    c->ka_timeout = tcp_keepalive_time(c, cached->ka_timeout);
    c->ka_interval = tcp_from_ticks(c->params, cached->ka_interval);
    c->ka_limit = cached->ka_probe_count;
    c->max_rt = cached->max_rt;
}

/* InitialRcvWnd: at least one unit of the scale; zero: as much as the ring takes. */
static uint32_t window_wanted(const struct tcp_conn *c, uint32_t initial_rcv_wnd)
{
    if (!initial_rcv_wnd)
        return c->rcv_mask + 1;
    return tcp_max(initial_rcv_wnd, 1u << c->rcv_scale);
}

static void import_send(struct tcp_conn *c, const struct tcp_import *in)
{
    const struct tcp_delegated_state *d = &in->delegated;

    c->snd_base = in->snd.base;
    c->snd_mask = in->snd.size - 1;
    c->end_pos = in->snd_len;
    c->snd_una = d->snd_una;
    c->snd_max = d->snd_max;
    c->snd_doubt = d->snd_max_possible;
    c->snd_wnd = d->snd_wnd;
    c->snd_wl1 = d->snd_wl1;
    c->max_snd_wnd = tcp_max(d->max_snd_wnd, d->snd_wnd);
    c->small_end = d->snd_una;
    c->recover = d->snd_una - 1;
    c->ecn_recover = d->snd_una;
    c->dup_acks = d->dup_ack_count;
    c->reordering = d->reordering;
    if (fin_is_queued(d->state))
        c->flags |= F_FIN_QUEUED;
    if (d->state == TcpConnectionFinWait2)
        c->flags |= F_FIN_ACKED;
    if (d->snd_nxt != d->snd_max)
        tcp_span_force(c, d->snd_nxt, d->snd_max, SPAN_LOST, 0);
    if (d->snd_nxt != d->snd_max || (tcp_flight(c) && d->retransmit_count)) {
        /* The previous owner has reduced its window for this already. */
        c->recovery = RECOVERY_RTO;
        c->recover = c->snd_max;
    }
    if (c->lost_bytes)
        c->flags |= F_REXMT_ONE;
}

static void import_receive(struct tcp_conn *c, const struct tcp_import *in)
{
    const struct tcp_delegated_state *d = &in->delegated;

    c->rcv_base = in->rcv.base;
    c->rcv_mask = in->rcv.size - 1;
    c->rcv_pos = in->rcv_len;
    c->rcv_nxt = d->rcv_nxt;
    c->rcv_adv = d->rcv_nxt + d->rcv_wnd;
    c->rcv_seen = c->rcv_adv;
    c->last_ack = d->rcv_nxt;
    c->rcv_mss = TCP_RCV_MSS_MIN;
    c->rcv_wish = window_wanted(c, in->cached.initial_rcv_wnd);
    c->quick_acks = TCP_QUICK_ACKS;
    if (peer_fin_is_consumed(d->state))
        c->flags |= F_PEER_FIN | F_PEER_FIN_TOLD | F_PEER_FIN_DONE;
    c->peer_fin = d->rcv_nxt - 1;
}

static tcp_time deadline(const struct tcp_conn *c, uint32_t delta, tcp_time now)
{
    return delta == TCP_TIMER_OFF ? TCP_TIME_NEVER : now + tcp_from_ticks(c->params, delta);
}

static void import_time(struct tcp_conn *c, const struct tcp_import *in, tcp_time now)
{
    const struct tcp_delegated_state *d = &in->delegated;
    tcp_time at = deadline(c, d->retransmit_timeout_delta, now);

    c->ts_base = d->ts_time;
    c->ts_epoch = now;
    c->ts_last = d->ts_last;
    c->ts_recent = d->ts_recent;
    c->ts_recent_at = now - tcp_min_time(now, tcp_from_ticks(c->params, d->ts_recent_age));
    c->srtt = tcp_min(tcp_from_ticks(c->params, d->srtt) / TCP_USEC, INT32_MAX);
    c->rttvar = tcp_min(tcp_from_ticks(c->params, d->rttvar) / TCP_USEC, INT32_MAX);
    c->rexmt_count = d->retransmit_count;
    c->probe_round = d->snd_wnd_probe_count;
    c->total_base = tcp_from_ticks(c->params, d->total_rt);
    c->total_since = now;
    c->last_sent = now;

    if (tcp_flight(c)) {
        c->backoff = d->retransmit_count;
        c->rexmt_kind = at == TCP_TIME_NEVER ? REXMT_OFF : REXMT_RTO;
    } else if (tcp_pending(c) && !c->snd_wnd) {
        c->rexmt_kind = at == TCP_TIME_NEVER ? REXMT_OFF : REXMT_PERSIST;
    } else if (d->state == TcpConnectionFinWait2) {
        c->rexmt_kind = at == TCP_TIME_NEVER ? REXMT_OFF : REXMT_FIN_WAIT2;
    } else {
        at = TCP_TIME_NEVER;
    }
    c->timer[TIMER_REXMT] = at;

    c->ka_count = d->ka_probe_count;
    c->timer[TIMER_KEEPALIVE] = deadline(c, d->ka_timeout_delta, now);
    if (c->flags & F_KEEPALIVE) {
        if (d->ka_timeout_delta == TCP_TIMER_OFF)
            c->timer[TIMER_KEEPALIVE] = now + c->ka_timeout;
    } else if (d->ka_timeout_delta != TCP_TIMER_OFF) {
        c->flags |= F_DEFENCE | F_DEFENCE_TIMER; /* only that runs it when it is off (C420) */
    }
}

int tcp_import(struct tcp_conn *c, const struct tcp_params *params, const struct tcp_import *in,
               tcp_time now)
{
    int error = check(in);

    if (error)
        return error;
    *c = (struct tcp_conn){.params = params, .state = in->delegated.state};
    for (unsigned i = 0; i < TIMER_COUNT; i++)
        c->timer[i] = TCP_TIME_NEVER;
    c->path_mtu = in->cached.path_mtu;
    c->ip_header = in->ip_header ? in->ip_header : 40;
    import_constant(c, in);
    set_cached(c, &in->cached);
    tcp_set_mss(c);
    import_send(c, in);
    import_receive(c, in);
    import_time(c, in, now);

    c->cc.cwnd = in->delegated.cwnd ? tcp_min(in->delegated.cwnd, TCP_CC_MAX_CWND)
                                    : tcp_cc_initial_window(c->mss);
    c->cc.ssthresh = in->delegated.ssthresh ? in->delegated.ssthresh : TCP_CC_INFINITE;
    tcp_set_cc(c, &tcp_cc_cubic, now);
    c->max_flight = tcp_flight(c);
    c->flight_edge = c->snd_max;
    tcp_rack_import(c, now);

    /* The silly-window timer is not carried; frequent hand-overs must not postpone it for ever. */
    c->flags |= F_SWS_OVERRIDE;
    if (!in->quiet) {
        c->flags |= F_ACK_NOW;
        if (tcp_flight(c) && c->timer[TIMER_REXMT] > now) /* due now: the RTO does it */
            c->flags |= F_REXMT_FIRST;
    }
    tcp_timer_settle(c, now);
    return 0;
}

/* What waits to be sent again and has nothing SACKed above it: the next owner starts there. */
static uint32_t export_snd_nxt(const struct tcp_conn *c)
{
    const struct tcp_span *lost = tcp_span_first(c, SPAN_LOST);

    if (!lost)
        return c->snd_max;
    for (const struct tcp_span *s = lost; s < c->span + c->span_count; s++)
        if (s->state == SPAN_SACKED)
            return c->snd_max;
    return lost->left;
}

static uint32_t export_delta(const struct tcp_conn *c, tcp_time at, tcp_time now)
{
    if (at == TCP_TIME_NEVER)
        return TCP_TIMER_OFF;
    return at > now ? tcp_to_ticks(c->params, at - now) : 0;
}

/* A time in ticks, rounded to the nearest: exact for what was imported. */
static uint32_t nearest_ticks(const struct tcp_conn *c, tcp_time time)
{
    tcp_time half = tcp_from_ticks(c->params, 1) / 2;

    return tcp_to_ticks(c->params, time > half ? time - half : 0);
}

static void export_delegated(const struct tcp_conn *c, tcp_time now, struct tcp_delegated_state *d)
{
    d->state = c->state;
    d->rcv_nxt = c->rcv_nxt;
    d->rcv_wnd = c->rcv_adv - c->rcv_nxt;
    d->snd_una = c->snd_una;
    d->snd_nxt = export_snd_nxt(c);
    d->snd_max = c->snd_max;
    d->snd_max_possible = seq_max(c->snd_max, c->snd_doubt);
    d->snd_wnd = c->snd_wnd;
    d->max_snd_wnd = c->max_snd_wnd;
    d->snd_wl1 = c->snd_wl1;
    d->cwnd = c->prr.active ? c->cc.ssthresh : c->cc.cwnd;
    d->ssthresh = c->cc.ssthresh;
    d->srtt = nearest_ticks(c, c->srtt * TCP_USEC);
    d->rttvar = nearest_ticks(c, c->rttvar * TCP_USEC);
    d->ts_recent = c->ts_recent;
    d->ts_recent_age = tcp_to_ticks(c->params, now > c->ts_recent_at ? now - c->ts_recent_at : 0);
    d->ts_time = tcp_ts_now(c, now);
    d->ts_last = c->ts_last;
    d->total_rt = tcp_to_ticks(c->params, tcp_total_rt(c, now));
    d->dup_ack_count = c->dup_acks;
    d->snd_wnd_probe_count = c->probe_round;
    d->ka_probe_count = c->ka_count;
    d->ka_timeout_delta = export_delta(c, c->timer[TIMER_KEEPALIVE], now);
    d->retransmit_count = c->rexmt_count;
    d->retransmit_timeout_delta = export_delta(c, c->timer[TIMER_REXMT], now);
    d->reordering = c->reordering;
}

void tcp_query(const struct tcp_conn *c, tcp_time now, struct tcp_export *out)
{
    uint32_t sent;

    *out = (struct tcp_export){0};
    export_delegated(c, now, &out->delegated);
    sent = out->delegated.snd_max_possible - c->snd_una;
    out->una_pos = c->una_pos;
    out->snd_end_pos = c->end_pos;
    out->snd_max_pos = c->una_pos + tcp_min(sent, c->end_pos - c->una_pos);
    out->rcv_pos = c->rcv_pos;
    out->fin_sent = c->flags & F_FIN_QUEUED && tcp_fin_sent(c);
    out->fin_acked = c->flags & F_FIN_ACKED;
    out->fin_received = c->flags & F_PEER_FIN_TOLD;
    out->ooo_count = c->ooo_count;
    for (unsigned i = 0; i < c->ooo_count; i++)
        out->ooo[i] = (struct tcp_sack_range){c->ooo[i].left, c->ooo[i].right};
}

void tcp_export(struct tcp_conn *c, tcp_time now, struct tcp_export *out)
{
    tcp_query(c, now, out);
    tcp_stop(c);
}

static void update_window(struct tcp_conn *c, uint32_t initial_rcv_wnd)
{
    c->rcv_wish = window_wanted(c, initial_rcv_wnd);
    if (c->rcv_wish == c->rcv_adv - c->rcv_nxt)
        return;
    if (c->rcv_wish < c->rcv_adv - c->rcv_nxt)
        c->flags |= F_RCV_SHRINK;
    c->flags |= F_ACK_NOW;
}

uint32_t tcp_update(struct tcp_conn *c, const struct tcp_cached_state *cached, tcp_time now)
{
    bool was_on = c->flags & F_KEEPALIVE;

    if (c->flags & F_STOPPED)
        return 0;
    set_cached(c, cached);
    if (!(c->flags & F_KEEPALIVE)) {
        if (was_on && !(c->flags & F_DEFENCE))
            c->timer[TIMER_KEEPALIVE] = TCP_TIME_NEVER;
        if (was_on && c->flags & F_DEFENCE)
            c->flags |= F_DEFENCE_TIMER;
    } else if (!was_on || cached->flags & TCP_FLAG_KEEP_ALIVE_RESTART) {
        c->ka_count = 0;
        c->timer[TIMER_KEEPALIVE] = now + c->ka_timeout;
    }
    if (cached->flags & TCP_FLAG_MAX_RT_RESTART) {
        c->total_base = 0;
        c->total_since = now;
    }
    if (cached->flags & TCP_FLAG_UPDATE_RCV_WND)
        update_window(c, cached->initial_rcv_wnd);
    if (cached->path_mtu != c->path_mtu && mtu_valid(cached->path_mtu, c->ip_header)) {
        uint16_t before = c->mss;

        c->path_mtu = cached->path_mtu;
        tcp_set_mss(c);
        if (c->mss < before)
            tcp_loss_on_smaller_mss(c);
    }
    tcp_timer_settle(c, now);
    return tcp_output_wanted(c) ? TCP_EV_OUTPUT : 0;
}

uint64_t tcp_una_pos(const struct tcp_conn *c)
{
    return c->una_pos;
}

uint64_t tcp_rcv_pos(const struct tcp_conn *c)
{
    return c->rcv_pos;
}

uint8_t tcp_state(const struct tcp_conn *c)
{
    return c->state;
}

uint32_t tcp_send_backlog(const struct tcp_conn *c)
{
    return tcp_max(tcp_min(c->cc.cwnd, c->max_snd_wnd), c->mss);
}

const struct tcp_stats *tcp_conn_stats(const struct tcp_conn *c)
{
    return &c->stats;
}
