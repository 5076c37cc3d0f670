/* SPDX-License-Identifier: Apache-2.0 */
#include "host/conntrack.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack_tcp.h>
#include "host/fault.h"

/** The kernel answers at once; a longer wait means that something is broken. */
#define ANSWER_TIMEOUT_S 5

struct conntrack {
    struct nfct_handle *handle;
};

int conntrack_open(struct conntrack **out)
{
    const struct timeval timeout = {.tv_sec = ANSWER_TIMEOUT_S};
    struct conntrack *ct = calloc(1, sizeof(*ct));
    struct flow_key nobody = {.family = 4};
    int err;

    if (!ct)
        return -ENOMEM;
    ct->handle = nfct_open(CONNTRACK, 0);
    if (!ct->handle) {
        err = errno == EPROTONOSUPPORT || errno == ENOPROTOOPT ? -EPROTONOSUPPORT : -errno;
        free(ct);
        return err;
    }
    if (setsockopt(nfct_fd(ct->handle), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0) {
        err = -errno;
        conntrack_close(ct);
        return err;
    }
    /* A kernel without connection tracking says so at the first question only. */
    err = conntrack_make_liberal(ct, &nobody);
    if (err == -ENOENT || err == -EINVAL) {
        *out = ct;
        return 0;
    }
    conntrack_close(ct);
    return err == -EOPNOTSUPP ? -EPROTONOSUPPORT : err ? err : -EPROTO;
}

void conntrack_close(struct conntrack *ct)
{
    if (!ct)
        return;
    nfct_close(ct->handle);
    free(ct);
}

int conntrack_make_liberal(struct conntrack *ct, const struct flow_key *key)
{
    struct nf_conntrack *entry;
    int err = host_fault("conntrack");

    if (err)
        return err;
    entry = nfct_new();
    if (!entry)
        return -ENOMEM;
    /* Looked up by the tuple of a received packet; the kernel finds the entry in either direction.
     */
    if (key->family == 4) {
        nfct_set_attr_u8(entry, ATTR_L3PROTO, AF_INET);
        nfct_set_attr(entry, ATTR_IPV4_SRC, key->remote_addr);
        nfct_set_attr(entry, ATTR_IPV4_DST, key->local_addr);
    } else {
        nfct_set_attr_u8(entry, ATTR_L3PROTO, AF_INET6);
        nfct_set_attr(entry, ATTR_IPV6_SRC, key->remote_addr);
        nfct_set_attr(entry, ATTR_IPV6_DST, key->local_addr);
    }
    nfct_set_attr_u8(entry, ATTR_L4PROTO, IPPROTO_TCP);
    nfct_set_attr_u16(entry, ATTR_PORT_SRC, key->remote_port);
    nfct_set_attr_u16(entry, ATTR_PORT_DST, key->local_port);
    nfct_set_attr_u8(entry, ATTR_TCP_FLAGS_ORIG, IP_CT_TCP_FLAG_BE_LIBERAL);
    nfct_set_attr_u8(entry, ATTR_TCP_MASK_ORIG, IP_CT_TCP_FLAG_BE_LIBERAL);
    nfct_set_attr_u8(entry, ATTR_TCP_FLAGS_REPL, IP_CT_TCP_FLAG_BE_LIBERAL);
    nfct_set_attr_u8(entry, ATTR_TCP_MASK_REPL, IP_CT_TCP_FLAG_BE_LIBERAL);
    err = nfct_query(ct->handle, NFCT_Q_UPDATE, entry) < 0 ? -errno : 0;
    nfct_destroy(entry);
    return err;
}
