/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames to segments and back.  Frames come from three independent places: the Linux kernel (bytes
 * captured between two namespaces), a builder in this file that shares nothing with wire/, and
 * wire_build() itself.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "wire/wire.h"

/* ---- frames of the kernel ---------------------------------------------------------------- */

/* 10.9.0.1:35856 -> 10.9.0.2:4711, PSH ACK, timestamps, "chimney" */
static const uint8_t kernel4[] = {
    0xf6, 0xe9, 0xf0, 0x32, 0xc1, 0xf8, 0xa2, 0xd9, 0xa7, 0xf1, 0x71, 0xb9, 0x08, 0x00, 0x45,
    0x00, 0x00, 0x3b, 0xb5, 0x29, 0x40, 0x00, 0x40, 0x06, 0x71, 0x7f, 0x0a, 0x09, 0x00, 0x01,
    0x0a, 0x09, 0x00, 0x02, 0x8c, 0x10, 0x12, 0x67, 0xa7, 0x80, 0x4c, 0x3e, 0xd8, 0x14, 0x91,
    0xc4, 0x80, 0x18, 0x00, 0x3f, 0xd4, 0xf1, 0x00, 0x00, 0x01, 0x01, 0x08, 0x0a, 0x0c, 0xcd,
    0x14, 0xac, 0x4b, 0xbe, 0x6f, 0xe6, 0x63, 0x68, 0x69, 0x6d, 0x6e, 0x65, 0x79};

/* [fd09::1]:45616 -> [fd09::2]:4711, the same */
static const uint8_t kernel6[] = {
    0xf6, 0xe9, 0xf0, 0x32, 0xc1, 0xf8, 0xa2, 0xd9, 0xa7, 0xf1, 0x71, 0xb9, 0x86, 0xdd, 0x60, 0x08,
    0x13, 0xf8, 0x00, 0x27, 0x06, 0x40, 0xfd, 0x09, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0xfd, 0x09, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0xb2, 0x30, 0x12, 0x67, 0xcb, 0x9d, 0xd3, 0x72, 0x26, 0x16,
    0xd0, 0x22, 0x80, 0x18, 0x00, 0x40, 0xd0, 0x82, 0x00, 0x00, 0x01, 0x01, 0x08, 0x0a, 0x35, 0x01,
    0x43, 0xe6, 0x97, 0x53, 0x8d, 0x7d, 0x63, 0x68, 0x69, 0x6d, 0x6e, 0x65, 0x79};

/* A SYN ACK with MSS, SACK permitted, timestamps and window scale. */
static const uint8_t kernel_syn[] = {
    0xa2, 0xd9, 0xa7, 0xf1, 0x71, 0xb9, 0xf6, 0xe9, 0xf0, 0x32, 0xc1, 0xf8, 0x08, 0x00, 0x45,
    0x00, 0x00, 0x3c, 0x00, 0x00, 0x40, 0x00, 0x40, 0x06, 0x26, 0xa8, 0x0a, 0x09, 0x00, 0x02,
    0x0a, 0x09, 0x00, 0x01, 0x12, 0x67, 0x8c, 0x10, 0xd8, 0x14, 0x91, 0xc3, 0xa7, 0x80, 0x4c,
    0x3e, 0xa0, 0x12, 0xfe, 0x88, 0x5c, 0x23, 0x00, 0x00, 0x02, 0x04, 0x05, 0xb4, 0x04, 0x02,
    0x08, 0x0a, 0x4b, 0xbe, 0x6f, 0xe6, 0x0c, 0xcd, 0x14, 0xac, 0x01, 0x03, 0x03, 0x0a};

/* ---- the builder of this file ------------------------------------------------------------ */

#define ROOM 70000

struct spec {
    int family;            /* 4 or 6 */
    int tag;               /* TCI, or -1 */
    unsigned proto;        /* 0 means TCP */
    const uint8_t *ip_opt; /* IPv4 options, or one IPv6 extension header, its first byte is next */
    unsigned ip_opt_len;
    unsigned fragment; /* the IPv4 fragment field */
    const uint8_t *tcp_opt;
    unsigned tcp_opt_len; /* a multiple of 4 */
    unsigned flags;
    unsigned payload;
    int doff;    /* data offset instead of the right one, or 0 */
    int ip_len;  /* IPv4 total or IPv6 payload length added to the right one */
    int trailer; /* bytes behind the packet; negative: cut off */
    unsigned tos;
};

static uint8_t frame[ROOM], other[ROOM];

static unsigned naive_sum(const uint8_t *p, size_t len, unsigned sum)
{
    for (size_t i = 0; i < len; i++) {
        sum += i % 2 ? p[i] : (unsigned)p[i] << 8;
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    return sum;
}

static void be16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void be32(uint8_t *p, uint32_t v)
{
    be16(p, v >> 16);
    be16(p + 2, v & 0xFFFF);
}

static unsigned payload_byte(unsigned i)
{
    return (i * 7 + 3) & 0xFF;
}

/** Recomputes the IPv4 header checksum at @ip. */
static void seal_ipv4(uint8_t *ip)
{
    be16(ip + 10, 0);
    be16(ip + 10, ~naive_sum(ip, (size_t)(ip[0] & 15) * 4, 0));
}

static void seal_tcp(const struct spec *s, const uint8_t *ip, uint8_t *tcp, unsigned tcp_len)
{
    unsigned sum = tcp_len + 6;

    sum = s->family == 4 ? naive_sum(ip + 12, 8, sum) : naive_sum(ip + 8, 32, sum);
    be16(tcp + 16, 0);
    be16(tcp + 16, ~naive_sum(tcp, tcp_len, sum));
}

/** Writes the frame that @s describes to frame[]; returns its length. */
static size_t make(const struct spec *s)
{
    const unsigned header = 20 + s->tcp_opt_len, tcp_len = header + s->payload;
    uint8_t *p = frame, *ip;

    memset(frame, 0, sizeof(frame));
    memcpy(p, "\x02\x00\x00\x00\x00\x0b\x02\x00\x00\x00\x00\x0a", 12);
    p += 12;
    if (s->tag >= 0) {
        be16(p, 0x8100);
        be16(p + 2, (unsigned)s->tag);
        p += 4;
    }
    be16(p, s->family == 4 ? 0x0800 : 0x86DD);
    p += 2;
    ip = p;
    if (s->family == 4) {
        const unsigned ihl = 20 + s->ip_opt_len;

        ip[0] = (uint8_t)(0x40 | ihl / 4);
        ip[1] = (uint8_t)s->tos;
        be16(ip + 2, ihl + tcp_len + (unsigned)s->ip_len);
        be16(ip + 4, 0x8123);
        be16(ip + 6, s->fragment);
        ip[8] = 63;
        ip[9] = (uint8_t)(s->proto ? s->proto : 6);
        memcpy(ip + 12, "\x0a\x00\x00\x01\x0a\x00\x00\x02", 8);
        if (s->ip_opt_len)
            memcpy(ip + 20, s->ip_opt, s->ip_opt_len);
        seal_ipv4(ip);
        p += ihl;
    } else {
        be32(ip, 6u << 28 | s->tos << 20 | 0x12345);
        be16(ip + 4, s->ip_opt_len + tcp_len + (unsigned)s->ip_len);
        ip[6] = (uint8_t)(s->proto ? s->proto : 6);
        ip[7] = 63;
        memcpy(ip + 8, "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", 16);
        memcpy(ip + 24, "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02", 16);
        if (s->ip_opt_len)
            memcpy(ip + 40, s->ip_opt, s->ip_opt_len);
        p += 40 + s->ip_opt_len;
    }
    be16(p, 4711);
    be16(p + 2, 80);
    be32(p + 4, 0xFFFFFFF0);
    be32(p + 8, 0x01020304);
    p[12] = (uint8_t)((s->doff ? (unsigned)s->doff : header / 4) << 4);
    p[13] = (uint8_t)(s->flags ? s->flags : TCP_ACK);
    be16(p + 14, 0x8001);
    if (s->tcp_opt_len)
        memcpy(p + 20, s->tcp_opt, s->tcp_opt_len);
    for (unsigned i = 0; i < s->payload; i++)
        p[header + i] = (uint8_t)payload_byte(i);
    seal_tcp(s, ip, p, tcp_len);
    return (size_t)(p - frame) + tcp_len + (size_t)s->trailer;
}

/** Parses a copy whose end is the end of an allocation, so that a byte too many is an ASan error.
 */
static enum wire_status parse_exact(const uint8_t *data, size_t len, bool trusted,
                                    struct wire_packet *out)
{
    uint8_t *exact = malloc(len ? len : 1);
    enum wire_status status;

    assert_non_null(exact);
    memcpy(exact, data, len);
    status = wire_parse(exact, len, trusted, out);
    free(exact);
    return status;
}

static enum wire_status parse_spec(const struct spec *s, struct wire_packet *out)
{
    return parse_exact(frame, make(s), false, out);
}

/* ---- parse ------------------------------------------------------------------------------- */

static void test_kernel_ipv4(void **state)
{
    struct wire_packet pkt;
    char text[FLOW_KEY_TEXT];

    assert_int_equal(wire_parse(kernel4, sizeof(kernel4), false, &pkt), WIRE_OK);
    assert_string_equal(flow_key_text(&pkt.key, text), "10.9.0.2:4711-10.9.0.1:35856");
    assert_int_equal(pkt.seg.seq, 0xa7804c3e);
    assert_int_equal(pkt.seg.ack, 0xd81491c4);
    assert_int_equal(pkt.seg.window, 63);
    assert_int_equal(pkt.seg.flags, TCP_PSH | TCP_ACK);
    assert_true(pkt.seg.has_timestamp);
    assert_int_equal(pkt.seg.tsval, 214766764);
    assert_int_equal(pkt.seg.tsecr, 1270771686);
    assert_int_equal(pkt.seg.sack_count, 0);
    assert_int_equal(pkt.seg.len, 7);
    assert_memory_equal(pkt.seg.payload, "chimney", 7);
    assert_int_equal(pkt.seg.gso_size, 0);
    assert_memory_equal(pkt.dst_mac, kernel4, 6);
    assert_memory_equal(pkt.src_mac, kernel4 + 6, 6);
    assert_false(pkt.tagged);
    assert_int_equal(pkt.ttl, 64);
    assert_int_equal(pkt.ip_offset, 14);
    assert_int_equal(pkt.tcp_offset, 34);
    assert_int_equal(pkt.ip_len, 59);
}

static void test_kernel_ipv6(void **state)
{
    struct wire_packet pkt;
    char text[FLOW_KEY_TEXT];

    assert_int_equal(wire_parse(kernel6, sizeof(kernel6), false, &pkt), WIRE_OK);
    assert_string_equal(flow_key_text(&pkt.key, text), "[fd09::2]:4711-[fd09::1]:45616");
    assert_int_equal(pkt.seg.seq, 3416118130);
    assert_int_equal(pkt.seg.tsval, 889275366);
    assert_int_equal(pkt.seg.tsecr, 2538835325);
    assert_int_equal(pkt.seg.len, 7);
    assert_memory_equal(pkt.seg.payload, "chimney", 7);
    assert_int_equal(pkt.tcp_offset, 54);
    assert_int_equal(pkt.ip_len, 79);
}

static void test_kernel_syn(void **state)
{
    struct wire_packet pkt;

    assert_int_equal(wire_parse(kernel_syn, sizeof(kernel_syn), false, &pkt), WIRE_OK);
    assert_int_equal(pkt.seg.flags, TCP_SYN | TCP_ACK);
    assert_true(pkt.seg.has_timestamp);
    assert_int_equal(pkt.seg.tsval, 0x4bbe6fe6);
    assert_int_equal(pkt.seg.len, 0);
}

/* rows: C325 C326 C394 C428 C451 */
static void test_truth_table(void **state)
{
    static const uint8_t router_alert[] = {0x94, 4, 0, 0};
    static const uint8_t nops[40] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                     1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    static const uint8_t dest_opt[] = {6, 0, 1, 4, 0, 0, 0, 0};
    static const struct {
        const char *what;
        struct spec spec;
        enum wire_status want;
    } rows[] = {
        /* the plain ones */
        {"v4", {.family = 4, .tag = -1, .payload = 100}, WIRE_OK},
        {"v6", {.family = 6, .tag = -1, .payload = 100}, WIRE_OK},
        {"v4 no payload", {.family = 4, .tag = -1}, WIRE_OK},
        {"v6 no payload", {.family = 6, .tag = -1}, WIRE_OK},
        {"v4 odd payload", {.family = 4, .tag = -1, .payload = 1}, WIRE_OK},
        {"v4 vlan 100", {.family = 4, .tag = 100, .payload = 9}, WIRE_OK},
        {"v6 vlan 4095 priority 7", {.family = 6, .tag = 0xFFFF, .payload = 9}, WIRE_OK},
        {"v4 priority tag", {.family = 4, .tag = 0x2000, .payload = 9}, WIRE_OK},
        {"v4 Ethernet padding", {.family = 4, .tag = -1, .trailer = 6}, WIRE_OK},
        {"v6 Ethernet padding", {.family = 6, .tag = -1, .trailer = 6}, WIRE_OK},
        {"v4 largest", {.family = 4, .tag = -1, .payload = 65495}, WIRE_OK},
        {"v6 largest", {.family = 6, .tag = -1, .payload = 65515}, WIRE_OK},
        {"v4 DF", {.family = 4, .tag = -1, .fragment = 0x4000}, WIRE_OK},
        /* not ours */
        {"v4 UDP", {.family = 4, .tag = -1, .proto = 17}, WIRE_NOT_TCP},
        {"v6 UDP", {.family = 6, .tag = -1, .proto = 17}, WIRE_NOT_TCP},
        {"v6 ICMP", {.family = 6, .tag = -1, .proto = 58}, WIRE_NOT_TCP},
        {"v6 no next header", {.family = 6, .tag = -1, .proto = 59}, WIRE_NOT_TCP},
        /* IP options and extension headers */
        {"v4 router alert",
         {.family = 4, .tag = -1, .ip_opt = router_alert, .ip_opt_len = 4, .payload = 5},
         WIRE_OPTIONS},
        {"v4 40 bytes of options",
         {.family = 4, .tag = -1, .ip_opt = nops, .ip_opt_len = 40, .payload = 5},
         WIRE_OPTIONS},
        {"v6 hop by hop",
         {.family = 6, .tag = -1, .ip_opt = dest_opt, .ip_opt_len = 8, .proto = 256},
         WIRE_OPTIONS},
        {"v6 routing",
         {.family = 6, .tag = -1, .ip_opt = dest_opt, .ip_opt_len = 8, .proto = 43},
         WIRE_OPTIONS},
        {"v6 ESP", {.family = 6, .tag = -1, .proto = 50}, WIRE_OPTIONS},
        {"v6 AH", {.family = 6, .tag = -1, .proto = 51}, WIRE_OPTIONS},
        {"v6 destination options",
         {.family = 6, .tag = -1, .ip_opt = dest_opt, .ip_opt_len = 8, .proto = 60},
         WIRE_OPTIONS},
        /* fragments: first, middle, last, and with DF against all sense */
        {"v4 first", {.family = 4, .tag = -1, .fragment = 0x2000}, WIRE_FRAGMENT},
        {"v4 middle", {.family = 4, .tag = -1, .fragment = 0x2001}, WIRE_FRAGMENT},
        {"v4 last", {.family = 4, .tag = -1, .fragment = 0x1FFF}, WIRE_FRAGMENT},
        {"v4 DF and MF", {.family = 4, .tag = -1, .fragment = 0x6000}, WIRE_FRAGMENT},
        {"v4 of UDP", {.family = 4, .tag = -1, .fragment = 1, .proto = 17}, WIRE_FRAGMENT},
        {"v6 fragment",
         {.family = 6, .tag = -1, .ip_opt = dest_opt, .ip_opt_len = 8, .proto = 44},
         WIRE_FRAGMENT},
        /* shorter than it says */
        {"v4 cut by 1", {.family = 4, .tag = -1, .payload = 10, .trailer = -1}, WIRE_TRUNCATED},
        {"v6 cut by 1", {.family = 6, .tag = -1, .payload = 10, .trailer = -1}, WIRE_TRUNCATED},
        {"v4 says 1 more", {.family = 4, .tag = -1, .ip_len = 1}, WIRE_TRUNCATED},
        {"v6 says 1 more", {.family = 6, .tag = -1, .ip_len = 1}, WIRE_TRUNCATED},
        {"v4 cut in TCP", {.family = 4, .tag = 5, .trailer = -19}, WIRE_TRUNCATED},
        /* IP header errors */
        {"v4 cut in IP", {.family = 4, .tag = -1, .trailer = -21}, WIRE_BAD_IP},
        {"v6 cut in IP", {.family = 6, .tag = -1, .trailer = -21}, WIRE_BAD_IP},
        {"v4 options cut",
         {.family = 4, .tag = -1, .ip_opt = nops, .ip_opt_len = 40, .trailer = -21},
         WIRE_BAD_IP},
        {"v4 total < header", {.family = 4, .tag = -1, .ip_len = -21}, WIRE_BAD_IP},
        {"v4 total 0", {.family = 4, .tag = -1, .ip_len = -40}, WIRE_BAD_IP},
        /* TCP header errors */
        {"v4 no room for TCP", {.family = 4, .tag = -1, .ip_len = -1}, WIRE_BAD_TCP},
        {"v4 no TCP at all", {.family = 4, .tag = -1, .ip_len = -20}, WIRE_BAD_TCP},
        {"v6 no room for TCP", {.family = 6, .tag = -1, .ip_len = -1}, WIRE_BAD_TCP},
        {"v6 payload length 0", {.family = 6, .tag = -1, .ip_len = -20}, WIRE_BAD_TCP},
        {"offset 4", {.family = 4, .tag = -1, .payload = 40, .doff = 4}, WIRE_BAD_TCP},
        {"offset past end", {.family = 4, .tag = -1, .payload = 3, .doff = 6}, WIRE_BAD_TCP},
        {"offset 15 past end", {.family = 6, .tag = -1, .payload = 39, .doff = 15}, WIRE_BAD_TCP},
    };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct wire_packet pkt;
        struct spec spec = rows[i].spec;
        enum wire_status got;

        if (spec.proto == 256) { /* hop-by-hop is number 0, which means "TCP" in a spec */
            size_t len = make(&spec);

            frame[14 + 6] = 0;
            got = parse_exact(frame, len, false, &pkt);
        } else {
            got = parse_spec(&spec, &pkt);
        }
        if (got != rows[i].want)
            fail_msg("%s: status %d, not %d", rows[i].what, got, rows[i].want);
        if (got != WIRE_OK)
            continue;
        assert_int_equal(pkt.key.family, spec.family);
        assert_int_equal(pkt.seg.len, spec.payload);
        assert_int_equal(pkt.tagged, spec.tag >= 0);
        if (spec.tag >= 0)
            assert_int_equal(pkt.tci, spec.tag);
        assert_int_equal(pkt.seg.seq, 0xFFFFFFF0);
        assert_int_equal(pkt.seg.ack, 0x01020304);
        assert_int_equal(pkt.seg.window, 0x8001);
    }
}

static void test_not_ip(void **state)
{
    static const uint16_t types[] = {0x0806, 0x88A8, 0x8809, 0x86DC, 0x0600, 0x05DC, 0};
    struct wire_packet pkt;

    for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        make(&(struct spec){.family = 4, .tag = -1});
        be16(frame + 12, types[i]);
        assert_int_equal(parse_exact(frame, 60, false, &pkt), WIRE_NOT_TCP);
    }
    /* Two tags are not the target's business. */
    make(&(struct spec){.family = 4, .tag = 0x8100});
    be16(frame + 16, 0x8100);
    assert_int_equal(parse_exact(frame, 60, false, &pkt), WIRE_NOT_TCP);
    /* Too short for Ethernet, or for the tag. */
    for (size_t len = 0; len < 14; len++)
        assert_int_equal(parse_exact(kernel4, len, false, &pkt), WIRE_NOT_TCP);
    make(&(struct spec){.family = 4, .tag = 1});
    for (size_t len = 14; len < 18; len++)
        assert_int_equal(parse_exact(frame, len, false, &pkt), WIRE_NOT_TCP);
}

/** Every prefix of a good frame has a status, and none is OK. */
static void test_every_prefix(void **state)
{
    struct wire_packet pkt;

    for (size_t len = 0; len < sizeof(kernel4); len++)
        assert_int_not_equal(parse_exact(kernel4, len, false, &pkt), WIRE_OK);
    for (size_t len = 0; len < sizeof(kernel6); len++)
        assert_int_not_equal(parse_exact(kernel6, len, true, &pkt), WIRE_OK);
}

static void test_version_against_type(void **state)
{
    struct wire_packet pkt;
    size_t len = make(&(struct spec){.family = 4, .tag = -1});

    for (unsigned version = 0; version < 16; version++) {
        frame[14] = (uint8_t)(version << 4 | 5);
        seal_ipv4(frame + 14);
        assert_int_equal(parse_exact(frame, len, false, &pkt),
                         version == 4 ? WIRE_OK : WIRE_BAD_IP);
    }
    for (unsigned ihl = 0; ihl < 5; ihl++) {
        frame[14] = (uint8_t)(0x40 | ihl);
        seal_ipv4(frame + 14);
        assert_int_equal(parse_exact(frame, len, false, &pkt), WIRE_BAD_IP);
    }
    len = make(&(struct spec){.family = 6, .tag = -1});
    frame[14] = 0x45;
    assert_int_equal(parse_exact(frame, len, false, &pkt), WIRE_BAD_IP);
}

/** Any one bit wrong is found, unless the checksum is trusted; the IPv4 header's is never. */
/* rows: C394 */
static void test_one_bit_flipped(void **state)
{
    struct wire_packet pkt;

    for (unsigned bit = 14 * 8; bit < sizeof(kernel4) * 8; bit++) {
        memcpy(frame, kernel4, sizeof(kernel4));
        frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(wire_parse(frame, sizeof(kernel4), false, &pkt), WIRE_OK);
        if (bit < 34 * 8)
            assert_int_equal(wire_parse(frame, sizeof(kernel4), true, &pkt), WIRE_BAD_IP);
        else if (bit >= 66 * 8)
            assert_int_equal(wire_parse(frame, sizeof(kernel4), true, &pkt), WIRE_OK);
    }
}

static void test_trusted_checksum(void **state)
{
    struct wire_packet pkt;
    size_t len = make(&(struct spec){.family = 6, .tag = -1, .payload = 33});

    frame[14 + 40 + 16] ^= 0x55;
    assert_int_equal(parse_exact(frame, len, false, &pkt), WIRE_BAD_TCP);
    assert_int_equal(parse_exact(frame, len, true, &pkt), WIRE_OK);
}

static void test_ecn(void **state)
{
    for (int family = 4; family <= 6; family += 2) {
        for (unsigned tos = 0; tos < 256; tos++) {
            struct wire_packet pkt;

            assert_int_equal(
                parse_spec(&(struct spec){.family = family, .tag = -1, .tos = tos}, &pkt), WIRE_OK);
            assert_int_equal(pkt.tos, tos);
            assert_int_equal(pkt.seg.ecn, tos & 3);
            assert_int_equal(pkt.ttl, 63);
        }
    }
}

struct option_row {
    const char *what;
    uint8_t bytes[40];
    unsigned len;
    enum wire_status want;
    int timestamp; /* expected */
    unsigned sacks;
};

static void test_tcp_options(void **state)
{
    static const struct option_row rows[] = {
        {"none", {0}, 0, WIRE_OK, 0, 0},
        {"end", {0, 0xFF, 0xFF, 0xFF}, 4, WIRE_OK, 0, 0},
        {"nops", {1, 1, 1, 1}, 4, WIRE_OK, 0, 0},
        {"nops then end", {1, 1, 0, 9}, 4, WIRE_OK, 0, 0},
        {"timestamp, usual", {1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}, 12, WIRE_OK, 1, 0},
        {"timestamp first", {8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1}, 12, WIRE_OK, 1, 0},
        {"timestamp odd", {1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 0}, 12, WIRE_OK, 1, 0},
        {"timestamp length 9", {8, 9, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1}, 12, WIRE_BAD_TCP, 0, 0},
        {"timestamp length 11", {8, 11, 0, 0, 0, 1, 0, 0, 0, 2, 0, 1}, 12, WIRE_BAD_TCP, 0, 0},
        {"timestamp cut", {1, 1, 1, 8, 10, 0, 0, 0}, 8, WIRE_BAD_TCP, 0, 0},
        {"timestamp after end", {0, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}, 12, WIRE_OK, 0, 0},
        {"kind without length", {1, 1, 1, 8}, 4, WIRE_BAD_TCP, 0, 0},
        {"length 0", {8, 0, 0, 0}, 4, WIRE_BAD_TCP, 0, 0},
        {"length 1", {99, 1, 0, 0}, 4, WIRE_BAD_TCP, 0, 0},
        {"unknown", {99, 4, 1, 2}, 4, WIRE_OK, 0, 0},
        {"unknown, empty", {99, 2, 1, 1}, 4, WIRE_OK, 0, 0},
        {"unknown, too long", {99, 5, 1, 2}, 4, WIRE_BAD_TCP, 0, 0},
        {"unknown, 255", {99, 255, 1, 2}, 4, WIRE_BAD_TCP, 0, 0},
        {"mss", {2, 4, 5, 0xb4}, 4, WIRE_OK, 0, 0},
        {"window scale", {3, 3, 7, 0}, 4, WIRE_OK, 0, 0},
        {"sack permitted", {4, 2, 1, 1}, 4, WIRE_OK, 0, 0},
        {"md5",
         {19, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1, 1},
         20,
         WIRE_OK,
         0,
         0},
        {"sack 1", {1, 1, 5, 10, 0, 0, 1, 0, 0, 0, 2, 0}, 12, WIRE_OK, 0, 1},
        {"sack 2",
         {1, 1, 5, 18, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 1, 0, 0, 2, 1},
         20,
         WIRE_OK,
         0,
         2},
        {"sack 3 and timestamp",
         {1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 5, 26, 0, 0, 1, 0,
          0, 0, 2, 0,  0, 0, 1, 1, 0, 0, 2, 1, 0, 0, 1, 2,  0, 0, 2, 2},
         40,
         WIRE_OK,
         1,
         3},
        {"sack 4",
         {1, 1, 5, 34, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 1, 0, 0,
          2, 1, 0, 0,  1, 2, 0, 0, 2, 2, 0, 0, 1, 3, 0, 0, 2, 3},
         36,
         WIRE_OK,
         0,
         4},
        {"two sack options",
         {5, 10, 0, 0, 1, 0, 0, 0, 2, 0, 5, 10, 0, 0, 1, 1, 0, 0, 2, 1},
         20,
         WIRE_OK,
         0,
         2},
        {"sack without a block", {1, 1, 5, 2}, 4, WIRE_BAD_TCP, 0, 0},
        {"sack with half a block", {1, 1, 5, 6, 0, 0, 1, 0}, 8, WIRE_BAD_TCP, 0, 0},
        {"sack length 9", {1, 1, 5, 9, 0, 0, 1, 0, 0, 0, 2, 0}, 12, WIRE_BAD_TCP, 0, 0},
        {"sack length 11", {1, 5, 11, 0, 0, 1, 0, 0, 0, 2, 0, 0}, 12, WIRE_BAD_TCP, 0, 0},
        {"sack cut", {1, 1, 5, 18, 0, 0, 1, 0, 0, 0, 2, 0}, 12, WIRE_BAD_TCP, 0, 0},
    };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct option_row *row = &rows[i];
        struct wire_packet pkt;
        enum wire_status got;

        got = parse_spec(&(struct spec){.family = 4,
                                        .tag = -1,
                                        .tcp_opt = row->bytes,
                                        .tcp_opt_len = row->len,
                                        .payload = 11},
                         &pkt);
        if (got != row->want)
            fail_msg("%s: status %d, not %d", row->what, got, row->want);
        if (got != WIRE_OK)
            continue;
        assert_int_equal(pkt.seg.len, 11);
        if (pkt.seg.has_timestamp != row->timestamp || pkt.seg.sack_count != row->sacks)
            fail_msg("%s: %d %u", row->what, pkt.seg.has_timestamp, pkt.seg.sack_count);
        if (row->timestamp) {
            assert_int_equal(pkt.seg.tsval, 1);
            assert_int_equal(pkt.seg.tsecr, 2);
        }
        for (unsigned n = 0; n < row->sacks; n++) {
            assert_int_equal(pkt.seg.sack[n].left, 0x100 + n);
            assert_int_equal(pkt.seg.sack[n].right, 0x200 + n);
        }
    }
}

/** Every data offset over a segment of NOPs: only the offset can be wrong. */
static void test_every_data_offset(void **state)
{
    for (unsigned room = 0; room <= 40; room++) {
        for (int doff = 1; doff < 16; doff++) {
            struct spec spec = {.family = 4, .tag = -1, .payload = room, .doff = doff};
            const bool good = doff >= 5 && (unsigned)doff * 4 <= 20 + room;
            struct wire_packet pkt;
            size_t len = make(&spec);

            memset(frame + 54, 1, room);
            seal_tcp(&spec, frame + 14, frame + 34, 20 + room);
            assert_int_equal(parse_exact(frame, len, false, &pkt), good ? WIRE_OK : WIRE_BAD_TCP);
            if (good)
                assert_int_equal(pkt.seg.len, 20 + room - (unsigned)doff * 4);
        }
    }
}

static void test_all_flags(void **state)
{
    for (unsigned flags = 1; flags < 256; flags++) {
        struct wire_packet pkt;

        assert_int_equal(parse_spec(&(struct spec){.family = 4, .tag = -1, .flags = flags}, &pkt),
                         WIRE_OK);
        assert_int_equal(pkt.seg.flags, flags);
    }
}

/* ---- build ------------------------------------------------------------------------------- */

/** The kernel's own frames, byte for byte. */
static void test_build_equals_kernel(void **state)
{
    const uint8_t *const want[2] = {kernel4, kernel6};
    const size_t len[2] = {sizeof(kernel4), sizeof(kernel6)};

    for (int i = 0; i < 2; i++) {
        struct wire_packet pkt;
        struct wire_route route = {.ttl = 64, .tos = 0, .flow_label = 0x813f8, .ip_id = 0xb529};
        struct tcp_out seg = {0};

        assert_int_equal(wire_parse(want[i], len[i], false, &pkt), WIRE_OK);
        memcpy(route.key.local_addr, pkt.key.remote_addr, 16);
        memcpy(route.key.remote_addr, pkt.key.local_addr, 16);
        route.key.local_port = pkt.key.remote_port;
        route.key.remote_port = pkt.key.local_port;
        route.key.family = pkt.key.family;
        memcpy(route.src_mac, pkt.src_mac, 6);
        memcpy(route.dst_mac, pkt.dst_mac, 6);
        seg.seq = pkt.seg.seq;
        seg.ack = pkt.seg.ack;
        seg.window = pkt.seg.window;
        seg.flags = pkt.seg.flags;
        seg.has_timestamp = true;
        seg.tsval = pkt.seg.tsval;
        seg.tsecr = pkt.seg.tsecr;
        seg.span[0] = pkt.seg.payload;
        seg.span_len[0] = seg.len = pkt.seg.len;
        assert_int_equal(wire_build(frame, sizeof(frame), &route, &seg, false), len[i]);
        assert_memory_equal(frame, want[i], len[i]);
    }
}

static struct wire_route route_of(int family, int tag)
{
    struct wire_route route = {
        .key = {.local_port = 0x1234, .remote_port = 0x5678, .family = (uint16_t)family},
        .src_mac = {2, 0, 0, 0, 0, 1},
        .dst_mac = {2, 0, 0, 0, 0, 2},
        .tagged = tag >= 0,
        .tci = (uint16_t)tag,
        .ttl = 64,
        .tos = 0xB8 | 3,
        .flow_label = 0xFFFABCDE,
        .ip_id = 0x8001,
    };

    for (int i = 0; i < (family == 4 ? 4 : 16); i++) {
        route.key.local_addr[i] = (uint8_t)(0xA0 + i);
        route.key.remote_addr[i] = (uint8_t)(0x50 + i);
    }
    return route;
}

/** Builds, parses and compares; @cut is where the payload wraps. */
static void round_trip(int family, int tag, bool timestamp, unsigned sacks, unsigned len,
                       unsigned cut)
{
    static uint8_t ring[ROOM];
    struct wire_route route = route_of(family, tag);
    struct tcp_out seg = {.seq = 0x11223344,
                          .ack = 0x55667788,
                          .window = 0x99AA,
                          .flags = TCP_ACK | TCP_PSH,
                          .ecn = TCP_ECN_ECT0,
                          .has_timestamp = timestamp,
                          .sack_count = (uint8_t)sacks,
                          .tsval = 0xDEADBEEF,
                          .tsecr = 0xFEEDF00D,
                          .len = len};
    const unsigned fits = timestamp && sacks > 3 ? 3 : sacks;
    struct wire_packet pkt;
    size_t got;

    for (unsigned i = 0; i < sacks; i++)
        seg.sack[i] = (struct tcp_sack_range){1000 * i, 1000 * i + 1};
    for (unsigned i = 0; i < len; i++)
        ring[i] = (uint8_t)payload_byte(i);
    /* The first span at the end of the ring, the second at its start, far apart. */
    memmove(other + 1, ring, cut);
    seg.span[0] = other + 1;
    seg.span_len[0] = cut;
    seg.span[1] = ring + cut;
    seg.span_len[1] = len - cut;

    memset(frame, 0xA5, sizeof(frame));
    got = wire_build(frame, sizeof(frame), &route, &seg, false);
    assert_int_equal(got, 14u + (tag >= 0 ? 4u : 0u) + (family == 4 ? 20u : 40u) + 20u +
                              wire_option_bytes(timestamp, sacks) + len);
    assert_int_equal(frame[got], 0xA5);
    assert_int_equal(parse_exact(frame, got, false, &pkt), WIRE_OK);
    assert_int_equal(wire_parse(frame, got, false, &pkt), WIRE_OK);
    /* What is local there is remote here. */
    assert_memory_equal(pkt.key.local_addr, route.key.remote_addr, 16);
    assert_memory_equal(pkt.key.remote_addr, route.key.local_addr, 16);
    assert_int_equal(pkt.key.local_port, route.key.remote_port);
    assert_int_equal(pkt.key.remote_port, route.key.local_port);
    assert_int_equal(pkt.key.family, family);
    assert_memory_equal(pkt.src_mac, route.src_mac, 6);
    assert_memory_equal(pkt.dst_mac, route.dst_mac, 6);
    assert_int_equal(pkt.tagged, tag >= 0);
    assert_int_equal(pkt.tci, tag >= 0 ? tag : 0);
    assert_int_equal(pkt.ttl, 64);
    assert_int_equal(pkt.tos, 0xB8 | TCP_ECN_ECT0);
    assert_int_equal(pkt.seg.seq, seg.seq);
    assert_int_equal(pkt.seg.ack, seg.ack);
    assert_int_equal(pkt.seg.window, seg.window);
    assert_int_equal(pkt.seg.flags, seg.flags);
    assert_int_equal(pkt.seg.ecn, TCP_ECN_ECT0);
    assert_int_equal(pkt.seg.has_timestamp, timestamp);
    if (timestamp) {
        assert_int_equal(pkt.seg.tsval, seg.tsval);
        assert_int_equal(pkt.seg.tsecr, seg.tsecr);
    }
    assert_int_equal(pkt.seg.sack_count, fits);
    assert_memory_equal(pkt.seg.sack, seg.sack, fits * sizeof(seg.sack[0]));
    assert_int_equal(pkt.seg.len, len);
    assert_memory_equal(pkt.seg.payload, ring, len);
    if (family == 4) {
        const uint8_t *ip = frame + pkt.ip_offset;

        assert_int_equal(ip[6] << 8 | ip[7], 0x4000);
        assert_int_equal(ip[4] << 8 | ip[5], 0x8001);
    } else {
        assert_int_equal((frame[pkt.ip_offset + 1] & 15) << 16 | frame[pkt.ip_offset + 2] << 8 |
                             frame[pkt.ip_offset + 3],
                         0xABCDE);
    }
}

/* rows: C35 C41 C253 C453 */
static void test_round_trip(void **state)
{
    static const unsigned lens[] = {0, 1, 2, 3, 536, 1447, 1448, 1460, 8948};
    static const int tags[] = {-1, 0, 100, 0xA000};

    for (int family = 4; family <= 6; family += 2) {
        for (unsigned t = 0; t < 4; t++) {
            for (unsigned o = 0; o < 10; o++) {
                for (unsigned l = 0; l < sizeof(lens) / sizeof(lens[0]); l++)
                    round_trip(family, tags[t], o >= 5, o % 5, lens[l], lens[l] / 3);
            }
        }
    }
}

static void test_wrap_at_every_byte(void **state)
{
    for (unsigned len = 0; len <= 200; len += 67) {
        for (unsigned cut = 0; cut <= len; cut++)
            round_trip(4 + 2 * (cut & 1), -1, true, cut % 4, len, cut);
    }
    for (unsigned cut = 1400; cut <= 1448; cut++)
        round_trip(4, -1, true, 0, 1448, cut);
}

/* rows: C43 */
static void test_option_bytes(void **state)
{
    static const unsigned plain[] = {0, 12, 20, 28, 36, 36}, stamped[] = {12, 24, 32, 40, 40, 40};

    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(wire_option_bytes(false, i), plain[i]);
        assert_int_equal(wire_option_bytes(true, i), stamped[i]);
    }
}

/** Super-segments carry the length of the whole; the largest of each family fits, one more not. */
static void test_super_segments_and_room(void **state)
{
    for (int family = 4; family <= 6; family += 2) {
        const unsigned most = 65535u - (family == 4 ? 20u : 0u) - 32u;
        struct wire_route route = route_of(family, -1);
        struct tcp_out seg = {.flags = TCP_ACK, .has_timestamp = true, .gso_size = 1448};
        struct wire_packet pkt;
        size_t len;

        memset(other, 7, sizeof(other));
        seg.span[0] = other;
        seg.span_len[0] = seg.len = most;
        len = wire_build(frame, sizeof(frame), &route, &seg, false);
        assert_int_equal(len, 14 + 65535 + (family == 4 ? 0 : 40));
        assert_int_equal(wire_parse(frame, len, false, &pkt), WIRE_OK);
        assert_int_equal(pkt.seg.len, most);
        assert_int_equal(wire_build(frame, len, &route, &seg, false), len);
        assert_int_equal(wire_build(frame, len - 1, &route, &seg, false), 0);
        seg.span_len[0] = ++seg.len;
        assert_int_equal(wire_build(frame, sizeof(frame), &route, &seg, false), 0);
        seg.span_len[0] = seg.len = 0;
        for (size_t room = 0; room < WIRE_MAX_HEADER; room++) {
            len = wire_build(frame, room, &route, &seg, false);
            assert_int_equal(len != 0, room >= 14u + (family == 4 ? 20u : 40u) + 32u);
        }
    }
}

static void test_largest_header(void **state)
{
    struct wire_route route = route_of(6, 1);
    struct tcp_out seg = {.flags = TCP_ACK, .has_timestamp = true, .sack_count = 4};

    assert_int_equal(wire_build(frame, WIRE_MAX_HEADER, &route, &seg, false), WIRE_MAX_HEADER);
}

/** What a port with checksum offload does: add up from the field on, complement, store. */
static void test_checksum_offload(void **state)
{
    for (int family = 4; family <= 6; family += 2) {
        for (unsigned cut = 0; cut <= 5; cut++) {
            struct wire_route route = route_of(family, 7);
            struct tcp_out seg = {.flags = TCP_ACK, .has_timestamp = true, .len = 333};
            struct wire_packet pkt;
            size_t len, tcp;

            for (unsigned i = 0; i < 333; i++)
                other[i] = (uint8_t)payload_byte(i);
            seg.span[0] = other;
            seg.span_len[0] = cut;
            seg.span[1] = other + cut;
            seg.span_len[1] = 333 - cut;
            len = wire_build(frame, sizeof(frame), &route, &seg, true);
            tcp = 14 + 4 + (family == 4 ? 20 : 40);
            be16(frame + tcp + 16, ~naive_sum(frame + tcp, len - tcp, 0));
            assert_int_equal(wire_parse(frame, len, false, &pkt), WIRE_OK);
            assert_int_equal(pkt.seg.len, 333);
            assert_memory_equal(pkt.seg.payload, other, 333);
        }
    }
}

/* The program can write to the send stream while the target sends from it. */
static volatile bool scribble_stop;

static void *scribble(void *arg)
{
    uint8_t *p = arg;

    for (unsigned i = 0; !scribble_stop; i++)
        __atomic_store_n(&p[i * 61 % 1448], (uint8_t)i, __ATOMIC_RELAXED);
    return NULL;
}

static void test_payload_changes_underneath(void **state)
{
    static uint8_t shared[1448];
    struct wire_route route = route_of(4, -1);
    struct tcp_out seg = {.flags = TCP_ACK, .has_timestamp = true, .len = 1448};
    pthread_t thread;

    scribble_stop = false;
    assert_int_equal(pthread_create(&thread, NULL, scribble, shared), 0);
    for (unsigned i = 0; i < 20000; i++) {
        struct wire_packet pkt;
        size_t len;

        seg.span[0] = shared;
        seg.span_len[0] = i % 1449;
        seg.span[1] = shared + i % 1449;
        seg.span_len[1] = 1448 - i % 1449;
        len = wire_build(frame, sizeof(frame), &route, &seg, false);
        if (wire_parse(frame, len, false, &pkt) != WIRE_OK) {
            scribble_stop = true;
            pthread_join(thread, NULL);
            fail_msg("bad checksum in round %u", i);
        }
    }
    scribble_stop = true;
    pthread_join(thread, NULL);
}

/* ---- flow keys --------------------------------------------------------------------------- */

static void test_key_text(void **state)
{
    static const struct {
        uint8_t addr[16];
        const char *text;
    } rows[] = {
        {{0}, "[::]"},
        {{[15] = 1}, "[::1]"},
        {{0xfe, 0x80, [15] = 1}, "[fe80::1]"},
        {{0xfe, 0x80}, "[fe80::]"},
        {{0, 1, 0, 0, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7}, "[1:0:2:3:4:5:6:7]"},
        {{0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1}, "[2001:db8::1:0:0:1]"},
        {{0x20, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1}, "[2001:0:0:1::1]"},
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
          0xff},
         "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]"},
    };
    char text[FLOW_KEY_TEXT], want[2 * FLOW_KEY_TEXT];

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct flow_key key = {.local_port = 0xFFFF, .remote_port = 0xFFFF, .family = 6};

        memcpy(key.local_addr, rows[i].addr, 16);
        memcpy(key.remote_addr, rows[i].addr, 16);
        snprintf(want, sizeof(want), "%s:65535-%s:65535", rows[i].text, rows[i].text);
        assert_ptr_equal(flow_key_text(&key, text), text);
        assert_string_equal(text, want);
    }
    {
        struct flow_key key = {.local_addr = {255, 255, 255, 255}, .family = 4};

        assert_string_equal(flow_key_text(&key, text), "255.255.255.255:0-0.0.0.0:0");
    }
}

static void test_key_hash(void **state)
{
    struct flow_key a = {.local_addr = {10, 0, 0, 1}, .remote_addr = {10, 0, 0, 2}, .family = 4};
    struct flow_key b = a;
    unsigned buckets[64] = {0}, lowest = UINT32_MAX, highest = 0;

    assert_true(flow_key_equal(&a, &b));
    assert_true(flow_key_hash(&a, 1) == flow_key_hash(&b, 1));
    assert_true(flow_key_hash(&a, 1) != flow_key_hash(&a, 2));
    for (unsigned bit = 0; bit < sizeof(b) * 8; bit++) {
        b = a;
        ((uint8_t *)&b)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(flow_key_equal(&a, &b));
        assert_true(flow_key_hash(&a, 1) != flow_key_hash(&b, 1));
    }
    /* Neighbouring ports spread: 64 buckets of 1024 expected, five sigmas are 160. */
    for (unsigned port = 0; port < 65536; port++) {
        a.remote_port = (uint16_t)port;
        buckets[flow_key_hash(&a, 42) % 64]++;
    }
    for (unsigned i = 0; i < 64; i++) {
        lowest = buckets[i] < lowest ? buckets[i] : lowest;
        highest = buckets[i] > highest ? buckets[i] : highest;
    }
    assert_in_range(lowest, 864, 1024);
    assert_in_range(highest, 1024, 1184);
}

/* A frame as a kernel leaves it that counts on checksum offload: only the pseudo-header sum. */
static void partial_checksum_is_finished(void **state)
{
    static const uint8_t data[5] = {1, 2, 3, 4, 5};
    struct wire_route route = {.ttl = 64};
    struct tcp_out seg = {.seq = 1, .ack = 2, .flags = TCP_ACK, .len = sizeof(data)};
    uint8_t partial[WIRE_MAX_HEADER + sizeof(data)], full[sizeof(partial)];
    struct wire_packet packet;

    (void)state;
    seg.span[0] = data;
    seg.span_len[0] = sizeof(data);
    for (int family = 4; family <= 6; family += 2) {
        size_t n;

        memset(&route.key, 0, sizeof(route.key));
        route.key.family = (uint16_t)family;
        memset(route.key.local_addr, 0x11, family == 4 ? 4 : 16);
        memset(route.key.remote_addr, 0x22, family == 4 ? 4 : 16);
        route.key.local_port = 0x1234;
        route.key.remote_port = 0x4321;
        n = wire_build(full, sizeof(full), &route, &seg, false);
        assert_int_equal(wire_build(partial, sizeof(partial), &route, &seg, true), n);
        assert_int_equal(wire_parse(partial, n, false, &packet), WIRE_BAD_TCP);
        assert_true(wire_finish_checksum(partial, n));
        assert_memory_equal(partial, full, n);
        assert_false(wire_finish_checksum(partial, n)); /* it is whole now */
        partial[n - 1] ^= 1;
        assert_false(wire_finish_checksum(partial, n)); /* and a wrong one is not made right */
        assert_false(wire_finish_checksum(partial, 20));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(partial_checksum_is_finished),
        cmocka_unit_test(test_kernel_ipv4),
        cmocka_unit_test(test_kernel_ipv6),
        cmocka_unit_test(test_kernel_syn),
        cmocka_unit_test(test_truth_table),
        cmocka_unit_test(test_not_ip),
        cmocka_unit_test(test_every_prefix),
        cmocka_unit_test(test_version_against_type),
        cmocka_unit_test(test_one_bit_flipped),
        cmocka_unit_test(test_trusted_checksum),
        cmocka_unit_test(test_ecn),
        cmocka_unit_test(test_tcp_options),
        cmocka_unit_test(test_every_data_offset),
        cmocka_unit_test(test_all_flags),
        cmocka_unit_test(test_build_equals_kernel),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_wrap_at_every_byte),
        cmocka_unit_test(test_option_bytes),
        cmocka_unit_test(test_super_segments_and_room),
        cmocka_unit_test(test_largest_header),
        cmocka_unit_test(test_checksum_offload),
        cmocka_unit_test(test_payload_changes_underneath),
        cmocka_unit_test(test_key_text),
        cmocka_unit_test(test_key_hash),
    };

    return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
