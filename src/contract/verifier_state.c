/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state behind blocks, as the verifier sees it: what the host may offload, what nobody may
 * write, what a query and a terminate must have filled in.
 */
#include <string.h>

#include "contract/verifier_internal.h"

/* RFC 7323 section 2.3. */
#define MAX_WINDOW_SCALE 14
#define MAX_VLAN_ID 0xFFFu
#define MAX_FLOW_LABEL 0xFFFFFu
#define MAX_PRIORITY 7u

static uint32_t seq_distance(uint32_t from, uint32_t to)
{
    return to - from;
}

/** Bytes of sequence space beyond the data: our FIN, if this state has sent one. */
static uint32_t fin_of(uint32_t state)
{
    return state == TcpConnectionFinWait1 || state == TcpConnectionFinWait2 ||
           state == TcpConnectionClosing || state == TcpConnectionLastAck ||
           state == TcpConnectionTimeWait || state == TcpConnectionClosed;
}

/** SndUna, SndNxt, SndMax in order and inside the data that came along (C61, C181). */
static const char *check_send_sequence(const struct chimney_tcp_delegated *d,
                                       struct chimney_span data)
{
    uint32_t possible = seq_distance(d->snd_una, d->snd_max_possible);

    if (data.end < data.begin)
        return "a span of send data that ends before it begins";
    if (seq_distance(d->snd_una, d->snd_nxt) > seq_distance(d->snd_una, d->snd_max) ||
        seq_distance(d->snd_una, d->snd_max) > possible)
        return "SndUna, SndNxt and SndMax are out of order";
    if (possible > data.end - data.begin + fin_of(d->state))
        return "more was sent than the span of send data holds";
    return NULL;
}

static void check_new_tcp(struct verifier *v, struct chimney_block *block)
{
    const struct chimney_tcp_const *constant = tree_tcp_const(block);
    const struct chimney_tcp_cached *cached = tree_tcp_cached(block);
    const struct chimney_tcp_delegated *d = tree_tcp_delegated(block);
    const char *wrong;

    if (constant->snd_wind_scale > MAX_WINDOW_SCALE || constant->rcv_wind_scale > MAX_WINDOW_SCALE)
        breach(v, 42, LEDGER_HOST, "a window scale above %d", MAX_WINDOW_SCALE);
    if (cached->flow_label > MAX_FLOW_LABEL)
        breach(v, 54, LEDGER_HOST, "a flow label of more than 20 bits");
    if (cached->user_priority > MAX_PRIORITY)
        breach(v, 57, LEDGER_HOST, "a priority of more than 3 bits");
    if (!tree_tcp_state_legal(d->state))
        breach(v, 58, LEDGER_HOST, "a connection in state %s", chimney_tcp_state_name(d->state));
    if (block->send_data.begin != d->send_data.begin || block->send_data.end != d->send_data.end)
        breach(v, 75, LEDGER_HOST, "block and state name different spans of send data");
    wrong = check_send_sequence(d, block->send_data);
    if (wrong)
        breach(v, 61, LEDGER_HOST, "%s", wrong);
    if (d->buffered_data.end < d->buffered_data.begin)
        breach(v, 77, LEDGER_HOST, "a span of buffered data that ends before it begins");
}

void state_check_new(struct verifier *v, struct chimney_block *block)
{
    switch (tree_block_layer(block)) {
    case TREE_NEIGHBOR:
        if (tree_neighbor_const(block)->vlan_id > MAX_VLAN_ID)
            breach(v, 31, LEDGER_HOST, "a VLAN id of more than 12 bits");
        break;
    case TREE_PATH:
        if (!tree_path_const(block)->source_address || !tree_path_const(block)->destination_address)
            breach(v, 35, LEDGER_HOST, "a path without addresses");
        break;
    case TREE_TCP:
        check_new_tcp(v, block);
        break;
    default:
        break;
    }
}

void state_remember_cached(struct verifier_object *object, struct chimney_block *block)
{
    const uint16_t once =
        CHIMNEY_TCP_KEEP_ALIVE_RESTART | CHIMNEY_TCP_MAX_RT_RESTART | CHIMNEY_TCP_UPDATE_RCV_WND;

    switch (object->layer) {
    case TREE_NEIGHBOR:
        if (tree_neighbor_cached(block))
            object->neighbor.cached = *tree_neighbor_cached(block);
        break;
    case TREE_PATH:
        if (tree_path_cached(block))
            object->path.mtu = tree_path_cached(block)->path_mtu;
        break;
    case TREE_TCP:
        if (tree_tcp_cached(block)) {
            object->tcp.cached = *tree_tcp_cached(block);
            object->tcp.cached.flags &= (uint16_t)~once; /* requests, not values */
        }
        break;
    default:
        break;
    }
}

void state_remember(struct verifier_object *object, struct chimney_block *block)
{
    const struct chimney_tcp_delegated *d;

    switch (object->layer) {
    case TREE_NEIGHBOR:
        object->neighbor.constant = *tree_neighbor_const(block);
        break;
    case TREE_PATH:
        object->path.address_bytes = block->header.type >= Ip6OffloadConstState ? 16 : 4;
        memcpy(object->path.source, tree_path_const(block)->source_address,
               object->path.address_bytes);
        memcpy(object->path.destination, tree_path_const(block)->destination_address,
               object->path.address_bytes);
        break;
    case TREE_TCP:
        d = tree_tcp_delegated(block);
        object->tcp.constant = *tree_tcp_const(block);
        object->send_acked = block->send_data.begin;
        object->send_end = block->send_data.end;
        object->send_called = object->send_end > object->send_acked;
        object->receive_tail = d->buffered_data.begin;
        object->receive_head = d->buffered_data.end;
        object->fin_asked = fin_of(d->state);
        object->half_closed = d->state == TcpConnectionFinWait1 ||
                              d->state == TcpConnectionFinWait2 ||
                              d->state == TcpConnectionCloseWait;
        break;
    default:
        break;
    }
    state_remember_cached(object, block);
}

/** FNV-1a; never 0. */
static uint64_t digest_of(const void *from, const void *to)
{
    uint64_t digest = 0xCBF29CE484222325ull;

    for (const uint8_t *byte = from; byte < (const uint8_t *)to; byte++)
        digest = (digest ^ *byte) * 0x100000001B3ull;
    return digest ? digest : 1;
}

uint64_t state_digest(enum tree_verb verb, struct chimney_block *block)
{
    static const size_t sizes[] = {
        [TREE_NEIGHBOR] =
            sizeof(struct chimney_neighbor_const) + sizeof(struct chimney_neighbor_cached),
        [TREE_PATH] = sizeof(struct chimney_path_const) + sizeof(struct chimney_path_cached),
        [TREE_TCP] = sizeof(struct chimney_tcp_const) + sizeof(struct chimney_tcp_cached),
    };
    const uint8_t *state = (const uint8_t *)(block + 1);
    enum tree_layer layer = tree_block_layer(block);
    const void *cached = tree_neighbor_cached(block);

    if (!cached)
        cached = tree_path_cached(block);
    if (!cached)
        cached = tree_tcp_cached(block);
    if (verb == TREE_INITIATE)
        return digest_of(state, state + sizes[layer]);
    if (verb == TREE_UPDATE && cached)
        return digest_of(state, state + tree_block_size(block->header.type) - sizeof(*block));
    return 0;
}

static bool same_tcp_const(const struct chimney_tcp_const *a, const struct chimney_tcp_const *b)
{
    return a->flags == b->flags && a->remote_port == b->remote_port &&
           a->local_port == b->local_port && a->snd_wind_scale == b->snd_wind_scale &&
           a->rcv_wind_scale == b->rcv_wind_scale && a->remote_mss == b->remote_mss &&
           a->hash_value == b->hash_value && a->send_stream.base == b->send_stream.base &&
           a->send_stream.size == b->send_stream.size &&
           a->receive_stream.base == b->receive_stream.base &&
           a->receive_stream.size == b->receive_stream.size;
}

static bool same_tcp_cached(const struct chimney_tcp_cached *a, const struct chimney_tcp_cached *b)
{
    const uint16_t kept = CHIMNEY_TCP_KEEP_ALIVE_ENABLED | CHIMNEY_TCP_NAGLING_ENABLED;

    return (a->flags & kept) == (b->flags & kept) && a->initial_rcv_wnd == b->initial_rcv_wnd &&
           a->rcv_indication_size == b->rcv_indication_size &&
           a->ka_probe_count == b->ka_probe_count && a->ka_timeout == b->ka_timeout &&
           a->ka_interval == b->ka_interval && a->max_rt == b->max_rt &&
           a->flow_label == b->flow_label && a->ttl_or_hop_limit == b->ttl_or_hop_limit &&
           a->tos_or_traffic_class == b->tos_or_traffic_class &&
           a->user_priority == b->user_priority &&
           strncmp(a->congestion_algorithm, b->congestion_algorithm,
                   sizeof(a->congestion_algorithm)) == 0;
}

static void check_tcp_query(struct verifier *v, const struct verifier_object *object,
                            struct chimney_block *block)
{
    const struct chimney_tcp_const *constant = tree_tcp_const(block);
    const struct chimney_tcp_cached *cached = tree_tcp_cached(block);
    const struct chimney_tcp_delegated *d = tree_tcp_delegated(block);

    if (constant && !same_tcp_const(constant, &object->tcp.constant))
        breach(v, 4, LEDGER_TARGET, "a query returns other constant TCP state than was offloaded");
    /* An update under way may or may not have been taken over yet. */
    if (cached && !object->updates && !same_tcp_cached(cached, &object->tcp.cached))
        breach(v, 5, LEDGER_TARGET, "a query returns other cached TCP state than was last given");
    if (!d)
        return;
    if (d->flags != 0)
        breach(v, 59, LEDGER_TARGET, "a query returns reserved flags");
    if (d->state > TcpConnectionTimeWait)
        breach(v, 190, LEDGER_TARGET, "a query returns no TCP state");
}

void state_check_query(struct verifier *v, const struct verifier_object *object,
                       struct chimney_block *block)
{
    const struct chimney_neighbor_const *neighbor = tree_neighbor_const(block);
    const struct chimney_neighbor_cached *neighbor_cached = tree_neighbor_cached(block);
    const struct chimney_path_const *path = tree_path_const(block);
    const struct chimney_path_cached *path_cached = tree_path_cached(block);

    if (neighbor &&
        (neighbor->vlan_id != object->neighbor.constant.vlan_id ||
         memcmp(neighbor->dl_source_address, object->neighbor.constant.dl_source_address,
                sizeof(neighbor->dl_source_address)) != 0))
        breach(v, 4, LEDGER_TARGET, "a query returns another constant neighbor state");
    if (neighbor_cached && !object->updates &&
        memcmp(neighbor_cached->dl_destination_address,
               object->neighbor.cached.dl_destination_address,
               sizeof(neighbor_cached->dl_destination_address)) != 0)
        breach(v, 5, LEDGER_TARGET, "a query returns another next hop than was last given");
    if (path &&
        (memcmp(path->source_address, object->path.source, object->path.address_bytes) != 0 ||
         memcmp(path->destination_address, object->path.destination, object->path.address_bytes) !=
             0))
        breach(v, 4, LEDGER_TARGET, "a query returns other addresses than were offloaded");
    if (path_cached && !object->updates && path_cached->path_mtu != object->path.mtu)
        breach(v, 5, LEDGER_TARGET, "a query returns another path MTU than was last given");
    if (object->layer == TREE_TCP)
        check_tcp_query(v, object, block);
}

void state_poison(struct chimney_block *block)
{
    struct chimney_neighbor_delegated *neighbor = tree_neighbor_delegated(block);
    struct chimney_tcp_delegated *tcp = tree_tcp_delegated(block);

    if (neighbor)
        neighbor->nic_reachability_delta = VERIFIER_POISON_U32;
    if (tcp) {
        memset((uint8_t *)tcp + sizeof(tcp->header), VERIFIER_POISON_BYTE,
               sizeof(*tcp) - sizeof(tcp->header));
        block->send_data = tcp->send_data;
    }
}

/** The first 32-bit variable that still holds the poison, or NULL. */
static const char *poisoned_field(const struct chimney_tcp_delegated *d)
{
    const struct {
        uint32_t value;
        const char *name;
    } fields[] = {
        {d->state, "State"},
        {d->rcv_nxt, "RcvNxt"},
        {d->rcv_wnd, "RcvWnd"},
        {d->snd_una, "SndUna"},
        {d->snd_nxt, "SndNxt"},
        {d->snd_max, "SndMax"},
        {d->snd_max_possible, "SndMaxPossible"},
        {d->snd_wnd, "SndWnd"},
        {d->max_snd_wnd, "MaxSndWnd"},
        {d->snd_wl1, "SendWL1"},
        {d->cwnd, "CWnd"},
        {d->ssthresh, "SsThresh"},
        {d->srtt, "SRtt"},
        {d->rttvar, "RttVar"},
        {d->ts_recent, "TsRecent"},
        {d->ts_recent_age, "TsRecentAge"},
        {d->ts_time, "TsTime"},
        {d->ts_last, "TsLast"},
        {d->total_rt, "TotalRT"},
        {d->ka_timeout_delta, "KeepAlive.TimeoutDelta"},
        {d->retransmit_timeout_delta, "Retransmit.TimeoutDelta"},
        {d->reordering, "Reordering"},
        {d->dwnd, "DWnd"},
    };

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (fields[i].value == VERIFIER_POISON_U32)
            return fields[i].name;
    }
    /* Four counts of one byte: all of them at the poison is no chance. */
    if (d->dup_ack_count == VERIFIER_POISON_BYTE &&
        d->snd_wnd_probe_count == VERIFIER_POISON_BYTE &&
        d->ka_probe_count == VERIFIER_POISON_BYTE && d->retransmit_count == VERIFIER_POISON_BYTE)
        return "the counts";
    return NULL;
}

static void check_tcp_terminate(struct verifier *v, const struct verifier_object *object,
                                struct chimney_block *block)
{
    const struct chimney_tcp_delegated *d = tree_tcp_delegated(block);
    const char *wrong = poisoned_field(d);

    if (wrong) {
        breach(v, 228, LEDGER_TARGET, "a terminate succeeds and leaves %s out", wrong);
        return;
    }
    if (d->flags != 0)
        breach(v, 59, LEDGER_TARGET, "a terminate returns reserved flags");
    if (d->state > TcpConnectionTimeWait)
        breach(v, 228, LEDGER_TARGET, "a terminate returns no TCP state");
    if (block->send_data.begin != d->send_data.begin || block->send_data.end != d->send_data.end)
        breach(v, 222, LEDGER_TARGET, "block and state hand back different spans of send data");
    if (block->send_data.end == block->send_data.begin) {
        if (block->send_data.begin != 0)
            breach(v, 223, LEDGER_TARGET, "an empty span of send data that is not [0, 0)");
    } else if (block->send_data.begin < object->send_acked ||
               block->send_data.end > object->send_end) {
        breach(v, 222, LEDGER_TARGET, "send data is handed back that was not given");
    }
    wrong = check_send_sequence(d, block->send_data);
    if (wrong && !object->aborted && !object->abort_asked)
        breach(v, 222, LEDGER_TARGET, "%s", wrong);
    if (d->buffered_data.begin == 0 && d->buffered_data.end == 0 &&
        object->receive_head == object->receive_tail)
        return; /* "none" may also be said so */
    if (d->buffered_data.end < d->buffered_data.begin ||
        d->buffered_data.begin < object->receive_tail ||
        d->buffered_data.end < object->receive_head ||
        d->buffered_data.end - d->buffered_data.begin > object->tcp.constant.receive_stream.size)
        breach(v, 220, LEDGER_TARGET,
               "buffered data does not begin where the host stopped reading");
}

void state_check_terminate(struct verifier *v, const struct verifier_object *object,
                           struct chimney_block *block)
{
    const struct chimney_neighbor_delegated *neighbor = tree_neighbor_delegated(block);

    if (neighbor && neighbor->nic_reachability_delta == VERIFIER_POISON_U32)
        breach(v, 228, LEDGER_TARGET, "a terminate succeeds and leaves NicReachabilityDelta out");
    if (object->layer == TREE_TCP)
        check_tcp_terminate(v, object, block);
}
