/* SPDX-License-Identifier: Apache-2.0 */
#include "mutant.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_SEGMENT 3 /* before it nothing is mutated: a connection has to be under way */
#define MUTATE_PERCENT 10

static const struct {
    const char *name;
    enum checker_rule rule;
} mutants[MUTANT_COUNT] = {
    [MUTANT_NONE] = {"none", RULE_NONE},
    [MUTANT_ACK_AHEAD] = {"ack-ahead", RULE_ACK_UNRECEIVED},
    [MUTANT_ACK_BACK] = {"ack-back", RULE_ACK_BACK},
    [MUTANT_SHRINK] = {"shrink", RULE_EDGE_SHRINK},
    [MUTANT_OVERRUN] = {"overrun", RULE_WINDOW},
    [MUTANT_PAYLOAD] = {"payload", RULE_PAYLOAD},
    [MUTANT_FIN_EARLY] = {"fin-early", RULE_FIN},
    [MUTANT_STAMP_BACK] = {"stamp-back", RULE_TSVAL},
    [MUTANT_ECHO_AHEAD] = {"echo-ahead", RULE_TSECR},
    [MUTANT_SACK_LIE] = {"sack-lie", RULE_SACK},
    [MUTANT_SACK_ORDER] = {"sack-order", RULE_SACK_FIRST},
    [MUTANT_DSACK_LIE] = {"dsack-lie", RULE_DSACK},
    [MUTANT_RESET] = {"reset", RULE_RST},
    [MUTANT_ECT_ACK] = {"ect-ack", RULE_ECN},
    [MUTANT_MUTE] = {"mute", RULE_ACK_DELAY},
    [MUTANT_TWICE] = {"twice", RULE_CAUSE},
    [MUTANT_OVERSIZE] = {"oversize", RULE_MSS},
    [MUTANT_CHECKSUM] = {"checksum", RULE_CHECKSUM},
    [MUTANT_HOLE] = {"hole", RULE_HOLE},
    [MUTANT_URGENT] = {"urgent", RULE_FLAGS},
    [MUTANT_NO_STAMP] = {"no-stamp", RULE_OPTIONS},
    [MUTANT_TTL] = {"ttl", RULE_IP_FIELDS},
    [MUTANT_OLD_DATA] = {"old-data", RULE_BELOW_UNA},
    [MUTANT_UNA_WRONG] = {"una-wrong", RULE_EXPORT},
    [MUTANT_NXT_WRONG] = {"nxt-wrong", RULE_ACK_UNRECEIVED},
    [MUTANT_CLOCK_LOST] = {"clock-lost", RULE_TSVAL},
    [MUTANT_WINDOW_LOST] = {"window-lost", RULE_EDGE_SHRINK},
};

const char *mutant_name(enum mutant mutant)
{
    return mutants[mutant].name;
}
enum checker_rule mutant_rule(enum mutant mutant)
{
    return mutants[mutant].rule;
}

enum mutant mutant_find(const char *text)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);

    if (*text && !*end && number < MUTANT_COUNT)
        return (enum mutant)number;
    for (enum mutant m = MUTANT_NONE; m < MUTANT_COUNT; m++)
        if (!strcmp(mutants[m].name, text))
            return m;
    return MUTANT_COUNT;
}

static enum mutant mutant_of(const struct side *side)
{
    return (enum mutant)side->world->scenario->mutant;
}

/* Is it time?  Draws from a generator of its own, so that a mutant changes nothing else. */
static bool strikes(struct side *side)
{
    return side->segments_out >= FIRST_SEGMENT && draw_percent(&side->mutant_rng, MUTATE_PERCENT);
}

/* Flips a byte of the ring for the time of one transmission. */
static void flip_first_byte(struct side *side, const struct tcp_out *out)
{
    side->flipped = (uint8_t *)(uintptr_t)(out->span_len[0] ? out->span[0] : out->span[1]);
    *side->flipped ^= 0x20;
}

static void reverse_sack(struct tcp_out *out)
{
    for (unsigned i = 0; i < out->sack_count / 2u; i++) {
        struct tcp_sack_range range = out->sack[i];

        out->sack[i] = out->sack[out->sack_count - 1u - i];
        out->sack[out->sack_count - 1u - i] = range;
    }
}

/* Sends the first byte of the stream, when it was acknowledged long ago. */
static void send_old_data(struct side *side, struct tcp_out *out)
{
    static const uint8_t anything[16];

    out->seq = side->plan->side[side->end].iss + 1;
    out->span[0] = anything;
    out->span[1] = NULL;
    out->span_len[0] = out->len = sizeof(anything);
    out->span_len[1] = 0;
}

enum mutant_action mutant_output(struct side *side, struct tcp_out *out)
{
    enum mutant mutant = mutant_of(side);
    bool pure = !out->len && !(out->flags & (TCP_FIN | TCP_RST));
    bool again;

    if (mutant == MUTANT_NONE)
        return MUTANT_SEND;
    again = out->len && seq_lt(out->seq, side->highest_out);
    side->segments_out++;
    if (seq_gt(out->seq + out->len, side->highest_out))
        side->highest_out = out->seq + out->len;
    if (mutant == MUTANT_MUTE && side->segments_out >= FIRST_SEGMENT)
        return pure ? MUTANT_SWALLOW : MUTANT_SEND;
    if (!strikes(side))
        return MUTANT_SEND;
    switch (mutant) {
    case MUTANT_ACK_AHEAD:
        out->ack += 1 + (uint32_t)sim_rng_below(&side->mutant_rng, 3000);
        break;
    case MUTANT_ACK_BACK:
        out->ack -= 1 + (uint32_t)sim_rng_below(&side->mutant_rng, 3000);
        break;
    case MUTANT_SHRINK:
        out->window /= 2;
        break;
    case MUTANT_PAYLOAD:
        if (again)
            flip_first_byte(side, out);
        break;
    case MUTANT_FIN_EARLY:
        if (out->len)
            out->flags |= TCP_FIN;
        break;
    case MUTANT_STAMP_BACK:
        out->tsval -= 1 + (uint32_t)sim_rng_below(&side->mutant_rng, 1000);
        break;
    case MUTANT_ECHO_AHEAD:
        out->tsecr += 1 + (uint32_t)sim_rng_below(&side->mutant_rng, 1000);
        break;
    case MUTANT_SACK_LIE:
        if (out->sack_count)
            out->sack[0].right += 100;
        break;
    case MUTANT_SACK_ORDER:
        reverse_sack(out);
        break;
    case MUTANT_DSACK_LIE:
        if (side->plan->sack && pure && !out->sack_count && side->rcv_nxt > 100) {
            out->sack[0] = (struct tcp_sack_range){out->ack - 60, out->ack - 10};
            out->sack_count = 1;
        }
        break;
    case MUTANT_RESET:
        out->flags = TCP_RST | TCP_ACK;
        out->len = out->span_len[0] = out->span_len[1] = 0;
        out->sack_count = 0;
        break;
    case MUTANT_ECT_ACK:
        if (pure)
            out->ecn = TCP_ECN_ECT0;
        break;
    case MUTANT_TWICE:
        return out->len && !again ? MUTANT_SEND_TWICE : MUTANT_SEND;
    case MUTANT_HOLE:
        if (out->len && !again)
            out->seq++;
        break;
    case MUTANT_URGENT:
        out->flags |= TCP_URG;
        break;
    case MUTANT_NO_STAMP:
        out->has_timestamp = false;
        break;
    case MUTANT_TTL:
        side->route.ttl = 0;
        break;
    case MUTANT_OLD_DATA:
        if (pure && side->una > 2000)
            send_old_data(side, out);
        break;
    default:
        break;
    }
    return MUTANT_SEND;
}

void mutant_sent(struct side *side)
{
    if (side->flipped)
        *side->flipped ^= 0x20;
    side->flipped = NULL;
}

void mutant_frame(struct side *side, uint8_t *frame, size_t len)
{
    if (mutant_of(side) == MUTANT_CHECKSUM && strikes(side))
        frame[len - 1] ^= 1;
}

void mutant_input(struct side *side, struct tcp_segment *segment)
{
    if (mutant_of(side) == MUTANT_OVERRUN && segment->window < 32768)
        segment->window = (uint16_t)(segment->window * 2);
}

void mutant_import(struct side *side, struct tcp_import *import)
{
    struct tcp_delegated_state *d = &import->delegated;

    switch (mutant_of(side)) {
    case MUTANT_OVERSIZE:
        import->constant.remote_mss = (uint16_t)(import->constant.remote_mss + 13);
        break;
    case MUTANT_NXT_WRONG:
        if (side->moves)
            d->rcv_nxt++;
        break;
    case MUTANT_CLOCK_LOST:
        if (side->moves)
            d->ts_time = d->ts_last = d->ts_last - 5000;
        break;
    case MUTANT_WINDOW_LOST:
        if (side->moves)
            d->rcv_wnd = 0;
        break;
    default:
        break;
    }
}

void mutant_export(struct side *side, struct tcp_export *export)
{
    if (mutant_of(side) == MUTANT_UNA_WRONG)
        export->delegated.snd_una--;
}
