/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The receive window: what is promised, and when the promise is renewed.
 *
 * The window follows the free space of the receive ring, bounded by InitialRcvWnd.  The edge that
 * was promised (rcv_adv) never moves back: whatever the peer sends below it is in window.  An
 * imported edge may lie beyond the ring; what does not fit is dropped and not acknowledged
 * (reasm.c).
 *
 * Scaling is the one subtlety.  A window that has to stay where it is (no room to open it) is
 * seldom a multiple of the scale unit.  Rounding up keeps the edge but pushes it a little with
 * every ACK; with a program that does not read that would run past the ring and the window would
 * never close. So it is rounded up as long as the ring has the room, and down from there: the
 * visible edge then recedes by less than one unit, which RFC 7323 2.4 allows and every sender has
 * to live with.
 *
 * Silly windows (RFC 1122 4.2.3.3): a nearly closed window opens by at least a segment or half the
 * buffer, never by less.
 */
#include "tcp/conn.h"

/** Bytes from RCV.NXT on that the ring can take. */
uint32_t tcp_rcv_room(const struct tcp_conn *c)
{
    return c->rcv_mask + 1 - (uint32_t)(c->rcv_pos - c->rcv_tail);
}

static uint32_t buffer_size(const struct tcp_conn *c)
{
    return tcp_min(c->rcv_mask + 1, c->rcv_wish);
}

/** The window we would like to give now: whole units. */
static uint32_t window_wish(const struct tcp_conn *c)
{
    uint32_t wish = tcp_min(tcp_rcv_room(c), c->rcv_wish);

    wish = tcp_min(wish, 65535u << c->rcv_scale);
    return wish >> c->rcv_scale << c->rcv_scale;
}

/** What the peer believes it may send, by the last window field. */
static uint32_t window_visible(const struct tcp_conn *c)
{
    return seq_gt(c->rcv_seen, c->rcv_nxt) ? c->rcv_seen - c->rcv_nxt : 0;
}

/** Window field of the segment that is being built; remembers the promise. */
uint16_t tcp_window_field(struct tcp_conn *c)
{
    uint32_t promised = c->rcv_adv - c->rcv_nxt;
    uint32_t wish = window_wish(c), half = buffer_size(c) / 2;
    uint32_t unit = 1u << c->rcv_scale, field;

    if (wish >= promised &&
        (wish >= half || wish >= window_visible(c) + tcp_min(c->rcv_mss, half))) {
        field = wish >> c->rcv_scale;
        c->flags &= ~F_RCV_SHRINK;
    } else {
        uint32_t up = (promised + unit - 1) >> c->rcv_scale;

        if (!(c->flags & F_RCV_SHRINK) && ((uint64_t)up << c->rcv_scale) <= tcp_rcv_room(c))
            field = up;
        else
            field = promised >> c->rcv_scale;
    }
    field = tcp_min(field, 65535);
    c->rcv_seen = c->rcv_nxt + (field << c->rcv_scale);
    c->rcv_adv = seq_max(c->rcv_adv, c->rcv_seen);
    return (uint16_t)field;
}

/** The program has read: is the window so much larger now that the peer should know? */
bool tcp_window_update_due(const struct tcp_conn *c)
{
    uint32_t visible = window_visible(c), wish = window_wish(c), half = buffer_size(c) / 2;

    if (!tcp_receiving(c) || wish <= visible || seq_lt(c->rcv_nxt + wish, c->rcv_adv))
        return false;
    /* As long as half the buffer is open the ACKs of arriving data carry the news. */
    return wish - visible >= half || (visible < half && wish - visible >= 2u * c->rcv_mss);
}
