/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The AF_XDP port: one socket per receive queue, copy or zero-copy as the driver allows,
 * need-wakeup, multi-buffer frames (XDP_USE_SG) when the MTU is larger than one umem frame.
 *
 * The port opens sockets and rings only.  Which frames reach it is decided by the XDP program that
 * host/ attaches; the caller puts each socket into that program's map.
 */
#ifndef CHIMNEY_PORT_XSK_H
#define CHIMNEY_PORT_XSK_H

#include "port/port.h"

/** Frames of umem per queue (memory: frames * frame size, at most 4 KiB each). */
#define XSK_FRAMES_PER_QUEUE 16384
#define XSK_MAX_QUEUES 64

struct xsk_config {
    const char *ifname;
    bool force_generic; /* the XDP program is attached in generic (SKB) mode */
    bool force_copy;    /* do not try zero copy */
};

/**
 * Opens AF_XDP sockets on every receive queue of @ifname.
 * On failure returns NULL and writes one line to @err that says what to do (unknown interface, no
 * privilege, queue already taken by another program, kernel without AF_XDP).
 */
struct port *xsk_open(const struct xsk_config *config, char *err, size_t errlen);
/** Socket of receive queue @queue, for the XSKMAP, or -1. */
int xsk_queue_fd(const struct port *port, unsigned queue);
/** For tests: true if every frame of the umem is in exactly one place and all counters agree. */
bool xsk_consistent(const struct port *port);

#endif
