/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules for what an end sends.  Each is written down from its RFC, as what an observer may
 * demand who knows everything that arrived at that end, and nothing of what the stack thinks.
 */
#include "checker_state.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* rows: C242 C253 */
static bool check_header(struct checker *checker, unsigned c, int end,
                         const struct checked_frame *f)
{
    const struct check_conn *conn = &checker->conn[c];
    const struct check_side *side = &conn->side[end], *peer = &conn->side[!end];
    unsigned wanted = f->flags & FLAG_RST ? 0 : FLAG_ACK; /* RFC 9293 3.5.2: a RST may lack it */

    CHECK(checker, RULE_IP_FIELDS, f->df && !f->fragment && f->ttl, c, end,
          "DF %d, fragment %d, TTL %u", f->df, f->fragment, f->ttl);
    CHECK(checker, RULE_FLAGS,
          !(f->flags & (FLAG_SYN | FLAG_URG)) && (f->flags & wanted) == wanted && !f->reserved, c,
          end, "flags 0x%02x, reserved 0x%x", f->flags, f->reserved);
    CHECK(checker, RULE_OPTIONS, !f->options_bad && !f->option_unknown, c, end,
          "options malformed or unknown");
    CHECK(checker, RULE_OPTIONS,
          f->flags & FLAG_RST ? conn->plan.timestamps || !f->has_timestamp
                              : f->has_timestamp == conn->plan.timestamps,
          c, end, "timestamp %s, negotiated %s", f->has_timestamp ? "present" : "absent",
          conn->plan.timestamps ? "yes" : "no");
    CHECK(checker, RULE_OPTIONS, conn->plan.sack || !f->sack_count, c, end,
          "SACK blocks, but SACK was not negotiated");
    CHECK(checker, RULE_MSS, !f->len || f->len + f->option_len <= peer->plan.mss, c, end,
          "%u bytes and %u of options, MSS %u", f->len, f->option_len, peer->plan.mss);
    CHECK(checker, RULE_MSS, f->ip_len <= side->mtu, c, end, "packet of %u bytes, path MTU %u",
          f->ip_len, side->mtu);
    return true;
}

/* rows: C60 */
static bool check_ack(struct checker *checker, unsigned c, int end, const struct checked_frame *f)
{
    struct check_side *side = &checker->conn[c].side[end], *peer = &checker->conn[c].side[!end];
    int64_t ack = check_position(f->ack, peer->plan.iss, side->ack);
    int64_t edge = ack + ((int64_t)f->window << side->plan.wscale);
    int64_t arrived = ranges_first_gap(&side->got, 0);

    CHECK(checker, RULE_ACK_BACK, ack >= side->ack, c, end, "ACK %" PRId64 " after %" PRId64, ack,
          side->ack);
    CHECK(checker, RULE_ACK_UNRECEIVED, ack <= arrived, c, end,
          "ACK %" PRId64 ", but in one piece only %" PRId64 " arrived", ack, arrived);
    /* RFC 7323 2.4: what cannot be said in units of the scale may be rounded off, no more. */
    CHECK(checker, RULE_EDGE_SHRINK, edge > side->edge - (INT64_C(1) << side->plan.wscale), c, end,
          "window ends at %" PRId64 " (ACK %" PRId64 ", window %u << %u), it was %" PRId64, edge,
          ack, f->window, side->plan.wscale, side->edge);
    side->ack = ack;
    if (edge > side->edge)
        side->edge = edge;
    side->ack_due_since = 0;
    return true;
}

/* rows: C66 C67 C425 */
static bool check_timestamp(struct checker *checker, unsigned c, int end,
                            const struct checked_frame *f)
{
    struct check_side *side = &checker->conn[c].side[end];

    if (!f->has_timestamp)
        return true;
    CHECK(checker, RULE_TSVAL, !check_older(f->tsval, side->tsval), c, end, "stamp %u after %u",
          f->tsval, side->tsval);
    side->tsval = f->tsval;
    if (!(f->flags & FLAG_ACK))
        return true;
    CHECK(checker, RULE_TSECR, !check_older(side->ts_arrived, f->tsecr), c, end,
          "echo %u, but the latest that arrived is %u", f->tsecr, side->ts_arrived);
    /* TS.Recent 0 is how a host says that it does not know it: anything may follow. */
    CHECK(checker, RULE_TSECR, !side->tsecr || !check_older(f->tsecr, side->tsecr), c, end,
          "echo %u after %u", f->tsecr, side->tsecr);
    side->tsecr = f->tsecr;
    return true;
}

static bool check_sack(struct checker *checker, unsigned c, int end, const struct checked_frame *f)
{
    struct check_side *side = &checker->conn[c].side[end];
    const struct check_side *peer = &checker->conn[c].side[!end];
    struct range block[4];
    unsigned first = 0;

    for (unsigned b = 0; b < f->sack_count; b++) {
        block[b].left = check_position(f->sack[b][0], peer->plan.iss, side->ack);
        block[b].right = check_position(f->sack[b][1], peer->plan.iss, side->ack);
        CHECK(checker, RULE_SACK, block[b].left < block[b].right, c, end,
              "block %u is %" PRId64 "-%" PRId64, b, block[b].left, block[b].right);
    }
    if (f->sack_count &&
        (block[0].left < side->ack || (f->sack_count > 1 && block[0].left >= block[1].left &&
                                       block[0].right <= block[1].right))) {
        CHECK(checker, RULE_DSACK, ranges_contain(&side->twice, block[0].left, block[0].right), c,
              end, "D-SACK %" PRId64 "-%" PRId64 " did not arrive twice", block[0].left,
              block[0].right);
        first = 1;
    }
    for (unsigned b = first; b < f->sack_count; b++) {
        CHECK(checker, RULE_SACK, block[b].left > side->ack, c, end,
              "block %u is %" PRId64 "-%" PRId64 ", ACK %" PRId64, b, block[b].left, block[b].right,
              side->ack);
        CHECK(checker, RULE_SACK, ranges_contain(&side->got, block[b].left, block[b].right), c, end,
              "block %u is %" PRId64 "-%" PRId64 ", not all of which arrived", b, block[b].left,
              block[b].right);
        for (unsigned other = first; other < b; other++)
            CHECK(checker, RULE_SACK,
                  block[b].right < block[other].left || block[b].left > block[other].right, c, end,
                  "blocks %u and %u overlap or touch", other, b);
    }
    /*
     * The latest arrival comes first, if it was out of order and any block reports it at all.  (A
     * receiver may have thrown it away for want of room; then no block does.)
     */
    if (first && block[0].left >= side->ack)
        first = 2; /* the block that holds a duplicate above the ACK goes with it (RFC 2883 4) */
    for (unsigned b = first + 1; b < f->sack_count && side->last_ooo.right; b++)
        CHECK(checker, RULE_SACK_FIRST,
              block[b].right <= side->last_ooo.left || block[b].left >= side->last_ooo.right, c,
              end, "the latest arrival %" PRId64 "-%" PRId64 " is in block %u", side->last_ooo.left,
              side->last_ooo.right, b);
    return true;
}

static bool check_ecn(struct checker *checker, unsigned c, int end, const struct checked_frame *f,
                      bool retransmission)
{
    const struct check_conn *conn = &checker->conn[c];
    const struct check_side *side = &conn->side[end];

    if (!conn->plan.ecn) {
        CHECK(checker, RULE_ECN, !f->ecn && !(f->flags & (FLAG_ECE | FLAG_CWR)), c, end,
              "ECN field %u, flags 0x%02x, but ECN was not negotiated", f->ecn, f->flags);
        return true;
    }
    CHECK(checker, RULE_ECN, f->ecn != ECN_CE, c, end, "sent with CE set");
    CHECK(checker, RULE_ECN, f->len || !f->ecn, c, end, "ECT on a segment without data");
    CHECK(checker, RULE_ECN, !retransmission || !f->ecn, c, end, "ECT on a retransmission");
    CHECK(checker, RULE_ECN, !(f->flags & FLAG_ECE) || side->ce_arrived, c, end,
          "ECE, but CE never arrived");
    /* After any reduction of the window, not only one that ECE asked for (6.1.2). */
    CHECK(checker, RULE_ECN, !(f->flags & FLAG_CWR) || (f->len && !retransmission), c, end,
          "CWR on a segment without new data");
    return true;
}

/* Room for the first transmission of everything below @end. */
static void make_room(struct check_side *side, int64_t end)
{
    size_t old = side->room;

    if ((size_t)end <= old)
        return;
    side->room = old ? old : 4096;
    while (side->room < (size_t)end)
        side->room *= 2;
    side->bytes = realloc(side->bytes, side->room);
    side->sent_at = realloc(side->sent_at, side->room * sizeof(*side->sent_at));
    assert(side->bytes && side->sent_at);
    memset(side->sent_at + old, 0, (side->room - old) * sizeof(*side->sent_at));
}

static size_t first_difference(const uint8_t *a, const uint8_t *b, size_t len)
{
    size_t at = 0;

    if (!memcmp(a, b, len))
        return len;
    while (a[at] == b[at])
        at++;
    return at;
}

/* A retransmission, wholly or in part. */
static bool check_again(struct checker *checker, unsigned c, int end, int64_t position,
                        uint64_t now)
{
    const struct check_conn *conn = &checker->conn[c];
    struct check_side *side = &checker->conn[c].side[end];
    uint32_t last = side->sent_at && position < (int64_t)side->room ? side->sent_at[position] : 0;
    uint64_t age_us = check_us(now) - last, rtt_us = conn->plan.min_rtt / 1000;

    CHECK(checker, RULE_BELOW_UNA, position >= side->una_sure, c, end,
          "%" PRId64 " sent again, acknowledged up to %" PRId64, position, side->una_sure);
    /*
     * Nobody can know that a segment was lost before an answer to it could have come back.  After a
     * hand-over the first segment goes out again at once, and a recovery that has begun goes on to
     * segments sent shortly before it; both are right.  Without SACK three ACKs that say
     * nothing new must be taken for a loss, even if they answer segments that came twice, and what
     * was sent before them is then sent again with each partial ACK (RFC 5681 3.2, RFC 6582 3.2).
     */
    if (last && (conn->plan.sack || position >= side->newreno_until) && last > side->excused_at &&
        last > side->retransmitted_at)
        CHECK(checker, RULE_CAUSE, age_us + rtt_us / 100 >= rtt_us, c, end,
              "%" PRId64 " sent again after %" PRIu64 " us, no answer comes in less than %" PRIu64,
              position, age_us, rtt_us);
    CHECK(checker, RULE_CAUSE, !conn->plan.lossless, c, end,
          "%" PRId64 " sent again, but nothing is ever lost on this wire", position);
    side->retransmitted_at = check_us(now);
    return true;
}

/* rows: C61 C299 C300 C423 */
static bool check_data(struct checker *checker, unsigned c, int end, const struct checked_frame *f,
                       uint64_t now)
{
    struct check_side *side = &checker->conn[c].side[end];
    int64_t position = check_position(f->seq, side->plan.iss, side->snd_max);
    int64_t last = position + f->len, after = last + (f->flags & FLAG_FIN ? 1 : 0);
    bool again = after > position && position < side->snd_max;

    CHECK(checker, RULE_HOLE, position <= side->snd_max, c, end,
          "%" PRId64 " sent, but nothing between %" PRId64 " and there", position, side->snd_max);
    /* Keepalive and window probes (RFC 1122 4.2.3.6): at most one byte, below what is acknowledged.
     */
    if (after - position <= 1 && !(f->flags & FLAG_FIN) && position >= side->una_sure - 1 &&
        position < side->una_possible)
        return true;
    if (after == position) {
        CHECK(checker, RULE_BELOW_UNA, position >= side->una_sure, c, end,
              "ACK with sequence %" PRId64 ", acknowledged up to %" PRId64, position,
              side->una_sure);
        return check_ecn(checker, c, end, f, false);
    }

    CHECK(checker, RULE_WINDOW,
          after <= side->peer_edge || (after == position + 1 && position == side->peer_edge), c,
          end, "%" PRId64 " to %" PRId64 ", the peer's window ends at %" PRId64, position, after,
          side->peer_edge);
    CHECK(checker, RULE_FIN, side->fin < 0 || last <= side->fin, c, end,
          "data up to %" PRId64 ", FIN is at %" PRId64, last, side->fin);
    if (f->flags & FLAG_FIN) {
        CHECK(checker, RULE_FIN,
              side->closing && last == (int64_t)side->plan.total &&
                  (side->fin < 0 || side->fin == last),
              c, end, "FIN at %" PRId64 ", the program %s, stream of %" PRIu64 " bytes", last,
              side->closing ? "has closed" : "has not closed", side->plan.total);
        side->fin = last;
    }
    if (again && !check_again(checker, c, end, position, now))
        return false;
    if (!check_ecn(checker, c, end, f, again && position < side->known_sent))
        return false;

    make_room(side, after);
    if (position < last) {
        int64_t known = last < side->snd_max ? last : side->snd_max; /* sent before up to here */

        if (known > position) {
            size_t wrong =
                first_difference(side->bytes + position, f->payload, (size_t)(known - position));

            CHECK(checker, RULE_PAYLOAD, wrong == (size_t)(known - position), c, end,
                  "byte %" PRId64 " was 0x%02x and is 0x%02x now", position + (int64_t)wrong,
                  side->bytes[position + (int64_t)wrong], f->payload[wrong]);
        } else {
            known = position;
        }
        memcpy(side->bytes + known, f->payload + (known - position), (size_t)(last - known));
    }
    side->sent_at[position] = check_us(now);
    if (after > side->known_sent)
        side->known_sent = after;
    if (after > side->snd_max)
        side->snd_max = after;
    return true;
}

/* rows: C303 C305 */
static bool check_reset(struct checker *checker, unsigned c, int end, const struct checked_frame *f)
{
    struct check_side *side = &checker->conn[c].side[end];
    int64_t position = check_position(f->seq, side->plan.iss, side->snd_max);

    CHECK(checker, RULE_RST, side->aborting, c, end, "RST, but nobody aborted");
    CHECK(checker, RULE_RST, position >= 0 && position <= side->snd_max && !f->len, c, end,
          "RST at %" PRId64 " with %u bytes, sent was up to %" PRId64, position, f->len,
          side->snd_max);
    side->rst_sent = true;
    return true;
}

bool check_segment(struct checker *checker, unsigned c, int end, const struct checked_frame *f,
                   uint64_t now)
{
    struct check_side *side = &checker->conn[c].side[end];

    if (!check_header(checker, c, end, f))
        return false;
    CHECK(checker, RULE_EXPORT, !side->away, c, end, "sent while nobody owns the connection");
    if (f->flags & FLAG_RST)
        return check_reset(checker, c, end, f);
    CHECK(checker, RULE_RST, !side->rst_sent, c, end, "a segment after a RST");
    return check_timestamp(checker, c, end, f) && check_ack(checker, c, end, f) &&
           check_sack(checker, c, end, f) && check_data(checker, c, end, f, now);
}
