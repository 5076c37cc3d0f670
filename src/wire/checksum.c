/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Internet checksum (RFC 1071).
 *
 * The sum of 16-bit words modulo 2^16 - 1 does not care how many words are added at once (RFC 1071
 * section 2 (C)), nor about byte order as long as the result is stored the way the words were
 * loaded (2 (B)).  So the loops add 32-bit halves of 64-bit lanes into 64-bit accumulators, eight
 * lanes to a step: no carry can be lost before 2^32 steps, and the lanes are independent.
 */
#include <string.h>
#include "wire/wire.h"

/*
 * One clone for AVX2 machines, chosen when the program is loaded.  Sanitizers instrument the
 * resolver, which runs before their runtime is up; they get the baseline only.
 */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) &&                        \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

/** Four lanes, at any alignment, over bytes of any type. */
typedef uint64_t lanes __attribute__((vector_size(32)));
typedef uint64_t lanes_at __attribute__((vector_size(32), aligned(1), may_alias));

#define STEP (2 * sizeof(lanes))
#define LOW_HALF UINT64_C(0xFFFFFFFF)

/** Nothing loaded before may be loaded again after: the compiler keeps it in registers. */
static inline void load_once(void)
{
    __asm__ volatile("" ::: "memory");
}

/** One's-complement addition: the carry comes around. */
static inline uint64_t add64(uint64_t a, uint64_t b)
{
    a += b;
    return a + (a < b);
}

/** Reduces to at most 33 bits, so that sums of sums do not wrap. */
static inline uint64_t narrow(uint64_t sum)
{
    return (sum & LOW_HALF) + (sum >> 32);
}

/**
 * The loop behind both functions.  @dst is NULL for a sum alone (a constant after inlining).  Each
 * byte of @src is loaded once: what is added is what is stored, whatever happens to @src meanwhile.
 */
static inline __attribute__((always_inline)) uint64_t run(uint8_t *dst, const uint8_t *src,
                                                          size_t len, uint64_t sum)
{
    uint64_t word, total;
    uint32_t half;
    uint16_t pair;

    sum = narrow(sum);
    total = 0;
    if (len >= STEP) {
        lanes low = {0}, high = {0};

        do {
            lanes a = *(const lanes_at *)src;
            lanes b = *(const lanes_at *)(src + sizeof(lanes));

            if (dst) {
                load_once();
                *(lanes_at *)dst = a;
                *(lanes_at *)(dst + sizeof(lanes)) = b;
                dst += STEP;
            }
            low += (a & LOW_HALF) + (b & LOW_HALF);
            high += (a >> 32) + (b >> 32);
            src += STEP;
            len -= STEP;
        } while (len >= STEP);
        low += high;
        total = add64(add64(low[0], low[1]), add64(low[2], low[3]));
    }
    while (len >= 8) {
        memcpy(&word, src, 8);
        if (dst) {
            load_once();
            memcpy(dst, &word, 8);
            dst += 8;
        }
        total = add64(total, word);
        src += 8;
        len -= 8;
    }
    if (len & 4) {
        memcpy(&half, src, 4);
        if (dst) {
            load_once();
            memcpy(dst, &half, 4);
            dst += 4;
        }
        sum += half;
        src += 4;
    }
    if (len & 2) {
        memcpy(&pair, src, 2);
        if (dst) {
            load_once();
            memcpy(dst, &pair, 2);
            dst += 2;
        }
        sum += pair;
        src += 2;
    }
    if (len & 1) {
        /* The odd byte is the first of a pair whose second is zero. */
        uint8_t last[2] = {*src, 0};

        if (dst) {
            load_once();
            *dst = last[0];
        }
        memcpy(&pair, last, 2);
        sum += pair;
    }
    return narrow(sum) + narrow(total);
}

WIDE uint64_t wire_sum(const void *data, size_t len, uint64_t sum)
{
    return run(NULL, data, len, sum);
}

WIDE uint64_t wire_copy_sum(void *dst, const void *src, size_t len, uint64_t sum)
{
    return run(dst, src, len, sum);
}

uint16_t wire_fold(uint64_t sum)
{
    sum = narrow(sum);
    sum = (sum & 0xFFFF) + ((sum >> 16) & 0xFFFF) + (sum >> 32);
    sum = (sum & 0xFFFF) + (sum >> 16);
    sum = (sum & 0xFFFF) + (sum >> 16);
    return (uint16_t)~sum;
}
