/* SPDX-License-Identifier: Apache-2.0 */
#include "host/held.h"

/* Sequence arithmetic, modulo 2^32. */
static bool after(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) > 0;
}

enum held_verdict held_judge(const struct held_receiver *receiver, const uint8_t *frame,
                             uint32_t frame_len, const uint8_t **payload, uint32_t *len)
{
    struct wire_packet packet;
    const struct tcp_segment *seg = &packet.seg;
    uint32_t end, skip;

    if (wire_parse(frame, frame_len, false, &packet) != WIRE_OK ||
        !flow_key_equal(&packet.key, receiver->key))
        return HELD_REINJECT;
    /* Whatever changes the connection's state is the kernel's (handoff.md 3.4). */
    if ((seg->flags & (TCP_ACK | TCP_SYN | TCP_FIN | TCP_RST | TCP_URG)) != TCP_ACK)
        return HELD_REINJECT;
    /* It acknowledges what was never sent: RFC 5961 section 5 is the kernel's, too. */
    if (after(seg->ack, receiver->snd_max))
        return HELD_REINJECT;
    /* PAWS: the kernel has no TS.Recent right now and would take an old duplicate for new. */
    if (seg->has_timestamp && receiver->ts_recent && after(receiver->ts_recent, seg->tsval))
        return HELD_SPENT;
    if (!seg->len)
        return HELD_ACK;
    end = seg->seq + seg->len;
    if (after(seg->seq, receiver->rcv_nxt) || after(end, receiver->right_edge))
        return HELD_REINJECT;
    if (!after(end, receiver->rcv_nxt))
        return HELD_SPENT; /* the thaw's probe carries the acknowledgement it asks for */
    skip = receiver->rcv_nxt - seg->seq;
    *payload = seg->payload + skip;
    *len = seg->len - skip;
    return HELD_APPEND;
}
