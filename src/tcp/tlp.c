/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tail loss probe (RFC 8985 section 7): when the last segments of a flight are lost nothing comes
 * after them that could be SACKed, and only the RTO would notice.
 *
 * Theory of operation.  Whenever new data leaves or SND.UNA advances, outside recovery and with
 * nothing SACKed, a probe is due two round trips later; one outstanding probe at a time.  It is the
 * next new segment if the window allows one, else the last segment again.  Its SACK shows RACK the
 * holes below.  With less than two segments in flight the peer's delayed ACK may take longer than
 * that, so its worst case is added; what then is not before the RTO is left to the RTO.  A previous
 * owner's estimate of the round trip is not enough: there is no probe before we have measured it.
 *
 * If the probe was a retransmission and repaired the only loss, nothing else would tell: so when it
 * is acknowledged, and no D-SACK or plain duplicate ACK says that the original came as well, the
 * congestion window is reduced as for any loss (7.4).
 */
#include "tcp/conn.h"

#define PEER_DELAYED_ACK (200 * TCP_MSEC) /* WCDelAckT */
#define PROBE_MARGIN (2 * TCP_MSEC)       /* wakes of the two ends are not that exact */

static bool probe_useful(const struct tcp_conn *c)
{
    return c->flags & F_SACK && c->recovery == RECOVERY_NONE && !c->tlp.out && !c->sacked_bytes &&
           !c->lost_bytes && tcp_flight(c) && seq_leq(c->snd_max, c->snd_una + c->snd_wnd);
}

/** New data left, or SND.UNA advanced; the RTO is set already. */
void tcp_tlp_schedule(struct tcp_conn *c, tcp_time now)
{
    tcp_time at;

    if (c->loss_kind == LOSS_REORDER)
        return;
    tcp_timer_loss(c, LOSS_OFF, TCP_TIME_NEVER);
    if (!probe_useful(c) || !c->rack.min_rtt || c->rexmt_kind != REXMT_RTO)
        return;
    at = now + 2 * tcp_max_time(c->srtt / 8 * TCP_USEC, c->rack.min_rtt) + PROBE_MARGIN;
    if (tcp_flight(c) < 2u * c->mss)
        at += PEER_DELAYED_ACK;
    if (at < c->timer[TIMER_REXMT])
        tcp_timer_loss(c, LOSS_PROBE, at);
}

/** The probe timer fired.  True if tcp_output() is to send a probe. */
bool tcp_tlp_fire(struct tcp_conn *c, tcp_time now)
{
    if (!probe_useful(c))
        return false;
    c->flags |= F_TAIL_PROBE;
    return true;
}

/** The probe left: new data, or the last segment @again. */
void tcp_tlp_sent(struct tcp_conn *c, bool again, tcp_time now)
{
    c->tlp = (struct tcp_tlp){.end = c->snd_max, .out = true, .again = again};
    c->stats.tlp_fired++;
    tcp_timer_loss(c, LOSS_OFF, TCP_TIME_NEVER);
    tcp_timer_arm_rto(c, now);
}

/** A D-SACK that ends at @right.  True if it answers the probe and says nothing about RACK. */
bool tcp_tlp_dsack(struct tcp_conn *c, uint32_t right)
{
    if (!c->tlp.out || !c->tlp.again || right != c->tlp.end)
        return false;
    c->tlp.needless = true;
    return true;
}

/** RFC 8985 7.4.2, after SND.UNA has moved. */
void tcp_tlp_on_ack(struct tcp_conn *c, const struct tcp_ack_info *info, tcp_time now)
{
    if (!c->tlp.out || seq_lt(c->snd_una, c->tlp.end))
        return;
    if (!c->tlp.again || c->tlp.needless) {
        c->tlp.out = false;
    } else if (seq_gt(c->snd_una, c->tlp.end)) {
        c->tlp.out = false;
        tcp_loss_repaired(c, now);
    } else if (info->plain) {
        c->tlp.out = false; /* the second answer, from a peer without D-SACK */
    }
}
