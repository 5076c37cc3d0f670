/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state that travels: from the kernel's units to the contract's and back.
 *
 * Ticks are microseconds (a delta longer than 71 minutes does not fit and saturates); timestamps
 * are milliseconds, the kernel's clock plus the socket's own offset.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "host/handoff.h"

#define US_PER_S 1000000ull
#define US_PER_MS 1000ull
#define NS_PER_MS 1000000ull
/** Largest value a 16-bit window can say with a scale. */
#define WINDOW_FIELD_MAX 65535u
/** The kernel's "no threshold yet". */
#define INFINITE_SSTHRESH 0x7fffffffu
/** icsk_pending: the retransmit timer, the zero-window probe. */
#define PENDING_RETRANSMIT 1
#define PENDING_PROBE 3

static uint32_t saturate(uint64_t value)
{
    return value > UINT32_MAX ? UINT32_MAX : value;
}
/* The same, but never the value that means "off" or "no limit". */
static uint32_t saturate_delta(uint64_t value)
{
    return value >= CHIMNEY_TIMER_OFF ? CHIMNEY_TIMER_OFF - 1 : value;
}

static uint32_t clock_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + ts.tv_nsec / NS_PER_MS;
}

/* The stamp the kernel sent last may be ahead of its clock: it stamps for the pacing time (T5c). */
static uint32_t last_stamp(const struct handoff_conn *c)
{
    uint32_t sent = c->snapshot.wstamp_ns / NS_PER_MS, now = c->snapshot.now_ns / NS_PER_MS;

    return c->snapshot.tsoffset + ((int32_t)(sent - now) > 0 ? sent : now);
}

/* What TCP_TIMESTAMP must be set to so that stamps never step back, 0: the kernel's clock will do.
 */
static uint32_t stamp_floor(const struct handoff_conn *c, uint32_t last)
{
    uint32_t now = clock_ms() + c->snapshot.tsoffset;

    if (!c->state.timestamps || (int32_t)(last - now) <= 0)
        return 0;
    return last ? last : 1;
}

_Static_assert(sizeof(((struct repair_state *)0)->congestion) ==
                   sizeof(((struct chimney_tcp_cached *)0)->congestion_algorithm),
               "both are TCP_CA_NAME_MAX");

static void fill_cached(const struct handoff_conn *c, struct chimney_tcp_cached *cached)
{
    const struct repair_state *s = &c->state;
    uint32_t largest = WINDOW_FIELD_MAX << (s->wscale ? s->rcv_wscale : 0);

    cached->flags = 0;
    if (s->keepalive)
        cached->flags |= CHIMNEY_TCP_KEEP_ALIVE_ENABLED;
    if (!s->nodelay)
        cached->flags |= CHIMNEY_TCP_NAGLING_ENABLED;
    cached->initial_rcv_wnd = c->rings.size < largest ? c->rings.size : largest;
    cached->rcv_indication_size = 0;
    cached->ka_probe_count = s->keep_cnt > UINT8_MAX ? UINT8_MAX : s->keep_cnt;
    cached->ka_timeout = saturate_delta(s->keep_idle_s * US_PER_S);
    cached->ka_interval = saturate_delta(s->keep_intvl_s * US_PER_S);
    cached->max_rt = saturate_delta(s->user_timeout_ms * US_PER_MS);
    cached->flow_label = s->flow_label;
    cached->ttl_or_hop_limit = s->ttl;
    cached->tos_or_traffic_class = s->tos;
    cached->user_priority = s->priority & 7;
    memset(cached->congestion_algorithm, 0, sizeof(cached->congestion_algorithm));
    if (!strcmp(s->congestion, "cubic") || !strcmp(s->congestion, "reno"))
        memcpy(cached->congestion_algorithm, s->congestion, sizeof(s->congestion));
}

static void fill_delegated(const struct handoff_conn *c, struct chimney_tcp_delegated *d)
{
    const struct repair_state *s = &c->state;
    const struct tcp_snapshot *k = &c->snapshot;
    struct chimney_state_header header = d->header;
    uint32_t edge = s->window.rcv_wup + s->window.rcv_wnd;
    uint32_t mss = k->mss_cache ? k->mss_cache : s->mss_clamp;

    memset(d, 0, sizeof(*d));
    d->header = header;
    d->state = TcpConnectionEstablished;
    d->rcv_nxt = s->rcv_nxt;
    d->rcv_wnd = (int32_t)(edge - s->rcv_nxt) > 0 ? edge - s->rcv_nxt : 0;
    d->snd_una = s->snd_una;
    d->snd_nxt = d->snd_max = s->snd_nxt_low;
    d->snd_max_possible = s->snd_nxt_high;
    d->snd_wnd = s->window.snd_wnd;
    d->max_snd_wnd = s->window.max_window;
    /* It may be beyond a window that was closed for lack of memory; no segment can be. */
    d->snd_wl1 = s->window.snd_wl1;
    if ((int32_t)(d->snd_wl1 - (d->rcv_nxt + d->rcv_wnd)) > 0)
        d->snd_wl1 = d->rcv_nxt + d->rcv_wnd;
    d->cwnd = saturate((uint64_t)k->snd_cwnd * mss);
    d->ssthresh = k->snd_ssthresh >= INFINITE_SSTHRESH ? INFINITE_SSTHRESH
                                                       : saturate((uint64_t)k->snd_ssthresh * mss);
    d->srtt = k->srtt_us;     /* both sides keep it times eight */
    d->rttvar = k->rttvar_us; /* and this times four */
    d->ts_recent = k->ts_recent;
    d->ts_recent_age =
        k->ts_recent_age_s == ~0ull ? UINT32_MAX : saturate(k->ts_recent_age_s * US_PER_S);
    if (!k->ts_recent && c->ts_recent) {
        d->ts_recent = c->ts_recent;
        d->ts_recent_age = 0; /* it was current when the last target gave it back */
    }
    d->ts_time = clock_ms() + k->tsoffset;
    d->ts_last = last_stamp(c);
    if ((int32_t)(d->ts_last - d->ts_time) < 0)
        d->ts_last = d->ts_time;
    d->retransmit_count = k->retransmits;
    d->snd_wnd_probe_count = k->probes_out;
    d->retransmit_timeout_delta = CHIMNEY_TIMER_OFF;
    if ((k->pending == PENDING_RETRANSMIT || k->pending == PENDING_PROBE) && k->rto_left_ms >= 0)
        d->retransmit_timeout_delta = saturate_delta(k->rto_left_ms * US_PER_MS);
    /* The kernel keeps no countdown that could be read: the idle time begins anew. */
    d->ka_timeout_delta =
        s->keepalive ? saturate_delta(s->keep_idle_s * US_PER_S) : CHIMNEY_TIMER_OFF;
    d->reordering = k->reordering;
    d->send_data = (struct chimney_span){0, s->sendq_len};
    d->buffered_data = (struct chimney_span){0, s->recvq_len};
}

void handoff_fill(const struct handoff_conn *c, struct chimney_tcp_const *constant,
                  struct chimney_tcp_cached *cached, struct chimney_tcp_delegated *delegated)
{
    const struct repair_state *s = &c->state;

    assert(c->result == HANDOFF_PARKED);
    constant->flags = (s->timestamps ? CHIMNEY_TCP_TIMESTAMP_ENABLED : 0) |
                      (s->sack ? CHIMNEY_TCP_SACK_ENABLED : 0) |
                      (s->wscale ? CHIMNEY_TCP_WINDOW_SCALING_ENABLED : 0) |
                      (s->ecn ? CHIMNEY_TCP_ECN_ENABLED : 0);
    constant->local_port = c->key.local_port;
    constant->remote_port = c->key.remote_port;
    constant->snd_wind_scale = s->wscale ? s->snd_wscale : 0;
    constant->rcv_wind_scale = s->wscale ? s->rcv_wscale : 0;
    constant->remote_mss = s->mss_clamp;
    constant->send_stream = (struct chimney_stream_ring){c->rings.send, c->rings.size};
    constant->receive_stream = (struct chimney_stream_ring){c->rings.receive, c->rings.size};
    fill_cached(c, cached);
    fill_delegated(c, delegated);
}

static void prepare_rings(const struct handoff_conn *c, struct repair_restore *r)
{
    r->was = &c->state;
    r->send_base = c->rings.send;
    r->receive_base = c->rings.receive;
    r->ring_size = c->rings.size;
}

void handoff_prepare_unchanged(const struct handoff_conn *c, struct repair_restore *r)
{
    const struct repair_state *s = &c->state;

    memset(r, 0, sizeof(*r));
    prepare_rings(c, r);
    r->snd_una = s->snd_una;
    r->snd_max = s->snd_nxt_high;
    r->rcv_nxt = s->rcv_nxt;
    r->window = s->window;
    r->tsval_floor = stamp_floor(c, last_stamp(c));
    r->sent_len = s->snd_nxt_high - s->snd_una;
    r->unsent_len = s->sendq_len - r->sent_len;
    r->rcv_pos = s->recvq_len;
    r->unread_len = s->recvq_len;
}

int handoff_prepare(struct handoff_conn *c, const struct chimney_tcp_delegated *d,
                    struct repair_restore *r)
{
    const struct repair_state *s = &c->state;
    uint64_t unacked = d->send_data.end - d->send_data.begin;
    uint64_t unread = d->buffered_data.end - d->buffered_data.begin;
    uint32_t sent = d->snd_max_possible - d->snd_una;

    memset(r, 0, sizeof(*r));
    /* Position 0 of a stream is where its queue began when it was dumped. */
    if (d->state != TcpConnectionEstablished || d->send_data.end < d->send_data.begin ||
        d->buffered_data.end < d->buffered_data.begin || unacked > c->rings.size ||
        unread > c->rings.size || sent > unacked ||
        d->snd_una - s->snd_una != (uint32_t)d->send_data.begin ||
        d->rcv_nxt - (s->rcv_nxt - s->recvq_len) != (uint32_t)d->buffered_data.end)
        return -EINVAL;
    /* Perhaps sent can only be more than sent for certain. */
    if ((int32_t)(d->snd_max_possible - d->snd_max) < 0)
        return -EINVAL;
    prepare_rings(c, r);
    r->snd_una = d->snd_una;
    r->snd_max = d->snd_max_possible;
    r->rcv_nxt = d->rcv_nxt;
    r->window = (struct tcp_repair_window){
        .snd_wl1 = d->snd_wl1,
        .snd_wnd = d->snd_wnd,
        .max_window = d->max_snd_wnd,
        .rcv_wnd = d->rcv_wnd,
        .rcv_wup = d->rcv_nxt,
    };
    r->tsval_floor = stamp_floor(c, d->ts_last);
    r->una_pos = d->send_data.begin;
    r->sent_len = sent;
    r->unsent_len = unacked - sent;
    r->rcv_pos = d->buffered_data.end;
    r->unread_len = unread;
    c->ts_recent = d->ts_recent;
    return 0;
}
