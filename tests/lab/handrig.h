/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rig of the hand-off tests: two namespaces, steering, an AF_XDP port, and the hold lists of
 * connections that are on their way.  No target, no daemon.
 *
 *   +--- namespace A --------------------+                  +--- namespace B ---+
 *   | the test: program, hand-off,       | va            vb | the peer, plain    |
 *   | AF_XDP port, steering    10.99.0.1 |------------------| 10.99.0.2 kernel   |
 *   |                         fd00:63::1 |                  | fd00:63::2 TCP     |
 *   +------------------------------------+                  +--------------------+
 */
#ifndef CHIMNEY_TESTS_HANDRIG_H
#define CHIMNEY_TESTS_HANDRIG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include "host/handoff.h"
#include "port/port.h"

#define HAND_MAX_CONNS 64
#define HAND_RING (8u << 20)
/** Largest write of the test's program. */
#define HAND_CHUNK 16384
#define HAND_HELD 4096
#define HAND_A4 "10.99.0.1"
#define HAND_B4 "10.99.0.2"
#define HAND_A6 "fd00:63::1"
#define HAND_B6 "fd00:63::2"

struct hand_frame {
    uint8_t *data;
    uint32_t len;
};

/** A's side of one connection.  It sends stream 2 * id + 1 of lab_pattern(), receives 2 * id. */
struct hand_conn {
    int fd;
    uint64_t sent, received;
    uint64_t pending_pos; /* in the send ring: what the kernel had no room for */
    uint32_t pending;
    bool eof, done;
    struct handoff_conn h;
    bool held; /* frames are kept */
    struct hand_frame frames[HAND_HELD];
    unsigned frame_count, cursor;
};

extern struct handrig {
    int a, b, ifindex;
    struct steer *steer;
    struct port *port;
    struct handoff handoff;
    struct lab_witness *witness;
    unsigned resets; /* of the peer's own making, expected at the end */
    unsigned n;
    struct hand_conn *conns; /* frames of these may be kept */
    uint64_t appended, reinjected, held_frames, late_frames, lost_frames;
} hand;

/** Namespaces, link with @queues queues, programs attached, port open; enters A. */
void hand_open(unsigned queues, bool gro, unsigned mtu);
/** Checks that there was no reset but hand.resets and no frame without a queue; prints counters. */
void hand_close(void);

socklen_t hand_address(struct sockaddr_storage *out, unsigned family, const char *host4,
                       const char *host6, uint16_t port);
int hand_listen(unsigned family, uint16_t port);
void hand_nonblocking(int fd);
/** Makes @c of a connected socket of A: duplicate, key, rings. */
void hand_conn_init(struct hand_conn *c, int fd);
void hand_conn_free(struct hand_conn *c);

/** Takes what came to the port: into hold lists, or back into the kernel. */
void hand_poll(void);
struct handoff_held hand_held(struct hand_conn *c);
void hand_release(struct hand_conn *c);
/** Restores a parked connection; books what was appended and reinjected. */
void hand_restore(struct hand_conn *c, const struct repair_restore *r);

/** One write and one read of the program in A; checks every byte. */
void hand_send(struct hand_conn *c, unsigned id);
void hand_receive(struct hand_conn *c, unsigned id);

#endif
