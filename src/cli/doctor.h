/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The doctor: what its three files share.  All of it only reads.
 */
#ifndef CHIMNEY_CLI_DOCTOR_H
#define CHIMNEY_CLI_DOCTOR_H

#include <jansson.h>
#include <stdbool.h>

enum verdict { VERDICT_OK, VERDICT_WARN, VERDICT_FAIL };

struct doctor {
    json_t *checks;
    unsigned count[3]; /* by verdict */
    const char *scope; /* "machine", or the interface being looked at */
};

/**
 * Records one check of the present scope.  @change: what to do about it, NULL for VERDICT_OK.
 */
void doctor_say(struct doctor *doctor, enum verdict verdict, const char *name, const char *change,
                const char *format, ...) __attribute__((format(printf, 5, 6)));

/** Kernel, privileges, BPF, sockets, settings, the hand-off itself. */
void doctor_machine(struct doctor *doctor, const char *rundir);
/**
 * Interfaces named in @names, or all Ethernet ones.  What is wrong with one that was not named is
 * a warning: perhaps nobody wants to use it.
 */
void doctor_interfaces(struct doctor *doctor, char *const *names, int count);

#endif
