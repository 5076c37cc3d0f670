/* SPDX-License-Identifier: Apache-2.0 */
/* The clock, and the segments in both directions. */
#include <stdio.h>
#include <stdlib.h>
#include "script.h"

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

void sent(struct script *s, const struct tcp_out *out)
{
    struct waiting *w = &s->waiting[s->first + s->count];

    if (s->first + s->count == MAX_WAITING)
        line_fail(&s->line, "the engine does not stop sending");
    *w = (struct waiting){s->now, note_of(s, out)};
    s->count++;
    check_sent(s, out, &w->note);
}

void pull(struct script *s)
{
    struct tcp_out out;

    while (s->open && !s->hold && tcp_output(s->conn, s->super, s->now, &out))
        sent(s, &out);
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

void fail_waiting(struct script *s, const char *what)
{
    printf("%s:%u: %s (times of what left are relative to this line)\n  line      %s\n",
           s->line.file, s->line.number, what, s->line.text);
    print_waiting(s);
    fflush(stdout);
    exit(1);
}

/* The clock goes to @time; timers that fall due on the way fire at their time. */
void advance(struct script *s, tcp_time time)
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

void expect_segment(struct script *s)
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

void feed(struct script *s, const struct note *note)
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

void incoming(struct script *s)
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
