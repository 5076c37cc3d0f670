/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small host for tests, a scripted target, and a list of what the verifier found.
 *
 * The host builds trees, lends streams from plain memory and logs every call across the boundary in
 * order.  Each block of a tree lives in memory of exactly its size, and when the tree is completed
 * the blocks are copied and the originals freed: a target that looks at a tree once more, or reads
 * beyond a state structure, is caught by the sanitizer.
 */
#ifndef CHIMNEY_TEST_CONTRACT_HOST_H
#define CHIMNEY_TEST_CONTRACT_HOST_H

#include "contract/tree.h"
#include "contract/verifier.h"

/* ---- the log --------------------------------------------------------------------------------- */

enum log_kind {
    LOG_CALL,   /* a state verb was called; verb, what = original root */
    LOG_RETURN, /* ... and returned */
    LOG_DONE,   /* ... and completed */
    LOG_SEND,   /* data verbs: what = connection, value = position or flags */
    LOG_RECEIVE,
    LOG_DISCONNECT,
    LOG_FORWARD,
    LOG_SENT, /* their completions: value = acknowledged position, status */
    LOG_DISCONNECTED,
    LOG_FORWARDED,
    LOG_INDICATE, /* receive indication: value = head */
    LOG_EVENT,    /* status = type, value = information */
    LOG_STATUS,   /* status indication */
    LOG_QUESTION, /* reachability question: what = neighbor, value = its delta */
    LOG_FRAME,    /* the non-offload path: value = length */
    LOG_CAPABILITIES,
};

struct log_entry {
    enum log_kind kind;
    enum tree_verb verb;
    const void *what;
    uint64_t value;
    uint32_t status;
    uint64_t time; /* host->now at the call */
};

/* ---- objects --------------------------------------------------------------------------------- */

struct host_object {
    struct chimney_cell cell;
    enum tree_layer layer;
    struct host_object *parent;
    enum chimney_conn_state state; /* as management sees it (C8) */
};

struct host_neighbor {
    struct host_object object;
    struct chimney_neighbor_const constant;
    struct chimney_neighbor_cached cached;
    uint32_t answer; /* to a reachability question: host_reachability_delta */
};

struct host_path {
    struct host_object object;
    int family;
    uint8_t source[16], destination[16];
    uint32_t mtu;
};

struct host_conn {
    struct host_object object;
    struct chimney_tcp_const constant;
    struct chimney_tcp_cached cached;
    struct chimney_tcp_delegated delegated; /* to offload with; after a terminate what came back */
    uint64_t written, acked;                /* positions of the send stream */
    uint64_t head, tail;                    /* positions of the receive stream */
    uint64_t pattern_out, pattern_in;       /* what the two streams must contain; see host_byte() */
    uint64_t base_out, base_in;             /* stream position 0 is byte base of the pattern */
    uint64_t head_at_offload;               /* the position that delegated.rcv_nxt stands for */
    uint64_t mismatches; /* bytes of the receive stream that were not the pattern */
    bool hold;           /* do not consume what is indicated */
    bool closed_out;     /* disconnect was called */
};

/* ---- trees ----------------------------------------------------------------------------------- */

#define HOST_TREE_BLOCKS 1200

struct host_tree {
    struct host *host;
    enum tree_verb verb;
    int count;
    struct chimney_block *block[HOST_TREE_BLOCKS]; /* after the completion: copies */
    struct host_object *object[HOST_TREE_BLOCKS];
    struct chimney_block *root; /* the original address; do not follow it */
    bool under_way, done;
    int completions;
    struct host_tree *next;
};

struct host {
    struct chimney_target *target;
    struct log_entry *log;
    size_t log_count, log_size;
    struct host_tree *trees;
    uint64_t now;
    bool paused, upload_all; /* as the host knows it */
    bool lazy;               /* does not read the capabilities at a RESUME by itself */
    struct chimney_capabilities capabilities, resumed;
    /* Frames of the non-offload path, newest last; kept until host_free(). */
    struct host_frame {
        uint8_t *data;
        uint32_t length;
        uint64_t time;
    } * frames;
    size_t frame_count, frame_size;
    /* Called at the end of every up-call, if set: what a host does from inside. */
    void (*inside)(struct host *, const struct log_entry *);
    void *inside_arg;
};

/** Binds a fresh host to @target. */
void host_init(struct host *h, struct chimney_target *target);
void host_free(struct host *h);

/** The byte at @position of stream @pattern. */
uint8_t host_byte(uint64_t pattern, uint64_t position);

void host_neighbor_init(struct host_neighbor *n, const uint8_t mac[6]);
/** Addresses 10.0.0.@source and 10.0.0.@destination, or fd00::... if @family is 6. */
void host_path_init(struct host_path *p, struct host_neighbor *n, int family, int source,
                    int destination);
/** An established connection at rest with rings of @ring bytes; ports in host byte order. */
void host_conn_init(struct host_conn *c, struct host_path *p, uint16_t local, uint16_t remote,
                    uint32_t ring);
void host_conn_free(struct host_conn *c);
/** Puts @bytes of the pattern into the send stream and nothing more. */
void host_write(struct host_conn *c, uint32_t bytes);

/** An empty tree, freed by host_free(). */
struct host_tree *host_tree(struct host *h, enum tree_verb verb);
/** Adds a block of @type under block number @parent (-1: the root's layer); returns its number. */
int host_add(struct host_tree *t, int parent, enum chimney_state_type type,
             struct host_object *object);
/** Adds a whole new object with its state, or a linker if it is offloaded already. */
int host_add_object(struct host_tree *t, int parent, struct host_object *object);
/** Calls the verb.  Statuses are poisoned. */
void host_call(struct host_tree *t);

/* Whole operations on single objects; @t is the tree of it, to be looked at once it is done. */
struct host_tree *host_offload(struct host *h, struct host_conn *const *conns, int count);
struct host_tree *host_terminate(struct host *h, struct host_object *const *objects, int count);
struct host_tree *host_query(struct host *h, enum chimney_state_type type,
                             struct host_object *object);
struct host_tree *host_update(struct host *h, struct host_object *object);
struct host_tree *host_invalidate(struct host *h, struct host_object *object);

chimney_status host_send(struct host *h, struct host_conn *c, uint32_t bytes);
chimney_status host_consume(struct host *h, struct host_conn *c, uint64_t tail);
chimney_status host_disconnect(struct host *h, struct host_conn *c, uint32_t flags);
chimney_status host_forward(struct host *h, struct host_conn *c,
                            const struct chimney_segment *segment);
void host_read_capabilities(struct host *h);

/** Number of entries of @kind since entry @from (and about @what, unless NULL). */
size_t host_count(const struct host *h, size_t from, enum log_kind kind, const void *what);
/** First such entry at or after @from, or NULL. */
const struct log_entry *host_find(const struct host *h, size_t from, enum log_kind kind,
                                  const void *what);
/** Last such entry, or NULL. */
const struct log_entry *host_last(const struct host *h, enum log_kind kind, const void *what);

/* ---- the scripted target --------------------------------------------------------------------- */

#define FAKE_TREES 16

struct fake {
    struct chimney_target base; /* first */
    const struct chimney_host_ops *up;
    struct chimney_host *host;
    struct {
        enum tree_verb verb;
        struct chimney_block *root;
    } pending[FAKE_TREES];
    int pending_count;
    uintptr_t next_context;
    chimney_status answer[64]; /* of new objects, in the order they are taken; 0: SUCCESS */
    int taken;
    struct chimney_capabilities capabilities;
    chimney_status data_status; /* what data verbs return */
    /* The last data verb. */
    struct chimney_cell *cell;
    uint64_t position;
    const struct chimney_segment *segment;
    /* Done from inside the next verb or data verb, if set. */
    void (*inside)(struct fake *f);
    void *inside_arg;
};

void fake_init(struct fake *f);
/** Does what the oldest pending verb asks, as a well-behaved target; completes unless @hold. */
struct chimney_block *fake_do(struct fake *f, bool hold);
void fake_do_all(struct fake *f);
/** Calls the completion of @verb. */
void fake_complete(struct fake *f, enum tree_verb verb, struct chimney_block *root);

/* ---- what the verifier found ----------------------------------------------------------------- */

#define MAX_FINDINGS 64

struct findings {
    int count;
    int row[MAX_FINDINGS];
    char who[MAX_FINDINGS][8];
    char line[MAX_FINDINGS][200];
};

void findings_report(void *arg, int row, const char *who, const char *line);

#endif
