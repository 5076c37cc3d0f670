/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract between a host stack and an offload target.
 *
 * This is the header a target is written against, and the header a host is written against.  It is
 * the contract that Windows documented as TCP chimney offload, with three changes that Linux and
 * shared memory ask for; docs/contract.md gives the reasons:
 *
 *  1. Application data travels in *streams*, byte rings the host lends with the connection, instead
 *     of chains of buffer lists.  A send request is a span of the send stream; it completes when
 * the peer has acknowledged its end.
 *  2. Queued initiates are processed when the host has re-read the capabilities after a RESUME.  A
 *     host may take such a connection back into its own stack in the meantime and write fresh state
 *     into the still unread block: a target that never resumes does no harm.
 *  3. The delegated state says how far data was sent for certain and how far perhaps.
 *
 * Threads.  All functions of one target and all host functions it calls run on one thread, the
 * target's worker.  Nothing here blocks.  A state verb only stores its tree and returns; it is
 * completed exactly once, later, by the matching completion function, never from inside the call
 * (C115 to C135).
 *
 * Ownership.  A tree of blocks belongs to the target from the verb to its completion, which hands
 * back the same root (C28).  State structures follow their block immediately in memory (C27).
 */
#ifndef CHIMNEY_TARGET_H
#define CHIMNEY_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <chimney/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct chimney_target;
struct chimney_host_ops;
struct chimney_host;
struct chimney_block;

/* ---------------------------------------------------------------------------------------------
 * Blocks (contract.md 1.3)
 */

/** Revision of every structure in this header; another revision is refused (C112). */
#define CHIMNEY_REVISION 1

/** NDIS_OBJECT_HEADER. */
struct chimney_header {
    uint8_t type;     /* enum chimney_state_type: which state structures follow (C14) */
    uint8_t revision; /* CHIMNEY_REVISION */
    uint16_t size;    /* of the structure that begins with this header */
};

/**
 * The place a target's context value is written to, in the host's own per-object memory.  Its
 * address is stable from initiate to terminate (C25).  Written only on success (C104, C105).
 */
struct chimney_cell {
    void *context;
};

/** A range of a stream, in stream positions (bytes since the stream began), [begin, end). */
struct chimney_span {
    uint64_t begin, end;
};

/** NDIS_MINIPORT_OFFLOAD_BLOCK_LIST with spans in place of buffer lists. */
struct chimney_block {
    struct chimney_header header;
    struct chimney_block *next;       /* same layer only (C15) */
    struct chimney_block *dependents; /* next layer up; NULL on a TCP block (C16) */
    chimney_status status;            /* the target writes it in every block (C17, C136) */
    uint32_t port_number;             /* 0: default port (C22) */
    struct chimney_cell *cell;        /* NULL: placeholder; empty: new; filled: reference (C18) */
    void *host_handle;                /* NdisOffloadHandle: passed back in indications (C19) */
    void *protocol_reserved[2];       /* the host's own; the target must not touch (C20) */
    void *im_reserved[2];             /* intermediate layers only (C20) */
    void *source_handle;              /* must not be modified (C20) */
    void *target_reserved[2];         /* the target's own while it holds the block (C21) */
    void *scratch[2];                 /* likewise (C21) */
    /*
     * NetBufferListChain: outstanding send data of a TCP block (C23), in positions of the send
     * stream.  Initiate: [SndUna, end of what the program wrote).  Terminate: the part that comes
     * back.  Empty when there is none.
     */
    struct chimney_span send_data;
};

/** OFFLOAD_STATE_HEADER: first member of every state structure (C26). */
struct chimney_state_header {
    uint32_t length;             /* of the whole structure */
    uint32_t recognized_options; /* reserved, 0 */
};

/* ---------------------------------------------------------------------------------------------
 * State structures (contract.md 1.5)
 */

#define CHIMNEY_MAC_BYTES 32 /* NDIS's width; Ethernet uses the first 6 */

struct chimney_neighbor_const {
    struct chimney_state_header header;
    uint8_t dl_source_address[CHIMNEY_MAC_BYTES]; /* all zero: use the port's MAC (C29) */
    uint16_t vlan_id;                             /* 0: not significant (C31) */
};
struct chimney_neighbor_cached {
    struct chimney_state_header header;
    uint8_t dl_destination_address[CHIMNEY_MAC_BYTES]; /* next hop (C32) */
    uint32_t host_reachability_delta;                  /* ticks (C33) */
};
struct chimney_neighbor_delegated {
    struct chimney_state_header header;
    uint32_t nic_reachability_delta; /* ticks (C34) */
};

struct chimney_path_const {
    struct chimney_state_header header;
    const uint8_t *source_address;      /* 4 or 16 bytes by the block's type, network order (C35) */
    const uint8_t *destination_address; /* likewise */
};
struct chimney_path_cached {
    struct chimney_state_header header;
    uint32_t path_mtu; /* bytes of IP packet (C36) */
};
struct chimney_path_delegated {
    struct chimney_state_header header; /* nothing else (C37) */
};

/** A byte ring lent with the connection; size is a power of two. */
struct chimney_stream_ring {
    uint8_t *base;
    uint32_t size;
};

/* Flags of the constant TCP state. */
#define CHIMNEY_TCP_TIMESTAMP_ENABLED 0x01u      /* C38 */
#define CHIMNEY_TCP_SACK_ENABLED 0x02u           /* C39 */
#define CHIMNEY_TCP_WINDOW_SCALING_ENABLED 0x04u /* C40 */
#define CHIMNEY_TCP_ECN_ENABLED 0x80u            /* ours */

struct chimney_tcp_const {
    struct chimney_state_header header;
    uint16_t flags;
    uint16_t remote_port, local_port; /* network byte order (C41) */
    uint8_t snd_wind_scale, rcv_wind_scale;
    uint16_t remote_mss; /* C43 */
    uint32_t hash_value; /* C44 */
    struct chimney_stream_ring send_stream, receive_stream;
};

/* Flags of the cached TCP state. */
#define CHIMNEY_TCP_KEEP_ALIVE_ENABLED 0x01u
#define CHIMNEY_TCP_NAGLING_ENABLED 0x02u
#define CHIMNEY_TCP_KEEP_ALIVE_RESTART 0x04u
#define CHIMNEY_TCP_MAX_RT_RESTART 0x08u
#define CHIMNEY_TCP_UPDATE_RCV_WND 0x10u

struct chimney_tcp_cached {
    struct chimney_state_header header;
    uint16_t flags;
    uint32_t initial_rcv_wnd;     /* bytes (C50) */
    uint32_t rcv_indication_size; /* bytes; 0: as much as possible (C51) */
    uint8_t ka_probe_count;
    uint32_t ka_timeout, ka_interval; /* ticks (C52) */
    uint32_t max_rt;                  /* ticks (C53) */
    uint32_t flow_label;              /* 20 bits (C54) */
    uint8_t ttl_or_hop_limit;         /* C55 */
    uint8_t tos_or_traffic_class;     /* C56 */
    uint8_t user_priority;            /* 3 bits (C57) */
    char congestion_algorithm[16];    /* ours: "cubic", "reno"; empty: target's choice */
    uint32_t reserved;                /* 0; the delegated state follows without a gap */
};

#define CHIMNEY_TIMER_OFF 0xFFFFFFFFu
#define CHIMNEY_BACKLOG_UNSUPPORTED 0xFFFFFFFFu

struct chimney_tcp_delegated {
    struct chimney_state_header header;
    uint32_t state; /* enum chimney_tcp_state (C58) */
    uint16_t flags; /* reserved, 0 (C59) */
    uint32_t rcv_nxt, rcv_wnd;
    uint32_t snd_una, snd_nxt, snd_max;
    uint32_t snd_max_possible; /* ours: sent perhaps up to here; >= snd_max */
    uint32_t snd_wnd, max_snd_wnd, snd_wl1;
    uint32_t cwnd, ssthresh;
    uint32_t srtt;                     /* ticks * 8 (C64); wider than NDIS's USHORT */
    uint32_t rttvar;                   /* ticks * 4 (C65) */
    uint32_t ts_recent, ts_recent_age; /* C66 */
    uint32_t ts_time; /* sending timestamp clock, in its own unit, milliseconds (C67) */
    uint32_t ts_last; /* ours: highest stamp ever sent */
    uint32_t total_rt;
    uint8_t dup_ack_count, snd_wnd_probe_count;
    uint8_t ka_probe_count, retransmit_count;
    uint32_t ka_timeout_delta, retransmit_timeout_delta; /* CHIMNEY_TIMER_OFF, 0: due (C72, C74) */
    uint32_t reordering;                                 /* ours: segments */
    uint32_t dwnd; /* NDIS 6.1, undocumented: carried, not interpreted (C79) */
    union {
        struct chimney_span send_data; /* initiate, terminate: SendDataHead/Tail (C75) */
        uint32_t send_backlog_size;    /* query (C76) */
    };
    union {
        struct chimney_span buffered_data; /* initiate, terminate: acknowledged, not yet consumed,
                                              in positions of the receive stream (C77) */
        uint32_t receive_backlog_size;     /* query (C78) */
    };
};

/* Combined structures: const, cached, delegated in this order, nothing between (C27). */
struct chimney_neighbor_state {
    struct chimney_neighbor_const constant;
    struct chimney_neighbor_cached cached;
    struct chimney_neighbor_delegated delegated;
};
struct chimney_path_state {
    struct chimney_path_const constant;
    struct chimney_path_cached cached;
    struct chimney_path_delegated delegated;
};
struct chimney_tcp_state_all {
    struct chimney_tcp_const constant;
    struct chimney_tcp_cached cached;
    struct chimney_tcp_delegated delegated;
};

/* ---------------------------------------------------------------------------------------------
 * Capabilities and parameters (contract.md 4.4)
 */

#define CHIMNEY_ENCAPSULATION_IEEE_802_3 0x02u

/** NDIS_TCP_CONNECTION_OFFLOAD.  Changes only between PAUSE and RESUME (C364). */
struct chimney_capabilities {
    struct chimney_header header;
    uint32_t encapsulation;          /* at least IEEE_802_3 (C378) */
    bool support_ipv4, support_ipv6; /* at least one (C379) */
    bool support_ipv6_extension_headers;
    bool support_sack;                         /* C381 */
    uint32_t tcp_connection_offload_capacity;  /* both families together (C382) */
    uint32_t path_capacity, neighbor_capacity; /* ours */
    uint32_t max_path_mtu;                     /* ours: above it PATH_MTU (C177) */
    uint32_t max_rcv_wnd;                      /* ours: above it TCP_RCV_WINDOW (C175) */
};

/** NDIS_TCP_CONNECTION_OFFLOAD_PARAMETERS. */
struct chimney_parameters {
    struct chimney_header header;
    uint32_t ticks_per_second; /* of every *_ticks value and delta; our host uses 1 000 000 */
    uint8_t tcp_ack_frequency;
    uint32_t tcp_delayed_ack_ticks;
    uint8_t tcp_maximum_retransmissions;
    uint8_t tcp_doubt_reachability_retransmissions;
    uint32_t tcp_sws_prevention_ticks;
    uint32_t tcp_duplicate_ack_threshold;
    uint32_t tcp_push_ticks;
    uint32_t nce_stale_ticks;
};

/** IP_OFFLOAD_STATS and TCP_OFFLOAD_STATS of one family (contract.md 4.5). */
struct chimney_statistics {
    uint64_t in_receives, in_octets, in_delivers, out_requests, out_octets;
    uint32_t in_header_errors, in_truncated_packets, in_discards, out_discards, out_no_routes;
    uint64_t in_segments, out_segments;
    uint32_t currently_established, reset_established, retransmitted_segments, in_errors,
        out_resets;
};

/* ---------------------------------------------------------------------------------------------
 * Host to target
 */

/**
 * A received frame handed back to the target (contract.md 3.8).  Frame and structure are the
 * target's until forward_complete(); the structure must be in writable memory.
 */
struct chimney_segment {
    const uint8_t *frame; /* the whole frame it came in */
    uint32_t frame_length;
    uint32_t tcp_offset;   /* the TCP header within it (C314) */
    void *target_reserved; /* the target's own until it completes */
};

struct chimney_target_ops {
    /* State verbs: store and return; completed asynchronously through chimney_host_ops. */
    void (*initiate)(struct chimney_target *, struct chimney_block *root);
    void (*query)(struct chimney_target *, struct chimney_block *root);
    void (*update)(struct chimney_target *, struct chimney_block *root);
    void (*invalidate)(struct chimney_target *, struct chimney_block *root);
    void (*terminate)(struct chimney_target *, struct chimney_block *root);

    /*
     * Data verbs; @cell is the connection's.  Always NDIS_STATUS_PENDING (C233, C255, C295).
     *
     * send: the send stream now holds data up to position @end.  Accepted always and in order; the
     *   span since the last send completes by send_complete() (C237, C238, C243).
     * receive: the program has consumed the receive stream up to @tail; room for the peer's window.
     *   There is no refusal of indications with streams, so this is also the receive return.
     * disconnect: @flags TCP_DISCONNECT_*; after all data up to the last send (C299 to C306).
     * forward: segments the host got for this connection (C314 to C324).
     */
    chimney_status (*send)(struct chimney_target *, struct chimney_cell *cell, uint64_t end);
    chimney_status (*receive)(struct chimney_target *, struct chimney_cell *cell, uint64_t tail);
    chimney_status (*disconnect)(struct chimney_target *, struct chimney_cell *cell,
                                 uint32_t flags);
    chimney_status (*forward)(struct chimney_target *, struct chimney_cell *cell,
                              const struct chimney_segment *segment);

    /**
     * What the target can do now.  After a RESUME the host's call of this function ends the pause:
     * initiates that were queued are processed then, not before (see the head comment).
     */
    void (*get_capabilities)(struct chimney_target *, struct chimney_capabilities *out);
    /** OID_TCP_CONNECTION_OFFLOAD_PARAMETERS: FAILURE if a value cannot be used, nothing changed.
     */
    chimney_status (*set_parameters)(struct chimney_target *, const struct chimney_parameters *);
    /** Counters of @family (4 or 6). */
    void (*get_statistics)(struct chimney_target *, int family, struct chimney_statistics *out);
    /** Binds the host above; once, before the first verb. */
    void (*bind)(struct chimney_target *, const struct chimney_host_ops *ops,
                 struct chimney_host *host);
};

/* ---------------------------------------------------------------------------------------------
 * Target to host
 */

struct chimney_host_ops {
    /* Completions: the same root as in the verb, a status in every block. */
    void (*initiate_complete)(struct chimney_host *, struct chimney_block *root);
    void (*query_complete)(struct chimney_host *, struct chimney_block *root);
    void (*update_complete)(struct chimney_host *, struct chimney_block *root);
    void (*invalidate_complete)(struct chimney_host *, struct chimney_block *root);
    void (*terminate_complete)(struct chimney_host *, struct chimney_block *root);

    /*
     * Completions of data verbs; @handle is the block's host_handle.
     *
     * send_complete: every send whose span ends at or before @acked is complete.  SUCCESS: the peer
     *   acknowledged up to @acked (C243, C247).  UPLOAD_IN_PROGRESS or REQUEST_ABORTED: all open
     *   sends are complete, acknowledged up to @acked and no further (C245, C246, C248, C249).
     * disconnect_complete, forward_complete: one call per request.
     */
    void (*send_complete)(struct chimney_host *, void *handle, uint64_t acked, chimney_status);
    void (*disconnect_complete)(struct chimney_host *, void *handle, chimney_status);
    void (*forward_complete)(struct chimney_host *, void *handle,
                             const struct chimney_segment *segment, chimney_status);

    /** In-order data is in the receive stream up to @head.  Never before the initiate's completion
     * has returned (C161). */
    void (*receive_indicate)(struct chimney_host *, void *handle, uint64_t head);
    /** NdisTcpOffloadEventHandler (C327): @info is bytes or an enum chimney_upload_reason. */
    void (*event)(struct chimney_host *, void *handle, enum chimney_event_type, uint32_t info);
    /** NdisMIndicateStatusEx: PAUSE, UPLOAD_ALL, RESUME (then @buffer is chimney_capabilities). */
    void (*status)(struct chimney_host *, chimney_status, const void *buffer, size_t length);
    /** NeighborReachabilityQuery (C346, C349 to C356): the answer is written into the block. */
    void (*neighbor_query)(struct chimney_host *, struct chimney_block *block);
    /** The non-offload path: a frame the target does not process (C213, C312, C325, C326). */
    void (*receive)(struct chimney_host *, int ifindex, const uint8_t *frame, uint32_t length);
};

struct chimney_target {
    const struct chimney_target_ops *ops;
    char name[32];
};

/**
 * Copies @ops and puts the default in place of every NULL entry: state verbs write FAILURE, data
 * verbs answer UPLOAD_IN_PROGRESS, queries answer "nothing".  Returns @out.
 */
struct chimney_target_ops *chimney_target_ops_init(struct chimney_target_ops *out,
                                                   const struct chimney_target_ops *ops);
/** The same for a host: completions are ignored. */
struct chimney_host_ops *chimney_host_ops_init(struct chimney_host_ops *out,
                                               const struct chimney_host_ops *ops);
/**
 * True if no entry is missing that has no honest default: the five state verbs, the four data verbs
 * and bind (C86, C87); the eight completions, receive_indicate and event (C88, C89).  A verb has to
 * be completed later and only the target has a later; a host that ignores a completion loses a
 * tree. Whoever couples a host to a target asks both and refuses.
 */
bool chimney_target_ops_complete(const struct chimney_target_ops *ops);
bool chimney_host_ops_complete(const struct chimney_host_ops *ops);

#ifdef __cplusplus
}
#endif
#endif
