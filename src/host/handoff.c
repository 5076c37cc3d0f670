/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * A connection is handed over while its peer goes on sending.  Two things must never happen: a
 * packet that the kernel answers for a connection it no longer has (a reset), and a packet whose
 * data the kernel acknowledges after we have read its state (a loss).  The order below rules both
 * out; each step has a failure that was seen without it (handoff.md 3.2).
 *
 * Out, for a batch:
 *
 *   check     may it go at all?  Everything that needs no silence: options, conntrack, lengths.
 *   steer     XDP sends frames of these flows to AF_XDP from now on; somebody holds them there.
 *   barrier   frames that had passed XDP before are through TCP now, unless something holds them
 *             on the way (GRO, RPS).
 *   guard     the tc guard drops those.  It must come second: dropping what is merely late would
 *             cost the peer a retransmission each time.
 *   barrier   what had passed the guard before is through TCP now.  The silence has begun.
 *   snapshot  a socket with out-of-order data is let go again: dropping that data means to go back
 *             on acknowledgements already given.  It will be complete in a moment: AGAIN.
 *   freeze    TCP_REPAIR.
 *   dump      queues and sequence numbers, receive side first.
 *   snapshot  the rest: clocks, timestamps, round trip time, congestion window.  It must agree with
 *             the dump, or something did get through.
 *   park      the kernel forgets the connection, silently, and keeps the descriptor.  The socket is
 *             bound to its address at once, or somebody could be given the same port.
 *
 * Back:
 *
 *   restore   the parked socket becomes ESTABLISHED again, frozen, queues filled.  Nothing leaves.
 *   append    held frames that are simply the next data become part of the receive queue.
 *   unsteer   one map entry is deleted: steering and both guards end at once.  The socket is in
 *             place already, so whoever comes now meets it.  No barrier is needed.
 *   reinject  the other held frames take the ordinary way into the kernel, in their order.
 *   thaw      TCP_REPAIR off: a window probe leaves, its answer brings timestamps, window and
 *             acknowledgements up to date.  Options back, unsent data sent.
 *
 * Held frames.  In order: data that begins at RCV.NXT is appended (15 us cheaper than reinjecting,
 * and it cannot come after newer packets); pure acknowledgements in between are skipped but for the
 * last one, old duplicates are skipped.  The first frame of any other kind ends this: it and all
 * after it are reinjected.  FIN, RST, SYN and urgent data are therefore always the kernel's.
 *
 * States of a connection here (struct handoff_conn.progress):
 *
 *   IDLE -steer-> STEERED -freeze-> FROZEN -park-> PARKED -restore, append-> RESTORED
 *        -unsteer, reinject-> UNSTEERED -thaw-> IDLE
 *
 * Failures.  Up to FROZEN an error undoes what was done, newest first, and the connection goes on
 * in the kernel.  A park that has happened but did not complete is undone by a restore from the
 * dump; if even that fails, the connection is PARKED in earnest, with its state complete, and the
 * caller goes on.  Up to RESTORED a failed restore is repeated from its beginning: the socket is
 * parked again, and nothing has been let in since.  From then on each step is repeated until it
 * succeeds, and none is done twice.
 *
 * Limits: HANDOFF_BATCH connections at a time; UNDO_TRIES for each step of an undo.
 */
#include "host/handoff.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <time.h>
#include "host/held.h"

enum progress { IDLE, STEERED, FROZEN, PARKED, RESTORED, UNSTEERED };

/** Tries of a step that gives a connection back to the kernel. */
#define UNDO_TRIES 4
/** ecn_flags of the kernel: accurate ECN was negotiated. */
#define ECN_ACCURATE 0x10

const char *handoff_step_name(enum handoff_step step)
{
    static const char *const names[HANDOFF_STEPS] = {
        [HANDOFF_STEP_CHECK] = "check",       [HANDOFF_STEP_STEER] = "steer",
        [HANDOFF_STEP_BARRIER] = "barrier",   [HANDOFF_STEP_GUARD] = "guard",
        [HANDOFF_STEP_SNAPSHOT] = "snapshot", [HANDOFF_STEP_FREEZE] = "freeze",
        [HANDOFF_STEP_DUMP] = "dump",         [HANDOFF_STEP_PARK] = "park",
        [HANDOFF_STEP_RESTORE] = "restore",   [HANDOFF_STEP_APPEND] = "append",
        [HANDOFF_STEP_UNSTEER] = "unsteer",   [HANDOFF_STEP_REINJECT] = "reinject",
        [HANDOFF_STEP_THAW] = "thaw",
    };

    return step < HANDOFF_STEPS ? names[step] : "?";
}

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* Books the time since @start and returns the time. */
static uint64_t book(struct handoff *h, enum handoff_step step, uint64_t start)
{
    struct handoff_cost *cost = &h->cost[step];
    uint64_t now = now_ns(), took = now - start;

    cost->count++;
    cost->total_ns += took;
    if (took > cost->max_ns)
        cost->max_ns = took;
    return now;
}

int handoff_identify(int fd, struct flow_key *key)
{
    struct sockaddr_storage local = {0}, remote = {0};
    const struct sockaddr_in6 *l6 = (void *)&local, *r6 = (void *)&remote;
    const struct sockaddr_in *l4 = (void *)&local, *r4 = (void *)&remote;
    socklen_t len = sizeof(local);

    memset(key, 0, sizeof(*key));
    if (getsockname(fd, (struct sockaddr *)&local, &len) < 0)
        return -errno;
    len = sizeof(remote);
    if (getpeername(fd, (struct sockaddr *)&remote, &len) < 0)
        return -errno;
    if (local.ss_family == AF_INET) {
        key->family = 4;
        memcpy(key->local_addr, &l4->sin_addr, 4);
        memcpy(key->remote_addr, &r4->sin_addr, 4);
        key->local_port = l4->sin_port;
        key->remote_port = r4->sin_port;
        return 0;
    }
    if (local.ss_family != AF_INET6)
        return -EAFNOSUPPORT;
    key->local_port = l6->sin6_port;
    key->remote_port = r6->sin6_port;
    if (IN6_IS_ADDR_V4MAPPED(&r6->sin6_addr)) {
        key->family = 4;
        memcpy(key->local_addr, &l6->sin6_addr.s6_addr[12], 4);
        memcpy(key->remote_addr, &r6->sin6_addr.s6_addr[12], 4);
    } else {
        key->family = 6;
        memcpy(key->local_addr, &l6->sin6_addr, 16);
        memcpy(key->remote_addr, &r6->sin6_addr, 16);
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------------
 * Out
 */

static void refuse(struct handoff_conn *c, int error, const char *reason)
{
    c->result = error == -EAGAIN ? HANDOFF_AGAIN : HANDOFF_REFUSED;
    c->error = error;
    c->reason = reason;
}

/* A step failed for a reason of the system: its name says where. */
static bool ok(struct handoff_conn *c, int error, const char *reason)
{
    if (error)
        refuse(c, error, reason);
    return !error;
}

/* What the snapshot says about whether the connection can go, now or ever. */
static bool fit(struct handoff_conn *c, const struct tcp_snapshot *s)
{
    if (s->usec_ts)
        refuse(c, -EOPNOTSUPP, "timestamps in microseconds");
    else if (s->signature)
        refuse(c, -EOPNOTSUPP, "signed segments (TCP-MD5 or TCP-AO)");
    else if (s->ecn_flags & ECN_ACCURATE)
        refuse(c, -EOPNOTSUPP, "accurate ECN");
    else if (s->shutdown)
        refuse(c, -EOPNOTSUPP, "shut down in one direction");
    else if (s->urgent)
        refuse(c, -EOPNOTSUPP, "urgent data pending");
    else if (s->ooo)
        refuse(c, -EAGAIN, "out-of-order data");
    else
        return true;
    return false;
}

static int snapshot(struct handoff *h, struct handoff_conn *c, struct tcp_snapshot *s)
{
    uint64_t start = now_ns();
    int err = host_fault("snapshot");

    if (!err)
        err = steer_snapshot(h->steer, &c->key, s);
    book(h, HANDOFF_STEP_SNAPSHOT, start);
    return err == -ENOENT ? -ENOTCONN : err;
}

/* Everything that can be found out before the silence. */
static bool check(struct handoff *h, struct handoff_conn *c)
{
    struct tcp_snapshot *s = &c->snapshot;
    uint64_t start = now_ns();
    int why_error, err;
    const char *why = repair_refusal(c->fd, &why_error);

    assert(c->rings.size && (c->rings.size & (c->rings.size - 1)) == 0);
    assert(c->progress == IDLE);
    memset(&c->state, 0, sizeof(c->state));
    c->error = 0;
    c->reason = NULL;
    err = snapshot(h, c, s);
    if (why)
        refuse(c, why_error, why);
    else if (err == -ENOTCONN)
        refuse(c, err, "not established in this network namespace");
    else if (!ok(c, err, "its state cannot be read"))
        ;
    else if (s->repair)
        refuse(c, -EBUSY, "another process has it in repair mode");
    else if (!fit(c, s))
        ;
    else if (!ok(c, repair_queues(c->fd, &c->state.sendq_len, &c->state.recvq_len),
                 "its queues cannot be read"))
        ;
    else if (c->state.sendq_len > c->rings.size || c->state.recvq_len > c->rings.size)
        refuse(c, -ENOBUFS, "more data queued than the rings hold");
    else if (!ok(c, repair_read_options(c->fd, &c->state), "its options cannot be read"))
        ;
    else {
        /* Not tracked: nothing to do.  Anything else shows up in conntrack's own rules. */
        if (h->conntrack)
            conntrack_make_liberal(h->conntrack, &c->key);
        c->result = HANDOFF_IN_KERNEL;
        book(h, HANDOFF_STEP_CHECK, start);
        return true;
    }
    book(h, HANDOFF_STEP_CHECK, start);
    return false;
}

static int unsteer(struct handoff *h, const struct handoff_conn *c)
{
    int err = host_fault("unsteer");

    return err ? err : steer_delete(h->steer, &c->key, 1);
}

/* Undoes what was done to a connection that is refused; newest step first. */
static void undo(struct handoff *h, struct handoff_conn *c)
{
    struct repair_restore r;
    uint32_t left = 0;
    int err = 0;

    if (c->progress == PARKED) {
        handoff_prepare_unchanged(c, &r);
        left = r.unsent_len;
        for (int try = 0; try < UNDO_TRIES && (err = repair_restore(c->fd, &r)); try++)
            ;
        if (err) {
            /* Its state is complete: better with a target than nowhere. */
            c->result = HANDOFF_PARKED;
            return;
        }
    }
    for (int try = 0; try < UNDO_TRIES; try++) {
        if (c->progress == PARKED)
            err = repair_thaw(c->fd, &r, &left);
        else if (c->progress == FROZEN)
            err = repair_unfreeze(c->fd, &c->state);
        if (!err)
            break;
    }
    for (int try = 0; try < UNDO_TRIES && unsteer(h, c); try++)
        ;
    c->progress = IDLE;
}

/* The two readings of the same frozen socket. */
static bool agree(const struct repair_state *s, const struct tcp_snapshot *k)
{
    return s->snd_una == k->snd_una && s->write_seq == k->write_seq && s->rcv_nxt == k->rcv_nxt &&
           s->rcv_nxt - s->recvq_len == k->copied_seq && !k->ooo;
}

/* Takes one silent connection out of the kernel. */
static void take(struct handoff *h, struct handoff_conn *c)
{
    bool parked = false;
    uint64_t t;
    int err;

    if (!ok(c, snapshot(h, c, &c->snapshot), "not established any more") || !fit(c, &c->snapshot))
        return;
    c->state.user_maxseg = c->snapshot.user_mss;

    t = now_ns();
    if (!ok(c, repair_freeze(c->fd, &c->state), "cannot be frozen"))
        return;
    c->progress = FROZEN;
    t = book(h, HANDOFF_STEP_FREEZE, t);

    err = repair_dump(c->fd, &c->rings, &c->state);
    book(h, HANDOFF_STEP_DUMP, t);
    if (err == -ENOBUFS)
        refuse(c, err, "more data queued than the rings hold");
    else
        ok(c, err, "its state cannot be read");
    if (err || !ok(c, snapshot(h, c, &c->snapshot), "its state cannot be read"))
        return;
    if (!agree(&c->state, &c->snapshot)) {
        refuse(c, -EAGAIN, "changed while it was read");
        return;
    }

    t = now_ns();
    err = repair_park(c->fd, &c->state, &parked);
    book(h, HANDOFF_STEP_PARK, t);
    if (parked)
        c->progress = PARKED;
    if (!ok(c, err, "cannot be parked"))
        return;
    if (c->snapshot.ts_recent)
        c->ts_recent = c->snapshot.ts_recent;
    c->result = HANDOFF_PARKED;
}

/* One map update for all that are still in; 0 or -errno. */
static int set_mode(struct handoff *h, struct handoff_conn *const *in, size_t n, bool guard_in)
{
    const struct steer_mode mode = {.steer = true, .guard_in = guard_in, .guard_out = true};
    struct flow_key keys[HANDOFF_BATCH];
    uint64_t start = now_ns();
    int err = host_fault(guard_in ? "guard" : "steer");

    for (size_t i = 0; i < n; i++)
        keys[i] = in[i]->key;
    if (!err)
        err = steer_set(h->steer, keys, n, mode);
    book(h, guard_in ? HANDOFF_STEP_GUARD : HANDOFF_STEP_STEER, start);
    return err;
}

/* Steps 1 to 4: from here on none of the connections receives anything. */
static int silence(struct handoff *h, struct handoff_conn *const *in, size_t n, const char **reason)
{
    uint64_t start;
    int err;

    *reason = "no room in the table of steered flows";
    err = set_mode(h, in, n, false);
    if (err)
        return err;
    *reason = "the barrier failed";
    start = now_ns();
    err = barrier_wait(h->barrier);
    book(h, HANDOFF_STEP_BARRIER, start);
    if (err)
        return err;
    *reason = "cannot be guarded";
    err = set_mode(h, in, n, true);
    if (err)
        return err;
    *reason = "the barrier failed";
    start = now_ns();
    err = barrier_wait(h->barrier);
    book(h, HANDOFF_STEP_BARRIER, start);
    return err;
}

size_t handoff_freeze_batch(struct handoff *h, struct handoff_conn *conns, size_t n)
{
    struct handoff_conn *in[HANDOFF_BATCH];
    const char *reason = NULL;
    size_t count = 0, parked = 0;
    int err;

    assert(n <= HANDOFF_BATCH);
    for (size_t i = 0; i < n; i++)
        if (check(h, &conns[i]))
            in[count++] = &conns[i];
    if (!count)
        return 0;

    err = silence(h, in, count, &reason);
    for (size_t i = 0; i < count; i++) {
        in[i]->progress = STEERED;
        if (err)
            refuse(in[i], err == -EAGAIN ? -EIO : err, reason);
        else
            take(h, in[i]);
        if (in[i]->result != HANDOFF_PARKED)
            undo(h, in[i]);
        parked += in[i]->result == HANDOFF_PARKED;
    }
    return parked;
}

/* ------------------------------------------------------------------------------------------------
 * Back
 */

static bool next_held(const struct handoff_held *held, const uint8_t **frame, uint32_t *len)
{
    return held && held->next(held->arg, frame, len) > 0;
}

static void rewind_held(const struct handoff_held *held)
{
    if (held && held->rewind)
        held->rewind(held->arg);
}

/*
 * Step 7.  Afterwards held_done frames from the beginning are done with, except for number held_ack
 * (counted from 1; 0: none), which is worth reinjecting.
 */
static void append(struct handoff *h, struct handoff_conn *c, const struct repair_restore *r,
                   const struct handoff_held *held)
{
    struct held_receiver receiver = {
        .key = &c->key,
        .rcv_nxt = r->rcv_nxt,
        .right_edge = r->window.rcv_wup + r->window.rcv_wnd,
        .snd_max = r->snd_max,
        .ts_recent = c->ts_recent,
    };
    const uint8_t *frame, *payload;
    uint64_t start = now_ns();
    uint32_t frame_len, len;

    c->held_done = c->held_ack = c->appended_bytes = 0;
    rewind_held(held);
    while (next_held(held, &frame, &frame_len)) {
        enum held_verdict verdict = held_judge(&receiver, frame, frame_len, &payload, &len);

        if (verdict == HELD_REINJECT)
            break;
        if (verdict == HELD_APPEND) {
            /* No room, or part of it went in: reinjected as a whole, the kernel takes the rest. */
            if (repair_append(c->fd, payload, len))
                break;
            receiver.rcv_nxt += len;
            c->appended_bytes += len;
        }
        c->held_done++;
        if (verdict == HELD_ACK)
            c->held_ack = c->held_done;
    }
    book(h, HANDOFF_STEP_APPEND, start);
}

static int reinject(struct handoff *h, const struct handoff_conn *c, const uint8_t *frame,
                    uint32_t len)
{
    int err = host_fault("reinject");

    return err ? err : steer_reinject(h->steer, c->ifindex, frame, len);
}

/* Step 9.  A frame that cannot be reinjected is a lost packet: TCP's everyday business. */
static void reinject_rest(struct handoff *h, struct handoff_conn *c,
                          const struct handoff_held *held)
{
    uint64_t start = now_ns();
    const uint8_t *frame;
    uint32_t len;

    rewind_held(held);
    for (uint32_t index = 1; next_held(held, &frame, &len); index++)
        if ((index > c->held_done || index == c->held_ack) && !reinject(h, c, frame, len))
            c->reinjected_frames++;
    book(h, HANDOFF_STEP_REINJECT, start);
}

int handoff_restore(struct handoff *h, struct handoff_conn *c, const struct repair_restore *r,
                    const struct handoff_held *held)
{
    uint64_t start = now_ns();
    int err;

    assert(c->result == HANDOFF_PARKED || c->result == HANDOFF_RESTORING);
    c->result = HANDOFF_RESTORING;
    if (c->progress == PARKED) {
        err = repair_restore(c->fd, r);
        book(h, HANDOFF_STEP_RESTORE, start);
        if (err)
            return err;
        append(h, c, r, held);
        c->progress = RESTORED;
    }
    if (c->progress == RESTORED) {
        start = now_ns();
        err = unsteer(h, c);
        book(h, HANDOFF_STEP_UNSTEER, start);
        if (err)
            return err;
        c->progress = UNSTEERED;
        c->unsent_left = r->unsent_len;
        c->reinjected_frames = 0;
        reinject_rest(h, c, held);
    }
    assert(c->progress == UNSTEERED);
    start = now_ns();
    err = repair_thaw(c->fd, r, &c->unsent_left);
    book(h, HANDOFF_STEP_THAW, start);
    if (err)
        return err;
    c->progress = IDLE;
    c->result = HANDOFF_IN_KERNEL;
    return 0;
}

uint32_t handoff_reinject(struct handoff *h, const struct handoff_conn *c,
                          const struct handoff_held *held)
{
    const uint8_t *frame;
    uint32_t len, count = 0;

    rewind_held(held);
    while (next_held(held, &frame, &len))
        if (!reinject(h, c, frame, len))
            count++;
    return count;
}
