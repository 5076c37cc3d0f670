/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start-up self-test: does this kernel keep what the hand-off relies on (handoff.md 2.1)?  Runs on
 * a loopback connection of its own, inside the caller's network namespace, in some milliseconds.
 */
#ifndef CHIMNEY_HOST_SELFTEST_H
#define CHIMNEY_HOST_SELFTEST_H

#include <stdbool.h>
#include <stddef.h>

struct steer;

#define SELFTEST_MAX_CHECKS 48
struct selftest_check {
    char name[40]; /* "park keeps the descriptor" */
    bool passed;
    bool fatal;      /* offload is refused without it */
    char detail[80]; /* what was seen, or what to change; often empty if passed */
};
/** Returns the number of checks done; @steer may be NULL (then the snapshot is not checked). */
int selftest_run(struct steer *steer, struct selftest_check checks[SELFTEST_MAX_CHECKS]);

#endif
