/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checksum against a version nobody can get wrong: one byte after the other.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "wire/wire.h"

#define LONGEST 70000

static uint8_t data[LONGEST + 64], copy[LONGEST + 128];

/** RFC 1071 by the letter; the result as it is stored in memory. */
static uint16_t naive(const uint8_t *p, size_t len, uint32_t sum)
{
    uint8_t stored[2];
    uint16_t out;

    for (size_t i = 0; i < len; i++) {
        sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum = ~sum;
    stored[0] = (uint8_t)(sum >> 8);
    stored[1] = (uint8_t)sum;
    memcpy(&out, stored, 2);
    return out;
}

static void fill_random(uint32_t seed)
{
    srand(seed);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(rand() >> 7);
}

static void test_every_length_and_offset(void **state)
{
    fill_random(1);
    for (size_t offset = 0; offset < 33; offset++) {
        for (size_t len = 0; len < 400; len++) {
            const uint16_t want = naive(data + offset, len, 0);

            assert_int_equal(wire_fold(wire_sum(data + offset, len, 0)), want);
        }
    }
}

static void test_rfc1071_example(void **state)
{
    static const uint8_t words[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    static const uint8_t want[] = {0x22, 0x0d}; /* ~0xddf2 */
    const uint16_t got = wire_fold(wire_sum(words, sizeof(words), 0));

    assert_memory_equal(&got, want, 2);
}

static void test_long_ranges(void **state)
{
    static const size_t lens[] = {1448, 1460, 4095, 4096, 8948, 9000, 65483, 65535, LONGEST};

    fill_random(2);
    for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
        assert_int_equal(wire_fold(wire_sum(data + 1, lens[i], 0)), naive(data + 1, lens[i], 0));
    /* All ones: every addition carries. */
    memset(data, 0xFF, sizeof(data));
    for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
        assert_int_equal(wire_fold(wire_sum(data + 3, lens[i], 0)), naive(data + 3, lens[i], 0));
}

static void test_ranges_combine_at_even_offsets(void **state)
{
    fill_random(3);
    for (size_t cut = 0; cut <= 1000; cut += 2) {
        const uint64_t first = wire_sum(data, cut, 0);

        assert_int_equal(wire_fold(wire_sum(data + cut, 1001 - cut, first)), naive(data, 1001, 0));
    }
}

/** Any incoming sum is good, and the carries of sums of sums come around. */
static void test_incoming_sum_does_not_wrap(void **state)
{
    static const uint64_t sums[] = {0xFFFF, 0xFFFFFFFF, UINT64_MAX, UINT64_MAX - 1,
                                    UINT64_C(1) << 63};

    fill_random(4);
    for (unsigned i = 0; i < sizeof(sums) / sizeof(sums[0]); i++) {
        /* The same number as four words of memory in front of the data. */
        uint8_t joined[8 + 100];

        memcpy(joined, &sums[i], 8);
        memcpy(joined + 8, data, 100);
        assert_int_equal(wire_fold(wire_sum(data, 100, sums[i])), naive(joined, sizeof(joined), 0));
        assert_int_equal(wire_fold(sums[i]), naive(joined, 8, 0));
    }
}

static void test_copy_is_exact_and_stays_inside(void **state)
{
    fill_random(5);
    for (size_t offset = 0; offset < 9; offset++) {
        for (size_t len = 0; len < 400; len++) {
            uint8_t *const dst = copy + 32 + (len % 5);
            uint64_t sum;

            memset(copy, 0xA5, len + 128);
            sum = wire_copy_sum(dst, data + offset, len, 0);
            assert_int_equal(wire_fold(sum), naive(data + offset, len, 0));
            assert_memory_equal(dst, data + offset, len);
            for (size_t i = 1; i <= 32; i++) {
                assert_int_equal(dst[-(ptrdiff_t)i], 0xA5);
                assert_int_equal(dst[len + i - 1], 0xA5);
            }
        }
    }
    assert_int_equal(wire_fold(wire_copy_sum(copy + 1, data + 3, 65535, 0)),
                     naive(data + 3, 65535, 0));
    assert_memory_equal(copy + 1, data + 3, 65535);
}

static void test_zero_and_ones_fold(void **state)
{
    assert_int_equal(wire_fold(0), 0xFFFF);
    assert_int_equal(wire_fold(0xFFFF), 0);
    assert_int_equal(wire_fold(0x10000), 0xFFFE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_length_and_offset),
        cmocka_unit_test(test_rfc1071_example),
        cmocka_unit_test(test_long_ranges),
        cmocka_unit_test(test_ranges_combine_at_even_offsets),
        cmocka_unit_test(test_incoming_sum_does_not_wrap),
        cmocka_unit_test(test_copy_is_exact_and_stays_inside),
        cmocka_unit_test(test_zero_and_ones_fold),
    };

    return cmocka_run_group_tests_name("checksum", tests, NULL, NULL);
}
