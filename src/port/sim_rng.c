/* SPDX-License-Identifier: Apache-2.0 */
/*
 * xoshiro256** (Blackman and Vigna), seeded by splitmix64 as its authors advise: the same numbers
 * on every machine, for ever, so a seed in an old report still reproduces.
 */
#include <assert.h>
#include "port/sim.h"

static uint64_t splitmix(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static uint64_t rotate(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

void sim_rng_seed(struct sim_rng *rng, uint64_t seed)
{
    for (unsigned i = 0; i < 4; i++)
        rng->s[i] = splitmix(&seed);
}

uint64_t sim_rng_next(struct sim_rng *rng)
{
    uint64_t *s = rng->s;
    const uint64_t out = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return out;
}

uint64_t sim_rng_below(struct sim_rng *rng, uint64_t n)
{
    uint64_t x, first;

    assert(n > 0);
    /* 2^64 modulo n values too many: reject that many, and the rest is uniform. */
    first = (0 - n) % n;
    do {
        x = sim_rng_next(rng);
    } while (x < first);
    return x % n;
}

bool sim_rng_ppm(struct sim_rng *rng, uint32_t ppm)
{
    return sim_rng_below(rng, 1000000) < ppm;
}
