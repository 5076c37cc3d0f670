/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three questions make an entry: the route (asked as the flow itself would be routed, ports
 * included), the interface, the next hop's neighbor entry.  The kernel keeps the answers; nothing
 * is cached here.  A second socket listens to changes.
 */
#include "host/route.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "host/netlink.h"

/** Room for notices; when it is not enough route_dispatch() says so. */
#define NOTICE_BUFFER (1 << 20)
/** Notices handled per call: a storm of them must not keep the control thread. */
#define NOTICE_MAX 4096
/** discard: the probe that confirms a neighbor is never sent, but it must have a port. */
#define CONFIRM_PORT 9

/* sys/socket.h leaves it out. */
#ifndef MSG_PROBE
#define MSG_PROBE 0x10
#endif

#define NEIGHBOR_VALID                                                                             \
    (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY)

struct route_table {
    struct mnl_socket *ask, *listen;
    int udp4, udp6;
    long ticks; /* per second, of neighbor ages */
};

static uint8_t kernel_family(uint8_t family)
{
    return family == 4 ? AF_INET : AF_INET6;
}
static size_t address_size(uint8_t family)
{
    return family == 4 ? 4 : 16;
}

static int open_listener(struct mnl_socket **out)
{
    static const int groups[] = {RTNLGRP_LINK,       RTNLGRP_NEIGH,     RTNLGRP_IPV4_ROUTE,
                                 RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE,
                                 RTNLGRP_NEXTHOP};
    int size = NOTICE_BUFFER, fd, err = netlink_open(out, 0);

    if (err)
        return err;
    fd = mnl_socket_get_fd(*out);
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]) && !err; i++)
        if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i], sizeof(groups[i])) < 0)
            err = -errno;
    /* Without privilege the default has to do. */
    if (!err && setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0 &&
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) < 0)
        err = -errno;
    if (err) {
        mnl_socket_close(*out);
        *out = NULL;
    }
    return err;
}

int route_open(struct route_table **out, char *err, size_t errlen)
{
    struct route_table *t = calloc(1, sizeof(*t));
    int error;

    if (!t) {
        snprintf(err, errlen, "out of memory");
        return -ENOMEM;
    }
    t->ticks = sysconf(_SC_CLK_TCK);
    t->udp4 = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    error = t->udp4 < 0 ? -errno : 0;
    t->udp6 = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0); /* a kernel without IPv6 has none */
    if (!error)
        error = netlink_open(&t->ask, 0);
    if (!error)
        error = open_listener(&t->listen);
    if (error) {
        snprintf(err, errlen, "cannot ask the kernel for routes: %s", strerror(-error));
        route_close(t);
        return error;
    }
    *out = t;
    return 0;
}

void route_close(struct route_table *t)
{
    if (!t)
        return;
    if (t->ask)
        mnl_socket_close(t->ask);
    if (t->listen)
        mnl_socket_close(t->listen);
    if (t->udp4 >= 0)
        close(t->udp4);
    if (t->udp6 >= 0)
        close(t->udp6);
    free(t);
}

/* ------------------------------------------------------------------------------------------------
 * Attributes.  A table by type, as the kernel's own parsers have it.
 */

#define MAX_ATTR 64

struct attrs {
    const struct nlattr *of[MAX_ATTR];
};

static int collect(const struct nlattr *attr, void *arg)
{
    struct attrs *attrs = arg;
    uint16_t type = mnl_attr_get_type(attr);

    if (type < MAX_ATTR)
        attrs->of[type] = attr;
    return MNL_CB_OK;
}

static uint32_t attr_u32(const struct nlattr *attr)
{
    return attr && mnl_attr_validate(attr, MNL_TYPE_U32) >= 0 ? mnl_attr_get_u32(attr) : 0;
}

/* Copies the payload if it is exactly @size bytes. */
static bool attr_copy(const struct nlattr *attr, void *out, size_t size)
{
    if (!attr || mnl_attr_get_payload_len(attr) != size)
        return false;
    memcpy(out, mnl_attr_get_payload(attr), size);
    return true;
}

/* ------------------------------------------------------------------------------------------------
 * Route
 */

struct route_answer {
    struct route_entry *entry;
    bool seen, unusable, multipath;
    uint32_t mtu;
};

static void take_gateway(const struct attrs *attrs, struct route_entry *entry)
{
    const struct nlattr *via = attrs->of[RTA_VIA];
    const struct rtvia *hop;

    if (attr_copy(attrs->of[RTA_GATEWAY], entry->nexthop, address_size(entry->family)))
        return;
    /* An IPv4 route by way of an IPv6 neighbor. */
    if (!via || mnl_attr_get_payload_len(via) != sizeof(*hop) + 16)
        return;
    hop = mnl_attr_get_payload(via);
    if (hop->rtvia_family != AF_INET6)
        return;
    entry->family = 6;
    memcpy(entry->nexthop, hop->rtvia_addr, 16);
}

static int read_route(const struct nlmsghdr *nlh, void *arg)
{
    const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
    struct attrs attrs = {0}, metrics = {0};
    struct route_answer *answer = arg;

    if (nlh->nlmsg_type != RTM_NEWROUTE || nlh->nlmsg_len < mnl_nlmsg_size(sizeof(*rtm)))
        return MNL_CB_OK;
    mnl_attr_parse(nlh, sizeof(*rtm), collect, &attrs);
    answer->seen = true;
    answer->unusable |= rtm->rtm_type != RTN_UNICAST || attrs.of[RTA_ENCAP];
    answer->multipath |= attrs.of[RTA_MULTIPATH] != NULL;
    answer->entry->ifindex = attr_u32(attrs.of[RTA_OIF]);
    take_gateway(&attrs, answer->entry);
    if (attrs.of[RTA_METRICS]) {
        mnl_attr_parse_nested(attrs.of[RTA_METRICS], collect, &metrics);
        answer->mtu = attr_u32(metrics.of[RTAX_MTU]);
    }
    return MNL_CB_OK;
}

static int ask_route(struct route_table *t, const struct flow_key *key, uint32_t flags,
                     struct route_answer *answer)
{
    char buf[NETLINK_REQUEST] __attribute__((aligned(8)));
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
    size_t size = address_size(key->family);
    struct rtmsg *rtm;

    nlh->nlmsg_type = RTM_GETROUTE;
    rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));
    rtm->rtm_family = kernel_family(key->family);
    rtm->rtm_dst_len = rtm->rtm_src_len = size * 8;
    rtm->rtm_flags = flags;
    mnl_attr_put(nlh, RTA_DST, size, key->remote_addr);
    mnl_attr_put(nlh, RTA_SRC, size, key->local_addr);
    mnl_attr_put_u8(nlh, RTA_IP_PROTO, IPPROTO_TCP);
    mnl_attr_put_u16(nlh, RTA_SPORT, key->local_port);
    mnl_attr_put_u16(nlh, RTA_DPORT, key->remote_port);
    return netlink_ask(t->ask, nlh, read_route, answer);
}

static int find_route(struct route_table *t, const struct flow_key *key, struct route_entry *entry)
{
    struct route_entry ignored = {.family = key->family};
    struct route_answer match = {.entry = &ignored}, answer = {.entry = entry};
    int err = ask_route(t, key, 0, &answer);

    /* What the table says shows whether there are several ways; what is chosen does not. */
    if (!err)
        err = ask_route(t, key, RTM_F_FIB_MATCH, &match);
    if (err == -ENETUNREACH)
        return -EHOSTUNREACH;
    if (err == -EINVAL || err == -EACCES)
        return -EOPNOTSUPP; /* blackhole, prohibit */
    if (err)
        return err;
    if (!answer.seen || !entry->ifindex)
        return -EHOSTUNREACH;
    if (answer.unusable || match.unusable || match.multipath)
        return -EOPNOTSUPP;
    entry->mtu = answer.mtu;
    return 0;
}

/* ------------------------------------------------------------------------------------------------
 * Interface
 */

struct link_answer {
    struct route_event link;
    bool ethernet;
};

static int read_link(const struct nlmsghdr *nlh, void *arg)
{
    const struct ifinfomsg *info = mnl_nlmsg_get_payload(nlh);
    struct link_answer *answer = arg;
    struct attrs attrs = {0};

    if ((nlh->nlmsg_type != RTM_NEWLINK && nlh->nlmsg_type != RTM_DELLINK) ||
        nlh->nlmsg_len < mnl_nlmsg_size(sizeof(*info)) || info->ifi_family == AF_BRIDGE)
        return MNL_CB_OK;
    mnl_attr_parse(nlh, sizeof(*info), collect, &attrs);
    answer->link.change = ROUTE_LINK;
    answer->link.ifindex = info->ifi_index;
    answer->link.link_up = nlh->nlmsg_type == RTM_NEWLINK && (info->ifi_flags & IFF_UP) &&
                           (info->ifi_flags & IFF_RUNNING);
    answer->link.mtu = attr_u32(attrs.of[IFLA_MTU]);
    answer->ethernet =
        info->ifi_type == ARPHRD_ETHER && attr_copy(attrs.of[IFLA_ADDRESS], answer->link.mac, 6);
    return MNL_CB_OK;
}

static int find_link(struct route_table *t, struct route_entry *entry)
{
    char buf[NETLINK_REQUEST] __attribute__((aligned(8)));
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
    struct link_answer answer = {0};
    struct ifinfomsg *info;
    int err;

    nlh->nlmsg_type = RTM_GETLINK;
    info = mnl_nlmsg_put_extra_header(nlh, sizeof(*info));
    info->ifi_index = entry->ifindex;
    err = netlink_ask(t->ask, nlh, read_link, &answer);
    if (err)
        return err;
    if (!answer.ethernet)
        return -EOPNOTSUPP;
    memcpy(entry->src_mac, answer.link.mac, 6);
    if (!entry->mtu || entry->mtu > answer.link.mtu)
        entry->mtu = answer.link.mtu;
    return 0;
}

/* ------------------------------------------------------------------------------------------------
 * Neighbor
 */

struct neighbor_answer {
    bool seen;
    uint8_t family; /* 4 or 6 */
    int ifindex;
    uint16_t state;
    uint8_t address[16], mac[6];
    bool has_mac;
    uint32_t confirmed; /* in the kernel's ticks */
};

static int read_neighbor(const struct nlmsghdr *nlh, void *arg)
{
    const struct ndmsg *ndm = mnl_nlmsg_get_payload(nlh);
    struct neighbor_answer *answer = arg;
    struct nda_cacheinfo cache;
    struct attrs attrs = {0};

    if ((nlh->nlmsg_type != RTM_NEWNEIGH && nlh->nlmsg_type != RTM_DELNEIGH) ||
        nlh->nlmsg_len < mnl_nlmsg_size(sizeof(*ndm)) ||
        (ndm->ndm_family != AF_INET && ndm->ndm_family != AF_INET6))
        return MNL_CB_OK;
    mnl_attr_parse(nlh, sizeof(*ndm), collect, &attrs);
    memset(answer, 0, sizeof(*answer));
    answer->family = ndm->ndm_family == AF_INET ? 4 : 6;
    answer->ifindex = ndm->ndm_ifindex;
    answer->state = ndm->ndm_state;
    answer->seen = attr_copy(attrs.of[NDA_DST], answer->address, address_size(answer->family));
    answer->has_mac = attr_copy(attrs.of[NDA_LLADDR], answer->mac, 6);
    if (attr_copy(attrs.of[NDA_CACHEINFO], &cache, sizeof(cache)))
        answer->confirmed = cache.ndm_confirmed;
    return MNL_CB_OK;
}

static struct nlmsghdr *neighbor_request(char *buf, const struct route_entry *entry, uint16_t type,
                                         uint16_t flags, uint8_t neighbor_flags)
{
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
    struct ndmsg *ndm;

    nlh->nlmsg_type = type;
    nlh->nlmsg_flags = flags;
    ndm = mnl_nlmsg_put_extra_header(nlh, sizeof(*ndm));
    ndm->ndm_family = kernel_family(entry->family);
    ndm->ndm_ifindex = entry->ifindex;
    ndm->ndm_flags = neighbor_flags;
    mnl_attr_put(nlh, NDA_DST, address_size(entry->family), entry->nexthop);
    return nlh;
}

static int find_neighbor(struct route_table *t, struct route_entry *entry)
{
    char buf[NETLINK_REQUEST] __attribute__((aligned(8)));
    struct neighbor_answer answer = {0};
    int err = netlink_ask(t->ask, neighbor_request(buf, entry, RTM_GETNEIGH, 0, 0), read_neighbor,
                          &answer);

    if (err && err != -ENOENT)
        return err;
    if (!err && answer.seen && answer.has_mac && (answer.state & NEIGHBOR_VALID)) {
        memcpy(entry->mac, answer.mac, 6);
        entry->neighbor_state = answer.state;
        entry->confirmed_ms = (uint64_t)answer.confirmed * 1000 / t->ticks;
        return 0;
    }
    /* "Used": the kernel resolves it as if a packet were waiting. */
    err = netlink_ask(t->ask, neighbor_request(buf, entry, RTM_NEWNEIGH, NLM_F_CREATE, NTF_USE),
                      NULL, NULL);
    return err ? err : -EAGAIN;
}

int route_lookup(struct route_table *t, const struct flow_key *key, struct route_entry *out)
{
    int err;

    memset(out, 0, sizeof(*out));
    out->family = key->family;
    memcpy(out->nexthop, key->remote_addr, sizeof(out->nexthop));
    err = find_route(t, key, out);
    if (!err)
        err = find_link(t, out);
    if (!err)
        err = find_neighbor(t, out);
    return err;
}

/* ------------------------------------------------------------------------------------------------
 * Changes
 */

int route_fd(const struct route_table *t)
{
    return mnl_socket_get_fd(t->listen);
}

struct dispatch {
    void (*changed)(void *arg, const struct route_event *event);
    void *arg;
};

static void neighbor_changed(const struct nlmsghdr *nlh, const struct dispatch *d)
{
    struct neighbor_answer answer = {0};
    struct route_event event = {0};

    read_neighbor(nlh, &answer);
    if (!answer.seen)
        return;
    event.change =
        nlh->nlmsg_type == RTM_NEWNEIGH && answer.has_mac && (answer.state & NEIGHBOR_VALID)
            ? ROUTE_NEIGHBOR
            : ROUTE_NEIGHBOR_GONE;
    event.ifindex = answer.ifindex;
    event.family = answer.family;
    memcpy(event.address, answer.address, sizeof(event.address));
    memcpy(event.mac, answer.mac, sizeof(event.mac));
    d->changed(d->arg, &event);
}

static void route_changed(const struct nlmsghdr *nlh, const struct dispatch *d)
{
    const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
    struct route_event event = {.change = ROUTE_ROUTE};
    struct attrs attrs = {0};

    if (nlh->nlmsg_len < mnl_nlmsg_size(sizeof(*rtm)) || (rtm->rtm_flags & RTM_F_CLONED))
        return;
    mnl_attr_parse(nlh, sizeof(*rtm), collect, &attrs);
    event.family = rtm->rtm_family == AF_INET ? 4 : 6;
    event.ifindex = attr_u32(attrs.of[RTA_OIF]);
    d->changed(d->arg, &event);
}

static int dispatch_one(const struct nlmsghdr *nlh, void *arg)
{
    const struct route_event anything = {.change = ROUTE_ROUTE};
    struct link_answer link = {0};
    const struct dispatch *d = arg;

    switch (nlh->nlmsg_type) {
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH:
        neighbor_changed(nlh, d);
        break;
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
        route_changed(nlh, d);
        break;
    case RTM_NEWLINK:
    case RTM_DELLINK:
        read_link(nlh, &link);
        if (link.link.ifindex)
            d->changed(d->arg, &link.link);
        break;
    case RTM_NEWRULE:
    case RTM_DELRULE:
    case RTM_NEWNEXTHOP:
    case RTM_DELNEXTHOP:
        d->changed(d->arg, &anything);
        break;
    }
    return MNL_CB_OK;
}

int route_dispatch(struct route_table *t,
                   void (*changed)(void *arg, const struct route_event *event), void *arg)
{
    char buf[NETLINK_ANSWER] __attribute__((aligned(8)));
    struct dispatch d = {changed, arg};
    int fd = route_fd(t), lost = 0;

    for (int i = 0; i < NOTICE_MAX; i++) {
        ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

        if (n < 0 && errno == ENOBUFS) {
            lost = -ENOBUFS;
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? lost : -errno;
        mnl_cb_run(buf, n, 0, 0, dispatch_one, &d);
    }
    return lost;
}

/*
 * The way a UDP program confirms that an answer came: a send that is a probe only and carries
 * nothing marks the neighbor as confirmed and is not sent.
 */
int route_confirm(struct route_table *t, const struct route_entry *entry)
{
    union {
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
    } to = {0};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(struct in6_pktinfo))];
    } control = {0};
    struct msghdr msg = {.msg_name = &to, .msg_control = &control};
    struct cmsghdr *cmsg = &control.header;

    if (entry->family == 4) {
        struct in_pktinfo info = {.ipi_ifindex = entry->ifindex};

        to.in4.sin_family = AF_INET;
        to.in4.sin_port = htons(CONFIRM_PORT);
        memcpy(&to.in4.sin_addr, entry->nexthop, 4);
        msg.msg_namelen = sizeof(to.in4);
        msg.msg_controllen = CMSG_SPACE(sizeof(info));
        cmsg->cmsg_level = IPPROTO_IP;
        cmsg->cmsg_type = IP_PKTINFO;
        cmsg->cmsg_len = CMSG_LEN(sizeof(info));
        memcpy(CMSG_DATA(cmsg), &info, sizeof(info));
    } else {
        struct in6_pktinfo info = {.ipi6_ifindex = entry->ifindex};

        to.in6.sin6_family = AF_INET6;
        to.in6.sin6_port = htons(CONFIRM_PORT);
        to.in6.sin6_scope_id = entry->ifindex;
        memcpy(&to.in6.sin6_addr, entry->nexthop, 16);
        msg.msg_namelen = sizeof(to.in6);
        msg.msg_controllen = CMSG_SPACE(sizeof(info));
        cmsg->cmsg_level = IPPROTO_IPV6;
        cmsg->cmsg_type = IPV6_PKTINFO;
        cmsg->cmsg_len = CMSG_LEN(sizeof(info));
        memcpy(CMSG_DATA(cmsg), &info, sizeof(info));
    }
    if (sendmsg(entry->family == 4 ? t->udp4 : t->udp6, &msg,
                MSG_CONFIRM | MSG_PROBE | MSG_DONTWAIT) < 0)
        return -errno;
    return 0;
}
