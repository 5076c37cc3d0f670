/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The five completions on their way up: the rules the target keeps, then everything that was
 * exchanged goes back, then the host.
 */
#include <stdlib.h>
#include <string.h>

#include "contract/verifier_internal.h"

/** Rows of the call, which never completes from inside, and of the completion, by verb. */
static const struct {
    int call, completion;
} rows[] = {
    [TREE_INITIATE] = {115, 120},   [TREE_QUERY] = {118, 123},     [TREE_UPDATE] = {117, 122},
    [TREE_INVALIDATE] = {119, 124}, [TREE_TERMINATE] = {116, 121},
};

/* ---- what every completion keeps ------------------------------------------------------------- */

/** Fields the target must hand back as they were, and those it must not touch at all. */
static void check_fields(struct verifier *v, const struct verifier_block *record)
{
    const struct chimney_block *now = record->block, *was = &record->host;

    if (now->next != was->next || now->dependents != was->dependents)
        breach(v, 28, LEDGER_TARGET, "the shape of the tree changed");
    if (memcmp(&now->header, &was->header, sizeof(now->header)) != 0)
        breach(v, 13, LEDGER_TARGET, "the header of a block changed");
    if (now->port_number != was->port_number)
        breach(v, 22, LEDGER_TARGET, "the port number of a block changed");
    if (now->protocol_reserved[0] != was->protocol_reserved[0] ||
        now->protocol_reserved[1] != was->protocol_reserved[1])
        breach(v, 20, LEDGER_TARGET, "ProtocolReserved changed");
    if (now->im_reserved[0] != (const void *)record || now->im_reserved[1] != (const void *)v)
        breach(v, 20, LEDGER_TARGET, "ImReserved changed");
    if (now->source_handle != was->source_handle)
        breach(v, 20, LEDGER_TARGET, "SourceHandle changed");
    if (record->object &&
        (now->cell != &record->object->cell || now->host_handle != record->object))
        breach(v, 18, LEDGER_TARGET, "the cell or handle of a block changed");
}

static void restore_fields(const struct verifier_block *record)
{
    struct chimney_block *block = record->block;

    block->next = record->host.next;
    block->dependents = record->host.dependents;
    block->header = record->host.header;
    block->port_number = record->host.port_number;
    block->cell = record->host.cell;
    block->host_handle = record->host.host_handle;
    memcpy(block->protocol_reserved, record->host.protocol_reserved,
           sizeof(block->protocol_reserved));
    memcpy(block->im_reserved, record->host.im_reserved, sizeof(block->im_reserved));
    block->source_handle = record->host.source_handle;
}

static void check_status(struct verifier *v, const struct verifier_call *call,
                         const struct verifier_block *record)
{
    chimney_status status = record->block->status;

    if (status == TREE_STATUS_POISON) {
        breach(v, record->role == TREE_PLACEHOLDER ? 136 : 17, LEDGER_TARGET,
               "%s: a block has no status", tree_verb_name(call->verb));
        return;
    }
    if (call->verb != TREE_INITIATE && status != NDIS_STATUS_SUCCESS &&
        status != NDIS_STATUS_FAILURE)
        breach(v, 137, LEDGER_TARGET, "%s completes with %s", tree_verb_name(call->verb),
               chimney_status_name(status));
}

/* ---- initiate -------------------------------------------------------------------------------- */

static bool taken(chimney_status status)
{
    return status == NDIS_STATUS_SUCCESS || status == NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS;
}

/** A status that contract.md 2.3 lists for a block that was not taken. */
static bool refusal(chimney_status status)
{
    return status == NDIS_STATUS_FAILURE || tree_status_is_resource(status);
}

struct dependents {
    bool some_good, some_bad;
};

/** What became of the immediate dependents of @parent; placeholders do not count. */
static struct dependents dependents_of(const struct verifier_call *call, size_t parent)
{
    struct dependents d = {false, false};
    const struct chimney_block *list = call->blocks[parent].host.dependents;

    for (size_t i = parent + 1; list && i < call->count; i++) {
        chimney_status status = call->blocks[i].block->status;

        if (call->blocks[i].parent == call->blocks[parent].parent)
            break; /* the next block of the parent's own layer */
        if (call->blocks[i].parent != parent || call->blocks[i].role == TREE_PLACEHOLDER)
            continue;
        d.some_good |= taken(status);
        d.some_bad |= status != NDIS_STATUS_SUCCESS;
    }
    return d;
}

static void check_linker(struct verifier *v, const struct verifier_call *call, size_t i)
{
    chimney_status status = call->blocks[i].block->status;
    struct dependents d = dependents_of(call, i);
    chimney_status expected = !d.some_bad   ? NDIS_STATUS_SUCCESS
                              : d.some_good ? NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS
                                            : NDIS_STATUS_FAILURE;

    if (status != expected && status != TREE_STATUS_POISON)
        breach(v, 103, LEDGER_TARGET, "a linker completes with %s, its dependents say %s",
               chimney_status_name(status), chimney_status_name(expected));
}

static void check_new(struct verifier *v, const struct verifier_call *call, size_t i)
{
    const struct verifier_block *record = &call->blocks[i];
    struct verifier_object *object = record->object;
    chimney_status status = record->block->status;
    struct dependents d = dependents_of(call, i);

    if (status == TREE_STATUS_POISON)
        return;
    if (!taken(status)) {
        if (!refusal(status))
            breach(v, 165, LEDGER_TARGET, "an initiate completes with %s",
                   chimney_status_name(status));
        if (object->cell.context)
            breach(v, 105, LEDGER_TARGET, "a context was written for a %s that was not taken",
                   layer_name(object->layer));
        if (d.some_good)
            breach(v, 158, LEDGER_TARGET, "dependents of a %s that was not taken were taken",
                   layer_name(object->layer));
        if (record->block->send_data.begin != record->host.send_data.begin ||
            (record->block->send_data.end != record->host.send_data.end && call->epoch == v->epoch))
            breach(v, 155, LEDGER_TARGET, "the send data of a failed block was touched");
        return;
    }
    if (!object->cell.context)
        breach(v, 104, LEDGER_TARGET, "a %s was taken and its cell is empty",
               layer_name(object->layer));
    if (object->layer == TREE_TCP && status == NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS)
        breach(v, 164, LEDGER_TARGET, "a connection was taken in part");
    else if (d.some_bad && status == NDIS_STATUS_SUCCESS)
        breach(v, 159, LEDGER_TARGET, "a %s succeeds although a dependent did not",
               layer_name(object->layer));
    else if (!d.some_bad && status != NDIS_STATUS_SUCCESS)
        breach(v, 163, LEDGER_TARGET, "a %s succeeds in part although all dependents did",
               layer_name(object->layer));
}

static void check_initiate(struct verifier *v, const struct verifier_call *call)
{
    bool some_taken = false, all_failed = true;

    for (size_t i = 0; i < call->count; i++) {
        const struct verifier_block *record = &call->blocks[i];
        chimney_status status = record->block->status;

        switch (record->role) {
        case TREE_PLACEHOLDER:
            if (status != NDIS_STATUS_SUCCESS && status != TREE_STATUS_POISON)
                breach(v, 102, LEDGER_TARGET, "a placeholder completes with %s",
                       chimney_status_name(status));
            break;
        case TREE_LINKER:
            check_linker(v, call, i);
            break;
        case TREE_NEW:
            check_new(v, call, i);
            some_taken |= taken(status);
            all_failed &= status == NDIS_STATUS_FAILURE;
            break;
        }
    }
    /* FAILURE throughout is how a target that goes away gives a queued tree back. */
    if (call->in_pause && v->pause != PAUSE_RUNNING && (some_taken || !all_failed))
        breach(v, 358, LEDGER_TARGET,
               "an initiate made in a pause was done before the pause ended");
}

/** Takes the target's answer over: objects live, or their records go. */
static void finish_initiate(struct verifier *v, struct verifier_call *call)
{
    for (size_t i = 0; i < call->count; i++) {
        struct verifier_block *record = &call->blocks[i];
        struct verifier_object *object = record->object;
        enum ledger_result opened;

        if (record->role != TREE_NEW || !taken(record->block->status) || !object->cell.context)
            continue;
        opened = ledger_open(&v->ledger, context_kind(object->layer), object->cell.context,
                             LEDGER_TARGET, object);
        if (opened == LEDGER_TWICE)
            breach(v, 108, LEDGER_TARGET, "two %ss with one context", layer_name(object->layer));
        object->context = object->cell.context;
        object->state = CHIMNEY_OFFLOADED;
        if (object->layer == TREE_TCP)
            v->connections++;
        if (record->parent != SIZE_MAX) {
            object->parent = call->blocks[record->parent].object;
            object->parent->dependents++;
        }
        state_remember(object, record->block);
        record->host.cell->context = object;
    }
    for (size_t i = call->count; i-- > 0;) {
        struct verifier_block *record = &call->blocks[i];

        if (record->role == TREE_NEW && record->object->state == CHIMNEY_OFFLOADING) {
            object_retire(v, record->object);
            record->object = NULL;
        }
    }
}

static void announce(const struct verifier_call *call)
{
    for (size_t i = 0; i < call->count; i++) {
        if (call->blocks[i].role == TREE_NEW && call->blocks[i].object)
            call->blocks[i].object->announced = true;
    }
}

/* ---- the other four -------------------------------------------------------------------------- */

static void finish_update(const struct verifier_call *call, struct verifier_block *record)
{
    struct verifier_object *object = record->object;
    struct verifier_object *parent =
        record->parent == SIZE_MAX ? NULL : call->blocks[record->parent].object;

    object->updates--;
    if (record->block->status != NDIS_STATUS_SUCCESS)
        return;
    state_remember_cached(object, record->block);
    if (object->layer == TREE_PATH && parent && parent != object->parent) {
        if (object->parent)
            object->parent->dependents--;
        object->parent = parent;
        parent->dependents++;
    }
}

static void check_terminated(struct verifier *v, struct verifier_block *record)
{
    struct verifier_object *object = record->object;

    if (object->queries || object->updates || object->invalidates)
        breach(v, 225, LEDGER_TARGET, "a terminate completes before a query, update or invalidate");
    if (object->disconnects)
        breach(v, 225, LEDGER_TARGET, "a terminate completes before a disconnect");
    if (object->forwards)
        breach(v, 225, LEDGER_TARGET, "a terminate completes before a forward");
    if (object->in_indication)
        breach(v, 226, LEDGER_TARGET, "a terminate completes while an indication is made");
    if (record->block->status == NDIS_STATUS_SUCCESS)
        state_check_terminate(v, object, record->block);
    else
        record->block->send_data = (struct chimney_span){0, 0};
}

/** Connections first, so that nothing hangs on what goes. */
static void retire_all(struct verifier *v, struct verifier_call *call)
{
    for (enum tree_layer layer = TREE_TCP;; layer--) {
        for (size_t i = 0; i < call->count; i++) {
            struct verifier_block *record = &call->blocks[i];
            struct verifier_object *object = record->object;

            if (!record->counted || object->layer != layer)
                continue;
            if (object->dependents && record->block->status != NDIS_STATUS_SUCCESS)
                object->state = CHIMNEY_OFFLOADED; /* refused for its dependents: it stays */
            else
                object_retire(v, object);
            record->counted = false;
        }
        if (layer == TREE_NEIGHBOR)
            break;
    }
}

static void finish_other(struct verifier *v, struct verifier_call *call)
{
    for (size_t i = 0; i < call->count; i++) {
        struct verifier_block *record = &call->blocks[i];
        struct verifier_object *object = record->object;

        if (!record->counted)
            continue;
        object_check_context(v, object);
        switch (call->verb) {
        case TREE_QUERY:
            if (record->block->status == NDIS_STATUS_SUCCESS)
                state_check_query(v, object, record->block);
            object->queries--;
            break;
        case TREE_UPDATE:
            finish_update(call, record);
            break;
        case TREE_INVALIDATE:
            object->invalidates--;
            object->invalidated |= record->block->status == NDIS_STATUS_SUCCESS;
            break;
        case TREE_TERMINATE:
            check_terminated(v, record);
            break;
        case TREE_INITIATE:
            break;
        }
    }
    if (call->verb == TREE_TERMINATE)
        retire_all(v, call);
}

/* ---- going up -------------------------------------------------------------------------------- */

/** Nobody but the host writes what stands behind a block, unless it is to be filled in. */
static void check_digests(struct verifier *v, const struct verifier_call *call)
{
    /* In a pause the host may write fresh state into a queued tree. */
    if (call->verb == TREE_INITIATE && (call->in_pause || call->epoch != v->epoch))
        return;
    for (size_t i = 0; i < call->count; i++) {
        const struct verifier_block *record = &call->blocks[i];

        if (record->digest && state_digest(call->verb, record->block) != record->digest)
            breach(v, call->verb == TREE_INITIATE ? 4 : 5, LEDGER_TARGET,
                   "%s: the target wrote into the state of a %s", tree_verb_name(call->verb),
                   layer_name(record->object->layer));
    }
}

void verifier_complete(struct verifier *v, enum tree_verb verb, struct chimney_block *root)
{
    struct verifier_call *call = ledger_find(&v->ledger, LEDGER_TREE, root);

    verifier_enter(v);
    if (!call) {
        breach(v, 135, LEDGER_TARGET, "a completion (%s) of a tree that is not under way",
               tree_verb_name(verb));
        return;
    }
    if (call->verb != verb)
        breach(v, rows[verb].completion, LEDGER_TARGET, "%s is completed as %s",
               tree_verb_name(call->verb), tree_verb_name(verb));
    if (call->in_call)
        breach(v, rows[call->verb].call, LEDGER_TARGET, "%s completes inside its own call",
               tree_verb_name(call->verb));
    for (size_t i = 0; i < call->count; i++) {
        check_fields(v, &call->blocks[i]);
        restore_fields(&call->blocks[i]);
        check_status(v, call, &call->blocks[i]);
    }
    check_digests(v, call);
    if (call->verb == TREE_INITIATE) {
        check_initiate(v, call);
        finish_initiate(v, call);
    } else {
        finish_other(v, call);
    }
    ledger_close(&v->ledger, LEDGER_TREE, root, LEDGER_TARGET);
    verifier_call_up(v, call->verb, root);
    if (call->verb == TREE_INITIATE)
        announce(call);
    call->completed = true;
    if (!call->in_call)
        free(call);
}
