/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Constants and names of the contract, against the published values, and the tables of functions
 * with their holes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <chimney/target.h>
#include "contract/tree.h"

/* rows: C80 */
static void state_types(void **state)
{
    static const int published[] = {NeighborOffloadConstState,
                                    1,
                                    NeighborOffloadCachedState,
                                    2,
                                    NeighborOffloadDelegatedState,
                                    3,
                                    NeighborOffloadState,
                                    4,
                                    Ip4OffloadConstState,
                                    5,
                                    Ip4OffloadCachedState,
                                    6,
                                    Ip4OffloadDelegatedState,
                                    7,
                                    Ip4OffloadState,
                                    8,
                                    Ip6OffloadConstState,
                                    9,
                                    Ip6OffloadCachedState,
                                    10,
                                    Ip6OffloadDelegatedState,
                                    11,
                                    Ip6OffloadState,
                                    12,
                                    TcpOffloadConstState,
                                    13,
                                    TcpOffloadCachedState,
                                    14,
                                    TcpOffloadDelegatedState,
                                    15,
                                    TcpOffloadResourceState,
                                    16,
                                    TcpOffloadState,
                                    17,
                                    FilterReservedOffloadState,
                                    0xFE};

    for (size_t i = 0; i < sizeof(published) / sizeof(published[0]); i += 2)
        assert_int_equal(published[i], published[i + 1]);
}

/* rows: C81 */
static void tcp_states(void **state)
{
    static const char *const names[] = {"Closed",      "Listen",   "SynSent",  "SynRcvd",
                                        "Established", "FinWait1", "FinWait2", "CloseWait",
                                        "Closing",     "LastAck",  "TimeWait"};

    for (int i = 0; i <= 10; i++)
        assert_string_equal(chimney_tcp_state_name(i), names[i]);
    assert_string_equal(chimney_tcp_state_name(11), "?");
    assert_int_equal(TcpConnectionEstablished, 4);
    assert_int_equal(TcpConnectionTimeWait, 10);
}

/* rows: C82 */
static void event_types(void **state)
{
    assert_int_equal(TcpIndicateSendBacklogChange, 1);
    assert_int_equal(TcpIndicateDisconnect, 2);
    assert_int_equal(TcpIndicateRetrieve, 3);
    assert_int_equal(TcpIndicateAbort, 4);
    assert_string_equal(chimney_event_type_name(TcpIndicateRetrieve), "TcpIndicateRetrieve");
    assert_string_equal(chimney_event_type_name(0), "?");
    assert_string_equal(chimney_event_type_name(5), "?");
}

/* rows: C83 */
static void upload_reasons(void **state)
{
    static const struct {
        int value;
        const char *name;
        int mandatory;
    } table[] = {
        {0, "None", 0},
        {1, "LowActivity", 0},
        {2, "HighDropRate", 0},
        {3, "SmallIO", 0},
        {4, "NoBufferPreposting", 0},
        {5, "ReceivedUrgentData", 1},
        {6, "HighFragmentation", 0},
        {7, "HighOutOfOrderPackets", 0},
        {8, "TimeoutExpiration", 1},
        {9, "InvalidState", 1},
        {10, "UploadRequested", 1},
        {11, "HardwareFailure", 1},
        {12, "?", 0},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        assert_string_equal(chimney_upload_reason_name(table[i].value), table[i].name);
        assert_int_equal(chimney_upload_reason_mandatory(table[i].value), table[i].mandatory);
    }
}

/* rows: C84 */
static void offload_events(void **state)
{
    assert_int_equal(NeighborReachabilityInDoubt, 1);
    assert_int_equal(NeighborReachabilityQuery, 2);
}

/* rows: C85 */
static void disconnect_flags(void **state)
{
    assert_int_equal(TCP_DISCONNECT_GRACEFUL_CLOSE, 1);
    assert_int_equal(TCP_DISCONNECT_ABORTIVE_CLOSE, 2);
}

/* rows: C8 */
static void connection_states(void **state)
{
    static const char *const names[] = {"InHost", "Offloading", "Offloaded", "Uploading"};

    for (int i = 0; i < 4; i++)
        assert_string_equal(chimney_conn_state_name(i), names[i]);
    assert_string_equal(chimney_conn_state_name(4), "?");
    assert_string_equal(chimney_conn_state_name(-1), "?");
}

static void status_codes(void **state)
{
    static const struct {
        chimney_status status;
        uint32_t published;
        const char *name;
    } table[] = {
        {NDIS_STATUS_SUCCESS, 0, "NDIS_STATUS_SUCCESS"},
        {NDIS_STATUS_FAILURE, 0xC0000001, "NDIS_STATUS_FAILURE"},
        {NDIS_STATUS_RESOURCES, 0xC000009A, "NDIS_STATUS_RESOURCES"},
        {NDIS_STATUS_REQUEST_ABORTED, 0xC001000C, "NDIS_STATUS_REQUEST_ABORTED"},
        {NDIS_STATUS_UPLOAD_IN_PROGRESS, 0xC0231001, "NDIS_STATUS_UPLOAD_IN_PROGRESS"},
        {NDIS_STATUS_REQUEST_UPLOAD, 0xC0231002, "NDIS_STATUS_REQUEST_UPLOAD"},
        {NDIS_STATUS_UPLOAD_REQUESTED, 0xC0231003, "NDIS_STATUS_UPLOAD_REQUESTED"},
        {NDIS_STATUS_OFFLOAD_TCP_ENTRIES, 0xC0231004, "NDIS_STATUS_OFFLOAD_TCP_ENTRIES"},
        {NDIS_STATUS_OFFLOAD_PATH_ENTRIES, 0xC0231005, "NDIS_STATUS_OFFLOAD_PATH_ENTRIES"},
        {NDIS_STATUS_OFFLOAD_NEIGHBOR_ENTRIES, 0xC0231006, "NDIS_STATUS_OFFLOAD_NEIGHBOR_ENTRIES"},
        {NDIS_STATUS_OFFLOAD_IP_ADDRESS_ENTRIES, 0xC0231007,
         "NDIS_STATUS_OFFLOAD_IP_ADDRESS_ENTRIES"},
        {NDIS_STATUS_OFFLOAD_HW_ADDRESS_ENTRIES, 0xC0231008,
         "NDIS_STATUS_OFFLOAD_HW_ADDRESS_ENTRIES"},
        {NDIS_STATUS_OFFLOAD_VLAN_ENTRIES, 0xC0231009, "NDIS_STATUS_OFFLOAD_VLAN_ENTRIES"},
        {NDIS_STATUS_OFFLOAD_TCP_XMIT_BUFFER, 0xC023100A, "NDIS_STATUS_OFFLOAD_TCP_XMIT_BUFFER"},
        {NDIS_STATUS_OFFLOAD_TCP_RCV_BUFFER, 0xC023100B, "NDIS_STATUS_OFFLOAD_TCP_RCV_BUFFER"},
        {NDIS_STATUS_OFFLOAD_TCP_RCV_WINDOW, 0xC023100C, "NDIS_STATUS_OFFLOAD_TCP_RCV_WINDOW"},
        {NDIS_STATUS_OFFLOAD_VLAN_MISMATCH, 0xC023100D, "NDIS_STATUS_OFFLOAD_VLAN_MISMATCH"},
        {NDIS_STATUS_OFFLOAD_CONNECTION_REJECTED, 0xC0231012,
         "NDIS_STATUS_OFFLOAD_CONNECTION_REJECTED"},
        {NDIS_STATUS_OFFLOAD_PAUSE, 0x40020001, "NDIS_STATUS_OFFLOAD_PAUSE"},
        {NDIS_STATUS_UPLOAD_ALL, 0x40020002, "NDIS_STATUS_UPLOAD_ALL"},
        {NDIS_STATUS_OFFLOAD_RESUME, 0x40020003, "NDIS_STATUS_OFFLOAD_RESUME"},
        {NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS, 0x40020004, "NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS"},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        assert_int_equal(table[i].status, table[i].published);
        assert_string_equal(chimney_status_name(table[i].status), table[i].name);
    }
    assert_string_equal(chimney_status_name(TREE_STATUS_POISON), "NDIS_STATUS_?");
}

static void some_tree(struct chimney_target *target, struct chimney_block *root) {}
static chimney_status some_position(struct chimney_target *t, struct chimney_cell *c, uint64_t p)
{
    return NDIS_STATUS_PENDING;
}
static chimney_status some_disconnect(struct chimney_target *t, struct chimney_cell *c, uint32_t f)
{
    return NDIS_STATUS_PENDING;
}
static chimney_status some_forward(struct chimney_target *t, struct chimney_cell *c,
                                   const struct chimney_segment *s)
{
    return NDIS_STATUS_PENDING;
}
static void some_bind(struct chimney_target *t, const struct chimney_host_ops *o,
                      struct chimney_host *h)
{
}
static void done_tree(struct chimney_host *host, struct chimney_block *root) {}
static void done_send(struct chimney_host *h, void *p, uint64_t a, chimney_status s) {}
static void done_disconnect(struct chimney_host *h, void *p, chimney_status s) {}
static void done_forward(struct chimney_host *h, void *p, const struct chimney_segment *g,
                         chimney_status s)
{
}
static void some_indication(struct chimney_host *h, void *p, uint64_t head) {}
static void some_event(struct chimney_host *h, void *p, enum chimney_event_type t, uint32_t i) {}

/** Every pointer of a table of functions is set. */
static void assert_no_holes(const void *table, size_t size)
{
    for (size_t at = 0; at < size; at += sizeof(void *)) {
        void *entry;

        memcpy(&entry, (const char *)table + at, sizeof(entry));
        assert_non_null(entry);
    }
}

/* rows: C86 C87 */
static void target_table(void **state)
{
    const struct chimney_target_ops whole = {
        .initiate = some_tree,
        .query = some_tree,
        .update = some_tree,
        .invalidate = some_tree,
        .terminate = some_tree,
        .send = some_position,
        .receive = some_position,
        .disconnect = some_disconnect,
        .forward = some_forward,
        .bind = some_bind,
    };
    struct chimney_target target = {0};
    struct chimney_target_ops out;
    struct chimney_capabilities capabilities;
    struct chimney_parameters parameters = {0};
    struct chimney_statistics statistics;
    struct chimney_cell cell = {0};
    _Alignas(8) uint8_t memory[1024];
    struct chimney_block *block = tree_block_init(memory, NeighborOffloadState);

    assert_ptr_equal(chimney_target_ops_init(&out, &whole), &out);
    assert_no_holes(&out, sizeof(out));
    memset(&capabilities, 0xA5, sizeof(capabilities));
    out.get_capabilities(&target, &capabilities);
    assert_int_equal(capabilities.tcp_connection_offload_capacity, 0);
    assert_int_equal(capabilities.header.revision, CHIMNEY_REVISION);
    assert_int_equal(out.set_parameters(&target, &parameters), NDIS_STATUS_FAILURE);
    memset(&statistics, 0xA5, sizeof(statistics));
    out.get_statistics(&target, 4, &statistics);
    assert_int_equal(statistics.in_receives, 0);

    /* Each of the ten entries of C86 and C87 missing in turn: refused, and still safe to call. */
    for (size_t entry = 0; entry < sizeof(whole) / sizeof(void *); entry++) {
        struct chimney_target_ops holed = whole;
        void *was;

        memcpy(&was, (char *)&whole + entry * sizeof(void *), sizeof(was));
        memset((char *)&holed + entry * sizeof(void *), 0, sizeof(void *));
        assert_int_equal(chimney_target_ops_complete(&holed), was == NULL);
        assert_ptr_equal(chimney_target_ops_init(&out, &holed), &out);
        assert_no_holes(&out, sizeof(out));
    }
    chimney_target_ops_init(&out, &(struct chimney_target_ops){0});
    out.initiate(&target, block);
    assert_int_equal(block->status, NDIS_STATUS_FAILURE);
    assert_int_equal(out.send(&target, &cell, 1), NDIS_STATUS_UPLOAD_IN_PROGRESS);
    assert_int_equal(out.receive(&target, &cell, 1), NDIS_STATUS_UPLOAD_IN_PROGRESS);
    assert_int_equal(out.disconnect(&target, &cell, 1), NDIS_STATUS_UPLOAD_IN_PROGRESS);
    assert_int_equal(out.forward(&target, &cell, NULL), NDIS_STATUS_UPLOAD_IN_PROGRESS);
    out.bind(&target, NULL, NULL);
}

/* rows: C88 C89 */
static void host_table(void **state)
{
    const struct chimney_host_ops whole = {
        .initiate_complete = done_tree,
        .query_complete = done_tree,
        .update_complete = done_tree,
        .invalidate_complete = done_tree,
        .terminate_complete = done_tree,
        .send_complete = done_send,
        .disconnect_complete = done_disconnect,
        .forward_complete = done_forward,
        .receive_indicate = some_indication,
        .event = some_event,
    };
    struct chimney_host_ops out;
    _Alignas(8) uint8_t memory[1024];
    struct chimney_block *block = tree_block_init(memory, NeighborOffloadState);

    assert_ptr_equal(chimney_host_ops_init(&out, &whole), &out);
    assert_no_holes(&out, sizeof(out));
    tree_neighbor_cached(block)->host_reachability_delta = 77;
    out.neighbor_query(NULL, block);
    assert_int_equal(tree_neighbor_cached(block)->host_reachability_delta, 0);
    for (size_t entry = 0; entry < sizeof(whole) / sizeof(void *); entry++) {
        struct chimney_host_ops holed = whole;
        void *was;

        memcpy(&was, (char *)&whole + entry * sizeof(void *), sizeof(was));
        memset((char *)&holed + entry * sizeof(void *), 0, sizeof(void *));
        assert_int_equal(chimney_host_ops_complete(&holed), was == NULL);
        assert_ptr_equal(chimney_host_ops_init(&out, &holed), &out);
        assert_no_holes(&out, sizeof(out));
    }
    chimney_host_ops_init(&out, &(struct chimney_host_ops){0});
    out.initiate_complete(NULL, block);
    out.send_complete(NULL, NULL, 0, NDIS_STATUS_SUCCESS);
    out.disconnect_complete(NULL, NULL, NDIS_STATUS_SUCCESS);
    out.forward_complete(NULL, NULL, NULL, NDIS_STATUS_SUCCESS);
    out.receive_indicate(NULL, NULL, 0);
    out.event(NULL, NULL, TcpIndicateAbort, 0);
    out.status(NULL, NDIS_STATUS_OFFLOAD_PAUSE, NULL, 0);
    out.receive(NULL, 0, NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(state_types),       cmocka_unit_test(tcp_states),
        cmocka_unit_test(event_types),       cmocka_unit_test(upload_reasons),
        cmocka_unit_test(offload_events),    cmocka_unit_test(disconnect_flags),
        cmocka_unit_test(connection_states), cmocka_unit_test(status_codes),
        cmocka_unit_test(target_table),      cmocka_unit_test(host_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
