/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tools of the host adapter, each on its own, against the real kernel: attaching and cleaning
 * up, what is steered and guarded and what is not, barrier, routes and neighbors, connection
 * tracking, the self-test.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack.h>
#include "host/barrier.h"
#include "host/conntrack.h"
#include "host/handoff.h"
#include "host/route.h"
#include "host/selftest.h"
#include "host/steer.h"
#include "host/tc.h"
#include "lab.h"
#include "port/xsk.h"

#define ETHERTYPE_VLAN 0x8100

static int ns_a, ns_b, ifindex, peer_ifindex;
static uint8_t mac_a[6], mac_b[6];
static char err[256];

static struct steer *make_steer(uint32_t max_flows)
{
    const struct steer_config config = {max_flows};
    struct steer *s;

    if (steer_create(&s, &config, err, sizeof(err)))
        LAB_FAIL("%s", err);
    return s;
}

static void attach(struct steer *s, bool generic)
{
    bool native;

    if (steer_attach(s, ifindex, generic, &native, err, sizeof(err)))
        LAB_FAIL("%s", err);
    LAB_CHECK(native == !generic);
}

static void expect_filters(unsigned ours, unsigned others)
{
    unsigned found_ours, found_others;

    LAB_ZERO(tc_scan(ifindex, false, &found_ours, &found_others));
    if (found_ours != ours || found_others != others)
        LAB_FAIL("%u filters of ours and %u others, expected %u and %u", found_ours, found_others,
                 ours, others);
}

/* ------------------------------------------------------------------------------------------------
 * Attaching
 */

static int attach_and_die(void *arg)
{
    attach(make_steer(0), false);
    raise(SIGKILL);
    return 0;
}

static void attaching(void)
{
    struct steer *s = make_steer(0), *other = make_steer(0);
    bool native;

    LAB_CHECK(steer_attach(s, 99999, false, &native, err, sizeof(err)) == -ENODEV);
    LAB_CHECK(strstr(err, "99999"));

    attach(s, false);
    expect_filters(2, 0);
    LAB_CHECK(steer_attach(s, ifindex, false, &native, err, sizeof(err)) == -EALREADY);
    /* Another program's XDP is left alone, and so are the filters that belong to it. */
    LAB_CHECK(steer_attach(other, ifindex, false, &native, err, sizeof(err)) == -EBUSY);
    LAB_CHECK(strstr(err, "va has another XDP program"));
    expect_filters(2, 0);
    LAB_ZERO(steer_detach(s, ifindex));
    LAB_CHECK(steer_detach(s, ifindex) == -ENODEV);
    LAB_CHECK(lab_run(ns_a, "! tc qdisc show dev va | grep -q clsact") == 0);

    /* Other people's filters stay. */
    lab_must(ns_a, "tc qdisc add dev va clsact && "
                   "tc filter add dev va ingress prio 7 bpf bytecode '1,6 0 0 0'");
    attach(s, false);
    expect_filters(2, 1);
    LAB_ZERO(steer_detach(s, ifindex));
    expect_filters(0, 1);
    lab_must(ns_a, "tc qdisc show dev va | grep -q clsact");
    lab_must(ns_a, "tc qdisc del dev va clsact");

    /* What a killed process left is removed by the next, and nothing doubles. */
    LAB_CHECK(lab_wait(lab_fork(ns_a, attach_and_die, NULL)) == 128 + SIGKILL);
    expect_filters(2, 0);
    attach(s, false);
    expect_filters(2, 0);
    LAB_ZERO(steer_detach(s, ifindex));
    expect_filters(0, 0);
    LAB_CHECK(lab_run(ns_a, "! tc qdisc show dev va | grep -q clsact") == 0);

    attach(s, true);
    steer_destroy(s); /* detaches */
    expect_filters(0, 0);
    attach(other, false);
    steer_destroy(other);
}

/* ------------------------------------------------------------------------------------------------
 * What the programs see
 */

static struct flow_key flow(unsigned family, uint16_t port)
{
    struct flow_key key = {.family = family};

    if (family == 4) {
        inet_pton(AF_INET, "10.99.0.1", key.local_addr);
        inet_pton(AF_INET, "10.99.0.2", key.remote_addr);
    } else {
        inet_pton(AF_INET6, "fd00:63::1", key.local_addr);
        inet_pton(AF_INET6, "fd00:63::2", key.remote_addr);
    }
    key.local_port = htons(port);
    key.remote_port = htons(port + 1);
    return key;
}

/* A segment of the flow as its peer would send it. */
static size_t build(uint8_t *frame, size_t room, const struct flow_key *key, bool tagged,
                    uint32_t payload)
{
    static uint8_t data[9000];
    struct wire_route route = {.ttl = 64, .tagged = tagged, .tci = 5};
    struct tcp_out out = {.seq = 1, .ack = 1, .flags = TCP_ACK, .window = 100};
    size_t len;

    memcpy(route.key.local_addr, key->remote_addr, 16);
    memcpy(route.key.remote_addr, key->local_addr, 16);
    route.key.local_port = key->remote_port;
    route.key.remote_port = key->local_port;
    route.key.family = key->family;
    memcpy(route.src_mac, mac_b, 6);
    memcpy(route.dst_mac, mac_a, 6);
    out.span[0] = data;
    out.span_len[0] = out.len = payload;
    len = wire_build(frame, room, &route, &out, false);
    LAB_CHECK(len > 0);
    return len;
}

static void put_on_wire_of(int from, const uint8_t *frame, size_t len)
{
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = from};
    int fd;

    lab_enter(ns_b);
    fd = socket(AF_PACKET, SOCK_RAW, 0);
    LAB_CHECK(fd >= 0);
    LAB_CHECK(sendto(fd, frame, len, 0, (struct sockaddr *)&to, sizeof(to)) == (ssize_t)len);
    close(fd);
    lab_enter(ns_a);
    lab_sleep_ms(5);
}

static void put_on_wire(const uint8_t *frame, size_t len)
{
    put_on_wire_of(peer_ifindex, frame, len);
}

/* Frames seen by XDP since the last call: steered (no socket is registered) and passed. */
static void expect_seen(struct steer *s, unsigned steered, unsigned passed)
{
    static struct steer_counters last;
    struct steer_counters now;

    steer_get_counters(s, &now);
    if (now.no_queue_dropped - last.no_queue_dropped != steered ||
        now.passed - last.passed != passed)
        LAB_FAIL("%llu steered and %llu passed, expected %u and %u",
                 (unsigned long long)(now.no_queue_dropped - last.no_queue_dropped),
                 (unsigned long long)(now.passed - last.passed), steered, passed);
    last = now;
}

/* Plain segments are steered, all others are the kernel's. */
/* rows: C325 C326 */
static void seeing(void)
{
    const struct steer_mode steered = {.steer = true, .guard_out = true};
    struct flow_key key[2] = {flow(4, 7100), flow(6, 7100)}, other = flow(4, 7200);
    struct steer *s = make_steer(0);
    uint8_t frame[256], changed[256];
    size_t len;

    attach(s, false);
    LAB_ZERO(steer_set(s, key, 2, steered));
    len = build(frame, sizeof(frame), &other, false, 10);
    put_on_wire(frame, len);
    expect_seen(s, 0, 1);
    for (int i = 0; i < 2; i++) {
        len = build(frame, sizeof(frame), &key[i], false, 10);
        put_on_wire(frame, len);
        expect_seen(s, 1, 0);
        len = build(frame, sizeof(frame), &key[i], true, 10); /* an inline tag */
        put_on_wire(frame, len);
        expect_seen(s, 1, 0);
    }

    /* IPv4 options: four no-operations between the headers. */
    len = build(frame, sizeof(frame), &key[0], false, 10);
    memcpy(changed, frame, 34);
    changed[14] = 0x46;
    memset(changed + 34, 1, 4);
    memcpy(changed + 38, frame + 34, len - 34);
    put_on_wire(changed, len + 4);
    expect_seen(s, 0, 0);
    /* Fragments: more of them to come; not the first one. */
    memcpy(changed, frame, len);
    changed[20] = 0x20;
    put_on_wire(changed, len);
    changed[20] = 0;
    changed[21] = 8;
    put_on_wire(changed, len);
    expect_seen(s, 0, 0);
    /* An IPv6 extension header: destination options. */
    len = build(frame, sizeof(frame), &key[1], false, 10);
    memcpy(changed, frame, 54);
    changed[20] = 60;
    memcpy(changed + 54, "\x06\x00\x01\x04\x00\x00\x00\x00", 8);
    memcpy(changed + 62, frame + 54, len - 54);
    put_on_wire(changed, len + 8);
    expect_seen(s, 0, 0);
    /* Another protocol; too short for TCP. */
    memcpy(changed, frame, len);
    changed[20] = 17;
    put_on_wire(changed, len);
    put_on_wire(frame, 60);
    expect_seen(s, 0, 0);

    LAB_ZERO(steer_delete(s, key, 2));
    LAB_ZERO(steer_delete(s, key, 2)); /* gone already is no error */
    len = build(frame, sizeof(frame), &key[0], false, 10);
    put_on_wire(frame, len);
    expect_seen(s, 0, 1);
    steer_destroy(s);
}

static void guarding(void)
{
    struct lab_witness *witness = lab_witness(ns_b, "vb");
    struct flow_key key = flow(4, 7300);
    struct steer *s = make_steer(0);
    struct steer_counters counters;
    uint8_t frame[9216];
    uint64_t reinjected;
    size_t len = build(frame, sizeof(frame), &key, false, 10);

    attach(s, false);
    /* Nobody has this connection: the kernel answers with a reset, unless it is kept from it. */
    put_on_wire(frame, len);
    LAB_CHECK(lab_witness_resets(witness) == 1);
    LAB_ZERO(steer_set(s, &key, 1, (struct steer_mode){.guard_out = true}));
    put_on_wire(frame, len);
    LAB_CHECK(lab_witness_resets(witness) == 1);
    steer_get_counters(s, &counters);
    LAB_CHECK(counters.rst_suppressed == 1);

    /* Past XDP: the ingress guard. */
    LAB_ZERO(steer_set(s, &key, 1, (struct steer_mode){.steer = true}));
    LAB_ZERO(steer_reinject(s, ifindex, frame, len));
    lab_sleep_ms(2);
    LAB_CHECK(lab_witness_resets(witness) == 2);
    LAB_ZERO(steer_set(s, &key, 1,
                       (struct steer_mode){.steer = true, .guard_in = true, .guard_out = true}));
    LAB_ZERO(steer_reinject(s, ifindex, frame, len));
    lab_sleep_ms(2);
    steer_get_counters(s, &counters);
    LAB_CHECK(counters.late == 2 && counters.late_dropped == 1 && counters.reinjected == 2);
    LAB_CHECK(counters.rst_suppressed == 1 && lab_witness_resets(witness) == 2);

    LAB_CHECK(steer_reinject(s, 99999, frame, len) < 0);
    /* Longer than one page takes: three slices. */
    steer_get_counters(s, &counters);
    reinjected = counters.reinjected;
    len = build(frame, sizeof(frame), &key, false, 9000);
    LAB_ZERO(steer_reinject(s, ifindex, frame, len));
    steer_get_counters(s, &counters);
    LAB_CHECK(counters.reinjected == reinjected + 3);
    frame[20] ^= 1; /* not even a sound packet */
    LAB_CHECK(steer_reinject(s, ifindex, frame, len) == -EMSGSIZE);
    steer_destroy(s);
    lab_witness_end(witness);
}

static unsigned received(struct port *port)
{
    struct port_frame frames[16];
    int n = port_rx_burst(port, frames, 16);

    port_rx_release(port, frames, n);
    return n;
}

/* One map of flows, two interfaces: a frame goes to the sockets of the one it came in by. */
static void two_interfaces(void)
{
    const struct flow_key key = flow(4, 7350);
    struct steer *s = make_steer(0);
    struct port *port[2];
    uint8_t frame[256];
    int from[2] = {peer_ifindex}, to[2] = {ifindex};
    size_t len;

    lab_veth(ns_a, "va2", ns_b, "vb2", 2, 98);
    lab_enter(ns_b);
    from[1] = if_nametoindex("vb2");
    lab_enter(ns_a);
    to[1] = if_nametoindex("va2");
    for (int i = 0; i < 2; i++) {
        bool native;

        LAB_ZERO(steer_attach(s, to[i], i == 1, &native, err, sizeof(err)));
        port[i] =
            xsk_open(&(struct xsk_config){.ifname = i ? "va2" : "va", .force_generic = i == 1}, err,
                     sizeof(err));
        if (!port[i])
            LAB_FAIL("%s", err);
        LAB_CHECK(port[i]->caps.queues == 1 + i);
        for (unsigned q = 0; q < port[i]->caps.queues; q++)
            LAB_ZERO(steer_set_queue(s, to[i], q, xsk_queue_fd(port[i], q)));
    }
    LAB_CHECK(steer_set_queue(s, to[0], 64, xsk_queue_fd(port[0], 0)) == -ERANGE);
    LAB_CHECK(steer_set_queue(s, 99999, 0, xsk_queue_fd(port[0], 0)) == -ENODEV);
    LAB_ZERO(steer_set(s, &key, 1, (struct steer_mode){.steer = true}));
    len = build(frame, sizeof(frame), &key, false, 10);
    for (int i = 0; i < 2; i++) {
        put_on_wire_of(from[i], frame, len);
        LAB_CHECK(received(port[i]) == 1);
        LAB_CHECK(received(port[!i]) == 0);
    }
    /* The row of an interface that is gone is used again, and has none of its sockets. */
    LAB_ZERO(steer_detach(s, to[0]));
    port_close(port[0]);
    attach(s, false);
    put_on_wire_of(from[0], frame, len);
    LAB_CHECK(received(port[1]) == 0);
    put_on_wire_of(from[1], frame, len);
    LAB_CHECK(received(port[1]) == 1);
    steer_destroy(s);
    port_close(port[1]);
    lab_must(ns_a, "ip link del va2");
}

static void full_table(void)
{
    const struct steer_mode steered = {.steer = true};
    struct steer *s = make_steer(8);
    struct flow_key keys[16];
    struct tcp_snapshot snapshot;

    for (int i = 0; i < 16; i++)
        keys[i] = flow(4, 7400 + i);
    LAB_ZERO(steer_set(s, keys, 8, steered));
    LAB_ZERO(steer_set(s, keys, 8, steered)); /* again: no new entries */
    LAB_CHECK(steer_set(s, keys, 16, steered) == -E2BIG);
    LAB_ZERO(steer_delete(s, keys, 16));
    LAB_ZERO(steer_set(s, keys + 8, 8, steered));
    LAB_CHECK(steer_snapshot(s, &keys[0], &snapshot) == -ENOENT);
    steer_destroy(s);
}

/* ------------------------------------------------------------------------------------------------
 * Barrier
 */

static void barriers(void)
{
    struct steer *s = make_steer(0);
    struct barrier *b;
    uint64_t start, total = 0;

    if (barrier_create(&b, err, sizeof(err)))
        LAB_FAIL("%s", err);
    LAB_ZERO(barrier_prove(b, s));
    for (int i = 0; i < 100; i++) {
        start = lab_now_ns();
        LAB_ZERO(barrier_wait(b));
        total += lab_now_ns() - start;
    }
    printf("  %s: %.1f us at start, %.1f us on average\n", barrier_method_name(barrier_method(b)),
           barrier_cost_ns(b) / 1e3, total / 1e5);
    /* Nothing of it is to be seen. */
    LAB_CHECK(lab_run(ns_a, "! ip link show | grep -q barrier") == 0);
    barrier_destroy(b);
    steer_destroy(s);
}

/* ------------------------------------------------------------------------------------------------
 * Routes and neighbors
 */

static struct {
    unsigned neighbor, gone, route, link, down;
    struct route_event last;
} events;

static void on_event(void *arg, const struct route_event *event)
{
    switch (event->change) {
    case ROUTE_NEIGHBOR:
        events.neighbor++;
        break;
    case ROUTE_NEIGHBOR_GONE:
        events.gone++;
        break;
    case ROUTE_ROUTE:
        events.route++;
        break;
    case ROUTE_LINK:
        events.link++;
        events.down += !event->link_up;
        break;
    }
    events.last = *event;
}

static void dispatch(struct route_table *t)
{
    memset(&events, 0, sizeof(events));
    LAB_ZERO(route_dispatch(t, on_event, NULL));
}

static struct flow_key towards(const char *remote)
{
    struct flow_key key = flow(strchr(remote, ':') ? 6 : 4, 7500);

    LAB_CHECK(inet_pton(key.family == 4 ? AF_INET : AF_INET6, remote, key.remote_addr) == 1);
    return key;
}

static int look_up(struct route_table *t, const char *remote, struct route_entry *entry)
{
    struct flow_key key = towards(remote);
    int error, tries = 0;

    /* The first question may find the neighbor unresolved. */
    while ((error = route_lookup(t, &key, entry)) == -EAGAIN && tries++ < 200)
        lab_sleep_ms(10);
    return error;
}

static void expect_route(struct route_table *t, const char *remote, const char *hop, uint32_t mtu)
{
    struct route_entry entry;
    uint8_t nexthop[16] = {0};
    int error = look_up(t, remote, &entry);

    if (error)
        LAB_FAIL("route to %s: %s", remote, strerror(-error));
    inet_pton(strchr(hop, ':') ? AF_INET6 : AF_INET, hop, nexthop);
    LAB_CHECK(entry.ifindex == ifindex && entry.family == (strchr(hop, ':') ? 6 : 4));
    LAB_CHECK(!memcmp(entry.nexthop, nexthop, 16));
    LAB_CHECK(!memcmp(entry.mac, mac_b, 6) && !memcmp(entry.src_mac, mac_a, 6));
    LAB_CHECK(entry.mtu == mtu);
}

static void expect_no_route(struct route_table *t, const char *remote, int expected)
{
    struct route_entry entry;
    int error = look_up(t, remote, &entry);

    if (error != expected)
        LAB_FAIL("route to %s: %s, expected %s", remote, strerror(-error), strerror(-expected));
}

static void routes(void)
{
    static const uint8_t new_mac[6] = {2, 0, 0, 0, 0, 9};
    struct flow_key key = towards("10.99.0.2");
    struct route_entry entry;
    struct route_table *t;

    lab_must(ns_a, "ip neigh flush dev va && ip -6 neigh flush dev va");
    if (route_open(&t, err, sizeof(err)))
        LAB_FAIL("%s", err);
    LAB_CHECK(route_lookup(t, &key, &entry) == -EAGAIN);
    expect_route(t, "10.99.0.2", "10.99.0.2", 1500);
    expect_route(t, "fd00:63::2", "fd00:63::2", 1500);
    lab_must(ns_a, "ip route add 10.200.0.0/16 via 10.99.0.2 mtu 1400 && "
                   "ip route add 10.201.0.0/16 via inet6 fd00:63::2 && "
                   "ip -6 route add fd01::/64 via fd00:63::2 mtu 1300 && "
                   "ip route add blackhole 10.202.0.0/16 && "
                   "ip route add prohibit 10.203.0.0/16 && "
                   "ip route add unreachable 10.204.0.0/16 && "
                   "ip route add 10.205.0.0/16 nexthop via 10.99.0.2 nexthop via 10.99.0.3");
    expect_route(t, "10.200.1.1", "10.99.0.2", 1400);
    expect_route(t, "10.201.1.1", "fd00:63::2", 1500);
    expect_route(t, "fd01::1", "fd00:63::2", 1300);
    expect_no_route(t, "10.202.1.1", -EOPNOTSUPP);
    expect_no_route(t, "10.203.1.1", -EOPNOTSUPP);
    expect_no_route(t, "10.204.1.1", -EHOSTUNREACH);
    expect_no_route(t, "10.205.1.1", -EOPNOTSUPP);
    expect_no_route(t, "10.99.0.1", -EOPNOTSUPP);
    expect_no_route(t, "192.0.2.1", -EHOSTUNREACH);
    expect_no_route(t, "2001:db8::1", -EHOSTUNREACH);

    /* Nobody answers there. */
    key = towards("10.99.0.77");
    LAB_CHECK(route_lookup(t, &key, &entry) == -EAGAIN);

    /* The kernel is told that the next hop is alive. */
    lab_sleep_ms(200);
    LAB_ZERO(look_up(t, "10.99.0.2", &entry));
    LAB_CHECK(entry.confirmed_ms >= 150);
    LAB_ZERO(route_confirm(t, &entry));
    LAB_ZERO(look_up(t, "10.99.0.2", &entry));
    LAB_CHECK(entry.confirmed_ms < 100);
    LAB_ZERO(look_up(t, "fd00:63::2", &entry));
    LAB_ZERO(route_confirm(t, &entry));
    LAB_ZERO(look_up(t, "fd00:63::2", &entry));
    LAB_CHECK(entry.confirmed_ms < 100);

    /* Changes. */
    dispatch(t);
    lab_must(ns_a, "ip neigh replace 10.99.0.2 lladdr 02:00:00:00:00:09 dev va");
    dispatch(t);
    LAB_CHECK(events.neighbor == 1 && !memcmp(events.last.mac, new_mac, 6));
    LAB_CHECK(events.last.ifindex == ifindex && events.last.family == 4 &&
              !memcmp(events.last.address, towards("10.99.0.2").remote_addr, 16));
    lab_must(ns_a, "ip neigh del 10.99.0.2 dev va");
    dispatch(t);
    LAB_CHECK(events.gone >= 1 && events.neighbor == 0);
    lab_must(ns_a, "ip route add 10.206.0.0/16 via 10.99.0.2");
    dispatch(t);
    LAB_CHECK(events.route == 1 && events.last.ifindex == ifindex);
    lab_must(ns_a, "ip rule add pref 1000 from 10.99.0.55 lookup main");
    dispatch(t);
    LAB_CHECK(events.route == 1);
    lab_must(ns_a, "ip link set va mtu 1450");
    dispatch(t);
    LAB_CHECK(events.link >= 1 && events.last.mtu == 1450);
    expect_route(t, "10.99.0.2", "10.99.0.2", 1450);
    dispatch(t);
    lab_must(ns_b, "ip link set vb down");
    /* The kernel takes its time to notice a lost carrier. */
    for (int tries = 0; !events.down && tries < 300; tries++) {
        lab_sleep_ms(10);
        dispatch(t);
    }
    LAB_CHECK(events.down >= 1);
    lab_must(ns_b, "ip link set vb up");
    lab_must(ns_a, "ip link set va mtu 1500");
    route_close(t);
}

/* ------------------------------------------------------------------------------------------------
 * Connection tracking
 */

static int see_entry(enum nf_conntrack_msg_type type, struct nf_conntrack *entry, void *data)
{
    const struct flow_key *key = data;

    if (nfct_get_attr_u16(entry, ATTR_PORT_DST) != key->local_port ||
        nfct_get_attr_u16(entry, ATTR_PORT_SRC) != key->remote_port)
        return NFCT_CB_CONTINUE;
    LAB_CHECK(nfct_get_attr_u8(entry, ATTR_TCP_FLAGS_ORIG) & IP_CT_TCP_FLAG_BE_LIBERAL);
    LAB_CHECK(nfct_get_attr_u8(entry, ATTR_TCP_FLAGS_REPL) & IP_CT_TCP_FLAG_BE_LIBERAL);
    return NFCT_CB_STOP;
}

static void tracking(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(7600)};
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(7600)};
    struct nfct_handle *handle;
    struct conntrack *ct;
    struct flow_key key, reversed;
    uint32_t family = AF_INET;
    int listener, ours, peer, error = conntrack_open(&ct);

    if (error == -EPROTONOSUPPORT) {
        printf("  this kernel tracks no connections\n");
        return;
    }
    LAB_ZERO(error);
    key = flow(4, 7650);
    LAB_CHECK(conntrack_make_liberal(ct, &key) == -ENOENT);
    key = flow(6, 7650);
    LAB_CHECK(conntrack_make_liberal(ct, &key) == -ENOENT);

    lab_must(ns_a, "nft add table inet lab && nft add chain inet lab input "
                   "'{ type filter hook input priority 0; }' && "
                   "nft add rule inet lab input ct state invalid counter drop");
    inet_pton(AF_INET, "10.99.0.1", &to.sin_addr);
    listener = socket(AF_INET6, SOCK_STREAM, 0);
    LAB_ZERO(bind(listener, (struct sockaddr *)&any, sizeof(any)));
    LAB_ZERO(listen(listener, 1));
    lab_enter(ns_b);
    peer = socket(AF_INET, SOCK_STREAM, 0);
    LAB_ZERO(connect(peer, (struct sockaddr *)&to, sizeof(to)));
    lab_enter(ns_a);
    ours = accept(listener, NULL, NULL);
    LAB_ZERO(handoff_identify(ours, &key));
    LAB_CHECK(key.family == 4); /* v4-mapped */
    LAB_ZERO(conntrack_make_liberal(ct, &key));
    handle = nfct_open(CONNTRACK, 0);
    LAB_CHECK(handle);
    nfct_callback_register(handle, NFCT_T_ALL, see_entry, &key);
    LAB_ZERO(nfct_query(handle, NFCT_Q_DUMP, &family));
    nfct_close(handle);

    /* As the one who connected sees it: the same entry, by its other tuple. */
    reversed = key;
    memcpy(reversed.local_addr, key.remote_addr, 16);
    memcpy(reversed.remote_addr, key.local_addr, 16);
    reversed.local_port = key.remote_port;
    reversed.remote_port = key.local_port;
    LAB_ZERO(conntrack_make_liberal(ct, &reversed));
    conntrack_close(ct);
    close(listener);
    close(ours);
    close(peer);
    lab_must(ns_a, "nft delete table inet lab");
}

/* ------------------------------------------------------------------------------------------------
 */

static void self_test(void)
{
    struct selftest_check checks[SELFTEST_MAX_CHECKS];
    struct steer *s = make_steer(0);
    int n = selftest_run(s, checks), failed = 0;

    for (int i = 0; i < n; i++)
        if (!checks[i].passed) {
            printf("  FAILED: %s: %s\n", checks[i].name, checks[i].detail);
            failed++;
        }
    printf("  %d checks\n", n);
    LAB_CHECK(n > 25 && n < SELFTEST_MAX_CHECKS && !failed);
    steer_destroy(s);
}

static int mac_of(int ns, const char *name, uint8_t mac[6])
{
    char path[96], text[32] = "";
    FILE *pipe;

    snprintf(path, sizeof(path), "ip -n %s -br link show dev %s | awk '{print $3}'",
             lab_ns_name(ns), name);
    pipe = popen(path, "r");
    LAB_CHECK(pipe && fgets(text, sizeof(text), pipe));
    pclose(pipe);
    LAB_CHECK(sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3],
                     &mac[4], &mac[5]) == 6);
    lab_enter(ns);
    return if_nametoindex(name);
}

int main(void)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {
        {"attaching", attaching},           {"what is steered", seeing}, {"guards", guarding},
        {"two interfaces", two_interfaces}, {"full table", full_table},  {"barrier", barriers},
        {"routes and neighbors", routes},   {"conntrack", tracking},     {"self-test", self_test},
    };

    lab_init("host", 120);
    ns_a = lab_ns("a");
    ns_b = lab_ns("b");
    lab_veth(ns_a, "va", ns_b, "vb", 1, 99);
    peer_ifindex = mac_of(ns_b, "vb", mac_b);
    ifindex = mac_of(ns_a, "va", mac_a);
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        printf("%s\n", tests[i].name);
        tests[i].run();
    }
    puts("passed");
    return 0;
}
