/* SPDX-License-Identifier: Apache-2.0 */
/* The ownership ledger: every wrong move is a result, and a long random run against a plain array.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "contract/ledger.h"

static void count_leak(void *arg, const struct ledger_item *item)
{
    ++*(int *)arg;
}

static void wrong_moves(void **state)
{
    struct ledger l;
    int a, b, leaks = 0;

    ledger_init(&l);
    assert_int_equal(ledger_close(&l, LEDGER_TREE, &a, LEDGER_HOST), LEDGER_MISSING);
    assert_null(ledger_find(&l, LEDGER_TREE, &a));
    assert_int_equal(ledger_open(&l, LEDGER_TREE, &a, LEDGER_HOST, &b), LEDGER_OK);
    assert_int_equal(ledger_open(&l, LEDGER_TREE, &a, LEDGER_HOST, &b), LEDGER_TWICE);
    /* Another kind at the same address is another item. */
    assert_int_equal(ledger_open(&l, LEDGER_CELL, &a, LEDGER_HOST, &a), LEDGER_OK);
    assert_ptr_equal(ledger_find(&l, LEDGER_TREE, &a), &b);
    assert_ptr_equal(ledger_find(&l, LEDGER_CELL, &a), &a);
    assert_int_equal(ledger_close(&l, LEDGER_TREE, &a, LEDGER_TARGET), LEDGER_NOT_OWNER);
    assert_int_equal(ledger_hand_over(&l, LEDGER_TREE, &a, LEDGER_TARGET), LEDGER_NOT_OWNER);
    assert_int_equal(ledger_hand_over(&l, LEDGER_TREE, &a, LEDGER_HOST), LEDGER_OK);
    assert_int_equal(ledger_close(&l, LEDGER_TREE, &a, LEDGER_HOST), LEDGER_NOT_OWNER);
    assert_int_equal(ledger_close(&l, LEDGER_TREE, &a, LEDGER_TARGET), LEDGER_OK);
    assert_int_equal(ledger_close(&l, LEDGER_TREE, &a, LEDGER_TARGET), LEDGER_MISSING);
    assert_int_equal(ledger_hand_over(&l, LEDGER_TREE, &a, LEDGER_TARGET), LEDGER_MISSING);
    ledger_leaks(&l, count_leak, &leaks);
    assert_int_equal(leaks, 1);
    assert_int_equal(l.opened, 2);
    assert_int_equal(l.closed, 1);
    ledger_free(&l);
}

#define ITEMS 3000
#define MOVES 200000

static void random_run(void **state)
{
    const char *given = getenv("SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : 20240607, x = seed;
    static char keys[ITEMS];
    static int owner[ITEMS]; /* 0: closed, else owner + 1 */
    struct ledger l;
    size_t open = 0;
    int leaks = 0;

    print_message("SEED=%llu\n", (unsigned long long)seed);
    ledger_init(&l);
    for (int move = 0; move < MOVES; move++) {
        int i, who;

        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        i = (int)(x % ITEMS);
        who = (int)(x >> 40) & 1;
        switch (x >> 50 & 3) {
        case 0:
        case 1:
            assert_int_equal(ledger_open(&l, LEDGER_OBJECT, &keys[i], who, &owner[i]),
                             owner[i] ? LEDGER_TWICE : LEDGER_OK);
            if (!owner[i]) {
                owner[i] = who + 1;
                open++;
            }
            break;
        case 2:
            assert_int_equal(ledger_hand_over(&l, LEDGER_OBJECT, &keys[i], who),
                             !owner[i]             ? LEDGER_MISSING
                             : owner[i] == who + 1 ? LEDGER_OK
                                                   : LEDGER_NOT_OWNER);
            if (owner[i] == who + 1)
                owner[i] = 2 - who;
            break;
        default:
            assert_int_equal(ledger_close(&l, LEDGER_OBJECT, &keys[i], who),
                             !owner[i]             ? LEDGER_MISSING
                             : owner[i] == who + 1 ? LEDGER_OK
                                                   : LEDGER_NOT_OWNER);
            if (owner[i] == who + 1) {
                owner[i] = 0;
                open--;
            }
        }
        assert_int_equal(l.used, open);
        i = (int)(x >> 20) % ITEMS;
        i = i < 0 ? -i : i;
        assert_ptr_equal(ledger_find(&l, LEDGER_OBJECT, &keys[i]), owner[i] ? &owner[i] : NULL);
    }
    ledger_leaks(&l, count_leak, &leaks);
    assert_int_equal(leaks, open);
    ledger_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_moves),
        cmocka_unit_test(random_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
