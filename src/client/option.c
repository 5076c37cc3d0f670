/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Socket options.  The rule: whatever offload cannot do, upload does.
 *
 *   anywhere  lives in the socket, parked or not, and means the same in every state
 *   kernel    the connection is brought back to the kernel first
 *   for good  changes what the socket is: it is brought back and stays (the daemon lets it go)
 *
 * What is not in a table is "kernel".
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include "client/client.h"

#ifndef SO_RCVTIMEO_NEW
#define SO_RCVTIMEO_NEW 66
#define SO_SNDTIMEO_NEW 67
#endif
#ifndef SO_PEEK_OFF
#define SO_PEEK_OFF 42
#endif
#ifndef SO_ZEROCOPY
#define SO_ZEROCOPY 60
#endif
#ifndef TCP_ULP
#define TCP_ULP 31
#endif

struct option {
    int level, name;
};

/** Set on the socket in any state. */
static const struct option set_anywhere[] = {
    {SOL_SOCKET, SO_RCVTIMEO},     {SOL_SOCKET, SO_SNDTIMEO}, {SOL_SOCKET, SO_RCVTIMEO_NEW},
    {SOL_SOCKET, SO_SNDTIMEO_NEW}, {SOL_SOCKET, SO_RCVLOWAT}, {SOL_SOCKET, SO_LINGER},
};

/** After these a target could not do what the program expects, not even later. */
static const struct option set_for_good[] = {
    {SOL_SOCKET, SO_PEEK_OFF},   {SOL_SOCKET, SO_ZEROCOPY},     {SOL_SOCKET, SO_ATTACH_FILTER},
    {SOL_SOCKET, SO_ATTACH_BPF}, {SOL_SOCKET, SO_TIMESTAMPING}, {IPPROTO_TCP, TCP_ULP},
    {IPPROTO_TCP, TCP_REPAIR},   {SOL_SOCKET, SO_BINDTODEVICE},
};

/** A parked socket answers these as a connected one would. */
static const struct option get_anywhere[] = {
    {SOL_SOCKET, SO_RCVTIMEO},     {SOL_SOCKET, SO_SNDTIMEO},
    {SOL_SOCKET, SO_RCVTIMEO_NEW}, {SOL_SOCKET, SO_SNDTIMEO_NEW},
    {SOL_SOCKET, SO_RCVLOWAT},     {SOL_SOCKET, SO_LINGER},
    {SOL_SOCKET, SO_TYPE},         {SOL_SOCKET, SO_PROTOCOL},
    {SOL_SOCKET, SO_DOMAIN},       {SOL_SOCKET, SO_COOKIE},
    {SOL_SOCKET, SO_MARK},         {SOL_SOCKET, SO_PRIORITY},
    {SOL_SOCKET, SO_KEEPALIVE},    {SOL_SOCKET, SO_ACCEPTCONN},
    {SOL_SOCKET, SO_REUSEPORT},    {IPPROTO_TCP, TCP_NODELAY},
    {IPPROTO_TCP, TCP_KEEPIDLE},   {IPPROTO_TCP, TCP_KEEPINTVL},
    {IPPROTO_TCP, TCP_KEEPCNT},    {IPPROTO_TCP, TCP_USER_TIMEOUT},
    {IPPROTO_TCP, TCP_CONGESTION}, {IPPROTO_IP, IP_TOS},
    {IPPROTO_IP, IP_TTL},          {IPPROTO_IPV6, IPV6_TCLASS},
    {IPPROTO_IPV6, IPV6_V6ONLY},
};

static bool option_in(const struct option *table, size_t count, int level, int name)
{
    for (size_t i = 0; i < count; i++)
        if (table[i].level == level && table[i].name == name)
            return true;
    return false;
}

#define OPTION_IN(table, level, name) option_in(table, sizeof(table) / sizeof(*table), level, name)

EXPORT int chimney_setsockopt(struct chimney_conn *c, int level, int name, const void *value,
                              socklen_t len)
{
    struct stream_slot *slot;
    int rc, err;

    if (c->stranded)
        return client_fail(EBADFD);
    if (OPTION_IN(set_anywhere, level, name)) {
        rc = os_setsockopt(c->fd, level, name, value, len);
        if (rc == 0)
            conn_read_options(c);
        return rc;
    }
    if (OPTION_IN(set_for_good, level, name)) {
        err = conn_make_plain(c);
        if (err != 0)
            return client_fail(-err);
    }
    err = conn_enter_kernel(c, &slot);
    if (err != 0)
        return client_fail(-err);
    rc = os_setsockopt(c->fd, level, name, value, len);
    err = errno;
    conn_leave(slot);
    errno = err;
    return rc;
}

/** SO_ERROR: ours first; a parked socket has none. */
static int get_error(struct chimney_conn *c, void *value, socklen_t *len)
{
    struct stream_slot *slot;
    int rc = 0, err = conn_take_error(c);
    enum carrier carrier;

    if (err == 0) {
        carrier = conn_enter_rest(c, &slot);
        if (carrier == CARRIER_KERNEL)
            rc = os_getsockopt(c->fd, SOL_SOCKET, SO_ERROR, value, len);
        if (carrier == CARRIER_KERNEL || carrier == CARRIER_STREAM)
            conn_leave(slot);
        if (carrier == CARRIER_KERNEL)
            return rc;
        err = conn_take_error(c); /* just found lost */
    }
    if ((int)*len < 0)
        return client_fail(EINVAL);
    if (*len > sizeof(err))
        *len = sizeof(err);
    memcpy(value, &err, *len);
    return 0;
}

EXPORT int chimney_getsockopt(struct chimney_conn *c, int level, int name, void *value,
                              socklen_t *len)
{
    struct stream_slot *slot;
    int rc, err;

    if (c->stranded)
        return client_fail(EBADFD);
    if (level == SOL_SOCKET && name == SO_ERROR)
        return get_error(c, value, len);
    if (OPTION_IN(get_anywhere, level, name))
        return os_getsockopt(c->fd, level, name, value, len);
    err = conn_enter_kernel(c, &slot);
    if (err == -ECONNRESET)
        return os_getsockopt(c->fd, level, name, value, len); /* what is left of it answers */
    if (err != 0)
        return client_fail(-err);
    rc = os_getsockopt(c->fd, level, name, value, len);
    err = errno;
    conn_leave(slot);
    errno = err;
    return rc;
}
