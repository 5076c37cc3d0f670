/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RACK: what was sent well before something that has arrived, and has not arrived itself, is lost
 * (RFC 8985).  Used when SACK was negotiated.
 *
 * Theory of operation.  Every stretch in flight has the time it was last sent.  Retransmissions
 * keep theirs in the scoreboard.  First transmissions go, in order, into a log of (end, time):
 * coarse, because many segments leave within a small part of a round trip; its entries are joined
 * in pairs when it is full, so that it holds any flight with an error of a few hundredths of the
 * flight's duration.  An entry's time is that of the last segment in it, which delays a verdict and
 * never hastens it.
 *
 * Each ACK tells tcp_rack_delivered() what has newly arrived; the most recently sent of that (time,
 * then sequence number) is the mark against which everything else is measured.  What was sent
 * before it gets a round trip and a reordering window from when it was sent; then it is lost.  If
 * that moment lies ahead, the reordering timer brings us back.
 *
 * The reordering window is zero until the path was seen to reorder and either DupThresh segments
 * are SACKed or recovery runs; else a quarter of the smallest round trip, times a factor that grows
 * with each round trip in which a D-SACK said we were hasty, and returns to one after 16 recoveries
 * without (RFC 8985 6.2 step 4), but no more than SRTT.
 *
 * What a previous owner sent has the time of the import in the log, and its arrival says nothing
 * about when; until something of our own has arrived, loss.c counts segments for it (RFC 6675).
 */
#include "tcp/conn.h"

#define GRAIN_PARTS 64               /* of a round trip: segments this close share an entry */
#define GRAIN_UNKNOWN TCP_MSEC       /* when the round trip is unknown */
#define LOG_PARTS (TCP_SENT_LOG / 4) /* of the log's duration: what joins when it is full */
#define REO_PARTS 4                  /* of the smallest round trip */
#define REO_MULT_MAX 32              /* beyond it SRTT is the bound on any path */
#define REO_PERSIST 16               /* recoveries */
#define MIN_RTT_WINDOW (300 * TCP_SEC)
#define DUP_THRESHOLD_DEFAULT 3

static tcp_time srtt(const struct tcp_conn *c)
{
    return c->srtt / 8 * TCP_USEC;
}

static tcp_time min_rtt(const struct tcp_conn *c)
{
    return c->rack.min_rtt ? c->rack.min_rtt : srtt(c);
}

/** Segments this close in time need not be told apart. */
tcp_time tcp_rack_grain(const struct tcp_conn *c)
{
    return c->srtt ? tcp_max_time(srtt(c) / GRAIN_PARTS, TCP_USEC) : GRAIN_UNKNOWN;
}

/* The log of first transmissions: a ring of rising (end, time). */
static struct tcp_rtt_entry *log_at(struct tcp_rack *r, unsigned i)
{
    return &r->log[(r->log_first + i) % TCP_SENT_LOG];
}

/* The log is full: joins entries until none is much shorter than a part of the whole. */
static void log_coarsen(struct tcp_rack *r)
{
    tcp_time kept = log_at(r, 0)->sent, whole = log_at(r, r->log_count - 1u)->sent - kept;
    unsigned n = 0;

    r->grain = tcp_max_time(2 * r->grain, whole / LOG_PARTS);
    for (unsigned i = 0; i < r->log_count; i++) {
        struct tcp_rtt_entry entry = *log_at(r, i);

        if (i + 1u < r->log_count && log_at(r, i + 1)->sent - kept <= r->grain)
            continue;
        kept = entry.sent;
        *log_at(r, n++) = entry;
    }
    tcp_assert(n < TCP_SENT_LOG);
    r->log_count = (uint8_t)n;
}

static void log_add(struct tcp_conn *c, uint32_t end, tcp_time now)
{
    struct tcp_rack *r = &c->rack;

    if (!r->log_count)
        r->grain = tcp_rack_grain(c);
    if (r->log_count && now - r->log_since < r->grain) {
        *log_at(r, r->log_count - 1u) = (struct tcp_rtt_entry){end, now};
        return;
    }
    if (r->log_count == TCP_SENT_LOG)
        log_coarsen(r);
    *log_at(r, r->log_count++) = (struct tcp_rtt_entry){end, now};
    r->log_since = now;
}

/* Index of the entry that holds @seq; log_count if none does. */
static unsigned log_find(struct tcp_rack *r, uint32_t seq)
{
    unsigned low = 0, high = r->log_count;

    while (low < high) {
        unsigned mid = (low + high) / 2;

        if (seq_gt(log_at(r, mid)->end, seq))
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

/** After import: what is in flight, or may be, was sent by somebody else. */
void tcp_rack_import(struct tcp_conn *c, tcp_time now)
{
    c->rack.own = seq_max(c->snd_max, c->snd_doubt);
    c->rack.fack = c->rack.fack_next = c->snd_una;
    c->rack.reo_mult = 1;
    c->rack.reordering = c->reordering > DUP_THRESHOLD_DEFAULT;
    if (tcp_flight(c))
        log_add(c, c->snd_max, now);
}

/** New data up to @end leaves. */
void tcp_rack_sent(struct tcp_conn *c, uint32_t end, tcp_time now)
{
    if (c->flags & F_SACK)
        log_add(c, end, now);
}

/** The scoreboard was emptied: what was sent once, and what again, is no longer known. */
void tcp_rack_forget(struct tcp_conn *c)
{
    c->rack.own = seq_max(c->rack.own, c->snd_max);
}

/** SND.UNA moved. */
void tcp_rack_trim(struct tcp_conn *c)
{
    struct tcp_rack *r = &c->rack;

    while (r->log_count && seq_leq(log_at(r, 0)->end, c->snd_una)) {
        r->log_first = (r->log_first + 1) % TCP_SENT_LOG;
        r->log_count--;
    }
    /* Keep what is compared near, or it would become "later" after 2 GiB. */
    r->own = seq_max(r->own, c->snd_una);
    r->fack_next = seq_max(r->fack_next, c->snd_una);
    if (seq_lt(r->end, c->snd_una - TCP_MAX_WINDOW))
        r->end = c->snd_una;
}

/** A round trip measured to the microsecond: the smallest of the last minutes is kept. */
void tcp_rack_rtt(struct tcp_conn *c, uint64_t us, tcp_time now)
{
    struct tcp_rack *r = &c->rack;
    tcp_time rtt = us * TCP_USEC;

    if (r->min_rtt && rtt > r->min_rtt && now - r->min_rtt_at < MIN_RTT_WINDOW)
        return;
    r->min_rtt = rtt;
    r->min_rtt_at = now;
}

/** A D-SACK: something was sent again that had arrived (RFC 8985 6.2 step 4, first half). */
void tcp_rack_dsack(struct tcp_conn *c)
{
    struct tcp_rack *r = &c->rack;

    if (r->round_open && seq_lt(c->snd_una, r->round))
        return; /* once per round trip */
    r->round_open = true;
    r->round = c->snd_max;
    if (r->reo_mult < REO_MULT_MAX)
        r->reo_mult++;
    r->reo_persist = REO_PERSIST;
}

/** A recovery is over. */
void tcp_rack_recovered(struct tcp_conn *c)
{
    struct tcp_rack *r = &c->rack;

    if (r->reo_persist && --r->reo_persist == 0)
        r->reo_mult = 1;
}

static bool sent_after(tcp_time t1, uint32_t end1, tcp_time t2, uint32_t end2)
{
    return t1 > t2 || (t1 == t2 && seq_gt(end1, end2));
}

/* Which of two transmissions a delivered retransmission stands for is not always clear. */
static bool answers_retransmission(const struct tcp_conn *c, const struct tcp_segment *seg,
                                   tcp_time sent, tcp_time now)
{
    if (c->flags & F_TIMESTAMP && seg->has_timestamp && seg->tsecr &&
        seq_lt(seg->tsecr, tcp_ts_now(c, sent)))
        return false;
    return now - sent >= min_rtt(c);
}

static void arrived(struct tcp_conn *c, tcp_time sent, uint32_t end, tcp_time now)
{
    struct tcp_rack *r = &c->rack;

    if (r->sent && !sent_after(sent, end, r->sent, r->end))
        return;
    r->sent = sent;
    r->end = end;
    r->rtt = now - sent;
}

/* Original data arrived below data that arrived before: the path reorders. */
static void reordered(struct tcp_conn *c, uint32_t left)
{
    uint32_t distance = (c->rack.fack - left + c->mss - 1) / c->mss;

    c->rack.reordering = true;
    c->reordering = tcp_max(c->reordering, tcp_min(distance, TCP_MAX_REORDERING));
}

/**
 * [left, right) is newly reported, by SACK or by the ACK; the scoreboard does not know yet.
 */
void tcp_rack_delivered(struct tcp_conn *c, uint32_t left, uint32_t right,
                        const struct tcp_segment *seg, tcp_time now)
{
    struct tcp_rack *r = &c->rack;
    uint32_t end;

    for (uint32_t at = left; seq_lt(at, right); at = end) {
        const struct tcp_span *span = tcp_span_of(c, at, &end);
        unsigned entry;

        end = seq_min(end, right);
        if (span && span->state == SPAN_SACKED)
            continue;
        r->fack_next = seq_max(r->fack_next, end);
        if (span && span->sent) {
            if (span->state == SPAN_RESENT && answers_retransmission(c, seg, span->sent, now))
                arrived(c, span->sent, end, now);
            continue;
        }
        if (seq_leq(end, r->own))
            continue;
        if (seq_lt(end, r->fack))
            reordered(c, at);
        entry = log_find(r, end - 1);
        if (entry < r->log_count)
            arrived(c, log_at(r, entry)->sent, end, now);
    }
}

static tcp_time reordering_window(const struct tcp_conn *c)
{
    const struct tcp_rack *r = &c->rack;

    if (!r->reordering) {
        uint32_t segments = 0;

        if (c->recovery != RECOVERY_NONE)
            return 0;
        for (unsigned i = 0; i < c->span_count; i++)
            if (c->span[i].state == SPAN_SACKED)
                segments += (c->span[i].right - c->span[i].left + c->mss - 1) / c->mss;
        if (segments >= tcp_max(c->params->dup_ack_threshold, 1))
            return 0;
    }
    return tcp_min_time(r->reo_mult * (min_rtt(c) / REO_PARTS), srtt(c));
}

/* Lost now?  If not yet, @wait becomes at least the time until then. */
static bool overdue(const struct tcp_conn *c, tcp_time sent, tcp_time window, tcp_time now,
                    tcp_time *wait)
{
    tcp_time at = sent + c->rack.rtt + window;

    if (at <= now)
        return true;
    *wait = tcp_max_time(*wait, at - now);
    return false;
}

/*
 * The part of [left, right), sent once, that is lost: up to where?  Times rise with sequence
 * numbers, so it is a prefix.
 */
static uint32_t flight_overdue(struct tcp_conn *c, uint32_t left, uint32_t right, tcp_time window,
                               tcp_time now, tcp_time *wait)
{
    struct tcp_rack *r = &c->rack;
    uint32_t edge = left;

    for (unsigned i = log_find(r, left); i < r->log_count && seq_lt(left, right); i++) {
        const struct tcp_rtt_entry *entry = log_at(r, i);
        uint32_t end = seq_min(entry->end, right);

        if (entry->sent > r->sent)
            break;
        if (entry->sent == r->sent)
            end = seq_min(end, r->end);
        if (seq_leq(end, left))
            break;
        if (overdue(c, entry->sent, window, now, wait))
            edge = end;
        left = end;
    }
    return edge;
}

/** Marks what is lost by now and sets the reordering timer for what may be soon. */
void tcp_rack_detect(struct tcp_conn *c, tcp_time now)
{
    struct tcp_rack *r = &c->rack;
    tcp_time window, wait = 0;
    uint32_t end;

    r->fack = r->fack_next;
    if (c->loss_kind == LOSS_REORDER)
        tcp_timer_loss(c, LOSS_OFF, TCP_TIME_NEVER);
    if (!c->span_count || !r->sent)
        return;
    window = reordering_window(c);
    for (uint32_t at = c->snd_una; seq_lt(at, c->snd_max); at = end) {
        const struct tcp_span *span = tcp_span_of(c, at, &end);

        if (!span) {
            uint32_t edge = flight_overdue(c, at, end, window, now, &wait);

            if (seq_lt(at, edge))
                tcp_span_lose(c, at, edge);
            if (edge != end && end == c->snd_max)
                break;
        } else if (span->state == SPAN_RESENT &&
                   sent_after(r->sent, r->end, span->sent, span->right) &&
                   overdue(c, span->sent, window, now, &wait)) {
            tcp_span_lose(c, at, end);
        }
    }
    if (wait)
        tcp_timer_loss(c, LOSS_REORDER, now + wait);
}
