/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of functions with every hole filled, so that no caller ever tests an entry for NULL,
 * and the question whether a table is fit for use.
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

/* Puts @fallback where the entry is missing. */
#define DEFAULT(table, entry, fallback)                                                            \
    do {                                                                                           \
        if (!(table)->entry)                                                                       \
            (table)->entry = (fallback);                                                           \
    } while (0)

struct chimney_target_ops *chimney_target_ops_init(struct chimney_target_ops *out,
                                                   const struct chimney_target_ops *ops)
{
    *out = *ops;
    DEFAULT(out, initiate, fail_tree);
    DEFAULT(out, query, fail_tree);
    DEFAULT(out, update, fail_tree);
    DEFAULT(out, invalidate, fail_tree);
    DEFAULT(out, terminate, fail_tree);
    DEFAULT(out, send, no_send);
    DEFAULT(out, receive, no_receive);
    DEFAULT(out, disconnect, no_disconnect);
    DEFAULT(out, forward, no_forward);
    DEFAULT(out, bind, no_bind);
    DEFAULT(out, get_capabilities, no_capabilities);
    DEFAULT(out, set_parameters, no_parameters);
    DEFAULT(out, get_statistics, no_statistics);
    return out;
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
    *out = *ops;
    DEFAULT(out, initiate_complete, ignore_tree);
    DEFAULT(out, query_complete, ignore_tree);
    DEFAULT(out, update_complete, ignore_tree);
    DEFAULT(out, invalidate_complete, ignore_tree);
    DEFAULT(out, terminate_complete, ignore_tree);
    DEFAULT(out, send_complete, ignore_send);
    DEFAULT(out, disconnect_complete, ignore_disconnect);
    DEFAULT(out, forward_complete, ignore_forward);
    DEFAULT(out, receive_indicate, ignore_indication);
    DEFAULT(out, event, ignore_event);
    DEFAULT(out, status, ignore_status);
    DEFAULT(out, neighbor_query, assume_reachable);
    DEFAULT(out, receive, ignore_frame);
    return out;
}

bool chimney_target_ops_complete(const struct chimney_target_ops *ops)
{
    return ops->initiate && ops->query && ops->update && ops->invalidate && ops->terminate &&
           ops->send && ops->receive && ops->disconnect && ops->forward && ops->bind;
}

bool chimney_host_ops_complete(const struct chimney_host_ops *ops)
{
    return ops->initiate_complete && ops->query_complete && ops->update_complete &&
           ops->invalidate_complete && ops->terminate_complete && ops->send_complete &&
           ops->disconnect_complete && ops->forward_complete && ops->receive_indicate && ops->event;
}
