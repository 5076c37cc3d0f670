/* SPDX-License-Identifier: Apache-2.0 */
#include "checker_state.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *text;
} rules[RULE_COUNT] = {
    [RULE_NONE] = {"none", "nothing wrong"},
    [RULE_FRAME] = {"frame", "every frame is a well-formed segment of a known connection"},
    [RULE_CHECKSUM] = {"checksum", "checksums are right (RFC 9293 3.1)"},
    [RULE_IP_FIELDS] = {"ip-fields", "DF is set, nothing is a fragment, TTL is not 0 (C253)"},
    [RULE_FLAGS] = {"flags", "ACK is set, SYN, URG and reserved bits are not (RFC 9293 3.1, C242)"},
    [RULE_OPTIONS] = {"options", "only negotiated options, well formed (RFC 7323 3.2, RFC 2018 2)"},
    [RULE_MSS] = {"mss", "segments fit MSS and path MTU, options included (RFC 6691)"},
    [RULE_ACK_UNRECEIVED] = {"ack-unreceived", "only what arrived is acknowledged (RFC 9293 3.4)"},
    [RULE_ACK_BACK] = {"ack-back", "acknowledgements never step back (RFC 9293 3.4)"},
    [RULE_EDGE_SHRINK] = {"edge-shrink",
                          "the window's right edge never shrinks (RFC 9293 3.8.6, RFC 7323 2.4)"},
    [RULE_WINDOW] = {"window",
                     "nothing beyond the peer's right edge but a probe (RFC 9293 3.8.6.1)"},
    [RULE_HOLE] = {"hole", "new data is sent in order, without leaving anything out"},
    [RULE_BELOW_UNA] = {"below-una", "nothing acknowledged is sent again (RFC 9293 3.4)"},
    [RULE_PAYLOAD] = {"payload", "a retransmission carries the bytes of the first transmission"},
    [RULE_FIN] = {"fin", "the FIN comes after the last byte, once for all (RFC 9293 3.6)"},
    [RULE_TSVAL] = {"tsval", "timestamps never step back (RFC 7323 5.4, C67)"},
    [RULE_TSECR] = {"tsecr", "the echoed timestamp arrived, and never steps back (RFC 7323 4.3)"},
    [RULE_SACK] = {"sack", "SACK blocks lie in data that arrived above the ACK (RFC 2018 4)"},
    [RULE_SACK_FIRST] = {"sack-first", "the first block holds the latest arrival (RFC 2018 4)"},
    [RULE_DSACK] = {"dsack", "D-SACK reports what came twice (RFC 2883 4)"},
    [RULE_RST] = {"rst", "RST only from a program that aborted or an end that has closed (C302)"},
    [RULE_ECN] = {"ecn", "ECN marks only where RFC 3168 6.1 wants them"},
    [RULE_ACK_DELAY] = {"ack-delay", "an ACK within 500 ms (RFC 1122 4.2.3.2)"},
    [RULE_CAUSE] = {"cause", "no retransmission before a loss could have been noticed"},
    [RULE_EXPORT] = {"export", "what an engine claims agrees with the wire (C60 to C67, C243)"},
};

const char *checker_rule_name(enum checker_rule rule)
{
    return rules[rule].name;
}
const char *checker_rule_text(enum checker_rule rule)
{
    return rules[rule].text;
}

bool check_fail(struct checker *checker, enum checker_rule rule, unsigned conn, int end,
                const char *format, ...)
{
    va_list args;
    int at;

    if (checker->broken)
        return false;
    checker->broken = rule;
    at = snprintf(checker->message, sizeof(checker->message), "conn %u end %d: ", conn, end);
    va_start(args, format);
    vsnprintf(checker->message + at, sizeof(checker->message) - (size_t)at, format, args);
    va_end(args);
    return false;
}

struct checker *checker_create(const struct checker_conn *conns, unsigned count)
{
    struct checker *checker = calloc(1, sizeof(*checker));

    assert(checker);
    checker->conn = calloc(count, sizeof(*checker->conn));
    assert(checker->conn);
    checker->count = count;
    for (unsigned c = 0; c < count; c++) {
        struct check_conn *conn = &checker->conn[c];

        conn->plan = conns[c];
        for (int e = 0; e < 2; e++) {
            struct check_side *side = &conn->side[e];

            side->plan = conns[c].end[e];
            side->mtu = conns[c].mtu;
            side->fin = -1;
            side->edge = side->plan.window;
            side->tsval = side->plan.ts;
            side->peer_edge = conns[c].end[!e].window;
            side->ts_arrived = conns[c].end[!e].ts;
        }
    }
    return checker;
}

void checker_destroy(struct checker *checker)
{
    if (!checker)
        return;
    for (unsigned c = 0; c < checker->count; c++)
        for (int e = 0; e < 2; e++) {
            struct check_side *side = &checker->conn[c].side[e];

            free(side->bytes);
            free(side->sent_at);
            ranges_free(&side->got);
            ranges_free(&side->twice);
        }
    free(checker->conn);
    free(checker);
}

/* The connection whose @end sends (@sending) or receives @frame; -1 if there is none. */
static int find_conn(const struct checker *checker, int end, bool sending,
                     const struct checked_frame *frame)
{
    int from = sending ? end : !end;
    size_t alen = frame->ipv6 ? 16 : 4;

    for (unsigned c = 0; c < checker->count; c++) {
        const struct checker_conn *plan = &checker->conn[c].plan;

        if (plan->ipv6 == frame->ipv6 && plan->end[from].port == frame->sport &&
            plan->end[!from].port == frame->dport &&
            !memcmp(plan->end[from].addr, frame->src, alen) &&
            !memcmp(plan->end[!from].addr, frame->dst, alen))
            return (int)c;
    }
    return -1;
}

bool checker_sent(struct checker *checker, int end, const uint8_t *frame, size_t len, uint64_t now)
{
    struct checked_frame parsed;
    enum checked_status status = checker_parse(frame, len, &parsed);
    int conn;

    if (checker->broken)
        return false;
    CHECK(checker, RULE_FRAME, status != CHECKED_NOT_TCP, 0, end, "frame of %zu bytes is no TCP",
          len);
    CHECK(checker, RULE_CHECKSUM, status == CHECKED_OK, 0, end, "bad checksum, frame of %zu bytes",
          len);
    conn = find_conn(checker, end, true, &parsed);
    CHECK(checker, RULE_FRAME, conn >= 0, 0, end, "no connection has ports %u and %u", parsed.sport,
          parsed.dport);
    return check_segment(checker, (unsigned)conn, end, &parsed, now);
}

/*
 * A segment that the stack at @side cannot have ignored: it is where RCV.NXT is, or above it, and
 * its stamp is not old.  RCV.NXT is at most what arrived in one piece, so compare with that.
 */
static bool surely_acceptable(const struct check_conn *conn, const struct check_side *side,
                              const struct checked_frame *frame, int64_t position)
{
    if (conn->plan.timestamps && check_older(frame->tsval, side->ts_arrived))
        return false;
    return position >= ranges_first_gap(&side->got, 0) && position <= side->edge;
}

bool checker_arrived(struct checker *checker, int end, const uint8_t *frame, size_t len,
                     uint64_t now)
{
    struct checked_frame parsed;
    struct check_conn *conn;
    struct check_side *side, *peer;
    int64_t position, after, ack, edge;
    bool old_stamp, old_ack;
    int found;

    if (checker->broken)
        return false;
    if (checker_parse(frame, len, &parsed) != CHECKED_OK)
        return true; /* corrupted under way: it never arrived */
    found = find_conn(checker, end, false, &parsed);
    if (found < 0)
        return true;
    conn = &checker->conn[found];
    side = &conn->side[end];
    peer = &conn->side[!end];

    position = check_position(parsed.seq, peer->plan.iss, peer->snd_max);
    after = position + parsed.len + (parsed.flags & FLAG_FIN ? 1 : 0);
    if (parsed.flags & FLAG_RST) {
        side->rst_arrived = true;
        return true;
    }
    if (parsed.ecn == ECN_CE)
        side->ce_arrived = true;

    ack = check_position(parsed.ack, side->plan.iss, side->una_possible);
    edge = ack + ((int64_t)parsed.window << peer->plan.wscale);
    old_ack = ack < side->una_possible - (int64_t)peer->plan.window; /* RFC 5961 5.2 drops it */
    old_stamp = conn->plan.timestamps && check_older(parsed.tsval, side->ts_arrived);
    if (surely_acceptable(conn, side, &parsed, position) && ack > side->una_sure)
        side->una_sure = ack;
    if (ack == side->snd_max)
        side->same_acks = 0;
    else if (ack == side->una_possible && after == position)
        side->same_acks++;
    if (side->same_acks >= 3)
        side->newreno_until = side->snd_max;
    if (ack > side->una_possible)
        side->una_possible = ack;
    if (edge > side->peer_edge)
        side->peer_edge = edge;
    if (conn->plan.timestamps && check_older(side->ts_arrived, parsed.tsval))
        side->ts_arrived = parsed.tsval;

    if (after > position) {
        int64_t left = position > 0 ? position : 0;

        ranges_intersect(&side->got, left, after, &side->twice);
        ranges_add(&side->got, left, after);
        if (left > ranges_first_gap(&side->got, 0) && !old_stamp && !old_ack)
            side->last_ooo = (struct range){left, after};
        else
            side->last_ooo = (struct range){0, 0};
        if (!side->gone && !side->ack_due_since && !(side->hold_fin && parsed.len == 0))
            side->ack_due_since = now + 1;
    }
    return true;
}

bool checker_tick(struct checker *checker, uint64_t now)
{
    for (unsigned c = 0; c < checker->count && !checker->broken; c++)
        for (int e = 0; e < 2; e++) {
            const struct check_side *side = &checker->conn[c].side[e];

            CHECK(checker, RULE_ACK_DELAY,
                  !side->ack_due_since || now < side->ack_due_since + CHECK_ACK_DELAY, c, e,
                  "data arrived %" PRIu64 " ms ago and was not acknowledged (ACK at %" PRId64
                  ", in one piece up to %" PRId64 ")",
                  (now - side->ack_due_since) / 1000000, side->ack,
                  ranges_first_gap(&side->got, 0));
        }
    return !checker->broken;
}

bool checker_given(struct checker *checker, unsigned c, int end, const struct checker_claim *claim,
                   uint64_t now)
{
    struct check_conn *conn = &checker->conn[c];
    struct check_side *side = &conn->side[end], *peer = &conn->side[!end];
    int64_t una, max, possible, next, arrived = ranges_first_gap(&side->got, 0);

    if (checker->broken)
        return false;
    una = check_position(claim->snd_una, side->plan.iss, side->una_possible);
    max = check_position(claim->snd_max, side->plan.iss, side->snd_max);
    possible = check_position(claim->snd_max_possible, side->plan.iss, side->snd_max);
    next = check_position(claim->rcv_nxt, peer->plan.iss, side->ack);
    CHECK(checker, RULE_EXPORT, una <= side->una_possible && una >= side->una_sure, c, end,
          "SND.UNA %" PRId64 ", but the peer acknowledged %" PRId64
          " for certain, at most %" PRId64,
          una, side->una_sure, side->una_possible);
    CHECK(checker, RULE_EXPORT, max <= side->snd_max && possible >= side->snd_max, c, end,
          "SND.MAX %" PRId64 " (perhaps %" PRId64 "), sent was up to %" PRId64, max, possible,
          side->snd_max);
    CHECK(checker, RULE_EXPORT, next >= side->ack && next <= arrived, c, end,
          "RCV.NXT %" PRId64 ", acknowledged %" PRId64 ", arrived in one piece up to %" PRId64,
          next, side->ack, arrived);
    CHECK(checker, RULE_EXPORT, next == side->ack, c, end,
          "RCV.NXT %" PRId64 ", but only %" PRId64 " was acknowledged before the hand-over (C215)",
          next, side->ack);
    CHECK(checker, RULE_EXPORT, next + claim->rcv_wnd >= side->edge, c, end,
          "window ends at %" PRId64 ", but %" PRId64 " was advertised", next + claim->rcv_wnd,
          side->edge);
    if (conn->plan.timestamps) {
        CHECK(checker, RULE_EXPORT, claim->ts_last == side->tsval, c, end,
              "last stamp %u, but %u was sent", claim->ts_last, side->tsval);
        CHECK(checker, RULE_EXPORT, !check_older(side->ts_arrived, claim->ts_recent), c, end,
              "TS.Recent %u, but only %u arrived", claim->ts_recent, side->ts_arrived);
    }
    side->away = true;
    side->ack_due_since = 0;
    side->claimed_nxt = next;
    (void)now;
    return true;
}

void checker_taken(struct checker *checker, unsigned c, int end, uint32_t snd_max, bool ooo_kept,
                   uint64_t now)
{
    struct check_side *side = &checker->conn[c].side[end];

    assert(side->away);
    side->away = false;
    side->known_sent = check_position(snd_max, side->plan.iss, side->snd_max);
    side->excused_at = check_us(now);
    side->last_ooo = (struct range){0, 0};
    if (!ooo_kept)
        ranges_cut(&side->got, side->claimed_nxt);
}

/* rows: C243 C306 */
bool checker_acked(struct checker *checker, unsigned c, int end, uint64_t una, bool fin)
{
    const struct check_side *side = &checker->conn[c].side[end];

    if (checker->broken)
        return false;
    CHECK(checker, RULE_EXPORT, (int64_t)una <= side->una_possible, c, end,
          "%" PRIu64 " bytes are said to be acknowledged, it was at most %" PRId64, una,
          side->una_possible);
    CHECK(checker, RULE_EXPORT, !fin || (side->fin >= 0 && side->una_possible > side->fin), c, end,
          "the FIN is said to be acknowledged, it was at most %" PRId64, side->una_possible);
    return true;
}

void checker_closing(struct checker *checker, unsigned conn, int end)
{
    checker->conn[conn].side[end].closing = true;
}

void checker_aborting(struct checker *checker, unsigned conn, int end)
{
    checker->conn[conn].side[end].aborting = true;
    checker_gone(checker, conn, end);
}

void checker_gone(struct checker *checker, unsigned conn, int end)
{
    checker->conn[conn].side[end].gone = true;
    checker->conn[conn].side[end].ack_due_since = 0;
}

void checker_mtu(struct checker *checker, unsigned conn, int end, uint32_t mtu, uint64_t now)
{
    struct check_side *side = &checker->conn[conn].side[end];

    if (mtu < side->mtu) /* what is in flight may have been too large: a cause (RFC 1191 6.5) */
        side->excused_at = check_us(now);
    side->mtu = mtu;
}

void checker_hold_fin(struct checker *checker, unsigned conn, int end, bool hold)
{
    checker->conn[conn].side[end].hold_fin = hold;
}

enum checker_rule checker_broken(const struct checker *checker)
{
    return checker->broken;
}
const char *checker_message(const struct checker *checker)
{
    return checker->message;
}
uint64_t checker_applied(const struct checker *checker, enum checker_rule rule)
{
    return checker->applied[rule];
}
