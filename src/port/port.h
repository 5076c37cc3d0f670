/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports: frames in and out.
 *
 * A port is a network interface (or a simulated one) seen as a packet source and sink.  A frame is
 * a view into the port's own memory; it is valid until the call says otherwise.  One thread uses a
 * port (the worker); opening and closing happen when no worker runs.
 */
#ifndef CHIMNEY_PORT_PORT_H
#define CHIMNEY_PORT_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct port;

/** A received frame, Ethernet header first. */
struct port_frame {
    uint8_t *data;
    uint32_t len;
    bool csum_trusted; /* the transport checksum needs no verification (vnet_hdr, sim) */
    uint16_t gso_size; /* 0, or the size of the segments this super-frame was merged from */
    void *priv;        /* the port's own */
};

/** What a port can do.  Limits are properties of the open port, not of the kind. */
struct port_caps {
    uint32_t mtu;         /* of the interface, in bytes of IP packet */
    uint32_t max_frame;   /* largest frame tx_reserve() lends */
    uint32_t max_super;   /* largest TCP payload of a super-segment it takes; 0: none */
    bool tx_csum_offload; /* fills in the transport checksum itself */
    bool rx_csum_trusted; /* csum_trusted may be set on received frames */
    bool rx_csum_partial; /* a virtual interface: see wire_finish_checksum() */
    uint16_t queues;      /* receive queues served */
    uint8_t mac[6];
    int ifindex;
    char name[16];
    char kind[8]; /* "xsk", "packet", "sim" */
};

struct port_stats {
    uint64_t rx_frames, rx_bytes, tx_frames, tx_bytes;
    uint64_t rx_dropped, tx_dropped; /* by the port: ring full, no frame */
};

struct port_ops {
    /**
     * Takes up to @max received frames; returns how many.  They stay valid until rx_release() with
     * the same array.  Order is the order of arrival per queue.
     */
    int (*rx_burst)(struct port *, struct port_frame *frames, int max);
    void (*rx_release)(struct port *, struct port_frame *frames, int n);
    /** Lends a buffer of max_frame bytes for one frame, or NULL when none is free (try later). */
    uint8_t *(*tx_reserve)(struct port *);
    /** Queues the buffer last lent, @len bytes; @gso_size as in port_frame.  Never fails. */
    void (*tx_commit)(struct port *, uint32_t len, uint16_t gso_size);
    /** Gives the buffer last lent back unused. */
    void (*tx_cancel)(struct port *);
    /** Makes queued frames leave now (one system call at most per batch) and reaps completions. */
    void (*tx_flush)(struct port *);
    /** File descriptors that become readable when frames wait; returns how many were written. */
    int (*poll_fds)(struct port *, int *fds, int max);
    /** True if carrier and administrative state are up. */
    bool (*link_up)(struct port *);
    void (*get_stats)(struct port *, struct port_stats *);
    void (*close)(struct port *);
};

struct port {
    const struct port_ops *ops;
    struct port_caps caps;
};

static inline int port_rx_burst(struct port *p, struct port_frame *f, int max)
{
    return p->ops->rx_burst(p, f, max);
}
static inline void port_rx_release(struct port *p, struct port_frame *f, int n)
{
    p->ops->rx_release(p, f, n);
}
static inline uint8_t *port_tx_reserve(struct port *p)
{
    return p->ops->tx_reserve(p);
}
static inline void port_tx_commit(struct port *p, uint32_t len, uint16_t gso)
{
    p->ops->tx_commit(p, len, gso);
}
static inline void port_tx_cancel(struct port *p)
{
    p->ops->tx_cancel(p);
}
static inline void port_tx_flush(struct port *p)
{
    p->ops->tx_flush(p);
}
static inline int port_poll_fds(struct port *p, int *fds, int max)
{
    return p->ops->poll_fds(p, fds, max);
}
static inline bool port_link_up(struct port *p)
{
    return p->ops->link_up(p);
}
static inline void port_get_stats(struct port *p, struct port_stats *s)
{
    p->ops->get_stats(p, s);
}
static inline void port_close(struct port *p)
{
    p->ops->close(p);
}

#endif
