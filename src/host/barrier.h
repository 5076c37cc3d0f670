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
struct steer;

/** Probes which method works and how fast; makes a private veth pair for the fast one. */
int barrier_create(struct barrier **out, char *err, size_t errlen);
void barrier_destroy(struct barrier *barrier); /* removes the private device */
/** Waits.  0 or -errno (then nothing may be assumed: give the hand-off up). */
int barrier_wait(struct barrier *barrier);
/**
 * Proves that the barrier waits for a BPF program that is running on another CPU.  If the fast
 * method does not, the slow one is proved and used from now on.  Takes some milliseconds.
 * 0; -EIO: no method waits; -EAGAIN: could not be tried (the machine is too busy); or -errno.
 */
int barrier_prove(struct barrier *barrier, struct steer *steer);
enum barrier_method barrier_method(const struct barrier *barrier);
const char *barrier_method_name(enum barrier_method method);
/** Median of the probe at start, nanoseconds. */
uint64_t barrier_cost_ns(const struct barrier *barrier);

#endif
