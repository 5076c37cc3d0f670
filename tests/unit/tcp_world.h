/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two engines and a lossy wire between them, in virtual time, from one seed.
 *
 * Each end writes a stream whose every byte follows from (seed, direction, offset), and checks what
 * it reads against the same rule.  A witness on the wire checks every segment that an engine emits.
 */
#ifndef TEST_TCP_WORLD_H
#define TEST_TCP_WORLD_H

#include <chimney/status.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tcp/tcp.h"

#define WORLD_CHECK(what, ...)                                                                     \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "%s:%d: seed %llu: %s: ", __FILE__, __LINE__,                          \
                    (unsigned long long)world_seed, #what);                                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static uint64_t world_seed;

static inline uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

struct rng {
    uint64_t state;
};

static inline uint64_t rng_next(struct rng *r)
{
    return mix(r->state++);
}
static inline uint32_t rng_below(struct rng *r, uint32_t n)
{
    return n ? (uint32_t)(rng_next(r) % n) : 0;
}
static inline bool rng_chance(struct rng *r, uint32_t per_myriad)
{
    return rng_below(r, 10000) < per_myriad;
}

struct world_config {
    uint32_t loss, dup, reorder; /* per 10,000 segments */
    tcp_time delay, jitter;
    uint64_t bytes[2]; /* what each end writes */
    uint32_t snd_ring, rcv_ring;
    uint32_t iss[2];
    uint8_t scale;
    bool timestamps, sack, nagle, ecn;
    uint32_t ce; /* per 10,000 segments */
    uint32_t max_super, mss;
    bool gro;
    tcp_time lazy_reader; /* the reader pauses up to this long */
    tcp_time move_every;  /* hand an end over to a new engine; 0: never */
    bool moves_lose_ooo;
    uint32_t imported_wnd; /* 0: the ring */
    const char *cc;
    tcp_time limit;
    uint64_t steps;
};

struct world_packet {
    tcp_time at;
    uint64_t order;
    int to;
    struct tcp_segment seg;
    uint8_t *bytes;
};

struct world_end {
    struct tcp_conn *conn;
    uint8_t *snd, *rcv;
    struct tcp_cached_state cached;
    struct tcp_const_state constant;
    uint64_t written, una_base; /* stream offset of position 0 of the send ring */
    uint64_t read, rcv_base;    /* stream offset of position 0 of the receive ring */
    uint64_t rcv_tail;          /* position consumed */
    bool fin_wanted, fin_seen, fin_acked, done;
    tcp_time read_at, write_at;
    /* witness */
    uint32_t sent_end, edge, last_ts;
    bool has_edge, has_ts;
    unsigned moves;
};

struct world {
    struct world_config config;
    struct tcp_params params;
    struct rng rng;
    tcp_time now;
    struct world_end end[2];
    struct world_packet *queue;
    unsigned count, room;
    uint64_t order;
    tcp_time next_move;
    uint64_t wire_segments, wire_lost;
};

static inline uint8_t world_byte(uint64_t seed, int dir, uint64_t offset)
{
    return (uint8_t)(mix(seed * 2 + dir + (offset >> 3) * 0x100000001b3ull) >> (8 * (offset & 7)));
}

static inline bool packet_before(const struct world_packet *a, const struct world_packet *b)
{
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}

static void queue_push(struct world *w, struct world_packet p)
{
    unsigned i = w->count++;

    if (w->count > w->room) {
        w->room = w->room ? w->room * 2 : 64;
        w->queue = realloc(w->queue, w->room * sizeof(p));
    }
    p.order = w->order++;
    while (i && packet_before(&p, &w->queue[(i - 1) / 2])) {
        w->queue[i] = w->queue[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->queue[i] = p;
}

static struct world_packet queue_pop(struct world *w)
{
    struct world_packet top = w->queue[0], last = w->queue[--w->count];
    unsigned i = 0;

    for (;;) {
        unsigned child = 2 * i + 1;

        if (child >= w->count)
            break;
        if (child + 1 < w->count && packet_before(&w->queue[child + 1], &w->queue[child]))
            child++;
        if (!packet_before(&w->queue[child], &last))
            break;
        w->queue[i] = w->queue[child];
        i = child;
    }
    if (w->count)
        w->queue[i] = last;
    return top;
}

/* Every segment an engine emits, before the wire touches it. */
static void witness(struct world *w, int from, const struct tcp_out *out)
{
    struct world_end *me = &w->end[from], *peer = &w->end[!from];
    uint32_t end = out->seq + out->len + (out->flags & TCP_FIN ? 1 : 0);
    uint32_t edge = out->ack + ((uint32_t)out->window << w->config.scale);

    WORLD_CHECK(!(out->flags & TCP_RST), "an engine sent a RST");
    /* Never acknowledges what the peer did not send. */
    WORLD_CHECK(seq_leq(out->ack, peer->sent_end), "ack %u of %u", out->ack, peer->sent_end);
    /* Never sends beyond the window. */
    if (end != out->seq && peer->has_edge)
        WORLD_CHECK(seq_leq(end, peer->edge + (1u << w->config.scale) - 1), "end %u edge %u", end,
                    peer->edge);
    for (int i = 0; i < out->sack_count; i++) {
        WORLD_CHECK(seq_lt(out->sack[i].left, out->sack[i].right), "empty SACK block");
        WORLD_CHECK(seq_leq(out->sack[i].right, peer->sent_end), "SACK of nothing");
    }
    /* The right edge recedes by less than a unit of the scale. */
    if (me->has_edge)
        WORLD_CHECK(seq_gt(edge + (1u << w->config.scale), me->edge), "edge %u was %u", edge,
                    me->edge);
    if (!me->has_edge || seq_gt(edge, me->edge))
        me->edge = edge;
    me->has_edge = true;
    if (w->config.timestamps) {
        WORLD_CHECK(out->has_timestamp, "no stamp");
        WORLD_CHECK(!me->has_ts || seq_geq(out->tsval, me->last_ts), "stamp steps back");
        me->last_ts = out->tsval;
        me->has_ts = true;
    }
    if (seq_gt(end, me->sent_end))
        me->sent_end = end;
    if (out->gso_size)
        WORLD_CHECK(out->gso_size < out->len, "gso_size of a single segment");
    WORLD_CHECK(out->len <=
                    (w->config.max_super > w->config.mss ? w->config.max_super : w->config.mss),
                "len %u", out->len);
}

/* Onto the wire, one MSS at a time. */
static void wire_send(struct world *w, int from, const struct tcp_out *out)
{
    uint32_t size = out->gso_size ? out->gso_size : out->len, done = 0;
    uint8_t *flat = malloc(out->len + 1);

    witness(w, from, out);
    if (out->span_len[0])
        memcpy(flat, out->span[0], out->span_len[0]);
    if (out->span_len[1])
        memcpy(flat + out->span_len[0], out->span[1], out->span_len[1]);
    do {
        uint32_t len = out->len - done < size ? out->len - done : size;
        struct world_packet p = {.to = !from};
        bool last = done + len == out->len;
        int copies = 1;

        p.seg = (struct tcp_segment){
            .seq = out->seq + done,
            .ack = out->ack,
            .window = out->window,
            .flags = out->flags,
            .ecn = out->ecn,
            .has_timestamp = out->has_timestamp,
            .tsval = out->tsval,
            .tsecr = out->tsecr,
            .sack_count = out->sack_count,
            .len = len,
        };
        memcpy(p.seg.sack, out->sack, sizeof(p.seg.sack));
        if (!last)
            p.seg.flags &= ~(TCP_FIN | TCP_PSH);
        if (done)
            p.seg.flags &= ~TCP_CWR;
        w->wire_segments++;
        if (rng_chance(&w->rng, w->config.loss)) {
            w->wire_lost++;
            copies = 0;
        } else if (rng_chance(&w->rng, w->config.dup)) {
            copies = 2;
        }
        if (p.seg.ecn && rng_chance(&w->rng, w->config.ce))
            p.seg.ecn = TCP_ECN_CE;
        for (int i = 0; i < copies; i++) {
            p.at = w->now + w->config.delay;
            if (w->config.jitter && rng_chance(&w->rng, w->config.reorder))
                p.at += rng_next(&w->rng) % w->config.jitter;
            p.bytes = malloc(len + 1);
            memcpy(p.bytes, flat + done, len);
            p.seg.payload = p.bytes;
            queue_push(w, p);
        }
        done += len;
    } while (done < out->len);
    free(flat);
}

static void pump(struct world *w, int who)
{
    struct tcp_out out;
    unsigned n = 0;

    while (tcp_output(w->end[who].conn, w->config.max_super, w->now, &out)) {
        wire_send(w, who, &out);
        WORLD_CHECK(++n < 100000, "output without end");
    }
}

static void world_events(struct world *w, int who, uint32_t events)
{
    struct world_end *e = &w->end[who];

    WORLD_CHECK(!(events & (TCP_EV_RESET | TCP_EV_SYN | TCP_EV_URGENT | TCP_EV_TIMEOUT)),
                "end %d: events %x at %llu ms", who, events,
                (unsigned long long)(w->now / TCP_MSEC));
    if (events & TCP_EV_FIN)
        e->fin_seen = true;
    if (events & TCP_EV_FIN_ACKED)
        e->fin_acked = true;
}

static void program_write(struct world *w, int who)
{
    struct world_end *e = &w->end[who];
    uint64_t una = e->una_base + tcp_una_pos(e->conn);
    uint64_t room = w->config.snd_ring - (e->written - una);
    uint64_t left = w->config.bytes[who] - e->written, n;

    n = 1 + rng_below(&w->rng, rng_chance(&w->rng, 5000) ? 200 : 40000);
    n = n < room ? n : room;
    n = n < left ? n : left;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t pos = e->written + i - e->una_base;

        e->snd[pos & (w->config.snd_ring - 1)] = world_byte(world_seed, who, e->written + i);
    }
    e->written += n;
    if (n)
        WORLD_CHECK(
            !tcp_send_ready(e->conn, e->written - e->una_base, rng_chance(&w->rng, 5000), w->now),
            "send_ready refused");
    if (e->written == w->config.bytes[who] && !e->fin_wanted) {
        e->fin_wanted = true;
        tcp_shutdown(e->conn, w->now);
    }
    pump(w, who);
}

static void program_read(struct world *w, int who)
{
    struct world_end *e = &w->end[who];
    uint64_t pos = tcp_rcv_pos(e->conn), n = pos - e->rcv_tail;

    if (rng_chance(&w->rng, 3000) && n > 1)
        n = 1 + rng_below(&w->rng, (uint32_t)n);
    for (uint64_t i = 0; i < n; i++) {
        uint8_t got = e->rcv[(e->rcv_tail + i) & (w->config.rcv_ring - 1)];

        WORLD_CHECK(got == world_byte(world_seed, !who, e->read + i), "end %d: byte %llu", who,
                    (unsigned long long)(e->read + i));
    }
    e->rcv_tail += n;
    e->read += n;
    if (n)
        WORLD_CHECK(tcp_recv_consumed(e->conn, e->rcv_tail, w->now) >= 0, "consumed refused");
    pump(w, who);
}

/* Hands one end over to a fresh engine with fresh rings, as an upload and an offload would. */
static void world_move(struct world *w, int who)
{
    struct world_end *e = &w->end[who];
    struct tcp_export *x = malloc(sizeof(*x));
    struct tcp_import in = {0};
    uint8_t *snd = malloc(w->config.snd_ring), *rcv = malloc(w->config.rcv_ring);
    uint64_t snd_len, rcv_len;

    pump(w, who); /* an ACK that is due leaves first (C215) */
    if (tcp_state(e->conn) > TcpConnectionLastAck || tcp_state(e->conn) < TcpConnectionEstablished)
        goto out;
    tcp_export(e->conn, w->now, x);
    snd_len = x->snd_end_pos - x->una_pos;
    rcv_len = x->rcv_pos - e->rcv_tail;
    for (uint64_t i = 0; i < snd_len; i++)
        snd[i] = e->snd[(x->una_pos + i) & (w->config.snd_ring - 1)];
    for (uint64_t i = 0; i < rcv_len; i++)
        rcv[i] = e->rcv[(e->rcv_tail + i) & (w->config.rcv_ring - 1)];
    memcpy(e->snd, snd, w->config.snd_ring);
    memcpy(e->rcv, rcv, w->config.rcv_ring);
    e->una_base += x->una_pos;
    e->rcv_base += e->rcv_tail;
    e->rcv_tail = 0;
    in.constant = e->constant;
    in.cached = e->cached;
    in.delegated = x->delegated;
    in.snd = (struct tcp_ring){e->snd, w->config.snd_ring};
    in.rcv = (struct tcp_ring){e->rcv, w->config.rcv_ring};
    in.snd_len = (uint32_t)snd_len;
    in.rcv_len = (uint32_t)rcv_len;
    in.fin_policy = TCP_FIN_CONSUME;
    in.ip_header = 20;
    WORLD_CHECK(tcp_import(e->conn, &w->params, &in, w->now) == 0, "import refused");
    tcp_set_cc(e->conn, tcp_cc_by_name(w->config.cc), w->now);
    e->moves++;
    pump(w, who);
out:
    free(x);
    free(snd);
    free(rcv);
}

static void world_open(struct world *w, const struct world_config *config, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    world_seed = seed;
    w->config = *config;
    w->rng.state = mix(seed);
    w->now = 1000 * TCP_SEC;
    tcp_params_default(&w->params);
    w->params.fin_wait2_ticks = TCP_TIMER_OFF; /* ten losses in a row outlast its two minutes */
    w->next_move = config->move_every ? w->now + config->move_every : TCP_TIME_NEVER;
    for (int i = 0; i < 2; i++) {
        struct world_end *e = &w->end[i];
        uint32_t wnd = config->imported_wnd ? config->imported_wnd : config->rcv_ring;
        struct tcp_import in = {0};

        e->conn = aligned_alloc(64, (tcp_conn_size() + 63) / 64 * 64);
        e->snd = malloc(config->snd_ring);
        e->rcv = malloc(config->rcv_ring);
        if (wnd > 65535u << config->scale)
            wnd = 65535u << config->scale;
        wnd = wnd >> config->scale << config->scale;
        in.constant.flags = (config->timestamps ? TCP_FLAG_TIMESTAMP_ENABLED : 0) |
                            (config->sack ? TCP_FLAG_SACK_ENABLED : 0) |
                            (config->ecn ? TCP_FLAG_ECN_ENABLED : 0) |
                            (config->scale ? TCP_FLAG_WINDOW_SCALING_ENABLED : 0);
        in.constant.snd_wind_scale = in.constant.rcv_wind_scale = config->scale;
        in.constant.remote_mss = (uint16_t)config->mss;
        in.cached.flags = config->nagle ? TCP_FLAG_NAGLING_ENABLED : 0;
        in.cached.initial_rcv_wnd = config->rcv_ring;
        in.cached.path_mtu = config->mss + 40;
        in.ip_header = 20;
        e->constant = in.constant;
        e->cached = in.cached;
        in.delegated = (struct tcp_delegated_state){
            .state = TcpConnectionEstablished,
            .rcv_nxt = config->iss[!i],
            .rcv_wnd = wnd,
            .snd_una = config->iss[i],
            .snd_nxt = config->iss[i],
            .snd_max = config->iss[i],
            .snd_max_possible = config->iss[i],
            .snd_wnd = wnd,
            .max_snd_wnd = wnd,
            .snd_wl1 = config->iss[!i],
            .ts_time = 0xffffff00u + i,
            .ts_last = 0xffffff00u + i,
            .ts_recent = 0xffffff00u + !i,
            .ka_timeout_delta = TCP_TIMER_OFF,
            .retransmit_timeout_delta = TCP_TIMER_OFF,
        };
        in.snd = (struct tcp_ring){e->snd, config->snd_ring};
        in.rcv = (struct tcp_ring){e->rcv, config->rcv_ring};
        in.fin_policy = TCP_FIN_CONSUME;
        WORLD_CHECK(tcp_import(e->conn, &w->params, &in, w->now) == 0, "import refused");
        tcp_set_cc(e->conn, tcp_cc_by_name(config->cc), w->now);
        e->sent_end = config->iss[i];
        e->edge = config->iss[!i] + wnd;
        e->has_edge = true;
        e->read_at = e->write_at = w->now;
    }
    pump(w, 0);
    pump(w, 1);
}

static bool end_done(const struct world *w, int who)
{
    const struct world_end *e = &w->end[who];

    return e->fin_acked && e->fin_seen && e->read == w->config.bytes[!who];
}

/* One event.  False when both streams have arrived and both FINs are acknowledged. */
static bool world_step(struct world *w)
{
    tcp_time at = TCP_TIME_NEVER;

    if (end_done(w, 0) && end_done(w, 1))
        return false;
    if (w->count)
        at = w->queue[0].at;
    for (int i = 0; i < 2; i++) {
        struct world_end *e = &w->end[i];
        tcp_time t = tcp_next_timeout(e->conn);

        at = t < at ? t : at;
        if (tcp_rcv_pos(e->conn) > e->rcv_tail && e->read_at < at)
            at = e->read_at;
        if (!e->fin_wanted && e->write_at < at &&
            e->written - e->una_base - tcp_una_pos(e->conn) < w->config.snd_ring)
            at = e->write_at;
    }
    WORLD_CHECK(
        at != TCP_TIME_NEVER, "deadlock at %llu ms: written %llu/%llu read %llu/%llu state %d/%d",
        (unsigned long long)(w->now / TCP_MSEC), (unsigned long long)w->end[0].written,
        (unsigned long long)w->end[1].written, (unsigned long long)w->end[0].read,
        (unsigned long long)w->end[1].read, tcp_state(w->end[0].conn), tcp_state(w->end[1].conn));
    w->now = at > w->now ? at : w->now;
    WORLD_CHECK(!w->config.limit || w->now < 1000 * TCP_SEC + w->config.limit,
                "too slow: written %llu/%llu read %llu/%llu", (unsigned long long)w->end[0].written,
                (unsigned long long)w->end[1].written, (unsigned long long)w->end[0].read,
                (unsigned long long)w->end[1].read);
    if (w->now >= w->next_move) {
        world_move(w, rng_below(&w->rng, 2));
        w->next_move = w->now + w->config.move_every / 2 + rng_next(&w->rng) % w->config.move_every;
    }
    while (w->count && w->queue[0].at <= w->now) {
        struct world_packet p = queue_pop(w);

        world_events(w, p.to, tcp_input(w->end[p.to].conn, &p.seg, w->now));
        free(p.bytes);
        if (rng_chance(&w->rng, 8000))
            pump(w, p.to);
    }
    for (int i = 0; i < 2; i++) {
        struct world_end *e = &w->end[i];

        pump(w, i);
        if (tcp_next_timeout(e->conn) <= w->now)
            world_events(w, i, tcp_timeout(e->conn, w->now));
        pump(w, i);
        if (tcp_rcv_pos(e->conn) > e->rcv_tail && e->read_at <= w->now) {
            program_read(w, i);
            e->read_at = w->now;
            if (w->config.lazy_reader && rng_chance(&w->rng, 2000))
                e->read_at += rng_next(&w->rng) % w->config.lazy_reader;
        }
        if (!e->fin_wanted && e->write_at <= w->now) {
            program_write(w, i);
            e->write_at = w->now + rng_below(&w->rng, 2000000);
        }
    }
    w->config.steps++;
    return true;
}

static void world_close(struct world *w)
{
    while (w->count)
        free(queue_pop(w).bytes);
    free(w->queue);
    for (int i = 0; i < 2; i++) {
        free(w->end[i].conn);
        free(w->end[i].snd);
        free(w->end[i].rcv);
    }
}

#endif
