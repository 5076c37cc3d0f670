/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading, attaching and feeding the BPF programs.
 *
 * One flow map for all interfaces.  One socket map: interface in row r, queue q is entry r *
 * STEER_QUEUES + q; a second small map leads from the interface index to the row, and is only
 * looked at for steered frames.  A flow's entry says both "steer" and "guard", so deleting it is
 * one atomic step back to the ordinary kernel path.
 */
#include "host/steer.h"

#include <assert.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "bpf/layout.h"
#include "chimney.skel.h"
#include "host/slice.h"
#include "host/tc.h"

/**
 * Largest MTU a driver must take with a program that knows single-buffer frames only: a page less
 * XDP headroom, shared info and link header.
 */
#define PLAIN_MAX_MTU 3498
/** Largest frame a test run can let into the stack: a page less the kernel's own needs. */
#define REINJECT_MAX_FRAME 3320u
/** A hash bucket may be locked by somebody else for a moment. */
#define BUSY_TRIES 100

struct steer_iface {
    int ifindex; /* 0: row is free */
    int link_fd;
    struct tc_guards guards;
};

struct steer {
    struct chimney_bpf *bpf;
    int flows_fd, ifaces_fd, sockets_fd, counters_fd;
    unsigned cpus;
    uint64_t *per_cpu; /* one counter, as the map gives it out */
    struct steer_iface iface[STEER_MAX_IFACES];
};

static int fail(int error, char *err, size_t errlen, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int fail(int error, char *err, size_t errlen, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (err && errlen)
        vsnprintf(err, errlen, format, args);
    va_end(args);
    return error;
}

/* libbpf's own lines go nowhere; what matters is in the error and in ours. */
static int quiet(enum libbpf_print_level level, const char *format, va_list args)
{
    return 0;
}

static int load_error(int error, char *err, size_t errlen)
{
    if (error == -EPERM || error == -EACCES)
        return fail(error, err, errlen,
                    "no privilege to load BPF programs: run as root or with CAP_BPF, CAP_NET_ADMIN "
                    "and CAP_PERFMON");
    if (error == -ESRCH || access("/sys/kernel/btf/vmlinux", R_OK) < 0)
        return fail(error, err, errlen,
                    "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF): the BPF programs cannot be "
                    "fitted to it");
    return fail(error, err, errlen, "the kernel refused the BPF programs: %s", strerror(-error));
}

int steer_create(struct steer **out, const struct steer_config *config, char *err, size_t errlen)
{
    struct steer *s = calloc(1, sizeof(*s));
    int cpus = libbpf_num_possible_cpus();
    int error;

    if (!s)
        return fail(-ENOMEM, err, errlen, "out of memory");
    libbpf_set_print(quiet);
    if (cpus > 0) {
        s->cpus = cpus;
        s->per_cpu = calloc(cpus, sizeof(*s->per_cpu));
    }
    s->bpf = s->per_cpu ? chimney_bpf__open() : NULL;
    if (!s->bpf) {
        free(s->per_cpu);
        free(s);
        return fail(-ENOMEM, err, errlen, "out of memory for the BPF programs");
    }
    bpf_map__set_max_entries(s->bpf->maps.flows,
                             config && config->max_flows ? config->max_flows : STEER_MAX_FLOWS);
    error = chimney_bpf__load(s->bpf);
    if (error) {
        chimney_bpf__destroy(s->bpf);
        free(s->per_cpu);
        free(s);
        return load_error(error, err, errlen);
    }
    s->flows_fd = bpf_map__fd(s->bpf->maps.flows);
    s->ifaces_fd = bpf_map__fd(s->bpf->maps.ifaces);
    s->sockets_fd = bpf_map__fd(s->bpf->maps.sockets);
    s->counters_fd = bpf_map__fd(s->bpf->maps.counters);
    *out = s;
    return 0;
}

void steer_destroy(struct steer *s)
{
    if (!s)
        return;
    for (unsigned row = 0; row < STEER_MAX_IFACES; row++)
        if (s->iface[row].ifindex)
            steer_detach(s, s->iface[row].ifindex);
    chimney_bpf__destroy(s->bpf);
    free(s->per_cpu);
    free(s);
}

/* Row of @ifindex, or -1. */
static int row_of(const struct steer *s, int ifindex)
{
    for (int row = 0; row < STEER_MAX_IFACES; row++)
        if (s->iface[row].ifindex == ifindex)
            return row;
    return -1;
}

static int mtu_of(const char *name)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq req = {0};
    int mtu;

    if (fd < 0)
        return -errno;
    snprintf(req.ifr_name, sizeof(req.ifr_name), "%s", name);
    mtu = ioctl(fd, SIOCGIFMTU, &req) < 0 ? -errno : req.ifr_mtu;
    close(fd);
    return mtu;
}

static int link_xdp(int ifindex, const struct bpf_program *program, uint32_t flags)
{
    LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = flags);
    int fd = bpf_link_create(bpf_program__fd(program), ifindex, BPF_XDP, &opts);

    return fd < 0 ? -errno : fd;
}

/* Descriptor of the XDP link, or -errno. */
static int attach_xdp(struct steer *s, int ifindex, int mtu, bool force_generic, bool *native)
{
    const struct bpf_program *plain = s->bpf->progs.chimney_steer;
    const struct bpf_program *frags = s->bpf->progs.chimney_frags;
    int fd = -EOPNOTSUPP;

    *native = true;
    if (!force_generic && mtu <= PLAIN_MAX_MTU)
        fd = link_xdp(ifindex, plain, XDP_FLAGS_DRV_MODE);
    if (!force_generic && fd < 0 && fd != -EBUSY && fd != -EEXIST)
        fd = link_xdp(ifindex, frags, XDP_FLAGS_DRV_MODE);
    if (fd < 0 && fd != -EBUSY && fd != -EEXIST && fd != -EPERM) {
        *native = false;
        fd = link_xdp(ifindex, plain, XDP_FLAGS_SKB_MODE);
    }
    return fd == -EEXIST ? -EBUSY : fd;
}

static int busy(int ifindex, const char *name, char *err, size_t errlen)
{
    LIBBPF_OPTS(bpf_xdp_query_opts, query);
    uint32_t id = 0;

    if (!bpf_xdp_query(ifindex, 0, &query))
        id = query.prog_id       ? query.prog_id
             : query.drv_prog_id ? query.drv_prog_id
             : query.skb_prog_id ? query.skb_prog_id
                                 : query.hw_prog_id;
    if (!id)
        return 0;
    return fail(
        -EBUSY, err, errlen,
        "%s has another XDP program (id %u): stop its owner, or `ip link set dev %s xdp off`", name,
        id, name);
}

int steer_attach(struct steer *s, int ifindex, bool force_generic, bool *native, char *err,
                 size_t errlen)
{
    char name[IF_NAMESIZE];
    uint32_t row;
    int mtu, fd, error;

    if (!if_indextoname(ifindex, name))
        return fail(-ENODEV, err, errlen, "no interface has index %d", ifindex);
    if (row_of(s, ifindex) >= 0)
        return fail(-EALREADY, err, errlen, "%s is attached already", name);
    if (row_of(s, 0) < 0)
        return fail(-ENOSPC, err, errlen, "no more than %d interfaces can be used at a time",
                    STEER_MAX_IFACES);
    row = row_of(s, 0);
    mtu = mtu_of(name);
    if (mtu < 0)
        return fail(mtu, err, errlen, "cannot read the MTU of %s: %s", name, strerror(-mtu));
    error = busy(ifindex, name, err, errlen);
    if (error)
        return error;

    /* Guards first: a flow must never be steered without them. */
    error = tc_attach(ifindex, bpf_program__fd(s->bpf->progs.chimney_in),
                      bpf_program__fd(s->bpf->progs.chimney_out), &s->iface[row].guards);
    if (error)
        return fail(error, err, errlen, "cannot attach tc filters to %s: %s", name,
                    strerror(-error));
    error = bpf_map_update_elem(s->ifaces_fd, &ifindex, &row, BPF_ANY);
    if (error) {
        tc_detach(ifindex, &s->iface[row].guards);
        return fail(error, err, errlen, "cannot register %s: %s", name, strerror(-error));
    }
    fd = attach_xdp(s, ifindex, mtu, force_generic, native);
    if (fd < 0) {
        bpf_map_delete_elem(s->ifaces_fd, &ifindex);
        tc_detach(ifindex, &s->iface[row].guards);
        error = busy(ifindex, name, err, errlen);
        if (error)
            return error;
        return fail(fd, err, errlen, "cannot attach an XDP program to %s: %s", name, strerror(-fd));
    }
    s->iface[row].ifindex = ifindex;
    s->iface[row].link_fd = fd;
    return 0;
}

int steer_set_queue(struct steer *s, int ifindex, uint32_t queue, int xsk_fd)
{
    int row = row_of(s, ifindex);
    uint32_t entry;

    if (row < 0)
        return -ENODEV;
    if (queue >= STEER_QUEUES)
        return -ERANGE;
    entry = row * STEER_QUEUES + queue;
    return bpf_map_update_elem(s->sockets_fd, &entry, &xsk_fd, BPF_ANY);
}

int steer_detach(struct steer *s, int ifindex)
{
    int row = row_of(s, ifindex), error;
    struct steer_iface *iface;

    if (row < 0 || !ifindex)
        return -ENODEV;
    iface = &s->iface[row];
    close(iface->link_fd);
    for (uint32_t queue = 0; queue < STEER_QUEUES; queue++) {
        uint32_t entry = row * STEER_QUEUES + queue;

        bpf_map_delete_elem(s->sockets_fd, &entry); /* -ENOENT: had no socket */
    }
    bpf_map_delete_elem(s->ifaces_fd, &ifindex);
    error = tc_detach(ifindex, &iface->guards);
    memset(iface, 0, sizeof(*iface));
    return error;
}

int steer_set(struct steer *s, const struct flow_key *keys, size_t n, struct steer_mode mode)
{
    const struct flow_mode value = {mode.steer, mode.guard_in, mode.guard_out, 0};
    int error;

    for (size_t i = 0; i < n; i++) {
        int tries = BUSY_TRIES;

        do
            error = bpf_map_update_elem(s->flows_fd, &keys[i], &value, BPF_ANY);
        while (error == -EBUSY && --tries);
        if (error)
            return error;
    }
    return 0;
}

int steer_delete(struct steer *s, const struct flow_key *keys, size_t n)
{
    int first = 0;

    for (size_t i = 0; i < n; i++) {
        int tries = BUSY_TRIES, error;

        do
            error = bpf_map_delete_elem(s->flows_fd, &keys[i]);
        while (error == -EBUSY && --tries);
        if (error && error != -ENOENT && !first)
            first = error;
    }
    return first;
}

static int let_in(struct steer *s, int ifindex, const void *frame, uint32_t len)
{
    struct xdp_md context = {.data_end = len, .ingress_ifindex = ifindex};
    LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame, .data_size_in = len, .ctx_in = &context,
                .ctx_size_in = sizeof(context), .repeat = 1, .flags = BPF_F_TEST_XDP_LIVE_FRAMES);

    return bpf_prog_test_run_opts(bpf_program__fd(s->bpf->progs.reinject), &run);
}

int steer_reinject(struct steer *s, int ifindex, const void *frame, uint32_t len)
{
    uint8_t slice[REINJECT_MAX_FRAME];
    struct slicer slicer;
    size_t size;
    int error = 0;

    if (len <= REINJECT_MAX_FRAME)
        return let_in(s, ifindex, frame, len);
    if (!slicer_init(&slicer, frame, len, sizeof(slice)))
        return -EMSGSIZE;
    while (!error && (size = slicer_next(&slicer, slice, sizeof(slice))))
        error = let_in(s, ifindex, slice, size);
    return error;
}

void steer_get_counters(struct steer *s, struct steer_counters *out)
{
    uint64_t sum[COUNT_NR] = {0};

    for (uint32_t index = 0; index < COUNT_NR; index++) {
        if (bpf_map_lookup_elem(s->counters_fd, &index, s->per_cpu))
            continue;
        for (unsigned cpu = 0; cpu < s->cpus; cpu++)
            sum[index] += s->per_cpu[cpu];
    }
    out->steered = sum[COUNT_STEERED];
    out->steered_bytes = sum[COUNT_STEERED_BYTES];
    out->passed = sum[COUNT_PASSED];
    out->late = sum[COUNT_LATE];
    out->late_dropped = sum[COUNT_LATE_DROPPED];
    out->rst_suppressed = sum[COUNT_RST_SUPPRESSED];
    out->no_queue_dropped = sum[COUNT_NO_QUEUE_DROPPED];
    out->reinjected = sum[COUNT_REINJECTED];
}

int steer_snapshot(struct steer *s, const struct flow_key *key, struct tcp_snapshot *out)
{
    union {
        struct flow_key key;
        struct tcp_snapshot snapshot;
    } data;
    LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = &data, .data_size_in = sizeof(data),
                .data_out = &data, .data_size_out = sizeof(data), .repeat = 1);
    int error;

    memset(&data, 0, sizeof(data));
    data.key = *key;
    error = bpf_prog_test_run_opts(bpf_program__fd(s->bpf->progs.snapshot), &run);
    if (error)
        return error;
    if (run.retval != SNAPSHOT_FOUND)
        return -ENOENT;
    assert(run.data_size_out == sizeof(data));
    *out = data.snapshot;
    return 0;
}

int steer_spin(struct steer *s, uint64_t ns)
{
    uint64_t data[8] = {ns};
    LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = data, .data_size_in = sizeof(data), .repeat = 1);
    int error = bpf_prog_test_run_opts(bpf_program__fd(s->bpf->progs.spin), &run);

    if (error)
        return error;
    return run.retval == SPIN_DONE ? 0 : -EINVAL;
}

bool steer_spinning(const struct steer *s)
{
    return s->bpf->bss->spinning != 0;
}
