/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of the daemon as JSON.  docs/json.md documents every field; names and units are stable.
 *
 * What belongs to the worker is read by one call into it per status, not field by field.
 */
#include "daemon/control.h"
#include "contract/pause.h"
#include "contract/verifier.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

json_t *report_text(const char *text)
{
    char clean[512];
    size_t i;

    for (i = 0; text[i] && i < sizeof(clean) - 1; i++)
        clean[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    clean[i] = '\0';
    return json_string(clean);
}

json_t *report_tuple(const struct flow_key *key)
{
    char text[FLOW_KEY_TEXT];

    return json_string(flow_key_text(key, text));
}

json_t *report_time(const struct daemon *d, uint64_t monotonic_ns)
{
    uint64_t real_ns = d->started_real_ns + (monotonic_ns - d->started_ns);
    time_t seconds = (time_t)(real_ns / 1000000000ull);
    char day[32], text[48];
    struct tm tm;

    gmtime_r(&seconds, &tm);
    strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text, sizeof(text), "%s.%06uZ", day, (unsigned)(real_ns % 1000000000ull / 1000));
    return json_string(text);
}

const char *report_direction(enum move_direction direction)
{
    return direction == MOVE_OFFLOAD ? "offload" : direction == MOVE_UPLOAD ? "upload" : "none";
}

/* --- list ------------------------------------------------------------------------------------- */

static json_t *report_move(const struct daemon *d, const struct move_record *m)
{
    json_t *json = json_object();

    json_object_set_new(json, "direction", json_string(report_direction(m->direction)));
    json_object_set_new(json, "failed", json_boolean(m->failed));
    json_object_set_new(json, "time", report_time(d, m->start_ns));
    json_object_set_new(json, "status", json_string(chimney_status_name(m->status)));
    json_object_set_new(json, "reason", json_string(chimney_upload_reason_name(m->reason)));
    json_object_set_new(json, "why", report_text(m->why));
    json_object_set_new(json, "duration_us", number(m->duration_ns / 1000));
    json_object_set_new(json, "in_flight", json_integer(m->in_flight));
    json_object_set_new(json, "queued_bytes", json_integer(m->queued_bytes));
    return json;
}

json_t *report_conn(const struct daemon *d, const struct conn *c)
{
    uint64_t in = c->bytes_in, out = c->bytes_out;
    json_t *json = json_object();

    if (c->state == CHIMNEY_OFFLOADED || c->state == CHIMNEY_UPLOADING) {
        in += atomic_load_explicit(&c->w_bytes_in, memory_order_relaxed);
        out += atomic_load_explicit(&c->w_bytes_out, memory_order_relaxed);
    }
    json_object_set_new(json, "id", json_integer(c->id));
    json_object_set_new(json, "tuple", report_tuple(&c->key));
    json_object_set_new(json, "origin", json_string(c->accepted ? "accepted" : "connected"));
    json_object_set_new(json, "pid", c->session ? json_integer(c->session->pid) : json_null());
    json_object_set_new(json, "program", c->session ? report_text(c->session->comm) : json_null());
    json_object_set_new(json, "state", json_string(chimney_conn_state_name(c->state)));
    json_object_set_new(json, "queued", json_boolean(c->lent));
    json_object_set_new(json, "target", c->port ? report_text(c->port->target->name) : json_null());
    json_object_set_new(json, "port", c->port ? report_text(c->port->ifname) : json_null());
    json_object_set_new(json, "attached", report_time(d, c->attached_ns));
    json_object_set_new(json, "since", report_time(d, c->state_since_ns));
    json_object_set_new(json, "bytes_in", number(in));
    json_object_set_new(json, "bytes_out", number(out));
    json_object_set_new(json, "offloads", number(c->moves_offload));
    json_object_set_new(json, "uploads", number(c->moves_upload));
    json_object_set_new(json, "failed_moves", number(c->moves_failed));
    json_object_set_new(json, "last_move",
                        c->last.direction == MOVE_NONE ? json_null() : report_move(d, &c->last));
    json_object_set_new(json, "why_not", report_text(c->why_not));
    return json;
}

/* --- status ----------------------------------------------------------------------------------- */

/** What only the worker may read, per port. */
struct worker_view {
    struct target_info info;
    struct chimney_statistics stats[2];
    struct port_stats port;
    bool link_up;
    uint64_t calls, breaches;
};

static void worker_read(struct daemon *d, void *arg)
{
    struct worker_view *views = arg;

    for (unsigned i = 0; i < d->port_count; i++) {
        struct port_ctx *p = &d->ports[i];
        struct worker_view *v = &views[i];

        target_get_info(p->target, &v->info);
        p->target->ops->get_statistics(p->target, 4, &v->stats[0]);
        p->target->ops->get_statistics(p->target, 6, &v->stats[1]);
        port_get_stats(p->port, &v->port);
        v->link_up = port_link_up(p->port);
        if (p->top != p->target)
            verifier_counts(p->top, &v->calls, &v->breaches);
    }
}

static json_t *status_port(const struct port_ctx *p, const struct worker_view *v)
{
    const struct port_caps *caps = &p->port->caps;
    json_t *json = json_object();
    char mac[18];

    snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", caps->mac[0], caps->mac[1],
             caps->mac[2], caps->mac[3], caps->mac[4], caps->mac[5]);
    json_object_set_new(json, "name", report_text(p->ifname));
    json_object_set_new(json, "ifindex", json_integer(p->ifindex));
    json_object_set_new(json, "kind", report_text(caps->kind));
    json_object_set_new(json, "mode", json_string(p->native ? "native" : "generic"));
    json_object_set_new(json, "queues", json_integer(caps->queues));
    json_object_set_new(json, "mtu", json_integer(caps->mtu));
    json_object_set_new(json, "mac", json_string(mac));
    json_object_set_new(json, "link", json_string(v->link_up ? "up" : "down"));
    json_object_set_new(json, "rx_frames", number(v->port.rx_frames));
    json_object_set_new(json, "rx_bytes", number(v->port.rx_bytes));
    json_object_set_new(json, "rx_dropped", number(v->port.rx_dropped));
    json_object_set_new(json, "tx_frames", number(v->port.tx_frames));
    json_object_set_new(json, "tx_bytes", number(v->port.tx_bytes));
    json_object_set_new(json, "tx_dropped", number(v->port.tx_dropped));
    return json;
}

static json_t *status_family(const struct chimney_statistics *s)
{
    json_t *json = json_object();

    json_object_set_new(json, "in_receives", number(s->in_receives));
    json_object_set_new(json, "in_octets", number(s->in_octets));
    json_object_set_new(json, "in_delivers", number(s->in_delivers));
    json_object_set_new(json, "out_requests", number(s->out_requests));
    json_object_set_new(json, "out_octets", number(s->out_octets));
    json_object_set_new(json, "in_header_errors", json_integer(s->in_header_errors));
    json_object_set_new(json, "in_truncated_packets", json_integer(s->in_truncated_packets));
    json_object_set_new(json, "in_discards", json_integer(s->in_discards));
    json_object_set_new(json, "out_discards", json_integer(s->out_discards));
    json_object_set_new(json, "out_no_routes", json_integer(s->out_no_routes));
    json_object_set_new(json, "in_segments", number(s->in_segments));
    json_object_set_new(json, "out_segments", number(s->out_segments));
    json_object_set_new(json, "currently_established", json_integer(s->currently_established));
    json_object_set_new(json, "reset_established", json_integer(s->reset_established));
    json_object_set_new(json, "retransmitted_segments", json_integer(s->retransmitted_segments));
    json_object_set_new(json, "in_errors", json_integer(s->in_errors));
    json_object_set_new(json, "out_resets", json_integer(s->out_resets));
    return json;
}

static json_t *status_target(const struct port_ctx *p, const struct worker_view *v)
{
    const struct target_info *info = &v->info;
    json_t *json = json_object();

    json_object_set_new(json, "name", report_text(p->target->name));
    json_object_set_new(json, "port", report_text(p->ifname));
    json_object_set_new(json, "state", json_string(pause_state_name(info->pause)));
    json_object_set_new(json, "paused", json_boolean(p->paused));
    json_object_set_new(json, "queued", json_integer(info->queued));
    json_object_set_new(json, "capacity", json_integer(p->caps.tcp_connection_offload_capacity));
    json_object_set_new(json, "connections", json_integer(info->connections));
    json_object_set_new(json, "paths", json_integer(info->paths));
    json_object_set_new(json, "neighbors", json_integer(info->neighbors));
    json_object_set_new(json, "max_path_mtu", json_integer(p->caps.max_path_mtu));
    json_object_set_new(json, "initiates", number(p->initiates));
    json_object_set_new(json, "terminates", number(p->terminates));
    json_object_set_new(json, "pauses", number(info->pauses));
    json_object_set_new(json, "resumes", number(info->resumes));
    json_object_set_new(json, "upload_alls", number(info->upload_alls));
    json_object_set_new(json, "queued_total", number(info->queued_total));
    json_object_set_new(json, "queued_in_pause", number(p->queued_in_pause));
    json_object_set_new(json, "retrieves", number(info->retrieves));
    json_object_set_new(json, "sends_upload_in_progress", number(info->sends_upload_in_progress));
    json_object_set_new(json, "passed_up", number(info->passed_up));
    json_object_set_new(json, "tx_blocked", number(info->tx_blocked));
    json_object_set_new(json, "ipv4", status_family(&v->stats[0]));
    json_object_set_new(json, "ipv6", status_family(&v->stats[1]));
    return json;
}

static json_t *status_connections(const struct daemon *d)
{
    unsigned count[4] = {0}, queued = 0;
    json_t *json = json_object();

    for (const struct conn *c = d->conns; c; c = c->next) {
        count[c->state & 3]++;
        queued += c->lent;
    }
    json_object_set_new(json, "attached", json_integer(d->conn_count));
    json_object_set_new(json, "in_host", json_integer(count[CHIMNEY_IN_HOST]));
    json_object_set_new(json, "offloading", json_integer(count[CHIMNEY_OFFLOADING]));
    json_object_set_new(json, "offloaded", json_integer(count[CHIMNEY_OFFLOADED]));
    json_object_set_new(json, "uploading", json_integer(count[CHIMNEY_UPLOADING]));
    json_object_set_new(json, "queued", json_integer(queued));
    return json;
}

static json_t *status_steer(struct steer *steer)
{
    struct steer_counters n = {0};
    json_t *json = json_object();

    if (steer)
        steer_get_counters(steer, &n);
    json_object_set_new(json, "steered", number(n.steered));
    json_object_set_new(json, "steered_bytes", number(n.steered_bytes));
    json_object_set_new(json, "passed", number(n.passed));
    json_object_set_new(json, "late", number(n.late));
    json_object_set_new(json, "late_dropped", number(n.late_dropped));
    json_object_set_new(json, "rst_suppressed", number(n.rst_suppressed));
    json_object_set_new(json, "no_queue_dropped", number(n.no_queue_dropped));
    json_object_set_new(json, "reinjected", number(n.reinjected));
    return json;
}

static json_t *status_handoff(const struct handoff *h)
{
    json_t *steps = json_array();

    for (int i = 0; i < HANDOFF_STEPS; i++) {
        const struct handoff_cost *cost = &h->cost[i];
        double mean = cost->count ? (double)cost->total_ns / (double)cost->count / 1000 : 0;

        json_array_append_new(steps, json_pack("{s:s, s:I, s:f, s:f}", "step",
                                               handoff_step_name((enum handoff_step)i), "count",
                                               (json_int_t)cost->count, "mean_us", mean, "max_us",
                                               (double)cost->max_ns / 1000));
    }
    return steps;
}

static json_t *status_selftest(const struct daemon *d)
{
    json_t *failures = json_array();
    int failed = 0;

    for (int i = 0; i < d->check_count; i++) {
        const struct selftest_check *check = &d->checks[i];

        if (check->passed)
            continue;
        failed++;
        json_array_append_new(failures, json_pack("{s:o, s:b, s:o}", "name",
                                                  report_text(check->name), "fatal", check->fatal,
                                                  "detail", report_text(check->detail)));
    }
    return json_pack("{s:i, s:i, s:o}", "checks", d->check_count, "failed", failed, "failures",
                     failures);
}

json_t *report_status(struct daemon *d)
{
    struct worker_view views[DAEMON_MAX_PORTS];
    json_t *json = json_object(), *ports = json_array(), *targets = json_array();
    uint64_t now = daemon_now(), calls = 0;
    bool verifier = false;

    memset(views, 0, sizeof(views));
    worker_call(d, worker_read, views);
    for (unsigned i = 0; i < d->port_count; i++) {
        json_array_append_new(ports, status_port(&d->ports[i], &views[i]));
        json_array_append_new(targets, status_target(&d->ports[i], &views[i]));
        calls += views[i].calls;
        verifier |= d->ports[i].top != d->ports[i].target;
    }
    json_object_set_new(json, "ok", json_true());
    json_object_set_new(json, "version", json_string(CHIMNEY_VERSION));
    json_object_set_new(json, "pid", json_integer(getpid()));
    json_object_set_new(json, "rundir", report_text(d->options.rundir));
    json_object_set_new(json, "started", report_time(d, d->started_ns));
    json_object_set_new(json, "uptime_s", number((now - d->started_ns) / 1000000000ull));
    json_object_set_new(json, "stopping", json_boolean(d->stopping));
    json_object_set_new(json, "auto_offload", json_boolean(d->options.auto_offload));
    json_object_set_new(json, "programs", json_integer(d->session_count));
    json_object_set_new(json, "connections", status_connections(d));
    json_object_set_new(json, "moves",
                        json_pack("{s:I, s:I, s:I, s:I}", "offloads", (json_int_t)d->moves_offload,
                                  "uploads", (json_int_t)d->moves_upload, "failed",
                                  (json_int_t)d->moves_failed, "longest_us",
                                  (json_int_t)(d->longest_move_ns / 1000)));
    json_object_set_new(json, "ports", ports);
    json_object_set_new(json, "targets", targets);
    json_object_set_new(json, "steer", status_steer(d->steer));
    json_object_set_new(json, "barrier",
                        d->barrier
                            ? json_pack("{s:s, s:f}", "method",
                                        barrier_method_name(barrier_method(d->barrier)), "cost_us",
                                        (double)barrier_cost_ns(d->barrier) / 1000)
                            : json_null());
    json_object_set_new(json, "handoff", status_handoff(&d->handoff));
    json_object_set_new(json, "selftest", status_selftest(d));
    json_object_set_new(json, "verifier",
                        json_pack("{s:b, s:I, s:I}", "on", verifier, "calls", (json_int_t)calls,
                                  "breaches", (json_int_t)d->breaches));
    return json;
}
