/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated port and link: two ports joined by a wire whose behaviour comes from one seed, in
 * virtual time.  No operating-system header, no clock: the owner says what time it is.
 */
#ifndef CHIMNEY_PORT_SIM_H
#define CHIMNEY_PORT_SIM_H

#include "port/port.h"

struct sim_link;

/** Behaviour of one direction.  Probabilities are in parts per million. */
struct sim_impair {
    uint64_t latency_ns;  /* one way */
    uint64_t rate_bps;    /* bits per second; 0: unlimited */
    uint64_t jitter_ns;   /* uniform extra delay, order kept unless reorder_ppm */
    uint32_t loss_ppm;    /* independent loss */
    uint32_t burst_ppm;   /* start of a loss burst */
    uint32_t burst_len;   /* frames lost in a burst */
    uint32_t dup_ppm;     /* delivered twice */
    uint32_t corrupt_ppm; /* one bit flipped */
    uint32_t reorder_ppm; /* held back by reorder_ns */
    uint64_t reorder_ns;
    uint32_t queue_frames; /* drop-tail queue at the rate limiter; 0: unlimited */
    uint32_t mark_frames;  /* ECN: CE-mark ECT frames beyond this queue length; 0: never */
};

/**
 * Creates a link with two ends.  @seed determines every random decision; @mtu of both ports.
 * Returns NULL when memory is short.
 */
struct sim_link *sim_link_create(uint64_t seed, uint32_t mtu, const struct sim_impair *a_to_b,
                                 const struct sim_impair *b_to_a);
void sim_link_destroy(struct sim_link *link);
/** The port at end 0 or 1; owned by the link (port_close() on it does nothing). */
struct port *sim_link_port(struct sim_link *link, int end);
/** Sets the virtual time; frames that have arrived by then become receivable. */
void sim_link_advance(struct sim_link *link, uint64_t now_ns);
/** Time at which the next frame arrives anywhere, or UINT64_MAX. */
uint64_t sim_link_next(const struct sim_link *link);
/** Carrier off or on (link_up() of both ports follows; frames on the wire are lost when off). */
void sim_link_set_carrier(struct sim_link *link, bool up);
/** Silent failure: frames from @end vanish while @on, carrier stays up. */
void sim_link_set_silent(struct sim_link *link, int end, bool on);
/** Changes the behaviour of the direction that starts at @end. */
void sim_link_set_impair(struct sim_link *link, int end, const struct sim_impair *impair);
/** Called for every frame put on the wire (before impairment), for checkers; @end is the sender. */
void sim_link_set_tap(struct sim_link *link,
                      void (*tap)(void *arg, int end, const uint8_t *frame, uint32_t len,
                                  uint64_t now_ns),
                      void *arg);

/** The generator behind it (xoshiro256**), for tests that draw from the same seed. */
struct sim_rng {
    uint64_t s[4];
};
void sim_rng_seed(struct sim_rng *rng, uint64_t seed);
uint64_t sim_rng_next(struct sim_rng *rng);
/** Uniform in [0, n); n > 0. */
uint64_t sim_rng_below(struct sim_rng *rng, uint64_t n);
bool sim_rng_ppm(struct sim_rng *rng, uint32_t ppm);

#endif
