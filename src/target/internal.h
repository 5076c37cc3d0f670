/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the software target.
 *
 * Objects hang together as the contract draws them: a connection on one path, a path on one
 * neighbor; each counts its dependents.  All three live in arrays made at start, with free lists;
 * an object's address is the context value the host holds.
 *
 * What is pending is kept in three places: verbs that were called (FIFO through target_reserved[1]
 * of the roots), the pause queue (target_reserved[0]), and the dirty list of connections that have
 * something to send or to tell.  target_poll() empties them in that order.
 */
#ifndef CHIMNEY_TARGET_INTERNAL_H
#define CHIMNEY_TARGET_INTERNAL_H

#include "contract/tree.h"
#include "target/flow.h"
#include "target/target.h"
#include "target/timers.h"
#include "wire/wire.h"

struct target_neighbor {
    bool used, invalid;
    uint32_t dependents; /* paths */
    void *host_handle;
    uint8_t src_mac[6], dst_mac[6];
    uint16_t vlan_id;
    uint8_t const_source[6]; /* as given: all zero if not */
    /* Reachability (contract.md 4.2): ticks on the target's own clock, modulo 2^32. */
    uint32_t nrt, hrt;
    struct target_neighbor *next_free;
};

struct target_path {
    bool used, invalid;
    uint8_t family;      /* 4 or 6 */
    uint32_t dependents; /* connections */
    void *host_handle;
    uint8_t source[16], destination[16];
    uint32_t mtu;
    struct target_neighbor *neighbor;
    struct target_path *next_free;
};

/* A frame kept for the non-offload path. */
struct target_kept {
    struct target_kept *next;
    uint32_t length;
    uint8_t data[];
};

struct target_conn {
    struct timer_node timer;
    struct flow_key key;
    struct target_path *path;
    void *host_handle;
    bool used, invalid;
    bool announced;     /* the initiate's completion has returned: indications are allowed (C161) */
    bool dirty;         /* in the dirty list */
    bool corrupt;       /* a verb failed: all I/O waits for the terminate (C138) */
    bool stopped;       /* a mandatory reason was given: nothing is processed any more */
    bool aborted;       /* an acceptable RST was seen */
    bool refuse_io;     /* answer sends with UPLOAD_IN_PROGRESS */
    bool send_refused;  /* ... one is waiting for that answer */
    bool send_failed;   /* one was answered so: the send side stands still until the terminate */
    bool small_told;    /* SmallIO was indicated: once per offload */
    bool disconnecting; /* a disconnect is open */
    bool disconnect_abortive;
    bool fin_acked;   /* our FIN and all data */
    bool fin_told;    /* TcpIndicateDisconnect was indicated */
    bool fin_pending; /* the peer's FIN is in, its event waits for the program (C329) */
    enum chimney_upload_reason retrieve;  /* asked, to be indicated; NONE when told */
    enum chimney_upload_reason retrieved; /* last one indicated */
    uint64_t send_end;                    /* what send() announced */
    uint64_t acked_told, rcv_told, consumed;
    uint64_t retransmits; /* of the engine, as far as counted */
    struct target_kept *kept, **kept_tail;
    uint32_t kept_count;
    struct wire_route route; /* header template */
    /* Forwarded segments that are processed and not yet completed, linked by target_reserved. */
    struct chimney_segment *forwarded, *forwarded_tail;
    chimney_status forwarded_status;
    struct chimney_tcp_const constant;
    struct chimney_tcp_cached cached;
    uint32_t dwnd;
    uint32_t backlog_told;
    tcp_time backlog_time;
    struct target_conn *next_dirty, *next_free, *next_taken;
    bool fin_kept;
    struct tcp_conn *engine;
};

struct target_verb_queue {
    struct chimney_block *head, *tail;
};

struct target {
    struct chimney_target base; /* first */
    struct target_config config;
    struct port *port;
    const struct chimney_host_ops *host_ops;
    struct chimney_host *host;
    struct chimney_host_ops host_table;
    struct chimney_parameters parameters;
    struct tcp_params tcp_params;
    struct pause_queue pause;
    bool pause_wanted, pause_on_initiate, upload_all_wanted, resume_wanted;
    uint32_t resume_capacity, capacity;

    struct target_verb_queue verbs;

    struct target_neighbor *neighbors, *free_neighbor;
    struct target_path *paths, *free_path;
    struct target_conn *conns, *free_conn;
    uint8_t *engines;
    size_t engine_size;
    uint32_t neighbor_count, path_count, conn_count;

    struct flow_table flows;
    struct timers timers;
    struct target_conn *dirty, **dirty_tail;
    struct target_conn *taken; /* by the initiate that is being done */
    tcp_time now;
    uint16_t ip_id;
    struct chimney_statistics stats4, stats6;
    struct target_info info;
    uint64_t prng;
};

static inline struct target *target_of(struct chimney_target *t)
{
    return (struct target *)t;
}

/* objects.c */
bool objects_create(struct target *t);
void objects_destroy(struct target *t);
chimney_status objects_take_neighbor(void *arg, struct chimney_block *block, void **context);
chimney_status objects_take_path(void *arg, struct chimney_block *block, void *neighbor,
                                 void **context);
chimney_status objects_take_tcp(void *arg, struct chimney_block *block, void *path, void **context);
void objects_free_neighbor(struct target *t, struct target_neighbor *n);
void objects_free_path(struct target *t, struct target_path *p);
void objects_free_conn(struct target *t, struct target_conn *c);
void conn_fill_route(struct target *t, struct target_conn *c);
bool conn_is_invalid(const struct target_conn *c);
/** ESTABLISHED or CLOSE_WAIT, as RFC 2012 counts. */
bool conn_counts_as_established(const struct target_conn *c);
/** Which object a filled cell names, checked against the tables. */
struct target_neighbor *objects_neighbor(struct target *t, const struct chimney_cell *cell);
struct target_path *objects_path(struct target *t, const struct chimney_cell *cell);
struct target_conn *objects_conn(struct target *t, const struct chimney_cell *cell);

/* state.c: contract structures to engine structures and back */
void state_to_engine(const struct target_conn *c, const struct chimney_tcp_delegated *from,
                     struct tcp_import *out);
void state_cached_to_engine(const struct target_conn *c, struct tcp_cached_state *out);
void state_from_engine(const struct target_conn *c, const struct tcp_export *from,
                       struct chimney_tcp_delegated *to);
uint32_t state_ticks(const struct target *t);

/* target.c */
void target_capabilities(const struct target *t, struct chimney_capabilities *out);

/* verbs.c */
bool verbs_run(struct target *t);
void verbs_enqueue(struct target *t, enum tree_verb verb, struct chimney_block *root);
void verbs_fail_all(struct target *t);
extern const struct chimney_target_ops target_ops;

/* data.c */
chimney_status data_send(struct chimney_target *, struct chimney_cell *, uint64_t end);
chimney_status data_receive(struct chimney_target *, struct chimney_cell *, uint64_t tail);
chimney_status data_disconnect(struct chimney_target *, struct chimney_cell *, uint32_t flags);
chimney_status data_forward(struct chimney_target *, struct chimney_cell *,
                            const struct chimney_segment *segment);
/** Tells the host what changed: receive, send completions, events. */
void conn_tell(struct target *t, struct target_conn *c);
void conn_complete_forwards(struct target *t, struct target_conn *c);
void conn_events(struct target *t, struct target_conn *c, uint32_t events);
void conn_ask_upload(struct target *t, struct target_conn *c, enum chimney_upload_reason reason);
void conn_dirty(struct target *t, struct target_conn *c);

/* rx.c, tx.c */
bool rx_run(struct target *t);
void rx_conn_frame(struct target *t, struct target_conn *c, const uint8_t *frame, uint32_t length,
                   const struct wire_packet *packet);
void conn_keep(struct target *t, struct target_conn *c, const uint8_t *frame, uint32_t length);
void conn_pass_up_kept(struct target *t, struct target_conn *c);
void conn_pass_up_ooo(struct target *t, struct target_conn *c, const struct tcp_export *x);
/** Sends what may be sent; false when the port is full (the connection stays dirty). */
bool tx_conn(struct target *t, struct target_conn *c);
/** Sends the acknowledgement that is due, and nothing else. */
void tx_ack(struct target *t, struct target_conn *c);
void pass_up(struct target *t, const uint8_t *frame, uint32_t length);
struct chimney_statistics *target_stats(struct target *t, int family);

#endif
