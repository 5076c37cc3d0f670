/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * What the BPF programs and host/steer.c both know: keys, values and counters of the maps.
 */
#ifndef CHIMNEY_BPF_LAYOUT_H
#define CHIMNEY_BPF_LAYOUT_H

#include <stdint.h>

/** Receive queues per interface that can have an AF_XDP socket; the XSKMAP has a row of them each.
 */
#define STEER_QUEUES 64u

/** Value of the flow map; struct steer_mode as bytes. */
struct flow_mode {
    uint8_t steer;
    uint8_t guard_in;
    uint8_t guard_out;
    uint8_t zero;
};
_Static_assert(sizeof(struct flow_mode) == 4, "value of a BPF map: no padding");

/** Index into the counter map. */
enum flow_counter {
    COUNT_STEERED,
    COUNT_STEERED_BYTES,
    COUNT_PASSED,
    COUNT_LATE,
    COUNT_LATE_DROPPED,
    COUNT_RST_SUPPRESSED,
    COUNT_NO_QUEUE_DROPPED,
    COUNT_REINJECTED,
    COUNT_NR
};

/** Return value of the snapshot program. */
#define SNAPSHOT_NONE 1u  /* XDP_DROP: no such established socket */
#define SNAPSHOT_FOUND 2u /* XDP_PASS: struct tcp_snapshot is in place of the key */

/** Return value of the spin program, and how long it may last at most. */
#define SPIN_DONE 2u
#define SPIN_MAX_NS 50000000ull

#endif
