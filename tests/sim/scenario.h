/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scenario: everything about one world that chance decides, as plain data.
 *
 * It is drawn from the seed before the world runs.  So it can be printed, and what is not needed
 * for a failure can be taken out of it one piece at a time (shrink.c) without anything else
 * changing: each event brings the seed of its own details with it.
 */
#ifndef CHIMNEY_SIM_SCENARIO_H
#define CHIMNEY_SIM_SCENARIO_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "port/sim.h"

#define SIM_MAX_CONNS 5
#define SIM_MAX_EVENTS 320 /* of the world, drawn */

/** How a program writes, reads and closes. */
struct program_plan {
    uint64_t total; /* bytes it writes */
    /* Writing: chunks of a size, a pause after each, a longer one after a number of them. */
    uint32_t write_min, write_max;
    uint64_t write_pause;
    uint32_t write_burst; /* chunks; 0: no longer pauses */
    uint64_t write_rest;
    bool respond; /* writes only as much as it has read, until the other end has closed */
    uint32_t push_ppm;
    /* Reading: at most so much at a time, a pause after each, a stop after a number of bytes. */
    uint32_t read_max;
    uint64_t read_pause;
    uint64_t read_stop_after; /* 0: never stops */
    uint64_t read_stop;
    /* Closing: after the last byte was written, so much later; or not before the peer's end came.
     */
    uint64_t close_delay;
    bool close_last;
};

/** Who runs an end of a connection, and with which parameters. */
struct owner_plan {
    uint32_t ticks_per_second;
    uint32_t delayed_ack_ms, rto_min_ms;
    uint8_t ack_frequency;
    int32_t drift_ppm;  /* of its clock */
    uint64_t epoch;     /* its clock at the moment it takes over */
    uint32_t max_super; /* segments it builds at once; 0: one */
    bool merge;         /* merges what arrived in order (GRO) before the engine sees it */
    bool lazy_output;   /* pulls output once per burst of input, not after every segment */
    bool hold_fin;      /* TCP_FIN_HOLD: a FIN makes it give the connection back */
    bool nagle, keepalive;
    uint32_t snd_ring, rcv_ring; /* at least; more if what it takes over needs more */
};

struct side_plan {
    uint32_t iss, ts;
    uint16_t mss; /* it announces */
    uint8_t wscale;
    uint32_t window; /* advertised in the handshake */
    uint32_t cwnd;   /* segments; as the host's stack had it */
    struct owner_plan owner;
    struct program_plan program;
};

struct conn_plan {
    bool timestamps, scaling, sack, ecn;
    uint64_t key[2]; /* names of the two streams, for pattern.h */
    struct side_plan side[2];
};

enum event_kind {
    EVENT_MOVE,   /* one end changes its owner */
    EVENT_UPDATE, /* new cached variables for one end */
    EVENT_FLAP,   /* carrier off, and on again */
    EVENT_SILENT, /* frames of one end vanish for a while */
    EVENT_IMPAIR, /* one direction of the wire changes */
    EVENT_ABORT,  /* the program of one end closes abortively */
    EVENT_FORGE,  /* an attacker who sees nothing sends segments to one end (RFC 5961) */
};

/** Happens @delay after the connection's frame number @at_frame was sent by either end. */
struct event {
    enum event_kind kind;
    unsigned conn;
    int end;
    uint64_t at_frame, delay;
    uint64_t seed;   /* of its details */
    unsigned number; /* as drawn; keeps its name when others are taken out */
};

struct scenario {
    uint64_t seed;
    bool ipv6;
    uint32_t mtu;
    uint64_t poll_delay; /* ns that arrived frames wait before the end looks: 0, or like NAPI */
    struct sim_impair impair[2];
    unsigned conns;
    struct conn_plan conn[SIM_MAX_CONNS];
    unsigned events;
    struct event event[SIM_MAX_EVENTS];
    unsigned mutant; /* enum mutant; not drawn */
};

/** Draws the scenario of @seed. */
void scenario_draw(struct scenario *scenario, uint64_t seed);
/** Draws one direction of a wire. */
void scenario_draw_impair(struct sim_rng *rng, struct sim_impair *impair);
/** Draws the next owner of an end (not its clock's epoch). */
void scenario_draw_owner(struct sim_rng *rng, struct owner_plan *owner);
/** Uniform in [@low, @high]. */
uint64_t draw_between(struct sim_rng *rng, uint64_t low, uint64_t high);
/** Each order of magnitude between @low and @high as likely as the next; @low > 0. */
uint64_t draw_scaled(struct sim_rng *rng, uint64_t low, uint64_t high);
bool draw_percent(struct sim_rng *rng, unsigned percent);
const char *event_name(enum event_kind kind);
/** Prints the scenario for people. */
void scenario_print(const struct scenario *scenario, FILE *out);

#endif
