/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The AF_XDP port: queues put together behind the port's face.
 *
 * Reception takes turns among the queues.  Transmission uses queue 0 alone: the device decides
 * nothing by it, one ring means one system call for a flush, and the frames of a connection stay in
 * order.  Checksums are done by whoever builds the frame, and verified by whoever parses it: AF_XDP
 * says nothing about them.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "port/netdev.h"
#include "port/xsk.h"
#include "port/xsk_queue.h"

#define LINK_HEADER (14u + 4u) /* Ethernet and one tag */
#define TX_QUEUE 0

/* A queue stays taken for some hundred milliseconds after its owner died. */
#define BUSY_RETRIES 50
#define BUSY_WAIT_NS 20000000L

struct xsk_port {
    struct port port;
    int control; /* for ioctl */
    uint32_t queue_count;
    uint32_t next; /* queue whose turn it is */
    struct xsk_linear linear;
    struct port_stats stats;
    struct xsk_queue queue[]; /* queue_count */
};

static struct xsk_port *xsk_of(struct port *port)
{
    return (struct xsk_port *)port;
}

/* ---- the face ---------------------------------------------------------------------------- */

static int port_xsk_rx_burst(struct port *p, struct port_frame *frames, int max)
{
    struct xsk_port *port = xsk_of(p);
    int n = 0;

    for (uint32_t i = 0; i < port->queue_count && n < max; i++) {
        struct xsk_queue *q = &port->queue[port->next];

        port->next = port->next + 1 < port->queue_count ? port->next + 1 : 0;
        n += xsk_queue_rx(q, &port->linear, frames + n, max - n);
    }
    for (int i = 0; i < n; i++)
        port->stats.rx_bytes += frames[i].len;
    port->stats.rx_frames += (uint64_t)n;
    return n;
}

/** The linear buffer that @data is, or -1 if it is a chunk. */
static int linear_index(const struct xsk_linear *linear, const uint8_t *data)
{
    if (!linear->area || data < linear->area ||
        data >= linear->area + (size_t)XSK_LINEAR_FRAMES * XSK_LINEAR_SIZE)
        return -1;
    return (int)((size_t)(data - linear->area) / XSK_LINEAR_SIZE);
}

static void port_xsk_rx_release(struct port *p, struct port_frame *frames, int n)
{
    struct xsk_port *port = xsk_of(p);

    for (int i = 0; i < n; i++) {
        const int index = linear_index(&port->linear, frames[i].data);

        assert(frames[i].priv);
        if (index >= 0) {
            assert(port->linear.free_count < XSK_LINEAR_FRAMES);
            port->linear.free[port->linear.free_count++] = (uint16_t)index;
        } else {
            xsk_queue_rx_return(frames[i].priv, frames[i].data);
        }
        frames[i].priv = NULL;
    }
    for (uint32_t i = 0; i < port->queue_count; i++)
        xsk_queue_rx_submit(&port->queue[i]);
}

static uint8_t *port_xsk_tx_reserve(struct port *p)
{
    return xsk_queue_tx_reserve(&xsk_of(p)->queue[TX_QUEUE]);
}

static void port_xsk_tx_commit(struct port *p, uint32_t len, uint16_t gso_size)
{
    struct xsk_port *port = xsk_of(p);

    assert(len > 0 && len <= p->caps.max_frame);
    assert(gso_size == 0); /* max_super is 0 */
    port->stats.tx_frames++;
    port->stats.tx_bytes += len;
    xsk_queue_tx_commit(&port->queue[TX_QUEUE], len);
}

static void port_xsk_tx_cancel(struct port *p)
{
    xsk_queue_tx_cancel(&xsk_of(p)->queue[TX_QUEUE]);
}

static void port_xsk_tx_flush(struct port *p)
{
    xsk_queue_tx_flush(&xsk_of(p)->queue[TX_QUEUE]);
}

static int port_xsk_poll_fds(struct port *p, int *fds, int max)
{
    struct xsk_port *port = xsk_of(p);
    int n = 0;

    while (n < max && n < (int)port->queue_count) {
        fds[n] = port->queue[n].fd;
        n++;
    }
    return n;
}

static bool port_xsk_link_up(struct port *p)
{
    return netdev_running(xsk_of(p)->control, p->caps.ifindex);
}

static void port_xsk_get_stats(struct port *p, struct port_stats *stats)
{
    struct xsk_port *port = xsk_of(p);

    *stats = port->stats;
    for (uint32_t i = 0; i < port->queue_count; i++) {
        const struct xsk_queue *q = &port->queue[i];
        struct xdp_statistics kernel = {0};
        socklen_t len = sizeof(kernel);

        if (getsockopt(q->fd, SOL_XDP, XDP_STATISTICS, &kernel, &len) == 0)
            stats->rx_dropped += kernel.rx_dropped + kernel.rx_ring_full;
        stats->rx_dropped += q->rx_too_long;
        stats->tx_dropped += q->tx_refused;
    }
}

static void port_xsk_close(struct port *p)
{
    struct xsk_port *port = xsk_of(p);

    for (uint32_t i = 0; i < port->queue_count; i++)
        xsk_queue_close(&port->queue[i]);
    if (port->linear.area)
        munmap(port->linear.area, (size_t)XSK_LINEAR_FRAMES * XSK_LINEAR_SIZE);
    if (port->control >= 0)
        close(port->control);
    free(port);
}

static const struct port_ops xsk_ops = {
    .rx_burst = port_xsk_rx_burst,
    .rx_release = port_xsk_rx_release,
    .tx_reserve = port_xsk_tx_reserve,
    .tx_commit = port_xsk_tx_commit,
    .tx_cancel = port_xsk_tx_cancel,
    .tx_flush = port_xsk_tx_flush,
    .poll_fds = port_xsk_poll_fds,
    .link_up = port_xsk_link_up,
    .get_stats = port_xsk_get_stats,
    .close = port_xsk_close,
};

int xsk_queue_fd(const struct port *p, unsigned queue)
{
    const struct xsk_port *port = (const struct xsk_port *)p;

    assert(p->ops == &xsk_ops);
    return queue < port->queue_count ? port->queue[queue].fd : -1;
}

bool xsk_consistent(const struct port *p)
{
    const struct xsk_port *port = (const struct xsk_port *)p;

    assert(p->ops == &xsk_ops);
    for (uint32_t i = 0; i < port->queue_count; i++) {
        if (!xsk_queue_consistent(&port->queue[i]))
            return false;
    }
    return true;
}

/* ---- open -------------------------------------------------------------------------------- */

/** Says now, in words, what would otherwise be an errno out of the depth of a library. */
static bool can_open(const char *ifname, char *err, size_t errlen)
{
    const int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);

    if (fd >= 0) {
        close(fd);
        return true;
    }
    if (errno == EPERM || errno == EACCES)
        snprintf(err, errlen,
                 "%s: no privilege for AF_XDP: run as root or with CAP_NET_RAW, "
                 "CAP_NET_ADMIN and CAP_BPF",
                 ifname);
    else if (errno == EAFNOSUPPORT)
        snprintf(err, errlen, "%s: this kernel has no AF_XDP: use one with CONFIG_XDP_SOCKETS",
                 ifname);
    else
        snprintf(err, errlen, "%s: AF_XDP socket: %s", ifname, strerror(errno));
    return false;
}

static void explain(const struct netdev *dev, const struct xsk_queue_config *config, int error,
                    char *err, size_t errlen)
{
    const unsigned mib = (unsigned)((uint64_t)XSK_FRAMES_PER_QUEUE * config->chunk_size >> 20);
    const unsigned room = XSK_CHUNK_LARGE - XSK_KERNEL_HEADROOM - LINK_HEADER;

    switch (-error) {
    case EBUSY:
        snprintf(err, errlen,
                 "%s: receive queue %u is taken by another AF_XDP program; stop that one",
                 dev->name, config->id);
        break;
    case ENOMEM:
    case ENOBUFS:
        snprintf(err, errlen,
                 "%s: no memory for receive queue %u: %u MiB must be locked per queue; "
                 "raise `ulimit -l` or use fewer queues (ethtool -L)",
                 dev->name, config->id, mib);
        break;
    case EPERM:
    case EACCES:
        snprintf(err, errlen,
                 "%s: no privilege for AF_XDP: run as root or with CAP_NET_RAW, "
                 "CAP_NET_ADMIN and CAP_BPF",
                 dev->name);
        break;
    case EINVAL:
    case EOPNOTSUPP:
        if (config->multi_buffer)
            snprintf(err, errlen,
                     "%s: MTU %u needs AF_XDP multi-buffer (Linux 6.6); lower the MTU to "
                     "%u and do not use generic mode",
                     dev->name, dev->mtu, room);
        else
            snprintf(err, errlen, "%s: the driver refuses AF_XDP on receive queue %u: %s",
                     dev->name, config->id, strerror(-error));
        break;
    default:
        snprintf(err, errlen, "%s: AF_XDP on receive queue %u: %s", dev->name, config->id,
                 strerror(-error));
    }
}

static int open_queue(struct xsk_queue *q, const struct xsk_queue_config *config,
                      bool *multi_buffer)
{
    const struct timespec wait = {.tv_nsec = BUSY_WAIT_NS};
    int err;

    for (int tries = 0;; tries++) {
        err = xsk_queue_open(q, config, multi_buffer);
        if (err != -EBUSY || tries == BUSY_RETRIES)
            return err;
        nanosleep(&wait, NULL);
    }
}

static bool make_linear(struct xsk_linear *linear)
{
    linear->area = mmap(NULL, (size_t)XSK_LINEAR_FRAMES * XSK_LINEAR_SIZE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (linear->area == MAP_FAILED) {
        linear->area = NULL;
        return false;
    }
    for (uint32_t i = 0; i < XSK_LINEAR_FRAMES; i++)
        linear->free[i] = (uint16_t)i;
    linear->free_count = XSK_LINEAR_FRAMES;
    return true;
}

static void set_caps(struct xsk_port *port, const struct netdev *dev)
{
    struct port_caps *caps = &port->port.caps;

    caps->mtu = dev->mtu;
    caps->max_frame = dev->mtu + LINK_HEADER;
    caps->queues = (uint16_t)dev->rx_queues;
    memcpy(caps->mac, dev->mac, 6);
    caps->ifindex = dev->ifindex;
    memcpy(caps->name, dev->name, sizeof(caps->name));
    strcpy(caps->kind, "xsk");
    caps->rx_csum_partial = dev->veth;
}

/** All queues of @dev into @port; on failure the caller closes the port. */
static bool open_queues(struct xsk_port *port, const struct netdev *dev,
                        const struct xsk_config *config, char *err, size_t errlen)
{
    struct xsk_queue_config queue = {.ifname = dev->name,
                                     .max_frame = port->port.caps.max_frame,
                                     .force_copy = config->force_copy || config->force_generic};
    bool any_multi_buffer = false;

    queue.chunk_size = XSK_CHUNK_SMALL;
    if (config->force_generic || queue.max_frame > XSK_CHUNK_SMALL - XSK_KERNEL_HEADROOM)
        queue.chunk_size = XSK_CHUNK_LARGE;
    /* In generic mode the kernel hands over whole super-segments, whatever the MTU. */
    queue.multi_buffer =
        config->force_generic || queue.max_frame > queue.chunk_size - XSK_KERNEL_HEADROOM;

    while (port->queue_count < dev->rx_queues) {
        bool multi_buffer;
        int error;

        queue.id = port->queue_count;
        queue.transmits = queue.id == TX_QUEUE;
        error = open_queue(&port->queue[queue.id], &queue, &multi_buffer);
        if (error) {
            explain(dev, &queue, error, err, errlen);
            return false;
        }
        port->queue_count++;
        any_multi_buffer |= multi_buffer;
    }
    if (any_multi_buffer && !make_linear(&port->linear)) {
        snprintf(err, errlen, "%s: no memory", dev->name);
        return false;
    }
    return true;
}

struct port *xsk_open(const struct xsk_config *config, char *err, size_t errlen)
{
    const int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct xsk_port *port;
    struct netdev dev;

    if (control < 0) {
        snprintf(err, errlen, "socket: %s", strerror(errno));
        return NULL;
    }
    if (!netdev_query(control, config->ifname, &dev, err, errlen) ||
        !can_open(dev.name, err, errlen)) {
        close(control);
        return NULL;
    }
    if (dev.rx_queues > XSK_MAX_QUEUES) {
        snprintf(err, errlen,
                 "%s: %u receive queues, at most %u are served: ethtool -L %s combined %u",
                 dev.name, dev.rx_queues, XSK_MAX_QUEUES, dev.name, XSK_MAX_QUEUES);
        close(control);
        return NULL;
    }
    port = calloc(1, sizeof(*port) + dev.rx_queues * sizeof(port->queue[0]));
    if (!port) {
        snprintf(err, errlen, "%s: no memory", dev.name);
        close(control);
        return NULL;
    }
    port->port.ops = &xsk_ops;
    port->control = control;
    set_caps(port, &dev);
    if (!open_queues(port, &dev, config, err, errlen)) {
        port_xsk_close(&port->port);
        return NULL;
    }
    return &port->port;
}
