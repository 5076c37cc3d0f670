/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames out: what the engine wants to send, with the headers of path and neighbor.
 */
#include "target/internal.h"

#include <string.h>

/* Before an IP datagram leaves: is the neighbor still known to be there (contract.md 4.2)? */
static void tx_reachability(struct target *t, struct target_neighbor *n)
{
    union {
        uint8_t bytes[sizeof(struct chimney_block) + sizeof(struct chimney_neighbor_state)];
        uint64_t align;
    } memory;
    uint32_t now = state_ticks(t);
    struct chimney_block *block;

    if (t->parameters.nce_stale_ticks == 0 || now - n->nrt <= t->parameters.nce_stale_ticks ||
        now - n->hrt <= t->parameters.nce_stale_ticks)
        return;
    block = tree_block_init(memory.bytes, NeighborOffloadState);
    block->host_handle = n->host_handle;
    block->status = NDIS_STATUS_SUCCESS;
    tree_neighbor_const(block)->vlan_id = n->vlan_id;
    memcpy(tree_neighbor_const(block)->dl_source_address, n->const_source, 6);
    memcpy(tree_neighbor_cached(block)->dl_destination_address, n->dst_mac, 6);
    tree_neighbor_cached(block)->host_reachability_delta = now - n->hrt;
    tree_neighbor_delegated(block)->nic_reachability_delta = now - n->nrt;
    t->host_ops->neighbor_query(t->host, block);
    n->hrt = now - tree_neighbor_cached(block)->host_reachability_delta;
}

/* Builds @out into the port's buffer and queues it. */
static void tx_segment(struct target *t, struct target_conn *c, uint8_t *frame,
                       const struct tcp_out *out)
{
    struct chimney_statistics *s = target_stats(t, c->path->family);
    const struct port_caps *caps = &t->port->caps;
    size_t n;

    tx_reachability(t, c->path->neighbor);
    /* The target's half of the identification space; the host keeps the other (C252). */
    c->route.ip_id = (uint16_t)(0x8000u | t->ip_id++);
    n = wire_build(frame, caps->max_frame, &c->route, out, caps->tx_csum_offload);
    if (n == 0) {
        port_tx_cancel(t->port);
        s->out_discards++;
        return;
    }
    port_tx_commit(t->port, (uint32_t)n, out->gso_size);
    s->out_requests++;
    s->out_octets += n - 14 - (c->route.tagged ? 4 : 0);
    /* A pure retransmission is counted apart (contract.md 4.5). */
    if (tcp_conn_stats(c->engine)->retransmits != c->retransmits) {
        c->retransmits = tcp_conn_stats(c->engine)->retransmits;
        s->retransmitted_segments++;
    } else {
        s->out_segments++;
    }
    if (out->flags & TCP_RST)
        s->out_resets++;
}

void tx_ack(struct target *t, struct target_conn *c)
{
    uint8_t *frame = port_tx_reserve(t->port);
    struct tcp_out out;

    if (!frame)
        return; /* as if the network had lost it */
    if (tcp_output_ack(c->engine, t->now, &out))
        tx_segment(t, c, frame, &out);
    else
        port_tx_cancel(t->port);
}

bool tx_conn(struct target *t, struct target_conn *c)
{
    struct tcp_out out;

    if (conn_is_invalid(c)) {
        /* Nothing leaves over invalidated state; whoever tries asks for its upload (C206, C207). */
        if (c->retrieved != InvalidState && c->retrieve != InvalidState)
            conn_ask_upload(t, c, InvalidState);
        return true;
    }
    for (int sent = 0;; sent++) {
        uint8_t *frame;

        if (sent == TARGET_TX_SEGMENTS)
            return false;
        frame = port_tx_reserve(t->port);
        if (!frame) {
            t->info.tx_blocked++;
            return false;
        }
        if (!tcp_output(c->engine, t->port->caps.max_super, t->now, &out)) {
            port_tx_cancel(t->port);
            break;
        }
        tx_segment(t, c, frame, &out);
    }
    if (c->disconnecting && c->disconnect_abortive && !c->aborted) {
        /* The RST is out: sends come back aborted, then the disconnect succeeds (C302 to C306). */
        uint64_t una = tcp_una_pos(c->engine);

        c->disconnecting = false;
        c->stopped = c->refuse_io = c->aborted = c->fin_told = true;
        if (c->send_end > c->acked_told)
            t->host_ops->send_complete(t->host, c->host_handle, una, NDIS_STATUS_REQUEST_ABORTED);
        c->send_end = c->acked_told = una;
        t->host_ops->disconnect_complete(t->host, c->host_handle, NDIS_STATUS_SUCCESS);
    }
    return true;
}
