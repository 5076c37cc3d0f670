/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verifier: creation, the two tables, reports and the count of leaks.  Rules are checked in
 * verifier_verbs.c (trees on the way down), verifier_complete.c (trees on the way up),
 * verifier_state.c (what stands behind blocks), verifier_data.c and verifier_events.c.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "contract/verifier_internal.h"

#define LINE_BYTES 200

void breach(struct verifier *v, int row, enum ledger_owner who, const char *format, ...)
{
    const char *name = who == LEDGER_HOST ? "host" : "target";
    char line[LINE_BYTES];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    v->breaches++;
    if (v->report) {
        v->report(v->report_arg, row, name, line);
        return;
    }
    fprintf(stderr, "contract row C%d broken by the %s: %s\n", row, name, line);
    abort();
}

void verifier_call_up(struct verifier *v, enum tree_verb verb, struct chimney_block *root)
{
    switch (verb) {
    case TREE_INITIATE:
        v->up.initiate_complete(v->host, root);
        break;
    case TREE_QUERY:
        v->up.query_complete(v->host, root);
        break;
    case TREE_UPDATE:
        v->up.update_complete(v->host, root);
        break;
    case TREE_INVALIDATE:
        v->up.invalidate_complete(v->host, root);
        break;
    case TREE_TERMINATE:
        v->up.terminate_complete(v->host, root);
        break;
    }
}

/** Completes refused trees: later than the call that brought them, as every completion is. */
static void complete_refused(struct verifier *v)
{
    struct chimney_block *root;

    while ((root = v->refused) != NULL) {
        enum tree_verb verb = (enum tree_verb)(uintptr_t)root->scratch[0];

        v->refused = root->target_reserved[0];
        if (!v->refused)
            v->refused_tail = &v->refused;
        verifier_call_up(v, verb, root);
    }
}

void verifier_enter(struct verifier *v)
{
    v->calls++;
    complete_refused(v);
}

static void down_initiate(struct chimney_target *t, struct chimney_block *root)
{
    verifier_verb(verifier_of(t), TREE_INITIATE, root);
}

static void down_query(struct chimney_target *t, struct chimney_block *root)
{
    verifier_verb(verifier_of(t), TREE_QUERY, root);
}

static void down_update(struct chimney_target *t, struct chimney_block *root)
{
    verifier_verb(verifier_of(t), TREE_UPDATE, root);
}

static void down_invalidate(struct chimney_target *t, struct chimney_block *root)
{
    verifier_verb(verifier_of(t), TREE_INVALIDATE, root);
}

static void down_terminate(struct chimney_target *t, struct chimney_block *root)
{
    verifier_verb(verifier_of(t), TREE_TERMINATE, root);
}

static void up_initiate(struct chimney_host *h, struct chimney_block *root)
{
    verifier_complete(verifier_of_host(h), TREE_INITIATE, root);
}

static void up_query(struct chimney_host *h, struct chimney_block *root)
{
    verifier_complete(verifier_of_host(h), TREE_QUERY, root);
}

static void up_update(struct chimney_host *h, struct chimney_block *root)
{
    verifier_complete(verifier_of_host(h), TREE_UPDATE, root);
}

static void up_invalidate(struct chimney_host *h, struct chimney_block *root)
{
    verifier_complete(verifier_of_host(h), TREE_INVALIDATE, root);
}

static void up_terminate(struct chimney_host *h, struct chimney_block *root)
{
    verifier_complete(verifier_of_host(h), TREE_TERMINATE, root);
}

static chimney_status down_set_parameters(struct chimney_target *t,
                                          const struct chimney_parameters *parameters)
{
    struct verifier *v = verifier_of(t);

    verifier_enter(v);
    return v->down.set_parameters(v->below, parameters);
}

static void down_get_statistics(struct chimney_target *t, int family,
                                struct chimney_statistics *out)
{
    struct verifier *v = verifier_of(t);

    verifier_enter(v);
    v->down.get_statistics(v->below, family, out);
}

static void up_receive(struct chimney_host *h, int ifindex, const uint8_t *frame, uint32_t length)
{
    struct verifier *v = verifier_of_host(h);

    verifier_enter(v);
    if (!frame || length == 0)
        breach(v, 213, LEDGER_TARGET, "an empty frame on the non-offload path");
    v->up.receive(v->host, ifindex, frame, length);
}

static const struct chimney_host_ops up_table = {
    .initiate_complete = up_initiate,
    .query_complete = up_query,
    .update_complete = up_update,
    .invalidate_complete = up_invalidate,
    .terminate_complete = up_terminate,
    .send_complete = verify_send_complete,
    .disconnect_complete = verify_disconnect_complete,
    .forward_complete = verify_forward_complete,
    .receive_indicate = verify_receive_indicate,
    .event = verify_event,
    .status = verify_status,
    .neighbor_query = verify_neighbor_query,
    .receive = up_receive,
};

static void down_bind(struct chimney_target *t, const struct chimney_host_ops *ops,
                      struct chimney_host *host)
{
    struct verifier *v = verifier_of(t);

    v->calls++;
    if (v->bound)
        breach(v, 110, LEDGER_HOST, "a second host binds to the target");
    if (!chimney_host_ops_complete(ops))
        breach(v, 88, LEDGER_HOST, "the host lacks a completion or an indication");
    chimney_host_ops_init(&v->up, ops);
    v->host = host;
    v->bound = true;
    v->down.bind(v->below, &up_table, (struct chimney_host *)v);
}

static const struct chimney_target_ops down_table = {
    .initiate = down_initiate,
    .query = down_query,
    .update = down_update,
    .invalidate = down_invalidate,
    .terminate = down_terminate,
    .send = verify_send,
    .receive = verify_receive,
    .disconnect = verify_disconnect,
    .forward = verify_forward,
    .get_capabilities = verify_get_capabilities,
    .set_parameters = down_set_parameters,
    .get_statistics = down_get_statistics,
    .bind = down_bind,
};

struct chimney_target *verifier_create(struct chimney_target *target, verifier_report report,
                                       void *arg)
{
    static const struct chimney_host_ops nobody;
    struct verifier *v = calloc(1, sizeof(*v));

    if (!v)
        return NULL;
    v->base.ops = &down_table;
    memcpy(v->base.name, target->name, sizeof(v->base.name));
    v->below = target;
    v->report = report;
    v->report_arg = arg;
    v->refused_tail = &v->refused;
    v->pause = PAUSE_RUNNING;
    ledger_init(&v->ledger);
    chimney_target_ops_init(&v->down, target->ops);
    chimney_host_ops_init(&v->up, &nobody);
    if (!chimney_target_ops_complete(target->ops))
        breach(v, 86, LEDGER_TARGET, "the target lacks a verb");
    return &v->base;
}

static void report_leak(void *arg, const struct ledger_item *item)
{
    struct verifier *v = arg;
    const struct verifier_call *call;
    const struct verifier_object *object;

    switch ((enum ledger_kind)item->kind) {
    case LEDGER_TREE:
        call = item->what;
        breach(v, 135, LEDGER_TARGET, "a tree was never completed (%s)",
               tree_verb_name(call->verb));
        break;
    case LEDGER_OBJECT:
        object = item->what;
        if (object->state != CHIMNEY_OFFLOADING) /* else its tree is the leak */
            breach(v, 210, LEDGER_HOST, "a %s was never terminated", layer_name(object->layer));
        if (object->disconnects)
            breach(v, 297, LEDGER_TARGET, "a disconnect was never completed");
        break;
    case LEDGER_FORWARD:
        breach(v, 316, LEDGER_TARGET, "a forwarded segment was never completed");
        break;
    default: /* cells and contexts go with their objects */
        break;
    }
}

static void free_leak(void *arg, const struct ledger_item *item)
{
    if (item->kind == LEDGER_TREE || item->kind == LEDGER_OBJECT)
        free(item->what);
}

void verifier_destroy(struct chimney_target *target)
{
    struct verifier *v = verifier_of(target);

    complete_refused(v);
    ledger_leaks(&v->ledger, report_leak, v);
    ledger_leaks(&v->ledger, free_leak, v);
    ledger_free(&v->ledger);
    for (size_t i = 0; i < VERIFIER_QUARANTINE; i++)
        free(v->quarantine[i]);
    free(v);
}

void verifier_counts(const struct chimney_target *target, uint64_t *calls, uint64_t *breaches)
{
    const struct verifier *v = (const struct verifier *)target;

    *calls = v->calls;
    *breaches = v->breaches;
}
