/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A world: two hosts, a wire, and connections whose ends change owners while programs talk.
 *
 * Everything happens in virtual time, in one thread, from one seed.  Nothing here reads a clock.
 */
#ifndef CHIMNEY_SIM_WORLD_H
#define CHIMNEY_SIM_WORLD_H

#include "checker.h"
#include "scenario.h"
#include "trace.h"

#define SIM_NEVER UINT64_MAX
#define SIM_STATES 11 /* enum chimney_tcp_state */

/* Kinds of things in the trace. */
enum trace_kind {
    TRACE_SENT = 1,
    TRACE_ARRIVED,
    TRACE_GIVEN,
    TRACE_TAKEN,
    TRACE_READ,
    TRACE_EVENT
};

struct world;

/** How a run ended. */
struct world_result {
    bool failed;
    enum checker_rule rule; /* that was broken, or RULE_NONE: the byte streams or the engine */
    char message[600];
    uint64_t hash; /* of the trace */
    uint64_t virtual_ns;
    uint64_t frames, bytes, moves, retransmits, aborted;
    uint64_t silence;              /* ns: longest time without progress of a connection ... */
    unsigned silent_conn;          /* ... and which */
    uint64_t silence_end;          /* virtual time at which it ended */
    uint64_t moved_in[SIM_STATES]; /* moves, by enum chimney_tcp_state */
    uint64_t applied[RULE_COUNT];  /* how often the checker used each rule */
};

/** Runs @scenario to its end or to the first failure; @log: readable event log, or NULL. */
void world_run(const struct scenario *scenario, FILE *log, struct world_result *result);

#endif
