/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection of the hand-off rig with both ends in the test's own process: the peer's socket
 * was made in namespace B.
 */
#ifndef CHIMNEY_TESTS_PAIR_H
#define CHIMNEY_TESTS_PAIR_H

#include "handrig.h"

struct pair {
    struct hand_conn c;
    int fd; /* the peer's */
    uint64_t sent, received;
};

/**
 * A connection accepted in A.  @peer_buffer: size of the peer's receive buffer, 0: as it comes.
 * @prepare: called with A's listening socket before the peer connects, may be NULL.
 */
struct pair *pair_open(unsigned family, int peer_buffer, void (*prepare)(int listener));
/** Checks that the wire saw no reset but hand.resets. */
void pair_close(struct pair *p);
/** One write of @len <= 4096 bytes by the peer. */
void pair_peer_send(struct pair *p, size_t len);
/** One read by the peer; checks every byte. */
void pair_peer_receive(struct pair *p);
/** Puts @len bytes on their way to the peer, as far as they go, and some towards A. */
void pair_load(struct pair *p, size_t len);
/** Everything said so far arrives, in both directions, and a little more. */
void pair_settle(struct pair *p, const char *after);
/** Freezes: the result must be PARKED. */
void pair_park(struct pair *p);
/** Restores from the dump. */
void pair_restore(struct pair *p);

#endif
