/* SPDX-License-Identifier: Apache-2.0 */
#include "scenario.h"

#include <inttypes.h>
#include <string.h>

#define USEC UINT64_C(1000)
#define MSEC UINT64_C(1000000)
#define SEC UINT64_C(1000000000)

uint64_t draw_between(struct sim_rng *rng, uint64_t low, uint64_t high)
{
    return low + sim_rng_below(rng, high - low + 1);
}

uint64_t draw_scaled(struct sim_rng *rng, uint64_t low, uint64_t high)
{
    unsigned octaves = 0;
    uint64_t from, to;

    while (octaves < 62 && low << (octaves + 1) <= high)
        octaves++;
    from = low << sim_rng_below(rng, octaves + 1u);
    to = from * 2 - 1 < high ? from * 2 - 1 : high;
    return draw_between(rng, from, to);
}

bool draw_percent(struct sim_rng *rng, unsigned percent)
{
    return sim_rng_below(rng, 100) < percent;
}

static uint32_t maybe_ppm(struct sim_rng *rng, unsigned percent, uint32_t low, uint32_t high)
{
    uint32_t ppm = (uint32_t)draw_scaled(rng, low, high);

    return draw_percent(rng, percent) ? ppm : 0;
}

void scenario_draw_impair(struct sim_rng *rng, struct sim_impair *impair)
{
    bool rough = draw_percent(rng, 75);

    memset(impair, 0, sizeof(*impair));
    impair->latency_ns = draw_scaled(rng, 5 * USEC, 150 * MSEC);
    if (draw_percent(rng, 60))
        impair->rate_bps = draw_scaled(rng, 500 * 1000, UINT64_C(10000) * 1000 * 1000);
    if (draw_percent(rng, 50))
        impair->jitter_ns = draw_between(rng, 0, impair->latency_ns / 2);
    if (impair->rate_bps && draw_percent(rng, 60)) {
        impair->queue_frames = (uint32_t)draw_scaled(rng, 4, 256);
        if (draw_percent(rng, 50))
            impair->mark_frames = 1 + impair->queue_frames / 4;
    }
    if (!rough)
        return;
    impair->loss_ppm = maybe_ppm(rng, 60, 100, 60 * 1000);
    impair->burst_ppm = maybe_ppm(rng, 20, 100, 4000);
    impair->burst_len = (uint32_t)draw_between(rng, 2, 6);
    impair->dup_ppm = maybe_ppm(rng, 25, 100, 50 * 1000);
    impair->corrupt_ppm = maybe_ppm(rng, 25, 100, 20 * 1000);
    impair->reorder_ppm = maybe_ppm(rng, 35, 100, 100 * 1000);
    impair->reorder_ns = draw_scaled(rng, 10 * USEC, 20 * MSEC);
}

void scenario_draw_owner(struct sim_rng *rng, struct owner_plan *owner)
{
    static const uint32_t ticks[] = {1000000, 1000000, 1000000, 1000, 250, 100000};
    unsigned largest; /* ring, as a power of two */

    memset(owner, 0, sizeof(*owner));
    owner->ticks_per_second = ticks[sim_rng_below(rng, 6)];
    owner->delayed_ack_ms = draw_percent(rng, 70) ? 40 : (uint32_t)draw_between(rng, 4, 400);
    owner->rto_min_ms = draw_percent(rng, 70) ? 200 : (uint32_t)draw_between(rng, 100, 1000);
    owner->ack_frequency = draw_percent(rng, 80) ? 2 : 1;
    owner->drift_ppm = (int32_t)draw_between(rng, 0, 400) - 200;
    owner->epoch = draw_scaled(rng, SEC, UINT64_C(40) * 86400 * SEC);
    owner->max_super = draw_percent(rng, 50) ? (uint32_t)draw_scaled(rng, 2000, 65000) : 0;
    owner->merge = draw_percent(rng, 40);
    owner->lazy_output = draw_percent(rng, 40);
    owner->hold_fin = draw_percent(rng, 40);
    owner->nagle = draw_percent(rng, 30);
    owner->keepalive = draw_percent(rng, 20);
    largest = draw_percent(rng, 10) ? 20 : 18;
    owner->snd_ring = 1u << draw_between(rng, 11, largest);
    owner->rcv_ring = 1u << draw_between(rng, 11, largest);
}

static void draw_program(struct sim_rng *rng, struct program_plan *plan, uint64_t total)
{
    memset(plan, 0, sizeof(*plan));
    switch (sim_rng_below(rng, 5)) {
    case 0: /* as fast as it goes */
    case 1:
        plan->write_min = 1;
        plan->write_max = 65536;
        break;
    case 2: /* bursts */
        plan->write_min = 1;
        plan->write_max = (uint32_t)draw_scaled(rng, 100, 20000);
        plan->write_burst = (uint32_t)draw_between(rng, 1, 30);
        plan->write_rest = draw_scaled(rng, MSEC, 2 * SEC);
        break;
    case 3: /* a trickle of small writes */
        plan->write_min = 1;
        plan->write_max = (uint32_t)draw_between(rng, 1, 200);
        plan->write_pause = draw_scaled(rng, 20 * USEC, 100 * MSEC);
        if (total > 4000)
            total = 4000;
        break;
    default: /* stop and go */
        plan->write_min = 500;
        plan->write_max = 9000;
        plan->write_pause = draw_scaled(rng, USEC, 10 * MSEC);
        plan->write_burst = (uint32_t)draw_between(rng, 1, 10);
        plan->write_rest = draw_scaled(rng, 10 * MSEC, 5 * SEC);
        break;
    }
    plan->total = total;
    plan->push_ppm = draw_percent(rng, 50) ? 1000000 : (uint32_t)sim_rng_below(rng, 1000000);
    if (plan->write_rest && plan->write_max < 1 + total / 200) /* not for hours */
        plan->write_max = (uint32_t)(1 + total / 200);

    plan->read_max = UINT32_MAX;
    switch (sim_rng_below(rng, 5)) {
    case 0: /* small pieces, slowly */
        plan->read_max = (uint32_t)draw_scaled(rng, 500, 8000);
        plan->read_pause = draw_scaled(rng, 100 * USEC, 30 * MSEC);
        break;
    case 1: /* stops, and lets the window close */
        plan->read_stop_after = draw_scaled(rng, 2000, 100 * 1000);
        plan->read_stop = draw_scaled(rng, 10 * MSEC, 10 * SEC);
        break;
    case 2: /* a little after each arrival */
        plan->read_pause = draw_scaled(rng, USEC, 5 * MSEC);
        break;
    default: /* at once */
        break;
    }
    if (draw_percent(rng, 30))
        plan->close_delay = draw_scaled(rng, USEC, 5 * SEC);
}

/* Bytes of one stream, so that a world stays within a few thousand segments. */
static uint64_t draw_total(struct sim_rng *rng, uint32_t mss)
{
    uint64_t most = (uint64_t)mss * 400;

    if (most > 400 * 1000)
        most = 400 * 1000;
    switch (sim_rng_below(rng, 6)) {
    case 0:
        return sim_rng_below(rng, 3);
    case 1:
        return draw_scaled(rng, 1, 2000);
    case 2:
        return draw_percent(rng, 25) ? draw_scaled(rng, 4 * most, 8 * most) : most;
    default:
        return draw_scaled(rng, 1000, most);
    }
}

static uint32_t draw_sequence(struct sim_rng *rng)
{
    uint32_t random = (uint32_t)sim_rng_next(rng);

    if (draw_percent(rng, 30)) /* wraps soon */
        return UINT32_MAX - (uint32_t)sim_rng_below(rng, 100 * 1000);
    if (draw_percent(rng, 10)) /* changes its sign soon */
        return 0x7FFFFFFFu - (uint32_t)sim_rng_below(rng, 100 * 1000);
    return random;
}

static void draw_conn(struct sim_rng *rng, struct scenario *s, struct conn_plan *conn)
{
    uint32_t largest_mss = s->mtu - (s->ipv6 ? 60 : 40);
    bool last = draw_percent(rng, 50);

    memset(conn, 0, sizeof(*conn));
    conn->timestamps = draw_percent(rng, 75);
    conn->scaling = draw_percent(rng, 75);
    conn->sack = draw_percent(rng, 80);
    conn->ecn = draw_percent(rng, 25);
    for (int e = 0; e < 2; e++) {
        struct side_plan *side = &conn->side[e];

        conn->key[e] = sim_rng_next(rng);
        side->iss = draw_sequence(rng);
        side->ts = draw_sequence(rng);
        side->mss = (uint16_t)largest_mss;
        if (draw_percent(rng, 20))
            side->mss = (uint16_t)draw_between(rng, 200, largest_mss);
        scenario_draw_owner(rng, &side->owner);
        side->cwnd = draw_percent(rng, 75) ? 10 : (uint32_t)draw_scaled(rng, 1, 2000);
        if (conn->scaling)
            side->wscale =
                (uint8_t)(draw_percent(rng, 80) ? sim_rng_below(rng, 9) : sim_rng_below(rng, 15));
        side->window = side->owner.rcv_ring < 65535 ? side->owner.rcv_ring : 65535;
        if (draw_percent(rng, 30))
            side->window = (uint32_t)draw_between(rng, side->window / 2, side->window);
    }
    for (int e = 0; e < 2; e++)
        draw_program(rng, &conn->side[e].program, draw_total(rng, conn->side[!e].mss));
    if (last)
        conn->side[sim_rng_below(rng, 2)].program.close_last = true;
    if (draw_percent(rng, 25)) {
        struct program_plan *responder = &conn->side[conn->side[1].program.close_last].program;

        responder->respond = true;
    }
}

static uint64_t frames_expected(const struct conn_plan *conn)
{
    uint64_t frames = 8;

    for (int e = 0; e < 2; e++)
        frames += conn->side[e].program.total / conn->side[!e].mss * 3 / 2;
    return frames;
}

static void add_event(struct sim_rng *rng, struct scenario *s, enum event_kind kind, unsigned conn)
{
    struct event *event;

    if (s->events == SIM_MAX_EVENTS)
        return;
    event = &s->event[s->events];
    event->number = s->events++;
    event->kind = kind;
    event->conn = conn;
    event->end = (int)sim_rng_below(rng, 2);
    event->at_frame = sim_rng_below(rng, frames_expected(&s->conn[conn]));
    event->delay = draw_percent(rng, 50) ? 0 : draw_scaled(rng, USEC, 400 * MSEC);
    event->seed = sim_rng_next(rng);
}

static void draw_events(struct sim_rng *rng, struct scenario *s)
{
    for (unsigned c = 0; c < s->conns; c++) {
        static const unsigned most[] = {0, 2, 8, 8, 20, 60};
        uint64_t moves = draw_between(rng, 0, most[sim_rng_below(rng, 6)]);
        uint64_t frames = frames_expected(&s->conn[c]);

        if (moves > frames)
            moves = frames;
        while (moves--)
            add_event(rng, s, EVENT_MOVE, c);
        for (uint64_t n = draw_percent(rng, 30) ? draw_between(rng, 1, 3) : 0; n; n--)
            add_event(rng, s, EVENT_UPDATE, c);
        if (draw_percent(rng, 6))
            add_event(rng, s, EVENT_ABORT, c);
        for (uint64_t n = draw_percent(rng, 20) ? draw_between(rng, 1, 6) : 0; n; n--)
            add_event(rng, s, EVENT_FORGE, c);
    }
    if (draw_percent(rng, 15))
        add_event(rng, s, EVENT_FLAP, 0);
    if (draw_percent(rng, 15))
        add_event(rng, s, EVENT_SILENT, 0);
    if (draw_percent(rng, 15))
        add_event(rng, s, EVENT_IMPAIR, 0);
}

void scenario_draw(struct scenario *s, uint64_t seed)
{
    static const uint32_t mtus[] = {1500, 1500, 1500, 1500, 9000, 1280, 576};
    struct sim_rng rng;

    memset(s, 0, sizeof(*s));
    sim_rng_seed(&rng, seed);
    s->seed = seed;
    s->mtu = mtus[sim_rng_below(&rng, 7)];
    s->ipv6 = draw_percent(&rng, 40) && s->mtu >= 1280;
    s->poll_delay = draw_percent(&rng, 40) ? draw_scaled(&rng, USEC, 300 * USEC) : 0;
    scenario_draw_impair(&rng, &s->impair[0]);
    if (draw_percent(&rng, 50)) {
        s->impair[1] = s->impair[0];
    } else {
        scenario_draw_impair(&rng, &s->impair[1]);
    }
    s->conns = (unsigned)draw_between(&rng, 1, SIM_MAX_CONNS);
    for (unsigned c = 0; c < s->conns; c++)
        draw_conn(&rng, s, &s->conn[c]);
    draw_events(&rng, s);
}

const char *event_name(enum event_kind kind)
{
    static const char *const names[] = {"move",   "update", "flap", "silent",
                                        "impair", "abort",  "forge"};

    return names[kind];
}

static void print_impair(const struct sim_impair *i, const char *name, FILE *out)
{
    fprintf(out,
            "  wire %s: latency %" PRIu64 " us, rate %" PRIu64 " kbit/s, jitter %" PRIu64
            " us, queue %u, mark %u\n"
            "    ppm: loss %u, burst %u (of %u), duplicate %u, corrupt %u, reorder %u (by %" PRIu64
            " us)\n",
            name, i->latency_ns / USEC, i->rate_bps / 1000, i->jitter_ns / USEC, i->queue_frames,
            i->mark_frames, i->loss_ppm, i->burst_ppm, i->burst_len, i->dup_ppm, i->corrupt_ppm,
            i->reorder_ppm, i->reorder_ns / USEC);
}

void scenario_print(const struct scenario *s, FILE *out)
{
    fprintf(out,
            "seed %" PRIu64 ": IPv%d, MTU %u, poll delay %" PRIu64
            " us, %u connections, %u events\n",
            s->seed, s->ipv6 ? 6 : 4, s->mtu, s->poll_delay / USEC, s->conns, s->events);
    print_impair(&s->impair[0], "0 to 1", out);
    print_impair(&s->impair[1], "1 to 0", out);
    for (unsigned c = 0; c < s->conns; c++) {
        const struct conn_plan *conn = &s->conn[c];

        fprintf(out, "  conn %u:%s%s%s%s\n", c, conn->timestamps ? " timestamps" : "",
                conn->scaling ? " scaling" : "", conn->sack ? " sack" : "",
                conn->ecn ? " ecn" : "");
        for (int e = 0; e < 2; e++) {
            const struct side_plan *side = &conn->side[e];
            const struct program_plan *p = &side->program;

            fprintf(out,
                    "    end %d: iss %u, MSS %u, window %u << %u, rings %u/%u%s%s%s%s\n"
                    "      writes %" PRIu64 " by %u-%u every %" PRIu64 " us, rests %" PRIu64
                    " us after %u%s\n"
                    "      reads up to %u every %" PRIu64 " us, stops %" PRIu64 " us after %" PRIu64
                    "%s\n",
                    e, side->iss, side->mss, side->window, side->wscale, side->owner.snd_ring,
                    side->owner.rcv_ring, side->owner.nagle ? " nagle" : "",
                    side->owner.merge ? " merge" : "", side->owner.lazy_output ? " lazy" : "",
                    side->owner.hold_fin ? " hold-fin" : "", p->total, p->write_min, p->write_max,
                    p->write_pause / USEC, p->write_rest / USEC, p->write_burst,
                    p->respond ? ", responds" : "", p->read_max, p->read_pause / USEC,
                    p->read_stop / USEC, p->read_stop_after, p->close_last ? ", closes last" : "");
        }
    }
    for (unsigned i = 0; i < s->events; i++)
        fprintf(out, "  event %u: %s of conn %u end %d at its frame %" PRIu64 " + %" PRIu64 " us\n",
                s->event[i].number, event_name(s->event[i].kind), s->event[i].conn, s->event[i].end,
                s->event[i].at_frame, s->event[i].delay / USEC);
}
