/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP_REPAIR: freeze, dump, park, restore, thaw one kernel socket.  Pure mechanism; the order in
 * which this is used, and why, is in handoff.c.  handoff.md sections 1 and 2, traps T1 to T7.
 *
 * All functions return 0 or -errno.  Switching repair mode needs CAP_NET_ADMIN of the caller.
 */
#ifndef CHIMNEY_HOST_REPAIR_H
#define CHIMNEY_HOST_REPAIR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <linux/tcp.h>

/** Everything that REPAIR calls can read, and what must be set again afterwards. */
struct repair_state {
    struct sockaddr_storage local, remote;
    socklen_t addrlen;
    uint32_t snd_una, write_seq, rcv_nxt;
    uint32_t snd_nxt_low, snd_nxt_high; /* sent for certain / perhaps (trap T2) */
    uint32_t sendq_len;                 /* bytes [snd_una, write_seq) */
    uint32_t recvq_len;                 /* bytes [rcv_nxt - recvq_len, rcv_nxt) */
    bool timestamps, sack, wscale, ecn;
    uint8_t snd_wscale, rcv_wscale;
    uint16_t mss_clamp;
    uint32_t tsval; /* TCP_TIMESTAMP as read (its lowest bit is lost, T5a); 0: leave alone */
    struct tcp_repair_window window;
    /* Options that the hand-off itself disturbs (T4, T7). */
    int reuseaddr, user_maxseg, sndbuf, buf_lock;
    /*
     * The port was not the program's own choice (connect() or accept() gave it).  Not readable;
     * found out by repair_park(), whose bind() then succeeds instead of saying "bound already"
     * (2.5).
     */
    bool bound_by_kernel;
    /* Options a target needs: values of the cached state. */
    int nodelay, cork, keepalive, keep_idle_s, keep_intvl_s, keep_cnt, user_timeout_ms;
    int rcvbuf, tos, ttl, priority, mark;
    uint32_t flow_label;
    char congestion[16];
    uint32_t srtt_us, rttvar_us, cwnd, ssthresh, pmtu, reordering, advmss;
};

/**
 * Why a socket cannot be offloaded: a static line, or NULL if it can, as far as its options tell.
 * Not a TCP socket, not established, TLS or another protocol on top, MPTCP, urgent data pending, IP
 * options, a socket filter, bound to a device ...
 */
const char *repair_why_not(int fd);
/** The same; @error: -ENOTCONN if it is not established (any more), else -EOPNOTSUPP. */
const char *repair_refusal(int fd, int *error);

/**
 * Addresses and options, of a socket that is not frozen yet: what does not change while the program
 * is out of its calls, and need not be read during the silence.
 */
int repair_read_options(int fd, struct repair_state *state);
/**
 * Switches repair mode on.  Reads what that destroys (SO_REUSEADDR) into @state first.
 */
int repair_freeze(int fd, struct repair_state *state);
/**
 * Reads everything else.  Queued data is copied into the rings at position 0 (base, power-of-two
 * size). -ENOBUFS: a queue is longer than its ring (recvq_len / sendq_len say how long): nothing
 * changed.
 */
struct repair_rings {
    uint8_t *send, *receive;
    uint32_t size;
};
int repair_dump(int fd, const struct repair_rings *rings, struct repair_state *state);
/** Length of both queues, cheaply, before anything is done. */
int repair_queues(int fd, uint32_t *sendq, uint32_t *recvq);
/**
 * connect(AF_UNSPEC), clear the error, bind to the old address again; sets @state->bound_by_kernel.
 * @*parked: the connection has left the kernel even though an error is returned; the way back is
 * repair_restore() then, not repair_unfreeze().
 */
int repair_park(int fd, struct repair_state *state, bool *parked);
/* Parts of it that a restore needs too.  @taken: bind() did something, the socket was not bound. */
int repair_disconnect(int fd);
int repair_bind(int fd, const struct repair_state *state, bool *taken);

/** What the target gives back, for repair_restore(). */
struct repair_restore {
    const struct repair_state *was; /* from repair_dump() */
    uint32_t snd_una, snd_max;      /* snd_max: highest ever sent, for certain or perhaps (T3) */
    uint32_t rcv_nxt;
    struct tcp_repair_window window;
    uint32_t tsval_floor; /* set TCP_TIMESTAMP to an even value >= this; 0: leave alone */
    /* Data, as ring ranges: [una_pos, una_pos + sent) in flight, then unsent; [rcv_pos - unread,
     * rcv_pos) not yet read by the program. */
    const uint8_t *send_base, *receive_base;
    uint32_t ring_size;
    uint64_t una_pos;
    uint32_t sent_len, unsent_len;
    uint64_t rcv_pos;
    uint32_t unread_len;
};
/**
 * Steps 2 to 6 of an upload: the socket is ESTABLISHED again, still frozen, no packet left.  May be
 * called again after it failed, or after it succeeded and was not thawed: begins from a parked
 * socket.
 */
int repair_restore(int fd, const struct repair_restore *r);
/** Step 7: appends received in-order payload to the frozen socket. */
int repair_append(int fd, const void *data, uint32_t len);
/**
 * Steps 10 to 12: thaw (window probe), options back, unsent data sent.  @*left: unsent bytes still
 * to be sent; r->unsent_len before the first call, afterwards what did not fit (0 in all but memory
 * pressure).  They begin at una_pos + sent_len + unsent_len - *left.
 */
int repair_thaw(int fd, const struct repair_restore *r, uint32_t *left);
/** Undoes a freeze without a park (offload given up before step 10). */
int repair_unfreeze(int fd, const struct repair_state *state_or_null);

#endif
