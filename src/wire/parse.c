/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a frame to a segment.
 *
 * One layer after the other, each told how many bytes it may look at.  What the target does not do
 * (IP options, fragments, other protocols) is recognised before any doubt about it is raised, so
 * that such packets go up whole on the non-offload path (C325, C326); what is malformed is told
 * apart by the counter it belongs to (C394).
 */
#include <string.h>
#include "wire/bytes.h"
#include "wire/wire.h"

/** Timestamps alone, aligned as every stack sends them (RFC 7323 appendix A): NOP NOP TS 10. */
#define TIMESTAMP_ALIGNED 0x0101080Au

static void take_timestamp(struct tcp_segment *seg, const uint8_t *value)
{
    seg->has_timestamp = true;
    seg->tsval = get32(value);
    seg->tsecr = get32(value + 4);
}

/** The body of a SACK option, @len bytes; false if its length is none that RFC 2018 allows. */
static bool take_sack(struct tcp_segment *seg, const uint8_t *value, size_t len)
{
    if (len == 0 || len % TCPOLEN_SACK_BLOCK)
        return false;
    for (; len; len -= TCPOLEN_SACK_BLOCK, value += TCPOLEN_SACK_BLOCK) {
        if (seg->sack_count == TCP_MAX_SACK)
            return false;
        seg->sack[seg->sack_count].left = get32(value);
        seg->sack[seg->sack_count].right = get32(value + 4);
        seg->sack_count++;
    }
    return true;
}

/** RFC 9293 section 3.1: unknown options are skipped by their length; a bad length is an error. */
static bool parse_options(struct tcp_segment *seg, const uint8_t *opt, size_t len)
{
    if (len == 12 && get32(opt) == TIMESTAMP_ALIGNED) {
        take_timestamp(seg, opt + 4);
        return true;
    }
    while (len) {
        size_t size;

        if (opt[0] == TCPOPT_END)
            return true;
        if (opt[0] == TCPOPT_NOP) {
            opt++;
            len--;
            continue;
        }
        if (len < 2)
            return false;
        size = opt[1];
        if (size < 2 || size > len)
            return false;
        if (opt[0] == TCPOPT_TIMESTAMP) {
            if (size != TCPOLEN_TIMESTAMP)
                return false;
            take_timestamp(seg, opt + 2);
        } else if (opt[0] == TCPOPT_SACK) {
            if (!take_sack(seg, opt + 2, size - TCPOLEN_SACK_BASE))
                return false;
        }
        opt += size;
        len -= size;
    }
    return true;
}

/** @len bytes of TCP; @pseudo is the sum of addresses, protocol and length. */
static enum wire_status parse_tcp(const uint8_t *tcp, size_t len, bool csum_trusted,
                                  uint64_t pseudo, struct wire_packet *out)
{
    struct tcp_segment *seg = &out->seg;
    size_t header;

    if (len < TCP_HEADER)
        return WIRE_BAD_TCP;
    header = (size_t)(tcp[12] >> 4) * 4;
    if (header < TCP_HEADER || header > len)
        return WIRE_BAD_TCP;
    if (!csum_trusted && wire_fold(wire_sum(tcp, len, pseudo)) != 0)
        return WIRE_BAD_TCP;

    memcpy(&out->key.remote_port, tcp, 2);
    memcpy(&out->key.local_port, tcp + 2, 2);
    seg->seq = get32(tcp + 4);
    seg->ack = get32(tcp + 8);
    seg->flags = tcp[13];
    seg->window = get16(tcp + 14);
    if (!parse_options(seg, tcp + TCP_HEADER, header - TCP_HEADER))
        return WIRE_BAD_TCP;
    seg->payload = tcp + header;
    seg->len = (uint32_t)(len - header);
    return WIRE_OK;
}

/** Protocol and length of the pseudo header, as a sum in the order of memory. */
static uint64_t pseudo_tail(uint32_t len)
{
    uint8_t tail[8] = {0, 0, 0, 0, 0, 0, 0, PROTO_TCP};

    put32(tail, len);
    return wire_sum(tail, sizeof(tail), 0);
}

static enum wire_status parse_ipv4(const uint8_t *ip, size_t len, bool csum_trusted,
                                   struct wire_packet *out)
{
    size_t header, total;
    unsigned fragment;

    if (len < IPV4_HEADER || ip[0] >> 4 != 4)
        return WIRE_BAD_IP;
    header = (size_t)(ip[0] & 0x0F) * 4;
    total = get16(ip + 2);
    if (header < IPV4_HEADER || header > len || total < header ||
        wire_fold(wire_sum(ip, header, 0)) != 0)
        return WIRE_BAD_IP;
    out->tos = ip[1];
    out->ttl = ip[8];
    out->ip_len = (uint32_t)total;
    out->seg.ecn = ip[1] & IP_ECN;
    out->key.family = 4;
    memcpy(out->key.remote_addr, ip + 12, 4);
    memcpy(out->key.local_addr, ip + 16, 4);
    if (total > len)
        return WIRE_TRUNCATED;
    if (header > IPV4_HEADER)
        return WIRE_OPTIONS;
    fragment = get16(ip + 6);
    if (fragment & (IPV4_MF | IPV4_OFFSET))
        return WIRE_FRAGMENT;
    if (ip[9] != PROTO_TCP)
        return WIRE_NOT_TCP;
    out->tcp_offset = (uint16_t)(out->ip_offset + IPV4_HEADER);
    total -= IPV4_HEADER;
    return parse_tcp(ip + IPV4_HEADER, total, csum_trusted,
                     csum_trusted ? 0 : wire_sum(ip + 12, 8, pseudo_tail((uint32_t)total)), out);
}

/** Headers that may stand between IPv6 and TCP (RFC 8200 section 4, IANA's registry). */
static bool is_extension(uint8_t next)
{
    switch (next) {
    case PROTO_HOPOPTS:
    case PROTO_ROUTING:
    case PROTO_ESP:
    case PROTO_AH:
    case PROTO_DSTOPTS:
    case PROTO_MOBILITY:
    case PROTO_HIP:
    case PROTO_SHIM6:
        return true;
    default:
        return false;
    }
}

static enum wire_status parse_ipv6(const uint8_t *ip, size_t len, bool csum_trusted,
                                   struct wire_packet *out)
{
    size_t payload;

    if (len < IPV6_HEADER || ip[0] >> 4 != 6)
        return WIRE_BAD_IP;
    payload = get16(ip + 4);
    out->tos = (uint8_t)(get16(ip) >> 4);
    out->ttl = ip[7];
    out->ip_len = (uint32_t)(IPV6_HEADER + payload);
    out->seg.ecn = out->tos & IP_ECN;
    out->key.family = 6;
    memcpy(out->key.remote_addr, ip + 8, 16);
    memcpy(out->key.local_addr, ip + 24, 16);
    if (IPV6_HEADER + payload > len)
        return WIRE_TRUNCATED;
    if (ip[6] == PROTO_FRAGMENT)
        return WIRE_FRAGMENT;
    if (is_extension(ip[6]))
        return WIRE_OPTIONS;
    if (ip[6] != PROTO_TCP)
        return WIRE_NOT_TCP;
    out->tcp_offset = (uint16_t)(out->ip_offset + IPV6_HEADER);
    return parse_tcp(ip + IPV6_HEADER, payload, csum_trusted,
                     csum_trusted ? 0 : wire_sum(ip + 8, 32, pseudo_tail((uint32_t)payload)), out);
}

enum wire_status wire_parse(const uint8_t *frame, size_t len, bool csum_trusted,
                            struct wire_packet *out)
{
    size_t at = ETH_HEADER;
    unsigned type;

    memset(out, 0, sizeof(*out));
    if (len < ETH_HEADER)
        return WIRE_NOT_TCP;
    memcpy(out->dst_mac, frame, 6);
    memcpy(out->src_mac, frame + 6, 6);
    type = get16(frame + 12);
    if (type == ETH_TYPE_VLAN) {
        if (len < ETH_HEADER + ETH_TAG)
            return WIRE_NOT_TCP;
        out->tagged = true;
        out->tci = get16(frame + 14);
        type = get16(frame + 16);
        at += ETH_TAG;
    }
    out->ip_offset = (uint16_t)at;
    if (type == ETH_TYPE_IPV4)
        return parse_ipv4(frame + at, len - at, csum_trusted, out);
    if (type == ETH_TYPE_IPV6)
        return parse_ipv6(frame + at, len - at, csum_trusted, out);
    return WIRE_NOT_TCP;
}
