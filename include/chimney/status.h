/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Status codes, events, reasons and connection states of the offload contract.
 *
 * Names and values are those of the Windows NDIS 6.0 documentation of TCP chimney offload, so that
 * whoever knows that contract finds every code under its own name.  This header needs no operating
 * system and may be used by firmware.
 */
#ifndef CHIMNEY_STATUS_H
#define CHIMNEY_STATUS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** An NDIS_STATUS.  Bit 31 set: an error; 0x4...: an indication; 0: success. */
typedef uint32_t chimney_status;

/* Completion statuses of every verb (contract rows C137, C163 to C178). */
#define NDIS_STATUS_SUCCESS ((chimney_status)0x00000000u)
#define NDIS_STATUS_PENDING ((chimney_status)0x00000103u)
#define NDIS_STATUS_FAILURE ((chimney_status)0xC0000001u)
#define NDIS_STATUS_RESOURCES ((chimney_status)0xC000009Au)
#define NDIS_STATUS_NOT_SUPPORTED ((chimney_status)0xC00000BBu)
/** STATUS_INVALID_DEVICE_STATE under its NDIS name: a receive after the peer's FIN (C274). */
#define NDIS_STATUS_INVALID_STATE ((chimney_status)0xC0000184u)
#define NDIS_STATUS_REQUEST_ABORTED ((chimney_status)0xC001000Cu)
/** Never used for a send while paused and uploading (C251); present so that a test can say so. */
#define NDIS_STATUS_PAUSED ((chimney_status)0xC023002Au)

#define NDIS_STATUS_UPLOAD_IN_PROGRESS ((chimney_status)0xC0231001u)
#define NDIS_STATUS_REQUEST_UPLOAD ((chimney_status)0xC0231002u)
#define NDIS_STATUS_UPLOAD_REQUESTED ((chimney_status)0xC0231003u)
#define NDIS_STATUS_OFFLOAD_TCP_ENTRIES ((chimney_status)0xC0231004u)
#define NDIS_STATUS_OFFLOAD_PATH_ENTRIES ((chimney_status)0xC0231005u)
#define NDIS_STATUS_OFFLOAD_NEIGHBOR_ENTRIES ((chimney_status)0xC0231006u)
#define NDIS_STATUS_OFFLOAD_IP_ADDRESS_ENTRIES ((chimney_status)0xC0231007u)
#define NDIS_STATUS_OFFLOAD_HW_ADDRESS_ENTRIES ((chimney_status)0xC0231008u)
#define NDIS_STATUS_OFFLOAD_VLAN_ENTRIES ((chimney_status)0xC0231009u)
#define NDIS_STATUS_OFFLOAD_TCP_XMIT_BUFFER ((chimney_status)0xC023100Au)
#define NDIS_STATUS_OFFLOAD_TCP_RCV_BUFFER ((chimney_status)0xC023100Bu)
#define NDIS_STATUS_OFFLOAD_TCP_RCV_WINDOW ((chimney_status)0xC023100Cu)
#define NDIS_STATUS_OFFLOAD_VLAN_MISMATCH ((chimney_status)0xC023100Du)
#define NDIS_STATUS_OFFLOAD_DATA_NOT_ACCEPTED ((chimney_status)0xC023100Eu)
#define NDIS_STATUS_OFFLOAD_POLICY ((chimney_status)0xC023100Fu)
#define NDIS_STATUS_OFFLOAD_DATA_PARTIALLY_ACCEPTED ((chimney_status)0xC0231010u)
#define NDIS_STATUS_OFFLOAD_REQUEST_RESET ((chimney_status)0xC0231011u)
#define NDIS_STATUS_OFFLOAD_CONNECTION_REJECTED ((chimney_status)0xC0231012u)
/**
 * Documented, but missing from every public header (contract.md D4): a category of its own.  The
 * value is ours, the next free one after STATUS_NDIS_OFFLOAD_PATH_REJECTED (0xC0231013).
 */
#define NDIS_STATUS_OFFLOAD_PATH_MTU ((chimney_status)0xC0231014u)

/* Status indications, target to host (C357 to C367). */
#define NDIS_STATUS_OFFLOAD_PAUSE ((chimney_status)0x40020001u)
#define NDIS_STATUS_UPLOAD_ALL ((chimney_status)0x40020002u)
#define NDIS_STATUS_OFFLOAD_RESUME ((chimney_status)0x40020003u)
#define NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS ((chimney_status)0x40020004u)
#define NDIS_STATUS_OFFLOAD_STATE_INVALID ((chimney_status)0x40020005u)
#define NDIS_STATUS_OFFLOAD_ENCASPULATION_CHANGE ((chimney_status)0x40020008u)
#define NDIS_STATUS_TCP_CONNECTION_OFFLOAD_HARDWARE_CAPABILITIES ((chimney_status)0x4002000Bu)

/** TCP_CONNECTION_OFFLOAD_STATE: a connection as management sees it (C8). */
enum chimney_conn_state {
    CHIMNEY_IN_HOST = 0,
    CHIMNEY_OFFLOADING = 1,
    CHIMNEY_OFFLOADED = 2,
    CHIMNEY_UPLOADING = 3,
};

/** OFFLOAD_STATE_TYPE: which state structure(s) follow a block (C80). */
enum chimney_state_type {
    NeighborOffloadConstState = 1,
    NeighborOffloadCachedState = 2,
    NeighborOffloadDelegatedState = 3,
    NeighborOffloadState = 4,
    Ip4OffloadConstState = 5,
    Ip4OffloadCachedState = 6,
    Ip4OffloadDelegatedState = 7,
    Ip4OffloadState = 8,
    Ip6OffloadConstState = 9,
    Ip6OffloadCachedState = 10,
    Ip6OffloadDelegatedState = 11,
    Ip6OffloadState = 12,
    TcpOffloadConstState = 13,
    TcpOffloadCachedState = 14,
    TcpOffloadDelegatedState = 15,
    TcpOffloadResourceState = 16,
    TcpOffloadState = 17,
    FilterReservedOffloadState = 0xFE,
};

/** TCP_OFFLOAD_CONNECTION_STATE: RFC 793 states (C81). */
enum chimney_tcp_state {
    TcpConnectionClosed = 0,
    TcpConnectionListen = 1,
    TcpConnectionSynSent = 2,
    TcpConnectionSynRcvd = 3,
    TcpConnectionEstablished = 4,
    TcpConnectionFinWait1 = 5,
    TcpConnectionFinWait2 = 6,
    TcpConnectionCloseWait = 7,
    TcpConnectionClosing = 8,
    TcpConnectionLastAck = 9,
    TcpConnectionTimeWait = 10,
};

/** TCP_OFFLOAD_EVENT_TYPE: what a target tells about one connection (C82, C327 to C333). */
enum chimney_event_type {
    TcpIndicateSendBacklogChange = 1,
    TcpIndicateDisconnect = 2,
    TcpIndicateRetrieve = 3,
    TcpIndicateAbort = 4,
};

/** TCP_UPLOAD_REASON: why a target asks for one connection to be taken back (C83). */
enum chimney_upload_reason {
    /** Not a reason: no retrieve was asked. */
    CHIMNEY_REASON_NONE = 0,
    LowActivity = 1,
    HighDropRate = 2,
    SmallIO = 3,
    NoBufferPreposting = 4,
    ReceivedUrgentData = 5,
    HighFragmentation = 6,
    HighOutOfOrderPackets = 7,
    TimeoutExpiration = 8,
    InvalidState = 9,
    UploadRequested = 10,
    HardwareFailure = 11,
};

/** INDICATE_OFFLOAD_EVENT (C84).  InDoubt is reserved and never emitted (C348). */
enum chimney_offload_event {
    NeighborReachabilityInDoubt = 1,
    NeighborReachabilityQuery = 2,
};

/* Disconnect flags: exactly one of them (C85). */
#define TCP_DISCONNECT_GRACEFUL_CLOSE 0x01u
#define TCP_DISCONNECT_ABORTIVE_CLOSE 0x02u

/** Name of a status code ("NDIS_STATUS_UPLOAD_IN_PROGRESS"), or "NDIS_STATUS_?" if unknown. */
const char *chimney_status_name(chimney_status status);
/** Name of a connection state ("InHost"), or "?". */
const char *chimney_conn_state_name(enum chimney_conn_state state);
/** Name of an upload reason ("LowActivity"), "None" for 0, or "?". */
const char *chimney_upload_reason_name(enum chimney_upload_reason reason);
/** Name of a per-connection event ("TcpIndicateRetrieve"), or "?". */
const char *chimney_event_type_name(enum chimney_event_type type);
/** Name of an RFC 793 state ("Established"), or "?". */
const char *chimney_tcp_state_name(enum chimney_tcp_state state);
/** True for the reasons that oblige the host to upload (C334 to C338); others it may ignore. */
int chimney_upload_reason_mandatory(enum chimney_upload_reason reason);

#ifdef __cplusplus
}
#endif
#endif
