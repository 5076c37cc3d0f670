/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walk of an initiate tree (contract.md 1.4, 2.3).
 *
 * Objects are taken depth first: a block, its dependents, then the next block of its layer.  When
 * room runs out midway this order leaves the largest number of connections running (C106).  A
 * status is written when a block's dependents are done, because a parent's depends on theirs:
 *
 *   block         what became of it and of its immediate dependents        status
 *   placeholder   -                                                        SUCCESS
 *   new           not taken, or not attempted                              why, or FAILURE
 *   new           taken; all dependents succeeded, or there are none       SUCCESS
 *   new           taken; a dependent failed or succeeded only in part      PARTIAL_SUCCESS
 *   linker        all dependents succeeded                                 SUCCESS
 *   linker        a dependent failed or succeeded only in part             PARTIAL_SUCCESS
 *   linker        all dependents failed (placeholders not counted)         FAILURE (D19)
 *
 * A failure of a named category is the matter of its block alone and the walk goes on; FAILURE, an
 * unknown code, or any failure of the root stops it, and what was not attempted fails with FAILURE.
 * Dependents of a block that was not taken are not attempted.
 */
#include "contract/tree.h"

bool tree_status_is_resource(chimney_status status)
{
    switch (status) {
    case NDIS_STATUS_RESOURCES:
    case NDIS_STATUS_OFFLOAD_TCP_ENTRIES:
    case NDIS_STATUS_OFFLOAD_PATH_ENTRIES:
    case NDIS_STATUS_OFFLOAD_NEIGHBOR_ENTRIES:
    case NDIS_STATUS_OFFLOAD_IP_ADDRESS_ENTRIES:
    case NDIS_STATUS_OFFLOAD_HW_ADDRESS_ENTRIES:
    case NDIS_STATUS_OFFLOAD_VLAN_ENTRIES:
    case NDIS_STATUS_OFFLOAD_TCP_XMIT_BUFFER:
    case NDIS_STATUS_OFFLOAD_TCP_RCV_BUFFER:
    case NDIS_STATUS_OFFLOAD_TCP_RCV_WINDOW:
    case NDIS_STATUS_OFFLOAD_PATH_MTU:
    case NDIS_STATUS_OFFLOAD_VLAN_MISMATCH:
    case NDIS_STATUS_OFFLOAD_CONNECTION_REJECTED:
        return true;
    default:
        return false;
    }
}

/** What a parent needs to know of its immediate dependents. */
struct outcome {
    bool some_good; /* one was taken, wholly or in part */
    bool some_bad;  /* one failed, or succeeded only in part */
};

struct initiate {
    const struct tree_taker *taker;
    void *arg;
    const struct chimney_block *root;
    bool stopped;
};

static chimney_status take(struct initiate *in, struct chimney_block *block, enum tree_layer layer,
                           void *parent, void **context)
{
    switch (layer) {
    case TREE_NEIGHBOR:
        return in->taker->take_neighbor(in->arg, block, context);
    case TREE_PATH:
        return in->taker->take_path(in->arg, block, parent, context);
    default:
        return in->taker->take_tcp(in->arg, block, parent, context);
    }
}

static struct outcome take_list(struct initiate *in, struct chimney_block *list,
                                enum tree_layer layer, void *parent, bool attempt);

/** The status of a block that is held, from those of its dependents. */
static chimney_status held_status(enum tree_role role, struct outcome dependents)
{
    if (!dependents.some_bad)
        return NDIS_STATUS_SUCCESS;
    if (role == TREE_LINKER && !dependents.some_good)
        return NDIS_STATUS_FAILURE;
    return NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS;
}

static void take_block(struct initiate *in, struct chimney_block *block, enum tree_layer layer,
                       void *parent, bool attempt)
{
    enum tree_role role = tree_block_role(block);
    void *context = role == TREE_LINKER ? block->cell->context : NULL;
    chimney_status status = attempt ? NDIS_STATUS_SUCCESS : NDIS_STATUS_FAILURE;
    struct outcome dependents;

    if (role == TREE_NEW && attempt) {
        status = take(in, block, layer, parent, &context);
        if (status == NDIS_STATUS_SUCCESS) {
            block->cell->context = context;
        } else {
            attempt = false;
            if (block == in->root || !tree_status_is_resource(status))
                in->stopped = true;
        }
    }
    dependents = layer == TREE_TCP ? (struct outcome){false, false}
                                   : take_list(in, block->dependents, layer + 1, context, attempt);
    block->status = status == NDIS_STATUS_SUCCESS ? held_status(role, dependents) : status;
}

static struct outcome take_list(struct initiate *in, struct chimney_block *list,
                                enum tree_layer layer, void *parent, bool attempt)
{
    struct outcome outcome = {false, false};

    for (struct chimney_block *block = list; block; block = block->next) {
        if (tree_block_role(block) == TREE_PLACEHOLDER) {
            block->status = NDIS_STATUS_SUCCESS;
            continue;
        }
        take_block(in, block, layer, parent, attempt && !in->stopped);
        if (block->status != NDIS_STATUS_SUCCESS)
            outcome.some_bad = true;
        if (block->status == NDIS_STATUS_SUCCESS ||
            block->status == NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS)
            outcome.some_good = true;
    }
    return outcome;
}

void tree_initiate(struct chimney_block *root, const struct tree_taker *taker, void *arg)
{
    struct initiate in = {.taker = taker, .arg = arg, .root = root};

    take_list(&in, root, TREE_NEIGHBOR, NULL, true);
}
