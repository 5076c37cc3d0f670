/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated port and link.
 *
 * Theory of operation.  A link is two directions.  A frame goes through one of them like this:
 *
 *   tx_commit -> pending -> tx_flush -> tap -> carrier, silence, loss -> queue -> flight -> rx
 *
 *   queue    the sender's drop-tail queue at the rate limiter: frames whose last bit has not left.
 *            A frame that finds queue_frames others there is dropped; one that finds mark_frames
 *            others there is marked CE if it is ECT (RFC 3168).
 *   flight   a heap by arrival time; equal times arrive in order of sending.
 *   rx       what has arrived and waits for rx_burst(); a ring of limited size, like a NIC's.
 *
 * Arrival = departure + latency + jitter, never before the frame sent earlier, so that jitter alone
 * does not reorder.  A reordered frame is held back by reorder_ns more, and later ones pass it.
 *
 * Every frame draws the same number of random values, used or not, from its direction's own
 * generator.  So turning one impairment off leaves the decisions of the others as they were, and
 * traffic of one direction does not disturb the other: a failing world can be simplified.
 *
 * Limits: SIM_FRAMES frames per link exist at a time (beyond, tx_reserve() lends none), SIM_TX_RING
 * are pending per port, SIM_RX_RING wait per port.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "port/sim.h"

#define SIM_FRAMES 65536u
#define SIM_TX_RING 1024u
#define SIM_RX_RING 4096u
#define SIM_LINK_HEADER (14u + 4u) /* Ethernet and one tag */

enum sim_state { SIM_FREE, SIM_LENT_TX, SIM_PENDING, SIM_FLIGHT, SIM_ARRIVED, SIM_LENT_RX };

struct sim_frame {
    struct sim_frame *next;  /* in whatever list it is */
    struct sim_frame *queue; /* behind it in the sender's queue */
    struct sim_frame *all;   /* made before it; for sim_link_destroy() */
    uint64_t departs, arrives, order;
    uint32_t len;
    enum sim_state state;
    uint8_t data[];
};

struct sim_list {
    struct sim_frame *head, *tail;
    uint32_t count;
};

/** One direction, named after the end that sends. */
struct sim_direction {
    struct sim_impair impair;
    struct sim_rng rng;
    struct sim_frame **heap; /* in flight */
    uint32_t in_flight, heap_room;
    struct sim_frame *queue_head, *queue_tail;
    uint32_t queued;
    uint64_t line_free;    /* when the last bit of the last frame leaves */
    uint64_t last_arrival; /* of frames not held back */
    uint64_t order;
    uint32_t burst_left;
    bool silent;
};

struct sim_port {
    struct port port;
    struct sim_link *link;
    int end;
    struct sim_frame *lent; /* to whoever called tx_reserve() */
    struct sim_list pending, arrived;
    uint32_t out; /* frames given by rx_burst() and not released */
    struct port_stats stats;
};

struct sim_link {
    uint64_t now;
    bool carrier;
    uint32_t max_frame;
    uint32_t frames; /* in existence */
    struct sim_frame *free, *all;
    struct sim_direction dir[2];
    struct sim_port end[2];
    void (*tap)(void *arg, int end, const uint8_t *frame, uint32_t len, uint64_t now_ns);
    void *tap_arg;
};

/* ---- frames ------------------------------------------------------------------------------ */

static struct sim_frame *frame_get(struct sim_link *link, enum sim_state state)
{
    struct sim_frame *f = link->free;

    if (f) {
        assert(f->state == SIM_FREE);
        link->free = f->next;
    } else {
        if (link->frames == SIM_FRAMES)
            return NULL;
        f = malloc(sizeof(*f) + link->max_frame);
        if (!f)
            return NULL;
        f->all = link->all;
        link->all = f;
        link->frames++;
    }
    f->next = f->queue = NULL;
    f->state = state;
    return f;
}

static void frame_put(struct sim_link *link, struct sim_frame *f)
{
    assert(f->state != SIM_FREE);
    f->state = SIM_FREE;
    f->next = link->free;
    link->free = f;
}

static void list_push(struct sim_list *list, struct sim_frame *f, enum sim_state state)
{
    f->state = state;
    f->next = NULL;
    if (list->tail)
        list->tail->next = f;
    else
        list->head = f;
    list->tail = f;
    list->count++;
}

static struct sim_frame *list_pop(struct sim_list *list)
{
    struct sim_frame *f = list->head;

    if (!f)
        return NULL;
    list->head = f->next;
    if (!list->head)
        list->tail = NULL;
    list->count--;
    return f;
}

/* ---- flight: a binary heap --------------------------------------------------------------- */

static bool earlier(const struct sim_frame *a, const struct sim_frame *b)
{
    return a->arrives != b->arrives ? a->arrives < b->arrives : a->order < b->order;
}

/** False when memory is short. */
static bool flight_push(struct sim_direction *dir, struct sim_frame *f)
{
    uint32_t i = dir->in_flight;

    if (i == dir->heap_room) {
        const uint32_t room = dir->heap_room ? dir->heap_room * 2 : 64;
        struct sim_frame **heap = realloc(dir->heap, room * sizeof(struct sim_frame *));

        if (!heap)
            return false;
        dir->heap = heap;
        dir->heap_room = room;
    }
    dir->in_flight++;
    while (i && earlier(f, dir->heap[(i - 1) / 2])) {
        dir->heap[i] = dir->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    dir->heap[i] = f;
    f->state = SIM_FLIGHT;
    return true;
}

static struct sim_frame *flight_pop(struct sim_direction *dir)
{
    struct sim_frame *top = dir->heap[0], *last = dir->heap[--dir->in_flight];
    uint32_t i = 0;

    for (;;) {
        uint32_t child = 2 * i + 1;

        if (child >= dir->in_flight)
            break;
        if (child + 1 < dir->in_flight && earlier(dir->heap[child + 1], dir->heap[child]))
            child++;
        if (!earlier(dir->heap[child], last))
            break;
        dir->heap[i] = dir->heap[child];
        i = child;
    }
    dir->heap[i] = last;
    return top;
}

/* ---- the sender's queue ------------------------------------------------------------------ */

static void queue_push(struct sim_direction *dir, struct sim_frame *f)
{
    f->queue = NULL;
    if (dir->queue_tail)
        dir->queue_tail->queue = f;
    else
        dir->queue_head = f;
    dir->queue_tail = f;
    dir->queued++;
}

/** Forgets the frames that have left by @now.  A frame never arrives before it has left. */
static void queue_drain(struct sim_direction *dir, uint64_t now)
{
    while (dir->queue_head && dir->queue_head->departs <= now) {
        dir->queue_head = dir->queue_head->queue;
        dir->queued--;
    }
    if (!dir->queue_head)
        dir->queue_tail = NULL;
}

/* ---- what happens to a frame on its way -------------------------------------------------- */

/** Sets CE if the frame is an ECT IP packet; the IPv4 checksum follows (RFC 1624). */
static void mark_ce(struct sim_frame *f)
{
    uint8_t *p = f->data + 12, *end = f->data + f->len;
    uint32_t before, sum;

    if (end - p >= 6 && p[0] == 0x81 && p[1] == 0x00)
        p += 4;
    if (end - p < 2 + 20)
        return;
    if (p[0] == 0x86 && p[1] == 0xDD) {
        p += 2;
        if (p[1] & 0x30)
            p[1] |= 0x30;
        return;
    }
    if (p[0] != 0x08 || p[1] != 0x00)
        return;
    p += 2;
    if (!(p[1] & 0x03))
        return;
    before = (uint32_t)p[0] << 8 | p[1];
    p[1] |= 0x03;
    sum = (~((uint32_t)p[10] << 8 | p[11]) & 0xFFFF) + (~before & 0xFFFF) +
          ((uint32_t)p[0] << 8 | p[1]);
    sum = (sum & 0xFFFF) + (sum >> 16);
    sum = (sum & 0xFFFF) + (sum >> 16);
    p[10] = (uint8_t)(~sum >> 8);
    p[11] = (uint8_t)~sum;
}

/** The random values of one frame; always all of them, see above. */
struct sim_draw {
    bool burst, loss, dup, corrupt, reorder;
    uint64_t jitter[2], bit;
};

static struct sim_draw draw_all(struct sim_direction *dir, uint32_t len)
{
    const struct sim_impair *impair = &dir->impair;
    struct sim_draw d;

    d.burst = sim_rng_ppm(&dir->rng, impair->burst_ppm);
    d.loss = sim_rng_ppm(&dir->rng, impair->loss_ppm);
    d.dup = sim_rng_ppm(&dir->rng, impair->dup_ppm);
    d.corrupt = sim_rng_ppm(&dir->rng, impair->corrupt_ppm);
    d.reorder = sim_rng_ppm(&dir->rng, impair->reorder_ppm);
    d.jitter[0] = sim_rng_next(&dir->rng);
    d.jitter[1] = sim_rng_next(&dir->rng);
    d.bit = sim_rng_next(&dir->rng) % ((uint64_t)len * 8);
    return d;
}

static uint64_t scale(uint64_t random, uint64_t jitter_ns)
{
    return jitter_ns == UINT64_MAX ? random : random % (jitter_ns + 1);
}

/** Through the queue and into flight; the frame is gone if the queue is full. */
static void transmit(struct sim_link *link, struct sim_direction *dir, struct sim_frame *f,
                     uint64_t jitter, bool held_back)
{
    const struct sim_impair *impair = &dir->impair;

    f->departs = link->now;
    if (impair->rate_bps) {
        if (impair->queue_frames && dir->queued >= impair->queue_frames) {
            frame_put(link, f);
            return;
        }
        if (impair->mark_frames && dir->queued >= impair->mark_frames)
            mark_ce(f);
        if (dir->line_free > f->departs)
            f->departs = dir->line_free;
        f->departs += (uint64_t)f->len * 8 * 1000000000u / impair->rate_bps;
        dir->line_free = f->departs;
    }
    f->arrives = f->departs + impair->latency_ns + jitter;
    if (f->arrives < dir->last_arrival)
        f->arrives = dir->last_arrival;
    if (held_back)
        f->arrives += impair->reorder_ns;
    else
        dir->last_arrival = f->arrives;
    f->order = dir->order++;
    if (!flight_push(dir, f)) {
        frame_put(link, f);
        return;
    }
    if (impair->rate_bps)
        queue_push(dir, f);
}

static bool lost(struct sim_direction *dir, const struct sim_draw *d)
{
    if (dir->burst_left) {
        dir->burst_left--;
        return true;
    }
    if (d->burst && dir->impair.burst_len) {
        dir->burst_left = dir->impair.burst_len - 1;
        return true;
    }
    return d->loss;
}

/** Puts a frame on the wire at @port; consumes it. */
static void put_on_wire(struct sim_port *port, struct sim_frame *f)
{
    struct sim_link *link = port->link;
    struct sim_direction *dir = &link->dir[port->end];
    struct sim_draw d = draw_all(dir, f->len);
    struct sim_frame *twin;
    uint64_t jitter;

    if (!link->carrier) {
        port->stats.tx_dropped++;
        frame_put(link, f);
        return;
    }
    port->stats.tx_frames++;
    port->stats.tx_bytes += f->len;
    if (link->tap)
        link->tap(link->tap_arg, port->end, f->data, f->len, link->now);
    if (dir->silent || lost(dir, &d)) {
        frame_put(link, f);
        return;
    }
    queue_drain(dir, link->now);
    twin = d.dup ? frame_get(link, SIM_PENDING) : NULL;
    if (twin) {
        twin->len = f->len;
        memcpy(twin->data, f->data, f->len);
    }
    if (d.corrupt)
        f->data[d.bit / 8] ^= (uint8_t)(1u << d.bit % 8);
    jitter = scale(d.jitter[0], dir->impair.jitter_ns);
    transmit(link, dir, f, jitter, d.reorder);
    if (twin)
        transmit(link, dir, twin, scale(d.jitter[1], dir->impair.jitter_ns), false);
}

/* ---- the port ---------------------------------------------------------------------------- */

static struct sim_port *sim_of(struct port *port)
{
    return (struct sim_port *)port;
}

static int sim_rx_burst(struct port *p, struct port_frame *frames, int max)
{
    struct sim_port *port = sim_of(p);
    int n = 0;

    while (n < max) {
        struct sim_frame *f = list_pop(&port->arrived);

        if (!f)
            break;
        assert(f->state == SIM_ARRIVED);
        f->state = SIM_LENT_RX;
        frames[n++] = (struct port_frame){.data = f->data, .len = f->len, .priv = f};
        port->out++;
        port->stats.rx_frames++;
        port->stats.rx_bytes += f->len;
    }
    return n;
}

static void sim_rx_release(struct port *p, struct port_frame *frames, int n)
{
    struct sim_port *port = sim_of(p);

    for (int i = 0; i < n; i++) {
        struct sim_frame *f = frames[i].priv;

        assert(f->state == SIM_LENT_RX && port->out > 0);
        port->out--;
        frame_put(port->link, f);
        frames[i].priv = NULL;
    }
}

static uint8_t *sim_tx_reserve(struct port *p)
{
    struct sim_port *port = sim_of(p);

    assert(!port->lent);
    if (port->pending.count == SIM_TX_RING)
        return NULL;
    port->lent = frame_get(port->link, SIM_LENT_TX);
    return port->lent ? port->lent->data : NULL;
}

static void sim_tx_commit(struct port *p, uint32_t len, uint16_t gso_size)
{
    struct sim_port *port = sim_of(p);

    assert(port->lent);
    assert(len > 0 && len <= p->caps.max_frame);
    assert(gso_size == 0); /* max_super is 0 */
    port->lent->len = len;
    list_push(&port->pending, port->lent, SIM_PENDING);
    port->lent = NULL;
}

static void sim_tx_cancel(struct port *p)
{
    struct sim_port *port = sim_of(p);

    assert(port->lent);
    frame_put(port->link, port->lent);
    port->lent = NULL;
}

static void sim_tx_flush(struct port *p)
{
    struct sim_port *port = sim_of(p);
    struct sim_frame *f;

    while ((f = list_pop(&port->pending)))
        put_on_wire(port, f);
}

static int sim_poll_fds(struct port *p, int *fds, int max)
{
    return 0;
}

static bool sim_link_up(struct port *p)
{
    return sim_of(p)->link->carrier;
}

static void sim_get_stats(struct port *p, struct port_stats *stats)
{
    *stats = sim_of(p)->stats;
}

/** The link owns its ports. */
static void sim_close(struct port *p) {}

static const struct port_ops sim_ops = {
    .rx_burst = sim_rx_burst,
    .rx_release = sim_rx_release,
    .tx_reserve = sim_tx_reserve,
    .tx_commit = sim_tx_commit,
    .tx_cancel = sim_tx_cancel,
    .tx_flush = sim_tx_flush,
    .poll_fds = sim_poll_fds,
    .link_up = sim_link_up,
    .get_stats = sim_get_stats,
    .close = sim_close,
};

/* ---- the link ---------------------------------------------------------------------------- */

struct sim_link *sim_link_create(uint64_t seed, uint32_t mtu, const struct sim_impair *a_to_b,
                                 const struct sim_impair *b_to_a)
{
    struct sim_link *link = calloc(1, sizeof(*link));
    struct sim_rng rng;

    if (!link)
        return NULL;
    sim_rng_seed(&rng, seed);
    link->carrier = true;
    link->max_frame = mtu + SIM_LINK_HEADER;
    link->dir[0].impair = *a_to_b;
    link->dir[1].impair = *b_to_a;
    for (int end = 0; end < 2; end++) {
        struct sim_port *port = &link->end[end];
        struct port_caps *caps = &port->port.caps;

        sim_rng_seed(&link->dir[end].rng, sim_rng_next(&rng));
        port->port.ops = &sim_ops;
        port->link = link;
        port->end = end;
        caps->mtu = mtu;
        caps->max_frame = link->max_frame;
        caps->queues = 1;
        memcpy(caps->mac, (const uint8_t[6]){0x02, 0, 0, 0, 0, (uint8_t)(end + 1)}, 6);
        caps->ifindex = end + 1;
        strcpy(caps->name, end ? "sim1" : "sim0");
        strcpy(caps->kind, "sim");
    }
    return link;
}

/** Everything on the wire of one direction is lost. */
static void cut(struct sim_link *link, struct sim_direction *dir)
{
    for (uint32_t i = 0; i < dir->in_flight; i++)
        frame_put(link, dir->heap[i]);
    dir->in_flight = dir->queued = 0;
    dir->queue_head = dir->queue_tail = NULL;
    dir->line_free = dir->last_arrival = link->now;
    dir->burst_left = 0;
}

void sim_link_destroy(struct sim_link *link)
{
    struct sim_frame *f;

    if (!link)
        return;
    /* Wherever they are: a simulated crash leaves frames lent for ever. */
    while ((f = link->all)) {
        link->all = f->all;
        free(f);
    }
    free(link->dir[0].heap);
    free(link->dir[1].heap);
    free(link);
}

struct port *sim_link_port(struct sim_link *link, int end)
{
    assert(end == 0 || end == 1);
    return &link->end[end].port;
}

void sim_link_advance(struct sim_link *link, uint64_t now_ns)
{
    assert(now_ns >= link->now);
    link->now = now_ns;
    for (int end = 0; end < 2; end++) {
        struct sim_direction *dir = &link->dir[end];
        struct sim_port *to = &link->end[1 - end];

        queue_drain(dir, now_ns);
        while (dir->in_flight && dir->heap[0]->arrives <= now_ns) {
            struct sim_frame *f = flight_pop(dir);

            if (to->arrived.count < SIM_RX_RING) {
                list_push(&to->arrived, f, SIM_ARRIVED);
            } else {
                to->stats.rx_dropped++;
                frame_put(link, f);
            }
        }
    }
}

uint64_t sim_link_next(const struct sim_link *link)
{
    uint64_t next = UINT64_MAX;

    for (int end = 0; end < 2; end++) {
        const struct sim_direction *dir = &link->dir[end];

        if (dir->in_flight && dir->heap[0]->arrives < next)
            next = dir->heap[0]->arrives;
    }
    return next;
}

void sim_link_set_carrier(struct sim_link *link, bool up)
{
    link->carrier = up;
    if (!up) {
        cut(link, &link->dir[0]);
        cut(link, &link->dir[1]);
    }
}

void sim_link_set_silent(struct sim_link *link, int end, bool on)
{
    assert(end == 0 || end == 1);
    link->dir[end].silent = on;
}

void sim_link_set_impair(struct sim_link *link, int end, const struct sim_impair *impair)
{
    assert(end == 0 || end == 1);
    link->dir[end].impair = *impair;
    link->dir[end].burst_left = 0;
}

void sim_link_set_tap(struct sim_link *link,
                      void (*tap)(void *arg, int end, const uint8_t *frame, uint32_t len,
                                  uint64_t now_ns),
                      void *arg)
{
    link->tap = tap;
    link->tap_arg = arg;
}
