/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connection tracking never sees offloaded traffic; after an upload the packets would be "invalid"
 * (handoff.md T9).  The entry of an offloaded flow is therefore marked liberal, that one only.
 */
#ifndef CHIMNEY_HOST_CONNTRACK_H
#define CHIMNEY_HOST_CONNTRACK_H

#include "wire/wire.h"

struct conntrack;
/** -EPROTONOSUPPORT: the kernel has no connection tracking; then nothing needs to be done. */
int conntrack_open(struct conntrack **out);
void conntrack_close(struct conntrack *ct);
/** 0, -ENOENT if the flow is not tracked, or -errno. */
int conntrack_make_liberal(struct conntrack *ct, const struct flow_key *key);

#endif
