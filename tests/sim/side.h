/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One end of a simulated connection: an owner's engine over two rings, and the program above it.
 *
 * Both streams are counted in 64-bit positions from the first byte of the connection; the engine
 * counts from its import, so position p of an engine is stream position base + p.  The rings belong
 * to the program and the end, not to the owner: they outlive it.
 */
#ifndef CHIMNEY_SIM_SIDE_H
#define CHIMNEY_SIM_SIDE_H

#include "tcp/tcp.h"
#include "wire/wire.h"
#include "world.h"

/** Who answers for the connection at this end. */
enum side_phase {
    SIDE_OWNED,     /* an engine */
    SIDE_BETWEEN,   /* nobody: given away, not taken yet */
    SIDE_TIME_WAIT, /* the host: keeps TIME_WAIT (C410) */
    SIDE_CLOSED,    /* nobody any more: closed on both sides */
    SIDE_RESET,     /* nobody: the peer has reset the connection */
    SIDE_ABORTED,   /* nobody: the program has aborted; the host answers with RST */
};

/** What the program has done so far; all counts are stream positions. */
struct program {
    const struct program_plan *plan;
    struct sim_rng rng;
    uint64_t written, read;
    uint64_t write_at, read_at, close_at; /* not before; SIM_NEVER for close_at: not known yet */
    uint32_t chunks;                      /* since the last rest */
    uint64_t read_since_stop;
    bool eof, closed;
};

/** A frame that arrived while nobody owned the connection. */
struct held_frame {
    struct held_frame *next;
    uint32_t len;
    uint8_t data[];
};

/** A hand-over under way; drawn when it begins. */
struct move {
    struct sim_rng rng;
    struct owner_plan owner;
    uint64_t given_at, take_at;
    uint32_t drop_ppm;  /* of frames that arrive between the owners */
    bool keep_ooo;      /* out-of-order data is injected again */
    bool programs_wait; /* programs stand still meanwhile */
    struct tcp_export state;
    struct held_frame *held, **held_tail;
};

struct side {
    struct world *world;
    unsigned conn;
    int end;
    enum side_phase phase;
    const struct conn_plan *plan;
    struct wire_route route;
    uint32_t mtu;

    struct owner_plan owner;
    uint64_t owner_from; /* world time at which it took over */
    struct tcp_params params;
    struct tcp_cached_state cached;
    struct tcp_conn *tcp;
    struct tcp_ring snd, rcv;
    uint64_t snd_base, rcv_base;  /* stream positions of position 0 */
    uint64_t una, rcv_nxt;        /* stream positions, as the engine last said */
    uint8_t state;                /* enum chimney_tcp_state, likewise */
    uint64_t advanced_at;         /* when any of them last changed */
    bool fin_arrived;             /* the peer's FIN is in order */
    struct held_frame *fin_frame; /* the frame that brought a FIN which the owner left alone */
    uint64_t move_at;             /* the owner wants to give the connection back, or SIM_NEVER */
    uint64_t move_seed;

    struct program program;
    struct move move;
    struct tcp_export last; /* TIME_WAIT and RST: what the host answers from */
    uint32_t last_stamp;
    uint32_t ts_taken; /* the stamp clock when the owner took over */
    uint64_t moves, progress_at;

    struct sim_rng mutant_rng; /* mutant.c */
    uint64_t segments_out;
    uint32_t highest_out;
    uint8_t *flipped;
};

struct world {
    const struct scenario *scenario;
    struct trace trace;
    struct checker *checker;
    struct sim_link *link;
    uint64_t began; /* when the handshakes were over */
    struct port *port[2];
    uint64_t now;
    struct side side[SIM_MAX_CONNS][2];
    uint64_t frames[SIM_MAX_CONNS]; /* sent by either end */
    uint64_t next_trigger[SIM_MAX_CONNS];
    uint64_t fire_at[SIM_MAX_EVENTS]; /* SIM_NEVER: not triggered; fired when below now */
    bool fired[SIM_MAX_EVENTS];
    uint64_t poll_at;
    uint64_t carrier_on_at, silent_off_at[2];
    struct world_result *result;
};

/** Records the first failure; always returns false. */
bool world_fail(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline bool world_ok(const struct world *world)
{
    return !world->result->failed;
}
/** Takes over what the checker found, if it found something. */
bool world_checked(struct world *world);

/* side.c: the end and its engine. */
void side_open(struct side *side, struct world *world, unsigned conn, int end);
void side_close(struct side *side);
/** The owner's clock at world time @now, and the world time at which it will show @owner_time. */
tcp_time side_clock(const struct side *side, uint64_t now);
uint64_t side_world_time(const struct side *side, tcp_time owner_time);
/** A frame from the wire, parsed; @frame and @len are the whole of it. */
void side_frame(struct side *side, const uint8_t *frame, uint32_t len);
/** A segment for the engine, possibly merged from several frames. */
void side_input(struct side *side, const struct tcp_segment *segment);
/** Acts on TCP_EV_* bits. */
void side_events(struct side *side, uint32_t bits);
/** Sends what the engine wants to send. */
void side_pull(struct side *side);
/** Sends the acknowledgement that is due, and nothing else (C215). */
void side_pull_ack(struct side *side);
/** Timers of the engine, if due; when they are due next in world time. */
void side_timers(struct side *side);
uint64_t side_next_timeout(const struct side *side);
/** The program's abortive close. */
void side_abort(struct side *side);
/** Segments of an attacker who knows the addresses and ports, and nothing else. */
void side_forge(struct side *side, uint64_t seed);
/** New cached variables, drawn from @seed. */
void side_update(struct side *side, uint64_t seed);
/** True if nothing more will happen at this end. */
bool side_finished(const struct side *side);
/** Builds and sends one segment, cut into frames. */
void side_transmit(struct side *side, const struct tcp_out *out);
/** Starts an owner's engine from @import: params, cached state and congestion control by plan. */
bool side_import(struct side *side, struct tcp_import *import);
/** A ring of at least @need bytes, poisoned. */
struct tcp_ring side_ring(uint64_t need);

/* program.c */
void program_open(struct program *program, const struct program_plan *plan, uint64_t seed);
/** Reads, writes and closes as far as it is time to. */
void program_run(struct side *side);
/** World time of the program's next action as things stand, or SIM_NEVER. */
uint64_t program_next(const struct side *side);

/* move.c */
/** The owner gives the connection away; a no-op unless it is owned. */
void move_give(struct side *side, uint64_t seed);
/** The next owner takes it. */
void move_take(struct side *side);
/** A frame that arrived in between: held or dropped. */
void move_hold(struct side *side, const uint8_t *frame, uint32_t len);
/** Forgets held frames. */
void move_forget(struct side *side);

#endif
