/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ethernet, 802.1Q, IPv4, IPv6 and TCP as bytes: parse, build, checksum.  No state, no I/O, no
 * operating-system header.  Everything that comes in is hostile: every length is checked before it
 * is used, and a packet that is not understood is a status, never a crash.
 */
#ifndef CHIMNEY_WIRE_WIRE_H
#define CHIMNEY_WIRE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "wire/segment.h"

/**
 * The 4-tuple (and family) that names a flow, from the local side's point of view.  All bytes are
 * significant (no padding); IPv4 addresses are in the first four bytes, the rest zero.  A v4-mapped
 * IPv6 socket has an IPv4 key (handoff.md 2.1).
 */
struct flow_key {
    uint8_t local_addr[16];
    uint8_t remote_addr[16];
    uint16_t local_port;  /* network byte order */
    uint16_t remote_port; /* network byte order */
    uint16_t family;      /* 4 or 6 */
    uint16_t zero;
};
_Static_assert(sizeof(struct flow_key) == 40, "flow_key is a BPF map key: no padding");

bool flow_key_equal(const struct flow_key *a, const struct flow_key *b);
/** Seeded hash of a key; unpredictable to whoever does not know @seed. */
uint64_t flow_key_hash(const struct flow_key *key, uint64_t seed);
/** Longest text of flow_key_text(), NUL included. */
#define FLOW_KEY_TEXT 104
/** "10.0.0.1:80-10.0.0.2:4711" or "[fd00::1]:80-[fd00::2]:4711", local first.  Returns @buf. */
char *flow_key_text(const struct flow_key *key, char buf[FLOW_KEY_TEXT]);

enum wire_status {
    WIRE_OK = 0,    /* a TCP segment, all of it here, checksums right (or trusted) */
    WIRE_NOT_TCP,   /* well-formed as far as looked at, but not TCP over IP: non-offload path */
    WIRE_OPTIONS,   /* IPv4 options or IPv6 extension headers: non-offload path (C325) */
    WIRE_FRAGMENT,  /* an IP fragment: non-offload path (C326) */
    WIRE_BAD_IP,    /* header error: InHeaderErrors (C394) */
    WIRE_TRUNCATED, /* header fine, packet shorter than it says: InTruncatedPackets */
    WIRE_BAD_TCP,   /* bad data offset, options or checksum: InErrors */
};

/** A parsed frame.  seg.payload points into the frame. */
struct wire_packet {
    struct flow_key key; /* the receiver is local */
    struct tcp_segment seg;
    uint8_t src_mac[6], dst_mac[6];
    bool tagged;  /* an 802.1Q tag was inline */
    uint16_t tci; /* host byte order: priority, CFI, VLAN id */
    uint8_t ttl, tos;
    uint16_t ip_offset, tcp_offset; /* from the start of the frame */
    uint32_t ip_len;                /* bytes of the IP packet (headers included) */
};

/**
 * Parses one Ethernet frame of @len bytes.
 * @csum_trusted: do not verify the TCP checksum (the IPv4 header checksum is always verified).
 * On every status but WIRE_OK only the fields up to the failing layer are meaningful.
 */
enum wire_status wire_parse(const uint8_t *frame, size_t len, bool csum_trusted,
                            struct wire_packet *out);

/** Addressing of an outgoing segment: what path and neighbor objects and cached state supply. */
struct wire_route {
    struct flow_key key;
    uint8_t src_mac[6], dst_mac[6];
    bool tagged; /* insert an 802.1Q tag */
    uint16_t tci;
    uint8_t ttl, tos; /* the ECN bits of tos are replaced by the segment's */
    uint32_t flow_label;
    uint16_t ip_id; /* IPv4 only; DF is always set (C253) */
};

/** Largest header wire_build() writes: Ethernet + tag + IPv6 + TCP with 40 bytes of options. */
#define WIRE_MAX_HEADER (14 + 4 + 40 + 60)

/**
 * Builds one frame from @seg into @frame (@room bytes).  Copies the payload spans; a checksum is
 * computed over the copy, so memory that changes underneath cannot make a bad one.
 * @csum_offload: leave the pseudo-header sum in the TCP checksum field for the port to finish.
 * Returns the length of the frame, or 0 when it does not fit.
 */
size_t wire_build(uint8_t *frame, size_t room, const struct wire_route *route,
                  const struct tcp_out *seg, bool csum_offload);

/**
 * For frames of virtual interfaces of this machine: if the TCP checksum field holds the
 * pseudo-header sum only, as a sender leaves it that counts on checksum offload, the checksum is
 * finished in place.  Returns true if it was that; false: nothing changed.
 */
bool wire_finish_checksum(uint8_t *frame, size_t len);

/** Bytes of TCP options wire_build() will write for this segment (multiple of 4). */
unsigned wire_option_bytes(bool has_timestamp, unsigned sack_count);

/* Internet checksum (RFC 1071), vectorised where the compiler can. */
/** One's-complement sum of @len bytes added to @sum; combine ranges only at even offsets. */
uint64_t wire_sum(const void *data, size_t len, uint64_t sum);
/** Copies and sums in one pass. */
uint64_t wire_copy_sum(void *dst, const void *src, size_t len, uint64_t sum);
/** Folds to 16 bits and complements; the result is stored as is (network order). */
uint16_t wire_fold(uint64_t sum);

#endif
