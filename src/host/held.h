/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Held frames of an upload: which of them can be put into the restored socket as data, and which
 * have to go through the kernel's receive path.  Used by handoff.c only.
 */
#ifndef CHIMNEY_HOST_HELD_H
#define CHIMNEY_HOST_HELD_H

#include <stdbool.h>
#include <stdint.h>
#include "wire/wire.h"

/** Where the receiver stands; @rcv_nxt moves as payload is appended. */
struct held_receiver {
    const struct flow_key *key;
    uint32_t rcv_nxt, right_edge; /* right edge of the window the peer was told */
    uint32_t snd_max;             /* highest sequence number ever sent */
    uint32_t ts_recent;           /* 0: unknown */
};

enum held_verdict {
    HELD_APPEND,   /* *payload is the next in-order data */
    HELD_SPENT,    /* old news: nothing in it the kernel needs */
    HELD_ACK,      /* an acknowledgement and nothing else: only the last one matters */
    HELD_REINJECT, /* for the kernel to judge; nothing after it may be appended */
};

/** Judges one frame; for HELD_APPEND @payload and @len are the new part of it. */
enum held_verdict held_judge(const struct held_receiver *receiver, const uint8_t *frame,
                             uint32_t frame_len, const uint8_t **payload, uint32_t *len);

#endif
