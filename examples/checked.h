/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checked streams: what demo_server and demo_client send each other, and how they know that it
 * arrived.
 *
 * The byte at any position of any stream is known to both ends, so the receiver compares every one.
 * Both ends also take the SHA-256 of what they sent and received, for the table at the end, and the
 * receiver notes the longest time that passed between two arrivals.
 */
#ifndef CHIMNEY_EXAMPLES_CHECKED_H
#define CHIMNEY_EXAMPLES_CHECKED_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <openssl/evp.h>

/** Most bytes in one call of send or receive. */
#define CHECKED_CHUNK (64u << 10)
/** How often a paced sender sends. */
#define CHECKED_TICK_MS 4
/** A paced sender that could not send for a while catches up with no more than this. */
#define CHECKED_CATCH_UP_US 100000

/** One direction of a connection, seen from one end. */
struct checked {
    uint64_t seed, pos; /* pos: bytes sent, or received */
    uint64_t mismatches;
    EVP_MD_CTX *sha;
    uint64_t last_us;                    /* of the last arrival */
    uint64_t longest_us, longest_end_us; /* the longest silence, and when it ended */
};

/** One end of a connection. */
struct checked_end {
    char client[64]; /* address and port of the client's end: the connection's name */
    struct checked in, out;
    uint64_t paced_us; /* the pace is counted from here */
    uint64_t allowed;  /* bytes that may be sent by now, since the beginning */
};

/** Sums over all connections of a program, for its reports. */
struct checked_sums {
    uint64_t received, sent, mismatches;
    uint64_t silence_us; /* longest that ended since the last report */
    unsigned connections, opened, errors;
};

/** CLOCK_MONOTONIC in microseconds: the same clock in every namespace. */
uint64_t checked_now(void);

/**
 * Begins both directions of the connection whose client has @client for an address.
 * @is_client: this end is the client's.
 */
void checked_begin(struct checked_end *end, const struct sockaddr *client, bool is_client);
void checked_free(struct checked_end *end);

/** Bytes this end may send now at @rate bytes per second (0: no limit), at most CHECKED_CHUNK. */
size_t checked_allowance(struct checked_end *end, uint64_t rate, uint64_t now_us);
/** Writes the next @len bytes to send into @data; they count when checked_sent() says so. */
void checked_fill(const struct checked *out, uint8_t *data, size_t len);
void checked_sent(struct checked *out, const uint8_t *data, size_t len);
/** Compares what arrived; adds to @sums. */
void checked_received(struct checked *in, const uint8_t *data, size_t len, uint64_t now_us,
                      struct checked_sums *sums);

/* Reports: one JSON object per line on standard output, for tools/demo.py. */

/** {"kind":"tick",...}: sums, since the beginning; silence_us since the last tick. */
void checked_report_tick(struct checked_sums *sums);
/** {"kind":"end",...}: what became of one connection.  @error: an errno, or 0. */
void checked_report_end(struct checked_end *end, int error);
/** {"kind":"progress",...}: how far one connection is now. */
void checked_report_progress(const struct checked_end *end);

#endif
