/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Congestion control as callbacks.
 *
 * An algorithm owns two numbers, cwnd and ssthresh, and whatever it keeps in its private words. The
 * engine tells it what happened; when to send what is the engine's business.  All sizes are bytes.
 * A further algorithm is a file with one struct tcp_cc_ops and a line in cc.c.
 */
#ifndef CHIMNEY_TCP_CC_H
#define CHIMNEY_TCP_CC_H

#include "tcp/tcp.h"

#define TCP_CC_INFINITE UINT32_MAX  /* ssthresh before the first congestion */
#define TCP_CC_MAX_CWND 0x40000000u /* 1 GiB: no window is larger */
#define TCP_CC_INITIAL_SEGMENTS 10  /* RFC 6928 */
#define TCP_CC_PRIVATE_WORDS 8

struct tcp_cc {
    const struct tcp_cc_ops *ops;
    uint32_t cwnd, ssthresh;
    uint32_t mss;                        /* payload of a full segment */
    uint32_t prior_cwnd, prior_ssthresh; /* before the last reduction, for on_spurious */
    uint64_t priv[TCP_CC_PRIVATE_WORDS];
};

/** What an acknowledgement brought. */
struct tcp_cc_ack {
    uint32_t acked;    /* bytes newly delivered; never 0 */
    uint32_t inflight; /* bytes in flight before this ACK */
    uint32_t rtt_us;   /* sample of this ACK; 0: none */
    uint32_t srtt_us;  /* smoothed; 0: unknown */
};

enum tcp_cc_signal {
    TCP_CC_LOSS, /* fast retransmit */
    TCP_CC_ECN,  /* ECN-Echo (RFC 3168) */
};

struct tcp_cc_ops {
    const char *name;
    /** Fresh private state; cwnd, ssthresh and mss are set already and stay. */
    void (*init)(struct tcp_cc *cc, tcp_time now);
    /** New data delivered, outside fast recovery, while the window was the limit. */
    void (*on_ack)(struct tcp_cc *cc, const struct tcp_cc_ack *ack, tcp_time now);
    /** Congestion, at most once per window: sets ssthresh and cwnd. */
    void (*on_congestion)(struct tcp_cc *cc, enum tcp_cc_signal signal, uint32_t inflight,
                          tcp_time now);
    /** Retransmission timeout: sets ssthresh, and cwnd to one segment (RFC 5681 3.1). */
    void (*on_rto)(struct tcp_cc *cc, uint32_t inflight, tcp_time now);
    /** The last reduction was for nothing (RFC 3522): back to what it was. */
    void (*on_spurious)(struct tcp_cc *cc, tcp_time now);
    /** Nothing was in flight for @idle: growth must not count that time. */
    void (*on_idle)(struct tcp_cc *cc, tcp_time idle, tcp_time now);
};

extern const struct tcp_cc_ops tcp_cc_cubic; /* RFC 9438 */
extern const struct tcp_cc_ops tcp_cc_reno;  /* RFC 5681 */

/** Initial and restart window (RFC 6928, RFC 5681 4.1). */
uint32_t tcp_cc_initial_window(uint32_t mss);
/** Slow start by bytes acknowledged (RFC 3465); returns the bytes left when ssthresh is reached. */
uint32_t tcp_cc_slow_start(struct tcp_cc *cc, uint32_t acked);
/** Remembers cwnd and ssthresh for on_spurious(). */
void tcp_cc_remember(struct tcp_cc *cc);
/** on_spurious() of algorithms without private state worth restoring. */
void tcp_cc_restore(struct tcp_cc *cc);

#endif
