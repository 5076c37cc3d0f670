/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop of a world.  At each step time jumps to the next thing that is due: a frame that
 * arrives, a timer of an engine, a program's turn, the end of a hand-over, an event of the
 * scenario. All that is due then happens in a fixed order.
 */
#include "side.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define SEC UINT64_C(1000000000)
#define MSEC UINT64_C(1000000)
#define STALL (2000 * SEC)    /* without any progress of a connection: more than any backoff */
#define STEPS_AT_ONCE 200000u /* without time passing */
#define FRAMES_LIMIT 400000u  /* of a world */
#define RX_BURST 64
#define MERGED_MAX 65535u

bool world_fail(struct world *world, const char *format, ...)
{
    struct world_result *result = world->result;
    va_list args;

    if (result->failed)
        return false;
    result->failed = true;
    va_start(args, format);
    vsnprintf(result->message, sizeof(result->message), format, args);
    va_end(args);
    trace_line(&world->trace, world->now, "FAILED  %s", result->message);
    return false;
}

bool world_checked(struct world *world)
{
    enum checker_rule rule = checker_broken(world->checker);

    if (!rule || world->result->failed)
        return !world->result->failed;
    world->result->rule = rule;
    return world_fail(world, "wire: %s: %s [%s]", checker_rule_name(rule),
                      checker_message(world->checker), checker_rule_text(rule));
}

/* ---- receiving --------------------------------------------------------------------------- */

static struct side *find_side(struct world *world, int end, const struct flow_key *key)
{
    for (unsigned c = 0; c < world->scenario->conns; c++)
        if (flow_key_equal(&world->side[c][end].route.key, key))
            return &world->side[c][end];
    return NULL;
}

/* Segments being merged for one engine, like GRO does it. */
struct merge {
    struct side *side;
    struct tcp_segment segment;
    uint8_t bytes[MERGED_MAX];
};

static void merge_flush(struct merge *merge)
{
    struct side *side = merge->side;

    merge->side = NULL;
    if (side && world_ok(side->world))
        side_input(side, &merge->segment);
}

/* True if @next continues what is there and can be put behind it. */
static bool merge_append(struct merge *merge, const struct side *side,
                         const struct tcp_segment *next)
{
    struct tcp_segment *whole = &merge->segment;
    const unsigned plain = TCP_ACK | TCP_PSH;

    if (merge->side != side || !next->len || next->seq != whole->seq + whole->len ||
        whole->len + next->len > MERGED_MAX || (whole->flags | next->flags) & ~plain ||
        whole->flags & TCP_PSH || whole->ack != next->ack || whole->window != next->window ||
        whole->ecn != next->ecn || whole->has_timestamp != next->has_timestamp ||
        whole->tsval != next->tsval || whole->tsecr != next->tsecr || next->sack_count ||
        whole->sack_count)
        return false;
    /* Only the last may be shorter than the first. */
    if (whole->gso_size ? next->len > whole->gso_size || whole->len % whole->gso_size
                        : next->len > whole->len)
        return false;
    if (!whole->gso_size)
        whole->gso_size = (uint16_t)whole->len;
    memcpy(merge->bytes + whole->len, next->payload, next->len);
    whole->len += next->len;
    whole->flags |= next->flags;
    return true;
}

static void merge_start(struct merge *merge, struct side *side, const struct tcp_segment *first)
{
    merge->side = side;
    merge->segment = *first;
    if (first->len)
        memcpy(merge->bytes, first->payload, first->len);
    merge->segment.payload = merge->bytes;
}

static void receive_frame(struct world *world, int end, const struct port_frame *frame,
                          struct merge *merge)
{
    struct wire_packet packet;
    struct side *side;

    trace_bytes(&world->trace, TRACE_ARRIVED, world->now, frame->data, frame->len);
    if (wire_parse(frame->data, frame->len, frame->csum_trusted, &packet) != WIRE_OK)
        return;
    side = find_side(world, end, &packet.key);
    if (!side)
        return;
    if (trace_wanted(&world->trace))
        trace_line(&world->trace, world->now, "conn %u end %d: < seq %d len %u ack %d%s",
                   side->conn, end, (int)(packet.seg.seq - side->plan->side[!end].iss - 1),
                   packet.seg.len, (int)(packet.seg.ack - side->plan->side[end].iss - 1),
                   side->phase == SIDE_BETWEEN ? " (between owners)" : "");
    if (side->phase == SIDE_BETWEEN) {
        move_hold(side, frame->data, frame->len);
        return;
    }
    if (side->phase != SIDE_OWNED || !side->owner.merge || packet.seg.flags & TCP_FIN) {
        merge_flush(merge);
        if (side->phase == SIDE_BETWEEN)
            move_hold(side, frame->data, frame->len);
        else
            side_frame(side, frame->data, frame->len);
        return;
    }
    if (!merge_append(merge, side, &packet.seg)) {
        merge_flush(merge);
        if (side->phase != SIDE_OWNED) { /* it was the last that this engine saw */
            side_frame(side, frame->data, frame->len);
            return;
        }
        merge_start(merge, side, &packet.seg);
    }
    /* Only now: the checker may know of a segment no earlier than the engine does. */
    checker_arrived(world->checker, end, frame->data, frame->len, world->now);
    world_checked(world);
}

static void receive(struct world *world, int end)
{
    static struct merge merge; /* empty between calls; too large for the stack */
    struct port_frame frame[RX_BURST];
    int n;

    merge.side = NULL;
    while (world_ok(world) && (n = port_rx_burst(world->port[end], frame, RX_BURST)) > 0) {
        for (int i = 0; i < n && world_ok(world); i++)
            receive_frame(world, end, &frame[i], &merge);
        merge_flush(&merge);
        port_rx_release(world->port[end], frame, n);
    }
    for (unsigned c = 0; c < world->scenario->conns && world_ok(world); c++)
        if (world->side[c][end].phase == SIDE_OWNED && world->side[c][end].owner.lazy_output)
            side_pull(&world->side[c][end]);
}

/* ---- events of the scenario -------------------------------------------------------------- */

static void set_next_trigger(struct world *world, unsigned conn)
{
    const struct scenario *s = world->scenario;

    world->next_trigger[conn] = SIM_NEVER;
    for (unsigned i = 0; i < s->events; i++)
        if (s->event[i].conn == conn && !world->fired[i] && world->fire_at[i] == SIM_NEVER &&
            s->event[i].at_frame < world->next_trigger[conn])
            world->next_trigger[conn] = s->event[i].at_frame;
}

/* Events whose frame has been sent get their time. */
static void trigger(struct world *world)
{
    const struct scenario *s = world->scenario;

    for (unsigned c = 0; c < s->conns; c++) {
        if (world->frames[c] < world->next_trigger[c])
            continue;
        for (unsigned i = 0; i < s->events; i++)
            if (s->event[i].conn == c && !world->fired[i] && world->fire_at[i] == SIM_NEVER &&
                s->event[i].at_frame <= world->frames[c])
                world->fire_at[i] = world->now + s->event[i].delay;
        set_next_trigger(world, c);
    }
}

static void fire(struct world *world, unsigned i)
{
    const struct event *event = &world->scenario->event[i];
    struct side *side = &world->side[event->conn][event->end];
    struct sim_rng rng;

    world->fired[i] = true;
    world->fire_at[i] = SIM_NEVER;
    sim_rng_seed(&rng, event->seed);
    trace_event(&world->trace, TRACE_EVENT, world->now, event->number, (uint64_t)event->kind);
    trace_line(&world->trace, world->now, "event %u: %s, conn %u end %d", event->number,
               event_name(event->kind), event->conn, event->end);
    switch (event->kind) {
    case EVENT_MOVE:
        move_give(side, event->seed);
        break;
    case EVENT_UPDATE:
        side_update(side, event->seed);
        break;
    case EVENT_FLAP:
        sim_link_set_carrier(world->link, false);
        world->carrier_on_at = world->now + draw_scaled(&rng, MSEC, 8 * SEC);
        break;
    case EVENT_SILENT:
        sim_link_set_silent(world->link, event->end, true);
        world->silent_off_at[event->end] = world->now + draw_scaled(&rng, MSEC, 8 * SEC);
        break;
    case EVENT_IMPAIR: {
        struct sim_impair impair;

        scenario_draw_impair(&rng, &impair);
        /* The checker was told that no answer comes sooner than the first wire allows. */
        if (impair.latency_ns < world->scenario->impair[event->end].latency_ns)
            impair.latency_ns = world->scenario->impair[event->end].latency_ns;
        sim_link_set_impair(world->link, event->end, &impair);
        break;
    }
    case EVENT_ABORT:
        side_abort(side);
        break;
    case EVENT_FORGE:
        side_forge(side, event->seed);
        break;
    }
}

static void fire_due(struct world *world)
{
    trigger(world);
    for (unsigned i = 0; i < world->scenario->events && world_ok(world); i++)
        if (world->fire_at[i] <= world->now)
            fire(world, i);
    if (world->carrier_on_at <= world->now) {
        world->carrier_on_at = SIM_NEVER;
        sim_link_set_carrier(world->link, true);
    }
    for (int end = 0; end < 2; end++)
        if (world->silent_off_at[end] <= world->now) {
            world->silent_off_at[end] = SIM_NEVER;
            sim_link_set_silent(world->link, end, false);
        }
}

/* ---- time -------------------------------------------------------------------------------- */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t next_step(struct world *world)
{
    const struct scenario *s = world->scenario;
    uint64_t next = least(world->poll_at, world->carrier_on_at);

    next = least(next, sim_link_next(world->link));
    for (int end = 0; end < 2; end++)
        next = least(next, world->silent_off_at[end]);
    for (unsigned i = 0; i < s->events; i++)
        next = least(next, world->fire_at[i]);
    for (unsigned c = 0; c < s->conns; c++)
        for (int end = 0; end < 2; end++) {
            const struct side *side = &world->side[c][end];

            next = least(next, side_next_timeout(side));
            next = least(next, program_next(side));
            if (side->phase == SIDE_BETWEEN)
                next = least(next, side->move.take_at);
            next = least(next, side->move_at);
        }
    return next < world->now ? world->now : next;
}

static bool finished(const struct world *world)
{
    for (unsigned c = 0; c < world->scenario->conns; c++)
        for (int end = 0; end < 2; end++)
            if (!side_finished(&world->side[c][end]))
                return false;
    return true;
}

static void describe_stall(struct world *world, const char *what)
{
    char text[480];
    size_t at = 0;

    for (unsigned c = 0; c < world->scenario->conns; c++)
        for (int end = 0; end < 2; end++) {
            const struct side *side = &world->side[c][end];
            const struct program *p = &side->program;

            if (side_finished(side) || at + 120 > sizeof(text))
                continue;
            at += (size_t)snprintf(
                text + at, sizeof(text) - at,
                "; conn %u end %d phase %d state %d: written %" PRIu64 "/%" PRIu64 " una %" PRIu64
                " rcv_nxt %" PRIu64 " read %" PRIu64 "%s%s",
                c, end, (int)side->phase, side->phase == SIDE_OWNED ? tcp_state(side->tcp) : -1,
                p->written, p->plan->total, side->una, side->rcv_nxt, p->read,
                p->closed ? " closed" : "", p->eof ? " eof" : "");
        }
    text[at] = 0;
    world_fail(world, "stall: %s%s", what, text);
}

static void check_progress(struct world *world)
{
    for (unsigned c = 0; c < world->scenario->conns; c++) {
        const struct side *side = world->side[c];
        uint64_t progress;

        if (side_finished(&side[0]) && side_finished(&side[1]))
            continue;
        progress =
            side[0].progress_at > side[1].progress_at ? side[0].progress_at : side[1].progress_at;
        if (world->now > progress && world->now - progress > world->result->silence) {
            world->result->silence = world->now - progress;
            world->result->silence_end = world->now;
            world->result->silent_conn = c;
        }
        if (world->now > progress + STALL) {
            describe_stall(world, "no progress");
            return;
        }
    }
    if (world->result->frames > FRAMES_LIMIT)
        describe_stall(world, "too many frames");
}

static void step(struct world *world)
{
    const struct scenario *s = world->scenario;

    sim_link_advance(world->link, world->now);
    if (s->poll_delay) {
        if (world->poll_at <= world->now) {
            world->poll_at = SIM_NEVER;
            receive(world, 0);
            receive(world, 1);
        }
    } else {
        receive(world, 0);
        receive(world, 1);
    }
    for (unsigned c = 0; c < s->conns; c++)
        for (int end = 0; end < 2 && world_ok(world); end++) {
            struct side *side = &world->side[c][end];

            side_timers(side);
            if (world_ok(world) && side->phase == SIDE_BETWEEN && side->move.take_at <= world->now)
                move_take(side);
            if (world_ok(world) && side->move_at <= world->now)
                move_give(side, side->move_seed);
            if (world_ok(world))
                program_run(side);
        }
    if (world_ok(world))
        fire_due(world);
    if (world_ok(world) && !checker_tick(world->checker, world->now))
        world_checked(world);
}

/* ---- a world from beginning to end ------------------------------------------------------- */

static uint64_t min_rtt(const struct scenario *s)
{
    return s->impair[0].latency_ns + s->impair[1].latency_ns;
}

static bool clean(const struct sim_impair *impair)
{
    return !impair->loss_ppm && !impair->burst_ppm && !impair->dup_ppm && !impair->corrupt_ppm &&
           !impair->reorder_ppm && !impair->queue_frames &&
           (!impair->rate_bps || impair->rate_bps >= 100 * 1000 * 1000);
}

/* On such a wire, with a peer whose ACKs are not slower than a retransmission, nothing goes twice.
 */
static bool lossless(const struct scenario *s, unsigned conn)
{
    const struct owner_plan *a = &s->conn[conn].side[0].owner, *b = &s->conn[conn].side[1].owner;

    for (unsigned i = 0; i < s->events; i++)
        if (s->event[i].conn == conn || s->event[i].kind == EVENT_FLAP ||
            s->event[i].kind == EVENT_SILENT || s->event[i].kind == EVENT_IMPAIR)
            return false;
    return clean(&s->impair[0]) && clean(&s->impair[1]) && a->delayed_ack_ms < b->rto_min_ms &&
           b->delayed_ack_ms < a->rto_min_ms && !a->hold_fin && !b->hold_fin;
}

static void describe_conns(const struct world *world, struct checker_conn *conns)
{
    const struct scenario *s = world->scenario;

    memset(conns, 0, SIM_MAX_CONNS * sizeof(*conns));
    for (unsigned c = 0; c < s->conns; c++) {
        const struct conn_plan *plan = &s->conn[c];

        conns[c].ipv6 = s->ipv6;
        conns[c].timestamps = plan->timestamps;
        conns[c].sack = plan->sack;
        conns[c].ecn = plan->ecn;
        conns[c].mtu = s->mtu;
        conns[c].lossless = !s->mutant && lossless(s, c);
        conns[c].min_rtt = min_rtt(s);
        for (int e = 0; e < 2; e++) {
            const struct side_plan *side = &plan->side[e];
            struct checker_end *end = &conns[c].end[e];

            /* Written down here, not taken from the routes: the checker trusts nobody. */
            if (s->ipv6) {
                end->addr[0] = 0xFD;
                end->addr[15] = (uint8_t)(e + 1);
            } else {
                memcpy(end->addr, (uint8_t[]){10, 0, 0, (uint8_t)(e + 1)}, 4);
            }
            end->port = (uint16_t)(1000 * (e + 1) + (int)c);
            end->iss = side->iss;
            end->window = side->window;
            end->ts = side->ts;
            end->mss = side->mss;
            end->wscale = side->wscale;
            end->total = side->program.total;
        }
    }
}

static void world_open(struct world *world)
{
    const struct scenario *s = world->scenario;
    struct checker_conn conns[SIM_MAX_CONNS];

    world->now = SEC; /* so that "before the beginning" exists */
    world->began = world->now;
    world->poll_at = world->carrier_on_at = SIM_NEVER;
    world->silent_off_at[0] = world->silent_off_at[1] = SIM_NEVER;
    world->link = sim_link_create(s->seed ^ 0x5EED, s->mtu, &s->impair[0], &s->impair[1]);
    assert(world->link);
    sim_link_advance(world->link, world->now);
    world->port[0] = sim_link_port(world->link, 0);
    world->port[1] = sim_link_port(world->link, 1);
    describe_conns(world, conns);
    world->checker = checker_create(conns, s->conns);
    for (unsigned i = 0; i < s->events; i++)
        world->fire_at[i] = SIM_NEVER;
    for (unsigned c = 0; c < s->conns; c++) {
        set_next_trigger(world, c);
        for (int end = 0; end < 2 && world_ok(world); end++)
            side_open(&world->side[c][end], world, c, end);
    }
}

static void world_close(struct world *world)
{
    for (unsigned c = 0; c < world->scenario->conns; c++)
        for (int end = 0; end < 2; end++)
            if (world->side[c][end].world)
                side_close(&world->side[c][end]);
    for (enum checker_rule r = RULE_NONE; r < RULE_COUNT; r++)
        world->result->applied[r] = checker_applied(world->checker, r);
    checker_destroy(world->checker);
    sim_link_destroy(world->link);
}

static void run(struct world *world)
{
    unsigned at_once = 0;

    while (world_ok(world)) {
        uint64_t next;

        step(world);
        if (!world_ok(world))
            return;
        next = next_step(world);
        if (finished(world) && sim_link_next(world->link) == SIM_NEVER &&
            world->poll_at == SIM_NEVER)
            return; /* and nothing is on its way any more */
        if (next == SIM_NEVER) {
            describe_stall(world, "nothing will ever happen again");
            return;
        }
        if (next > world->now) {
            at_once = 0;
            if (world->scenario->poll_delay && world->poll_at == SIM_NEVER &&
                sim_link_next(world->link) <= next)
                world->poll_at = next + world->scenario->poll_delay;
            world->now = next;
            check_progress(world);
        } else if (++at_once > STEPS_AT_ONCE) {
            describe_stall(world, "busy without time passing");
        }
    }
}

void world_run(const struct scenario *scenario, FILE *log, struct world_result *result)
{
    struct world *world = calloc(1, sizeof(*world));

    assert(world);
    memset(result, 0, sizeof(*result));
    world->scenario = scenario;
    world->result = result;
    world->trace.log = log;
    world->trace.hash = scenario->seed;
    world_open(world);
    run(world);
    result->hash = world->trace.hash;
    result->virtual_ns = world->now;
    world_close(world);
    free(world);
}
