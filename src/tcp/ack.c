/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The acknowledgement and window fields of an acceptable segment: what they do to the send side.
 * The caller has checked that the acknowledgement number is not beyond what was ever sent.
 */
#include "tcp/conn.h"

/* Moves SND.UNA to @ack. */
static uint32_t advance(struct tcp_conn *c, uint32_t ack, tcp_time now)
{
    uint32_t events = TCP_EV_ACKED, data = ack - c->snd_una;

    /*
     * The previous owner may have sent more than it could tell for certain (handoff.md T2).  What
     * the peer acknowledges was sent; go on behind it.
     */
    if (seq_gt(ack, c->snd_max))
        c->snd_max = ack;
    if (c->flags & F_FIN_QUEUED && ack == tcp_end_seq(c) + 1) {
        c->flags |= F_FIN_ACKED;
        events |= TCP_EV_FIN_ACKED;
        data--;
    }
    c->una_pos += data;
    c->snd_una = ack;
    if (seq_lt(c->snd_doubt, ack))
        c->snd_doubt = ack;
    if (seq_lt(c->small_end, ack))
        c->small_end = ack;
    if (seq_lt(c->recover, ack - TCP_MAX_WINDOW))
        c->recover = ack - 1; /* keep it near, or it would become "later" after 2 GiB */
    if (seq_lt(c->ecn_recover, ack))
        c->ecn_recover = ack;
    tcp_span_trim(c, ack);
    tcp_rack_trim(c);
    c->total_since = now;
    c->total_base = 0;
    c->rexmt_count = 0;
    c->flags &= ~F_PEER_ALIVE;
    if (data == 0)
        events &= ~TCP_EV_ACKED; /* the FIN alone */

    if (events & TCP_EV_FIN_ACKED) {
        switch (c->state) {
        case TcpConnectionFinWait1:
            c->state = TcpConnectionFinWait2;
            tcp_timer_fin_wait2(c, now);
            break;
        case TcpConnectionClosing:
            c->state = TcpConnectionTimeWait;
            events |= TCP_EV_TIME_WAIT;
            break;
        case TcpConnectionLastAck:
            c->state = TcpConnectionClosed;
            tcp_stop(c);
            break;
        default:
            break;
        }
    }
    return events;
}

/* RFC 9293 3.10.7.4, with Linux's rule that any ACK of new data brings the window along. */
static bool update_window(struct tcp_conn *c, const struct tcp_segment *seg, bool advanced)
{
    uint32_t window = (uint32_t)seg->window << c->snd_scale;
    bool changed = window != c->snd_wnd;

    if (!advanced && !seq_gt(seg->seq, c->snd_wl1) &&
        !(seg->seq == c->snd_wl1 && window > c->snd_wnd))
        return false;
    c->snd_wl1 = seg->seq;
    c->snd_wnd = window;
    c->max_snd_wnd = tcp_max(c->max_snd_wnd, window);
    return changed;
}

/* ECN-Echo: once per window of data (RFC 3168 6.1.2). */
static void congestion_echo(struct tcp_conn *c, tcp_time now)
{
    if (c->recovery != RECOVERY_NONE || seq_lt(c->snd_una, c->ecn_recover))
        return;
    c->cc.ops->on_congestion(&c->cc, TCP_CC_ECN, tcp_flight(c), now);
    c->ecn_recover = c->snd_max;
    c->undo.possible = false;
    c->flags |= F_CWR;
}

/* The window grows only if it was used (RFC 7661); slow start doubles, so half of it is enough. */
static bool window_used(const struct tcp_conn *c)
{
    if (c->recovery == RECOVERY_FAST)
        return false;
    return c->flags & F_CWND_LIMITED ||
           (c->cc.cwnd < c->cc.ssthresh && c->cc.cwnd / 2 < c->max_flight);
}

uint32_t tcp_ack_input(struct tcp_conn *c, const struct tcp_segment *seg, tcp_time now)
{
    struct tcp_ack_info info = {0};
    uint32_t events = 0, prior_pipe = tcp_pipe(c), flight = tcp_flight(c), sacked = 0;
    uint32_t rtt = 0;
    bool window_changed;

    if (seq_lt(seg->ack, c->snd_una))
        return 0; /* old: nothing new in it */

    if (c->flags & F_SACK && seg->sack_count)
        info.sacked = tcp_sack_input(c, seg, now);
    info.acked = seg->ack - c->snd_una;
    if (info.acked || info.sacked)
        rtt = tcp_rtt_measure(c, seg, info.acked > 0, now);
    window_changed = update_window(c, seg, info.acked > 0);
    if (info.acked) {
        sacked = c->sacked_bytes;
        if (c->flags & F_SACK)
            tcp_rack_delivered(c, c->snd_una, seq_min(seg->ack, c->snd_max), seg, now);
        events |= advance(c, seg->ack, now);
        sacked -= c->sacked_bytes; /* bytes that were delivered long ago */
    } else if (flight && !seg->len && !(seg->flags & (TCP_FIN | TCP_SYN))) {
        /* With SACK only new information counts (RFC 6675 2): a D-SACK alone is no sign of loss. */
        info.duplicate = c->flags & F_SACK ? info.sacked > 0 : !window_changed;
    } else if (info.sacked) {
        info.duplicate = true;
    }
    info.delivered = info.acked + info.sacked - sacked;
    info.plain = !info.acked && !info.sacked && !window_changed && !seg->len &&
                 !(seg->flags & (TCP_FIN | TCP_SYN));
    if (c->flags & F_STOPPED)
        return events;

    tcp_loss_on_ack(c, seg, &info, now);
    if (c->flags & F_ECN && seg->flags & TCP_ECE)
        congestion_echo(c, now);

    if (info.acked && info.delivered && window_used(c)) {
        struct tcp_cc_ack ack = {
            .acked = info.delivered,
            .inflight = prior_pipe,
            .rtt_us = rtt,
            .srtt_us = c->srtt / 8,
        };

        c->cc.ops->on_ack(&c->cc, &ack, now);
    }
    tcp_timer_on_ack(c, info.acked > 0, now);
    return events;
}
