/* SPDX-License-Identifier: Apache-2.0 */
#include "host/netlink.h"

#include <errno.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/time.h>

/** The kernel answers at once; a longer wait means that something is broken. */
#define ANSWER_TIMEOUT_S 5

int netlink_open(struct mnl_socket **out, unsigned groups)
{
    const struct timeval timeout = {.tv_sec = ANSWER_TIMEOUT_S};
    struct mnl_socket *s = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
    int err;

    if (!s)
        return -errno;
    if (mnl_socket_bind(s, groups, MNL_SOCKET_AUTOPID) < 0 ||
        setsockopt(mnl_socket_get_fd(s), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0) {
        err = -errno;
        mnl_socket_close(s);
        return err;
    }
    *out = s;
    return 0;
}

/* Throws away what is left of an answer nobody waits for any more. */
static void drain(struct mnl_socket *s)
{
    char buf[NETLINK_ANSWER];

    while (recv(mnl_socket_get_fd(s), buf, sizeof(buf), MSG_DONTWAIT) > 0)
        ;
}

int netlink_ask(struct mnl_socket *s, struct nlmsghdr *request, mnl_cb_t each, void *arg)
{
    static _Atomic unsigned sequence;
    unsigned seq = ++sequence, port = mnl_socket_get_portid(s);
    char buf[NETLINK_ANSWER] __attribute__((aligned(8)));
    int verdict = MNL_CB_OK;

    request->nlmsg_seq = seq;
    request->nlmsg_flags |= NLM_F_REQUEST;
    /* The bits of a dump mean something else in requests that change things. */
    if ((request->nlmsg_type & 3) != 2 || !(request->nlmsg_flags & NLM_F_DUMP))
        request->nlmsg_flags |= NLM_F_ACK;
    if (mnl_socket_sendto(s, request, request->nlmsg_len) < 0)
        return -errno;
    while (verdict != MNL_CB_STOP) {
        ssize_t n = mnl_socket_recvfrom(s, buf, sizeof(buf));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        verdict = mnl_cb_run(buf, n, seq, port, each, arg);
        if (verdict == MNL_CB_ERROR && errno == EPROTO) {
            verdict = MNL_CB_OK; /* the answer to a request that was given up */
        } else if (verdict == MNL_CB_ERROR) {
            int err = -errno;

            drain(s);
            return err;
        }
    }
    return 0;
}
