/* SPDX-License-Identifier: Apache-2.0 */
/* Taking the connection over, at the beginning of a script and again after an export. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <chimney/status.h>
#include "script.h"

#define WARM_SEGMENTS 8 /* the quick ACKs after an import */

static const char *const refusals[] = {"taken", "state", "sequence", "ring", "window", "mss"};
#define REFUSALS ((int)(sizeof(refusals) / sizeof(refusals[0])))

/* The byte at a relative number of a stream; the two streams differ. */
uint8_t pattern(bool ours, int64_t at)
{
    return (uint8_t)(at * 7 + (at >> 8) * 31 + (ours ? 0 : 129));
}

const char *refusal_name(int error)
{
    return error <= 0 && error > -REFUSALS ? refusals[-error] : "?";
}

/* Where the streams stand is relative to the "isn" words, which come first. */
static void set_sequence_defaults(struct script *s)
{
    struct tcp_delegated_state *d = &s->in.delegated;

    d->snd_una = d->snd_nxt = d->snd_max = d->snd_max_possible = s->snd_zero + 1;
    d->rcv_nxt = s->rcv_zero + 1;
    d->snd_wl1 = s->rcv_zero;
    d->ts_time = d->ts_last = s->ts_zero;
    d->ts_recent = s->peer_ts_zero;
}

void set_defaults(struct script *s)
{
    tcp_params_default(&s->params);
    s->params.ticks_per_second = 1000000;
    s->now = s->script_time = START;
    s->snd_zero = 999;
    s->rcv_zero = 4999;
    s->ts_zero = 10000;
    s->peer_ts_zero = 700000;
    s->cc = tcp_cc_by_name("reno");
    s->in = (struct tcp_import){
        .cached = {.initial_rcv_wnd = 30000, .path_mtu = 1500},
        .delegated = {.state = TcpConnectionEstablished,
                      .rcv_wnd = 30000,
                      .snd_wnd = 30000,
                      .cwnd = 10000,
                      .srtt = 100000 * 8,
                      .rttvar = 10000 * 4,
                      .ka_timeout_delta = TCP_TIMER_OFF,
                      .retransmit_timeout_delta = TCP_TIMER_OFF},
        .snd.size = 65536,
        .rcv.size = 65536,
        .fin_policy = TCP_FIN_CONSUME,
        .quiet = true,
        .ip_header = 20,
    };
    set_sequence_defaults(s);
}

/* Settings of the script itself; the first four say what relative 0 stands for. */
static const struct field script_fields[] = {
    {"isn", offsetof(struct script, snd_zero), U32},
    {"peer_isn", offsetof(struct script, rcv_zero), U32},
    {"ts_zero", offsetof(struct script, ts_zero), U32},
    {"peer_ts_zero", offsetof(struct script, peer_ts_zero), U32},
    {"written", offsetof(struct script, written), U32},
    {"in_flight", offsetof(struct script, in_flight), U32},
    {"buffered", offsetof(struct script, buffered), U32},
    {"snd_ring", offsetof(struct script, in.snd.size), U32},
    {"rcv_ring", offsetof(struct script, in.rcv.size), U32},
    {"super", offsetof(struct script, super), U32},
    {0},
};
#define ZERO_FIELDS 4

/* One of them; false if there is none of that name. */
static bool script_setting(struct script *s, const char *name, const char *value)
{
    const struct field *field = find_field(script_fields, name);
    struct tcp_delegated_state *d = &s->in.delegated;

    if (strcmp(name, "cc") == 0 && tcp_cc_by_name(value)) {
        s->cc = tcp_cc_by_name(value);
        return true;
    }
    if (!field)
        return false;
    set_field(s, field, s, value);
    if (field < script_fields + ZERO_FIELDS)
        set_sequence_defaults(s);
    else if (strcmp(name, "in_flight") == 0)
        d->snd_nxt = d->snd_max = d->snd_max_possible = d->snd_una + s->in_flight;
    return true;
}

/* One word of an import or update line. */
void setting(struct script *s, const char *word, struct tcp_cached_state *cached, bool update)
{
    char name[64], *value;
    const struct field *field;

    snprintf(name, sizeof(name), "%s", word);
    value = strchr(name, '=');
    if (!value) {
        if (find_bit(cached_flags, name))
            cached->flags |= find_bit(cached_flags, name);
        else if (update && name[0] == '-' && find_bit(cached_flags, name + 1))
            cached->flags &= ~find_bit(cached_flags, name + 1);
        else if (!update && find_bit(constant_flags, name))
            s->in.constant.flags |= find_bit(constant_flags, name);
        else if (!update && strcmp(name, "hold-fin") == 0)
            s->in.fin_policy = TCP_FIN_HOLD;
        else if (!update && strcmp(name, "loud") == 0)
            s->in.quiet = false;
        else if (!update && strcmp(name, "warm") == 0)
            s->warm = true;
        else
            line_fail(&s->line, "unknown setting \"%s\"", name);
        return;
    }
    *value++ = 0;
    field = find_field(cached_fields, name);
    if (field) {
        set_field(s, field, cached, value);
    } else if (update) {
        line_fail(&s->line, "unknown setting \"%s\"", name);
    } else if ((field = find_field(delegated_fields, name))) {
        set_field(s, field, &s->in.delegated, value);
    } else if ((field = find_field(constant_fields, name))) {
        set_field(s, field, &s->in, value);
    } else if ((field = find_field(param_fields, name))) {
        set_field(s, field, &s->params, value);
    } else if (!script_setting(s, name, value)) {
        line_fail(&s->line, "unknown setting \"%s\"", name);
    }
}

/* A ring of exactly its size (what is no power of two is for the engine to refuse). */
static uint8_t *new_ring(struct script *s, uint32_t size)
{
    uint8_t *ring = malloc(size ? size : 1);

    if (!ring)
        line_fail(&s->line, "no memory for a ring of %u bytes", size);
    memset(ring, 0xEE, size);
    return ring;
}

void fill_send_ring(struct script *s, uint64_t from, uint64_t to)
{
    for (; from < to; from++)
        s->snd[from & (s->in.snd.size - 1)] = pattern(true, s->snd_offset + (int64_t)from);
}

static int import(struct script *s)
{
    int error;

    s->in.snd.base = s->snd;
    s->in.rcv.base = s->rcv;
    error = tcp_import(s->conn, &s->params, &s->in, s->now);
    if (!error) {
        tcp_set_cc(s->conn, s->cc, s->now);
        s->end = s->in.snd_len;
        s->tail = 0;
        s->open = true;
    }
    return error;
}

int first_import(struct script *s)
{
    struct tcp_delegated_state *d = &s->in.delegated;

    if (!s->in.constant.remote_mss) /* a full segment has 1000 bytes of payload, stamped or not */
        s->in.constant.remote_mss = s->in.constant.flags & TCP_FLAG_TIMESTAMP_ENABLED ? 1012 : 1000;
    s->snd = new_ring(s, s->in.snd.size);
    s->rcv = new_ring(s, s->in.rcv.size);
    s->in.snd_len = s->written > s->in_flight ? s->written : s->in_flight;
    s->in.rcv_len = s->buffered;
    s->snd_offset = 1;
    s->rcv_offset = 1 - (int64_t)s->buffered;
    if (s->in.snd_len <= s->in.snd.size && !(s->in.snd.size & (s->in.snd.size - 1)))
        fill_send_ring(s, 0, s->in.snd_len);
    for (uint32_t i = 0; i < s->buffered && i < s->in.rcv.size; i++)
        s->rcv[i] = pattern(false, s->rcv_offset + i);
    s->last_win = d->snd_wnd >> (s->in.constant.flags & TCP_FLAG_WINDOW_SCALING_ENABLED
                                     ? s->in.constant.snd_wind_scale
                                     : 0);
    if (s->last_win > 65535)
        s->last_win = 65535;
    if (!d->max_snd_wnd)
        d->max_snd_wnd = d->snd_wnd;
    s->last_tsval = s->last_stamp = 0;
    return import(s);
}

/* The connection of the last export is taken over again: both rings are laid out from 0. */
void import_again(struct script *s)
{
    const struct tcp_export *x = &s->state;
    uint32_t unread = (uint32_t)(x->rcv_pos - s->tail);
    uint8_t *rcv = new_ring(s, s->in.rcv.size);

    for (uint32_t i = 0; i < unread; i++)
        rcv[i] = s->rcv[(s->tail + i) & (s->in.rcv.size - 1)];
    free(s->rcv);
    s->rcv = rcv;
    s->rcv_offset += (int64_t)s->tail;
    s->snd_offset += (int64_t)x->una_pos;
    s->in.snd_len = (uint32_t)(x->snd_end_pos - x->una_pos);
    s->in.rcv_len = unread;
    s->in.delegated = x->delegated;
    while (s->line.at < s->line.words)
        setting(s, line_next(&s->line), &s->in.cached, false);
    fill_send_ring(s, 0, s->in.snd_len);
    if (import(s))
        line_fail(&s->line, "the exported state is refused");
    pull(s);
}

static void warm_up(struct script *s)
{
    struct tcp_delegated_state *d = &s->in.delegated;
    uint32_t bytes = WARM_SEGMENTS * 1000;

    d->rcv_nxt -= bytes;
    d->snd_wl1 -= bytes;
    s->rcv_offset -= bytes;
    if (import(s))
        line_fail(&s->line, "the import is refused");
    for (unsigned i = 0; i < WARM_SEGMENTS; i++) {
        int64_t seq = 1 - (int64_t)bytes + 1000 * i;

        feed(s, &(struct note){.flags = TCP_ACK,
                               .seq = seq,
                               .end = seq + 1000,
                               .ack = (int32_t)(d->snd_una - s->snd_zero),
                               .win = s->last_win,
                               .tsval = NOTE_ANY,
                               .tsecr = NOTE_ANY,
                               .ecn = NOTE_ANY,
                               .gso = NOTE_ANY});
        s->count = s->first = 0;
        consume(s, 1000, false);
    }
    s->events = 0;
    s->count = s->first = 0;
}

void open_now(struct script *s)
{
    int error;

    if (s->warm) {
        s->buffered = 0;
        error = first_import(s);
        if (!error)
            warm_up(s);
    } else {
        error = first_import(s);
    }
    if (error)
        line_fail(&s->line, "the import is refused: %s", refusal_name(error));
    pull(s);
}
