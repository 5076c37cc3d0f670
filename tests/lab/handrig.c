/* SPDX-License-Identifier: Apache-2.0 */
#include "handrig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "lab.h"
#include "port/xsk.h"

struct handrig hand;

socklen_t hand_address(struct sockaddr_storage *out, unsigned family, const char *host4,
                       const char *host6, uint16_t port)
{
    struct sockaddr_in *in4 = (void *)out;
    struct sockaddr_in6 *in6 = (void *)out;

    memset(out, 0, sizeof(*out));
    if (family == 4) {
        in4->sin_family = AF_INET;
        in4->sin_port = htons(port);
        LAB_CHECK(inet_pton(AF_INET, host4, &in4->sin_addr) == 1);
        return sizeof(*in4);
    }
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    LAB_CHECK(inet_pton(AF_INET6, host6, &in6->sin6_addr) == 1);
    return sizeof(*in6);
}

int hand_listen(unsigned family, uint16_t port)
{
    struct sockaddr_storage local;
    socklen_t len = hand_address(&local, family, "0.0.0.0", "::", port);
    int one = 1, zero = 0, fd = socket(local.ss_family, SOCK_STREAM, 0);

    LAB_CHECK(fd >= 0);
    LAB_ZERO(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
    if (family == 6)
        LAB_ZERO(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero)));
    LAB_ZERO(bind(fd, (struct sockaddr *)&local, len));
    LAB_ZERO(listen(fd, HAND_MAX_CONNS));
    return fd;
}

void hand_nonblocking(int fd)
{
    LAB_ZERO(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK));
}

/* ------------------------------------------------------------------------------------------------
 * The AF_XDP side: keeps frames of connections that are on their way, gives others to the kernel.
 */

static struct hand_conn *owner_of(const struct flow_key *key)
{
    for (unsigned i = 0; i < hand.n; i++)
        if (hand.conns[i].held && flow_key_equal(&hand.conns[i].h.key, key))
            return &hand.conns[i];
    return NULL;
}

static void keep(const struct port_frame *frame)
{
    struct wire_packet packet;
    struct hand_conn *c = NULL;

    if (wire_parse(frame->data, frame->len, false, &packet) == WIRE_OK)
        c = owner_of(&packet.key);
    if (!c) {
        hand.late_frames++;
        if (steer_reinject(hand.steer, hand.ifindex, frame->data, frame->len))
            hand.lost_frames++;
        return;
    }
    if (c->frame_count == HAND_HELD) {
        hand.lost_frames++;
        return;
    }
    c->frames[c->frame_count].data = malloc(frame->len);
    LAB_CHECK(c->frames[c->frame_count].data);
    memcpy(c->frames[c->frame_count].data, frame->data, frame->len);
    c->frames[c->frame_count++].len = frame->len;
    hand.held_frames++;
}

void hand_poll(void)
{
    struct port_frame frames[64];
    int n;

    while ((n = port_rx_burst(hand.port, frames, 64)) > 0) {
        for (int i = 0; i < n; i++)
            keep(&frames[i]);
        port_rx_release(hand.port, frames, n);
    }
    port_tx_flush(hand.port);
}

static int next_held(void *arg, const uint8_t **frame, uint32_t *len)
{
    struct hand_conn *c = arg;

    if (c->cursor == c->frame_count)
        hand_poll();
    if (c->cursor == c->frame_count)
        return 0;
    *frame = c->frames[c->cursor].data;
    *len = c->frames[c->cursor++].len;
    return 1;
}

static void rewind_held(void *arg)
{
    ((struct hand_conn *)arg)->cursor = 0;
}

struct handoff_held hand_held(struct hand_conn *c)
{
    return (struct handoff_held){next_held, rewind_held, c};
}

void hand_release(struct hand_conn *c)
{
    for (unsigned i = 0; i < c->frame_count; i++)
        free(c->frames[i].data);
    c->frame_count = c->cursor = 0;
    c->held = false;
}

static const char *last_step = "none";

/* Nothing fails; but if something does, it is known where. */
static int remember(const char *step)
{
    last_step = step;
    return 0;
}

void hand_restore(struct hand_conn *c, const struct repair_restore *r)
{
    const struct handoff_held held = hand_held(c);
    int error;

    handoff_fault = remember;
    error = handoff_restore(&hand.handoff, &c->h, r, &held);
    handoff_fault = NULL;
    if (error)
        LAB_FAIL("restore: %s at %s; una %u max %u sent %u unsent %u rcv_nxt %u unread %u "
                 "wl1 %u wnd %u max %u rcv_wnd %u wup %u mss %u stamp %u, dumped rcv_nxt %u wup %u",
                 strerror(-error), last_step, r->snd_una, r->snd_max, r->sent_len, r->unsent_len,
                 r->rcv_nxt, r->unread_len, r->window.snd_wl1, r->window.snd_wnd,
                 r->window.max_window, r->window.rcv_wnd, r->window.rcv_wup, r->was->mss_clamp,
                 r->tsval_floor, r->was->rcv_nxt, r->was->window.rcv_wup);
    c->pending = c->h.unsent_left;
    c->pending_pos = r->una_pos + r->sent_len + r->unsent_len - c->pending;
    hand.appended += c->h.appended_bytes;
    hand.reinjected += c->h.reinjected_frames;
    hand_release(c);
}

/* ------------------------------------------------------------------------------------------------
 * The program in A
 */

void hand_send(struct hand_conn *c, unsigned id)
{
    static uint8_t data[HAND_CHUNK];
    size_t len;
    ssize_t n;

    if (c->pending) {
        uint32_t offset = c->pending_pos & (HAND_RING - 1);

        len = HAND_RING - offset < c->pending ? HAND_RING - offset : c->pending;
        n = send(c->fd, c->h.rings.send + offset, len, MSG_DONTWAIT);
        if (n > 0) {
            c->pending -= n;
            c->pending_pos += n;
        }
    } else {
        len = 1 + lab_random() % HAND_CHUNK;
        lab_pattern(data, len, 2 * id + 1, c->sent);
        n = send(c->fd, data, len, MSG_DONTWAIT);
        if (n > 0)
            c->sent += n;
    }
    if (n < 0 && errno != EAGAIN)
        LAB_FAIL("conn %u: send: %s", id, strerror(errno));
}

void hand_receive(struct hand_conn *c, unsigned id)
{
    static uint8_t data[4 * HAND_CHUNK];
    ssize_t n = recv(c->fd, data, sizeof(data), MSG_DONTWAIT);

    if (n > 0) {
        LAB_CHECK(lab_pattern_check(data, n, 2 * id, c->received));
        c->received += n;
    } else if (n == 0) {
        c->eof = true;
    } else if (errno != EAGAIN) {
        LAB_FAIL("conn %u: recv: %s after %llu bytes", id, strerror(errno),
                 (unsigned long long)c->received);
    }
}

/* ------------------------------------------------------------------------------------------------
 * The rig
 */

void hand_open(unsigned queues, bool gro, unsigned mtu)
{
    char err[256];
    bool native;

    hand.a = lab_ns("a");
    hand.b = lab_ns("b");
    lab_veth(hand.a, "va", hand.b, "vb", queues, 99);
    /* No queue may grow longer than the rings are. */
    lab_sysctl(hand.a, "net.ipv4.tcp_rmem", "4096 131072 6291456");
    lab_must(hand.a, "ip link set va mtu %u", mtu);
    lab_must(hand.b, "ip link set vb mtu %u", mtu);
    lab_sysctl(hand.a, "net.ipv4.tcp_congestion_control", "reno");
    lab_sysctl(hand.b, "net.ipv4.tcp_congestion_control", "reno");
    if (gro)
        lab_must(-1,
                 "ip netns exec %s sh -c 'ethtool -K va gro on && "
                 "echo 5000000 > /sys/class/net/va/gro_flush_timeout && "
                 "echo 100 > /sys/class/net/va/napi_defer_hard_irqs'",
                 lab_ns_name(hand.a));
    hand.witness = lab_witness(hand.b, "vb");
    lab_enter(hand.a);
    hand.ifindex = if_nametoindex("va");
    if (steer_create(&hand.steer, NULL, err, sizeof(err)) ||
        barrier_create(&hand.handoff.barrier, err, sizeof(err)) ||
        steer_attach(hand.steer, hand.ifindex, false, &native, err, sizeof(err)))
        LAB_FAIL("%s", err);
    LAB_CHECK(native);
    hand.port = xsk_open(&(struct xsk_config){.ifname = "va"}, err, sizeof(err));
    if (!hand.port)
        LAB_FAIL("%s", err);
    for (unsigned q = 0; q < hand.port->caps.queues; q++)
        LAB_ZERO(steer_set_queue(hand.steer, hand.ifindex, q, xsk_queue_fd(hand.port, q)));
    hand.handoff.steer = hand.steer;
    if (conntrack_open(&hand.handoff.conntrack))
        hand.handoff.conntrack = NULL;
}

static void *ring_memory(void)
{
    void *memory =
        mmap(NULL, HAND_RING, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    LAB_CHECK(memory != MAP_FAILED);
    return memory;
}

void hand_conn_init(struct hand_conn *c, int fd)
{
    memset(c, 0, sizeof(*c));
    c->fd = fd;
    c->h.fd = dup(fd);
    c->h.ifindex = hand.ifindex;
    c->h.rings = (struct repair_rings){ring_memory(), ring_memory(), HAND_RING};
    LAB_CHECK(c->h.fd >= 0);
    LAB_ZERO(handoff_identify(fd, &c->h.key));
    hand_nonblocking(fd);
}

void hand_conn_free(struct hand_conn *c)
{
    close(c->fd);
    close(c->h.fd);
    munmap(c->h.rings.send, HAND_RING);
    munmap(c->h.rings.receive, HAND_RING);
}

void hand_close(void)
{
    struct steer_counters counters;

    steer_get_counters(hand.steer, &counters);
    printf("  kernel: %llu steered, %llu late (%llu dropped), %llu RSTs suppressed, "
           "%llu without queue\n",
           (unsigned long long)counters.steered, (unsigned long long)counters.late,
           (unsigned long long)counters.late_dropped, (unsigned long long)counters.rst_suppressed,
           (unsigned long long)counters.no_queue_dropped);
    LAB_CHECK(counters.no_queue_dropped == 0);
    LAB_CHECK(lab_witness_resets(hand.witness) == hand.resets);
    lab_witness_end(hand.witness);
    port_close(hand.port);
    steer_destroy(hand.steer);
    barrier_destroy(hand.handoff.barrier);
    conntrack_close(hand.handoff.conntrack);
    lab_clear();
    memset(&hand, 0, sizeof(hand));
}
