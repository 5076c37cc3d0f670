/* SPDX-License-Identifier: Apache-2.0 */
#include "contract_host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- the log --------------------------------------------------------------------------------- */

static const struct log_entry *append(struct host *h, struct log_entry entry)
{
    if (h->log_count == h->log_size) {
        h->log_size = h->log_size ? 2 * h->log_size : 256;
        h->log = realloc(h->log, h->log_size * sizeof(*h->log));
        assert_non_null(h->log);
    }
    entry.time = h->now;
    h->log[h->log_count] = entry;
    return &h->log[h->log_count++];
}

/** An up-call is logged, and then the test may do from inside what a host does. */
static void came_up(struct host *h, struct log_entry entry)
{
    entry = *append(h, entry);
    if (h->inside)
        h->inside(h, &entry);
}

const struct log_entry *host_find(const struct host *h, size_t from, enum log_kind kind,
                                  const void *what)
{
    for (size_t i = from; i < h->log_count; i++) {
        if (h->log[i].kind == kind && (!what || h->log[i].what == what))
            return &h->log[i];
    }
    return NULL;
}

const struct log_entry *host_last(const struct host *h, enum log_kind kind, const void *what)
{
    for (size_t i = h->log_count; i-- > 0;) {
        if (h->log[i].kind == kind && (!what || h->log[i].what == what))
            return &h->log[i];
    }
    return NULL;
}

size_t host_count(const struct host *h, size_t from, enum log_kind kind, const void *what)
{
    size_t count = 0;

    for (size_t i = from; i < h->log_count; i++)
        count += h->log[i].kind == kind && (!what || h->log[i].what == what);
    return count;
}

/* ---- up-calls -------------------------------------------------------------------------------- */

static struct host *host_of(struct chimney_host *host)
{
    return (struct host *)host;
}

static struct host_tree *tree_of(struct host *h, const struct chimney_block *root)
{
    for (struct host_tree *t = h->trees; t; t = t->next) {
        if (t->under_way && t->root == root)
            return t;
    }
    return NULL;
}

/** Bytes of a block in this tree: an invalidate's carry no state at all (C204). */
static size_t block_bytes(const struct host_tree *t, enum chimney_state_type type)
{
    return t->verb == TREE_INVALIDATE ? sizeof(struct chimney_block) : tree_block_size(type);
}

/** The tree is ours again: copy it, scribble over the originals, free them. */
static void take_back(struct host_tree *t)
{
    for (int i = 0; i < t->count; i++) {
        struct chimney_block *original = t->block[i];
        size_t size = block_bytes(t, original->header.type);

        t->block[i] = malloc(size);
        memcpy(t->block[i], original, size);
        memset(original, 0xDD, size);
        free(original);
    }
    t->under_way = false;
    t->done = true;
}

/** What the completion means for the objects of the tree. */
static void take_over(struct host_tree *t)
{
    for (int i = 0; i < t->count; i++) {
        struct host_object *object = t->object[i];
        const struct chimney_tcp_delegated *d = tree_tcp_delegated(t->block[i]);

        if (!object)
            continue;
        if (t->verb == TREE_INITIATE && object->state == CHIMNEY_OFFLOADING)
            object->state = object->cell.context ? CHIMNEY_OFFLOADED : CHIMNEY_IN_HOST;
        if (t->verb != TREE_TERMINATE)
            continue;
        object->cell.context = NULL;
        object->state = CHIMNEY_IN_HOST;
        if (object->layer == TREE_TCP && d && t->block[i]->status == NDIS_STATUS_SUCCESS)
            ((struct host_conn *)object)->delegated = *d;
    }
}

static void done(struct host *h, enum tree_verb verb, struct chimney_block *root)
{
    struct host_tree *t = tree_of(h, root);

    if (t) {
        assert_int_equal(t->verb, verb);
        t->completions++;
        take_back(t);
        take_over(t);
    }
    came_up(h, (struct log_entry){.kind = LOG_DONE, .verb = verb, .what = root});
}

static void initiate_complete(struct chimney_host *h, struct chimney_block *root)
{
    done(host_of(h), TREE_INITIATE, root);
}

static void query_complete(struct chimney_host *h, struct chimney_block *root)
{
    done(host_of(h), TREE_QUERY, root);
}

static void update_complete(struct chimney_host *h, struct chimney_block *root)
{
    done(host_of(h), TREE_UPDATE, root);
}

static void invalidate_complete(struct chimney_host *h, struct chimney_block *root)
{
    done(host_of(h), TREE_INVALIDATE, root);
}

static void terminate_complete(struct chimney_host *h, struct chimney_block *root)
{
    done(host_of(h), TREE_TERMINATE, root);
}

static void send_complete(struct chimney_host *h, void *handle, uint64_t acked,
                          chimney_status status)
{
    struct host_conn *c = handle;

    c->acked = acked;
    came_up(host_of(h),
            (struct log_entry){.kind = LOG_SENT, .what = handle, .value = acked, .status = status});
}

static void disconnect_complete(struct chimney_host *h, void *handle, chimney_status status)
{
    came_up(host_of(h),
            (struct log_entry){.kind = LOG_DISCONNECTED, .what = handle, .status = status});
}

static void forward_complete(struct chimney_host *h, void *handle,
                             const struct chimney_segment *segment, chimney_status status)
{
    came_up(host_of(h), (struct log_entry){.kind = LOG_FORWARDED,
                                           .what = handle,
                                           .value = (uintptr_t)segment,
                                           .status = status});
}

/** Compares what is new in the receive stream with what the peer must have sent. */
static void look_at(struct host_conn *c, uint64_t head)
{
    const struct chimney_stream_ring *ring = &c->constant.receive_stream;

    for (uint64_t at = c->head; at < head; at++)
        c->mismatches +=
            ring->base[at & (ring->size - 1)] != host_byte(c->pattern_in, c->base_in + at);
    c->head = head;
}

static void receive_indicate(struct chimney_host *h, void *handle, uint64_t head)
{
    struct host_conn *c = handle;

    look_at(c, head);
    came_up(host_of(h), (struct log_entry){.kind = LOG_INDICATE, .what = handle, .value = head});
    if (!c->hold && c->object.state == CHIMNEY_OFFLOADED)
        host_consume(host_of(h), c, head);
}

static void event(struct chimney_host *h, void *handle, enum chimney_event_type type, uint32_t info)
{
    came_up(host_of(h),
            (struct log_entry){.kind = LOG_EVENT, .what = handle, .value = info, .status = type});
}

static void status(struct chimney_host *host, chimney_status status, const void *buffer,
                   size_t length)
{
    struct host *h = host_of(host);

    if (status == NDIS_STATUS_OFFLOAD_PAUSE)
        h->paused = true;
    if (status == NDIS_STATUS_UPLOAD_ALL)
        h->paused = h->upload_all = true;
    if (status == NDIS_STATUS_OFFLOAD_RESUME && length == sizeof(h->resumed))
        memcpy(&h->resumed, buffer, length);
    came_up(h, (struct log_entry){.kind = LOG_STATUS, .value = length, .status = status});
    if (status == NDIS_STATUS_OFFLOAD_RESUME) {
        h->paused = h->upload_all = false;
        if (!h->lazy)
            host_read_capabilities(h);
    }
}

static void neighbor_query(struct chimney_host *h, struct chimney_block *block)
{
    struct host_neighbor *n = block->host_handle;

    came_up(host_of(h),
            (struct log_entry){.kind = LOG_QUESTION,
                               .what = n,
                               .value = tree_neighbor_delegated(block)
                                            ? tree_neighbor_delegated(block)->nic_reachability_delta
                                            : 0});
    if (tree_neighbor_cached(block))
        tree_neighbor_cached(block)->host_reachability_delta = n->answer;
}

static void receive(struct chimney_host *host, int ifindex, const uint8_t *frame, uint32_t length)
{
    struct host *h = host_of(host);

    if (h->frame_count == h->frame_size) {
        h->frame_size = h->frame_size ? 2 * h->frame_size : 64;
        h->frames = realloc(h->frames, h->frame_size * sizeof(*h->frames));
        assert_non_null(h->frames);
    }
    h->frames[h->frame_count].data = malloc(length ? length : 1);
    if (frame)
        memcpy(h->frames[h->frame_count].data, frame, length);
    h->frames[h->frame_count].length = length;
    h->frames[h->frame_count++].time = h->now;
    came_up(h, (struct log_entry){.kind = LOG_FRAME, .value = length});
}

static const struct chimney_host_ops host_table = {
    .initiate_complete = initiate_complete,
    .query_complete = query_complete,
    .update_complete = update_complete,
    .invalidate_complete = invalidate_complete,
    .terminate_complete = terminate_complete,
    .send_complete = send_complete,
    .disconnect_complete = disconnect_complete,
    .forward_complete = forward_complete,
    .receive_indicate = receive_indicate,
    .event = event,
    .status = status,
    .neighbor_query = neighbor_query,
    .receive = receive,
};

/* ---- the host and its objects -----------------------------------------------------------------
 */

void host_init(struct host *h, struct chimney_target *target)
{
    struct chimney_host_ops lent = host_table;

    memset(h, 0, sizeof(*h));
    h->target = target;
    target->ops->bind(target, &lent, (struct chimney_host *)h);
    memset(&lent, 0xDD, sizeof(lent)); /* the target keeps a copy (C91) */
}

void host_free(struct host *h)
{
    while (h->trees) {
        struct host_tree *t = h->trees;

        h->trees = t->next;
        for (int i = 0; i < t->count; i++)
            free(t->block[i]);
        free(t);
    }
    for (size_t i = 0; i < h->frame_count; i++)
        free(h->frames[i].data);
    free(h->frames);
    free(h->log);
}

uint8_t host_byte(uint64_t pattern, uint64_t position)
{
    uint64_t x = (position + pattern) * 0x9E3779B97F4A7C15ull;

    return (uint8_t)(x >> 56);
}

void host_neighbor_init(struct host_neighbor *n, const uint8_t mac[6])
{
    memset(n, 0, sizeof(*n));
    n->object.layer = TREE_NEIGHBOR;
    memcpy(n->cached.dl_destination_address, mac, 6);
}

void host_path_init(struct host_path *p, struct host_neighbor *n, int family, int source,
                    int destination)
{
    memset(p, 0, sizeof(*p));
    p->object.layer = TREE_PATH;
    p->object.parent = &n->object;
    p->family = family;
    p->mtu = 1500;
    p->source[0] = p->destination[0] = family == 4 ? 10 : 0xfd;
    p->source[family == 4 ? 3 : 15] = (uint8_t)source;
    p->destination[family == 4 ? 3 : 15] = (uint8_t)destination;
}

static uint16_t network_order(uint16_t port)
{
    return (uint16_t)(port << 8 | port >> 8);
}

void host_conn_init(struct host_conn *c, struct host_path *p, uint16_t local, uint16_t remote,
                    uint32_t ring)
{
    memset(c, 0, sizeof(*c));
    c->object.layer = TREE_TCP;
    c->object.parent = &p->object;
    c->constant.flags = CHIMNEY_TCP_TIMESTAMP_ENABLED | CHIMNEY_TCP_SACK_ENABLED |
                        CHIMNEY_TCP_WINDOW_SCALING_ENABLED;
    c->constant.local_port = network_order(local);
    c->constant.remote_port = network_order(remote);
    c->constant.snd_wind_scale = c->constant.rcv_wind_scale = 7;
    c->constant.remote_mss = 1460;
    c->constant.hash_value = 0x5EED0000u + local;
    c->constant.send_stream = (struct chimney_stream_ring){calloc(1, ring), ring};
    c->constant.receive_stream = (struct chimney_stream_ring){calloc(1, ring), ring};
    c->cached.initial_rcv_wnd = ring;
    c->cached.ttl_or_hop_limit = 64;
    c->delegated.state = TcpConnectionEstablished;
    c->delegated.rcv_nxt = 2000;
    c->delegated.rcv_wnd = ring;
    c->delegated.snd_una = c->delegated.snd_nxt = c->delegated.snd_max = 1000;
    c->delegated.snd_max_possible = 1000;
    c->delegated.snd_wnd = c->delegated.max_snd_wnd = ring;
    c->delegated.snd_wl1 = 1999;
    c->delegated.cwnd = 10 * 1460;
    c->delegated.ssthresh = 0x7FFFFFFF;
    c->delegated.srtt = 8 * 1000;
    c->delegated.rttvar = 4 * 500;
    c->delegated.ts_time = 5000;
    c->delegated.ts_last = 4999;
    c->delegated.ts_recent = 7000;
    c->delegated.ka_timeout_delta = c->delegated.retransmit_timeout_delta = CHIMNEY_TIMER_OFF;
}

void host_conn_free(struct host_conn *c)
{
    free(c->constant.send_stream.base);
    free(c->constant.receive_stream.base);
}

void host_write(struct host_conn *c, uint32_t bytes)
{
    const struct chimney_stream_ring *ring = &c->constant.send_stream;

    for (uint32_t i = 0; i < bytes; i++, c->written++)
        ring->base[c->written & (ring->size - 1)] =
            host_byte(c->pattern_out, c->base_out + c->written);
}

/* ---- trees ----------------------------------------------------------------------------------- */

struct host_tree *host_tree(struct host *h, enum tree_verb verb)
{
    struct host_tree *t = calloc(1, sizeof(*t));

    assert_non_null(t);
    t->host = h;
    t->verb = verb;
    t->next = h->trees;
    h->trees = t;
    return t;
}

int host_add(struct host_tree *t, int parent, enum chimney_state_type type,
             struct host_object *object)
{
    _Alignas(8) uint8_t whole[sizeof(struct chimney_block) + sizeof(struct chimney_tcp_state_all)];
    size_t size = block_bytes(t, type);
    struct chimney_block *block = malloc(size), **at;

    assert_true(t->count < HOST_TREE_BLOCKS);
    tree_block_init(whole, type);
    memcpy(block, whole, size);
    if (t->count) {
        at = parent < 0 ? &t->block[0]->next : &t->block[parent]->dependents;
        while (*at)
            at = &(*at)->next;
        *at = block;
    }
    if (object) {
        block->cell = &object->cell;
        block->host_handle = object;
    }
    t->block[t->count] = block;
    t->object[t->count] = object;
    return t->count++;
}

static void fill_neighbor(struct chimney_block *block, const struct host_neighbor *n)
{
    struct chimney_neighbor_const *constant = tree_neighbor_const(block);
    struct chimney_neighbor_cached *cached = tree_neighbor_cached(block);

    if (constant) {
        memcpy(constant->dl_source_address, n->constant.dl_source_address, CHIMNEY_MAC_BYTES);
        constant->vlan_id = n->constant.vlan_id;
    }
    if (cached) {
        memcpy(cached->dl_destination_address, n->cached.dl_destination_address, CHIMNEY_MAC_BYTES);
        cached->host_reachability_delta = n->cached.host_reachability_delta;
    }
}

static void fill_path(struct chimney_block *block, struct host_path *p)
{
    struct chimney_path_const *constant = tree_path_const(block);
    struct chimney_path_cached *cached = tree_path_cached(block);

    if (constant) {
        constant->source_address = p->source;
        constant->destination_address = p->destination;
    }
    if (cached)
        cached->path_mtu = p->mtu;
}

#define FILL(to, from)                                                                             \
    do {                                                                                           \
        if (to) {                                                                                  \
            struct chimney_state_header header_ = (to)->header;                                    \
            *(to) = (from);                                                                        \
            (to)->header = header_;                                                                \
        }                                                                                          \
    } while (0)

static void fill_conn(struct chimney_block *block, struct host_conn *c)
{
    struct chimney_tcp_const *constant = tree_tcp_const(block);
    struct chimney_tcp_cached *cached = tree_tcp_cached(block);
    struct chimney_tcp_delegated *d = tree_tcp_delegated(block);

    FILL(constant, c->constant);
    FILL(cached, c->cached);
    FILL(d, c->delegated);
    if (constant && d) {
        d->send_data = (struct chimney_span){0, c->written};
        d->buffered_data = (struct chimney_span){c->tail, c->head};
        block->send_data = d->send_data;
        c->head_at_offload = c->head;
    }
}

static enum chimney_state_type whole_type(const struct host_object *object)
{
    if (object->layer == TREE_NEIGHBOR)
        return NeighborOffloadState;
    if (object->layer == TREE_TCP)
        return TcpOffloadState;
    return ((const struct host_path *)object)->family == 4 ? Ip4OffloadState : Ip6OffloadState;
}

/** The type of one class (1 constant, 2 cached, 3 delegated) of the object's state. */
static enum chimney_state_type part_type(const struct host_object *object, int part)
{
    if (object->layer == TREE_TCP)
        return (enum chimney_state_type)(TcpOffloadConstState + part - 1);
    return (enum chimney_state_type)(whole_type(object) - 4 + part);
}

static void fill(struct chimney_block *block, struct host_object *object)
{
    if (object->layer == TREE_NEIGHBOR)
        fill_neighbor(block, (struct host_neighbor *)object);
    else if (object->layer == TREE_PATH)
        fill_path(block, (struct host_path *)object);
    else
        fill_conn(block, (struct host_conn *)object);
}

int host_add_object(struct host_tree *t, int parent, struct host_object *object)
{
    int i = host_add(t, parent, whole_type(object), object);

    if (!object->cell.context)
        fill(t->block[i], object);
    return i;
}

void host_call(struct host_tree *t)
{
    struct host *h = t->host;
    const struct chimney_target_ops *ops = h->target->ops;
    void (*const verbs[])(struct chimney_target *, struct chimney_block *) = {
        [TREE_INITIATE] = ops->initiate,   [TREE_QUERY] = ops->query,
        [TREE_UPDATE] = ops->update,       [TREE_INVALIDATE] = ops->invalidate,
        [TREE_TERMINATE] = ops->terminate,
    };

    t->root = t->block[0];
    t->under_way = true;
    for (int i = 0; i < t->count; i++) {
        struct host_object *object = t->object[i];

        if (object && t->verb == TREE_INITIATE && !object->cell.context)
            object->state = CHIMNEY_OFFLOADING;
        if (object && t->verb == TREE_TERMINATE)
            object->state = CHIMNEY_UPLOADING;
    }
    append(h, (struct log_entry){.kind = LOG_CALL, .verb = t->verb, .what = t->root});
    verbs[t->verb](h->target, t->root);
    append(h, (struct log_entry){.kind = LOG_RETURN, .verb = t->verb, .what = t->root});
}

/** The block of @object in the tree, added under its parents if it is not there yet. */
static int block_for(struct host_tree *t, struct host_object *object)
{
    for (int i = 0; i < t->count; i++) {
        if (t->object[i] == object)
            return i;
    }
    return host_add_object(t, object->parent ? block_for(t, object->parent) : -1, object);
}

struct host_tree *host_offload(struct host *h, struct host_conn *const *conns, int count)
{
    struct host_tree *t = host_tree(h, TREE_INITIATE);

    for (int i = 0; i < count; i++)
        block_for(t, &conns[i]->object);
    host_call(t);
    return t;
}

struct host_tree *host_terminate(struct host *h, struct host_object *const *objects, int count)
{
    struct host_tree *t = host_tree(h, TREE_TERMINATE);
    int last[3] = {-1, -1, -1};

    /* Hang each under its parent if that goes too, else beside the others of its layer. */
    for (int i = 0; i < count; i++) {
        enum tree_layer layer = objects[i]->layer;
        int parent = layer == TREE_NEIGHBOR ? -1 : last[layer - 1];

        if (parent >= 0 && t->object[parent] != objects[i]->parent)
            parent = -1;
        for (int j = 0; parent < 0 && j < t->count; j++) {
            if (t->object[j] == objects[i]->parent)
                parent = j;
        }
        last[layer] = host_add(t, parent, part_type(objects[i], 3), objects[i]);
    }
    host_call(t);
    return t;
}

struct host_tree *host_query(struct host *h, enum chimney_state_type type,
                             struct host_object *object)
{
    struct host_tree *t = host_tree(h, TREE_QUERY);

    host_add(t, -1, type, object);
    host_call(t);
    return t;
}

struct host_tree *host_update(struct host *h, struct host_object *object)
{
    struct host_tree *t = host_tree(h, TREE_UPDATE);

    fill(t->block[host_add(t, -1, part_type(object, 2), object)], object);
    host_call(t);
    return t;
}

struct host_tree *host_invalidate(struct host *h, struct host_object *object)
{
    struct host_tree *t = host_tree(h, TREE_INVALIDATE);

    host_add(t, -1, part_type(object, 1), object);
    host_call(t);
    return t;
}

/* ---- data verbs ------------------------------------------------------------------------------ */

chimney_status host_send(struct host *h, struct host_conn *c, uint32_t bytes)
{
    host_write(c, bytes);
    append(h, (struct log_entry){.kind = LOG_SEND, .what = c, .value = c->written});
    return h->target->ops->send(h->target, &c->object.cell, c->written);
}

chimney_status host_consume(struct host *h, struct host_conn *c, uint64_t tail)
{
    c->tail = tail;
    append(h, (struct log_entry){.kind = LOG_RECEIVE, .what = c, .value = tail});
    return h->target->ops->receive(h->target, &c->object.cell, tail);
}

chimney_status host_disconnect(struct host *h, struct host_conn *c, uint32_t flags)
{
    c->closed_out = true;
    append(h, (struct log_entry){.kind = LOG_DISCONNECT, .what = c, .value = flags});
    return h->target->ops->disconnect(h->target, &c->object.cell, flags);
}

chimney_status host_forward(struct host *h, struct host_conn *c,
                            const struct chimney_segment *segment)
{
    append(h, (struct log_entry){.kind = LOG_FORWARD, .what = c, .value = (uintptr_t)segment});
    return h->target->ops->forward(h->target, &c->object.cell, segment);
}

void host_read_capabilities(struct host *h)
{
    append(h, (struct log_entry){.kind = LOG_CAPABILITIES});
    h->target->ops->get_capabilities(h->target, &h->capabilities);
}

/* ---- the scripted target --------------------------------------------------------------------- */

static struct fake *fake_of(struct chimney_target *t)
{
    return (struct fake *)t;
}

static void from_inside(struct fake *f)
{
    void (*inside)(struct fake *) = f->inside;

    f->inside = NULL;
    if (inside)
        inside(f);
}

static void fake_verb(struct fake *f, enum tree_verb verb, struct chimney_block *root)
{
    assert_true(f->pending_count < FAKE_TREES);
    f->pending[f->pending_count].verb = verb;
    f->pending[f->pending_count++].root = root;
    from_inside(f);
}

static void fake_initiate(struct chimney_target *t, struct chimney_block *root)
{
    fake_verb(fake_of(t), TREE_INITIATE, root);
}

static void fake_query(struct chimney_target *t, struct chimney_block *root)
{
    fake_verb(fake_of(t), TREE_QUERY, root);
}

static void fake_update(struct chimney_target *t, struct chimney_block *root)
{
    fake_verb(fake_of(t), TREE_UPDATE, root);
}

static void fake_invalidate(struct chimney_target *t, struct chimney_block *root)
{
    fake_verb(fake_of(t), TREE_INVALIDATE, root);
}

static void fake_terminate(struct chimney_target *t, struct chimney_block *root)
{
    fake_verb(fake_of(t), TREE_TERMINATE, root);
}

static chimney_status fake_position(struct chimney_target *t, struct chimney_cell *cell,
                                    uint64_t position)
{
    fake_of(t)->cell = cell;
    fake_of(t)->position = position;
    from_inside(fake_of(t));
    return fake_of(t)->data_status;
}

static chimney_status fake_disconnect(struct chimney_target *t, struct chimney_cell *cell,
                                      uint32_t flags)
{
    return fake_position(t, cell, flags);
}

static chimney_status fake_forward(struct chimney_target *t, struct chimney_cell *cell,
                                   const struct chimney_segment *segment)
{
    fake_of(t)->segment = segment;
    return fake_position(t, cell, 0);
}

static void fake_capabilities(struct chimney_target *t, struct chimney_capabilities *out)
{
    *out = fake_of(t)->capabilities;
}

static void fake_bind(struct chimney_target *t, const struct chimney_host_ops *ops,
                      struct chimney_host *host)
{
    fake_of(t)->up = ops;
    fake_of(t)->host = host;
}

void fake_init(struct fake *f)
{
    static const struct chimney_target_ops ops = {
        .initiate = fake_initiate,
        .query = fake_query,
        .update = fake_update,
        .invalidate = fake_invalidate,
        .terminate = fake_terminate,
        .send = fake_position,
        .receive = fake_position,
        .disconnect = fake_disconnect,
        .forward = fake_forward,
        .get_capabilities = fake_capabilities,
        .bind = fake_bind,
    };

    memset(f, 0, sizeof(*f));
    f->base.ops = &ops;
    strcpy(f->base.name, "fake");
    f->next_context = 0x1000;
    f->data_status = NDIS_STATUS_PENDING;
    f->capabilities = (struct chimney_capabilities){
        .header = {0, CHIMNEY_REVISION, sizeof(f->capabilities)},
        .encapsulation = CHIMNEY_ENCAPSULATION_IEEE_802_3,
        .support_ipv4 = true,
        .support_ipv6 = true,
        .tcp_connection_offload_capacity = 100,
    };
}

static chimney_status fake_take(void *arg, struct chimney_block *block, void *parent,
                                void **context)
{
    struct fake *f = arg;

    *context = (void *)(f->next_context += 16);
    return f->answer[f->taken++];
}

static chimney_status fake_take_neighbor(void *arg, struct chimney_block *block, void **context)
{
    return fake_take(arg, block, NULL, context);
}

/** The fake knows nothing of its objects: a terminate and a query return plausible state. */
static bool fake_fill(void *arg, struct chimney_block *block, struct chimney_block *parent)
{
    struct chimney_tcp_delegated *d = tree_tcp_delegated(block);
    struct chimney_neighbor_delegated *n = tree_neighbor_delegated(block);
    struct chimney_state_header header;

    block->status = NDIS_STATUS_SUCCESS;
    if (n)
        n->nic_reachability_delta = 3;
    if (!d)
        return true;
    header = d->header;
    memset(d, 0, sizeof(*d));
    d->header = header;
    d->state = TcpConnectionEstablished;
    if (*(enum tree_verb *)arg == TREE_TERMINATE)
        block->send_data = d->send_data;
    return true;
}

struct chimney_block *fake_do(struct fake *f, bool hold)
{
    static const struct tree_taker taker = {fake_take_neighbor, fake_take, fake_take};
    enum tree_verb verb = f->pending[0].verb;
    struct chimney_block *root = f->pending[0].root;

    assert_true(f->pending_count > 0);
    memmove(&f->pending[0], &f->pending[1], sizeof(f->pending[0]) * --f->pending_count);
    if (verb == TREE_INITIATE)
        tree_initiate(root, &taker, f);
    else if (verb == TREE_QUERY || verb == TREE_TERMINATE)
        tree_walk(root, fake_fill, &verb);
    else
        tree_set_status(root, NDIS_STATUS_SUCCESS);
    if (!hold)
        fake_complete(f, verb, root);
    return root;
}

void fake_do_all(struct fake *f)
{
    while (f->pending_count)
        fake_do(f, false);
}

void fake_complete(struct fake *f, enum tree_verb verb, struct chimney_block *root)
{
    void (*const completions[])(struct chimney_host *, struct chimney_block *) = {
        [TREE_INITIATE] = f->up->initiate_complete,
        [TREE_QUERY] = f->up->query_complete,
        [TREE_UPDATE] = f->up->update_complete,
        [TREE_INVALIDATE] = f->up->invalidate_complete,
        [TREE_TERMINATE] = f->up->terminate_complete,
    };

    completions[verb](f->host, root);
}

/* ---- what the verifier found ----------------------------------------------------------------- */

void findings_report(void *arg, int row, const char *who, const char *line)
{
    struct findings *f = arg;

    if (f->count < MAX_FINDINGS) {
        f->row[f->count] = row;
        snprintf(f->who[f->count], sizeof(f->who[0]), "%s", who);
        snprintf(f->line[f->count], sizeof(f->line[0]), "%s", line);
    }
    f->count++;
}
