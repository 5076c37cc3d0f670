/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * The kernel's side of the hand-off.
 *
 * chimney_steer, chimney_frags  XDP: frames of a steered flow go to the AF_XDP socket of their
 * queue, all others pass.  Once a flow is steered there is no way back to pass: a frame that finds
 * no socket is dropped and TCP sends it again. chimney_in     tc ingress, a guard: drops what was
 * already past XDP when its flow was steered (held by GRO, queued by RPS). chimney_out    tc
 * egress, a guard: drops RSTs the kernel would send for a flow it no longer has. snapshot test-run
 * only: reads a TCP socket as the kernel has it. reinject       test-run only: lets a frame pass
 * into the stack. spin           test-run only: stays inside for a while, to prove what a barrier
 * waits for.
 *
 * All of them look at plain TCP only: one inline 802.1Q tag at most, no IPv4 options, no IPv6
 * extension headers, no fragments.  Everything else is the kernel's.  The tc programs see a tag in
 * the packet's metadata as no tag at all; the VLAN is not part of the key.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "bpf/kernel.h"
#include "bpf/layout.h"
#include "host/steer.h"

#define IPPROTO_TCP 6
#define IP_FRAGMENT 0x3fff /* more fragments, or an offset */
#define TCP_ESTABLISHED 1

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, STEER_MAX_FLOWS);
    __type(key, struct flow_key);
    __type(value, struct flow_mode);
} flows SEC(".maps");

/* Interface index to row of the socket map. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, STEER_MAX_IFACES);
    __type(key, __u32);
    __type(value, __u32);
} ifaces SEC(".maps");

/* Row * STEER_QUEUES + receive queue. */
struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, STEER_MAX_IFACES *STEER_QUEUES);
    __type(key, __u32);
    __type(value, __u32);
} sockets SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, COUNT_NR);
    __type(key, __u32);
    __type(value, __u64);
} counters SEC(".maps");

/* 1 while the spin program runs. */
volatile __u32 spinning;

extern int CONFIG_HZ __kconfig __weak;

static __always_inline void count(__u32 index, __u64 amount)
{
    __u64 *value = bpf_map_lookup_elem(&counters, &index);

    if (value)
        *value += amount;
}

struct vlan_tag {
    __be16 tci;
    __be16 proto;
};

/* What the parser may look at: Ethernet, one tag, IPv6, TCP. */
#define HEADERS                                                                                    \
    (sizeof(struct ethhdr) + sizeof(struct vlan_tag) + sizeof(struct ipv6hdr) +                    \
     sizeof(struct tcphdr))

/*
 * Fills in @key from a frame; @outgoing: the sender is local.  NULL: not a TCP segment of the plain
 * kind.
 */
static __always_inline const struct tcphdr *parse(void *data, void *end, bool outgoing,
                                                  struct flow_key *key)
{
    struct ethhdr *eth = data;
    void *network = eth + 1;
    const struct tcphdr *tcp;
    __be16 proto;

    if (network > end)
        return NULL;
    proto = eth->h_proto;
    if (proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD)) {
        struct vlan_tag *tag = network;

        network = tag + 1;
        if (network > end)
            return NULL;
        proto = tag->proto;
    }
    __builtin_memset(key, 0, sizeof(*key));
    if (proto == bpf_htons(ETH_P_IP)) {
        struct iphdr *ip = network;

        tcp = (void *)(ip + 1);
        if ((void *)(tcp + 1) > end || ip->ihl != 5 || ip->protocol != IPPROTO_TCP ||
            (ip->frag_off & bpf_htons(IP_FRAGMENT)))
            return NULL;
        __builtin_memcpy(key->local_addr, outgoing ? &ip->saddr : &ip->daddr, 4);
        __builtin_memcpy(key->remote_addr, outgoing ? &ip->daddr : &ip->saddr, 4);
        key->family = 4;
    } else if (proto == bpf_htons(ETH_P_IPV6)) {
        struct ipv6hdr *ip = network;

        tcp = (void *)(ip + 1);
        if ((void *)(tcp + 1) > end || ip->nexthdr != IPPROTO_TCP)
            return NULL;
        __builtin_memcpy(key->local_addr, outgoing ? &ip->saddr : &ip->daddr, 16);
        __builtin_memcpy(key->remote_addr, outgoing ? &ip->daddr : &ip->saddr, 16);
        key->family = 6;
    } else {
        return NULL;
    }
    key->local_port = outgoing ? tcp->source : tcp->dest;
    key->remote_port = outgoing ? tcp->dest : tcp->source;
    return tcp;
}

static __always_inline int steer(struct xdp_md *ctx, __u64 length)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    __u32 ifindex = ctx->ingress_ifindex, queue = ctx->rx_queue_index, *row;
    struct flow_mode *mode;
    struct flow_key key;

    if (!parse(data, end, false, &key))
        return XDP_PASS;
    mode = bpf_map_lookup_elem(&flows, &key);
    if (!mode || !mode->steer) {
        count(COUNT_PASSED, 1);
        return XDP_PASS;
    }
    row = bpf_map_lookup_elem(&ifaces, &ifindex);
    if (!row || queue >= STEER_QUEUES ||
        bpf_redirect_map(&sockets, *row * STEER_QUEUES + queue, XDP_DROP) != XDP_REDIRECT) {
        count(COUNT_NO_QUEUE_DROPPED, 1);
        return XDP_DROP;
    }
    count(COUNT_STEERED, 1);
    count(COUNT_STEERED_BYTES, length);
    return XDP_REDIRECT;
}

SEC("xdp")
int chimney_steer(struct xdp_md *ctx)
{
    return steer(ctx, ctx->data_end - ctx->data);
}

SEC("xdp.frags")
int chimney_frags(struct xdp_md *ctx)
{
    return steer(ctx, bpf_xdp_get_buff_len(ctx));
}

/* Headers may lie outside the linear part of a packet: have them put there. */
static __always_inline void pull_headers(struct __sk_buff *skb)
{
    __u32 linear = skb->data_end - skb->data;

    if (linear < HEADERS && linear < skb->len)
        bpf_skb_pull_data(skb, skb->len < HEADERS ? skb->len : HEADERS);
}

/* Both guards let other people's filters look at whatever they do not drop. */
SEC("tc")
int chimney_in(struct __sk_buff *skb)
{
    struct flow_mode *mode;
    struct flow_key key;

    pull_headers(skb);
    if (!parse((void *)(long)skb->data, (void *)(long)skb->data_end, false, &key))
        return TC_ACT_UNSPEC;
    mode = bpf_map_lookup_elem(&flows, &key);
    if (!mode || !mode->steer)
        return TC_ACT_UNSPEC;
    count(COUNT_LATE, 1);
    if (!mode->guard_in)
        return TC_ACT_UNSPEC;
    count(COUNT_LATE_DROPPED, 1);
    return TC_ACT_SHOT;
}

SEC("tc")
int chimney_out(struct __sk_buff *skb)
{
    const struct tcphdr *tcp;
    struct flow_mode *mode;
    struct flow_key key;

    pull_headers(skb);
    tcp = parse((void *)(long)skb->data, (void *)(long)skb->data_end, true, &key);
    if (!tcp || !tcp->rst)
        return TC_ACT_UNSPEC;
    mode = bpf_map_lookup_elem(&flows, &key);
    if (!mode || !mode->guard_out)
        return TC_ACT_UNSPEC;
    count(COUNT_RST_SUPPRESSED, 1);
    return TC_ACT_SHOT;
}

/* Milliseconds until the retransmit timer fires (0: due), -1: unknown. */
static __always_inline __s64 retransmit_left_ms(struct inet_connection_sock *icsk)
{
    struct inet_connection_sock___timeout *older = (void *)icsk;
    struct sock___timer *newer = (void *)icsk;
    __u64 expires, now = bpf_jiffies64();

    if (!CONFIG_HZ)
        return -1;
    if (bpf_core_field_exists(older->icsk_timeout))
        expires = older->icsk_timeout;
    else if (bpf_core_field_exists(icsk->icsk_retransmit_timer))
        expires = icsk->icsk_retransmit_timer.expires;
    else if (bpf_core_field_exists(newer->tcp_retransmit_timer))
        expires = newer->tcp_retransmit_timer.expires;
    else
        return -1;
    if ((__s64)(expires - now) <= 0)
        return 0;
    return (expires - now) * 1000 / CONFIG_HZ;
}

static __always_inline void read_socket(struct tcp_sock *tp, struct tcp_snapshot *out)
{
    struct inet_connection_sock *icsk = &tp->inet_conn;
    struct tcp_options_received *opt = &tp->rx_opt;
    struct sock *sk = &icsk->icsk_inet.sk;
    struct tcp_sock___usec *usec = (void *)tp;
    struct tcp_sock___md5 *md5 = (void *)tp;
    struct tcp_sock___ao *ao = (void *)tp;

    out->state = sk->__sk_common.skc_state;
    out->ca_state = BPF_CORE_READ_BITFIELD(icsk, icsk_ca_state);
    out->retransmits = icsk->icsk_retransmits;
    out->backoff = icsk->icsk_backoff;
    out->probes_out = icsk->icsk_probes_out;
    out->pending = icsk->icsk_pending;
    out->ooo = tp->out_of_order_queue.rb_node != NULL;
    out->signature = 0;
    if (bpf_core_field_exists(md5->md5sig_info))
        out->signature |= md5->md5sig_info != NULL;
    if (bpf_core_field_exists(ao->ao_info))
        out->signature |= ao->ao_info != NULL;
    out->usec_ts = 0;
    if (bpf_core_field_exists(usec->tcp_usec_ts))
        out->usec_ts = BPF_CORE_READ_BITFIELD(usec, tcp_usec_ts);
    out->urgent = tp->urg_data != 0;
    out->shutdown = sk->sk_shutdown;
    out->repair = BPF_CORE_READ_BITFIELD(tp, repair);
    out->nonagle = BPF_CORE_READ_BITFIELD(tp, nonagle);
    out->ecn_flags = tp->ecn_flags;
    out->sack_ok = BPF_CORE_READ_BITFIELD(opt, sack_ok);
    out->tstamp_ok = BPF_CORE_READ_BITFIELD(opt, tstamp_ok);
    out->wscale_ok = BPF_CORE_READ_BITFIELD(opt, wscale_ok);
    out->snd_wscale = BPF_CORE_READ_BITFIELD(opt, snd_wscale);
    out->rcv_wscale = BPF_CORE_READ_BITFIELD(opt, rcv_wscale);
    out->reuse = BPF_CORE_READ_BITFIELD(&sk->__sk_common, skc_reuse);
    out->reuseport = BPF_CORE_READ_BITFIELD(&sk->__sk_common, skc_reuseport);
    out->mss_clamp = opt->mss_clamp;
    out->advmss = tp->advmss;
    out->user_mss = opt->user_mss;
    out->snd_una = tp->snd_una;
    out->snd_nxt = tp->snd_nxt;
    out->write_seq = tp->write_seq;
    out->rcv_nxt = tp->rcv_nxt;
    out->copied_seq = tp->copied_seq;
    out->snd_wl1 = tp->snd_wl1;
    out->snd_wnd = tp->snd_wnd;
    out->max_window = tp->max_window;
    out->rcv_wnd = tp->rcv_wnd;
    out->rcv_wup = tp->rcv_wup;
    out->rcv_ssthresh = tp->rcv_ssthresh;
    out->window_clamp = tp->window_clamp;
    out->ts_recent = opt->ts_recent;
    out->tsoffset = tp->tsoffset;
    out->now_ns = bpf_ktime_get_ns();
    out->ts_recent_age_s = ~0ull;
    if (opt->ts_recent_stamp)
        out->ts_recent_age_s = (__u32)(out->now_ns / 1000000000u) - (__u32)opt->ts_recent_stamp;
    out->wstamp_ns = tp->tcp_wstamp_ns;
    out->srtt_us = tp->srtt_us;
    out->rttvar_us = tp->rttvar_us;
    out->mdev_us = tp->mdev_us;
    out->rto_jiffies = icsk->icsk_rto;
    out->snd_cwnd = tp->snd_cwnd;
    out->snd_ssthresh = tp->snd_ssthresh;
    out->reordering = tp->reordering;
    out->packets_out = tp->packets_out;
    out->sacked_out = tp->sacked_out;
    out->lost_out = tp->lost_out;
    out->retrans_out = tp->retrans_out;
    out->mss_cache = tp->mss_cache;
    out->rcv_mss = icsk->icsk_ack.rcv_mss;
    out->rcvbuf = sk->sk_rcvbuf;
    out->sndbuf = sk->sk_sndbuf;
    out->rto_left_ms = out->pending ? retransmit_left_ms(icsk) : -1;
}

/* The "packet" is as large as a snapshot and begins with the key of the flow. */
SEC("xdp")
int snapshot(struct xdp_md *ctx)
{
    struct tcp_snapshot *out = (void *)(long)ctx->data;
    struct flow_key *key = (void *)(long)ctx->data;
    struct bpf_sock_tuple tuple;
    __u32 result = SNAPSHOT_NONE;
    struct bpf_sock *found;
    struct tcp_sock *tp;
    __u32 size;

    _Static_assert(sizeof(*out) >= sizeof(*key), "the key is handed in where the result comes out");
    if ((void *)(out + 1) > (void *)(long)ctx->data_end)
        return SNAPSHOT_NONE;
    __builtin_memset(&tuple, 0, sizeof(tuple));
    /* As on an incoming packet: the source is the peer. */
    if (key->family == 4) {
        __builtin_memcpy(&tuple.ipv4.saddr, key->remote_addr, 4);
        __builtin_memcpy(&tuple.ipv4.daddr, key->local_addr, 4);
        tuple.ipv4.sport = key->remote_port;
        tuple.ipv4.dport = key->local_port;
        size = sizeof(tuple.ipv4);
    } else {
        __builtin_memcpy(tuple.ipv6.saddr, key->remote_addr, 16);
        __builtin_memcpy(tuple.ipv6.daddr, key->local_addr, 16);
        tuple.ipv6.sport = key->remote_port;
        tuple.ipv6.dport = key->local_port;
        size = sizeof(tuple.ipv6);
    }
    found = bpf_skc_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
    if (!found)
        return SNAPSHOT_NONE;
    tp = bpf_skc_to_tcp_sock(found);
    /* The lookup of a parked flow finds its listener. */
    if (tp && tp->inet_conn.icsk_inet.sk.__sk_common.skc_state == TCP_ESTABLISHED) {
        read_socket(tp, out);
        result = SNAPSHOT_FOUND;
    }
    bpf_sk_release(found);
    return result;
}

SEC("xdp")
int reinject(struct xdp_md *ctx)
{
    count(COUNT_REINJECTED, 1);
    return XDP_PASS;
}

static int spin_more(__u32 index, __u64 *until)
{
    return bpf_ktime_get_ns() >= *until;
}

/* The "packet" begins with the time to stay, in nanoseconds. */
SEC("xdp")
int spin(struct xdp_md *ctx)
{
    __u64 *span = (void *)(long)ctx->data, until;

    if ((void *)(span + 1) > (void *)(long)ctx->data_end || *span > SPIN_MAX_NS)
        return XDP_ABORTED;
    until = bpf_ktime_get_ns() + *span;
    spinning = 1;
    bpf_loop(1 << 23, spin_more, &until, 0);
    spinning = 0;
    return SPIN_DONE;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
