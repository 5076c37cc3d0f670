/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flow table and timers of the software target, each against a naive model, from a printed seed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "port/sim.h"
#include "target/flow.h"
#include "target/timers.h"

#define KEYS 512
#define LIMIT 256

static struct flow_key keys[KEYS];

static const struct flow_key *key_of(void *arg, uint32_t value)
{
    (void)arg;
    return &keys[value];
}

static uint64_t test_seed(void)
{
    const char *env = getenv("SEED");
    uint64_t seed = env ? strtoull(env, NULL, 0) : 0x5eed;

    printf("SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

static void flow_table_against_model(void **state)
{
    struct flow_table table;
    struct sim_rng rng;
    bool in[KEYS] = {false};
    uint32_t used = 0;

    (void)state;
    sim_rng_seed(&rng, test_seed());
    for (uint32_t i = 0; i < KEYS; i++) {
        keys[i].family = 4;
        keys[i].remote_port = (uint16_t)i; /* dense keys: what a port scan would look like */
    }
    assert_true(flow_init(&table, LIMIT, 7, key_of, NULL));
    for (int step = 0; step < 200000; step++) {
        uint32_t i = (uint32_t)sim_rng_below(&rng, KEYS);

        if (sim_rng_below(&rng, 2)) {
            bool done = flow_insert(&table, &keys[i], i);

            assert_int_equal(done, !in[i] && used < LIMIT);
            used += done;
            in[i] |= done;
        } else {
            bool done = flow_remove(&table, &keys[i]);

            assert_int_equal(done, in[i]);
            used -= done;
            in[i] = false;
        }
        if (step % 1000 == 0)
            for (uint32_t k = 0; k < KEYS; k++)
                assert_int_equal(flow_find(&table, &keys[k]), in[k] ? k : FLOW_NONE);
    }
    assert_int_equal(table.used, used);
    flow_free(&table);
}

static void timers_against_model(void **state)
{
    static struct timer_node nodes[LIMIT];
    uint64_t model[LIMIT];
    struct timers timers;
    struct sim_rng rng;
    uint64_t now = 0;

    (void)state;
    sim_rng_seed(&rng, test_seed() + 1);
    assert_true(timers_init(&timers, LIMIT));
    for (uint32_t i = 0; i < LIMIT; i++) {
        timer_node_init(&nodes[i], i);
        model[i] = UINT64_MAX;
    }
    for (int step = 0; step < 100000; step++) {
        uint32_t i = (uint32_t)sim_rng_below(&rng, LIMIT);
        struct timer_node *node;
        uint64_t earliest = UINT64_MAX;

        switch (sim_rng_below(&rng, 8)) {
        case 0:
            timers_cancel(&timers, &nodes[i]);
            model[i] = UINT64_MAX;
            break;
        case 1:
            timers_set(&timers, &nodes[i], UINT64_MAX);
            model[i] = UINT64_MAX;
            break;
        default:
            model[i] = now + sim_rng_below(&rng, 1000);
            timers_set(&timers, &nodes[i], model[i]);
        }
        for (uint32_t k = 0; k < LIMIT; k++)
            earliest = model[k] < earliest ? model[k] : earliest;
        assert_true(timers_next(&timers) <= earliest); /* early is allowed, late is not */
        if (step % 5)
            continue;
        now += sim_rng_below(&rng, 40);
        while ((node = timers_pop(&timers, now)) != NULL) {
            assert_true(model[node->id] <= now);
            model[node->id] = UINT64_MAX;
        }
        for (uint32_t k = 0; k < LIMIT; k++)
            assert_true(model[k] > now);
    }
    timers_free(&timers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flow_table_against_model),
        cmocka_unit_test(timers_against_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
