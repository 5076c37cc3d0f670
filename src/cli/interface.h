/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network interfaces as the kernel describes them: rtnetlink, the netdev family, ethtool.  Reads
 * only.
 */
#ifndef CHIMNEY_CLI_INTERFACE_H
#define CHIMNEY_CLI_INTERFACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INTERFACE_NAME 16

/* Of struct interface.xdp_features; the kernel's values (include/uapi/linux/netdev.h). */
#define XDP_CAN_BASIC 0x01u
#define XDP_CAN_REDIRECT 0x02u
#define XDP_CAN_ZEROCOPY 0x08u
#define XDP_CAN_RX_SG 0x20u

struct interface {
    int index;
    char name[INTERFACE_NAME];
    char kind[16];   /* "veth", "bridge", ...; empty: hardware */
    char driver[32]; /* from ethtool; empty: none */
    bool ethernet, loopback, up, carrier;
    uint32_t mtu;
    uint32_t rx_queues, tx_queues; /* in use */
    int master;                    /* index of the bridge or bond it belongs to, 0: none */
    int peer;                      /* veth: index of the other end, 0: none */
    int peer_netns;                /* namespace id of the other end, -1: this namespace */
    uint32_t xdp_prog;             /* id of the attached program, 0: none */
    bool xdp_known;                /* the kernel tells its features */
    uint64_t xdp_features;
    bool tx_checksum, gro, lro, rx_vlan; /* offloads that are on */
};

/** Reads all interfaces of this namespace, to be freed; count, or -errno. */
int interfaces_read(struct interface **out);
/**
 * Reads the other end of a veth, in whatever namespace it is, as far as that has a name or is the
 * one of process 1; @netns gets the namespace's name, empty for this one.  False: not found.
 */
bool interface_peer(const struct interface *veth, struct interface *out, char *netns, size_t size);
/** Name of a loaded BPF program; empty if it cannot be read. */
void interface_xdp_name(uint32_t prog, char name[16]);

#endif
