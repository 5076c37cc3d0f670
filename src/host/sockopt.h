/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Socket options as the repair files use them: integers, -errno, one fault point each; and the
 * options that the C library's headers do not know yet.
 */
#ifndef CHIMNEY_HOST_SOCKOPT_H
#define CHIMNEY_HOST_SOCKOPT_H

#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include "host/fault.h"

/* linux/tcp.h and asm/socket.h, by value: the running kernel may be newer than the headers. */
#ifndef TCP_IS_MPTCP
#define TCP_IS_MPTCP 43
#endif
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

/* tcpi_state: netinet/tcp.h has these names, but cannot be included beside linux/tcp.h. */
enum { STATE_ESTABLISHED = 1, STATE_CLOSE_WAIT = 8, STATE_LISTEN = 10 };

/* Values of TCP_REPAIR_QUEUE. */
enum { REPAIR_NO_QUEUE = 0, REPAIR_RECV_QUEUE = 1, REPAIR_SEND_QUEUE = 2 };

/* Codes of TCP_REPAIR_OPTIONS: the option kinds of the protocol. */
enum { OPTION_MSS = 2, OPTION_WINDOW = 3, OPTION_SACK_PERMITTED = 4, OPTION_TIMESTAMP = 8 };

static inline int sockopt_get(int fd, int level, int name, int *value, const char *step)
{
    socklen_t len = sizeof(*value);
    int err = host_fault(step);

    *value = 0; /* some options are a single byte */
    if (err)
        return err;
    return getsockopt(fd, level, name, value, &len) < 0 ? -errno : 0;
}

static inline int sockopt_set(int fd, int level, int name, int value, const char *step)
{
    int err = host_fault(step);

    if (err)
        return err;
    return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

static inline int sockopt_queue(int fd, int queue, const char *step)
{
    return sockopt_set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue, step);
}

#endif
