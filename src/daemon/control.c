/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket: RUNDIR/control.sock, one JSON object per line in, one per line out.
 *
 * Theory of operation.  A client's lines are answered one after the other.  While an answer is
 * outstanding (an order that waits, a list that is not all written, output nobody reads) the client
 * is not read from, so its memory is bounded: one line in, CONTROL_MAX_OUTPUT out.  A subscriber is
 * never waited for: if it leaves more than CONTROL_MAX_OUTPUT unread it is dropped.  Lists are
 * written a few rows at a time as the client reads them.  Nothing here blocks.
 *
 * A client that is to go is only marked (dead); it is freed when no list of clients is being
 * walked.
 */
#include "daemon/control.h"
#include "daemon/selector.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

/** Rows of a list that are written before the rest of the daemon has its turn. */
#define LISTING_CHUNK 16
#define JSON_LINE (JSON_COMPACT | JSON_ENSURE_ASCII)

/* --- output ----------------------------------------------------------------------------------- */

static size_t output_len(const struct client *c)
{
    return c->out_end - c->out_start;
}

/** Writes what the client takes now. */
static void client_flush(struct client *c)
{
    while (!c->dead && output_len(c)) {
        ssize_t n =
            send(c->tag.fd, c->out + c->out_start, output_len(c), MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            c->dead = errno != EAGAIN;
            return;
        }
        c->out_start += (size_t)n;
    }
    c->out_start = c->out_end = 0;
    if (c->out_size > CONTROL_OUTPUT_FLUSH) {
        free(c->out);
        c->out = NULL;
        c->out_size = 0;
    }
}

/** Makes room for @len more bytes; false: the client goes. */
static bool output_room(struct client *c, size_t len)
{
    size_t size = c->out_size ? c->out_size : 4096;
    char *out;

    if (output_len(c) + len > CONTROL_MAX_OUTPUT)
        return false;
    if (c->out_start) {
        memmove(c->out, c->out + c->out_start, output_len(c));
        c->out_end -= c->out_start;
        c->out_start = 0;
    }
    while (size < c->out_end + len)
        size *= 2;
    if (size == c->out_size)
        return true;
    out = realloc(c->out, size);
    if (!out)
        return false;
    c->out = out;
    c->out_size = size;
    return true;
}

/** True while the next request has to wait. */
static bool client_busy(const struct client *c)
{
    return c->order || c->listing || c->closing || output_len(c) > CONTROL_OUTPUT_LOW;
}

/** True if a whole line waits to be done. */
static bool client_has_request(const struct client *c)
{
    return memchr(c->in, '\n', c->in_len) != NULL;
}

static void client_rewatch(struct daemon *d, struct client *c)
{
    uint32_t want = 0;

    if (c->dead)
        return;
    if (!c->eof && (c->subscribed || !client_busy(c)))
        want |= EPOLLIN;
    /* Work that is left is gone on with as soon as the client can be written to. */
    if (output_len(c) || c->listing || (!client_busy(c) && client_has_request(c)))
        want |= EPOLLOUT;
    if (want == c->watched)
        return;
    daemon_unwatch(d, c->tag.fd);
    daemon_watch(d, c->tag.fd, c, want);
    c->watched = want;
}

void control_write(struct daemon *d, struct client *c, const char *data, size_t len)
{
    if (c->dead)
        return;
    if (output_len(c) + len > CONTROL_OUTPUT_FLUSH)
        client_flush(c);
    if (c->dead || !output_room(c, len)) {
        c->dead = true;
        control_arm(d, 0);
        return;
    }
    memcpy(c->out + c->out_end, data, len);
    c->out_end += len;
    client_rewatch(d, c);
}

void control_answer(struct daemon *d, struct client *c, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_LINE) : NULL;

    json_decref(json);
    if (!text) {
        /* Out of memory: no answer is better than half of one. */
        c->dead = true;
        control_arm(d, 0);
        return;
    }
    control_write(d, c, text, strlen(text));
    control_write(d, c, "\n", 1);
    free(text);
}

void control_refuse(struct daemon *d, struct client *c, const char *format, ...)
{
    char line[512];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    control_answer(d, c, json_pack("{s:b, s:o}", "ok", 0, "error", report_text(line)));
}

void control_arm(struct daemon *d, uint64_t when)
{
    struct control *control = d->control;
    struct itimerspec now, at = {0};
    uint64_t left = daemon_now();

    left = when > left ? when - left : 1;
    /* Never later than it is set already. */
    if (timerfd_gettime(control->timer.fd, &now) == 0 &&
        (now.it_value.tv_sec || now.it_value.tv_nsec) &&
        (uint64_t)now.it_value.tv_sec * 1000000000ull + (uint64_t)now.it_value.tv_nsec <= left)
        return;
    at.it_value.tv_sec = (time_t)(left / 1000000000ull);
    at.it_value.tv_nsec = (long)(left % 1000000000ull);
    timerfd_settime(control->timer.fd, 0, &at, NULL);
}

/* --- list ------------------------------------------------------------------------------------- */

static void listing_free(struct listing *l)
{
    if (l)
        free(l->rows);
    free(l);
}

static int compare_rows(const void *a, const void *b)
{
    uint32_t x = ((const struct listing_row *)a)->id, y = ((const struct listing_row *)b)->id;

    return x < y ? -1 : x > y;
}

/** The connection of a row, or NULL if it is gone. */
static const struct conn *listing_find(const struct daemon *d, const struct listing_row *row)
{
    const struct conn *c = d->hash[flow_key_hash(&row->key, d->hash_seed) % DAEMON_HASH];

    while (c && c->id != row->id)
        c = c->hash_next;
    return c;
}

/** Writes some rows, as long as the client has little to read, and the end after the last. */
static void listing_go_on(struct daemon *d, struct client *c)
{
    struct listing *l = c->listing;

    for (int n = 0; n < LISTING_CHUNK && l->next < l->count; n++) {
        const struct conn *conn = listing_find(d, &l->rows[l->next++]);
        json_t *row;
        char *text;

        if (!conn)
            continue;
        row = report_conn(d, conn);
        text = row ? json_dumps(row, JSON_LINE) : NULL;
        json_decref(row);
        if (!text) {
            c->dead = true;
            return;
        }
        if (l->any)
            control_write(d, c, ",", 1);
        control_write(d, c, text, strlen(text));
        l->any = true;
        free(text);
    }
    if (c->dead || l->next < l->count)
        return;
    control_write(d, c, "]}\n", 3);
    c->listing = NULL;
    listing_free(l);
}

static void command_list(struct daemon *d, struct client *c, const json_t *request)
{
    static const char head[] = "{\"ok\":true,\"connections\":[";
    const char *text = json_string_value(json_object_get(request, "selector"));
    struct selector *selector;
    struct listing *l;
    char err[256];

    selector = selector_parse(text ? text : "all", err, sizeof(err));
    if (!selector) {
        control_refuse(d, c, "%s", err);
        return;
    }
    l = calloc(1, sizeof(*l));
    if (l)
        l->rows = calloc(d->conn_count ? d->conn_count : 1, sizeof(*l->rows));
    if (!l || !l->rows) {
        control_refuse(d, c, "no memory for the list: try again");
        listing_free(l);
        selector_free(selector);
        return;
    }
    for (const struct conn *conn = d->conns; conn && l->count < d->conn_count; conn = conn->next)
        if (selector_match(selector, conn->id, &conn->key))
            l->rows[l->count++] = (struct listing_row){conn->id, conn->key};
    selector_free(selector);
    qsort(l->rows, l->count, sizeof(*l->rows), compare_rows);
    control_write(d, c, head, sizeof(head) - 1);
    c->listing = l;
}

/* --- commands --------------------------------------------------------------------------------- */

static void command_status(struct daemon *d, struct client *c, const json_t *request)
{
    control_answer(d, c, report_status(d));
}

static void command_offload(struct daemon *d, struct client *c, const json_t *request)
{
    order_move(d, c, request, true);
}

static void command_upload(struct daemon *d, struct client *c, const json_t *request)
{
    order_move(d, c, request, false);
}

static void command_events(struct daemon *d, struct client *c, const json_t *request)
{
    control_answer(d, c, json_pack("{s:b, s:I}", "ok", 1, "seq", (json_int_t)d->control->seq));
    if (c->dead)
        return;
    c->subscribed = true;
    d->control->subscribers++;
}

static void command_stop(struct daemon *d, struct client *c, const json_t *request)
{
    control_answer(d, c,
                   json_pack("{s:b, s:I}", "ok", 1, "connections", (json_int_t)d->conn_count));
    daemon_stop(d);
}

/* Fields a request may have: name and type, ended by an empty name. */
struct field {
    const char *name;
    enum { FIELD_TEXT, FIELD_BOOL, FIELD_NUMBER } type;
};

#define COMMAND_FIELDS 4
static const struct command {
    const char *name;
    void (*run)(struct daemon *d, struct client *c, const json_t *request);
    struct field fields[COMMAND_FIELDS + 1];
} commands[] = {
    {"status", command_status, {{0}}},
    {"list", command_list, {{"selector", FIELD_TEXT}}},
    {"offload",
     command_offload,
     {{"selector", FIELD_TEXT},
      {"all", FIELD_BOOL},
      {"wait", FIELD_BOOL},
      {"timeout", FIELD_NUMBER}}},
    {"upload",
     command_upload,
     {{"selector", FIELD_TEXT},
      {"all", FIELD_BOOL},
      {"wait", FIELD_BOOL},
      {"timeout", FIELD_NUMBER}}},
    {"pause", order_pause, {{"target", FIELD_TEXT}, {"on_initiate", FIELD_BOOL}}},
    {"resume", order_resume, {{"target", FIELD_TEXT}, {"capacity", FIELD_NUMBER}}},
    {"upload-all",
     order_upload_all,
     {{"target", FIELD_TEXT}, {"wait", FIELD_BOOL}, {"timeout", FIELD_NUMBER}}},
    {"events", command_events, {{0}}},
    {"stop", command_stop, {{0}}},
};

static const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

/**
 * A field that is not known is refused: an "upload" whose selector was misspelt must not mean
 * something else.
 */
static bool fields_right(struct daemon *d, struct client *c, const struct command *command,
                         json_t *request)
{
    static const char *const type_name[] = {"a string", "true or false", "a number"};
    const char *key;
    json_t *value;

    json_object_foreach(request, key, value)
    {
        const struct field *f = command->fields;
        bool right;

        if (strcmp(key, "command") == 0)
            continue;
        while (f->name && strcmp(f->name, key) != 0)
            f++;
        if (!f->name) {
            control_refuse(d, c, "'%s' has no field '%.40s'", command->name, key);
            return false;
        }
        right = f->type == FIELD_TEXT   ? json_is_string(value)
                : f->type == FIELD_BOOL ? json_is_boolean(value)
                                        : json_is_number(value);
        if (!right) {
            control_refuse(d, c, "field '%s' of '%s' must be %s", key, command->name,
                           type_name[f->type]);
            return false;
        }
    }
    return true;
}

static void client_line(struct daemon *d, struct client *c, const char *line, size_t len)
{
    const struct command *command;
    const char *name;
    json_error_t error;
    json_t *request;

    if (len && line[len - 1] == '\r')
        len--;
    if (!len || c->subscribed)
        return;
    request = json_loadb(line, len, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(request)) {
        if (request)
            control_refuse(d, c, "a request is a JSON object: {\"command\":\"status\"}");
        else
            control_refuse(d, c, "not JSON: %s at byte %d", error.text, error.position);
        json_decref(request);
        return;
    }
    name = json_string_value(json_object_get(request, "command"));
    command = name ? command_find(name) : NULL;
    if (!name)
        control_refuse(d, c, "no \"command\" in the request: {\"command\":\"status\"}");
    else if (!command)
        control_refuse(d, c,
                       "unknown command '%.40s': status, list, offload, upload, pause, resume, "
                       "upload-all, events, stop",
                       name);
    else if (fields_right(d, c, command, request))
        command->run(d, c, request);
    json_decref(request);
}

/* --- clients ---------------------------------------------------------------------------------- */

/** Does the next request, if all of it is here. */
static void client_request(struct daemon *d, struct client *c)
{
    char *newline = memchr(c->in, '\n', c->in_len);

    if (newline) {
        client_line(d, c, c->in, (size_t)(newline - c->in));
        c->in_len -= (size_t)(newline + 1 - c->in);
        memmove(c->in, newline + 1, c->in_len);
    } else if (c->in_len == sizeof(c->in)) {
        control_refuse(d, c, "request longer than %u bytes", CONTROL_MAX_LINE);
        c->closing = true;
        c->in_len = 0;
    }
    if (c->subscribed)
        c->in_len = 0;
}

static void client_read(struct daemon *d, struct client *c)
{
    ssize_t n;

    if (c->subscribed)
        c->in_len = 0; /* it has said all it had to say */
    if (c->in_len == sizeof(c->in))
        return;
    n = recv(c->tag.fd, c->in + c->in_len, sizeof(c->in) - c->in_len, MSG_DONTWAIT);
    if (n > 0)
        c->in_len += (size_t)n;
    else if (n == 0)
        c->eof = true;
    else if (errno != EAGAIN && errno != EINTR)
        c->dead = true;
}

/**
 * Goes on with whatever the client waits for: one step of it, so that nobody who asks for much
 * keeps the daemon from its work.  What is left brings the loop back here (client_rewatch).
 */
static void client_go_on(struct daemon *d, struct client *c)
{
    if (c->listing && output_len(c) <= CONTROL_OUTPUT_LOW)
        listing_go_on(d, c);
    else if (!client_busy(c))
        client_request(d, c);
    client_flush(c);
    /* A client that will say nothing more goes when it has read everything. */
    if (output_len(c) == 0 && !c->order && !c->listing && !client_has_request(c) &&
        (c->closing || (c->eof && !c->subscribed)))
        c->dead = true;
    client_rewatch(d, c);
}

static void client_free(struct daemon *d, struct client *c)
{
    daemon_unwatch(d, c->tag.fd);
    close(c->tag.fd);
    if (c->subscribed)
        d->control->subscribers--;
    d->control->client_count--;
    listing_free(c->listing);
    order_free(c->order);
    free(c->out);
    free(c);
}

static void clients_reap(struct daemon *d)
{
    struct client **link = &d->control->clients;

    while (*link) {
        struct client *c = *link;

        if (c->dead) {
            *link = c->next;
            client_free(d, c);
        } else {
            link = &c->next;
        }
    }
}

static void client_accept(struct daemon *d)
{
    static const char full[] =
        "{\"ok\":false,\"error\":\"too many clients of the control socket: end "
        "one and try again\"}\n";
    struct control *control = d->control;
    struct client *c = NULL;
    int fd = accept4(control->listen.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return;
    if (control->client_count < DAEMON_MAX_CONTROL_CLIENTS)
        c = calloc(1, sizeof(*c));
    if (!c) {
        send(fd, full, sizeof(full) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        close(fd);
        return;
    }
    c->tag.kind = DAEMON_FD_CONTROL;
    c->tag.fd = fd;
    c->watched = EPOLLIN;
    c->next = control->clients;
    control->clients = c;
    control->client_count++;
    daemon_watch(d, fd, c, EPOLLIN);
}

bool control_ready(struct daemon *d, int fd, uint32_t epoll_events)
{
    struct control *control = d->control;
    struct client *c;

    if (!control || fd < 0)
        return false;
    if (fd == control->listen.fd) {
        client_accept(d);
        return true;
    }
    if (fd == control->timer.fd) {
        uint64_t count;

        if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
            daemon_log("control timer: %s", strerror(errno));
        orders_tick(d, daemon_now());
        for (c = control->clients; c; c = c->next)
            client_go_on(d, c);
        clients_reap(d);
        return true;
    }
    for (c = control->clients; c && c->tag.fd != fd; c = c->next)
        ;
    if (!c)
        return false;
    if (epoll_events & EPOLLIN)
        client_read(d, c);
    client_go_on(d, c);
    /* Gone in both directions: what it asked is done, but nobody reads the answer. */
    if (epoll_events & (EPOLLHUP | EPOLLERR))
        c->dead = true;
    clients_reap(d);
    return true;
}

/* --- open and close --------------------------------------------------------------------------- */

int control_open(struct daemon *d, char *err, size_t errlen)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct control *control = calloc(1, sizeof(*control));
    int rc, len;

    if (!control) {
        snprintf(err, errlen, "no memory for the control socket");
        return -ENOMEM;
    }
    control->listen = (struct control_fd){DAEMON_FD_CONTROL, -1};
    control->timer = (struct control_fd){DAEMON_FD_CONTROL, -1};
    len = snprintf(control->path, sizeof(control->path), "%s/%s", d->options.rundir,
                   PROTOCOL_CONTROL_SOCKET);
    if (len < 0 || (size_t)len >= sizeof(control->path)) {
        snprintf(err, errlen, "%s: too long for a socket's path, use a shorter --rundir",
                 d->options.rundir);
        free(control);
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, control->path, sizeof(address.sun_path));
    /* One daemon per directory (its lock says so): what is there was left by an earlier one. */
    unlink(control->path);
    control->timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    control->listen.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* The mode set before bind() is the mode of the file: there is no moment with a wider one. */
    if (control->timer.fd < 0 || control->listen.fd < 0 || fchmod(control->listen.fd, 0600) < 0 ||
        bind(control->listen.fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        chmod(control->path, 0600) < 0 || listen(control->listen.fd, 16) < 0) {
        rc = -errno;
        snprintf(err, errlen, "control socket %s: %s", control->path, strerror(-rc));
        if (control->timer.fd >= 0)
            close(control->timer.fd);
        if (control->listen.fd >= 0)
            close(control->listen.fd);
        free(control);
        return rc;
    }
    d->control = control;
    daemon_watch(d, control->listen.fd, &control->listen, EPOLLIN);
    daemon_watch(d, control->timer.fd, &control->timer, EPOLLIN);
    return 0;
}

void control_close(struct daemon *d)
{
    struct control *control = d->control;

    if (!control)
        return;
    orders_tick(d, UINT64_MAX); /* whoever waits gets the answer of now */
    for (struct client *c = control->clients; c; c = c->next) {
        client_flush(c);
        c->dead = true;
    }
    clients_reap(d);
    daemon_unwatch(d, control->listen.fd);
    daemon_unwatch(d, control->timer.fd);
    close(control->listen.fd);
    close(control->timer.fd);
    unlink(control->path);
    free(control);
    d->control = NULL;
}
