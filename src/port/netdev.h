/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a port wants to know about a network interface; private to port/.
 */
#ifndef CHIMNEY_PORT_NETDEV_H
#define CHIMNEY_PORT_NETDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct netdev {
    char name[16];
    int ifindex;
    uint32_t mtu;
    uint8_t mac[6];
    uint32_t rx_queues;
    bool veth; /* its peer is an interface of this machine's own kernel */
};

/**
 * Asks the kernel about @ifname over @control, any datagram socket of the interface's namespace.
 * On failure returns false and writes one line to @err.
 */
bool netdev_query(int control, const char *ifname, struct netdev *dev, char *err, size_t errlen);
/** True if the interface exists, is administratively up and has carrier.  Two system calls. */
bool netdev_running(int control, int ifindex);

#endif
