/* SPDX-License-Identifier: Apache-2.0 */
/* The verifier's records of offloaded objects. */
#include <stdlib.h>

#include "contract/verifier_internal.h"

const char *layer_name(enum tree_layer layer)
{
    switch (layer) {
    case TREE_NEIGHBOR:
        return "neighbor";
    case TREE_PATH:
        return "path";
    case TREE_TCP:
        return "connection";
    default:
        return "?";
    }
}

enum ledger_kind context_kind(enum tree_layer layer)
{
    return layer == TREE_NEIGHBOR ? LEDGER_CONTEXT
           : layer == TREE_PATH   ? LEDGER_CONTEXT_PATH
                                  : LEDGER_CONTEXT_TCP;
}

struct verifier_object *object_create(struct verifier *v, enum tree_layer layer)
{
    struct verifier_object *object = calloc(1, sizeof(*object));

    if (!object)
        return NULL;
    object->layer = layer;
    object->state = CHIMNEY_OFFLOADING;
    if (ledger_open(&v->ledger, LEDGER_OBJECT, object, LEDGER_HOST, object) != LEDGER_OK) {
        free(object);
        return NULL;
    }
    return object;
}

/** What hung on an object that is gone hangs on nothing: a breach, already reported (C12). */
static void orphan(void *arg, const struct ledger_item *item)
{
    struct verifier_object *object = item->what;

    if (item->kind == LEDGER_OBJECT && object->parent == arg)
        object->parent = NULL;
}

void object_retire(struct verifier *v, struct verifier_object *object)
{
    struct verifier_object **slot = &v->quarantine[v->quarantine_next];

    if (object->dependents)
        ledger_leaks(&v->ledger, orphan, object);

    if (ledger_close(&v->ledger, LEDGER_OBJECT, object, LEDGER_HOST) == LEDGER_NOT_OWNER)
        ledger_close(&v->ledger, LEDGER_OBJECT, object, LEDGER_TARGET);
    if (object->cell_open)
        ledger_close(&v->ledger, LEDGER_CELL, object->host_cell, LEDGER_HOST);
    if (object->context)
        ledger_close(&v->ledger, context_kind(object->layer), object->context, LEDGER_TARGET);
    if (object->parent)
        object->parent->dependents--;
    if (object->layer == TREE_TCP && object->context)
        v->connections--;
    object->state = CHIMNEY_IN_HOST;
    object->context = NULL;
    v->quarantine_next = (v->quarantine_next + 1) % VERIFIER_QUARANTINE;
    free(*slot);
    *slot = object;
}

struct verifier_object *object_of_cell(struct verifier *v, const struct chimney_cell *cell)
{
    return cell && cell->context ? ledger_find(&v->ledger, LEDGER_OBJECT, cell->context) : NULL;
}

struct verifier_object *object_of_handle(struct verifier *v, const void *handle, const char *what)
{
    struct verifier_object *object = ledger_find(&v->ledger, LEDGER_OBJECT, handle);

    if (object)
        return object;
    for (size_t i = 0; handle && i < VERIFIER_QUARANTINE; i++) {
        if (v->quarantine[i] == handle) {
            breach(v, 108, LEDGER_TARGET, "%s: a handle of an object that is terminated", what);
            return NULL;
        }
    }
    breach(v, 19, LEDGER_TARGET, "%s: a handle that was never given", what);
    return NULL;
}

void object_check_context(struct verifier *v, const struct verifier_object *object)
{
    if (object->cell.context == object->context || object->state == CHIMNEY_OFFLOADING)
        return;
    if (!object->cell.context)
        breach(v, 10, LEDGER_TARGET, "a %s was let go without a terminate",
               layer_name(object->layer));
    else
        breach(v, 108, LEDGER_TARGET, "the context of a %s changed", layer_name(object->layer));
}

struct chimney_cell *verifier_cell_below(struct chimney_target *target,
                                         const struct chimney_cell *cell)
{
    struct verifier_object *object = object_of_cell(verifier_of(target), cell);

    return object ? &object->cell : NULL;
}
