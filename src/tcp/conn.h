/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection: everything the engine knows, and the functions its files call of each other.
 *
 * Positions and sequence numbers: the byte with sequence number s is at position
 * una_pos + (s - snd_una) of the send ring, and rcv_pos + (s - rcv_nxt) of the receive ring.  A FIN
 * has a sequence number but no position.
 *
 * New data is always sent from snd_max on; there is no second "next" pointer that would be pulled
 * back.  What has to be sent again is marked in the scoreboard (sack.c).
 */
#ifndef CHIMNEY_TCP_CONN_H
#define CHIMNEY_TCP_CONN_H

#include <chimney/status.h>
#include "tcp/cc.h"
#include "tcp/tcp.h"

/* Assertions stay on in production: going on would corrupt somebody's stream. */
#define tcp_assert(what)                                                                           \
    do {                                                                                           \
        if (!(what))                                                                               \
            __builtin_trap();                                                                      \
    } while (0)

static inline uint32_t tcp_min(uint64_t a, uint64_t b)
{
    return (uint32_t)(a < b ? a : b);
}
static inline uint32_t tcp_max(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}
static inline tcp_time tcp_min_time(tcp_time a, tcp_time b)
{
    return a < b ? a : b;
}
static inline tcp_time tcp_max_time(tcp_time a, tcp_time b)
{
    return a > b ? a : b;
}
static inline uint32_t seq_max(uint32_t a, uint32_t b)
{
    return seq_gt(a, b) ? a : b;
}
static inline uint32_t seq_min(uint32_t a, uint32_t b)
{
    return seq_lt(a, b) ? a : b;
}

#define TCP_USEC ((tcp_time)1000)
#define TCP_MAX_WINDOW (65535u << 14)
#define TCP_MAX_RING (1u << 30)
#define TCP_MAX_SHIFT 14
#define TCP_MIN_MSS 48u         /* before options: 8 bytes of data beside 40 of options */
#define TCP_HEADER 20u          /* without options */
#define TCP_TIMESTAMP_BYTES 12u /* the option with its padding */
#define TCP_RCV_MSS_MIN 536u    /* the peer's segments are taken to be at least this large */
#define TCP_QUICK_ACKS 8        /* segments acknowledged at once after an import */
#define TCP_PUSH_MARKS 8        /* request boundaries remembered in unsent data */
#define TCP_RTT_LOG 16          /* sent segments whose time is remembered */
#define TCP_SENT_LOG 128        /* stretches of first transmissions whose time is remembered */
#define TCP_MAX_REORDERING 300u /* segments; as Linux's tcp_max_reordering */
#define TCP_MAX_SHIFT_RTO 16    /* further doublings change nothing: rto_max is reached */

/* conn->flags: what was agreed ... */
#define F_TIMESTAMP 0x00000001u
#define F_SACK 0x00000002u
#define F_ECN 0x00000004u
#define F_NAGLE 0x00000008u
#define F_KEEPALIVE 0x00000010u
#define F_FIN_HOLD 0x00000020u
/* ... what is to be sent ... */
#define F_ACK_NOW 0x00000100u
#define F_PROBE 0x00000200u        /* an empty segment at snd_una - 1 */
#define F_REXMT_FIRST 0x00000400u  /* the segment at snd_una, whatever the window says (import) */
#define F_REXMT_ONE 0x00000800u    /* one lost segment, whatever cwnd says (recovery begins) */
#define F_SWS_OVERRIDE 0x00001000u /* the silly-window timer fired: send what the window takes */
#define F_ABORT 0x00002000u        /* a RST, and nothing after it */
#define F_ECE 0x00004000u          /* echo congestion until CWR (RFC 3168 6.1.3) */
#define F_CWR 0x00008000u          /* tell the peer that the window was reduced */
/* ... and what happened. */
#define F_STOPPED 0x00010000u    /* reset, exported, urgent, timed out: no output, no timers */
#define F_FIN_QUEUED 0x00020000u /* our FIN follows the byte at end_pos */
#define F_FIN_ACKED 0x00040000u
#define F_PEER_FIN 0x00080000u /* peer_fin is known */
#define F_PEER_FIN_TOLD 0x00100000u
#define F_PEER_FIN_DONE 0x00200000u /* consumed: rcv_nxt is past it */
#define F_CWND_LIMITED 0x00400000u
#define F_DEFENCE 0x00800000u        /* keepalive works for the blind-attack defence (C417) */
#define F_DEFENCE_TIMER 0x01000000u  /* ... and was started by it */
#define F_RST_CHALLENGED 0x02000000u /* one challenge ACK per validation period is out */
#define F_RCV_SHRINK 0x04000000u     /* the host wants a smaller window than was given (C198) */
#define F_PEER_ALIVE 0x08000000u     /* an ACK with a closed window came since the last RTO */
#define F_EIFEL 0x10000000u          /* eifel_ts is the stamp of the first retransmission */

#define F_TAIL_PROBE 0x20000000u /* a tail loss probe, whatever cwnd says */

/** What the retransmit timer stands for (contract.md 5.2: one timer, three uses). */
enum tcp_rexmt_kind { REXMT_OFF = 0, REXMT_RTO, REXMT_PERSIST, REXMT_FIN_WAIT2 };

/** What the loss timer stands for. */
enum tcp_loss_kind { LOSS_OFF = 0, LOSS_REORDER, LOSS_PROBE };

enum tcp_timer {
    TIMER_REXMT,
    TIMER_LOSS,
    TIMER_DELACK,
    TIMER_KEEPALIVE,
    TIMER_SWS,
    TIMER_COUNT,
};

/** Congestion state; the names are RFC 5681's and RFC 6298's events. */
enum tcp_recovery { RECOVERY_NONE = 0, RECOVERY_FAST, RECOVERY_RTO };

/** State of a stretch of sent, unacknowledged sequence space; see sack.c. */
enum tcp_span_state {
    SPAN_FLIGHT = 0, /* sent once, nothing known: not in the map */
    SPAN_SACKED,     /* the peer has it */
    SPAN_LOST,       /* taken for lost, to be sent again */
    SPAN_RESENT,     /* sent again, in flight */
};

struct tcp_span {
    uint32_t left, right;
    uint32_t state;
    uint32_t mark; /* SPAN_RESENT only: snd_max when it was sent again */
    tcp_time sent; /* when it was last sent again; 0: never */
};

/** An out-of-order range in the receive ring; serial says which is the most recent. */
struct tcp_ooo {
    uint32_t left, right, serial;
};

struct tcp_rtt_entry {
    uint32_t end; /* sequence number after the segment */
    tcp_time sent;
};

/** What rack.c keeps; see there. */
struct tcp_rack {
    tcp_time sent;      /* of the most recently sent segment that arrived; 0: none yet ... */
    tcp_time rtt;       /* ... its round trip ... */
    uint32_t end;       /* ... and the sequence number after it */
    uint32_t own;       /* what lies below was sent by a previous owner, or perhaps */
    uint32_t fack;      /* highest sequence number that arrived, before the ACK at hand ... */
    uint32_t fack_next; /* ... and with it */
    uint32_t round;     /* snd_max at the last D-SACK that counted */
    bool round_open;
    bool reordering;     /* the path was seen to reorder */
    uint8_t reo_mult;    /* reordering window in quarters of the smallest round trip */
    uint8_t reo_persist; /* recoveries until it returns to one */
    uint8_t log_first, log_count;
    tcp_time min_rtt, min_rtt_at; /* 0: none yet */
    tcp_time grain;               /* shortest stretch the log tells apart */
    tcp_time log_since;           /* when its last entry began */
    struct tcp_rtt_entry log[TCP_SENT_LOG];
};

/** The tail loss probe that is out; see tlp.c. */
struct tcp_tlp {
    uint32_t end; /* snd_max when it was sent */
    bool out;
    bool again;    /* it was a retransmission ... */
    bool needless; /* ... and the peer had it already */
};

/** The way of cwnd through a fast recovery; see prr.c. */
struct tcp_prr {
    bool active;
    uint32_t flight;    /* in flight when it began */
    uint64_t delivered; /* bytes since ... */
    uint64_t out;       /* ... and bytes sent since */
};

/** What was sent again in the last recovery and not yet reported as needless by a D-SACK. */
struct tcp_undo {
    bool possible;
    uint32_t left, right; /* what was in flight when it began */
    uint32_t until;       /* snd_max when it ended: nobody speaks of it after that */
    uint64_t again;       /* bytes sent again ... */
    uint64_t needless;    /* ... and reported */
};

struct tcp_conn {
    /* Line 0: sending. */
    uint32_t snd_una;        /* 0 */
    uint32_t snd_max;        /* 4: after the highest sequence number sent, FIN included */
    uint32_t snd_wnd;        /* 8: from snd_una */
    uint32_t snd_wl1;        /* 12 */
    uint64_t una_pos;        /* 16: position of snd_una */
    uint64_t end_pos;        /* 24: end of the data announced */
    const uint8_t *snd_base; /* 32 */
    uint32_t snd_mask;       /* 40 */
    uint32_t max_snd_wnd;    /* 44 */
    uint32_t flags;          /* 48: F_* */
    uint32_t snd_doubt;      /* 52: perhaps sent up to here by the previous owner */
    uint16_t mss;            /* 56: payload of a full segment without SACK blocks */
    uint8_t state;           /* 58: enum chimney_tcp_state */
    uint8_t snd_scale;       /* 59 */
    uint8_t recovery;        /* 60: enum tcp_recovery */
    uint8_t rexmt_kind;      /* 61: enum tcp_rexmt_kind */
    uint8_t dup_acks;        /* 62 */
    uint8_t span_count;      /* 63 */
    /* Line 1: receiving. */
    uint8_t *rcv_base;     /* 64 */
    uint64_t rcv_pos;      /* 72: position of rcv_nxt */
    uint64_t rcv_tail;     /* 80: consumed by the program */
    uint32_t rcv_mask;     /* 88 */
    uint32_t rcv_nxt;      /* 92 */
    uint32_t rcv_adv;      /* 96: right edge promised; never moves back */
    uint32_t rcv_seen;     /* 100: right edge of the last window field */
    uint32_t rcv_wish;     /* 104: InitialRcvWnd */
    uint32_t last_ack;     /* 108: acknowledgement number last sent */
    uint32_t ts_recent;    /* 112 */
    uint32_t ts_last;      /* 116: highest stamp sent */
    uint16_t rcv_mss;      /* 120: size of the peer's segments, learned */
    uint8_t rcv_scale;     /* 122 */
    uint8_t ooo_count;     /* 123 */
    uint8_t quick_acks;    /* 124 */
    uint8_t dup_acks_owed; /* 125: one ACK each for the gaps seen, without SACK */
    bool dsack_due;        /* 126 */
    uint8_t backoff;       /* 127: doublings of the RTO (Karn) */
    /* Line 2: time. */
    tcp_time timer[TIMER_COUNT]; /* 128: TCP_TIME_NEVER when off */
    tcp_time ts_recent_at;       /* 168 */
    tcp_time ts_epoch;           /* 176: when the stamp clock stood at ts_base */
    uint32_t ts_base;            /* 184 */
    uint32_t srtt;               /* 188: microseconds * 8; 0: unknown */

    /* Everything else: on every transmission, or only when something is out of order. */
    struct tcp_cc cc;
    const struct tcp_params *params;
    struct tcp_stats stats;

    uint32_t sacked_bytes, lost_bytes; /* of the scoreboard */
    uint32_t recover;                  /* snd_max when recovery began (RFC 6582) */
    uint32_t reordering;               /* segments; as imported */
    uint32_t eifel_ts;
    uint32_t ecn_recover; /* snd_max at the last ECN reduction */
    uint32_t small_end;   /* end of the last small segment (Minshall) */
    uint32_t max_flight;  /* largest flight of this window (cwnd validation) */
    uint32_t flight_edge; /* snd_max when max_flight was taken */
    tcp_time last_sent;   /* last transmission of data */

    uint8_t rexmt_count;  /* Retransmit.Count */
    uint8_t probe_round;  /* SndWndProbeCount */
    uint8_t ka_count;     /* keepalive probes unanswered */
    tcp_time total_since; /* TotalRT runs from here ... */
    tcp_time total_base;  /* ... on top of this */
    tcp_time oow_ack_at;  /* last ACK for an unacceptable empty segment */
    tcp_time syn_ack_at;  /* last challenge ACK for a SYN */

    uint32_t peer_fin; /* sequence number of the peer's FIN */
    uint32_t dsack_left, dsack_right;
    uint32_t ooo_serial;

    uint32_t path_mtu, ip_header;
    uint16_t remote_mss;
    uint8_t ka_limit;
    uint8_t push_count;
    uint32_t max_rt;
    tcp_time ka_timeout, ka_interval;
    uint64_t push_mark[TCP_PUSH_MARKS]; /* positions, rising */
    uint8_t loss_kind;                  /* enum tcp_loss_kind */
    uint32_t rttvar;                    /* microseconds * 4 */
    uint32_t rtt_count;                 /* entries in rtt_log */
    struct tcp_rtt_entry rtt_log[TCP_RTT_LOG];
    struct tcp_rack rack;
    struct tcp_tlp tlp;
    struct tcp_prr prr;
    struct tcp_undo undo;

    /* demand.c */
    uint32_t demand_rtt_ms; /* smallest echo of our stamps by data */
    bool demand_receive;    /* the program consumed half a ring in a round trip */
    tcp_time demand_rtt_at; /* when it was taken; 0: never */
    tcp_time demand_from;   /* measuring since */
    uint64_t demand_tail;   /* ... from this position */

    struct tcp_ooo ooo[TCP_MAX_OOO];
    struct tcp_span span[TCP_MAX_SCOREBOARD];
} __attribute__((aligned(64)));

_Static_assert(offsetof(struct tcp_conn, rcv_base) == 64, "line 0 is sending");
_Static_assert(offsetof(struct tcp_conn, timer) == 128, "line 1 is receiving");
_Static_assert(offsetof(struct tcp_conn, cc) == 192, "line 2 is time");

/* State queries. */
static inline uint32_t tcp_flight(const struct tcp_conn *c)
{
    return c->snd_max - c->snd_una;
}

/** Sequence number after the last byte announced: that of our FIN once it is queued. */
static inline uint32_t tcp_end_seq(const struct tcp_conn *c)
{
    return c->snd_una + (uint32_t)(c->end_pos - c->una_pos);
}
static inline bool tcp_fin_sent(const struct tcp_conn *c)
{
    return c->flags & F_FIN_ACKED || (c->flags & F_FIN_QUEUED && c->snd_max == tcp_end_seq(c) + 1);
}
/** Bytes never sent. */
static inline uint32_t tcp_unsent(const struct tcp_conn *c)
{
    return c->flags & F_FIN_ACKED || tcp_fin_sent(c) ? 0 : tcp_end_seq(c) - c->snd_max;
}
/** Data or a FIN waits to be sent for the first time. */
static inline bool tcp_pending(const struct tcp_conn *c)
{
    return tcp_unsent(c) || (c->flags & F_FIN_QUEUED && !tcp_fin_sent(c));
}
/** Sequence numbers at and above snd_max that the peer's window takes. */
static inline uint32_t tcp_usable_window(const struct tcp_conn *c)
{
    uint32_t flight = tcp_flight(c);

    return c->snd_wnd > flight ? c->snd_wnd - flight : 0;
}
/** The peer may still send data or a FIN. */
static inline bool tcp_receiving(const struct tcp_conn *c)
{
    return !(c->flags & F_PEER_FIN_DONE);
}

/* import.c */
void tcp_set_mss(struct tcp_conn *c);

/* ack.c: what an acknowledgement does to the send side. */
uint32_t tcp_ack_input(struct tcp_conn *c, const struct tcp_segment *seg, tcp_time now);

/* rtt.c */
uint32_t tcp_ts_now(const struct tcp_conn *c, tcp_time now);
void tcp_rtt_sent(struct tcp_conn *c, uint32_t end, tcp_time now);
uint32_t tcp_rtt_measure(struct tcp_conn *c, const struct tcp_segment *seg, bool advances,
                         tcp_time now);
tcp_time tcp_rto(const struct tcp_conn *c);
tcp_time tcp_rto_shifted(const struct tcp_conn *c, unsigned doublings);

/* sack.c: the scoreboard. */
bool tcp_span_set(struct tcp_conn *c, uint32_t left, uint32_t right, enum tcp_span_state state,
                  tcp_time now);
void tcp_span_force(struct tcp_conn *c, uint32_t left, uint32_t right, enum tcp_span_state state,
                    tcp_time now);
void tcp_span_trim(struct tcp_conn *c, uint32_t una);
void tcp_span_clear(struct tcp_conn *c);
void tcp_span_mark_lost(struct tcp_conn *c, uint32_t edge);
void tcp_span_mark_all_lost(struct tcp_conn *c);
void tcp_span_lose(struct tcp_conn *c, uint32_t left, uint32_t right);
const struct tcp_span *tcp_span_of(const struct tcp_conn *c, uint32_t seq, uint32_t *end);
const struct tcp_span *tcp_span_first(const struct tcp_conn *c, enum tcp_span_state state);
enum tcp_span_state tcp_span_at(const struct tcp_conn *c, uint32_t seq, uint32_t *end);
uint32_t tcp_sack_input(struct tcp_conn *c, const struct tcp_segment *seg, tcp_time now);

/* rack.c: loss by time. */
void tcp_rack_import(struct tcp_conn *c, tcp_time now);
void tcp_rack_forget(struct tcp_conn *c);
void tcp_rack_sent(struct tcp_conn *c, uint32_t end, tcp_time now);
void tcp_rack_trim(struct tcp_conn *c);
void tcp_rack_rtt(struct tcp_conn *c, uint64_t us, tcp_time now);
void tcp_rack_dsack(struct tcp_conn *c);
void tcp_rack_recovered(struct tcp_conn *c);
void tcp_rack_delivered(struct tcp_conn *c, uint32_t left, uint32_t right,
                        const struct tcp_segment *seg, tcp_time now);
void tcp_rack_detect(struct tcp_conn *c, tcp_time now);
tcp_time tcp_rack_grain(const struct tcp_conn *c);

/* loss.c: what is lost, and what to do about it. */
struct tcp_ack_info {
    uint32_t acked;     /* sequence numbers newly acknowledged cumulatively */
    uint32_t sacked;    /* bytes newly SACKed */
    uint32_t delivered; /* bytes that arrived, as far as we know by this ACK for the first time */
    bool duplicate;     /* a duplicate ACK in the sense of RFC 5681 or RFC 6675 */
    bool plain;         /* nothing but the same acknowledgement number and window again */
};
uint32_t tcp_pipe(const struct tcp_conn *c);
void tcp_loss_on_ack(struct tcp_conn *c, const struct tcp_segment *seg,
                     const struct tcp_ack_info *info, tcp_time now);
void tcp_loss_on_rto(struct tcp_conn *c, tcp_time now);
void tcp_loss_repaired(struct tcp_conn *c, tcp_time now);
bool tcp_loss_on_reorder(struct tcp_conn *c, tcp_time now);
void tcp_loss_on_resend(struct tcp_conn *c, uint32_t left, uint32_t len);
void tcp_loss_on_dsack(struct tcp_conn *c, uint32_t left, uint32_t right);
void tcp_loss_on_smaller_mss(struct tcp_conn *c);

/* tlp.c: tail loss probes. */
void tcp_tlp_schedule(struct tcp_conn *c, tcp_time now);
bool tcp_tlp_fire(struct tcp_conn *c, tcp_time now);
void tcp_tlp_sent(struct tcp_conn *c, bool again, tcp_time now);
bool tcp_tlp_dsack(struct tcp_conn *c, uint32_t right);
void tcp_tlp_on_ack(struct tcp_conn *c, const struct tcp_ack_info *info, tcp_time now);

/* prr.c: cwnd in fast recovery. */
void tcp_prr_begin(struct tcp_conn *c, uint32_t delivered);
void tcp_prr_on_ack(struct tcp_conn *c, uint32_t delivered, bool safe);
void tcp_prr_sent(struct tcp_conn *c, uint32_t len);
void tcp_prr_end(struct tcp_conn *c);

/* reasm.c: data into the receive ring. */
uint32_t tcp_reasm_input(struct tcp_conn *c, uint32_t seq, const uint8_t *data, uint32_t len);
unsigned tcp_reasm_sack(struct tcp_conn *c, struct tcp_sack_range *out, unsigned max);
unsigned tcp_reasm_sack_count(const struct tcp_conn *c);
void tcp_reasm_duplicate(struct tcp_conn *c, uint32_t left, uint32_t right);

/* window.c: the window we give. */
uint32_t tcp_rcv_room(const struct tcp_conn *c);
uint16_t tcp_window_field(struct tcp_conn *c);
bool tcp_window_update_due(const struct tcp_conn *c);

/* demand.c: do the rings limit the connection? */
void tcp_demand_segment(struct tcp_conn *c, const struct tcp_segment *seg, tcp_time now);
void tcp_demand_consumed(struct tcp_conn *c, tcp_time now);

/* timer.c */
void tcp_timer_settle(struct tcp_conn *c, tcp_time now);
void tcp_timer_loss(struct tcp_conn *c, enum tcp_loss_kind kind, tcp_time at);
void tcp_timer_arm_rto(struct tcp_conn *c, tcp_time now);
void tcp_timer_on_ack(struct tcp_conn *c, bool advanced, tcp_time now);
void tcp_timer_on_segment(struct tcp_conn *c, tcp_time now);
void tcp_timer_defence(struct tcp_conn *c, tcp_time now);
void tcp_timer_fin_wait2(struct tcp_conn *c, tcp_time now);
tcp_time tcp_total_rt(const struct tcp_conn *c, tcp_time now);
void tcp_stop(struct tcp_conn *c);
tcp_time tcp_keepalive_time(const struct tcp_conn *c, uint32_t ticks);

/* output.c */
bool tcp_output_wanted(const struct tcp_conn *c);

#endif
