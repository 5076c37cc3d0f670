/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the traffic program tells its driver while it runs: a table in a shared file, one row per
 * connection, and a JSON summary at its end.
 */
#ifndef CHIMNEY_TESTS_TRAFFIC_H
#define CHIMNEY_TESTS_TRAFFIC_H

#include <stdatomic.h>
#include <stdint.h>

#define TRAFFIC_MAX 16384

enum traffic_state { TRAFFIC_NONE, TRAFFIC_OPEN, TRAFFIC_CLOSED, TRAFFIC_FAILED };

struct traffic_row {
    _Atomic uint32_t state;  /* enum traffic_state */
    _Atomic uint32_t number; /* of the connection, the same at both ends */
    _Atomic uint32_t id;     /* the daemon's; 0: it does not have it */
    _Atomic int32_t error;   /* errno that ended it; EILSEQ: a wrong byte */
    _Atomic uint64_t sent, received;
    _Atomic uint64_t silence_ns; /* longest time without a byte received */
};

struct traffic_table {
    _Atomic uint32_t ready; /* 1: listens */
    _Atomic uint32_t count; /* rows in use */
    struct traffic_row rows[TRAFFIC_MAX];
};

#endif
