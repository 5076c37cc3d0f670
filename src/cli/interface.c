/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/interface.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <libmnl/libmnl.h>
#include <linux/ethtool.h>
#include <linux/genetlink.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>

/* The netdev family of generic netlink (include/uapi/linux/netdev.h, Linux 6.3). */
#define NETDEV_NAME "netdev"
#define NETDEV_GET 1
#define NETDEV_ATTR_IFINDEX 1
#define NETDEV_ATTR_XDP_FEATURES 3

#define DUMP_MAX 1024

struct dump {
    struct interface *list;
    size_t count;
};

/* --- netlink ---------------------------------------------------------------------------------- */

/** Sends @request and hands every answer to @answer; 0 or -errno. */
static int ask(int family, struct nlmsghdr *request, mnl_cb_t answer, void *arg)
{
    struct mnl_socket *nl = mnl_socket_open2(family, SOCK_CLOEXEC);
    char buffer[32768];
    int rc = -EIO, n;

    if (!nl)
        return -errno;
    request->nlmsg_seq = 1;
    if (mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) == 0 &&
        mnl_socket_sendto(nl, request, request->nlmsg_len) >= 0) {
        do {
            n = (int)mnl_socket_recvfrom(nl, buffer, sizeof(buffer));
            rc = n < 0 ? -errno
                       : mnl_cb_run(buffer, (size_t)n, 1, mnl_socket_get_portid(nl), answer, arg);
            if (n >= 0 && rc < 0)
                rc = -errno;
        } while (rc == MNL_CB_OK);
    }
    mnl_socket_close(nl);
    return rc;
}

static int on_linkinfo(const struct nlattr *attr, void *arg)
{
    struct interface *i = arg;

    if (mnl_attr_get_type(attr) == IFLA_INFO_KIND && mnl_attr_validate(attr, MNL_TYPE_STRING) >= 0)
        snprintf(i->kind, sizeof(i->kind), "%.15s", mnl_attr_get_str(attr));
    return MNL_CB_OK;
}

static int on_xdp(const struct nlattr *attr, void *arg)
{
    struct interface *i = arg;

    if (mnl_attr_get_type(attr) == IFLA_XDP_PROG_ID && mnl_attr_validate(attr, MNL_TYPE_U32) >= 0)
        i->xdp_prog = mnl_attr_get_u32(attr);
    return MNL_CB_OK;
}

static int on_link_attr(const struct nlattr *attr, void *arg)
{
    struct interface *i = arg;

    switch (mnl_attr_get_type(attr)) {
    case IFLA_IFNAME:
        snprintf(i->name, sizeof(i->name), "%.15s", mnl_attr_get_str(attr));
        break;
    case IFLA_MTU:
        i->mtu = mnl_attr_get_u32(attr);
        break;
    case IFLA_NUM_RX_QUEUES:
        i->rx_queues = mnl_attr_get_u32(attr);
        break;
    case IFLA_NUM_TX_QUEUES:
        i->tx_queues = mnl_attr_get_u32(attr);
        break;
    case IFLA_MASTER:
        i->master = (int)mnl_attr_get_u32(attr);
        break;
    case IFLA_LINK:
        i->peer = (int)mnl_attr_get_u32(attr);
        break;
    case IFLA_LINK_NETNSID:
        i->peer_netns = (int)mnl_attr_get_u32(attr);
        break;
    case IFLA_LINKINFO:
        mnl_attr_parse_nested(attr, on_linkinfo, i);
        break;
    case IFLA_XDP:
        mnl_attr_parse_nested(attr, on_xdp, i);
        break;
    default:
        break;
    }
    return MNL_CB_OK;
}

static int on_link(const struct nlmsghdr *message, void *arg)
{
    const struct ifinfomsg *info = mnl_nlmsg_get_payload(message);
    struct dump *dump = arg;
    struct interface *i;

    if (dump->count == DUMP_MAX)
        return MNL_CB_OK;
    i = &dump->list[dump->count++];
    memset(i, 0, sizeof(*i));
    i->peer_netns = -1;
    i->index = info->ifi_index;
    i->ethernet = info->ifi_type == ARPHRD_ETHER;
    i->loopback = info->ifi_flags & IFF_LOOPBACK;
    i->up = info->ifi_flags & IFF_UP;
    i->carrier = info->ifi_flags & IFF_LOWER_UP;
    mnl_attr_parse(message, sizeof(*info), on_link_attr, i);
    return MNL_CB_OK;
}

static int on_family_attr(const struct nlattr *attr, void *arg)
{
    if (mnl_attr_get_type(attr) == CTRL_ATTR_FAMILY_ID)
        *(uint16_t *)arg = mnl_attr_get_u16(attr);
    return MNL_CB_OK;
}

static int on_family(const struct nlmsghdr *message, void *arg)
{
    mnl_attr_parse(message, sizeof(struct genlmsghdr), on_family_attr, arg);
    return MNL_CB_STOP;
}

static int on_netdev_attr(const struct nlattr *attr, void *arg)
{
    struct interface *i = arg;

    if (mnl_attr_get_type(attr) == NETDEV_ATTR_XDP_FEATURES) {
        i->xdp_features = mnl_attr_get_u64(attr);
        i->xdp_known = true;
    }
    return MNL_CB_OK;
}

static int on_netdev(const struct nlmsghdr *message, void *arg)
{
    mnl_attr_parse(message, sizeof(struct genlmsghdr), on_netdev_attr, arg);
    return MNL_CB_STOP;
}

static struct nlmsghdr *generic_request(char *buffer, uint16_t family, uint8_t command)
{
    struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
    struct genlmsghdr *generic;

    request->nlmsg_type = family;
    request->nlmsg_flags = NLM_F_REQUEST;
    generic = mnl_nlmsg_put_extra_header(request, sizeof(*generic));
    generic->cmd = command;
    generic->version = 1;
    return request;
}

static void read_xdp_features(struct interface *i)
{
    char buffer[256];
    uint16_t family = 0;
    struct nlmsghdr *request = generic_request(buffer, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);

    mnl_attr_put_strz(request, CTRL_ATTR_FAMILY_NAME, NETDEV_NAME);
    if (ask(NETLINK_GENERIC, request, on_family, &family) < 0 || !family)
        return; /* before Linux 6.3 */
    request = generic_request(buffer, family, NETDEV_GET);
    mnl_attr_put_u32(request, NETDEV_ATTR_IFINDEX, (uint32_t)i->index);
    ask(NETLINK_GENERIC, request, on_netdev, i);
}

/* --- ethtool ---------------------------------------------------------------------------------- */

static bool ethtool(int fd, const struct interface *i, void *data)
{
    struct ifreq ifr = {.ifr_data = data};

    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", i->name);
    return ioctl(fd, SIOCETHTOOL, &ifr) == 0;
}

static uint32_t ethtool_value(int fd, const struct interface *i, uint32_t command)
{
    struct ethtool_value value = {.cmd = command};

    return ethtool(fd, i, &value) ? value.data : 0;
}

static void read_ethtool(struct interface *i)
{
    struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
    struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    uint32_t flags;

    if (fd < 0)
        return;
    if (ethtool(fd, i, &info))
        snprintf(i->driver, sizeof(i->driver), "%.31s", info.driver);
    if (ethtool(fd, i, &channels)) {
        if (channels.rx_count + channels.combined_count)
            i->rx_queues = channels.rx_count + channels.combined_count;
        if (channels.tx_count + channels.combined_count)
            i->tx_queues = channels.tx_count + channels.combined_count;
    }
    flags = ethtool_value(fd, i, ETHTOOL_GFLAGS);
    i->lro = flags & ETH_FLAG_LRO;
    i->rx_vlan = flags & ETH_FLAG_RXVLAN;
    i->tx_checksum = ethtool_value(fd, i, ETHTOOL_GTXCSUM);
    i->gro = ethtool_value(fd, i, ETHTOOL_GGRO);
    close(fd);
}

int interfaces_read(struct interface **out)
{
    struct dump dump = {calloc(DUMP_MAX, sizeof(*dump.list)), 0};
    char buffer[256];
    struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
    struct ifinfomsg *info;
    int rc;

    if (!dump.list)
        return -ENOMEM;
    request->nlmsg_type = RTM_GETLINK;
    request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    info = mnl_nlmsg_put_extra_header(request, sizeof(*info));
    info->ifi_family = AF_UNSPEC;
    rc = ask(NETLINK_ROUTE, request, on_link, &dump);
    if (rc < 0) {
        free(dump.list);
        return rc;
    }
    for (size_t i = 0; i < dump.count; i++) {
        read_ethtool(&dump.list[i]);
        read_xdp_features(&dump.list[i]);
    }
    *out = dump.list;
    return (int)dump.count;
}

/* --- the other end of a veth -------------------------------------------------------------------
 */

static bool find_index(int index, struct interface *out)
{
    struct interface *list;
    int n = interfaces_read(&list);
    bool found = false;

    for (int i = 0; i < n; i++)
        if (list[i].index == index) {
            *out = list[i];
            found = true;
        }
    if (n >= 0)
        free(list);
    return found;
}

static int on_nsid_attr(const struct nlattr *attr, void *arg)
{
    if (mnl_attr_get_type(attr) == NETNSA_NSID)
        *(int *)arg = (int)mnl_attr_get_u32(attr);
    return MNL_CB_OK;
}

static int on_nsid(const struct nlmsghdr *message, void *arg)
{
    mnl_attr_parse(message, NLMSG_ALIGN(sizeof(struct rtgenmsg)), on_nsid_attr, arg);
    return MNL_CB_STOP;
}

/** The number this namespace has for another one; -1: none. */
static int netns_id(int fd)
{
    char buffer[256];
    struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
    int id = -1;

    request->nlmsg_type = RTM_GETNSID;
    request->nlmsg_flags = NLM_F_REQUEST;
    mnl_nlmsg_put_extra_header(request, NLMSG_ALIGN(sizeof(struct rtgenmsg)));
    mnl_attr_put_u32(request, NETNSA_FD, (uint32_t)fd);
    ask(NETLINK_ROUTE, request, on_nsid, &id);
    return id;
}

/** Looks there and comes back. */
static bool find_there(int there, int index, struct interface *out)
{
    int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    bool found = false;

    if (here >= 0 && setns(there, CLONE_NEWNET) == 0) {
        found = find_index(index, out);
        if (setns(here, CLONE_NEWNET) < 0) {
            perror("chimney: back to the network namespace");
            exit(1);
        }
    }
    if (here >= 0)
        close(here);
    return found;
}

static bool try_netns(const struct interface *veth, const char *path, struct interface *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool found = fd >= 0 && netns_id(fd) == veth->peer_netns && find_there(fd, veth->peer, out);

    if (fd >= 0)
        close(fd);
    return found;
}

bool interface_peer(const struct interface *veth, struct interface *out, char *netns, size_t size)
{
    bool found = false;
    DIR *dir;

    netns[0] = '\0';
    if (!veth->peer)
        return false;
    if (veth->peer_netns < 0)
        return find_index(veth->peer, out);
    dir = opendir("/run/netns");
    for (struct dirent *e; !found && dir && (e = readdir(dir));) {
        char path[300];

        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "/run/netns/%s", e->d_name);
        found = try_netns(veth, path, out);
        if (found)
            snprintf(netns, size, "%s", e->d_name);
    }
    if (dir)
        closedir(dir);
    if (!found && try_netns(veth, "/proc/1/ns/net", out)) {
        snprintf(netns, size, "1");
        found = true;
    }
    return found;
}

void interface_xdp_name(uint32_t prog, char name[16])
{
    struct bpf_prog_info info = {0};
    uint32_t len = sizeof(info);
    int fd = bpf_prog_get_fd_by_id(prog);

    name[0] = '\0';
    if (fd < 0)
        return;
    if (bpf_obj_get_info_by_fd(fd, &info, &len) == 0)
        snprintf(name, 16, "%.15s", info.name);
    close(fd);
}
