/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One incoming segment, in the order of RFC 9293 3.10.7.4, RFC 5961 and RFC 7323 5.3:
 *
 *   PAWS, sequence number, RST, SYN, acknowledgement number, urgent, acknowledgement, data, FIN.
 *
 * Deviations, each for a reason:
 *   - A segment whose data came before, or whose data lies at the very edge of the window, is
 *     stripped of its data and answered, but its acknowledgement counts.  Two sides with closed
 *     windows would otherwise never hear each other.
 *   - Empty segments out of window are answered at most every OOW_ACK_INTERVAL, or two confused
 * ends would answer each other for ever.  Data, FIN and SYN are always answered.
 *   - Nothing is ever answered by RST (contract row C303).
 */
#include "tcp/conn.h"

#define OOW_ACK_INTERVAL (100 * TCP_MSEC)
#define SYN_ACK_INTERVAL (3 * TCP_SEC)                /* contract.md 5.3 */
#define TS_RECENT_VALID (24ull * 24 * 3600 * TCP_SEC) /* RFC 7323 5.5 */

static uint32_t segment_len(const struct tcp_segment *seg)
{
    return seg->len + (seg->flags & TCP_SYN ? 1 : 0) + (seg->flags & TCP_FIN ? 1 : 0);
}

/* Answers an unacceptable segment. */
static uint32_t answer(struct tcp_conn *c, const struct tcp_segment *seg, tcp_time now)
{
    if (segment_len(seg) == 0) {
        if (c->oow_ack_at && now - c->oow_ack_at < OOW_ACK_INTERVAL)
            return TCP_EV_DROPPED;
        c->oow_ack_at = now;
    }
    c->flags |= F_ACK_NOW;
    return TCP_EV_DROPPED | TCP_EV_OUTPUT;
}

/* RFC 7323 5.3 R1.  A stamp not heard for 24 days says nothing any more. */
static bool paws_reject(const struct tcp_conn *c, const struct tcp_segment *seg, tcp_time now)
{
    return c->flags & F_TIMESTAMP && seg->has_timestamp && c->ts_recent &&
           seq_lt(seg->tsval, c->ts_recent) && now - c->ts_recent_at < TS_RECENT_VALID;
}

enum place { PLACE_IN, PLACE_OLD, PLACE_EDGE, PLACE_OUT };

/* Where the segment lies in the window that was promised. */
static enum place place_of(const struct tcp_conn *c, const struct tcp_segment *seg)
{
    uint32_t len = segment_len(seg), end = seg->seq + len;

    if (seq_gt(seg->seq, c->rcv_adv))
        return PLACE_OUT;
    if (seq_lt(seg->seq, c->rcv_nxt) && (seq_lt(end, c->rcv_nxt) || end == c->rcv_nxt))
        return len && c->rcv_nxt - seg->seq <= TCP_MAX_WINDOW ? PLACE_OLD : PLACE_OUT;
    if (len && seg->seq == c->rcv_adv)
        return PLACE_EDGE;
    return PLACE_IN; /* an empty segment at the edge is what a full window looks like */
}

static uint32_t input_rst(struct tcp_conn *c, const struct tcp_segment *seg, enum place place,
                          tcp_time now)
{
    if (seg->seq == c->rcv_nxt) {
        tcp_stop(c);
        return TCP_EV_RESET;
    }
    if (place != PLACE_IN && place != PLACE_EDGE)
        return TCP_EV_DROPPED;
    tcp_timer_defence(c, now);
    if (c->flags & F_RST_CHALLENGED)
        return TCP_EV_DROPPED;
    c->flags |= F_RST_CHALLENGED | F_ACK_NOW;
    c->stats.challenge_acks++;
    return TCP_EV_DROPPED | TCP_EV_OUTPUT;
}

static uint32_t input_syn(struct tcp_conn *c, const struct tcp_segment *seg, enum place place,
                          tcp_time now)
{
    if (c->state == TcpConnectionTimeWait)
        return TCP_EV_SYN; /* the host's business (C411) */
    if (place == PLACE_OUT || place == PLACE_OLD)
        return answer(c, seg, now);
    if (seg->seq == c->rcv_nxt) {
        c->state = TcpConnectionClosed;
        tcp_stop(c);
        return TCP_EV_SYN;
    }
    tcp_timer_defence(c, now);
    if (c->syn_ack_at && now - c->syn_ack_at < SYN_ACK_INTERVAL)
        return TCP_EV_DROPPED;
    c->syn_ack_at = now;
    c->flags |= F_ACK_NOW;
    c->stats.challenge_acks++;
    return TCP_EV_DROPPED | TCP_EV_OUTPUT;
}

/* RFC 5961 5.2, with the upper bound of handoff.md T2. */
static bool ack_acceptable(const struct tcp_conn *c, uint32_t ack)
{
    if (seq_gt(ack, seq_max(c->snd_max, c->snd_doubt)))
        return false;
    return seq_geq(ack, c->snd_una - c->max_snd_wnd) || seq_geq(ack, c->snd_una);
}

/* How the data that advanced RCV.NXT is acknowledged (RFC 1122 4.2.3.2, RFC 5681 4.2). */
static void schedule_ack(struct tcp_conn *c, const struct tcp_segment *seg, bool gap, tcp_time now)
{
    uint32_t unacked = c->rcv_nxt - c->last_ack, every = c->params->ack_frequency;

    if (gap || unacked >= (every ? every : 1) * c->rcv_mss ||
        unacked >= c->rcv_adv - c->rcv_nxt /* half the window: the peer may be waiting */) {
        c->flags |= F_ACK_NOW;
    } else if (c->quick_acks) {
        c->quick_acks--;
        c->flags |= F_ACK_NOW;
    } else if (c->timer[TIMER_DELACK] == TCP_TIME_NEVER) {
        c->timer[TIMER_DELACK] = now + tcp_from_ticks(c->params, c->params->delayed_ack_ticks);
    }
}

static uint32_t input_data(struct tcp_conn *c, const struct tcp_segment *seg, tcp_time now)
{
    uint32_t seq = seg->seq, len = seg->len, room, events = 0, size;
    const uint8_t *data = seg->payload;
    bool gap = c->ooo_count > 0;

    size = seg->gso_size && seg->gso_size < len ? seg->gso_size : len;
    if (size > c->rcv_mss)
        c->rcv_mss = (uint16_t)tcp_min(size, UINT16_MAX);

    if (seq_lt(seq, c->rcv_nxt)) {
        uint32_t old = c->rcv_nxt - seq;

        tcp_reasm_duplicate(c, seq, c->rcv_nxt);
        c->flags |= F_ACK_NOW;
        seq += old;
        data += old;
        len -= old; /* place_of() saw that something new follows: data, or the FIN alone */
    }
    room = tcp_min(c->rcv_adv - c->rcv_nxt, tcp_rcv_room(c));
    if (c->flags & F_PEER_FIN)
        room = tcp_min(room, c->peer_fin - c->rcv_nxt);
    if (seq - c->rcv_nxt >= room) {
        c->flags |= F_ACK_NOW;
        return 0;
    }
    if (len > room - (seq - c->rcv_nxt)) {
        len = room - (seq - c->rcv_nxt);
        c->flags |= F_ACK_NOW;
    }
    if (!len)
        return 0;
    events = tcp_reasm_input(c, seq, data, len);
    if (events) {
        schedule_ack(c, seg, gap, now);
    } else {
        c->flags |= F_ACK_NOW;
        if (!(c->flags & F_SACK) && c->dup_acks_owed < UINT8_MAX)
            c->dup_acks_owed++;
    }
    return events;
}

/* A FIN whose place in the stream is now known, or reached. */
static uint32_t input_fin(struct tcp_conn *c, tcp_time now)
{
    uint32_t events = 0;

    if (!(c->flags & F_PEER_FIN) || c->rcv_nxt != c->peer_fin)
        return 0;
    if (!(c->flags & F_PEER_FIN_TOLD)) {
        c->flags |= F_PEER_FIN_TOLD;
        events = TCP_EV_FIN;
    }
    if (c->flags & F_FIN_HOLD)
        return events;

    c->rcv_nxt++;
    c->rcv_adv = seq_max(c->rcv_adv, c->rcv_nxt);
    c->flags |= F_PEER_FIN_DONE | F_ACK_NOW;
    switch (c->state) {
    case TcpConnectionEstablished:
        c->state = TcpConnectionCloseWait;
        break;
    case TcpConnectionFinWait1:
        c->state = TcpConnectionClosing;
        break;
    case TcpConnectionFinWait2:
        c->state = TcpConnectionTimeWait;
        events |= TCP_EV_TIME_WAIT;
        break;
    default:
        break;
    }
    return events;
}

uint32_t tcp_input(struct tcp_conn *c, const struct tcp_segment *seg, tcp_time now)
{
    uint32_t events = 0, len = segment_len(seg);
    enum place place = place_of(c, seg);

    if (c->flags & F_STOPPED)
        return TCP_EV_DROPPED;
    c->stats.segments_in++;

    if (seg->flags & TCP_RST)
        return input_rst(c, seg, place, now);
    if (paws_reject(c, seg, now)) {
        c->stats.paws_dropped++;
        return answer(c, seg, now);
    }
    if (seg->flags & TCP_SYN)
        return input_syn(c, seg, place, now);
    if (place == PLACE_OUT)
        return answer(c, seg, now);
    if (!(seg->flags & TCP_ACK))
        return TCP_EV_DROPPED;
    if (!ack_acceptable(c, seg->ack)) {
        c->stats.challenge_acks++;
        return answer(c, seg, now);
    }

    if (seg->flags & TCP_URG && place == PLACE_IN) {
        tcp_stop(c); /* nothing is acknowledged from now on (C336) */
        return TCP_EV_URGENT;
    }

    /* The segment is valid. */
    if (c->flags & F_TIMESTAMP && seg->has_timestamp && seq_leq(seg->seq, c->last_ack) &&
        (seq_geq(seg->tsval, c->ts_recent) || !c->ts_recent ||
         now - c->ts_recent_at >= TS_RECENT_VALID)) {
        c->ts_recent = seg->tsval;
        c->ts_recent_at = now;
    }
    tcp_timer_on_segment(c, now);
    tcp_demand_segment(c, seg, now);
    if (c->flags & F_ECN) {
        if (seg->flags & TCP_CWR)
            c->flags &= ~F_ECE;
        if (seg->ecn == TCP_ECN_CE) {
            c->flags |= F_ECE;
            if (seg->len)
                c->flags |= F_ACK_NOW;
        }
    }

    events |= tcp_ack_input(c, seg, now);
    if (c->flags & F_STOPPED)
        return events;

    if (len && place != PLACE_IN) {
        c->flags |= F_ACK_NOW;
        if (place == PLACE_OLD && seg->len)
            tcp_reasm_duplicate(c, seg->seq, seg->seq + seg->len);
    } else if (len && tcp_receiving(c)) {
        uint32_t fin = seg->seq + seg->len;

        if (seg->flags & TCP_FIN && !(c->flags & F_PEER_FIN) && seq_geq(fin, c->rcv_nxt) &&
            (!c->ooo_count || seq_geq(fin, c->ooo[c->ooo_count - 1].right))) {
            c->peer_fin = fin;
            c->flags |= F_PEER_FIN;
        }
        if (seg->len)
            events |= input_data(c, seg, now);
        else if (seg->seq != c->rcv_nxt)
            c->flags |= F_ACK_NOW; /* a FIN above a gap */
        events |= input_fin(c, now);
    }
    tcp_timer_settle(c, now);
    if (tcp_output_wanted(c))
        events |= TCP_EV_OUTPUT;
    return events;
}
