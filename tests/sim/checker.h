/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wire checker: judges every frame of a simulated world against the RFCs.
 *
 * It sees what a perfect capture at both ends would show: each frame as it leaves an end, and each
 * frame as it is handed to the stack at the other end.  From that alone it works out what an end
 * may say.  It shares no code with the engine and none with wire/: it has its own parser, its own
 * checksum and its own arithmetic (64-bit positions in each stream instead of sequence numbers).
 *
 * A hand-over is invisible on the wire, so all state lives on across it: whoever owns a connection,
 * its acknowledgements, window edges and timestamps go on where the last owner stopped.
 */
#ifndef CHIMNEY_SIM_CHECKER_H
#define CHIMNEY_SIM_CHECKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct checker;

/* What can be broken; checker_rule_text() has the sentence. */
enum checker_rule {
    RULE_NONE = 0,
    RULE_FRAME,          /* the frame is not a well-formed TCP/IP frame of a known connection */
    RULE_CHECKSUM,       /* IPv4 header or TCP checksum wrong */
    RULE_IP_FIELDS,      /* DF missing, fragment, TTL 0 (C253) */
    RULE_FLAGS,          /* ACK missing, SYN, URG or reserved bits set (C242) */
    RULE_OPTIONS,        /* options malformed or not negotiated, timestamp missing */
    RULE_MSS,            /* segment larger than MSS or path MTU (RFC 6691) */
    RULE_ACK_UNRECEIVED, /* acknowledges what never arrived */
    RULE_ACK_BACK,       /* acknowledgement number steps back */
    RULE_EDGE_SHRINK,    /* right edge of the advertised window moves left */
    RULE_WINDOW,         /* sends beyond the peer's right edge */
    RULE_HOLE,           /* leaves out sequence numbers never sent before */
    RULE_BELOW_UNA,      /* sends what is acknowledged already */
    RULE_PAYLOAD,        /* a byte differs from its first transmission */
    RULE_FIN,            /* FIN moved, data beyond it, or the program has not closed */
    RULE_TSVAL,          /* timestamp steps back */
    RULE_TSECR,          /* echoes a timestamp that never arrived, or an older one than before */
    RULE_SACK,           /* block empty, outside the data that arrived, or not above the ACK */
    RULE_SACK_FIRST,     /* first block does not hold the segment that triggered it (RFC 2018) */
    RULE_DSACK,          /* reports a duplicate that never was one */
    RULE_RST,            /* RST without a cause, or data after it */
    RULE_ECN,            /* ECN marks where they do not belong (RFC 3168) */
    RULE_ACK_DELAY,      /* data not acknowledged within 500 ms (RFC 1122 4.2.3.2) */
    RULE_CAUSE,          /* retransmission sooner than any loss could have been noticed */
    RULE_EXPORT,         /* what an engine claims contradicts what was seen on the wire */
    RULE_COUNT
};

/** Short name of a rule ("ack-unreceived") and the sentence behind it. */
const char *checker_rule_name(enum checker_rule rule);
const char *checker_rule_text(enum checker_rule rule);

/** One end of a connection as the handshake left it. */
struct checker_end {
    uint8_t addr[16];
    uint16_t port;   /* host byte order */
    uint32_t iss;    /* first data byte has iss + 1 */
    uint32_t window; /* advertised in the handshake, in bytes */
    uint32_t ts;     /* last stamp it sent in the handshake */
    uint16_t mss;    /* it announced */
    uint8_t wscale;  /* its own shift count, 0 if not negotiated */
    uint64_t total;  /* bytes its program will write before it closes */
};

struct checker_conn {
    bool ipv6, timestamps, sack, ecn;
    bool lossless; /* nothing is ever lost, doubled or late, and nobody moves */
    uint32_t mtu;
    uint64_t min_rtt; /* ns: no answer can come back sooner */
    struct checker_end end[2];
};

/** @conns is copied.  Never returns NULL. */
struct checker *checker_create(const struct checker_conn *conns, unsigned count);
void checker_destroy(struct checker *checker);

/* Each returns true while nothing is wrong. */
/** @end has put @frame on the wire. */
bool checker_sent(struct checker *checker, int end, const uint8_t *frame, size_t len, uint64_t now);
/** @frame came out of the wire at @end and is handed to the stack now. */
bool checker_arrived(struct checker *checker, int end, const uint8_t *frame, size_t len,
                     uint64_t now);
/** Time passes: acknowledgements that are overdue. */
bool checker_tick(struct checker *checker, uint64_t now);

/** What the owner of a connection claims when it gives it away: delegated state. */
struct checker_claim {
    uint32_t snd_una, snd_max, snd_max_possible;
    uint32_t rcv_nxt, rcv_wnd;
    uint32_t ts_last, ts_recent;
};
/** The owner at @end gives the connection away.  No ACK is due until checker_taken(). */
bool checker_given(struct checker *checker, unsigned conn, int end,
                   const struct checker_claim *claim, uint64_t now);
/**
 * A new owner has it, and was told that everything below @snd_max was sent for certain.  Unless
 * @ooo_kept, what the old one held above its RCV.NXT is gone and must not be reported by SACK any
 * more.
 */
void checker_taken(struct checker *checker, unsigned conn, int end, uint32_t snd_max, bool ooo_kept,
                   uint64_t now);
/** The engine at @end says that its stream is acknowledged below @una, and its FIN if @fin (C243,
 * C306). */
bool checker_acked(struct checker *checker, unsigned conn, int end, uint64_t una, bool fin);
/** From now on @end may send FIN / RST; it must not before. */
void checker_closing(struct checker *checker, unsigned conn, int end);
void checker_aborting(struct checker *checker, unsigned conn, int end);
/** @end no longer answers for the connection (closed): no ACK is due from it. */
void checker_gone(struct checker *checker, unsigned conn, int end);
/** The path MTU @end has to respect from now on. */
void checker_mtu(struct checker *checker, unsigned conn, int end, uint32_t mtu, uint64_t now);
/** @end keeps a FIN unacknowledged on purpose (TCP_FIN_HOLD) or does so no longer. */
void checker_hold_fin(struct checker *checker, unsigned conn, int end, bool hold);

/** The first rule that was broken, or RULE_NONE, and what was seen. */
enum checker_rule checker_broken(const struct checker *checker);
const char *checker_message(const struct checker *checker);
/** How often a rule was applied (not broken): shows that the checker looked at all. */
uint64_t checker_applied(const struct checker *checker, enum checker_rule rule);

/* checker_parse.c: a TCP/IP frame, read independently of wire/. */
struct checked_frame {
    bool ipv6;
    uint8_t src[16], dst[16];
    uint16_t sport, dport, window;
    uint32_t seq, ack;
    unsigned flags, reserved; /* the eight flag bits; the four bits before them */
    unsigned ecn, ttl;
    bool df, fragment;
    uint32_t ip_len;
    bool has_timestamp, options_bad, option_unknown;
    uint32_t tsval, tsecr;
    unsigned option_len, sack_count;
    uint32_t sack[4][2];
    const uint8_t *payload;
    uint32_t len;
};

enum checked_status {
    CHECKED_OK,
    CHECKED_NOT_TCP,      /* or too short, or lengths that contradict each other */
    CHECKED_BAD_CHECKSUM, /* IPv4 header or TCP */
};

enum checked_status checker_parse(const uint8_t *frame, size_t len, struct checked_frame *out);
/** One line that describes the segment, for logs; @base: subtracted from seq and ack.  Returns
 * @buf. */
char *checker_describe(const struct checked_frame *frame, uint32_t seq_base, uint32_t ack_base,
                       char *buf, size_t room);

#endif
