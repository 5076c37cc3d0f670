/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verifier: an intermediate layer between any host and any target.  Towards the host it is a
 * target, towards the target a host.  It checks every call against the rules and names the row that
 * was broken; calls are passed on unchanged.
 */
#ifndef CHIMNEY_CONTRACT_VERIFIER_H
#define CHIMNEY_CONTRACT_VERIFIER_H

#include <chimney/target.h>

/** A breach: which row, who broke it, one line about it. */
typedef void (*verifier_report)(void *arg, int row, const char *who, const char *line);

/**
 * Wraps @target.  Returns the layer as a target for the host to bind to; NULL when memory is short.
 * @report is called for every breach; NULL: print it and abort().
 * Limits: any number of objects; memory grows with objects only.
 */
struct chimney_target *verifier_create(struct chimney_target *target, verifier_report report,
                                       void *arg);
/** Ends the layer.  Reports every object, tree or request that is still open (leaks). */
void verifier_destroy(struct chimney_target *verifier);
/** Calls checked so far and breaches found. */
void verifier_counts(const struct chimney_target *verifier, uint64_t *calls, uint64_t *breaches);

/**
 * The cell by which the target below knows the object of the host's @cell: for calls that go past
 * the contract, such as a management request to one target.  NULL if @cell holds no object.
 */
struct chimney_cell *verifier_cell_below(struct chimney_target *verifier,
                                         const struct chimney_cell *cell);

#endif
