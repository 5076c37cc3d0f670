/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two ways to wait for one RCU grace period.
 *
 * A private veth pair: taking such an interface down makes the kernel wait for packet processing
 * with the routing lock held, which it does by an *expedited* grace period: 10 to 200 us.  The pair
 * lives in a network namespace of its own that only the open socket keeps alive: nobody else sees
 * the device or is told of its changes, and it goes away with the process.
 *
 * membarrier(GLOBAL) waits for an ordinary grace period: some milliseconds.
 *
 * That the first waits is a property of the kernel, not a promise of it (the loopback device, for
 * one, goes down just as slowly and does not wait), and no stopwatch can tell.  barrier_prove()
 * keeps a BPF program running on another CPU and looks whether the barrier returns before it ends.
 */
#include "host/barrier.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "host/fault.h"
#include "host/netlink.h"
#include "host/steer.h"

/** Barriers in the probe at start; the median counts. */
#define PROBE_ROUNDS 7
/** How long the program of the proof stays inside: longer than any barrier by accident takes. */
#define PROOF_SPIN_NS 20000000u
/** How long to wait for that program to begin, and how often to try. */
#define PROOF_START_NS 200000000u
#define PROOF_TRIES 25

struct barrier {
    enum barrier_method method;
    int fd; /* any socket, for ioctl; -1: no private device */
    struct ifreq scratch;
    uint64_t cost_ns;
};

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static int scratch_toggle(struct barrier *b)
{
    b->scratch.ifr_flags = IFF_UP;
    if (ioctl(b->fd, SIOCSIFFLAGS, &b->scratch) < 0)
        return -errno;
    b->scratch.ifr_flags = 0;
    return ioctl(b->fd, SIOCSIFFLAGS, &b->scratch) < 0 ? -errno : 0;
}

static int wait_membarrier(void)
{
    return syscall(__NR_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) < 0 ? -errno : 0;
}

/* Makes the veth pair in the calling thread's namespace. */
static int make_pair(const char *name)
{
    char buf[NETLINK_REQUEST] __attribute__((aligned(8)));
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
    struct nlattr *info, *data, *peer;
    struct mnl_socket *s;
    int err;

    nlh->nlmsg_type = RTM_NEWLINK;
    nlh->nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
    mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
    mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
    info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
    mnl_attr_put_strz(nlh, IFLA_INFO_KIND, "veth");
    data = mnl_attr_nest_start(nlh, IFLA_INFO_DATA);
    peer = mnl_attr_nest_start(nlh, VETH_INFO_PEER);
    mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
    mnl_attr_nest_end(nlh, peer);
    mnl_attr_nest_end(nlh, data);
    mnl_attr_nest_end(nlh, info);
    err = netlink_open(&s, 0);
    if (err)
        return err;
    err = netlink_ask(s, nlh, NULL, NULL);
    mnl_socket_close(s);
    return err;
}

struct maker {
    struct barrier *barrier;
    int error;
};

/* A thread of its own, because it does not come back from the new namespace. */
static void *make_scratch(void *arg)
{
    struct maker *m = arg;
    struct barrier *b = m->barrier;

    if (unshare(CLONE_NEWNET) < 0) {
        m->error = -errno;
        return NULL;
    }
    snprintf(b->scratch.ifr_name, sizeof(b->scratch.ifr_name), "barrier");
    m->error = make_pair(b->scratch.ifr_name);
    if (m->error)
        return NULL;
    b->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (b->fd < 0)
        m->error = -errno;
    return NULL;
}

static int scratch_create(struct barrier *b)
{
    struct maker m = {.barrier = b};
    pthread_t thread;
    int err = pthread_create(&thread, NULL, make_scratch, &m);

    if (err)
        return -err;
    pthread_join(thread, NULL);
    return m.error;
}

static void scratch_destroy(struct barrier *b)
{
    if (b->fd >= 0)
        close(b->fd);
    b->fd = -1;
}

static int use_membarrier(struct barrier *b)
{
    scratch_destroy(b);
    b->method = BARRIER_MEMBARRIER;
    /* With one CPU membarrier returns at once, whatever a preempted packet handler still does. */
    return sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 0 : -EOPNOTSUPP;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static int probe(struct barrier *b)
{
    uint64_t cost[PROBE_ROUNDS];

    for (int i = 0; i < PROBE_ROUNDS; i++) {
        uint64_t start = now_ns();
        int err = b->method == BARRIER_SCRATCH_LINK ? scratch_toggle(b) : wait_membarrier();

        if (err)
            return err;
        cost[i] = now_ns() - start;
    }
    qsort(cost, PROBE_ROUNDS, sizeof(cost[0]), by_value);
    b->cost_ns = cost[PROBE_ROUNDS / 2];
    return 0;
}

int barrier_create(struct barrier **out, char *err, size_t errlen)
{
    struct barrier *b = calloc(1, sizeof(*b));
    int fast, slow;

    if (!b) {
        snprintf(err, errlen, "out of memory");
        return -ENOMEM;
    }
    b->fd = -1;
    b->method = BARRIER_SCRATCH_LINK;
    fast = scratch_create(b);
    if (!fast)
        fast = probe(b);
    if (!fast) {
        *out = b;
        return 0;
    }
    slow = use_membarrier(b);
    if (!slow)
        slow = probe(b);
    if (!slow) {
        *out = b;
        return 0;
    }
    snprintf(err, errlen, "no barrier works: private veth pair: %s; membarrier: %s",
             strerror(-fast), strerror(-slow));
    free(b);
    return fast;
}

void barrier_destroy(struct barrier *b)
{
    if (!b)
        return;
    scratch_destroy(b);
    free(b);
}

int barrier_wait(struct barrier *b)
{
    int err = host_fault("barrier");

    if (err)
        return err;
    if (b->method == BARRIER_SCRATCH_LINK && scratch_toggle(b) == 0)
        return 0;
    if (b->method == BARRIER_SCRATCH_LINK && (err = use_membarrier(b)))
        return err;
    return wait_membarrier();
}

struct prover {
    struct steer *steer;
    _Atomic int error;
    _Atomic bool done;
};

static void *stay_inside(void *arg)
{
    struct prover *p = arg;

    p->error = steer_spin(p->steer, PROOF_SPIN_NS);
    p->done = true;
    return NULL;
}

/* Keeps @thread off the calling thread's CPU, where it could only run instead of us. */
static void run_elsewhere(pthread_t thread)
{
    int here = sched_getcpu();
    cpu_set_t cpus;

    if (here < 0 || pthread_getaffinity_np(pthread_self(), sizeof(cpus), &cpus))
        return;
    CPU_CLR(here, &cpus);
    if (CPU_COUNT(&cpus))
        pthread_setaffinity_np(thread, sizeof(cpus), &cpus);
}

/* 1: waits, 0: does not, -EAGAIN: the program was not seen inside. */
static int prove_once(struct barrier *b, struct steer *steer)
{
    struct prover p = {.steer = steer};
    uint64_t start = now_ns(), began;
    pthread_t thread;
    int err = pthread_create(&thread, NULL, stay_inside, &p);

    if (err)
        return -err;
    run_elsewhere(thread);
    while (!steer_spinning(steer) && !p.done && now_ns() - start < PROOF_START_NS)
        ;
    began = now_ns();
    err = -EAGAIN;
    if (steer_spinning(steer)) {
        int error = barrier_wait(b);

        if (error)
            err = error;
        else if (steer_spinning(steer))
            err = 0;
        else if (now_ns() - began >= PROOF_SPIN_NS / 2)
            err = 1; /* the program has ended, and not just after we looked */
    }
    pthread_join(thread, NULL);
    return p.error ? p.error : err;
}

int barrier_prove(struct barrier *b, struct steer *steer)
{
    int verdict = -EAGAIN;

    for (int try = 0; try < PROOF_TRIES && verdict == -EAGAIN; try++)
        verdict = prove_once(b, steer);
    if (verdict < 0)
        return verdict;
    if (verdict > 0)
        return 0;
    if (b->method == BARRIER_MEMBARRIER || use_membarrier(b))
        return -EIO;
    return barrier_prove(b, steer);
}

enum barrier_method barrier_method(const struct barrier *b)
{
    return b->method;
}

const char *barrier_method_name(enum barrier_method method)
{
    return method == BARRIER_SCRATCH_LINK ? "scratch-link" : "membarrier";
}

uint64_t barrier_cost_ns(const struct barrier *b)
{
    return b->cost_ns;
}
