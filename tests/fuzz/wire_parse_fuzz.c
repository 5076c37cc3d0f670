/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire_parse() over any bytes: it stays inside, and what it calls good is consistent.
 *
 * A mutated frame nearly always has wrong checksums and would go no further; so each input is also
 * parsed with its checksums repaired.
 */
#include <stdlib.h>
#include <string.h>
#include "fuzz.h"
#include "wire/wire.h"

static uint32_t sum(const uint8_t *p, size_t len, uint32_t from)
{
    for (size_t i = 0; i < len; i++) {
        from += i % 2 ? p[i] : (uint32_t)p[i] << 8;
        from = (from & 0xFFFF) + (from >> 16);
    }
    return from;
}

static void store(uint8_t *p, uint32_t check)
{
    p[0] = (uint8_t)(~check >> 8);
    p[1] = (uint8_t)~check;
}

/** Makes the IPv4 and TCP checksums right as far as the lengths allow. */
static void repair(uint8_t *frame, size_t len)
{
    uint8_t *ip = frame + 14;
    size_t left, header, total;

    if (len >= 18 && frame[12] == 0x81 && frame[13] == 0)
        ip += 4;
    left = len > (size_t)(ip - frame) ? len - (size_t)(ip - frame) : 0;
    if (left < 20)
        return;
    if (ip[-2] == 0x08 && ip[-1] == 0x00) {
        header = (size_t)(ip[0] & 15) * 4;
        total = (size_t)ip[2] << 8 | ip[3];
        if (header < 20 || header > left)
            return;
        ip[10] = ip[11] = 0;
        store(ip + 10, sum(ip, header, 0));
        if (total > left || total < header + 20)
            return;
        ip[header + 16] = ip[header + 17] = 0;
        store(ip + header + 16,
              sum(ip + header, total - header, sum(ip + 12, 8, 6 + (uint32_t)(total - header))));
    } else if (ip[-2] == 0x86 && ip[-1] == 0xDD && left >= 60) {
        total = (size_t)ip[4] << 8 | ip[5];
        if (total + 40 > left || total < 20)
            return;
        ip[56] = ip[57] = 0;
        store(ip + 56, sum(ip + 40, total, sum(ip + 8, 32, 6 + (uint32_t)total)));
    }
}

/** Everything that a caller relies on when the status is WIRE_OK. */
static void check_ok(const uint8_t *data, size_t size, const struct wire_packet *pkt)
{
    static const uint8_t none[16];
    const struct tcp_segment *seg = &pkt->seg;

    HOLDS(pkt->key.family == 4 || pkt->key.family == 6);
    HOLDS(pkt->key.zero == 0);
    if (pkt->key.family == 4) {
        HOLDS(memcmp(pkt->key.local_addr + 4, none, 12) == 0);
        HOLDS(memcmp(pkt->key.remote_addr + 4, none, 12) == 0);
    }
    HOLDS(pkt->ip_offset == (pkt->tagged ? 18 : 14));
    HOLDS(pkt->tcp_offset == pkt->ip_offset + (pkt->key.family == 4 ? 20 : 40));
    HOLDS(pkt->ip_len <= size - pkt->ip_offset);
    HOLDS(seg->payload >= data + pkt->tcp_offset + 20);
    HOLDS(seg->payload + seg->len == data + pkt->ip_offset + pkt->ip_len);
    HOLDS(seg->sack_count <= TCP_MAX_SACK);
    HOLDS(seg->ecn == (pkt->tos & 3));
    HOLDS(seg->gso_size == 0);
}

/** What was understood can be said again, and is understood the same. */
static void check_again(const struct wire_packet *pkt)
{
    static uint8_t frame[65536 + 64];
    struct wire_route route = {
        .tagged = pkt->tagged, .tci = pkt->tci, .ttl = pkt->ttl, .tos = pkt->tos};
    struct tcp_out out = {.seq = pkt->seg.seq,
                          .ack = pkt->seg.ack,
                          .window = pkt->seg.window,
                          .flags = pkt->seg.flags,
                          .ecn = pkt->seg.ecn,
                          .has_timestamp = pkt->seg.has_timestamp,
                          .sack_count = pkt->seg.sack_count,
                          .tsval = pkt->seg.tsval,
                          .tsecr = pkt->seg.tsecr,
                          .len = pkt->seg.len};
    struct wire_packet again;
    uint32_t blocks;
    size_t len;

    memcpy(route.key.local_addr, pkt->key.remote_addr, 16);
    memcpy(route.key.remote_addr, pkt->key.local_addr, 16);
    route.key.local_port = pkt->key.remote_port;
    route.key.remote_port = pkt->key.local_port;
    route.key.family = pkt->key.family;
    memcpy(route.src_mac, pkt->src_mac, 6);
    memcpy(route.dst_mac, pkt->dst_mac, 6);
    memcpy(out.sack, pkt->seg.sack, sizeof(out.sack));
    out.span[0] = pkt->seg.payload;
    out.span_len[0] = pkt->seg.len / 3;
    out.span[1] = pkt->seg.payload + out.span_len[0];
    out.span_len[1] = pkt->seg.len - out.span_len[0];

    len = wire_build(frame, sizeof(frame), &route, &out, false);
    HOLDS(len > 0 && len <= sizeof(frame));
    HOLDS(wire_parse(frame, len, false, &again) == WIRE_OK);
    HOLDS(flow_key_equal(&again.key, &pkt->key));
    HOLDS(again.seg.seq == pkt->seg.seq && again.seg.ack == pkt->seg.ack);
    HOLDS(again.seg.window == pkt->seg.window && again.seg.flags == pkt->seg.flags);
    HOLDS(again.seg.has_timestamp == pkt->seg.has_timestamp);
    HOLDS(again.seg.tsval == pkt->seg.tsval && again.seg.tsecr == pkt->seg.tsecr);
    blocks = pkt->seg.sack_count;
    if (blocks == 4 && pkt->seg.has_timestamp)
        blocks = 3; /* cannot come in, but the rule is the same */
    HOLDS(again.seg.sack_count == blocks);
    HOLDS(memcmp(again.seg.sack, pkt->seg.sack, blocks * sizeof(again.seg.sack[0])) == 0);
    HOLDS(again.seg.len == pkt->seg.len);
    HOLDS(memcmp(again.seg.payload, pkt->seg.payload, pkt->seg.len) == 0);
    HOLDS(again.tos == pkt->tos && again.ttl == pkt->ttl);
    HOLDS(again.tagged == pkt->tagged && again.tci == pkt->tci);
}

static void parse_both(const uint8_t *data, size_t size)
{
    struct wire_packet strict, trusting;
    enum wire_status a = wire_parse(data, size, false, &strict);
    enum wire_status b = wire_parse(data, size, true, &trusting);
    char text[FLOW_KEY_TEXT];

    /* Trust can only turn a bad checksum into a good one or into another TCP error. */
    HOLDS(a == b || (a == WIRE_BAD_TCP && b == WIRE_OK));
    HOLDS(a <= WIRE_BAD_TCP);
    if (a == WIRE_OK) {
        check_ok(data, size, &strict);
        HOLDS(memcmp(&strict, &trusting, sizeof(strict)) == 0);
        check_again(&strict);
        HOLDS(strlen(flow_key_text(&strict.key, text)) < FLOW_KEY_TEXT);
    }
    if (b == WIRE_OK) {
        check_ok(data, size, &trusting);
        check_again(&trusting);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);

    HOLDS(copy);
    parse_both(data, size);
    memcpy(copy, data, size);
    repair(copy, size);
    parse_both(copy, size);
    free(copy);
    return 0;
}
