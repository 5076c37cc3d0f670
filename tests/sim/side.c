/* SPDX-License-Identifier: Apache-2.0 */
#include "mutant.h"

#include <assert.h>
#include <chimney/status.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CONN_ALIGN 64u
#define OUTPUT_LIMIT 20000u /* segments pulled at once: more is an endless loop */
#define FIRST_PORT 1000u
#define PPM INT64_C(1000000)
#define KA_TIMEOUT_MS 10000
#define KA_INTERVAL_MS 3000
#define KA_PROBES 12
#define KEEPALIVE_LIMIT                                                                            \
    ((KA_TIMEOUT_MS + (KA_PROBES - 1) * KA_INTERVAL_MS) * UINT64_C(1000000)) /* ns */
#define FIN_WAIT2_LIMIT (120 * UINT64_C(1000000000)) /* ns; the engine's default */

/* ---- clocks ------------------------------------------------------------------------------ */

tcp_time side_clock(const struct side *side, uint64_t now)
{
    int64_t passed = (int64_t)(now - side->owner_from);

    assert(now >= side->owner_from);
    return side->owner.epoch + (uint64_t)(passed + passed * side->owner.drift_ppm / PPM);
}

uint64_t side_world_time(const struct side *side, tcp_time owner_time)
{
    uint64_t passed, world;

    if (owner_time == TCP_TIME_NEVER)
        return SIM_NEVER;
    if (owner_time <= side->owner.epoch)
        return side->owner_from;
    passed = owner_time - side->owner.epoch;
    if (passed >= UINT64_C(1) << 50) /* weeks: as good as never */
        return SIM_NEVER;
    world =
        side->owner_from + (uint64_t)((int64_t)passed - (int64_t)passed * side->owner.drift_ppm /
                                                            (PPM + side->owner.drift_ppm));
    while (side_clock(side, world) < owner_time) /* rounding */
        world++;
    return world;
}

/* ---- rings and routes -------------------------------------------------------------------- */

struct tcp_ring side_ring(uint64_t need)
{
    struct tcp_ring ring = {.size = 2048};

    while (ring.size < need)
        ring.size *= 2;
    ring.base = malloc(ring.size);
    assert(ring.base);
    memset(ring.base, 0xEE, ring.size);
    return ring;
}

static void set_route(struct side *side)
{
    const struct scenario *s = side->world->scenario;
    struct flow_key *key = &side->route.key;
    int end = side->end;

    memset(&side->route, 0, sizeof(side->route));
    key->family = s->ipv6 ? 6 : 4;
    if (s->ipv6) {
        key->local_addr[0] = key->remote_addr[0] = 0xFD;
        key->local_addr[15] = (uint8_t)(end + 1);
        key->remote_addr[15] = (uint8_t)(!end + 1);
    } else {
        memcpy(key->local_addr, (uint8_t[]){10, 0, 0, (uint8_t)(end + 1)}, 4);
        memcpy(key->remote_addr, (uint8_t[]){10, 0, 0, (uint8_t)(!end + 1)}, 4);
    }
    key->local_port = __builtin_bswap16((uint16_t)(FIRST_PORT * (unsigned)(end + 1) + side->conn));
    key->remote_port =
        __builtin_bswap16((uint16_t)(FIRST_PORT * (unsigned)(!end + 1) + side->conn));
    memcpy(side->route.src_mac, (uint8_t[]){2, 0, 0, 0, 0, (uint8_t)(end + 1)}, 6);
    memcpy(side->route.dst_mac, (uint8_t[]){2, 0, 0, 0, 0, (uint8_t)(!end + 1)}, 6);
    side->route.ttl = 64;
}

/* ---- taking a connection ----------------------------------------------------------------- */

static uint32_t ms_to_ticks(const struct owner_plan *owner, uint64_t ms)
{
    uint64_t ticks = ms * owner->ticks_per_second / 1000;

    return ticks ? (uint32_t)ticks : 1;
}

static void set_params(struct side *side)
{
    const struct owner_plan *owner = &side->owner;
    struct tcp_params *params = &side->params;

    tcp_params_default(params);
    params->ticks_per_second = owner->ticks_per_second;
    params->ack_frequency = owner->ack_frequency;
    params->delayed_ack_ticks = ms_to_ticks(owner, owner->delayed_ack_ms);
    params->sws_prevention_ticks = ms_to_ticks(owner, 200);
    params->fin_wait2_ticks = ms_to_ticks(owner, 120 * 1000);
    params->rto_min_ticks = ms_to_ticks(owner, owner->rto_min_ms);
    params->rto_max_ticks = ms_to_ticks(owner, 120 * 1000);
}

/* A connection that may be aborted keeps alive: else a lost RST is never noticed by an idle peer.
 */
static bool may_be_aborted(const struct side *side)
{
    const struct scenario *s = side->world->scenario;

    for (unsigned i = 0; i < s->events; i++)
        if (s->event[i].kind == EVENT_ABORT && s->event[i].conn == side->conn)
            return true;
    return false;
}

static void set_cached(struct side *side)
{
    const struct owner_plan *owner = &side->owner;
    struct tcp_cached_state *cached = &side->cached;

    memset(cached, 0, sizeof(*cached));
    if (owner->keepalive || may_be_aborted(side))
        cached->flags |= TCP_FLAG_KEEP_ALIVE_ENABLED;
    if (owner->nagle)
        cached->flags |= TCP_FLAG_NAGLING_ENABLED;
    cached->initial_rcv_wnd = side->rcv.size;
    cached->path_mtu = side->mtu;
    cached->ka_probe_count = KA_PROBES;
    cached->ka_timeout = ms_to_ticks(owner, KA_TIMEOUT_MS);
    cached->ka_interval = ms_to_ticks(owner, KA_INTERVAL_MS);
}

bool side_import(struct side *side, struct tcp_import *import)
{
    const struct conn_plan *conn = side->plan;
    struct world *world = side->world;
    int error;

    set_params(side);
    set_cached(side);
    import->constant.flags = (conn->timestamps ? TCP_FLAG_TIMESTAMP_ENABLED : 0) |
                             (conn->sack ? TCP_FLAG_SACK_ENABLED : 0) |
                             (conn->scaling ? TCP_FLAG_WINDOW_SCALING_ENABLED : 0) |
                             (conn->ecn ? TCP_FLAG_ECN_ENABLED : 0);
    import->constant.snd_wind_scale = conn->side[!side->end].wscale;
    import->constant.rcv_wind_scale = conn->side[side->end].wscale;
    import->constant.remote_mss = conn->side[!side->end].mss;
    import->cached = side->cached;
    import->ip_header = side->world->scenario->ipv6 ? 40 : 20;
    import->snd = side->snd;
    import->rcv = side->rcv;
    import->fin_policy = side->owner.hold_fin ? TCP_FIN_HOLD : TCP_FIN_CONSUME;
    checker_hold_fin(world->checker, side->conn, side->end, side->owner.hold_fin);

    side->ts_taken = import->delegated.ts_time;
    mutant_import(side, import);
    side->tcp =
        aligned_alloc(CONN_ALIGN, (tcp_conn_size() + CONN_ALIGN - 1) / CONN_ALIGN * CONN_ALIGN);
    assert(side->tcp);
    memset(side->tcp, 0xA5, tcp_conn_size());
    error = tcp_import(side->tcp, &side->params, import, side_clock(side, world->now));
    if (error) {
        free(side->tcp);
        side->tcp = NULL;
        return world_fail(world, "engine: conn %u end %d: import refused with %d", side->conn,
                          side->end, error);
    }
    if (conn->key[0] & 1) /* half of the connections */
        tcp_set_cc(side->tcp, tcp_cc_by_name("reno"), side_clock(side, world->now));
    side->phase = SIDE_OWNED;
    return true;
}

/* A receive ring can only announce multiples of 1 << wscale: let it hold a few of them. */
static uint64_t least_rcv_ring(const struct side *side)
{
    uint64_t scaled = UINT64_C(8) << side->plan->side[side->end].wscale;

    return scaled > side->owner.rcv_ring ? scaled : side->owner.rcv_ring;
}

void side_open(struct side *side, struct world *world, unsigned conn, int end)
{
    const struct conn_plan *plan = &world->scenario->conn[conn];
    const struct side_plan *own = &plan->side[end], *peer = &plan->side[!end];
    struct tcp_import import;

    memset(side, 0, sizeof(*side));
    side->world = world;
    side->conn = conn;
    side->end = end;
    side->plan = plan;
    side->mtu = world->scenario->mtu;
    side->owner = own->owner;
    side->owner_from = world->now;
    side->move_at = SIM_NEVER;
    set_route(side);
    side->snd = side_ring(own->owner.snd_ring);
    side->rcv = side_ring(least_rcv_ring(side));
    program_open(&side->program, &own->program, plan->key[end] ^ own->iss);
    sim_rng_seed(&side->mutant_rng, plan->key[end]);
    side->highest_out = own->iss + 1;

    memset(&import, 0, sizeof(import));
    import.delegated = (struct tcp_delegated_state){
        .state = TcpConnectionEstablished,
        .rcv_nxt = peer->iss + 1,
        .rcv_wnd = own->window,
        .snd_una = own->iss + 1,
        .snd_nxt = own->iss + 1,
        .snd_max = own->iss + 1,
        .snd_max_possible = own->iss + 1,
        .snd_wnd = peer->window,
        .max_snd_wnd = peer->window,
        .snd_wl1 = peer->iss,
        .cwnd = own->cwnd * peer->mss,
        .ssthresh = INT32_MAX,
        .ts_recent = plan->timestamps ? peer->ts : 0,
        .ts_time = plan->timestamps ? own->ts : 0,
        .ts_last = plan->timestamps ? own->ts : 0,
        .ka_timeout_delta = TCP_TIMER_OFF,
        .retransmit_timeout_delta = TCP_TIMER_OFF,
    };
    import.quiet = plan->key[end] >> 1 & 1;
    if (side_import(side, &import))
        side_pull(side);
}

void side_close(struct side *side)
{
    move_forget(side);
    free(side->fin_frame);
    free(side->tcp);
    free(side->snd.base);
    free(side->rcv.base);
}

/* ---- output ------------------------------------------------------------------------------ */

static void send_frame(struct side *side, const struct tcp_out *out)
{
    struct world *world = side->world;
    struct port *port = world->port[side->end];
    uint8_t *frame = port_tx_reserve(port);
    size_t len;

    if (!frame) {
        port_tx_flush(port);
        frame = port_tx_reserve(port);
    }
    if (!frame) {
        world_fail(world, "the simulated port has no frame left");
        return;
    }
    side->route.ip_id++;
    len = wire_build(frame, port->caps.max_frame, &side->route, out, false);
    if (!len) {
        port_tx_cancel(port);
        world_fail(world, "engine: conn %u end %d: segment of %u bytes does not fit the wire",
                   side->conn, side->end, out->len);
        return;
    }
    mutant_frame(side, frame, len);
    trace_bytes(&world->trace, TRACE_SENT, world->now, frame, len);
    if (trace_wanted(&world->trace)) {
        struct checked_frame parsed;
        char text[240];

        checker_parse(frame, len, &parsed);
        trace_line(&world->trace, world->now, "conn %u end %d: > %s", side->conn, side->end,
                   checker_describe(&parsed, side->plan->side[side->end].iss + 1,
                                    side->plan->side[!side->end].iss + 1, text, sizeof(text)));
    }
    /* Not by the link's tap: that does not show what is sent while the carrier is off. */
    checker_sent(world->checker, side->end, frame, len, world->now);
    world_checked(world);
    world->frames[side->conn]++;
    world->result->frames++;
    port_tx_commit(port, (uint32_t)len, 0);
}

/* Cuts @len bytes out of the payload, starting at @from. */
static void cut_payload(const struct tcp_out *whole, uint32_t from, uint32_t len,
                        struct tcp_out *part)
{
    uint32_t first = from < whole->span_len[0] ? whole->span_len[0] - from : 0;

    if (first > len)
        first = len;
    part->span[0] = first ? whole->span[0] + from : NULL;
    part->span_len[0] = first;
    part->span_len[1] = len - first;
    part->span[1] = NULL;
    if (len > first)
        part->span[1] = whole->span[1] + (from + first - whole->span_len[0]);
    part->len = len;
}

void side_transmit(struct side *side, const struct tcp_out *out)
{
    uint32_t step = out->gso_size ? out->gso_size : out->len, at = 0;

    do {
        struct tcp_out part = *out;
        uint32_t len = out->len - at < step ? out->len - at : step;

        cut_payload(out, at, len, &part);
        part.seq = out->seq + at;
        part.gso_size = 0;
        if (at + len < out->len)
            part.flags &= (uint8_t) ~(TCP_FIN | TCP_PSH);
        if (at)
            part.flags &= (uint8_t)~TCP_CWR;
        send_frame(side, &part);
        at += len;
    } while (at < out->len && world_ok(side->world));
    port_tx_flush(side->world->port[side->end]);
}

/* As the engine built it, unless a mutant has it otherwise. */
static void send_mutated(struct side *side, struct tcp_out *out)
{
    enum mutant_action action = mutant_output(side, out);

    if (action != MUTANT_SWALLOW)
        side_transmit(side, out);
    if (action == MUTANT_SEND_TWICE && world_ok(side->world))
        side_transmit(side, out);
    mutant_sent(side);
}

void side_pull(struct side *side)
{
    struct world *world = side->world;
    struct tcp_out out;
    unsigned n = 0;

    while (world_ok(world) && side->phase == SIDE_OWNED &&
           tcp_output(side->tcp, side->owner.max_super, side_clock(side, world->now), &out)) {
        if (out.len != out.span_len[0] + out.span_len[1] ||
            (out.gso_size && out.len <= out.gso_size)) {
            world_fail(world, "engine: conn %u end %d: spans %u + %u, len %u, gso_size %u",
                       side->conn, side->end, out.span_len[0], out.span_len[1], out.len,
                       out.gso_size);
            return;
        }
        send_mutated(side, &out);
        if (++n > OUTPUT_LIMIT)
            world_fail(world, "engine: conn %u end %d: output does not end", side->conn, side->end);
    }
}

void side_pull_ack(struct side *side)
{
    struct world *world = side->world;
    struct tcp_out out;

    for (int n = 0; world_ok(world) && side->phase == SIDE_OWNED &&
                    tcp_output_ack(side->tcp, side_clock(side, world->now), &out);
         n++) {
        if (n || out.len || out.flags & ~(TCP_ACK | TCP_ECE)) {
            world_fail(world, "engine: conn %u end %d: more than one plain ACK before an export",
                       side->conn, side->end);
            return;
        }
        side_transmit(side, &out);
    }
}

/* ---- the host, when no engine owns the connection any more ------------------------------- */

static void host_answer(struct side *side, const struct tcp_segment *segment)
{
    const struct tcp_delegated_state *d = &side->last.delegated;
    unsigned shift = side->plan->side[side->end].wscale;
    struct tcp_out out;
    uint64_t units;

    memset(&out, 0, sizeof(out));
    if (segment->flags & TCP_RST)
        return; /* RFC 1337 for TIME_WAIT; never answer a RST with a RST */
    if (side->phase == SIDE_ABORTED && segment->flags & TCP_ACK) { /* RFC 9293 3.10.7.1 */
        out.seq = segment->ack;
        out.flags = TCP_RST;
        side_transmit(side, &out);
        return;
    }
    /* What is old is answered, as is the FIN when it comes again (RFC 9293 3.10.7.4). */
    if (side->phase != SIDE_TIME_WAIT ||
        !(segment->len || segment->flags & TCP_FIN || segment->seq != d->rcv_nxt))
        return;
    if (segment->has_timestamp && (int32_t)(segment->tsval - side->last.delegated.ts_recent) > 0)
        side->last.delegated.ts_recent = segment->tsval;
    units = ((uint64_t)d->rcv_wnd + (UINT64_C(1) << shift) - 1) >> shift;
    out.seq = d->snd_max;
    out.ack = d->rcv_nxt;
    out.window = units < 65535 ? (uint16_t)units : 65535;
    out.flags = TCP_ACK;
    out.has_timestamp = side->plan->timestamps;
    out.tsval = side->last_stamp;
    out.tsecr = d->ts_recent;
    side_transmit(side, &out);
}

/* The engine is done; the host answers from what it leaves behind. */
static void leave_engine(struct side *side, enum side_phase phase)
{
    struct world *world = side->world;

    if (phase == SIDE_TIME_WAIT) {
        struct checker_claim claim;

        side_pull(side);
        side_pull_ack(side);
        if (!world_ok(world))
            return;
        memset(&side->last, 0, sizeof(side->last));
        tcp_export(side->tcp, side_clock(side, world->now), &side->last);
        side->last_stamp = side->last.delegated.ts_last;
        claim = (struct checker_claim){
            .snd_una = side->last.delegated.snd_una,
            .snd_max = side->last.delegated.snd_max,
            .snd_max_possible = side->last.delegated.snd_max_possible,
            .rcv_nxt = side->last.delegated.rcv_nxt,
            .rcv_wnd = side->last.delegated.rcv_wnd,
            .ts_last = side->last.delegated.ts_last,
            .ts_recent = side->last.delegated.ts_recent,
        };
        checker_given(world->checker, side->conn, side->end, &claim, world->now);
        if (!world_checked(world))
            return;
        checker_taken(world->checker, side->conn, side->end, claim.snd_max, false, world->now);
    } else {
        checker_gone(world->checker, side->conn, side->end);
    }
    side->phase = phase;
    world->result->retransmits += tcp_conn_stats(side->tcp)->retransmits;
    memset(side->tcp, 0xDB, tcp_conn_size());
    free(side->tcp);
    side->tcp = NULL;
}

/* rows: C302 C303 C305 */
void side_abort(struct side *side)
{
    struct world *world = side->world;
    struct tcp_out out;
    tcp_time now = side_clock(side, world->now);

    if (side->phase != SIDE_OWNED)
        return;
    side_pull(side);
    if (!world_ok(world) || side->phase != SIDE_OWNED)
        return;
    trace_line(&world->trace, world->now, "conn %u end %d: program aborts", side->conn, side->end);
    tcp_abort(side->tcp);
    checker_aborting(world->checker, side->conn, side->end);
    if (!tcp_output(side->tcp, 0, now, &out) || !(out.flags & TCP_RST)) {
        world_fail(world, "engine: conn %u end %d: no RST after an abort", side->conn, side->end);
        return;
    }
    side_transmit(side, &out);
    if (world_ok(world) && tcp_output(side->tcp, 0, now, &out)) {
        world_fail(world, "engine: conn %u end %d: output after a RST", side->conn, side->end);
        return;
    }
    world->result->aborted++;
    leave_engine(side, SIDE_ABORTED);
}

/* ---- input ------------------------------------------------------------------------------- */

/* The positions the engine shows: they only ever grow, and within what was written. */
static bool follow_positions(struct side *side)
{
    uint64_t una = side->snd_base + tcp_una_pos(side->tcp);
    uint64_t rcv_nxt = side->rcv_base + tcp_rcv_pos(side->tcp);

    if (una < side->una || una > side->program.written)
        return world_fail(side->world,
                          "engine: conn %u end %d: una_pos is at %" PRIu64 ", was at %" PRIu64
                          ", written %" PRIu64,
                          side->conn, side->end, una, side->una, side->program.written);
    if (rcv_nxt < side->rcv_nxt || rcv_nxt - side->program.read > side->rcv.size)
        return world_fail(side->world,
                          "engine: conn %u end %d: rcv_pos is at %" PRIu64 ", was at %" PRIu64
                          ", read %" PRIu64 ", ring %u",
                          side->conn, side->end, rcv_nxt, side->rcv_nxt, side->program.read,
                          side->rcv.size);
    if (una != side->una || rcv_nxt != side->rcv_nxt)
        side->progress_at = side->advanced_at = side->world->now;
    side->una = una;
    side->rcv_nxt = rcv_nxt;
    if (tcp_state(side->tcp) != side->state && tcp_state(side->tcp) != TcpConnectionClosed) {
        side->state = tcp_state(side->tcp);
        side->advanced_at = side->world->now;
    }
    return true;
}

/*
 * The engine gives up.  Rightly so if the peer is gone.  On a bad wire a peer can also seem to be:
 * in FIN_WAIT_2 with nothing acceptable for 120 s (C409), or with all keepalive probes unanswered.
 * The host closes then, and answers what still comes with RST.
 */
static void gives_up(struct side *side, bool peer_aborted)
{
    struct world *world = side->world;
    uint64_t quiet = world->now - side->advanced_at;
    bool unheard = (side->state == TcpConnectionFinWait2 && quiet >= FIN_WAIT2_LIMIT / 100 * 99) ||
                   (side->cached.flags & TCP_FLAG_KEEP_ALIVE_ENABLED && quiet >= KEEPALIVE_LIMIT);

    trace_line(&world->trace, world->now, "conn %u end %d: gives up", side->conn, side->end);
    if (!peer_aborted && !unheard) {
        world_fail(world, "engine: conn %u end %d: gives up in state %u", side->conn, side->end,
                   side->state);
        return;
    }
    if (!peer_aborted) {
        checker_aborting(world->checker, side->conn, side->end);
        world->result->aborted++;
    }
    leave_engine(side, peer_aborted ? SIDE_RESET : SIDE_ABORTED);
}

void side_events(struct side *side, uint32_t bits)
{
    struct world *world = side->world;
    bool peer_aborted = world->side[side->conn][!side->end].phase == SIDE_ABORTED;

    if (!world_ok(world) || side->phase != SIDE_OWNED || !follow_positions(side))
        return;
    checker_acked(world->checker, side->conn, side->end, side->una, bits & TCP_EV_FIN_ACKED);
    if (!world_checked(world))
        return;
    if (bits & (TCP_EV_SYN | TCP_EV_URGENT)) {
        world_fail(world, "engine: conn %u end %d: events 0x%x without cause", side->conn,
                   side->end, bits);
        return;
    }
    if (bits & TCP_EV_RESET) {
        if (!peer_aborted)
            world_fail(world, "engine: conn %u end %d: reset, but the peer did not abort",
                       side->conn, side->end);
        trace_line(&world->trace, world->now, "conn %u end %d: reset by the peer", side->conn,
                   side->end);
        leave_engine(side, SIDE_RESET);
        return;
    }
    if (bits & TCP_EV_TIMEOUT) {
        gives_up(side, peer_aborted);
        return;
    }
    if (bits & TCP_EV_FIN) {
        if (side->owner.hold_fin) {
            side->move_at = world->now; /* up to a host that can close */
            side->move_seed = side->plan->key[0] + side->moves;
        } else {
            side->fin_arrived = true;
        }
        trace_line(&world->trace, world->now, "conn %u end %d: FIN in order%s", side->conn,
                   side->end, side->owner.hold_fin ? ", held" : "");
    }
    switch (tcp_state(side->tcp)) {
    case TcpConnectionTimeWait:
        trace_line(&world->trace, world->now, "conn %u end %d: TIME_WAIT", side->conn, side->end);
        leave_engine(side, SIDE_TIME_WAIT);
        break;
    case TcpConnectionClosed:
        trace_line(&world->trace, world->now, "conn %u end %d: closed", side->conn, side->end);
        leave_engine(side, SIDE_CLOSED);
        break;
    default:
        break;
    }
}

void side_input(struct side *side, const struct tcp_segment *segment)
{
    struct world *world = side->world;
    struct tcp_segment seen = *segment;

    if (side->phase != SIDE_OWNED) {
        host_answer(side, segment);
        return;
    }
    mutant_input(side, &seen);
    side_events(side, tcp_input(side->tcp, &seen, side_clock(side, world->now)));
    if (!side->owner.lazy_output && world_ok(world))
        side_pull(side);
}

static void keep_fin(struct side *side, const uint8_t *frame, uint32_t len)
{
    free(side->fin_frame);
    side->fin_frame = malloc(sizeof(*side->fin_frame) + len);
    assert(side->fin_frame);
    side->fin_frame->len = len;
    memcpy(side->fin_frame->data, frame, len);
}

void side_frame(struct side *side, const uint8_t *frame, uint32_t len)
{
    struct world *world = side->world;
    struct wire_packet packet;

    if (wire_parse(frame, len, false, &packet) != WIRE_OK) {
        world_fail(world, "wire: a frame was parsed once and is refused now");
        return;
    }
    checker_arrived(world->checker, side->end, frame, len, world->now);
    if (!world_checked(world))
        return;
    if (packet.seg.flags & TCP_FIN && side->owner.hold_fin)
        keep_fin(side, frame, len);
    side_input(side, &packet.seg);
}

/* ---- time -------------------------------------------------------------------------------- */

uint64_t side_next_timeout(const struct side *side)
{
    if (side->phase != SIDE_OWNED)
        return SIM_NEVER;
    return side_world_time(side, tcp_next_timeout(side->tcp));
}

void side_timers(struct side *side)
{
    struct world *world = side->world;

    if (side_next_timeout(side) > world->now)
        return;
    side_events(side, tcp_timeout(side->tcp, side_clock(side, world->now)));
    side_pull(side);
}

/* ---- an attacker ------------------------------------------------------------------------- */

/*
 * None of these may do more than provoke an ACK (RFC 5961, contract.md 5.3, C413 to C417).  Blind
 * means: what would be a lucky hit (RST or SYN at exactly RCV.NXT, data in window with a good
 * acknowledgement) is left out.
 */
static void draw_forgery(struct side *side, struct sim_rng *rng, struct tcp_segment *segment)
{
    static const uint8_t garbage[600];
    struct tcp_export state;
    uint32_t next, window, far;

    memset(&state, 0, sizeof(state));
    tcp_query(side->tcp, side_clock(side, side->world->now), &state);
    next = state.delegated.rcv_nxt;
    window = state.delegated.rcv_wnd;
    far = 2 + (uint32_t)draw_scaled(rng, 1, UINT32_C(1) << 29);

    memset(segment, 0, sizeof(*segment));
    segment->window = (uint16_t)sim_rng_next(rng);
    segment->ack = state.delegated.snd_una;
    segment->has_timestamp = side->plan->timestamps && draw_percent(rng, 50);
    segment->tsval = (uint32_t)sim_rng_next(rng);
    segment->tsecr = (uint32_t)sim_rng_next(rng);
    segment->seq = next + window + far; /* beyond the window */
    if (draw_percent(rng, 50) && window > 1)
        segment->seq = next + 1 + (uint32_t)sim_rng_below(rng, window - 1); /* inside */
    switch (sim_rng_below(rng, 4)) {
    case 0:
        segment->flags = TCP_RST | (draw_percent(rng, 50) ? TCP_ACK : 0);
        break;
    case 1:
        segment->flags = TCP_SYN | (draw_percent(rng, 50) ? TCP_ACK : 0);
        break;
    case 2: /* data, with an acknowledgement of what nobody ever sent */
        segment->flags = TCP_ACK | (draw_percent(rng, 20) ? TCP_FIN : 0);
        segment->ack = state.delegated.snd_max_possible + far;
        segment->payload = garbage;
        segment->len = (uint32_t)draw_between(rng, 1, sizeof(garbage));
        break;
    default: /* data beyond the window */
        segment->flags = TCP_ACK;
        segment->seq = next + window + far;
        segment->payload = garbage;
        segment->len = (uint32_t)draw_between(rng, 1, sizeof(garbage));
        break;
    }
}

/* rows: C413-C415 C417 */
void side_forge(struct side *side, uint64_t seed)
{
    struct world *world = side->world;
    struct sim_rng rng;

    sim_rng_seed(&rng, seed);
    for (uint64_t n = draw_between(&rng, 1, 5); n && side->phase == SIDE_OWNED; n--) {
        struct tcp_segment segment;

        draw_forgery(side, &rng, &segment);
        trace_line(&world->trace, world->now, "conn %u end %d: < forged flags 0x%02x seq %d len %u",
                   side->conn, side->end, segment.flags,
                   (int)(segment.seq - side->plan->side[!side->end].iss - 1), segment.len);
        side_input(side, &segment);
        if (world_ok(world))
            side_pull(side);
        if (!world_ok(world))
            return;
    }
}

/* ---- the host's other verbs -------------------------------------------------------------- */

/* rows: C196 */
void side_update(struct side *side, uint64_t seed)
{
    struct world *world = side->world;
    struct sim_rng rng;

    if (side->phase != SIDE_OWNED)
        return;
    sim_rng_seed(&rng, seed);
    side_pull(side);
    if (draw_percent(&rng, 60)) {
        side->mtu =
            (uint32_t)draw_between(&rng, world->scenario->ipv6 ? 1280 : 296, world->scenario->mtu);
        side->cached.path_mtu = side->mtu;
        checker_mtu(world->checker, side->conn, side->end, side->mtu, world->now);
    }
    if (draw_percent(&rng, 40)) {
        side->cached.initial_rcv_wnd =
            (uint32_t)draw_between(&rng, side->rcv.size / 2, side->rcv.size);
        side->cached.flags |= TCP_FLAG_UPDATE_RCV_WND;
    }
    if (draw_percent(&rng, 40))
        side->cached.flags ^= TCP_FLAG_NAGLING_ENABLED;
    if (draw_percent(&rng, 30))
        side->cached.flags |= TCP_FLAG_KEEP_ALIVE_ENABLED | TCP_FLAG_KEEP_ALIVE_RESTART;
    else if (draw_percent(&rng, 30) && !may_be_aborted(side))
        side->cached.flags &= (uint16_t)~TCP_FLAG_KEEP_ALIVE_ENABLED;
    if (draw_percent(&rng, 30))
        side->cached.max_rt =
            draw_percent(&rng, 50) ? UINT32_MAX : ms_to_ticks(&side->owner, 600 * 1000);
    if (draw_percent(&rng, 30))
        side->cached.flags |= TCP_FLAG_MAX_RT_RESTART;
    trace_line(&world->trace, world->now,
               "conn %u end %d: update: flags 0x%x, path MTU %u, window %u", side->conn, side->end,
               side->cached.flags, side->cached.path_mtu, side->cached.initial_rcv_wnd);
    side_events(side, tcp_update(side->tcp, &side->cached, side_clock(side, world->now)));
    side->cached.flags &= (uint16_t) ~(TCP_FLAG_UPDATE_RCV_WND | TCP_FLAG_KEEP_ALIVE_RESTART |
                                       TCP_FLAG_MAX_RT_RESTART);
    side_pull(side);
}

bool side_finished(const struct side *side)
{
    switch (side->phase) {
    case SIDE_TIME_WAIT:
    case SIDE_CLOSED:
        return side->program.eof;
    case SIDE_RESET:
    case SIDE_ABORTED:
        return true;
    default:
        return false;
    }
}
