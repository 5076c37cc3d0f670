/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reassembly, in place.
 *
 * Every byte goes straight to its position in the receive ring; there is no second buffer.  A
 * sorted array of disjoint ranges above RCV.NXT says which positions hold data.  A range that would
 * be one too many is dropped, not acknowledged, and counted.  The same ranges, most recent first,
 * are the SACK option (RFC 2018); data that came twice is reported in front of them (D-SACK, RFC
 * 2883).
 */
#include "tcp/conn.h"

static void ring_write(struct tcp_conn *c, uint32_t seq, const uint8_t *data, uint32_t len)
{
    uint32_t at = (uint32_t)(c->rcv_pos + (seq - c->rcv_nxt)) & c->rcv_mask;
    uint32_t head = tcp_min(len, c->rcv_mask + 1 - at);

    __builtin_memcpy(c->rcv_base + at, data, head);
    if (len > head)
        __builtin_memcpy(c->rcv_base, data + head, len - head);
}

/** [left, right) came again: the next ACK says so. */
void tcp_reasm_duplicate(struct tcp_conn *c, uint32_t left, uint32_t right)
{
    c->stats.dup_in++;
    if (!(c->flags & F_SACK))
        return;
    c->dsack_left = left;
    c->dsack_right = right;
    c->dsack_due = true;
}

static void ooo_remove(struct tcp_conn *c, unsigned from, unsigned to)
{
    __builtin_memmove(&c->ooo[from], &c->ooo[to], (c->ooo_count - to) * sizeof(c->ooo[0]));
    c->ooo_count = (uint8_t)(c->ooo_count - (to - from));
}

/* Takes out the ranges that RCV.NXT has reached. */
static void ooo_absorb(struct tcp_conn *c)
{
    unsigned n = 0;

    while (n < c->ooo_count && seq_leq(c->ooo[n].left, c->rcv_nxt)) {
        if (seq_gt(c->ooo[n].right, c->rcv_nxt)) {
            c->rcv_pos += c->ooo[n].right - c->rcv_nxt;
            c->rcv_nxt = c->ooo[n].right;
        }
        n++;
    }
    if (n)
        ooo_remove(c, 0, n);
}

/* Enters [left, right) among the ranges; false if the table is full. */
static bool ooo_insert(struct tcp_conn *c, uint32_t left, uint32_t right)
{
    unsigned from = 0, to;
    struct tcp_ooo range = {left, right, ++c->ooo_serial};

    while (from < c->ooo_count && seq_lt(c->ooo[from].right, left))
        from++;
    for (to = from; to < c->ooo_count && seq_leq(c->ooo[to].left, right); to++) {
        range.left = seq_min(range.left, c->ooo[to].left);
        range.right = seq_max(range.right, c->ooo[to].right);
    }
    if (to > from) {
        if (range.left == c->ooo[from].left && range.right == c->ooo[from].right)
            tcp_reasm_duplicate(c, left, right);
        c->ooo[from] = range;
        ooo_remove(c, from + 1, to);
        return true;
    }
    if (c->ooo_count == TCP_MAX_OOO)
        return false;
    __builtin_memmove(&c->ooo[from + 1], &c->ooo[from], (c->ooo_count - from) * sizeof(c->ooo[0]));
    c->ooo[from] = range;
    c->ooo_count++;
    return true;
}

/**
 * Takes @len > 0 bytes at @seq, which the caller has trimmed to RCV.NXT, the promised window, the
 * ring and the peer's FIN.  Returns TCP_EV_RECEIVED if RCV.NXT moved.
 */
uint32_t tcp_reasm_input(struct tcp_conn *c, uint32_t seq, const uint8_t *data, uint32_t len)
{
    uint64_t before = c->rcv_pos;

    tcp_assert(seq_geq(seq, c->rcv_nxt) && seq + len - c->rcv_nxt <= tcp_rcv_room(c));
    if (seq != c->rcv_nxt) {
        c->stats.ooo_in++;
        if (ooo_insert(c, seq, seq + len))
            ring_write(c, seq, data, len);
        else
            c->stats.ooo_dropped++;
        return 0;
    }
    ring_write(c, seq, data, len);
    c->rcv_nxt += len;
    c->rcv_pos += len;
    if (c->ooo_count)
        ooo_absorb(c);
    c->stats.bytes_in += c->rcv_pos - before;
    return TCP_EV_RECEIVED;
}

/** SACK blocks the next segment will carry. */
unsigned tcp_reasm_sack_count(const struct tcp_conn *c)
{
    unsigned max = c->flags & F_TIMESTAMP ? 3 : TCP_MAX_SACK;

    if (!(c->flags & F_SACK))
        return 0;
    return tcp_min(c->ooo_count + (c->dsack_due ? 1u : 0u), max);
}

/**
 * Fills in the blocks: a duplicate first, behind it the range that holds it, if it lies above
 * RCV.NXT (only so the peer can tell it from an ordinary block, RFC 2883 section 4), then the
 * others, the most recently changed first.
 */
unsigned tcp_reasm_sack(struct tcp_conn *c, struct tcp_sack_range *out, unsigned max)
{
    uint32_t newer_than = c->ooo_serial + 1; /* serials below this are still to be listed */
    const struct tcp_ooo *holder = NULL;
    unsigned n = 0;

    if (n < max && c->dsack_due) {
        out[n++] = (struct tcp_sack_range){c->dsack_left, c->dsack_right};
        c->dsack_due = false;
        for (unsigned i = 0; i < c->ooo_count; i++)
            if (seq_leq(c->ooo[i].left, c->dsack_left) && seq_geq(c->ooo[i].right, c->dsack_right))
                holder = &c->ooo[i];
        if (holder && n < max)
            out[n++] = (struct tcp_sack_range){holder->left, holder->right};
    }
    while (n < max) {
        const struct tcp_ooo *best = NULL;

        for (unsigned i = 0; i < c->ooo_count; i++)
            if (&c->ooo[i] != holder && seq_lt(c->ooo[i].serial, newer_than) &&
                (!best || seq_gt(c->ooo[i].serial, best->serial)))
                best = &c->ooo[i];
        if (!best)
            break;
        out[n++] = (struct tcp_sack_range){best->left, best->right};
        newer_than = best->serial;
    }
    return n;
}
