/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scoreboard: what is known about sent, unacknowledged sequence space.
 *
 * [snd_una, snd_max) is "in flight" unless a span of the map says otherwise: the peer has it
 * (SACKED), it is taken for lost and waits to be sent again (LOST), or it was sent again (RESENT).
 * Spans are sorted, disjoint, and never empty.  Without loss the map is empty and costs nothing.
 * The map is an array of TCP_MAX_SCOREBOARD spans.  SACK information that does not fit is
 * forgotten, which is always safe: SACK is advice (RFC 2018 section 8).
 *
 * This file only keeps the books; loss.c decides what is lost.
 */
#include "tcp/conn.h"

static void count_bytes(struct tcp_conn *c, uint32_t state, uint32_t bytes, int sign)
{
    if (state == SPAN_SACKED)
        c->sacked_bytes += sign * bytes;
    else if (state == SPAN_LOST)
        c->lost_bytes += sign * bytes;
}

/* Index of the first span that ends after @seq. */
static unsigned span_find(const struct tcp_conn *c, uint32_t seq)
{
    unsigned low = 0, high = c->span_count;

    while (low < high) {
        unsigned mid = (low + high) / 2;

        if (seq_gt(c->span[mid].right, seq))
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

/* Neighbouring retransmissions in the same slot of @grain share a span. */
static bool span_mergeable(const struct tcp_span *a, const struct tcp_span *b, tcp_time grain)
{
    return a->right == b->left && a->state == b->state &&
           (a->state != SPAN_RESENT || a->sent / grain == b->sent / grain);
}

/* Appends @piece to the @n pieces of @list, merging. */
static unsigned piece_add(struct tcp_span *list, unsigned n, struct tcp_span piece, tcp_time grain)
{
    if (piece.state == SPAN_FLIGHT || piece.left == piece.right)
        return n;
    if (n && span_mergeable(&list[n - 1], &piece, grain)) {
        list[n - 1].right = piece.right;
        list[n - 1].mark = seq_max(list[n - 1].mark, piece.mark);
        list[n - 1].sent = tcp_max_time(list[n - 1].sent, piece.sent);
        return n;
    }
    list[n] = piece;
    return n + 1;
}

/**
 * Gives [left, right) a state.  Returns false, and changes nothing, when the map has no room.
 */
bool tcp_span_set(struct tcp_conn *c, uint32_t left, uint32_t right, enum tcp_span_state state,
                  tcp_time now)
{
    struct tcp_span piece[5];
    unsigned first, last, from, to, n = 0;
    struct tcp_span wanted = {left, right, state, c->snd_max, now};
    tcp_time grain = tcp_rack_grain(c);

    tcp_assert(seq_lt(left, right));
    tcp_assert(seq_geq(left, c->snd_una) && seq_leq(right, c->snd_max));

    first = span_find(c, left);
    for (last = first; last < c->span_count && seq_lt(c->span[last].left, right); last++)
        ;
    /* Spans [first, last) overlap; [from, to) also has the neighbours that may merge. */
    from = first && c->span[first - 1].right == left ? first - 1 : first;
    to = last < c->span_count && c->span[last].left == right ? last + 1 : last;

    if (from < first)
        n = piece_add(piece, n, c->span[from], grain);
    if (first < last && seq_lt(c->span[first].left, left)) {
        struct tcp_span rest = c->span[first];

        rest.right = left;
        n = piece_add(piece, n, rest, grain);
    }
    n = piece_add(piece, n, wanted, grain);
    if (first < last && seq_gt(c->span[last - 1].right, right)) {
        struct tcp_span rest = c->span[last - 1];

        rest.left = right;
        n = piece_add(piece, n, rest, grain);
    }
    if (to > last)
        n = piece_add(piece, n, c->span[last], grain);

    if (c->span_count - (to - from) + n > TCP_MAX_SCOREBOARD)
        return false;
    for (unsigned i = from; i < to; i++)
        count_bytes(c, c->span[i].state, c->span[i].right - c->span[i].left, -1);
    for (unsigned i = 0; i < n; i++)
        count_bytes(c, piece[i].state, piece[i].right - piece[i].left, +1);
    __builtin_memmove(&c->span[from + n], &c->span[to], (c->span_count - to) * sizeof(piece[0]));
    __builtin_memcpy(&c->span[from], piece, n * sizeof(piece[0]));
    c->span_count = (uint8_t)(c->span_count - (to - from) + n);
    return true;
}

/* Forgets the highest SACKed span; false if there is none. */
static bool span_forget_sacked(struct tcp_conn *c)
{
    for (unsigned i = c->span_count; i-- > 0;) {
        if (c->span[i].state != SPAN_SACKED)
            continue;
        count_bytes(c, SPAN_SACKED, c->span[i].right - c->span[i].left, -1);
        __builtin_memmove(&c->span[i], &c->span[i + 1],
                          (c->span_count - i - 1) * sizeof(c->span[0]));
        c->span_count--;
        return true;
    }
    return false;
}

/** The same for states that must not be refused: makes room by forgetting SACK information. */
void tcp_span_force(struct tcp_conn *c, uint32_t left, uint32_t right, enum tcp_span_state state,
                    tcp_time now)
{
    while (!tcp_span_set(c, left, right, state, now)) {
        if (span_forget_sacked(c))
            continue;
        /* Nothing but LOST and RESENT in turns: call all of it lost and begin again. */
        tcp_span_clear(c);
        tcp_assert(tcp_span_set(c, c->snd_una, c->snd_max, SPAN_LOST, now));
    }
}

void tcp_span_clear(struct tcp_conn *c)
{
    tcp_rack_forget(c);
    c->span_count = 0;
    c->sacked_bytes = 0;
    c->lost_bytes = 0;
}

/** Everything below @una is acknowledged. */
void tcp_span_trim(struct tcp_conn *c, uint32_t una)
{
    unsigned gone = span_find(c, una);

    for (unsigned i = 0; i < gone; i++)
        count_bytes(c, c->span[i].state, c->span[i].right - c->span[i].left, -1);
    if (gone) {
        c->span_count -= gone;
        __builtin_memmove(&c->span[0], &c->span[gone], c->span_count * sizeof(c->span[0]));
    }
    if (c->span_count && seq_lt(c->span[0].left, una)) {
        count_bytes(c, c->span[0].state, una - c->span[0].left, -1);
        c->span[0].left = una;
    }
}

/**
 * The span that holds the byte at @seq (below snd_max), or NULL: in flight.  @end is where that
 * ends.
 */
const struct tcp_span *tcp_span_of(const struct tcp_conn *c, uint32_t seq, uint32_t *end)
{
    unsigned i = span_find(c, seq);

    if (i == c->span_count) {
        *end = c->snd_max;
        return NULL;
    }
    if (seq_gt(c->span[i].left, seq)) {
        *end = c->span[i].left;
        return NULL;
    }
    *end = c->span[i].right;
    return &c->span[i];
}

/** State of the byte at @seq (below snd_max), and where that state ends. */
enum tcp_span_state tcp_span_at(const struct tcp_conn *c, uint32_t seq, uint32_t *end)
{
    const struct tcp_span *span = tcp_span_of(c, seq, end);

    return span ? span->state : SPAN_FLIGHT;
}

const struct tcp_span *tcp_span_first(const struct tcp_conn *c, enum tcp_span_state state)
{
    for (unsigned i = 0; i < c->span_count; i++)
        if (c->span[i].state == state)
            return &c->span[i];
    return NULL;
}

/** [left, right), which has one state, is lost; that it was sent again before is kept. */
void tcp_span_lose(struct tcp_conn *c, uint32_t left, uint32_t right)
{
    uint32_t end;
    const struct tcp_span *span = tcp_span_of(c, left, &end);

    tcp_span_force(c, left, right, SPAN_LOST, span ? span->sent : 0);
}

/**
 * Marks as lost what is in flight below @edge.  A retransmission is lost again if all that was
 * SACKed to set the edge was sent after it.
 */
void tcp_span_mark_lost(struct tcp_conn *c, uint32_t edge)
{
    uint32_t seq = c->snd_una, end;

    while (seq_lt(seq, edge)) {
        unsigned i = span_find(c, seq);
        enum tcp_span_state state = tcp_span_at(c, seq, &end);

        end = seq_min(end, edge);
        if (state == SPAN_FLIGHT || (state == SPAN_RESENT && seq_leq(c->span[i].mark, edge)))
            tcp_span_lose(c, seq, end);
        seq = end;
    }
}

/** Marks as lost whatever was not SACKed; what had to be forgotten on the way as well. */
void tcp_span_mark_all_lost(struct tcp_conn *c)
{
    uint32_t seq, end;

    while (c->sacked_bytes + c->lost_bytes != tcp_flight(c))
        for (seq = c->snd_una; seq_lt(seq, c->snd_max); seq = end)
            if (tcp_span_at(c, seq, &end) != SPAN_SACKED)
                tcp_span_lose(c, seq, end);
}

/* One block of the option into the map; returns the bytes it newly covers. */
static uint32_t sack_block(struct tcp_conn *c, uint32_t left, uint32_t right,
                           const struct tcp_segment *seg, tcp_time now)
{
    uint32_t before = c->sacked_bytes, end;

    if (tcp_span_at(c, left, &end) == SPAN_SACKED && seq_geq(end, right))
        return 0; /* most blocks repeat what was said before */
    tcp_rack_delivered(c, left, right, seg, now);
    if (!tcp_span_set(c, left, right, SPAN_SACKED, 0))
        return 0;
    return c->sacked_bytes - before;
}

/* RFC 2883: the first block is a duplicate report if it is below the ACK or inside the second. */
static bool is_dsack(const struct tcp_segment *seg)
{
    const struct tcp_sack_range *block = seg->sack;

    if (seq_leq(block[0].right, seg->ack) || seq_lt(block[0].left, seg->ack))
        return true;
    return seg->sack_count > 1 && seq_geq(block[0].left, block[1].left) &&
           seq_leq(block[0].right, block[1].right);
}

/** Takes the SACK option in, before SND.UNA moves.  Returns the bytes newly SACKed. */
uint32_t tcp_sack_input(struct tcp_conn *c, const struct tcp_segment *seg, tcp_time now)
{
    uint32_t una = seq_max(c->snd_una, seg->ack), bytes = 0;
    unsigned count = seg->sack_count < TCP_MAX_SACK ? seg->sack_count : TCP_MAX_SACK;

    for (unsigned i = 0; i < count; i++) {
        uint32_t left = seg->sack[i].left, right = seg->sack[i].right;

        if (!seq_lt(left, right))
            continue;
        if (i == 0 && is_dsack(seg)) {
            c->stats.dsack_in++;
            if (!tcp_tlp_dsack(c, right)) {
                tcp_rack_dsack(c);
                tcp_loss_on_dsack(c, left, right);
            }
            continue;
        }
        if (seq_gt(right, c->snd_max) || seq_leq(right, una))
            continue; /* never sent, or old: not believed */
        bytes += sack_block(c, seq_max(left, una), right, seg, now);
    }
    return bytes;
}
