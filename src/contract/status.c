/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of statuses, states, reasons and events, as logs, the command line and tests print them.
 */
#include <stddef.h>

#include <chimney/status.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define NAMED(code)                                                                                \
    {                                                                                              \
        code, #code                                                                                \
    }

static const struct {
    chimney_status status;
    const char *name;
} status_names[] = {
    NAMED(NDIS_STATUS_SUCCESS),
    NAMED(NDIS_STATUS_PENDING),
    NAMED(NDIS_STATUS_FAILURE),
    NAMED(NDIS_STATUS_RESOURCES),
    NAMED(NDIS_STATUS_NOT_SUPPORTED),
    NAMED(NDIS_STATUS_INVALID_STATE),
    NAMED(NDIS_STATUS_REQUEST_ABORTED),
    NAMED(NDIS_STATUS_PAUSED),
    NAMED(NDIS_STATUS_UPLOAD_IN_PROGRESS),
    NAMED(NDIS_STATUS_REQUEST_UPLOAD),
    NAMED(NDIS_STATUS_UPLOAD_REQUESTED),
    NAMED(NDIS_STATUS_OFFLOAD_TCP_ENTRIES),
    NAMED(NDIS_STATUS_OFFLOAD_PATH_ENTRIES),
    NAMED(NDIS_STATUS_OFFLOAD_NEIGHBOR_ENTRIES),
    NAMED(NDIS_STATUS_OFFLOAD_IP_ADDRESS_ENTRIES),
    NAMED(NDIS_STATUS_OFFLOAD_HW_ADDRESS_ENTRIES),
    NAMED(NDIS_STATUS_OFFLOAD_VLAN_ENTRIES),
    NAMED(NDIS_STATUS_OFFLOAD_TCP_XMIT_BUFFER),
    NAMED(NDIS_STATUS_OFFLOAD_TCP_RCV_BUFFER),
    NAMED(NDIS_STATUS_OFFLOAD_TCP_RCV_WINDOW),
    NAMED(NDIS_STATUS_OFFLOAD_VLAN_MISMATCH),
    NAMED(NDIS_STATUS_OFFLOAD_DATA_NOT_ACCEPTED),
    NAMED(NDIS_STATUS_OFFLOAD_POLICY),
    NAMED(NDIS_STATUS_OFFLOAD_DATA_PARTIALLY_ACCEPTED),
    NAMED(NDIS_STATUS_OFFLOAD_REQUEST_RESET),
    NAMED(NDIS_STATUS_OFFLOAD_CONNECTION_REJECTED),
    NAMED(NDIS_STATUS_OFFLOAD_PATH_MTU),
    NAMED(NDIS_STATUS_OFFLOAD_PAUSE),
    NAMED(NDIS_STATUS_UPLOAD_ALL),
    NAMED(NDIS_STATUS_OFFLOAD_RESUME),
    NAMED(NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS),
    NAMED(NDIS_STATUS_OFFLOAD_STATE_INVALID),
    NAMED(NDIS_STATUS_OFFLOAD_ENCASPULATION_CHANGE),
    NAMED(NDIS_STATUS_TCP_CONNECTION_OFFLOAD_HARDWARE_CAPABILITIES),
};

const char *chimney_status_name(chimney_status status)
{
    for (size_t i = 0; i < COUNT(status_names); i++) {
        if (status_names[i].status == status)
            return status_names[i].name;
    }
    return "NDIS_STATUS_?";
}

/** @names[value], or "?" outside the array or in a hole of it. */
static const char *name_of(const char *const *names, size_t count, unsigned int value)
{
    return value < count && names[value] ? names[value] : "?";
}

const char *chimney_conn_state_name(enum chimney_conn_state state)
{
    static const char *const names[] = {
        [CHIMNEY_IN_HOST] = "InHost",
        [CHIMNEY_OFFLOADING] = "Offloading",
        [CHIMNEY_OFFLOADED] = "Offloaded",
        [CHIMNEY_UPLOADING] = "Uploading",
    };
    return name_of(names, COUNT(names), state);
}

const char *chimney_upload_reason_name(enum chimney_upload_reason reason)
{
    static const char *const names[] = {
        [CHIMNEY_REASON_NONE] = "None",
        [LowActivity] = "LowActivity",
        [HighDropRate] = "HighDropRate",
        [SmallIO] = "SmallIO",
        [NoBufferPreposting] = "NoBufferPreposting",
        [ReceivedUrgentData] = "ReceivedUrgentData",
        [HighFragmentation] = "HighFragmentation",
        [HighOutOfOrderPackets] = "HighOutOfOrderPackets",
        [TimeoutExpiration] = "TimeoutExpiration",
        [InvalidState] = "InvalidState",
        [UploadRequested] = "UploadRequested",
        [HardwareFailure] = "HardwareFailure",
    };
    return name_of(names, COUNT(names), reason);
}

const char *chimney_event_type_name(enum chimney_event_type type)
{
    static const char *const names[] = {
        [TcpIndicateSendBacklogChange] = "TcpIndicateSendBacklogChange",
        [TcpIndicateDisconnect] = "TcpIndicateDisconnect",
        [TcpIndicateRetrieve] = "TcpIndicateRetrieve",
        [TcpIndicateAbort] = "TcpIndicateAbort",
    };
    return name_of(names, COUNT(names), type);
}

const char *chimney_tcp_state_name(enum chimney_tcp_state state)
{
    static const char *const names[] = {
        [TcpConnectionClosed] = "Closed",           [TcpConnectionListen] = "Listen",
        [TcpConnectionSynSent] = "SynSent",         [TcpConnectionSynRcvd] = "SynRcvd",
        [TcpConnectionEstablished] = "Established", [TcpConnectionFinWait1] = "FinWait1",
        [TcpConnectionFinWait2] = "FinWait2",       [TcpConnectionCloseWait] = "CloseWait",
        [TcpConnectionClosing] = "Closing",         [TcpConnectionLastAck] = "LastAck",
        [TcpConnectionTimeWait] = "TimeWait",
    };
    return name_of(names, COUNT(names), state);
}

int chimney_upload_reason_mandatory(enum chimney_upload_reason reason)
{
    switch (reason) {
    case HardwareFailure:
    case InvalidState:
    case ReceivedUrgentData:
    case TimeoutExpiration:
    case UploadRequested:
        return 1;
    default:
        return 0;
    }
}
