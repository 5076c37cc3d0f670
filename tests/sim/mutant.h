/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mutants: ways to be a broken stack, each of which one rule of the wire checker has to notice.
 *
 * A mutant sits between an end and its engine.  Most of the time it does nothing; now and then it
 * does to a segment, on its way out or in, or to the state of a hand-over, what a certain mistake
 * in an engine would do.  A checker that lets a mutant live is not looking.
 */
#ifndef CHIMNEY_SIM_MUTANT_H
#define CHIMNEY_SIM_MUTANT_H

#include "side.h"

enum mutant {
    MUTANT_NONE = 0,
    MUTANT_ACK_AHEAD,   /* acknowledges bytes that have not come yet */
    MUTANT_ACK_BACK,    /* forgets how far it had acknowledged */
    MUTANT_SHRINK,      /* takes back window */
    MUTANT_OVERRUN,     /* believes in a window twice as large */
    MUTANT_PAYLOAD,     /* sends another byte again than the first time */
    MUTANT_FIN_EARLY,   /* says FIN before the end */
    MUTANT_STAMP_BACK,  /* timestamp from a clock that is behind */
    MUTANT_ECHO_AHEAD,  /* echoes a stamp that it never got */
    MUTANT_SACK_LIE,    /* reports more than arrived */
    MUTANT_SACK_ORDER,  /* reports the oldest range first */
    MUTANT_DSACK_LIE,   /* reports a duplicate that was none */
    MUTANT_RESET,       /* resets without a cause */
    MUTANT_ECT_ACK,     /* ECT on a segment without data */
    MUTANT_MUTE,        /* sends no ACK without data */
    MUTANT_TWICE,       /* sends new data twice at once */
    MUTANT_OVERSIZE,    /* segments larger than the MSS */
    MUTANT_CHECKSUM,    /* a wrong checksum */
    MUTANT_HOLE,        /* leaves a byte out */
    MUTANT_URGENT,      /* sets URG */
    MUTANT_NO_STAMP,    /* leaves the timestamp out */
    MUTANT_TTL,         /* TTL 0 */
    MUTANT_OLD_DATA,    /* sends what is acknowledged once more */
    MUTANT_UNA_WRONG,   /* hands over a wrong SND.UNA */
    MUTANT_NXT_WRONG,   /* takes over with RCV.NXT one too high */
    MUTANT_CLOCK_LOST,  /* takes over with a timestamp clock of its own */
    MUTANT_WINDOW_LOST, /* takes over without the window that was promised */
    MUTANT_COUNT
};

const char *mutant_name(enum mutant mutant);
/** The rule that has to notice it. */
enum checker_rule mutant_rule(enum mutant mutant);
/** By name or number; MUTANT_COUNT if unknown. */
enum mutant mutant_find(const char *text);

/** What happens to a segment on its way out. */
enum mutant_action { MUTANT_SEND, MUTANT_SWALLOW, MUTANT_SEND_TWICE };
enum mutant_action mutant_output(struct side *side, struct tcp_out *out);
/** Undoes what mutant_output() did to the ring. */
void mutant_sent(struct side *side);
/** A frame before it goes on the wire. */
void mutant_frame(struct side *side, uint8_t *frame, size_t len);
/** A segment before the engine sees it. */
void mutant_input(struct side *side, struct tcp_segment *segment);
/** State on its way in, and on its way out. */
void mutant_import(struct side *side, struct tcp_import *import);
void mutant_export(struct side *side, struct tcp_export *export);

#endif
