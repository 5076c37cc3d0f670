/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs scripts of segments, times and program actions against the engine (README.md has the
 * notation).
 *
 * Virtual time.  Every line has a time.  Before it is executed the clock moves there, timer by
 * timer; what the engine wants to send is pulled after every event and waits, with its time, for
 * the line that expects it.  Only an expectation (">") may find something waiting, and it must have
 * left at exactly the line's time.  Anything else that waits is a segment the script did not
 * foresee: an error.
 *
 * Checked without being asked for: every payload byte in both directions, a timestamp in every
 * segment or in none (C38), stamps that never step back, and that nothing notable (a FIN, a reset,
 * a timeout) happens unmentioned.
 */
#include <dirent.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <chimney/status.h>
#include "notation.h"

#define MAX_WAITING 2048
#define WARM_SEGMENTS 8 /* the quick ACKs after an import */
#define START (1000000 * TCP_SEC)
/* Events that have to be mentioned by an "events" line. */
#define NOTABLE                                                                                    \
    (TCP_EV_FIN | TCP_EV_RESET | TCP_EV_SYN | TCP_EV_URGENT | TCP_EV_TIMEOUT | TCP_EV_TIME_WAIT |  \
     TCP_EV_FIN_ACKED)

struct waiting {
    tcp_time at;
    struct note note;
};

struct script {
    struct line line;
    struct tcp_params params;
    struct tcp_import in;
    struct tcp_conn *conn;
    const char *cc;
    uint8_t *snd, *rcv;
    bool open, hold, warm;
    uint32_t super;
    tcp_time now, script_time;
    uint32_t snd_zero, rcv_zero, ts_zero, peer_ts_zero; /* what relative 0 stands for */
    uint32_t written, in_flight, buffered;
    int64_t snd_offset, rcv_offset; /* relative number of the byte at position 0 */
    uint64_t end, tail;             /* announced, consumed */
    uint32_t events, last_events;
    struct tcp_export state;
    struct waiting waiting[MAX_WAITING];
    unsigned first, count;
    int64_t last_win, last_tsval, last_stamp;
};

/* The byte at a relative number of a stream; the two streams differ. */
static uint8_t pattern(bool ours, int64_t at)
{
    return (uint8_t)(at * 7 + (at >> 8) * 31 + (ours ? 0 : 129));
}

/* ---- Names of fields. ---- */

enum kind { U8, U16, U32, TICKS, TICKS4, TICKS8, SND_SEQ, RCV_SEQ, OUR_STAMP, PEER_STAMP, STATE };

struct field {
    const char *name;
    size_t offset;
    enum kind kind;
};

#define DELEGATED(name, kind)                                                                      \
    {                                                                                              \
#name, offsetof(struct tcp_delegated_state, name), kind                                    \
    }
static const struct field delegated_fields[] = {
    DELEGATED(state, STATE),
    DELEGATED(rcv_nxt, RCV_SEQ),
    DELEGATED(rcv_wnd, U32),
    DELEGATED(snd_una, SND_SEQ),
    DELEGATED(snd_nxt, SND_SEQ),
    DELEGATED(snd_max, SND_SEQ),
    DELEGATED(snd_max_possible, SND_SEQ),
    DELEGATED(snd_wnd, U32),
    DELEGATED(max_snd_wnd, U32),
    DELEGATED(snd_wl1, RCV_SEQ),
    DELEGATED(cwnd, U32),
    DELEGATED(ssthresh, U32),
    DELEGATED(srtt, TICKS8),
    DELEGATED(rttvar, TICKS4),
    DELEGATED(ts_recent, PEER_STAMP),
    DELEGATED(ts_recent_age, TICKS),
    DELEGATED(ts_time, OUR_STAMP),
    DELEGATED(ts_last, OUR_STAMP),
    DELEGATED(total_rt, TICKS),
    DELEGATED(dup_ack_count, U8),
    DELEGATED(snd_wnd_probe_count, U8),
    DELEGATED(ka_probe_count, U8),
    DELEGATED(ka_timeout_delta, TICKS),
    DELEGATED(retransmit_count, U8),
    DELEGATED(retransmit_timeout_delta, TICKS),
    DELEGATED(reordering, U32),
    {0},
};
#define CONSTANT(name, kind)                                                                       \
    {                                                                                              \
#name, offsetof(struct tcp_import, constant.name), kind                                    \
    }
#define CACHED(name, member, kind)                                                                 \
    {                                                                                              \
        name, offsetof(struct tcp_cached_state, member), kind                                      \
    }
static const struct field constant_fields[] = {
    CONSTANT(snd_wind_scale, U8), CONSTANT(rcv_wind_scale, U8), CONSTANT(remote_mss, U16), {0}};
static const struct field cached_fields[] = {
    CACHED("initial_rcv_wnd", initial_rcv_wnd, U32),
    CACHED("path_mtu", path_mtu, U32),
    CACHED("ka_probes", ka_probe_count, U8),
    CACHED("ka_timeout", ka_timeout, TICKS),
    CACHED("ka_interval", ka_interval, TICKS),
    CACHED("max_rt", max_rt, TICKS),
    {0},
};
#define PARAM(name, member, kind)                                                                  \
    {                                                                                              \
        name, offsetof(struct tcp_params, member), kind                                            \
    }
static const struct field param_fields[] = {
    PARAM("ack_frequency", ack_frequency, U8),
    PARAM("delayed_ack", delayed_ack_ticks, TICKS),
    PARAM("max_retransmissions", max_retransmissions, U8),
    PARAM("sws_prevention", sws_prevention_ticks, TICKS),
    PARAM("dup_ack_threshold", dup_ack_threshold, U32),
    PARAM("fin_wait2", fin_wait2_ticks, TICKS),
    PARAM("rto_min", rto_min_ticks, TICKS),
    PARAM("rto_max", rto_max_ticks, TICKS),
    {0},
};
#define STAT(name)                                                                                 \
    {                                                                                              \
#name, offsetof(struct tcp_stats, name), U32                                               \
    }
static const struct field stat_fields[] = {
    STAT(bytes_in),
    STAT(bytes_out),
    STAT(retransmits),
    STAT(fast_retransmits),
    STAT(rto_fired),
    STAT(dup_in),
    STAT(ooo_in),
    STAT(ooo_dropped),
    STAT(paws_dropped),
    STAT(dsack_in),
    {0},
};

struct bit {
    const char *name;
    uint32_t bit;
};
static const struct bit constant_flags[] = {{"ts", TCP_FLAG_TIMESTAMP_ENABLED},
                                            {"sack", TCP_FLAG_SACK_ENABLED},
                                            {"wscale", TCP_FLAG_WINDOW_SCALING_ENABLED},
                                            {"ecn", TCP_FLAG_ECN_ENABLED},
                                            {0}};
static const struct bit cached_flags[] = {
    {"keepalive", TCP_FLAG_KEEP_ALIVE_ENABLED},         {"nagle", TCP_FLAG_NAGLING_ENABLED},
    {"keepalive_restart", TCP_FLAG_KEEP_ALIVE_RESTART}, {"max_rt_restart", TCP_FLAG_MAX_RT_RESTART},
    {"update_rcv_wnd", TCP_FLAG_UPDATE_RCV_WND},        {0}};
static const struct bit event_names[] = {{"received", TCP_EV_RECEIVED},
                                         {"acked", TCP_EV_ACKED},
                                         {"fin", TCP_EV_FIN},
                                         {"reset", TCP_EV_RESET},
                                         {"syn", TCP_EV_SYN},
                                         {"urgent", TCP_EV_URGENT},
                                         {"timeout", TCP_EV_TIMEOUT},
                                         {"time-wait", TCP_EV_TIME_WAIT},
                                         {"fin-acked", TCP_EV_FIN_ACKED},
                                         {"dropped", TCP_EV_DROPPED},
                                         {0}};
static const char *const refusals[] = {"", "state", "sequence", "ring", "window", "mss"};

static uint32_t find_bit(const struct bit *list, const char *name)
{
    for (; list->name; list++)
        if (strcmp(list->name, name) == 0)
            return list->bit;
    return 0;
}

static const struct field *find_field(const struct field *list, const char *name)
{
    for (; list->name; list++)
        if (strcmp(list->name, name) == 0)
            return list;
    return NULL;
}

static uint32_t parse_ticks(const struct line *line, const char *word)
{
    if (strcmp(word, "off") == 0)
        return TCP_TIMER_OFF;
    return (uint32_t)((parse_time(line, word) + 999) / 1000);
}

/* The value of "name=value" in a field's own unit. */
static uint32_t parse_field(struct script *s, const struct field *field, const char *word)
{
    switch (field->kind) {
    case TICKS:
        return parse_ticks(&s->line, word);
    case TICKS4:
        return 4 * parse_ticks(&s->line, word);
    case TICKS8:
        return 8 * parse_ticks(&s->line, word);
    case STATE:
        return parse_state(&s->line, word);
    case SND_SEQ:
        return s->snd_zero + (uint32_t)parse_number(&s->line, word);
    case RCV_SEQ:
        return s->rcv_zero + (uint32_t)parse_number(&s->line, word);
    case OUR_STAMP:
        return s->ts_zero + (uint32_t)parse_number(&s->line, word);
    case PEER_STAMP:
        return s->peer_ts_zero + (uint32_t)parse_number(&s->line, word);
    default:
        return (uint32_t)parse_number(&s->line, word);
    }
}

static void set_field(struct script *s, const struct field *field, void *base, const char *word)
{
    uint32_t value = parse_field(s, field, word);
    uint8_t *at = (uint8_t *)base + field->offset;

    if (field->kind == U8 || field->kind == STATE)
        *at = (uint8_t)value;
    else if (field->kind == U16)
        *(uint16_t *)at = (uint16_t)value;
    else
        *(uint32_t *)at = value;
}

static uint32_t get_field(const struct field *field, const void *base)
{
    const uint8_t *at = (const uint8_t *)base + field->offset;

    if (field->kind == U8 || field->kind == STATE)
        return *at;
    return field->kind == U16 ? *(const uint16_t *)at : *(const uint32_t *)at;
}

/* A field's value as the script would write it. */
static void format_field(const struct script *s, const struct field *field, uint32_t value,
                         char *text, size_t size)
{
    uint32_t zero = field->kind == SND_SEQ      ? s->snd_zero
                    : field->kind == RCV_SEQ    ? s->rcv_zero
                    : field->kind == OUR_STAMP  ? s->ts_zero
                    : field->kind == PEER_STAMP ? s->peer_ts_zero
                                                : 0;

    if (field->kind == STATE)
        snprintf(text, size, "%s", state_name((uint8_t)value));
    else if (field->kind == TICKS && value == TCP_TIMER_OFF)
        snprintf(text, size, "off");
    else if (field->kind == TICKS || field->kind == TICKS4 || field->kind == TICKS8)
        snprintf(text, size, "%.10gms",
                 value / 1e3 /
                     (field->kind == TICKS    ? 1
                      : field->kind == TICKS4 ? 4
                                              : 8));
    else if (field->kind >= SND_SEQ)
        snprintf(text, size, "%d", (int32_t)(value - zero));
    else
        snprintf(text, size, "%u", value);
}

/* ---- The connection that is taken over. ---- */

static void set_defaults(struct script *s)
{
    tcp_params_default(&s->params);
    s->params.ticks_per_second = 1000000;
    s->now = s->script_time = START;
    s->snd_zero = 999;
    s->rcv_zero = 4999;
    s->ts_zero = 10000;
    s->peer_ts_zero = 700000;
    s->cc = "reno";
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

static bool import_number(struct script *s, const char *name, const char *value)
{
    struct tcp_delegated_state *d = &s->in.delegated;
    uint32_t number;

    if (strcmp(name, "cc") == 0) {
        s->cc = strcmp(value, "cubic") == 0 ? "cubic" : "reno";
        return true;
    }
    if (strcmp(name, "isn") && strcmp(name, "peer_isn") && strcmp(name, "ts_zero") &&
        strcmp(name, "peer_ts_zero") && strcmp(name, "written") && strcmp(name, "in_flight") &&
        strcmp(name, "buffered") && strcmp(name, "snd_ring") && strcmp(name, "rcv_ring") &&
        strcmp(name, "super"))
        return false;
    number = (uint32_t)parse_number(&s->line, value);
    if (strcmp(name, "isn") == 0) {
        s->snd_zero = number;
        set_sequence_defaults(s);
    } else if (strcmp(name, "peer_isn") == 0) {
        s->rcv_zero = number;
        set_sequence_defaults(s);
    } else if (strcmp(name, "ts_zero") == 0) {
        s->ts_zero = number;
        d->ts_time = d->ts_last = number;
    } else if (strcmp(name, "peer_ts_zero") == 0) {
        s->peer_ts_zero = number;
        d->ts_recent = number;
    } else if (strcmp(name, "written") == 0) {
        s->written = number;
    } else if (strcmp(name, "in_flight") == 0) {
        d->snd_nxt = d->snd_max = d->snd_max_possible = d->snd_una + number;
        s->in_flight = number;
    } else if (strcmp(name, "buffered") == 0) {
        s->buffered = number;
    } else if (strcmp(name, "snd_ring") == 0) {
        s->in.snd.size = number;
    } else if (strcmp(name, "rcv_ring") == 0) {
        s->in.rcv.size = number;
    } else {
        s->super = number;
    }
    return true;
}

/* One word of an import or update line. */
static void setting(struct script *s, const char *word, struct tcp_cached_state *cached,
                    bool update)
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
    } else if (!import_number(s, name, value)) {
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

static void fill_send_ring(struct script *s, uint64_t from, uint64_t to)
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
        tcp_set_cc(s->conn, tcp_cc_by_name(s->cc), s->now);
        s->end = s->in.snd_len;
        s->tail = 0;
        s->open = true;
    }
    return error;
}

static int first_import(struct script *s)
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

/* ---- Segments. ---- */

static struct note note_of(const struct script *s, const struct tcp_out *out)
{
    int32_t seq = (int32_t)(out->seq - s->snd_zero);
    struct note note = {
        .flags = out->flags,
        .cares = 0xFF,
        .seq = seq,
        .end = (int64_t)seq + out->len,
        .ack = (int32_t)(out->ack - s->rcv_zero),
        .win = out->window,
        .tsval = out->has_timestamp ? (int32_t)(out->tsval - s->ts_zero) : NOTE_NONE,
        .tsecr = out->has_timestamp ? (int32_t)(out->tsecr - s->peer_ts_zero) : NOTE_NONE,
        .sack_count = out->sack_count,
        .ecn = out->ecn,
        .gso = out->gso_size,
    };

    for (unsigned i = 0; i < out->sack_count; i++) {
        note.sack[i][0] = (int32_t)(out->sack[i].left - s->rcv_zero);
        note.sack[i][1] = (int32_t)(out->sack[i].right - s->rcv_zero);
    }
    return note;
}

static void check_sent(struct script *s, const struct tcp_out *out, const struct note *note)
{
    bool stamps = s->in.constant.flags & TCP_FLAG_TIMESTAMP_ENABLED;
    int64_t at = note->seq;

    for (unsigned part = 0; part < 2; part++)
        for (uint32_t i = 0; i < out->span_len[part]; i++, at++)
            if (out->span[part][i] != pattern(true, at))
                line_fail(&s->line, "wrong byte sent at %lld", (long long)at);
    if (at != note->end)
        line_fail(&s->line, "payload of %u bytes in spans of %u + %u", out->len, out->span_len[0],
                  out->span_len[1]);
    if (out->flags & TCP_RST)
        return;
    if (out->has_timestamp != stamps)
        line_fail(&s->line, "a segment %s timestamp", stamps ? "without" : "with a");
    if (stamps && note->tsval < s->last_stamp)
        line_fail(&s->line, "stamps step back: %lld after %lld", (long long)note->tsval,
                  (long long)s->last_stamp);
    if (stamps)
        s->last_stamp = note->tsval;
}

static void pull(struct script *s)
{
    struct tcp_out out;

    while (s->open && !s->hold && tcp_output(s->conn, s->super, s->now, &out)) {
        struct waiting *w = &s->waiting[s->first + s->count];

        if (s->first + s->count++ == MAX_WAITING)
            line_fail(&s->line, "the engine does not stop sending");
        *w = (struct waiting){s->now, note_of(s, &out)};
        check_sent(s, &out, &w->note);
    }
}

static void print_waiting(const struct script *s)
{
    char text[256];

    for (unsigned i = s->first; i < s->first + s->count; i++) {
        const struct waiting *w = &s->waiting[i];
        double ms = ((double)w->at - (double)s->script_time) / 1e6;

        format_note(&w->note, text, sizeof(text));
        printf("  %s %+.6gms > %s\n", i == s->first ? "got      " : "and then ", ms, text);
    }
}

static void fail_waiting(struct script *s, const char *what)
{
    printf("%s:%u: %s (times of what left are relative to this line)\n  line      %s\n",
           s->line.file, s->line.number, what, s->line.text);
    print_waiting(s);
    fflush(stdout);
    exit(1);
}

/* The clock goes to @time; timers that fall due on the way fire at their time. */
static void advance(struct script *s, tcp_time time)
{
    unsigned rounds = 0;

    while (s->open && tcp_next_timeout(s->conn) <= time) {
        tcp_time at = tcp_next_timeout(s->conn);

        if (++rounds > 100000)
            line_fail(&s->line, "timers fire for ever");
        s->now = at > s->now ? at : s->now;
        s->events |= s->last_events = tcp_timeout(s->conn, s->now);
        pull(s);
    }
    s->now = time;
}

static void expect_segment(struct script *s)
{
    struct note expected;
    struct waiting *w = &s->waiting[s->first];
    char text[256];

    parse_note(&s->line, &expected);
    format_note(&expected, text, sizeof(text));
    if (!s->count)
        line_fail(&s->line, "nothing left\n  expected  > %s", text);
    if (w->at != s->script_time || !note_fits(&expected, &w->note)) {
        printf("%s:%u: not the segment expected\n  line      %s\n  expected  +0ms > %s\n",
               s->line.file, s->line.number, s->line.text, text);
        print_waiting(s);
        fflush(stdout);
        exit(1);
    }
    s->first++;
    s->count--;
    if (!s->count)
        s->first = 0;
}

static void feed(struct script *s, const struct note *note)
{
    bool stamps = s->in.constant.flags & TCP_FLAG_TIMESTAMP_ENABLED;
    uint32_t len = (uint32_t)(note->end - note->seq);
    struct tcp_segment seg = {
        .seq = s->rcv_zero + (uint32_t)note->seq,
        .ack = s->snd_zero + (uint32_t)note->ack,
        .window = (uint16_t)note->win,
        .flags = note->flags,
        .ecn = note->ecn == NOTE_ANY ? TCP_ECN_NOT : (uint8_t)note->ecn,
        .sack_count = (uint8_t)note->sack_count,
        .len = len,
        .gso_size = note->gso == NOTE_ANY ? 0 : (uint16_t)note->gso,
    };
    uint8_t *payload = malloc(len ? len : 1);

    if (!payload)
        line_fail(&s->line, "no memory");
    for (uint32_t i = 0; i < len; i++)
        payload[i] = pattern(false, note->seq + i);
    seg.payload = len ? payload : NULL;
    if (note->tsval != NOTE_NONE && (stamps || note->tsval != NOTE_ANY)) {
        int64_t tsval = note->tsval, tsecr = note->tsecr;

        if (tsval == NOTE_ANY) /* the peer's clock runs as ours does */
            tsval = (int64_t)((s->now - START) / TCP_MSEC);
        if (tsecr == NOTE_ANY)
            tsecr = s->last_stamp;
        seg.has_timestamp = true;
        seg.tsval = s->peer_ts_zero + (uint32_t)tsval;
        seg.tsecr = s->ts_zero + (uint32_t)tsecr;
    }
    for (unsigned i = 0; i < note->sack_count; i++)
        seg.sack[i] = (struct tcp_sack_range){s->snd_zero + (uint32_t)note->sack[i][0],
                                              s->snd_zero + (uint32_t)note->sack[i][1]};
    s->events |= s->last_events = tcp_input(s->conn, &seg, s->now);
    free(payload);
    pull(s);
}

static void incoming(struct script *s)
{
    struct note note;

    parse_note(&s->line, &note);
    if (note.seq == NOTE_ANY || note.end == NOTE_ANY ||
        (note.flags & TCP_ACK && note.ack == NOTE_ANY))
        line_fail(&s->line, "an incoming segment needs its numbers");
    if (note.end < note.seq || note.end - note.seq > 65535)
        line_fail(&s->line, "payload of %lld bytes", (long long)(note.end - note.seq));
    if (note.ack == NOTE_ANY)
        note.ack = 0;
    if (note.win == NOTE_ANY)
        note.win = s->last_win;
    s->last_win = note.win;
    feed(s, &note);
}

/* ---- What the program and the host do. ---- */

static void consume(struct script *s, uint64_t bytes)
{
    uint64_t have = tcp_rcv_pos(s->conn) - s->tail;
    bool fails = line_take(&s->line, "fails");

    for (uint64_t i = 0; i < bytes && i < have; i++) {
        int64_t at = s->rcv_offset + (int64_t)(s->tail + i);
        uint8_t got = s->rcv[(s->tail + i) & (s->in.rcv.size - 1)];

        if (got != pattern(false, at))
            line_fail(&s->line, "wrong byte received at %lld", (long long)at);
    }
    if ((tcp_recv_consumed(s->conn, s->tail + bytes, s->now) < 0) != fails)
        line_fail(&s->line, "reading %llu of %llu bytes %s", (unsigned long long)bytes,
                  (unsigned long long)have, fails ? "was allowed" : "was refused");
    if (!fails)
        s->tail += bytes;
    pull(s);
}

static void do_write(struct script *s)
{
    uint32_t len = (uint32_t)parse_number(&s->line, line_next(&s->line));
    bool push = line_take(&s->line, "push"), fails = line_take(&s->line, "fails");

    if (s->end - tcp_una_pos(s->conn) + len <= s->in.snd.size)
        fill_send_ring(s, s->end, s->end + len);
    if ((tcp_send_ready(s->conn, s->end + len, push, s->now) < 0) != fails)
        line_fail(&s->line, "writing %u bytes %s", len, fails ? "was allowed" : "was refused");
    if (!fails)
        s->end += len;
    pull(s);
}

static void do_read(struct script *s)
{
    if (line_take(&s->line, "all"))
        consume(s, tcp_rcv_pos(s->conn) - s->tail);
    else
        consume(s, (uint64_t)parse_number(&s->line, line_next(&s->line)));
}

static void do_update(struct script *s)
{
    struct tcp_cached_state cached = s->in.cached;

    while (s->line.at < s->line.words)
        setting(s, line_next(&s->line), &cached, true);
    s->events |= s->last_events = tcp_update(s->conn, &cached, s->now);
    s->in.cached = cached;
    s->in.cached.flags &=
        TCP_FLAG_KEEP_ALIVE_ENABLED | TCP_FLAG_NAGLING_ENABLED; /* the others are requests */
    pull(s);
}

static void do_ack_due(struct script *s)
{
    struct tcp_out out;

    while (tcp_output_ack(s->conn, s->now, &out)) {
        struct waiting *w = &s->waiting[s->first + s->count];

        if (s->first + s->count++ == MAX_WAITING)
            line_fail(&s->line, "the engine does not stop acknowledging");
        *w = (struct waiting){s->now, note_of(s, &out)};
        check_sent(s, &out, &w->note);
    }
}

static void do_export(struct script *s)
{
    tcp_export(s->conn, s->now, &s->state);
    s->hold = false;
}

/* The connection of the last export is taken over again: both rings are laid out from 0. */
static void do_import(struct script *s)
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

static void do_events(struct script *s)
{
    uint32_t wanted = 0, last = 0, notable = s->events & NOTABLE;

    while (s->line.at < s->line.words) {
        const char *word = line_next(&s->line);
        uint32_t bit = find_bit(event_names, word);

        if (!bit && strcmp(word, "none") != 0)
            line_fail(&s->line, "\"%s\" is no event", word);
        if (bit & NOTABLE)
            wanted |= bit;
        else
            last |= bit;
    }
    if (wanted != notable)
        line_fail(&s->line, "expected events 0x%x, got 0x%x", wanted, notable);
    if (last & ~s->last_events)
        line_fail(&s->line, "expected events 0x%x of the last segment, got 0x%x", last,
                  s->last_events);
    s->events &= ~NOTABLE;
}

static void expect_value(struct script *s, const char *name, const char *expected, const char *got)
{
    if (strcmp(expected, got) != 0)
        line_fail(&s->line, "%s\n  expected  %s=%s\n  got       %s=%s", name, name, expected, name,
                  got);
}

/* One "name=value" of an expect line. */
static void expect_one(struct script *s, const struct tcp_export *x, const char *word)
{
    char name[64], wanted[64], got[64], *value;
    const struct field *field;

    snprintf(name, sizeof(name), "%s", word);
    value = strchr(name, '=');
    if (!value)
        line_fail(&s->line, "\"%s\": expected name=value", word);
    *value++ = 0;
    if ((field = find_field(delegated_fields, name))) {
        uint32_t mask = field->kind == U8 || field->kind == STATE ? 0xFF : 0xFFFFFFFF;

        format_field(s, field, parse_field(s, field, value) & mask, wanted, sizeof(wanted));
        format_field(s, field, get_field(field, &x->delegated), got, sizeof(got));
        expect_value(s, name, wanted, got);
        return;
    }
    if ((field = find_field(stat_fields, name))) {
        const uint8_t *stats = (const uint8_t *)tcp_conn_stats(s->conn);

        snprintf(got, sizeof(got), "%llu",
                 *(const unsigned long long *)(const void *)(stats + field->offset));
    } else if (strcmp(name, "unread") == 0) {
        snprintf(got, sizeof(got), "%llu", (unsigned long long)(x->rcv_pos - s->tail));
    } else if (strcmp(name, "unacked") == 0) {
        snprintf(got, sizeof(got), "%llu", (unsigned long long)(x->snd_end_pos - x->una_pos));
    } else if (strcmp(name, "ooo") == 0) {
        snprintf(got, sizeof(got), "%u", x->ooo_count);
    } else if (strcmp(name, "fin_sent") == 0) {
        snprintf(got, sizeof(got), "%d", x->fin_sent);
    } else if (strcmp(name, "fin_acked") == 0) {
        snprintf(got, sizeof(got), "%d", x->fin_acked);
    } else if (strcmp(name, "fin_received") == 0) {
        snprintf(got, sizeof(got), "%d", x->fin_received);
    } else if (strcmp(name, "backlog") == 0) {
        snprintf(got, sizeof(got), "%u", tcp_send_backlog(s->conn));
    } else {
        line_fail(&s->line, "unknown field \"%s\"", name);
    }
    expect_value(s, name, value, got);
}

static void do_expect(struct script *s)
{
    struct tcp_export x;

    tcp_query(s->conn, s->now, &x);
    while (s->line.at < s->line.words)
        expect_one(s, &x, line_next(&s->line));
}

static void do_timer(struct script *s)
{
    const char *word = line_next(&s->line);
    tcp_time at = tcp_next_timeout(s->conn);

    if (strcmp(word, "off") == 0) {
        if (at != TCP_TIME_NEVER)
            line_fail(&s->line, "a timer runs: %.9gms from now", (double)(at - s->now) / 1e6);
    } else if (at != s->now + parse_time(&s->line, word)) {
        line_fail(&s->line, "the next timer is %.9gms from now",
                  at == TCP_TIME_NEVER ? -1.0 : (double)(at - s->now) / 1e6);
    }
}

/* ---- Lines. ---- */

static void do_import_line(struct script *s)
{
    if (s->open)
        line_fail(&s->line, "the connection is open already");
    while (s->line.at < s->line.words)
        setting(s, line_next(&s->line), &s->in.cached, false);
}

static void do_refused(struct script *s)
{
    const char *why = line_next(&s->line);
    int error = first_import(s);

    if (error >= 0 || error < -5 || strcmp(refusals[-error], why) != 0)
        line_fail(&s->line, "import returned %d (%s)", error,
                  error < 0 && error >= -5 ? refusals[-error] : "taken");
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
        consume(s, 1000);
    }
    s->events = 0;
    s->count = s->first = 0;
}

static void open_now(struct script *s)
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
        line_fail(&s->line, "the import is refused: %s", refusals[-error]);
    pull(s);
}

static void execute(struct script *s)
{
    static const struct {
        const char *name;
        void (*run)(struct script *s);
    } verbs[] = {
        {"write", do_write},   {"read", do_read},     {"update", do_update},
        {"export", do_export}, {"import", do_import}, {"ack-due", do_ack_due},
        {"events", do_events}, {"expect", do_expect}, {"timer", do_timer},
    };
    const char *word;

    if (s->line.word[0][0] == '+') {
        s->script_time += parse_time(&s->line, line_next(&s->line) + 1);
    } else if (!s->open && line_take(&s->line, "import")) {
        do_import_line(s);
        return;
    } else if (!s->open && line_take(&s->line, "refused")) {
        do_refused(s);
        return;
    }
    if (!s->open)
        open_now(s);
    word = line_next(&s->line);
    if (s->script_time >= s->now && !(s->count && strcmp(word, ">") == 0))
        advance(s, s->script_time);
    if (strcmp(word, ">") == 0) {
        expect_segment(s);
        return;
    }
    /* Questions about what just happened may stand before the segments it brought about. */
    if (s->count && strcmp(word, "events") != 0 && strcmp(word, "expect") != 0)
        fail_waiting(s, "a segment left that no line expects");
    if (strcmp(word, "<") == 0) {
        incoming(s);
    } else if (strcmp(word, "nothing") == 0) {
        /* Time has passed, and nothing left. */
    } else if (strcmp(word, "shutdown") == 0) {
        tcp_shutdown(s->conn, s->now);
        pull(s);
    } else if (strcmp(word, "abort") == 0) {
        tcp_abort(s->conn);
        pull(s);
    } else if (strcmp(word, "hold") == 0) {
        s->hold = true;
    } else if (strcmp(word, "release") == 0) {
        s->hold = false;
        pull(s);
    } else {
        size_t i = 0;

        while (i < sizeof(verbs) / sizeof(verbs[0]) && strcmp(verbs[i].name, word) != 0)
            i++;
        if (i == sizeof(verbs) / sizeof(verbs[0]))
            line_fail(&s->line, "unknown verb \"%s\"", word);
        verbs[i].run(s);
    }
    if (s->line.at < s->line.words)
        line_fail(&s->line, "\"%s\" is one word too many", s->line.word[s->line.at]);
}

static int run_script(const char *path)
{
    struct script *s = calloc(1, sizeof(*s));
    const char *base = strrchr(path, '/');
    char text[512];
    FILE *file = fopen(path, "r");

    if (!s || !file) {
        printf("%s: cannot be read\n", path);
        return 1;
    }
    s->line.file = base ? base + 1 : path;
    s->conn = aligned_alloc(64, (tcp_conn_size() + 63) / 64 * 64);
    set_defaults(s);
    set_sequence_defaults(s);
    while (fgets(text, sizeof(text), file)) {
        text[strcspn(text, "\n")] = 0;
        s->line.number++;
        line_split(&s->line, text);
        if (s->line.words)
            execute(s);
    }
    if (s->count)
        fail_waiting(s, "the script ends, but a segment left that no line expects");
    if (s->events & NOTABLE)
        line_fail(&s->line, "the script ends without mentioning events 0x%x", s->events & NOTABLE);
    if (!s->snd)
        line_fail(&s->line, "the script does nothing");
    fclose(file);
    free(s->conn);
    free(s->snd);
    free(s->rcv);
    free(s);
    return 0;
}

/* Each in its own process: an assertion of the engine is the failure of one script. */
static bool run_alone(const char *path)
{
    const char *base = strrchr(path, '/');
    int status;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        alarm(20);
        exit(run_script(path));
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        return false;
    if (WIFSIGNALED(status))
        printf("%s: ended by signal %d\n", base ? base + 1 : path, WTERMSIG(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int is_script(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);

    return len > 4 && strcmp(entry->d_name + len - 4, ".seg") == 0;
}

/** Arguments: scripts, or folders of scripts. */
int main(int argc, char **argv)
{
    unsigned passed = 0, failed = 0;

    for (int i = 1; i < argc; i++) {
        struct dirent **list;
        int n = scandir(argv[i], &list, is_script, alphasort);

        if (n < 0) {
            run_alone(argv[i]) ? passed++ : failed++;
            continue;
        }
        for (int k = 0; k < n; k++) {
            char path[4096];

            snprintf(path, sizeof(path), "%s/%s", argv[i], list[k]->d_name);
            run_alone(path) ? passed++ : failed++;
            free(list[k]);
        }
        free(list);
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed || !passed ? 1 : 0;
}
