/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reader of frames for the wire checker.  Slow, plain, and deliberately written without a look at
 * wire/: two parsers that agree on every frame of every seed are worth more than one.
 */
#include "checker.h"

#include <stdio.h>
#include <string.h>

#define ETHERNET_HEADER 14
#define IPPROTO_IS_TCP 6

static unsigned be16(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}
static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)be16(p) << 16 | be16(p + 2);
}

/* RFC 1071, sixteen bits at a time. */
static uint32_t sum16(uint32_t sum, const uint8_t *p, size_t len)
{
    for (; len > 1; p += 2, len -= 2) {
        sum += be16(p);
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    if (len)
        sum += (uint32_t)p[0] << 8;
    sum = (sum & 0xFFFF) + (sum >> 16);
    return (sum & 0xFFFF) + (sum >> 16);
}

static void parse_options(const uint8_t *p, unsigned len, struct checked_frame *out)
{
    unsigned at = 0;

    out->option_len = len;
    while (at < len) {
        unsigned kind = p[at], size;

        if (kind == 0) { /* end of options: only padding may follow */
            for (; at < len; at++)
                out->options_bad |= p[at] != 0;
            return;
        }
        if (kind == 1) {
            at++;
            continue;
        }
        if (at + 1 >= len || p[at + 1] < 2 || at + p[at + 1] > len) {
            out->options_bad = true;
            return;
        }
        size = p[at + 1];
        if (kind == 8) { /* RFC 7323 3.2 */
            out->options_bad |= size != 10 || out->has_timestamp;
            if (size == 10) {
                out->has_timestamp = true;
                out->tsval = be32(p + at + 2);
                out->tsecr = be32(p + at + 6);
            }
        } else if (kind == 5) { /* RFC 2018 3 */
            out->options_bad |= size < 10 || (size - 2) % 8 != 0 || out->sack_count;
            for (unsigned b = 0; !out->options_bad && b < (size - 2) / 8; b++) {
                out->sack[b][0] = be32(p + at + 2 + 8 * b);
                out->sack[b][1] = be32(p + at + 6 + 8 * b);
                out->sack_count = b + 1;
            }
        } else {
            out->option_unknown = true;
        }
        at += size;
    }
}

enum checked_status checker_parse(const uint8_t *frame, size_t len, struct checked_frame *out)
{
    const uint8_t *ip = frame + ETHERNET_HEADER, *tcp;
    uint32_t sum, tcp_len;
    unsigned header;

    memset(out, 0, sizeof(*out));
    if (len < ETHERNET_HEADER + 20)
        return CHECKED_NOT_TCP;
    len -= ETHERNET_HEADER;
    if (be16(frame + 12) == 0x0800) {
        header = (ip[0] & 15) * 4u;
        out->ip_len = be16(ip + 2);
        if (ip[0] >> 4 != 4 || header != 20 || ip[9] != IPPROTO_IS_TCP || out->ip_len > len ||
            out->ip_len < header + 20)
            return CHECKED_NOT_TCP;
        if (sum16(0, ip, header) != 0xFFFF)
            return CHECKED_BAD_CHECKSUM;
        memcpy(out->src, ip + 12, 4);
        memcpy(out->dst, ip + 16, 4);
        out->ecn = ip[1] & 3;
        out->ttl = ip[8];
        out->df = ip[6] & 0x40;
        out->fragment = be16(ip + 6) & 0x3FFF;
        sum = sum16(0, ip + 12, 8);
    } else if (be16(frame + 12) == 0x86DD && len >= 60) {
        header = 40;
        out->ipv6 = true;
        out->ip_len = 40 + be16(ip + 4);
        if (ip[0] >> 4 != 6 || ip[6] != IPPROTO_IS_TCP || out->ip_len > len || out->ip_len < 60)
            return CHECKED_NOT_TCP;
        memcpy(out->src, ip + 8, 16);
        memcpy(out->dst, ip + 24, 16);
        out->ecn = ip[1] >> 4 & 3;
        out->ttl = ip[7];
        out->df = true;
        sum = sum16(0, ip + 8, 32);
    } else {
        return CHECKED_NOT_TCP;
    }

    tcp = ip + header;
    tcp_len = out->ip_len - header;
    sum = sum16(sum + IPPROTO_IS_TCP + tcp_len, tcp, tcp_len);
    if (sum != 0xFFFF)
        return CHECKED_BAD_CHECKSUM;
    header = (tcp[12] >> 4) * 4u;
    if (header < 20 || header > tcp_len)
        return CHECKED_NOT_TCP;
    out->sport = (uint16_t)be16(tcp);
    out->dport = (uint16_t)be16(tcp + 2);
    out->seq = be32(tcp + 4);
    out->ack = be32(tcp + 8);
    out->reserved = tcp[12] & 15;
    out->flags = tcp[13];
    out->window = (uint16_t)be16(tcp + 14);
    parse_options(tcp + 20, header - 20, out);
    out->payload = tcp + header;
    out->len = tcp_len - header;
    return CHECKED_OK;
}

char *checker_describe(const struct checked_frame *frame, uint32_t seq_base, uint32_t ack_base,
                       char *buf, size_t room)
{
    static const char letters[] = "FSRPAUEC";
    char flags[9];
    unsigned n = 0;
    int at;

    for (unsigned bit = 0; bit < 8; bit++)
        if (frame->flags >> bit & 1)
            flags[n++] = letters[bit];
    flags[n] = 0;
    at = snprintf(buf, room, "%s seq %d len %u ack %d win %u", flags, (int)(frame->seq - seq_base),
                  frame->len, (int)(frame->ack - ack_base), frame->window);
    if (frame->has_timestamp && (size_t)at < room)
        at += snprintf(buf + at, room - (size_t)at, " ts %u/%u", frame->tsval, frame->tsecr);
    for (unsigned b = 0; b < frame->sack_count && (size_t)at < room; b++)
        at += snprintf(buf + at, room - (size_t)at, " %s%d-%d", b ? "" : "sack ",
                       (int)(frame->sack[b][0] - ack_base), (int)(frame->sack[b][1] - ack_base));
    if (frame->ecn && (size_t)at < room)
        snprintf(buf + at, room - (size_t)at, " ecn %u", frame->ecn);
    return buf;
}
