/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HyStart++ (RFC 9406): leave the first slow start before it overflows the queue.
 *
 * Theory of operation.  A round is as many bytes as were in flight when it began.  When the
 * smallest round trip of a round is an eighth (4 to 16 ms) above that of the round before, the
 * queue is filling: conservative slow start, a quarter as fast.  If the round trip falls below
 * where that began it was a mistake, and slow start goes on; after five rounds it is over.  A round
 * with fewer than eight samples says nothing.
 */
#ifndef CHIMNEY_TCP_HYSTART_H
#define CHIMNEY_TCP_HYSTART_H

#include "tcp/cc.h"

struct tcp_hystart {
    uint32_t left;     /* bytes until the round is over */
    uint32_t last_min; /* smallest round trip of the round before, microseconds; 0: none */
    uint32_t this_min;
    uint32_t baseline; /* when conservative slow start began; 0: it has not */
    uint32_t credit;   /* bytes acknowledged towards a quarter */
    uint8_t samples;   /* in this round, at most HYSTART_SAMPLES */
    uint8_t rounds;    /* of conservative slow start */
};

/**
 * An ACK in the first slow start (ssthresh is TCP_CC_INFINITE).  Grows cwnd, and sets ssthresh to
 * it when slow start is over.
 */
void tcp_hystart_on_ack(struct tcp_hystart *h, struct tcp_cc *cc, const struct tcp_cc_ack *ack);

#endif
