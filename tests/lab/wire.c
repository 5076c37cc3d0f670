/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lab's wire: joins two interfaces by the simulated link (port/sim.h), in real time.
 *
 *     [host a] va ==== wa [ wire ] wb ==== vb [host b]
 *
 * This kernel has no netem.  Everything that arrives on --a leaves on --b after the latency, rate,
 * loss, reordering and so on that were asked for, and the other way round; every decision comes
 * from the seed.  Linux-to-Linux and chimney-to-Linux go through the very same program.
 *
 * The hosts' interfaces must send frames as they are on the wire: ethtool -K va tx off tso off gso
 * off gro off, the same on vb.  The wire's own ends need no address and no IPv6.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <arpa/inet.h>

#include "port/sim.h"

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif
#define WIRE_BATCH 64
#define WIRE_FRAME 2048
#define WIRE_SOCKET_BUFFER (16 << 20)
/** Closer than this to the next arrival the wire polls instead of sleeping: a timer is not exact.
 */
#define WIRE_SPIN_NS 60000
/** A run ends after this time unless --seconds says otherwise: nothing is left behind. */
#define WIRE_DEFAULT_SECONDS 600

struct end {
    const char *ifname;
    int fd;
    struct port *port;
    uint8_t frames[WIRE_BATCH][WIRE_FRAME];
    uint64_t received, sent, too_long, send_errors;
};

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
    (void)sig;
    stop = 1;
}

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static int open_end(struct end *end)
{
    struct sockaddr_ll addr = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    int one = 1, size = WIRE_SOCKET_BUFFER;

    end->fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    addr.sll_ifindex = (int)if_nametoindex(end->ifname);
    if (end->fd < 0 || addr.sll_ifindex == 0)
        return -1;
    setsockopt(end->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one));
    setsockopt(end->fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one));
    setsockopt(end->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
    setsockopt(end->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
    return bind(end->fd, (struct sockaddr *)&addr, sizeof(addr));
}

/* Interface to link. */
static bool take(struct end *end)
{
    struct mmsghdr msgs[WIRE_BATCH];
    struct iovec iov[WIRE_BATCH];
    int n;

    memset(msgs, 0, sizeof(msgs));
    for (int i = 0; i < WIRE_BATCH; i++) {
        iov[i] = (struct iovec){end->frames[i], WIRE_FRAME};
        msgs[i].msg_hdr.msg_iov = &iov[i];
        msgs[i].msg_hdr.msg_iovlen = 1;
    }
    n = recvmmsg(end->fd, msgs, WIRE_BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
    for (int i = 0; i < n; i++) {
        uint8_t *frame;

        end->received++;
        if (msgs[i].msg_len > end->port->caps.max_frame || msgs[i].msg_len > WIRE_FRAME ||
            (frame = port_tx_reserve(end->port)) == NULL) {
            end->too_long++;
            continue;
        }
        memcpy(frame, end->frames[i], msgs[i].msg_len);
        port_tx_commit(end->port, msgs[i].msg_len, 0);
    }
    if (n > 0)
        port_tx_flush(end->port);
    return n > 0;
}

/* Link to interface. */
static bool give(struct end *end)
{
    struct port_frame frames[WIRE_BATCH];
    struct mmsghdr msgs[WIRE_BATCH];
    struct iovec iov[WIRE_BATCH];
    int n = port_rx_burst(end->port, frames, WIRE_BATCH);

    memset(msgs, 0, sizeof(msgs));
    for (int i = 0; i < n; i++) {
        iov[i] = (struct iovec){frames[i].data, frames[i].len};
        msgs[i].msg_hdr.msg_iov = &iov[i];
        msgs[i].msg_hdr.msg_iovlen = 1;
    }
    for (int done = 0; done < n;) {
        int k = sendmmsg(end->fd, msgs + done, (unsigned)(n - done), 0);

        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0) { /* the interface is full or down: this one is lost, as on a wire */
            end->send_errors++;
            k = 1;
        } else {
            end->sent += (uint64_t)k;
        }
        done += k;
    }
    if (n > 0)
        port_rx_release(end->port, frames, n);
    return n > 0;
}

static void run(struct sim_link *link, struct end ends[2], uint64_t until)
{
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event ev = {.events = EPOLLIN};

    for (int i = 0; i < 2; i++)
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, ends[i].fd, &ev);
    while (!stop) {
        uint64_t now = now_ns(), next;
        bool any = false;

        if (now > until)
            break;
        sim_link_advance(link, now);
        for (int i = 0; i < 2; i++) {
            any |= take(&ends[i]);
            any |= give(&ends[i]);
        }
        if (any)
            continue;
        next = sim_link_next(link);
        now = now_ns();
        if (next > now + WIRE_SPIN_NS) {
            uint64_t wait = next == UINT64_MAX ? 100000000 : next - now - WIRE_SPIN_NS / 2;
            struct timespec ts = {(time_t)(wait / 1000000000), (long)(wait % 1000000000)};

            epoll_pwait2(epoll_fd, &ev, 1, &ts, NULL);
        }
    }
    close(epoll_fd);
}

static const struct option options[] = {
    {"a", 1, NULL, 'a'},         {"b", 1, NULL, 'b'},         {"seed", 1, NULL, 's'},
    {"latency-us", 1, NULL, 1},  {"rate-mbit", 1, NULL, 2},   {"jitter-us", 1, NULL, 3},
    {"loss-ppm", 1, NULL, 4},    {"burst-ppm", 1, NULL, 5},   {"burst-len", 1, NULL, 6},
    {"dup-ppm", 1, NULL, 7},     {"corrupt-ppm", 1, NULL, 8}, {"reorder-ppm", 1, NULL, 9},
    {"reorder-us", 1, NULL, 10}, {"queue", 1, NULL, 11},      {"mark", 1, NULL, 12},
    {"seconds", 1, NULL, 13},    {"one-way", 0, NULL, 14},    {NULL, 0, NULL, 0},
};

static int usage(void)
{
    fprintf(stderr,
            "Usage: wire --a IFACE --b IFACE [--seed N] [--latency-us N] [--rate-mbit N]\n"
            "  [--jitter-us N] [--loss-ppm N] [--burst-ppm N] [--burst-len N] [--dup-ppm N]\n"
            "  [--corrupt-ppm N] [--reorder-ppm N] [--reorder-us N] [--queue FRAMES]\n"
            "  [--mark FRAMES] [--seconds N] [--one-way]\n"
            "Both directions alike; --one-way: loss, bursts, duplicates, corruption and\n"
            "reordering only from a to b.\n");
    return 2;
}

int main(int argc, char **argv)
{
    static struct end ends[2];
    struct sim_impair there = {0}, back;
    uint64_t seed = 1, seconds = WIRE_DEFAULT_SECONDS;
    struct sigaction action = {.sa_handler = on_signal};
    struct sim_link *link;
    bool one_way = false;
    int opt;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        uint64_t n = optarg ? strtoull(optarg, NULL, 0) : 0;

        switch (opt) {
        case 'a':
            ends[0].ifname = optarg;
            break;
        case 'b':
            ends[1].ifname = optarg;
            break;
        case 's':
            seed = n;
            break;
        case 1:
            there.latency_ns = n * 1000;
            break;
        case 2:
            there.rate_bps = n * 1000000;
            break;
        case 3:
            there.jitter_ns = n * 1000;
            break;
        case 4:
            there.loss_ppm = (uint32_t)n;
            break;
        case 5:
            there.burst_ppm = (uint32_t)n;
            break;
        case 6:
            there.burst_len = (uint32_t)n;
            break;
        case 7:
            there.dup_ppm = (uint32_t)n;
            break;
        case 8:
            there.corrupt_ppm = (uint32_t)n;
            break;
        case 9:
            there.reorder_ppm = (uint32_t)n;
            break;
        case 10:
            there.reorder_ns = n * 1000;
            break;
        case 11:
            there.queue_frames = (uint32_t)n;
            break;
        case 12:
            there.mark_frames = (uint32_t)n;
            break;
        case 13:
            seconds = n;
            break;
        case 14:
            one_way = true;
            break;
        default:
            return usage();
        }
    }
    if (!ends[0].ifname || !ends[1].ifname || optind < argc)
        return usage();
    back = there;
    if (one_way)
        back.loss_ppm = back.burst_ppm = back.dup_ppm = back.corrupt_ppm = back.reorder_ppm = 0;
    for (int i = 0; i < 2; i++)
        if (open_end(&ends[i]) < 0) {
            fprintf(stderr, "wire: %s: %s (root and an existing interface are needed)\n",
                    ends[i].ifname, strerror(errno));
            return 1;
        }
    link = sim_link_create(seed, 1500, &there, &back);
    if (!link) {
        fprintf(stderr, "wire: out of memory\n");
        return 1;
    }
    for (int i = 0; i < 2; i++)
        ends[i].port = sim_link_port(link, i);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    printf("wire: %s to %s, seed %" PRIu64 "\n", ends[0].ifname, ends[1].ifname, seed);
    fflush(stdout);
    run(link, ends, now_ns() + seconds * 1000000000ull);
    for (int i = 0; i < 2; i++) {
        struct port_stats s;

        port_get_stats(ends[1 - i].port, &s);
        printf("wire: %s: %" PRIu64 " in, %" PRIu64 " out, %" PRIu64
               " too long or no room, %" PRIu64 " not sent, %" PRIu64 " overran\n",
               ends[i].ifname, ends[i].received, ends[i].sent, ends[i].too_long,
               ends[i].send_errors, s.rx_dropped);
    }
    sim_link_destroy(link);
    return 0;
}
