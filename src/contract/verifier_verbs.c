/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The five state verbs on their way down: the rules the host keeps, then the exchange of cells and
 * handles, then the target.
 *
 * A tree that breaks a rule is reported and passed on all the same, because what the target makes
 * of it is of interest.  Three kinds are not passed on, since nobody below could read them: a tree
 * of wrong shape, one with a cell whose value is none of ours, and one for which there is no
 * memory. Such a tree is completed with a failure in every block at the next call that comes by.
 */
#include <stdlib.h>

#include "contract/verifier_internal.h"

static void refuse(struct verifier *v, enum tree_verb verb, struct chimney_block *root,
                   chimney_status status)
{
    tree_set_status(root, status);
    root->scratch[0] = (void *)(uintptr_t)verb;
    root->target_reserved[0] = NULL;
    *v->refused_tail = root;
    v->refused_tail = (struct chimney_block **)&root->target_reserved[0];
}

static bool count_block(void *arg, struct chimney_block *block, struct chimney_block *parent)
{
    ++*(size_t *)arg;
    return true;
}

/** Fills in the records of all blocks, in the order of the walk. */
struct recording {
    struct verifier_call *call;
    size_t ancestors[TREE_TCP + 1];
    size_t depth;
};

static bool record_block(void *arg, struct chimney_block *block, struct chimney_block *parent)
{
    struct recording *r = arg;
    struct verifier_block *record = &r->call->blocks[r->call->count];

    while (r->depth > 0 && r->call->blocks[r->ancestors[r->depth - 1]].block != parent)
        r->depth--;
    record->block = block;
    record->parent = r->depth ? r->ancestors[r->depth - 1] : SIZE_MAX;
    record->role = tree_block_role(block);
    record->host = *block;
    if (r->depth <= TREE_TCP)
        r->ancestors[r->depth++] = r->call->count;
    r->call->count++;
    return true;
}

static struct verifier_call *record_tree(enum tree_verb verb, struct chimney_block *root)
{
    struct verifier_call *call;
    struct recording recording = {0};
    size_t count = 0;

    tree_walk(root, count_block, &count);
    call = calloc(1, sizeof(*call) + count * sizeof(call->blocks[0]));
    if (!call)
        return NULL;
    call->verb = verb;
    call->root = root;
    recording.call = call;
    tree_walk(root, record_block, &recording);
    return call;
}

static struct verifier_object *parent_object(const struct verifier_call *call,
                                             const struct verifier_block *record)
{
    return record->parent == SIZE_MAX ? NULL : call->blocks[record->parent].object;
}

/** Finds or makes the objects of all blocks.  A status other than SUCCESS refuses the tree. */
static chimney_status resolve(struct verifier *v, struct verifier_call *call)
{
    enum tree_layer root_layer =
        call->verb == TREE_INITIATE ? TREE_NEIGHBOR : tree_block_layer(call->root);

    for (size_t i = 0; i < call->count; i++) {
        struct verifier_block *record = &call->blocks[i];
        struct chimney_cell *cell = record->block->cell;
        enum tree_layer layer = root_layer;

        for (size_t up = record->parent; up != SIZE_MAX; up = call->blocks[up].parent)
            layer++;
        if (record->role == TREE_PLACEHOLDER)
            continue;
        if (record->role == TREE_NEW) {
            record->object = object_create(v, layer);
            if (!record->object)
                return NDIS_STATUS_RESOURCES;
            continue;
        }
        record->object = object_of_cell(v, cell);
        if (!record->object || record->object->layer != layer) {
            breach(v, 18, LEDGER_HOST, "%s: a cell holds no context of a %s",
                   tree_verb_name(call->verb), layer_name(layer));
            record->object = NULL;
            return NDIS_STATUS_FAILURE;
        }
    }
    return NDIS_STATUS_SUCCESS;
}

/** Objects made for a tree that does not go down. */
static void discard(struct verifier *v, struct verifier_call *call)
{
    for (size_t i = 0; i < call->count; i++) {
        if (call->blocks[i].role == TREE_NEW && call->blocks[i].object)
            object_retire(v, call->blocks[i].object);
    }
    free(call);
}

/* ---- the host's rules ----------------------------------------------------------------------- */

static void check_initiate_new(struct verifier *v, const struct verifier_block *record,
                               const struct verifier_object *parent)
{
    struct verifier_object *object = record->object;
    struct chimney_block *block = record->block;
    struct verifier_object *other = ledger_find(&v->ledger, LEDGER_CELL, block->cell);

    object->host_cell = block->cell;
    object->host_handle = block->host_handle;
    if (other && other->state == CHIMNEY_OFFLOADING)
        breach(v, 139, LEDGER_HOST, "a %s is offloaded while its offload is in progress",
               layer_name(object->layer));
    else if (other)
        breach(v, 25, LEDGER_HOST, "the cell of an offloaded %s is used for a new one",
               layer_name(other->layer));
    else
        object->cell_open =
            ledger_open(&v->ledger, LEDGER_CELL, block->cell, LEDGER_HOST, object) == LEDGER_OK;
    if (!block->host_handle && object->layer != TREE_PATH)
        breach(v, 19, LEDGER_HOST, "a %s without a handle for indications",
               layer_name(object->layer));
    if (object->layer != TREE_NEIGHBOR && !parent)
        breach(v, 11, LEDGER_HOST, "a %s that hangs on nothing", layer_name(object->layer));
    if (parent && parent->invalidated)
        breach(v, 144, LEDGER_HOST, "a new %s hangs on an invalidated %s",
               layer_name(object->layer), layer_name(parent->layer));
    state_check_new(v, block);
}

/** @object is one the host may name in a verb other than the initiate that offloads it. */
static bool check_in_hand(struct verifier *v, enum tree_verb verb,
                          const struct verifier_object *object)
{
    if (object->state == CHIMNEY_OFFLOADING) {
        breach(v, 141, LEDGER_HOST, "%s of a %s whose offload is in progress", tree_verb_name(verb),
               layer_name(object->layer));
        return false;
    }
    if (object->state == CHIMNEY_UPLOADING) {
        breach(v, 145, LEDGER_HOST, "%s of a %s whose terminate is in progress",
               tree_verb_name(verb), layer_name(object->layer));
        return false;
    }
    return true;
}

static bool carries_cached(struct chimney_block *block)
{
    return tree_neighbor_cached(block) || tree_path_cached(block) || tree_tcp_cached(block);
}

static void check_update(struct verifier *v, const struct verifier_call *call,
                         struct verifier_block *record)
{
    struct verifier_object *object = record->object;
    const struct verifier_object *parent = parent_object(call, record);
    bool relinks = object->layer == TREE_PATH && parent && parent != object->parent;

    if (object->layer == TREE_TCP && parent && parent != object->parent)
        breach(v, 201, LEDGER_HOST, "a connection is linked to another path");
    if (!carries_cached(record->block) && !relinks)
        return; /* a bare reference: nothing of the object changes */
    if (object->updates)
        breach(v, 143, LEDGER_HOST, "a second update of a %s while one is in progress",
               layer_name(object->layer));
    if (object->invalidated)
        breach(v, 144, LEDGER_HOST, "an update of an invalidated %s", layer_name(object->layer));
    object->updates++;
    record->counted = true;
}

static void check_terminate(struct verifier *v, const struct verifier_object *object)
{
    if (object->queries || object->updates || object->invalidates)
        breach(v, 145, LEDGER_HOST,
               "terminate of a %s while a query, update or invalidate of it is in progress",
               layer_name(object->layer));
    if (object->in_call)
        breach(v, 146, LEDGER_HOST, "terminate of a connection inside a call for it");
}

/** Paths and neighbors only without dependents, or together with all of them (C12). */
static void check_dependents(struct verifier *v, struct verifier_call *call)
{
    for (size_t i = 0; i < call->count; i++) {
        if (call->blocks[i].counted)
            call->blocks[i].object->together = 0;
    }
    for (size_t i = 0; i < call->count; i++) {
        if (call->blocks[i].counted && call->blocks[i].object->parent)
            call->blocks[i].object->parent->together++;
    }
    for (size_t i = 0; i < call->count; i++) {
        const struct verifier_object *object = call->blocks[i].object;

        if (call->blocks[i].counted && object->together < object->dependents)
            breach(v, 12, LEDGER_HOST, "terminate of a %s that has dependents",
                   layer_name(object->layer));
    }
}

static void check_block(struct verifier *v, struct verifier_call *call,
                        struct verifier_block *record)
{
    struct verifier_object *object = record->object;
    const struct verifier_object *parent = parent_object(call, record);

    if (call->verb == TREE_INITIATE && record->role == TREE_NEW) {
        check_initiate_new(v, record, parent);
        return;
    }
    object_check_context(v, object);
    if (object->host_cell != record->block->cell)
        breach(v, 25, LEDGER_HOST, "the cell of a %s has moved", layer_name(object->layer));
    if (object->mark == v->calls && call->verb != TREE_QUERY) {
        breach(v, 18, LEDGER_HOST, "%s: a %s is named twice in one tree",
               tree_verb_name(call->verb), layer_name(object->layer));
        return;
    }
    object->mark = v->calls;
    if (!check_in_hand(v, call->verb, object))
        return;
    record->counted = call->verb != TREE_INITIATE && call->verb != TREE_UPDATE;
    switch (call->verb) {
    case TREE_INITIATE:
        if (object->layer == TREE_PATH && parent != object->parent)
            breach(v, 11, LEDGER_HOST, "a path is referenced under a neighbor it does not hang on");
        break;
    case TREE_QUERY:
        object->queries++;
        break;
    case TREE_UPDATE:
        check_update(v, call, record);
        break;
    case TREE_INVALIDATE:
        object->invalidates++;
        break;
    case TREE_TERMINATE:
        check_terminate(v, object);
        break;
    }
}

/* ---- going down ----------------------------------------------------------------------------- */

static void exchange(struct verifier *v, struct verifier_call *call)
{
    for (size_t i = 0; i < call->count; i++) {
        struct verifier_block *record = &call->blocks[i];
        struct chimney_block *block = record->block;

        block->status = TREE_STATUS_POISON;
        block->im_reserved[0] = record;
        block->im_reserved[1] = v;
        if (!record->object)
            continue;
        block->cell = &record->object->cell;
        block->host_handle = record->object;
        if (call->verb == TREE_TERMINATE && record->counted) {
            record->object->state = CHIMNEY_UPLOADING;
            state_poison(block);
        }
        if (call->verb != TREE_INITIATE || record->role == TREE_NEW)
            record->digest = state_digest(call->verb, block);
        if (record->role == TREE_NEW)
            ledger_hand_over(&v->ledger, LEDGER_OBJECT, record->object, LEDGER_HOST);
    }
}

static void go_down(struct verifier *v, enum tree_verb verb, struct chimney_block *root)
{
    switch (verb) {
    case TREE_INITIATE:
        v->down.initiate(v->below, root);
        break;
    case TREE_QUERY:
        v->down.query(v->below, root);
        break;
    case TREE_UPDATE:
        v->down.update(v->below, root);
        break;
    case TREE_INVALIDATE:
        v->down.invalidate(v->below, root);
        break;
    case TREE_TERMINATE:
        v->down.terminate(v->below, root);
        break;
    }
}

/** The row that a line of tree_validate() begins with. */
static int row_of(const char *line)
{
    return atoi(line + 1);
}

void verifier_verb(struct verifier *v, enum tree_verb verb, struct chimney_block *root)
{
    const char *wrong;
    struct verifier_call *call;
    chimney_status status;

    verifier_enter(v);
    if (!v->bound)
        breach(v, 109, LEDGER_HOST, "%s before the host is bound", tree_verb_name(verb));
    if (root && ledger_find(&v->ledger, LEDGER_TREE, root)) {
        breach(v, 28, LEDGER_HOST, "%s of a tree that is under way", tree_verb_name(verb));
        return; /* it will be completed, once */
    }
    wrong = tree_validate(verb, root);
    if (wrong) {
        breach(v, row_of(wrong), LEDGER_HOST, "%s: %s", tree_verb_name(verb), wrong);
        if (root)
            refuse(v, verb, root, NDIS_STATUS_FAILURE);
        return;
    }
    if (verb == TREE_INITIATE && v->host_paused)
        breach(v, 357, LEDGER_HOST, "an initiate after the host took notice of the pause");
    call = record_tree(verb, root);
    if (!call) {
        refuse(v, verb, root, NDIS_STATUS_RESOURCES);
        return;
    }
    status = resolve(v, call);
    if (status == NDIS_STATUS_SUCCESS &&
        ledger_open(&v->ledger, LEDGER_TREE, root, LEDGER_TARGET, call) != LEDGER_OK)
        status = NDIS_STATUS_RESOURCES;
    if (status != NDIS_STATUS_SUCCESS) {
        discard(v, call);
        refuse(v, verb, root, status);
        return;
    }
    for (size_t i = 0; i < call->count; i++) {
        if (call->blocks[i].object)
            check_block(v, call, &call->blocks[i]);
    }
    if (verb == TREE_TERMINATE)
        check_dependents(v, call);
    call->in_pause = v->pause != PAUSE_RUNNING;
    call->epoch = v->epoch;
    exchange(v, call);
    call->in_call = true;
    go_down(v, verb, root);
    call->in_call = false;
    if (call->completed)
        free(call);
}
