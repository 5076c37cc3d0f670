/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Out of the kernel: freeze, dump, park, and the way back from a freeze.
 */
#include "host/repair.h"

#include <assert.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include "host/sockopt.h"

/**
 * The send queue is read packet by packet, acknowledged beginning included (T1): at most one packet
 * of the largest kind (BIG TCP) more than SIOCOUTQ says.
 */
#define PEEK_EXCESS (512u << 10)

static int queue_length(int fd, unsigned long which, uint32_t *length, const char *step)
{
    int value, err = host_fault(step);

    if (err)
        return err;
    if (ioctl(fd, which, &value) < 0)
        return -errno;
    if (value < 0)
        return -EPROTO;
    *length = value;
    return 0;
}

static int queue_seq(int fd, uint32_t *seq, const char *step)
{
    int value, err = sockopt_get(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &value, step);

    *seq = value;
    return err;
}

int repair_freeze(int fd, struct repair_state *state)
{
    int err = sockopt_get(fd, SOL_SOCKET, SO_REUSEADDR, &state->reuseaddr, "freeze.reuseaddr");

    if (err)
        return err;
    return sockopt_set(fd, IPPROTO_TCP, TCP_REPAIR, 1, "freeze");
}

/* Reads the whole receive queue into the ring. */
static int dump_receive(int fd, const struct repair_rings *rings, struct repair_state *state)
{
    ssize_t n;
    int err = sockopt_queue(fd, REPAIR_RECV_QUEUE, "dump.queue_receive");

    if (!err)
        err = queue_seq(fd, &state->rcv_nxt, "dump.rcv_nxt");
    if (!err)
        err = queue_length(fd, SIOCINQ, &state->recvq_len, "dump.inq");
    if (err)
        return err;
    if (state->recvq_len > rings->size)
        return -ENOBUFS;
    if (!state->recvq_len)
        return 0;
    err = host_fault("dump.peek_receive");
    if (err)
        return err;
    n = recv(fd, rings->receive, state->recvq_len, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0)
        return -errno;
    return n == (ssize_t)state->recvq_len ? 0 : -EPROTO;
}

/*
 * Reads the send queue into the ring.  What comes may begin before SND.UNA: the tail is what counts
 * (T1).  More bytes can be reported than there was room for, so the second look gets room for all.
 */
static int dump_send_data(int fd, const struct repair_rings *rings, uint32_t length)
{
    size_t room = (size_t)length + PEEK_EXCESS;
    uint8_t *scratch;
    ssize_t n;
    int err = host_fault("dump.peek_send");

    if (err)
        return err;
    n = recv(fd, rings->send, rings->size, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0)
        return -errno;
    if (n == (ssize_t)length)
        return 0;
    if (n < (ssize_t)length)
        return -EPROTO;
    if (n <= (ssize_t)rings->size) {
        memmove(rings->send, rings->send + (n - length), length);
        return 0;
    }
    scratch = malloc(room);
    if (!scratch)
        return -ENOMEM;
    n = recv(fd, scratch, room, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0)
        err = -errno;
    else if (n < (ssize_t)length || n > (ssize_t)room)
        err = -EPROTO;
    else
        memcpy(rings->send, scratch + (n - length), length);
    free(scratch);
    return err;
}

/*
 * The kernel may transmit until the send queue is chosen, and may mark bytes as sent without
 * sending them after that (T2): hence a lower bound of what was sent before, an upper bound after.
 */
static int dump_send(int fd, const struct repair_rings *rings, struct repair_state *state)
{
    uint32_t unsent_before, unsent;
    int err = queue_length(fd, SIOCOUTQNSD, &unsent_before, "dump.unsent_before");

    if (!err)
        err = sockopt_queue(fd, REPAIR_SEND_QUEUE, "dump.queue_send");
    if (!err)
        err = queue_seq(fd, &state->write_seq, "dump.write_seq");
    if (!err)
        err = queue_length(fd, SIOCOUTQ, &state->sendq_len, "dump.outq");
    if (!err)
        err = queue_length(fd, SIOCOUTQNSD, &unsent, "dump.unsent");
    if (err)
        return err;
    if (unsent > state->sendq_len)
        return -EPROTO;
    state->snd_una = state->write_seq - state->sendq_len;
    state->snd_nxt_high = state->write_seq - unsent;
    state->snd_nxt_low = state->write_seq - unsent_before;
    if ((int32_t)(state->snd_nxt_low - state->snd_una) < 0)
        state->snd_nxt_low = state->snd_una;
    if ((int32_t)(state->snd_nxt_high - state->snd_nxt_low) < 0)
        return -EPROTO;
    if (state->sendq_len > rings->size)
        return -ENOBUFS;
    return state->sendq_len ? dump_send_data(fd, rings, state->sendq_len) : 0;
}

static int dump_rest(int fd, struct repair_state *state)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(state->window);
    int value, err = host_fault("dump.window");

    if (err)
        return err;
    if (getsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &state->window, &len) < 0)
        return -errno;
    err = host_fault("dump.info");
    if (err)
        return err;
    len = sizeof(info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
        return -errno;
    if (info.tcpi_state != STATE_ESTABLISHED)
        return -ENOTCONN;
    state->timestamps = info.tcpi_options & TCPI_OPT_TIMESTAMPS;
    state->sack = info.tcpi_options & TCPI_OPT_SACK;
    state->wscale = info.tcpi_options & TCPI_OPT_WSCALE;
    state->ecn = info.tcpi_options & TCPI_OPT_ECN;
    state->snd_wscale = info.tcpi_snd_wscale;
    state->rcv_wscale = info.tcpi_rcv_wscale;
    state->srtt_us = info.tcpi_rtt;
    state->rttvar_us = info.tcpi_rttvar;
    state->cwnd = info.tcpi_snd_cwnd;
    state->ssthresh = info.tcpi_snd_ssthresh;
    state->pmtu = info.tcpi_pmtu;
    state->reordering = info.tcpi_reordering;
    state->advmss = info.tcpi_advmss;
    /* In repair mode this is the MSS the peer announced. */
    err = sockopt_get(fd, IPPROTO_TCP, TCP_MAXSEG, &value, "dump.mss_clamp");
    if (err)
        return err;
    if (value <= 0 || value > UINT16_MAX)
        return -EPROTO;
    state->mss_clamp = value;
    err = sockopt_get(fd, IPPROTO_TCP, TCP_TIMESTAMP, &value, "dump.timestamp");
    state->tsval = value;
    return err;
}

int repair_dump(int fd, const struct repair_rings *rings, struct repair_state *state)
{
    int err = dump_receive(fd, rings, state);

    if (!err)
        err = dump_send(fd, rings, state);
    if (!err)
        err = dump_rest(fd, state);
    return err;
}

int repair_disconnect(int fd)
{
    const struct sockaddr nobody = {.sa_family = AF_UNSPEC};
    int err = host_fault("park");

    if (err)
        return err;
    return connect(fd, &nobody, sizeof(nobody)) < 0 ? -errno : 0;
}

int repair_bind(int fd, const struct repair_state *state, bool *taken)
{
    int err = host_fault("bind");

    *taken = false;
    if (err)
        return err;
    if (bind(fd, (const struct sockaddr *)&state->local, state->addrlen) == 0) {
        *taken = true;
        return 0;
    }
    return errno == EINVAL ? 0 : -errno; /* EINVAL: bound already */
}

int repair_park(int fd, struct repair_state *state, bool *parked)
{
    int ignored, err = repair_disconnect(fd);

    *parked = !err;
    if (err)
        return err;
    /* ECONNABORTED is for nobody: reading it clears it. */
    err = sockopt_get(fd, SOL_SOCKET, SO_ERROR, &ignored, "park.clear_error");
    if (err)
        return err;
    return repair_bind(fd, state, &state->bound_by_kernel);
}

int repair_unfreeze(int fd, const struct repair_state *state)
{
    int err = sockopt_set(fd, IPPROTO_TCP, TCP_REPAIR, 0, "unfreeze");

    if (!err && state && state->reuseaddr)
        err = sockopt_set(fd, SOL_SOCKET, SO_REUSEADDR, 1, "unfreeze.reuseaddr");
    return err;
}
