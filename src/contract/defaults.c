/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of functions with every hole filled, so that no caller ever tests an entry for NULL.
 *
 * Some entries have no honest default.  A state verb has to be completed later, and only the target
 * has a later; a host that ignores a completion loses a tree.  NDIS refuses a table without them
 * (C86 to C89), and so do the two functions here: the copy is safe to call, and NULL is returned.
 */
#include <string.h>

#include "contract/tree.h"

static void fail_tree(struct chimney_target *target, struct chimney_block *root)
{
    tree_set_status(root, NDIS_STATUS_FAILURE);
}

static chimney_status no_send(struct chimney_target *target, struct chimney_cell *cell,
                              uint64_t end)
{
    return NDIS_STATUS_UPLOAD_IN_PROGRESS;
}

static chimney_status no_receive(struct chimney_target *target, struct chimney_cell *cell,
                                 uint64_t tail)
{
    return NDIS_STATUS_UPLOAD_IN_PROGRESS;
}

static chimney_status no_disconnect(struct chimney_target *target, struct chimney_cell *cell,
                                    uint32_t flags)
{
    return NDIS_STATUS_UPLOAD_IN_PROGRESS;
}

static chimney_status no_forward(struct chimney_target *target, struct chimney_cell *cell,
                                 const struct chimney_segment *segment)
{
    return NDIS_STATUS_UPLOAD_IN_PROGRESS;
}

/** A target that says nothing about itself can take nothing. */
static void no_capabilities(struct chimney_target *target, struct chimney_capabilities *out)
{
    memset(out, 0, sizeof(*out));
    out->header.revision = CHIMNEY_REVISION;
    out->header.size = sizeof(*out);
}

static chimney_status no_parameters(struct chimney_target *target,
                                    const struct chimney_parameters *parameters)
{
    return NDIS_STATUS_FAILURE;
}

static void no_statistics(struct chimney_target *target, int family, struct chimney_statistics *out)
{
    memset(out, 0, sizeof(*out));
}

static void no_bind(struct chimney_target *target, const struct chimney_host_ops *ops,
                    struct chimney_host *host)
{
}

/* Puts @fallback where the entry is missing; MANDATORY also remembers that it was. */
#define OPTIONAL(table, entry, fallback)                                                           \
    do {                                                                                           \
        if (!(table)->entry)                                                                       \
            (table)->entry = (fallback);                                                           \
    } while (0)
#define MANDATORY(table, entry, fallback)                                                          \
    do {                                                                                           \
        if (!(table)->entry) {                                                                     \
            (table)->entry = (fallback);                                                           \
            complete = false;                                                                      \
        }                                                                                          \
    } while (0)

struct chimney_target_ops *chimney_target_ops_init(struct chimney_target_ops *out,
                                                   const struct chimney_target_ops *ops)
{
    bool complete = true;

    *out = *ops;
    MANDATORY(out, initiate, fail_tree);
    MANDATORY(out, query, fail_tree);
    MANDATORY(out, update, fail_tree);
    MANDATORY(out, invalidate, fail_tree);
    MANDATORY(out, terminate, fail_tree);
    MANDATORY(out, send, no_send);
    MANDATORY(out, receive, no_receive);
    MANDATORY(out, disconnect, no_disconnect);
    MANDATORY(out, forward, no_forward);
    MANDATORY(out, bind, no_bind);
    OPTIONAL(out, get_capabilities, no_capabilities);
    OPTIONAL(out, set_parameters, no_parameters);
    OPTIONAL(out, get_statistics, no_statistics);
    return complete ? out : NULL;
}

static void ignore_tree(struct chimney_host *host, struct chimney_block *root) {}

static void ignore_send(struct chimney_host *host, void *handle, uint64_t acked,
                        chimney_status status)
{
}

static void ignore_disconnect(struct chimney_host *host, void *handle, chimney_status status) {}

static void ignore_forward(struct chimney_host *host, void *handle,
                           const struct chimney_segment *segment, chimney_status status)
{
}

static void ignore_indication(struct chimney_host *host, void *handle, uint64_t head) {}

static void ignore_event(struct chimney_host *host, void *handle, enum chimney_event_type type,
                         uint32_t info)
{
}

static void ignore_status(struct chimney_host *host, chimney_status status, const void *buffer,
                          size_t length)
{
}

/** A host without neighbor discovery has nothing better to say than: reachable just now. */
static void assume_reachable(struct chimney_host *host, struct chimney_block *block)
{
    struct chimney_neighbor_cached *cached = tree_neighbor_cached(block);

    if (cached)
        cached->host_reachability_delta = 0;
}

static void ignore_frame(struct chimney_host *host, int ifindex, const uint8_t *frame,
                         uint32_t length)
{
}

struct chimney_host_ops *chimney_host_ops_init(struct chimney_host_ops *out,
                                               const struct chimney_host_ops *ops)
{
    bool complete = true;

    *out = *ops;
    MANDATORY(out, initiate_complete, ignore_tree);
    MANDATORY(out, query_complete, ignore_tree);
    MANDATORY(out, update_complete, ignore_tree);
    MANDATORY(out, invalidate_complete, ignore_tree);
    MANDATORY(out, terminate_complete, ignore_tree);
    MANDATORY(out, send_complete, ignore_send);
    MANDATORY(out, disconnect_complete, ignore_disconnect);
    MANDATORY(out, forward_complete, ignore_forward);
    MANDATORY(out, receive_indicate, ignore_indication);
    MANDATORY(out, event, ignore_event);
    OPTIONAL(out, status, ignore_status);
    OPTIONAL(out, neighbor_query, assume_reachable);
    OPTIONAL(out, receive, ignore_frame);
    return complete ? out : NULL;
}
