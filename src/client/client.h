/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The switch: what the files of libchimney share.
 *
 * Theory of operation
 *
 * A connection has a slot in the session's arena; slot->route says who carries it, and only the
 * daemon changes it.  Every call is a loop of *steps* and *sleeps*.
 *
 *   step    conn_enter() counts the thread in slot->users, then reads the route.  KERNEL: one
 *           non-blocking call on the socket.  STREAM: one copy to or from the rings.  Then
 *           conn_leave().  MOVING and LOST are not entered.
 *   sleep   conn_sleep() waits, not counted in users: in poll(2) on the socket while the kernel has
 *           the connection, on the futex slot->events while it moves or a target has it.
 *
 * The daemon that wants to move a connection sets MOVING and waits until users is 0.  Both sides
 * use sequentially consistent operations, so either the thread sees MOVING or the daemon sees the
 * thread.  A sleeper in poll(2) is woken by the park itself, which makes the socket report a
 * hang-up; a hang-up is therefore never believed without reading the route again, inside.
 *
 * users and waiters are balanced by the threads that raise them and are written by nobody else,
 * not even when a slot gets a new connection.  So a thread that comes late, with the slot of a
 * connection that was detached in between, holds up the slot's next connection for an instant and
 * then finds that the slot is no longer its own (conn_enter).
 *
 * Locks, in this order: conn->control, session->lock, set->lock, then conn->send_lock or
 * conn->receive_lock alone.  No lock is held while sleeping, except control, which is held while
 * the daemon answers.
 */
#ifndef CHIMNEY_CLIENT_CLIENT_H
#define CHIMNEY_CLIENT_CLIENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <chimney/chimney.h>
#include "client/os.h"
#include "daemon/protocol.h"
#include "stream/stream.h"

/** Time the daemon has for an answer; after that the request has failed. */
#define CLIENT_ANSWER_SECONDS 30
/** Time the daemon has to accept a session. */
#define CLIENT_HELLO_SECONDS 5
/**
 * How long a call that must not block waits for a move to end before it says EAGAIN, ns.  A move
 * takes less; so a program that was told of data finds the data, as it would in the kernel.
 */
#define CLIENT_PATIENCE_NS (5 * 1000000ll)
#define CLIENT_NEVER INT64_MAX

#define EXPORT __attribute__((visibility("default")))

/* ---- session.c ------------------------------------------------------------------------------ */

/** The event queue of one wait set number; outlives the sets that use it. */
struct channel {
    bool used;
    int event_fd;  /* -1 until the daemon has made it */
    uint32_t tail; /* our index into the ready queue */
};

struct chimney_session {
    _Atomic uint32_t refs; /* the program, each connection, each set */
    _Atomic int error;     /* 0: a daemon serves us; else why not */
    bool forked;           /* we are a child of the process that opened it */
    int sock, kick_fd;
    struct stream_arena arena;
    pthread_t watcher;
    bool watched;
    struct chimney_session *next; /* all of this process, for fork */

    pthread_mutex_t lock;
    pthread_cond_t answered;
    uint32_t serial;
    struct request *requests;
    struct chimney_conn *conns;
    struct chimney_set *sets;
    struct channel channels[STREAM_SETS];
};

/**
 * Asks the daemon and waits for the answer.  @fd goes along unless -1.  @answer_fd may be NULL.
 * Returns 0 with *answer, whose error is to be looked at, or -EPIPE (no daemon), -ETIMEDOUT,
 * -ENOMEM.
 */
int session_request(struct chimney_session *s, const struct protocol_message *ask, int fd,
                    struct protocol_message *answer, int *answer_fd);
void session_hold(struct chimney_session *s);
void session_drop(struct chimney_session *s);
static inline bool session_alive(struct chimney_session *s)
{
    return atomic_load(&s->error) == 0;
}

/* ---- conn.c, route.c ------------------------------------------------------------------------ */

struct chimney_conn {
    struct chimney_session *session;
    struct chimney_conn *next, **link; /* session->conns */
    int fd;
    _Atomic(struct stream_slot *) slot; /* NULL: a plain socket */
    uint32_t index, id;                 /* constant once slot was set */
    bool stranded;                      /* in a child, and not in the kernel when it forked */
    bool ended;                         /* (session->lock) chimney_end() has been here */
    _Atomic bool lost;                  /* its target is gone with its state */
    _Atomic int error;                  /* errno to report once: consumed early, or of a loss */
    _Atomic int state;                  /* enum chimney_conn_state last seen at rest */
    _Atomic int64_t receive_timeout_ns, send_timeout_ns; /* SO_RCVTIMEO, SO_SNDTIMEO; 0: none */
    _Atomic int receive_low;                             /* SO_RCVLOWAT */

    pthread_mutex_t control; /* one request about this connection at a time */
    char note[sizeof((struct protocol_message *)0)->text];

    pthread_mutex_t send_lock, receive_lock; /* the program's ends of the rings */
    uint64_t told;            /* (receive_lock) receive.tail when the daemon was last told */
    uint32_t told_generation; /* (receive_lock) */

    struct chimney_set *set; /* (session->lock) */

    socklen_t local_len, peer_len;
    struct sockaddr_storage local, peer;
};

enum carrier {
    CARRIER_KERNEL,   /* entered */
    CARRIER_STREAM,   /* entered */
    CARRIER_MOVING,   /* not entered: wait for the end of the move */
    CARRIER_LOST,     /* not entered: what the rings hold, then ECONNRESET once, then the end */
    CARRIER_STRANDED, /* not entered: EBADFD */
};

/** Begins a step.  KERNEL and STREAM must be ended with conn_leave(*slot). */
enum carrier conn_enter(struct chimney_conn *c, struct stream_slot **slot);
void conn_leave(struct stream_slot *slot);
/** The same without entering, and no longer true when it returns. */
enum carrier conn_carrier(struct chimney_conn *c, struct stream_slot *slot);
/** As conn_enter() but waits while MOVING (at most CLIENT_ANSWER_SECONDS, then MOVING). */
enum carrier conn_enter_rest(struct chimney_conn *c, struct stream_slot **slot);
/** Enters in the kernel, uploading first.  0 (leave it), or -errno: not entered. */
int conn_enter_kernel(struct chimney_conn *c, struct stream_slot **slot);
/** The rings hold what cannot be: the connection is lost. */
void conn_lose(struct chimney_conn *c);
/** Takes the errno that is to be reported once; 0: none. */
int conn_take_error(struct chimney_conn *c);
/** Gives the connection back to the kernel for good; the handle stays.  0 or -errno. */
int conn_make_plain(struct chimney_conn *c);
int conn_upload(struct chimney_conn *c, enum chimney_upload_reason reason);
/** Reads SO_RCVTIMEO, SO_SNDTIMEO and SO_RCVLOWAT of the socket. */
void conn_read_options(struct chimney_conn *c);
/** True if no daemon will ever have it: calls go straight to the socket. */
static inline bool conn_plain(struct chimney_conn *c)
{
    return atomic_load(&c->slot) == NULL && !c->stranded && !atomic_load(&c->lost) &&
           atomic_load(&c->error) == 0;
}
/** True if the call must not sleep.  Asked only when it would. */
bool conn_nonblocking(struct chimney_conn *c, int flags);
/** Sets errno and returns -1. */
int client_fail(int err);

/* ---- ring.c --------------------------------------------------------------------------------- */

/** One look at a ring, checked. */
struct ring_view {
    uint64_t pos; /* our position: where to write next, or to read next */
    uint32_t size;
    size_t used, room; /* room: what the program may write (send ring only) */
};

/** False: impossible values. */
bool ring_look_send(struct stream_slot *slot, struct ring_view *view);
bool ring_look_receive(struct stream_slot *slot, struct ring_view *view);
/** poll(2) events that hold while STREAM.  @need as in struct sleeper. */
int ring_ready(struct chimney_conn *c, struct stream_slot *slot, size_t need);
/** True if the send ring accepts data at the moment. */
bool ring_open(struct stream_slot *slot);
/** Tells the daemon that the slot has news. */
void ring_kick(struct chimney_conn *c, struct stream_slot *slot);

/* ---- pieces.c ------------------------------------------------------------------------------- */

/** A walk over an iovec. */
struct pieces {
    const struct iovec *iov;
    int count;
    size_t offset; /* into iov[0] */
    size_t left;   /* bytes in all */
};

#define PIECES_BATCH 64

/** Checks @iov as sendmsg(2) does.  0 or -errno. */
int pieces_init(struct pieces *p, const struct iovec *iov, int count);
/** What remains, for the kernel: @batch is used if the walk stands inside a piece. */
struct msghdr pieces_message(const struct pieces *p, struct iovec batch[PIECES_BATCH]);
void pieces_advance(struct pieces *p, size_t len);
/** Copies up to @len bytes into (out of) the ring at @pos and advances. */
void pieces_to_ring(struct pieces *p, uint8_t *base, uint32_t size, uint64_t pos, size_t len);
void pieces_from_ring(struct pieces *p, const uint8_t *base, uint32_t size, uint64_t pos,
                      size_t len);

/* ---- wait.c --------------------------------------------------------------------------------- */

/** CLOCK_MONOTONIC, ns. */
int64_t client_now(void);
/** The time @timeout_ns from now; 0 or less: never. */
int64_t client_deadline(int64_t timeout_ns);

/** The sleeps of one call. */
struct sleeper {
    int64_t deadline;
    bool restart;  /* after a signal go on as SA_RESTART says; else EINTR */
    size_t need;   /* POLLIN: bytes that must be there; 0: as SO_RCVLOWAT says */
    bool peek;     /* what was peeked at stays there: poll(2) would not sleep */
    unsigned idle; /* wake-ups in a row with nothing to show for */
};

/**
 * Sleeps until one of @events may hold, or the route changes.  0: look again; -EAGAIN: the time has
 * passed; -EINTR.
 */
int conn_sleep(struct chimney_conn *c, int events, struct sleeper *sleeper);
/** Sleeps while the connection moves.  False: it still does at @deadline. */
bool conn_settle(struct chimney_conn *c, int64_t deadline);
/** The same for a call that must not block; *@deadline, 0 at first, is for the whole call. */
bool conn_patience(struct chimney_conn *c, int64_t *deadline);
/** Wakes every thread that sleeps on the slot. */
void slot_wake(struct stream_slot *slot);
/** poll(2) events that hold now; -EINPROGRESS while MOVING; -EBADFD. */
int conn_ready(struct chimney_conn *c, int events);

/* ---- set.c ---------------------------------------------------------------------------------- */

/** A send found no room: the set, if any, is to hear when there is. */
void set_no_room(struct chimney_conn *c, struct stream_slot *slot);
/** Takes the connection out of its set, if any. */
void set_remove(struct chimney_conn *c);
/** Before and after the slot may go away. */
void set_unhook(struct chimney_conn *c);
void set_rehook(struct chimney_conn *c);
/** In a child: the sets are of no use, their locks are free. */
void set_after_fork(struct chimney_set *set);
struct chimney_set *set_next(struct chimney_set *set); /* session->sets */
/** Everything in the set is to be looked at again (session->lock is held). */
void set_wake_all(struct chimney_set *set);

#endif
