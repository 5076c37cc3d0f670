/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hand-off: the order in which steer, barrier, repair and snapshot are used to take live
 * connections out of the kernel and to put them back.  handoff.c opens with the theory.
 *
 * Everything here runs on the control thread.  The program's calls on the socket have been quiesced
 * before, and somebody (the target's `receive`, the daemon's hold list) keeps the frames of a
 * steered flow that has no owner yet, in their order of arrival.
 */
#ifndef CHIMNEY_HOST_HANDOFF_H
#define CHIMNEY_HOST_HANDOFF_H

#include <chimney/target.h>
#include "host/barrier.h"
#include "host/conntrack.h"
#include "host/fault.h"
#include "host/repair.h"
#include "host/steer.h"

/** Connections of one batch.  The batch is the blackout of each of its connections: keep it small.
 */
#define HANDOFF_BATCH 64

/** Steps whose cost is kept (struct handoff_cost). */
enum handoff_step {
    HANDOFF_STEP_CHECK,    /* why not, queue lengths, conntrack */
    HANDOFF_STEP_STEER,    /* map, whole batch */
    HANDOFF_STEP_BARRIER,  /* each of the two */
    HANDOFF_STEP_GUARD,    /* map, whole batch */
    HANDOFF_STEP_SNAPSHOT, /* each of the two */
    HANDOFF_STEP_FREEZE,
    HANDOFF_STEP_DUMP,
    HANDOFF_STEP_PARK,
    HANDOFF_STEP_RESTORE,
    HANDOFF_STEP_APPEND,
    HANDOFF_STEP_UNSTEER,
    HANDOFF_STEP_REINJECT,
    HANDOFF_STEP_THAW,
    HANDOFF_STEPS
};
const char *handoff_step_name(enum handoff_step step);
struct handoff_cost {
    uint64_t count, total_ns, max_ns;
};

/** One per daemon.  The caller fills in the tools, which it owns; the rest begins as zero. */
struct handoff {
    struct steer *steer;
    struct barrier *barrier;
    struct conntrack *conntrack; /* NULL: the kernel tracks no connections */
    struct handoff_cost cost[HANDOFF_STEPS];
};

enum handoff_result {
    HANDOFF_IN_KERNEL = 0, /* an ordinary socket; nothing was asked yet */
    HANDOFF_PARKED,        /* the target may import it */
    HANDOFF_AGAIN,         /* in the kernel and unharmed: not now, ask again in a moment */
    HANDOFF_REFUSED,       /* in the kernel and unharmed: see reason and error */
    HANDOFF_RESTORING,     /* handoff_restore() failed half-way: call it again */
};

/**
 * A connection on its way.  Zero-initialise, set the first block, keep it as long as the connection
 * is not an ordinary socket.  May be used for the next offload of the same connection again.
 */
struct handoff_conn {
    /* The caller sets. */
    int fd;              /* its duplicate of the socket; stays open until the restore is done */
    struct flow_key key; /* handoff_identify() */
    int ifindex;         /* interface its frames come in by: where frames are reinjected */
    struct repair_rings rings; /* empty rings the queues are dumped into, from position 0 */

    /* Results of an offload. */
    enum handoff_result result;
    int error;                 /* -errno of REFUSED and AGAIN */
    const char *reason;        /* static line of REFUSED and AGAIN */
    struct repair_state state; /* valid when PARKED; sendq_len and recvq_len also with -ENOBUFS */
    struct tcp_snapshot snapshot; /* taken while frozen */

    /*
     * The last known TS.Recent: the kernel forgets it in a restore.  handoff_prepare() takes it
     * from the target's state; an offload that finds the kernel without one uses it.
     */
    uint32_t ts_recent;

    /* Results of an upload. */
    uint32_t unsent_left;    /* bytes at the end of the send stream the kernel had no room for */
    uint32_t appended_bytes; /* of held frames */
    uint32_t reinjected_frames;

    /* handoff.c's own: how far the restore came. */
    uint32_t progress;
    uint32_t held_done, held_ack;
};

/**
 * The key of a connected socket: its 4-tuple, a v4-mapped one as IPv4.
 * 0, -ENOTCONN, -EAFNOSUPPORT, or -errno.
 */
int handoff_identify(int fd, struct flow_key *key);

/**
 * Offload, steps 0b to 10b, of @n <= HANDOFF_BATCH connections with different keys.
 *
 * Every connection ends in one of three results: PARKED; AGAIN, REFUSED: it is an ordinary socket
 * again, unfrozen and not steered; then what the AF_XDP side has collected for it in the meantime
 * is to be given back with handoff_reinject().  An error of one does not touch the others.
 *
 * Reasons that a caller may want to know: -ENOBUFS, a queue does not fit into its ring (state has
 * both lengths, so larger rings may be tried); -ENOTCONN, no longer ESTABLISHED; -EOPNOTSUPP,
 * cannot be offloaded at all; -E2BIG, table of steered flows full; -EAGAIN (AGAIN only),
 * out-of-order data.
 *
 * Returns the number that are PARKED.
 */
size_t handoff_freeze_batch(struct handoff *h, struct handoff_conn *conns, size_t n);

/**
 * Fills in the contract's state from a PARKED connection; ticks are microseconds, timestamps
 * milliseconds.  Left to the caller: state headers, hash_value.  Delegated send_data is [0,
 * sendq_len), buffered_data [0, recvq_len), as dumped.  @constant->*_stream are the conn's rings.
 * cached.initial_rcv_wnd is the largest window the ring and the scale allow.
 */
void handoff_fill(const struct handoff_conn *c, struct chimney_tcp_const *constant,
                  struct chimney_tcp_cached *cached, struct chimney_tcp_delegated *delegated);

/**
 * Describes to handoff_restore() what the target gave back: delegated state of a terminate with
 * send_data = [position of snd_una, end of what the program wrote) and buffered_data = [first byte
 * the program has not consumed, position of rcv_nxt).  Rings are those of @c.
 * 0, or -EINVAL if the state contradicts itself or what was dumped (then nothing may be restored
 * from it; a target that lies loses the connection).
 */
int handoff_prepare(struct handoff_conn *c, const struct chimney_tcp_delegated *d,
                    struct repair_restore *r);
/** The same for a connection no target ever took: everything as it was dumped. */
void handoff_prepare_unchanged(const struct handoff_conn *c, struct repair_restore *r);

/** The hold list of one connection, as the hand-off reads it. */
struct handoff_held {
    /**
     * Next frame, oldest first: 1 and a frame that stays valid until the call it was given to
     * returns, or 0 when there is none now (it is asked again later in the same restore).
     */
    int (*next)(void *arg, const uint8_t **frame, uint32_t *len);
    /** Begins again with the oldest frame: a restore that failed is tried again. */
    void (*rewind)(void *arg);
    void *arg;
};

/**
 * Upload, steps 2 to 12.  The target has stopped; @r says what it gave back.  @held may be NULL.
 *
 * 0: an ordinary socket again; all held frames are in the kernel; c->unsent_left says how much of
 * the stream is still to be sent.  -errno: not yet.  The flow stays steered or is unsteered
 * already, in both cases the peer sees silence, never a reset; call again with the same @r (the
 * rings must still hold the data) until it succeeds.  What can make it fail for ever: the local
 * address is gone; another socket has the 4-tuple (-EADDRNOTAVAIL); the descriptor is not what it
 * was.
 */
int handoff_restore(struct handoff *h, struct handoff_conn *c, const struct repair_restore *r,
                    const struct handoff_held *held);

/** Gives held frames back to the kernel of a connection that ended AGAIN or REFUSED.  Count. */
uint32_t handoff_reinject(struct handoff *h, const struct handoff_conn *c,
                          const struct handoff_held *held);

#endif
