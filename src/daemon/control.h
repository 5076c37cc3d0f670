/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control room: what control.c, orders.c, report.c and events.c share.  Control thread only.
 *
 * docs/json.md documents every field that is read or written here.
 */
#ifndef CHIMNEY_DAEMON_CONTROL_H
#define CHIMNEY_DAEMON_CONTROL_H

#include <jansson.h>
#include "daemon/daemon.h"

#ifndef CHIMNEY_VERSION
#define CHIMNEY_VERSION "unknown"
#endif

/** Longest request line, without its newline. */
#define CONTROL_MAX_LINE (64u << 10)
/** Output a client may leave unread; one that exceeds it is dropped. */
#define CONTROL_MAX_OUTPUT (1u << 20)
/** A client with more output than this gets no further request done and no further rows listed. */
#define CONTROL_OUTPUT_LOW (32u << 10)
/** Events collected before they are written at once, whatever the loop does. */
#define CONTROL_OUTPUT_FLUSH (256u << 10)
/** Refusals named one by one in the answer of an order; all are counted. */
#define ORDER_MAX_REFUSALS 64
/** How long an order waits unless the request says so, and at most, in seconds. */
#define ORDER_DEFAULT_S 30
#define ORDER_MAX_S 3600
/** How often waiting orders look at their connections, beside every event. */
#define ORDER_TICK_NS (100 * 1000000ull)

/** What epoll points to: begins every descriptor of the control room. */
struct control_fd {
    enum daemon_fd_kind kind; /* DAEMON_FD_CONTROL */
    int fd;
};

/** Rows of a list that are still to be written. */
struct listing_row {
    uint32_t id;
    struct flow_key key;
};
struct listing {
    struct listing_row *rows;
    size_t count, next;
    bool any;
};

struct client {
    struct control_fd tag; /* first */
    struct client *next;
    uint32_t watched; /* epoll events asked for */
    bool eof, dead, closing, subscribed;
    size_t in_len;
    char *out;
    size_t out_start, out_end, out_size;
    struct listing *listing;
    struct order *order;
    char in[CONTROL_MAX_LINE + 1];
};

struct control {
    struct control_fd listen, timer;
    struct client *clients;
    unsigned client_count, subscribers;
    uint64_t seq; /* of the last event */
    char path[108];
};

/* control.c */
/** Appends an answer, and takes the reference of @json. */
void control_answer(struct daemon *d, struct client *c, json_t *json);
/** Answers {"ok":false,"error":...}. */
void control_refuse(struct daemon *d, struct client *c, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/** Appends @len bytes to what the client is to read. */
void control_write(struct daemon *d, struct client *c, const char *data, size_t len);
/** Calls orders_tick() soon, at @when (monotonic) at the latest; 0: at once. */
void control_arm(struct daemon *d, uint64_t when);

/* orders.c: commands that take time */
void order_move(struct daemon *d, struct client *c, const json_t *request, bool offload);
void order_pause(struct daemon *d, struct client *c, const json_t *request);
void order_resume(struct daemon *d, struct client *c, const json_t *request);
void order_upload_all(struct daemon *d, struct client *c, const json_t *request);
/** Looks at every order; answers those that are done. */
void orders_tick(struct daemon *d, uint64_t now);
/** Something happened: have the orders that wait, if any, looked at soon. */
void orders_poke(struct daemon *d);
/** A connection moved, or did not. */
void orders_moved(struct daemon *d, const struct conn *conn, const struct move_record *m);
/** A program let go of a connection. */
void orders_detached(struct daemon *d, const struct conn *conn);
void order_free(struct order *order);

/* report.c: the state of the daemon as JSON */
json_t *report_status(struct daemon *d);
json_t *report_conn(const struct daemon *d, const struct conn *conn);
/** A string of anybody's bytes: what is not printable ASCII becomes '?'. */
json_t *report_text(const char *text);
json_t *report_tuple(const struct flow_key *key);
/** RFC 3339 with microseconds, UTC, of a moment of daemon_now(). */
json_t *report_time(const struct daemon *d, uint64_t monotonic_ns);
const char *report_direction(enum move_direction direction);

#endif
