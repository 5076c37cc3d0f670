/* SPDX-License-Identifier: Apache-2.0 */
/* Sequence arithmetic, ticks, and the layout of a connection. */
#include "tcp_one.h"

/* rows: C61 */
static void sequence_numbers_wrap(void **state)
{
    static const struct {
        uint32_t a, b;
        bool lt, leq;
    } table[] = {
        /* 1 */ {0, 0, false, true},
        /* 2 */ {0, 1, true, true},
        /* 3 */ {1, 0, false, false},
        /* 4 */ {0xffffffff, 0, true, true},
        /* 5 */ {0, 0xffffffff, false, false},
        /* 6 */ {0x7fffffff, 0x80000000, true, true},
        /* 7 */ {0xfffffff0, 0x10, true, true},
        /* 8 */ {0x10, 0xfffffff0, false, false},
        /* 9 */ {0, 0x7fffffff, true, true},
        /* 10 */ {1, 0x80000000, true, true},
        /* 11 */ {0xc0000000, 0x3fffffff, true, true},
    };

    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        assert_int_equal(seq_lt(table[i].a, table[i].b), table[i].lt);
        assert_int_equal(seq_leq(table[i].a, table[i].b), table[i].leq);
        assert_int_equal(seq_gt(table[i].b, table[i].a), table[i].lt);
        assert_int_equal(seq_geq(table[i].b, table[i].a), table[i].leq);
        assert_int_equal(seq_max(table[i].a, table[i].b), table[i].leq ? table[i].b : table[i].a);
    }
}

/* rows: C395 */
static void ticks_convert_both_ways(void **state)
{
    static const uint32_t rates[] = {1, 10, 100, 1000, 1024, 100000, 1000000};
    static const uint32_t ticks[] = {0, 1, 2, 3, 999, 1000, 123456789, 0xfffffffe};
    struct tcp_params params;

    tcp_params_default(&params);
    for (unsigned i = 0; i < sizeof(rates) / sizeof(rates[0]); i++)
        for (unsigned j = 0; j < sizeof(ticks) / sizeof(ticks[0]); j++) {
            params.ticks_per_second = rates[i];
            assert_int_equal(tcp_to_ticks(&params, tcp_from_ticks(&params, ticks[j])), ticks[j]);
        }
    /* Too long for 32 bits: as long as there is, never "not running". */
    params.ticks_per_second = 1000000;
    assert_int_equal(tcp_to_ticks(&params, 7200 * TCP_SEC), TCP_TIMER_OFF - 1);
    assert_int_equal(tcp_to_ticks(&params, TCP_TIME_NEVER), TCP_TIMER_OFF - 1);
    /* Rounded up: a timer with time left is never "due now". */
    params.ticks_per_second = 10;
    assert_int_equal(tcp_to_ticks(&params, 1), 1);
    assert_int_equal(tcp_from_ticks(&params, 7), 700 * MS);
}

static void hot_state_is_three_lines(void **state)
{
    assert_int_equal(offsetof(struct tcp_conn, cc), 192);
    assert_int_equal(tcp_conn_size() % 64, 0);
    assert_true(tcp_conn_size() <= 8192);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequence_numbers_wrap),
        cmocka_unit_test(ticks_convert_both_ways),
        cmocka_unit_test(hot_state_is_three_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
