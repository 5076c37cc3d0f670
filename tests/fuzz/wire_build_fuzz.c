/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire_build() for any segment, route and room: it stays inside the room, refuses only what does
 * not fit, and what it builds parses to the same segment.
 *
 * Input: the fields in the order they are taken below, then payload.
 */
#include <stdlib.h>
#include <string.h>
#include "fuzz.h"
#include "wire/wire.h"

struct source {
    const uint8_t *data;
    size_t len;
};

/** Zeros when the input is used up. */
static void take(struct source *src, void *to, size_t len)
{
    const size_t n = len < src->len ? len : src->len;

    memset(to, 0, len);
    if (n)
        memcpy(to, src->data, n);
    src->data += n;
    src->len -= n;
}

static uint32_t take_number(struct source *src, size_t bytes)
{
    uint32_t v = 0;

    take(src, &v, bytes);
    return v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct source src = {data, size};
    struct wire_route route;
    struct tcp_out seg;
    struct wire_packet pkt;
    uint32_t room, cut, repeat, blocks;
    size_t len, want, total;
    uint8_t *frame, *payload, bits;

    memset(&route, 0, sizeof(route));
    memset(&seg, 0, sizeof(seg));
    bits = (uint8_t)take_number(&src, 1);
    route.key.family = bits & 1 ? 6 : 4;
    route.tagged = bits & 2;
    seg.has_timestamp = bits & 4;
    seg.sack_count = (uint8_t)((bits >> 3) % (TCP_MAX_SACK + 1));
    take(&src, route.key.local_addr, route.key.family == 6 ? 16 : 4);
    take(&src, route.key.remote_addr, route.key.family == 6 ? 16 : 4);
    route.key.local_port = (uint16_t)take_number(&src, 2);
    route.key.remote_port = (uint16_t)take_number(&src, 2);
    route.tci = (uint16_t)take_number(&src, 2);
    route.ttl = (uint8_t)take_number(&src, 1);
    route.tos = (uint8_t)take_number(&src, 1);
    route.flow_label = take_number(&src, 4);
    route.ip_id = (uint16_t)take_number(&src, 2);
    seg.seq = take_number(&src, 4);
    seg.ack = take_number(&src, 4);
    seg.window = (uint16_t)take_number(&src, 2);
    seg.flags = (uint8_t)take_number(&src, 1);
    seg.ecn = (uint8_t)take_number(&src, 1) & 3;
    seg.tsval = take_number(&src, 4);
    seg.tsecr = take_number(&src, 4);
    take(&src, seg.sack, sizeof(seg.sack));
    room = take_number(&src, 3) % 70000;
    cut = take_number(&src, 2);
    repeat = take_number(&src, 1); /* a long payload out of a short input */

    seg.len = (uint32_t)src.len * (repeat + 1);
    payload = malloc(seg.len ? seg.len : 1);
    frame = malloc(room ? room : 1);
    HOLDS(payload && frame);
    for (uint32_t i = 0; i < seg.len; i++)
        payload[i] = (uint8_t)(src.data[i % src.len] + i / 251);
    cut = seg.len ? cut % (seg.len + 1) : 0;
    seg.span[0] = payload;
    seg.span_len[0] = cut;
    seg.span[1] = payload + cut;
    seg.span_len[1] = seg.len - cut;

    blocks = seg.has_timestamp && seg.sack_count > 3 ? 3 : seg.sack_count;
    total = 20u + wire_option_bytes(seg.has_timestamp, seg.sack_count) + seg.len;
    want = (route.tagged ? 18u : 14u) + (route.key.family == 6 ? 40u : 20u) + total;
    if (want > room || total + (route.key.family == 6 ? 0 : 20) > 65535)
        want = 0;
    len = wire_build(frame, room, &route, &seg, false);
    HOLDS(len == want);
    if (len) {
        HOLDS(wire_parse(frame, len, false, &pkt) == WIRE_OK);
        HOLDS(memcmp(pkt.key.local_addr, route.key.remote_addr, 16) == 0);
        HOLDS(memcmp(pkt.key.remote_addr, route.key.local_addr, 16) == 0);
        HOLDS(pkt.key.local_port == route.key.remote_port);
        HOLDS(pkt.key.remote_port == route.key.local_port);
        HOLDS(pkt.tagged == route.tagged && (!pkt.tagged || pkt.tci == route.tci));
        HOLDS(pkt.ttl == route.ttl && pkt.seg.ecn == seg.ecn);
        HOLDS((pkt.tos & ~3) == (route.tos & ~3));
        HOLDS(pkt.seg.seq == seg.seq && pkt.seg.ack == seg.ack);
        HOLDS(pkt.seg.window == seg.window && pkt.seg.flags == seg.flags);
        HOLDS(pkt.seg.has_timestamp == seg.has_timestamp && pkt.seg.sack_count == blocks);
        HOLDS(!seg.has_timestamp || (pkt.seg.tsval == seg.tsval && pkt.seg.tsecr == seg.tsecr));
        HOLDS(memcmp(pkt.seg.sack, seg.sack, blocks * sizeof(seg.sack[0])) == 0);
        HOLDS(pkt.seg.len == seg.len);
        HOLDS(memcmp(pkt.seg.payload, payload, seg.len) == 0);
        /* The pseudo header alone in the field: same frame but for two bytes. */
        HOLDS(wire_build(frame, room, &route, &seg, true) == len);
        HOLDS(wire_parse(frame, len, true, &pkt) == WIRE_OK);
        HOLDS(memcmp(pkt.seg.payload, payload, seg.len) == 0);
    }
    free(frame);
    free(payload);
    return 0;
}
