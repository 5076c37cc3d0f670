/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One AF_XDP socket: rings and the accounting of chunks.  The header has the theory.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include "port/xsk_queue.h"

/* Power of two, and no smaller than the number of chunks that can be inside. */
#define FILL_RING XSK_FRAMES_PER_QUEUE
#define RX_RING (XSK_FRAMES_PER_QUEUE / 2)
#define TX_RING XSK_TX_CHUNKS
#define COMP_RING XSK_TX_CHUNKS
_Static_assert((XSK_FRAMES_PER_QUEUE & (XSK_FRAMES_PER_QUEUE - 1)) == 0, "ring sizes");
_Static_assert(XSK_TX_CHUNKS <= XSK_FRAMES_PER_QUEUE / 2, "reception gets at least half");

/** Bytes of sk_buffs on their way from this socket; the default holds some ninety frames. */
#define SEND_BUFFER (16 << 20)
/** Frames one sendto() may transmit in copy mode, where the kernel lets us say so; it says 32. */
#define SEND_BUDGET 256
/** Calls of sendto() in a row that moved nothing before the flush gives up until the next. */
#define IDLE_KICKS 16

/* ---- places ------------------------------------------------------------------------------ */

static uint32_t chunk_of(const struct xsk_queue *q, uint64_t addr)
{
    const uint64_t chunk = addr >> q->chunk_shift;

    assert(chunk < q->chunks);
    return (uint32_t)chunk;
}

static void move_chunk(struct xsk_queue *q, uint32_t chunk, enum xsk_place from, enum xsk_place to)
{
    assert(q->place[chunk] == from);
    q->place[chunk] = (uint8_t)to;
}

/* ---- reception --------------------------------------------------------------------------- */

/** Back to the kernel; the ring has an entry for every receive chunk. */
static void fill_one(struct xsk_queue *q, uint32_t chunk)
{
    uint32_t at;
    const uint32_t got = xsk_ring_prod__reserve(&q->fill, 1, &at);

    assert(got == 1);
    *xsk_ring_prod__fill_addr(&q->fill, at) = (uint64_t)chunk << q->chunk_shift;
    q->fill_pending++;
}

void xsk_queue_rx_return(struct xsk_queue *q, const uint8_t *data)
{
    const uint32_t chunk = chunk_of(q, (uint64_t)(data - q->area));

    move_chunk(q, chunk, XSK_LENT, XSK_KERNEL);
    assert(q->rx_lent > 0);
    q->rx_lent--;
    fill_one(q, chunk);
}

void xsk_queue_rx_submit(struct xsk_queue *q)
{
    if (!q->fill_pending)
        return;
    xsk_ring_prod__submit(&q->fill, q->fill_pending);
    q->fill_pending = 0;
    /* Only drivers in zero-copy mode ask for this, when they ran out of chunks. */
    if (xsk_ring_prod__needs_wakeup(&q->fill))
        (void)!recvfrom(q->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
}

/** A linear buffer, or NULL when all are lent. */
static uint8_t *linear_get(struct xsk_linear *linear)
{
    if (!linear->area || !linear->free_count)
        return NULL;
    return linear->area + (size_t)linear->free[--linear->free_count] * XSK_LINEAR_SIZE;
}

/**
 * One part of a multi-buffer frame: copied behind the ones before, its chunk free again at once.
 * True when the frame in q->partial is complete.
 */
static bool rx_part(struct xsk_queue *q, const struct xdp_desc *desc)
{
    const bool more = desc->options & XDP_PKT_CONTD;
    const uint32_t chunk = chunk_of(q, desc->addr);

    assert(q->place[chunk] == XSK_KERNEL);
    if (!q->skipping && desc->len > XSK_LINEAR_SIZE - q->partial_len) {
        q->skipping = true;
        q->rx_too_long++;
    }
    if (!q->skipping) {
        memcpy(q->partial + q->partial_len, q->area + desc->addr, desc->len);
        q->partial_len += desc->len;
    }
    fill_one(q, chunk);
    q->assembling = more;
    if (more)
        return false;
    if (q->skipping) {
        q->skipping = false;
        q->partial_len = 0; /* the buffer stays for the next one */
        return false;
    }
    return true;
}

int xsk_queue_rx(struct xsk_queue *q, struct xsk_linear *linear, struct port_frame *frames, int max)
{
    uint32_t at, taken;
    const uint32_t have = xsk_ring_cons__peek(&q->rx, (uint32_t)max, &at);
    int n = 0;

    /* No more descriptors than frames asked for: a frame has at least one. */
    for (taken = 0; taken < have; taken++) {
        const struct xdp_desc *desc = xsk_ring_cons__rx_desc(&q->rx, at + taken);
        struct port_frame *f = &frames[n];

        if (!q->assembling && !(desc->options & XDP_PKT_CONTD)) {
            move_chunk(q, chunk_of(q, desc->addr), XSK_KERNEL, XSK_LENT);
            q->rx_lent++;
            *f = (struct port_frame){.data = q->area + desc->addr, .len = desc->len, .priv = q};
            n++;
            continue;
        }
        if (!q->partial) {
            q->partial = linear_get(linear);
            if (!q->partial)
                break; /* until some are released */
        }
        if (rx_part(q, desc)) {
            *f = (struct port_frame){.data = q->partial, .len = q->partial_len, .priv = q};
            n++;
            q->partial = NULL;
            q->partial_len = 0;
        }
    }
    if (have > taken)
        xsk_ring_cons__cancel(&q->rx, have - taken);
    if (taken)
        xsk_ring_cons__release(&q->rx, taken);
    xsk_queue_rx_submit(q);
    return n;
}

/* ---- transmission ------------------------------------------------------------------------ */

static uint32_t slot_first(const struct xsk_queue *q, uint32_t slot)
{
    return q->rx_chunks + slot * q->slot_chunks;
}

static void tx_reap(struct xsk_queue *q)
{
    uint32_t at, n;

    if (!q->tx_outstanding)
        return;
    n = xsk_ring_cons__peek(&q->comp, COMP_RING, &at);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t chunk = chunk_of(q, *xsk_ring_cons__comp_addr(&q->comp, at + i));
        uint32_t slot;

        assert(chunk >= q->rx_chunks);
        move_chunk(q, chunk, XSK_KERNEL, XSK_FREE);
        slot = (chunk - q->rx_chunks) / q->slot_chunks;
        assert(slot < q->slots && q->slot_busy[slot] > 0);
        if (--q->slot_busy[slot] == 0)
            q->slot_free[q->slot_free_count++] = (uint16_t)slot;
    }
    if (n) {
        assert(q->tx_outstanding >= n);
        q->tx_outstanding -= n;
        xsk_ring_cons__release(&q->comp, n);
    }
}

uint8_t *xsk_queue_tx_reserve(struct xsk_queue *q)
{
    uint32_t slot;

    assert(q->slot_lent < 0);
    if (!q->slot_free_count) {
        tx_reap(q);
        if (!q->slot_free_count)
            return NULL;
    }
    slot = q->slot_free[--q->slot_free_count];
    assert(q->slot_busy[slot] == 0);
    for (uint32_t i = 0; i < q->slot_chunks; i++)
        move_chunk(q, slot_first(q, slot) + i, XSK_FREE, XSK_LENT);
    q->slot_lent = (int32_t)slot;
    return q->area + ((size_t)slot_first(q, slot) << q->chunk_shift);
}

static uint32_t take_lent(struct xsk_queue *q)
{
    const uint32_t slot = (uint32_t)q->slot_lent;

    assert(q->slot_lent >= 0);
    q->slot_lent = -1;
    return slot;
}

void xsk_queue_tx_cancel(struct xsk_queue *q)
{
    const uint32_t slot = take_lent(q);

    for (uint32_t i = 0; i < q->slot_chunks; i++)
        move_chunk(q, slot_first(q, slot) + i, XSK_LENT, XSK_FREE);
    q->slot_free[q->slot_free_count++] = (uint16_t)slot;
}

void xsk_queue_tx_commit(struct xsk_queue *q, uint32_t len)
{
    const uint32_t slot = take_lent(q), size = 1u << q->chunk_shift;
    const uint32_t parts = (len + size - 1) >> q->chunk_shift;
    uint32_t at, got;

    assert(parts > 0 && parts <= q->slot_chunks);
    got = xsk_ring_prod__reserve(&q->tx, parts, &at);
    assert(got == parts);
    for (uint32_t i = 0; i < q->slot_chunks; i++) {
        const uint32_t chunk = slot_first(q, slot) + i;
        struct xdp_desc *desc;

        if (i >= parts) {
            move_chunk(q, chunk, XSK_LENT, XSK_FREE);
            continue;
        }
        move_chunk(q, chunk, XSK_LENT, XSK_KERNEL);
        desc = xsk_ring_prod__tx_desc(&q->tx, at + i);
        desc->addr = (uint64_t)chunk << q->chunk_shift;
        desc->len = i + 1 < parts ? size : len - i * size;
        desc->options = i + 1 < parts ? XDP_PKT_CONTD : 0;
    }
    q->slot_busy[slot] = (uint8_t)parts;
    q->tx_pending += parts;
    q->tx_outstanding += parts;
}

/** Descriptors that the kernel has not taken from the TX ring. */
static uint32_t tx_waiting(const struct xsk_queue *q)
{
    return *q->tx.producer - __atomic_load_n(q->tx.consumer, __ATOMIC_ACQUIRE);
}

/**
 * In copy mode sendto() is what transmits, some dozens of frames a call, in the context of the
 * caller.  EBUSY: the device dropped a frame, the next call goes on behind it.  EAGAIN, ENOBUFS:
 * the budget is used up, or the device or the socket's send buffer is full; worth a few more calls.
 * Anything else (interface down or gone) will not pass by itself: the frames wait in the ring.
 */
static void tx_kick(struct xsk_queue *q)
{
    uint32_t waiting = tx_waiting(q), idle = 0;

    while (waiting && idle < IDLE_KICKS && xsk_ring_prod__needs_wakeup(&q->tx)) {
        const uint32_t before = waiting;

        if (sendto(q->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0) {
            if (errno == EBUSY)
                q->tx_refused++;
            else if (errno != EAGAIN && errno != ENOBUFS && errno != EINTR)
                return;
        }
        waiting = tx_waiting(q);
        idle = waiting < before ? 0 : idle + 1;
    }
}

void xsk_queue_tx_flush(struct xsk_queue *q)
{
    if (q->tx_pending) {
        xsk_ring_prod__submit(&q->tx, q->tx_pending);
        q->tx_pending = 0;
    }
    if (q->tx_outstanding) {
        tx_kick(q);
        tx_reap(q);
    }
}

/* ---- open and close ---------------------------------------------------------------------- */

static int make_tables(struct xsk_queue *q, const struct xsk_queue_config *config)
{
    q->chunks = XSK_FRAMES_PER_QUEUE;
    q->chunk_shift = (uint32_t)__builtin_ctz(config->chunk_size);
    q->rx_chunks = config->transmits ? XSK_FRAMES_PER_QUEUE - XSK_TX_CHUNKS : XSK_FRAMES_PER_QUEUE;
    q->slot_chunks = (config->max_frame + config->chunk_size - 1) >> q->chunk_shift;
    q->slots = config->transmits ? XSK_TX_CHUNKS / q->slot_chunks : 0;
    q->slot_lent = -1;
    q->place = calloc(q->chunks, sizeof(*q->place));
    q->slot_free = calloc(q->slots + 1, sizeof(*q->slot_free));
    q->slot_busy = calloc(q->slots + 1, sizeof(*q->slot_busy));
    if (!q->place || !q->slot_free || !q->slot_busy)
        return -ENOMEM;
    while (q->slot_free_count < q->slots) {
        q->slot_free[q->slot_free_count] = (uint16_t)(q->slots - 1 - q->slot_free_count);
        q->slot_free_count++;
    }
    return 0;
}

static int make_umem(struct xsk_queue *q, uint32_t chunk_size)
{
    const size_t size = (size_t)q->chunks << q->chunk_shift;
    const struct xsk_umem_config config = {
        .fill_size = FILL_RING, .comp_size = COMP_RING, .frame_size = chunk_size};

    q->area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (q->area == MAP_FAILED) {
        q->area = NULL;
        return -ENOMEM;
    }
    /* A forked child must not make the pages copy on write under the kernel's feet. */
    madvise(q->area, size, MADV_DONTFORK);
    madvise(q->area, size, MADV_HUGEPAGE);
    return xsk_umem__create(&q->umem, q->area, size, &q->fill, &q->comp, &config);
}

static int try_bind(struct xsk_queue *q, const struct xsk_queue_config *config, uint16_t flags)
{
    const struct xsk_socket_config socket_config = {
        .rx_size = RX_RING,
        .tx_size = TX_RING,
        .libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
        .bind_flags = (uint16_t)(flags | XDP_USE_NEED_WAKEUP)};
    int err = make_umem(q, config->chunk_size);

    if (!err)
        err = xsk_socket__create(&q->socket, config->ifname, config->id, q->umem, &q->rx,
                                 config->transmits ? &q->tx : NULL, &socket_config);
    if (!err)
        return 0;
    q->socket = NULL;
    if (q->umem)
        xsk_umem__delete(q->umem);
    if (q->area)
        munmap(q->area, (size_t)q->chunks << q->chunk_shift);
    q->umem = NULL;
    q->area = NULL;
    return err;
}

/**
 * Zero copy if the driver can; copy mode otherwise, where multi-buffer costs nothing.  An old
 * kernel answers EINVAL to a flag it does not know.  Each attempt is a new umem: what a failed bind
 * leaves of the old one differs between kernels.
 */
static int bind_best(struct xsk_queue *q, const struct xsk_queue_config *config, bool *multi_buffer)
{
    int err = -EOPNOTSUPP;

    if (!config->force_copy) {
        *multi_buffer = config->multi_buffer;
        err =
            try_bind(q, config, (uint16_t)(XDP_ZEROCOPY | (config->multi_buffer ? XDP_USE_SG : 0)));
        if (!err || err == -EBUSY)
            return err;
    }
    *multi_buffer = true;
    err = try_bind(q, config, XDP_COPY | XDP_USE_SG);
    if (!err || err == -EBUSY || config->multi_buffer)
        return err;
    *multi_buffer = false;
    return try_bind(q, config, XDP_COPY);
}

int xsk_queue_open(struct xsk_queue *q, const struct xsk_queue_config *config, bool *multi_buffer)
{
    const int sndbuf = SEND_BUFFER, budget = SEND_BUDGET;
    int err;

    memset(q, 0, sizeof(*q));
    q->fd = -1;
    err = make_tables(q, config);
    if (!err)
        err = bind_best(q, config, multi_buffer);
    if (err) {
        xsk_queue_close(q);
        return err;
    }
    q->fd = xsk_socket__fd(q->socket);
    if (config->transmits) {
        /* Both only help: without them a flush needs more calls. */
        (void)setsockopt(q->fd, SOL_SOCKET, SO_SNDBUFFORCE, &sndbuf, sizeof(sndbuf));
        (void)setsockopt(q->fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &budget, sizeof(budget));
    }
    for (uint32_t chunk = 0; chunk < q->rx_chunks; chunk++) {
        move_chunk(q, chunk, XSK_FREE, XSK_KERNEL);
        fill_one(q, chunk);
    }
    xsk_queue_rx_submit(q);
    return 0;
}

void xsk_queue_close(struct xsk_queue *q)
{
    if (q->socket)
        xsk_socket__delete(q->socket);
    if (q->umem)
        xsk_umem__delete(q->umem);
    if (q->area)
        munmap(q->area, (size_t)q->chunks << q->chunk_shift);
    free(q->place);
    free(q->slot_free);
    free(q->slot_busy);
    memset(q, 0, sizeof(*q));
    q->fd = -1;
}

/* ---- the invariant ----------------------------------------------------------------------- */

bool xsk_queue_consistent(const struct xsk_queue *q)
{
    uint32_t rx[3] = {0}, tx[3] = {0}, busy = 0, idle_slots = 0;
    const uint32_t lent = q->slot_lent >= 0 ? q->slot_chunks : 0;

    for (uint32_t i = 0; i < q->chunks; i++) {
        if (i < q->rx_chunks)
            rx[q->place[i]]++;
        else
            tx[q->place[i]]++;
    }
    /* Reception: lent or the kernel's, and the kernel has room in its rings for no more. */
    if (rx[XSK_FREE] != 0 || rx[XSK_LENT] != q->rx_lent || q->fill_pending != 0)
        return false;
    if (*q->fill.producer - *q->fill.consumer + (*q->rx.producer - *q->rx.consumer) >
        rx[XSK_KERNEL])
        return false;
    if (!q->slots)
        return tx[XSK_LENT] == 0 && tx[XSK_KERNEL] == 0;
    /* Transmission: a slot is free, lent, or has chunks in the kernel. */
    for (uint32_t slot = 0; slot < q->slots; slot++) {
        uint32_t kernel = 0;

        for (uint32_t i = 0; i < q->slot_chunks; i++)
            kernel += q->place[slot_first(q, slot) + i] == XSK_KERNEL;
        if (kernel != q->slot_busy[slot])
            return false;
        busy += kernel;
        idle_slots += kernel == 0;
    }
    for (uint32_t i = 0; i < q->slot_free_count; i++) {
        if (q->slot_busy[q->slot_free[i]] || (int32_t)q->slot_free[i] == q->slot_lent)
            return false;
        for (uint32_t j = 0; j < i; j++) {
            if (q->slot_free[i] == q->slot_free[j])
                return false;
        }
    }
    return idle_slots == q->slot_free_count + (q->slot_lent >= 0) && tx[XSK_LENT] == lent &&
           tx[XSK_KERNEL] == busy && busy == q->tx_outstanding &&
           tx_waiting(q) + q->tx_pending <= q->tx_outstanding;
}
