/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hand-overs: one end of a connection changes its owner, as in an upload followed by an offload.
 *
 * move_give(): the owner sends what is due, is asked (query) and then told (terminate) for its
 * delegated state, and is gone; its memory is overwritten.  For a while nobody owns the connection:
 * frames that arrive are held or lost, programs stand still or go on with the rings.  move_take():
 * the next owner gets that state, converted into its own ticks and seen by its own clock, over new
 * rings with what is unacknowledged and unread.  Out-of-order data is lost with the old owner or
 * injected again.  What the hand-over out of a live kernel leaves uncertain is uncertain here too:
 * how far was sent (handoff.md T2), how late it is by the timestamp clock (T5), timers (T6).
 */
#include "mutant.h"

#include <assert.h>
#include <chimney/status.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define USEC UINT64_C(1000)
#define MSEC UINT64_C(1000000)
#define CLOCK_ERROR 40 /* ms; between the stamp clocks of two owners */

/* ---- giving ------------------------------------------------------------------------------ */

static bool same_state(const struct tcp_export *a, const struct tcp_export *b)
{
    const struct tcp_delegated_state *x = &a->delegated, *y = &b->delegated;

    return x->state == y->state && x->rcv_nxt == y->rcv_nxt && x->rcv_wnd == y->rcv_wnd &&
           x->snd_una == y->snd_una && x->snd_nxt == y->snd_nxt && x->snd_max == y->snd_max &&
           x->snd_max_possible == y->snd_max_possible && x->snd_wnd == y->snd_wnd &&
           x->max_snd_wnd == y->max_snd_wnd && x->snd_wl1 == y->snd_wl1 && x->cwnd == y->cwnd &&
           x->ssthresh == y->ssthresh && x->srtt == y->srtt && x->rttvar == y->rttvar &&
           x->ts_recent == y->ts_recent && x->ts_recent_age == y->ts_recent_age &&
           x->ts_time == y->ts_time && x->ts_last == y->ts_last && x->total_rt == y->total_rt &&
           x->dup_ack_count == y->dup_ack_count &&
           x->snd_wnd_probe_count == y->snd_wnd_probe_count &&
           x->ka_probe_count == y->ka_probe_count && x->ka_timeout_delta == y->ka_timeout_delta &&
           x->retransmit_count == y->retransmit_count &&
           x->retransmit_timeout_delta == y->retransmit_timeout_delta &&
           x->reordering == y->reordering && a->una_pos == b->una_pos &&
           a->snd_max_pos == b->snd_max_pos && a->snd_end_pos == b->snd_end_pos &&
           a->rcv_pos == b->rcv_pos && a->ooo_count == b->ooo_count;
}

/* The stamp clock went on from where it was when the owner took over (C67, C425). */
static bool clock_went_on(const struct side *side, const struct tcp_export *e)
{
    uint64_t passed = side_clock(side, side->world->now) - side->owner.epoch;
    int32_t error = (int32_t)(e->delegated.ts_time - side->ts_taken - (uint32_t)(passed / MSEC));

    return !side->plan->timestamps || (error >= -1 && error <= 1);
}

/* The export agrees with what the end knows itself. */
static bool plausible(const struct side *side, const struct tcp_export *e)
{
    const struct tcp_delegated_state *d = &e->delegated;
    uint32_t sent = d->snd_max_possible - d->snd_una;

    return side->snd_base + e->una_pos == side->una &&
           side->rcv_base + e->rcv_pos == side->rcv_nxt &&
           side->snd_base + e->snd_end_pos == side->program.written &&
           seq_leq(d->snd_una, d->snd_nxt) && seq_leq(d->snd_nxt, d->snd_max) &&
           seq_leq(d->snd_max, d->snd_max_possible) && e->snd_max_pos >= e->una_pos &&
           e->snd_max_pos <= e->snd_end_pos && sent >= e->snd_max_pos - e->una_pos &&
           sent <= e->snd_max_pos - e->una_pos + 1 && e->ooo_count <= TCP_MAX_OOO &&
           clock_went_on(side, e);
}

static uint64_t draw_gap(struct sim_rng *rng)
{
    switch (sim_rng_below(rng, 8)) {
    case 0:
    case 1:
        return 0;
    case 2:
        return draw_scaled(rng, 10 * MSEC, 600 * MSEC);
    default:
        return draw_scaled(rng, 10 * USEC, 20 * MSEC);
    }
}

static void draw_move(struct side *side, uint64_t seed)
{
    struct move *move = &side->move;

    memset(move, 0, sizeof(*move));
    move->held_tail = &move->held;
    sim_rng_seed(&move->rng, seed);
    scenario_draw_owner(&move->rng, &move->owner);
    move->given_at = side->world->now;
    move->take_at = move->given_at + draw_gap(&move->rng);
    move->keep_ooo = draw_percent(&move->rng, 50);
    move->programs_wait = draw_percent(&move->rng, 50);
    switch (sim_rng_below(&move->rng, 4)) {
    case 0:
        move->drop_ppm = 1000000;
        break;
    case 1:
        move->drop_ppm = (uint32_t)sim_rng_below(&move->rng, 1000000);
        break;
    default: /* all held */
        break;
    }
}

/* rows: C9 C58 C60 C61 C66 C67 C215 C231 C468 */
void move_give(struct side *side, uint64_t seed)
{
    struct world *world = side->world;
    struct tcp_export query, *state = &side->move.state;
    struct checker_claim claim;
    tcp_time now;

    side->move_at = SIM_NEVER;
    if (side->phase != SIDE_OWNED)
        return;
    draw_move(side, seed);
    if (draw_percent(&side->move.rng, 50))
        side_pull(side);
    side_pull_ack(side);
    if (!world_ok(world) || side->phase != SIDE_OWNED)
        return;
    if (side->owner.hold_fin && side->fin_frame) /* up to a host that can close */
        side->move.owner.hold_fin = false;
    if (side->fin_arrived)
        side->move.owner.hold_fin = false;

    now = side_clock(side, world->now);
    memset(&query, 0, sizeof(query));
    memset(state, 0, sizeof(*state));
    tcp_query(side->tcp, now, &query);
    tcp_export(side->tcp, now, state);
    mutant_export(side, &query);
    mutant_export(side, state);
    world->result->retransmits += tcp_conn_stats(side->tcp)->retransmits;
    memset(side->tcp, 0xDB, tcp_conn_size());
    free(side->tcp);
    side->tcp = NULL;
    side->phase = SIDE_BETWEEN;
    side->moves++;
    world->result->moves++;
    if (state->delegated.state < SIM_STATES)
        world->result->moved_in[state->delegated.state]++;
    trace_event(&world->trace, TRACE_GIVEN, world->now, state->delegated.snd_una,
                state->delegated.rcv_nxt);
    trace_line(&world->trace, world->now,
               "conn %u end %d: given away: state %u, una %" PRIu64 ", sent %" PRIu64
               ", end %" PRIu64 ", rcv_nxt %" PRIu64
               ", window %u, %u out of order, cwnd %u, srtt %u, until %+" PRId64 " us",
               side->conn, side->end, state->delegated.state, side->una,
               side->snd_base + state->snd_max_pos, side->program.written, side->rcv_nxt,
               state->delegated.rcv_wnd, state->ooo_count, state->delegated.cwnd,
               state->delegated.srtt, (int64_t)(side->move.take_at - world->now) / 1000);
    if (!same_state(&query, state)) {
        world_fail(world, "engine: conn %u end %d: query and export differ", side->conn, side->end);
        return;
    }
    claim = (struct checker_claim){
        .snd_una = state->delegated.snd_una,
        .snd_max = state->delegated.snd_max,
        .snd_max_possible = state->delegated.snd_max_possible,
        .rcv_nxt = state->delegated.rcv_nxt,
        .rcv_wnd = state->delegated.rcv_wnd,
        .ts_last = state->delegated.ts_last,
        .ts_recent = state->delegated.ts_recent,
    };
    checker_given(world->checker, side->conn, side->end, &claim, world->now);
    if (!world_checked(world))
        return;
    if (!plausible(side, state)) {
        world_fail(
            world,
            "engine: conn %u end %d: export contradicts itself: una %u nxt %u max %u possible "
            "%u, una_pos %" PRIu64 " snd_max_pos %" PRIu64 " snd_end_pos %" PRIu64
            " rcv_pos %" PRIu64 ", here una %" PRIu64 " written %" PRIu64 " rcv_nxt %" PRIu64
            " bases %" PRIu64 " %" PRIu64,
            side->conn, side->end, state->delegated.snd_una, state->delegated.snd_nxt,
            state->delegated.snd_max, state->delegated.snd_max_possible, state->una_pos,
            state->snd_max_pos, state->snd_end_pos, state->rcv_pos, side->una,
            side->program.written, side->rcv_nxt, side->snd_base, side->rcv_base);
        return;
    }
}

/* ---- between ----------------------------------------------------------------------------- */

/* rows: C212 */
void move_hold(struct side *side, const uint8_t *frame, uint32_t len)
{
    struct move *move = &side->move;
    struct held_frame *held;

    if (sim_rng_ppm(&move->rng, move->drop_ppm)) {
        trace_line(&side->world->trace, side->world->now, "conn %u end %d: lost between owners",
                   side->conn, side->end);
        return;
    }
    held = malloc(sizeof(*held) + len);
    assert(held);
    held->next = NULL;
    held->len = len;
    memcpy(held->data, frame, len);
    *move->held_tail = held;
    move->held_tail = &held->next;
}

void move_forget(struct side *side)
{
    while (side->move.held) {
        struct held_frame *held = side->move.held;

        side->move.held = held->next;
        free(held);
    }
    side->move.held_tail = &side->move.held;
}

/* ---- taking ------------------------------------------------------------------------------ */

/* A ring that holds stream positions [@from, @to) from its position 0 on. */
static struct tcp_ring relocate(const struct tcp_ring *old, uint64_t old_base, uint64_t from,
                                uint64_t to, uint64_t need)
{
    struct tcp_ring ring = side_ring(need > to - from ? need : to - from);

    for (uint64_t at = from; at < to; at++)
        ring.base[at - from] = old->base[(at - old_base) & (old->size - 1)];
    return ring;
}

static uint32_t convert(uint32_t ticks, uint32_t from, uint32_t to)
{
    uint64_t value;

    if (ticks == TCP_TIMER_OFF || ticks == 0)
        return ticks;
    value = ((uint64_t)ticks * to + from - 1) / from;
    return value < TCP_TIMER_OFF ? (uint32_t)value : TCP_TIMER_OFF - 1;
}

static void convert_ticks(struct tcp_delegated_state *d, uint32_t from, uint32_t to)
{
    d->srtt = convert(d->srtt, from, to);
    d->rttvar = convert(d->rttvar, from, to);
    d->ts_recent_age = convert(d->ts_recent_age, from, to);
    d->total_rt = convert(d->total_rt, from, to);
    d->ka_timeout_delta = convert(d->ka_timeout_delta, from, to);
    d->retransmit_timeout_delta = convert(d->retransmit_timeout_delta, from, to);
}

static uint32_t less_gap(uint32_t delta, uint32_t gap)
{
    if (delta == TCP_TIMER_OFF)
        return delta;
    return delta > gap ? delta - gap : 0;
}

/*
 * The stamp clock as the next owner knows it: that of the host, which went on all the time.  The
 * last owner's stamps may be ahead of it (handoff.md T5); then stamps wait until it has caught up.
 */
static uint32_t stamp_clock(struct side *side)
{
    struct sim_rng *rng = &side->move.rng;
    uint32_t clock =
        side->plan->side[side->end].ts + (uint32_t)((side->world->now - side->world->began) / MSEC);

    switch (sim_rng_below(rng, 8)) {
    case 0:
    case 1:
        return clock + (uint32_t)sim_rng_below(rng, CLOCK_ERROR);
    case 2:
        return clock - (uint32_t)sim_rng_below(rng, CLOCK_ERROR);
    default:
        return clock;
    }
}

/* What time between the owners does to the state, as far as anybody noticed. */
static void pass_time(struct side *side, struct tcp_delegated_state *d)
{
    struct move *move = &side->move;
    uint64_t gap = side->world->now - move->given_at;
    uint64_t ticks = gap * move->owner.ticks_per_second / 1000000000u;

    d->ts_recent_age += (uint32_t)ticks;
    if (draw_percent(&move->rng, 60)) {
        d->retransmit_timeout_delta = less_gap(d->retransmit_timeout_delta, (uint32_t)ticks);
        d->ka_timeout_delta = less_gap(d->ka_timeout_delta, (uint32_t)ticks);
    }
    if (side->plan->timestamps)
        d->ts_time = stamp_clock(side);
}

/* How far was sent is not always known (handoff.md T2). */
static void doubt_sent(struct side *side, struct tcp_delegated_state *d, bool fin_sent,
                       uint32_t snd_len)
{
    struct move *move = &side->move;
    uint32_t in_flight = d->snd_max - d->snd_una, possible = d->snd_max_possible - d->snd_una;

    if (fin_sent || !draw_percent(&move->rng, 25))
        return;
    if (draw_percent(&move->rng, 50) && in_flight) { /* less is certain than is true */
        d->snd_max = d->snd_una + (uint32_t)sim_rng_below(&move->rng, in_flight + 1);
        if (seq_gt(d->snd_nxt, d->snd_max))
            d->snd_nxt = d->snd_max;
    }
    if (possible < snd_len) /* more is possible than is true */
        d->snd_max_possible += (uint32_t)sim_rng_below(&move->rng, snd_len - possible + 1);
}

/* Segments like those that brought the out-of-order data. */
static void inject_ooo(struct side *side, const struct tcp_ring *old)
{
    const struct tcp_export *state = &side->move.state;
    const struct tcp_delegated_state *d = &state->delegated;
    unsigned shift = side->plan->side[!side->end].wscale;

    for (unsigned i = 0; i < state->ooo_count && world_ok(side->world); i++) {
        uint32_t from = state->ooo[i].left - d->rcv_nxt, to = state->ooo[i].right - d->rcv_nxt;

        for (uint32_t at = from; at < to && side->phase == SIDE_OWNED;) {
            uint8_t bytes[1400];
            struct tcp_segment segment = {
                .seq = d->rcv_nxt + at,
                .ack = d->snd_una,
                .window = (uint16_t)(d->snd_wnd >> shift),
                .flags = TCP_ACK,
                .has_timestamp = side->plan->timestamps,
                .tsval = d->ts_recent,
                .tsecr = d->ts_last,
                .payload = bytes,
                .len = to - at < sizeof(bytes) ? to - at : (uint32_t)sizeof(bytes),
            };

            for (uint32_t b = 0; b < segment.len; b++)
                bytes[b] = old->base[(state->rcv_pos + at + b) & (old->size - 1)];
            side_input(side, &segment);
            at += segment.len;
        }
    }
}

static void replay_held(struct side *side)
{
    struct held_frame *list = side->move.held;

    side->move.held = NULL;
    move_forget(side);
    while (list) {
        struct held_frame *held = list;

        list = held->next;
        if (world_ok(side->world)) {
            if (side->phase == SIDE_BETWEEN)
                move_hold(side, held->data, held->len);
            else
                side_frame(side, held->data, held->len);
        }
        free(held);
    }
}

/* rows: C218 C425 */
void move_take(struct side *side)
{
    struct world *world = side->world;
    struct move *move = &side->move;
    const struct tcp_export *state = &move->state;
    struct tcp_ring old_snd = side->snd, old_rcv = side->rcv;
    struct held_frame *fin = side->fin_frame;
    uint32_t old_ticks = side->owner.ticks_per_second;
    struct tcp_import import;
    uint64_t window_need;

    memset(&import, 0, sizeof(import));
    import.delegated = state->delegated;
    side->owner = move->owner;
    side->owner_from = world->now;
    import.snd_len = (uint32_t)(side->program.written - side->una);
    import.rcv_len = (uint32_t)(side->rcv_nxt - side->program.read);
    import.quiet = draw_percent(&move->rng, 20);
    convert_ticks(&import.delegated, old_ticks, side->owner.ticks_per_second);
    pass_time(side, &import.delegated);
    doubt_sent(side, &import.delegated, state->fin_sent, import.snd_len);

    /* Room for the window that was promised, and for a few of its units. */
    window_need = (uint64_t)import.rcv_len + state->delegated.rcv_wnd;
    if (window_need < UINT64_C(8) << side->plan->side[side->end].wscale)
        window_need = UINT64_C(8) << side->plan->side[side->end].wscale;
    if (window_need < side->owner.rcv_ring)
        window_need = side->owner.rcv_ring;
    side->snd =
        relocate(&old_snd, side->snd_base, side->una, side->program.written, side->owner.snd_ring);
    side->rcv = relocate(&old_rcv, side->rcv_base, side->program.read, side->rcv_nxt, window_need);
    side->snd_base = side->una;
    side->rcv_base = side->program.read;
    side->fin_frame = NULL;

    trace_event(&world->trace, TRACE_TAKEN, world->now, import.delegated.snd_max,
                import.delegated.ts_time);
    trace_line(&world->trace, world->now,
               "conn %u end %d: taken: rings %u/%u, %u to send, %u to read, sent %u certain %u "
               "possible%s%s",
               side->conn, side->end, side->snd.size, side->rcv.size, import.snd_len,
               import.rcv_len, import.delegated.snd_max - import.delegated.snd_una,
               import.delegated.snd_max_possible - import.delegated.snd_una,
               import.quiet ? ", quiet" : "", side->owner.hold_fin ? ", holds FIN" : "");
    checker_taken(world->checker, side->conn, side->end, import.delegated.snd_max, move->keep_ooo,
                  world->now);
    if (side_import(side, &import)) {
        /* A FIN that was asked for and not sent is asked for again. */
        if (side->program.closed && !state->fin_sent)
            tcp_shutdown(side->tcp, side_clock(side, world->now));
        if (!side->owner.lazy_output)
            side_pull(side);
        if (move->keep_ooo)
            inject_ooo(side, &old_rcv);
        if (fin && world_ok(world) && side->phase == SIDE_OWNED && draw_percent(&move->rng, 70))
            side_frame(side, fin->data, fin->len);
        if (world_ok(world))
            replay_held(side);
        if (world_ok(world))
            side_pull(side);
    }
    free(fin);
    free(old_snd.base);
    free(old_rcv.base);
    side->progress_at = world->now;
}
