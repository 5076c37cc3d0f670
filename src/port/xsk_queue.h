/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One AF_XDP socket with its umem and four rings, bound to one receive queue; private to port/.
 *
 * The umem is an array of chunks.  The first rx_chunks belong to reception, the rest to
 * transmission in slots of slot_chunks neighbours, so that a frame larger than a chunk is
 * contiguous for whoever writes it.  Each chunk is in exactly one place, and `place` says in which;
 * every move asserts where the chunk comes from.
 *
 *   reception     KERNEL -> LENT (rx_burst) -> KERNEL (rx_release)
 *                 KERNEL -> KERNEL for a part of a multi-buffer frame, copied out at once
 *   transmission  FREE -> LENT (reserve) -> KERNEL (commit) -> FREE (completion)
 *
 * All rings are large enough for every chunk that can be in them, so putting one in never fails.
 */
#ifndef CHIMNEY_PORT_XSK_QUEUE_H
#define CHIMNEY_PORT_XSK_QUEUE_H

#include <xdp/xsk.h>
#include "port/port.h"
#include "port/xsk.h"

/* Newer than the oldest kernel headers we build with. */
#ifndef XDP_USE_SG
#define XDP_USE_SG (1 << 4)
#endif
#ifndef XDP_PKT_CONTD
#define XDP_PKT_CONTD (1 << 0)
#endif
#ifndef XDP_MAX_TX_SKB_BUDGET
#define XDP_MAX_TX_SKB_BUDGET 9
#endif

#define XSK_CHUNK_SMALL 2048u
#define XSK_CHUNK_LARGE 4096u
/** Free bytes the kernel keeps in front of a received frame (XDP_PACKET_HEADROOM). */
#define XSK_KERNEL_HEADROOM 256u
/** Chunks of the transmitting queue that are set aside for transmission. */
#define XSK_TX_CHUNKS 4096u

enum xsk_place { XSK_FREE, XSK_LENT, XSK_KERNEL };

/** Buffers in which multi-buffer frames become contiguous; shared by the queues of a port. */
#define XSK_LINEAR_FRAMES 64u
#define XSK_LINEAR_SIZE (65536u + 64u) /* the largest IP packet and its Ethernet header */
struct xsk_linear {
    uint8_t *area; /* NULL if the sockets are not multi-buffer */
    uint16_t free[XSK_LINEAR_FRAMES];
    uint32_t free_count;
};

struct xsk_queue {
    struct xsk_ring_prod fill, tx;
    struct xsk_ring_cons comp, rx;
    uint8_t *area;  /* the umem */
    uint8_t *place; /* enum xsk_place of each chunk */
    uint32_t chunk_shift;
    uint32_t chunks, rx_chunks;
    int fd;

    uint32_t fill_pending; /* written to the fill ring, not yet submitted */
    uint32_t rx_lent;      /* chunks lent by rx_burst */
    bool assembling;       /* the end of a multi-buffer frame has not come yet */
    uint8_t *partial;      /* its linear buffer */
    uint32_t partial_len;
    bool skipping; /* the rest of a frame that is too long */
    uint64_t rx_too_long;

    uint32_t slots, slot_chunks; /* slots is 0 on a queue that does not transmit */
    uint16_t *slot_free;         /* a stack */
    uint32_t slot_free_count;
    uint8_t *slot_busy;      /* chunks of the slot in the kernel's hands */
    int32_t slot_lent;       /* or -1 */
    uint32_t tx_pending;     /* written to the TX ring, not yet submitted */
    uint32_t tx_outstanding; /* chunks in the kernel's hands */
    uint64_t tx_refused;     /* frames the device did not take */

    struct xsk_socket *socket;
    struct xsk_umem *umem;
};

/** What xsk_queue_open() needs to know. */
struct xsk_queue_config {
    const char *ifname;
    uint32_t id;
    uint32_t chunk_size;
    uint32_t max_frame; /* for the size of a transmission slot */
    bool transmits;
    bool multi_buffer; /* do not bind without XDP_USE_SG */
    bool force_copy;
};

/**
 * Makes umem, socket and rings, binds, and gives all receive chunks to the kernel.
 * @multi_buffer: set if the socket takes multi-buffer frames.
 * Returns 0 or a negative errno; on failure nothing is left behind.
 */
int xsk_queue_open(struct xsk_queue *q, const struct xsk_queue_config *config, bool *multi_buffer);
void xsk_queue_close(struct xsk_queue *q);

/** Up to @max frames, as port_rx_burst(). */
int xsk_queue_rx(struct xsk_queue *q, struct xsk_linear *linear, struct port_frame *frames,
                 int max);
/** Gives a lent chunk back, by an address inside it; submit afterwards. */
void xsk_queue_rx_return(struct xsk_queue *q, const uint8_t *data);
void xsk_queue_rx_submit(struct xsk_queue *q);

uint8_t *xsk_queue_tx_reserve(struct xsk_queue *q);
void xsk_queue_tx_commit(struct xsk_queue *q, uint32_t len);
void xsk_queue_tx_cancel(struct xsk_queue *q);
void xsk_queue_tx_flush(struct xsk_queue *q);

/** Checks every chunk's place against the counters and stacks; for tests. */
bool xsk_queue_consistent(const struct xsk_queue *q);

#endif
