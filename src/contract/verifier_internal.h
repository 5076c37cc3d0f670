/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the verifier.
 *
 * Like every intermediate layer (contract.md 6.1) it keeps one record per offloaded object and one
 * per operation under way.  The object's record holds the handle and cell from above, and a cell of
 * its own that the target below writes; its address is the context value the host sees and the
 * handle the target sees.  The operation's record holds every field of every block that the target
 * must not change, puts its own pointer into im_reserved while the tree is below, and puts all of
 * them back.
 */
#ifndef CHIMNEY_CONTRACT_VERIFIER_INTERNAL_H
#define CHIMNEY_CONTRACT_VERIFIER_INTERNAL_H

#include "contract/ledger.h"
#include "contract/pause.h"
#include "contract/tree.h"
#include "contract/verifier.h"

/** Records of terminated objects that are kept, so that a late handle is recognised as such. */
#define VERIFIER_QUARANTINE 256

/** What fills a delegated area before a terminate, so that a field left out shows (C228). */
#define VERIFIER_POISON_BYTE 0xDB
#define VERIFIER_POISON_U32 0xDBDBDBDBu

struct verifier_object {
    struct chimney_cell cell; /* the target's context of the object; first: see object_of_cell() */
    struct chimney_cell *host_cell;
    void *host_handle;
    void *context; /* what the cell held after the initiate */
    struct verifier_object *parent;
    uint32_t dependents;
    enum tree_layer layer;
    enum chimney_conn_state state;
    bool announced;   /* the initiate's completion has returned: indications are allowed (C161) */
    bool invalidated; /* by a successful invalidate */
    bool cell_open;   /* the host's cell is in the ledger under this object */
    uint32_t queries, updates, invalidates; /* under way */
    uint32_t in_call;                       /* data verbs of the host on the stack */
    uint32_t in_indication;                 /* indications of the target on the stack */
    uint64_t mark;     /* v->calls when a tree named it last: an object twice in a tree */
    uint32_t together; /* dependents in the terminate that is being checked */

    /* What the host last wrote into constant and cached state (C4, C5). */
    union {
        struct {
            struct chimney_neighbor_const constant;
            struct chimney_neighbor_cached cached;
        } neighbor;
        struct {
            uint8_t source[16], destination[16];
            uint32_t mtu;
            uint8_t address_bytes;
        } path;
        struct {
            struct chimney_tcp_const constant;
            struct chimney_tcp_cached cached;
        } tcp;
    };

    /* Connections only.  Positions of the two streams. */
    uint64_t send_acked, send_end;
    uint64_t receive_tail, receive_head;
    bool send_called; /* since the last completion that ended all sends */
    bool send_over;   /* a send failed: none succeeds any more (C246) */
    bool fin_asked, abort_asked;
    uint32_t disconnects; /* open */
    uint32_t forwards;    /* open */
    bool in_send, in_receive, in_disconnect, in_forward, indicating;
    bool upload_asked; /* the target gave a mandatory reason (contract.md 3.9) */
    bool aborted;      /* TcpIndicateAbort */
    bool fin_told;     /* TcpIndicateDisconnect */
    bool half_closed;  /* offloaded in FIN_WAIT_1, FIN_WAIT_2 or CLOSE_WAIT */
};

/** One block of a tree under way, as it came from the host. */
struct verifier_block {
    struct chimney_block *block;
    struct verifier_object *object; /* NULL: a placeholder */
    size_t parent;                  /* index, or SIZE_MAX */
    enum tree_role role;            /* in an initiate; a reference otherwise counts as linker */
    struct chimney_block host;      /* all fields before the tree went down */
    uint64_t digest;                /* of the state that nobody may write; 0: none */
    bool counted;                   /* under way in the object: its count, or its terminate */
};

struct verifier_call {
    enum tree_verb verb;
    struct chimney_block *root;
    bool in_call;   /* the target's function has not returned */
    bool completed; /* from inside; the record is freed by the call */
    bool in_pause;  /* made while offloading was paused */
    uint64_t epoch; /* of the pause, at the call */
    size_t count;
    struct verifier_block blocks[];
};

struct verifier {
    struct chimney_target base; /* first */
    struct chimney_target *below;
    struct chimney_target_ops down;
    struct chimney_host_ops up;
    struct chimney_host *host;
    bool bound;

    verifier_report report;
    void *report_arg;
    uint64_t calls, breaches;

    struct ledger ledger;
    struct verifier_object *quarantine[VERIFIER_QUARANTINE];
    size_t quarantine_next;
    uint32_t connections; /* taken and not yet given back */

    /* Trees that were not passed down; linked through target_reserved[0], verb in scratch[0]. */
    struct chimney_block *refused, **refused_tail;

    enum pause_state pause;
    uint64_t epoch;   /* PAUSE, UPLOAD_ALL and RESUME seen so far */
    bool host_paused; /* PAUSE or UPLOAD_ALL was delivered: the host took notice */
    bool upload_all;  /* indicated; sends may be answered UPLOAD_IN_PROGRESS */
    struct chimney_capabilities capabilities, resumed;
    bool capabilities_known, resumed_known;
};

static inline struct verifier *verifier_of(struct chimney_target *target)
{
    return (struct verifier *)target;
}

static inline struct verifier *verifier_of_host(struct chimney_host *host)
{
    return (struct verifier *)host;
}

/** Counts and reports a breach of @row by @who. */
void breach(struct verifier *v, int row, enum ledger_owner who, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Every entry of the layer begins with this: counts the call, completes what was refused before. */
void verifier_enter(struct verifier *v);

/* verifier_object.c */
struct verifier_object *object_create(struct verifier *v, enum tree_layer layer);
/** The object is gone: closes what is open in the ledger, keeps the record a while. */
void object_retire(struct verifier *v, struct verifier_object *object);
/** The object whose record a host's cell holds; NULL if the value is none we gave. */
struct verifier_object *object_of_cell(struct verifier *v, const struct chimney_cell *cell);
/** The object behind a handle the target passes; reports C19 and returns NULL if there is none. */
struct verifier_object *object_of_handle(struct verifier *v, const void *handle, const char *what);
/** The target still holds the object under the context it gave (C10, C108). */
void object_check_context(struct verifier *v, const struct verifier_object *object);
const char *layer_name(enum tree_layer layer);
enum ledger_kind context_kind(enum tree_layer layer);

/* verifier_state.c */
/** The host's new object is one that may be offloaded (C31, C35, C42, C54, C57, C58, C75). */
void state_check_new(struct verifier *v, struct chimney_block *block);
/** Remembers constant and cached state, and where the streams stand. */
void state_remember(struct verifier_object *object, struct chimney_block *block);
void state_remember_cached(struct verifier_object *object, struct chimney_block *block);
/** Digest of the constant and cached state behind @block that the verb must leave alone. */
uint64_t state_digest(enum tree_verb verb, struct chimney_block *block);
void state_check_query(struct verifier *v, const struct verifier_object *object,
                       struct chimney_block *block);
void state_poison(struct chimney_block *block);
void state_check_terminate(struct verifier *v, const struct verifier_object *object,
                           struct chimney_block *block);

/* verifier_verbs.c, verifier_complete.c */
void verifier_verb(struct verifier *v, enum tree_verb verb, struct chimney_block *root);
void verifier_complete(struct verifier *v, enum tree_verb verb, struct chimney_block *root);
void verifier_call_up(struct verifier *v, enum tree_verb verb, struct chimney_block *root);

/* verifier_data.c: the data verbs, down and up */
chimney_status verify_send(struct chimney_target *, struct chimney_cell *, uint64_t end);
chimney_status verify_receive(struct chimney_target *, struct chimney_cell *, uint64_t tail);
chimney_status verify_disconnect(struct chimney_target *, struct chimney_cell *, uint32_t flags);
chimney_status verify_forward(struct chimney_target *, struct chimney_cell *,
                              const struct chimney_segment *);
void verify_send_complete(struct chimney_host *, void *handle, uint64_t acked, chimney_status);
void verify_disconnect_complete(struct chimney_host *, void *handle, chimney_status);
void verify_forward_complete(struct chimney_host *, void *handle, const struct chimney_segment *,
                             chimney_status);
void verify_receive_indicate(struct chimney_host *, void *handle, uint64_t head);

/* verifier_events.c: events, status indications, capabilities, the non-offload path */
void verify_event(struct chimney_host *, void *handle, enum chimney_event_type, uint32_t info);
void verify_status(struct chimney_host *, chimney_status, const void *buffer, size_t length);
void verify_neighbor_query(struct chimney_host *, struct chimney_block *);
void verify_get_capabilities(struct chimney_target *, struct chimney_capabilities *);
/** True if the target may end I/O of the connection with UPLOAD_IN_PROGRESS now. */
static inline bool verifier_upload_due(const struct verifier *v, const struct verifier_object *o)
{
    return o->upload_asked || v->upload_all || o->state == CHIMNEY_UPLOADING;
}

#endif
