/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a segment to a frame.
 */
#include <assert.h>
#include <string.h>
#include "wire/bytes.h"
#include "wire/wire.h"

/** SACK blocks that fit behind the other options: three with timestamps, four without. */
static unsigned sack_room(bool has_timestamp, unsigned sack_count)
{
    const unsigned used = (has_timestamp ? 2 + TCPOLEN_TIMESTAMP : 0) + 2 + TCPOLEN_SACK_BASE;
    const unsigned most = (TCP_OPTIONS_MAX - used) / TCPOLEN_SACK_BLOCK;

    return sack_count < most ? sack_count : most;
}

unsigned wire_option_bytes(bool has_timestamp, unsigned sack_count)
{
    const unsigned blocks = sack_room(has_timestamp, sack_count);

    return (has_timestamp ? 2 + TCPOLEN_TIMESTAMP : 0) +
           (blocks ? 2 + TCPOLEN_SACK_BASE + blocks * TCPOLEN_SACK_BLOCK : 0);
}

/** Options padded in front by NOPs, so that their numbers are aligned (RFC 7323 appendix A). */
static void build_options(uint8_t *opt, const struct tcp_out *seg)
{
    const unsigned blocks = sack_room(seg->has_timestamp, seg->sack_count);

    if (seg->has_timestamp) {
        *opt++ = TCPOPT_NOP;
        *opt++ = TCPOPT_NOP;
        *opt++ = TCPOPT_TIMESTAMP;
        *opt++ = TCPOLEN_TIMESTAMP;
        put32(opt, seg->tsval);
        put32(opt + 4, seg->tsecr);
        opt += 8;
    }
    if (blocks) {
        *opt++ = TCPOPT_NOP;
        *opt++ = TCPOPT_NOP;
        *opt++ = TCPOPT_SACK;
        *opt++ = (uint8_t)(TCPOLEN_SACK_BASE + blocks * TCPOLEN_SACK_BLOCK);
        for (unsigned i = 0; i < blocks; i++, opt += TCPOLEN_SACK_BLOCK) {
            put32(opt, seg->sack[i].left);
            put32(opt + 4, seg->sack[i].right);
        }
    }
}

static size_t build_ethernet(uint8_t *frame, const struct wire_route *route)
{
    const unsigned type = route->key.family == 6 ? ETH_TYPE_IPV6 : ETH_TYPE_IPV4;

    memcpy(frame, route->dst_mac, 6);
    memcpy(frame + 6, route->src_mac, 6);
    if (!route->tagged) {
        put16(frame + 12, type);
        return ETH_HEADER;
    }
    put16(frame + 12, ETH_TYPE_VLAN);
    put16(frame + 14, route->tci);
    put16(frame + 16, type);
    return ETH_HEADER + ETH_TAG;
}

static void build_ipv4(uint8_t *ip, const struct wire_route *route, uint8_t tos, size_t tcp_len)
{
    uint16_t sum;

    ip[0] = 0x45;
    ip[1] = tos;
    put16(ip + 2, (uint32_t)(IPV4_HEADER + tcp_len));
    put16(ip + 4, route->ip_id);
    put16(ip + 6, IPV4_DF);
    ip[8] = route->ttl;
    ip[9] = PROTO_TCP;
    put16(ip + 10, 0);
    memcpy(ip + 12, route->key.local_addr, 4);
    memcpy(ip + 16, route->key.remote_addr, 4);
    sum = wire_fold(wire_sum(ip, IPV4_HEADER, 0));
    memcpy(ip + 10, &sum, 2);
}

static void build_ipv6(uint8_t *ip, const struct wire_route *route, uint8_t tos, size_t tcp_len)
{
    put32(ip, UINT32_C(6) << 28 | (uint32_t)tos << 20 | (route->flow_label & 0xFFFFFu));
    put16(ip + 4, (uint32_t)tcp_len);
    ip[6] = PROTO_TCP;
    ip[7] = route->ttl;
    memcpy(ip + 8, route->key.local_addr, 16);
    memcpy(ip + 24, route->key.remote_addr, 16);
}

/** RFC 9293 section 3.1, RFC 8200 section 8.1: both sum the same words. */
static uint64_t pseudo_header(const struct flow_key *key, size_t tcp_len)
{
    const size_t addr = key->family == 6 ? 16 : 4;
    uint8_t tail[8] = {0, 0, 0, 0, 0, 0, 0, PROTO_TCP};

    put32(tail, (uint32_t)tcp_len);
    return wire_sum(key->local_addr, addr,
                    wire_sum(key->remote_addr, addr, wire_sum(tail, sizeof(tail), 0)));
}

/** The sum of a range that starts at an odd offset: every byte is in the other half of its word. */
static uint64_t sum_odd(uint64_t sum)
{
    const uint16_t folded = (uint16_t)~wire_fold(sum);

    return (uint64_t)(uint16_t)(folded << 8 | folded >> 8);
}

/** Copies both spans behind each other; returns the sum as if they had been one. */
static uint64_t copy_payload(uint8_t *dst, const struct tcp_out *seg, uint64_t sum)
{
    const uint32_t first = seg->span_len[0];

    if (first)
        sum = wire_copy_sum(dst, seg->span[0], first, sum);
    if (!seg->span_len[1])
        return sum;
    if (first % 2 == 0)
        return wire_copy_sum(dst + first, seg->span[1], seg->span_len[1], sum);
    return sum + sum_odd(wire_copy_sum(dst + first, seg->span[1], seg->span_len[1], 0));
}

size_t wire_build(uint8_t *frame, size_t room, const struct wire_route *route,
                  const struct tcp_out *seg, bool csum_offload)
{
    const bool ipv6 = route->key.family == 6;
    const size_t link = route->tagged ? ETH_HEADER + ETH_TAG : ETH_HEADER;
    const size_t ip_header = ipv6 ? IPV6_HEADER : IPV4_HEADER;
    const size_t header = TCP_HEADER + wire_option_bytes(seg->has_timestamp, seg->sack_count);
    const size_t tcp_len = header + seg->len;
    const uint8_t tos = (uint8_t)((route->tos & ~IP_ECN) | (seg->ecn & IP_ECN));
    uint8_t *ip, *tcp;
    uint64_t sum;
    uint16_t check;

    assert(route->key.family == 4 || ipv6);
    assert((uint64_t)seg->span_len[0] + seg->span_len[1] == seg->len);
    assert(seg->sack_count <= TCP_MAX_SACK);

    /* The IPv4 total length counts the header, the IPv6 payload length does not. */
    if (seg->len > IP_MAX || link + ip_header + tcp_len > room ||
        tcp_len + (ipv6 ? 0 : IPV4_HEADER) > IP_MAX)
        return 0;

    ip = frame + build_ethernet(frame, route);
    if (ipv6)
        build_ipv6(ip, route, tos, tcp_len);
    else
        build_ipv4(ip, route, tos, tcp_len);

    tcp = ip + ip_header;
    memcpy(tcp, &route->key.local_port, 2);
    memcpy(tcp + 2, &route->key.remote_port, 2);
    put32(tcp + 4, seg->seq);
    put32(tcp + 8, seg->ack);
    tcp[12] = (uint8_t)(header / 4 << 4);
    tcp[13] = seg->flags;
    put16(tcp + 14, seg->window);
    put32(tcp + TCP_CHECKSUM, 0); /* and the urgent pointer: urgent data is never sent from here */
    build_options(tcp + TCP_HEADER, seg);

    sum = pseudo_header(&route->key, tcp_len);
    if (csum_offload) {
        /* The port adds the segment to what is in the field: the pseudo header, not complemented.
         */
        if (seg->span_len[0])
            memcpy(tcp + header, seg->span[0], seg->span_len[0]);
        if (seg->span_len[1])
            memcpy(tcp + header + seg->span_len[0], seg->span[1], seg->span_len[1]);
        check = (uint16_t)~wire_fold(sum);
    } else {
        sum = wire_sum(tcp, header, sum);
        check = wire_fold(copy_payload(tcp + header, seg, sum));
    }
    memcpy(tcp + TCP_CHECKSUM, &check, 2);
    return link + ip_header + tcp_len;
}
