/* SPDX-License-Identifier: Apache-2.0 */
/* What the program and the host do, and the questions a script asks. */
#include <stdio.h>
#include <string.h>
#include "script.h"

void consume(struct script *s, uint64_t bytes, bool fails)
{
    uint64_t have = tcp_rcv_pos(s->conn) - s->tail;

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
    uint64_t bytes = tcp_rcv_pos(s->conn) - s->tail;

    if (!line_take(&s->line, "all"))
        bytes = (uint64_t)parse_number(&s->line, line_next(&s->line));
    consume(s, bytes, line_take(&s->line, "fails"));
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

    while (tcp_output_ack(s->conn, s->now, &out))
        sent(s, &out);
}

static void do_export(struct script *s)
{
    tcp_export(s->conn, s->now, &s->state);
    s->hold = false;
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

/* What is not a field of the engine's: false if there is no such name. */
static bool other_value(struct script *s, const struct tcp_export *x, const char *name,
                        uint64_t *value)
{
    const struct {
        const char *name;
        uint64_t value;
    } others[] = {
        {"unread", x->rcv_pos - s->tail},
        {"unacked", x->snd_end_pos - x->una_pos},
        {"ooo", x->ooo_count},
        {"fin_sent", x->fin_sent},
        {"fin_acked", x->fin_acked},
        {"fin_received", x->fin_received},
        {"backlog", tcp_send_backlog(s->conn)},
    };

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (strcmp(others[i].name, name) != 0)
            continue;
        *value = others[i].value;
        return true;
    }
    return false;
}

/* One "name=value" of an expect line. */
static void expect_one(struct script *s, const struct tcp_export *x, const char *word)
{
    const void *base = &x->delegated;
    const struct field *field;
    char name[64], wanted[64], got[64], *value;
    uint64_t other = 0;

    snprintf(name, sizeof(name), "%s", word);
    value = strchr(name, '=');
    if (!value)
        line_fail(&s->line, "\"%s\": expected name=value", word);
    *value++ = 0;
    field = find_field(delegated_fields, name);
    if (!field) {
        field = find_field(stat_fields, name);
        base = tcp_conn_stats(s->conn);
    }
    if (field) {
        format_field(s, field, parse_field(s, field, value), wanted, sizeof(wanted));
        format_field(s, field, get_field(field, base), got, sizeof(got));
    } else if (other_value(s, x, name, &other)) {
        snprintf(wanted, sizeof(wanted), "%lld", (long long)parse_number(&s->line, value));
        snprintf(got, sizeof(got), "%llu", (unsigned long long)other);
    } else {
        line_fail(&s->line, "unknown field \"%s\"", name);
    }
    if (strcmp(wanted, got) != 0)
        line_fail(&s->line, "%s\n  expected  %s=%s\n  got       %s=%s", name, name, wanted, name,
                  got);
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

static void do_shutdown(struct script *s)
{
    tcp_shutdown(s->conn, s->now);
    pull(s);
}

static void do_abort(struct script *s)
{
    tcp_abort(s->conn);
    pull(s);
}

static void do_hold(struct script *s)
{
    s->hold = true;
}

static void do_release(struct script *s)
{
    s->hold = false;
    pull(s);
}

/* Time has passed, and nothing left. */
static void do_nothing(struct script *s) {}

bool program_verb(struct script *s, const char *word)
{
    static const struct {
        const char *name;
        void (*run)(struct script *s);
    } verbs[] = {
        {"write", do_write},     {"read", do_read},        {"shutdown", do_shutdown},
        {"abort", do_abort},     {"update", do_update},    {"ack-due", do_ack_due},
        {"export", do_export},   {"import", import_again}, {"hold", do_hold},
        {"release", do_release}, {"events", do_events},    {"expect", do_expect},
        {"timer", do_timer},     {"nothing", do_nothing},
    };

    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strcmp(verbs[i].name, word) != 0)
            continue;
        verbs[i].run(s);
        return true;
    }
    return false;
}
