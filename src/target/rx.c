/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames in: the port's burst, flow look-up, engine; and everything that goes up the non-offload
 * path instead: what is not TCP of an offloaded connection, and what is kept for a connection that
 * waits for its upload.
 */
#include "target/internal.h"

#include <stdlib.h>
#include <string.h>

struct chimney_statistics *target_stats(struct target *t, int family)
{
    return family == 4 ? &t->stats4 : &t->stats6;
}

void pass_up(struct target *t, const uint8_t *frame, uint32_t length)
{
    t->info.passed_up++;
    t->host_ops->receive(t->host, t->port->caps.ifindex, frame, length);
}

/*
 * Keeps a frame for the host.  Bounded: beyond the limit, or without memory, frames are dropped and
 * the peer retransmits them to the kernel.
 */
void conn_keep(struct target *t, struct target_conn *c, const uint8_t *frame, uint32_t length)
{
    struct target_kept *kept;

    if (c->kept_count >= TARGET_MAX_KEPT || (kept = malloc(sizeof(*kept) + length)) == NULL) {
        target_stats(t, c->path->family)->in_discards++;
        return;
    }
    kept->next = NULL;
    kept->length = length;
    memcpy(kept->data, frame, length);
    *c->kept_tail = kept;
    c->kept_tail = &kept->next;
    c->kept_count++;
}

void conn_pass_up_kept(struct target *t, struct target_conn *c)
{
    while (c->kept) {
        struct target_kept *kept = c->kept;

        c->kept = kept->next;
        pass_up(t, kept->data, kept->length);
        free(kept);
    }
    c->kept_tail = &c->kept;
    c->kept_count = 0;
}

/*
 * Out-of-order data is neither delivered nor acknowledged (C218), but the peer was told by SACK
 * that it arrived and might not send it again before its retransmission timer.  So it goes up as
 * the segments it came in as, near enough: same bytes, same sequence numbers, our peer's addresses.
 */
void conn_pass_up_ooo(struct target *t, struct target_conn *c, const struct tcp_export *x)
{
    uint8_t frame[WIRE_MAX_HEADER + 1500];
    const uint8_t *base = c->constant.receive_stream.base;
    uint32_t mask = c->constant.receive_stream.size - 1;
    uint32_t chunk = c->constant.remote_mss < 1400 ? c->constant.remote_mss : 1400;
    struct wire_route r = c->route;

    /* The frame as it came: the peer is the sender. */
    memcpy(r.key.local_addr, c->key.remote_addr, 16);
    memcpy(r.key.remote_addr, c->key.local_addr, 16);
    r.key.local_port = c->key.remote_port;
    r.key.remote_port = c->key.local_port;
    memcpy(r.src_mac, c->route.dst_mac, 6);
    memcpy(r.dst_mac, c->route.src_mac, 6);
    for (unsigned i = 0; i < x->ooo_count; i++) {
        uint32_t seq = x->ooo[i].left;

        while (seq_lt(seq, x->ooo[i].right)) {
            uint64_t pos = x->rcv_pos + (seq - x->delegated.rcv_nxt);
            uint32_t len = x->ooo[i].right - seq;
            uint32_t first;
            struct tcp_out out = {.seq = seq, .ack = x->delegated.snd_una, .flags = TCP_ACK};
            size_t n;

            if (len > chunk)
                len = chunk;
            first = mask + 1 - (uint32_t)(pos & mask);
            if (first > len)
                first = len;
            out.span[0] = base + (pos & mask);
            out.span_len[0] = first;
            out.span[1] = base;
            out.span_len[1] = len - first;
            out.len = len;
            out.window = (uint16_t)(x->delegated.snd_wnd >> c->constant.snd_wind_scale);
            out.has_timestamp = c->constant.flags & CHIMNEY_TCP_TIMESTAMP_ENABLED;
            out.tsval = x->delegated.ts_recent;
            out.tsecr = x->delegated.ts_last;
            n = wire_build(frame, sizeof(frame), &r, &out, false);
            if (n == 0)
                return;
            pass_up(t, frame, (uint32_t)n);
            seq += len;
        }
    }
}

/* contract.md 6.4: a neighbor with a VLAN id takes only frames of that VLAN. */
static bool vlan_matches(const struct target_conn *c, const struct wire_packet *packet)
{
    uint16_t id = c->path->neighbor->vlan_id;

    return id == 0 || (packet->tagged && (packet->tci & 0xfff) == id);
}

void rx_conn_frame(struct target *t, struct target_conn *c, const uint8_t *frame, uint32_t length,
                   const struct wire_packet *packet)
{
    struct chimney_statistics *s = target_stats(t, c->path->family);
    bool established = conn_counts_as_established(c);
    uint32_t events;

    s->in_receives++;
    s->in_octets += packet->ip_len;
    s->in_delivers++;
    s->in_segments++;
    if (c->stopped) {
        conn_keep(t, c, frame, length);
        return;
    }
    events = tcp_input(c->engine, &packet->seg, t->now);
    if (events & TCP_EV_RESET && established)
        s->reset_established++;
    /*
     * The segment that the host has to judge itself is kept whole.  A FIN may arrive before the
     * data in front of it; the first one seen is kept, or the one that completes the stream.
     */
    if (events & (TCP_EV_RESET | TCP_EV_SYN | TCP_EV_URGENT)) {
        conn_keep(t, c, frame, length);
    } else if (packet->seg.flags & TCP_FIN && t->config.fin_policy == TCP_FIN_HOLD &&
               (!c->fin_kept || events & TCP_EV_FIN)) {
        c->fin_kept = true;
        conn_keep(t, c, frame, length);
    }
    conn_events(t, c, events);
}

static int rx_burst(struct target *t)
{
    struct port_frame frames[TARGET_BURST];
    struct wire_packet packet;
    int n = port_rx_burst(t->port, frames, TARGET_BURST);

    for (int i = 0; i < n; i++) {
        const struct port_frame *f = &frames[i];
        enum wire_status status = wire_parse(f->data, f->len, f->csum_trusted, &packet);
        uint32_t index = FLOW_NONE;

        if (status == WIRE_BAD_TCP && t->port->caps.rx_csum_partial &&
            wire_finish_checksum(f->data, f->len))
            status = wire_parse(f->data, f->len, false, &packet);
        if (status == WIRE_OK)
            index = flow_find(&t->flows, &packet.key);
        if (index == FLOW_NONE) {
            pass_up(t, f->data, f->len);
        } else if (!vlan_matches(&t->conns[index], &packet)) {
            target_stats(t, packet.key.family)->in_discards++;
        } else {
            packet.seg.gso_size = f->gso_size;
            rx_conn_frame(t, &t->conns[index], f->data, f->len, &packet);
        }
    }
    if (n > 0)
        port_rx_release(t->port, frames, n);
    return n;
}

/*
 * What waits comes in before anything goes out, up to a limit.  A frame that arrives costs less
 * than a frame that leaves, and may allow many to leave: with one burst in for every round of
 * output the ring would overflow under load, and the peer's data would be lost with its
 * acknowledgements.
 */
bool rx_run(struct target *t)
{
    bool any = false;
    int n = TARGET_BURST;

    for (int i = 0; i < TARGET_RX_BURSTS && n == TARGET_BURST; i++) {
        n = rx_burst(t);
        any |= n > 0;
    }
    return any;
}
