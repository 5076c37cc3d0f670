/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is asked of a socket before anything is done with it: may it be offloaded, how much is
 * queued, which options does a target have to know.
 */
#include "host/repair.h"

#include <netinet/in.h>
#include <linux/in6.h> /* after netinet/in.h: it knows about that one */
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include "host/sockopt.h"

/* Link-local addresses mean something on their own interface only. */
static bool link_local(const struct sockaddr_storage *address)
{
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;

    return address->ss_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr);
}

/* True if getsockopt() of a variable-length option brings anything, or refuses to show it. */
static bool has_option(int fd, int level, int name)
{
    uint8_t value[256];
    socklen_t len = sizeof(value);

    if (getsockopt(fd, level, name, value, &len) < 0)
        return errno == EACCES || errno == EINVAL || errno == ENOSPC;
    return len > 0;
}

static const char *why_not_addresses(int fd, int domain)
{
    struct sockaddr_storage local = {0}, remote = {0};
    socklen_t len = sizeof(local);
    int bound = 0;

    if (getsockname(fd, (struct sockaddr *)&local, &len) < 0)
        return "its address cannot be read";
    len = sizeof(remote);
    if (getpeername(fd, (struct sockaddr *)&remote, &len) < 0)
        return "not connected";
    if (link_local(&local) || link_local(&remote))
        return "link-local address";
    if (!sockopt_get(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &bound, "check.bound_device") && bound)
        return "bound to a device";
    if (has_option(fd, IPPROTO_IP, IP_OPTIONS))
        return "IP options";
    if (domain == AF_INET6 &&
        (has_option(fd, IPPROTO_IPV6, IPV6_HOPOPTS) || has_option(fd, IPPROTO_IPV6, IPV6_RTHDR) ||
         has_option(fd, IPPROTO_IPV6, IPV6_DSTOPTS)))
        return "IPv6 extension headers";
    return NULL;
}

static const char *why_not(int fd, int *error)
{
    int domain, type, protocol, value, err;
    struct pollfd urgent = {.fd = fd, .events = POLLPRI};
    struct tcp_info info = {0};
    socklen_t len = sizeof(int);
    char ulp[16] = "";

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0)
        return errno == ENOTSOCK ? "not a socket" : "its options cannot be read";
    err = sockopt_get(fd, SOL_SOCKET, SO_TYPE, &type, "check.type");
    if (!err)
        err = sockopt_get(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, "check.protocol");
    if (err)
        return "its options cannot be read";
    if ((domain != AF_INET && domain != AF_INET6) || type != SOCK_STREAM)
        return "not a TCP socket";
    if (protocol == IPPROTO_MPTCP)
        return "multipath TCP";
    if (protocol != IPPROTO_TCP)
        return "not a TCP socket";
    len = sizeof(info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
        return "its state cannot be read";
    if (info.tcpi_state != STATE_ESTABLISHED) {
        *error = -ENOTCONN;
        return info.tcpi_state == STATE_LISTEN ? "a listening socket" : "not established";
    }
    if (!sockopt_get(fd, IPPROTO_TCP, TCP_IS_MPTCP, &value, "check.mptcp") && value)
        return "multipath TCP";
    len = sizeof(ulp);
    if (!getsockopt(fd, IPPROTO_TCP, TCP_ULP, ulp, &len) && len > 0)
        return "TLS or another protocol on top, in the kernel";
    if (poll(&urgent, 1, 0) > 0 && (urgent.revents & POLLPRI))
        return "urgent data pending";
    /* Both would change what MSG_PEEK reads, or what the program is given. */
    if (!sockopt_get(fd, SOL_SOCKET, SO_PEEK_OFF, &value, "check.peek_off") && value >= 0)
        return "SO_PEEK_OFF in use";
    if (has_option(fd, SOL_SOCKET, SO_GET_FILTER))
        return "a socket filter";
    return why_not_addresses(fd, domain);
}

const char *repair_refusal(int fd, int *error)
{
    *error = -EOPNOTSUPP;
    return why_not(fd, error);
}

const char *repair_why_not(int fd)
{
    int ignored;

    return repair_refusal(fd, &ignored);
}

int repair_queues(int fd, uint32_t *sendq, uint32_t *recvq)
{
    int out, in, err = host_fault("queues");

    if (err)
        return err;
    if (ioctl(fd, SIOCOUTQ, &out) < 0 || ioctl(fd, SIOCINQ, &in) < 0)
        return -errno;
    *sendq = out;
    *recvq = in;
    return 0;
}

/* The label a program set itself; 0: the kernel chooses. */
static uint32_t flow_label(int fd)
{
    struct in6_flowlabel_req req = {.flr_action = IPV6_FL_A_GET};
    socklen_t len = sizeof(req);

    if (getsockopt(fd, IPPROTO_IPV6, IPV6_FLOWLABEL_MGR, &req, &len) < 0)
        return 0;
    return ntohl(req.flr_label) & 0xfffff;
}

int repair_read_options(int fd, struct repair_state *state)
{
    socklen_t len = sizeof(state->local);
    bool v6;
    int err;

    const struct {
        int level, name, *value;
        const char *step;
    } options[] = {
        {SOL_SOCKET, SO_REUSEADDR, &state->reuseaddr, "options.reuseaddr"},
        {SOL_SOCKET, SO_SNDBUF, &state->sndbuf, "options.sndbuf"},
        {SOL_SOCKET, SO_RCVBUF, &state->rcvbuf, "options.rcvbuf"},
        {SOL_SOCKET, SO_BUF_LOCK, &state->buf_lock, "options.buf_lock"},
        {SOL_SOCKET, SO_KEEPALIVE, &state->keepalive, "options.keepalive"},
        {SOL_SOCKET, SO_PRIORITY, &state->priority, "options.priority"},
        {SOL_SOCKET, SO_MARK, &state->mark, "options.mark"},
        {IPPROTO_TCP, TCP_NODELAY, &state->nodelay, "options.nodelay"},
        {IPPROTO_TCP, TCP_CORK, &state->cork, "options.cork"},
        {IPPROTO_TCP, TCP_KEEPIDLE, &state->keep_idle_s, "options.keep_idle"},
        {IPPROTO_TCP, TCP_KEEPINTVL, &state->keep_intvl_s, "options.keep_intvl"},
        {IPPROTO_TCP, TCP_KEEPCNT, &state->keep_cnt, "options.keep_cnt"},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, &state->user_timeout_ms, "options.user_timeout"},
    };

    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        err = sockopt_get(fd, options[i].level, options[i].name, options[i].value, options[i].step);
        if (err)
            return err;
    }
    if (getsockname(fd, (struct sockaddr *)&state->local, &len) < 0)
        return -errno;
    state->addrlen = len;
    len = sizeof(state->remote);
    if (getpeername(fd, (struct sockaddr *)&state->remote, &len) < 0)
        return -errno;
    len = sizeof(state->congestion);
    if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, state->congestion, &len) < 0)
        return -errno;
    /* What the peer's packets are answered with is IPv4 on a v4-mapped socket. */
    v6 = state->local.ss_family == AF_INET6 &&
         !IN6_IS_ADDR_V4MAPPED(&((struct sockaddr_in6 *)&state->local)->sin6_addr);
    err = sockopt_get(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_TCLASS : IP_TOS, &state->tos,
                      "options.tos");
    if (!err)
        err = sockopt_get(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_UNICAST_HOPS : IP_TTL,
                          &state->ttl, "options.ttl");
    state->flow_label = v6 ? flow_label(fd) : 0;
    return err;
}
