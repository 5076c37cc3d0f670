/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The AF_XDP port on a veth pair, in a network namespace without a name that dies with this
 * process:
 *
 *     xskp0 [ XDP: redirect to the port's sockets ] <----> xskp1 [ AF_PACKET, or a second port ]
 *
 * Needs root; skipped otherwise.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <cmocka.h>
#include "port/sim.h"
#include "port/xsk.h"

#ifndef BPF_F_XDP_HAS_FRAGS
#define BPF_F_XDP_HAS_FRAGS (1u << 5)
#endif
#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

#define DEADLINE_MS 20000
#define HEADER 42 /* Ethernet, IPv4, UDP: what queues are chosen by */
#define LARGEST (65535 + 18)

static uint8_t scratch[LARGEST], answer[LARGEST];

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void run(const char *format, ...)
{
    char command[256];
    va_list args;

    va_start(args, format);
    vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    if (system(command) != 0)
        fail_msg("failed: %s", command);
}

/** Nothing but our frames on the wire. */
static void quiet(void)
{
    FILE *f = fopen("/proc/sys/net/ipv6/conf/default/disable_ipv6", "w");

    if (f) {
        fputs("1", f);
        fclose(f);
    }
}

static int setup(void **state)
{
    if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0) {
        print_message("1..0 # SKIP needs root and network namespaces\n");
        exit(77);
    }
    quiet();
    return 0;
}

static void make_veth(unsigned mtu, unsigned queues)
{
    run("ip link add xskp0 mtu %u numrxqueues %u numtxqueues %u type veth "
        "peer name xskp1 mtu %u numrxqueues %u numtxqueues %u",
        mtu, queues, queues, mtu, queues, queues);
    run("ip link set xskp0 up && ip link set xskp1 up");
}

static void drop_veth(void)
{
    run("ip link del xskp0");
}

static int drop_veth_teardown(void **state)
{
    if (if_nametoindex("xskp0"))
        drop_veth();
    return 0;
}

/* ---- a port with its XDP program --------------------------------------------------------- */

struct side {
    struct port *port;
    int map, prog, ifindex;
    uint32_t flags;
};

/** return bpf_redirect_map(map, ctx->rx_queue_index, XDP_PASS) */
static int load_redirect(int map)
{
    struct bpf_insn insns[] = {
        {.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 2, .src_reg = 1, .off = 16},
        {.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = map},
        {0},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = XDP_PASS},
        {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map},
        {.code = BPF_JMP | BPF_EXIT},
    };
    LIBBPF_OPTS(bpf_prog_load_opts, opts, .prog_flags = BPF_F_XDP_HAS_FRAGS);

    return bpf_prog_load(BPF_PROG_TYPE_XDP, "xsk_test", "GPL", insns,
                         sizeof(insns) / sizeof(insns[0]), &opts);
}

static void side_open(struct side *side, const char *ifname, bool generic)
{
    struct xsk_config config = {.ifname = ifname, .force_generic = generic};
    char err[256] = "";

    side->flags = generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE;
    side->port = xsk_open(&config, err, sizeof(err));
    if (!side->port)
        fail_msg("xsk_open: %s", err);
    side->ifindex = side->port->caps.ifindex;
    side->map = bpf_map_create(BPF_MAP_TYPE_XSKMAP, "xsk_test", 4, 4, XSK_MAX_QUEUES, NULL);
    assert_true(side->map >= 0);
    for (uint32_t i = 0; i < side->port->caps.queues; i++) {
        int fd = xsk_queue_fd(side->port, i);

        assert_true(fd >= 0);
        assert_int_equal(bpf_map_update_elem(side->map, &i, &fd, 0), 0);
    }
    assert_int_equal(xsk_queue_fd(side->port, side->port->caps.queues), -1);
    side->prog = load_redirect(side->map);
    assert_true(side->prog >= 0);
    assert_int_equal(bpf_xdp_attach(side->ifindex, side->prog, side->flags, NULL), 0);
    assert_true(xsk_consistent(side->port));
}

static void side_close(struct side *side)
{
    assert_true(xsk_consistent(side->port));
    assert_int_equal(bpf_xdp_detach(side->ifindex, side->flags, NULL), 0);
    close(side->prog);
    close(side->map);
    port_close(side->port);
}

/* ---- frames ------------------------------------------------------------------------------ */

/** Frame @number of @len bytes: a UDP header to choose a queue by, the number, a pattern. */
static void write_frame(uint8_t *p, uint32_t number, uint32_t len)
{
    static const uint8_t start[HEADER] = {0x02, 0,    0,    0, 0, 1, 0x02, 0, 0, 0, 0,  2,
                                          0x08, 0x00, 0x45, 0, 0, 0, 0,    0, 0, 0, 64, 17,
                                          0,    0,    10,   0, 0, 1, 10,   0, 0, 2};

    memcpy(p, start, HEADER);
    p[16] = (uint8_t)((len - 14) >> 8);
    p[17] = (uint8_t)(len - 14);
    p[34] = (uint8_t)(number >> 2);
    p[35] = (uint8_t)number;
    memcpy(p + HEADER, &number, 4);
    memcpy(p + HEADER + 4, &len, 4);
    for (uint32_t i = HEADER + 8; i < len; i++)
        p[i] = (uint8_t)(number * 31 + i * 7);
}

static uint32_t check_frame(const uint8_t *p, uint32_t len)
{
    uint32_t number, said;

    assert_true(len >= HEADER + 8);
    memcpy(&number, p + HEADER, 4);
    memcpy(&said, p + HEADER + 4, 4);
    assert_int_equal(said, len);
    for (uint32_t i = HEADER + 8; i < len; i++) {
        if (p[i] != (uint8_t)(number * 31 + i * 7))
            fail_msg("frame %u of %u bytes is wrong at %u", number, len, i);
    }
    return number;
}

static uint32_t frame_len(struct sim_rng *rng, uint32_t mtu)
{
    /* A third small, a third full, a third anything. */
    switch (sim_rng_below(rng, 3)) {
    case 0:
        return 60;
    case 1:
        return mtu + 14;
    default:
        return 60 + (uint32_t)sim_rng_below(rng, mtu + 14 - 60);
    }
}

static int open_packet(const char *ifname, bool vnet)
{
    struct sockaddr_ll addr = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    const int size = 64 << 20, on = 1;
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    addr.sll_ifindex = (int)if_nametoindex(ifname);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
    assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)), 0);
    if (vnet)
        assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

/** Every frame that waits goes back as it came.  Returns how many; marks the queues seen. */
static unsigned echo(struct port *port, void *queues_seen[2])
{
    struct port_frame f[64];
    int n = port_rx_burst(port, f, 64);

    for (int i = 0; i < n; i++) {
        uint8_t *out;

        assert_false(f[i].csum_trusted);
        for (int q = 0; q < 2 && queues_seen; q++) {
            if (!queues_seen[q] || queues_seen[q] == f[i].priv) {
                queues_seen[q] = f[i].priv;
                break;
            }
        }
        while (!(out = port_tx_reserve(port)))
            port_tx_flush(port);
        memcpy(out, f[i].data, f[i].len);
        port_tx_commit(port, f[i].len, 0);
    }
    port_rx_release(port, f, n);
    port_tx_flush(port);
    return (unsigned)n;
}

/* ---- echo to the kernel ------------------------------------------------------------------ */

#define WINDOW 200

static void echo_with_packet_socket(unsigned mtu, unsigned queues, bool generic, uint32_t count)
{
    const int64_t deadline = now_ms() + DEADLINE_MS;
    uint32_t sent = 0, got = 0;
    void *queues_seen[2] = {NULL, NULL};
    uint8_t *seen = calloc(count, 1);
    struct port_stats stats;
    struct side side;
    struct sim_rng rng;
    int fd;

    make_veth(mtu, queues);
    side_open(&side, "xskp0", generic);
    assert_int_equal(side.port->caps.mtu, mtu);
    assert_int_equal(side.port->caps.max_frame, mtu + 18);
    assert_int_equal(side.port->caps.queues, queues);
    assert_true(port_link_up(side.port));
    fd = open_packet("xskp1", false);
    sim_rng_seed(&rng, mtu + queues);
    while (got < count) {
        ssize_t len;

        while (sent < count && sent - got < WINDOW) {
            uint32_t size = frame_len(&rng, mtu);

            write_frame(scratch, sent, size);
            if (send(fd, scratch, size, 0) < 0) {
                assert_int_equal(errno, ENOBUFS);
                break;
            }
            sent++;
        }
        echo(side.port, queues_seen);
        while ((len = recv(fd, answer, sizeof(answer), MSG_DONTWAIT)) > 0) {
            uint32_t number = check_frame(answer, (uint32_t)len);

            assert_true(number < count);
            assert_int_equal(seen[number]++, 0);
            got++;
        }
        if (got % 512 == 0)
            assert_true(xsk_consistent(side.port));
        if (now_ms() > deadline)
            fail_msg("%u of %u frames came back", got, count);
    }
    port_get_stats(side.port, &stats);
    assert_int_equal(stats.rx_frames, count);
    assert_int_equal(stats.tx_frames, count);
    assert_int_equal(stats.rx_bytes, stats.tx_bytes);
    assert_int_equal(stats.rx_dropped, 0);
    assert_int_equal(stats.tx_dropped, 0);
    /* In generic mode veth records no queue, and all is on the first. */
    if (queues == 2 && !generic)
        assert_non_null(queues_seen[1]);
    close(fd);
    side_close(&side);
    free(seen);
    drop_veth();
}

static void test_echo_1500(void **state)
{
    echo_with_packet_socket(1500, 1, false, 20000);
}
static void test_echo_1500_two_queues(void **state)
{
    echo_with_packet_socket(1500, 2, false, 20000);
}
static void test_echo_1500_generic(void **state)
{
    echo_with_packet_socket(1500, 2, true, 5000);
}
static void test_echo_9000(void **state)
{
    echo_with_packet_socket(9000, 1, false, 5000);
}
static void test_echo_9000_two_queues(void **state)
{
    echo_with_packet_socket(9000, 2, false, 5000);
}
static void test_echo_9000_generic(void **state)
{
    echo_with_packet_socket(9000, 1, true, 2000);
}
static void test_echo_65535(void **state)
{
    echo_with_packet_socket(65535, 1, false, 1000);
}
/** The largest frame that fits one chunk of either size, and one byte more. */
static void test_echo_around_chunk_size(void **state)
{
    static const unsigned mtus[] = {1774, 1775, 2034, 3822, 3823, 4078, 4079};

    for (unsigned i = 0; i < sizeof(mtus) / sizeof(mtus[0]); i++)
        echo_with_packet_socket(mtus[i], 1, false, 500);
}

/* ---- two ports --------------------------------------------------------------------------- */

static void echo_between_ports(unsigned mtu, unsigned queues, uint32_t count)
{
    const int64_t deadline = now_ms() + DEADLINE_MS;
    uint32_t sent = 0, got = 0;
    struct side near, far;
    struct sim_rng rng;

    make_veth(mtu, queues);
    side_open(&near, "xskp0", false);
    side_open(&far, "xskp1", false);
    sim_rng_seed(&rng, 1);
    while (got < count) {
        struct port_frame f[32];
        int n;

        while (sent < count && sent - got < WINDOW) {
            uint32_t size = frame_len(&rng, mtu);
            uint8_t *out = port_tx_reserve(near.port);

            if (!out)
                break;
            write_frame(out, sent, size);
            port_tx_commit(near.port, size, 0);
            sent++;
        }
        port_tx_flush(near.port);
        echo(far.port, NULL);
        n = port_rx_burst(near.port, f, 32);
        for (int i = 0; i < n; i++)
            assert_int_equal(check_frame(f[i].data, f[i].len), got++); /* one queue: in order */
        port_rx_release(near.port, f, n);
        if (now_ms() > deadline)
            fail_msg("%u of %u frames came back", got, count);
    }
    side_close(&near);
    side_close(&far);
    drop_veth();
}

static void test_two_ports_1500(void **state)
{
    echo_between_ports(1500, 1, 20000);
}
static void test_two_ports_9000(void **state)
{
    echo_between_ports(9000, 2, 5000);
}

/* ---- limits ------------------------------------------------------------------------------ */

/** Nothing flushed: the port runs out of buffers, says so, and recovers. */
static void test_transmit_exhaustion(void **state)
{
    static const unsigned mtus[] = {1500, 9000};

    for (unsigned m = 0; m < 2; m++) {
        const int64_t deadline = now_ms() + DEADLINE_MS;
        unsigned lent = 0, again = 0;
        struct side side;
        int fd;

        make_veth(mtus[m], 1);
        side_open(&side, "xskp0", false);
        fd = open_packet("xskp1", false);
        for (;;) {
            uint8_t *out = port_tx_reserve(side.port);

            if (!out)
                break;
            write_frame(out, lent++, 1000);
            port_tx_commit(side.port, 1000, 0);
        }
        assert_in_range(lent, 1000, 16384);
        assert_null(port_tx_reserve(side.port));
        assert_true(xsk_consistent(side.port));
        while (again < lent) {
            ssize_t len;

            port_tx_flush(side.port);
            while ((len = recv(fd, answer, sizeof(answer), MSG_DONTWAIT)) > 0)
                assert_int_equal(check_frame(answer, (uint32_t)len), again++);
            assert_true(now_ms() < deadline);
        }
        port_tx_flush(side.port);
        /* All are back. */
        for (unsigned i = 0; i < lent; i++) {
            assert_non_null(port_tx_reserve(side.port));
            assert_true(i > 3 || xsk_consistent(side.port));
            port_tx_cancel(side.port);
        }
        close(fd);
        side_close(&side);
        drop_veth();
    }
}

/** Frames held by the target do not come back as somebody else's; what overflows is counted. */
static void test_receive_exhaustion(void **state)
{
    struct port_frame *held = calloc(XSK_FRAMES_PER_QUEUE, sizeof(*held));
    const uint32_t count = XSK_FRAMES_PER_QUEUE + 4000;
    const int64_t deadline = now_ms() + DEADLINE_MS;
    struct port_stats stats;
    struct side side;
    uint32_t n = 0;
    int fd;

    make_veth(1500, 1);
    side_open(&side, "xskp0", false);
    fd = open_packet("xskp1", false);
    for (uint32_t i = 0; i < count; i++) {
        write_frame(scratch, i, 100);
        while (send(fd, scratch, 100, 0) < 0)
            assert_int_equal(errno, ENOBUFS);
        if (i % 64 == 63 && n < XSK_FRAMES_PER_QUEUE)
            n += (uint32_t)port_rx_burst(side.port, held + n, (int)(XSK_FRAMES_PER_QUEUE - n));
    }
    assert_in_range(n, 8192, XSK_FRAMES_PER_QUEUE - 1);
    do {
        assert_true(now_ms() < deadline);
        port_get_stats(side.port, &stats);
    } while (stats.rx_frames + stats.rx_dropped < count);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(check_frame(held[i].data, held[i].len), i);
    assert_true(xsk_consistent(side.port));
    port_rx_release(side.port, held, (int)n);
    assert_true(xsk_consistent(side.port));
    /* And it works as before. */
    write_frame(scratch, 77, 100);
    assert_int_equal(send(fd, scratch, 100, 0), 100);
    while (port_rx_burst(side.port, held, 1) == 0)
        assert_true(now_ms() < deadline);
    assert_int_equal(check_frame(held[0].data, held[0].len), 77);
    port_rx_release(side.port, held, 1);
    free(held);
    close(fd);
    side_close(&side);
    drop_veth();
}

/** More multi-buffer frames than linear buffers: the rest waits in the ring. */
static void test_linear_exhaustion(void **state)
{
    struct port_frame f[300];
    const int64_t deadline = now_ms() + DEADLINE_MS;
    uint32_t got = 0;
    struct side side;
    int fd;

    make_veth(9000, 1);
    side_open(&side, "xskp0", false);
    fd = open_packet("xskp1", false);
    for (uint32_t i = 0; i < 200; i++) {
        write_frame(scratch, i, 9014);
        assert_int_equal(send(fd, scratch, 9014, 0), 9014);
    }
    while (got < 200) {
        int n = 0, more;

        do {
            more = port_rx_burst(side.port, f + n, 300 - n);
            n += more;
        } while (more);
        assert_true(n <= 64);
        assert_true(xsk_consistent(side.port));
        for (int i = 0; i < n; i++)
            assert_int_equal(check_frame(f[i].data, f[i].len), got++);
        port_rx_release(side.port, f, n);
        assert_true(now_ms() < deadline);
    }
    close(fd);
    side_close(&side);
    drop_veth();
}

/** In generic mode the peer's 60 KB super-segments arrive whole. */
static void test_generic_super_segment(void **state)
{
    const uint32_t len = 54 + 60000;
    struct virtio_net_hdr vnet = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                  .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
                                  .hdr_len = 54,
                                  .gso_size = 1460,
                                  .csum_start = 34,
                                  .csum_offset = 16};
    const int64_t deadline = now_ms() + DEADLINE_MS;
    static uint8_t packet[sizeof(vnet) + 54 + 60000];
    uint8_t *frame = packet + sizeof(vnet);
    struct side side;
    uint32_t bytes = 0, largest = 0;
    int fd;

    make_veth(1500, 1);
    side_open(&side, "xskp0", true);
    fd = open_packet("xskp1", true);
    memcpy(packet, &vnet, sizeof(vnet));
    write_frame(frame, 0, len);
    frame[23] = IPPROTO_TCP;
    memset(frame + 34, 0, 20);
    frame[46] = 5 << 4;
    frame[47] = 0x10;
    for (uint32_t i = 54; i < len; i++)
        frame[i] = (uint8_t)(i * 13);
    assert_int_equal(send(fd, packet, sizeof(packet), 0), sizeof(packet));
    while (bytes < 60000) {
        struct port_frame f;

        if (port_rx_burst(side.port, &f, 1)) {
            for (uint32_t i = 54; i < f.len; i++)
                assert_int_equal(f.data[i], (uint8_t)((bytes + i) * 13));
            bytes += f.len - 54;
            largest = f.len > largest ? f.len : largest;
            port_rx_release(side.port, &f, 1);
        }
        assert_true(now_ms() < deadline);
    }
    assert_int_equal(bytes, 60000);
    assert_true(largest > 3840);
    close(fd);
    side_close(&side);
    drop_veth();
}

/* ---- waking up, link state --------------------------------------------------------------- */

static void test_poll_and_link(void **state)
{
    struct pollfd pfd[4];
    int fds[4], fd, n;
    struct side side;
    struct port_frame f;

    make_veth(1500, 2);
    side_open(&side, "xskp0", false);
    fd = open_packet("xskp1", false);
    assert_int_equal(port_poll_fds(side.port, fds, 1), 1);
    n = port_poll_fds(side.port, fds, 4);
    assert_int_equal(n, 2);
    for (int i = 0; i < n; i++)
        pfd[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    assert_int_equal(poll(pfd, 2, 0), 0);
    write_frame(scratch, 5, 100);
    assert_int_equal(send(fd, scratch, 100, 0), 100);
    assert_int_equal(poll(pfd, 2, 5000), 1);
    assert_int_equal(port_rx_burst(side.port, &f, 1), 1);
    port_rx_release(side.port, &f, 1);
    assert_int_equal(poll(pfd, 2, 0), 0);

    assert_true(port_link_up(side.port));
    run("ip link set xskp1 down");
    assert_false(port_link_up(side.port));
    run("ip link set xskp1 up");
    assert_true(port_link_up(side.port));
    run("ip link set xskp0 down");
    assert_false(port_link_up(side.port));
    /* What is sent now waits; nothing hangs, nothing is lost from the accounts. */
    for (unsigned i = 0; i < 10; i++) {
        write_frame(port_tx_reserve(side.port), i, 60);
        port_tx_commit(side.port, 60, 0);
        port_tx_flush(side.port);
    }
    assert_true(xsk_consistent(side.port));
    run("ip link set xskp0 up");
    port_tx_flush(side.port);
    assert_true(xsk_consistent(side.port));
    close(fd);
    side_close(&side);
    drop_veth();
}

/** The interface goes away under the port. */
static void test_interface_removed(void **state)
{
    struct port_frame f[8];
    struct side side;

    make_veth(1500, 1);
    side_open(&side, "xskp0", false);
    drop_veth();
    assert_false(port_link_up(side.port));
    for (unsigned i = 0; i < 100; i++) {
        uint8_t *out = port_tx_reserve(side.port);

        if (out) {
            write_frame(out, i, 60);
            port_tx_commit(side.port, 60, 0);
        }
        port_tx_flush(side.port);
        assert_int_equal(port_rx_burst(side.port, f, 8), 0);
    }
    assert_true(xsk_consistent(side.port));
    close(side.prog);
    close(side.map);
    port_close(side.port);
}

/* ---- errors ------------------------------------------------------------------------------ */

static void expect_error(const char *ifname, const char *part)
{
    struct xsk_config config = {.ifname = ifname};
    char err[256] = "";

    assert_null(xsk_open(&config, err, sizeof(err)));
    if (!strstr(err, part) || strchr(err, '\n'))
        fail_msg("the error is: %s", err);
}

static void test_errors(void **state)
{
    char tiny[8] = "";
    struct xsk_config none = {.ifname = "xsk-none"};
    struct side side;

    expect_error("xsk-none", "no such interface");
    expect_error("", "no such interface");
    expect_error("a-name-that-is-too-long-for-linux", "no such interface");
    run("ip link set lo up");
    expect_error("lo", "not an Ethernet interface");
    assert_null(xsk_open(&none, tiny, sizeof(tiny)));
    assert_int_equal(strlen(tiny), sizeof(tiny) - 1);

    make_veth(1500, 1);
    side_open(&side, "xskp0", false);
    expect_error("xskp0", "taken by another AF_XDP program");
    side_close(&side);
    /* Free again. */
    side_open(&side, "xskp0", false);
    side_close(&side);
    drop_veth();
}

/** A second opener waits for the first one's death. */
static void test_taken_then_free(void **state)
{
    struct side side;
    int ready[2], status;
    char byte;
    pid_t pid;

    make_veth(1500, 1);
    assert_int_equal(pipe(ready), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct xsk_config config = {.ifname = "xskp0"};
        char err[256];
        bool ok = xsk_open(&config, err, sizeof(err)) != NULL;

        (void)!write(ready[1], "x", 1);
        usleep(300000);
        _exit(ok ? 0 : 1); /* dies without closing */
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    side_open(&side, "xskp0", false);
    side_close(&side);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(ready[0]);
    close(ready[1]);
    drop_veth();
}

static void test_no_privilege(void **state)
{
    int status;
    pid_t pid;

    make_veth(1500, 1);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct xsk_config config = {.ifname = "xskp0"};
        char err[256] = "";

        if (setuid(65534) < 0)
            _exit(2);
        _exit(!xsk_open(&config, err, sizeof(err)) && strstr(err, "privilege") ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    drop_veth();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_echo_1500, drop_veth_teardown),
        cmocka_unit_test_teardown(test_echo_1500_two_queues, drop_veth_teardown),
        cmocka_unit_test_teardown(test_echo_1500_generic, drop_veth_teardown),
        cmocka_unit_test_teardown(test_echo_9000, drop_veth_teardown),
        cmocka_unit_test_teardown(test_echo_9000_two_queues, drop_veth_teardown),
        cmocka_unit_test_teardown(test_echo_9000_generic, drop_veth_teardown),
        cmocka_unit_test_teardown(test_echo_65535, drop_veth_teardown),
        cmocka_unit_test_teardown(test_echo_around_chunk_size, drop_veth_teardown),
        cmocka_unit_test_teardown(test_two_ports_1500, drop_veth_teardown),
        cmocka_unit_test_teardown(test_two_ports_9000, drop_veth_teardown),
        cmocka_unit_test_teardown(test_transmit_exhaustion, drop_veth_teardown),
        cmocka_unit_test_teardown(test_receive_exhaustion, drop_veth_teardown),
        cmocka_unit_test_teardown(test_linear_exhaustion, drop_veth_teardown),
        cmocka_unit_test_teardown(test_generic_super_segment, drop_veth_teardown),
        cmocka_unit_test_teardown(test_poll_and_link, drop_veth_teardown),
        cmocka_unit_test_teardown(test_interface_removed, drop_veth_teardown),
        cmocka_unit_test_teardown(test_errors, drop_veth_teardown),
        cmocka_unit_test_teardown(test_taken_then_free, drop_veth_teardown),
        cmocka_unit_test_teardown(test_no_privilege, drop_veth_teardown),
    };

    return cmocka_run_group_tests_name("xsk", tests, setup, NULL);
}
