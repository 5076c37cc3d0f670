/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timers.  Theory of operation.
 *
 * Five deadlines per connection, each a point in time or TCP_TIME_NEVER.  Nothing ticks; the owner
 * calls tcp_timeout() at tcp_next_timeout().
 *
 *   Retransmit    one deadline, three uses, as the contract has it (contract.md 5.2):
 *     RTO         Data or our FIN is in flight.  Set to RTO (RFC 6298) when the first of it leaves
 * and when an ACK advances SND.UNA.  When it fires, everything not SACKed is taken for lost, the
 * window falls to one segment, and the next interval is twice as long. After max_retransmissions,
 * or MaxRT: TCP_EV_TIMEOUT.  A peer that answers with a closed window is alive and is not given up.
 *     PERSIST     Nothing in flight, something to send, the window closed.  Set to RTO << round.
 *                 When it fires a probe leaves; unanswered, further ones after RTO, 2 RTO, 4 RTO
 * ... An answer that still says "closed" begins the next round, whose first wait is longer.
 * max_retransmissions unanswered probes: TCP_EV_TIMEOUT. FIN_WAIT_2  Our FIN is acknowledged, the
 * peer's has not come: 120 s, from the last acceptable segment.  Then TCP_EV_TIMEOUT with state
 * Closed. Loss
 * One deadline for what loses its patience before the RTO: the reordering timer of RACK (rack.c),
 * and outside recovery the tail loss probe (tlp.c). Delayed ACK   Data was received and not
 * acknowledged at once: 40 ms. Keepalive Nothing was received for KaTimeout: a probe, then one
 * every KaInterval, KaProbeCount of them; then TCP_EV_TIMEOUT.  While data is in flight the
 * retransmission timer does this work.  The same timer checks, five minutes after a suspicious RST
 * or SYN, whether the peer still knows us (contract.md 5.3); then state Closed. Silly window  The
 * peer's window takes less than a segment and nothing is in flight whose ACK could open it: after
 * 200 ms send what it takes (RFC 1122 4.2.3.4).
 *
 * The rule that prevents deadlock: tcp_timer_settle() runs after every event, and whatever is in
 * flight or waits to be sent has a deadline when it returns.
 *
 * A probe, of either kind, is an empty segment at SND.UNA - 1: every peer answers it, and it leaves
 * no trace in the sequence space that a hand-over would have to explain.
 */
#include "tcp/conn.h"

#define DEFENCE_WAIT (300 * TCP_SEC)
#define DEFENCE_PROBES 10                  /* when KaProbeCount is zero */
#define DEFENCE_INTERVAL TCP_SEC           /* when KaInterval is zero */
#define KEEPALIVE_TIMEOUT (7200 * TCP_SEC) /* when KaTimeout is zero (RFC 1122 4.2.3.6) */
#define MAX_RT_BY_COUNT 0u
#define MAX_RT_UNLIMITED UINT32_MAX

/**
 * The engine is done with this connection: no output, no timers, input ignored.  The deadlines stay
 * where they are, for whoever asks for the state.
 */
void tcp_stop(struct tcp_conn *c)
{
    c->flags |= F_STOPPED;
    c->flags &= ~(F_ACK_NOW | F_PROBE | F_REXMT_FIRST | F_REXMT_ONE | F_TAIL_PROBE);
}

/** TotalRT: how long the segment at SND.UNA has been waiting for its acknowledgement. */
tcp_time tcp_total_rt(const struct tcp_conn *c, tcp_time now)
{
    if (!tcp_flight(c) || now < c->total_since)
        return c->total_base;
    return c->total_base + (now - c->total_since);
}

static bool max_rt_limited(const struct tcp_conn *c)
{
    return c->max_rt != MAX_RT_BY_COUNT && c->max_rt != MAX_RT_UNLIMITED;
}

static void rexmt_set(struct tcp_conn *c, enum tcp_rexmt_kind kind, tcp_time at)
{
    c->rexmt_kind = kind;
    c->timer[TIMER_REXMT] = at;
}

void tcp_timer_loss(struct tcp_conn *c, enum tcp_loss_kind kind, tcp_time at)
{
    c->loss_kind = kind;
    c->timer[TIMER_LOSS] = at;
}

void tcp_timer_arm_rto(struct tcp_conn *c, tcp_time now)
{
    tcp_time at = now + tcp_rto_shifted(c, c->backoff);

    if (max_rt_limited(c)) { /* give up when the host said so, not at the next doubling */
        tcp_time limit = tcp_from_ticks(c->params, c->max_rt), spent = tcp_total_rt(c, now);

        at = tcp_min_time(at, spent < limit ? now + (limit - spent) : now);
    }
    rexmt_set(c, REXMT_RTO, at);
}

void tcp_timer_fin_wait2(struct tcp_conn *c, tcp_time now)
{
    if (c->params->fin_wait2_ticks == TCP_TIMER_OFF)
        rexmt_set(c, REXMT_OFF, TCP_TIME_NEVER);
    else
        rexmt_set(c, REXMT_FIN_WAIT2, now + tcp_from_ticks(c->params, c->params->fin_wait2_ticks));
}

/** Makes the timers fit what is in flight and what waits. */
void tcp_timer_settle(struct tcp_conn *c, tcp_time now)
{
    bool idle_with_data = !tcp_flight(c) && tcp_pending(c);

    if (c->flags & F_STOPPED)
        return;
    if (tcp_flight(c)) {
        if (c->rexmt_kind != REXMT_RTO)
            tcp_timer_arm_rto(c, now);
    } else if (idle_with_data && c->snd_wnd == 0) {
        if (c->rexmt_kind != REXMT_PERSIST) {
            c->probe_round = 0;
            c->rexmt_count = 0;
            rexmt_set(c, REXMT_PERSIST, now + tcp_rto(c));
        }
    } else if (c->rexmt_kind != REXMT_FIN_WAIT2 || c->state != TcpConnectionFinWait2) {
        rexmt_set(c, REXMT_OFF, TCP_TIME_NEVER);
    }

    if (!tcp_flight(c))
        tcp_timer_loss(c, LOSS_OFF, TCP_TIME_NEVER);
    if (!idle_with_data || c->snd_wnd == 0)
        c->timer[TIMER_SWS] = TCP_TIME_NEVER;
    else if (c->timer[TIMER_SWS] == TCP_TIME_NEVER)
        c->timer[TIMER_SWS] = now + tcp_from_ticks(c->params, c->params->sws_prevention_ticks);
}

/** After an ACK that is not old; the window field has been taken in. */
void tcp_timer_on_ack(struct tcp_conn *c, bool advanced, tcp_time now)
{
    if (c->rexmt_kind == REXMT_PERSIST) {
        if (c->snd_wnd) {
            c->probe_round = 0;
            c->rexmt_count = 0;
            rexmt_set(c, REXMT_OFF, TCP_TIME_NEVER);
        } else if (c->rexmt_count) { /* the answer to a probe: next round */
            if (c->probe_round < UINT8_MAX)
                c->probe_round++;
            c->rexmt_count = 0;
            c->timer[TIMER_REXMT] = now + tcp_rto_shifted(c, c->probe_round);
        }
    } else if (c->rexmt_kind == REXMT_RTO) {
        if (c->snd_wnd == 0)
            c->flags |= F_PEER_ALIVE;
        if (advanced && tcp_flight(c)) {
            tcp_timer_arm_rto(c, now);
            tcp_tlp_schedule(c, now);
        }
    }
}

/** After every valid segment: the peer lives. */
void tcp_timer_on_segment(struct tcp_conn *c, tcp_time now)
{
    bool started_by_defence = c->flags & F_DEFENCE_TIMER;

    c->flags &= ~(F_DEFENCE | F_DEFENCE_TIMER | F_RST_CHALLENGED);
    c->ka_count = 0;
    if (c->flags & F_KEEPALIVE)
        c->timer[TIMER_KEEPALIVE] = now + c->ka_timeout;
    else if (started_by_defence)
        c->timer[TIMER_KEEPALIVE] = TCP_TIME_NEVER;
    if (c->rexmt_kind == REXMT_FIN_WAIT2)
        tcp_timer_fin_wait2(c, now);
}

/** A RST or SYN in window that was not believed: see in five minutes whether the peer is still
 * there. */
void tcp_timer_defence(struct tcp_conn *c, tcp_time now)
{
    tcp_time *at = &c->timer[TIMER_KEEPALIVE];

    if (c->flags & F_DEFENCE)
        return; /* a flood of them must not postpone it for ever */
    c->flags |= F_DEFENCE;
    if (*at == TCP_TIME_NEVER) {
        c->flags |= F_DEFENCE_TIMER;
        c->ka_count = 0;
        *at = now + DEFENCE_WAIT;
    } else {
        *at = tcp_max_time(*at, now + DEFENCE_WAIT);
    }
}

static uint32_t give_up(struct tcp_conn *c)
{
    tcp_stop(c);
    return TCP_EV_TIMEOUT;
}

static uint32_t fire_rto(struct tcp_conn *c, tcp_time now)
{
    bool closed_but_alive = c->flags & F_PEER_ALIVE && c->snd_wnd == 0;

    if (!tcp_flight(c))
        return 0;
    if (!closed_but_alive) {
        if (max_rt_limited(c)) {
            if (tcp_total_rt(c, now) >= tcp_from_ticks(c->params, c->max_rt))
                return give_up(c);
        } else if (c->max_rt == MAX_RT_BY_COUNT &&
                   c->rexmt_count >= c->params->max_retransmissions) {
            return give_up(c);
        }
        if (c->rexmt_count < UINT8_MAX)
            c->rexmt_count++;
    }
    c->flags &= ~F_PEER_ALIVE;
    c->stats.rto_fired++;
    tcp_timer_loss(c, LOSS_OFF, TCP_TIME_NEVER);
    tcp_loss_on_rto(c, now);
    if (c->backoff < UINT8_MAX)
        c->backoff++;
    tcp_timer_arm_rto(c, now);
    return TCP_EV_OUTPUT;
}

static uint32_t fire_persist(struct tcp_conn *c, tcp_time now)
{
    if (c->rexmt_count >= c->params->max_retransmissions)
        return give_up(c);
    c->flags |= F_PROBE;
    c->timer[TIMER_REXMT] = now + tcp_rto_shifted(c, c->rexmt_count);
    c->rexmt_count++;
    return TCP_EV_OUTPUT;
}

static uint32_t fire_rexmt(struct tcp_conn *c, tcp_time now)
{
    enum tcp_rexmt_kind kind = c->rexmt_kind;

    c->timer[TIMER_REXMT] = TCP_TIME_NEVER;
    switch (kind) {
    case REXMT_RTO:
        return fire_rto(c, now);
    case REXMT_PERSIST:
        return fire_persist(c, now);
    case REXMT_FIN_WAIT2:
        c->state = TcpConnectionClosed;
        return give_up(c);
    default:
        return 0;
    }
}

static uint32_t fire_loss(struct tcp_conn *c, tcp_time now)
{
    enum tcp_loss_kind kind = c->loss_kind;
    bool wanted;

    tcp_timer_loss(c, LOSS_OFF, TCP_TIME_NEVER);
    if (!tcp_flight(c))
        return 0;
    wanted = kind == LOSS_PROBE ? tcp_tlp_fire(c, now) : tcp_loss_on_reorder(c, now);
    return wanted ? TCP_EV_OUTPUT : 0;
}

static uint32_t fire_keepalive(struct tcp_conn *c, tcp_time now)
{
    bool defence = c->flags & F_DEFENCE;
    uint8_t limit = c->ka_limit ? c->ka_limit : DEFENCE_PROBES;
    tcp_time interval = c->ka_interval ? c->ka_interval : DEFENCE_INTERVAL;

    c->timer[TIMER_KEEPALIVE] = TCP_TIME_NEVER;
    if (!defence && !(c->flags & F_KEEPALIVE))
        return 0;
    if (!defence && (tcp_flight(c) || tcp_pending(c))) {
        c->timer[TIMER_KEEPALIVE] = now + c->ka_timeout;
        return 0;
    }
    if (c->ka_count >= limit) {
        if (defence)
            c->state = TcpConnectionClosed;
        return give_up(c);
    }
    c->ka_count++;
    c->flags |= F_PROBE;
    c->timer[TIMER_KEEPALIVE] = now + interval;
    return TCP_EV_OUTPUT;
}

tcp_time tcp_next_timeout(const struct tcp_conn *c)
{
    tcp_time at = c->timer[0];

    if (c->flags & F_STOPPED)
        return TCP_TIME_NEVER;
    for (unsigned i = 1; i < TIMER_COUNT; i++)
        at = tcp_min_time(at, c->timer[i]);
    return at;
}

uint32_t tcp_timeout(struct tcp_conn *c, tcp_time now)
{
    uint32_t events = 0;

    if (c->flags & F_STOPPED)
        return 0;
    if (c->timer[TIMER_DELACK] <= now) {
        c->timer[TIMER_DELACK] = TCP_TIME_NEVER;
        c->flags |= F_ACK_NOW;
        events |= TCP_EV_OUTPUT;
    }
    if (c->timer[TIMER_SWS] <= now) {
        c->timer[TIMER_SWS] = TCP_TIME_NEVER;
        c->flags |= F_SWS_OVERRIDE;
        events |= TCP_EV_OUTPUT;
    }
    if (c->timer[TIMER_LOSS] <= now && c->timer[TIMER_REXMT] > now) /* the RTO says more */
        events |= fire_loss(c, now);
    if (c->timer[TIMER_REXMT] <= now)
        events |= fire_rexmt(c, now);
    if (c->timer[TIMER_KEEPALIVE] <= now && !(c->flags & F_STOPPED))
        events |= fire_keepalive(c, now);
    if (c->flags & F_STOPPED)
        events &= ~TCP_EV_OUTPUT;
    tcp_timer_settle(c, now);
    return events;
}

/** ka_timeout of the cached state, with the default for zero. */
tcp_time tcp_keepalive_time(const struct tcp_conn *c, uint32_t ticks)
{
    return ticks ? tcp_from_ticks(c->params, ticks) : KEEPALIVE_TIMEOUT;
}
