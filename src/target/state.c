/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract's state structures against the engine's: the same variables in the same units, so
 * this is copying, field by field, with nothing left out (contract.md 1.5).
 */
#include <string.h>

#include "target/internal.h"

_Static_assert(CHIMNEY_TIMER_OFF == TCP_TIMER_OFF, "one value for a timer that does not run");
_Static_assert(CHIMNEY_TCP_TIMESTAMP_ENABLED == TCP_FLAG_TIMESTAMP_ENABLED &&
                   CHIMNEY_TCP_SACK_ENABLED == TCP_FLAG_SACK_ENABLED &&
                   CHIMNEY_TCP_WINDOW_SCALING_ENABLED == TCP_FLAG_WINDOW_SCALING_ENABLED &&
                   CHIMNEY_TCP_ECN_ENABLED == TCP_FLAG_ECN_ENABLED,
               "constant flags");
_Static_assert(CHIMNEY_TCP_KEEP_ALIVE_ENABLED == TCP_FLAG_KEEP_ALIVE_ENABLED &&
                   CHIMNEY_TCP_NAGLING_ENABLED == TCP_FLAG_NAGLING_ENABLED &&
                   CHIMNEY_TCP_KEEP_ALIVE_RESTART == TCP_FLAG_KEEP_ALIVE_RESTART &&
                   CHIMNEY_TCP_MAX_RT_RESTART == TCP_FLAG_MAX_RT_RESTART &&
                   CHIMNEY_TCP_UPDATE_RCV_WND == TCP_FLAG_UPDATE_RCV_WND,
               "cached flags");

void state_cached_to_engine(const struct target_conn *c, struct tcp_cached_state *out)
{
    memset(out, 0, sizeof(*out));
    out->flags = c->cached.flags;
    out->initial_rcv_wnd = c->cached.initial_rcv_wnd;
    out->path_mtu = c->path->mtu;
    out->ka_probe_count = c->cached.ka_probe_count;
    out->ka_timeout = c->cached.ka_timeout;
    out->ka_interval = c->cached.ka_interval;
    out->max_rt = c->cached.max_rt;
}

void state_to_engine(const struct target_conn *c, const struct chimney_tcp_delegated *from,
                     struct tcp_import *out)
{
    struct tcp_delegated_state *d = &out->delegated;

    out->constant.flags = c->constant.flags;
    out->constant.snd_wind_scale = c->constant.snd_wind_scale;
    out->constant.rcv_wind_scale = c->constant.rcv_wind_scale;
    out->constant.remote_mss = c->constant.remote_mss;
    state_cached_to_engine(c, &out->cached);

    d->state = (uint8_t)from->state;
    d->rcv_nxt = from->rcv_nxt;
    d->rcv_wnd = from->rcv_wnd;
    d->snd_una = from->snd_una;
    d->snd_nxt = from->snd_nxt;
    d->snd_max = from->snd_max;
    d->snd_max_possible = from->snd_max_possible;
    d->snd_wnd = from->snd_wnd;
    d->max_snd_wnd = from->max_snd_wnd;
    d->snd_wl1 = from->snd_wl1;
    d->cwnd = from->cwnd;
    d->ssthresh = from->ssthresh;
    d->srtt = from->srtt;
    d->rttvar = from->rttvar;
    d->ts_recent = from->ts_recent;
    d->ts_recent_age = from->ts_recent_age;
    d->ts_time = from->ts_time;
    d->ts_last = from->ts_last;
    d->total_rt = from->total_rt;
    d->dup_ack_count = from->dup_ack_count;
    d->snd_wnd_probe_count = from->snd_wnd_probe_count;
    d->ka_probe_count = from->ka_probe_count;
    d->ka_timeout_delta = from->ka_timeout_delta;
    d->retransmit_count = from->retransmit_count;
    d->retransmit_timeout_delta = from->retransmit_timeout_delta;
    d->reordering = from->reordering;

    out->snd = (struct tcp_ring){c->constant.send_stream.base, c->constant.send_stream.size};
    out->rcv = (struct tcp_ring){c->constant.receive_stream.base, c->constant.receive_stream.size};
    out->ip_header = c->path->family == 4 ? 20 : 40;
}

void state_from_engine(const struct target_conn *c, const struct tcp_export *from,
                       struct chimney_tcp_delegated *to)
{
    const struct tcp_delegated_state *d = &from->delegated;

    to->state = d->state;
    to->flags = 0;
    to->rcv_nxt = d->rcv_nxt;
    to->rcv_wnd = d->rcv_wnd;
    to->snd_una = d->snd_una;
    to->snd_nxt = d->snd_nxt;
    to->snd_max = d->snd_max;
    to->snd_max_possible = d->snd_max_possible;
    to->snd_wnd = d->snd_wnd;
    to->max_snd_wnd = d->max_snd_wnd;
    to->snd_wl1 = d->snd_wl1;
    to->cwnd = d->cwnd;
    to->ssthresh = d->ssthresh;
    to->srtt = d->srtt;
    to->rttvar = d->rttvar;
    to->ts_recent = d->ts_recent;
    to->ts_recent_age = d->ts_recent_age;
    to->ts_time = d->ts_time;
    to->ts_last = d->ts_last;
    to->total_rt = d->total_rt;
    to->dup_ack_count = d->dup_ack_count;
    to->snd_wnd_probe_count = d->snd_wnd_probe_count;
    to->ka_probe_count = d->ka_probe_count;
    to->ka_timeout_delta = d->ka_timeout_delta;
    to->retransmit_count = d->retransmit_count;
    to->retransmit_timeout_delta = d->retransmit_timeout_delta;
    to->reordering = d->reordering;
    to->dwnd = c->dwnd;
}
