/* SPDX-License-Identifier: Apache-2.0 */
#include "contract_lab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define LATENCY LAB_MSEC
/** Rounds in which nothing may be left to do before time moves on. */
#define MAX_ROUNDS 200

static void tap(void *arg, int end, const uint8_t *frame, uint32_t length, uint64_t now)
{
    struct lab *lab = arg;
    struct lab_frame *f;

    if (lab->frame_count == lab->frame_size) {
        lab->frame_size = lab->frame_size ? 2 * lab->frame_size : 1024;
        lab->frames = realloc(lab->frames, lab->frame_size * sizeof(*lab->frames));
        assert_non_null(lab->frames);
    }
    f = &lab->frames[lab->frame_count++];
    f->time = now;
    f->end = end;
    f->data = malloc(length);
    f->length = length;
    memcpy(f->data, frame, length);
    f->status = wire_parse(f->data, f->length, false, &f->packet);
}

static bool fault(void *arg, enum target_fault what, struct chimney_block *block)
{
    struct lab_side *side = arg;

    if (!side->fault_left || what != side->fault || tree_block_layer(block) != side->fault_layer)
        return false;
    if (side->fault_skip) {
        side->fault_skip--;
        return false;
    }
    side->fault_left--;
    return true;
}

/** Policy hook: the block's constant state says which connection it is. */
static bool reject(void *arg, struct chimney_block *block)
{
    const struct lab_side *side = arg;
    const struct host_conn *c = (const struct host_conn *)side->rejected;

    return c && tree_tcp_const(block)->local_port == c->constant.local_port;
}

void lab_parameters_default(struct chimney_parameters *p)
{
    *p = (struct chimney_parameters){
        .header = {0, CHIMNEY_REVISION, sizeof(*p)},
        .ticks_per_second = LAB_TICKS_PER_SECOND,
        .tcp_ack_frequency = 2,
        .tcp_delayed_ack_ticks = 40000,
        .tcp_maximum_retransmissions = 15,
        .tcp_doubt_reachability_retransmissions = 3,
        .tcp_sws_prevention_ticks = 200000,
        .tcp_duplicate_ack_threshold = 3,
        .tcp_push_ticks = 0,
        .nce_stale_ticks = 0,
    };
}

static void side_init(struct lab *lab, int end, const struct target_config *config)
{
    struct lab_side *side = &lab->side[end];
    struct port *port = sim_link_port(lab->link, end);

    if (config)
        side->config = *config;
    side->config.fault = fault;
    side->config.reject = reject;
    side->config.arg = side;
    side->config.hash_seed = 1;
    if (!side->config.max_connections)
        side->config.max_connections = 256;
    if (!side->config.max_paths)
        side->config.max_paths = 64;
    if (!side->config.max_neighbors)
        side->config.max_neighbors = 64;
    side->target = target_create(&side->config, port);
    assert_non_null(side->target);
    side->top =
        lab->bare ? side->target : verifier_create(side->target, findings_report, &side->found);
    assert_non_null(side->top);
    host_init(&side->host, side->top);
    host_read_capabilities(&side->host);
    host_neighbor_init(&side->neighbor, sim_link_port(lab->link, 1 - end)->caps.mac);
    host_path_init(&side->path4, &side->neighbor, 4, end + 1, 2 - end);
    host_path_init(&side->path6, &side->neighbor, 6, end + 1, 2 - end);
    side->path4.mtu = side->path6.mtu = side->host.capabilities.max_path_mtu;
}

void lab_init_with(struct lab *lab, const struct target_config *config, uint32_t mtu, bool bare)
{
    const struct sim_impair impair = {.latency_ns = LATENCY};
    struct chimney_parameters parameters;

    memset(lab, 0, sizeof(*lab));
    lab->bare = bare;
    lab->link = sim_link_create(1, mtu, &impair, &impair);
    assert_non_null(lab->link);
    sim_link_set_tap(lab->link, tap, lab);
    side_init(lab, 0, config);
    side_init(lab, 1, config);
    lab_parameters_default(&parameters);
    lab_set_parameters(lab, &parameters);
    lab_run(lab, LAB_SEC);
}

void lab_init(struct lab *lab, const struct target_config *config)
{
    lab_init_with(lab, config, LAB_MTU, false);
}

void lab_set_parameters(struct lab *lab, const struct chimney_parameters *parameters)
{
    for (int end = 0; end < 2; end++) {
        struct chimney_target *top = lab->side[end].top;

        assert_int_equal(top->ops->set_parameters(top, parameters), NDIS_STATUS_SUCCESS);
    }
}

static void side_terminate_all(struct lab *lab, int end)
{
    struct lab_side *side = &lab->side[end];
    struct host_object *rest[LAB_PAIRS + 3];
    int count = 0;

    if (side->neighbor.object.state == CHIMNEY_OFFLOADED)
        rest[count++] = &side->neighbor.object;
    if (side->path4.object.state == CHIMNEY_OFFLOADED)
        rest[count++] = &side->path4.object;
    if (side->path6.object.state == CHIMNEY_OFFLOADED)
        rest[count++] = &side->path6.object;
    for (int i = 0; i < lab->pair_count; i++) {
        if (lab->pairs[i]->conn[end].object.state == CHIMNEY_OFFLOADED)
            rest[count++] = &lab->pairs[i]->conn[end].object;
    }
    if (count)
        host_terminate(&side->host, rest, count);
}

void lab_free(struct lab *lab)
{
    int wrong = 0;

    side_terminate_all(lab, 0);
    side_terminate_all(lab, 1);
    lab_round(lab);
    for (int end = 0; end < 2; end++) {
        struct lab_side *side = &lab->side[end];
        struct target_info info;

        target_get_info(side->target, &info);
        assert_int_equal(info.connections, 0);
        assert_int_equal(info.paths, 0);
        assert_int_equal(info.neighbors, 0);
        target_destroy(side->target);
        if (!lab->bare)
            verifier_destroy(side->top);
        for (int i = 0; i < side->found.count && i < MAX_FINDINGS; i++)
            print_message("C%d broken by the %s at end %d: %s\n", side->found.row[i],
                          side->found.who[i], end, side->found.line[i]);
        wrong += side->found.count;
        host_free(&side->host);
    }
    for (int i = 0; i < lab->pair_count; i++) {
        assert_int_equal(lab->pairs[i]->conn[0].mismatches, 0);
        assert_int_equal(lab->pairs[i]->conn[1].mismatches, 0);
        host_conn_free(&lab->pairs[i]->conn[0]);
        host_conn_free(&lab->pairs[i]->conn[1]);
        free(lab->pairs[i]);
    }
    for (size_t i = 0; i < lab->frame_count; i++)
        free(lab->frames[i].data);
    free(lab->frames);
    sim_link_destroy(lab->link);
    assert_int_equal(wrong, 0);
}

/* ---- time ------------------------------------------------------------------------------------ */

void lab_round(struct lab *lab)
{
    bool busy = true;

    sim_link_advance(lab->link, lab->now);
    for (int i = 0; busy && i < MAX_ROUNDS; i++) {
        busy = false;
        for (int end = 0; end < 2; end++) {
            lab->side[end].host.now = lab->now;
            busy |= target_poll(lab->side[end].target, lab->now);
        }
        sim_link_advance(lab->link, lab->now);
    }
    assert_false(busy);
}

void lab_run(struct lab *lab, uint64_t ns)
{
    uint64_t end = lab->now + ns;

    for (;;) {
        uint64_t next = sim_link_next(lab->link);

        lab_round(lab);
        next = sim_link_next(lab->link);
        for (int i = 0; i < 2; i++) {
            uint64_t due = target_next_timeout(lab->side[i].target);

            next = due < next ? due : next;
        }
        if (next > end)
            break;
        /* A deadline in the past: a timer that is early; let a microsecond go by. */
        lab->now = next > lab->now ? next : lab->now + 1000;
        if (lab->now > end)
            break;
    }
    lab->now = end;
    lab_round(lab);
}

void lab_settle(struct lab *lab, uint64_t ns)
{
    for (uint64_t end = lab->now + ns; lab->now < end;) {
        bool open = false;

        lab_run(lab, 10 * LAB_MSEC);
        for (int i = 0; i < lab->pair_count; i++) {
            for (int e = 0; e < 2; e++) {
                const struct host_conn *c = &lab->pairs[i]->conn[e];

                open |= c->object.state == CHIMNEY_OFFLOADED && c->acked < c->written;
            }
        }
        if (!open)
            return;
    }
    fail_msg("data is still open");
}

/* ---- connections ----------------------------------------------------------------------------- */

struct lab_pair *lab_pair(struct lab *lab, int family)
{
    struct lab_pair *pair = calloc(1, sizeof(*pair));
    struct host_conn *a = &pair->conn[0], *b = &pair->conn[1];
    uint16_t port = (uint16_t)(40000 + lab->pair_count);

    assert_true(lab->pair_count < LAB_PAIRS);
    host_conn_init(a, family == 4 ? &lab->side[0].path4 : &lab->side[0].path6, port, 80, LAB_RING);
    host_conn_init(b, family == 4 ? &lab->side[1].path4 : &lab->side[1].path6, 80, port, LAB_RING);
    b->delegated.rcv_nxt = a->delegated.snd_una;
    b->delegated.snd_wl1 = a->delegated.snd_una - 1;
    b->delegated.snd_una = b->delegated.snd_nxt = b->delegated.snd_max = a->delegated.rcv_nxt;
    b->delegated.snd_max_possible = b->delegated.snd_una;
    b->delegated.ts_time = a->delegated.ts_recent;
    b->delegated.ts_last = a->delegated.ts_recent;
    b->delegated.ts_recent = a->delegated.ts_last;
    a->pattern_out = b->pattern_in = 1000u * (unsigned)lab->pair_count + 1;
    b->pattern_out = a->pattern_in = 1000u * (unsigned)lab->pair_count + 2;
    lab->pairs[lab->pair_count++] = pair;
    return pair;
}

struct host_tree *lab_offload(struct lab *lab, int end, struct lab_pair *pair)
{
    struct host_conn *c = &pair->conn[end];
    struct host_tree *t = host_offload(&lab->side[end].host, &c, 1);

    lab_round(lab);
    assert_true(t->done);
    return t;
}

void lab_offload_both(struct lab *lab, struct lab_pair *pair)
{
    for (int end = 0; end < 2; end++) {
        lab_offload(lab, end, pair);
        assert_int_equal(pair->conn[end].object.state, CHIMNEY_OFFLOADED);
    }
}

struct lab_pair *lab_connect(struct lab *lab, int family)
{
    struct lab_pair *pair = lab_pair(lab, family);

    lab_offload_both(lab, pair);
    return pair;
}

struct lab_pair *lab_connect_half(struct lab *lab, int family)
{
    struct lab_pair *pair = lab_pair(lab, family);

    lab_offload(lab, 0, pair);
    assert_int_equal(pair->conn[0].object.state, CHIMNEY_OFFLOADED);
    return pair;
}

static struct host_tree *finished(struct lab *lab, struct host_tree *t)
{
    lab_round(lab);
    assert_true(t->done);
    return t;
}

struct host_tree *lab_terminate(struct lab *lab, int end, struct host_object *object)
{
    return finished(lab, host_terminate(&lab->side[end].host, &object, 1));
}

struct host_tree *lab_query(struct lab *lab, int end, enum chimney_state_type type,
                            struct host_object *object)
{
    return finished(lab, host_query(&lab->side[end].host, type, object));
}

struct host_tree *lab_update(struct lab *lab, int end, struct host_object *object)
{
    return finished(lab, host_update(&lab->side[end].host, object));
}

struct host_tree *lab_invalidate(struct lab *lab, int end, struct host_object *object)
{
    return finished(lab, host_invalidate(&lab->side[end].host, object));
}

const struct chimney_tcp_delegated *lab_state(struct lab *lab, int end, struct host_conn *conn)
{
    struct host_tree *t = lab_query(lab, end, TcpOffloadDelegatedState, &conn->object);

    assert_int_equal(t->block[0]->status, NDIS_STATUS_SUCCESS);
    return tree_tcp_delegated(t->block[0]);
}

/** Moves [begin, end) of a ring to its start: streams begin at position 0 at an initiate. */
static void rebase(const struct chimney_stream_ring *ring, uint64_t begin, uint64_t end)
{
    uint8_t *copy = malloc(ring->size);

    for (uint64_t at = begin; at < end; at++)
        copy[at - begin] = ring->base[at & (ring->size - 1)];
    memcpy(ring->base, copy, ring->size);
    free(copy);
}

void lab_take_back(struct host_conn *c, const struct host_tree *tree)
{
    const struct chimney_tcp_delegated *d = NULL;
    struct chimney_span send, buffered;

    for (int i = 0; i < tree->count; i++) {
        if (tree->object[i] == &c->object)
            d = tree_tcp_delegated(tree->block[i]);
    }
    assert_non_null(d);
    send = d->send_data;
    if (send.begin == send.end)
        send = (struct chimney_span){c->written, c->written}; /* everything is acknowledged */
    buffered = d->buffered_data;
    send.end = c->written; /* what the target refused is in the stream as well */
    rebase(&c->constant.send_stream, send.begin, send.end);
    rebase(&c->constant.receive_stream, buffered.begin, buffered.end);
    c->base_out += send.begin;
    c->base_in += buffered.begin;
    c->written = send.end - send.begin;
    c->acked = 0;
    c->head = buffered.end - buffered.begin;
    c->tail = 0;
}

void lab_retrieve(struct lab *lab, int end, struct host_conn *conn,
                  enum chimney_upload_reason reason)
{
    struct lab_side *side = &lab->side[end];
    struct chimney_cell *cell =
        lab->bare ? &conn->object.cell : verifier_cell_below(side->top, &conn->object.cell);

    target_retrieve(side->target, cell, reason);
    lab_round(lab);
}

uint32_t lab_retrieved(const struct lab *lab, int end, const struct host_conn *conn)
{
    const struct host *h = &lab->side[end].host;

    for (size_t i = h->log_count; i-- > 0;) {
        if (h->log[i].kind == LOG_EVENT && h->log[i].what == conn &&
            h->log[i].status == TcpIndicateRetrieve)
            return (uint32_t)h->log[i].value;
    }
    return CHIMNEY_REASON_NONE;
}

void lab_send(struct lab *lab, int end, struct lab_pair *pair, uint32_t bytes)
{
    assert_int_equal(host_send(&lab->side[end].host, &pair->conn[end], bytes), NDIS_STATUS_PENDING);
    lab_round(lab);
}

/* ---- the wire -------------------------------------------------------------------------------- */

static bool wanted(const struct lab_frame *f, int end, bool data)
{
    return f->end == end && f->status == WIRE_OK && (!data || f->packet.seg.len > 0);
}

size_t lab_count(const struct lab *lab, size_t from, int end, bool data)
{
    size_t count = 0;

    for (size_t i = from; i < lab->frame_count; i++)
        count += wanted(&lab->frames[i], end, data);
    return count;
}

const struct lab_frame *lab_first(const struct lab *lab, size_t from, int end, bool data)
{
    for (size_t i = from; i < lab->frame_count; i++) {
        if (wanted(&lab->frames[i], end, data))
            return &lab->frames[i];
    }
    return NULL;
}

const struct lab_frame *lab_last(const struct lab *lab, size_t from, int end, bool data)
{
    for (size_t i = lab->frame_count; i-- > from;) {
        if (wanted(&lab->frames[i], end, data))
            return &lab->frames[i];
    }
    return NULL;
}

/* ---- the test as peer ------------------------------------------------------------------------ */

struct lab_segment lab_peer(const struct lab *lab, struct lab_pair *pair)
{
    const struct host_conn *c = &pair->conn[0];
    const struct host_path *p = (const struct host_path *)c->object.parent;
    const struct lab_frame *last = lab_last(lab, 0, 0, false);
    struct lab_segment s;

    memset(&s, 0, sizeof(s));
    s.route.key.family = (uint16_t)p->family;
    memcpy(s.route.key.local_addr, p->destination, 16);
    memcpy(s.route.key.remote_addr, p->source, 16);
    s.route.key.local_port = c->constant.remote_port;
    s.route.key.remote_port = c->constant.local_port;
    memcpy(s.route.src_mac, sim_link_port(lab->link, 1)->caps.mac, 6);
    memcpy(s.route.dst_mac, sim_link_port(lab->link, 0)->caps.mac, 6);
    s.route.ttl = 64;
    s.seg.seq = c->delegated.rcv_nxt + (uint32_t)(c->head - c->head_at_offload);
    s.seg.ack = c->delegated.snd_una;
    s.seg.flags = TCP_ACK;
    s.seg.window = 0xFFFF;
    if (c->constant.flags & CHIMNEY_TCP_TIMESTAMP_ENABLED) {
        s.seg.has_timestamp = true;
        s.seg.tsval = c->delegated.ts_recent + (uint32_t)(lab->now / LAB_MSEC);
        s.seg.tsecr =
            last && last->packet.seg.has_timestamp ? last->packet.seg.tsval : c->delegated.ts_last;
    }
    return s;
}

void lab_put(struct lab *lab, const uint8_t *frame, uint32_t length)
{
    struct port *port = sim_link_port(lab->link, 1);
    uint8_t *room = port_tx_reserve(port);

    assert_non_null(room);
    assert_true(length <= port->caps.max_frame);
    memcpy(room, frame, length);
    port_tx_commit(port, length, 0);
    port_tx_flush(port);
}

void lab_peer_send(struct lab *lab, struct lab_pair *pair, struct lab_segment *s, uint32_t bytes)
{
    const struct host_conn *c = &pair->conn[0];
    uint8_t payload[65536], frame[65536 + WIRE_MAX_HEADER];
    size_t length;

    assert_true(bytes <= sizeof(payload));
    for (uint32_t i = 0; i < bytes; i++)
        payload[i] = host_byte(c->pattern_in, c->base_in + c->head_at_offload +
                                                  (s->seg.seq - c->delegated.rcv_nxt) + i);
    s->seg.span[0] = payload;
    s->seg.span_len[0] = s->seg.len = bytes;
    length = wire_build(frame, sizeof(frame), &s->route, &s->seg, false);
    assert_true(length > 0);
    lab_put(lab, frame, (uint32_t)length);
}

void lab_peer_ack(struct lab *lab, struct lab_pair *pair, uint32_t ack, uint16_t window)
{
    struct lab_segment s = lab_peer(lab, pair);

    s.seg.ack = ack;
    s.seg.window = window;
    lab_peer_send(lab, pair, &s, 0);
}

void lab_peer_data(struct lab *lab, struct lab_pair *pair, uint32_t seq, uint32_t bytes)
{
    while (bytes) {
        struct lab_segment s = lab_peer(lab, pair);
        uint32_t part = bytes < LAB_PEER_MSS ? bytes : LAB_PEER_MSS;

        s.seg.seq = seq;
        lab_peer_send(lab, pair, &s, part);
        seq += part;
        bytes -= part;
    }
}
