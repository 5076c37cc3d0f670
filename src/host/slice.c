/* SPDX-License-Identifier: Apache-2.0 */
#include "host/slice.h"

#include <string.h>

bool slicer_init(struct slicer *s, const uint8_t *frame, uint32_t len, uint32_t max_frame)
{
    memset(s, 0, sizeof(*s));
    if (wire_parse(frame, len, false, &s->packet) != WIRE_OK || max_frame <= WIRE_MAX_HEADER)
        return false;
    s->most = max_frame - WIRE_MAX_HEADER;
    return !(s->packet.seg.flags & TCP_URG);
}

size_t slicer_next(struct slicer *s, uint8_t *out, uint32_t room)
{
    const struct tcp_segment *seg = &s->packet.seg;
    const struct flow_key *key = &s->packet.key;
    uint32_t left = seg->len - s->done, len = left < s->most ? left : s->most;
    bool first = !s->done, last = len == left;
    /* It is the peer's own: what was remote when it came in is local to who sends it. */
    struct wire_route route = {
        .key = {.local_port = key->remote_port,
                .remote_port = key->local_port,
                .family = key->family},
        .tagged = s->packet.tagged,
        .tci = s->packet.tci,
        .ttl = s->packet.ttl,
        .tos = s->packet.tos,
    };
    struct tcp_out slice = {
        .seq = seg->seq + s->done,
        .ack = seg->ack,
        .window = seg->window,
        .flags = seg->flags,
        .ecn = seg->ecn,
        .has_timestamp = seg->has_timestamp,
        .sack_count = seg->sack_count,
        .tsval = seg->tsval,
        .tsecr = seg->tsecr,
        .span = {seg->payload + s->done},
        .span_len = {len},
        .len = len,
    };

    if (s->ended)
        return 0;
    memcpy(route.key.local_addr, key->remote_addr, sizeof(route.key.local_addr));
    memcpy(route.key.remote_addr, key->local_addr, sizeof(route.key.remote_addr));
    memcpy(route.src_mac, s->packet.src_mac, sizeof(route.src_mac));
    memcpy(route.dst_mac, s->packet.dst_mac, sizeof(route.dst_mac));
    memcpy(slice.sack, seg->sack, sizeof(slice.sack));
    if (!first)
        slice.flags &= ~TCP_CWR;
    if (!last)
        slice.flags &= ~(TCP_FIN | TCP_PSH);
    s->done += len;
    s->ended = last;
    return wire_build(out, room, &route, &slice, false);
}
