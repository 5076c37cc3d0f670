/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software target: the contract (chimney/target.h) over the engine, streams and one port.
 *
 * It has no thread and no clock of its own: its owner (the daemon's worker, or a test in virtual
 * time) calls target_poll() with the time.  Everything it knows is allocated by target_create();
 * nothing is allocated afterwards, so a full table is a status of the initiate.
 */
#ifndef CHIMNEY_TARGET_TARGET_H
#define CHIMNEY_TARGET_TARGET_H

#include <chimney/target.h>
#include "contract/pause.h"
#include "port/port.h"
#include "tcp/tcp.h"

/* Defaults of struct target_config. */
#define TARGET_MAX_CONNECTIONS 16384u
#define TARGET_MAX_PATHS 4096u
#define TARGET_MAX_NEIGHBORS 1024u
#define TARGET_MAX_SOURCE_ADDRESSES 64u
#define TARGET_MAX_VLANS 16u
#define TARGET_MAX_RCV_WND (1u << 30)
/** Frames kept for a connection that waits for its upload (urgent data, FIN, RST and what follows).
 */
#define TARGET_MAX_KEPT 256u
/** Frames taken from the port at a time, and how often in one round. */
#define TARGET_BURST 64
#define TARGET_RX_BURSTS 16
/** Segments one connection sends in one round, so that it starves neither others nor the input. */
#define TARGET_TX_SEGMENTS 64

/** What a test can make fail (C191, C203, C209, C229, C138, C165, C166). */
enum target_fault {
    TARGET_FAULT_QUERY,
    TARGET_FAULT_UPDATE,
    TARGET_FAULT_INVALIDATE,
    TARGET_FAULT_TERMINATE,
    TARGET_FAULT_MEMORY, /* of an initiate: RESOURCES */
    TARGET_FAULT_TAKE,   /* of an initiate: FAILURE */
};

struct target_config {
    const char *name; /* for logs and `chimney status`; NULL: the port's name */
    uint32_t max_connections, max_paths, max_neighbors; /* 0: the defaults above */
    uint32_t max_source_addresses, max_vlans;
    uint32_t max_path_mtu; /* 0: the port's */
    uint32_t max_rcv_wnd;
    uint64_t hash_seed;             /* of the flow table; from a random source in production */
    enum tcp_fin_policy fin_policy; /* HOLD: ask for the upload at the peer's FIN, pass it up */
    const uint16_t *vlan_ids;       /* of the interface (C176); none: any */
    unsigned vlan_count;
    /** Policy hook: true rejects the connection (C178). */
    bool (*reject)(void *arg, struct chimney_block *tcp_block);
    /** Fault injection for tests; true makes this one fail. */
    bool (*fault)(void *arg, enum target_fault what, struct chimney_block *block);
    void *arg;
};

/** Creates a target over @port (borrowed; outlives the target).  NULL: no memory. */
struct chimney_target *target_create(const struct target_config *config, struct port *port);
/** Every connection must have been terminated; queued initiates are completed with FAILURE. */
void target_destroy(struct chimney_target *target);

/** One round: verbs, frames, timers, output.  Returns true if there was anything to do. */
bool target_poll(struct chimney_target *target, tcp_time now);
/** When target_poll() wants to be called although no frame arrived and no verb was called. */
tcp_time target_next_timeout(const struct chimney_target *target);

/* What a target may ask of its host (contract.md 4.1).  Effects show at the next target_poll(). */
void target_pause(struct chimney_target *target);
/** Pauses at the moment the next initiate arrives, which is thereby queued: the race, on demand. */
void target_pause_on_initiate(struct chimney_target *target);
void target_upload_all(struct chimney_target *target);
/** Resumes, with new limits if @capacity is not 0.  After upload-all it waits for the terminates.
 */
void target_resume(struct chimney_target *target, uint32_t capacity);
/** Asks for one connection back (C330).  May be repeated (C232). */
void target_retrieve(struct chimney_target *target, struct chimney_cell *cell,
                     enum chimney_upload_reason reason);

struct target_info {
    uint32_t connections, paths, neighbors;
    uint32_t max_connections;
    enum pause_state pause;
    uint32_t queued; /* initiates waiting for a resume */
    uint64_t queued_total, pauses, resumes, upload_alls;
    uint64_t passed_up;                /* frames given to the non-offload path */
    uint64_t sends_upload_in_progress; /* sends completed with UPLOAD_IN_PROGRESS */
    uint64_t retrieves;                /* asked */
    uint64_t tx_blocked;               /* rounds in which the port had no room */
};
void target_get_info(const struct chimney_target *target, struct target_info *out);
/** Engine counters of one connection; valid until its terminate. */
const struct tcp_stats *target_conn_stats(const struct chimney_cell *cell);

#endif
