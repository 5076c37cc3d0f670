/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Orders: commands of an operator that take time.
 *
 * Theory of operation.  A move order marks its connections with what became of them: still open,
 * done, or refused.  Events mark them as they happen (orders_moved, orders_detached); a look at the
 * connections' states (order_look) settles what no event told.  An order without "wait" is answered
 * after one look; with "wait", when nothing is open or its time is over.  A pause or resume order
 * waits until the target has indicated it, so that the next command finds it so.
 *
 * Answers are only written by orders_tick(), from the timer, never from inside an event: an event
 * may come from the middle of a move.
 */
#include "daemon/control.h"
#include "daemon/selector.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum order_kind { ORDER_OFFLOAD, ORDER_UPLOAD, ORDER_PAUSE, ORDER_RESUME };

struct order_item {
    uint32_t id;
    enum { ITEM_OPEN, ITEM_QUEUED, ITEM_ALREADY, ITEM_MOVED, ITEM_REFUSED } result;
    bool seen;
};

struct refusal {
    uint32_t id;
    struct flow_key key;
    char why[120];
};

struct order {
    enum order_kind kind;
    uint64_t started_ns, deadline_ns;
    bool wait, asked_target;
    bool ports[DAEMON_MAX_PORTS]; /* of pause and resume */
    size_t count;
    struct order_item *items; /* by id */
    size_t refused, refusal_count;
    struct refusal refusals[ORDER_MAX_REFUSALS];
};

void order_free(struct order *order)
{
    if (order)
        free(order->items);
    free(order);
}

/** Seconds to wait from the request; false: it was refused. */
static bool order_timeout(struct daemon *d, struct client *c, const json_t *request, uint64_t *ns)
{
    const json_t *field = json_object_get(request, "timeout");
    double s = field ? json_number_value(field) : ORDER_DEFAULT_S;

    if (!(s >= 0 && s <= ORDER_MAX_S)) {
        control_refuse(d, c, "timeout must be 0 to %d seconds", ORDER_MAX_S);
        return false;
    }
    *ns = (uint64_t)llrint(s * 1e9);
    return true;
}

static struct order *order_new(enum order_kind kind, uint64_t timeout_ns)
{
    struct order *o = calloc(1, sizeof(*o));

    if (!o)
        return NULL;
    o->kind = kind;
    o->started_ns = daemon_now();
    o->deadline_ns = o->started_ns + timeout_ns;
    return o;
}

/** The client waits for it from now on. */
static void order_begin(struct daemon *d, struct client *c, struct order *o)
{
    c->order = o;
    control_arm(d, 0);
}

/* --- items ------------------------------------------------------------------------------------ */

static int compare_items(const void *a, const void *b)
{
    uint32_t x = ((const struct order_item *)a)->id, y = ((const struct order_item *)b)->id;

    return x < y ? -1 : x > y;
}

static struct order_item *order_find(struct order *o, uint32_t id)
{
    const struct order_item key = {.id = id};

    if (o->count == 0)
        return NULL;
    return bsearch(&key, o->items, o->count, sizeof(*o->items), compare_items);
}

static void item_refuse(struct order *o, struct order_item *item, const struct conn *conn,
                        const char *why)
{
    item->result = ITEM_REFUSED;
    o->refused++;
    if (o->refusal_count < ORDER_MAX_REFUSALS) {
        struct refusal *r = &o->refusals[o->refusal_count++];

        r->id = item->id;
        if (conn)
            r->key = conn->key;
        snprintf(r->why, sizeof(r->why), "%s", why && *why ? why : "no reason was given");
    }
}

/** Marks what can be told from the connection's state. */
static void item_look(struct order *o, struct order_item *item, const struct conn *conn)
{
    if (o->kind == ORDER_OFFLOAD) {
        if (conn->state == CHIMNEY_OFFLOADED && !conn->want_upload)
            item->result = ITEM_MOVED;
        else if (conn->lent)
            item->result = ITEM_QUEUED;
        else if (conn->state == CHIMNEY_IN_HOST && !conn->want_offload)
            item_refuse(o, item, conn,
                        conn->why_not[0]    ? conn->why_not
                        : conn->last.failed ? conn->last.why
                                            : "");
        else
            item->result = ITEM_OPEN;
    } else if (conn->lent || (conn->state == CHIMNEY_IN_HOST && !conn->want_upload)) {
        /* One whose initiate is queued has been in the kernel since the pause. */
        item->result = ITEM_MOVED;
    } else if (!o->asked_target && conn->state == CHIMNEY_OFFLOADED && !conn->want_upload) {
        item_refuse(o, item, conn, conn->last.failed ? conn->last.why : "the upload did not begin");
    } else {
        item->result = ITEM_OPEN;
    }
}

static bool item_unsettled(const struct order_item *item)
{
    return item->result == ITEM_OPEN || item->result == ITEM_QUEUED;
}

static void order_look(struct daemon *d, struct order *o)
{
    for (const struct conn *conn = d->conns; conn; conn = conn->next) {
        struct order_item *item = order_find(o, conn->id);

        if (!item)
            continue;
        item->seen = true;
        if (item_unsettled(item))
            item_look(o, item, conn);
    }
    for (size_t i = 0; i < o->count; i++) {
        struct order_item *item = &o->items[i];

        if (!item->seen && item_unsettled(item)) {
            if (o->kind == ORDER_OFFLOAD)
                item_refuse(o, item, NULL, "the program let go of it");
            else
                item->result = ITEM_MOVED;
        }
        item->seen = false;
    }
}

static size_t order_count(const struct order *o, int result)
{
    size_t n = 0;

    for (size_t i = 0; i < o->count; i++)
        n += (int)o->items[i].result == result;
    return n;
}

void orders_moved(struct daemon *d, const struct conn *conn, const struct move_record *m)
{
    for (struct client *c = d->control->clients; c; c = c->next) {
        struct order *o = c->order;
        struct order_item *item;

        if (!o || (o->kind == ORDER_OFFLOAD) != (m->direction == MOVE_OFFLOAD))
            continue;
        item = order_find(o, conn->id);
        if (!item || !item_unsettled(item))
            continue;
        if (!m->failed)
            item->result = ITEM_MOVED;
        else if (o->kind == ORDER_OFFLOAD && !conn->want_offload)
            item_refuse(o, item, conn, m->why);
        control_arm(d, 0);
    }
}

void orders_detached(struct daemon *d, const struct conn *conn)
{
    for (struct client *c = d->control->clients; c; c = c->next) {
        struct order_item *item = c->order ? order_find(c->order, conn->id) : NULL;

        if (!item || !item_unsettled(item))
            continue;
        if (c->order->kind == ORDER_OFFLOAD)
            item_refuse(c->order, item, conn, "the program let go of it");
        else
            item->result = ITEM_MOVED;
        control_arm(d, 0);
    }
}

/* --- answers ---------------------------------------------------------------------------------- */

static json_t *refusals_json(const struct order *o)
{
    json_t *list = json_array();

    for (size_t i = 0; i < o->refusal_count; i++) {
        const struct refusal *r = &o->refusals[i];
        json_t *row = json_pack("{s:I, s:o}", "id", (json_int_t)r->id, "why", report_text(r->why));

        if (r->key.family)
            json_object_set_new(row, "tuple", report_tuple(&r->key));
        json_array_append_new(list, row);
    }
    return list;
}

/** True if all that were refused, as far as it was kept, were refused for the same reason. */
static bool same_reason(const struct order *o)
{
    for (size_t i = 1; i < o->refusal_count; i++)
        if (strcmp(o->refusals[i].why, o->refusals[0].why) != 0)
            return false;
    return true;
}

/** The line for people, empty if everything is as it was wanted. */
static void move_error(const struct order *o, size_t late, size_t queued, char line[256])
{
    const char *verb = o->kind == ORDER_OFFLOAD ? "offloaded" : "uploaded";

    line[0] = '\0';
    if (o->refused == 1 && o->count == 1)
        snprintf(line, 256, "connection %u was not %s: %s", o->refusals[0].id, verb,
                 o->refusals[0].why);
    else if (o->refused && same_reason(o))
        snprintf(line, 256, "%zu of %zu connections were not %s: %s", o->refused, o->count, verb,
                 o->refusals[0].why);
    else if (o->refused)
        snprintf(line, 256,
                 "%zu of %zu connections were not %s, for several reasons; connection "
                 "%u: %s",
                 o->refused, o->count, verb, o->refusals[0].id, o->refusals[0].why);
    else if (queued && queued == late)
        snprintf(line, 256, "%zu of %zu connections are queued in a pause: chimney resume", queued,
                 o->count);
    else if (late)
        snprintf(line, 256, "%zu of %zu connections were not %s in time: chimney list shows why",
                 late, o->count, verb);
}

static void answer_move(struct daemon *d, struct client *c, const struct order *o)
{
    size_t open = order_count(o, ITEM_OPEN), queued = order_count(o, ITEM_QUEUED);
    size_t already = order_count(o, ITEM_ALREADY), moved = order_count(o, ITEM_MOVED);
    char line[256];
    json_t *answer;

    move_error(o, o->wait ? open + queued : 0, o->wait ? queued : 0, line);
    answer =
        json_pack("{s:b, s:I, s:I, s:I}", "ok", line[0] == '\0', "selected", (json_int_t)o->count,
                  "already", (json_int_t)already, "refused", (json_int_t)o->refused);
    if (o->wait) {
        json_object_set_new(answer, "moved", json_integer((json_int_t)moved));
        json_object_set_new(answer, "waiting", json_integer((json_int_t)open));
        json_object_set_new(answer, "duration_us",
                            json_integer((json_int_t)((daemon_now() - o->started_ns) / 1000)));
    } else {
        json_object_set_new(answer, "started", json_integer((json_int_t)(moved + open + queued)));
    }
    json_object_set_new(answer, "queued", json_integer((json_int_t)queued));
    json_object_set_new(answer, "refusals", refusals_json(o));
    if (line[0])
        json_object_set_new(answer, "error", report_text(line));
    control_answer(d, c, answer);
}

static json_t *targets_json(const struct daemon *d, const bool ports[DAEMON_MAX_PORTS])
{
    json_t *targets = json_array();

    for (unsigned i = 0; i < d->port_count; i++)
        if (ports[i])
            json_array_append_new(targets, report_text(d->ports[i].ifname));
    return targets;
}

static void answer_pause(struct daemon *d, struct client *c, const struct order *o)
{
    json_t *answer = json_pack("{s:b, s:o}", "ok", 1, "targets", targets_json(d, o->ports));
    char line[160];

    for (unsigned i = 0; i < d->port_count; i++) {
        if (!o->ports[i] || d->ports[i].paused == (o->kind == ORDER_PAUSE))
            continue;
        snprintf(line, sizeof(line), "target %.15s has not %s in time: chimney status shows why",
                 d->ports[i].ifname, o->kind == ORDER_PAUSE ? "paused" : "resumed");
        json_object_set_new(answer, "ok", json_false());
        json_object_set_new(answer, "error", report_text(line));
    }
    control_answer(d, c, answer);
}

static bool order_done(struct daemon *d, struct order *o)
{
    if (o->kind == ORDER_PAUSE || o->kind == ORDER_RESUME) {
        for (unsigned i = 0; i < d->port_count; i++)
            if (o->ports[i] && d->ports[i].paused != (o->kind == ORDER_PAUSE))
                return false;
        return true;
    }
    order_look(d, o);
    return !o->wait || order_count(o, ITEM_OPEN) + order_count(o, ITEM_QUEUED) == 0;
}

void orders_tick(struct daemon *d, uint64_t now)
{
    bool waiting = false;

    for (struct client *c = d->control->clients; c; c = c->next) {
        struct order *o = c->order;

        if (!o || c->dead)
            continue;
        if (!order_done(d, o) && now < o->deadline_ns) {
            waiting = true;
            continue;
        }
        c->order = NULL;
        if (o->kind == ORDER_PAUSE || o->kind == ORDER_RESUME)
            answer_pause(d, c, o);
        else
            answer_move(d, c, o);
        order_free(o);
    }
    if (waiting)
        control_arm(d, daemon_now() + ORDER_TICK_NS);
}

void orders_poke(struct daemon *d)
{
    for (const struct client *c = d->control->clients; c; c = c->next)
        if (c->order) {
            control_arm(d, 0);
            return;
        }
}

/* --- offload and upload ----------------------------------------------------------------------- */

static int compare_conns(const void *a, const void *b)
{
    uint32_t x = (*(struct conn *const *)a)->id, y = (*(struct conn *const *)b)->id;

    return x < y ? -1 : x > y;
}

/** The connections meant by the request, oldest first; NULL: it was refused. */
static struct conn **select_conns(struct daemon *d, struct client *c, const json_t *request,
                                  size_t *count)
{
    const char *text = json_string_value(json_object_get(request, "selector"));
    bool all = json_is_true(json_object_get(request, "all"));
    struct selector *selector;
    struct conn **conns;
    char err[256];
    size_t n = 0;

    if (all == (text != NULL)) {
        control_refuse(d, c, "give either \"selector\" or \"all\": which connections?");
        return NULL;
    }
    selector = selector_parse(all ? "all" : text, err, sizeof(err));
    if (!selector) {
        control_refuse(d, c, "%s", err);
        return NULL;
    }
    conns = calloc(d->conn_count ? d->conn_count : 1, sizeof(*conns));
    if (!conns) {
        control_refuse(d, c, "no memory for the selection: try again");
        selector_free(selector);
        return NULL;
    }
    for (struct conn *conn = d->conns; conn && n < d->conn_count; conn = conn->next)
        /* What its program has let go of is on its way home already. */
        if (conn->session && !conn->want_release && !conn->want_close &&
            selector_match(selector, conn->id, &conn->key))
            conns[n++] = conn;
    selector_free(selector);
    qsort(conns, n, sizeof(conns[0]), compare_conns);
    if (n == 0 && !all) {
        control_refuse(d, c, "no connection matches: chimney list shows them");
        free(conns);
        return NULL;
    }
    *count = n;
    return conns;
}

/** The name of the target that is in the way of an offload, or NULL. */
static const char *paused_target(const struct daemon *d, const struct conn *conn)
{
    if (conn->port)
        return conn->port->paused ? conn->port->ifname : NULL;
    for (unsigned i = 0; i < d->port_count; i++)
        if (!d->ports[i].paused)
            return NULL;
    return d->port_count ? d->ports[0].ifname : NULL;
}

/** Sorts a selection into those to be moved (kept in @conns, returned) and the others. */
static size_t order_sort_out(struct daemon *d, struct order *o, struct conn **conns, size_t n)
{
    size_t left = 0;

    for (size_t i = 0; i < n; i++)
        o->items[i].id = conns[i]->id;
    qsort(o->items, n, sizeof(*o->items), compare_items);
    o->count = n;
    for (size_t i = 0; i < n; i++) {
        struct conn *conn = conns[i];
        struct order_item *item = order_find(o, conn->id);
        const char *paused;

        if (o->kind == ORDER_UPLOAD) {
            if (conn->state == CHIMNEY_IN_HOST && !conn->want_offload)
                item->result = ITEM_ALREADY;
        } else if (conn->state == CHIMNEY_OFFLOADED && !conn->want_upload) {
            item->result = ITEM_ALREADY;
        } else if (conn->state == CHIMNEY_IN_HOST && (paused = paused_target(d, conn)) != NULL) {
            char why[80];

            snprintf(why, sizeof(why), "target %.15s is paused: chimney resume %.15s", paused,
                     paused);
            item_refuse(o, item, conn, why);
        }
        if (item->result == ITEM_OPEN)
            conns[left++] = conn;
    }
    return left;
}

void order_move(struct daemon *d, struct client *c, const json_t *request, bool offload)
{
    struct conn **conns;
    struct order *o;
    uint64_t timeout;
    size_t n, left;

    if (!order_timeout(d, c, request, &timeout))
        return;
    if (offload && d->stopping) {
        control_refuse(d, c, "the daemon is ending: everything goes back to the kernel");
        return;
    }
    conns = select_conns(d, c, request, &n);
    if (!conns)
        return;
    o = order_new(offload ? ORDER_OFFLOAD : ORDER_UPLOAD, timeout);
    if (o)
        o->items = calloc(n ? n : 1, sizeof(*o->items));
    if (!o || !o->items) {
        control_refuse(d, c, "no memory for the order: try again");
        order_free(o);
        free(conns);
        return;
    }
    o->wait = json_is_true(json_object_get(request, "wait"));
    left = order_sort_out(d, o, conns, n);
    order_begin(d, c, o); /* before the move: its events may come at once */
    if (left && offload)
        move_offload(d, conns, left, "operator");
    else if (left)
        move_upload(d, conns, left, CHIMNEY_REASON_NONE, "operator");
    free(conns);
}

/* --- pause, resume, upload-all ---------------------------------------------------------------- */

struct target_call {
    void (*fn)(struct chimney_target *target, uint32_t capacity);
    const bool *ports;
    uint32_t capacity;
};

static void target_call(struct daemon *d, void *arg)
{
    const struct target_call *call = arg;

    for (unsigned i = 0; i < d->port_count; i++)
        if (call->ports[i])
            call->fn(d->ports[i].target, call->capacity);
}

static void call_pause(struct chimney_target *t, uint32_t unused)
{
    target_pause(t);
}

static void call_pause_on_initiate(struct chimney_target *t, uint32_t unused)
{
    target_pause_on_initiate(t);
}

static void call_upload_all(struct chimney_target *t, uint32_t unused)
{
    target_upload_all(t);
}

/** Marks the targets meant by the request; false: it was refused. */
static bool select_targets(struct daemon *d, struct client *c, const json_t *request,
                           bool ports[DAEMON_MAX_PORTS])
{
    const char *name = json_string_value(json_object_get(request, "target"));
    char names[DAEMON_MAX_PORTS * 18] = "";
    bool any = false;

    for (unsigned i = 0; i < d->port_count; i++) {
        ports[i] = !name || strcmp(name, d->ports[i].ifname) == 0;
        any |= ports[i];
        snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", i ? ", " : "",
                 d->ports[i].ifname);
    }
    if (!any)
        control_refuse(d, c, "no target '%.40s': there is %s", name ? name : "", names);
    return any;
}

void order_pause(struct daemon *d, struct client *c, const json_t *request)
{
    bool ports[DAEMON_MAX_PORTS] = {false};
    struct order *o;

    if (!select_targets(d, c, request, ports))
        return;
    if (json_is_true(json_object_get(request, "on_initiate"))) {
        /* It pauses when an initiate arrives, perhaps never: there is nothing to wait for. */
        worker_call(d, target_call, &(struct target_call){call_pause_on_initiate, ports, 0});
        control_answer(d, c, json_pack("{s:b, s:o}", "ok", 1, "armed", targets_json(d, ports)));
        return;
    }
    o = order_new(ORDER_PAUSE, ORDER_DEFAULT_S * 1000000000ull);
    if (!o) {
        control_refuse(d, c, "no memory for the order: try again");
        return;
    }
    memcpy(o->ports, ports, sizeof(ports));
    worker_call(d, target_call, &(struct target_call){call_pause, ports, 0});
    order_begin(d, c, o);
}

void order_resume(struct daemon *d, struct client *c, const json_t *request)
{
    const json_t *field = json_object_get(request, "capacity");
    double capacity = field ? json_number_value(field) : 0;
    struct order *o;

    if (!(capacity >= 0 && capacity <= d->options.max_connections) || capacity != floor(capacity)) {
        control_refuse(d, c,
                       "capacity must be 1 to %u connections (the daemon's "
                       "--max-connections), or 0 for no change",
                       d->options.max_connections);
        return;
    }
    o = order_new(ORDER_RESUME, ORDER_DEFAULT_S * 1000000000ull);
    if (!o) {
        control_refuse(d, c, "no memory for the order: try again");
        return;
    }
    if (!select_targets(d, c, request, o->ports)) {
        order_free(o);
        return;
    }
    worker_call(d, target_call, &(struct target_call){target_resume, o->ports, (uint32_t)capacity});
    order_begin(d, c, o);
}

void order_upload_all(struct daemon *d, struct client *c, const json_t *request)
{
    bool ports[DAEMON_MAX_PORTS] = {false};
    uint64_t timeout;
    struct order *o;

    if (!order_timeout(d, c, request, &timeout) || !select_targets(d, c, request, ports))
        return;
    o = order_new(ORDER_UPLOAD, timeout);
    if (o)
        o->items = calloc(d->conn_count ? d->conn_count : 1, sizeof(*o->items));
    if (!o || !o->items) {
        control_refuse(d, c, "no memory for the order: try again");
        order_free(o);
        return;
    }
    o->asked_target = true;
    o->wait = json_is_true(json_object_get(request, "wait"));
    for (const struct conn *conn = d->conns; conn && o->count < d->conn_count; conn = conn->next)
        for (unsigned i = 0; i < d->port_count; i++)
            if (ports[i] && conn->port == &d->ports[i] && conn->state != CHIMNEY_IN_HOST)
                o->items[o->count++].id = conn->id;
    qsort(o->items, o->count, sizeof(*o->items), compare_items);
    order_begin(d, c, o);
    worker_call(d, target_call, &(struct target_call){call_upload_all, ports, 0});
}
