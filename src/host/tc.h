/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tc filters of the guards: attach, detach, and find what an earlier process left behind.  Used by
 * steer.c only.  Filters outlive the process on purpose: when the daemon is killed, its guards go
 * on keeping the kernel from answering for flows it no longer has.
 */
#ifndef CHIMNEY_HOST_TC_H
#define CHIMNEY_HOST_TC_H

#include <stdbool.h>
#include <stdint.h>

/** One attached filter. */
struct tc_filter {
    uint32_t handle, priority;
};

/** The guards of one interface. */
struct tc_guards {
    struct tc_filter in, out;
    bool own_qdisc; /* the clsact qdisc may be removed with the last filter */
};

/**
 * Makes the clsact qdisc if there is none, removes filters of ours that are there already, attaches
 * both programs in front of everybody else's.  0 or -errno; nothing stays attached on failure.
 */
int tc_attach(int ifindex, int in_fd, int out_fd, struct tc_guards *guards);
/** 0 or -errno; what is gone already (interface deleted) is no error. */
int tc_detach(int ifindex, struct tc_guards *guards);
/**
 * Counts the filters of both directions whose program is called chimney_*; @others: all the rest.
 * @remove: deletes ours.  0 or -errno.
 */
int tc_scan(int ifindex, bool remove, unsigned *ours, unsigned *others);

#endif
