/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What to send now.  One segment (or super-segment) per call, in this order: a RST that was asked
 * for, what has to be sent again, new data and the FIN, a probe, an acknowledgement alone.
 *
 * Bytes of the send ring are pointed to, never looked at: another process can change them.
 */
#include "tcp/conn.h"

#define MAX_SUPER 65000u /* payload of a super-segment: headers must fit beside it in 64 KiB */

/* Everything but the payload. */
static void build(struct tcp_conn *c, struct tcp_out *out, uint32_t seq, uint8_t flags,
                  tcp_time now)
{
    *out = (struct tcp_out){.seq = seq, .ack = c->rcv_nxt, .flags = flags | TCP_ACK};
    out->window = tcp_window_field(c);
    if (c->flags & F_TIMESTAMP) {
        uint32_t stamp = tcp_ts_now(c, now);

        c->ts_last = seq_max(stamp, c->ts_last); /* never a step back (handoff.md T5) */
        out->has_timestamp = true;
        out->tsval = c->ts_last;
        out->tsecr = c->ts_recent;
    }
    out->sack_count = (uint8_t)tcp_reasm_sack(c, out->sack, tcp_reasm_sack_count(c));
    if (c->flags & F_ECE)
        out->flags |= TCP_ECE;
    c->last_ack = c->rcv_nxt;
    c->flags &= ~F_ACK_NOW;
    c->timer[TIMER_DELACK] = TCP_TIME_NEVER;
    if (c->dup_acks_owed)
        c->dup_acks_owed--;
    c->stats.segments_out++;
}

/* Points @out at [seq, seq + len) of the send ring. */
static void attach(const struct tcp_conn *c, struct tcp_out *out, uint32_t seq, uint32_t len,
                   uint32_t mss)
{
    uint64_t pos = c->una_pos + (seq - c->snd_una);
    uint32_t at = (uint32_t)pos & c->snd_mask, head = tcp_min(len, c->snd_mask + 1 - at);

    if (!len)
        return;
    tcp_assert(pos + len <= c->end_pos);
    out->span[0] = c->snd_base + at;
    out->span_len[0] = head;
    if (len > head) {
        out->span[1] = c->snd_base;
        out->span_len[1] = len - head;
    }
    out->len = len;
    out->gso_size = len > mss ? (uint16_t)mss : 0;
    if (pos + len == c->end_pos)
        out->flags |= TCP_PSH;
    for (unsigned i = 0; i < c->push_count; i++)
        if (c->push_mark[i] > pos && c->push_mark[i] <= pos + len)
            out->flags |= TCP_PSH;
}

/* Payload of a full segment beside the SACK blocks it will carry. */
static uint32_t segment_size(const struct tcp_conn *c)
{
    unsigned blocks = tcp_reasm_sack_count(c);

    return blocks ? c->mss - 4 - 8 * blocks : c->mss;
}

/* Bytes the congestion window lets out; a whole segment if nothing is in flight. */
static uint32_t congestion_room(const struct tcp_conn *c, uint32_t mss)
{
    uint32_t pipe = tcp_pipe(c);

    if (!pipe)
        return tcp_max(c->cc.cwnd, mss);
    return c->cc.cwnd > pipe ? c->cc.cwnd - pipe : 0;
}

static uint32_t whole_segments(uint32_t bytes, uint32_t mss)
{
    return bytes - bytes % mss;
}

/* Sends [left, left + len) again. */
static int resend(struct tcp_conn *c, uint32_t left, uint32_t len, uint32_t mss, tcp_time now,
                  struct tcp_out *out)
{
    uint32_t data = len, right = left + len;
    uint8_t flags = 0;

    if (c->flags & F_FIN_QUEUED && right == tcp_end_seq(c) + 1) {
        flags = TCP_FIN;
        data--;
    }
    build(c, out, left, flags, now);
    attach(c, out, left, data, mss);
    tcp_span_force(c, left, right, SPAN_RESENT, now);
    tcp_loss_on_resend(c, left, len);
    tcp_prr_sent(c, len);
    c->stats.segments_out--; /* pure retransmissions are counted on their own */
    c->stats.retransmits++;
    c->last_sent = now;
    if (c->rexmt_kind != REXMT_RTO)
        tcp_timer_arm_rto(c, now);
    return 1;
}

static int output_lost(struct tcp_conn *c, uint32_t limit, tcp_time now, struct tcp_out *out)
{
    uint32_t mss = segment_size(c), room, len, end, wnd_edge = c->snd_una + c->snd_wnd;
    const struct tcp_span *span;

    if (c->flags & F_REXMT_FIRST) {
        c->flags &= ~F_REXMT_FIRST;
        if (tcp_flight(c) && tcp_span_at(c, c->snd_una, &end) == SPAN_FLIGHT)
            return resend(c, c->snd_una, tcp_min(end - c->snd_una, mss), mss, now, out);
    }
    if (!c->lost_bytes)
        return 0;
    span = tcp_span_first(c, SPAN_LOST);
    len = span->right - span->left;

    /* The first byte is always worth a try; for the rest the peer's window counts (it may shrink).
     */
    if (seq_gt(span->left + tcp_min(len, mss), wnd_edge) && span->left != c->snd_una)
        return 0;
    room = whole_segments(congestion_room(c, mss), mss);
    if (!room && !(c->flags & F_REXMT_ONE))
        return 0;
    room = tcp_max(tcp_min(room, limit), mss);
    if (c->flags & F_REXMT_ONE)
        tcp_timer_arm_rto(c, now); /* recovery begins: RFC 6298 (5.1) from this segment */
    c->flags &= ~F_REXMT_ONE;
    if (seq_geq(wnd_edge, span->left + mss))
        room = tcp_min(room, whole_segments(wnd_edge - span->left, mss));
    else
        room = mss;
    return resend(c, span->left, tcp_min(len, room), mss, now, out);
}

/* After an idle time the window no longer reflects the path (RFC 5681 4.1). */
static void restart_after_idle(struct tcp_conn *c, tcp_time now)
{
    tcp_time idle = now > c->last_sent ? now - c->last_sent : 0, rto = tcp_rto(c);
    uint32_t initial = tcp_cc_initial_window(c->mss);

    if (tcp_flight(c) || idle < rto)
        return;
    c->cc.ops->on_idle(&c->cc, idle, now);
    if (c->cc.cwnd > initial)
        c->cc.ssthresh = tcp_max(c->cc.ssthresh, c->cc.cwnd / 4 * 3);
    for (; idle >= rto && c->cc.cwnd > initial; idle -= rto)
        c->cc.cwnd = tcp_max(c->cc.cwnd / 2, initial);
    c->last_sent = now; /* once per idle time */
}

/* May @len bytes, less than a full segment, leave now? */
static bool small_allowed(const struct tcp_conn *c, uint32_t len, uint32_t unsent)
{
    if (len < unsent) /* the window cuts it: silly window syndrome (RFC 1122 4.2.3.4) */
        return len && (len >= c->max_snd_wnd / 2 || c->flags & F_SWS_OVERRIDE);
    if (c->flags & F_FIN_QUEUED || !(c->flags & F_NAGLE))
        return true;
    return !seq_gt(c->small_end,
                   c->snd_una); /* Nagle as Minshall has it: one small one in flight */
}

static void forget_push_marks(struct tcp_conn *c, uint64_t sent)
{
    unsigned n = 0;

    while (n < c->push_count && c->push_mark[n] <= sent)
        n++;
    c->push_count -= n;
    __builtin_memmove(&c->push_mark[0], &c->push_mark[n], c->push_count * sizeof(c->push_mark[0]));
}

static int send_new(struct tcp_conn *c, uint32_t len, bool fin, uint32_t mss, tcp_time now,
                    struct tcp_out *out)
{
    uint32_t seq = c->snd_max;

    build(c, out, seq, fin ? TCP_FIN : 0, now);
    attach(c, out, seq, len, mss);
    if (len && c->flags & F_ECN) {
        out->ecn = TCP_ECN_ECT0;
        if (c->flags & F_CWR)
            out->flags |= TCP_CWR;
        c->flags &= ~F_CWR;
    }
    if (!tcp_flight(c)) {
        c->total_since = now;
        c->total_base = 0;
        c->rexmt_count = 0;
        c->probe_round = 0;
    }
    c->snd_max = seq + len + fin;
    if (len % mss)
        c->small_end = seq + len;
    if (seq_geq(seq, c->snd_doubt)) /* else it may have been sent before: no RTT sample (Karn) */
        tcp_rtt_sent(c, c->snd_max, now);
    tcp_rack_sent(c, c->snd_max, now);
    c->snd_doubt = seq_max(c->snd_doubt, c->snd_max);
    c->flags &= ~F_SWS_OVERRIDE;
    forget_push_marks(c, c->una_pos + (seq - c->snd_una) + len);
    tcp_prr_sent(c, len);
    c->stats.bytes_out += len;
    c->last_sent = now;
    if (c->rexmt_kind != REXMT_RTO)
        tcp_timer_arm_rto(c, now);
    tcp_tlp_schedule(c, now);
    return 1;
}

static int output_new(struct tcp_conn *c, uint32_t limit, tcp_time now, struct tcp_out *out)
{
    uint32_t mss, unsent, usable, len, room;
    bool fin = false;

    if (!tcp_pending(c) || c->lost_bytes) /* what has to be sent again comes first (C183) */
        return 0;
    restart_after_idle(c, now);
    mss = segment_size(c);
    unsent = tcp_unsent(c);
    usable = tcp_usable_window(c);
    len = tcp_min(unsent, usable);
    room = congestion_room(c, mss);

    if (len >= mss)
        len = tcp_min(whole_segments(tcp_min(len, room), mss), tcp_max(limit, mss));
    else if (len > room || !small_allowed(c, len, unsent))
        len = 0;
    if (len == unsent && c->flags & F_FIN_QUEUED && usable > len)
        fin = true; /* a FIN takes a sequence number, but no room in the network */
    if (!len && !fin)
        return 0;
    return send_new(c, len, fin, mss, now, out);
}

/* A tail loss probe: the next new segment if the peer's window takes it, else the last one again.
 */
static int output_tail_probe(struct tcp_conn *c, tcp_time now, struct tcp_out *out)
{
    uint32_t mss = segment_size(c), unsent = tcp_unsent(c), usable = tcp_usable_window(c);
    uint32_t len = tcp_min(unsent, mss);
    bool fin = len == unsent && c->flags & F_FIN_QUEUED;
    bool fresh = tcp_pending(c) && usable >= len + fin;

    c->flags &= ~F_TAIL_PROBE;
    if (fresh) {
        send_new(c, len, fin, mss, now, out);
    } else {
        len = tcp_min(tcp_flight(c), mss);
        resend(c, c->snd_max - len, len, mss, now, out);
    }
    tcp_tlp_sent(c, !fresh, now);
    return 1;
}

/* Was the congestion window what held us back?  Kept for a window of data (RFC 7661). */
static void note_limits(struct tcp_conn *c)
{
    uint32_t pipe = tcp_pipe(c);
    bool limited = tcp_pending(c) && tcp_usable_window(c) >= c->mss && c->cc.cwnd < pipe + c->mss;

    if (!limited && pipe <= c->max_flight && seq_lt(c->snd_una, c->flight_edge))
        return;
    c->max_flight = pipe;
    c->flight_edge = c->snd_max;
    c->flags &= ~F_CWND_LIMITED;
    if (limited)
        c->flags |= F_CWND_LIMITED;
}

/** May tcp_output() have something to say?  Cheap, errs on the side of yes. */
bool tcp_output_wanted(const struct tcp_conn *c)
{
    if (c->flags & (F_STOPPED | F_ABORT))
        return c->flags & F_ABORT;
    return c->flags & (F_ACK_NOW | F_PROBE | F_REXMT_FIRST | F_TAIL_PROBE) || c->lost_bytes ||
           c->dup_acks_owed || tcp_pending(c);
}

int tcp_output(struct tcp_conn *c, uint32_t max_len, tcp_time now, struct tcp_out *out)
{
    uint32_t limit = whole_segments(tcp_min(max_len, MAX_SUPER), segment_size(c));

    if (c->flags & F_ABORT) {
        c->flags &= ~F_ABORT;
        build(c, out, c->snd_max, TCP_RST, now);
        out->sack_count = 0;
        return 1;
    }
    if (c->flags & F_STOPPED)
        return 0;
    if (c->flags & F_TAIL_PROBE && !c->lost_bytes && tcp_flight(c))
        return output_tail_probe(c, now, out);
    if (output_lost(c, limit, now, out) || output_new(c, limit, now, out))
        return 1;
    /*
     * An ACK that is owed leaves before a probe: the probe's sequence number is old, so the peer
     * may drop it whole (RFC 9293 3.10.7.4) and would not learn what it acknowledges.
     */
    if (c->flags & F_ACK_NOW || c->dup_acks_owed ||
        (c->flags & F_PROBE && c->last_ack != c->rcv_nxt)) {
        build(c, out, c->snd_max, 0, now);
        return 1;
    }
    if (c->flags & F_PROBE) {
        c->flags &= ~F_PROBE;
        build(c, out, c->snd_una - 1, 0, now);
        return 1;
    }
    note_limits(c);
    tcp_timer_settle(c, now);
    return 0;
}

int tcp_output_ack(struct tcp_conn *c, tcp_time now, struct tcp_out *out)
{
    if (c->flags & (F_STOPPED | F_ABORT) ||
        (c->last_ack == c->rcv_nxt && !(c->flags & F_ACK_NOW) && !c->dup_acks_owed))
        return 0;
    c->dup_acks_owed = 0;
    build(c, out, c->snd_max, 0, now);
    return 1;
}

int tcp_send_ready(struct tcp_conn *c, uint64_t end, bool push, tcp_time now)
{
    if (c->flags & F_FIN_QUEUED || end < c->end_pos || end - c->una_pos > c->snd_mask + 1ull)
        return -1;
    if (end == c->end_pos)
        return 0;
    c->end_pos = end;
    if (push) {
        if (c->push_count == TCP_PUSH_MARKS)
            c->push_count--;
        c->push_mark[c->push_count++] = end;
    }
    tcp_timer_settle(c, now);
    return 0;
}

int tcp_recv_consumed(struct tcp_conn *c, uint64_t tail, tcp_time now)
{
    if (tail < c->rcv_tail || tail > c->rcv_pos)
        return -1;
    c->rcv_tail = tail;
    tcp_demand_consumed(c, now);
    if (c->flags & F_STOPPED || !tcp_window_update_due(c))
        return 0;
    c->flags |= F_ACK_NOW;
    return TCP_EV_OUTPUT;
}

void tcp_shutdown(struct tcp_conn *c, tcp_time now)
{
    if (c->state == TcpConnectionEstablished)
        c->state = TcpConnectionFinWait1;
    else if (c->state == TcpConnectionCloseWait)
        c->state = TcpConnectionLastAck;
    else
        return;
    c->flags |= F_FIN_QUEUED;
    tcp_timer_settle(c, now);
}

void tcp_abort(struct tcp_conn *c)
{
    if (c->flags & F_STOPPED)
        return;
    tcp_stop(c);
    c->flags |= F_ABORT;
    c->state = TcpConnectionClosed;
}
