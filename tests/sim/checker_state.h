/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the wire checker knows, for its own files only.
 *
 * Positions are 64-bit: the position of a sequence number is its distance from ISS + 1 of the end
 * that counts with it, so position 0 is the first byte of the stream and the FIN has the position
 * right after the last byte.
 */
#ifndef CHIMNEY_SIM_CHECKER_STATE_H
#define CHIMNEY_SIM_CHECKER_STATE_H

#include "checker.h"
#include "ranges.h"

#define CHECK_ACK_DELAY 510000000u /* ns: 500 ms (RFC 1122) and 2 % for a slow clock */

enum {
    FLAG_FIN = 1,
    FLAG_SYN = 2,
    FLAG_RST = 4,
    FLAG_PSH = 8,
    FLAG_ACK = 16,
    FLAG_URG = 32,
    FLAG_ECE = 64,
    FLAG_CWR = 128,
    ECN_CE = 3,
};

/** One end of one connection. */
struct check_side {
    struct checker_end plan;
    uint32_t mtu;

    /* Its own stream, as it was put on the wire. */
    int64_t snd_max;   /* highest position ever sent, FIN included */
    int64_t fin;       /* position of the FIN; -1: not sent */
    uint8_t *bytes;    /* first transmission of [0, snd_max) */
    uint32_t *sent_at; /* us + 1 when a segment that starts here was last sent; 0: none did */
    size_t room;
    uint32_t retransmitted_at; /* us + 1 of the last retransmission */
    bool closing, aborting, rst_sent;

    /* What it told the other end. */
    int64_t ack, edge; /* highest acknowledgement, right edge of the window it advertised */
    uint32_t tsval, tsecr;

    /* What arrived here. */
    struct ranges got, twice; /* positions of the other stream; those that came more than once */
    struct range last_ooo;    /* the latest arrival if it was out of order, else empty */
    int64_t una_sure;         /* acknowledged by a segment that cannot have been ignored */
    int64_t una_possible;     /* by any segment */
    int64_t peer_edge;        /* highest right edge learned */
    unsigned same_acks;       /* ACKs that said nothing new, since everything was acknowledged */
    int64_t newreno_until;    /* SND.MAX when there were three of them, or more */
    uint32_t ts_arrived;      /* highest stamp */
    bool ce_arrived, rst_arrived;

    /* Its owner. */
    bool away, gone, hold_fin;
    int64_t known_sent;     /* where the new data of the owner begins, if below snd_max */
    int64_t claimed_nxt;    /* RCV.NXT of the last owner */
    uint64_t ack_due_since; /* 0: nothing to acknowledge */
    uint32_t excused_at;    /* us + 1 of the last hand-over or fall of the path MTU */
};

struct check_conn {
    struct checker_conn plan;
    struct check_side side[2];
};

struct checker {
    struct check_conn *conn;
    unsigned count;
    enum checker_rule broken;
    char message[400];
    uint64_t applied[RULE_COUNT];
};

/** Records that @rule was broken, once; always returns false. */
bool check_fail(struct checker *checker, enum checker_rule rule, unsigned conn, int end,
                const char *format, ...) __attribute__((format(printf, 5, 6)));

/** Applies one rule: counts it, and if @good is false records what was seen and leaves the
 * function. */
#define CHECK(checker, rule, good, conn, end, ...)                                                 \
    do {                                                                                           \
        (checker)->applied[rule]++;                                                                \
        if (!(good))                                                                               \
            return check_fail(checker, rule, conn, end, __VA_ARGS__);                              \
    } while (0)

/** Position of @seq in the stream that starts after @iss, the one nearest to position @near. */
static inline int64_t check_position(uint32_t seq, uint32_t iss, int64_t near)
{
    return near + (int32_t)(seq - (iss + 1 + (uint32_t)near));
}

/** True if stamp @a is older than @b (RFC 7323 5.2). */
static inline bool check_older(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

/** Time as it is kept beside segments; never 0. */
static inline uint32_t check_us(uint64_t now)
{
    return (uint32_t)(now / 1000) + 1;
}

/** checker_sent.c: judges one segment that @end of @conn has sent. */
bool check_segment(struct checker *checker, unsigned conn, int end,
                   const struct checked_frame *frame, uint64_t now);

#endif
