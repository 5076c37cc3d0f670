/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Engine against engine over a bad wire: every byte arrives once and in order, and no world stops.
 *
 *   tcp_loopback_test            the seeds of `make check`
 *   tcp_loopback_test FIRST N    N worlds from seed FIRST
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "tcp_world.h"

static uint64_t first_seed = 1, seed_count = 300;

/* A world from a seed: anything from a clean wire to 10 % loss, moves, tiny rings, wrapping
 * numbers. */
static struct world_config random_config(uint64_t seed)
{
    struct rng r = {mix(seed ^ 0x5eed)};
    static const uint32_t losses[] = {0, 0, 10, 100, 300, 1000};
    static const uint16_t sizes[] = {1460, 1448, 536, 8960, 1220, 256};
    struct world_config c = {.cc = rng_chance(&r, 5000) ? "cubic" : "reno"};

    c.loss = losses[rng_below(&r, 6)];
    c.dup = rng_chance(&r, 3000) ? 200 : 0;
    c.reorder = rng_chance(&r, 4000) ? 500 : 0;
    c.delay = (10 + rng_below(&r, rng_chance(&r, 5000) ? 500 : 50000)) * 1000ull;
    c.jitter = c.delay * (1 + rng_below(&r, 3));
    c.bytes[0] = rng_below(&r, 2000000);
    c.bytes[1] = rng_below(&r, rng_chance(&r, 5000) ? 10 : 1000000);
    c.snd_ring = 1u << (10 + rng_below(&r, 10));
    c.rcv_ring = 1u << (10 + rng_below(&r, 10));
    c.scale = (uint8_t)rng_below(&r, 11);
    c.iss[0] = (uint32_t)(0 - rng_below(&r, 1000000));
    c.iss[1] = (uint32_t)rng_next(&r);
    c.timestamps = rng_chance(&r, 7000);
    c.sack = rng_chance(&r, 7000);
    c.nagle = rng_chance(&r, 5000);
    c.ecn = rng_chance(&r, 3000);
    c.ce = c.ecn ? 100 : 0;
    c.mss = sizes[rng_below(&r, 6)];
    c.max_super = rng_chance(&r, 5000) ? 0 : rng_below(&r, 65000);
    c.lazy_reader = rng_chance(&r, 4000) ? (1 + rng_below(&r, 3000)) * TCP_MSEC : 0;
    c.move_every = rng_chance(&r, 4000) ? (1 + rng_below(&r, 500)) * TCP_MSEC : 0;
    c.imported_wnd = rng_chance(&r, 2000) ? 4 * c.rcv_ring : 0;
    c.limit = 20000 * TCP_SEC;
    return c;
}

static void run_world(uint64_t seed, bool verbose)
{
    struct world_config c = random_config(seed);
    struct world w;

    world_open(&w, &c, seed);
    while (world_step(&w))
        ;
    if (verbose)
        printf("seed %llu: loss %u dup %u reorder %u delay %llu us ring %u/%u mss %u sack %d ts %d "
               "lazy %llu import %u nagle %d scale %u super %u moves %u/%u: %llu+%llu bytes in "
               "%llu ms, %llu segments, rto %llu/%llu fast "
               "%llu/%llu rexmt %llu/%llu lost %llu\n",
               (unsigned long long)seed, c.loss, c.dup, c.reorder,
               (unsigned long long)(c.delay / 1000), c.snd_ring, c.rcv_ring, c.mss, c.sack,
               c.timestamps, (unsigned long long)(c.lazy_reader / TCP_MSEC), c.imported_wnd,
               c.nagle, c.scale, c.max_super, w.end[0].moves, w.end[1].moves,
               (unsigned long long)c.bytes[0], (unsigned long long)c.bytes[1],
               (unsigned long long)((w.now - 1000 * TCP_SEC) / TCP_MSEC),
               (unsigned long long)w.wire_segments,
               (unsigned long long)tcp_conn_stats(w.end[0].conn)->rto_fired,
               (unsigned long long)tcp_conn_stats(w.end[1].conn)->rto_fired,
               (unsigned long long)tcp_conn_stats(w.end[0].conn)->fast_retransmits,
               (unsigned long long)tcp_conn_stats(w.end[1].conn)->fast_retransmits,
               (unsigned long long)tcp_conn_stats(w.end[0].conn)->retransmits,
               (unsigned long long)tcp_conn_stats(w.end[1].conn)->retransmits,
               (unsigned long long)w.wire_lost);
    world_close(&w);
}

/* rows: C60 C61 C63 C67 C310 C395 C421-C423 C425 C427 */
static void random_worlds(void **state)
{
    for (uint64_t seed = first_seed; seed < first_seed + seed_count; seed++)
        run_world(seed, false);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_worlds)};

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 3) {
        first_seed = strtoull(argv[1], NULL, 0);
        seed_count = strtoull(argv[2], NULL, 0);
        for (uint64_t seed = first_seed; seed < first_seed + seed_count; seed++)
            run_world(seed, true);
        return 0;
    }
    printf("seeds %llu to %llu\n", (unsigned long long)first_seed,
           (unsigned long long)(first_seed + seed_count - 1));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
