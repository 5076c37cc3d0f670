/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of the simulated streams: pseudo-random, and determined by stream and position alone,
 * so that a byte that is lost, doubled, moved or taken from another stream never looks right.
 */
#ifndef CHIMNEY_SIM_PATTERN_H
#define CHIMNEY_SIM_PATTERN_H

#include <stddef.h>
#include <stdint.h>

/** The eight bytes at positions [8 * block, 8 * block + 8) of the stream named @key. */
static inline uint64_t pattern_block(uint64_t key, uint64_t block)
{
    uint64_t z = key + (block + 1) * 0x9E3779B97F4A7C15u;

    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/** The byte at position @at of the stream named @key. */
static inline uint8_t pattern_byte(uint64_t key, uint64_t at)
{
    return (uint8_t)(pattern_block(key, at / 8) >> (at % 8 * 8));
}

/** Writes the bytes at positions [@at, @at + @len) into @buf. */
static inline void pattern_fill(uint64_t key, uint64_t at, uint8_t *buf, size_t len)
{
    uint64_t word = pattern_block(key, at / 8);

    for (size_t i = 0; i < len; i++, at++) {
        if (at % 8 == 0)
            word = pattern_block(key, at / 8);
        buf[i] = (uint8_t)(word >> (at % 8 * 8));
    }
}

/** Compares @buf with positions [@at, @at + @len); returns the index of the first wrong byte, or
 * @len. */
static inline size_t pattern_check(uint64_t key, uint64_t at, const uint8_t *buf, size_t len)
{
    uint64_t word = pattern_block(key, at / 8);

    for (size_t i = 0; i < len; i++, at++) {
        if (at % 8 == 0)
            word = pattern_block(key, at / 8);
        if (buf[i] != (uint8_t)(word >> (at % 8 * 8)))
            return i;
    }
    return len;
}

#endif
