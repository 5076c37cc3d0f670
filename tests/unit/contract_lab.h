/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract in earnest: a host, the verifier and the software target at each end of a simulated
 * link, in virtual time, with every frame on the wire on record.
 *
 * End 0 is the one under test.  End 1 is a second software target where a test wants a peer that
 * answers, and silent where the test plays the peer itself with lab_peer_*().
 */
#ifndef CHIMNEY_TEST_CONTRACT_LAB_H
#define CHIMNEY_TEST_CONTRACT_LAB_H

#include "contract_host.h"
#include "port/sim.h"
#include "target/target.h"
#include "wire/wire.h"

#define LAB_RING (1u << 18)
#define LAB_MTU 1500u
#define LAB_PAIRS 160
#define LAB_MSEC 1000000ull
#define LAB_SEC 1000000000ull
/** Ticks of our hosts: microseconds. */
#define LAB_TICKS_PER_SECOND 1000000u

/** One frame that was put on the wire. */
struct lab_frame {
    uint64_t time;
    int end; /* that sent it */
    enum wire_status status;
    struct wire_packet packet; /* points into data */
    uint8_t *data;
    uint32_t length;
};

struct lab_side {
    struct chimney_target *target; /* the software target */
    struct chimney_target *top;    /* what the host speaks to */
    struct host host;
    struct findings found;
    struct target_config config;
    struct host_neighbor neighbor;
    struct host_path path4, path6;
    /* Fault injection: the next @fault_left blocks of @fault_layer fail with this. */
    enum target_fault fault;
    enum tree_layer fault_layer;
    int fault_skip, fault_left;
    const struct host_object *rejected;
};

/** A connection with its two ends. */
struct lab_pair {
    struct host_conn conn[2];
};

struct lab {
    struct sim_link *link;
    struct lab_side side[2];
    uint64_t now;
    struct lab_frame *frames;
    size_t frame_count, frame_size;
    struct lab_pair *pairs[LAB_PAIRS];
    int pair_count;
    bool bare; /* no verifier between */
};

/** Both targets with the same limits; @config may be NULL.  1 ms each way. */
void lab_init(struct lab *lab, const struct target_config *config);
/** The same with a link of @mtu, with or without the verifier. */
void lab_init_with(struct lab *lab, const struct target_config *config, uint32_t mtu, bool bare);
/**
 * Terminates what is still offloaded, destroys everything and fails if the verifier found a breach
 * or a leak, or a byte of a stream was wrong.
 */
void lab_free(struct lab *lab);

/** A connection of both ends, ready to be offloaded; owned by the lab. */
struct lab_pair *lab_pair(struct lab *lab, int family);
/** Offloads the connection at one end, or at both, and runs until that is done. */
struct host_tree *lab_offload(struct lab *lab, int end, struct lab_pair *pair);
void lab_offload_both(struct lab *lab, struct lab_pair *pair);
/** A pair that is offloaded at both ends. */
struct lab_pair *lab_connect(struct lab *lab, int family);
/** A pair of which end 0 is offloaded and end 1 is the test. */
struct lab_pair *lab_connect_half(struct lab *lab, int family);
struct host_tree *lab_terminate(struct lab *lab, int end, struct host_object *object);
struct host_tree *lab_query(struct lab *lab, int end, enum chimney_state_type type,
                            struct host_object *object);
struct host_tree *lab_update(struct lab *lab, int end, struct host_object *object);
struct host_tree *lab_invalidate(struct lab *lab, int end, struct host_object *object);
/** Writes back what a terminate returned, so that the connection can be offloaded again. */
void lab_take_back(struct host_conn *conn, const struct host_tree *tree);
/** Query of the delegated state; valid until the lab is freed. */
const struct chimney_tcp_delegated *lab_state(struct lab *lab, int end, struct host_conn *conn);

/** The target at @end asks for the connection back. */
void lab_retrieve(struct lab *lab, int end, struct host_conn *conn,
                  enum chimney_upload_reason reason);
/** The reason of the last retrieve the host was told for the connection, or CHIMNEY_REASON_NONE. */
uint32_t lab_retrieved(const struct lab *lab, int end, const struct host_conn *conn);
/** Sends @bytes at one end. */
void lab_send(struct lab *lab, int end, struct lab_pair *pair, uint32_t bytes);
/** Runs for @ns of virtual time, or one round without time passing. */
void lab_run(struct lab *lab, uint64_t ns);
void lab_round(struct lab *lab);
/** Runs until nothing is left to send and everything is acknowledged, @ns at most. */
void lab_settle(struct lab *lab, uint64_t ns);
void lab_set_parameters(struct lab *lab, const struct chimney_parameters *parameters);
void lab_parameters_default(struct chimney_parameters *parameters);

/* ---- the wire -------------------------------------------------------------------------------- */

/** A place in the record: frames from here on. */
static inline size_t lab_mark(const struct lab *lab)
{
    return lab->frame_count;
}

/** TCP frames of @end since @from, with payload only if @data. */
size_t lab_count(const struct lab *lab, size_t from, int end, bool data);
/** First (or with @last the last) such frame, or NULL. */
const struct lab_frame *lab_first(const struct lab *lab, size_t from, int end, bool data);
const struct lab_frame *lab_last(const struct lab *lab, size_t from, int end, bool data);

/* ---- the test as peer of end 0 -----------------------------------------------------------------
 */

/** A segment as the peer of @conn (at end 0) would send it now; fields may be changed before use.
 */
struct lab_segment {
    struct wire_route route;
    struct tcp_out seg;
};
struct lab_segment lab_peer(const struct lab *lab, struct lab_pair *pair);
/** Puts it on the wire at end 1; @bytes of the pattern from seg.seq on as payload. */
void lab_peer_send(struct lab *lab, struct lab_pair *pair, struct lab_segment *s, uint32_t bytes);
/** Any frame, as it is, from end 1. */
void lab_put(struct lab *lab, const uint8_t *frame, uint32_t length);
/** An acknowledgement of everything up to @ack with @window (raw). */
void lab_peer_ack(struct lab *lab, struct lab_pair *pair, uint32_t ack, uint16_t window);
/** Data: @bytes from sequence number @seq, in segments of LAB_PEER_MSS. */
#define LAB_PEER_MSS 1408u
void lab_peer_data(struct lab *lab, struct lab_pair *pair, uint32_t seq, uint32_t bytes);

#endif
