/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The programs.  They do not know who owns the connection; the rings are all they see.  Each byte
 * that is read is compared with the generator: the first of the two oracles.
 */
#include "pattern.h"
#include "side.h"

#include <inttypes.h>
#include <string.h>

void program_open(struct program *program, const struct program_plan *plan, uint64_t seed)
{
    memset(program, 0, sizeof(*program));
    program->plan = plan;
    program->close_at = SIM_NEVER;
    sim_rng_seed(&program->rng, seed);
}

/* The program may act: it is not stopped by a hand-over and the connection still lives. */
static bool awake(const struct side *side)
{
    if (side->phase == SIDE_BETWEEN)
        return !side->move.programs_wait;
    return side->phase != SIDE_RESET && side->phase != SIDE_ABORTED;
}

static uint64_t readable(const struct side *side)
{
    return side->rcv_nxt - side->program.read;
}

static bool eof_ready(const struct side *side)
{
    return side->fin_arrived && !side->program.eof && !readable(side);
}

/* Bytes the program wants to write and has room for. */
static uint64_t writable(const struct side *side)
{
    const struct program *p = &side->program;
    uint64_t want = p->plan->total - p->written, room;

    if (side->phase != SIDE_OWNED && side->phase != SIDE_BETWEEN)
        return 0;
    if (p->plan->respond && !p->eof && p->read < p->plan->total)
        want = p->read > p->written ? p->read - p->written : 0;
    room = side->snd.size - (p->written - side->una);
    return want < room ? want : room;
}

static bool wants_to_close(const struct side *side)
{
    const struct program *p = &side->program;

    return !p->closed && p->written == p->plan->total && (!p->plan->close_last || p->eof) &&
           side->phase == SIDE_OWNED;
}

uint64_t program_next(const struct side *side)
{
    const struct program *p = &side->program;
    uint64_t next = SIM_NEVER;

    if (!awake(side))
        return SIM_NEVER;
    if ((readable(side) || eof_ready(side)) && p->read_at < next)
        next = p->read_at;
    if (writable(side) && p->write_at < next)
        next = p->write_at;
    if (wants_to_close(side)) {
        uint64_t at = p->close_at == SIM_NEVER ? side->world->now : p->close_at;

        next = at < next ? at : next;
    }
    return next;
}

static void read_some(struct side *side)
{
    struct program *p = &side->program;
    struct world *world = side->world;
    uint64_t key = side->plan->key[!side->end], len = readable(side), left;

    if (len > p->plan->read_max)
        len = p->plan->read_max;
    for (left = len; left;) {
        uint32_t at = (uint32_t)(p->read - side->rcv_base) & (side->rcv.size - 1);
        uint64_t span = side->rcv.size - at < left ? side->rcv.size - at : left;
        size_t good = pattern_check(key, p->read, side->rcv.base + at, span);

        if (good < span) {
            world_fail(world,
                       "byte stream: conn %u end %d reads 0x%02x at %" PRIu64
                       ", written was 0x%02x",
                       side->conn, side->end, side->rcv.base[at + good], p->read + good,
                       pattern_byte(key, p->read + good));
            return;
        }
        memset(side->rcv.base + at, 0xEE, span); /* nobody may read it again */
        p->read += span;
        left -= span;
    }
    trace_event(&world->trace, TRACE_READ, world->now, side->conn * 2 + (unsigned)side->end,
                p->read);
    world->result->bytes += len;
    p->read_since_stop += len;
    p->read_at = world->now + p->plan->read_pause;
    if (p->plan->read_stop_after && p->read_since_stop >= p->plan->read_stop_after) {
        p->read_since_stop = 0;
        p->read_at = world->now + p->plan->read_stop;
    }
    side->progress_at = world->now;
    if (side->phase != SIDE_OWNED)
        return;
    int bits = tcp_recv_consumed(side->tcp, p->read - side->rcv_base, side_clock(side, world->now));
    if (bits < 0)
        world_fail(world, "engine: conn %u end %d refuses to consume up to %" PRIu64, side->conn,
                   side->end, p->read);
    else
        side_events(side, (uint32_t)bits);
}

static void write_some(struct side *side)
{
    struct program *p = &side->program;
    struct world *world = side->world;
    uint64_t len = draw_between(&p->rng, p->plan->write_min, p->plan->write_max);
    uint64_t room = writable(side), left;

    if (len > room)
        len = room;
    for (left = len; left;) {
        uint32_t at = (uint32_t)(p->written - side->snd_base) & (side->snd.size - 1);
        uint64_t span = side->snd.size - at < left ? side->snd.size - at : left;

        pattern_fill(side->plan->key[side->end], p->written, side->snd.base + at, span);
        p->written += span;
        left -= span;
    }
    p->write_at = world->now + p->plan->write_pause;
    if (p->plan->write_burst && ++p->chunks >= p->plan->write_burst) {
        p->chunks = 0;
        p->write_at = world->now + p->plan->write_rest;
    }
    side->progress_at = world->now;
    if (side->phase == SIDE_OWNED &&
        tcp_send_ready(side->tcp, p->written - side->snd_base,
                       sim_rng_ppm(&p->rng, p->plan->push_ppm), side_clock(side, world->now)) < 0)
        world_fail(world, "engine: conn %u end %d refuses data up to %" PRIu64 ", una %" PRIu64,
                   side->conn, side->end, p->written, side->una);
}

/* rows: C238 C310 C427 C468 */
void program_run(struct side *side)
{
    struct program *p = &side->program;
    struct world *world = side->world;
    uint64_t now = world->now;
    bool acted = false;

    if (!awake(side))
        return;
    if (readable(side) && p->read_at <= now) {
        read_some(side);
        acted = true;
    }
    if (world_ok(world) && eof_ready(side) && p->read_at <= now) {
        p->eof = true;
        side->progress_at = now;
        trace_line(&world->trace, now, "conn %u end %d: program reads end of stream after %" PRIu64,
                   side->conn, side->end, p->read);
        if (p->read != side->plan->side[!side->end].program.total)
            world_fail(world,
                       "byte stream: conn %u end %d: end of stream after %" PRIu64 " of %" PRIu64
                       " bytes",
                       side->conn, side->end, p->read, side->plan->side[!side->end].program.total);
    }
    if (world_ok(world) && writable(side) && p->write_at <= now) {
        write_some(side);
        acted = true;
    }
    if (world_ok(world) && wants_to_close(side)) {
        if (p->close_at == SIM_NEVER)
            p->close_at = now + p->plan->close_delay;
        if (p->close_at <= now) {
            p->closed = true;
            checker_closing(world->checker, side->conn, side->end);
            trace_line(&world->trace, now, "conn %u end %d: program closes", side->conn, side->end);
            tcp_shutdown(side->tcp, side_clock(side, now));
            acted = true;
        }
    }
    if (acted && world_ok(world) && side->phase == SIDE_OWNED)
        side_pull(side);
}
