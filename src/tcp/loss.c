/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loss and recovery: RACK (rack.c) says what is lost with SACK, RFC 6582 (NewReno) without.
 *
 * Theory of operation.  Three states:
 *   NONE  nothing is missing, or not certainly.  Duplicate ACKs let new data out (limited transmit,
 *         RFC 3042), because what they say has left the network no longer counts as in flight.
 *   FAST  something is lost.  Entered when RACK says so, or, of what a previous owner sent, when
 *         three segments' worth above it were SACKed (RFC 6675), or after three duplicate ACKs; the
 *         window is reduced once, with SACK step by step (prr.c).  One lost segment goes out at
 * once, the others as the pipe (RFC 6675: bytes believed in flight) allows.  Left when everything
 *         that was sent before is acknowledged.
 *   RTO   the retransmission timer fired.  Everything not SACKed is lost, the window is one segment
 *         and grows by slow start.  Left as FAST is.
 * The SACK marks survive a first timeout.  If the first byte itself is SACKed, or the timer fires
 * again, the peer may have reneged (RFC 2018 section 8): the marks are dropped.
 *
 * Undo (Eifel, RFC 3522): if the first ACK after a retransmission echoes a stamp older than that
 * retransmission, the original had arrived: the loss marks and the reduction are taken back.  The
 * same when D-SACKs say so of every byte that was sent again (RFC 3708), also after the recovery.
 */
#include "tcp/conn.h"

static uint32_t dup_threshold(const struct tcp_conn *c)
{
    uint32_t threshold = tcp_max(c->params->dup_ack_threshold, 1);

    return tcp_max(threshold, tcp_min(c->reordering, TCP_MAX_REORDERING));
}

/* Without SACK every duplicate ACK stands for a segment that has left the network. */
static uint32_t reno_delivered(const struct tcp_conn *c)
{
    uint32_t flight = tcp_flight(c) - c->lost_bytes;

    if (c->flags & F_SACK)
        return 0;
    return tcp_min((uint64_t)c->dup_acks * c->mss, flight);
}

/** Bytes believed to be in the network (RFC 6675 section 4). */
uint32_t tcp_pipe(const struct tcp_conn *c)
{
    return tcp_flight(c) - c->sacked_bytes - c->lost_bytes - reno_delivered(c);
}

static void enter(struct tcp_conn *c, enum tcp_recovery state)
{
    if (c->recovery == RECOVERY_NONE)
        c->undo = (struct tcp_undo){.possible = true, .left = c->snd_una, .right = c->snd_max};
    c->recovery = state;
    c->recover = c->snd_max;
    c->tlp.out = false;
    c->flags &= ~F_TAIL_PROBE;
    if (c->loss_kind == LOSS_PROBE)
        tcp_timer_loss(c, LOSS_OFF, TCP_TIME_NEVER);
    c->flags &= ~F_EIFEL;
    c->flags |= F_REXMT_ONE;
}

static void leave(struct tcp_conn *c)
{
    c->recovery = RECOVERY_NONE;
    c->undo.until = c->snd_max;
    tcp_prr_end(c);
    tcp_rack_recovered(c);
    c->flags &= ~(F_REXMT_ONE | F_EIFEL);
    c->dup_acks = 0;
}

/* FlightSize of RFC 5681; what SACK has let out beyond the window must not count. */
static uint32_t flight_in_window(const struct tcp_conn *c)
{
    return tcp_min(tcp_flight(c), c->cc.cwnd);
}

/** A loss that is repaired already, by a tail loss probe: the window shrinks all the same. */
void tcp_loss_repaired(struct tcp_conn *c, tcp_time now)
{
    if (c->recovery != RECOVERY_NONE)
        return;
    c->cc.ops->on_congestion(&c->cc, TCP_CC_LOSS, flight_in_window(c), now);
    c->undo.possible = false;
    if (c->flags & F_ECN)
        c->flags |= F_CWR;
}

static void enter_fast(struct tcp_conn *c, uint32_t delivered, tcp_time now)
{
    c->cc.ops->on_congestion(&c->cc, TCP_CC_LOSS, flight_in_window(c), now);
    enter(c, RECOVERY_FAST);
    if (c->flags & F_SACK)
        tcp_prr_begin(c, delivered);
    c->stats.fast_retransmits++;
    if (c->flags & F_ECN)
        c->flags |= F_CWR;
}

/** The segment at @left goes out again.  The first of an episode, at SND.UNA, decides about undo.
 */
void tcp_loss_on_resend(struct tcp_conn *c, uint32_t left, uint32_t len)
{
    if (c->recovery != RECOVERY_NONE)
        c->undo.again += len;
    if (c->recovery == RECOVERY_NONE || c->flags & F_EIFEL || left != c->snd_una)
        return;
    c->eifel_ts = c->ts_last;
    c->flags |= F_EIFEL;
}

static bool spurious(const struct tcp_conn *c, const struct tcp_segment *seg)
{
    return c->flags & F_EIFEL && c->flags & F_TIMESTAMP && seg->has_timestamp && seg->tsecr &&
           seq_lt(seg->tsecr, c->eifel_ts);
}

static void undo(struct tcp_conn *c, tcp_time now)
{
    tcp_prr_end(c);
    c->cc.ops->on_spurious(&c->cc, now);
    c->undo.possible = false;
    c->backoff = 0;
    for (unsigned i = c->span_count; i-- > 0;) {
        if (c->span[i].state == SPAN_SACKED)
            continue;
        tcp_span_set(c, c->span[i].left, c->span[i].right, SPAN_FLIGHT, now);
    }
    if (c->recovery != RECOVERY_NONE)
        leave(c);
}

/** A D-SACK that is not about a tail loss probe. */
void tcp_loss_on_dsack(struct tcp_conn *c, uint32_t left, uint32_t right)
{
    struct tcp_undo *u = &c->undo;

    if (u->possible && seq_geq(left, u->left) && seq_leq(right, u->right))
        u->needless += right - left;
}

/* Everything that was sent again had arrived (RFC 3708; as Linux, also after the recovery's end).
 */
static bool all_needless(const struct tcp_conn *c)
{
    const struct tcp_undo *u = &c->undo;

    return u->possible && u->again && u->needless >= u->again && !c->lost_bytes;
}

/* The segment at SND.UNA is lost, unless it is known otherwise. */
static void mark_first_lost(struct tcp_conn *c)
{
    uint32_t end;

    if (!tcp_flight(c) || tcp_span_at(c, c->snd_una, &end) != SPAN_FLIGHT)
        return;
    end = seq_min(end, c->snd_una + c->mss);
    tcp_span_force(c, c->snd_una, end, SPAN_LOST, 0);
}

/*
 * RFC 6675 IsLost(): lost is what lies below an edge above which DupThresh ranges, or more than
 * DupThresh - 1 segments of bytes, are SACKed.  The same holds for a retransmission, counting only
 * what was sent after it.
 */
static void detect_by_sack(struct tcp_conn *c)
{
    uint32_t threshold = dup_threshold(c), ranges = 0;
    uint64_t wanted = (uint64_t)(threshold - 1) * c->mss + 1;

    for (unsigned i = c->span_count; i-- > 0;) {
        const struct tcp_span *span = &c->span[i];
        uint32_t len = span->right - span->left;

        if (span->state != SPAN_SACKED)
            continue;
        if (len >= wanted) {
            tcp_span_mark_lost(c, span->right - (uint32_t)wanted);
            return;
        }
        if (++ranges >= threshold) {
            tcp_span_mark_lost(c, span->left);
            return;
        }
        wanted -= len;
    }
}

static void on_ack_with_sack(struct tcp_conn *c, const struct tcp_ack_info *info, tcp_time now)
{
    uint32_t lost = c->lost_bytes;

    tcp_rack_detect(c, now);
    if (c->sacked_bytes && !c->rack.sent)
        detect_by_sack(c); /* nothing of our own has arrived: there are no times to go by */
    if (seq_lt(c->snd_una, c->rack.own) && c->recovery == RECOVERY_NONE && info->duplicate &&
        c->dup_acks >= dup_threshold(c))
        mark_first_lost(c); /* earlier SACKs were seen by the previous owner (C69) */
    if (c->recovery == RECOVERY_NONE && c->lost_bytes)
        enter_fast(c, info->delivered, now);
    tcp_prr_on_ack(c, info->delivered, info->acked && c->lost_bytes <= lost);
}

static void on_ack_without_sack(struct tcp_conn *c, const struct tcp_ack_info *info, tcp_time now)
{
    if (info->acked) {
        uint32_t segments = (info->acked + c->mss - 1) / c->mss;

        /* A partial ACK: the next hole is lost as well (RFC 6582 3.2 step 3). */
        if (c->recovery == RECOVERY_FAST) {
            mark_first_lost(c);
            c->flags |= F_REXMT_ONE;
            segments--;
        }
        c->dup_acks -= tcp_min(segments, c->dup_acks);
        if (c->recovery == RECOVERY_NONE)
            c->dup_acks = 0;
        return;
    }
    /* Duplicates of what a timeout sent again must not look like a new loss (RFC 6582 3.2). */
    if (info->duplicate && c->recovery == RECOVERY_NONE && c->dup_acks >= dup_threshold(c) &&
        seq_gt(c->snd_una, c->recover)) {
        mark_first_lost(c);
        enter_fast(c, 0, now);
    }
}

/** After the scoreboard and SND.UNA have taken an ACK in. */
void tcp_loss_on_ack(struct tcp_conn *c, const struct tcp_segment *seg,
                     const struct tcp_ack_info *info, tcp_time now)
{
    tcp_tlp_on_ack(c, info, now);
    if (info->acked && c->flags & F_EIFEL) {
        if (spurious(c, seg))
            undo(c, now);
        c->flags &= ~F_EIFEL;
        c->eifel_ts = 0;
    }
    if (c->recovery != RECOVERY_NONE && seq_geq(c->snd_una, c->recover))
        leave(c);
    if (all_needless(c))
        undo(c, now);
    if (c->recovery == RECOVERY_NONE && seq_gt(c->snd_una, c->undo.until))
        c->undo.possible = false;
    if (info->duplicate && c->dup_acks < UINT8_MAX)
        c->dup_acks++;
    if (c->flags & F_SACK) {
        if (info->acked && c->recovery == RECOVERY_NONE)
            c->dup_acks = 0;
        on_ack_with_sack(c, info, now);
    } else {
        on_ack_without_sack(c, info, now);
    }
}

/** The reordering timer fired with data in flight.  True if something is lost. */
bool tcp_loss_on_reorder(struct tcp_conn *c, tcp_time now)
{
    tcp_rack_detect(c, now);
    if (c->recovery == RECOVERY_NONE && c->lost_bytes)
        enter_fast(c, 0, now);
    tcp_prr_on_ack(c, 0, false);
    return c->lost_bytes > 0;
}

/** The retransmission timer fired with data in flight. */
void tcp_loss_on_rto(struct tcp_conn *c, tcp_time now)
{
    const struct tcp_span *first = c->span_count ? &c->span[0] : NULL;
    bool reneged = first && first->left == c->snd_una && first->state == SPAN_SACKED;

    if (reneged || c->backoff > 0)
        tcp_span_clear(c);
    tcp_prr_end(c);
    /* For this window it was reduced already (RFC 5681 3.1; Linux after a fast recovery, too). */
    if (c->recovery != RECOVERY_NONE && seq_lt(c->snd_una, c->recover))
        c->cc.cwnd = c->cc.mss;
    else
        c->cc.ops->on_rto(&c->cc, flight_in_window(c), now);
    c->dup_acks = 0;
    tcp_span_mark_all_lost(c);
    enter(c, RECOVERY_RTO);
    if (c->flags & F_ECN)
        c->flags |= F_CWR;
}

/** What is in flight is too large for the path: send it again, but that is not congestion. */
void tcp_loss_on_smaller_mss(struct tcp_conn *c)
{
    if (!tcp_flight(c))
        return;
    tcp_span_mark_all_lost(c);
    c->flags |= F_REXMT_ONE;
    if (c->recovery == RECOVERY_NONE) {
        c->recovery = RECOVERY_FAST;
        c->recover = c->snd_max;
    }
}
