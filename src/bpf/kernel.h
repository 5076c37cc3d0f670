/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * The few kernel structures the snapshot reads, by name only: offsets and sizes are filled in at
 * load time from the running kernel's BTF (CO-RE), so neither its headers nor the order here
 * matter.  A suffix after three underscores is not part of the name the kernel is asked for.
 */
#ifndef CHIMNEY_BPF_KERNEL_H
#define CHIMNEY_BPF_KERNEL_H

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct rb_node;
struct rb_root {
    struct rb_node *rb_node;
};

struct timer_list {
    unsigned long expires;
};

struct sock_common {
    unsigned char skc_state;
    unsigned char skc_reuse : 4;
    unsigned char skc_reuseport : 1;
};

struct sock {
    struct sock_common __sk_common;
    int sk_rcvbuf;
    int sk_sndbuf;
    __u8 sk_shutdown;
};

/* Later kernels than 6.18 have the retransmit timer here. */
struct sock___timer {
    struct timer_list tcp_retransmit_timer;
};

struct inet_sock {
    struct sock sk;
};

struct inet_connection_sock {
    struct inet_sock icsk_inet;
    __u32 icsk_rto;
    __u8 icsk_ca_state : 5;
    __u8 icsk_retransmits;
    __u8 icsk_pending;
    __u8 icsk_backoff;
    __u8 icsk_probes_out;
    struct {
        __u16 rcv_mss;
    } icsk_ack;
    struct timer_list icsk_retransmit_timer;
};

/* Earlier kernels keep the deadline beside the timer. */
struct inet_connection_sock___timeout {
    unsigned long icsk_timeout;
};

struct tcp_options_received {
    int ts_recent_stamp;
    __u32 ts_recent;
    __u16 tstamp_ok : 1;
    __u16 wscale_ok : 1;
    __u16 sack_ok : 3;
    __u16 snd_wscale : 4;
    __u16 rcv_wscale : 4;
    __u16 user_mss;
    __u16 mss_clamp;
};

struct tcp_sock {
    struct inet_connection_sock inet_conn;
    struct tcp_options_received rx_opt;
    __u32 snd_una, snd_nxt, write_seq, rcv_nxt, copied_seq;
    __u32 snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup, rcv_ssthresh, window_clamp;
    __u32 tsoffset;
    __u64 tcp_wstamp_ns;
    __u32 srtt_us, rttvar_us, mdev_us;
    __u32 snd_cwnd, snd_ssthresh, reordering, packets_out, sacked_out, lost_out, retrans_out;
    __u32 mss_cache;
    __u16 advmss;
    __u16 urg_data;
    __u8 ecn_flags;
    __u8 nonagle : 4;
    __u8 repair : 1;
    struct rb_root out_of_order_queue;
};

/* Only where the kernel was configured for it. */
struct tcp_sock___md5 {
    void *md5sig_info;
};
struct tcp_sock___ao {
    void *ao_info;
};

/* Microsecond timestamps came with Linux 6.7. */
struct tcp_sock___usec {
    __u8 tcp_usec_ts : 1;
};

#pragma clang attribute pop

#endif
