/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One netlink socket for requests: send, wait for the answer, hand each message to a callback.
 * Used by the files of host/ only.
 */
#ifndef CHIMNEY_HOST_NETLINK_H
#define CHIMNEY_HOST_NETLINK_H

#include <libmnl/libmnl.h>
#include <stddef.h>

/** Room for a request, and for one datagram of an answer. */
#define NETLINK_REQUEST 1024
#define NETLINK_ANSWER 16384

/** Opens a NETLINK_ROUTE socket; @groups: bit mask of RTMGRP_* to listen to.  0 or -errno. */
int netlink_open(struct mnl_socket **out, unsigned groups);
/**
 * Sends @request (its sequence number is set here) and reads until the acknowledgement, the end of
 * the dump or an error.  @each may be NULL.  0 or -errno, the kernel's own error where it sent one.
 */
int netlink_ask(struct mnl_socket *socket, struct nlmsghdr *request, mnl_cb_t each, void *arg);

#endif
