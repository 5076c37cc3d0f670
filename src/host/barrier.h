/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The barrier: waits until every packet that passed a BPF program before the call is through TCP
 * (one RCU grace period).  handoff.md section 4.
 */
#ifndef CHIMNEY_HOST_BARRIER_H
#define CHIMNEY_HOST_BARRIER_H

#include <stddef.h>
#include <stdint.h>

enum barrier_method { BARRIER_SCRATCH_LINK, BARRIER_MEMBARRIER };
struct barrier;

/** Probes which method works and how fast; makes a private veth pair for the fast one. */
int barrier_create(struct barrier **out, char *err, size_t errlen);
void barrier_destroy(struct barrier *barrier); /* removes the private device */
/** Waits.  0 or -errno (then nothing may be assumed: give the hand-off up). */
int barrier_wait(struct barrier *barrier);
enum barrier_method barrier_method(const struct barrier *barrier);
const char *barrier_method_name(enum barrier_method method);
/** Median of the probe at start, nanoseconds. */
uint64_t barrier_cost_ns(const struct barrier *barrier);

#endif
