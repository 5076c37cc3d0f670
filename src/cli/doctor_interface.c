/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interfaces: can this one be a port, and what would be in the way?
 */
#include "cli/doctor.h"
#include "cli/cli.h"
#include "cli/interface.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "port/xsk.h"

/** Largest MTU of native XDP with one buffer per frame on veth (a page less its overhead). */
#define XDP_ONE_BUFFER_MTU 3506
/** Largest frame of umem. */
#define XDP_FRAME 4096

/** What is wrong with an interface that nobody named is only worth a warning. */
static enum verdict failure(bool named)
{
    return named ? VERDICT_FAIL : VERDICT_WARN;
}

static void check_link(struct doctor *d, const struct interface *i, bool named)
{
    char change[128];

    if (!i->ethernet || i->loopback) {
        doctor_say(d, failure(named), "link", "name an Ethernet interface", "not Ethernet");
        return;
    }
    if (i->master) {
        snprintf(change, sizeof(change),
                 "use it without a bridge or bond: ip link set dev %s nomaster", i->name);
        doctor_say(d, failure(named), "link", change,
                   "belongs to another interface (index %d), which gets its frames", i->master);
    } else if (!i->up || !i->carrier) {
        snprintf(change, sizeof(change), i->up ? "plug it in" : "ip link set dev %s up", i->name);
        doctor_say(d, VERDICT_WARN, "link", change, "%s, MTU %u", i->up ? "no carrier" : "down",
                   i->mtu);
    } else {
        doctor_say(d, VERDICT_OK, "link", NULL, "up, MTU %u%s%s", i->mtu,
                   *i->driver ? ", driver " : "", i->driver);
    }
}

static void check_queues(struct doctor *d, const struct interface *i, bool named)
{
    uint64_t bytes = (uint64_t)i->rx_queues * XSK_FRAMES_PER_QUEUE * XDP_FRAME;
    char change[128], memory[SHOW_TEXT];

    if (i->rx_queues > XSK_MAX_QUEUES) {
        snprintf(change, sizeof(change), "ethtool -L %s combined %d", i->name, XSK_MAX_QUEUES);
        doctor_say(d, failure(named), "queues", change, "%u receive queues, at most %d are served",
                   i->rx_queues, XSK_MAX_QUEUES);
    } else {
        doctor_say(d, VERDICT_OK, "queues", NULL,
                   "%u receive, %u transmit; AF_XDP memory %s at most", i->rx_queues, i->tx_queues,
                   show_bytes(bytes, memory));
    }
}

static void check_xdp(struct doctor *d, const struct interface *i, bool named)
{
    char change[160], name[16];
    bool native = (i->xdp_features & XDP_CAN_BASIC) && (i->xdp_features & XDP_CAN_REDIRECT);

    if (i->xdp_prog) {
        interface_xdp_name(i->xdp_prog, name);
        if (strncmp(name, "chimney_", 8) == 0) {
            doctor_say(d, VERDICT_OK, "XDP", NULL, "attached: %s (id %u), chimneyd's own", name,
                       i->xdp_prog);
            return;
        }
        snprintf(change, sizeof(change), "if nobody needs that program: ip link set dev %s xdp off",
                 i->name);
        doctor_say(d, failure(named), "XDP", change, "taken by another program: %s (id %u)",
                   *name ? name : "?", i->xdp_prog);
        return;
    }
    if (!i->xdp_known) {
        doctor_say(d, VERDICT_WARN, "XDP", "use Linux 6.3 or later to know before",
                   "this kernel does not tell whether the driver has native mode");
        return;
    }
    if (!native) {
        doctor_say(d, VERDICT_WARN, "XDP",
                   "use an interface whose driver has native XDP, if speed matters",
                   "no native mode in driver %s: generic mode is used, and is slower",
                   *i->driver ? i->driver : "?");
        return;
    }
    if (i->mtu > XDP_ONE_BUFFER_MTU && !(i->xdp_features & XDP_CAN_RX_SG)) {
        snprintf(change, sizeof(change), "ip link set dev %s mtu %d", i->name, XDP_ONE_BUFFER_MTU);
        doctor_say(d, failure(named), "XDP", change,
                   "native, but the driver cannot take frames of MTU %u in several buffers",
                   i->mtu);
        return;
    }
    doctor_say(d, VERDICT_OK, "XDP", NULL, "native mode%s%s",
               i->xdp_features & XDP_CAN_ZEROCOPY ? ", zero copy" : ", copy mode",
               i->xdp_features & XDP_CAN_RX_SG ? ", any MTU" : "");
}

static void check_offloads(struct doctor *d, const struct interface *i, bool named)
{
    char change[128];

    if (i->lro) {
        snprintf(change, sizeof(change), "ethtool -K %s lro off", i->name);
        doctor_say(d, failure(named), "LRO", change, "on: merged frames cannot be taken apart");
    }
    if (i->rx_vlan && strcmp(i->kind, "veth") != 0) {
        snprintf(change, sizeof(change), "if there are VLANs: ethtool -K %s rxvlan off", i->name);
        doctor_say(d, VERDICT_WARN, "VLAN", change,
                   "the NIC strips tags: connections of a VLAN stay in the kernel");
    }
    doctor_say(d, VERDICT_OK, "GRO", NULL, "%s, either is fine", i->gro ? "on" : "off");
}

/** The other end of a veth leaves checksums to a NIC that is not there, and has its queues. */
static void check_peer(struct doctor *d, const struct interface *i, bool named)
{
    char netns[64], change[200], prefix[100] = "";
    struct interface peer;

    if (!interface_peer(i, &peer, netns, sizeof(netns))) {
        snprintf(
            change, sizeof(change),
            "if frames are tagged, where the other end is (index %d): ethtool -K PEER txvlan off",
            i->peer);
        doctor_say(d, VERDICT_OK, "peer", change,
                   "the other end is in a namespace without a name and was not looked at");
        return;
    }
    if (strcmp(netns, "1") == 0)
        snprintf(prefix, sizeof(prefix), "nsenter -t 1 -n ");
    else if (*netns)
        snprintf(prefix, sizeof(prefix), "ip netns exec %s ", netns);
    if (peer.tx_checksum) {
        snprintf(change, sizeof(change), "to save that work: %sethtool -K %s tx off", prefix,
                 peer.name);
        doctor_say(d, VERDICT_OK, "peer's checksums", change,
                   "%s leaves checksums undone (tx-checksum is on): the port finishes them",
                   peer.name);
    } else {
        doctor_say(d, VERDICT_OK, "peer's checksums", NULL, "%s fills them in", peer.name);
    }
    if (peer.tx_queues > i->rx_queues) {
        snprintf(change, sizeof(change), "%sethtool -L %s tx %u", prefix, peer.name, i->rx_queues);
        doctor_say(d, VERDICT_WARN, "peer's queues", change,
                   "%s sends on %u queues, %s receives on %u: veth then has no native XDP",
                   peer.name, peer.tx_queues, i->name, i->rx_queues);
    }
}

static void check_interface(struct doctor *d, const struct interface *i, bool named)
{
    d->scope = i->name;
    check_link(d, i, named);
    if (!i->ethernet || i->loopback)
        return;
    check_queues(d, i, named);
    check_xdp(d, i, named);
    check_offloads(d, i, named);
    if (strcmp(i->kind, "veth") == 0)
        check_peer(d, i, named);
}

/** Hardware and veth: what a port can be made of. */
static bool could_be_port(const struct interface *i)
{
    return i->ethernet && !i->loopback && (!*i->kind || strcmp(i->kind, "veth") == 0);
}

void doctor_interfaces(struct doctor *d, char *const *names, int count)
{
    struct interface *list;
    int n = interfaces_read(&list);
    unsigned seen = 0;

    if (n < 0) {
        doctor_say(d, VERDICT_FAIL, "interfaces", "is there /proc, and netlink?",
                   "cannot be listed: %s", strerror(-n));
        return;
    }
    for (int k = 0; k < count; k++) {
        const struct interface *found = NULL;

        for (int i = 0; i < n; i++)
            if (strcmp(list[i].name, names[k]) == 0)
                found = &list[i];
        if (found) {
            check_interface(d, found, true);
        } else {
            d->scope = names[k];
            doctor_say(d, VERDICT_FAIL, "link", "ip link shows what there is",
                       "no such interface in this network namespace");
        }
    }
    for (int i = 0; count == 0 && i < n; i++)
        if (could_be_port(&list[i])) {
            check_interface(d, &list[i], false);
            seen++;
        }
    if (count == 0 && seen == 0)
        doctor_say(d, VERDICT_WARN, "interfaces", "name one: chimney doctor IFACE",
                   "none in this network namespace that could be a port");
    free(list);
}
