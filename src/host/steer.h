/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steering: the BPF side of the host stack, seen from user space.
 *
 * One struct steer per daemon: one map of flows, shared by three programs on every attached
 * interface (XDP: steered frames to AF_XDP; tc ingress: guard; tc egress: guard) and by the
 * snapshot and reinjection programs, which are only ever test-run.  handoff.md sections 1 to 3.
 *
 * XDP is attached by a BPF link, so it goes away with the process.  The tc filters do not: the next
 * steer_attach() on that interface removes what an earlier process left, and only what is ours.
 * All functions return 0 or -errno; functions with @err write one line for people.  One thread (the
 * control thread) changes flows; steer_reinject() may be called by any thread.
 */
#ifndef CHIMNEY_HOST_STEER_H
#define CHIMNEY_HOST_STEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "wire/wire.h"

/** Flows that can be steered at a time; default of steer_config.max_flows. */
#define STEER_MAX_FLOWS 65536u
/** Interfaces that can be attached at a time. */
#define STEER_MAX_IFACES 16

struct steer;

struct steer_config {
    uint32_t max_flows; /* 0: STEER_MAX_FLOWS */
};
int steer_create(struct steer **out, const struct steer_config *config, char *err, size_t errlen);
void steer_destroy(struct steer *steer); /* detaches everything */

/**
 * Attaches the three programs to @ifindex, native mode if the driver can, else generic.
 * -EBUSY: another XDP program is there (it is left alone).
 */
int steer_attach(struct steer *steer, int ifindex, bool force_generic, bool *native, char *err,
                 size_t errlen);
/** Registers the AF_XDP socket of one receive queue. */
int steer_set_queue(struct steer *steer, int ifindex, uint32_t queue, int xsk_fd);
int steer_detach(struct steer *steer, int ifindex);

/** What is done with a flow. */
struct steer_mode {
    bool steer;     /* XDP: redirect to AF_XDP; once steered never fall back to pass: drop */
    bool guard_in;  /* tc ingress: drop what still comes up to the kernel */
    bool guard_out; /* tc egress: drop RSTs the kernel would send for it */
};
/** Sets the mode of @n flows. -E2BIG: table full (none or some were set). */
int steer_set(struct steer *steer, const struct flow_key *keys, size_t n, struct steer_mode mode);
int steer_delete(struct steer *steer, const struct flow_key *keys, size_t n);

/**
 * Puts a received frame into the kernel's receive path as if it had arrived on @ifindex, of the
 * caller's network namespace.  The frame's checksums must be right.  A TCP frame longer than about
 * 3300 bytes goes in in slices.  -ENODEV; -EMSGSIZE: another kind of frame longer than that.
 */
int steer_reinject(struct steer *steer, int ifindex, const void *frame, uint32_t len);

struct steer_counters {
    uint64_t steered, steered_bytes, passed;
    uint64_t late, late_dropped; /* past XDP, seen by the ingress guard */
    uint64_t rst_suppressed;     /* by the egress guard */
    uint64_t no_queue_dropped;   /* steered, but no AF_XDP socket on that queue */
    uint64_t reinjected;
};
void steer_get_counters(struct steer *steer, struct steer_counters *out);

/*
 * The snapshot: everything of a kernel TCP socket that can be read, without the socket lock and
 * without changing it (handoff.md 2.3).  All values as the kernel has them.
 */
struct tcp_snapshot {
    uint8_t state; /* kernel TCP_ESTABLISHED = 1, ... */
    uint8_t ca_state, retransmits, backoff, probes_out, pending;
    uint8_t ooo;       /* the out-of-order queue is not empty */
    uint8_t signature; /* TCP-MD5 or TCP-AO */
    uint8_t usec_ts, urgent, shutdown, repair, nonagle, ecn_flags, sack_ok, tstamp_ok, wscale_ok;
    uint8_t snd_wscale, rcv_wscale, reuse, reuseport;
    uint16_t mss_clamp, advmss, user_mss;
    uint32_t snd_una, snd_nxt, write_seq, rcv_nxt, copied_seq;
    uint32_t snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup, rcv_ssthresh, window_clamp;
    uint32_t ts_recent, tsoffset;
    uint64_t ts_recent_age_s; /* seconds since ts_recent was taken, ~0: unknown */
    uint64_t wstamp_ns;       /* tcp_wstamp_ns: the last stamp sent may lie in the future (T5c) */
    uint32_t srtt_us, rttvar_us, mdev_us, rto_jiffies;
    uint32_t snd_cwnd, snd_ssthresh, reordering, packets_out, sacked_out, lost_out, retrans_out;
    uint32_t mss_cache, rcv_mss;
    uint32_t rcvbuf, sndbuf;
    int64_t rto_left_ms; /* until the retransmit timer, -1: off */
    uint64_t now_ns;     /* bpf_ktime_get_ns(): the clock wstamp_ns counts on */
};
/** -ENOENT: no such established socket (a parked tuple finds its listener: also -ENOENT). */
int steer_snapshot(struct steer *steer, const struct flow_key *key, struct tcp_snapshot *out);

/*
 * For the self-test of the barrier: a BPF program that stays inside for @ns (at most 50 ms), and
 * whether it is in there now.
 */
int steer_spin(struct steer *steer, uint64_t ns);
bool steer_spinning(const struct steer *steer);

#endif
