/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chimneyd: owns targets, ports and the host adapter; speaks to programs and to the CLI.
 *
 * Two threads.  The *control thread* runs an epoll loop: programs' sessions, the chimney command,
 * routing changes, hand-offs.  The *worker* owns the targets and their ports: frames, timers, the
 * programs' kicks.  They talk by messages (mailbox.h) and share three things only: the arenas
 * (stream.h), the hold lists (hold.h, a mutex) and the fields of struct conn marked (worker).
 *
 * A connection moves like this; the control thread drives it (move.c):
 *
 *   InHost      --offload--> Offloading: program quiesced, steered, frozen, dumped, parked,
 * initiate Offloading  --complete-> Offloaded, or back to InHost with the status as the reason
 *   Offloading  --PAUSE----> still Offloading, `lent`: back in the kernel until RESUME
 *   Offloaded   --upload---> Uploading: program quiesced, terminate
 *   Uploading   --complete-> restored in the kernel: InHost
 */
#ifndef CHIMNEY_DAEMON_DAEMON_H
#define CHIMNEY_DAEMON_DAEMON_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <chimney/target.h>
#include "contract/tree.h"
#include "daemon/hold.h"
#include "daemon/mailbox.h"
#include "daemon/protocol.h"
#include "host/handoff.h"
#include "host/route.h"
#include "host/selftest.h"
#include "port/xsk.h"
#include "stream/stream.h"
#include "target/target.h"

/* Limits.  A full table is an error for the one who asks, never the end of the daemon. */
#define DAEMON_MAX_PORTS STEER_MAX_IFACES
#define DAEMON_MAX_SESSIONS 128 /* an arena is half a TiB of address space each */
#define DAEMON_MAX_CONTROL_CLIENTS 64
#define DAEMON_HASH 65536u
#define DAEMON_DEFAULT_MAX_CONNECTIONS TARGET_MAX_CONNECTIONS
/** Tries of an offload that finds out-of-order data or a program inside a call, and their spacing.
 */
#define DAEMON_OFFLOAD_TRIES 100
#define DAEMON_RETRY_NS (2 * 1000000ull)
/** How long a move waits for the program to leave its calls. */
#define DAEMON_QUIESCE_NS (3 * 1000000ull)
/** How long a program's thread that was caught inside a call may take to leave it. */
#define DAEMON_DRAIN_NS (500 * 1000000ull)
/** Rings of a connection whose queues and buffers ask for no more. */
#define DAEMON_RING_DEFAULT (1u << 20)
/** How long what a target learned about a path is believed after an upload. */
#define DAEMON_CARRY_NS (1000 * 1000000ull)
/** How long an ending daemon waits for its uploads. */
#define DAEMON_SHUTDOWN_NS (20 * 1000000000ull)

struct daemon;
struct port_ctx;
struct session;
struct conn;

/* Why a connection is where it is, beside the text: for JSON and tests. */
enum move_direction { MOVE_NONE, MOVE_OFFLOAD, MOVE_UPLOAD };

/** A record of one move: the last one is kept with the connection, each one is an event. */
struct move_record {
    enum move_direction direction;
    bool failed;
    chimney_status status;             /* of an initiate or terminate */
    enum chimney_upload_reason reason; /* of an upload the target asked for, else NONE */
    char why[80];                      /* "operator", "peer closed", "program closed", ... */
    uint64_t start_ns, duration_ns;    /* monotonic; duration: silence of the connection */
    uint32_t in_flight;                /* bytes sent and not acknowledged at the move */
    uint32_t queued_bytes;             /* bytes in both queues that travelled along */
};

/** A neighbor object of the contract, in the host's hands. */
struct neighbor_obj {
    struct neighbor_obj *next;
    struct port_ctx *port;
    struct route_entry route; /* next hop and MAC */
    struct chimney_cell cell;
    uint32_t refs; /* paths */
    bool offloaded, busy, update_again;
    struct chimney_block *block; /* memory for the verbs of this object */
};

/** A path object. */
struct path_obj {
    struct path_obj *next;
    struct neighbor_obj *neighbor;
    uint8_t family;
    uint8_t source[16], destination[16];
    uint32_t mtu;
    struct chimney_cell cell;
    uint32_t refs; /* connections */
    bool offloaded, busy, update_again;
    struct chimney_block *block;
};

struct conn {
    uint32_t id;
    struct session *session; /* NULL: the program is gone, the connection is being closed */
    uint32_t slot;
    int fd; /* our duplicate */
    struct flow_key key;
    bool accepted;
    uint64_t attached_ns;     /* monotonic */
    struct conn *next, *prev; /* daemon.conns */
    struct conn *hash_next;

    enum chimney_conn_state state;
    uint64_t state_since_ns;
    struct port_ctx *port; /* the one it is, or was last, offloaded to */
    struct path_obj *path;
    struct handoff_conn handoff;
    struct chimney_cell cell;
    struct chimney_block *block; /* full TCP block, for initiate and terminate */
    struct hold hold;
    bool lent;   /* Offloading, queued in a pause, running in the kernel meanwhile */
    bool zombie; /* released while its initiate waits: free it when that completes */

    /* What is wanted next, done when the move in progress has ended. */
    bool want_offload, want_upload, want_release, want_close;
    bool notify_detach, notify_upload; /* an answer the session waits for */
    uint32_t detach_serial, upload_serial;
    uint32_t tries;
    uint64_t retry_ns;
    char want_why[80];
    enum chimney_upload_reason want_reason;

    struct move_record last;
    uint64_t moves_offload, moves_upload, moves_failed;
    char why_not[120];            /* why it is not offloaded, if it is not; empty otherwise */
    uint64_t bytes_in, bytes_out; /* carried by targets so far, without the running offload */

    /* (worker) while Offloading or Offloaded */
    uint64_t w_send_end, w_send_tail, w_rcv_head, w_rcv_tail;
    uint32_t w_ring_size, w_forwards;
    bool w_active, w_corrupt;
    _Atomic uint64_t w_bytes_in, w_bytes_out; /* of the running offload */
    struct conn *w_next_started;

    /* (move.c) What the kernel forgets in a restore, for an offload that follows soon. */
    struct {
        uint64_t at_ns; /* 0: nothing */
        uint32_t cwnd, ssthresh, srtt, rttvar, reordering;
    } carry;
    uint32_t ring_hint; /* rings at least this large, bytes */

    /* (move.c) */
    struct conn *want_next; /* queue of those who want an offload */
    struct conn *up_next;   /* queue of those who are to be uploaded */
    bool in_wants, in_ups;
    uint64_t move_start_ns; /* of the move in progress: the program was quiesced */
    struct move_record now; /* the move in progress */
    struct repair_restore restore;
    bool restoring;         /* restore failed so far and is tried again */
    bool flushing;          /* restored; unsent bytes wait for room in the kernel's queue, or on the
                               way to its program (daemon.home) */
    struct conn *busy_next; /* queue of restoring and flushing connections */
};

struct session {
    struct session *next;
    int fd, kick_fd;
    int set_fd[STREAM_SETS]; /* eventfds of wait sets, -1 */
    _Atomic int set_fd_shared[STREAM_SETS];
    pid_t pid;
    uid_t uid;
    char comm[32];
    bool hello, dead;
    struct stream_arena arena;
    struct conn *conns[STREAM_SLOTS];   /* control thread */
    struct conn *w_conns[STREAM_SLOTS]; /* (worker) active ones */
    uint32_t w_kick_tail;               /* (worker) */
    uint32_t next_slot, attached;
    /* Slots back in the kernel whose rings still hold memory (move.c). */
    uint16_t release[STREAM_SLOTS];
    uint32_t release_count;
    uint8_t release_state[STREAM_SLOTS];
};

/** A port with its target.  One per --port interface. */
struct port_ctx {
    struct daemon *daemon;
    char ifname[16];
    int ifindex;
    struct port *port;
    struct chimney_target *target; /* the software target */
    struct chimney_target *top;    /* what the host speaks to: target or verifier above it */
    bool native, link_up;
    /* Host side of the contract (control thread). */
    bool paused;     /* PAUSE was indicated and no RESUME since */
    bool upload_all; /* UPLOAD_ALL was indicated */
    struct chimney_capabilities caps;
    struct chimney_block *initiate;    /* tree on its way, one at a time; NULL: none */
    struct conn *batch[HANDOFF_BATCH]; /* its connections, NULL where released */
    size_t batch_count;
    uint32_t offloaded; /* connections */
    uint64_t pauses, resumes, upload_alls, queued_in_pause, initiates, terminates;
    struct neighbor_obj *neighbors;
    struct path_obj *paths;
    struct chimney_statistics stats4, stats6; /* refreshed on demand */
    struct target_info info;
};

struct daemon_options {
    const char *ports[DAEMON_MAX_PORTS];
    unsigned port_count;
    const char *rundir;
    uint32_t max_connections; /* per target */
    bool auto_offload;        /* offload every connection as soon as it is attached */
    bool force_generic;
    bool no_verifier;
    bool foreground_log; /* log to stderr */
    char **argv;
};

struct daemon {
    struct daemon_options options;
    struct steer *steer;
    struct barrier *barrier;
    struct conntrack *conntrack;
    struct route_table *routes;
    struct handoff handoff;
    struct port_ctx ports[DAEMON_MAX_PORTS];
    unsigned port_count;
    struct selftest_check checks[SELFTEST_MAX_CHECKS];
    int check_count;

    int epoll_fd, signal_fd, timer_fd, session_listen, control_listen, lock_fd;
    uint64_t timer_armed_ns;
    struct session *sessions;
    unsigned session_count;
    struct conn *conns;
    uint32_t conn_count, next_conn_id;
    struct conn *zombies;
    uint64_t started_ns, started_real_ns;
    bool stopping;
    uint64_t stop_deadline_ns;
    int exit_code;

    uint64_t moves_offload, moves_upload, moves_failed, breaches;
    uint64_t longest_move_ns;

    /* (worker) */
    pthread_t worker_thread;
    bool worker_running;
    struct mailbox to_worker, to_control;
    struct session *w_sessions[DAEMON_MAX_SESSIONS];
    unsigned w_session_count;
    struct conn *w_started;
    int w_epoll_fd;
    bool w_stop;

    struct hold_table holds;
    struct control *control; /* control.c's own */

    /* (move.c) */
    struct conn *wants, **wants_tail;
    struct conn *ups, **ups_tail;
    uint32_t uploading; /* connections in that state */
    struct conn *busy;
    struct conn *home; /* restored, and on the way to their programs */
    uint64_t next_collect_ns;
    struct conn *hash[DAEMON_HASH]; /* by flow key (conn.c) */
    uint64_t hash_seed;
};

uint64_t daemon_now(void); /* CLOCK_MONOTONIC, ns */
/** One line to stderr (or the journal), prefixed by "chimneyd: ". */
void daemon_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* worker.c */
int worker_start(struct daemon *d, char *err, size_t errlen);
void worker_stop(struct daemon *d);
void worker_post(struct daemon *d, const struct mail *mail);
/** Runs @fn on the worker and waits for it. */
void worker_call(struct daemon *d, void (*fn)(struct daemon *d, void *arg), void *arg);
/** To be called so: takes out of the ports' rings at least every frame that is in there now. */
void worker_drain(struct daemon *d, void *unused);

/* host_ops.c: the contract's host side on the worker */
extern const struct chimney_host_ops daemon_host_ops;
void host_kick(struct daemon *d, struct session *s, uint32_t slot);
void host_started(struct daemon *d);
/** A terminate is about to be called: no send or receive on its connections from here. */
void host_terminating(struct chimney_block *root);
/** Puts the slot's readiness to whoever waits for it; any thread that owns the slot's route. */
void slot_notify(struct session *s, uint32_t slot, uint32_t ready);
void slot_set_route(struct conn *c, enum stream_route route);

/* paths.c */
/** Finds or makes path and neighbor objects for a connection; NULL and a line if not offloadable.
 */
struct path_obj *paths_get(struct daemon *d, struct port_ctx **port, const struct flow_key *key,
                           char *why, size_t whylen);
void paths_put(struct path_obj *path);
/** Terminates path and neighbor objects nobody hangs on. */
void paths_collect(struct daemon *d, struct port_ctx *p);
void paths_changed(struct daemon *d, const struct route_event *event);
void paths_reexamine(struct daemon *d);
void paths_verb_done(struct daemon *d, struct port_ctx *p, enum tree_verb verb,
                     struct chimney_block *root);

/* conn.c */
struct conn *conn_create(struct daemon *d, struct session *s, uint32_t slot, int fd, uint32_t flags,
                         int *error, const char **line);
void conn_free(struct daemon *d, struct conn *c);
/** Its program has let go of it while its initiate is queued: only the block is still needed. */
void conn_bury(struct daemon *d, struct conn *c);
struct conn *conn_by_id(struct daemon *d, uint32_t id);

/* move.c */
/** Asks for an offload; done now, in a moment, or at resume.  @why as in move_record. */
void move_offload(struct daemon *d, struct conn *const *conns, size_t n, const char *why);
void move_upload(struct daemon *d, struct conn *const *conns, size_t n,
                 enum chimney_upload_reason reason, const char *why);
/** The program lets go of it: bring it back to the kernel, drop our duplicate, free. */
void move_release(struct daemon *d, struct conn *c);
void move_mail(struct daemon *d, const struct mail *mail);
void move_tick(struct daemon *d, uint64_t now);
uint64_t move_next_tick(struct daemon *d);
bool move_idle(struct daemon *d); /* nothing is on its way, nothing offloaded */

/* session.c */
int session_listen(struct daemon *d, char *err, size_t errlen);
void session_accept(struct daemon *d);
void session_readable(struct daemon *d, struct session *s);
void session_answer(struct session *s, uint32_t op, uint32_t serial, struct conn *c, int error,
                    chimney_status status, const char *text);
void session_goodbye(struct daemon *d);
void session_reap(struct daemon *d);

/* control.c: the chimney command; events.c: what happens, as it happens */
int control_open(struct daemon *d, char *err, size_t errlen);
void control_close(struct daemon *d);
/** @fd of the control room became ready; returns false if it is not one of its descriptors. */
bool control_ready(struct daemon *d, int fd, uint32_t epoll_events);
void event_move(struct daemon *d, const struct conn *c, const struct move_record *m);
/** "pause", "resume", "upload-all", "attach", "detach", "breach", "port", "start", "stop". */
void event_simple(struct daemon *d, const char *kind, const char *port, const struct conn *c,
                  const char *text);

/* main.c */
void daemon_watch(struct daemon *d, int fd, void *tag, uint32_t events);
void daemon_unwatch(struct daemon *d, int fd);
/** Begins an orderly end: everything is uploaded first. */
void daemon_stop(struct daemon *d);
/** What epoll data.ptr points to; control.c uses kind DAEMON_FD_CONTROL for all its descriptors. */
enum daemon_fd_kind {
    DAEMON_FD_SIGNAL,
    DAEMON_FD_TIMER,
    DAEMON_FD_SESSION_LISTEN,
    DAEMON_FD_SESSION,
    DAEMON_FD_CONTROL,
    DAEMON_FD_ROUTES,
    DAEMON_FD_MAILBOX,
};

#endif
