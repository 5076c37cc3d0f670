/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens, as it happens: one line of JSON per event to every subscriber.
 *
 * Every event has a number, also when nobody listens, so that a subscriber sees what it missed.
 */
#include "daemon/control.h"

#include <stdlib.h>
#include <string.h>

/** Writes @event, whose reference it takes, to every subscriber. */
static void publish(struct daemon *d, json_t *event)
{
    char *text = event ? json_dumps(event, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    size_t len = text ? strlen(text) : 0;

    json_decref(event);
    if (!text)
        return;         /* out of memory: the gap in the numbers tells */
    text[len++] = '\n'; /* in place of the NUL */
    for (struct client *c = d->control->clients; c; c = c->next)
        if (c->subscribed)
            control_write(d, c, text, len);
    free(text);
}

/** Fields every event has; NULL if nobody listens. */
static json_t *event_begin(struct daemon *d, const char *kind, const struct conn *c)
{
    json_t *event;

    d->control->seq++;
    if (!d->control->subscribers)
        return NULL;
    event = json_object();
    json_object_set_new(event, "seq", json_integer((json_int_t)d->control->seq));
    json_object_set_new(event, "time", report_time(d, daemon_now()));
    json_object_set_new(event, "kind", json_string(kind));
    if (c) {
        json_object_set_new(event, "id", json_integer(c->id));
        json_object_set_new(event, "tuple", report_tuple(&c->key));
        if (c->session) {
            json_object_set_new(event, "pid", json_integer(c->session->pid));
            json_object_set_new(event, "program", report_text(c->session->comm));
        }
    }
    return event;
}

void event_move(struct daemon *d, const struct conn *c, const struct move_record *m)
{
    json_t *event;

    if (!d->control)
        return;
    orders_moved(d, c, m);
    event = event_begin(d, "move", c);
    if (!event)
        return;
    if (c->port)
        json_object_set_new(event, "port", report_text(c->port->ifname));
    json_object_set_new(event, "direction", json_string(report_direction(m->direction)));
    json_object_set_new(event, "failed", json_boolean(m->failed));
    json_object_set_new(event, "state", json_string(chimney_conn_state_name(c->state)));
    json_object_set_new(event, "status", json_string(chimney_status_name(m->status)));
    json_object_set_new(event, "reason", json_string(chimney_upload_reason_name(m->reason)));
    json_object_set_new(event, "why", report_text(m->why));
    json_object_set_new(event, "duration_us", json_integer((json_int_t)(m->duration_ns / 1000)));
    json_object_set_new(event, "in_flight", json_integer(m->in_flight));
    json_object_set_new(event, "queued_bytes", json_integer(m->queued_bytes));
    publish(d, event);
}

void event_simple(struct daemon *d, const char *kind, const char *port, const struct conn *c,
                  const char *text)
{
    json_t *event;

    if (!d->control)
        return;
    if (c && strcmp(kind, "detach") == 0)
        orders_detached(d, c);
    orders_poke(d); /* one may wait for just that */
    event = event_begin(d, kind, c);
    if (!event)
        return;
    if (port)
        json_object_set_new(event, "port", report_text(port));
    if (text)
        json_object_set_new(event, "text", report_text(text));
    publish(d, event);
}
