/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine: established TCP as a pure function of segments and time.
 *
 * It reads no clock, does no I/O and allocates nothing.  Time comes in as an argument, segments
 * come in parsed, output is pulled.  It begins where the host stack hands a connection over
 * (ESTABLISHED or a closing state) and never sends a SYN.  It compiles without any operating-system
 * header.
 *
 * Sequence numbers and positions.  Both byte streams live in power-of-two rings that the owner
 * lends (struct tcp_ring).  A *position* is a 64-bit count of bytes since import; the byte at
 * position p is base[p & (size - 1)].  The engine keeps the mapping from sequence number to
 * position.  The send ring holds every byte from SND.UNA to the end the owner announced; the
 * receive ring holds what the program has not consumed and, above it, out-of-order data in place.
 *
 * Calling order per event:  tcp_input() / tcp_send_ready() / tcp_recv_consumed() / tcp_timeout(),
 * any number of them, then tcp_output() until it returns 0, then tcp_next_timeout().
 */
#ifndef CHIMNEY_TCP_TCP_H
#define CHIMNEY_TCP_TCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "wire/segment.h"

/** Monotonic time in nanoseconds.  Only differences and order matter. */
typedef uint64_t tcp_time;
#define TCP_TIME_NEVER UINT64_MAX
#define TCP_MSEC ((tcp_time)1000000)
#define TCP_SEC ((tcp_time)1000000000)

/** Out-of-order ranges the receive side remembers; what does not fit is dropped, never mixed up. */
#define TCP_MAX_OOO 64
/** Ranges of the send side's scoreboard; further SACK information is ignored (safe). */
#define TCP_MAX_SCOREBOARD 128

/** A ring lent by the owner.  size is a power of two, at most 1 GiB. */
struct tcp_ring {
    uint8_t *base;
    uint32_t size;
};

/* What a call of tcp_input() or tcp_timeout() brought about: a set of these bits. */
#define TCP_EV_RECEIVED 0x0001u  /* rcv_pos advanced: in-order data is in the receive ring */
#define TCP_EV_ACKED 0x0002u     /* una_pos advanced */
#define TCP_EV_OUTPUT 0x0004u    /* tcp_output() has something to say */
#define TCP_EV_FIN 0x0008u       /* the peer's FIN is next in order (see fin_policy) */
#define TCP_EV_RESET 0x0010u     /* an acceptable RST (RFC 5961: SEQ == RCV.NXT) */
#define TCP_EV_SYN 0x0020u       /* a SYN at exactly RCV.NXT (C412): upload, state Closed */
#define TCP_EV_URGENT 0x0040u    /* a valid segment with URG (C336): not acknowledged */
#define TCP_EV_TIMEOUT 0x0080u   /* retransmit, persist, keepalive or FIN_WAIT_2 limit (C337) */
#define TCP_EV_TIME_WAIT 0x0100u /* entered TIME_WAIT: the host must take it back (C410) */
#define TCP_EV_FIN_ACKED 0x0200u /* our FIN and all data are acknowledged (C306) */
#define TCP_EV_DROPPED 0x0400u   /* the segment was not acceptable and was ignored */

/** Parameters of the target as a whole (contract.md 4.4).  Zero-initialise, then set. */
struct tcp_params {
    uint32_t ticks_per_second;     /* unit of every *_ticks field; 1 000 000 by default */
    uint8_t ack_frequency;         /* full segments per ACK; default 2 */
    uint32_t delayed_ack_ticks;    /* default 40 ms */
    uint8_t max_retransmissions;   /* per segment; default 15 */
    uint8_t doubt_retransmissions; /* TcpDoubtReachabilityRetransmissions; default 3 */
    uint32_t sws_prevention_ticks; /* default 200 ms */
    uint32_t dup_ack_threshold;    /* default 3 */
    uint32_t fin_wait2_ticks;      /* default 120 s */
    uint32_t rto_min_ticks;        /* default 200 ms, as Linux */
    uint32_t rto_max_ticks;        /* default 120 s */
};
/** Fills in the defaults named above. */
void tcp_params_default(struct tcp_params *params);

/** Time as ticks of @params, rounded up; saturates below TCP_TIMER_OFF (71 minutes at 1 MHz). */
uint32_t tcp_to_ticks(const struct tcp_params *params, tcp_time time);
/** Ticks of @params as time. */
tcp_time tcp_from_ticks(const struct tcp_params *params, uint32_t ticks);

/** Constant, cached and delegated variables in the contract's units (contract.md 1.5). */
#define TCP_FLAG_TIMESTAMP_ENABLED 0x01u
#define TCP_FLAG_SACK_ENABLED 0x02u
#define TCP_FLAG_WINDOW_SCALING_ENABLED 0x04u
/* Ours: ECN was negotiated (NDIS has no field for it; kept in a bit it leaves free). */
#define TCP_FLAG_ECN_ENABLED 0x80u

#define TCP_FLAG_KEEP_ALIVE_ENABLED 0x01u
#define TCP_FLAG_NAGLING_ENABLED 0x02u
#define TCP_FLAG_KEEP_ALIVE_RESTART 0x04u
#define TCP_FLAG_MAX_RT_RESTART 0x08u
#define TCP_FLAG_UPDATE_RCV_WND 0x10u

#define TCP_TIMER_OFF 0xFFFFFFFFu /* a TimeoutDelta that is not running (C192) */

struct tcp_const_state {
    uint16_t flags; /* TCP_FLAG_TIMESTAMP_ENABLED ... */
    uint8_t snd_wind_scale, rcv_wind_scale;
    uint16_t remote_mss; /* MSS option of the peer, timestamps not subtracted */
};

struct tcp_cached_state {
    uint16_t flags; /* TCP_FLAG_KEEP_ALIVE_ENABLED ... */
    uint32_t initial_rcv_wnd;
    uint32_t path_mtu; /* of the path object; bounds segments together with remote_mss */
    uint8_t ka_probe_count;
    uint32_t ka_timeout, ka_interval; /* ticks */
    uint32_t max_rt;                  /* ticks; 0: max_retransmissions, ~0: no limit */
};

struct tcp_delegated_state {
    uint8_t state; /* enum chimney_tcp_state values */
    uint32_t rcv_nxt, rcv_wnd;
    uint32_t snd_una, snd_nxt, snd_max;
    /*
     * handoff.md T2: the kernel may have marked bytes as sent while it was being read.  Sent for
     * certain: up to snd_max.  Perhaps sent: up to snd_max_possible.  Retransmission starts from
     * the former; acknowledgements are accepted up to the latter.  Equal when nothing is in doubt.
     */
    uint32_t snd_max_possible;
    uint32_t snd_wnd, max_snd_wnd, snd_wl1;
    uint32_t cwnd, ssthresh;           /* bytes */
    uint32_t srtt;                     /* ticks * 8; 0: unknown */
    uint32_t rttvar;                   /* ticks * 4 */
    uint32_t ts_recent, ts_recent_age; /* age in ticks */
    uint32_t ts_time;  /* sending timestamp clock now, in its own unit: milliseconds */
    uint32_t ts_last;  /* highest stamp ever sent: stamps never step below it */
    uint32_t total_rt; /* ticks */
    uint8_t dup_ack_count;
    uint8_t snd_wnd_probe_count;
    uint8_t ka_probe_count;
    uint32_t ka_timeout_delta; /* ticks; TCP_TIMER_OFF, 0 = due now */
    uint8_t retransmit_count;
    uint32_t retransmit_timeout_delta; /* ticks; TCP_TIMER_OFF, 0 = due now */
    uint32_t reordering;               /* segments; 0: default 3 */
};

/*
 * What happens when the peer's FIN becomes next in order.
 * TCP_FIN_HOLD: it is neither acknowledged nor consumed; TCP_EV_FIN is raised once, RCV.NXT stays
 * in front of it.  A host whose kernel cannot restore a closing state uploads and replays the
 * frame. TCP_FIN_CONSUME: ordinary TCP: RCV.NXT moves over it, the state changes, it is
 * acknowledged.
 */
enum tcp_fin_policy { TCP_FIN_HOLD = 0, TCP_FIN_CONSUME = 1 };

struct tcp_conn; /* see tcp_conn.h; the owner allocates tcp_conn_size() bytes */

/** Bytes of a struct tcp_conn, for owners that keep it in a table of their own. */
size_t tcp_conn_size(void);

/**
 * Takes a connection over.
 *
 * @conn   memory of tcp_conn_size() bytes, aligned to 64; need not be initialised
 * @params must live as long as the connection
 * @snd    send ring: bytes [snd_una, snd_una + snd_len) are in it from position 0
 * @rcv    receive ring: bytes [rcv_nxt - rcv_len, rcv_nxt) are in it from position 0; the program
 * has consumed none of them yet
 * @now    the time the state is valid at: deltas and ts_time count from here
 * Returns 0, or a negative TCP_E* value; then nothing was taken and @conn is not to be used.
 *
 * Everything is validated: order of sequence numbers, windows, ring sizes, shift counts, state.  If
 * data is in flight the first segment is retransmitted at once (handoff.md T6), and an ACK is sent,
 * unless @quiet.
 */
struct tcp_import {
    struct tcp_const_state constant;
    struct tcp_cached_state cached;
    struct tcp_delegated_state delegated;
    struct tcp_ring snd, rcv;
    uint32_t snd_len, rcv_len;
    enum tcp_fin_policy fin_policy;
    bool quiet; /* do not send the ACK and the retransmission that usually follow an import */
    uint8_t ip_header; /* bytes of IP header that path_mtu includes: 20 or 40; 0: 40 (safe) */
};
#define TCP_E_STATE (-1)    /* state that cannot be offloaded (C58) */
#define TCP_E_SEQUENCE (-2) /* sequence numbers out of order */
#define TCP_E_RING (-3)     /* ring too small or not a power of two */
#define TCP_E_WINDOW (-4)   /* window or scale out of range */
#define TCP_E_MSS (-5)      /* segment size unusable */
int tcp_import(struct tcp_conn *conn, const struct tcp_params *params,
               const struct tcp_import *import, tcp_time now);

/**
 * Gives a connection back.  Fills in the delegated state and where the rings stand; the connection
 * is finished afterwards.  An ACK that is due must be pulled with tcp_output_ack() before (C215).
 */
struct tcp_export {
    struct tcp_delegated_state delegated;
    uint64_t una_pos;         /* position of snd_una in the send ring */
    uint64_t snd_max_pos;     /* position of snd_max_possible */
    uint64_t snd_end_pos;     /* end of the data the owner announced */
    uint64_t rcv_pos;         /* position of rcv_nxt in the receive ring (peer's FIN not counted) */
    bool fin_sent, fin_acked; /* our FIN */
    bool fin_received;        /* the peer's FIN is next in order or was consumed */
    uint16_t ooo_count;       /* out-of-order ranges still in the receive ring */
    struct tcp_sack_range ooo[TCP_MAX_OOO];
};
void tcp_export(struct tcp_conn *conn, tcp_time now, struct tcp_export *out);
/** The same without ending the connection: the answer to a query (C190 to C193). */
void tcp_query(const struct tcp_conn *conn, tcp_time now, struct tcp_export *out);
/** New cached values (C194 to C199): keepalive, window, path MTU.  Returns TCP_EV_OUTPUT or 0. */
uint32_t tcp_update(struct tcp_conn *conn, const struct tcp_cached_state *cached, tcp_time now);

/** Consumes one segment.  Returns TCP_EV_* bits. */
uint32_t tcp_input(struct tcp_conn *conn, const struct tcp_segment *seg, tcp_time now);
/**
 * Builds the next segment that may be sent now.
 * @max_len largest payload of a super-segment the port takes; 0: one MSS at a time
 * Returns 1 and fills @out, or 0 when there is nothing (more) to send.
 */
int tcp_output(struct tcp_conn *conn, uint32_t max_len, tcp_time now, struct tcp_out *out);
/**
 * Builds the acknowledgement that is due, and nothing else: what an owner sends before it exports
 * (C215).  Returns 1 and fills @out, or 0 when everything received is acknowledged.
 */
int tcp_output_ack(struct tcp_conn *conn, tcp_time now, struct tcp_out *out);
/** When tcp_timeout() wants to be called, or TCP_TIME_NEVER. */
tcp_time tcp_next_timeout(const struct tcp_conn *conn);
/** Runs the timers that are due.  Returns TCP_EV_* bits. */
uint32_t tcp_timeout(struct tcp_conn *conn, tcp_time now);

/**
 * The send ring now holds data up to position @end.  An @end below the last one, or further than
 * the ring's size above una_pos, is refused: returns -1 and changes nothing (the memory's other
 * owner may be hostile).  @push: set PSH at this boundary (C241).  Returns 0.
 */
int tcp_send_ready(struct tcp_conn *conn, uint64_t end, bool push, tcp_time now);
/** The program has consumed the receive ring up to @tail.  Refused (-1) if out of range; else bits.
 */
int tcp_recv_consumed(struct tcp_conn *conn, uint64_t tail, tcp_time now);
/** Graceful disconnect: FIN after all data announced so far (C299, C300). */
void tcp_shutdown(struct tcp_conn *conn, tcp_time now);
/** Abortive disconnect: the next tcp_output() is a RST, nothing follows it (C302). */
void tcp_abort(struct tcp_conn *conn);

/* Cheap accessors for the owner. */
uint64_t tcp_una_pos(const struct tcp_conn *conn);
uint64_t tcp_rcv_pos(const struct tcp_conn *conn);
uint8_t tcp_state(const struct tcp_conn *conn); /* enum chimney_tcp_state values */
/** Bytes worth keeping outstanding: min(bandwidth-delay product, peer's window) (C76, C254). */
uint32_t tcp_send_backlog(const struct tcp_conn *conn);

/**
 * True if larger rings would let the connection go faster: the program keeps up with the peer and
 * the receive ring is what the window ends at, or the send ring is full and the path would take
 * more.
 */
bool tcp_rings_small(const struct tcp_conn *conn);

/** Counters of one connection, for `chimney list` and statistics (contract.md 4.5). */
struct tcp_stats {
    uint64_t bytes_in, bytes_out;       /* payload, first transmissions and in-order */
    uint64_t segments_in, segments_out; /* out: pure retransmissions excluded */
    uint64_t retransmits, fast_retransmits, rto_fired, tlp_fired;
    uint64_t dup_in, ooo_in, ooo_dropped, paws_dropped, challenge_acks, dsack_in;
};
const struct tcp_stats *tcp_conn_stats(const struct tcp_conn *conn);

/* Congestion control as callbacks (after ngtcp2); cc.h holds the struct and the algorithms. */
struct tcp_cc_ops;
const struct tcp_cc_ops *tcp_cc_by_name(const char *name); /* "cubic", "reno"; NULL if unknown */
/** Chooses the algorithm before or after import; keeps cwnd and ssthresh. */
void tcp_set_cc(struct tcp_conn *conn, const struct tcp_cc_ops *cc, tcp_time now);

/* Sequence arithmetic (RFC 793 3.3), modulo 2^32. */
static inline bool seq_lt(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}
static inline bool seq_leq(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) <= 0;
}
static inline bool seq_gt(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) > 0;
}
static inline bool seq_geq(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) >= 0;
}

#endif
