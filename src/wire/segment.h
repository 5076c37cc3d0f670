/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TCP segment after parsing, and one before building: the language between the wire and the
 * engine.
 */
#ifndef CHIMNEY_WIRE_SEGMENT_H
#define CHIMNEY_WIRE_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>

/* Header flags as on the wire. */
#define TCP_FIN 0x01u
#define TCP_SYN 0x02u
#define TCP_RST 0x04u
#define TCP_PSH 0x08u
#define TCP_ACK 0x10u
#define TCP_URG 0x20u
#define TCP_ECE 0x40u
#define TCP_CWR 0x80u

/* ECN field of the IP header. */
#define TCP_ECN_NOT 0u
#define TCP_ECN_ECT1 1u
#define TCP_ECN_ECT0 2u
#define TCP_ECN_CE 3u

#define TCP_MAX_SACK 4

struct tcp_sack_range {
    uint32_t left, right; /* sequence numbers, [left, right) */
};

/** A received TCP segment after parsing and checksum verification (wire/ fills it). */
struct tcp_segment {
    uint32_t seq, ack;
    uint16_t window; /* as on the wire, not scaled */
    uint8_t flags;
    uint8_t ecn; /* TCP_ECN_* of the IP header */
    bool has_timestamp;
    uint8_t sack_count;
    uint32_t tsval, tsecr;
    struct tcp_sack_range sack[TCP_MAX_SACK];
    const uint8_t *payload;
    uint32_t len;      /* payload bytes; up to 64 KiB (super-segment) */
    uint16_t gso_size; /* 0, or the size of the segments it was merged from */
};

/** A segment to transmit.  The payload is up to two spans of the send ring (it may wrap). */
struct tcp_out {
    uint32_t seq, ack;
    uint16_t window; /* as on the wire */
    uint8_t flags;
    uint8_t ecn; /* to be put into the IP header */
    bool has_timestamp;
    uint8_t sack_count;
    uint32_t tsval, tsecr;
    struct tcp_sack_range sack[TCP_MAX_SACK];
    const uint8_t *span[2];
    uint32_t span_len[2];
    uint32_t len;      /* span_len[0] + span_len[1] */
    uint16_t gso_size; /* segment size if len is larger than one segment, else 0 */
};

#endif
