/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flow keys: comparison, hash, text.
 */
#include <assert.h>
#include <string.h>
#include "wire/bytes.h"
#include "wire/wire.h"

bool flow_key_equal(const struct flow_key *a, const struct flow_key *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

/*
 * SipHash-1-3 (Aumasson and Bernstein; the variant Linux uses for its hash tables): a peer chooses
 * its ports, so a table must not be steerable to one bucket by whoever sends the packets.
 */
struct sip {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotate(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

static inline void sip_round(struct sip *s)
{
    s->v0 += s->v1;
    s->v2 += s->v3;
    s->v1 = rotate(s->v1, 13) ^ s->v0;
    s->v3 = rotate(s->v3, 16) ^ s->v2;
    s->v0 = rotate(s->v0, 32) + s->v3;
    s->v2 += s->v1;
    s->v1 = rotate(s->v1, 17) ^ s->v2;
    s->v3 = rotate(s->v3, 21) ^ s->v0;
    s->v2 = rotate(s->v2, 32);
}

uint64_t flow_key_hash(const struct flow_key *key, uint64_t seed)
{
    const uint64_t k0 = seed, k1 = rotate(seed, 29) * UINT64_C(0x9E3779B97F4A7C15) + 1;
    struct sip s = {.v0 = k0 ^ UINT64_C(0x736F6D6570736575),
                    .v1 = k1 ^ UINT64_C(0x646F72616E646F6D),
                    .v2 = k0 ^ UINT64_C(0x6C7967656E657261),
                    .v3 = k1 ^ UINT64_C(0x7465646279746573)};
    uint64_t word[sizeof(*key) / 8];

    _Static_assert(sizeof(word) == sizeof(*key), "the key is whole words");
    memcpy(word, key, sizeof(word));
    for (unsigned i = 0; i < sizeof(word) / sizeof(word[0]); i++) {
        s.v3 ^= word[i];
        sip_round(&s);
        s.v0 ^= word[i];
    }
    /* The last block is the length in the top byte; it is constant here, but it is the function. */
    s.v3 ^= (uint64_t)sizeof(*key) << 56;
    sip_round(&s);
    s.v0 ^= (uint64_t)sizeof(*key) << 56;
    s.v2 ^= 0xFF;
    sip_round(&s);
    sip_round(&s);
    sip_round(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

static char *put_number(char *out, unsigned value, unsigned base)
{
    char digits[8];
    unsigned n = 0;

    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    while (n)
        *out++ = digits[--n];
    return out;
}

static char *put_ipv4(char *out, const uint8_t addr[4])
{
    for (unsigned i = 0; i < 4; i++) {
        if (i)
            *out++ = '.';
        out = put_number(out, addr[i], 10);
    }
    return out;
}

/** RFC 5952: lower case, no leading zeros, the longest run of two or more zero groups as "::". */
static char *put_ipv6(char *out, const uint8_t addr[16])
{
    unsigned best = 8, best_len = 1;

    for (unsigned i = 0; i < 8; i++) {
        unsigned n = 0;

        while (i + n < 8 && get16(addr + 2 * (i + n)) == 0)
            n++;
        if (n > best_len) {
            best = i;
            best_len = n;
        }
    }
    *out++ = '[';
    for (unsigned i = 0; i < 8; i++) {
        if (i == best) {
            *out++ = ':';
            *out++ = ':';
            i += best_len - 1;
            continue;
        }
        if (i && i != best + best_len)
            *out++ = ':';
        out = put_number(out, get16(addr + 2 * i), 16);
    }
    *out++ = ']';
    return out;
}

static char *put_end(char *out, const struct flow_key *key, const uint8_t addr[16], uint16_t port)
{
    uint8_t be[2];

    memcpy(be, &port, 2);
    out = key->family == 6 ? put_ipv6(out, addr) : put_ipv4(out, addr);
    *out++ = ':';
    return put_number(out, get16(be), 10);
}

char *flow_key_text(const struct flow_key *key, char buf[FLOW_KEY_TEXT])
{
    char *out = buf;

    out = put_end(out, key, key->local_addr, key->local_port);
    *out++ = '-';
    out = put_end(out, key, key->remote_addr, key->remote_port);
    *out = '\0';
    assert(out < buf + FLOW_KEY_TEXT);
    return buf;
}
