/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Initiate on the software target under the verifier: every completion status, partial success,
 * what a failure leaves alone, and the data that is handed down (group F).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "contract_lab.h"

static struct lab lab;

#define MSS 1448u

/* ---- statuses -------------------------------------------------------------------------------- */

struct failure {
    chimney_status status;
    enum tree_layer layer; /* of the block that carries it */
    struct target_config config;
    /* Makes the offload of the pair fail; undoes it if @undo. */
    void (*cause)(struct lab_pair *pair, bool undo);
};

static struct lab_pair *others[2]; /* that were offloaded before */
static struct host_neighbor other_neighbor;
static struct host_path other_path;

static void inject(enum target_fault fault, bool undo)
{
    lab.side[0].fault = fault;
    lab.side[0].fault_layer = TREE_TCP;
    lab.side[0].fault_left = undo ? 0 : 1;
}

static void no_memory(struct lab_pair *pair, bool undo)
{
    inject(TARGET_FAULT_MEMORY, undo);
}

static void no_category(struct lab_pair *pair, bool undo)
{
    inject(TARGET_FAULT_TAKE, undo);
}

static void tcp_table(struct lab_pair *pair, bool undo)
{
    for (int i = 0; i < 2; i++) {
        if (undo && i == 0)
            lab_terminate(&lab, 0, &others[0]->conn[0].object); /* one is enough */
        else if (!undo)
            others[i] = lab_connect_half(&lab, 4);
    }
}

/** Another path to the same neighbor takes the only place. */
static void path_table(struct lab_pair *pair, bool undo)
{
    if (!undo)
        others[0] = lab_connect_half(&lab, 6);
    else
        lab_terminate(&lab, 0, &others[0]->conn[0].object);
    if (undo)
        lab_terminate(&lab, 0, &lab.side[0].path6.object);
}

static void occupy_neighbor(bool undo, uint16_t vlan)
{
    struct host_tree *t;

    if (undo) {
        lab_terminate(&lab, 0, &other_neighbor.object);
        return;
    }
    host_neighbor_init(&other_neighbor, (const uint8_t *)"\2\7\7\7\7\7");
    other_neighbor.constant.vlan_id = vlan;
    t = host_tree(&lab.side[0].host, TREE_INITIATE);
    host_add_object(t, -1, &other_neighbor.object);
    host_call(t);
    lab_round(&lab);
    assert_int_equal(t->block[0]->status, NDIS_STATUS_SUCCESS);
}

static void neighbor_table(struct lab_pair *pair, bool undo)
{
    occupy_neighbor(undo, 0);
}

/** The only source address is taken by another path. */
static void source_addresses(struct lab_pair *pair, bool undo)
{
    struct host_tree *t;

    if (undo) {
        lab_terminate(&lab, 0, &other_path.object);
        return;
    }
    host_path_init(&other_path, &lab.side[0].neighbor, 4, 99, 2);
    t = host_tree(&lab.side[0].host, TREE_INITIATE);
    host_add_object(t, -1, &lab.side[0].neighbor.object);
    host_add_object(t, 0, &other_path.object);
    host_call(t);
    lab_round(&lab);
    assert_int_equal(t->block[1]->status, NDIS_STATUS_SUCCESS);
}

static void source_mac(struct lab_pair *pair, bool undo)
{
    memset(lab.side[0].neighbor.constant.dl_source_address, undo ? 0 : 0x22, 6);
}

static void vlan_table(struct lab_pair *pair, bool undo)
{
    occupy_neighbor(undo, 100);
    lab.side[0].neighbor.constant.vlan_id = undo ? 0 : 200;
}

static void vlan_mismatch(struct lab_pair *pair, bool undo)
{
    lab.side[0].neighbor.constant.vlan_id = undo ? 42 : 43;
    lab.side[1].neighbor.constant.vlan_id = 42;
}

static void transmit_buffers(struct lab_pair *pair, bool undo)
{
    pair->conn[0].constant.send_stream.size = undo ? LAB_RING : 1024;
}

static void receive_buffers(struct lab_pair *pair, bool undo)
{
    pair->conn[0].constant.receive_stream.size = undo ? LAB_RING : 1024;
    pair->conn[0].head = undo ? 0 : 2000;
}

static void receive_window(struct lab_pair *pair, bool undo)
{
    pair->conn[0].cached.initial_rcv_wnd = undo ? 100000 : 100001;
    pair->conn[1].cached.initial_rcv_wnd = 100000;
}

static void path_mtu(struct lab_pair *pair, bool undo)
{
    lab.side[0].path4.mtu = undo ? 1400 : 1401;
}

static void poor_candidate(struct lab_pair *pair, bool undo)
{
    lab.side[0].rejected = undo ? NULL : &pair->conn[0].object;
}

static const uint16_t vlans[] = {42};

/* rows: C165-C178 */
static const struct failure failures[] = {
    {NDIS_STATUS_RESOURCES, TREE_TCP, {0}, no_memory},
    {NDIS_STATUS_FAILURE, TREE_TCP, {0}, no_category},
    {NDIS_STATUS_OFFLOAD_TCP_ENTRIES, TREE_TCP, {.max_connections = 2}, tcp_table},
    {NDIS_STATUS_OFFLOAD_PATH_ENTRIES, TREE_PATH, {.max_paths = 1}, path_table},
    {NDIS_STATUS_OFFLOAD_NEIGHBOR_ENTRIES, TREE_NEIGHBOR, {.max_neighbors = 1}, neighbor_table},
    {NDIS_STATUS_OFFLOAD_IP_ADDRESS_ENTRIES,
     TREE_PATH,
     {.max_source_addresses = 1},
     source_addresses},
    {NDIS_STATUS_OFFLOAD_HW_ADDRESS_ENTRIES, TREE_NEIGHBOR, {0}, source_mac},
    {NDIS_STATUS_OFFLOAD_VLAN_ENTRIES, TREE_NEIGHBOR, {.max_vlans = 1}, vlan_table},
    {NDIS_STATUS_OFFLOAD_TCP_XMIT_BUFFER, TREE_TCP, {0}, transmit_buffers},
    {NDIS_STATUS_OFFLOAD_TCP_RCV_BUFFER, TREE_TCP, {0}, receive_buffers},
    {NDIS_STATUS_OFFLOAD_TCP_RCV_WINDOW, TREE_TCP, {.max_rcv_wnd = 100000}, receive_window},
    {NDIS_STATUS_OFFLOAD_VLAN_MISMATCH,
     TREE_NEIGHBOR,
     {.vlan_ids = vlans, .vlan_count = 1},
     vlan_mismatch},
    {NDIS_STATUS_OFFLOAD_PATH_MTU, TREE_PATH, {.max_path_mtu = 1400}, path_mtu},
    {NDIS_STATUS_OFFLOAD_CONNECTION_REJECTED, TREE_TCP, {0}, poor_candidate},
};

/** Copies of the three blocks of an offload, before it is called. */
static void remember(const struct host_tree *t, uint8_t copies[3][1024])
{
    for (int i = 0; i < 3; i++)
        memcpy(copies[i], t->block[i], tree_block_size(t->block[i]->header.type));
}

/*
 * Whatever the reason: the block says it, those below fail with it, nothing of the connection
 * changed hands, and as soon as the reason is gone the same connection can be offloaded with every
 * byte there.
 */
/* rows: C105 C155 C163 C164 C168 C169 C179 */
static void every_failure(void **state)
{
    for (size_t n = 0; n < sizeof(failures) / sizeof(failures[0]); n++) {
        const struct failure *f = &failures[n];
        struct host *h = &lab.side[0].host;
        _Alignas(8) uint8_t copies[3][1024];
        struct lab_pair *pair;
        struct host_conn *c;
        struct host_tree *t;
        struct target_info before, after;
        size_t mark, from, surfaced;

        lab_init(&lab, &f->config);
        pair = lab_pair(&lab, 4);
        c = &pair->conn[0];
        host_write(c, 3000);
        f->cause(pair, false);
        target_get_info(lab.side[0].target, &before);
        t = host_tree(h, TREE_INITIATE);
        host_add_object(t, -1, &lab.side[0].neighbor.object);
        host_add_object(t, 0, &lab.side[0].path4.object);
        host_add_object(t, 1, &c->object);
        remember(t, copies);
        from = h->log_count;
        mark = lab_mark(&lab);
        host_call(t);
        lab_round(&lab);
        assert_true(t->done);
        assert_int_equal(t->block[f->layer]->status, f->status);
        for (int i = f->layer + 1; i < 3; i++)
            assert_int_equal(t->block[i]->status, NDIS_STATUS_FAILURE);
        for (int i = 0; i < (int)f->layer; i++) {
            /* A new parent was taken, one that was there already had no dependent taken. */
            assert_true(t->block[i]->status == NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS ||
                        t->block[i]->status == NDIS_STATUS_FAILURE);
            assert_non_null(t->object[i]->cell.context);
        }
        for (int i = f->layer; i < 3; i++)
            assert_null(t->object[i]->cell.context);
        assert_int_equal(c->object.state, CHIMNEY_IN_HOST);
        /* The block of the connection is as it was but for its status. */
        ((struct chimney_block *)copies[2])->status = t->block[2]->status;
        assert_memory_equal(t->block[2] + 1, copies[2] + sizeof(struct chimney_block),
                            tree_block_size(TcpOffloadState) - sizeof(struct chimney_block));
        assert_int_equal(t->block[2]->send_data.end, 3000);
        /* Its data is still the host's: no completion, nothing on the wire, no segment swallowed.
         */
        assert_null(host_find(h, from, LOG_SENT, c));
        surfaced = h->frame_count;
        lab_peer_data(&lab, pair, c->delegated.rcv_nxt, 100);
        lab_run(&lab, LAB_SEC);
        assert_int_equal(h->frame_count, surfaced + 1);
        for (size_t i = mark; i < lab.frame_count; i++)
            assert_false(lab.frames[i].end == 0 &&
                         lab.frames[i].packet.key.remote_port == c->constant.local_port);
        target_get_info(lab.side[0].target, &after);
        assert_int_equal(after.connections, before.connections);

        /* The reason goes; at the limit itself there is no failure. */
        f->cause(pair, true);
        lab_offload_both(&lab, pair);
        lab_settle(&lab, 10 * LAB_SEC);
        assert_int_equal(pair->conn[1].head, 3000);
        if (f->cause == tcp_table)
            others[1]->conn[1].object.state = CHIMNEY_IN_HOST;
        lab_free(&lab);
    }
}

/* ---- walks ----------------------------------------------------------------------------------- */

/** Neighbor with two paths of three connections each: blocks 0; 1, 2 3 4; 5, 6 7 8. */
static struct host_tree *two_by_three(struct lab_pair **pairs)
{
    struct host_tree *t = host_tree(&lab.side[0].host, TREE_INITIATE);
    struct host_path *paths[] = {&lab.side[0].path4, &lab.side[0].path6};

    host_add_object(t, -1, &lab.side[0].neighbor.object);
    for (int p = 0; p < 2; p++) {
        int path = host_add_object(t, 0, &paths[p]->object);

        for (int i = 0; i < 3; i++) {
            pairs[3 * p + i] = lab_pair(&lab, p ? 6 : 4);
            host_add_object(t, path, &pairs[3 * p + i]->conn[0].object);
        }
    }
    return t;
}

#define OK NDIS_STATUS_SUCCESS
#define PART NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS
#define FAIL NDIS_STATUS_FAILURE
#define FULL NDIS_STATUS_OFFLOAD_TCP_ENTRIES

static void expect(const struct host_tree *t, const chimney_status *statuses)
{
    for (int i = 0; i < t->count; i++)
        assert_int_equal(t->block[i]->status, statuses[i]);
}

/* rows: C106 C156 C159 C164 */
static void room_for_some(void **state)
{
    static const chimney_status expected[7][9] = {
        {PART, PART, FULL, FULL, FULL, PART, FULL, FULL, FULL},
        {PART, PART, OK, FULL, FULL, PART, FULL, FULL, FULL},
        {PART, PART, OK, OK, FULL, PART, FULL, FULL, FULL},
        {PART, OK, OK, OK, OK, PART, FULL, FULL, FULL},
        {PART, OK, OK, OK, OK, PART, OK, FULL, FULL},
        {PART, OK, OK, OK, OK, PART, OK, OK, FULL},
        {OK, OK, OK, OK, OK, OK, OK, OK, OK},
    };

    for (uint32_t room = 0; room <= 6; room++) {
        struct lab_pair *pairs[6], *fill = NULL;
        struct target_config config = {.max_connections = room ? room : 1};
        struct host_tree *t;

        lab_init(&lab, &config);
        /* A table of nothing: its only entry is taken by a connection elsewhere. */
        if (!room) {
            host_path_init(&other_path, &other_neighbor, 4, 7, 8);
            host_neighbor_init(&other_neighbor, (const uint8_t *)"\2\7\7\7\7\7");
            fill = lab_pair(&lab, 4);
            fill->conn[0].object.parent = &other_path.object;
            lab_offload(&lab, 0, fill);
        }
        t = two_by_three(pairs);
        host_call(t);
        lab_round(&lab);
        expect(t, expected[room]);
        for (uint32_t i = 0; i < 6; i++)
            assert_int_equal(pairs[i]->conn[0].object.cell.context != NULL, i < room);
        if (!room) {
            lab_terminate(&lab, 0, &fill->conn[0].object);
            lab_terminate(&lab, 0, &other_path.object);
            lab_terminate(&lab, 0, &other_neighbor.object);
        }
        lab_free(&lab);
    }
}

/* rows: C157 C158 C159 */
static void corrupt_block(void **state)
{
    static const struct {
        enum tree_layer layer;
        int skip;
        chimney_status statuses[9];
    } table[] = {
        {TREE_TCP, 0, {PART, PART, FAIL, FAIL, FAIL, FAIL, FAIL, FAIL, FAIL}},
        {TREE_TCP, 2, {PART, PART, OK, OK, FAIL, FAIL, FAIL, FAIL, FAIL}},
        {TREE_TCP, 4, {PART, OK, OK, OK, OK, PART, OK, FAIL, FAIL}},
        {TREE_PATH, 0, {PART, FAIL, FAIL, FAIL, FAIL, FAIL, FAIL, FAIL, FAIL}},
        {TREE_PATH, 1, {PART, OK, OK, OK, OK, FAIL, FAIL, FAIL, FAIL}},
        {TREE_NEIGHBOR, 0, {FAIL, FAIL, FAIL, FAIL, FAIL, FAIL, FAIL, FAIL, FAIL}},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct lab_pair *pairs[6];
        struct host_tree *t;
        struct target_info info;
        uint32_t taken = 0;

        lab_init(&lab, NULL);
        lab.side[0].fault = TARGET_FAULT_TAKE;
        lab.side[0].fault_layer = table[i].layer;
        lab.side[0].fault_skip = table[i].skip;
        lab.side[0].fault_left = 1;
        t = two_by_three(pairs);
        host_call(t);
        lab_round(&lab);
        expect(t, table[i].statuses);
        for (int b = 0; b < t->count; b++)
            taken += t->block[b]->status == OK || t->block[b]->status == PART;
        target_get_info(lab.side[0].target, &info);
        assert_int_equal(info.neighbors + info.paths + info.connections, taken);
        lab_free(&lab);
    }
}

/* rows: C18 C102 C103 C104 */
static void linkers_and_placeholders(void **state)
{
    for (int failing = 0; failing <= 3; failing++) {
        struct lab_pair *pairs[3];
        struct host_tree *t;
        struct target_info before, after;
        void *context;
        chimney_status expected = failing == 0 ? OK : failing == 3 ? FAIL : PART;

        lab_init(&lab, NULL);
        lab_connect_half(&lab, 4);
        target_get_info(lab.side[0].target, &before);
        context = lab.side[0].path4.object.cell.context;
        t = host_tree(&lab.side[0].host, TREE_INITIATE);
        host_add_object(t, -1, &lab.side[0].neighbor.object);
        host_add_object(t, 0, &lab.side[0].path4.object);
        for (int i = 0; i < 3; i++) {
            pairs[i] = lab_pair(&lab, 4);
            host_add_object(t, 1, &pairs[i]->conn[0].object);
        }
        host_add(t, 1, TcpOffloadState, NULL);
        host_add(t, -1, NeighborOffloadState, NULL);
        lab.side[0].fault = TARGET_FAULT_MEMORY;
        lab.side[0].fault_layer = TREE_TCP;
        lab.side[0].fault_left = failing;
        host_call(t);
        lab_round(&lab);
        assert_int_equal(t->block[0]->status, expected);
        assert_int_equal(t->block[1]->status, expected);
        for (int i = 0; i < 3; i++)
            assert_int_equal(t->block[2 + i]->status, i < failing ? NDIS_STATUS_RESOURCES : OK);
        assert_int_equal(t->block[5]->status, OK);
        assert_int_equal(t->block[6]->status, OK);
        target_get_info(lab.side[0].target, &after);
        assert_int_equal(after.connections, before.connections + (uint32_t)(3 - failing));
        assert_int_equal(after.paths, before.paths);
        /* References were not written to; they are what they were even if all dependents failed. */
        assert_ptr_equal(lab.side[0].path4.object.cell.context, context);
        lab_free(&lab);
    }
}

/* ---- order ----------------------------------------------------------------------------------- */

static void nothing_yet(struct host *h, const struct log_entry *entry)
{
    struct lab_pair *pair = h->inside_arg;

    if (entry->kind != LOG_DONE || entry->verb != TREE_INITIATE)
        return;
    /* The completion has been called and has not returned. */
    assert_null(host_find(h, 0, LOG_INDICATE, &pair->conn[0]));
    assert_null(host_find(h, 0, LOG_SENT, &pair->conn[0]));
    assert_null(host_find(h, 0, LOG_EVENT, &pair->conn[0]));
}

/* rows: C161 */
static void no_indication_before_the_completion(void **state)
{
    struct host *h = &lab.side[0].host;
    struct lab_pair *pair;
    struct host_conn *c;

    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    c = &pair->conn[0];
    h->inside = nothing_yet;
    h->inside_arg = pair;
    /* An acknowledgement and data wait at the port when the initiate is called. */
    host_write(c, 2000);
    c->delegated.snd_nxt = c->delegated.snd_max = c->delegated.snd_max_possible = 3000;
    lab_peer_ack(&lab, pair, 3000, 0xFFFF);
    lab_peer_data(&lab, pair, c->delegated.rcv_nxt, 1000);
    lab.now += 2 * LAB_MSEC;
    sim_link_advance(lab.link, lab.now);
    host_offload(h, &c, 1);
    lab_round(&lab);
    assert_non_null(host_find(h, 0, LOG_INDICATE, c));
    assert_non_null(host_find(h, 0, LOG_SENT, c));
    assert_int_equal(c->head, 1000);
    assert_int_equal(c->acked, 2000);
    lab_free(&lab);
}

/* ---- data that is handed down ---------------------------------------------------------------- */

/** A connection with [0, nxt) sent, [nxt, max) to be sent again, [max, end) unsent. */
static struct lab_pair *in_flight(uint32_t nxt, uint32_t max, uint32_t end)
{
    struct lab_pair *pair;
    struct host_conn *c;

    lab_init(&lab, NULL);
    pair = lab_pair(&lab, 4);
    c = &pair->conn[0];
    host_write(c, end);
    c->delegated.snd_nxt = c->delegated.snd_una + nxt;
    c->delegated.snd_max = c->delegated.snd_max_possible = c->delegated.snd_una + max;
    c->delegated.cwnd = 100 * MSS;
    c->delegated.retransmit_timeout_delta = 300000;
    return pair;
}

/** Offset of the payload of each data frame of end 0 since @mark; returns how many. */
static int offsets(size_t mark, uint32_t una, uint32_t *out, int max)
{
    int count = 0;

    for (size_t i = mark; i < lab.frame_count && count < max; i++) {
        if (lab.frames[i].end == 0 && lab.frames[i].packet.seg.len)
            out[count++] = lab.frames[i].packet.seg.seq - una;
    }
    return count;
}

/* rows: C183 C184 */
static void to_be_sent_again(void **state)
{
    struct lab_pair *pair = in_flight(0, 3 * MSS, 5 * MSS);
    uint32_t seen[16], una = pair->conn[0].delegated.snd_una;
    size_t mark = lab_mark(&lab);
    int count;

    /* [SndNxt, SndMax) goes first, then what was never sent, then what is sent later. */
    lab_offload(&lab, 0, pair);
    lab_send(&lab, 0, pair, MSS);
    lab_peer_ack(&lab, pair, una + 2 * MSS, 0xFFFF);
    lab_run(&lab, 50 * LAB_MSEC);
    count = offsets(mark, una, seen, 16);
    assert_int_equal(count, 6);
    for (int i = 0; i < 6; i++)
        assert_int_equal(seen[i], (uint32_t)i * MSS);
    lab_free(&lab);
}

/* rows: C182 */
static void sent_and_not_acknowledged(void **state)
{
    struct lab_pair *pair = in_flight(4 * MSS, 4 * MSS, 4 * MSS);
    uint32_t seen[16], una = pair->conn[0].delegated.snd_una;
    size_t mark = lab_mark(&lab);

    /*
     * Not sent again, but for the first segment, at once: the timers of the previous owner did not
     * travel, and a peer that waits for exactly this segment must not wait for ours
     * (docs/contract.md).
     */
    lab_offload(&lab, 0, pair);
    lab_run(&lab, 100 * LAB_MSEC);
    assert_int_equal(offsets(mark, una, seen, 16), 1);
    assert_int_equal(seen[0], 0);
    /* Acknowledged: nothing more happens. */
    lab_peer_ack(&lab, pair, una + 4 * MSS, 0xFFFF);
    lab_run(&lab, 10 * LAB_SEC);
    assert_int_equal(offsets(mark, una, seen, 16), 1);
    assert_int_equal(pair->conn[0].acked, 4 * MSS);
    lab_free(&lab);

    /* The acknowledgement is swallowed: this target retransmits it. */
    pair = in_flight(MSS, MSS, MSS);
    mark = lab_mark(&lab);
    lab_offload(&lab, 0, pair);
    lab_run(&lab, 2 * LAB_SEC);
    assert_true(offsets(mark, una, seen, 16) >= 3);
    assert_int_equal(seen[2], 0);
    lab_free(&lab);
}

/* rows: C185 */
static void nothing_to_send_again(void **state)
{
    struct lab_pair *pair = in_flight(0, 0, 0);
    uint32_t seen[16], una = pair->conn[0].delegated.snd_una;
    size_t mark = lab_mark(&lab);

    lab_offload(&lab, 0, pair);
    lab_run(&lab, 10 * LAB_SEC);
    assert_int_equal(offsets(mark, una, seen, 16), 0);
    lab_free(&lab);
}

/* rows: C154 C181 */
static void sent_from_the_host_memory(void **state)
{
    struct lab_pair *pair = in_flight(0, 0, 3000);
    struct host_conn *c = &pair->conn[0];
    size_t mark = lab_mark(&lab);
    const struct lab_frame *f;

    /* The window is closed when the connection goes down; the bytes change before it opens. */
    c->delegated.snd_wnd = 0;
    lab_offload(&lab, 0, pair);
    assert_int_equal(lab_count(&lab, mark, 0, true), 0);
    for (uint32_t i = 0; i < 3000; i++)
        c->constant.send_stream.base[i] = (uint8_t)(i * 3);
    lab_peer_ack(&lab, pair, c->delegated.snd_una, 1000);
    lab_run(&lab, 2 * LAB_MSEC);
    f = lab_first(&lab, mark, 0, true);
    assert_non_null(f);
    assert_int_equal(f->packet.seg.seq, c->delegated.snd_una);
    for (uint32_t i = 0; i < f->packet.seg.len; i++)
        assert_int_equal(f->packet.seg.payload[i], (uint8_t)(i * 3));
    lab_free(&lab);
}

/* rows: C186 */
static void handed_down_sends_are_completed(void **state)
{
    struct lab_pair *pair = in_flight(2 * MSS, 4 * MSS, 20 * MSS);
    const struct host *h = &lab.side[0].host;
    struct host_conn *c = &pair->conn[0];
    uint64_t last = 0;

    pair->conn[1].delegated.rcv_nxt = c->delegated.snd_una;
    lab_offload_both(&lab, pair);
    lab_settle(&lab, 10 * LAB_SEC);
    for (size_t i = 0; i < h->log_count; i++) {
        if (h->log[i].kind != LOG_SENT)
            continue;
        assert_int_equal(h->log[i].status, NDIS_STATUS_SUCCESS);
        assert_true(h->log[i].value > last);
        last = h->log[i].value;
    }
    assert_int_equal(last, 20 * MSS);
    assert_int_equal(pair->conn[1].head, 20 * MSS);
    lab_free(&lab);
}

/* rows: C180 C249 C307 C323 */
static void late_lack_of_resources(void **state)
{
    const struct host *h = &lab.side[0].host;
    struct lab_pair *pair;
    struct host_conn *c;
    struct chimney_segment segment = {0};
    struct lab_segment s;
    uint8_t frame[256];
    size_t from, mark;

    lab_init(&lab, NULL);
    pair = lab_connect_half(&lab, 4);
    c = &pair->conn[0];
    lab_send(&lab, 0, pair, 1000);
    from = h->log_count;
    lab_retrieve(&lab, 0, c, UploadRequested);
    assert_int_equal(lab_retrieved(&lab, 0, c), UploadRequested);
    /* Every request from then on. */
    mark = lab_mark(&lab);
    lab_send(&lab, 0, pair, 1000);
    assert_int_equal(host_last(h, LOG_SENT, c)->status, NDIS_STATUS_UPLOAD_IN_PROGRESS);
    s = lab_peer(&lab, pair);
    segment.frame = frame;
    segment.frame_length = (uint32_t)wire_build(frame, sizeof(frame), &s.route, &s.seg, false);
    segment.tcp_offset = 34;
    assert_int_equal(host_forward(&lab.side[0].host, c, &segment), NDIS_STATUS_PENDING);
    lab_round(&lab);
    assert_int_equal(host_last(h, LOG_FORWARDED, c)->status, NDIS_STATUS_UPLOAD_IN_PROGRESS);
    assert_int_equal(host_disconnect(&lab.side[0].host, c, TCP_DISCONNECT_GRACEFUL_CLOSE),
                     NDIS_STATUS_PENDING);
    lab_round(&lab);
    assert_int_equal(host_last(h, LOG_DISCONNECTED, c)->status, NDIS_STATUS_UPLOAD_IN_PROGRESS);
    /* Asked for before any of it was answered so. */
    assert_true(host_find(h, from, LOG_EVENT, c) < host_find(h, from, LOG_SENT, c));
    assert_int_equal(lab_count(&lab, mark, 0, true), 0);
    lab_free(&lab);

    /* The send that comes between the decision and the indication is answered after it. */
    lab_init(&lab, NULL);
    pair = lab_connect_half(&lab, 4);
    c = &pair->conn[0];
    target_retrieve(lab.side[0].target, verifier_cell_below(lab.side[0].top, &c->object.cell),
                    UploadRequested);
    lab_send(&lab, 0, pair, 1000);
    assert_true(host_find(h, 0, LOG_EVENT, c) < host_find(h, 0, LOG_SENT, c));
    lab_free(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_failure),
        cmocka_unit_test(room_for_some),
        cmocka_unit_test(corrupt_block),
        cmocka_unit_test(linkers_and_placeholders),
        cmocka_unit_test(no_indication_before_the_completion),
        cmocka_unit_test(to_be_sent_again),
        cmocka_unit_test(sent_and_not_acknowledged),
        cmocka_unit_test(nothing_to_send_again),
        cmocka_unit_test(sent_from_the_host_memory),
        cmocka_unit_test(handed_down_sends_are_completed),
        cmocka_unit_test(late_lack_of_resources),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
